//! The one loop that every kernel is, written over sixteen lanes of whatever the instruction set offers.
//!
//! A vector is cut into blocks of sixteen floats. Four accumulators of sixteen lanes take the blocks in turn,
//! four blocks a round:
//!
//! ```text
//! while 64 floats are left:   acc[j] <- step(acc[j], block j)          for j in 0..4
//! whole blocks left (0 to 3): acc[j] <- step(acc[j], block j)
//! fewer than 16 floats left:  the next accumulator takes them, padded with zeros
//! sums  = (acc[0] + acc[1]) + (acc[2] + acc[3])                        lane by lane
//! value = the lanes of sums folded 16 -> 8 -> 4 -> 2 -> 1, lane i with lane i + half
//! ```
//!
//! The order of the additions does not depend on the width of a register, which is why instruction sets with
//! a fused multiply-add agree bit for bit. Four accumulators hide the latency of that instruction; sixteen
//! lanes each are one AVX-512 register, two AVX2 ones or four NEON ones, and fit all three register files.
//!
//! Everything is `inline(always)`: an entry point with the right `target_feature` swallows the whole loop, and
//! only there do the intrinsics become single instructions.

use crate::number::{Bf16, F16, F32, Number, U8};
use crate::prefetch::{LINE, prefetch_lines};
use crate::reference;

/// Lanes of a [`Lanes`] value.
pub(crate) const LANES: usize = 16;
/// Floats that one round of the main loop takes.
const ROUND: usize = 4 * LANES;
/// How many rows ahead of the one at hand a gather asks for.
const ROWS_AHEAD: usize = 4;
/// Lines of a row to ask for; the hardware's own prefetcher follows a row once it has begun.
const MAX_LINES: usize = 10;

/// Sixteen single-precision lanes.
///
/// # Safety
/// All methods: the CPU has the instruction set of the implementing type. The loads read sixteen numbers of their type
/// at their pointer and `load_partial` reads `count < 16` of them; they must be readable. Alignment does not matter.
pub(crate) trait Lanes: Copy {
    unsafe fn zero() -> Self;
    unsafe fn load(from: *const f32) -> Self;
    /// The first `count` lanes from memory, zeros in the others.
    unsafe fn load_partial(from: *const f32, count: usize) -> Self;
    unsafe fn f16(from: *const u8) -> Self;
    unsafe fn bf16(from: *const u8) -> Self;
    unsafe fn u8(from: *const u8) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn abs(self) -> Self;
    /// `self * factor + addend`, fused where the instruction set has that.
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// All lanes in one, folded in the order of the module page.
    unsafe fn sum(self) -> f32;
}

/// An element type of which sixteen numbers can be loaded, as the `f32` they are.
///
/// # Safety
/// As for [`Lanes`].
pub(crate) trait Load: Number {
    unsafe fn load<V: Lanes>(from: *const u8) -> V;

    #[inline(always)]
    unsafe fn load_partial<V: Lanes>(from: *const u8, count: usize) -> V {
        debug_assert!(count < LANES);
        let mut padded = [0_u8; 2 * LANES];
        // SAFETY: `count` numbers are readable, by this trait's contract, each of at most two bytes where this is not
        // overwritten, so they are fewer bytes than the array holds; zero bytes are zeros.
        unsafe {
            std::ptr::copy_nonoverlapping(from, padded.as_mut_ptr(), count * Self::BYTES);
            Self::load(padded.as_ptr())
        }
    }
}

impl Load for F32 {
    #[inline(always)]
    unsafe fn load<V: Lanes>(from: *const u8) -> V {
        // SAFETY: this function's own contract.
        unsafe { V::load(from.cast()) }
    }

    #[inline(always)]
    unsafe fn load_partial<V: Lanes>(from: *const u8, count: usize) -> V {
        // SAFETY: this function's own contract.
        unsafe { V::load_partial(from.cast(), count) }
    }
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

/// What is summed over the components.
pub(crate) trait Op {
    /// Adds the terms of sixteen components to `acc`.
    ///
    /// # Safety
    /// The CPU has the instruction set of `V`.
    unsafe fn step<V: Lanes>(acc: V, a: V, b: V) -> V;

    /// The same sum, in double precision throughout.
    fn exact(a: &[f32], b: &[f32]) -> f64;
}

pub(crate) struct Dot;

impl Op for Dot {
    #[inline(always)]
    unsafe fn step<V: Lanes>(acc: V, a: V, b: V) -> V {
        // SAFETY: this function's own contract.
        unsafe { a.mul_add(b, acc) }
    }

