//! FastScan: sums of table look-ups for 32 codes at a time, with tables that stay in registers (André, Kermarrec &
//! Le Scouarnec, "Cache locality is not enough", 2015).
//!
//! A code is M nibbles, and nibble t picks one of the sixteen bytes of table t; a vector's sum is over its M picks.
//! Tables come in groups of four, so that the four picks of a vector lie in one 32-bit word.
//!
//! ```text
//! block:  64 bytes per group g; byte 4i + j holds nibble 4g + j of vectors i (low) and 16 + i (high), i in 0..16
//! tables: 64 bytes per group g; byte 16j + c is what nibble c of table 4g + j adds
//! ```
//!
//! With AVX-512 VBMI a group is one look-up of 64 bytes in a table of 64, and `vpdpbusd` adds each word's four picks
//! to a 32-bit sum: no widening and no overflow. AVX2 first gathers the bytes of one table (a transpose of words),
//! NEON loads them apart (`ld4`). Groups that are not full are padded with tables of zeros.
//!
//! Overflow: AVX2 adds whole registers as 16-bit lanes, even and odd bytes apart; a pick is at most 255, so a sum
//! over [`FLUSH_GROUPS`] groups, 256 tables, is at most 65,280 < 2¹⁶, after which the sums go to 32 bits; those hold
//! 2²⁴ tables. Invariant: all kernels return the same integers, and the same bits of everything computed from them.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod estimate;
#[cfg(target_arch = "aarch64")]
mod neon;

use std::sync::OnceLock;

use vdb_distance::{Isa, Kernels};

pub use estimate::BlockEstimates;
pub(crate) use estimate::{BLOCK_FACTOR_BYTES, Scale, Tables8};

/// Vectors in a block.
pub(crate) const BLOCK: usize = 32;
/// Bytes of one table.
pub(crate) const TABLE_BYTES: usize = 16;
/// Tables in a group.
const GROUP: usize = 4;
/// Bytes of a group's tables, and of its nibbles in a block.
pub(crate) const GROUP_BYTES: usize = GROUP * TABLE_BYTES;
/// Groups whose picks fit a 16-bit sum; see the module page.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const FLUSH_GROUPS: usize = 64;

/// # Safety
/// Of the calls: the CPU has the kernel's instructions, the slices are equally long, a multiple of 64 bytes.
type Scan = unsafe fn(&[u8], &[u8], &mut [u32; BLOCK]);

