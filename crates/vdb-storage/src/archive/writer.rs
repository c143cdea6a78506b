//! Writing an archive in one pass.

use super::{KIND, LOG, MANIFEST, NAMES, blob_section, is_in_order};
use crate::backend::{Blobs, LogReader, PART_BYTES, check_blob_name, for_each_part};
use crate::codec::Encode;
use crate::{ContainerWriter, MAX_RECORD_BYTES, SeqNo, StorageError};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;

/// What an archive holds beside the records of the log.
#[derive(Debug, Clone, Copy)]
pub struct Contents<'a> {
    /// The content of the manifest.
    pub manifest: &'a [u8],
    /// Where the blobs are.
    pub blobs: &'a dyn Blobs,
    /// The blobs that the manifest names. Nobody may remove them meanwhile.
    pub names: &'a [String],
    /// The record from which on the manifest needs the log; at least 1. A restored log can be read from here on.
    pub log_from: SeqNo,
}

/// Writes an archive into `out`, from front to back, and gives that back, flushed. `path` is for errors.
///
/// `log` is read after the blobs were written; its records have ascending numbers from [`Contents::log_from`] on. What is wrong
/// in a blob is copied: its checksums are its own, and the archive's say what was read.
///
/// # Durability
/// The bytes are handed to the writer, not synced: [`write_atomically`](crate::write_atomically) does that.
///
/// # Errors
/// Those of the blobs and the log; [`StorageError::InvalidName`]; [`StorageError::RecordTooLong`]; [`StorageError::Io`] of the
/// writer, or with the kind `InvalidInput` for records out of order. What was written is no archive then, and no reader takes it
/// for one.
pub fn write_archive<W: Write>(
    out: W,
    path: &Path,
    contents: &Contents<'_>,
    log: impl IntoIterator<Item = Result<(SeqNo, Vec<u8>), StorageError>>,
) -> Result<W, StorageError> {
    let Contents { manifest, blobs, names, log_from } = *contents;
    let mut names = names.to_vec();
    names.sort_unstable();
    names.dedup();
    names.iter().try_for_each(|name| check_blob_name(name))?;
    if !is_in_order(log_from, SeqNo::FIRST) {
        return Err(StorageError::io(path)(out_of_order(log_from, SeqNo::FIRST)));
    }
    let write = || -> io::Result<W> {
        let mut file = ContainerWriter::new(BufWriter::with_capacity(PART_BYTES, out), KIND)?;
        file.write_section(NAMES, |section| names.iter().try_for_each(|name| section.put_str(name)))?;
        file.add_section(MANIFEST, manifest)?;
        for (place, name) in names.iter().enumerate() {
            let blob = blobs.open(name)?;
            file.write_section(&blob_section(place), |section| -> io::Result<()> {
                for_each_part(&*blob, |part| section.write_all(part).map_err(StorageError::io(path)))?;
                Ok(())
            })?;
        }
        file.write_section(LOG, |section| write_log(section, path, log_from, log))?;
        file.finish()?.into_inner().map_err(io::IntoInnerError::into_error)
    };
    write().map_err(StorageError::from_io(path))
}

fn write_log(
    out: &mut impl Write,
    path: &Path,
    from: SeqNo,
    log: impl IntoIterator<Item = Result<(SeqNo, Vec<u8>), StorageError>>,
) -> io::Result<()> {
    out.put_u64(from.0)?;
    let mut least = from;
    for record in log {
        let (seq, record) = record?;
        if !is_in_order(seq, least) {
            return Err(out_of_order(seq, least));
        }
        let length = record.len();
        if length > MAX_RECORD_BYTES {
            let (path, most) = (path.to_owned(), MAX_RECORD_BYTES);
            return Err(StorageError::RecordTooLong { path, length, most }.into());
        }
        out.put_u64(seq.0)?;
        out.put_u32(length as u32)?;
        out.write_all(&record)?;
        least = seq.next();
    }
    Ok(())
}

fn out_of_order(seq: SeqNo, least: SeqNo) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, format!("a log with record {seq} where {least} is the least"))
}

/// The records of a log before `end`, for [`write_archive`]: a log that is written meanwhile may never come to its end.
pub fn records_before(
    mut log: Box<dyn LogReader>,
    end: SeqNo,
) -> impl Iterator<Item = Result<(SeqNo, Vec<u8>), StorageError>> {
    std::iter::from_fn(move || match log.read() {
        Ok(Some((seq, record))) if seq < end => Some(Ok((seq, record.to_vec()))),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    })
}
