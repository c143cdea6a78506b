//! Principal components: the orthonormal basis in which a sample's variance is sorted, the greatest first
//! (Karhunen-Loève). The first m coordinates then hold more of the vectors' energy than any other m could.
//!
//! The basis is orthonormal whatever the data: the eigenvectors are a product of reflections and rotations, also for
//! equal vectors or for fewer vectors than dimensions. Training reads a bounded sample, and its result is the same
//! for any number of threads: every sum is taken in one order.

use rayon::prelude::*;
use vdb_distance::Kernels;

use super::{Dense, FhtKac, Reader, RotationError, RotationSlack, assert_dim, eigen, split_mix};

/// Vectors whose products are summed in single precision before the sum is added in double precision.
const BLOCK: usize = 256;

/// How principal components are trained.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PcaConfig {
    /// The most vectors to read, spread evenly over all. 0, the default, means the greater of 16,384 and 12 per
    /// dimension: past that the basis hardly changes, and training time grows with it.
    pub max_rows: usize,
    /// Whether to subtract the mean, and take the directions of variance, rather than those of energy. Distances
    /// are kept either way, inner products only without. True by default.
    pub centred: bool,
    /// Picks the sample.
    pub seed: u64,
}

impl Default for PcaConfig {
    fn default() -> PcaConfig {
        PcaConfig { max_rows: 0, centred: true, seed: 0 }
    }
}

impl PcaConfig {
    /// The settings for a metric that needs inner products: no centre.
    pub fn uncentred() -> PcaConfig {
        PcaConfig { centred: false, ..PcaConfig::default() }
    }
}

/// A mean and an orthonormal basis of principal components.
#[derive(Debug, Clone, PartialEq)]
pub struct Pca {
    basis: Dense,
    /// Empty without a centre.
    mean: Vec<f32>,
    variances: Vec<f64>,
    /// The first so many coordinates are mixed at random among themselves; 0 or 1 for none.
    mixed: usize,
}

impl Pca {
    /// Trains on consecutive vectors of `dim` values. Vectors with a value that is not finite are passed over; with
    /// none left, the basis is that of the coordinates.
    ///
    /// # Panics
    /// When `dim` is 0 or over [`MAX_DIM`](super::MAX_DIM), or `vectors` are not whole vectors.
    ///
    /// # Complexity
    /// rows · dim² / 2 for the covariance, about 5 dim³ for its eigenvectors.
    pub fn train(vectors: &[f32], dim: usize, config: &PcaConfig) -> Pca {
        assert_dim(dim);
        assert!(vectors.len().is_multiple_of(dim), "{} values are not whole vectors of {dim}", vectors.len());
        Pca::train_rows(vectors.len() / dim, dim, config, |row| &vectors[row * dim..][..dim])
    }

