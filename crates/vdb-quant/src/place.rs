//! Vectors as they are before they are coded: scaled or of length one, less a centre. The loops that every row goes
//! through, compiled for several instruction sets; finite input gives finite output.
//!
//! Invariant: sums go over [`SUMS`] lanes in one order and the rest is rounded value by value, so every instruction set
//! gives the same bits.

use crate::kernels::compiled::{self, Work};

/// Sums that are added up side by side.
const SUMS: usize = 32;

/// The length of a vector, in double precision, where no square of an `f32` overflows or vanishes.
pub fn length(vector: &[f32]) -> f64 {
    compiled::widest(Length(vector))
}

/// Writes `vector` times `factor`, less `centre`, with the nearest finite values where that leaves the range of `f32`.
/// The product is taken in double precision and rounded once. An empty centre is none.
///
/// # Panics
/// When the lengths differ.
pub fn place(vector: &[f32], factor: f64, centre: &[f32], out: &mut [f32]) {
    assert_eq!(vector.len(), out.len(), "as many values are written as are read");
    assert!(centre.is_empty() || centre.len() == out.len(), "a centre of as many values, or none");
    let single = factor as f32;
    if f64::from(single) == factor {
        // A product of two `f32` values is rounded once either way.
        compiled::widest(Place { vector, factor: single, centre, out });
    } else {
        compiled::widest(PlaceInDouble { vector, factor, centre, out });
    }
}

struct Length<'a>(&'a [f32]);

impl Work for Length<'_> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let (chunks, left) = self.0.as_chunks::<SUMS>();
        let mut sums = [0.0_f64; SUMS];
        for chunk in chunks {
            for i in 0..SUMS {
                sums[i] += f64::from(chunk[i]) * f64::from(chunk[i]);
            }
        }
        sums.iter_mut().zip(left).for_each(|(sum, &value)| *sum += f64::from(value) * f64::from(value));
        sums.iter().sum::<f64>().sqrt()
    }
}

struct Place<'a> {
    vector: &'a [f32],
    factor: f32,
    centre: &'a [f32],
    out: &'a mut [f32],
}

impl Work for Place<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Place { vector, factor, centre, out } = self;
        less(vector, centre, out, |value| value * factor);
    }
}

struct PlaceInDouble<'a> {
    vector: &'a [f32],
    factor: f64,
    centre: &'a [f32],
    out: &'a mut [f32],
}

impl Work for PlaceInDouble<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let PlaceInDouble { vector, factor, centre, out } = self;
        less(vector, centre, out, |value| (f64::from(value) * factor) as f32);
    }
}

#[inline(always)]
fn less(vector: &[f32], centre: &[f32], out: &mut [f32], scaled: impl Fn(f32) -> f32) {
    let bounded = |value: f32| value.clamp(f32::MIN, f32::MAX);
    if centre.is_empty() {
        out.iter_mut().zip(vector).for_each(|(out, &value)| *out = bounded(scaled(value)));
        return;
    }
    for ((out, &value), &centre) in out.iter_mut().zip(vector).zip(centre) {
        *out = bounded(bounded(scaled(value)) - centre);
    }
}

#[cfg(test)]
mod tests {
    use vdb_distance::Kernels;

    use super::*;

    #[test]
    fn every_instruction_set_places_as_the_definition_says() {
        for dim in [1, 15, 32, 33, 100] {
            let vector: Vec<f32> = (0..dim).map(|i| ((i * 37 % 101) as f32 - 50.0) * 1e-3).collect();
            let centre: Vec<f32> = (0..dim).map(|i| (i % 7) as f32 * 1e-2).collect();
            let square: f64 = vector.iter().map(|&value| f64::from(value).powi(2)).sum();
            assert!((length(&vector) - square.sqrt()).abs() <= 1e-12);
            for factor in [1.0, 0.25, 1.0 / 3.0, 1e300] {
                for centre in [&centre[..], &[]] {
                    let expected = |i: usize| {
                        let scaled = ((f64::from(vector[i]) * factor) as f32).clamp(f32::MIN, f32::MAX);
                        (scaled - centre.get(i).unwrap_or(&0.0)).clamp(f32::MIN, f32::MAX)
                    };
                    let expected: Vec<f32> = (0..dim).map(expected).collect();
                    let mut out = vec![0.0; dim];
                    place(&vector, factor, centre, &mut out);
                    assert_eq!(out, expected, "{dim} {factor}");
                    for isa in Kernels::available() {
                        let work = PlaceInDouble { vector: &vector, factor, centre, out: &mut out };
                        compiled::run_for(isa, work);
                        assert_eq!(out, expected, "{isa} {dim} {factor}");
                        assert_eq!(compiled::run_for(isa, Length(&vector)), length(&vector), "{isa} {dim}");
                    }
                }
            }
        }
    }
}
