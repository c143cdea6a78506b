//! Hamming distances: bits in which two codes differ.
//!
//! Codes are a multiple of 8 bytes long. Overflow: sums are of 64-bit lanes, or of 8-bit ones that hold at most 8 a
//! step and are widened every step. Invariant: all kernels return the same integers.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;

use std::sync::OnceLock;

use vdb_distance::{Isa, Kernels};

/// Bytes that codes are a multiple of.
pub(crate) const WORD: usize = 8;

/// A code against consecutive rows of its length.
///
/// # Safety
/// Of the calls: the CPU has the kernel's instructions; the query is a multiple of 8 bytes, at least 8, and the rows
/// are as many of its length as there are results.
type Rows = unsafe fn(&[u8], &[u8], &mut [u32]);

/// Kernels that this CPU can run.
#[derive(Clone, Copy)]
pub(crate) struct Hamming {
    rows: Rows,
}

impl Hamming {
    /// The best for this CPU that `VDB_ISA` allows.
    pub(crate) fn get() -> Hamming {
        static CHOSEN: OnceLock<Hamming> = OnceLock::new();
        *CHOSEN.get_or_init(|| {
            let wish = Kernels::get().isa();
            let order = Isa::ALL.into_iter().skip_while(|&isa| isa != wish);
            order.into_iter().find_map(Hamming::for_isa).unwrap_or(PORTABLE)
        })
    }

    /// The kernels of one instruction set; `None` where the CPU lacks it.
    pub(crate) fn for_isa(isa: Isa) -> Option<Hamming> {
        match isa {
            Isa::Scalar => Some(PORTABLE),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => std::arch::is_x86_feature_detected!("avx2").then_some(Hamming { rows: avx2::rows }),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => (std::arch::is_x86_feature_detected!("avx512f")
                && std::arch::is_x86_feature_detected!("avx512vpopcntdq"))
            .then_some(Hamming { rows: avx512::rows }),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => {
                std::arch::is_aarch64_feature_detected!("neon").then_some(Hamming { rows: neon::rows })
            }
            #[allow(unreachable_patterns, reason = "which patterns are left depends on the architecture")]
            _ => None,
        }
    }

    /// Writes the distances of `query` to consecutive `rows` of its length.
    ///
    /// # Panics
    /// When the query is empty or no multiple of 8 bytes, or the rows are not as many as `out`.
    #[inline]
    pub(crate) fn rows(self, query: &[u8], rows: &[u8], out: &mut [u32]) {
        assert!(!query.is_empty() && query.len().is_multiple_of(WORD), "codes of whole words");
        assert_eq!(Some(rows.len()), query.len().checked_mul(out.len()), "one row per distance");
        // SAFETY: a `Hamming` is made only for a CPU with its instructions; the lengths were checked above.
        unsafe { (self.rows)(query, rows, out) }
    }
}

const PORTABLE: Hamming = Hamming { rows: portable };

/// The definition: every other kernel equals this one.
fn portable(query: &[u8], rows: &[u8], out: &mut [u32]) {
    for (row, out) in rows.chunks_exact(query.len()).zip(out) {
        let words = query.as_chunks::<WORD>().0.iter().zip(row.as_chunks::<WORD>().0);
        *out = words.map(|(a, b)| (u64::from_ne_bytes(*a) ^ u64::from_ne_bytes(*b)).count_ones()).sum();
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn all_kernels_count_the_same_bits() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        for words in [1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 64, 129] {
            for rows in [0, 1, 2, 5] {
                let bytes = words * WORD;
                let query: Vec<u8> = (0..bytes).map(|_| rng.random()).collect();
                let mut codes: Vec<u8> = (0..bytes * rows + 1).map(|_| rng.random()).collect();
                if rows == 5 {
                    codes[1..1 + bytes].copy_from_slice(&query);
                    for (code, byte) in codes[1 + bytes..].iter_mut().zip(&query) {
                        *code = !byte;
                    }
                }
                let codes = &codes[1..];
                let expected: Vec<u32> = codes
                    .chunks_exact(bytes)
                    .map(|row| row.iter().zip(&query).map(|(a, b)| (a ^ b).count_ones()).sum())
                    .collect();
                if rows == 5 {
                    assert_eq!(expected[..2], [0, 8 * bytes as u32]);
                }
                for isa in Isa::ALL {
                    let Some(kernel) = Hamming::for_isa(isa) else {
                        eprintln!("skipped: this CPU has no {isa}");
                        continue;
                    };
                    let mut out = vec![7; rows];
                    kernel.rows(&query, codes, &mut out);
                    assert_eq!(out, expected, "{isa} with {words} words");
                }
            }
        }
    }
}
