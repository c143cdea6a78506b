//! A row-major matrix of numbers of one element type, borrowed.

use std::fmt;

use crate::generic::Block;
use crate::number::ElementType;

/// Rows of numbers, of which the first few of each row are its vector.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    bytes: &'a [u8],
    element: ElementType,
    /// Bytes from the start of one row to the start of the next.
    stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows of `stride` floats each.
    pub fn f32(rows: &'a [f32], stride: usize) -> Matrix<'a> {
        // SAFETY: the same memory for as long; bytes have no alignment, and floats no padding.
        let bytes = unsafe { std::slice::from_raw_parts(rows.as_ptr().cast(), size_of_val(rows)) };
        Matrix::new(ElementType::F32, bytes, stride)
    }

    /// Rows of `stride` numbers each, as [`ElementType::encode`] writes them.
    pub fn new(element: ElementType, bytes: &'a [u8], stride: usize) -> Matrix<'a> {
        Matrix { bytes, element, stride: stride.saturating_mul(element.bytes()) }
    }

    /// The type of its numbers.
    pub fn element(&self) -> ElementType {
        self.element
    }

    pub(crate) fn block<'b>(&'b self, query: &'b [f32]) -> Block<'b> {
        Block { query, rows: self.bytes, stride: self.stride }
    }

    /// Checks that the vector of row `row`, and so that of every row before it, lies inside.
    pub(crate) fn assert_row_inside(&self, query: &[f32], row: usize) {
        let (len, size) = (query.len(), self.element.bytes());
        assert!(len * size <= self.stride, "a vector of {len} numbers in rows of {}", self.stride / size);
        let end = row.checked_mul(self.stride).and_then(|start| start.checked_add(len * size));
        assert!(
            end.is_some_and(|end| end <= self.bytes.len()),
            "row {row} lies outside a matrix of {} numbers in rows of {}",
            self.bytes.len() / size,
            self.stride / size
        );
    }
}

impl fmt::Debug for Matrix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Matrix { bytes, element, stride } = self;
        f.debug_struct("Matrix")
            .field("bytes", &bytes.len())
            .field("element", element)
            .field("stride", stride)
            .finish()
    }
}
