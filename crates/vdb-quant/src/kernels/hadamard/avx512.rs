//! AVX-512: chunks of 256 values in sixteen registers.

use std::arch::x86_64::{
    __m512, _mm512_add_ps, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_mul_ps, _mm512_permute_ps, _mm512_set1_ps, _mm512_setr_ps,
    _mm512_shuffle_f32x4, _mm512_storeu_ps, _mm512_sub_ps, _mm512_xor_si512,
};

use super::between;

/// Values of a register.
const LANES: usize = 16;

/// The first stages of the transform of `values`, a power of two of them and at least 16; gives the width of the next
/// stage.
///
/// # Safety
/// The CPU has AVX-512F, and there are as many signs as values, each 0 or 2³¹.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) unsafe fn first(values: &mut [f32], signs: &[u32], scale: f32) -> usize {
    // SAFETY: this function's own contract, and the lengths are powers of two.
    unsafe {
        match values.len() {
            16 => chunks::<1>(values, signs, scale),
            32 => chunks::<2>(values, signs, scale),
            64 => chunks::<4>(values, signs, scale),
            128 => chunks::<8>(values, signs, scale),
            _ => chunks::<16>(values, signs, scale),
        }
    }
}

/// # Safety
/// As [`first`], for a multiple of `R` registers.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn chunks<const R: usize>(values: &mut [f32], signs: &[u32], scale: f32) -> usize {
    let scale = _mm512_set1_ps(scale);
    for (values, signs) in values.chunks_exact_mut(R * LANES).zip(signs.chunks_exact(R * LANES)) {
        let mut registers = [scale; R];
        for (i, register) in registers.iter_mut().enumerate() {
            // SAFETY: a chunk is `R` registers of values and of signs.
            let (value, sign) = unsafe {
                (
                    _mm512_loadu_ps(values.as_ptr().add(i * LANES)),
                    _mm512_loadu_si512(signs.as_ptr().add(i * LANES).cast()),
                )
            };
            let flipped = _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(value), sign));
            *register = within(_mm512_mul_ps(flipped, scale));
        }
        between(&mut registers, |a, b| (_mm512_add_ps(a, b), _mm512_sub_ps(a, b)));
        for (i, &register) in registers.iter().enumerate() {
            // SAFETY: as above.
            unsafe { _mm512_storeu_ps(values.as_mut_ptr().add(i * LANES), register) };
        }
    }
    R * LANES
}

/// The stages of widths 1, 2, 4 and 8.
#[inline]
#[target_feature(enable = "avx512f")]
fn within(x: __m512) -> __m512 {
    const A: f32 = 1.0;
    const B: f32 = -1.0;
    let one = _mm512_setr_ps(A, B, A, B, A, B, A, B, A, B, A, B, A, B, A, B);
    let two = _mm512_setr_ps(A, A, B, B, A, A, B, B, A, A, B, B, A, A, B, B);
    let four = _mm512_setr_ps(A, A, A, A, B, B, B, B, A, A, A, A, B, B, B, B);
    let eight = _mm512_setr_ps(A, A, A, A, A, A, A, A, B, B, B, B, B, B, B, B);
    let x = _mm512_fmadd_ps(x, one, _mm512_permute_ps::<0b10_11_00_01>(x));
    let x = _mm512_fmadd_ps(x, two, _mm512_permute_ps::<0b01_00_11_10>(x));
    let x = _mm512_fmadd_ps(x, four, _mm512_shuffle_f32x4::<0b10_11_00_01>(x, x));
    _mm512_fmadd_ps(x, eight, _mm512_shuffle_f32x4::<0b01_00_11_10>(x, x))
}
