//! AVX-512 VNNI: `vpdpbusd` multiplies 64 unsigned by 64 signed bytes and adds groups of four to 16 sums of 32 bits.
//! The instruction (without the final `s`) does not saturate: four products of at most 255 · 128 in size are summed
//! exactly and added modulo 2³², and the true sums stay inside `i32` (see the bound in [`super::super`]).

use std::arch::x86_64::{
    __m512i, _mm_add_epi32, _mm_storeu_si128, _mm256_add_epi32, _mm256_castsi256_si128,
    _mm256_extracti128_si256, _mm512_add_epi32, _mm512_and_si512, _mm512_castsi512_si256,
    _mm512_dpbusd_epi32, _mm512_extracti64x4_epi64, _mm512_loadu_si512, _mm512_reduce_add_epi32,
    _mm512_set1_epi32, _mm512_setzero_si512, _mm512_srli_epi32, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

use crate::kernels::int8::Int8Isa;
use crate::kernels::int8::generic::{Lanes, table};

table!(Int8Isa::Avx512Vnni, Vnni, target_feature(enable = "avx512f,avx512vnni"));

struct Vnni;

impl Lanes for Vnni {
    const OFFSET: i32 = 0;
    type Codes = __m512i;
    type Sums = __m512i;

    #[inline(always)]
    unsafe fn zero() -> __m512i {
        // SAFETY: the trait's contract gives AVX-512F.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> __m512i {
        // SAFETY: the trait's contract gives AVX-512F and 64 readable bytes.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn nibbles(codes: __m512i) -> [__m512i; 2] {
        // SAFETY: the trait's contract gives AVX-512F. There is no shift of bytes: that of 32-bit lanes brings bits
        // of the neighbour in, which the mask takes out again.
        unsafe {
            let mask = _mm512_set1_epi32(0x0f0f_0f0f);
            [_mm512_and_si512(codes, mask), _mm512_and_si512(_mm512_srli_epi32::<4>(codes), mask)]
        }
    }

    #[inline(always)]
    unsafe fn bytes(sums: __m512i, codes: __m512i, query: *const i8) -> __m512i {
        // SAFETY: the trait's contract gives AVX-512 VNNI and 64 readable bytes.
        unsafe { _mm512_dpbusd_epi32(sums, codes, _mm512_loadu_si512(query.cast())) }
    }

    #[inline(always)]
    unsafe fn small(sums: __m512i, codes: __m512i, query: *const i8) -> __m512i {
        // SAFETY: this function's own contract.
        unsafe { Self::bytes(sums, codes, query) }
    }

    #[inline(always)]
    unsafe fn total(sums: [__m512i; 4]) -> i32 {
        // SAFETY: the trait's contract gives AVX-512F.
        unsafe {
            let [a, b, c, d] = sums;
            _mm512_reduce_add_epi32(_mm512_add_epi32(_mm512_add_epi32(a, b), _mm512_add_epi32(c, d)))
        }
    }

    #[inline(always)]
    unsafe fn totals(sums: [__m512i; 4]) -> [i32; 4] {
        // SAFETY: the trait's contract gives AVX-512F. Pairs of registers are folded into one, lanes of which belong to
        // the one or the other, until each of four lanes is the sum of one.
        unsafe {
            let [a, b, c, d] = sums;
            let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
            let quarters = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
            let halves =
                _mm256_add_epi32(_mm512_castsi512_si256(quarters), _mm512_extracti64x4_epi64::<1>(quarters));
            let sums = _mm_add_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves));
            let mut totals = [0; 4];
            _mm_storeu_si128(totals.as_mut_ptr().cast(), sums);
            totals
        }
    }
}
