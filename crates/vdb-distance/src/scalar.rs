//! Portable kernels: the shared loop over a plain array, which the compiler vectorises for its baseline.
//! Products are rounded before they are added, because a fused multiply-add is a library call on CPUs without
//! the instruction.

use crate::dispatch::{Family, Isa, Table};
use crate::generic::{self, Block, LANES, Lanes, Op};

pub(crate) static TABLE: Table = Table {
    isa: Isa::Scalar,
    dot: family::<generic::Dot>(),
    l2_squared: family::<generic::L2Squared>(),
    l1: family::<generic::L1>(),
};

const fn family<O: Op>() -> Family {
    Family { pair: pair::<O>, gather: gather::<O>, rows: rows::<O>, tile: tile::<O> }
}

/// # Safety
/// As for [`generic::pair`]; any CPU will do.
unsafe fn pair<O: Op>(a: &[f32], b: &[f32]) -> f32 {
    // SAFETY: this function's own contract.
    unsafe { generic::pair::<Array, O>(a, b) }
}

/// # Safety
/// As for [`generic::gather`]; any CPU will do.
unsafe fn gather<O: Op>(block: &Block<'_>, ids: &[u32], out: &mut [f32]) {
    // SAFETY: this function's own contract.
    unsafe { generic::gather::<Array, O>(block, ids, out) }
}

/// # Safety
/// As for [`generic::rows`]; any CPU will do.
unsafe fn rows<O: Op>(block: &Block<'_>, first: usize, out: &mut [f32]) {
    // SAFETY: this function's own contract.
    unsafe { generic::rows::<Array, O>(block, first, out) }
}

/// # Safety
/// As for [`generic::tile`]; any CPU will do.
unsafe fn tile<O: Op>(queries: &[&[f32]], block: &Block<'_>, first: usize, out: &mut [f32]) {
    // SAFETY: this function's own contract.
    unsafe { generic::tile::<Array, O, 2, 2>(queries, block, first, out) }
}

#[derive(Clone, Copy)]
struct Array([f32; LANES]);

impl Array {
    #[inline(always)]
    fn zip(self, other: Array, f: impl Fn(f32, f32) -> f32) -> Array {
        Array(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl Lanes for Array {
    #[inline(always)]
    unsafe fn zero() -> Self {
        Array([0.0; LANES])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: sixteen floats are readable, by the trait's contract, and an array of floats is aligned
        // like a float.
        Array(unsafe { from.cast::<[f32; LANES]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn load_partial(from: *const f32, count: usize) -> Self {
        let mut lanes = [0.0; LANES];
        // SAFETY: `count` floats are readable, by the trait's contract, and fewer than the array holds.
        unsafe { std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), count) };
        Array(lanes)
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |x, y| x + y)
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |x, y| x - y)
    }

    #[inline(always)]
    unsafe fn abs(self) -> Self {
        Array(self.0.map(f32::abs))
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        self.zip(factor, |x, y| x * y).zip(addend, |product, y| product + y)
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let mut lanes = self.0;
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                lanes[i] += lanes[i + half];
            }
        }
        lanes[0]
    }
}
