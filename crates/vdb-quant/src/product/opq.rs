//! Optimised product quantization (Ge, He, Ke & Sun, 2013): a rotation R that makes the pieces' codebooks fit.
//!
//! Training alternates: rotate the vectors and train the codebooks; then, with Y the decoded vectors, take the
//! rotation that brings X closest to Y (Procrustes), which is the orthogonal factor of YᵀX = Σ yxᵀ.
//!
//! ```text
//! R ← start                      axes dealt to the pieces so that their variances balance
//! repeat: train codebooks on RX, decode to Y, R ← polar(Σ y·xᵀ + ε·R)
//! train codebooks on RX
//! ```
//!
//! The polar factor is found by Newton's iteration `M ← (M + M⁻ᵀ)/2` in f64 and not by a singular value
//! decomposition: a dozen inversions that converge from any regular M. A small multiple of the present R keeps M
//! regular where the data span fewer dimensions; directions without data keep their place. Invariant: R is
//! orthonormal to f32 precision, so products and Euclidean distances of rotated vectors are those of the vectors.

use rayon::prelude::*;
use vdb_distance::Metric;

use super::{
    ProductBlockQuery, ProductConfig, ProductError, ProductProgress, ProductQuantizer, ProductQuery,
};
use crate::kmeans::KMeansError;
use crate::orthogonal::Orthogonal;
use crate::parameters::{Kind, ParametersError, Reader, Writer};
use crate::quantizer::{CodeQuery, Quantizer, assert_batch};
use crate::rabitq::normalised;
use crate::rotation::MAX_DIM;

/// k-means iterations of every round but the last.
const ROUND_ITERATIONS: usize = 8;
/// Training vectors at most; more change nothing in d² numbers of a rotation.
const MAX_TRAINING: usize = 65_536;

/// Settings of [`Opq`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct OpqConfig {
    /// The product quantizer's.
    pub product: ProductConfig,
    /// Rounds of training and rotating. 10 unless set; 0 keeps the balanced axes.
    pub rounds: usize,
}

impl OpqConfig {
    /// The defaults around a product quantizer's settings.
    #[must_use]
    pub fn new(product: ProductConfig) -> OpqConfig {
        OpqConfig { product, rounds: 10 }
    }
}

/// A product quantizer behind a learned rotation.
///
/// Row codes are those of [`product`](Self::product) for rotated vectors. Under Manhattan, which a rotation does not
/// keep, codes are decoded one by one.
#[derive(Debug, Clone, PartialEq)]
pub struct Opq {
    rotation: Orthogonal,
    product: ProductQuantizer,
}

impl Opq {
    /// Trains on `rows`, vectors of `dim` values one after another.
    ///
    /// # Errors
    /// As [`ProductQuantizer::train`].
    ///
    /// # Complexity
    /// Besides the codebooks `rounds · d²·(n + 25·d)` operations, n at most 65,536.
    pub fn train(rows: &[f32], dim: usize, config: &OpqConfig) -> Result<Opq, ProductError> {
        Self::train_with(rows, dim, config, &mut |_| {})
    }

