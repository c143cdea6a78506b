//! One search: a pool of rows from the likeliest buckets, or of all rows, the best of it by sketches, the nearest of those by
//! bounds, exact distances for what the bounds cannot exclude.
//!
//! All working memory belongs to the thread and is used again; a search touches as much of it as it looks at rows.

use super::Fitted;
use super::probe::Shells;
use crate::select::{LANES, Nearest};
use crate::top_k::TopK;
use crate::{Answer, BitSet, Hit, Request, Vectors};
use std::cell::RefCell;

/// Rows gathered from buckets for each one that is compared by its eight-bit code.
const POOL_FACTOR: usize = 16;
/// A pool of more than one in this many of the matching rows is all of them. To find a row in a bucket and to look at its
/// sketch takes 9 (fashion-mnist-784) to 19 times (wordnet-minilm-384) as long as to scan a sketch, and the scan misses no
/// row that lies in an unlikely bucket: on held-out rows of those two sets it answers more queries at equal recall from one
/// in 9 and one in 37 on.
const POOL_SHARE: usize = 20;
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
        scratch.fill_pool(fitted, matching, wanted);
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

    /// The `wanted` rows with the nearest sketches of a pool from the likeliest buckets, or of all matching rows where that is
    /// less work.
    fn fill_pool(&mut self, fitted: &Fitted, matching: &BitSet, wanted: usize) {
        self.pool.clear();
        let pool = wanted.saturating_mul(POOL_FACTOR);
        if pool.saturating_mul(POOL_SHARE) <= matching.count() && self.probe(fitted, matching, pool) {
            self.keep_by_sketch(fitted, wanted);
        } else {
            self.scan_sketches(fitted, matching, wanted);
        }
    }

    /// Keeps the `wanted` matching rows with the nearest sketches, by the rule of [`Self::keep_by_sketch`]. Sketches are read in
    /// the order of memory, those of rows that do not match as well where one of their 64 does.
    fn scan_sketches(&mut self, fitted: &Fitted, matching: &BitSet, wanted: usize) {
        let query = fitted.codes.sketch(&self.projections);
        let (mut nearest, mut differing) = (Nearest::new(wanted), [0.0; LANES]);
        for (word, &mask) in matching.words().iter().enumerate().filter(|(_, mask)| **mask != 0) {
            let first = word * LANES;
            fitted.codes.differing_bits_from(&query, first, &mut differing);
            nearest.offer(first as u32, mask, &differing);
        }
        self.pool.clear();
        self.pool.extend(nearest.into_offsets());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Rng, filled};
    use crate::{Lsh, LshParams};
    use vdb_distance::Metric;

    #[test]
    fn the_scan_keeps_what_ranking_every_row_keeps() {
        let mut rng = Rng(31);
        // The last word of 64 rows is not full.
        let (vectors, offsets) = filled(Metric::Euclidean, (0..3_011).map(|_| rng.clustered(24, 60)));
        let mut lsh = Lsh::new(LshParams::default());
        lsh.insert(&vectors, &offsets);
        let fitted = lsh.fitted.as_ref().unwrap();
        let marked = |wanted: fn(u32) -> bool| {
            let mut set = BitSet::default();
            offsets.iter().filter(|offset| wanted(**offset)).for_each(|&offset| {
                set.insert(offset);
            });
            set
        };
        let sets = [marked(|_| true), marked(|row| row % 3 == 1), marked(|row| row % 1_500 == 7)];
        for matching in &sets {
            for wanted in [1, 2, 63, 64, 500, 1_000] {
                let wanted = wanted.min(matching.count());
                let (mut scanned, mut ranked) = (Scratch::default(), Scratch::default());
                let query = rng.clustered(24, 60);
                scanned.prepare(fitted, &query);
                scanned.scan_sketches(fitted, matching, wanted);
                ranked.prepare(fitted, &query);
                ranked.pool.extend(matching.iter());
                ranked.keep_by_sketch(fitted, wanted);
                ranked.pool.sort_unstable();
                assert_eq!(scanned.pool, ranked.pool, "{wanted} of {}", matching.count());
                assert_eq!(scanned.pool.len(), wanted);
            }
        }
    }
}
