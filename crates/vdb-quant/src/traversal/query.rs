//! Queries of traversal codes: 8-bit integers in a buffer that is used again and again.

use super::FIRST_CODES;
use crate::kernels::compiled::{self, Work};
use crate::kernels::int8::{FACTOR_BYTES, Scoring};
use crate::scalar::Eight;
use crate::{QueryCodes, Width};

/// The greatest integer of a query.
const TOP: f32 = 127.0;

/// A prepared query; one value serves many queries, so that memory is asked for once.
#[derive(Debug, Clone)]
pub struct TraversalQuery {
    pub(super) codes: QueryCodes,
    pub(super) scoring: Scoring,
    /// The sum of the values for the first line of a row.
    pub(super) first_sum: i32,
    /// The placed vector, centred, before the projection.
    pub(super) moved: Vec<f32>,
    /// The first m coordinates in the basis.
    pub(super) head: Vec<f32>,
    pub(super) projected: QueryCodes,
    pub(super) words: Vec<i16>,
    pub(super) integers: Vec<i32>,
    bytes: Vec<i8>,
}

impl Default for TraversalQuery {
    fn default() -> Self {
        Self {
            codes: QueryCodes::bytes(&[&[]]),
            scoring: Scoring {
                base: 0.0,
                weight: 0.0,
                offset: Eight::OFFSET,
                chunks: usize::MAX,
                sum: 0,
                fetched: false,
            },
            first_sum: 0,
            moved: Vec::new(),
            head: Vec::new(),
            projected: QueryCodes::bytes(&[&[]]),
            words: Vec::new(),
            integers: Vec::new(),
            bytes: Vec::new(),
        }
    }
}

impl TraversalQuery {
    /// The squared length of the placed query.
    pub fn square(&self) -> f32 {
        self.scoring.base
    }

    /// The first m coordinates of the placed query in the basis; empty for a query that is a row.
    pub fn head(&self) -> &[f32] {
        &self.head
    }

    /// Rounds the head; `square` is the squared length of the whole.
    pub(super) fn quantize(&mut self, square: f32) {
        self.bytes.resize(self.head.len(), 0);
        let step = compiled::widest(Round { values: &self.head, top: TOP, integers: &mut self.bytes });
        self.set(square, 2.0 * step);
    }

    /// Takes the bytes as its values.
    fn set(&mut self, base: f32, weight: f32) {
        self.codes.replace_bytes(FACTOR_BYTES, &self.bytes);
        self.first_sum = self.bytes.iter().take(FIRST_CODES).map(|&value| i32::from(value)).sum();
        let sum = self.codes.sum(0);
        self.scoring =
            Scoring { base, weight, offset: Eight::OFFSET, chunks: usize::MAX, sum, fetched: false };
    }

    /// What scores rows by their first lines.
    pub(super) fn first_look(&self) -> Scoring {
        Scoring { chunks: 1, sum: self.first_sum, ..self.scoring }
    }

    /// The query that a coded row is.
    pub(super) fn copy_row(&mut self, row: &[u8], m: usize) {
        self.head.clear();
        self.bytes.clear();
        // Levels are 1 to 255, so that these are −127 to 127; a row of zeros, never coded, has the scale zero.
        let (factors, codes) = row.split_at(FACTOR_BYTES);
        self.bytes.extend(codes[..m].iter().map(|&level| level.wrapping_sub(128).cast_signed()));
        let number = |at: usize| f32::from_le_bytes(factors[at..at + 4].try_into().expect("four bytes"));
        self.set(number(4), 2.0 * number(0));
    }
}

/// An integer that values are rounded to.
pub(super) trait Whole: Copy {
    /// From the bits of 1.5 · 2²³ plus the integer, whose low bits are those of the integer.
    fn from_bits(bits: u32) -> Self;
}

impl Whole for i8 {
    #[inline(always)]
    fn from_bits(bits: u32) -> i8 {
        bits as i8
    }
}

impl Whole for i16 {
    #[inline(always)]
    fn from_bits(bits: u32) -> i16 {
        bits as i16
    }
}

/// Rounds values to integers of at most `top` in size; gives the step.
pub(super) struct Round<'a, I> {
    pub(super) values: &'a [f32],
    pub(super) top: f32,
    pub(super) integers: &'a mut [I],
}

impl<I: Whole> Work for Round<'_, I> {
    type Output = f32;

    #[inline(always)]
    fn run(self) -> f32 {
        /// 1.5 · 2²³: adding it leaves no bits for a fraction.
        const ROUND: f32 = 12_582_912.0;
        const LANES: usize = 16;
        let mut lanes = [0.0_f32; LANES];
        let (chunks, left) = self.values.as_chunks::<LANES>();
        for chunk in chunks {
            for i in 0..LANES {
                lanes[i] = lanes[i].max(chunk[i].abs());
            }
        }
        let greatest = lanes.iter().fold(0.0_f32, |greatest, &value| greatest.max(value));
        let greatest = left.iter().fold(greatest, |greatest, value| greatest.max(value.abs()));
        let step = if greatest > 0.0 { greatest / self.top } else { 1.0 };
        let inverse = 1.0 / step;
        for (integer, &value) in self.integers.iter_mut().zip(self.values) {
            let clipped = (value * inverse).max(-self.top).min(self.top);
            *integer = I::from_bits((clipped + ROUND).to_bits());
        }
        step
    }
}
