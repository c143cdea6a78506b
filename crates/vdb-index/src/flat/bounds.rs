//! The codes that bounds come from, kept in step with the rows.

use crate::Vectors;
use crate::evenly;
use rayon::prelude::*;
use vdb_distance::{AlignedVec, norm};
use vdb_quant::{BoundedSq8, HeadBasis, HeadCodes, HeadRanges, HeadRow, Quantizer, Rotation};

/// Rows that the ranges of the codes are fitted to.
const FITTED_ROWS: usize = 4_096;
/// Rows that are coded at a time: what a row's code is made from takes more room than the code.
const CODED_ROWS: usize = 4_096;
/// One new row for so many that the directions were found in: enough to tell whether the data has drifted.
const JUDGED_SHARE: usize = 4;
/// How much looser than at first codes may become, relative, and in shares of a row's squared length.
const LOOSER: (f64, f64) = (1.5, 0.02);

/// Four-bit codes of the leading directions and, where they pay, eight-bit codes of whole rows.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    pub(super) basis: HeadBasis,
    pub(super) codes: HeadCodes,
    pub(super) fine: Option<Fine>,
    /// How loose codes are on average: of the rows that ranges were fitted to, and of those that came later.
    fitted: f64,
    later: Mean,
}

/// Eight-bit codes of whole rows, as they are: a second bound, tighter by an order of magnitude.
#[derive(Debug, Clone)]
pub(super) struct Fine {
    pub(super) quantizer: BoundedSq8,
    pub(super) rows: AlignedVec<u8>,
    /// The largest norm of a row coded so far.
    pub(super) max_norm: f32,
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
        let mut codes = HeadCodes::new(basis.m(), HeadRanges::of(&sample));
        codes.reserve(vectors.len());
        let fine = fine.then(|| Fine::new(vectors));
        let mut bounds = Self { basis, codes, fine, fitted: fitted.get(), later: Mean::default() };
        bounds.push_up_to(vectors, vectors.len() as u32);
        bounds.later = Mean::default();
        bounds
    }

    pub(super) fn bytes(&self) -> usize {
        self.basis.bytes() + self.codes.bytes() + self.fine.as_ref().map_or(0, |fine| fine.rows.bytes())
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
            let rows = encode(&self.basis, vectors, part);
            rows.iter().for_each(|row| self.codes.push(row));
            self.later.add(&rows);
        }
        if let Some(fine) = &mut self.fine {
            fine.code(vectors, &fresh);
        }
    }

    /// Codes overwritten rows again.
    pub(super) fn set(&mut self, vectors: &Vectors, offsets: impl Iterator<Item = u32>) {
        let offsets: Vec<u32> = offsets.collect();
        let rows = encode(&self.basis, vectors, &offsets);
        for (row, &offset) in rows.iter().zip(&offsets) {
            self.codes.set(offset as usize, row);
        }
        self.later.add(&rows);
        if let Some(fine) = &mut self.fine {
            offsets.iter().for_each(|&offset| fine.code(vectors, &[offset]));
        }
    }
}

impl Fine {
    fn new(vectors: &Vectors) -> Self {
        let dim = vectors.dim();
        let quantizer = BoundedSq8::new(Rotation::identity(dim), dim);
        let mut rows = AlignedVec::new();
        rows.reserve_exact(vectors.len() * quantizer.code_bytes());
        Self { quantizer, rows, max_norm: 0.0 }
    }

    /// Bytes of a row of so many dimensions.
    pub(super) fn row_bytes(dim: usize) -> usize {
        BoundedSq8::new(Rotation::identity(dim), dim).code_bytes()
    }

    /// Codes consecutive rows.
    fn code(&mut self, vectors: &Vectors, offsets: &[u32]) {
        let (Some(&first), Some(&last)) = (offsets.first(), offsets.last()) else { return };
        let bytes = self.quantizer.code_bytes();
        let end = (last as usize + 1) * bytes;
        if self.rows.len() < end {
            self.rows.resize(end, 0);
        }
        let quantizer = &self.quantizer;
        let rows = self.rows[first as usize * bytes..end].par_chunks_mut(bytes).zip(offsets);
        let norms = rows.with_min_len(64).map(|(row, &offset)| {
            let vector = vectors.row(offset);
            quantizer.encode(&vector, row);
            norm(&vector)
        });
        self.max_norm = norms.reduce(|| self.max_norm, f32::max);
    }
}

pub(super) fn encode(basis: &HeadBasis, vectors: &Vectors, offsets: &[u32]) -> Vec<HeadRow> {
    offsets.par_iter().with_min_len(64).map(|&offset| basis.encode(&vectors.row(offset))).collect()
}
