//! Eight-bit codes of heads, row by row: the same bound with a code that leaves next to nothing across it.
//!
//! A scan of the four-bit codes leaves rows that its coarse codes cannot exclude, several times more than exact heads
//! would. Of these a second look takes two to four cache lines a row, not all of the vector.
//!
//! A row is its m codes, c = 2 · code − 255, and β, 1/‖c‖, ρ and the least ‖x_t‖ as `f32`. A row without bounds has a ρ
//! that is no number.

use super::query::Constants;
use super::{HeadQuery, HeadRanges, HeadRow, MAX_FINE_CODE, kernel};
use crate::kernels::int8::{Int8Kernels, QueryCodes};
use vdb_distance::AlignedVec;

/// Bytes of a row's lengths.
const FACTOR_BYTES: usize = 16;
/// Rows that are looked at together.
const TOGETHER: usize = 32;

/// Eight-bit codes and lengths of any number of rows.
#[derive(Debug, Clone)]
pub struct FineHeadCodes {
    m: usize,
    /// What tails and norms of rows with bounds are within.
    ranges: HeadRanges,
    rows: AlignedVec<u8>,
}

/// A query prepared by [`FineHeadCodes::query`].
#[derive(Debug, Clone)]
pub struct FineHeadQuery {
    codes: QueryCodes,
    /// 255 times the sum of the query's integers.
    correction: i64,
    constants: Constants,
}

impl FineHeadCodes {
    /// No rows yet, of heads of `m` coordinates, and tails and norms within `ranges`.
    pub fn new(m: usize, ranges: HeadRanges) -> Self {
        Self { m, ranges: ranges.of_lengths(), rows: AlignedVec::new() }
    }

    /// Bytes of a row of heads of `m` coordinates.
    pub fn row_bytes(m: usize) -> usize {
        (m + FACTOR_BYTES).next_multiple_of(FACTOR_BYTES)
    }

    fn stride(&self) -> usize {
        Self::row_bytes(self.m)
    }

    /// Heap bytes held.
    pub fn bytes(&self) -> usize {
        self.rows.bytes()
    }

    /// Makes room for `additional` rows.
    pub fn reserve(&mut self, additional: usize) {
        self.rows.reserve_exact(additional * self.stride());
    }

    /// Appends a row of [`HeadBasis::encode_both`](super::HeadBasis::encode_both).
    ///
    /// # Panics
    /// When the row has another number of coordinates.
    pub fn push(&mut self, row: &HeadRow) {
        self.rows.resize(self.rows.len() + self.stride(), 0);
        self.set(self.rows.len() / self.stride() - 1, row);
    }

    /// Overwrites a row.
    ///
    /// # Panics
    /// When there is no such row, or it has another number of coordinates.
    pub fn set(&mut self, index: usize, row: &HeadRow) {
        assert_eq!(row.codes.len(), self.m, "coordinates of a row");
        let (m, stride) = (self.m, self.stride());
        let place = &mut self.rows[index * stride..(index + 1) * stride];
        place[..m].copy_from_slice(&row.codes);
        let fits = |tail: (f32, f32), norm: f32| {
            norm <= self.ranges.norm
                && f64::from(tail.0) + f64::from(self.ranges.tail_width) >= f64::from(tail.1)
        };
        let lengths = row.lengths.filter(|lengths| fits(lengths.tail, lengths.norm));
        let factors = lengths.map_or([0.0, 0.0, f32::NAN, 0.0], |lengths| {
            [lengths.along, lengths.inverse_norm, lengths.across, lengths.tail.0]
        });
        for (bytes, factor) in place[stride - FACTOR_BYTES..].chunks_exact_mut(4).zip(factors) {
            bytes.copy_from_slice(&factor.to_le_bytes());
        }
    }

    /// Prepares the bounds of a query's distances.
    ///
    /// # Panics
    /// When the query is for a basis of another length.
    pub fn query(&self, query: &HeadQuery) -> FineHeadQuery {
        assert_eq!(query.integers.len(), self.m, "the query's head has another length");
        let mut codes = QueryCodes::bytes(&[&[]]);
        codes.replace_words(&query.integers);
        let sum: i64 = query.integers.iter().map(|&integer| i64::from(integer)).sum();
        let mut constants = query.constants(&query.full, &self.ranges, self.m);
        // Lengths are kept as they are, not in steps.
        (constants.along_step, constants.across_step, constants.tail_step) = (1.0, 1.0, 1.0);
        constants.unit = query.full.unit;
        FineHeadQuery { codes, correction: i64::from(MAX_FINE_CODE) * sum, constants }
    }

    /// Lower bounds of the comparable distances of rows; what has no bound is −∞ or NaN.
    ///
    /// # Panics
    /// When `rows` and `lower` differ in length, or a row does not exist.
    pub fn lower_bounds(&self, query: &FineHeadQuery, rows: &[u32], lower: &mut [f32]) {
        assert_eq!(rows.len(), lower.len(), "as many bounds as rows are written");
        let stride = self.stride();
        let mut products = [0; 2 * TOGETHER];
        for (rows, lower) in rows.chunks(TOGETHER).zip(lower.chunks_mut(TOGETHER)) {
            let products = &mut products[..2 * rows.len()];
            Int8Kernels::get().gather(&query.codes, &self.rows, stride, rows, products);
            for ((&row, lower), sums) in rows.iter().zip(lower).zip(products.as_chunks::<2>().0) {
                let end = (row as usize + 1) * stride;
                let factors = self.rows[end - FACTOR_BYTES..end].as_chunks::<4>().0;
                let steps = [0, 1, 2, 3].map(|place| f32::from_le_bytes(factors[place]));
                let product = 256 * i64::from(sums[0]) + i64::from(sums[1]);
                let sum = (2 * product - query.correction) as f32;
                let (q, is_dot) = (&query.constants, query.constants.is_dot);
                let bound = if is_dot {
                    kernel::bound::<true>(q, sum, steps)
                } else {
                    kernel::bound::<false>(q, sum, steps)
                };
                *lower = if steps[2].is_nan() { f32::NEG_INFINITY } else { bound };
            }
        }
    }
}