    /// The same for `rows` vectors that `vector` returns by number, wherever they are.
    ///
    /// # Panics
    /// When `dim` is 0 or over [`MAX_DIM`](super::MAX_DIM), or a vector does not have `dim` values.
    pub fn train_rows<'a>(
        rows: usize,
        dim: usize,
        config: &PcaConfig,
        vector: impl Fn(usize) -> &'a [f32],
    ) -> Pca {
        assert_dim(dim);
        let bound = if config.max_rows == 0 { (12 * dim).max(1 << 14) } else { config.max_rows };
        let sampled = sample_numbers(rows, bound, config.seed).into_iter().map(vector);
        let sample: Vec<&[f32]> = sampled.filter(|v| v.iter().all(|value| value.is_finite())).collect();
        for vector in &sample {
            assert_eq!(vector.len(), dim, "vectors of {dim} values");
        }
        let mean = if config.centred { mean(&sample, dim) } else { Vec::new() };
        let (covariance, unit) = covariance(&sample, &mean, dim);
        let eigen = eigen::symmetric(covariance, dim);
        // Rounding may leave a variance of zero a little below it.
        let variances = eigen.values.iter().map(|&value| (value * unit * unit).max(0.0)).collect();
        Pca { basis: Dense::from_rows(dim, &eigen.vectors), mean, variances, mixed: 0 }
    }

    /// Mixes the first `head` coordinates at random among themselves, so that codes of them need one scale only.
    /// What the first `head` coordinates span, and so all that is known about them as a whole, stays.
    ///
    /// # Panics
    /// When `head` is over [`dim`](Self::dim).
    #[must_use]
    pub fn mix_head(&self, head: usize, seed: u64) -> Pca {
        let dim = self.dim();
        assert!(head <= dim, "a head of {head} of {dim} values");
        if head < 2 {
            return self.clone();
        }
        let mut rows: Vec<f64> = self.basis.matrix().iter().map(|&value| f64::from(value)).collect();
        let mixing = FhtKac::new(head, head, seed);
        let columns: Vec<Vec<f64>> = (0..dim)
            .into_par_iter()
            .map(|j| {
                let mut column: Vec<f64> = (0..head).map(|i| rows[i * dim + j]).collect();
                mixing.forward(&mut column);
                column
            })
            .collect();
        for (j, column) in columns.iter().enumerate() {
            for (i, &value) in column.iter().enumerate() {
                rows[i * dim + j] = value;
            }
        }
        Pca { basis: Dense::from_rows(dim, &rows), mixed: self.mixed.max(head), ..self.clone() }
    }

    /// Values of a vector.
    pub fn dim(&self) -> usize {
        self.basis.dim()
    }

    /// The mean that is subtracted, if one is.
    pub fn centre(&self) -> Option<&[f32]> {
        (!self.mean.is_empty()).then_some(&self.mean)
    }

    /// The orthonormal basis, a vector a row.
    pub fn basis(&self) -> &[f32] {
        self.basis.matrix()
    }

    /// Variance of the sample along each principal component (mean square, without a centre), in descending order:
    /// those before any mixing of the head.
    pub fn variances(&self) -> &[f64] {
        &self.variances
    }

    /// The share of the variance that the first `head` coordinates hold; 1 when there is no variance.
    pub fn share(&self, head: usize) -> f64 {
        let total: f64 = self.variances.iter().sum();
        let held: f64 = self.variances.iter().take(head).sum();
        if total > 0.0 { held / total } else { 1.0 }
    }

    /// That of the matrix, and half a unit in the last place of each difference from the mean, which the matrix may
    /// lengthen a little.
    pub(super) fn slack(&self) -> RotationSlack {
        let slack = self.basis.slack();
        let subtraction = if self.mean.is_empty() { 0.0 } else { f64::from(f32::EPSILON) };
        RotationSlack { relative: slack.relative * 1.001 + subtraction * (1.0 + slack.defect), ..slack }
    }

    pub(super) fn apply(&self, input: &[f32], output: &mut [f32]) {
        if self.mean.is_empty() {
            return self.basis.apply(input, output);
        }
        self.basis.apply(&self.centred(input), output);
    }

    pub(super) fn apply_batch(&self, input: &[f32], output: &mut [f32]) {
        if self.mean.is_empty() {
            return self.basis.apply_batch(input, output);
        }
        let centred: Vec<f32> = input.chunks_exact(self.dim()).flat_map(|row| self.centred(row)).collect();
        self.basis.apply_batch(&centred, output);
    }

    pub(super) fn apply_inverse(&self, rotated: &[f32], vector: &mut [f32]) {
        self.basis.apply_inverse(rotated, vector);
        for (value, &mean) in vector.iter_mut().zip(&self.mean) {
            *value += mean;
        }
    }

    fn centred(&self, vector: &[f32]) -> Vec<f32> {
        vector.iter().zip(&self.mean).map(|(&value, &mean)| value - mean).collect()
    }

    /// Bytes that [`write`](Self::write) takes: whether there is a mean, how many coordinates are mixed, the
    /// variances, the mean (zeros without one), the matrix.
    pub(super) fn bytes(dim: u32) -> u64 {
        8 + 12 * u64::from(dim) + Dense::bytes(dim)
    }

    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend(u32::from(!self.mean.is_empty()).to_le_bytes());
        bytes.extend((self.mixed as u32).to_le_bytes());
        bytes.extend(self.variances.iter().flat_map(|value| value.to_le_bytes()));
        let zeros = if self.mean.is_empty() { self.dim() } else { 0 };
        bytes.extend(self.mean.iter().flat_map(|value| value.to_le_bytes()));
        bytes.resize(bytes.len() + 4 * zeros, 0);
        self.basis.write(bytes);
    }

    pub(super) fn read(dim: usize, body: &mut Reader<'_>) -> Result<Pca, RotationError> {
        let centred = u32::from_le_bytes(body.array());
        let mixed = u32::from_le_bytes(body.array()) as usize;
        if centred > 1 {
            return Err(RotationError::Value("mark of a mean"));
        }
        if mixed > dim {
            return Err(RotationError::Value("number of mixed coordinates"));
        }
        let variances: Vec<f64> = (0..dim).map(|_| body.f64("variance")).collect::<Result<_, _>>()?;
        if variances.iter().any(|value| value.is_sign_negative()) {
            return Err(RotationError::Value("variance"));
        }
        let mut mean: Vec<f32> = (0..dim).map(|_| body.f32("mean")).collect::<Result<_, _>>()?;
        if centred == 0 {
            if mean.iter().any(|value| value.to_bits() != 0) {
                return Err(RotationError::Value("reserved field"));
            }
            mean.clear();
        }
        Ok(Pca { basis: Dense::read(dim, body)?, mean, variances, mixed })
    }
}

