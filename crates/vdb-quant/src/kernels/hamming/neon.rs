//! NEON: `cnt` counts the bits of sixteen bytes, `addlv` adds them up: at most 128, every step.

use std::arch::aarch64::{vaddlvq_u8, vcntq_u8, veorq_u8, vld1q_u8};

super::gather!(target_feature(enable = "neon"));

/// # Safety
/// The CPU has NEON; the query is a multiple of 8 bytes, at least 8.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn rows(query: &[u8], rows: &[u8], out: &mut [u32]) {
    let whole = query.len() / 16 * 16;
    for (row, out) in rows.chunks_exact(query.len()).zip(out) {
        let mut tail = [0];
        if whole < query.len() {
            super::portable(&query[whole..], &row[whole..], &mut tail);
        }
        *out = tail[0];
        for at in (0..whole).step_by(16) {
            // SAFETY: `at + 16 <= query.len() == row.len()`.
            let different =
                unsafe { veorq_u8(vld1q_u8(query.as_ptr().add(at)), vld1q_u8(row.as_ptr().add(at))) };
            *out += u32::from(vaddlvq_u8(vcntq_u8(different)));
        }
    }
}
