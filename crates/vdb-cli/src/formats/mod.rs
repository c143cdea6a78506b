//! Readers of vector files: what `vdb import` and `vdb bench` take in.
//!
//! [`RecordReader`] streams records from any format in constant memory; [`read_matrix`] and [`read_ground_truth`]
//! load benchmark files whole. A count in a file's header is compared with the file's length before memory is
//! allocated for it, and every error names the file, the record and the byte offset.
//!
//! | Extension | Layout (little-endian) |
//! |---|---|
//! | `fvecs`, `bvecs` | per vector: i32 dimension, then that many f32 or u8 |
//! | `fbin`, `u8bin`, `i8bin`, `f16bin` | u32 count, u32 dimension, then the values row by row |
//! | `npy` | NumPy array, two dimensions, C order: `<f4`, `<f8`, `<f2`, `u1`, `i1` |
//! | `jsonl`, `ndjson` | one JSON object a line: `id`, `vector`, `metadata` (or `payload`) |
//! | `json` | one JSON array of such objects |
//!
//! [`PointReader`] streams points of a collection from the same formats: JSON objects may have several named `vectors`, any
//! `payload`, `expires_at`, and an `id` that is a whole number, a text or `{"uuid": "…"}`.

mod binary;
mod element;
mod error;
mod ground_truth;
mod json;
mod matrix;
mod npy;
mod point;
mod source;
#[cfg(test)]
mod tests;

pub use error::{FormatError, Place};
pub use ground_truth::{GroundTruth, read_ground_truth};
pub use matrix::{Matrix, read_matrix};
pub use point::{PointReader, PointRecord};

use binary::BinaryReader;
use element::Element;
use json::JsonReader;
use source::Source;
use std::collections::HashMap;
use std::path::Path;

/// Largest dimension that is read. No embedding model comes near it; a wrong file often exceeds it.
pub const MAX_DIM: usize = 65_536;

/// Longest JSON text of one record, in bytes.
pub const MAX_RECORD_BYTES: usize = 64 << 20;

/// One vector with what belongs to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// The id, where the format has ids and the record states one.
    pub id: Option<String>,
    /// The vector: finite values, as many as in every other record of the file.
    pub vector: Vec<f32>,
    /// Keys and values; empty in the formats that have none.
    pub metadata: HashMap<String, String>,
}

/// A file format; the [module](self) page has their layouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// f32 vectors, each after its dimension.
    Fvecs,
    /// u8 vectors, each after its dimension.
    Bvecs,
    /// A matrix of f32.
    Fbin,
    /// A matrix of u8.
    U8bin,
    /// A matrix of i8.
    I8bin,
    /// A matrix of half-precision numbers.
    F16bin,
    /// A NumPy array.
    Npy,
    /// One JSON object a line.
    Jsonl,
    /// A JSON array of objects.
    Json,
}

/// Extensions and their formats, in the order in which errors list them.
const EXTENSIONS: [(&str, Format); 10] = [
    ("json", Format::Json),
    ("jsonl", Format::Jsonl),
    ("ndjson", Format::Jsonl),
    ("fvecs", Format::Fvecs),
    ("bvecs", Format::Bvecs),
    ("fbin", Format::Fbin),
    ("u8bin", Format::U8bin),
    ("i8bin", Format::I8bin),
    ("f16bin", Format::F16bin),
    ("npy", Format::Npy),
];

impl Format {
    /// The format that a file's extension stands for, in upper or lower case.
    ///
    /// # Errors
    ///
    /// [`FormatError::UnknownExtension`], which lists the known ones.
    pub fn from_path(path: &Path) -> Result<Format, FormatError> {
        let found = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
        EXTENSIONS
            .iter()
            .find(|(extension, _)| Some(*extension) == found.as_deref())
            .map(|&(_, format)| format)
            .ok_or_else(|| FormatError::UnknownExtension {
                path: path.to_path_buf(),
                found: found.unwrap_or_default(),
            })
    }
}

