//! The log in files: their header, their frames, and what makes bytes a valid frame.
//!
//! `docs/format.md`, "Log file", has the byte tables, and the argument why a torn tail can be told from damage: every
//! frame says how far its file was durable when it was written.

mod reader;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use reader::WalReader;
pub(crate) use writer::Wal;

use crate::codec::{u32_at, u64_at};
use crate::container::{FORMAT_VERSION, FileKind, MAGIC, OLDEST_FORMAT_VERSION};
use crate::files::{File, FileSystem};
use crate::{SeqNo, StorageError};
use std::io;
use std::path::{Path, PathBuf};

/// The kind in a log file's header.
const KIND: FileKind = FileKind::new(*b"WAL ");

/// Length of the header.
const HEADER_BYTES: usize = 64;

/// Length of a frame without its record.
const FRAME_BYTES: usize = 24;

/// Frames begin at multiples of this.
const FRAME_ALIGNMENT: usize = 8;

/// The longest record.
pub const MAX_RECORD_BYTES: usize = 1 << 30;

/// A file that has grown to this is followed by another one.
pub const WAL_FILE_BYTES: u64 = 16 << 20;

/// No record has a greater number, so that numbers can be added to; a writer stops one before it.
pub(crate) const LAST_SEQ: u64 = 1 << 63;

const PREFIX: &str = "wal-";

/// What a header says beside the file's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    number: u64,
    /// No record in this file or a later one has a smaller number.
    first: SeqNo,
    /// How far the file before is valid; 0 without one.
    previous_length: u64,
    salt: u64,
}

impl Header {
    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&KIND.to_u32().to_le_bytes());
        for (place, value) in
            [self.number, self.first.0, self.previous_length, self.salt].into_iter().enumerate()
        {
            bytes[16 + 8 * place..][..8].copy_from_slice(&value.to_le_bytes());
        }
        let checksum = crc32c::crc32c(&bytes[..HEADER_BYTES - 4]);
        bytes[HEADER_BYTES - 4..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Checks a header, in the order of a container's: what tells another program's file, damage and a newer version apart.
    fn decode(bytes: &[u8], path: &Path, number: u64) -> Result<Self, StorageError> {
        let start = &bytes[..bytes.len().min(MAGIC.len())];
        if !MAGIC.starts_with(start) {
            return Err(StorageError::NotAContainer { path: path.to_owned(), found: start.to_vec() });
        }
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
            let (expected, found) = (HEADER_BYTES as u64, bytes.len() as u64);
            return Err(StorageError::Truncated { path: path.to_owned(), expected, found });
        };
        let (expected, found) = (u32_at(bytes, HEADER_BYTES - 4), crc32c::crc32c(&bytes[..HEADER_BYTES - 4]));
        if expected != found {
            let (path, section) = (path.to_owned(), "the header".to_owned());
            return Err(StorageError::Checksum { path, section, offset: 0, expected, found });
        }
        let version = u32_at(bytes, 8);
        if !(OLDEST_FORMAT_VERSION..=FORMAT_VERSION).contains(&version) {
            let (oldest, newest) = (OLDEST_FORMAT_VERSION, FORMAT_VERSION);
            return Err(StorageError::UnsupportedVersion {
                path: path.to_owned(),
                found: version,
                oldest,
                newest,
            });
        }
        let kind = FileKind::from_u32(u32_at(bytes, 12));
        if kind != KIND {
            return Err(StorageError::WrongKind { path: path.to_owned(), expected: KIND, found: kind });
        }
        let [stated, first, previous_length, salt] = [16, 24, 32, 40].map(|offset| u64_at(bytes, offset));
        let reason = if stated != number {
            (16, format!("it says that it is log file {stated}"))
        } else if first > LAST_SEQ {
            (24, format!("it says that its records have numbers from {first} on"))
        } else if let Some(place) = bytes[48..HEADER_BYTES - 4].iter().position(|&byte| byte != 0) {
            (48 + place as u64, "a reserved byte is not zero".to_owned())
        } else {
            return Ok(Self { number, first: SeqNo(first), previous_length, salt });
        };
        Err(StorageError::Malformed { path: path.to_owned(), offset: reason.0, reason: reason.1 })
    }
}

/// A valid frame: where its record lies in the bytes, and what it says.
#[derive(Debug, Clone, Copy)]
struct Frame {
    seq: SeqNo,
    record: usize,
    length: usize,
}

