//! NEON: sixteen bits of a plane are spread to a mask of bytes, and the query's bytes that are kept are added
//! pairwise, twice, to 32-bit sums; planes are weighed by doubling.

use std::arch::aarch64::{
    vaddvq_s32, vandq_s8, vcombine_u8, vdup_n_u8, vdupq_n_s32, vld1q_s8, vld1q_u8, vpadalq_s16, vpaddlq_s8,
    vreinterpretq_s8_u8, vtstq_u8,
};

/// The bit of each of sixteen dimensions inside its byte.
const BITS: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];

use super::Rows;

/// # Safety
/// The CPU has NEON; the query's length is a multiple of 64, and `planes` is `_count` times an eighth of it, 1 to 8.
#[target_feature(enable = "neon")]
pub(super) unsafe fn dot(planes: &[u8], _count: usize, query: &[i8]) -> i32 {
    // SAFETY: the array is sixteen readable bytes.
    let bit = unsafe { vld1q_u8(BITS.as_ptr()) };
    let mut value = 0;
    for plane in planes.chunks_exact(query.len() / 8) {
        let mut acc = vdupq_n_s32(0);
        for (bytes, q) in plane.chunks_exact(2).zip(query.chunks_exact(16)) {
            // SAFETY: the chunk is sixteen readable bytes.
            let q = unsafe { vld1q_s8(q.as_ptr()) };
            let spread = vcombine_u8(vdup_n_u8(bytes[0]), vdup_n_u8(bytes[1]));
            let kept = vandq_s8(vreinterpretq_s8_u8(vtstq_u8(spread, bit)), q);
            acc = vpadalq_s16(acc, vpaddlq_s8(kept));
        }
        value = 2 * value + vaddvq_s32(acc);
    }
    value
}

/// # Safety
/// As [`dot`], with such planes at the end of as many rows as there are sums.
#[target_feature(enable = "neon")]
pub(super) unsafe fn dots(rows: Rows<'_>, query: &[i8], sums: &mut [i32]) {
    for (sum, planes) in sums.iter_mut().zip(rows.planes(query.len())) {
        // SAFETY: the caller's.
        *sum = unsafe { dot(planes, rows.count, query) };
    }
}