    fn exact(a: &[f32], b: &[f32]) -> f64 {
        reference::dot(a, b)
    }
}

pub(crate) struct L2Squared;

impl Op for L2Squared {
    #[inline(always)]
    unsafe fn step<V: Lanes>(acc: V, a: V, b: V) -> V {
        // SAFETY: this function's own contract.
        unsafe {
            let difference = a.sub(b);
            difference.mul_add(difference, acc)
        }
    }

    fn exact(a: &[f32], b: &[f32]) -> f64 {
        reference::l2_squared(a, b)
    }
}

pub(crate) struct L1;

impl Op for L1 {
    #[inline(always)]
    unsafe fn step<V: Lanes>(acc: V, a: V, b: V) -> V {
        // SAFETY: this function's own contract.
        unsafe { acc.add(a.sub(b).abs()) }
    }

    fn exact(a: &[f32], b: &[f32]) -> f64 {
        reference::l1(a, b)
    }
}

/// A query and the row-major matrix it is compared with.
#[derive(Clone, Copy)]
pub(crate) struct Block<'a> {
    pub(crate) query: &'a [f32],
    pub(crate) rows: &'a [u8],
    /// Bytes from the start of one row to the start of the next.
    pub(crate) stride: usize,
}

impl Block<'_> {
    /// Where row `row` begins. Wrapping, because hints may lie past the end and empty rows may have any number.
    #[inline(always)]
    fn row(&self, row: usize) -> *const u8 {
        self.rows.as_ptr().wrapping_add(row.wrapping_mul(self.stride))
    }

    /// Cache lines worth asking for before a row is read.
    #[inline(always)]
    fn lines<N: Load>(&self) -> usize {
        (self.query.len() * N::BYTES).div_ceil(LINE).min(MAX_LINES)
    }
}

/// # Safety
/// The CPU has the instruction set of `V`, and the slices are of one length.
#[inline(always)]
pub(crate) unsafe fn pair<V: Lanes, O: Op>(a: &[f32], b: &[f32]) -> f32 {
    debug_assert_eq!(a.len(), b.len());
    // SAFETY: both pointers are good for `a.len()` floats; the CPU is this function's own contract.
    unsafe { finished::<V, F32, O>(a, b.as_ptr().cast()) }
}

/// # Safety
/// The CPU has the instruction set of `V`, `ids` and `out` are of one length, and every id's row lies inside
/// the block.
#[inline(always)]
pub(crate) unsafe fn gather<V: Lanes, N: Load, O: Op>(block: &Block<'_>, ids: &[u32], out: &mut [f32]) {
    debug_assert_eq!(ids.len(), out.len());
    let lines = block.lines::<N>();
    for &id in ids.iter().take(ROWS_AHEAD) {
        prefetch_lines(block.row(id as usize), lines);
    }
    for (i, (&id, value)) in ids.iter().zip(out).enumerate() {
        if let Some(&ahead) = ids.get(i + ROWS_AHEAD) {
            prefetch_lines(block.row(ahead as usize), lines);
        }
        // SAFETY: every id's row lies inside the block and is good for `query.len()` numbers; the CPU is this
        // function's own contract.
        *value = unsafe { finished::<V, N, O>(block.query, block.row(id as usize)) };
    }
}

/// # Safety
/// The CPU has the instruction set of `V`, and the rows `first..first + out.len()` lie inside the block.
#[inline(always)]
pub(crate) unsafe fn rows<V: Lanes, N: Load, O: Op>(block: &Block<'_>, first: usize, out: &mut [f32]) {
    // Consecutive rows are what the hardware's prefetcher is good at: only the head of a row, where it may
    // have stopped at a page's end, is worth a hint.
    let lines = block.lines::<N>().min(2);
    let mut start = block.row(first);
    for value in out {
        prefetch_lines(start.wrapping_add(block.stride.wrapping_mul(2)), lines);
        // SAFETY: the row lies inside the block and is good for `query.len()` numbers; the CPU is this
        // function's own contract.
        *value = unsafe { finished::<V, N, O>(block.query, start) };
        start = start.wrapping_add(block.stride);
    }
}

