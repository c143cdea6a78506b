//! What can be wrong with a vector file, told so that its author can find the place.
//!
//! Every variant names the file and, where there is one, the record and the byte offset, both counted from 0; the
//! messages say so. Lines and columns of JSON count from 1, as editors do.

use super::{MAX_DIM, MAX_RECORD_BYTES, known_extensions};
use std::fmt;
use std::io;
use std::path::PathBuf;

/// A part of a file, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The header, before all records.
    Header,
    /// The record of this index.
    Record(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Header => f.write_str("the header"),
            Place::Record(index) => write!(f, "record {index} (counting from 0)"),
        }
    }
}

/// An error of reading a vector file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The operating system refused a call.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system answered.
        source: io::Error,
    },
    /// A folder, a pipe or a device.
    #[error("{}: not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The extension stands for no known format.
    #[error("{}: {}; known extensions: {}", path.display(), describe_extension(found), known_extensions())]
    UnknownExtension {
        /// The file.
        path: PathBuf,
        /// The extension in lower case, empty when there is none.
        found: String,
    },
    /// Nothing in the file: no bytes, or a header that states no records.
    #[error("{}: empty: no records ({bytes} bytes)", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// The length of the file.
        bytes: u64,
    },
    /// The file ends in the middle of something.
    #[error(
        "{}: {place} at byte {offset} is cut short: {expected} bytes expected, {found} left in the file",
        path.display()
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// What is cut short.
        place: Place,
        /// Where the missing value begins.
        offset: u64,
        /// The bytes that it takes.
        expected: u64,
        /// The bytes that are left.
        found: u64,
    },
    /// A vector does not have the first vector's dimension.
    #[error(
        "{}: {place} at byte {offset} has dimension {found}, record 0 has dimension {expected}",
        path.display()
    )]
    DimensionMismatch {
        /// The file.
        path: PathBuf,
        /// The record.
        place: Place,
        /// Where it begins.
        offset: u64,
        /// The first record's dimension.
        expected: usize,
        /// This record's dimension.
        found: usize,
    },
    /// A dimension that no vector has.
    #[error(
        "{}: {place} at byte {offset} has dimension {found}, expected 1 to {MAX_DIM}",
        path.display()
    )]
    BadDimension {
        /// The file.
        path: PathBuf,
        /// Where the dimension is stated.
        place: Place,
        /// The offset of the dimension, or of the vector in text formats.
        offset: u64,
        /// The dimension.
        found: i64,
    },
    /// The header's counts do not fit the file's length.
    #[error(
        "{}: the header (to byte {offset}) states {rows} rows of {columns}: a file of {expected} bytes expected, \
         it has {found}",
        path.display()
    )]
    LengthMismatch {
        /// The file.
        path: PathBuf,
        /// Where the header ends and the rows begin.
        offset: u64,
        /// The number of rows.
        rows: u64,
        /// The number of values in a row.
        columns: u64,
        /// The length that the file should have.
        expected: u128,
        /// The length that it has.
        found: u64,
    },
    /// NaN or an infinity, perhaps of a number too large for single precision.
    #[error(
        "{}: {place} at byte {offset}: component {component} (counting from 0) is {value}, expected a finite number",
        path.display()
    )]
    NonFinite {
        /// The file.
        path: PathBuf,
        /// The record.
        place: Place,
        /// The offset of the value, or of the record in text formats.
        offset: u64,
        /// The value's index in the vector.
        component: usize,
        /// The value, in single precision.
        value: f32,
    },
    /// Not the JSON that is expected.
    #[error("{}: {place}, line {line}, column {column} (byte {offset}): {message}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The record.
        place: Place,
        /// The line, counting from 1.
        line: u64,
        /// The column in bytes, counting from 1.
        column: u64,
        /// The offset of the same place.
        offset: u64,
        /// What was expected or found.
        message: String,
    },
    /// The text of one record is too long to be one.
    #[error(
        "{}: {place} at byte {offset} is longer than {} MiB: is this one record a line, or a whole file?",
        path.display(),
        MAX_RECORD_BYTES >> 20
    )]
    RecordTooLong {
        /// The file.
        path: PathBuf,
        /// The record.
        place: Place,
        /// Where it begins.
        offset: u64,
    },
    /// A NumPy file that is damaged or not one.
    #[error("{}: the header at byte {offset}: expected {expected}, found {found}", path.display())]
    NpyHeader {
        /// The file.
        path: PathBuf,
        /// Where the header goes wrong.
        offset: u64,
        /// What belongs there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A sound NumPy file of a sort that is not read.
    #[error("{}: the header at byte {offset}: {found} is not supported: {advice}", path.display())]
    NpyUnsupported {
        /// The file.
        path: PathBuf,
        /// Where the header's text begins.
        offset: u64,
        /// What the file has.
        found: String,
        /// How to make a file that is read.
        advice: &'static str,
    },
}

fn describe_extension(found: &str) -> String {
    match found {
        "" => "no extension to tell the format by".to_owned(),
        found => format!("unknown extension \"{found}\""),
    }
}
