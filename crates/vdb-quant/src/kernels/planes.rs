//! Products of a quantised query with codes stored as bit planes.
//!
//! A code of B bits and D dimensions (a multiple of 64) is B planes of D/8 bytes, the most significant first; bit
//! `i % 8` of byte `i / 8` of a plane belongs to dimension `i`. The value is `Σᵢ qᵢ·uᵢ = Σₚ 2^(B−1−p) Σᵢ qᵢ·bitₚᵢ`
//! for a query of `i8`. Planes serve every B with one kernel, and a prefix of planes is the shorter code.
//!
//! Overflow: `|qᵢ| ≤ 128` and `uᵢ ≤ 255`, so the sum fits `i32` up to 65,793 dimensions, checked at the entry.
//! Invariant: all kernels return the same integer.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;

use std::sync::OnceLock;

use vdb_distance::{Isa, Kernels};

/// Dimensions come in multiples of this.
pub(crate) const GROUP: usize = 64;
/// See the module page.
const MAX_DIM: usize = 65_536;

/// # Safety
/// Of the calls: the CPU has the kernel's instructions, the query's length is a multiple of 64, and the planes are
/// the given number, 1 to 8, of an eighth of it each.
type Dot = unsafe fn(&[u8], usize, &[i8]) -> i32;

/// # Safety
/// Of the calls: as for a [`Dot`], with planes at the end of every one of as many rows as there are sums.
type Dots = unsafe fn(Rows<'_>, &[i8], &mut [i32]);

/// Consecutive rows of so many bytes, each of which ends in `count` planes.
#[derive(Clone, Copy)]
struct Rows<'a> {
    bytes: &'a [u8],
    row_bytes: usize,
    count: usize,
}

impl<'a> Rows<'a> {
    /// The planes of every row, for a query of so many dimensions.
    #[inline(always)]
    fn planes(self, dim: usize) -> impl Iterator<Item = &'a [u8]> {
        let header = self.row_bytes - self.count * (dim / 8);
        self.bytes.chunks_exact(self.row_bytes).map(move |row| &row[header..])
    }
}

/// A kernel that this CPU can run.
#[derive(Clone, Copy)]
pub(crate) struct PlaneDot {
    dot: Dot,
    dots: Dots,
}

impl PlaneDot {
    /// The best for this CPU that `VDB_ISA` allows.
    pub(crate) fn get() -> PlaneDot {
        static CHOSEN: OnceLock<PlaneDot> = OnceLock::new();
        *CHOSEN.get_or_init(|| {
            let wish = Kernels::get().isa();
            let order = Isa::ALL.into_iter().skip_while(|&isa| isa != wish);
            order.into_iter().find_map(PlaneDot::for_isa).unwrap_or(PORTABLE)
        })
    }

    /// The kernel of one instruction set; `None` where the CPU lacks it.
    pub(crate) fn for_isa(isa: Isa) -> Option<PlaneDot> {
        match isa {
            Isa::Scalar => Some(PORTABLE),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => std::arch::is_x86_feature_detected!("avx2")
                .then_some(PlaneDot { dot: avx2::dot, dots: avx2::dots }),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => (std::arch::is_x86_feature_detected!("avx512f")
                && std::arch::is_x86_feature_detected!("avx512bw")
                && std::arch::is_x86_feature_detected!("avx512vnni"))
            .then_some(PlaneDot { dot: avx512::dot, dots: avx512::dots }),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => std::arch::is_aarch64_feature_detected!("neon")
                .then_some(PlaneDot { dot: neon::dot, dots: neon::dots }),
            #[allow(unreachable_patterns, reason = "which patterns are left depends on the architecture")]
            _ => None,
        }
    }

    /// `Σ qᵢ·uᵢ`.
    ///
    /// # Panics
    /// When `query` is not a multiple of 64 long, or `planes` not 0 to 8 times an eighth of that.
    #[inline]
    pub(crate) fn dot(self, planes: &[u8], query: &[i8]) -> i32 {
        let plane = query.len() / 8;
        assert!(query.len().is_multiple_of(GROUP) && query.len() <= MAX_DIM, "whole groups of 64 dimensions");
        if planes.is_empty() || plane == 0 {
            return 0;
        }
        let count = planes.len() / plane;
        assert!(count * plane == planes.len() && count <= 8, "one to eight planes");
        // SAFETY: a `PlaneDot` is made only for a CPU with its instructions; the lengths were checked above.
        unsafe { (self.dot)(planes, count, query) }
    }