/// All queries with all rows `first..`, `out.len() / queries.len()` of them: one line of `out` a query.
///
/// Tiles of `Q` queries and `R` rows share what they load. To keep that many sums in registers, the four accumulators
/// of [`accumulate`] are taken one after the other, so every value has the same bits as there.
///
/// # Safety
/// The CPU has the instruction set of `V`, the queries are of one length, and the rows lie inside `block`, whose own
/// query is the first one.
#[inline(always)]
pub(crate) unsafe fn tile<V: Lanes, N: Load, O: Op, const Q: usize, const R: usize>(
    queries: &[&[f32]],
    block: &Block<'_>,
    first: usize,
    out: &mut [f32],
) {
    let count = out.len() / queries.len().max(1);
    for row in (0..count).step_by(R) {
        for (group, queries) in queries.chunks(Q).enumerate() {
            let out = &mut out[group * Q * count..];
            let rows = R.min(count - row);
            if queries.len() == Q && rows == R {
                let starts = std::array::from_fn(|r| block.row(first + row + r));
                let points = std::array::from_fn(|q| queries[q].as_ptr());
                // SAFETY: all pointers are good for the block's dimension; the CPU is this function's own contract.
                let sums = unsafe { accumulate_tile::<V, N, O, Q, R>(points, starts, block.query.len()) };
                for (q, sums) in sums.iter().enumerate() {
                    out[q * count + row..][..R].copy_from_slice(sums);
                }
            } else {
                for (q, query) in queries.iter().enumerate() {
                    for r in row..row + rows {
                        // SAFETY: the row lies inside the block; the CPU is this function's own contract.
                        out[q * count + r] = unsafe {
                            accumulate::<V, N, O>(query.as_ptr(), block.row(first + r), query.len())
                        };
                    }
                }
            }
        }
    }
    for (query, out) in queries.iter().zip(out.chunks_exact_mut(count.max(1))) {
        for (r, value) in out.iter_mut().enumerate().filter(|(_, value)| !value.is_finite()) {
            // SAFETY: the row lies inside the block and is good for as many numbers as its query.
            *value = unsafe { exact::<N, O>(query, block.row(first + r)) };
        }
    }
}

/// # Safety
/// The CPU has the instruction set of `V`, and all pointers are good for `len` numbers.
#[inline(always)]
unsafe fn accumulate_tile<V: Lanes, N: Load, O: Op, const Q: usize, const R: usize>(
    queries: [*const f32; Q],
    rows: [*const u8; R],
    len: usize,
) -> [[f32; R]; Q] {
    // SAFETY: a block is loaded whole with at least sixteen floats left, otherwise as many as are left. The CPU is
    // this function's own contract.
    unsafe {
        let mut sums = [[[V::zero(); R]; Q]; 4];
        for (j, sums) in sums.iter_mut().enumerate() {
            let mut acc = [[V::zero(); R]; Q];
            let mut at = j * LANES;
            while at + LANES <= len {
                let mut loaded = [V::zero(); R];
                for r in 0..R {
                    loaded[r] = N::load::<V>(rows[r].add(at * N::BYTES));
                }
                for q in 0..Q {
                    let query = V::load(queries[q].add(at));
                    for r in 0..R {
                        acc[q][r] = O::step(acc[q][r], query, loaded[r]);
                    }
                }
                at += ROUND;
            }
            if at < len {
                for q in 0..Q {
                    let query = V::load_partial(queries[q].add(at), len - at);
                    for r in 0..R {
                        let last = N::load_partial::<V>(rows[r].add(at * N::BYTES), len - at);
                        acc[q][r] = O::step(acc[q][r], query, last);
                    }
                }
            }
            *sums = acc;
        }
        let mut values = [[0.0; R]; Q];
        for q in 0..Q {
            for r in 0..R {
                let [a, b, c, d] = [sums[0][q][r], sums[1][q][r], sums[2][q][r], sums[3][q][r]];
                values[q][r] = a.add(b).add(c.add(d)).sum();
            }
        }
        values
    }
}

/// The sum, computed again in double precision if single precision overflowed on the way.
///
/// # Safety
/// The CPU has the instruction set of `V`, and `b` is good for `a.len()` numbers.
#[inline(always)]
unsafe fn finished<V: Lanes, N: Load, O: Op>(a: &[f32], b: *const u8) -> f32 {
    // SAFETY: this function's own contract.
    let value = unsafe { accumulate::<V, N, O>(a.as_ptr(), b, a.len()) };
    // SAFETY: this function's own contract.
    if value.is_finite() { value } else { unsafe { exact::<N, O>(a, b) } }
}