/// # Safety
/// Of the calls: the CPU has the kernel's instructions, and there are as many blocks as estimates, each of factors
/// and as many bytes of codes as a table set has.
type Estimate = unsafe fn(&[u8], Tables8<'_>, &Scale, &mut [BlockEstimates]);

/// A scan that this CPU can run.
#[derive(Clone, Copy)]
pub(crate) struct FastScan {
    scan: Scan,
    estimate: Estimate,
}

impl FastScan {
    /// The best for this CPU that `VDB_ISA` allows.
    pub(crate) fn get() -> FastScan {
        static CHOSEN: OnceLock<FastScan> = OnceLock::new();
        *CHOSEN.get_or_init(|| {
            let wish = Kernels::get().isa();
            let order = Isa::ALL.into_iter().skip_while(|&isa| isa != wish);
            order.into_iter().find_map(FastScan::for_isa).unwrap_or(PORTABLE)
        })
    }

    /// The scan of one instruction set; `None` where the CPU lacks it.
    pub(crate) fn for_isa(isa: Isa) -> Option<FastScan> {
        match isa {
            Isa::Scalar => Some(PORTABLE),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => std::arch::is_x86_feature_detected!("avx2")
                .then_some(FastScan { scan: avx2::scan, estimate: avx2::estimate }),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => (std::arch::is_x86_feature_detected!("avx512f")
                && std::arch::is_x86_feature_detected!("avx512bw")
                && std::arch::is_x86_feature_detected!("avx512vbmi")
                && std::arch::is_x86_feature_detected!("avx512vnni"))
            .then_some(FastScan { scan: avx512::scan, estimate: avx512::estimate }),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => std::arch::is_aarch64_feature_detected!("neon")
                .then_some(FastScan { scan: neon::scan, estimate: neon::estimate }),
            #[allow(unreachable_patterns, reason = "which patterns are left depends on the architecture")]
            _ => None,
        }
    }

    /// Writes the sums of a block's 32 vectors.
    ///
    /// # Panics
    /// When `codes` and `tables` differ in length or are no whole groups.
    #[inline]
    pub(crate) fn scan(self, codes: &[u8], tables: &[u8], sums: &mut [u32; BLOCK]) {
        assert_eq!(codes.len(), tables.len(), "one table per nibble");
        assert_eq!(codes.len() % GROUP_BYTES, 0, "whole groups of tables");
        // SAFETY: a `FastScan` is made only for a CPU with its instructions; the lengths were checked above.
        unsafe { (self.scan)(codes, tables, sums) }
    }

    /// BlockEstimates for consecutive blocks of factors and codes; see [`BlockEstimates`]. Blocks whose `near` is zero are not
    /// read.
    ///
    /// # Panics
    /// When the lengths do not fit.
    #[inline]
    pub(crate) fn estimate(
        self,
        blocks: &[u8],
        tables: Tables8<'_>,
        scale: &Scale,
        out: &mut [BlockEstimates],
    ) {
        assert_eq!(tables.low.len() % GROUP_BYTES, 0, "whole groups of tables");
        assert!(tables.high.is_empty() || tables.high.len() == tables.low.len(), "equal tables");
        let block = BLOCK_FACTOR_BYTES + tables.low.len();
        assert_eq!(Some(blocks.len()), out.len().checked_mul(block), "as many blocks as estimates");
        // SAFETY: a `FastScan` is made only for a CPU with its instructions; the lengths were checked above.
        unsafe { (self.estimate)(blocks, tables, scale, out) }
    }
}

const PORTABLE: FastScan = FastScan { scan: portable, estimate: portable_estimate };

/// Bytes of a block's codes, or of a query's tables, for so many tables.
pub(crate) fn padded_bytes(tables: usize) -> usize {
    tables.div_ceil(GROUP) * GROUP_BYTES
}

/// The byte inside a block, and the shift inside that byte, of a vector's nibble.
#[inline]
fn place(table: usize, vector: usize) -> (usize, u32) {
    (table / GROUP * GROUP_BYTES + vector % 16 * GROUP + table % GROUP, if vector < 16 { 0 } else { 4 })
}

/// Writes nibble `table` of a block's vector `vector`, whatever was there.
#[inline]
pub(crate) fn put(block: &mut [u8], table: usize, vector: usize, nibble: u8) {
    let (byte, shift) = place(table, vector);
    block[byte] = block[byte] & !(0x0F << shift) | (nibble & 0x0F) << shift;
}

/// Nibble `table` of a block's vector `vector`.
#[inline]
pub(crate) fn nibble(block: &[u8], table: usize, vector: usize) -> u8 {
    let (byte, shift) = place(table, vector);
    (block[byte] >> shift) & 0x0F
}

/// The definition: every other kernel equals this one.
fn portable(codes: &[u8], tables: &[u8], sums: &mut [u32; BLOCK]) {
    sums.fill(0);
    for (codes, tables) in codes.chunks_exact(GROUP_BYTES).zip(tables.chunks_exact(GROUP_BYTES)) {
        for (vector, four) in codes.chunks_exact(GROUP).enumerate() {
            for (&code, table) in four.iter().zip(tables.chunks_exact(TABLE_BYTES)) {
                sums[vector] += u32::from(table[usize::from(code & 0x0F)]);
                sums[vector + 16] += u32::from(table[usize::from(code >> 4)]);
            }
        }
    }
}

/// # Safety
/// None beyond the lengths: any CPU runs it.
unsafe fn portable_estimate(blocks: &[u8], tables: Tables8<'_>, scale: &Scale, out: &mut [BlockEstimates]) {
    estimate::all(blocks, tables, scale, out, portable);
}

#[cfg(test)]
mod tests;
