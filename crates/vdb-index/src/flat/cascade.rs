//! One search by bounds: four-bit head codes of every row, eight-bit codes of whole rows for what they leave, exact
//! distances for what those leave.
//!
//! Rows go through in chunks. Rows whose bounds are not above the k-th distance so far are left; those whose estimates
//! are not above it either are compared at once, which lowers that distance for the next chunk. All others wait until
//! the end, when most of them have fallen without a look. In the first chunk the rows of the lowest estimates come
//! first. A row is left out only when its lower bound, itself rigorous, is above the k-th distance by more than the
//! rounding of an exact comparison; equal distances are always compared, so that ties are decided as in the plain scan.

use super::bounds::{Bounds, Fine};
use crate::top_k::TopK;
use crate::vectors::Query;
use crate::{Answer, BitSet, Hit, Request, Vectors};
use rayon::prelude::*;
use std::borrow::Cow;
use std::ops::Range;
use vdb_distance::{Metric, norm};
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
    /// What the rounding of exact comparisons can be, in comparable distances.
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
        Self { rows: &fine.rows, prepared, vectors, query_norm, rounding }
    }

    /// Keeps the rows that may be within `limit`, a comparable distance as the indexes compute it; gives how many.
    fn retain(&self, rows: &mut [u32], limit: Limit, comparable: f32) -> usize {
        let (mut lower, mut upper) = ([0.0f32; SURVIVORS], [0.0f32; SURVIVORS]);
        let count = rows.len();
        self.prepared.gather_bounds(self.rows, rows, &mut lower[..count], &mut upper[..count]);
        let limit = match limit.metric {
            Metric::Euclidean => limit.of(comparable),
            _ => comparable + self.rounding,
        };
        let mut kept = 0;
        for index in 0..count {
            let bound = match self.vectors.metric() {
                Metric::Cosine => lower[index] / (self.query_norm * self.vectors.norm(rows[index])),
                _ => lower[index],
            };
            rows[kept] = rows[index];
            kept += usize::from(is_near(bound, limit));
        }
        kept
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
    /// The k-th distance so far, and the largest lower bound that it leaves.
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
        if progress.top.worst().is_none() {
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

    /// Looks at the rows that waited.
    fn finish(&self, mut progress: Progress<'a>) -> Progress<'a> {
        let mut waiting = std::mem::take(&mut progress.waiting);
        waiting.retain(|near| is_near(near.lower, progress.limit));
        // The likeliest ones first: what they bring spares a look at most of the others.
        self.likeliest(&mut waiting, FIRST_WAITING);
        self.compare(&waiting, &mut progress);
        progress
    }

    /// Moves the rows of the lowest estimates, some more than `wanted` hits, to the front; gives how many they are.
    fn likeliest(&self, rows: &mut [Near], more: usize) -> usize {
        let first = rows.len().min(more + self.request.k);
        if first < rows.len() {
            rows.select_nth_unstable_by(first, |a, b| a.estimate.total_cmp(&b.estimate));
        }
        first
    }

    /// Compares rows exactly, those that the k-th distance so far does not exclude.
    fn compare(&self, rows: &[Near], progress: &mut Progress<'_>) {
        let mut some = [0u32; SURVIVORS];
        let mut count = 0;
        for (place, near) in rows.iter().enumerate() {
            some[count] = near.row;
            count += usize::from(is_near(near.lower, progress.limit));
            if count == SURVIVORS || place + 1 == rows.len() {
                self.compare_some(&mut some[..count], progress);
                count = 0;
            }
        }
    }

    fn compare_some(&self, rows: &mut [u32], progress: &mut Progress<'_>) {
        let fine = self.fine.as_ref().filter(|_| progress.comparable.is_finite());
        let count = fine.map_or(rows.len(), |fine| fine.retain(rows, self.limit, progress.comparable));
        let mut distances = [0.0f32; SURVIVORS];
        self.query.gather(&rows[..count], &mut distances[..count]);
        progress.computed += count;
        let mut changed = false;
        for (&offset, &distance) in rows[..count].iter().zip(&distances) {
            changed |= progress.top.push(Hit { offset, distance: self.query.finish(offset, distance) });
        }
        if changed && let Some(worst) = progress.top.worst() {
            progress.comparable = self.query.bound(worst);
            progress.limit = self.limit.of(progress.comparable);
        }
    }
}

impl<'a> Progress<'a> {
    /// Of two parts of one search that are both finished.
    fn merge(self, other: Self) -> Self {
        Self { top: self.top.merge(other.top), computed: self.computed + other.computed, ..self }
    }

    fn into_answer(self) -> Answer {
        Answer { hits: self.top.into_sorted(), exact: true, distance_computations: self.computed }
    }
}

/// Whether a row with this lower bound has to be compared; one whose bound is NaN has.
#[inline]
pub(super) fn is_near(bound: f32, limit: f32) -> bool {
    bound.is_nan() || bound <= limit
}
