//! Levels of a residual: which multiple t of it is rounded to the grid {±½, ±1½, … ±(2^(B−1)−½)}^D.
//!
//! Only the direction of the rounded vector v matters, and the best t is the one with the largest cosine between v
//! and r. As t grows from 0, |vᵢ| rises by one whenever t·|rᵢ| passes a whole number, so the cosine changes at
//! D·(2^(B−1)−1) known places and [`ScaleSearch::Exact`] tries them all. After a random rotation r/‖r‖·√D looks
//! like draws of a normal distribution, for which the best step of an even quantizer is known (Max, 1960);
//! [`ScaleSearch::Fast`] tries that one, a few around it and the one that just cuts nothing off, because how far
//! out the largest value lies differs from vector to vector. Invariant: a level's most significant bit is set
//! exactly when rᵢ ≥ 0.

use vdb_distance::{Isa, Kernels};

use crate::kernels::compiled::{self, Work};

/// How the scale of a code is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum ScaleSearch {
    /// The best of a few scales that the number of bits suggests: errors at most a few hundredths above
    /// the least possible.
    #[default]
    Fast = 0,
    /// The best scale of each vector, at `O(2^B · D · log D)` a vector.
    Exact = 1,
}

impl ScaleSearch {
    pub(super) fn from_byte(byte: u8) -> Option<ScaleSearch> {
        match byte {
            0 => Some(ScaleSearch::Fast),
            1 => Some(ScaleSearch::Exact),
            _ => None,
        }
    }
}

/// The step of the even quantizer with 2^B levels that loses least of a normal distribution of variance one.
const STEPS: [f64; 8] = [1.5958, 0.9957, 0.5860, 0.3352, 0.1881, 0.1041, 0.0569, 0.0308];

/// Multiples of 1/step that are tried.
const FACTORS: [f64; 10] = [0.65, 0.72, 0.79, 0.87, 0.94, 1.0, 1.07, 1.15, 1.25, 1.4];

/// What a level is above v: (2^B − 1) / 2.
pub(super) fn middle(bits: u8) -> f64 {
    f64::from((1_u32 << bits) - 1) / 2.0
}

/// A residual's levels and the numbers its factors are made of.
pub(super) struct Fit {
    /// u.
    pub(super) levels: Vec<u8>,
    /// ‖r‖².
    pub(super) square: f64,
    /// ⟨v,r⟩.
    pub(super) product: f64,
    /// ‖v‖².
    pub(super) level_square: f64,
}

/// Sums that are added up side by side.
const LANES: usize = 16;
/// Scales that are tried in one pass over the residual.
const SCALES: usize = 4;

/// For a residual of a multiple of 64 values.
pub(super) fn fit(residual: &[f32], bits: u8, search: ScaleSearch) -> Fit {
    fit_for(Kernels::get().isa(), residual, bits, search)
}

fn fit_for(isa: Isa, residual: &[f32], bits: u8, search: ScaleSearch) -> Fit {
    compiled::run_for(isa, FitResidual { residual, bits, search })
}

struct FitResidual<'a> {
    residual: &'a [f32],
    bits: u8,
    search: ScaleSearch,
}

impl Work for FitResidual<'_> {
    type Output = Fit;

    #[inline(always)]
    fn run(self) -> Fit {
        let FitResidual { residual, bits, search } = self;
        let square = square(residual);
        let half = 1_u32 << (bits - 1);
        let scale = if square > 0.0 && bits > 1 {
            match search {
                ScaleSearch::Fast => fast_scale(residual, bits, square.sqrt()),
                ScaleSearch::Exact => best_scale(residual, half),
            }
        } else {
            0.0
        };
        let mut levels = vec![0; residual.len()];
        let (product, level_square) = round(residual, scale, half, &mut levels);
        Fit { levels, square, product, level_square }
    }
}

#[inline(always)]
fn square(residual: &[f32]) -> f64 {
    let mut sums = [0.0_f64; LANES];
    for chunk in residual.as_chunks::<LANES>().0 {
        for i in 0..LANES {
            sums[i] += f64::from(chunk[i]) * f64::from(chunk[i]);
        }
    }
    sums.iter().sum()
}

/// Writes the levels of a scale; gives ⟨v,r⟩ and ‖v‖².
#[inline(always)]
fn round(residual: &[f32], scale: f64, half: u32, levels: &mut [u8]) -> (f64, f64) {
    // The low bits of a double this far out are its whole number.
    const WHOLE: f64 = (1_u64 << 52) as f64;
    let last = f64::from(half - 1);
    let (mut products, mut squares) = ([0.0_f64; LANES], [0.0_f64; LANES]);
    for (chunk, levels) in residual.as_chunks::<LANES>().0.iter().zip(levels.as_chunks_mut::<LANES>().0) {
        for i in 0..LANES {
            let size = f64::from(chunk[i].abs());
            // Values far outside take the last level.
            let whole = (scale * size).min(last).floor();
            let v = whole + 0.5;
            products[i] += v * size;
            squares[i] += v * v;
            let level = (whole + WHOLE).to_bits() as u32;
            let level = if chunk[i] >= 0.0 { half + level } else { half - 1 - level };
            levels[i] = (level & 0xFF) as u8;
        }
    }
    (products.iter().sum(), squares.iter().sum())
}

