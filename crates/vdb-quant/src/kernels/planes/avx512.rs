//! AVX-512 with VNNI: a plane's 64 bits are a mask that keeps or clears the query's bytes, and `vpdpbusd` adds the
//! bytes kept, times the plane's weight, to 32-bit sums.

use std::arch::x86_64::{
    _mm512_add_epi32, _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_maskz_mov_epi8,
    _mm512_reduce_add_epi32, _mm512_set1_epi8, _mm512_setzero_si512,
};

use super::Rows;

/// # Safety
/// The CPU has AVX-512F, BW and VNNI; the query's length is a multiple of 64, and `planes` is `count` times an eighth
/// of it, 1 to 8.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) unsafe fn dot(planes: &[u8], count: usize, query: &[i8]) -> i32 {
    // SAFETY: this function's own contract.
    unsafe {
        match count {
            1 => sum::<1>(planes, query),
            2 => sum::<2>(planes, query),
            3 => sum::<3>(planes, query),
            4 => sum::<4>(planes, query),
            5 => sum::<5>(planes, query),
            6 => sum::<6>(planes, query),
            7 => sum::<7>(planes, query),
            _ => sum::<8>(planes, query),
        }
    }
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
    for (out, planes) in sums.iter_mut().zip(rows.planes(query.len())) {
        // SAFETY: the caller's.
        *out = unsafe { sum::<B>(planes, query) };
    }
}

/// # Safety
/// As [`dot`], with `B` planes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn sum<const B: usize>(planes: &[u8], query: &[i8]) -> i32 {
    let plane = query.len() / 8;
    // Four sums in turn, so that one product need not wait for the one before it.
    let mut acc = [_mm512_setzero_si512(); 4];
    for at in (0..query.len()).step_by(64) {
        // SAFETY: `at + 64 <= query.len()`.
        let q = unsafe { _mm512_loadu_si512(query.as_ptr().add(at).cast()) };
        for p in 0..B {
            // SAFETY: plane `p` has `plane` bytes from `p * plane` on, and `at / 8 + 8 <= plane`.
            let bits = unsafe { planes.as_ptr().add(p * plane + at / 8).cast::<u64>().read_unaligned() };
            let weight = _mm512_set1_epi8((1_u8 << (B - 1 - p)).cast_signed());
            let kept = _mm512_maskz_mov_epi8(u64::from_le(bits), q);
            acc[p % 4] = _mm512_dpbusd_epi32(acc[p % 4], weight, kept);
        }
        if B == 1 {
            acc = [acc[1], acc[2], acc[3], acc[0]];
        }
    }
    _mm512_reduce_add_epi32(_mm512_add_epi32(
        _mm512_add_epi32(acc[0], acc[1]),
        _mm512_add_epi32(acc[2], acc[3]),
    ))
}
