//! LSH: hash tables in which near vectors likely share a bucket, probed in the order of likelihood (Lv et al., VLDB
//! 2007), with three families of hash functions.
//!
//! Rows are placed (`placement`) and hashed by random directions (`hasher`) into tables of buckets (`buckets`). Codes
//! have about log2(n / 2) bits and grow with the data: centre, norm and bits are fitted anew, and everything hashed
//! again, whenever the rows double.
//!
//! A query looks into buckets in the order of how little its projections would have to move to fall into them, over
//! all tables at once (`probe`), and gathers a pool of rows, sixteen times as many as it is to compare. Sketches of 256
//! signs rank the pool; the best are compared by eight-bit codes, whose bounds leave hardly more than the hits for
//! exact comparison (`search`, `codes`). The answer is the nearest of the rows compared. Where the
//! pool would be more than one in twenty of the matching rows, all of them are.

mod buckets;
mod calibrate;
mod codes;
mod hasher;
mod params;
mod placement;
mod probe;
mod search;
mod stored;

use crate::{Answer, BitSet, FlatScan, Request, Vectors};
use buckets::Buckets;
use codes::{Codes, RowCodes};
use hasher::Hasher;
use placement::Placement;
use probe::Reach;
use rayon::prelude::*;

pub use params::{LshFamily, LshParams};

/// Hits that the default number of candidates is enough for.
const CALIBRATED_HITS: usize = 100;
/// Rows that are hashed before their codes are filed.
const BATCH: usize = 1 << 15;

/// The hash index.
#[derive(Debug, Clone)]
pub struct Lsh {
    params: LshParams,
    fitted: Option<Fitted>,
}

/// Tables over rows, and what they are hashed by.
#[derive(Debug, Clone)]
struct Fitted {
    placement: Placement,
    hasher: Hasher,
    reach: Reach,
    tables: Vec<Buckets>,
    codes: Codes,
    /// Rows in the tables.
    rows: BitSet,
    /// Live rows when all this was fitted to the data.
    trained: usize,
    /// Rows that a query compares when the caller does not say.
    candidates: usize,
}

/// What is needed to hash the same rows again, for storing it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LshParts {
    /// What hashing subtracts from a row; empty while nothing was inserted.
    pub center: Vec<f32>,
    /// The norm that rows are lifted to under DotProduct.
    pub max_norm: f32,
    /// Rows when the centre was computed.
    pub trained: u64,
    /// Rows that a query compares when the caller does not say.
    pub candidates: u64,
}

impl Lsh {
    /// Empty tables.
    ///
    /// # Panics
    /// When [`LshParams::check`] finds an error.
    pub fn new(params: LshParams) -> Self {
        params.check().unwrap_or_else(|reason| panic!("{reason}"));
        Self { params, fitted: None }
    }

    /// The parameters they were made with.
    pub fn params(&self) -> &LshParams {
        &self.params
    }

    /// Heap bytes held, the vectors not included.
    pub fn bytes(&self) -> usize {
        let Some(Fitted { hasher, tables, codes, rows, .. }) = &self.fitted else { return 0 };
        let tables: usize = tables.iter().map(Buckets::bytes).sum();
        hasher.bytes() + tables + codes.bytes() + rows.words().len() * 8
    }

    /// Adds live rows to the tables; they must not be in them yet.
    ///
    /// # Complexity
    /// A projection onto all tables' directions a row, and as much again each time the number of rows has doubled.
    ///
    /// # Panics
    /// When an offset is not a live row of `vectors`.
    pub fn insert(&mut self, vectors: &Vectors, offsets: &[u32]) {
        assert!(offsets.iter().all(|&offset| vectors.live().contains(offset)), "an offset is not live");
        if offsets.is_empty() {
            return;
        }
        let live = vectors.live().count();
        match &mut self.fitted {
            Some(fitted) if live < 2 * fitted.trained => fitted.insert(vectors, offsets),
            _ => {
                let mut fitted = Fitted::build(&self.params, vectors, Placement::fit(vectors), live);
                fitted.candidates = calibrate::default_candidates(&fitted, vectors);
                self.fitted = Some(fitted);
            }
        }
    }

