//! The two traits that every code in this crate implements: how vectors become bytes, and how a query reads them.

use rayon::prelude::*;
use vdb_distance::Metric;

/// Turns vectors of one dimension into codes of one length.
pub trait Quantizer: Send + Sync {
    /// A query prepared for this quantizer's codes.
    type Query<'a>: CodeQuery
    where
        Self: 'a;

    /// Values per vector.
    fn dim(&self) -> usize;

    /// Bytes per code.
    fn code_bytes(&self) -> usize;

    /// Writes the code of `vector`.
    ///
    /// # Panics
    /// When `vector` does not have [`dim`](Self::dim) values or `code` not [`code_bytes`](Self::code_bytes) bytes.
    fn encode(&self, vector: &[f32], code: &mut [u8]);

    /// Encodes consecutive vectors into consecutive codes on all threads of the current pool; each code is that of
    /// [`encode`](Self::encode).
    ///
    /// # Panics
    /// When `vectors` are no whole vectors or `codes` not as many codes.
    fn encode_all(&self, vectors: &[f32], codes: &mut [u8]) {
        assert_batch(self, vectors, codes);
        let vectors = vectors.par_chunks_exact(self.dim()).with_min_len(16);
        vectors
            .zip(codes.par_chunks_exact_mut(self.code_bytes()))
            .for_each(|(vector, code)| self.encode(vector, code));
    }

    /// Writes the vector that `code` stands for.
    ///
    /// # Panics
    /// As [`encode`](Self::encode).
    fn decode(&self, code: &[u8], vector: &mut [f32]);

    /// Prepares `query` for distances under `metric`.
    ///
    /// # Panics
    /// When `query` does not have [`dim`](Self::dim) values.
    fn query<'a>(&'a self, metric: Metric, query: &[f32]) -> Self::Query<'a>;
}

/// A prepared query: comparable distances to codes, smaller is closer.
///
/// Comparable distances are those of `vdb_distance`: squared under Euclidean, negated under DotProduct; under Cosine
/// the negated product with vectors that were normalised before they were encoded.
pub trait CodeQuery {
    /// Estimates the distances to consecutive codes: `codes.len() / code_bytes` of them.
    ///
    /// # Panics
    /// When `codes` is not `out.len()` whole codes.
    fn distances(&self, codes: &[u8], out: &mut [f32]);

    /// The same for the codes with these row numbers out of `codes`.
    ///
    /// # Panics
    /// When a row is not in `codes`, or `rows` and `out` differ in length.
    fn gather(&self, codes: &[u8], rows: &[u32], out: &mut [f32]);
}

/// Checks that `vectors` are whole vectors and `codes` as many codes.
pub(crate) fn assert_batch<Q: Quantizer + ?Sized>(quantizer: &Q, vectors: &[f32], codes: &[u8]) {
    let (dim, bytes) = (quantizer.dim(), quantizer.code_bytes());
    assert!(vectors.len().is_multiple_of(dim), "{} values are not whole vectors of {dim}", vectors.len());
    assert_eq!(codes.len(), vectors.len() / dim * bytes, "one code of {bytes} bytes per vector");
}
