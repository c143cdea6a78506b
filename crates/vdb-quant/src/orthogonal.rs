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

    /// [`apply`](Self::apply) for consecutive vectors, some rows of the matrix at a time, so that those stay in the
    /// first cache.
    pub(crate) fn apply_batch(&self, input: &[f32], output: &mut [f32]) {
        const TILE: usize = 16;
        assert_eq!((input.len(), input.len() % self.dim), (output.len(), 0), "as many whole vectors");
        for first in (0..self.dim).step_by(TILE) {
            let rows = first..(first + TILE).min(self.dim);
            for (input, output) in input.chunks_exact(self.dim).zip(output.chunks_exact_mut(self.dim)) {
                let output = &mut output[rows.clone()];
                vdb_distance::Kernels::get().dot_rows(input, &self.rows, self.dim, first, output);
            }
        }
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