    /// [`train`](Self::train) that reports every codebook of every round.
    ///
    /// # Errors
    /// As [`ProductQuantizer::train`].
    pub fn train_with(
        rows: &[f32],
        dim: usize,
        config: &OpqConfig,
        progress: &mut dyn FnMut(ProductProgress),
    ) -> Result<Opq, ProductError> {
        let subspaces = config.product.subspaces;
        if subspaces == 0 || subspaces > dim {
            return Err(ProductError::Subspaces { subspaces, dim });
        }
        if !rows.len().is_multiple_of(dim) {
            return Err(KMeansError::Shape { values: rows.len(), dim }.into());
        }
        if let Some(at) = rows.iter().position(|value| !value.is_finite()) {
            return Err(KMeansError::NotFinite { row: at / dim }.into());
        }
        // Every so many rows, so that sorted data are seen from end to end.
        let step = (rows.len() / dim).div_ceil(MAX_TRAINING).max(1);
        let sample: Vec<f32> = rows.chunks_exact(dim).step_by(step).flatten().copied().collect();
        let mut rotation = balanced(&sample, dim, subspaces);
        let short = ProductConfig { iterations: ROUND_ITERATIONS, ..config.product.clone() };
        let total = (config.rounds + 1) * subspaces;
        let mut done = 0;
        let mut count = |_: ProductProgress| {
            done += 1;
            progress(ProductProgress { done, total });
        };
        for _ in 0..config.rounds {
            let rotated = rotate_all(&rotation, &sample, dim);
            let product = ProductQuantizer::train_with(&rotated, dim, &short, &mut count)?;
            let sum = cross_products(&product, &sample, &rotated, dim);
            match polar(sum, rotation.rows(), dim) {
                Some(rows) => rotation = Orthogonal::from_rows(dim, rows),
                None => break,
            }
        }
        let rotated = rotate_all(&rotation, &sample, dim);
        let product = ProductQuantizer::train_with(&rotated, dim, &config.product, &mut count)?;
        Ok(Opq { rotation, product })
    }

    /// The quantizer of rotated vectors.
    pub fn product(&self) -> &ProductQuantizer {
        &self.product
    }

    /// Rotates a vector into the space of [`product`](Self::product).
    ///
    /// # Panics
    /// When it has another dimension.
    pub fn rotate(&self, vector: &[f32]) -> Vec<f32> {
        let mut rotated = vec![0.0; self.product.dim];
        self.rotation.apply(vector, &mut rotated);
        rotated
    }

    /// Prepares a query for blocks of four-bit codes; blocks are made by [`ProductQuantizer::pack_block`].
    ///
    /// # Panics
    /// As [`ProductQuantizer::block_query`], and under Manhattan.
    pub fn block_query(&self, metric: Metric, query: &[f32], wide: bool) -> ProductBlockQuery {
        assert_ne!(metric, Metric::Manhattan, "a rotation does not keep Manhattan distances");
        self.product.block_query(metric, &self.rotate(query), wide)
    }

    /// The rotation and the codebook, for [`from_bytes`](Self::from_bytes).
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(Kind::Opq);
        writer.len(self.product.dim);
        writer.f32s(self.rotation.rows());
        writer.nested(&self.product.to_bytes());
        writer.finish()
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote. That the matrix is orthogonal is believed: files carry
    /// checksums.
    ///
    /// # Errors
    /// When the bytes are not such parameters.
    pub fn from_bytes(bytes: &[u8]) -> Result<Opq, ParametersError> {
        let mut reader = Reader::new(bytes, Kind::Opq)?;
        let dim = reader.len("dimension", 1, MAX_DIM)?;
        let rotation = Orthogonal::from_rows(dim, reader.f32s("rotation", dim * dim)?);
        let product = ProductQuantizer::from_bytes(reader.nested()?)?;
        reader.finish()?;
        if product.dim != dim {
            return Err(ParametersError::Invalid { field: "dimension" });
        }
        Ok(Opq { rotation, product })
    }
}

impl Quantizer for Opq {
    type Query<'a> = OpqQuery<'a>;

    fn dim(&self) -> usize {
        self.product.dim
    }

    fn code_bytes(&self) -> usize {
        self.product.code_bytes()
    }

    fn encode(&self, vector: &[f32], code: &mut [u8]) {
        self.product.encode(&self.rotate(vector), code);
    }

    fn encode_all(&self, vectors: &[f32], codes: &mut [u8]) {
        /// Vectors that share a pass over the rotation.
        const BATCH: usize = 256;
        assert_batch(self, vectors, codes);
        let dim = self.product.dim;
        let batches = vectors.par_chunks(BATCH * dim).zip(codes.par_chunks_mut(BATCH * self.code_bytes()));
        batches.for_each(|(vectors, codes)| {
            let mut rotated = vec![0.0; vectors.len()];
            self.rotation.apply_batch(vectors, &mut rotated);
            self.product.encode_all(&rotated, codes);
        });
    }

