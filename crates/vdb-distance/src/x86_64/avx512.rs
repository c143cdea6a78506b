//! AVX-512F kernels: sixteen lanes are one register, and a tail is one masked load that touches no memory
//! past the end.

use std::arch::x86_64::{
    __m512, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehl_ps, _mm_shuffle_ps, _mm256_add_ps,
    _mm256_castpd_ps, _mm256_castps256_ps128, _mm256_extractf128_ps, _mm512_abs_ps, _mm512_add_ps,
    _mm512_castps_pd, _mm512_castps512_ps256, _mm512_extractf64x4_pd, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_maskz_loadu_ps, _mm512_setzero_ps, _mm512_sub_ps,
};

use crate::dispatch::{Family, Isa, Table};
use crate::generic::{self, Block, Lanes, Op};

pub(crate) static TABLE: Table = Table {
    isa: Isa::Avx512,
    dot: family::<generic::Dot>(),
    l2_squared: family::<generic::L2Squared>(),
    l1: family::<generic::L1>(),
};

const fn family<O: Op>() -> Family {
    Family { pair: pair::<O>, gather: gather::<O>, rows: rows::<O>, tile: tile::<O> }
}

/// # Safety
/// As for [`generic::pair`], on a CPU with AVX-512F.
#[target_feature(enable = "avx512f")]
unsafe fn pair<O: Op>(a: &[f32], b: &[f32]) -> f32 {
    // SAFETY: this function's own contract.
    unsafe { generic::pair::<F32x16, O>(a, b) }
}

/// # Safety
/// As for [`generic::gather`], on a CPU with AVX-512F.
#[target_feature(enable = "avx512f")]
unsafe fn gather<O: Op>(block: &Block<'_>, ids: &[u32], out: &mut [f32]) {
    // SAFETY: this function's own contract.
    unsafe { generic::gather::<F32x16, O>(block, ids, out) }
}

/// # Safety
/// As for [`generic::rows`], on a CPU with AVX-512F.
#[target_feature(enable = "avx512f")]
unsafe fn rows<O: Op>(block: &Block<'_>, first: usize, out: &mut [f32]) {
    // SAFETY: this function's own contract.
    unsafe { generic::rows::<F32x16, O>(block, first, out) }
}

/// # Safety
/// As for [`generic::tile`], on a CPU with AVX-512F.
#[target_feature(enable = "avx512f")]
unsafe fn tile<O: Op>(queries: &[&[f32]], block: &Block<'_>, first: usize, out: &mut [f32]) {
    // SAFETY: this function's own contract.
    unsafe { generic::tile::<F32x16, O, 4, 5>(queries, block, first, out) }
}

#[derive(Clone, Copy)]
struct F32x16(__m512);

impl Lanes for F32x16 {
    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the trait's contract gives AVX-512F.
        F32x16(unsafe { _mm512_setzero_ps() })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the trait's contract gives AVX-512F and sixteen readable floats.
        F32x16(unsafe { _mm512_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn load_partial(from: *const f32, count: usize) -> Self {
        debug_assert!(count < generic::LANES);
        // SAFETY: the trait's contract gives AVX-512F and `count` readable floats; lanes that the mask leaves
        // out are not read.
        F32x16(unsafe { _mm512_maskz_loadu_ps((1 << count) - 1, from) })
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the trait's contract gives AVX-512F.
        F32x16(unsafe { _mm512_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: the trait's contract gives AVX-512F.
        F32x16(unsafe { _mm512_sub_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn abs(self) -> Self {
        // SAFETY: the trait's contract gives AVX-512F.
        F32x16(unsafe { _mm512_abs_ps(self.0) })
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: the trait's contract gives AVX-512F.
        F32x16(unsafe { _mm512_fmadd_ps(self.0, factor.0, addend.0) })
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: the trait's contract gives AVX-512F, which includes AVX and SSE.
        unsafe {
            let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(self.0)));
            let eight = _mm256_add_ps(_mm512_castps512_ps256(self.0), high);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
}
