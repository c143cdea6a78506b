//! The one loop behind every kernel over short number formats: sixteen values at a time, four accumulators in turn,
//! a last group padded with zeros. Zeros on both sides add nothing to any of the sums.

use vdb_distance::prefetch;

use super::Query;
use crate::element::{Bf16, F16, Number, U8};

/// Values of a group.
pub(super) const LANES: usize = 16;
/// How many rows ahead of the one at hand a gather asks for.
const ROWS_AHEAD: usize = 8;
const MAX_LINES: usize = 14;
const LINE: usize = 64;

/// Sixteen single-precision lanes.
///
/// # Safety
/// All methods: the CPU has the instruction set of the implementing type. The loads read sixteen values of their
/// format, which must be readable. Alignment does not matter.
pub(super) trait Lanes: Copy {
    unsafe fn zero() -> Self;
    unsafe fn f32(from: *const f32) -> Self;
    unsafe fn f16(from: *const u8) -> Self;
    unsafe fn bf16(from: *const u8) -> Self;
    unsafe fn u8(from: *const u8) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn abs(self) -> Self;
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self;
    unsafe fn sum(self) -> f32;
}

/// A format that sixteen values of can be loaded.
pub(super) trait Load: Number {
    /// # Safety
    /// As for [`Lanes`].
    unsafe fn load<V: Lanes>(from: *const u8) -> V;
}

impl Load for F16 {
    #[inline(always)]
    unsafe fn load<V: Lanes>(from: *const u8) -> V {
        // SAFETY: this function's own contract.
        unsafe { V::f16(from) }
    }
}

impl Load for Bf16 {
    #[inline(always)]
    unsafe fn load<V: Lanes>(from: *const u8) -> V {
        // SAFETY: this function's own contract.
        unsafe { V::bf16(from) }
    }
}

impl Load for U8 {
    #[inline(always)]
    unsafe fn load<V: Lanes>(from: *const u8) -> V {
        // SAFETY: this function's own contract.
        unsafe { V::u8(from) }
    }
}

/// What is summed over the values.
pub(super) trait Step {
    /// # Safety
    /// The CPU has the instruction set of `V`.
    unsafe fn step<V: Lanes>(acc: V, query: V, value: V) -> V;
    fn term(query: f64, value: f64) -> f64;
}

pub(super) struct Dot;
pub(super) struct L2Squared;
pub(super) struct L1;

impl Step for Dot {
    #[inline(always)]
    unsafe fn step<V: Lanes>(acc: V, query: V, value: V) -> V {
        // SAFETY: this function's own contract.
        unsafe { query.mul_add(value, acc) }
    }

    fn term(query: f64, value: f64) -> f64 {
        query * value
    }
}

impl Step for L2Squared {
    #[inline(always)]
    unsafe fn step<V: Lanes>(acc: V, query: V, value: V) -> V {
        // SAFETY: this function's own contract.
        unsafe {
            let difference = query.sub(value);
            difference.mul_add(difference, acc)
        }
    }

    fn term(query: f64, value: f64) -> f64 {
        (query - value) * (query - value)
    }
}

impl Step for L1 {
    #[inline(always)]
    unsafe fn step<V: Lanes>(acc: V, query: V, value: V) -> V {
        // SAFETY: this function's own contract.
        unsafe { acc.add(query.sub(value).abs()) }
    }

    fn term(query: f64, value: f64) -> f64 {
        (query - value).abs()
    }
}

/// # Safety
/// The CPU has the instruction set of `V`, the query is for format `N`, and `out.len()` codes lie inside `codes`.
#[inline(always)]
pub(super) unsafe fn rows<V: Lanes, N: Load, S: Step>(query: &Query, codes: &[u8], out: &mut [f32]) {
    for (i, value) in out.iter_mut().enumerate() {
        // SAFETY: this function's own contract.
        *value = unsafe { row::<V, N, S>(query, codes, i) };
    }
}

/// # Safety
/// The CPU has the instruction set of `V`, the query is for format `N`, and every id's code lies inside `codes`.
#[inline(always)]
pub(super) unsafe fn gather<V: Lanes, N: Load, S: Step>(
    query: &Query,
    codes: &[u8],
    ids: &[u32],
    out: &mut [f32],
) {
    let lines = query.code_bytes().div_ceil(LINE).min(MAX_LINES);
    let ask = |id: u32| prefetch(codes, (id as usize).wrapping_mul(query.code_bytes()), lines);
    ids.iter().take(ROWS_AHEAD).for_each(|&id| ask(id));
    for (i, (&id, value)) in ids.iter().zip(out).enumerate() {
        if let Some(&ahead) = ids.get(i + ROWS_AHEAD) {
            ask(ahead);
        }
        // SAFETY: this function's own contract.
        *value = unsafe { row::<V, N, S>(query, codes, id as usize) };
    }
}

