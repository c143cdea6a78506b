//! The binary formats: rows of numbers, each after its own dimension (`fvecs`) or all after one header (`fbin`, `npy`).
//!
//! A header's row count and dimension must account for the whole file, to the byte, before the first row is read.
//! The rows that carry their dimension are checked one by one, each against the first and against the bytes left.

use super::element::Element;
use super::error::{FormatError, Place};
use super::source::Source;
use super::{MAX_DIM, npy};

/// Reads rows in order.
#[derive(Debug)]
pub(super) struct BinaryReader {
    source: Source,
    element: Element,
    dim: usize,
    layout: Layout,
    next_row: u64,
    /// The bytes of the current row.
    row: Vec<u8>,
}

#[derive(Debug)]
enum Layout {
    /// Each row follows its dimension; the count, when the file's length is a multiple of the first row's.
    DimBeforeRow { rows: Option<u64> },
    /// The header was read and fits the file.
    Matrix { rows: u64 },
}

impl BinaryReader {
    /// `fvecs`, `bvecs`.
    pub(super) fn vecs(mut source: Source, element: Element) -> Result<Self, FormatError> {
        // The first dimension is read ahead of its row; `append_row` reads the later ones.
        let dim = read_row_dim(&mut source, 0)?;
        let row_bytes = (size_of::<i32>() + dim * element.size()) as u64;
        let rows = source.total().is_multiple_of(row_bytes).then(|| source.total() / row_bytes);
        Ok(Self::new(source, element, dim, Layout::DimBeforeRow { rows }))
    }

    /// `fbin`, `u8bin`, `i8bin`, `f16bin`.
    pub(super) fn bin(mut source: Source, element: Element) -> Result<Self, FormatError> {
        let rows = source.read_u32(Place::Header)?;
        let dim_offset = source.position();
        let columns = source.read_u32(Place::Header)?;
        Self::matrix(source, element, rows.into(), columns.into(), dim_offset)
    }

    /// `npy`.
    pub(super) fn npy(mut source: Source) -> Result<Self, FormatError> {
        let header = npy::read_header(&mut source)?;
        Self::matrix(source, header.element, header.rows, header.columns, header.text_offset)
    }

    /// Rows after a header that ends here; `dim_offset` is where the header states the dimension.
    fn matrix(
        source: Source,
        element: Element,
        rows: u64,
        columns: u64,
        dim_offset: u64,
    ) -> Result<Self, FormatError> {
        if rows == 0 {
            return Err(source.empty());
        }
        let stated = i64::try_from(columns).unwrap_or(i64::MAX);
        let dim = check_dim(&source, Place::Header, dim_offset, stated)?;
        check_length(&source, rows, columns, element.size() as u64)?;
        Ok(Self::new(source, element, dim, Layout::Matrix { rows }))
    }

    fn new(source: Source, element: Element, dim: usize, layout: Layout) -> Self {
        Self { source, element, dim, layout, next_row: 0, row: Vec::new() }
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    pub(super) fn dim(&self) -> usize {
        self.dim
    }

    pub(super) fn rows(&self) -> Option<u64> {
        match self.layout {
            Layout::DimBeforeRow { rows } => rows,
            Layout::Matrix { rows } => Some(rows),
        }
    }

    /// Appends the next row to `out`; `false` at the end of the file.
    pub(super) fn append_row(&mut self, out: &mut Vec<f32>) -> Result<bool, FormatError> {
        let place = Place::Record(self.next_row);
        match self.layout {
            Layout::Matrix { rows } if self.next_row == rows => return Ok(false),
            Layout::DimBeforeRow { .. } if self.next_row > 0 => {
                if self.source.remaining() == 0 {
                    return Ok(false);
                }
                let offset = self.source.position();
                let found = read_row_dim(&mut self.source, self.next_row)?;
                if found != self.dim {
                    let (path, expected) = (self.source.path(), self.dim);
                    return Err(FormatError::DimensionMismatch { path, place, offset, expected, found });
                }
            }
            _ => {}
        }
        // At most 512 KiB, allocated once: the dimension is bounded.
        self.row.resize(self.dim * self.element.size(), 0);
        let offset = self.source.position();
        self.source.read_exact(place, &mut self.row)?;
        let start = out.len();
        self.element.decode(&self.row, out);
        if let Some(component) = out[start..].iter().position(|value| !value.is_finite()) {
            return Err(FormatError::NonFinite {
                path: self.source.path(),
                place,
                offset: offset + (component * self.element.size()) as u64,
                component,
                value: out[start + component],
            });
        }
        self.next_row += 1;
        Ok(true)
    }
}

/// The dimension in front of a row.
pub(super) fn read_row_dim(source: &mut Source, row: u64) -> Result<usize, FormatError> {
    let (place, offset) = (Place::Record(row), source.position());
    let dim = i32::from_le_bytes(source.read_array(place)?);
    check_dim(source, place, offset, dim.into())
}

/// A dimension from a file, if it is one that is read.
pub(super) fn check_dim(
    source: &Source,
    place: Place,
    offset: u64,
    found: i64,
) -> Result<usize, FormatError> {
    match usize::try_from(found) {
        Ok(dim @ 1..=MAX_DIM) => Ok(dim),
        _ => Err(FormatError::BadDimension { path: source.path(), place, offset, found }),
    }
}

/// Compares the length of the file with what a header, which ends here, says must follow it.
pub(super) fn check_length(source: &Source, rows: u64, columns: u64, size: u64) -> Result<(), FormatError> {
    // Row counts have at most 64 bits; columns times size stays below 2^36.
    let expected = u128::from(source.position()) + u128::from(rows) * u128::from(columns) * u128::from(size);
    if expected == u128::from(source.total()) {
        return Ok(());
    }
    let (path, offset, found) = (source.path(), source.position(), source.total());
    Err(FormatError::LengthMismatch { path, offset, rows, columns, expected, found })
}
