//! Blocks of 32 codes that are scanned together, and the look-up tables of a query for them.
//!
//! Tables hold a query's terms as u8 (or u16, as two u8 tables) with one step for all tables, so that sums are
//! comparable: entry = round((term − least of its table) / step). The tables' least terms add up to one offset.
//! Invariant: `offset + step·sum` is off by at most `step/2` a table from the sum of the terms.

use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use vdb_distance::Isa;
use vdb_distance::Kernels;

use crate::kernels::fastscan::{BLOCK, FastScan, TABLE_BYTES, Tables8, padded_bytes};

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

/// # Safety
/// Of the calls: the CPU has the function's instructions.
type OfLevels = unsafe fn(&[f32], u8, bool) -> Tables;

/// The tables of one query.
#[derive(Debug, Clone)]
pub(crate) struct Tables {
    low: Vec<u8>,
    /// The more significant bytes; empty in tables of eight bits.
    high: Vec<u8>,
    /// Tables that are not padding.
    count: usize,
    pub(crate) step: f32,
    pub(crate) offset: f32,
}

impl Tables {
    /// From sixteen terms a table.
    pub(crate) fn new(terms: &[f32], wide: bool) -> Tables {
        let least = |table: &[f32]| table.iter().fold(f32::INFINITY, |a, &b| a.min(b));
        let range = |table: &[f32]| table.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b)) - least(table);
        let widest = terms.chunks_exact(TABLE_BYTES).map(range).fold(0.0, f32::max);
        let offset = terms.chunks_exact(TABLE_BYTES).map(|table| f64::from(least(table))).sum::<f64>();
        let mut tables = Tables::empty(terms.len() / TABLE_BYTES, widest, offset as f32, wide);
        let entries = terms.chunks_exact(TABLE_BYTES).map(|table| {
            let least = least(table);
            std::array::from_fn(|i| table[i] - least)
        });
        tables.fill(entries);
        tables
    }

    /// For every `values` coordinates of a rotated query, `4 / bits` of them, the sums Σ (level − middle)·q over all
    /// levels of `bits` bits, 1 or 2, the first coordinate's level in the lowest bits of the nibble.
    ///
    /// Less its least value, a coordinate's term is level·|q|, counted from above where q is negative: so a table's
    /// least term is known, and so is its range.
    pub(crate) fn of_levels(rotated: &[f32], bits: u8, wide: bool) -> Tables {
        static CHOSEN: OnceLock<OfLevels> = OnceLock::new();
        let of_levels = CHOSEN.get_or_init(|| match Kernels::get().isa() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512
                if std::arch::is_x86_feature_detected!("avx512bw")
                    && std::arch::is_x86_feature_detected!("avx512dq")
                    && std::arch::is_x86_feature_detected!("avx512vl") =>
            {
                of_levels_avx512
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512 if std::arch::is_x86_feature_detected!("avx2") => of_levels_avx2,
            _ => of_levels,
        });
        // SAFETY: chosen for what this CPU has; the body is safe code.
        unsafe { of_levels(rotated, bits, wide) }
    }

    fn empty(count: usize, widest: f32, offset: f32, wide: bool) -> Tables {
        let levels = if wide { 65_535.0 } else { 255.0 };
        let step = if widest > 0.0 && widest.is_finite() { widest / levels } else { 1.0 };
        let bytes = padded_bytes(count);
        Tables { low: vec![0; bytes], high: vec![0; if wide { bytes } else { 0 }], count, step, offset }
    }

    /// Rounds entries that are not negative.
    #[inline(always)]
    fn fill(&mut self, entries: impl Iterator<Item = [f32; TABLE_BYTES]>) {
        let inverse = 1.0 / self.step;
        if self.high.is_empty() {
            for (low, terms) in self.low.as_chunks_mut::<TABLE_BYTES>().0.iter_mut().zip(entries) {
                for (low, term) in low.iter_mut().zip(terms) {
                    *low = entry(term, inverse, 255.0) as u8;
                }
            }
            return;
        }
        let tables = self.low.as_chunks_mut::<TABLE_BYTES>().0.iter_mut();
        for ((low, high), terms) in tables.zip(self.high.as_chunks_mut::<TABLE_BYTES>().0).zip(entries) {
            for ((low, high), term) in low.iter_mut().zip(high).zip(terms) {
                [*low, *high] = (entry(term, inverse, 65_535.0) as u16).to_le_bytes();
            }
        }
    }

    /// Bytes of a block's codes.
    pub(crate) fn code_bytes(&self) -> usize {
        self.low.len()
    }

    pub(crate) fn bytes(&self) -> Tables8<'_> {
        Tables8 { low: &self.low, high: &self.high }
    }

    /// The sums for a block's codes.
    #[inline]
    pub(crate) fn sums(&self, kernel: FastScan, codes: &[u8], out: &mut [f32; BLOCK]) {
        let mut sums = [0; BLOCK];
        kernel.scan(codes, &self.low, &mut sums);
        if !self.high.is_empty() {
            let mut high = [0; BLOCK];
            kernel.scan(codes, &self.high, &mut high);
            // A sum of 16-bit entries fits: 65,535 times 32,768 tables of the greatest dimension at two bits.
            sums.iter_mut().zip(high).for_each(|(sum, high)| *sum += high << 8);
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = self.offset + self.step * sum as f32;
        }
    }

    /// How far a sum may be from the sum of its terms: the worst case, or four standard deviations of as many even
    /// rounding errors, whichever is less.
    pub(crate) fn error(&self) -> f32 {
        let count = self.count as f32;
        self.step * (count / 2.0).min(4.0 * (count / 12.0).sqrt())
    }

    /// One standard deviation of a sum's rounding error.
    pub(crate) fn deviation(&self) -> f32 {
        self.step * (self.count as f32 / 12.0).sqrt()
    }
}

