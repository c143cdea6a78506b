//! AVX2 FastScan: two tables a register, one in each 128-bit half, as `vpshufb` looks up.

use std::arch::x86_64::{
    __m128i, __m256i, _mm_add_epi16, _mm_loadu_si128, _mm256_add_epi16, _mm256_add_epi32, _mm256_and_si256,
    _mm256_castsi256_si128, _mm256_cvtepu16_epi32, _mm256_extracti128_si256, _mm256_loadu_si256,
    _mm256_set1_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_slli_epi16, _mm256_srli_epi16,
    _mm256_storeu_si256, _mm256_sub_epi16, _mm256_zextsi128_si256,
};

use super::{BLOCK, FLUSH_BYTES, TABLE_BYTES};

/// # Safety
/// The CPU has AVX2; `codes` and `tables` are of one length, a multiple of 16.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn scan(codes: &[u8], tables: &[u8], sums: &mut [u32; BLOCK]) {
    let low = _mm256_set1_epi8(0x0F);
    let mut totals = [_mm256_setzero_si256(); 4];
    for (codes, tables) in codes.chunks(FLUSH_BYTES).zip(tables.chunks(FLUSH_BYTES)) {
        // `E + 256·O` and `O` of the low nibbles, then of the high ones.
        let mut acc = [_mm256_setzero_si256(); 4];
        let mut step = |codes: __m256i, tables: __m256i| {
            let first = _mm256_shuffle_epi8(tables, _mm256_and_si256(codes, low));
            let second = _mm256_shuffle_epi8(tables, _mm256_and_si256(_mm256_srli_epi16::<4>(codes), low));
            acc[0] = _mm256_add_epi16(acc[0], first);
            acc[1] = _mm256_add_epi16(acc[1], _mm256_srli_epi16::<8>(first));
            acc[2] = _mm256_add_epi16(acc[2], second);
            acc[3] = _mm256_add_epi16(acc[3], _mm256_srli_epi16::<8>(second));
        };
        let pairs = codes.len() / (2 * TABLE_BYTES);
        for pair in 0..pairs {
            let at = pair * 2 * TABLE_BYTES;
            // SAFETY: `at + 32 <= codes.len() == tables.len()`.
            let (codes, tables) = unsafe {
                (
                    _mm256_loadu_si256(codes.as_ptr().add(at).cast()),
                    _mm256_loadu_si256(tables.as_ptr().add(at).cast()),
                )
            };
            step(codes, tables);
        }
        if !codes.len().is_multiple_of(2 * TABLE_BYTES) {
            let at = pairs * 2 * TABLE_BYTES;
            // SAFETY: one table is left, `at + 16 == codes.len() == tables.len()`. The upper half of the tables is
            // zero and adds nothing.
            let (codes, tables) = unsafe {
                (
                    _mm256_zextsi128_si256(_mm_loadu_si128(codes.as_ptr().add(at).cast())),
                    _mm256_zextsi128_si256(_mm_loadu_si128(tables.as_ptr().add(at).cast())),
                )
            };
            step(codes, tables);
        }
        for half in 0..2 {
            let odd = acc[2 * half + 1];
            let even = _mm256_sub_epi16(acc[2 * half], _mm256_slli_epi16::<8>(odd));
            totals[2 * half] = _mm256_add_epi32(totals[2 * half], _mm256_cvtepu16_epi32(fold(even)));
            totals[2 * half + 1] = _mm256_add_epi32(totals[2 * half + 1], _mm256_cvtepu16_epi32(fold(odd)));
        }
    }
    for (eight, total) in sums.chunks_exact_mut(8).zip(totals) {
        // SAFETY: a chunk is eight `u32`, 32 writable bytes.
        unsafe { _mm256_storeu_si256(eight.as_mut_ptr().cast(), total) };
    }
}

/// Both halves' tables in one sum, below 2¹⁶ because a flush covers all tables of both.
#[target_feature(enable = "avx2")]
fn fold(sums: __m256i) -> __m128i {
    _mm_add_epi16(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums))
}
