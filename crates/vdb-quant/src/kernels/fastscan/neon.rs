//! NEON FastScan: one table a register (`tbl`), picks of both nibbles widened and added to 16-bit sums.

use std::arch::aarch64::{
    uint16x8_t, uint32x4_t, vaddq_u16, vaddw_high_u16, vaddw_u16, vandq_u8, vandq_u16, vdupq_n_u8,
    vdupq_n_u16, vdupq_n_u32, vget_low_u16, vld1q_u8, vqtbl1q_u8, vreinterpretq_u16_u8, vshrq_n_u8,
    vshrq_n_u16, vst1q_u32,
};

use super::{BLOCK, FLUSH_BYTES, TABLE_BYTES};

/// # Safety
/// The CPU has NEON; `codes` and `tables` are of one length, a multiple of 16.
#[target_feature(enable = "neon")]
pub(super) unsafe fn scan(codes: &[u8], tables: &[u8], sums: &mut [u32; BLOCK]) {
    let low = vdupq_n_u8(0x0F);
    let even_bytes = vdupq_n_u16(0x00FF);
    let mut totals = [vdupq_n_u32(0); 8];
    for (codes, tables) in codes.chunks(FLUSH_BYTES).zip(tables.chunks(FLUSH_BYTES)) {
        // Even and odd bytes of the low nibbles, then of the high ones.
        let mut acc = [vdupq_n_u16(0); 4];
        for at in (0..codes.len()).step_by(TABLE_BYTES) {
            // SAFETY: the length is a multiple of 16, so `at + 16 <= codes.len() == tables.len()`.
            let (codes, table) =
                unsafe { (vld1q_u8(codes.as_ptr().add(at)), vld1q_u8(tables.as_ptr().add(at))) };
            let first = vreinterpretq_u16_u8(vqtbl1q_u8(table, vandq_u8(codes, low)));
            let second = vreinterpretq_u16_u8(vqtbl1q_u8(table, vshrq_n_u8::<4>(codes)));
            acc[0] = vaddq_u16(acc[0], vandq_u16(first, even_bytes));
            acc[1] = vaddq_u16(acc[1], vshrq_n_u16::<8>(first));
            acc[2] = vaddq_u16(acc[2], vandq_u16(second, even_bytes));
            acc[3] = vaddq_u16(acc[3], vshrq_n_u16::<8>(second));
        }
        for (totals, acc) in totals.chunks_exact_mut(2).zip(acc) {
            widen(totals, acc);
        }
    }
    for (four, total) in sums.chunks_exact_mut(4).zip(totals) {
        // SAFETY: a chunk is four writable `u32`.
        unsafe { vst1q_u32(four.as_mut_ptr(), total) };
    }
}

#[target_feature(enable = "neon")]
fn widen(totals: &mut [uint32x4_t], sums: uint16x8_t) {
    totals[0] = vaddw_u16(totals[0], vget_low_u16(sums));
    totals[1] = vaddw_high_u16(totals[1], sums);
}
