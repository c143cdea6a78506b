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

/// A gather of one instruction set: its `rows` on one row after another, later ones asked for ahead.
macro_rules! gather {
    ($feature:meta) => {
        /// # Safety
        /// As for `rows`, and every numbered row lies inside `codes`.
        #[$feature]
        pub(super) unsafe fn gather(query: &[u8], codes: &[u8], ids: &[u32], out: &mut [u32]) {
            for (i, (&id, out)) in ids.iter().zip(out).enumerate() {
                crate::kernels::hamming::ask_ahead(query.len(), codes, ids, i);
                let row = &codes[id as usize * query.len()..][..query.len()];
                // SAFETY: this function's own contract, for one row.
                unsafe { rows(query, row, std::slice::from_mut(out)) };
            }
        }
    };
}
use gather;

/// Bytes that codes are a multiple of.
pub(crate) const WORD: usize = 8;

/// A code against consecutive rows of its length.
///
/// # Safety
/// Of the calls: the CPU has the kernel's instructions; the query is a multiple of 8 bytes, at least 8, and the rows
/// are as many of its length as there are results.
type Rows = unsafe fn(&[u8], &[u8], &mut [u32]);

/// A code against the rows of its length with these numbers.
///
/// # Safety
/// As for [`Rows`], but every numbered row lies inside the codes, and there are as many numbers as results.
type Gather = unsafe fn(&[u8], &[u8], &[u32], &mut [u32]);

/// Rows that a gather asks memory for ahead.
const ROWS_AHEAD: usize = 8;
/// The most lines of a row that it asks for.
const MAX_LINES: usize = 4;

/// Kernels that this CPU can run.
#[derive(Clone, Copy)]
pub(crate) struct Hamming {
    rows: Rows,
    gather: Gather,
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
            Isa::Avx2 => std::arch::is_x86_feature_detected!("avx2")
                .then_some(Hamming { rows: avx2::rows, gather: avx2::gather }),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => (std::arch::is_x86_feature_detected!("avx512f")
                && std::arch::is_x86_feature_detected!("avx512vpopcntdq"))
            .then_some(Hamming { rows: avx512::rows, gather: avx512::gather }),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => std::arch::is_aarch64_feature_detected!("neon")
                .then_some(Hamming { rows: neon::rows, gather: neon::gather }),
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

    /// Writes the distances of `query` to the rows of `codes` with the numbers in `ids`.
    ///
    /// # Panics
    /// When the query is empty or no multiple of 8 bytes, a row is not in `codes`, or `ids` and `out` differ in length.
    #[inline]
    pub(crate) fn gather(self, query: &[u8], codes: &[u8], ids: &[u32], out: &mut [u32]) {
        assert!(!query.is_empty() && query.len().is_multiple_of(WORD), "codes of whole words");
        assert_eq!(ids.len(), out.len(), "as many distances as rows");
        if let Some(&last) = ids.iter().max() {
            let end = (last as usize).checked_add(1).and_then(|rows| rows.checked_mul(query.len()));
            assert!(end.is_some_and(|end| end <= codes.len()), "row {last} is not there");
        }
        // SAFETY: a `Hamming` is made only for a CPU with its instructions; the lengths were checked above, and the
        // last of the rows lies inside the codes, hence all do.
        unsafe { (self.gather)(query, codes, ids, out) }
    }
}

/// Asks for the row that a gather reads a few rows after number `i`.
#[inline(always)]
fn ask_ahead(bytes: usize, codes: &[u8], ids: &[u32], i: usize) {
    if let Some(&ahead) = ids.get(i + ROWS_AHEAD) {
        vdb_distance::prefetch(codes, ahead as usize * bytes, bytes.div_ceil(64).min(MAX_LINES));
    }
}

const PORTABLE: Hamming = Hamming { rows: portable, gather: portable_gather };

fn portable_gather(query: &[u8], codes: &[u8], ids: &[u32], out: &mut [u32]) {
    for (i, (&id, out)) in ids.iter().zip(out).enumerate() {
        ask_ahead(query.len(), codes, ids, i);
        let row = &codes[id as usize * query.len()..][..query.len()];
        portable(query, row, std::slice::from_mut(out));
    }
}

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
            for rows in [0, 1, 2, 5, 29] {
                let bytes = words * WORD;
                let query: Vec<u8> = (0..bytes).map(|_| rng.random()).collect();
                let mut codes: Vec<u8> = (0..bytes * rows + 1).map(|_| rng.random()).collect();
                if rows >= 5 {
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
                if rows >= 5 {
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
                    let ids: Vec<u32> = (0..rows as u32).rev().chain(0..rows as u32).collect();
                    let mut picked = vec![7; 2 * rows];
                    kernel.gather(&query, codes, &ids, &mut picked);
                    let again: Vec<u32> = ids.iter().map(|&id| expected[id as usize]).collect();
                    assert_eq!(picked, again, "{isa} with {words} words");
                }
            }
        }
    }
}
