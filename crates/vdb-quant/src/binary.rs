//! Binary codes: the signs of a vector's values, compared by the number of bits in which they differ.
//!
//! Bit `i % 8` of byte `i / 8` is set when value i of the vector, less the centre and rotated, is above zero. Codes are padded with
//! zeros to whole words of 8 bytes, so every row of a matrix of codes is read in words. Invariant: two codes' bits
//! past the dimension are equal and count for nothing.
//!
//! For vectors whose directions are even, the share h/d of differing bits of centred (better: rotated) vectors tells
//! the angle, h/d ≈ θ/π; unlike RaBitQ it is no estimate of the distance. It orders candidates for a rerank.

use vdb_distance::Metric;

use crate::kernels::hamming::{Hamming, WORD};
use crate::parameters::{Kind, ParametersError, Reader, Writer};
use crate::quantizer::{CodeQuery, Quantizer};
use crate::rotation::{MAX_DIM, Rotation};

/// Rows whose distances are counted at a time.
const STRIP: usize = 64;

/// The quantizer.
///
/// Its queries give the Hamming distance under every metric: an order, not a distance of the metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Binary {
    /// Zeros in a quantizer without a centre.
    centre: Vec<f32>,
    rotation: Rotation,
}

impl Binary {
    /// Signs of the values themselves.
    ///
    /// # Panics
    /// When `dim` is 0.
    #[must_use]
    pub fn new(dim: usize) -> Binary {
        Binary::centred(vec![0.0; dim])
    }

    /// Signs of the differences to `centre`, best the mean or the median of the vectors.
    ///
    /// # Panics
    /// When `centre` is empty.
    #[must_use]
    pub fn centred(centre: Vec<f32>) -> Binary {
        let rotation = Rotation::identity(centre.len());
        Binary::rotated(centre, rotation)
    }

    /// Signs of the rotated differences to `centre`: after a random rotation every bit tells as much as any other,
    /// whatever the scales and correlations of the values are.
    ///
    /// # Panics
    /// When the rotation takes vectors of another dimension or has a centre of its own.
    #[must_use]
    pub fn rotated(centre: Vec<f32>, rotation: Rotation) -> Binary {
        assert_eq!(centre.len(), rotation.dim(), "the centre and the rotation differ in dimension");
        assert!(rotation.centre().is_none(), "a rotation without a centre of its own");
        Binary { centre, rotation }
    }

    /// The centre; zeros if none was given.
    pub fn centre(&self) -> &[f32] {
        &self.centre
    }

    /// The centre and the rotation, for [`from_bytes`](Self::from_bytes).
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(Kind::Binary);
        writer.len(self.centre.len());
        writer.f32s(&self.centre);
        writer.nested(&self.rotation.to_bytes());
        writer.finish()
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// When the bytes are not such parameters.
    pub fn from_bytes(bytes: &[u8]) -> Result<Binary, ParametersError> {
        let mut reader = Reader::new(bytes, Kind::Binary)?;
        let dim = reader.len("dimension", 1, MAX_DIM)?;
        let centre = reader.f32s("centre", dim)?;
        let invalid = ParametersError::Invalid { field: "rotation" };
        let rotation = Rotation::from_bytes(reader.nested()?).map_err(|_| invalid.clone())?;
        reader.finish()?;
        if rotation.dim() != dim || rotation.centre().is_some() {
            return Err(invalid);
        }
        Ok(Binary { centre, rotation })
    }

    /// The rotated difference to the centre.
    fn placed(&self, vector: &[f32]) -> Vec<f32> {
        assert_eq!(vector.len(), self.centre.len(), "the vector and the quantizer differ in dimension");
        let difference: Vec<f32> =
            vector.iter().zip(&self.centre).map(|(value, centre)| value - centre).collect();
        let mut rotated = vec![0.0; self.rotation.output_dim()];
        self.rotation.apply(&difference, &mut rotated);
        rotated
    }
}

impl Quantizer for Binary {
    type Query<'a> = BinaryQuery;

    fn dim(&self) -> usize {
        self.centre.len()
    }

    fn code_bytes(&self) -> usize {
        self.rotation.output_dim().div_ceil(8).next_multiple_of(WORD)
    }

    fn encode(&self, vector: &[f32], code: &mut [u8]) {
        assert_eq!(code.len(), self.code_bytes(), "the code has another length");
        code.fill(0);
        for (byte, values) in code.iter_mut().zip(self.placed(vector).chunks(8)) {
            *byte = values.iter().enumerate().fold(0, |byte, (i, &value)| byte | u8::from(value > 0.0) << i);
        }
    }