    /// [`dot`](Self::dot) for each of consecutive `rows` of `row_bytes` bytes, which end in `count` planes each.
    ///
    /// # Panics
    /// As [`dot`](Self::dot), and when the rows are not as many as the sums or shorter than their planes.
    #[inline]
    pub(crate) fn dots(self, rows: &[u8], row_bytes: usize, count: usize, query: &[i8], sums: &mut [i32]) {
        let plane = query.len() / 8;
        assert!(query.len().is_multiple_of(GROUP) && query.len() <= MAX_DIM, "whole groups of 64 dimensions");
        assert!((1..=8).contains(&count) && plane > 0, "one to eight planes");
        assert!(row_bytes >= count * plane, "a row is no shorter than its planes");
        assert_eq!(sums.len().checked_mul(row_bytes), Some(rows.len()), "as many rows as sums");
        // SAFETY: a `PlaneDot` is made only for a CPU with its instructions; the lengths were checked above.
        unsafe { (self.dots)(Rows { bytes: rows, row_bytes, count }, query, sums) }
    }
}

const PORTABLE: PlaneDot = PlaneDot { dot: portable, dots: portable_dots };

/// The definition: every other kernel equals this one.
fn portable(planes: &[u8], _count: usize, query: &[i8]) -> i32 {
    planes.chunks_exact(query.len() / 8).fold(0, |value, plane| {
        let mut sum = 0;
        for (&byte, eight) in plane.iter().zip(query.chunks_exact(8)) {
            for (bit, &q) in eight.iter().enumerate() {
                sum += i32::from(q) * i32::from(byte >> bit & 1);
            }
        }
        2 * value + sum
    })
}

/// # Safety
/// None beyond the lengths: any CPU runs it.
unsafe fn portable_dots(rows: Rows<'_>, query: &[i8], sums: &mut [i32]) {
    for (sum, planes) in sums.iter_mut().zip(rows.planes(query.len())) {
        *sum = portable(planes, rows.count, query);
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn all_kernels_return_the_integer_of_the_definition() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for dim in [64, 128, 192, 320, 768, 1536, 4096] {
            for bits in 1..=8 {
                for extreme in [false, true] {
                    let query: Vec<i8> =
                        (0..dim).map(|_| if extreme { -128 } else { rng.random() }).collect();
                    let code: Vec<u8> =
                        (0..bits * dim / 8 + 1).map(|_| if extreme { 255 } else { rng.random() }).collect();
                    let code = &code[1..];
                    let mut expected = 0;
                    for (i, &q) in query.iter().enumerate() {
                        let u = (0..bits)
                            .fold(0, |u, p| 2 * u + (i32::from(code[p * dim / 8 + i / 8]) >> (i % 8) & 1));
                        expected += i32::from(q) * u;
                    }
                    for isa in Isa::ALL {
                        let Some(kernel) = PlaneDot::for_isa(isa) else {
                            eprintln!("skipped: this CPU has no {isa}");
                            continue;
                        };
                        assert_eq!(kernel.dot(code, &query), expected, "{isa} {dim} {bits}");
                        // Three rows with a header, of which the last is this code and the others are one bit apart.
                        let mut other = code.to_vec();
                        other[0] ^= 1;
                        let rows: Vec<u8> =
                            [&other, code, &other].into_iter().flat_map(|c| [&[9; 5], c].concat()).collect();
                        let mut sums = [0; 3];
                        kernel.dots(&rows, code.len() + 5, bits, &query, &mut sums);
                        let change =
                            (if other[0] & 1 == 1 { 1 } else { -1 }) * (i32::from(query[0]) << (bits - 1));
                        let expected = [expected + change, expected, expected + change];
                        assert_eq!(sums, expected, "rows {isa} {dim} {bits}");
                    }
                }
            }
        }
        assert_eq!(PlaneDot::get().dot(&[], &[1; 64]), 0);
    }
}
