//! One search by bounds: four-bit head codes of every row, eight-bit codes of whole rows for what they leave, exact
//! distances for what those leave.
//!
//! Rows go through in chunks. Rows whose bounds are not above the k-th distance so far are left; those whose estimates
//! are not above it either are looked at at once, which lowers that distance for the next chunk. All others wait until
//! the end, when most of them have fallen without a look. In the first chunk the rows of the lowest estimates come
//! first. Eight-bit codes bound distances from above, too, so the k-th upper bound serves as the k-th distance, and rows
//! are compared exactly only when all have been bounded: hardly more of them than are hits. A row is left out only when its lower bound, itself rigorous, is above the k-th distance by more than the
//! rounding of an exact comparison; equal distances are always compared, so that ties are decided as in the plain scan.

use super::bounds::{Bounds, Fine};
use crate::top_k::TopK;
use crate::vectors::Query;
use crate::{Answer, BitSet, Hit, Request, Vectors};
use rayon::prelude::*;
use std::borrow::Cow;
use std::collections::BinaryHeap;
use std::ops::Range;
use vdb_distance::{Distance, Metric, norm};
use vdb_quant::{BLOCK_ROWS, BoundedQuery, HeadCodes, HeadQuery, Near, Quantizer};

/// Rows whose bounds are computed at a time.
const CHUNK_ROWS: usize = 64 * BLOCK_ROWS;
/// Survivors that are compared at a time.
const SURVIVORS: usize = 32;
/// Bytes of codes below which a second thread costs more than it brings.
const PARALLEL_BYTES: usize = 1 << 21;
/// Rows that are looked at first of those that waited, besides as many as hits are wanted.
const FIRST_WAITING: usize = 4 * SURVIVORS;
/// Rows that wait at least before those that have fallen meanwhile are dropped.
const WAITING: usize = 1 << 12;

/// Upper bounds that are larger say nothing: such distances are computed in another way.
const LARGEST_UPPER: f32 = 1e30;

/// Turns the k-th distance so far into the largest lower bound that is still to be looked at.
#[derive(Clone, Copy)]
pub(super) struct Limit {
    metric: Metric,
    /// How far off a distance computed in f32 can be, relative to its terms.
    rounding: f32,
}

impl Limit {
    pub(super) fn new(vectors: &Vectors) -> Self {
        let rounding = (vectors.dim() as f32 / 128.0 + 8.0) * f32::EPSILON;
        Self { metric: vectors.metric(), rounding }
    }

    /// `comparable` is a bound on comparable distances as the indexes compute them.
    pub(super) fn of(self, comparable: f32) -> f32 {
        match self.metric {
            // Bounds are on the unit sphere: ‖q − x‖² = 2 − 2 cos.
            Metric::Cosine => 2.0 + 2.0 * (comparable + 2.0 * self.rounding),
            Metric::Euclidean => comparable * (1.0 + 4.0 * self.rounding),
            _ => comparable,
        }
    }
}

/// A search's view of the eight-bit codes.
struct FineScan<'a> {
    rows: &'a [u8],
    prepared: BoundedQuery,
    vectors: &'a Vectors,
    query_norm: f32,
    /// What the rounding of exact comparisons can be, relative and in comparable distances.
    relative: f32,
    rounding: f32,
}

impl<'a> FineScan<'a> {
    fn new(fine: &'a Fine, vectors: &'a Vectors, query: &[f32]) -> Self {
        let query_norm = norm(query);
        let relative = 4.0 * Limit::new(vectors).rounding;
        let (metric, rounding) = match vectors.metric() {
            Metric::Euclidean => (Metric::Euclidean, 0.0),
            // The product is bounded, and divided by the norms afterwards.
            Metric::Cosine => (Metric::DotProduct, relative),
            other => (other, relative * query_norm * fine.max_norm),
        };
        let prepared = fine.quantizer.query(metric, query);
        Self { rows: &fine.rows, prepared, vectors, query_norm, relative, rounding }
    }

