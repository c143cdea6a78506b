//! NEON kernels: sixteen lanes are four registers. There are no masked loads, so a tail is copied to the stack.

use std::arch::aarch64::{
    float32x4_t, vabsq_f32, vadd_f32, vaddq_f32, vdupq_n_f32, vfmaq_f32, vget_high_f32, vget_lane_f32,
    vget_low_f32, vld1q_f32, vsubq_f32,
};

use crate::dispatch::{Family, Isa, Table};
use crate::generic::{self, Block, LANES, Lanes, Op};

pub(crate) static TABLE: Table = Table {
    isa: Isa::Neon,
    dot: family::<generic::Dot>(),
    l2_squared: family::<generic::L2Squared>(),
    l1: family::<generic::L1>(),
};

const fn family<O: Op>() -> Family {
    Family { pair: pair::<O>, gather: gather::<O>, rows: rows::<O>, tile: tile::<O> }
}

/// # Safety
/// As for [`generic::pair`], on a CPU with NEON.
#[target_feature(enable = "neon")]
unsafe fn pair<O: Op>(a: &[f32], b: &[f32]) -> f32 {
    // SAFETY: this function's own contract.
    unsafe { generic::pair::<F32x16, O>(a, b) }
}

/// # Safety
/// As for [`generic::gather`], on a CPU with NEON.
#[target_feature(enable = "neon")]
unsafe fn gather<O: Op>(block: &Block<'_>, ids: &[u32], out: &mut [f32]) {
    // SAFETY: this function's own contract.
    unsafe { generic::gather::<F32x16, O>(block, ids, out) }
}

/// # Safety
/// As for [`generic::rows`], on a CPU with NEON.
#[target_feature(enable = "neon")]
unsafe fn rows<O: Op>(block: &Block<'_>, first: usize, out: &mut [f32]) {
    // SAFETY: this function's own contract.
    unsafe { generic::rows::<F32x16, O>(block, first, out) }
}

/// Lanes 0 to 3, 4 to 7, 8 to 11 and 12 to 15.
/// # Safety
/// As for [`generic::tile`], on a CPU with NEON.
#[target_feature(enable = "neon")]
unsafe fn tile<O: Op>(queries: &[&[f32]], block: &Block<'_>, first: usize, out: &mut [f32]) {
    // SAFETY: this function's own contract.
    unsafe { generic::tile::<F32x16, O, 2, 2>(queries, block, first, out) }
}

#[derive(Clone, Copy)]
struct F32x16(float32x4_t, float32x4_t, float32x4_t, float32x4_t);

impl Lanes for F32x16 {
    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the trait's contract gives NEON.
        let zero = unsafe { vdupq_n_f32(0.0) };
        F32x16(zero, zero, zero, zero)
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the trait's contract gives NEON and sixteen readable floats.
        unsafe {
            F32x16(vld1q_f32(from), vld1q_f32(from.add(4)), vld1q_f32(from.add(8)), vld1q_f32(from.add(12)))
        }
    }

    #[inline(always)]
    unsafe fn load_partial(from: *const f32, count: usize) -> Self {
        debug_assert!(count < LANES);
        let mut lanes = [0.0_f32; LANES];
        // SAFETY: the trait's contract gives NEON and `count` readable floats, fewer than the array holds; the
        // array itself is sixteen readable floats.
        unsafe {
            std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), count);
            Self::load(lanes.as_ptr())
        }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the trait's contract gives NEON.
        unsafe {
            F32x16(
                vaddq_f32(self.0, other.0),
                vaddq_f32(self.1, other.1),
                vaddq_f32(self.2, other.2),
                vaddq_f32(self.3, other.3),
            )
        }
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: the trait's contract gives NEON.
        unsafe {
            F32x16(
                vsubq_f32(self.0, other.0),
                vsubq_f32(self.1, other.1),
                vsubq_f32(self.2, other.2),
                vsubq_f32(self.3, other.3),
            )
        }
    }

    #[inline(always)]
    unsafe fn abs(self) -> Self {
        // SAFETY: the trait's contract gives NEON. The compiler makes one `fabd` of this and the subtraction.
        unsafe { F32x16(vabsq_f32(self.0), vabsq_f32(self.1), vabsq_f32(self.2), vabsq_f32(self.3)) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: the trait's contract gives NEON. `vfmaq_f32(a, b, c)` is `a + b * c`, fused.
        unsafe {
            F32x16(
                vfmaq_f32(addend.0, self.0, factor.0),
                vfmaq_f32(addend.1, self.1, factor.1),
                vfmaq_f32(addend.2, self.2, factor.2),
                vfmaq_f32(addend.3, self.3, factor.3),
            )
        }
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: the trait's contract gives NEON.
        unsafe {
            let four = vaddq_f32(vaddq_f32(self.0, self.2), vaddq_f32(self.1, self.3));
            let two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
            vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
        }
    }
}
