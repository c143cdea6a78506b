//! One search by bounds: four-bit head codes of every row, eight-bit codes of the heads of what they leave, exact
//! distances for what those leave.
//!
//! Rows go through in chunks. Rows whose bounds are not above the k-th distance so far are left; those whose estimates
//! are not above it either are looked at at once, which lowers that distance for the next chunk. All others wait until
//! the end, when most of them have fallen without a look. In the first chunk the rows of the lowest estimates come
//! first. A row is left out only when its lower bound, itself rigorous, is above the k-th distance by more than the
//! rounding of an exact comparison; equal distances are always compared, so that ties are decided as in the plain scan.

use super::bounds::Bounds;
use crate::top_k::TopK;
use crate::vectors::Query;
use crate::{Answer, BitSet, Hit, Request, Vectors};
use rayon::prelude::*;
use std::borrow::Cow;
use std::ops::Range;
use vdb_distance::Metric;
use vdb_quant::{BLOCK_ROWS, FineHeadCodes, FineHeadQuery, HeadCodes, HeadQuery, Near};

/// Rows whose bounds are computed at a time.
const CHUNK_ROWS: usize = 64 * BLOCK_ROWS;
/// Survivors that are compared at a time.
const SURVIVORS: usize = 32;
/// Rows that are compared at a time, of those that were looked at twice.
const COMPARED: usize = 16;
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

/// One search.
pub(super) struct Cascade<'a> {
    codes: &'a HeadCodes,
    prepared: HeadQuery,
    fine: Option<(&'a FineHeadCodes, FineHeadQuery)>,
    query: Query<'a>,
    request: Request<'a>,
    matching: Cow<'a, BitSet>,
    limit: Limit,
}

/// How far a search has come over some of the rows.
struct Progress<'a> {
    top: TopK<'a>,
    /// Rows that eight-bit codes have left, with their lower bounds.
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
        let fine = bounds.fine.as_ref().map(|fine| (fine, fine.query(&prepared)));
        Self {
            codes: &bounds.codes,
            prepared,
            fine,
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
        self.codes.near(&self.prepared, blocks, allowed, progress.limit, self.fine.is_none(), &mut fresh);
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

    /// Looks at the rows that waited.
    fn finish(&self, mut progress: Progress<'a>) -> Progress<'a> {
        let mut waiting = std::mem::take(&mut progress.waiting);
        waiting.retain(|near| is_near(near.lower, progress.limit));
        // The likeliest ones first: what they bring spares a look at most of the others.
        let first = self.likeliest(&mut waiting, FIRST_WAITING);
        self.compare(&waiting[..first], &mut progress);
        self.compare(&waiting[first..], &mut progress);
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

    /// Compares rows, those that the k-th distance so far does not exclude: after a look at their eight-bit codes, if
    /// there are any, and in the order of the bounds that these give.
    fn compare(&self, rows: &[Near], progress: &mut Progress<'_>) {
        let mut candidates = std::mem::take(&mut progress.candidates);
        candidates.clear();
        let mut some = [0u32; SURVIVORS];
        let mut count = 0;
        for (place, near) in rows.iter().enumerate() {
            some[count] = near.row;
            count += usize::from(is_near(near.lower, progress.limit));
            if count == SURVIVORS || place + 1 == rows.len() {
                match &self.fine {
                    None => self.compare_exactly(&some[..count], progress),
                    Some((codes, query)) => {
                        let mut lower = [0.0; SURVIVORS];
                        codes.lower_bounds(query, &some[..count], &mut lower[..count]);
                        let near = some.iter().copied().zip(lower).take(count);
                        candidates.extend(near.filter(|&(_, lower)| is_near(lower, progress.limit)));
                    }
                }
                count = 0;
            }
        }
        candidates.sort_unstable_by(|a, b| a.1.total_cmp(&b.1));
        for some in candidates.chunks(COMPARED) {
            let mut near = [0u32; COMPARED];
            let mut count = 0;
            for &(row, lower) in some {
                near[count] = row;
                count += usize::from(is_near(lower, progress.limit));
            }
            self.compare_exactly(&near[..count], progress);
        }
        progress.candidates = candidates;
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