/// # Safety
/// `b` is good for `a.len()` numbers.
#[cold]
#[inline(never)]
unsafe fn exact<N: Load, O: Op>(a: &[f32], b: *const u8) -> f32 {
    // SAFETY: this function's own contract; the slice is only read while `b`'s owner is borrowed.
    let bytes = unsafe { std::slice::from_raw_parts(b, a.len() * N::BYTES) };
    let b: Vec<f32> = bytes.chunks_exact(N::BYTES).map(N::decode).collect();
    O::exact(a, &b) as f32
}

/// # Safety
/// The CPU has the instruction set of `V`, and both pointers are good for `len` numbers.
#[inline(always)]
unsafe fn accumulate<V: Lanes, N: Load, O: Op>(a: *const f32, b: *const u8, len: usize) -> f32 {
    // SAFETY: `at + 64 <= len` in the main loop; in the second loop a block is loaded whole only with at least
    // sixteen numbers left, and otherwise exactly as many as are left, if any. The CPU is this function's own
    // contract.
    unsafe {
        let mut acc = [V::zero(); 4];
        let mut at = 0;
        while len - at >= ROUND {
            for (j, acc) in acc.iter_mut().enumerate() {
                let block = at + j * LANES;
                *acc = O::step(*acc, V::load(a.add(block)), N::load::<V>(b.add(block * N::BYTES)));
            }
            at += ROUND;
        }
        // No early exit: the compiler unrolls this and keeps the accumulators in registers, which it does not
        // if one tail serves whichever accumulator is next.
        for (j, acc) in acc.iter_mut().enumerate() {
            let block = at + j * LANES;
            let left = len.saturating_sub(block);
            if left >= LANES {
                *acc = O::step(*acc, V::load(a.add(block)), N::load::<V>(b.add(block * N::BYTES)));
            } else if left > 0 {
                let b = N::load_partial::<V>(b.add(block * N::BYTES), left);
                *acc = O::step(*acc, V::load_partial(a.add(block), left), b);
            }
        }
        acc[0].add(acc[1]).add(acc[2].add(acc[3])).sum()
    }
}

/// The entry points of one instruction set: functions that carry its target feature around the loops above, with the
/// shape of tiles, queries by rows.
macro_rules! table {
    ($isa:expr, $lanes:ty, $queries:literal x $rows:literal, $($feature:meta)?) => {
        use crate::dispatch::{Family, Isa, OfType, Table};
        use crate::generic::{self, Block, Load, Op};
        use crate::number::{Bf16, F16, F32, U8};

        pub(crate) static TABLE: Table = Table {
            isa: $isa,
            dot: family::<generic::Dot>(),
            l2_squared: family::<generic::L2Squared>(),
            l1: family::<generic::L1>(),
        };

        const fn family<O: Op>() -> Family {
            Family {
                pair: pair::<O>,
                f32: of_type::<F32, O>(),
                f16: of_type::<F16, O>(),
                bf16: of_type::<Bf16, O>(),
                u8: of_type::<U8, O>(),
            }
        }

        const fn of_type<N: Load, O: Op>() -> OfType {
            OfType { gather: gather::<N, O>, rows: rows::<N, O>, tile: tile::<N, O> }
        }

        /// # Safety
        /// As for [`generic::pair`], on a CPU with this module's instruction set.
        $(#[$feature])?
        unsafe fn pair<O: Op>(a: &[f32], b: &[f32]) -> f32 {
            // SAFETY: this function's own contract.
            unsafe { generic::pair::<$lanes, O>(a, b) }
        }

        /// # Safety
        /// As for [`generic::gather`], on a CPU with this module's instruction set.
        $(#[$feature])?
        unsafe fn gather<N: Load, O: Op>(block: &Block<'_>, ids: &[u32], out: &mut [f32]) {
            // SAFETY: this function's own contract.
            unsafe { generic::gather::<$lanes, N, O>(block, ids, out) }
        }

        /// # Safety
        /// As for [`generic::rows`], on a CPU with this module's instruction set.
        $(#[$feature])?
        unsafe fn rows<N: Load, O: Op>(block: &Block<'_>, first: usize, out: &mut [f32]) {
            // SAFETY: this function's own contract.
            unsafe { generic::rows::<$lanes, N, O>(block, first, out) }
        }

        /// # Safety
        /// As for [`generic::tile`], on a CPU with this module's instruction set.
        $(#[$feature])?
        unsafe fn tile<N: Load, O: Op>(queries: &[&[f32]], block: &Block<'_>, first: usize, out: &mut [f32]) {
            // SAFETY: this function's own contract.
            unsafe { generic::tile::<$lanes, N, O, $queries, $rows>(queries, block, first, out) }
        }
    };
}

pub(crate) use table;
