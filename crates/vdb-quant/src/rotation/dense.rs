//! An orthogonal matrix, stored whole. Random ones are the Q of a Gaussian matrix (distributed evenly over all
//! orthogonal matrices), made by modified Gram-Schmidt in double precision, twice: once leaves an error that grows
//! with the condition of the matrix, "twice is enough" (Kahan, in Parlett, The Symmetric Eigenvalue Problem).
//!
//! The invariant: `defect` is at least the spectral norm of R Rᵀ − I for the `f32` numbers as they are stored. It is
//! measured when the matrix is made, not assumed.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use vdb_distance::{AlignedVec, Kernels};

use super::{Reader, RotationError, RotationSlack, assert_dim};

/// Rows of the matrix that a batch of vectors is multiplied with before the next rows are read.
const TILE: usize = 32;

/// An orthogonal matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Dense {
    dim: usize,
    /// Row by row; output value `i` is the product with row `i`.
    matrix: AlignedVec<f32>,
    defect: f64,
}

impl Dense {
    /// A random orthogonal matrix.
    ///
    /// # Panics
    /// When `dim` is 0 or over [`MAX_DIM`](super::MAX_DIM).
    pub fn random(dim: usize, seed: u64) -> Dense {
        assert_dim(dim);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut matrix: Vec<f64> = (0..dim * dim).map(|_| StandardNormal.sample(&mut rng)).collect();
        orthonormalise(&mut matrix, dim);
        orthonormalise(&mut matrix, dim);
        Dense::from_rows(dim, &matrix)
    }

    /// The matrix with these orthonormal rows, rounded to single precision and measured.
    pub(super) fn from_rows(dim: usize, rows: &[f64]) -> Dense {
        assert_eq!(rows.len(), dim * dim, "a square matrix");
        let mut matrix = AlignedVec::new();
        matrix.resize(dim * dim, 0.0);
        for (value, &exact) in matrix.iter_mut().zip(rows) {
            *value = exact as f32;
        }
        let defect = measure(&matrix, dim);
        Dense { dim, matrix, defect }
    }

    /// Values of a vector.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The rows, one after the other.
    pub fn matrix(&self) -> &[f32] {
        &self.matrix
    }

    /// By the kernels' documented error, value `i` of the output is off by at most (n/128 + 6) ε Σ|terms|, and
    /// Σ|terms| ≤ ‖row i‖ ‖x‖ with ‖row i‖² ≤ 1 + defect. Over n rows that is √n times as much, generously for
    /// vectors without a structure. A product underflows by at most 2⁻¹⁴⁹.
    pub(super) fn slack(&self) -> RotationSlack {
        let n = self.dim as f64;
        let relative = (n / 128.0 + 6.0) * f64::from(f32::EPSILON) * (n * (1.0 + self.defect)).sqrt();
        RotationSlack {
            defect: self.defect,
            relative: relative * 1.001,
            absolute: n * n.sqrt() * 2_f64.powi(-148),
        }
    }

    pub(super) fn apply(&self, input: &[f32], output: &mut [f32]) {
        Kernels::get().dot_rows(input, &self.matrix, self.dim, 0, output);
    }

    pub(super) fn apply_batch(&self, input: &[f32], output: &mut [f32]) {
        let kernels = Kernels::get();
        for first in (0..self.dim).step_by(TILE) {
            let rows = first..(first + TILE).min(self.dim);
            for (input, output) in input.chunks_exact(self.dim).zip(output.chunks_exact_mut(self.dim)) {
                kernels.dot_rows(input, &self.matrix, self.dim, first, &mut output[rows.clone()]);
            }
        }
    }

    pub(super) fn apply_inverse(&self, rotated: &[f32], vector: &mut [f32]) {
        vector.fill(0.0);
        for (&factor, row) in rotated.iter().zip(self.matrix.chunks_exact(self.dim)) {
            for (value, &entry) in vector.iter_mut().zip(row) {
                *value += factor * entry;
            }
        }
    }

    /// Bytes that [`write`](Self::write) takes: the defect, then the matrix.
    pub(super) fn bytes(dim: u32) -> u64 {
        8 + 4 * u64::from(dim) * u64::from(dim)
    }

    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.defect.to_le_bytes());
        bytes.extend(self.matrix.iter().flat_map(|value| value.to_le_bytes()));
    }

    pub(super) fn read(dim: usize, body: &mut Reader<'_>) -> Result<Dense, RotationError> {
        let defect = body.f64("defect")?;
        if defect.is_sign_negative() {
            return Err(RotationError::Value("defect"));
        }
        let mut matrix = AlignedVec::new();
        matrix.resize(dim * dim, 0.0);
        for value in matrix.iter_mut() {
            *value = body.f32("matrix")?;
        }
        Ok(Dense { dim, matrix, defect })
    }
}

/// Sum of products in double precision, in eight lanes so that it can be vectorised.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut lanes = [0.0; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let tail: f64 = a8.remainder().iter().zip(b8.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a8.zip(b8) {
        for i in 0..8 {
            lanes[i] += x[i] * y[i];
        }
    }
    lanes.iter().sum::<f64>() + tail
}

/// `a += factor * b`.
pub(super) fn add_scaled(a: &mut [f64], factor: f64, b: &[f64]) {
    for (a, &b) in a.iter_mut().zip(b) {
        *a += factor * b;
    }
}

/// One pass of modified Gram-Schmidt over the rows. The order of operations on a row does not depend on threads.
fn orthonormalise(matrix: &mut [f64], dim: usize) {
    for i in 0..dim {
        let (done, rest) = matrix.split_at_mut((i + 1) * dim);
        let row = &mut done[i * dim..];
        let norm = dot(row, row).sqrt();
        // Gaussian rows are dependent with probability zero; a row of zeros would be no direction at all.
        assert!(norm > 0.0, "random rows are independent");
        row.iter_mut().for_each(|value| *value /= norm);
        let row = &*row;
        rest.par_chunks_mut(dim).with_min_len(16).for_each(|other| {
            let along = dot(row, other);
            add_scaled(other, -along, row);
        });
    }
}

/// An upper bound on the spectral norm of R Rᵀ − I, which for a square matrix is that of Rᵀ R − I too: the smaller of
/// its Frobenius norm and its greatest row sum. The sums of products of `f32` values are off by less than n 2⁻⁵² each
/// (rows are near length 1), which is added.
fn measure(matrix: &[f32], dim: usize) -> f64 {
    let exact: Vec<f64> = matrix.iter().map(|&value| f64::from(value)).collect();
    let rows: Vec<(f64, f64)> = (0..dim)
        .into_par_iter()
        .map(|i| {
            let row = &exact[i * dim..][..dim];
            let entries = exact.chunks_exact(dim).enumerate().map(|(j, other)| {
                (dot(row, other) - if i == j { 1.0 } else { 0.0 }).abs() + dim as f64 * f64::EPSILON
            });
            entries.fold((0.0, 0.0), |(sum, squares), entry| (sum + entry, squares + entry * entry))
        })
        .collect();
    let greatest = rows.iter().fold(0.0_f64, |greatest, row| greatest.max(row.0));
    let frobenius = rows.iter().map(|row| row.1).sum::<f64>().sqrt();
    greatest.min(frobenius) * 1.001
}