    /// Bounds of the rows' comparable distances: `lower` of the true ones, `upper` of those that an exact comparison
    /// computes. What cannot be bounded is NaN.
    fn bounds(&self, rows: &[u32], lower: &mut [f32], upper: &mut [f32]) {
        self.prepared.gather_bounds(self.rows, rows, lower, upper);
        match self.vectors.metric() {
            Metric::Euclidean => {
                let widen = |upper: &mut f32| *upper = *upper * (1.0 + self.relative) + f32::MIN_POSITIVE;
                upper.iter_mut().for_each(widen);
            }
            Metric::Cosine => {
                for ((lower, upper), &row) in lower.iter_mut().zip(&mut *upper).zip(rows) {
                    // The product of two norms may be too large for f32.
                    let norms = f64::from(self.query_norm) * f64::from(self.vectors.norm(row));
                    *lower = (f64::from(*lower) / norms) as f32;
                    *upper = (f64::from(*upper) / norms) as f32 + self.rounding;
                }
            }
            _ => upper.iter_mut().for_each(|upper| *upper += self.rounding),
        }
    }

    /// The largest lower bound that `comparable`, the k-th distance at most, leaves to be looked at.
    fn limit(&self, limit: Limit, comparable: f32) -> f32 {
        match limit.metric {
            Metric::Euclidean => limit.of(comparable),
            _ => comparable + self.rounding,
        }
    }
}

/// One search.
pub(super) struct Cascade<'a> {
    codes: &'a HeadCodes,
    prepared: HeadQuery,
    fine: Option<FineScan<'a>>,
    query: Query<'a>,
    request: Request<'a>,
    matching: Cow<'a, BitSet>,
    limit: Limit,
}

/// How far a search has come over some of the rows.
struct Progress<'a> {
    top: TopK<'a>,
    /// The k smallest upper bounds by eight-bit codes, and the rows that these codes leave, with their lower bounds.
    uppers: BinaryHeap<Distance>,
    candidates: Vec<(u32, f32)>,
    /// The k-th distance so far at most, and the largest lower bound that it leaves.
    comparable: f32,
    limit: f32,
    computed: usize,
    /// Rows that a chunk has left.
    fresh: Vec<Near>,
    /// Rows that wait for the end.
    waiting: Vec<Near>,
    most_waiting: usize,
}