    /// Takes a row out of the tables; its vector must still be the one that was inserted.
    pub fn remove(&mut self, vectors: &Vectors, offset: u32) {
        if let Some(fitted) = &mut self.fitted {
            fitted.remove(vectors, offset);
        }
    }

    /// The nearest of the `candidates` likeliest matching rows; k hits whenever k match.
    ///
    /// `candidates` rows are compared by eight-bit codes, and sixteen times as many looked at. `None` compares as many
    /// as found nine in ten neighbours of rows of the data when the tables were fitted. The answer is exact when every
    /// matching row was compared.
    ///
    /// # Panics
    /// When the query has another dimension than the vectors.
    pub fn search(&self, vectors: &Vectors, request: &Request<'_>, candidates: Option<usize>) -> Answer {
        let matching = request.matching(vectors);
        let k = request.k.min(matching.count());
        let default = self.fitted.as_ref().map_or(0, |fitted| fitted.default_candidates(vectors, k));
        let wanted = candidates.unwrap_or(default).max(k).min(matching.count());
        let undirected = vectors.query(request.query).is_undirected();
        match &self.fitted {
            Some(fitted) if wanted < matching.count() && k > 0 && !undirected => {
                let answer = search::search(fitted, vectors, &Request { k, ..*request }, &matching, wanted);
                // Tables of a damaged file may hold too few rows, or bounds that are no numbers.
                if answer.hits.len() < k { FlatScan.search(vectors, request) } else { answer }
            }
            _ => FlatScan.search(vectors, request),
        }
    }

    /// What is needed to hash the same rows again.
    pub fn to_parts(&self) -> LshParts {
        self.fitted.as_ref().map_or_else(LshParts::default, |fitted| LshParts {
            center: fitted.placement.center.clone(),
            max_norm: fitted.placement.max_norm,
            trained: fitted.trained as u64,
            candidates: fitted.candidates as u64,
        })
    }

    /// Tables over `vectors` from stored parts; all live rows are hashed again.
    ///
    /// # Errors
    /// A sentence that says what does not fit: parameters out of range, the length or a value of the centre, the norm,
    /// the number of rows.
    pub fn from_parts(vectors: &Vectors, params: LshParams, parts: LshParts) -> Result<Self, String> {
        params.check()?;
        let LshParts { center, max_norm, trained, candidates } = parts;
        if center.is_empty() && vectors.live().count() == 0 {
            return Ok(Self { params, fitted: None });
        }
        check_fit(vectors, &center, max_norm, trained)?;
        let placement = Placement { metric: vectors.metric(), center, max_norm };
        let mut fitted = Fitted::build(&params, vectors, placement, trained as usize);
        // More than there are rows is all of them.
        fitted.candidates = candidates.min(vectors.len() as u64) as usize;
        Ok(Self { params, fitted: Some(fitted) })
    }
}

/// Checks what rows were fitted to.
fn check_fit(vectors: &Vectors, center: &[f32], max_norm: f32, trained: u64) -> Result<(), String> {
    if center.len() != vectors.dim() {
        return Err(format!("its centre has {} values, expected {}", center.len(), vectors.dim()));
    }
    if let Some(index) = center.iter().position(|value| !value.is_finite()) {
        return Err(format!("value {index} of the centre is {}", center[index]));
    }
    if !max_norm.is_finite() || max_norm < 0.0 {
        return Err(format!("rows are lifted to norm {max_norm}, expected a finite number of at least 0"));
    }
    // Nothing is fitted to more rows than there are places for; that bounds the tables, too.
    if trained == 0 || trained > vectors.len() as u64 {
        return Err(format!("it was fitted to {trained} rows, expected 1 to {}", vectors.len()));
    }
    Ok(())
}

