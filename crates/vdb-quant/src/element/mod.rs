//! Shorter number formats for vectors as they are: half precision, bfloat16 and bytes, compared with queries in `f32`.
//!
//! No rotation, no scale, no training: a code is the vector's values one after the other, little-endian. Half
//! precision keeps 11 significant bits within ±65,504, bfloat16 8 bits over the whole range of `f32`, bytes the whole
//! numbers from 0 to 255 exactly. Values beyond a format's range become its nearest finite value, so that finite
//! vectors stay finite. Distances are computed in single precision, in double where that overflows.

#[cfg(test)]
mod tests;

use vdb_distance::{Bf16, ElementType, F16, Kernels, Matrix, Metric, Number, Sum, U8};

use crate::{CodeQuery, Quantizer};

/// Vectors in half precision (IEEE 754 binary16), rounded to nearest.
pub type F16Codec = ElementCodec<F16>;
/// Vectors in bfloat16, the upper half of `f32`, rounded to nearest.
pub type Bf16Codec = ElementCodec<Bf16>;
/// Vectors of bytes: whole numbers from 0 to 255 exactly, others rounded to the nearest of those.
pub type U8Codec = ElementCodec<U8>;

/// Encodes each value of a vector on its own, in a shorter format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ElementCodec<N: Number> {
    dim: usize,
    number: std::marker::PhantomData<N>,
}

impl<N: Number> ElementCodec<N> {
    /// A codec for vectors of `dim` values.
    pub fn new(dim: usize) -> ElementCodec<N> {
        ElementCodec { dim, number: std::marker::PhantomData }
    }
}

impl<N: Number> Quantizer for ElementCodec<N> {
    type Query<'a> = ElementQuery;

    fn dim(&self) -> usize {
        self.dim
    }

    fn code_bytes(&self) -> usize {
        self.dim * N::BYTES
    }

    fn encode(&self, vector: &[f32], code: &mut [u8]) {
        self.assert_lengths(vector, code);
        N::TYPE.encode(vector, code);
    }

    fn decode(&self, code: &[u8], vector: &mut [f32]) {
        self.assert_lengths(vector, code);
        N::TYPE.decode(code, vector);
    }

    fn query(&self, metric: Metric, query: &[f32]) -> ElementQuery {
        assert_eq!(query.len(), self.dim, "queries of {} values", self.dim);
        let (sum, sign) = match metric {
            Metric::Euclidean => (Sum::L2Squared, 1.0),
            Metric::Manhattan => (Sum::L1, 1.0),
            Metric::DotProduct | Metric::Cosine => (Sum::Dot, -1.0),
        };
        ElementQuery { kernels: *Kernels::get(), query: query.to_vec(), element: N::TYPE, sum, sign }
    }
}

impl<N: Number> ElementCodec<N> {
    fn assert_lengths(&self, vector: &[f32], code: &[u8]) {
        assert_eq!(vector.len(), self.dim, "vectors of {} values", self.dim);
        assert_eq!(code.len(), self.code_bytes(), "codes of {} bytes", self.code_bytes());
    }
}

/// A query of an [`ElementCodec`], in single precision. All metrics are known; DotProduct and Cosine give the negated
/// product of the query, as it was given, with the vector as it was encoded.
#[derive(Debug, Clone)]
pub struct ElementQuery {
    kernels: Kernels,
    query: Vec<f32>,
    element: ElementType,
    sum: Sum,
    sign: f32,
}

impl ElementQuery {
    #[cfg(test)]
    fn with_kernels(self, kernels: Kernels) -> ElementQuery {
        ElementQuery { kernels, ..self }
    }

    fn codes<'a>(&self, codes: &'a [u8]) -> Matrix<'a> {
        Matrix::new(self.element, codes, self.query.len())
    }

    fn finish(&self, out: &mut [f32]) {
        out.iter_mut().for_each(|value| *value *= self.sign);
    }
}

impl CodeQuery for ElementQuery {
    fn distances(&self, codes: &[u8], out: &mut [f32]) {
        let code_bytes = self.query.len() * self.element.bytes();
        let expected = out.len().checked_mul(code_bytes);
        assert_eq!(Some(codes.len()), expected, "{} codes of {code_bytes} bytes", out.len());
        self.kernels.rows(self.sum, &self.query, self.codes(codes), 0, out);
        self.finish(out);
    }

    fn gather(&self, codes: &[u8], rows: &[u32], out: &mut [f32]) {
        self.kernels.gather(self.sum, &self.query, self.codes(codes), rows, out);
        self.finish(out);
    }
}
