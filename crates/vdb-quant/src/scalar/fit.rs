//! How a head becomes integers: the choice of the step that rounds it, and the scale of least squares.
//!
//! Invariant: sums go over [`LANES`] lanes in one order, so every instruction set gives the same code.

use std::marker::PhantomData;

use vdb_distance::{Isa, Kernels};

use super::{Width, integer};
use crate::kernels::compiled::{self, Work};

/// Sums that are added up side by side.
const LANES: usize = 16;
/// Steps that are tried in one pass over the values.
const STEPS: usize = 4;

/// Levels and scale of a head. One value serves many heads, so that memory is asked for once.
#[derive(Default)]
pub(crate) struct Fit {
    pub(crate) levels: Vec<u8>,
    /// By least squares, rounded; finite, and 0 for a head of zeros or one that is not finite.
    pub(crate) scale: f32,
    /// ⟨c, c⟩ of the integers: a whole number below 2³¹.
    pub(super) square: f64,
    scaled: Vec<f32>,
}

impl Fit {
    pub(crate) fn fit<W: Width>(&mut self, head: &[f32]) {
        self.fit_for::<W>(Kernels::get().isa(), head);
    }

    pub(super) fn fit_for<W: Width>(&mut self, isa: Isa, head: &[f32]) {
        compiled::run_for(isa, FitHead::<W> { fit: self, head, width: PhantomData });
    }

    /// ‖y − s·c‖² for the head y that was fitted.
    pub(super) fn residual_square<W: Width>(&self, head: &[f32]) -> f64 {
        compiled::widest(ResidualSquare::<W> {
            head,
            levels: &self.levels,
            scale: f64::from(self.scale),
            width: PhantomData,
        })
    }
}

struct FitHead<'a, W> {
    fit: &'a mut Fit,
    head: &'a [f32],
    width: PhantomData<W>,
}

impl<W: Width> Work for FitHead<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (fit, head) = (self.fit, self.head);
        fit.levels.clear();
        let greatest = greatest(head);
        if !(greatest > 0.0 && greatest.is_finite()) {
            fit.levels.resize(head.len(), (W::OFFSET / W::MULTIPLIER) as u8);
            (fit.scale, fit.square) = (0.0, 0.0);
            return;
        }
        fit.levels.resize(head.len(), 0);
        if COMFORTABLE.contains(&greatest) {
            (fit.scale, fit.square) = fitted::<W>(head, greatest, 1.0, &mut fit.levels);
            return;
        }
        // Near 1 by an exact power of two, so that neither steps nor sums leave single precision.
        let inverse_unit = (-f64::from(greatest).log2().floor()).exp2();
        fit.scaled.clear();
        fit.scaled.extend(head.iter().map(|&value| (f64::from(value) * inverse_unit) as f32));
        let greatest = (f64::from(greatest) * inverse_unit) as f32;
        (fit.scale, fit.square) = fitted::<W>(&fit.scaled, greatest, 1.0 / inverse_unit, &mut fit.levels);
    }
}

/// Greatest values for which nothing that is computed from values leaves the range of single precision. Scaling such
/// values by a power of two would change no bit of any number.
const COMFORTABLE: std::ops::RangeInclusive<f32> = 1e-9..=1e9;

/// Writes the levels of values with this greatest one; gives the scale for values that are `unit` times as large, and
/// ⟨c, c⟩.
#[inline(always)]
fn fitted<W: Width>(values: &[f32], greatest: f32, unit: f64, levels: &mut [u8]) -> (f32, f64) {
    let step = best_step::<W>(values, greatest);
    let (product, square) = round::<W>(values, 1.0 / step, levels);
    let scale = if square > 0.0 { (unit * product / square).max(0.0) as f32 } else { 0.0 };
    (scale, square)
}

/// The greatest value in size; infinite or NaN when one of them is.
#[inline(always)]
fn greatest(values: &[f32]) -> f32 {
    const SIZE: u32 = u32::MAX >> 1;
    // Sizes have the order of their bits, and what is not finite comes last.
    f32::from_bits(values.iter().fold(0, |greatest, value| greatest.max(value.to_bits() & SIZE)))
}

/// The step, out of the width's clippings, with the smallest angle between the values and their rounding.
#[inline(always)]
fn best_step<W: Width>(scaled: &[f32], greatest: f32) -> f32 {
    let whole = greatest / W::GREATEST as f32;
    if let [clip] = W::CLIPS {
        return clip * whole;
    }
    let mut best = (0.0, whole);
    for clips in W::CLIPS.chunks(STEPS) {
        let steps: [f32; STEPS] = std::array::from_fn(|i| clips[i.min(clips.len() - 1)] * whole);
        for (score, step) in angles::<W, STEPS>(scaled, steps).into_iter().zip(steps) {
            if score > best.0 {
                best = (score, step);
            }
        }
    }
    best.1
}

/// The level of a value, as a whole number in the low bits of a float: rounded by adding a number that leaves no bits
/// for a fraction, which compilers turn into plain vector instructions.
#[inline(always)]
fn rounded<W: Width>(value: f32, inverse_step: f32) -> f32 {
    let (multiplier, offset) = (W::MULTIPLIER as f32, W::OFFSET as f32);
    let greatest = W::GREATEST as f32;
    let clipped = (value * inverse_step).max(-greatest).min(greatest);
    (clipped + offset) / multiplier + ROUND
}

/// 1.5 · 2²³.
const ROUND: f32 = 12_582_912.0;

