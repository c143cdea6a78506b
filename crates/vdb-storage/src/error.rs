//! Everything that can go wrong with a file of the database.
//!
//! Each variant names the file and, where there is one, the section and the byte offset counted from the start of
//! the file, and shows what was expected next to what was found. A corrupt file is always one of these errors,
//! never a panic.

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
}

impl StorageError {
    /// For `map_err`: names the file that an I/O error belongs to.
    pub fn io(path: &Path) -> impl FnOnce(io::Error) -> StorageError + use<> {
        let path = path.to_path_buf();
        move |source| StorageError::Io { path, source }
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
