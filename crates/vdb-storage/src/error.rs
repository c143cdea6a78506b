//! Everything that can go wrong with a file of the database.
//!
//! Each variant names the file and, where there is one, the section and the byte offset counted from the start of
//! the file, and shows what was expected next to what was found. A corrupt file is always one of these errors,
//! never a panic.

use crate::SeqNo;
use crate::codec::CodecError;
use crate::container::FileKind;
use std::io;
use std::path::{Path, PathBuf};

/// An error of reading or writing a file of the database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The operating system refused a call.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder of the call.
        path: PathBuf,
        /// What the operating system answered.
        source: io::Error,
    },
    /// The first bytes are not those of a container: some other program's file.
    #[error(
        "{}: not a file of this database: it starts with \"{}\"",
        path.display(),
        found.escape_ascii()
    )]
    NotAContainer {
        /// The file.
        path: PathBuf,
        /// Its first bytes, at most eight.
        found: Vec<u8>,
    },
    /// The file is shorter than a complete one can be.
    #[error("{}: cut short: {expected} bytes expected, {found} found", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The length that the file should have, in bytes.
        expected: u64,
        /// The length that it has, in bytes.
        found: u64,
    },
    /// The file starts as a container but does not end as one.
    #[error(
        "{}: no end mark at byte {offset} ({length} bytes in all): the file was cut short or never finished",
        path.display()
    )]
    MissingEnd {
        /// The file.
        path: PathBuf,
        /// Where the end mark should be.
        offset: u64,
        /// The length of the file, in bytes.
        length: u64,
    },
    /// The file was written by another, probably newer, version of the program.
    #[error(
        "{}: format version {found} is not supported: this program reads versions {oldest} to {newest}",
        path.display()
    )]
    UnsupportedVersion {
        /// The file.
        path: PathBuf,
        /// The version that the file states.
        found: u32,
        /// The oldest version that this program reads.
        oldest: u32,
        /// The newest version that this program reads.
        newest: u32,
    },
    /// A container, but of something else than was asked for.
    #[error("{}: a file of kind {expected} was expected, this one is of kind {found}", path.display())]
    WrongKind {
        /// The file.
        path: PathBuf,
        /// The kind asked for.
        expected: FileKind,
        /// The kind that the file states.
        found: FileKind,
    },
    /// Bytes changed after they were written.
    #[error(
        "{}: damaged: checksum of {section} (from byte {offset}) should be {expected:#010x}, is {found:#010x}",
        path.display()
    )]
    Checksum {
        /// The file.
        path: PathBuf,
        /// The section's name, or the words for the header, the table or the footer.
        section: String,
        /// Where the checked bytes begin.
        offset: u64,
        /// The checksum stored in the file.
        expected: u32,
        /// The checksum of the bytes as they are now.
        found: u32,
    },
    /// Checksums hold, but a field breaks a rule of the format.
    #[error("{}: malformed at byte {offset}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where the offending field begins.
        offset: u64,
        /// What was expected and what was found.
        reason: String,
    },
    /// The file has no section of this name.
    #[error("{}: no section named {section:?}", path.display())]
    MissingSection {
        /// The file.
        path: PathBuf,
        /// The name asked for.
        section: String,
    },
    /// A section's checksum holds, but its content does not decode.
    #[error("{}: section {section:?} does not decode", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// The section's name.
        section: String,
        /// What was wrong, with the offset inside the section.
        source: CodecError,
    },
    /// A manifest was published meanwhile by somebody else.
    #[error(
        "{}: manifest {found} is the current one, {expected} was expected: another writer has published it",
        path.display()
    )]
    Conflict {
        /// The store.
        path: PathBuf,
        /// The number that was to be the current one, 0 for none.
        expected: u64,
        /// The number that is.
        found: u64,
    },
    /// An earlier failure left it unknown what is on disk.
    #[error(
        "{}: writing has stopped, since it is unknown what an earlier write left on disk ({reason}): close it and open \
         it again to go on from what is there",
        path.display()
    )]
    Stopped {
        /// The store.
        path: PathBuf,
        /// What failed first.
        reason: String,
    },
    /// Somebody else has the store open to write.
    #[error("{}: another process has this open to write: close it there, or open it to read only", path.display())]
    Locked {
        /// The lock's file.
        path: PathBuf,
    },
    /// A record is too long for the log.
    #[error("{}: a record of {length} bytes; at most {most} are possible: write in smaller batches", path.display())]
    RecordTooLong {
        /// The store.
        path: PathBuf,
        /// Its bytes.
        length: usize,
        /// The bytes that are possible.
        most: usize,
    },
    /// Records of the log that were to be read are not there any more.
    #[error(
        "{}: the log no longer holds record {wanted}: a newer manifest says what it did; start from that",
        path.display()
    )]
    Trimmed {
        /// The store.
        path: PathBuf,
        /// The record asked for.
        wanted: SeqNo,
    },
    /// Something is there already where a store is to be made.
    #[error(
        "{}: a store cannot be made of this where there {found} already: take a new, empty folder, or remove what is there \
         if it is of no use",
        path.display()
    )]
    NotEmpty {
        /// What the store is to be made of: an archive, or the folder of another store.
        path: PathBuf,
        /// What there is.
        found: String,
    },
    /// A blob cannot have this name.
    #[error("{name:?} is no name of a blob: 1 to 200 of a-z, 0-9, \"-\", \"_\" and \".\", the first no dot")]
    InvalidName {
        /// The name.
        name: String,
    },
}

impl StorageError {
    /// For `map_err`: names the file that an I/O error belongs to.
    pub fn io(path: &Path) -> impl FnOnce(io::Error) -> StorageError + use<> {
        let path = path.to_path_buf();
        move |source| StorageError::Io { path, source }
    }

    /// For `map_err`: as [`io`](Self::io), but an error of this kind that went through [`io::Error`] comes out as it was.
    pub fn from_io(path: &Path) -> impl FnOnce(io::Error) -> StorageError + use<> {
        let io = Self::io(path);
        move |error| error.downcast::<StorageError>().unwrap_or_else(io)
    }

    /// For `map_err`: names the file and the section that a decoding error belongs to.
    pub fn decode(path: &Path, section: &str) -> impl FnOnce(CodecError) -> StorageError + use<> {
        let (path, section) = (path.to_path_buf(), section.to_owned());
        move |source| StorageError::Decode { path, section, source }
    }
}

/// Lets closures that only do I/O return `io::Result`; the path stays in the message.
impl From<StorageError> for io::Error {
    fn from(error: StorageError) -> Self {
        let kind = match &error {
            StorageError::Io { source, .. } => source.kind(),
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}
