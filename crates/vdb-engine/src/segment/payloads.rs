//! The payloads of a segment's rows: JSON objects one after another, and where each begins.

use crate::{Error, Payload};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use vdb_storage::codec::{Encode, u64_at};
use vdb_storage::{ContainerWriter, Region, StorageError};

const STARTS: &str = "payload.starts";
const JSON: &str = "payload.json";

/// Writes the payloads of all rows, which `payload` gives in order; nothing when all are empty, as `lengths` tells.
pub(super) fn write<'a, W: Write>(
    lengths: &[u32],
    payload: impl Fn(usize) -> Result<&'a [u8], Error>,
    file: &mut ContainerWriter<W>,
    path: &Path,
) -> Result<(), Error> {
    if lengths.iter().all(|length| *length == 0) {
        return Ok(());
    }
    let named = |error: io::Error| Error::from(StorageError::io(path)(error));
    file.write_section(STARTS, |out| {
        let mut start = 0;
        out.put_u64(0)?;
        lengths.iter().try_for_each(|length| {
            start += u64::from(*length);
            out.put_u64(start)
        })
    })
    .map_err(named)?;
    file.write_section(JSON, |out| {
        (0..lengths.len()).try_for_each(|row| out.write_all(payload(row).map_err(io::Error::other)?))
    })
    .map_err(named)
}

/// The payloads of a segment's rows, in place.
#[derive(Debug, Clone)]
pub(crate) struct Payloads {
    path: PathBuf,
    /// Empty when all payloads are.
    starts: Region,
    json: Region,
}

impl Payloads {
    /// Takes the sections, which `section` gives by name.
    ///
    /// # Errors
    /// [`Error::Damaged`] when lengths do not fit together.
    pub(super) fn open(
        path: &Path,
        rows: usize,
        section: impl Fn(&str) -> Result<Region, StorageError>,
    ) -> Result<Self, Error> {
        let path = path.to_owned();
        let nothing = || Region::from(&[][..]);
        let starts = match section(STARTS) {
            Err(StorageError::MissingSection { .. }) => {
                return Ok(Self { path, starts: nothing(), json: nothing() });
            }
            starts => starts?,
        };
        if starts.len() != (rows + 1) * 8 {
            let reason = format!("{} bytes for {rows} rows, {} expected", starts.len(), (rows + 1) * 8);
            return Err(Error::damaged(&path, STARTS, reason));
        }
        Ok(Self { starts, json: section(JSON)?, path })
    }

    /// The JSON of a row; nothing for the empty object.
    pub(crate) fn json(&self, row: u32) -> Result<&[u8], Error> {
        if self.starts.is_empty() {
            return Ok(&[]);
        }
        let place = 8 * row as usize;
        let (start, end) = (u64_at(&self.starts, place), u64_at(&self.starts, place + 8));
        let length = self.json.len() as u64;
        if start > end || end > length {
            let reason = format!("the payload of row {row} is bytes {start} to {end} of {length}");
            return Err(Error::damaged(&self.path, STARTS, reason));
        }
        Ok(&self.json[start as usize..end as usize])
    }

    /// The payload of a row.
    pub(crate) fn payload(&self, row: u32) -> Result<Payload, Error> {
        parse(self.json(row)?)
            .map_err(|error| Error::damaged(&self.path, JSON, format!("the payload of row {row}: {error}")))
    }
}

/// A payload from its JSON; nothing stands for the empty one.
pub(crate) fn parse(json: &[u8]) -> Result<Payload, serde_json::Error> {
    if json.is_empty() { Ok(Payload::new()) } else { serde_json::from_slice(json) }
}

/// The JSON of a payload; nothing for the empty one.
pub(crate) fn to_json(payload: &Payload) -> Box<[u8]> {
    if payload.is_empty() {
        return Box::default();
    }
    serde_json::to_vec(payload).expect("a JSON object has text as keys").into()
}
