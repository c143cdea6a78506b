//! AVX-512 VPOPCNTDQ: the bits of eight words a step; what is left at the end is loaded under a mask of words.

use std::arch::x86_64::{
    _mm512_add_epi64, _mm512_loadu_epi64, _mm512_maskz_loadu_epi64, _mm512_popcnt_epi64,
    _mm512_reduce_add_epi64, _mm512_setzero_si512, _mm512_xor_si512,
};

use super::WORD;

super::gather!(target_feature(enable = "avx512f,avx512vpopcntdq"));

/// # Safety
/// The CPU has AVX-512F and VPOPCNTDQ; the query is a multiple of 8 bytes, at least 8.
#[inline]
#[target_feature(enable = "avx512f,avx512vpopcntdq")]
pub(super) unsafe fn rows(query: &[u8], rows: &[u8], out: &mut [u32]) {
    let whole = query.len() / 64 * 64;
    let mask = (1_u8 << ((query.len() - whole) / WORD)) - 1;
    for (row, out) in rows.chunks_exact(query.len()).zip(out) {
        let mut bits = _mm512_setzero_si512();
        for at in (0..whole).step_by(64) {
            // SAFETY: `at + 64 <= query.len() == row.len()`.
            let different = unsafe {
                _mm512_xor_si512(
                    _mm512_loadu_epi64(query.as_ptr().add(at).cast()),
                    _mm512_loadu_epi64(row.as_ptr().add(at).cast()),
                )
            };
            bits = _mm512_add_epi64(bits, _mm512_popcnt_epi64(different));
        }
        if mask != 0 {
            // SAFETY: the mask has a bit for each word after `whole`; words that it leaves out are not read.
            let different = unsafe {
                _mm512_xor_si512(
                    _mm512_maskz_loadu_epi64(mask, query.as_ptr().add(whole).cast()),
                    _mm512_maskz_loadu_epi64(mask, row.as_ptr().add(whole).cast()),
                )
            };
            bits = _mm512_add_epi64(bits, _mm512_popcnt_epi64(different));
        }
        *out = _mm512_reduce_add_epi64(bits) as u32;
    }
}
