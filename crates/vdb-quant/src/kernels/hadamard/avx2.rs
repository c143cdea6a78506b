//! AVX2: chunks of 64 values in eight registers.

use std::arch::x86_64::{
    __m256, _mm256_add_ps, _mm256_loadu_ps, _mm256_mul_ps, _mm256_permute_ps, _mm256_permute2f128_ps,
    _mm256_set1_ps, _mm256_setr_ps, _mm256_storeu_ps, _mm256_sub_ps, _mm256_xor_ps,
};

use super::between;

/// Values of a register.
const LANES: usize = 8;

/// The first stages of the transform of `values`, a power of two of them and at least 16; gives the width of the next
/// stage.
///
/// # Safety
/// The CPU has AVX2, and there are as many signs as values, each 0 or 2³¹.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn first(values: &mut [f32], signs: &[u32], scale: f32) -> usize {
    // SAFETY: this function's own contract, and the lengths are powers of two.
    unsafe {
        match values.len() {
            16 => chunks::<2>(values, signs, scale),
            32 => chunks::<4>(values, signs, scale),
            _ => chunks::<8>(values, signs, scale),
        }
    }
}

/// # Safety
/// As [`first`], for a multiple of `R` registers.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn chunks<const R: usize>(values: &mut [f32], signs: &[u32], scale: f32) -> usize {
    let scale = _mm256_set1_ps(scale);
    for (values, signs) in values.chunks_exact_mut(R * LANES).zip(signs.chunks_exact(R * LANES)) {
        let mut registers = [scale; R];
        for (i, register) in registers.iter_mut().enumerate() {
            // SAFETY: a chunk is `R` registers of values and of signs.
            let (value, sign) = unsafe {
                (
                    _mm256_loadu_ps(values.as_ptr().add(i * LANES)),
                    _mm256_loadu_ps(signs.as_ptr().add(i * LANES).cast()),
                )
            };
            *register = within(_mm256_mul_ps(_mm256_xor_ps(value, sign), scale));
        }
        between(&mut registers, |a, b| (_mm256_add_ps(a, b), _mm256_sub_ps(a, b)));
        for (i, &register) in registers.iter().enumerate() {
            // SAFETY: as above.
            unsafe { _mm256_storeu_ps(values.as_mut_ptr().add(i * LANES), register) };
        }
    }
    R * LANES
}

/// The stages of widths 1, 2 and 4.
#[inline]
#[target_feature(enable = "avx2")]
fn within(x: __m256) -> __m256 {
    const A: f32 = 0.0;
    const B: f32 = -0.0;
    let one = _mm256_setr_ps(A, B, A, B, A, B, A, B);
    let two = _mm256_setr_ps(A, A, B, B, A, A, B, B);
    let four = _mm256_setr_ps(A, A, A, A, B, B, B, B);
    let x = _mm256_add_ps(_mm256_permute_ps::<0b10_11_00_01>(x), _mm256_xor_ps(x, one));
    let x = _mm256_add_ps(_mm256_permute_ps::<0b01_00_11_10>(x), _mm256_xor_ps(x, two));
    _mm256_add_ps(_mm256_permute2f128_ps::<0x01>(x, x), _mm256_xor_ps(x, four))
}