    fn decode(&self, code: &[u8], vector: &mut [f32]) {
        let mut rotated = vec![0.0; self.product.dim];
        self.product.decode(code, &mut rotated);
        self.rotation.apply_inverse(&rotated, vector);
    }

    fn query<'a>(&'a self, metric: Metric, query: &[f32]) -> OpqQuery<'a> {
        OpqQuery(match metric {
            Metric::Manhattan => Prepared::Decoded(self, query.to_vec()),
            _ => Prepared::Tables(self.product.query(metric, &self.rotate(&normalised(metric, query)))),
        })
    }
}

/// A query prepared for row codes; made by [`Quantizer::query`].
pub struct OpqQuery<'a>(Prepared<'a>);

enum Prepared<'a> {
    Tables(ProductQuery<'a>),
    /// Under Manhattan.
    Decoded(&'a Opq, Vec<f32>),
}

fn decoded_l1(opq: &Opq, query: &[f32], code: &[u8]) -> f32 {
    let mut vector = vec![0.0; query.len()];
    opq.decode(code, &mut vector);
    vdb_distance::l1(query, &vector)
}

impl CodeQuery for OpqQuery<'_> {
    fn distances(&self, codes: &[u8], out: &mut [f32]) {
        match &self.0 {
            Prepared::Tables(query) => query.distances(codes, out),
            Prepared::Decoded(opq, query) => {
                assert_eq!(codes.len(), out.len() * opq.code_bytes(), "as many codes as distances");
                for (code, out) in codes.chunks_exact(opq.code_bytes()).zip(out) {
                    *out = decoded_l1(opq, query, code);
                }
            }
        }
    }

    fn gather(&self, codes: &[u8], rows: &[u32], out: &mut [f32]) {
        match &self.0 {
            Prepared::Tables(query) => query.gather(codes, rows, out),
            Prepared::Decoded(opq, query) => {
                assert_eq!(rows.len(), out.len(), "as many distances as rows");
                for (&row, out) in rows.iter().zip(out) {
                    *out =
                        decoded_l1(opq, query, &codes[row as usize * opq.code_bytes()..][..opq.code_bytes()]);
                }
            }
        }
    }
}

fn rotate_all(rotation: &Orthogonal, rows: &[f32], dim: usize) -> Vec<f32> {
    let mut rotated = vec![0.0; rows.len()];
    let pairs = rows.par_chunks(64 * dim).zip(rotated.par_chunks_mut(64 * dim));
    pairs.for_each(|(rows, rotated)| rotation.apply_batch(rows, rotated));
    rotated
}

/// A permutation of the axes: in order of variance, each goes to the piece with the least variance that has room.
fn balanced(rows: &[f32], dim: usize, subspaces: usize) -> Orthogonal {
    let (mut sums, mut squares) = (vec![0.0_f64; dim], vec![0.0_f64; dim]);
    for row in rows.chunks_exact(dim) {
        for (j, &value) in row.iter().enumerate() {
            sums[j] += f64::from(value);
            squares[j] += f64::from(value) * f64::from(value);
        }
    }
    let count = (rows.len() / dim).max(1) as f64;
    let variance: Vec<f64> =
        (0..dim).map(|j| (squares[j] / count - (sums[j] / count).powi(2)).max(0.0)).collect();
    let mut axes: Vec<usize> = (0..dim).collect();
    axes.sort_by(|&a, &b| variance[b].total_cmp(&variance[a]).then(a.cmp(&b)));
    // Next free position, end and variance so far of every piece.
    let mut pieces: Vec<(usize, usize, f64)> =
        super::cuts(dim, subspaces).map(|(start, len)| (start, start + len, 0.0)).collect();
    let mut matrix = vec![0.0; dim * dim];
    for axis in axes {
        let open = pieces.iter_mut().filter(|piece| piece.0 < piece.1);
        let piece = open.min_by(|a, b| a.2.total_cmp(&b.2)).expect("the pieces have room for all axes");
        matrix[piece.0 * dim + axis] = 1.0;
        piece.0 += 1;
        piece.2 += variance[axis];
    }
    Orthogonal::from_rows(dim, matrix)
}

