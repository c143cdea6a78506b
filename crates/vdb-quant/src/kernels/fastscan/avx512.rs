//! AVX-512BW FastScan: four tables a register; what is left at the end is loaded under a mask, and tables that are
//! not there are zero.

use std::arch::x86_64::{
    __m128i, __m512i, _mm_add_epi16, _mm256_add_epi16, _mm256_add_epi32, _mm256_castsi256_si128,
    _mm256_cvtepu16_epi32, _mm256_extracti128_si256, _mm256_setzero_si256, _mm256_storeu_si256,
    _mm512_add_epi16, _mm512_and_si512, _mm512_castsi512_si256, _mm512_extracti64x4_epi64,
    _mm512_loadu_si512, _mm512_maskz_loadu_epi8, _mm512_set1_epi8, _mm512_setzero_si512, _mm512_shuffle_epi8,
    _mm512_slli_epi16, _mm512_srli_epi16, _mm512_sub_epi16,
};

use super::{BLOCK, FLUSH_BYTES};

/// Bytes of a register.
const STEP: usize = 64;

/// # Safety
/// The CPU has AVX-512F and AVX-512BW; `codes` and `tables` are of one length.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn scan(codes: &[u8], tables: &[u8], sums: &mut [u32; BLOCK]) {
    let low = _mm512_set1_epi8(0x0F);
    let mut totals = [_mm256_setzero_si256(); 4];
    for (codes, tables) in codes.chunks(FLUSH_BYTES).zip(tables.chunks(FLUSH_BYTES)) {
        // `E + 256·O` and `O` of the low nibbles, then of the high ones.
        let mut acc = [_mm512_setzero_si512(); 4];
        let mut step = |codes: __m512i, tables: __m512i| {
            let first = _mm512_shuffle_epi8(tables, _mm512_and_si512(codes, low));
            let second = _mm512_shuffle_epi8(tables, _mm512_and_si512(_mm512_srli_epi16::<4>(codes), low));
            acc[0] = _mm512_add_epi16(acc[0], first);
            acc[1] = _mm512_add_epi16(acc[1], _mm512_srli_epi16::<8>(first));
            acc[2] = _mm512_add_epi16(acc[2], second);
            acc[3] = _mm512_add_epi16(acc[3], _mm512_srli_epi16::<8>(second));
        };
        let whole = codes.len() / STEP * STEP;
        for at in (0..whole).step_by(STEP) {
            // SAFETY: `at + 64 <= codes.len() == tables.len()`.
            let (codes, tables) = unsafe {
                (
                    _mm512_loadu_si512(codes.as_ptr().add(at).cast()),
                    _mm512_loadu_si512(tables.as_ptr().add(at).cast()),
                )
            };
            step(codes, tables);
        }
        let left = codes.len() - whole;
        if left > 0 {
            let mask = (1_u64 << left) - 1;
            // SAFETY: `left < 64` bytes after `whole` are in both slices; the mask keeps all others from being read.
            let (codes, tables) = unsafe {
                (
                    _mm512_maskz_loadu_epi8(mask, codes.as_ptr().add(whole).cast()),
                    _mm512_maskz_loadu_epi8(mask, tables.as_ptr().add(whole).cast()),
                )
            };
            step(codes, tables);
        }
        for half in 0..2 {
            let odd = acc[2 * half + 1];
            let even = _mm512_sub_epi16(acc[2 * half], _mm512_slli_epi16::<8>(odd));
            totals[2 * half] = _mm256_add_epi32(totals[2 * half], _mm256_cvtepu16_epi32(fold(even)));
            totals[2 * half + 1] = _mm256_add_epi32(totals[2 * half + 1], _mm256_cvtepu16_epi32(fold(odd)));
        }
    }
    for (eight, total) in sums.chunks_exact_mut(8).zip(totals) {
        // SAFETY: a chunk is eight `u32`, 32 writable bytes.
        unsafe { _mm256_storeu_si256(eight.as_mut_ptr().cast(), total) };
    }
}

/// The four quarters' tables in one sum, below 2¹⁶ because a flush covers all tables of all four.
#[target_feature(enable = "avx512f,avx512bw")]
fn fold(sums: __m512i) -> __m128i {
    let two = _mm256_add_epi16(_mm512_castsi512_si256(sums), _mm512_extracti64x4_epi64::<1>(sums));
    _mm_add_epi16(_mm256_castsi256_si128(two), _mm256_extracti128_si256::<1>(two))
}
