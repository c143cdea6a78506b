//! What the stored forms of indexes have in common: named sections of little-endian bytes, some of which are read in place.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use vdb_distance::Owner;

/// The sections of an index by name.
pub type Sections<'a> = Vec<(&'static str, Cow<'a, [u8]>)>;

/// Version of the sections of codes, lists and hash tables.
pub(crate) const VERSION: u64 = 1;

/// Numbers, and behind them values: what a short section holds.
pub(crate) fn config(numbers: &[u64], values: &[f32]) -> Vec<u8> {
    let numbers = numbers.iter().flat_map(|number| number.to_le_bytes());
    numbers.chain(values.iter().flat_map(|value| value.to_le_bytes())).collect()
}

/// What [`config`] wrote, of the version that there is.
pub(crate) fn read_config<const N: usize>(bytes: &[u8]) -> Result<([u64; N], Vec<f32>), String> {
    let (numbers, values) = bytes.split_at_checked(8 * N).unwrap_or_default();
    let mut read = [0; N];
    if numbers.is_empty() || !values.len().is_multiple_of(4) {
        return Err(format!("its configuration has {} bytes", bytes.len()));
    }
    for (number, bytes) in read.iter_mut().zip(numbers.as_chunks().0) {
        *number = u64::from_le_bytes(*bytes);
    }
    match read[0] {
        VERSION => Ok((read, f32s(values))),
        other => Err(format!("version {other}, expected {VERSION}")),
    }
}

/// The little-endian numbers of some bytes.
pub(crate) fn f32s(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

/// The little-endian numbers of some bytes.
pub(crate) fn u32s(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks().0.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect()
}

/// A part of somebody's bytes.
struct Part {
    owner: Owner,
    range: Range<usize>,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &(*self.owner).as_ref()[self.range.clone()]
    }
}

/// A part of a section; `None` where it does not reach so far.
pub(crate) fn part(owner: &Owner, range: Range<usize>) -> Option<Owner> {
    (**owner).as_ref().get(range.clone())?;
    Some(Arc::new(Part { owner: Arc::clone(owner), range }))
}

#[cfg(test)]
mod tests;