/// # Safety
/// The CPU has the instruction set of `V`, the query is for format `N`, and code `row` lies inside `codes`.
#[inline(always)]
unsafe fn row<V: Lanes, N: Load, S: Step>(query: &Query, codes: &[u8], row: usize) -> f32 {
    let start = row.wrapping_mul(query.code_bytes());
    // SAFETY: the code lies inside `codes`, by this function's own contract; so does its start.
    let value = unsafe { accumulate::<V, N, S>(query, codes.as_ptr().add(start)) };
    if value.is_finite() { value } else { exact::<N, S>(query, &codes[start..start + query.code_bytes()]) }
}

/// # Safety
/// The CPU has the instruction set of `V`, the query is for format `N`, and its code's bytes are readable at `code`.
#[inline(always)]
unsafe fn accumulate<V: Lanes, N: Load, S: Step>(query: &Query, code: *const u8) -> f32 {
    let (dim, values) = (query.dim, query.values.as_ptr());
    // SAFETY: groups are loaded from the code only while they are whole, and the last, partial one from a copy of the
    // bytes that are left, fewer than the array holds; the query has a whole group for each. The CPU is this
    // function's own contract.
    unsafe {
        let mut acc = [V::zero(); 4];
        let mut at = 0;
        while dim - at >= 4 * LANES {
            for (j, acc) in acc.iter_mut().enumerate() {
                let group = at + j * LANES;
                *acc = S::step(*acc, V::f32(values.add(group)), N::load::<V>(code.add(group * N::BYTES)));
            }
            at += 4 * LANES;
        }
        for (j, acc) in acc.iter_mut().enumerate() {
            let group = at + j * LANES;
            let left = dim.saturating_sub(group);
            if left >= LANES {
                *acc = S::step(*acc, V::f32(values.add(group)), N::load::<V>(code.add(group * N::BYTES)));
            } else if left > 0 {
                let mut padded = [0_u8; 2 * LANES];
                let last = code.add(group * N::BYTES);
                std::ptr::copy_nonoverlapping(last, padded.as_mut_ptr(), left * N::BYTES);
                *acc = S::step(*acc, V::f32(values.add(group)), N::load::<V>(padded.as_ptr()));
            }
        }
        acc[0].add(acc[1]).add(acc[2].add(acc[3])).sum()
    }
}

#[cold]
#[inline(never)]
fn exact<N: Load, S: Step>(query: &Query, code: &[u8]) -> f32 {
    let values = code.chunks_exact(N::BYTES).map(|bytes| f64::from(N::decode(bytes)));
    query.values.iter().zip(values).map(|(&q, value)| S::term(f64::from(q), value)).sum::<f64>() as f32
}

/// The entry points of one instruction set: functions that carry its target feature around the loops above.
macro_rules! table {
    ($isa:expr, $lanes:ty, $($feature:meta)?) => {
        use crate::element::{Bf16, F16, U8};
        use crate::kernels::element::generic::{self, Dot, L1, L2Squared, Load, Step};
        use crate::kernels::element::{Family, Query, Table};

        pub(in crate::kernels::element) static TABLE: Table = Table {
            isa: $isa,
            families: [
                [family::<F16, Dot>(), family::<F16, L2Squared>(), family::<F16, L1>()],
                [family::<Bf16, Dot>(), family::<Bf16, L2Squared>(), family::<Bf16, L1>()],
                [family::<U8, Dot>(), family::<U8, L2Squared>(), family::<U8, L1>()],
            ],
        };

        const fn family<N: Load, S: Step>() -> Family {
            Family { rows: rows::<N, S>, gather: gather::<N, S> }
        }

        /// # Safety
        /// As for [`generic::rows`], on a CPU with this module's instruction set.
        $(#[$feature])?
        unsafe fn rows<N: Load, S: Step>(query: &Query, codes: &[u8], out: &mut [f32]) {
            // SAFETY: this function's own contract.
            unsafe { generic::rows::<$lanes, N, S>(query, codes, out) }
        }

        /// # Safety
        /// As for [`generic::gather`], on a CPU with this module's instruction set.
        $(#[$feature])?
        unsafe fn gather<N: Load, S: Step>(query: &Query, codes: &[u8], ids: &[u32], out: &mut [f32]) {
            // SAFETY: this function's own contract.
            unsafe { generic::gather::<$lanes, N, S>(query, codes, ids, out) }
        }
    };
}

pub(super) use table;
