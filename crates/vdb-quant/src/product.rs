//! Product quantization (Jégou, Douze & Schmid, 2011): a vector is cut into m pieces, and each piece is replaced by
//! the number of the nearest of 16 or 256 centroids.
//!
//! Pieces are as even as can be: with d = m·l + r the first r have l + 1 values and the others l. A query's distances
//! to all centroids of all pieces are tables that are computed once (asymmetric distances); a code's distance is
//! the sum of its m entries. Row codes are one byte a piece with 8 bits; with 4 bits two pieces a byte, the first in
//! the low nibble. Invariants: every code of the right length decodes; where fewer training vectors than centroids
//! exist, the missing centroids repeat the last one and encoding never picks them.

mod block;
mod opq;

pub use block::ProductBlockQuery;
pub use opq::{Opq, OpqConfig, OpqQuery};
use rayon::prelude::*;
use vdb_distance::{Kernels, Metric};

use crate::kmeans::{CentroidSearch, KMeans, KMeansConfig, KMeansError};
use crate::parameters::{Kind, ParametersError, Reader, Writer};
use crate::quantizer::{CodeQuery, Quantizer, assert_batch};
use crate::rabitq::normalised;
use crate::rotation::MAX_DIM;

/// Rows that a gather asks memory for ahead.
const ROWS_AHEAD: usize = 8;

/// Codes whose distances are summed up together.
const STRIP: usize = 64;
/// Bytes of a code whose tables are used at a time: 16 KB of tables of eight bits.
const TILE_BYTES: usize = 16;
/// Sums of a distance.
const SUMS: usize = 4;

/// Vectors that are encoded a piece at a time.
const ENCODE_STRIP: usize = 64;

/// Bits per piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProductBits {
    /// 16 centroids; the codes that [`ProductQuantizer::block_query`] scans.
    Four,
    /// 256 centroids.
    Eight,
}

impl ProductBits {
    /// Centroids per piece.
    pub fn centroids(self) -> usize {
        match self {
            ProductBits::Four => 16,
            ProductBits::Eight => 256,
        }
    }
}

/// Settings of [`ProductQuantizer`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ProductConfig {
    /// Pieces, m: from 1 to the dimension.
    pub subspaces: usize,
    /// Bits per piece.
    pub bits: ProductBits,
    /// k-means iterations. 25 unless set.
    pub iterations: usize,
    /// Training vectors per centroid at most. 256 unless set.
    pub points_per_centroid: usize,
    /// What all random choices derive from.
    pub seed: u64,
}

impl ProductConfig {
    /// The defaults for this many pieces and bits.
    #[must_use]
    pub fn new(subspaces: usize, bits: ProductBits) -> ProductConfig {
        ProductConfig { subspaces, bits, iterations: 25, points_per_centroid: 256, seed: 0x7071 }
    }
}

/// Why a codebook could not be trained.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProductError {
    /// More pieces than values, or none.
    #[error("{subspaces} pieces of vectors of {dim} values")]
    Subspaces {
        /// Pieces asked for.
        subspaces: usize,
        /// Values per vector.
        dim: usize,
    },
    /// The training vectors.
    #[error(transparent)]
    KMeans(#[from] KMeansError),
}

/// Trained centroids for every piece.
#[derive(Debug, Clone, PartialEq)]
pub struct ProductQuantizer {
    dim: usize,
    bits: ProductBits,
    pieces: Vec<Piece>,
}

/// One piece's values and centroids.
#[derive(Debug, Clone, PartialEq)]
struct Piece {
    start: usize,
    len: usize,
    /// Row-major.
    centroids: Vec<f32>,
    search: CentroidSearch,
}

impl Piece {
    fn new(start: usize, len: usize, centroids: Vec<f32>) -> Piece {
        Piece { start, len, search: CentroidSearch::new(&centroids, len), centroids }
    }

    fn of<'a>(&self, vector: &'a [f32]) -> &'a [f32] {
        &vector[self.start..self.start + self.len]
    }

    fn centroid(&self, number: u8) -> &[f32] {
        &self.centroids[usize::from(number) * self.len..][..self.len]
    }
}

