//! Blocks of 32 codes that are scanned together, and the look-up tables of a query for them.
//!
//! Tables hold a query's terms as u8 (or u16, as two u8 tables) with one step for all tables, so that sums are
//! comparable: entry = round((term − least of its table) / step). The tables' least terms add up to one offset.
//! Invariant: `offset + step·sum` is off by at most `step/2` a table from the sum of the terms.

use crate::kernels::fastscan::{BLOCK, FastScan, TABLE_BYTES};

/// Vectors in a block.
pub const BLOCK_VECTORS: usize = BLOCK;

/// A query prepared for blocks of [`BLOCK_VECTORS`] codes: distances to a whole block at a time, smaller is closer.
pub trait BlockQuery {
    /// Bytes per block.
    fn block_bytes(&self) -> usize;

    /// Estimates the distances to the vectors of `block`.
    ///
    /// # Panics
    /// When `block` does not have [`block_bytes`](Self::block_bytes) bytes.
    fn scan_block(&self, block: &[u8], out: &mut [f32; BLOCK_VECTORS]);

    /// [`scan_block`](Self::scan_block), unless no bit of `mask` is set: then the block is not even read, `out` stays
    /// as it is and the answer is false. Distances of vectors outside the mask mean nothing.
    ///
    /// # Panics
    /// As [`scan_block`](Self::scan_block).
    fn scan_block_masked(&self, block: &[u8], mask: u32, out: &mut [f32; BLOCK_VECTORS]) -> bool {
        if mask != 0 {
            self.scan_block(block, out);
        }
        mask != 0
    }
}

/// The tables of one query.
#[derive(Debug, Clone)]
pub(crate) struct Tables {
    low: Vec<u8>,
    /// The more significant bytes; empty in tables of eight bits.
    high: Vec<u8>,
    step: f32,
    offset: f32,
}

impl Tables {
    /// From sixteen terms a table.
    pub(crate) fn new(terms: &[f32], wide: bool) -> Tables {
        let least = |table: &[f32]| table.iter().fold(f32::INFINITY, |a, &b| a.min(b));
        let range = |table: &[f32]| table.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b)) - least(table);
        let widest = terms.chunks_exact(TABLE_BYTES).map(range).fold(0.0, f32::max);
        let levels = if wide { 65_535.0 } else { 255.0 };
        let step = if widest > 0.0 && widest.is_finite() { widest / levels } else { 1.0 };
        let mut tables = Tables { low: Vec::with_capacity(terms.len()), high: Vec::new(), step, offset: 0.0 };
        let (mut offset, inverse) = (0.0_f64, 1.0 / step);
        for table in terms.chunks_exact(TABLE_BYTES) {
            let least = least(table);
            offset += f64::from(least);
            for &term in table {
                // Adding a half and cutting off rounds a positive number without a call; the minimum, because rounding
                // can lift the widest table's last entry by one step otherwise.
                let entry = ((term - least) * inverse + 0.5).min(levels) as u16;
                tables.low.push(entry as u8);
                if wide {
                    tables.high.push((entry >> 8) as u8);
                }
            }
        }
        tables.offset = offset as f32;
        tables
    }

    /// Bytes of a block's codes.
    pub(crate) fn code_bytes(&self) -> usize {
        self.low.len()
    }

    /// The sums for a block's codes.
    #[inline]
    pub(crate) fn sums(&self, kernel: FastScan, codes: &[u8], out: &mut [f32; BLOCK]) {
        let mut sums = [0; BLOCK];
        kernel.scan(codes, &self.low, &mut sums);
        if !self.high.is_empty() {
            let mut high = [0; BLOCK];
            kernel.scan(codes, &self.high, &mut high);
            // A sum of 16-bit entries fits: 65,535 times 16,384 tables of the greatest dimension.
            sums.iter_mut().zip(high).for_each(|(sum, high)| *sum += high << 8);
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = self.offset + self.step * sum as f32;
        }
    }

    /// How far a sum may be from the sum of its terms: the worst case, or four standard deviations of as many even
    /// rounding errors, whichever is less.
    pub(crate) fn error(&self) -> f32 {
        let count = (self.low.len() / TABLE_BYTES) as f32;
        self.step * (count / 2.0).min(4.0 * (count / 12.0).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::kernels::fastscan;

    #[test]
    fn sums_are_within_the_stated_error() {
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        for wide in [false, true] {
            for count in [1, 5, 32, 300] {
                let terms: Vec<f32> = (0..count * 16).map(|_| rng.random_range(-3.0..5.0)).collect();
                let codes: Vec<u8> = (0..count * 16).map(|_| rng.random()).collect();
                let tables = Tables::new(&terms, wide);
                assert_eq!(tables.code_bytes(), codes.len());
                let mut out = [0.0; BLOCK];
                tables.sums(FastScan::get(), &codes, &mut out);
                for (vector, &sum) in out.iter().enumerate() {
                    let exact: f64 = (0..count)
                        .map(|t| f64::from(terms[t * 16 + usize::from(fastscan::nibble(&codes, t, vector))]))
                        .sum();
                    let error = (f64::from(sum) - exact).abs();
                    assert!(
                        error <= f64::from(tables.error()) + 1e-4 * count as f64,
                        "{wide} {count} {error}"
                    );
                }
            }
        }
    }
}
