//! Queries of traversal codes: 8-bit integers in a buffer that is used again and again.

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
    /// The placed vector, centred, before the projection.
    pub(super) moved: Vec<f32>,
    /// The first m coordinates in the basis.
    pub(super) head: Vec<f32>,
    pub(super) integers: Vec<i32>,
    pub(super) bytes: Vec<i8>,
}

impl Default for TraversalQuery {
    fn default() -> Self {
        Self {
            codes: QueryCodes::bytes(&[&[]]),
            scoring: Scoring { base: 0.0, weight: 0.0, offset: Eight::OFFSET },
            moved: Vec::new(),
            head: Vec::new(),
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
        let greatest = self.head.iter().fold(0.0_f32, |greatest, value| greatest.max(value.abs()));
        let step = if greatest > 0.0 { greatest / TOP } else { 1.0 };
        let inverse = 1.0 / step;
        self.bytes.clear();
        // Casts from floating point saturate.
        self.bytes.extend(self.head.iter().map(|&value| (value * inverse).round_ties_even() as i8));
        self.codes.replace_bytes(&self.bytes);
        self.scoring = Scoring { base: square, weight: 2.0 * step, offset: Eight::OFFSET };
    }

    /// The query that a coded row is.
    pub(super) fn copy_row(&mut self, row: &[u8], m: usize) {
        self.head.clear();
        self.bytes.clear();
        // Levels are 1 to 255, so that these are −127 to 127; a row of zeros, never coded, has the scale zero.
        self.bytes.extend(row[..m].iter().map(|&level| level.wrapping_sub(128).cast_signed()));
        self.codes.replace_bytes(&self.bytes);
        let factors = &row[row.len() - FACTOR_BYTES..];
        let number = |at: usize| f32::from_le_bytes(factors[at..at + 4].try_into().expect("four bytes"));
        self.scoring = Scoring { base: number(4), weight: 2.0 * number(0), offset: Eight::OFFSET };
    }
}