/// `Σ y·xᵀ` over the vectors x and their decoded rotations y, row-major.
fn cross_products(product: &ProductQuantizer, rows: &[f32], rotated: &[f32], dim: usize) -> Vec<f64> {
    let count = rows.len() / dim;
    let mut codes = vec![0; count * product.code_bytes()];
    product.encode_all(rotated, &mut codes);
    let mut sum = vec![0.0_f64; dim * dim];
    // By piece: a row of the sum belongs to one of its values, and its order of additions does not depend on threads.
    sum.par_chunks_mut(dim).enumerate().for_each(|(i, line)| {
        let piece = product.pieces.iter().rposition(|piece| piece.start <= i).expect("the first starts at 0");
        let offset = i - product.pieces[piece].start;
        for (row, code) in rows.chunks_exact(dim).zip(codes.chunks_exact(product.code_bytes())) {
            let y = f64::from(product.pieces[piece].centroid(product.number(code, piece))[offset]);
            line.iter_mut().zip(row).for_each(|(sum, &x)| *sum += y * f64::from(x));
        }
    });
    sum
}

/// The orthogonal factor of `sum + ε·present`; `None` if the iteration does not get there.
fn polar(mut matrix: Vec<f64>, present: &[f32], dim: usize) -> Option<Vec<f32>> {
    let norm = matrix.iter().map(|value| value * value).sum::<f64>().sqrt();
    if !(norm > 0.0 && norm.is_finite()) {
        return None;
    }
    for (value, &present) in matrix.iter_mut().zip(present) {
        *value = *value / norm + 1e-6 * f64::from(present);
    }
    for _ in 0..60 {
        let inverse = inverse(matrix.clone(), dim)?;
        // Scaled by the root of the ratio of the norms (Higham), which brings far-out singular values near 1 at once.
        let length = |m: &[f64]| m.iter().map(|value| value * value).sum::<f64>().sqrt();
        let scale = (length(&inverse) / length(&matrix)).sqrt();
        let mut change = 0.0_f64;
        let mut next = vec![0.0; dim * dim];
        for i in 0..dim {
            for j in 0..dim {
                let value = (scale * matrix[i * dim + j] + inverse[j * dim + i] / scale) / 2.0;
                change = change.max((value - matrix[i * dim + j]).abs());
                next[i * dim + j] = value;
            }
        }
        matrix = next;
        if change < 1e-9 {
            return Some(matrix.iter().map(|&value| value as f32).collect());
        }
    }
    None
}

/// The inverse by Gauss-Jordan elimination with row pivots; `None` for a singular matrix.
fn inverse(mut matrix: Vec<f64>, dim: usize) -> Option<Vec<f64>> {
    let mut inverse = vec![0.0; dim * dim];
    inverse.iter_mut().step_by(dim + 1).for_each(|value| *value = 1.0);
    for column in 0..dim {
        let size = |row: usize| matrix[row * dim + column].abs();
        let pivot = (column..dim).max_by(|&a, &b| size(a).total_cmp(&size(b)))?;
        let value = matrix[pivot * dim + column];
        if !value.is_finite() || value == 0.0 {
            return None;
        }
        for half in [&mut matrix, &mut inverse] {
            for j in 0..dim {
                half.swap(pivot * dim + j, column * dim + j);
                half[column * dim + j] /= value;
            }
        }
        for row in (0..dim).filter(|&row| row != column) {
            let factor = matrix[row * dim + column];
            if factor != 0.0 {
                for half in [&mut matrix, &mut inverse] {
                    let (target, source) = two_rows(half, dim, row, column);
                    target.iter_mut().zip(source).for_each(|(target, source)| *target -= factor * *source);
                }
            }
        }
    }
    Some(inverse)
}

/// Two different rows, the first to be changed.
fn two_rows(matrix: &mut [f64], dim: usize, target: usize, source: usize) -> (&mut [f64], &[f64]) {
    let (low, high) = matrix.split_at_mut(target.max(source) * dim);
    if target < source {
        (&mut low[target * dim..][..dim], &high[..dim])
    } else {
        (&mut high[..dim], &low[source * dim..][..dim])
    }
}