/// Where a training run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProductProgress {
    /// Codebooks trained, one a piece; under OPQ again in every round.
    pub done: usize,
    /// Out of how many at most: OPQ stops its rounds early where nothing is left to turn.
    pub total: usize,
}

/// Start and length of every piece.
fn cuts(dim: usize, subspaces: usize) -> impl Iterator<Item = (usize, usize)> {
    let (len, longer) = (dim / subspaces, dim % subspaces);
    (0..subspaces).map(move |i| (i * len + i.min(longer), len + usize::from(i < longer)))
}

impl ProductQuantizer {
    /// Trains on `rows`, vectors of `dim` values one after another.
    ///
    /// # Errors
    /// When the pieces do not fit the dimension, there are no vectors, or a value is not finite.
    pub fn train(rows: &[f32], dim: usize, config: &ProductConfig) -> Result<ProductQuantizer, ProductError> {
        Self::train_with(rows, dim, config, &mut |_| {})
    }

    /// [`train`](Self::train) that reports every codebook.
    ///
    /// # Errors
    /// As [`train`](Self::train).
    pub fn train_with(
        rows: &[f32],
        dim: usize,
        config: &ProductConfig,
        progress: &mut dyn FnMut(ProductProgress),
    ) -> Result<ProductQuantizer, ProductError> {
        let subspaces = config.subspaces;
        if subspaces == 0 || subspaces > dim {
            return Err(ProductError::Subspaces { subspaces, dim });
        }
        if !rows.len().is_multiple_of(dim) {
            return Err(KMeansError::Shape { values: rows.len(), dim }.into());
        }
        let pieces = cuts(dim, subspaces).enumerate().map(|(i, (start, len))| {
            let own: Vec<f32> =
                rows.chunks_exact(dim).flat_map(|row| &row[start..start + len]).copied().collect();
            let wanted = config.bits.centroids();
            // At least one, so that no vectors at all stay an error.
            let clusters = wanted.min(rows.len() / dim).max(1);
            let mut kmeans = KMeansConfig::new(clusters).iterations(config.iterations);
            kmeans.points_per_centroid = config.points_per_centroid;
            kmeans.seed = config.seed.wrapping_add((i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut centroids = KMeans::train(&own, len, &kmeans)?.centroids().to_vec();
            let last = centroids[(clusters - 1) * len..].to_vec();
            centroids.extend(last.iter().cycle().take((wanted - clusters) * len));
            progress(ProductProgress { done: i + 1, total: subspaces });
            Ok(Piece::new(start, len, centroids))
        });
        let pieces = pieces.collect::<Result<Vec<_>, KMeansError>>()?;
        Ok(ProductQuantizer { dim, bits: config.bits, pieces })
    }

    /// Pieces, m.
    pub fn subspaces(&self) -> usize {
        self.pieces.len()
    }

    /// Bits per piece.
    pub fn bits(&self) -> ProductBits {
        self.bits
    }

    /// The codebook, for [`from_bytes`](Self::from_bytes).
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(Kind::Product);
        writer.u8(match self.bits {
            ProductBits::Four => 4,
            ProductBits::Eight => 8,
        });
        writer.len(self.dim);
        writer.len(self.pieces.len());
        for piece in &self.pieces {
            writer.f32s(&piece.centroids);
        }
        writer.finish()
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// When the bytes are not such a codebook.
    pub fn from_bytes(bytes: &[u8]) -> Result<ProductQuantizer, ParametersError> {
        let mut reader = Reader::new(bytes, Kind::Product)?;
        let bits = match reader.u8()? {
            4 => ProductBits::Four,
            8 => ProductBits::Eight,
            _ => return Err(ParametersError::Invalid { field: "number of bits" }),
        };
        let dim = reader.len("dimension", 1, MAX_DIM)?;
        let subspaces = reader.len("number of pieces", 1, dim)?;
        let pieces = cuts(dim, subspaces)
            .map(|(start, len)| Ok(Piece::new(start, len, reader.f32s("centroid", bits.centroids() * len)?)));
        let pieces = pieces.collect::<Result<Vec<_>, ParametersError>>()?;
        reader.finish()?;
        Ok(ProductQuantizer { dim, bits, pieces })
    }

    /// Encodes up to [`ENCODE_STRIP`] vectors; `own` holds a piece of each of them meanwhile.
    fn encode_strip(&self, vectors: &[f32], codes: &mut [u8], own: &mut Vec<f32>) {
        let (count, bytes) = (vectors.len() / self.dim, self.code_bytes());
        let mut numbers = [0; ENCODE_STRIP];
        codes.fill(0);
        for (i, piece) in self.pieces.iter().enumerate() {
            own.clear();
            vectors.chunks_exact(self.dim).for_each(|vector| own.extend_from_slice(piece.of(vector)));
            match count {
                1 => numbers[0] = piece.search.nearest_one(own),
                _ => piece.search.nearest(own, &mut numbers[..count], None),
            }
            let (at, shift) = match self.bits {
                ProductBits::Four => (i / 2, i % 2 * 4),
                ProductBits::Eight => (i, 0),
            };
            for (code, &number) in codes.chunks_exact_mut(bytes).zip(&numbers) {
                code[at] |= (number << shift) as u8;
            }
        }
    }

    /// The centroid number of a piece in a row code.
    fn number(&self, code: &[u8], piece: usize) -> u8 {
        match self.bits {
            ProductBits::Four => (code[piece / 2] >> (piece % 2 * 4)) & 0x0F,
            ProductBits::Eight => code[piece],
        }
    }

    /// A query's terms: for every piece the comparable distances to all its centroids.
    fn terms(&self, metric: Metric, query: &[f32]) -> Vec<f32> {
        assert_eq!(query.len(), self.dim, "the query and the quantizer differ in dimension");
        let (kernels, count) = (Kernels::get(), self.bits.centroids());
        let mut terms = vec![0.0; self.pieces.len() * count];
        for (piece, terms) in self.pieces.iter().zip(terms.chunks_exact_mut(count)) {
            let (own, rows) = (piece.of(query), &piece.centroids);
            match metric {
                Metric::Euclidean => kernels.l2_squared_rows(own, rows, piece.len, 0, terms),
                Metric::Manhattan => kernels.l1_rows(own, rows, piece.len, 0, terms),
                Metric::DotProduct | Metric::Cosine => {
                    kernels.dot_rows(own, rows, piece.len, 0, terms);
                    terms.iter_mut().for_each(|term| *term = -*term);
                }
            }
        }
        terms
    }
}

impl Quantizer for ProductQuantizer {
    type Query<'a> = ProductQuery<'a>;

    fn dim(&self) -> usize {
        self.dim
    }

    fn code_bytes(&self) -> usize {
        match self.bits {
            ProductBits::Four => self.pieces.len().div_ceil(2),
            ProductBits::Eight => self.pieces.len(),
        }
    }

    fn encode(&self, vector: &[f32], code: &mut [u8]) {
        assert_eq!(vector.len(), self.dim, "the vector and the quantizer differ in dimension");
        assert_eq!(code.len(), self.code_bytes(), "the code has another length");
        self.encode_strip(vector, code, &mut Vec::new());
    }

    /// By strips, a piece at a time: the piece's centroids stay in registers or the first cache.
    fn encode_all(&self, vectors: &[f32], codes: &mut [u8]) {
        assert_batch(self, vectors, codes);
        let strips = vectors.par_chunks(ENCODE_STRIP * self.dim);
        strips
            .zip(codes.par_chunks_mut(ENCODE_STRIP * self.code_bytes()))
            .for_each_init(Vec::new, |own, (vectors, codes)| self.encode_strip(vectors, codes, own));
    }

    fn decode(&self, code: &[u8], vector: &mut [f32]) {
        assert_eq!(code.len(), self.code_bytes(), "the code has another length");
        assert_eq!(vector.len(), self.dim, "the vector and the quantizer differ in dimension");
        for (i, piece) in self.pieces.iter().enumerate() {
            let values = &mut vector[piece.start..piece.start + piece.len];
            values.copy_from_slice(piece.centroid(self.number(code, i)));
        }
    }

    /// Tables for the distances to row codes. Estimates are the exact distances to the decoded vectors, Manhattan
    /// included; under Cosine the query is normalised first.
    fn query<'a>(&'a self, metric: Metric, query: &[f32]) -> ProductQuery<'a> {
        let terms = self.terms(metric, &normalised(metric, query));
        ProductQuery { quantizer: self, terms }
    }
}

