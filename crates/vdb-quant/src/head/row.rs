//! A coded row: the direction of its head, and the lengths that bounds are made of.

use super::{MAX_CODE, MAX_FINE_CODE, round_up};

/// Shares of the largest magnitude that the code range is tried to cover: clipping a few peaks often pays.
const CLIPS: [f32; 6] = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5];

/// A row as [`HeadCodes`](super::HeadCodes) takes it, made by [`HeadBasis::encode`](super::HeadBasis::encode), or as
/// [`FineHeadCodes`](super::FineHeadCodes) does.
#[derive(Debug, Clone)]
pub struct HeadRow {
    pub(super) codes: Vec<u8>,
    /// `None` for a row that no bound ever excludes.
    pub(super) lengths: Option<Lengths>,
}

/// What is known of a row besides the direction of its code c.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lengths {
    /// β, the head's length along c.
    pub(super) along: f32,
    /// 1/‖c‖; 0 for a head of zeros.
    pub(super) inverse_norm: f32,
    /// ρ, the length of the head's rest, rounded up.
    pub(super) across: f32,
    /// Lower and upper bound of the tail's length.
    pub(super) tail: (f32, f32),
    /// The whole vector's length, rounded up.
    pub(super) norm: f32,
}

impl HeadRow {
    /// The share of the vector's squared length that is neither along its code nor known otherwise than by its length:
    /// from 0, where bounds are tight, to 1, where there are none.
    pub fn looseness(&self) -> f32 {
        let Some(Lengths { across, tail, norm, .. }) = self.lengths else { return 1.0 };
        if norm == 0.0 { 0.0 } else { ((across * across + tail.0 * tail.0) / (norm * norm)).min(1.0) }
    }

    pub(super) fn unbounded(m: usize) -> Self {
        Self { codes: vec![0; m], lengths: None }
    }

    /// Of four-bit codes.
    pub(super) fn new(head: &[f32], tail: (f32, f32), norm: f32) -> Self {
        Self::coded(head, tail, norm, MAX_CODE, &CLIPS)
    }

    /// Of eight-bit codes, whose steps are so short that no value is clipped.
    pub(super) fn fine(head: &[f32], tail: (f32, f32), norm: f32) -> Self {
        Self::coded(head, tail, norm, MAX_FINE_CODE, &CLIPS[..1])
    }

    fn coded(head: &[f32], tail: (f32, f32), norm: f32, most: i32, clips: &[f32]) -> Self {
        let largest = head.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        if largest == 0.0 {
            let lengths = Lengths { along: 0.0, inverse_norm: 0.0, across: 0.0, tail, norm };
            return Self { codes: vec![0; head.len()], lengths: Some(lengths) };
        }
        let fits = clips.iter().map(|clip| fit(head, largest * clip, most));
        let best = fits.max_by(|a, b| a.gain.total_cmp(&b.gain));
        let Fit { codes, product, square, .. } = best.expect("there is at least one clip");
        let code_norm = square.sqrt();
        let scale = product / square;
        let rest: f64 = head
            .iter()
            .zip(&codes)
            .map(|(&value, &code)| f64::from(value) - scale * f64::from(2 * i32::from(code) - most))
            .map(|difference| difference * difference)
            .sum();
        let lengths = Lengths {
            along: (product / code_norm) as f32,
            inverse_norm: (1.0 / code_norm) as f32,
            across: round_up(rest.sqrt()),
            tail,
            norm,
        };
        Self { codes, lengths: Some(lengths) }
    }
}

struct Fit {
    codes: Vec<u8>,
    /// ⟨x, c⟩
    product: f64,
    /// ⟨c, c⟩
    square: f64,
    /// ⟨x, c⟩² / ⟨c, c⟩: how much of the square the code explains.
    gain: f64,
}

/// Codes up to `most` for values up to `range` in size.
fn fit(head: &[f32], range: f32, most: i32) -> Fit {
    let per_step = most as f32 / range;
    let mut product = 0.0f64;
    let mut square = 0.0f64;
    let codes = head
        .iter()
        .map(|&value| {
            let code = ((value * per_step + most as f32) * 0.5).round().clamp(0.0, most as f32) as u8;
            let integer = f64::from(2 * i32::from(code) - most);
            product += f64::from(value) * integer;
            square += integer * integer;
            code
        })
        .collect();
    Fit { codes, product, square, gain: product * product / square }
}
