//! A whole file of vectors in memory, for benchmarks.
//!
//! The rows are decoded straight into one allocation, whose size is known beforehand when the header tells.

use super::{FormatError, RecordReader};
use std::path::Path;

/// Vectors as the rows of a matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// The number of vectors.
    pub rows: usize,
    /// The dimension of every vector.
    pub dim: usize,
    /// The values, row by row: `rows` × `dim` of them.
    pub data: Vec<f32>,
}

impl Matrix {
    /// The vector of an index.
    ///
    /// # Panics
    ///
    /// When there is no such row.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.data[index * self.dim..][..self.dim]
    }
}

/// Reads the vectors of a file of any format, by its extension; ids and metadata are left out.
///
/// # Errors
///
/// [`FormatError`], as [`RecordReader`] gives it; a JSON file without records is an error here.
pub fn read_matrix(path: &Path) -> Result<Matrix, FormatError> {
    let mut reader = RecordReader::open(path, None)?;
    let mut data = Vec::new();
    if let (Some(rows), Some(dim)) = (reader.len_hint(), reader.dim()) {
        // The count was compared with the file's length: at most four bytes of memory for each byte of the file.
        let values = usize::try_from(rows).ok().and_then(|rows| rows.checked_mul(dim));
        let reserved = values.is_some_and(|values| data.try_reserve_exact(values).is_ok());
        if !reserved {
            let problem = format!("not enough memory for {rows} vectors of dimension {dim}");
            return Err(reader.source().io(std::io::Error::new(std::io::ErrorKind::OutOfMemory, problem)));
        }
    }
    let mut rows = 0;
    while reader.append_vector(&mut data)? {
        rows += 1;
    }
    match reader.dim() {
        Some(dim) if rows > 0 => Ok(Matrix { rows, dim, data }),
        _ => Err(reader.source().empty()),
    }
}