/// At most `bound` row numbers, one at random from each of as many equal stretches of `0..rows`.
fn sample_numbers(rows: usize, bound: usize, seed: u64) -> Vec<usize> {
    if rows <= bound {
        return (0..rows).collect();
    }
    let mut state = seed;
    let start = |i: usize| (i as u128 * rows as u128 / bound as u128) as usize;
    (0..bound)
        .map(|i| start(i) + (split_mix(&mut state) % (start(i + 1) - start(i)) as u64) as usize)
        .collect()
}

fn mean(sample: &[&[f32]], dim: usize) -> Vec<f32> {
    let mut sums = vec![0.0_f64; dim];
    for vector in sample {
        for (sum, &value) in sums.iter_mut().zip(*vector) {
            *sum += f64::from(value);
        }
    }
    sums.iter().map(|sum| (sum / sample.len().max(1) as f64) as f32).collect()
}

/// The covariance of the sample in units of the square of the second result: a power of two that the greatest
/// difference from the mean is near, so that no product over- or underflows in single precision.
fn covariance(sample: &[&[f32]], mean: &[f32], dim: usize) -> (Vec<f64>, f64) {
    let centred = |j: usize, value: f32| f64::from(value) - mean.get(j).map_or(0.0, |&mean| f64::from(mean));
    let differences = sample.iter().flat_map(|vector| vector.iter().enumerate());
    let greatest = differences.fold(0.0_f64, |greatest, (j, &value)| greatest.max(centred(j, value).abs()));
    let mut sums = vec![0.0_f64; dim * dim];
    if greatest == 0.0 {
        return (sums, 1.0);
    }
    let unit = greatest.log2().ceil().exp2();
    // A block of vectors, coordinate by coordinate: products of rows of this are the sums wanted.
    let mut columns = vec![0.0_f32; dim * BLOCK];
    for block in sample.chunks(BLOCK) {
        columns.par_chunks_mut(BLOCK).enumerate().for_each(|(j, column)| {
            for (value, vector) in column.iter_mut().zip(block) {
                *value = (centred(j, vector[j]) / unit) as f32;
            }
            column[block.len()..].fill(0.0);
        });
        sums.par_chunks_mut(dim).enumerate().for_each_init(
            || vec![0.0_f32; dim],
            |products, (j, sums)| {
                let products = &mut products[j..];
                let column = &columns[j * BLOCK..][..BLOCK];
                Kernels::get().dot_rows(column, &columns, BLOCK, j, products);
                for (sum, &product) in sums[j..].iter_mut().zip(&*products) {
                    *sum += f64::from(product);
                }
            },
        );
    }
    let count = sample.len() as f64;
    for i in 0..dim {
        for j in i..dim {
            let value = sums[i * dim + j] / count;
            (sums[i * dim + j], sums[j * dim + i]) = (value, value);
        }
    }
    (sums, unit)
}
