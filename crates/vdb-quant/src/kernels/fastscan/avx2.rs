//! AVX2 FastScan: a group's words are transposed so that each 128-bit half holds the nibbles of one table, as
//! `vpshufb` looks up; even and odd bytes are summed apart.

use std::arch::x86_64::{
    __m128i, __m256i, _mm_add_epi16, _mm_cvtepu16_epi32, _mm_srli_si128, _mm_storeu_si128,
    _mm_unpackhi_epi16, _mm_unpacklo_epi16, _mm256_add_epi16, _mm256_and_si256, _mm256_castsi256_si128,
    _mm256_extracti128_si256, _mm256_loadu_si256, _mm256_permute2x128_si256, _mm256_set1_epi8,
    _mm256_set1_epi16, _mm256_setr_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_srli_epi16,
    _mm256_unpackhi_epi32, _mm256_unpackhi_epi64, _mm256_unpacklo_epi32, _mm256_unpacklo_epi64,
};

use super::{BLOCK, BlockEstimates, FLUSH_GROUPS, GROUP_BYTES, Scale, Tables8, estimate as shared};

/// # Safety
/// The CPU has AVX2; otherwise as for every estimate.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn estimate(blocks: &[u8], tables: Tables8<'_>, scale: &Scale, out: &mut [BlockEstimates]) {
    // SAFETY: this function's own contract, and codes of a block are as long as the tables.
    shared::all(blocks, tables, scale, out, |codes, tables, sums| unsafe { scan(codes, tables, sums) });
}

/// # Safety
/// The CPU has AVX2; `codes` and `tables` are of one length, a multiple of 64.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn scan(codes: &[u8], tables: &[u8], sums: &mut [u32; BLOCK]) {
    let low = _mm256_set1_epi8(0x0F);
    let even_bytes = _mm256_set1_epi16(0x00FF);
    sums.fill(0);
    const FLUSH: usize = FLUSH_GROUPS * GROUP_BYTES;
    for (codes, tables) in codes.chunks(FLUSH).zip(tables.chunks(FLUSH)) {
        // Even and odd bytes of the low nibbles, then of the high ones.
        let mut acc = [_mm256_setzero_si256(); 4];
        for at in (0..codes.len()).step_by(GROUP_BYTES) {
            // SAFETY: the lengths are equal and a multiple of 64, so `at + 64` is within both.
            let (codes, tables) = unsafe { (transposed(codes.as_ptr().add(at)), tables.as_ptr().add(at)) };
            for (half, codes) in codes.into_iter().enumerate() {
                // SAFETY: as above: two tables of the group's four.
                let table = unsafe { _mm256_loadu_si256(tables.add(half * 32).cast()) };
                let first = _mm256_shuffle_epi8(table, _mm256_and_si256(codes, low));
                let second = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16::<4>(codes), low));
                acc[0] = _mm256_add_epi16(acc[0], _mm256_and_si256(first, even_bytes));
                acc[1] = _mm256_add_epi16(acc[1], _mm256_srli_epi16::<8>(first));
                acc[2] = _mm256_add_epi16(acc[2], _mm256_and_si256(second, even_bytes));
                acc[3] = _mm256_add_epi16(acc[3], _mm256_srli_epi16::<8>(second));
            }
        }
        for (sums, acc) in sums.chunks_exact_mut(16).zip(acc.chunks_exact(2)) {
            add_sixteen(sums, fold(acc[0]), fold(acc[1]));
        }
    }
}

/// The bytes of tables 0 and 1, and of 2 and 3, of the group at `codes`: one table a half, by vector.
///
/// # Safety
/// The CPU has AVX2, and 64 bytes can be read.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn transposed(codes: *const u8) -> [__m256i; 2] {
    // Bytes of one table side by side, inside every sixteen.
    let gather = _mm256_setr_epi8(
        0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7,
        11, 15,
    );
    // SAFETY: the caller's 64 bytes.
    let (a, b) = unsafe { (_mm256_loadu_si256(codes.cast()), _mm256_loadu_si256(codes.add(32).cast())) };
    let (a, b) = (_mm256_shuffle_epi8(a, gather), _mm256_shuffle_epi8(b, gather));
    // Vectors 0 to 3 and 8 to 11, and 4 to 7 and 12 to 15.
    let (even, odd) = (_mm256_permute2x128_si256::<0x20>(a, b), _mm256_permute2x128_si256::<0x31>(a, b));
    // Words (table, vectors): (0, 0..4) (0, 4..8) (1, 0..4) (1, 4..8) in the low half, vectors from 8 on in the high.
    let (first, second) = (_mm256_unpacklo_epi32(even, odd), _mm256_unpackhi_epi32(even, odd));
    let halves = |words: __m256i| {
        let swapped = _mm256_permute2x128_si256::<0x01>(words, words);
        let table = _mm256_unpacklo_epi64(words, swapped);
        let next = _mm256_unpackhi_epi64(words, swapped);
        _mm256_permute2x128_si256::<0x20>(table, next)
    };
    [halves(first), halves(second)]
}

/// Both halves' tables in one sum, below 2¹⁶ because a flush covers all tables of both.
#[inline]
#[target_feature(enable = "avx2")]
fn fold(sums: __m256i) -> __m128i {
    _mm_add_epi16(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums))
}

/// Adds the sums of the vectors at even and odd places to sixteen 32-bit ones.
#[inline]
#[target_feature(enable = "avx2")]
fn add_sixteen(sums: &mut [u32], even: __m128i, odd: __m128i) {
    let (first, second) = (_mm_unpacklo_epi16(even, odd), _mm_unpackhi_epi16(even, odd));
    for (sums, eight) in sums.chunks_exact_mut(8).zip([first, second]) {
        for (sums, four) in sums.chunks_exact_mut(4).zip([eight, _mm_srli_si128::<8>(eight)]) {
            let mut new = [0_u32; 4];
            // SAFETY: `new` is sixteen writable bytes.
            unsafe { _mm_storeu_si128(new.as_mut_ptr().cast(), _mm_cvtepu16_epi32(four)) };
            sums.iter_mut().zip(new).for_each(|(sum, new)| *sum += new);
        }
    }
}