/// The scale with the largest ⟨v,r⟩² / ‖v‖² among [`FACTORS`] times the normal distribution's and the finest that cuts
/// nothing off.
#[inline(always)]
fn fast_scale(residual: &[f32], bits: u8, norm: f64) -> f64 {
    let base = (residual.len() as f64).sqrt() / (STEPS[usize::from(bits) - 1] * norm);
    let last = ((1_u32 << (bits - 1)) - 1) as f32;
    // Sizes have the order of their bits.
    let largest = residual.iter().fold(0, |largest, r| largest.max(r.abs().to_bits()));
    let whole = f64::from(last + 1.0) / f64::from(f32::from_bits(largest));
    let mut scales = [whole; FACTORS.len() + 1];
    for (scale, factor) in scales.iter_mut().zip(FACTORS) {
        *scale = base * factor;
    }
    let mut best = (0.0, base);
    for scales in scales.chunks(SCALES) {
        let scales: [f64; SCALES] = std::array::from_fn(|i| scales[i.min(scales.len() - 1)]);
        for (value, scale) in values(residual, scales, last).into_iter().zip(scales) {
            if value > best.0 {
                best = (value, scale);
            }
        }
    }
    best.1
}

/// ⟨v,r⟩² / ‖v‖² for each scale, in sums so short that they need no doubles.
#[inline(always)]
fn values(residual: &[f32], scales: [f64; SCALES], last: f32) -> [f64; SCALES] {
    let singles = scales.map(|scale| scale as f32);
    let (mut products, mut squares) = ([[0.0_f32; LANES]; SCALES], [[0.0_f32; LANES]; SCALES]);
    for chunk in residual.as_chunks::<LANES>().0 {
        for n in 0..SCALES {
            for i in 0..LANES {
                let size = chunk[i].abs() * singles[n];
                let v = size.min(last).floor() + 0.5;
                products[n][i] += v * size;
                squares[n][i] += v * v;
            }
        }
    }
    std::array::from_fn(|n| {
        let product = f64::from(products[n].iter().sum::<f32>()) / f64::from(singles[n]);
        product * product / f64::from(squares[n].iter().sum::<f32>())
    })
}

/// The scale with the largest ⟨v,r⟩² / ‖v‖², over all that give different levels.
fn best_scale(residual: &[f32], half: u32) -> f64 {
    let mut steps: Vec<(f64, f64, u32)> = residual
        .iter()
        .map(|&r| f64::from(r).abs())
        .filter(|&size| size > 0.0)
        .flat_map(|size| (1..half).map(move |level| (f64::from(level) / size, size, level)))
        .collect();
    steps.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let mut product: f64 = residual.iter().map(|&r| f64::from(r).abs() / 2.0).sum();
    let mut level_square = residual.len() as f64 / 4.0;
    let (mut best, mut best_scale) = (product * product / level_square, 0.0);
    for (i, &(scale, size, level)) in steps.iter().enumerate() {
        // From level − ½ to level + ½.
        product += size;
        level_square += 2.0 * f64::from(level);
        let value = product * product / level_square;
        if value > best {
            best = value;
            // Between this place and the next, lest rounding undo the step.
            let next = steps.get(i + 1).map_or(scale * 1.001, |next| next.0);
            best_scale = (scale + next) / 2.0;
        }
    }
    best_scale
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use rand_distr::StandardNormal;

    use super::*;

    fn cosine(fit: &Fit) -> f64 {
        fit.product / (fit.square * fit.level_square).sqrt()
    }

    #[test]
    fn a_few_scales_are_nearly_as_good_as_all() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for bits in 1..=8 {
            for dim in [64, 256, 768] {
                let residual: Vec<f32> =
                    (0..dim).map(|_| 3.0 * rng.sample::<f32, _>(StandardNormal)).collect();
                let fast = fit(&residual, bits, ScaleSearch::Fast);
                let exact = fit(&residual, bits, ScaleSearch::Exact);
                // The sine is the error.
                let sine = |fit: &Fit| (1.0 - cosine(fit).powi(2)).sqrt();
                assert!(cosine(&exact) >= cosine(&fast) - 1e-12);
                println!("{bits} bits, {dim} dimensions: {:.3}", sine(&fast) / sine(&exact));
                assert!(sine(&fast) <= sine(&exact) * 1.1, "{bits} bits, {dim} dimensions");
            }
        }
    }

    #[test]
    fn four_bits_reach_the_cosine_of_the_paper_and_the_top_bit_is_the_sign() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let residual: Vec<f32> = (0..1024).map(|_| rng.sample(StandardNormal)).collect();
        let four = fit(&residual, 4, ScaleSearch::Fast);
        assert!(cosine(&four) > 0.994, "{}", cosine(&four));
        let one = fit(&residual, 1, ScaleSearch::Fast);
        assert!((cosine(&one) - 0.798).abs() < 0.02);
        assert!(four.levels.iter().zip(&one.levels).all(|(four, one)| four >> 3 == *one));
    }

    #[test]
    fn every_instruction_set_gives_the_same_levels() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        for dim in [64, 128, 448] {
            let residual: Vec<f32> = (0..dim).map(|_| rng.sample(StandardNormal)).collect();
            for bits in 1..=8 {
                for search in [ScaleSearch::Fast, ScaleSearch::Exact] {
                    let expected = fit_for(Isa::Scalar, &residual, bits, search);
                    for isa in Kernels::available() {
                        let fit = fit_for(isa, &residual, bits, search);
                        assert_eq!(fit.levels, expected.levels, "{isa} {bits}");
                        assert_eq!(
                            (fit.square, fit.product, fit.level_square),
                            (expected.square, expected.product, expected.level_square)
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn zeros_and_single_spikes_have_levels() {
        for bits in 1..=8 {
            for search in [ScaleSearch::Fast, ScaleSearch::Exact] {
                let zero = fit(&[0.0; 64], bits, search);
                assert_eq!((zero.square, zero.product), (0.0, 0.0));
                let mut spike = [0.0; 64];
                spike[5] = -1e30;
                let spike = fit(&spike, bits, search);
                assert!(spike.product > 0.0 && spike.levels[5] == 0);
            }
        }
    }
}
