//! One search: a pool of rows from the likeliest buckets, the best of it by sketches, the nearest of those by bounds,
//! exact distances for what the bounds cannot exclude.
//!
//! All working memory belongs to the thread and is used again; a search touches as much of it as it looks at rows.

use super::Fitted;
use super::probe::Shells;
use crate::top_k::TopK;
use crate::{Answer, BitSet, Hit, Request, Vectors};
use std::cell::RefCell;

/// Rows gathered from buckets for each one that is compared by its eight-bit code.
const POOL_FACTOR: usize = 16;
/// A pool of more than one in this many of the matching rows is all of them: judging a row costs less than finding it.
const POOL_SHARE: usize = 3;
/// The first shell is made for one in this many of the rows that are wanted: rows crowd in the likeliest buckets.
const FIRST_SHELL_SHARE: usize = 4;
/// Buckets whose place in the table, and whose rows, are asked for ahead.
const STARTS_AHEAD: usize = 16;
const ROWS_AHEAD: usize = 8;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// What a search works in.
#[derive(Debug, Default)]
struct Scratch {
    placed: Vec<f32>,
    projections: Vec<f32>,
    shells: Shells,
    /// A bit per row; all clear between searches.
    seen: Vec<u64>,
    pool: Vec<u32>,
    lower: Vec<f32>,
    upper: Vec<f32>,
    order: Vec<f32>,
    tied: Vec<u32>,
}

/// Searches for the nearest of the `wanted` likeliest matching rows; there are more than those.
pub(super) fn search(
    fitted: &Fitted,
    vectors: &Vectors,
    request: &Request<'_>,
    matching: &BitSet,
    wanted: usize,
) -> Answer {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.prepare(fitted, request.query);
        scratch.fill_pool(fitted, matching, wanted.saturating_mul(POOL_FACTOR));
        scratch.keep_by_sketch(fitted, wanted);
        scratch.keep_by_bounds(fitted, request.k);
        scratch.compare(vectors, request, wanted)
    })
}

impl Scratch {
    fn prepare(&mut self, fitted: &Fitted, query: &[f32]) {
        self.placed.resize(fitted.placement.width(), 0.0);
        self.projections.resize(fitted.hasher.projections(), 0.0);
        fitted.placement.place_query(query, &mut self.placed);
        fitted.hasher.project(&self.placed, &mut self.projections);
    }

    /// Gathers `wanted` matching rows from the likeliest buckets, or all matching rows where that is less work.
    fn fill_pool(&mut self, fitted: &Fitted, matching: &BitSet, wanted: usize) {
        self.pool.clear();
        if wanted.saturating_mul(POOL_SHARE) > matching.count() || !self.probe(fitted, matching, wanted) {
            self.pool.clear();
            self.pool.extend(matching.iter());
        }
    }

    /// Probes until `wanted` rows are found; false when looking at all matching rows is less work.
    fn probe(&mut self, fitted: &Fitted, matching: &BitSet, wanted: usize) -> bool {
        let Fitted { hasher, tables, reach, .. } = fitted;
        self.seen.resize(self.seen.len().max(matching.words().len()), 0);
        let buckets = hasher.tables << hasher.cells.bits();
        let rows_per_bucket = (fitted.rows.count() * hasher.tables / buckets).max(1);
        self.shells.start(hasher, &self.projections, wanted / rows_per_bucket / FIRST_SHELL_SHARE);
        let mut touched = 0;
        while self.pool.len() < wanted && touched < matching.count() {
            let Some(shell) = self.shells.next(hasher, reach, matching.count()) else { break };
            for (place, probe) in shell.iter().enumerate() {
                if let Some(ahead) = shell.get(place + STARTS_AHEAD) {
                    tables[ahead.table as usize].prefetch_start(ahead.code);
                }
                if let Some(ahead) = shell.get(place + ROWS_AHEAD) {
                    tables[ahead.table as usize].prefetch_rows(ahead.code);
                }
                for row in tables[probe.table as usize].bucket(probe.code) {
                    touched += 1;
                    let (word, bit) = (row as usize / 64, 1 << (row % 64));
                    if matching.contains(row) && self.seen[word] & bit == 0 {
                        self.seen[word] |= bit;
                        self.pool.push(row);
                    }
                }
                if self.pool.len() >= wanted {
                    break;
                }
            }
        }
        for &row in &self.pool {
            self.seen[row as usize / 64] = 0;
        }
        self.pool.len() >= wanted
    }

    /// Keeps the `wanted` rows of the pool whose sketches are nearest to the query's; of those at the same distance
    /// the ones of lower offset, so that it does not matter in which order a bucket came to hold its rows.
    fn keep_by_sketch(&mut self, fitted: &Fitted, wanted: usize) {
        if self.pool.len() <= wanted {
            return;
        }
        let query = fitted.codes.sketch(&self.projections);
        self.order.resize(self.pool.len(), 0.0);
        fitted.codes.differing_bits(&query, &self.pool, &mut self.order);
        let mut counts = [0usize; super::hasher::SKETCH_BITS + 1];
        self.order.iter().for_each(|&bits| counts[bits as usize] += 1);
        let (mut last, mut room) = (0, wanted);
        while counts[last] < room {
            room -= counts[last];
            last += 1;
        }
        let mut kept = 0;
        self.tied.clear();
        for place in 0..self.pool.len() {
            let (row, bits) = (self.pool[place], self.order[place] as usize);
            if bits == last {
                self.tied.push(row);
            }
            self.pool[kept] = row;
            kept += usize::from(bits < last);
        }
        self.pool.truncate(kept);
        self.tied.sort_unstable();
        self.pool.extend_from_slice(&self.tied[..room]);
    }

    /// Keeps the rows that may be among the `k` nearest by the bounds on their distances.
    fn keep_by_bounds(&mut self, fitted: &Fitted, k: usize) {
        let dim = fitted.placement.center.len();
        let Some(query) = fitted.codes.query(&self.placed[..dim]).filter(|_| k < self.pool.len()) else {
            return;
        };
        self.lower.resize(self.pool.len(), 0.0);
        self.upper.resize(self.pool.len(), 0.0);
        fitted.codes.bounds(&query, &self.pool, &mut self.lower, &mut self.upper);
        self.order.clear();
        self.order.extend_from_slice(&self.upper);
        let (_, limit, _) = self.order.select_nth_unstable_by(k - 1, f32::total_cmp);
        let limit = *limit;
        let mut kept = 0;
        for place in 0..self.pool.len() {
            self.pool[kept] = self.pool[place];
            kept += usize::from(self.lower[place] <= limit);
        }
        self.pool.truncate(kept);
    }

    /// Compares what is left exactly.
    fn compare(&mut self, vectors: &Vectors, request: &Request<'_>, judged: usize) -> Answer {
        let query = vectors.query(request.query);
        self.lower.resize(self.pool.len(), 0.0);
        query.gather(&self.pool, &mut self.lower);
        let mut top = TopK::new(request.k, request.tie_break);
        for (&offset, &distance) in self.pool.iter().zip(&self.lower) {
            top.push(Hit { offset, distance: query.finish(offset, distance) });
        }
        Answer { hits: top.into_sorted(), exact: false, distance_computations: judged, ..Answer::default() }
    }
}