impl Frame {
    /// The frame's bytes, the padding with them.
    fn bytes(&self) -> usize {
        frame_bytes(self.length)
    }
}

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy)]
enum NoFrame {
    /// There are too few for what the length says.
    Short,
    /// Expected and found.
    Checksum(u32, u32),
    /// The checksum holds, a field does not.
    Field,
}

fn frame_bytes(record: usize) -> usize {
    (FRAME_BYTES + record).next_multiple_of(FRAME_ALIGNMENT)
}

/// Appends the frame of a record, which will lie at `offset` of the file, to `out`.
fn put_frame(out: &mut Vec<u8>, salt: u64, offset: u64, durable: u64, seq: SeqNo, record: &[u8]) {
    let start = out.len();
    out.extend_from_slice(&(record.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&seq.0.to_le_bytes());
    out.extend_from_slice(&durable.to_le_bytes());
    out.extend_from_slice(record);
    out.resize(start + frame_bytes(record.len()), 0);
    let checksum = frame_checksum(&out[start..], salt, offset);
    out[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
}

fn frame_checksum(frame: &[u8], salt: u64, offset: u64) -> u32 {
    let place = crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), &offset.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(place, &frame[..4]), &frame[8..])
}

/// The frame that begins with the first of `bytes`, which lies at `offset` of the file, if its number is above `after`.
fn frame_at(bytes: &[u8], salt: u64, offset: u64, after: SeqNo) -> Result<Frame, NoFrame> {
    if bytes.len() < FRAME_BYTES {
        return Err(NoFrame::Short);
    }
    let length = u32_at(bytes, 0) as usize;
    if length > MAX_RECORD_BYTES || bytes.len() < frame_bytes(length) {
        return Err(NoFrame::Short);
    }
    let frame = &bytes[..frame_bytes(length)];
    let (expected, found) = (u32_at(frame, 4), frame_checksum(frame, salt, offset));
    if expected != found {
        return Err(NoFrame::Checksum(expected, found));
    }
    let (seq, durable) = (SeqNo(u64_at(frame, 8)), u64_at(frame, 16));
    let padding = &frame[FRAME_BYTES + length..];
    if seq <= after || seq.0 > LAST_SEQ || durable > offset || padding.iter().any(|&byte| byte != 0) {
        return Err(NoFrame::Field);
    }
    Ok(Frame { seq, record: FRAME_BYTES, length })
}

/// Removes all files of a log.
pub(crate) fn remove(files: &dyn FileSystem, folder: &Path) -> Result<(), StorageError> {
    for number in numbers(files, folder)? {
        let path = folder.join(file_name(number));
        files.remove(&path).map_err(StorageError::io(&path))?;
    }
    Ok(())
}

fn file_name(number: u64) -> String {
    format!("{PREFIX}{number:020}")
}

/// The numbers of the log files in a folder, ascending.
fn numbers(files: &dyn FileSystem, folder: &Path) -> Result<Vec<u64>, StorageError> {
    let names = files.list(folder).map_err(StorageError::io(folder))?;
    Ok(numbered(&names, PREFIX))
}

/// The numbers of names with this prefix and twenty digits, ascending.
pub(crate) fn numbered(names: &[String], prefix: &str) -> Vec<u64> {
    let digits = names.iter().filter_map(|name| name.strip_prefix(prefix));
    let mut numbers: Vec<u64> =
        digits.filter(|digits| digits.len() == 20).filter_map(|digits| digits.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

/// A log file that is open, with its header.
#[derive(Debug)]
struct OpenFile {
    file: std::sync::Arc<dyn File>,
    path: PathBuf,
    header: Header,
}

impl OpenFile {
    /// Opens log file `number`. `None` when it was never used: its header is not valid, and nothing follows it. Only the last
    /// file can be so.
    fn open(
        files: &dyn FileSystem,
        folder: &Path,
        number: u64,
        is_last: bool,
    ) -> Result<Option<Self>, StorageError> {
        let path = folder.join(file_name(number));
        let file = files.open(&path).map_err(StorageError::io(&path))?;
        let mut bytes = [0; HEADER_BYTES];
        let mut filled = 0;
        while filled < HEADER_BYTES {
            match file.read_at(&mut bytes[filled..], filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(StorageError::io(&path)(error)),
            }
        }
        match Header::decode(&bytes[..filled], &path, number) {
            Ok(header) => Ok(Some(Self { file, path, header })),
            // A version that is not known is no torn header.
            Err(error @ StorageError::UnsupportedVersion { .. }) => Err(error),
            Err(_) if is_last && file.length().map_err(StorageError::io(&path))? <= HEADER_BYTES as u64 => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}
