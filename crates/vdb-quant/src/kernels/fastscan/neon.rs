//! NEON FastScan: `ld4` loads a group's four tables apart, `tbl` looks up, picks are widened and added to 16-bit sums.

use std::arch::aarch64::{
    uint16x8_t, uint32x4_t, vaddw_high_u8, vaddw_high_u16, vaddw_u8, vaddw_u16, vandq_u8, vdupq_n_u8,
    vdupq_n_u16, vdupq_n_u32, vget_low_u8, vget_low_u16, vld1q_u8, vld4q_u8, vqtbl1q_u8, vshrq_n_u8,
    vst1q_u32,
};

use super::{
    BLOCK, BlockEstimates, FLUSH_GROUPS, GROUP_BYTES, Scale, TABLE_BYTES, Tables8, estimate as shared,
};

/// # Safety
/// The CPU has NEON; otherwise as for every estimate.
#[target_feature(enable = "neon")]
pub(super) unsafe fn estimate(blocks: &[u8], tables: Tables8<'_>, scale: &Scale, out: &mut [BlockEstimates]) {
    // SAFETY: this function's own contract, and codes of a block are as long as the tables.
    shared::all(blocks, tables, scale, out, |codes, tables, sums| unsafe { scan(codes, tables, sums) });
}

/// # Safety
/// The CPU has NEON; `codes` and `tables` are of one length, a multiple of 64.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn scan(codes: &[u8], tables: &[u8], sums: &mut [u32; BLOCK]) {
    const FLUSH: usize = FLUSH_GROUPS * GROUP_BYTES;
    let low = vdupq_n_u8(0x0F);
    let mut totals = [vdupq_n_u32(0); 8];
    for (codes, tables) in codes.chunks(FLUSH).zip(tables.chunks(FLUSH)) {
        // Vectors 0 to 7, 8 to 15, and so on.
        let mut acc = [vdupq_n_u16(0); 4];
        for at in (0..codes.len()).step_by(GROUP_BYTES) {
            // SAFETY: the lengths are equal and a multiple of 64, so `at + 64` is within both.
            let four = unsafe { vld4q_u8(codes.as_ptr().add(at)) };
            for (t, codes) in [four.0, four.1, four.2, four.3].into_iter().enumerate() {
                // SAFETY: as above: one table of the group's four.
                let table = unsafe { vld1q_u8(tables.as_ptr().add(at + t * TABLE_BYTES)) };
                let first = vqtbl1q_u8(table, vandq_u8(codes, low));
                let second = vqtbl1q_u8(table, vshrq_n_u8::<4>(codes));
                acc[0] = vaddw_u8(acc[0], vget_low_u8(first));
                acc[1] = vaddw_high_u8(acc[1], first);
                acc[2] = vaddw_u8(acc[2], vget_low_u8(second));
                acc[3] = vaddw_high_u8(acc[3], second);
            }
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

#[inline]
#[target_feature(enable = "neon")]
fn widen(totals: &mut [uint32x4_t], sums: uint16x8_t) {
    totals[0] = vaddw_u16(totals[0], vget_low_u16(sums));
    totals[1] = vaddw_high_u16(totals[1], sums);
}