/// The extensions that [`Format::from_path`] knows, for messages: "json, jsonl, …".
fn known_extensions() -> String {
    EXTENSIONS.map(|(extension, _)| extension).join(", ")
}

/// Streams the records of a file.
///
/// An iterator that ends after the last record or after the first error. Every vector is finite and has the first
/// one's dimension.
#[derive(Debug)]
pub struct RecordReader {
    format: Format,
    body: Body,
    done: bool,
}

#[derive(Debug)]
enum Body {
    Binary(BinaryReader),
    Json(JsonReader),
}

impl RecordReader {
    /// Opens a file, as `format` or as what its extension says, and reads its header.
    ///
    /// # Errors
    ///
    /// [`FormatError`]: the file cannot be opened or is empty, or its header is wrong.
    pub fn open(path: &Path, format: Option<Format>) -> Result<RecordReader, FormatError> {
        let format = match format {
            Some(format) => format,
            None => Format::from_path(path)?,
        };
        let source = Source::open(path)?;
        let body = match format {
            Format::Fvecs => Body::Binary(BinaryReader::vecs(source, Element::F32)?),
            Format::Bvecs => Body::Binary(BinaryReader::vecs(source, Element::U8)?),
            Format::Fbin => Body::Binary(BinaryReader::bin(source, Element::F32)?),
            Format::U8bin => Body::Binary(BinaryReader::bin(source, Element::U8)?),
            Format::I8bin => Body::Binary(BinaryReader::bin(source, Element::I8)?),
            Format::F16bin => Body::Binary(BinaryReader::bin(source, Element::F16)?),
            Format::Npy => Body::Binary(BinaryReader::npy(source)?),
            Format::Jsonl => Body::Json(JsonReader::lines(source)?),
            Format::Json => Body::Json(JsonReader::array(source)?),
        };
        Ok(RecordReader { format, body, done: false })
    }

    /// The format that the file is read as.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The dimension, when it is known: from the header, or once the first record was read.
    pub fn dim(&self) -> Option<usize> {
        match &self.body {
            Body::Binary(reader) => Some(reader.dim()),
            Body::Json(reader) => reader.dim(),
        }
    }

    /// The number of records in the file, when the header tells.
    pub fn len_hint(&self) -> Option<u64> {
        match &self.body {
            Body::Binary(reader) => reader.rows(),
            Body::Json(_) => None,
        }
    }

    /// The length of the file, the end of a progress bar.
    pub fn bytes_total(&self) -> u64 {
        self.source().total()
    }

    /// The bytes of the file that records were made of so far.
    pub fn bytes_read(&self) -> u64 {
        self.source().position()
    }

    fn source(&self) -> &Source {
        match &self.body {
            Body::Binary(reader) => reader.source(),
            Body::Json(reader) => reader.source(),
        }
    }

    /// Appends the next vector to `out`, without the record around it; `false` at the end of the file.
    fn append_vector(&mut self, out: &mut Vec<f32>) -> Result<bool, FormatError> {
        match &mut self.body {
            Body::Binary(reader) => reader.append_row(out),
            Body::Json(reader) => match reader.next_record()? {
                Some(record) => {
                    out.extend(record.vector);
                    Ok(true)
                }
                None => Ok(false),
            },
        }
    }

    fn next_record(&mut self) -> Result<Option<Record>, FormatError> {
        match &mut self.body {
            Body::Binary(reader) => {
                let mut vector = Vec::new();
                let found = reader.append_row(&mut vector)?;
                Ok(found.then(|| Record { id: None, vector, metadata: HashMap::new() }))
            }
            Body::Json(reader) => reader.next_record(),
        }
    }
}

impl Iterator for RecordReader {
    type Item = Result<Record, FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.next_record().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}

impl std::iter::FusedIterator for RecordReader {}