    /// One above or below the centre in every rotated value: a direction, as the lengths are lost.
    fn decode(&self, code: &[u8], vector: &mut [f32]) {
        assert_eq!(vector.len(), self.centre.len(), "the vector and the quantizer differ in dimension");
        assert_eq!(code.len(), self.code_bytes(), "the code has another length");
        let sign = |i: usize| if code[i / 8] >> (i % 8) & 1 == 1 { 1.0 } else { -1.0 };
        let signs: Vec<f32> = (0..self.rotation.output_dim()).map(sign).collect();
        self.rotation.apply_inverse(&signs, vector);
        vector.iter_mut().zip(&self.centre).for_each(|(value, centre)| *value += centre);
    }

    fn query(&self, _metric: Metric, query: &[f32]) -> BinaryQuery {
        let mut code = vec![0; self.code_bytes()];
        self.encode(query, &mut code);
        BinaryQuery { code, kernel: Hamming::get() }
    }
}

/// A query's own code; made by [`Quantizer::query`].
#[derive(Clone)]
pub struct BinaryQuery {
    code: Vec<u8>,
    kernel: Hamming,
}

impl BinaryQuery {
    /// Hamming distances to consecutive codes.
    ///
    /// # Panics
    /// When `codes` is not `out.len()` whole codes.
    pub fn hamming(&self, codes: &[u8], out: &mut [u32]) {
        self.kernel.rows(&self.code, codes, out);
    }
}

impl CodeQuery for BinaryQuery {
    fn distances(&self, codes: &[u8], out: &mut [f32]) {
        let bytes = self.code.len();
        assert_eq!(codes.len(), out.len() * bytes, "as many codes as distances");
        let mut counts = [0; STRIP];
        for (codes, out) in codes.chunks(STRIP * bytes).zip(out.chunks_mut(STRIP)) {
            let counts = &mut counts[..out.len()];
            self.kernel.rows(&self.code, codes, counts);
            out.iter_mut().zip(counts).for_each(|(out, count)| *out = *count as f32);
        }
    }

    fn gather(&self, codes: &[u8], rows: &[u32], out: &mut [f32]) {
        assert_eq!(rows.len(), out.len(), "as many distances as rows");
        let mut counts = [0; STRIP];
        for (rows, out) in rows.chunks(STRIP).zip(out.chunks_mut(STRIP)) {
            let counts = &mut counts[..out.len()];
            self.kernel.gather(&self.code, codes, rows, counts);
            out.iter_mut().zip(counts).for_each(|(out, count)| *out = *count as f32);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn codes_are_signs_and_distances_count_them() {
        for dim in [1, 7, 8, 64, 65, 100, 768] {
            let value = |i: usize| ((i * 2654435761) % 1000) as f32 / 500.0 - 1.0;
            let rows: Vec<f32> = (0..80 * dim).map(value).collect();
            let quantizer = Binary::centred((0..dim).map(|i| value(i + 5) / 4.0).collect());
            let bytes = quantizer.code_bytes();
            let mut codes = vec![0; 80 * bytes];
            for (row, code) in rows.chunks_exact(dim).zip(codes.chunks_exact_mut(bytes)) {
                quantizer.encode(row, code);
            }
            let query = quantizer.query(Metric::Cosine, &rows[..dim]);
            let (mut all, mut some) = ([0.0; 80], [0.0; 3]);
            query.distances(&codes, &mut all);
            query.gather(&codes, &[79, 0, 3], &mut some);
            assert_eq!(some, [all[79], 0.0, all[3]]);
            for (row, &distance) in rows.chunks_exact(dim).zip(&all) {
                let above = |vector: &[f32], i: usize| vector[i] > quantizer.centre()[i];
                let count = (0..dim).filter(|&i| above(row, i) != above(&rows, i)).count();
                assert_eq!(distance, count as f32);
            }
            let (mut decoded, mut again) = (vec![0.0; dim], vec![0; bytes]);
            quantizer.decode(&codes[..bytes], &mut decoded);
            quantizer.encode(&decoded, &mut again);
            assert_eq!(again, codes[..bytes]);
            assert_eq!(Binary::from_bytes(&quantizer.to_bytes()).unwrap(), quantizer);
            let turned = Binary::rotated(quantizer.centre().to_vec(), Rotation::fht(dim, 3));
            assert_eq!(turned.code_bytes(), dim.next_multiple_of(64) / 8);
            assert_eq!(Binary::from_bytes(&turned.to_bytes()).unwrap(), turned);
        }
        assert_eq!(Binary::new(3).centre(), &[0.0; 3]);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_an_error_or_a_quantizer(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            if bytes.len() > 10 {
                bytes[..10].copy_from_slice(&[5, 1, 4, 0, 0, 0, 0, 0, 0, 0]);
            }
            if let Ok(quantizer) = Binary::from_bytes(&bytes) {
                prop_assert_eq!(quantizer.to_bytes(), bytes);
            }
        }
    }
}
