//! AVX2: 32 bits of a plane are spread to a mask of bytes (`vpshufb` repeats each byte eight times, a compare picks
//! its bit), and `vpmaddubsw` weighs the query's bytes that are kept. It cannot saturate: two products are at least
//! −2·128·128 = −32,768 and at most 2·128·127.

use std::arch::x86_64::{
    _mm_add_epi32, _mm_cvtsi128_si32, _mm_shuffle_epi32, _mm256_add_epi32, _mm256_and_si256,
    _mm256_castsi256_si128, _mm256_cmpeq_epi8, _mm256_extracti128_si256, _mm256_loadu_si256,
    _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32,
    _mm256_set1_epi64x, _mm256_setr_epi64x, _mm256_setzero_si256, _mm256_shuffle_epi8,
};

use super::Rows;

/// # Safety
/// The CPU has AVX2; the query's length is a multiple of 64, and `planes` is `count` times an eighth of it, 1 to 8.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn dot(planes: &[u8], count: usize, query: &[i8]) -> i32 {
    let plane = query.len() / 8;
    let spread = _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
    let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64.cast_signed());
    let ones = _mm256_set1_epi16(1);
    let mut acc = _mm256_setzero_si256();
    for at in (0..query.len()).step_by(32) {
        // SAFETY: `at + 32 <= query.len()`.
        let q = unsafe { _mm256_loadu_si256(query.as_ptr().add(at).cast()) };
        for p in 0..count {
            // SAFETY: plane `p` has `plane` bytes from `p * plane` on, and `at / 8 + 4 <= plane`.
            let bits = unsafe { planes.as_ptr().add(p * plane + at / 8).cast::<i32>().read_unaligned() };
            let bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(bits), spread);
            let keep = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
            let weight = _mm256_set1_epi8((1_u8 << (count - 1 - p)).cast_signed());
            let pairs = _mm256_maddubs_epi16(weight, _mm256_and_si256(keep, q));
            acc = _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, ones));
        }
    }
    let four = _mm_add_epi32(_mm256_castsi256_si128(acc), _mm256_extracti128_si256::<1>(acc));
    let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two)))
}

/// # Safety
/// As [`dot`], with such planes at the end of as many rows as there are sums.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn dots(rows: Rows<'_>, query: &[i8], sums: &mut [i32]) {
    for (sum, planes) in sums.iter_mut().zip(rows.planes(query.len())) {
        // SAFETY: the caller's.
        *sum = unsafe { dot(planes, rows.count, query) };
    }
}