/// The answers to searches over the same rows, which are read once for all of them.
pub(super) fn search_together(searches: &[&Cascade<'_>]) -> Vec<Answer> {
    let Some(first) = searches.first() else { return Vec::new() };
    let mut progress: Vec<Progress<'_>> = searches.iter().map(|search| search.progress()).collect();
    for chunk in chunks(0..first.codes.len()) {
        for (search, progress) in searches.iter().zip(&mut progress) {
            search.scan(chunk.clone(), progress);
        }
    }
    searches.iter().zip(progress).map(|(search, progress)| search.finish(progress).into_answer()).collect()
}

fn chunks(rows: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    rows.clone().step_by(CHUNK_ROWS).map(move |first| first..rows.end.min(first + CHUNK_ROWS))
}

impl<'a> Cascade<'a> {
    pub(super) fn new(
        bounds: &'a Bounds,
        vectors: &'a Vectors,
        request: Request<'a>,
        matching: Cow<'a, BitSet>,
        prepared: HeadQuery,
    ) -> Self {
        Self {
            codes: &bounds.codes,
            prepared,
            fine: bounds.fine.as_ref().map(|fine| FineScan::new(fine, vectors, request.query)),
            query: vectors.query(request.query),
            request,
            matching,
            limit: Limit::new(vectors),
        }
    }

    pub(super) fn search(&self) -> Answer {
        let rows = self.codes.len();
        let threads = rayon::current_num_threads();
        if threads == 1 || rows * self.codes.row_bytes() < PARALLEL_BYTES {
            return self.search_rows(0..rows).into_answer();
        }
        let task_rows = rows.div_ceil(threads).next_multiple_of(CHUNK_ROWS);
        (0..rows.div_ceil(task_rows))
            .into_par_iter()
            .map(|task| self.search_rows(task * task_rows..rows.min((task + 1) * task_rows)))
            .reduce(|| self.progress(), Progress::merge)
            .into_answer()
    }

    fn search_rows(&self, rows: Range<usize>) -> Progress<'a> {
        let mut progress = self.progress();
        chunks(rows).for_each(|chunk| self.scan(chunk, &mut progress));
        self.finish(progress)
    }

    fn progress(&self) -> Progress<'a> {
        Progress {
            top: TopK::new(self.request.k, self.request.tie_break),
            uppers: BinaryHeap::new(),
            candidates: Vec::new(),
            comparable: f32::INFINITY,
            limit: f32::INFINITY,
            computed: 0,
            fresh: Vec::with_capacity(CHUNK_ROWS),
            waiting: Vec::new(),
            most_waiting: WAITING,
        }
    }

    /// Looks at the rows of one chunk.
    fn scan(&self, rows: Range<usize>, progress: &mut Progress<'_>) {
        let blocks = rows.start / BLOCK_ROWS..rows.end.div_ceil(BLOCK_ROWS);
        let allowed = &self.matching.words()[rows.start / 64..rows.end.div_ceil(64)];
        let mut fresh = std::mem::take(&mut progress.fresh);
        fresh.clear();
        self.codes.near(&self.prepared, blocks, allowed, progress.limit, &mut fresh);
        if progress.comparable == f32::INFINITY {
            let first = self.likeliest(&mut fresh, SURVIVORS);
            self.compare(&fresh[..first], progress);
            fresh.drain(..first);
        }
        let limit = progress.limit;
        progress.waiting.extend(fresh.iter().filter(|near| !is_near(near.estimate, limit)));
        fresh.retain(|near| is_near(near.estimate, limit));
        self.compare(&fresh, progress);
        progress.fresh = fresh;
        if progress.waiting.len() > progress.most_waiting {
            let limit = progress.limit;
            progress.waiting.retain(|near| is_near(near.lower, limit));
            progress.most_waiting = WAITING.max(2 * progress.waiting.len());
        }
    }

    /// Looks at the rows that waited, and compares the candidates exactly.
    fn finish(&self, mut progress: Progress<'a>) -> Progress<'a> {
        // Those that are hits so far first: where upper bounds are loose, their distances leave less.
        let likely = self.request.k.min(progress.candidates.len());
        if likely < progress.candidates.len() {
            progress.candidates.select_nth_unstable_by(likely, |a, b| a.1.total_cmp(&b.1));
        }
        let others = progress.candidates.split_off(likely);
        self.compare_candidates(&mut progress);
        progress.candidates = others;
        let mut waiting = std::mem::take(&mut progress.waiting);
        waiting.retain(|near| is_near(near.lower, progress.limit));
        // The likeliest ones first: what they bring spares a look at most of the others.
        self.likeliest(&mut waiting, FIRST_WAITING);
        self.compare(&waiting, &mut progress);
        progress.candidates.sort_unstable_by(|a, b| a.1.total_cmp(&b.1));
        self.compare_candidates(&mut progress);
        progress
    }

    /// Compares the candidates exactly, those that the k-th distance so far does not exclude.
    fn compare_candidates(&self, progress: &mut Progress<'_>) {
        let Some(fine) = &self.fine else { return };
        let candidates = std::mem::take(&mut progress.candidates);
        for some in candidates.chunks(SURVIVORS / 2) {
            let limit = fine.limit(self.limit, progress.comparable);
            let mut rows = [0u32; SURVIVORS / 2];
            let mut count = 0;
            for &(row, lower) in some {
                rows[count] = row;
                count += usize::from(is_near(lower, limit));
            }
            self.compare_exactly(&rows[..count], progress);
        }
    }

    /// Moves the rows of the lowest estimates, some more than `wanted` hits, to the front; gives how many they are.
    fn likeliest(&self, rows: &mut [Near], more: usize) -> usize {
        let first = rows.len().min(more + self.request.k);
        if first < rows.len() {
            rows.select_nth_unstable_by(first, |a, b| a.estimate.total_cmp(&b.estimate));
        }
        first
    }

    /// Compares rows, those that the k-th distance so far does not exclude: by eight-bit codes if there are any.
    fn compare(&self, rows: &[Near], progress: &mut Progress<'_>) {
        let mut some = [0u32; SURVIVORS];
        let mut count = 0;
        for (place, near) in rows.iter().enumerate() {
            some[count] = near.row;
            count += usize::from(is_near(near.lower, progress.limit));
            if count == SURVIVORS || place + 1 == rows.len() {
                match &self.fine {
                    Some(fine) => self.bound(fine, &some[..count], progress),
                    None => self.compare_exactly(&some[..count], progress),
                }
                count = 0;
            }
        }
    }

    /// Bounds rows by their eight-bit codes: the k-th upper bound takes the place of the k-th distance, and no row is
    /// compared exactly before all have been bounded.
    fn bound(&self, fine: &FineScan<'_>, rows: &[u32], progress: &mut Progress<'_>) {
        let (mut lower, mut upper) = ([0.0f32; SURVIVORS], [0.0f32; SURVIVORS]);
        let (lower, upper) = (&mut lower[..rows.len()], &mut upper[..rows.len()]);
        fine.bounds(rows, lower, upper);
        let limit = fine.limit(self.limit, progress.comparable);
        let found = rows.iter().zip(lower.iter().zip(&*upper));
        for (&row, (&lower, &upper)) in found.filter(|(_, (lower, _))| is_near(**lower, limit)) {
            progress.candidates.push((row, lower));
            if upper.abs() < LARGEST_UPPER {
                progress.uppers.push(Distance::from_raw(upper));
                if progress.uppers.len() > self.request.k {
                    progress.uppers.pop();
                }
            }
        }
        if progress.uppers.len() == self.request.k
            && let Some(worst) = progress.uppers.peek()
        {
            self.lower_limit(self.query.widened(worst.get()), progress);
        }
    }

    fn compare_exactly(&self, rows: &[u32], progress: &mut Progress<'_>) {
        let mut distances = [0.0f32; SURVIVORS];
        let distances = &mut distances[..rows.len()];
        self.query.gather(rows, distances);
        progress.computed += rows.len();
        let mut changed = false;
        for (&offset, &distance) in rows.iter().zip(&*distances) {
            changed |= progress.top.push(Hit { offset, distance: self.query.finish(offset, distance) });
        }
        changed |= progress.top.settle();
        if changed && let Some(worst) = progress.top.worst() {
            self.lower_limit(self.query.bound(worst), progress);
        }
    }

    fn lower_limit(&self, comparable: f32, progress: &mut Progress<'_>) {
        if comparable < progress.comparable {
            progress.comparable = comparable;
            progress.limit = self.limit.of(comparable);
        }
    }
}

impl<'a> Progress<'a> {
    /// Of two parts of one search that are both finished.
    fn merge(self, other: Self) -> Self {
        Self { top: self.top.merge(other.top), computed: self.computed + other.computed, ..self }
    }

    fn into_answer(self) -> Answer {
        Answer {
            hits: self.top.into_sorted(),
            exact: true,
            distance_computations: self.computed,
            ..Answer::default()
        }
    }
}

/// Whether a row with this lower bound has to be compared; one whose bound is NaN has.
#[inline]
pub(super) fn is_near(bound: f32, limit: f32) -> bool {
    bound.is_nan() || bound <= limit
}
