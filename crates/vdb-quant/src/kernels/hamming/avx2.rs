//! AVX2: bits of a nibble by `vpshufb` (Muła, Kurz & Lemire, 2018), bytes added up to 64-bit lanes by `vpsadbw`.

use std::arch::x86_64::{
    _mm_add_epi64, _mm_cvtsi128_si64, _mm_unpackhi_epi64, _mm256_add_epi8, _mm256_add_epi64,
    _mm256_and_si256, _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_loadu_si256, _mm256_sad_epu8,
    _mm256_set1_epi8, _mm256_setr_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_srli_epi16,
    _mm256_xor_si256,
};

super::gather!(target_feature(enable = "avx2"));

/// # Safety
/// The CPU has AVX2; the query is a multiple of 8 bytes, at least 8.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn rows(query: &[u8], rows: &[u8], out: &mut [u32]) {
    let counts = _mm256_setr_epi8(
        0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
    );
    let low = _mm256_set1_epi8(0x0F);
    let zero = _mm256_setzero_si256();
    let whole = query.len() / 32 * 32;
    for (row, out) in rows.chunks_exact(query.len()).zip(out) {
        let mut bits = zero;
        for at in (0..whole).step_by(32) {
            // SAFETY: `at + 32 <= query.len() == row.len()`.
            let different = unsafe {
                _mm256_xor_si256(
                    _mm256_loadu_si256(query.as_ptr().add(at).cast()),
                    _mm256_loadu_si256(row.as_ptr().add(at).cast()),
                )
            };
            let first = _mm256_shuffle_epi8(counts, _mm256_and_si256(different, low));
            let second =
                _mm256_shuffle_epi8(counts, _mm256_and_si256(_mm256_srli_epi16::<4>(different), low));
            bits = _mm256_add_epi64(bits, _mm256_sad_epu8(_mm256_add_epi8(first, second), zero));
        }
        let two = _mm_add_epi64(_mm256_castsi256_si128(bits), _mm256_extracti128_si256::<1>(bits));
        let sum = _mm_cvtsi128_si64(_mm_add_epi64(two, _mm_unpackhi_epi64(two, two))) as u32;
        let mut tail = [0];
        if whole < query.len() {
            super::portable(&query[whole..], &row[whole..], &mut tail);
        }
        *out = sum + tail[0];
    }
}
