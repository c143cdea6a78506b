//! A random rotation in time n log n: four rounds of random signs, a fast Hadamard transform of the first or the last
//! power of two of the values in turn, and Givens rotations by 45° between the two halves.
//!
//! After the "FHT-Kac" rotation of the RaBitQ library (Gao and Long, SIGMOD 2024, and its extension of 2025); the
//! Givens rounds are steps of Kac's walk. Every step is orthogonal, so the whole is, whatever the seed. The number of
//! values need not be a power of two, nor even; callers that want whole cache lines pad to a multiple of 64.
//! Version 1 is this order of steps with signs from SplitMix64 of the seed; it must never change. The steps are compiled
//! for several instruction sets; they add and multiply one by one, never fused, so the results are the same bit for bit.

use std::ops::{Add, Mul, Range, Sub};

#[cfg(target_arch = "x86_64")]
use vdb_distance::Isa;
use vdb_distance::Kernels;

use super::{MAX_DIM, RotationSlack, assert_dim, split_mix};
#[cfg(target_arch = "x86_64")]
use crate::kernels::hadamard;

const ROUNDS: usize = 4;
/// Values below which plain loops do: fewer do not fill a register.
#[cfg(target_arch = "x86_64")]
const FEWEST: usize = 16;

/// The fast random rotation.
#[derive(Debug, Clone, PartialEq)]
pub struct FhtKac {
    dim: usize,
    output_dim: usize,
    seed: u64,
    /// What each round flips of each value: its sign bit or nothing.
    signs: Vec<u32>,
}

impl FhtKac {
    /// The rotation of a seed. Vectors are padded with zeros from `dim` to `output_dim` values first.
    ///
    /// # Panics
    /// When `dim` is 0, or `output_dim` less than `dim` or over [`MAX_DIM`].
    pub fn new(dim: usize, output_dim: usize, seed: u64) -> FhtKac {
        assert_dim(dim);
        assert!((dim..=MAX_DIM).contains(&output_dim), "{dim} values rotated into {output_dim}");
        let mut state = seed;
        let mut signs = Vec::with_capacity(ROUNDS * output_dim);
        for _ in 0..ROUNDS {
            // Bit `i % 64` of the round's word `i / 64` is for value `i`.
            for first in (0..output_dim).step_by(64) {
                let word = split_mix(&mut state);
                let bits = 0..64.min(output_dim - first);
                signs.extend(bits.map(|i| ((word >> i & 1) as u32) << 31));
            }
        }
        FhtKac { dim, output_dim, seed, signs }
    }

    /// Values of an input vector.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Values of an output vector.
    pub fn output_dim(&self) -> usize {
        self.output_dim
    }

    /// The seed it was made from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Relative to the norm, with u = 2⁻²⁴ the unit roundoff. A round's signs are exact. Its transform of 2^L values
    /// multiplies by an inexact constant (2u) and adds L times (u each: the rounding of each sum is at most u times
    /// that sum, and a normalised butterfly keeps the norm; scaling all at the front changes no ratio). The Givens
    /// step adds, and multiplies by an inexact constant (3u). Four rounds, and 1.01 for products of small terms.
    /// Products can underflow once a round in the transform and once in the Givens step, by 2⁻¹⁵⁰ a value and grown
    /// by the butterflies by at most 2^(L/2) ≤ 2⁸ before they are normalised: below 2⁻¹³⁰ √n in all.
    pub(super) fn slack(&self) -> RotationSlack {
        let unit = f64::from(f32::EPSILON) / 2.0;
        let stages = f64::from(self.output_dim.ilog2());
        RotationSlack {
            defect: 0.0,
            relative: 1.01 * ROUNDS as f64 * (stages + 5.0) * unit,
            absolute: 2_f64.powi(-130) * (self.output_dim as f64).sqrt(),
        }
    }

    pub(super) fn apply(&self, input: &[f32], output: &mut [f32]) {
        output[..self.dim].copy_from_slice(input);
        output[self.dim..].fill(0.0);
        self.forward_with(Kernels::get(), output);
    }

    /// [`forward`](Self::forward) in single precision, compiled for the instruction set of `kernels`.
    pub(super) fn forward_with(&self, kernels: &Kernels, values: &mut [f32]) {
        #[cfg(target_arch = "x86_64")]
        match kernels.isa() {
            // SAFETY: kernels are given out only where the CPU has their instruction set, here AVX-512F.
            Isa::Avx512 => return unsafe { forward_avx512(self, values) },
            // SAFETY: kernels are given out only where the CPU has their instruction set, here AVX2.
            Isa::Avx2 => return unsafe { forward_avx2(self, values) },
            _ => {}
        }
        // NEON is part of every AArch64 target, so the plain build has it.
        #[cfg(not(target_arch = "x86_64"))]
        let _ = kernels;
        self.forward(values);
    }

    pub(super) fn apply_inverse(&self, rotated: &[f32], vector: &mut [f32]) {
        let mut values = rotated.to_vec();
        for round in (0..ROUNDS).rev() {
            // The Givens step as it is written below, sum and difference, is its own inverse; so is the transform.
            givens(&mut values);
            let window = window(values.len(), round);
            transform(&mut values[window]);
            flip(&mut values, &self.signs[round * self.output_dim..][..self.output_dim]);
        }
        vector.copy_from_slice(&values[..self.dim]);
    }

    /// Rotates `output_dim` values in place.
    #[inline(always)]
    pub(super) fn forward<F: Real>(&self, values: &mut [F]) {
        self.forward_by(values, first_stages);
    }

