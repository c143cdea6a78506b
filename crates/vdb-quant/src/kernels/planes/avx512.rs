//! AVX-512 with VNNI: a plane's 64 bits are a mask. With one plane it keeps or clears the query's bytes; with more, masks
//! of all planes put the levels together, byte by byte, so that `vpdpbusd` multiplies once whatever their number.

use std::arch::x86_64::{
    __m128i, __m512i, _mm_add_epi32, _mm_cvtsi128_si32, _mm_storeu_si128, _mm256_add_epi32,
    _mm256_castsi256_si128, _mm256_extracti128_si256, _mm512_add_epi32, _mm512_castsi512_si256,
    _mm512_dpbusd_epi32, _mm512_extracti64x4_epi64, _mm512_loadu_si512, _mm512_mask_add_epi8,
    _mm512_maskz_mov_epi8, _mm512_set1_epi8, _mm512_setzero_si512, _mm512_unpackhi_epi32,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

use super::Rows;

/// Rows whose sums are added up together.
const TOGETHER: usize = 4;

/// # Safety
/// The CPU has AVX-512F, BW and VNNI; the query's length is a multiple of 64, and `planes` is `count` times an eighth
/// of it, 1 to 8.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) unsafe fn dot(planes: &[u8], count: usize, query: &[i8]) -> i32 {
    // SAFETY: this function's own contract.
    let sums = unsafe {
        match count {
            1 => lanes::<1>(planes, query),
            2 => lanes::<2>(planes, query),
            3 => lanes::<3>(planes, query),
            4 => lanes::<4>(planes, query),
            5 => lanes::<5>(planes, query),
            6 => lanes::<6>(planes, query),
            7 => lanes::<7>(planes, query),
            _ => lanes::<8>(planes, query),
        }
    };
    let zero = _mm512_setzero_si512();
    _mm_cvtsi128_si32(added([sums, zero, zero, zero]))
}

/// # Safety
/// As [`dot`], with such planes at the end of as many rows as there are sums.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) unsafe fn dots(rows: Rows<'_>, query: &[i8], sums: &mut [i32]) {
    // SAFETY: this function's own contract.
    unsafe {
        match rows.count {
            1 => all::<1>(rows, query, sums),
            2 => all::<2>(rows, query, sums),
            3 => all::<3>(rows, query, sums),
            4 => all::<4>(rows, query, sums),
            5 => all::<5>(rows, query, sums),
            6 => all::<6>(rows, query, sums),
            7 => all::<7>(rows, query, sums),
            _ => all::<8>(rows, query, sums),
        }
    }
}

/// # Safety
/// As [`dots`], with `B` planes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn all<const B: usize>(rows: Rows<'_>, query: &[i8], sums: &mut [i32]) {
    let mut planes = rows.planes(query.len());
    let (fours, left) = sums.as_chunks_mut::<TOGETHER>();
    for four in fours {
        let mut lanes = [_mm512_setzero_si512(); TOGETHER];
        for (lanes, planes) in lanes.iter_mut().zip(&mut planes) {
            // SAFETY: the caller's.
            *lanes = unsafe { self::lanes::<B>(planes, query) };
        }
        // SAFETY: four sums are sixteen writable bytes.
        unsafe { _mm_storeu_si128(four.as_mut_ptr().cast(), added(lanes)) };
    }
    for (sum, planes) in left.iter_mut().zip(planes) {
        // SAFETY: the caller's.
        *sum = unsafe { dot(planes, B, query) };
    }
}

/// The sum of each of four registers' lanes.
#[inline]
#[target_feature(enable = "avx512f")]
fn added([a, b, c, d]: [__m512i; TOGETHER]) -> __m128i {
    // Lanes of a and b in turn, then of all four.
    let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    let all = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    let half = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64::<1>(all));
    _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half))
}

/// Sixteen sums that add up to the product.
///
/// # Safety
/// As [`dot`], with `B` planes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn lanes<const B: usize>(planes: &[u8], query: &[i8]) -> __m512i {
    let plane = query.len() / 8;
    let ones = _mm512_set1_epi8(1);
    // Two sums in turn, so that one product need not wait for the one before it.
    let mut acc = [_mm512_setzero_si512(); 2];
    for at in (0..query.len()).step_by(64) {
        // SAFETY: `at + 64 <= query.len()`.
        let q = unsafe { _mm512_loadu_si512(query.as_ptr().add(at).cast()) };
        let mask = |p: usize| {
            // SAFETY: plane `p` has `plane` bytes from `p * plane` on, and `at / 8 + 8 <= plane`.
            let bits = unsafe { planes.as_ptr().add(p * plane + at / 8).cast::<u64>().read_unaligned() };
            u64::from_le(bits)
        };
        let (levels, q) = if B == 1 {
            (ones, _mm512_maskz_mov_epi8(mask(0), q))
        } else {
            let weight = |p: usize| _mm512_set1_epi8((1_u8 << (B - 1 - p)).cast_signed());
            let mut levels = _mm512_maskz_mov_epi8(mask(0), weight(0));
            for p in 1..B {
                levels = _mm512_mask_add_epi8(levels, mask(p), levels, weight(p));
            }
            (levels, q)
        };
        acc[0] = _mm512_dpbusd_epi32(acc[0], levels, q);
        acc = [acc[1], acc[0]];
    }
    _mm512_add_epi32(acc[0], acc[1])
}
