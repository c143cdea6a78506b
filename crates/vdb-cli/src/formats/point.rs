//! Points of a collection, streamed from any format.

use super::{Body, FormatError, RecordReader};
use std::path::Path;
use vdb_engine::{NamedVectors, Payload, Point, PointId};

/// A point as a file states it.
#[derive(Debug, Clone, PartialEq)]
pub struct PointRecord {
    /// The id, where the format has ids and the record states one.
    pub id: Option<PointId>,
    /// Finite values by the name of their field; the empty name stands for `vector`, and for the rows of a matrix.
    pub vectors: NamedVectors,
    /// Any JSON object; empty in the formats that have none.
    pub payload: Payload,
    /// When the point ceases to be, in milliseconds since 1970 (UTC).
    pub expires_at: Option<u64>,
}

impl PointRecord {
    /// The point, with the id that it states, or this one.
    pub fn into_point(self, id: PointId) -> Point {
        let Self { id: own, vectors, payload, expires_at } = self;
        Point { id: own.unwrap_or(id), vectors, payload, expires_at }
    }

    /// Values of all vectors.
    pub fn values(&self) -> usize {
        self.vectors.values().map(Vec::len).sum()
    }
}

/// Streams the points of a file.
///
/// An iterator that ends after the last point or after the first error.
#[derive(Debug)]
pub struct PointReader {
    reader: RecordReader,
    done: bool,
}

impl PointReader {
    /// Opens a file as what its extension says, and reads its header.
    ///
    /// # Errors
    ///
    /// As [`RecordReader::open`].
    pub fn open(path: &Path) -> Result<Self, FormatError> {
        Ok(Self { reader: RecordReader::open(path, None)?, done: false })
    }

    /// The length of the file, the end of a progress bar.
    pub fn bytes_total(&self) -> u64 {
        self.reader.bytes_total()
    }

    /// The bytes of the file that points were made of so far.
    pub fn bytes_read(&self) -> u64 {
        self.reader.bytes_read()
    }

    fn next_point(&mut self) -> Result<Option<PointRecord>, FormatError> {
        match &mut self.reader.body {
            Body::Json(reader) => reader.next_point(),
            Body::Binary(reader) => {
                let mut vector = Vec::new();
                let found = reader.append_row(&mut vector)?;
                Ok(found.then(|| PointRecord {
                    id: None,
                    vectors: NamedVectors::from([(String::new(), vector)]),
                    payload: Payload::new(),
                    expires_at: None,
                }))
            }
        }
    }
}

impl Iterator for PointReader {
    type Item = Result<PointRecord, FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.next_point().transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}

impl std::iter::FusedIterator for PointReader {}