/// A query prepared for row codes; made by [`Quantizer::query`].
pub struct ProductQuery<'a> {
    quantizer: &'a ProductQuantizer,
    terms: Vec<f32>,
}

impl ProductQuery<'_> {
    /// Adds the entries for some bytes of a code, as many as there are `tables` for, to its sums: several, so that one
    /// look-up need not wait for the addition before it.
    #[inline(always)]
    fn add(&self, tables: &[f32], code: &[u8], sums: &mut [f32; SUMS]) {
        match self.quantizer.bits {
            ProductBits::Eight => {
                let (fours, left) = code.as_chunks::<SUMS>();
                let (four_tables, left_tables) = tables.split_at(fours.len() * SUMS * 256);
                for (tables, four) in four_tables.as_chunks::<{ SUMS * 256 }>().0.iter().zip(fours) {
                    for i in 0..SUMS {
                        sums[i] += tables[i * 256 + usize::from(four[i])];
                    }
                }
                for (i, (table, &number)) in left_tables.chunks_exact(256).zip(left).enumerate() {
                    sums[i] += table[usize::from(number)];
                }
            }
            ProductBits::Four => {
                for (tables, &pair) in tables.chunks(32).zip(code) {
                    sums[0] += tables[usize::from(pair & 0x0F)];
                    // The last byte of an odd number of pieces holds one.
                    if let Some(term) = tables.get(16 + usize::from(pair >> 4)) {
                        sums[1] += term;
                    }
                }
            }
        }
    }

    /// Floats of the tables for one byte of a code.
    fn byte_terms(&self) -> usize {
        match self.quantizer.bits {
            ProductBits::Eight => 256,
            ProductBits::Four => 32,
        }
    }

    #[inline]
    fn distance(&self, code: &[u8]) -> f32 {
        let mut sums = [0.0; SUMS];
        let tables = self.terms.chunks(TILE_BYTES * self.byte_terms());
        for (tables, code) in tables.zip(code.chunks(TILE_BYTES)) {
            self.add(tables, code, &mut sums);
        }
        sums.iter().sum()
    }

    /// The distances to up to [`STRIP`] codes: some tables after the other, so that those stay in the first cache.
    fn strip(&self, codes: &[u8], out: &mut [f32]) {
        let mut sums = [[0.0; SUMS]; STRIP];
        let bytes = self.quantizer.code_bytes();
        for (tile, tables) in self.terms.chunks(TILE_BYTES * self.byte_terms()).enumerate() {
            let from = tile * TILE_BYTES;
            let to = (from + TILE_BYTES).min(bytes);
            for (code, sums) in codes.chunks_exact(bytes).zip(&mut sums) {
                self.add(tables, &code[from..to], sums);
            }
        }
        out.iter_mut().zip(sums).for_each(|(out, sums)| *out = sums.iter().sum());
    }
}

impl CodeQuery for ProductQuery<'_> {
    fn distances(&self, codes: &[u8], out: &mut [f32]) {
        let bytes = self.quantizer.code_bytes();
        assert_eq!(codes.len(), out.len() * bytes, "as many codes as distances");
        for (codes, out) in codes.chunks(STRIP * bytes).zip(out.chunks_mut(STRIP)) {
            self.strip(codes, out);
        }
    }

    fn gather(&self, codes: &[u8], rows: &[u32], out: &mut [f32]) {
        assert_eq!(rows.len(), out.len(), "as many distances as rows");
        let bytes = self.quantizer.code_bytes();
        for (i, (&row, out)) in rows.iter().zip(out).enumerate() {
            if let Some(&ahead) = rows.get(i + ROWS_AHEAD) {
                vdb_distance::prefetch(codes, ahead as usize * bytes, bytes.div_ceil(64).min(4));
            }
            *out = self.distance(&codes[row as usize * bytes..][..bytes]);
        }
    }
}

#[cfg(test)]
mod tests;
