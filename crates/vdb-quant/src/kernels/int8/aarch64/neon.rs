//! NEON integer kernels, without the dot product extension.
//!
//! There is no product of an unsigned and a signed byte, so 8-bit codes have their top bit flipped, which is 128
//! subtracted: `smull` of two signed bytes is at most 128 · 128 = 2¹⁴ in size and fits 16 bits, and `sadalp` adds
//! pairs of those into 32 bits. The shared loop adds 128 times the sum of the query's values back.
//! Codes up to 15 are signed bytes as they are: two products are at most 2 · 15 · 128 = 3,840 in size.

use std::arch::aarch64::{
    int32x4_t, uint8x16_t, vaddq_s32, vaddvq_s32, vandq_u8, vdupq_n_s32, vdupq_n_u8, veorq_u8, vget_high_s8,
    vget_low_s8, vld1q_s8, vld1q_u8, vmlal_s8, vmull_s8, vpadalq_s16, vreinterpretq_s8_u8, vshrq_n_u8,
};

use crate::kernels::int8::Int8Isa;
use crate::kernels::int8::generic::{Lanes, table};

table!(Int8Isa::Neon, Neon, target_feature(enable = "neon"));

/// Sixty-four bytes are four registers, their sums one.
struct Neon;

impl Lanes for Neon {
    const OFFSET: i32 = 128;
    type Codes = [uint8x16_t; 4];
    type Sums = int32x4_t;

    #[inline(always)]
    unsafe fn zero() -> int32x4_t {
        // SAFETY: the trait's contract gives NEON.
        unsafe { vdupq_n_s32(0) }
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> [uint8x16_t; 4] {
        // SAFETY: the trait's contract gives NEON and 64 readable bytes.
        unsafe { [vld1q_u8(from), vld1q_u8(from.add(16)), vld1q_u8(from.add(32)), vld1q_u8(from.add(48))] }
    }

    #[inline(always)]
    unsafe fn nibbles(codes: [uint8x16_t; 4]) -> [[uint8x16_t; 4]; 2] {
        // SAFETY: the trait's contract gives NEON.
        unsafe {
            let mask = vdupq_n_u8(15);
            let [a, b, c, d] = codes;
            [
                [vandq_u8(a, mask), vandq_u8(b, mask), vandq_u8(c, mask), vandq_u8(d, mask)],
                [vshrq_n_u8::<4>(a), vshrq_n_u8::<4>(b), vshrq_n_u8::<4>(c), vshrq_n_u8::<4>(d)],
            ]
        }
    }

    #[inline(always)]
    unsafe fn bytes(sums: int32x4_t, codes: [uint8x16_t; 4], query: *const i8) -> int32x4_t {
        // SAFETY: the trait's contract gives NEON and 64 readable bytes at `query`.
        unsafe {
            let mut sums = sums;
            let flip = vdupq_n_u8(128);
            for (i, codes) in codes.into_iter().enumerate() {
                let codes = vreinterpretq_s8_u8(veorq_u8(codes, flip));
                let values = vld1q_s8(query.add(16 * i));
                sums = vpadalq_s16(sums, vmull_s8(vget_low_s8(codes), vget_low_s8(values)));
                sums = vpadalq_s16(sums, vmull_s8(vget_high_s8(codes), vget_high_s8(values)));
            }
            sums
        }
    }

    #[inline(always)]
    unsafe fn small(sums: int32x4_t, codes: [uint8x16_t; 4], query: *const i8) -> int32x4_t {
        // SAFETY: the trait's contract gives NEON and 64 readable bytes at `query`.
        unsafe {
            let mut sums = sums;
            for (i, codes) in codes.into_iter().enumerate() {
                let codes = vreinterpretq_s8_u8(codes);
                let values = vld1q_s8(query.add(16 * i));
                let products = vmull_s8(vget_low_s8(codes), vget_low_s8(values));
                sums = vpadalq_s16(sums, vmlal_s8(products, vget_high_s8(codes), vget_high_s8(values)));
            }
            sums
        }
    }

    #[inline(always)]
    unsafe fn total(sums: [int32x4_t; 4]) -> i32 {
        // SAFETY: the trait's contract gives NEON.
        unsafe {
            let [a, b, c, d] = sums;
            vaddvq_s32(vaddq_s32(vaddq_s32(a, b), vaddq_s32(c, d)))
        }
    }

    #[inline(always)]
    unsafe fn totals(sums: [int32x4_t; 4]) -> [i32; 4] {
        // SAFETY: the trait's contract gives NEON.
        unsafe { [vaddvq_s32(sums[0]), vaddvq_s32(sums[1]), vaddvq_s32(sums[2]), vaddvq_s32(sums[3])] }
    }
}