impl Fitted {
    /// Hashes all live rows by functions for `trained` rows; the default number of candidates is still to be set.
    fn build(params: &LshParams, vectors: &Vectors, placement: Placement, trained: usize) -> Self {
        let hasher = Hasher::new(params, trained, placement.width());
        let reach = Reach::new(&hasher, params.family);
        let codes = Codes::new(vectors.metric(), vectors.dim());
        let rows = BitSet::default();
        let mut fitted =
            Self { placement, hasher, reach, tables: Vec::new(), codes, rows, trained, candidates: 0 };
        let live: Vec<u32> = vectors.live().iter().collect();
        let row_codes = fitted.encode(vectors, &live);
        let (count, bits) = (fitted.hasher.tables, fitted.hasher.cells.bits());
        let build = |table: usize| Buckets::build(bits, &live, |place| row_codes[place * count + table]);
        fitted.tables = (0..count).into_par_iter().map(build).collect();
        fitted
    }

    /// Keeps sketches and eight-bit codes of rows, and gives their codes in every table, row by row.
    fn encode(&mut self, vectors: &Vectors, offsets: &[u32]) -> Vec<u32> {
        self.codes.grow(vectors.len());
        let mut all = Vec::with_capacity(offsets.len() * self.hasher.tables);
        for batch in offsets.chunks(BATCH) {
            let hash = |(placed, projections): &mut (Vec<f32>, Vec<f32>), &offset: &u32| {
                self.hash(vectors, offset, placed, projections)
            };
            let scratch = || (vec![0.0; self.placement.width()], vec![0.0; self.hasher.projections()]);
            let coded: Vec<(Vec<u32>, RowCodes)> =
                batch.par_iter().with_min_len(64).map_init(scratch, hash).collect();
            for (&offset, (table_codes, row_codes)) in batch.iter().zip(&coded) {
                all.extend_from_slice(table_codes);
                self.codes.set(offset, row_codes);
                self.rows.insert(offset);
            }
        }
        all
    }

    fn hash(
        &self,
        vectors: &Vectors,
        offset: u32,
        placed: &mut [f32],
        projections: &mut [f32],
    ) -> (Vec<u32>, RowCodes) {
        self.placement.place_row(&vectors.row(offset), placed);
        self.hasher.project(placed, projections);
        let mut table_codes = vec![0; self.hasher.tables];
        self.hasher.codes(projections, &mut table_codes);
        (table_codes, self.codes.encode(&placed[..vectors.dim()], projections))
    }

    /// Rows to compare for `k` hits: a share of the live rows, those of all if there were few when it was found.
    fn default_candidates(&self, vectors: &Vectors, k: usize) -> usize {
        let live = vectors.live().count() as u64;
        let scaled = (self.candidates as u64 * live).div_ceil(self.trained as u64);
        (scaled as usize).saturating_mul(k.div_ceil(CALIBRATED_HITS))
    }

    fn insert(&mut self, vectors: &Vectors, offsets: &[u32]) {
        let codes = self.encode(vectors, offsets);
        for (&offset, codes) in offsets.iter().zip(codes.chunks_exact(self.hasher.tables)) {
            for (table, &code) in self.tables.iter_mut().zip(codes) {
                table.insert(code, offset);
            }
        }
    }

    fn remove(&mut self, vectors: &Vectors, offset: u32) {
        if !self.rows.remove(offset) {
            return;
        }
        let (mut placed, mut projections) =
            (vec![0.0; self.placement.width()], vec![0.0; self.hasher.projections()]);
        let (codes, _) = self.hash(vectors, offset, &mut placed, &mut projections);
        for (table, code) in self.tables.iter_mut().zip(codes) {
            if !table.remove(code, offset) {
                // The row was hashed on a machine that rounds otherwise.
                table.remove_anywhere(offset);
            }
        }
    }
}

#[cfg(test)]
mod tests;
