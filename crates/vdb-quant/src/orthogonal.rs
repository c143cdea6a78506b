//! A dense orthogonal matrix that was learned: OPQ's rotation.
//!
//! Invariant: its rows are orthonormal to about f32 precision, so Rᵀ takes rotated values back.

/// A d × d matrix R with RᵀR = I.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Orthogonal {
    dim: usize,
    /// Row-major.
    rows: Vec<f32>,
}

impl Orthogonal {
    /// The matrix with these rows.
    pub(crate) fn from_rows(dim: usize, rows: Vec<f32>) -> Orthogonal {
        assert_eq!(rows.len(), dim * dim, "a square matrix");
        Orthogonal { dim, rows }
    }

    /// Row-major.
    pub(crate) fn rows(&self) -> &[f32] {
        &self.rows
    }

    /// Writes `R·input`.
    pub(crate) fn apply(&self, input: &[f32], output: &mut [f32]) {
        assert_eq!((input.len(), output.len()), (self.dim, self.dim), "dimensions of the rotation");
        vdb_distance::Kernels::get().dot_rows(input, &self.rows, self.dim, 0, output);
    }

    /// Writes `Rᵀ·input`.
    pub(crate) fn apply_inverse(&self, input: &[f32], output: &mut [f32]) {
        assert_eq!((input.len(), output.len()), (self.dim, self.dim), "dimensions of the rotation");
        output.fill(0.0);
        for (&factor, row) in input.iter().zip(self.rows.chunks_exact(self.dim)) {
            output.iter_mut().zip(row).for_each(|(sum, &value)| *sum += factor * value);
        }
    }
}
