//! NEON kernels: sixteen lanes are four registers. There are no masked loads, so a tail is copied to the stack.

use std::arch::aarch64::{
    float32x4_t, vabsq_f32, vadd_f32, vaddq_f32, vcvtq_f32_u32, vdupq_n_f32, vfmaq_f32, vget_high_f32,
    vget_high_u8, vget_high_u16, vget_lane_f32, vget_low_f32, vget_low_u8, vget_low_u16, vld1q_f32, vld1q_u8,
    vmovl_u8, vmovl_u16, vreinterpretq_f32_u32, vreinterpretq_u16_u8, vshll_n_u16, vsubq_f32,
};

use crate::generic::{LANES, Lanes, table};
use crate::number::f16_value;

table!(Isa::Neon, F32x16, 2 x 2, target_feature(enable = "neon"));

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
    unsafe fn f16(from: *const u8) -> Self {
        // SAFETY: the trait's contract gives NEON and 32 readable bytes; the array is sixteen readable floats.
        unsafe {
            let pairs = from.cast::<[[u8; 2]; LANES]>().read();
            Self::load(pairs.map(|pair| f16_value(u16::from_le_bytes(pair))).as_ptr())
        }
    }

    #[inline(always)]
    unsafe fn bf16(from: *const u8) -> Self {
        // SAFETY: the trait's contract gives NEON and 32 readable bytes; a load of bytes has no alignment.
        unsafe {
            let low = vreinterpretq_u16_u8(vld1q_u8(from));
            let high = vreinterpretq_u16_u8(vld1q_u8(from.add(16)));
            F32x16(
                vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_low_u16(low))),
                vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_high_u16(low))),
                vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_low_u16(high))),
                vreinterpretq_f32_u32(vshll_n_u16::<16>(vget_high_u16(high))),
            )
        }
    }

    #[inline(always)]
    unsafe fn u8(from: *const u8) -> Self {
        // SAFETY: the trait's contract gives NEON and 16 readable bytes.
        unsafe {
            let bytes = vld1q_u8(from);
            let (low, high) = (vmovl_u8(vget_low_u8(bytes)), vmovl_u8(vget_high_u8(bytes)));
            F32x16(
                vcvtq_f32_u32(vmovl_u16(vget_low_u16(low))),
                vcvtq_f32_u32(vmovl_u16(vget_high_u16(low))),
                vcvtq_f32_u32(vmovl_u16(vget_low_u16(high))),
                vcvtq_f32_u32(vmovl_u16(vget_high_u16(high))),
            )
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
