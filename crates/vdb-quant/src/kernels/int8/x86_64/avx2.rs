//! AVX2 integer kernels that cannot saturate.
//!
//! `vpmaddubsw` adds two products of an unsigned and a signed byte into 16 bits with saturation, so with codes up to
//! 255 it is wrong. For 8-bit codes both sides are widened to 16 bits instead and `vpmaddwd` adds two products into
//! 32 bits: 2 · 255 · 128 = 65,280. For codes up to 15 `vpmaddubsw` is exact: 2 · 15 · 128 = 3,840 < 2¹⁵.

use std::arch::x86_64::{
    __m256i, _mm_add_epi32, _mm_cvtsi128_si32, _mm_loadu_si128, _mm_shuffle_epi32, _mm_storeu_si128,
    _mm256_add_epi16, _mm256_add_epi32, _mm256_and_si256, _mm256_castsi256_si128, _mm256_cvtepi8_epi16,
    _mm256_cvtepu8_epi16, _mm256_extracti128_si256, _mm256_hadd_epi32, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_setzero_si256, _mm256_srli_epi16,
};

use crate::kernels::int8::Int8Isa;
use crate::kernels::int8::generic::{Lanes, table};

table!(Int8Isa::Avx2, Avx2, target_feature(enable = "avx2"));

/// Sixty-four bytes are two registers, their sums one.
struct Avx2;

impl Lanes for Avx2 {
    const OFFSET: i32 = 0;
    type Codes = [__m256i; 2];
    type Sums = __m256i;

    #[inline(always)]
    unsafe fn zero() -> __m256i {
        // SAFETY: the trait's contract gives AVX2.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> [__m256i; 2] {
        // SAFETY: the trait's contract gives AVX2 and 64 readable bytes.
        unsafe { [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast())] }
    }

    #[inline(always)]
    unsafe fn nibbles(codes: [__m256i; 2]) -> [[__m256i; 2]; 2] {
        // SAFETY: the trait's contract gives AVX2. There is no shift of bytes: that of 16-bit lanes brings bits of
        // the neighbour in, which the mask takes out again.
        unsafe {
            let mask = _mm256_set1_epi8(15);
            let [a, b] = codes;
            [
                [_mm256_and_si256(a, mask), _mm256_and_si256(b, mask)],
                [
                    _mm256_and_si256(_mm256_srli_epi16::<4>(a), mask),
                    _mm256_and_si256(_mm256_srli_epi16::<4>(b), mask),
                ],
            ]
        }
    }

    #[inline(always)]
    unsafe fn bytes(sums: __m256i, codes: [__m256i; 2], query: *const i8) -> __m256i {
        // SAFETY: the trait's contract gives AVX2 and 64 readable bytes at `query`.
        unsafe {
            let mut sums = sums;
            for (i, half) in codes.into_iter().enumerate() {
                let quarters = [_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half)];
                for (j, quarter) in quarters.into_iter().enumerate() {
                    let values = _mm_loadu_si128(query.add(32 * i + 16 * j).cast());
                    let products =
                        _mm256_madd_epi16(_mm256_cvtepu8_epi16(quarter), _mm256_cvtepi8_epi16(values));
                    sums = _mm256_add_epi32(sums, products);
                }
            }
            sums
        }
    }

    #[inline(always)]
    unsafe fn small(sums: __m256i, codes: [__m256i; 2], query: *const i8) -> __m256i {
        // SAFETY: the trait's contract gives AVX2 and 64 readable bytes at `query`.
        unsafe {
            let [a, b] = codes;
            let a = _mm256_maddubs_epi16(a, _mm256_loadu_si256(query.cast()));
            let b = _mm256_maddubs_epi16(b, _mm256_loadu_si256(query.add(32).cast()));
            // Each lane is at most 3,840 in size, two of them 7,680: inside 16 bits.
            let pairs = _mm256_madd_epi16(_mm256_add_epi16(a, b), _mm256_set1_epi16(1));
            _mm256_add_epi32(sums, pairs)
        }
    }

    #[inline(always)]
    unsafe fn total(sums: [__m256i; 4]) -> i32 {
        // SAFETY: the trait's contract gives AVX2, which includes SSE2.
        unsafe {
            let [a, b, c, d] = sums;
            let eight = _mm256_add_epi32(_mm256_add_epi32(a, b), _mm256_add_epi32(c, d));
            let four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256::<1>(eight));
            let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b00_00_11_10>(four));
            _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b00_00_00_01>(two)))
        }
    }

    #[inline(always)]
    unsafe fn totals(sums: [__m256i; 4]) -> [i32; 4] {
        // SAFETY: the trait's contract gives AVX2. Sums of neighbouring lanes of two registers, twice, leave the four
        // sums of each half side by side.
        unsafe {
            let [a, b, c, d] = sums;
            let halves = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
            let sums = _mm_add_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves));
            let mut totals = [0; 4];
            _mm_storeu_si128(totals.as_mut_ptr().cast(), sums);
            totals
        }
    }
}