/// Adding a half and cutting off rounds a positive number without a call; the minimum, because rounding can lift the
/// widest table's last entry by one step otherwise.
#[inline(always)]
fn entry(term: f32, inverse: f32, levels: f32) -> i32 {
    let value = (term * inverse + 0.5).max(0.0).min(levels);
    // SAFETY: between 0 and 65,535, as `max` and `min` turn what is not a number into one of theirs.
    unsafe { value.to_int_unchecked() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn of_levels_avx512(rotated: &[f32], bits: u8, wide: bool) -> Tables {
    of_levels(rotated, bits, wide)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn of_levels_avx2(rotated: &[f32], bits: u8, wide: bool) -> Tables {
    of_levels(rotated, bits, wide)
}

#[inline(always)]
fn of_levels(rotated: &[f32], bits: u8, wide: bool) -> Tables {
    match bits {
        1 => of_levels_of::<4, 1>(rotated, wide),
        _ => of_levels_of::<2, 2>(rotated, wide),
    }
}

/// `V` coordinates a table, `B` bits each.
#[inline(always)]
fn of_levels_of<const V: usize, const B: u32>(rotated: &[f32], wide: bool) -> Tables {
    const { assert!(V * B as usize == 4) };
    let last = ((1_u32 << B) - 1) as f32;
    let (groups, _) = rotated.as_chunks::<V>();
    let size = |group: &[f32; V]| group.iter().map(|q| q.abs()).sum::<f32>();
    let widest = groups.iter().map(|group| last * size(group)).fold(0.0, f32::max);
    let offset = -0.5 * f64::from(last) * groups.iter().map(|group| f64::from(size(group))).sum::<f64>();
    let mut tables = Tables::empty(groups.len(), widest, offset as f32, wide);
    // Level of coordinate v in nibble i.
    let levels: [[f32; TABLE_BYTES]; V] =
        std::array::from_fn(|v| std::array::from_fn(|i| ((i >> (v * B as usize)) & ((1 << B) - 1)) as f32));
    tables.fill(groups.iter().map(|group| {
        let mut terms = [0.0; TABLE_BYTES];
        for (levels, &q) in levels.iter().zip(group) {
            // level·q for positive q, (last − level)·|q| for negative.
            let least = last * (-q).max(0.0);
            for (term, level) in terms.iter_mut().zip(levels) {
                *term += level * q + least;
            }
        }
        terms
    }));
    tables
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
                let codes: Vec<u8> = (0..padded_bytes(count)).map(|_| rng.random()).collect();
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
