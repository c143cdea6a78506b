//! Exact neighbours of benchmark queries, as published with the data sets.
//!
//! Two layouts: `ibin` (u32 queries, u32 k, then all ids as i32, then all distances as f32, which may be absent)
//! and `ivecs` (per query: i32 k, then k ids as i32).

use super::binary::{check_dim, check_length, read_row_dim};
use super::error::{FormatError, Place};
use super::source::Source;
use std::path::Path;

/// The nearest neighbours of each query, nearest first.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GroundTruth {
    /// The number of queries.
    pub n: usize,
    /// The number of neighbours of each query.
    pub k: usize,
    /// The neighbours' row numbers in the base set, query by query: `n` × `k` of them.
    pub ids: Vec<i32>,
    /// Their distances in the same order; empty when the file has none.
    pub distances: Vec<f32>,
}

impl GroundTruth {
    /// The neighbours of a query.
    ///
    /// # Panics
    ///
    /// When there is no such query.
    pub fn neighbors(&self, query: usize) -> &[i32] {
        &self.ids[query * self.k..][..self.k]
    }
}

/// Reads a ground-truth file: `ivecs` by its extension, any other as `ibin`.
///
/// # Errors
///
/// [`FormatError`]: the file cannot be read, is empty or cut short, or its header does not fit its length.
pub fn read_ground_truth(path: &Path) -> Result<GroundTruth, FormatError> {
    let source = Source::open(path)?;
    let is_ivecs = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("ivecs"));
    if is_ivecs { read_ivecs(source) } else { read_ibin(source) }
}

fn read_ibin(mut source: Source) -> Result<GroundTruth, FormatError> {
    let n = source.read_u32(Place::Header)?;
    let k_offset = source.position();
    let k = source.read_u32(Place::Header)?;
    if n == 0 {
        return Err(source.empty());
    }
    check_dim(&source, Place::Header, k_offset, k.into())?;
    let ids_only = check_length(&source, n.into(), k.into(), 4).is_ok();
    if !ids_only {
        check_length(&source, n.into(), k.into(), 8)?;
    }
    let id_bytes = u64::from(n) * u64::from(k) * 4;
    let ids = words(&source.read_vec(Place::Header, id_bytes)?).map(i32::from_le_bytes).collect();
    let rest = source.remaining();
    let distances = words(&source.read_vec(Place::Header, rest)?).map(f32::from_le_bytes).collect();
    Ok(GroundTruth { n: n as usize, k: k as usize, ids, distances })
}

fn read_ivecs(mut source: Source) -> Result<GroundTruth, FormatError> {
    let (mut n, mut k, mut ids) = (0, 0, Vec::new());
    while source.remaining() > 0 {
        let (place, offset) = (Place::Record(n), source.position());
        let found = read_row_dim(&mut source, n)?;
        if n == 0 {
            k = found;
        } else if found != k {
            let path = source.path();
            return Err(FormatError::DimensionMismatch { path, place, offset, expected: k, found });
        }
        ids.extend(words(&source.read_vec(place, 4 * k as u64)?).map(i32::from_le_bytes));
        n += 1;
    }
    Ok(GroundTruth { n: ids.len() / k, k, ids, distances: Vec::new() })
}

fn words(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> {
    bytes.as_chunks::<4>().0.iter().copied()
}
