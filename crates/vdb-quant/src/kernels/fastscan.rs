//! FastScan: sums of table look-ups for 32 codes at a time, with tables that stay in registers (André, Kermarrec &
//! Le Scouarnec, "Cache locality is not enough", 2015; block layout after the same authors' Quick ADC).
//!
//! A code is M nibbles, and nibble t picks one of the sixteen bytes of table t; a vector's sum is over its M picks.
//!
//! ```text
//! block:  16 bytes per table t; byte 2i   holds nibble t of vectors i     (low) and 16 + i (high)
//!                               byte 2i+1 holds nibble t of vectors 8 + i (low) and 24 + i (high),  i in 0..8
//! tables: 16 bytes per table t; byte c is what nibble c adds
//! ```
//!
//! Even bytes hold vectors 0 to 7 (16 to 23), odd bytes 8 to 15 (24 to 31), so that widening a register's even and
//! odd bytes to 16 bits leaves both in order. The x86 kernels add whole registers as 16-bit lanes, `E + 256·O`
//! modulo 2¹⁶, and the odd bytes alone, `O`; at a flush `E = (E + 256·O) − 256·O`, which is exact modulo 2¹⁶ and
//! therefore exact as long as each true sum is below 2¹⁶.
//!
//! Overflow: a pick is at most 255, so the sum over [`FLUSH_TABLES`] = 256 tables is at most 65,280 < 2¹⁶, also
//! after a kernel has folded the lanes of a register that holds several tables. Kernels empty their 16-bit sums
//! into 32-bit ones at least that often (1,024 dimensions of one-bit codes); those hold 2²⁴ tables. Invariant: all
//! kernels return the same integers.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;

use std::sync::OnceLock;

use vdb_distance::{Isa, Kernels};

/// Vectors in a block.
pub(crate) const BLOCK: usize = 32;
/// Bytes of one table, and of one table's nibbles in a block.
pub(crate) const TABLE_BYTES: usize = 16;
/// Tables whose picks fit a 16-bit sum; see the module page.
const FLUSH_TABLES: usize = 256;
/// The same in bytes of a block.
const FLUSH_BYTES: usize = FLUSH_TABLES * TABLE_BYTES;

/// # Safety
/// Of the calls: the CPU has the kernel's instructions, the slices are equally long, a multiple of 16 bytes.
type Scan = unsafe fn(&[u8], &[u8], &mut [u32; BLOCK]);

/// A scan that this CPU can run.
#[derive(Clone, Copy)]
pub(crate) struct FastScan {
    scan: Scan,
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
            Isa::Avx2 => std::arch::is_x86_feature_detected!("avx2").then_some(FastScan { scan: avx2::scan }),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => (std::arch::is_x86_feature_detected!("avx512f")
                && std::arch::is_x86_feature_detected!("avx512bw"))
            .then_some(FastScan { scan: avx512::scan }),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => {
                std::arch::is_aarch64_feature_detected!("neon").then_some(FastScan { scan: neon::scan })
            }
            #[allow(unreachable_patterns, reason = "which patterns are left depends on the architecture")]
            _ => None,
        }
    }

    /// Writes the sums of a block's 32 vectors.
    ///
    /// # Panics
    /// When `codes` and `tables` differ in length or are no whole tables.
    #[inline]
    pub(crate) fn scan(self, codes: &[u8], tables: &[u8], sums: &mut [u32; BLOCK]) {
        assert_eq!(codes.len(), tables.len(), "one table per nibble");
        assert_eq!(codes.len() % TABLE_BYTES, 0, "whole tables");
        // SAFETY: a `FastScan` is made only for a CPU with its instructions; the lengths were checked above.
        unsafe { (self.scan)(codes, tables, sums) }
    }
}

const PORTABLE: FastScan = FastScan { scan: portable };

/// The byte inside a table's sixteen, and the shift inside that byte, of a vector's nibble.
#[inline]
pub(crate) fn place(vector: usize) -> (usize, u32) {
    let half = vector % 16;
    (half % 8 * 2 + half / 8, if vector < 16 { 0 } else { 4 })
}

/// Writes nibble `table` of a block's vector `vector`, whose place must hold zero.
#[inline]
pub(crate) fn put(block: &mut [u8], table: usize, vector: usize, nibble: u8) {
    let (byte, shift) = place(vector);
    block[table * TABLE_BYTES + byte] |= (nibble & 0x0F) << shift;
}

/// Nibble `table` of a block's vector `vector`.
#[cfg(test)]
pub(crate) fn nibble(block: &[u8], table: usize, vector: usize) -> u8 {
    let (byte, shift) = place(vector);
    (block[table * TABLE_BYTES + byte] >> shift) & 0x0F
}

/// The definition: every other kernel equals this one.
fn portable(codes: &[u8], tables: &[u8], sums: &mut [u32; BLOCK]) {
    sums.fill(0);
    for (codes, table) in codes.chunks_exact(TABLE_BYTES).zip(tables.chunks_exact(TABLE_BYTES)) {
        for (i, code) in codes.iter().enumerate() {
            let vector = i / 2 + i % 2 * 8;
            sums[vector] += u32::from(table[usize::from(code & 0x0F)]);
            sums[vector + 16] += u32::from(table[usize::from(code >> 4)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn all_kernels_return_the_sums_of_the_definition() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for tables in [0, 1, 2, 3, 4, 5, 7, 8, 31, 32, 33, 192, 255, 256, 257, 258, 511, 513, 1024, 1031] {
            for full in [false, true] {
                let bytes = tables * TABLE_BYTES;
                let mut byte = || if full { 255 } else { rng.random::<u8>() };
                // Odd starts: blocks in a mapped file need not be aligned.
                let codes: Vec<u8> = (0..bytes + 1).map(|_| byte()).collect();
                let luts: Vec<u8> = (0..bytes + 1).map(|_| byte()).collect();
                let (codes, luts) = (&codes[1..], &luts[1..]);
                let mut expected = [0; BLOCK];
                for (vector, sum) in expected.iter_mut().enumerate() {
                    *sum = (0..tables)
                        .map(|t| u32::from(luts[t * TABLE_BYTES + usize::from(nibble(codes, t, vector))]))
                        .sum();
                }
                for isa in Isa::ALL {
                    let Some(kernel) = FastScan::for_isa(isa) else {
                        eprintln!("skipped: this CPU has no {isa}");
                        continue;
                    };
                    let mut sums = [7; BLOCK];
                    kernel.scan(codes, luts, &mut sums);
                    assert_eq!(sums, expected, "{isa} with {tables} tables");
                }
            }
        }
    }

    #[test]
    fn nibbles_are_read_where_they_were_put() {
        let mut block = [0; 3 * TABLE_BYTES];
        for table in 0..3 {
            for vector in 0..BLOCK {
                put(&mut block, table, vector, ((vector * 5 + table) % 16) as u8);
            }
        }
        for table in 0..3 {
            for vector in 0..BLOCK {
                assert_eq!(nibble(&block, table, vector), ((vector * 5 + table) % 16) as u8);
            }
        }
    }
}
