//! The two traits that every code in this crate implements: how vectors become bytes, and how a query reads them.

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
