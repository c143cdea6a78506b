//! The codes that bounds come from, kept in step with the rows.

use crate::Vectors;
use crate::evenly;
use rayon::prelude::*;
use vdb_quant::{FineHeadCodes, HeadBasis, HeadCodes, HeadRanges, HeadRow};

/// Rows that the ranges of the codes are fitted to.
const FITTED_ROWS: usize = 4_096;
/// Rows that are coded at a time: what a row's code is made from takes more room than the code.
const CODED_ROWS: usize = 4_096;
/// One new row for so many that the directions were found in: enough to tell whether the data has drifted.
const JUDGED_SHARE: usize = 4;
/// How much looser than at first codes may become, relative, and in shares of a row's squared length.
const LOOSER: (f64, f64) = (1.5, 0.02);

/// Four-bit codes of the leading directions and, where they pay, eight-bit codes of the same.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    pub(super) basis: HeadBasis,
    pub(super) codes: HeadCodes,
    /// A second look at what the four-bit codes leave: several times fewer rows are compared exactly.
    pub(super) fine: Option<FineHeadCodes>,
    /// How loose codes are on average: of the rows that ranges were fitted to, and of those that came later.
    fitted: f64,
    later: Mean,
}

#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    fn add(&mut self, rows: &[HeadRow]) {
        self.sum += rows.iter().map(|row| f64::from(row.looseness())).sum::<f64>();
        self.count += rows.len();
    }

    fn get(&self) -> f64 {
        self.sum / self.count.max(1) as f64
    }
}

impl Bounds {
    pub(super) fn build(basis: HeadBasis, fine: bool, vectors: &Vectors) -> Self {
        let live: Vec<u32> = vectors.live().iter().collect();
        let sample = encode(&basis, vectors, &evenly(&live, FITTED_ROWS));
        let mut fitted = Mean::default();
        fitted.add(&sample);
        let ranges = HeadRanges::of(&sample);
        let mut codes = HeadCodes::new(basis.m(), ranges);
        codes.reserve(vectors.len());
        let mut fine = fine.then(|| FineHeadCodes::new(basis.m(), ranges));
        if let Some(fine) = &mut fine {
            fine.reserve(vectors.len());
        }
        let mut bounds = Self { basis, codes, fine, fitted: fitted.get(), later: Mean::default() };
        bounds.push_up_to(vectors, vectors.len() as u32);
        bounds.later = Mean::default();
        bounds
    }

    pub(super) fn bytes(&self) -> usize {
        self.basis.bytes() + self.codes.bytes() + self.fine.as_ref().map_or(0, FineHeadCodes::bytes)
    }

    /// Whether rows that came since the directions were found in `trained` rows are coded much worse than those.
    pub(super) fn has_drifted(&self, trained: usize) -> bool {
        let (factor, margin) = LOOSER;
        self.later.count * JUDGED_SHARE >= trained && self.later.get() > factor * self.fitted + margin
    }

    /// Codes the rows below `end` that are not coded yet.
    pub(super) fn push_up_to(&mut self, vectors: &Vectors, end: u32) {
        let fresh: Vec<u32> = (self.codes.len() as u32..end).collect();
        for part in fresh.chunks(CODED_ROWS) {
            let (rows, fine_rows) = self.encode(vectors, part);
            rows.iter().for_each(|row| self.codes.push(row));
            if let Some(fine) = &mut self.fine {
                fine_rows.iter().for_each(|row| fine.push(row));
            }
            self.later.add(&rows);
        }
    }

    /// Rows of four-bit codes, and those of eight-bit codes where these are kept.
    fn encode(&self, vectors: &Vectors, offsets: &[u32]) -> (Vec<HeadRow>, Vec<HeadRow>) {
        match self.fine {
            Some(_) => encode_both(&self.basis, vectors, offsets),
            None => (encode(&self.basis, vectors, offsets), Vec::new()),
        }
    }

    /// Codes overwritten rows again.
    pub(super) fn set(&mut self, vectors: &Vectors, offsets: impl Iterator<Item = u32>) {
        let offsets: Vec<u32> = offsets.collect();
        let (rows, fine_rows) = self.encode(vectors, &offsets);
        for (row, &offset) in rows.iter().zip(&offsets) {
            self.codes.set(offset as usize, row);
        }
        if let Some(fine) = &mut self.fine {
            for (row, &offset) in fine_rows.iter().zip(&offsets) {
                fine.set(offset as usize, row);
            }
        }
        self.later.add(&rows);
    }
}

pub(super) fn encode(basis: &HeadBasis, vectors: &Vectors, offsets: &[u32]) -> Vec<HeadRow> {
    offsets.par_iter().with_min_len(64).map(|&offset| basis.encode(&vectors.row(offset))).collect()
}

pub(super) fn encode_both(
    basis: &HeadBasis,
    vectors: &Vectors,
    offsets: &[u32],
) -> (Vec<HeadRow>, Vec<HeadRow>) {
    let rows = offsets.par_iter().with_min_len(64);
    rows.map(|&offset| basis.encode_both(&vectors.row(offset))).unzip()
}