    /// [`forward`](Self::forward) with other first stages: like [`first_stages`], which they have to equal bit for bit.
    #[inline(always)]
    fn forward_by<F: Real>(&self, values: &mut [F], first: impl Fn(&mut [F], &[u32], F) -> usize) {
        for round in 0..ROUNDS {
            let signs = &self.signs[round * self.output_dim..][..self.output_dim];
            let window = window(values.len(), round);
            flip(&mut values[..window.start], &signs[..window.start]);
            flip(&mut values[window.end..], &signs[window.end..]);
            let values_in = &mut values[window.clone()];
            let half = first(values_in, &signs[window.clone()], normaliser(window.len()));
            stages(values_in, half);
            givens(values);
        }
    }
}

/// # Safety
/// The CPU has AVX-512F.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn forward_avx512(rotation: &FhtKac, values: &mut [f32]) {
    if values.len() < FEWEST {
        return rotation.forward(values);
    }
    // SAFETY: the CPU has AVX-512F; a window is a power of two of values, at least 16, with a sign each.
    rotation
        .forward_by(values, |values, signs, scale| unsafe { hadamard::avx512::first(values, signs, scale) });
}

/// # Safety
/// The CPU has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn forward_avx2(rotation: &FhtKac, values: &mut [f32]) {
    if values.len() < FEWEST {
        return rotation.forward(values);
    }
    // SAFETY: the CPU has AVX2; a window is a power of two of values, at least 16, with a sign each.
    rotation
        .forward_by(values, |values, signs, scale| unsafe { hadamard::avx2::first(values, signs, scale) });
}

/// The arithmetic that a rotation needs, in either precision.
pub(super) trait Real: Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> {
    fn new(value: f64) -> Self;
    /// The negative where `sign` is 2³¹, not 0.
    fn flip(self, sign: u32) -> Self;
}

impl Real for f32 {
    #[inline(always)]
    fn new(value: f64) -> f32 {
        value as f32
    }

    #[inline(always)]
    fn flip(self, sign: u32) -> f32 {
        f32::from_bits(self.to_bits() ^ sign)
    }
}

impl Real for f64 {
    fn new(value: f64) -> f64 {
        value
    }

    #[inline(always)]
    fn flip(self, sign: u32) -> f64 {
        f64::from_bits(self.to_bits() ^ u64::from(sign) << 32)
    }
}

/// Where the first greatest power of two of so many values lies in even rounds, the last in odd ones.
#[inline(always)]
fn window(values: usize, round: usize) -> Range<usize> {
    let len = 1 << values.ilog2();
    let start = if round.is_multiple_of(2) { 0 } else { values - len };
    start..start + len
}

#[inline(always)]
fn flip<F: Real>(values: &mut [F], signs: &[u32]) {
    for (value, &sign) in values.iter_mut().zip(signs) {
        *value = value.flip(sign);
    }
}

/// What makes a transform of so many values orthonormal.
#[inline(always)]
fn normaliser<F: Real>(values: usize) -> F {
    F::new(1.0 / (values as f64).sqrt())
}

/// The orthonormal Hadamard transform of a power of two of values. It is its own inverse.
pub(super) fn transform<F: Real>(values: &mut [F]) {
    let half = scaled_stages(values, normaliser(values.len()));
    stages(values, half);
}

/// Flips signs, scales, and takes values through the first stages of a transform; gives the width of the next one.
#[inline(always)]
fn first_stages<F: Real>(values: &mut [F], signs: &[u32], scale: F) -> usize {
    flip(values, signs);
    scaled_stages(values, scale)
}

/// [`first_stages`] without signs. Scaled first, so that no partial sum is longer than the vector: nothing overflows
/// that need not.
#[inline(always)]
fn scaled_stages<F: Real>(values: &mut [F], scale: F) -> usize {
    if values.len() < 8 {
        values.iter_mut().for_each(|value| *value = *value * scale);
        return 1;
    }
    // Three stages stay in registers.
    for eight in values.as_chunks_mut::<8>().0 {
        let [a, b, c, d, e, f, g, h] = eight.map(|value| value * scale);
        let (a, b, c, d) = (a + b, a - b, c + d, c - d);
        let (e, f, g, h) = (e + f, e - f, g + h, g - h);
        let (a, b, c, d) = (a + c, b + d, a - c, b - d);
        let (e, f, g, h) = (e + g, f + h, e - g, f - h);
        *eight = [a + e, b + f, c + g, d + h, a - e, b - f, c - g, d - h];
    }
    8
}

/// The stages of a transform from the width `half` on: two a pass, and the last one alone where their number is odd.
#[inline(always)]
fn stages<F: Real>(values: &mut [F], mut half: usize) {
    while 4 * half <= values.len() {
        for four in values.chunks_exact_mut(4 * half) {
            let (ab, cd) = four.split_at_mut(2 * half);
            let ((a, b), (c, d)) = (ab.split_at_mut(half), cd.split_at_mut(half));
            for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
                let (low, low_rest, high, high_rest) = (*a + *b, *a - *b, *c + *d, *c - *d);
                (*a, *b) = (low + high, low_rest + high_rest);
                (*c, *d) = (low - high, low_rest - high_rest);
            }
        }
        half *= 4;
    }
    if half < values.len() {
        let (low, high) = values.split_at_mut(half);
        for (a, b) in low.iter_mut().zip(high) {
            (*a, *b) = (*a + *b, *a - *b);
        }
    }
}

/// Mixes value `i` of the first half with value `i` of the second: their normalised sum and difference. The middle of
/// an odd number of values stays.
#[inline(always)]
fn givens<F: Real>(values: &mut [F]) {
    let half = values.len() / 2;
    let scale = F::new(std::f64::consts::FRAC_1_SQRT_2);
    let second = values.len() - half;
    let (low, high) = values.split_at_mut(second);
    for (a, b) in low[..half].iter_mut().zip(high) {
        (*a, *b) = ((*a + *b) * scale, (*a - *b) * scale);
    }
}