/// Writes levels; gives ⟨x, c⟩ and ⟨c, c⟩.
#[inline(always)]
fn round<W: Width>(values: &[f32], inverse_step: f32, levels: &mut [u8]) -> (f64, f64) {
    // Whole numbers below 2¹⁴, of which there are at most 2¹⁷ ([`MAX_CODE_BYTES`](crate::MAX_CODE_BYTES)).
    let (mut products, mut squares) = ([0.0_f64; LANES], [0_u32; LANES]);
    let step = |value: f32, level: &mut u8, product: &mut f64, square: &mut u32| {
        *level = rounded::<W>(value, inverse_step).to_bits() as u8;
        let integer = integer::<W>(*level);
        *product += f64::from(value) * f64::from(integer);
        *square += (integer * integer).cast_unsigned();
    };
    let (chunks, left) = values.as_chunks::<LANES>();
    let (level_chunks, levels_left) = levels.as_chunks_mut::<LANES>();
    for (values, levels) in chunks.iter().zip(level_chunks) {
        for i in 0..LANES {
            step(values[i], &mut levels[i], &mut products[i], &mut squares[i]);
        }
    }
    for (i, (&value, level)) in left.iter().zip(levels_left).enumerate() {
        step(value, level, &mut products[i], &mut squares[i]);
    }
    (products.iter().sum(), f64::from(squares.iter().sum::<u32>()))
}

/// For values rounded with each step to the nearest of the odd integers c: ⟨x, c⟩² / ⟨c, c⟩, the greater the smaller
/// the angle. Signs do not matter to it, and neither does a factor of c: halves ½, 1½ … are what is summed.
#[inline(always)]
pub(super) fn angles<W: Width, const N: usize>(values: &[f32], steps: [f32; N]) -> [f32; N] {
    assert!(W::MULTIPLIER == 2 && W::OFFSET == W::GREATEST, "levels stand for the odd integers");
    let last = (W::GREATEST / 2) as f32;
    let inverses = steps.map(|step| 0.5 / step);
    let (mut products, mut squares) = ([[0.0_f32; LANES]; N], [[0.0_f32; LANES]; N]);
    let step = |value: f32, n: usize, product: &mut f32, square: &mut f32| {
        let size = value.abs();
        let half = (size * inverses[n]).min(last).floor() + 0.5;
        *product += size * half;
        *square += half * half;
    };
    let (chunks, left) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for n in 0..N {
            for i in 0..LANES {
                step(chunk[i], n, &mut products[n][i], &mut squares[n][i]);
            }
        }
    }
    for n in 0..N {
        for (i, &value) in left.iter().enumerate() {
            step(value, n, &mut products[n][i], &mut squares[n][i]);
        }
    }
    std::array::from_fn(|n| {
        let (product, square) = (products[n].iter().sum::<f32>(), squares[n].iter().sum::<f32>());
        if square > 0.0 { product * (product / square) } else { 0.0 }
    })
}

struct ResidualSquare<'a, W> {
    head: &'a [f32],
    levels: &'a [u8],
    scale: f64,
    width: PhantomData<W>,
}

impl<W: Width> Work for ResidualSquare<'_, W> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let (values, values_left) = self.head.as_chunks::<LANES>();
        let (levels, levels_left) = self.levels.as_chunks::<LANES>();
        let mut sums = [0.0_f64; LANES];
        // A code's integers and their products with a scale are exact in double precision.
        let term = |value: f32, level: u8| f64::from(value) - self.scale * f64::from(integer::<W>(level));
        for (values, levels) in values.iter().zip(levels) {
            for i in 0..LANES {
                let left = term(values[i], levels[i]);
                sums[i] += left * left;
            }
        }
        for ((sum, &value), &level) in sums.iter_mut().zip(values_left).zip(levels_left) {
            let left = term(value, level);
            *sum += left * left;
        }
        sums.iter().sum()
    }
}

/// ‖x − c‖² in double precision, or ‖x‖² without a centre: off by less than n · 2⁻⁵³ relative for n values, as every
/// order of additions is.
pub(super) fn square(values: &[f32], centre: Option<&[f32]>) -> f64 {
    match centre {
        None => compiled::widest(Square(values)),
        Some(centre) => compiled::widest(DifferenceSquare(values, centre)),
    }
}

struct Square<'a>(&'a [f32]);

impl Work for Square<'_> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let (chunks, left) = self.0.as_chunks::<LANES>();
        let mut sums = [0.0_f64; LANES];
        for chunk in chunks {
            for i in 0..LANES {
                sums[i] += f64::from(chunk[i]) * f64::from(chunk[i]);
            }
        }
        sums.iter_mut().zip(left).for_each(|(sum, &value)| *sum += f64::from(value) * f64::from(value));
        sums.iter().sum()
    }
}

struct DifferenceSquare<'a>(&'a [f32], &'a [f32]);

impl Work for DifferenceSquare<'_> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let (values, values_left) = self.0.as_chunks::<LANES>();
        let (centres, centres_left) = self.1.as_chunks::<LANES>();
        let mut sums = [0.0_f64; LANES];
        let difference = |value: f32, centre: f32| f64::from(value) - f64::from(centre);
        for (values, centres) in values.iter().zip(centres) {
            for i in 0..LANES {
                let difference = difference(values[i], centres[i]);
                sums[i] += difference * difference;
            }
        }
        for ((sum, &value), &centre) in sums.iter_mut().zip(values_left).zip(centres_left) {
            let difference = difference(value, centre);
            *sum += difference * difference;
        }
        sums.iter().sum()
    }
}
