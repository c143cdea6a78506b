//! Exact search by scanning every matching row.
//!
//! The scan walks the set of matching rows a word (64 rows) at a time: empty words are skipped, dense ones go through
//! the contiguous kernel, sparse ones gather. Large scans are split over the current rayon pool; the answer is the
//! same for any number of threads, because hits are selected under a total order.
//!
//! A batch of queries goes through the rows together: 64 rows at a time meet a group of queries in a tiled kernel, and
//! each query takes from there what is not farther than its k-th hit so far. No other distances are ever held.

use crate::{Answer, BitSet, Hit, Request, Vectors, bitset::ones, top_k::TopK, vectors::Query};
use rayon::prelude::*;
use std::borrow::Cow;
use std::ops::Range;

/// Values to scan below which a second thread costs more than it brings (about a tenth of a millisecond).
const PARALLEL_VALUES: usize = 1 << 20;
/// Rows of a word.
const WORD_ROWS: usize = 64;
/// Rows that are gathered together where few of a word match, so that each is asked for ahead of its use.
const GATHERED_ROWS: usize = 4 * WORD_ROWS;
/// Words that one task scans at least.
const TASK_WORDS: usize = 16;
/// Queries that go through the rows together: enough that time is spent computing, not waiting for rows.
const GROUP: usize = 64;

/// The exact index. It holds nothing: the vectors are the index.
#[derive(Debug, Clone, Copy, Default)]
pub struct FlatScan;

impl FlatScan {
    /// The true nearest rows.
    ///
    /// # Complexity
    /// One distance per matching row.
    ///
    /// # Panics
    /// When the query has another dimension than the vectors.
    pub fn search(&self, vectors: &Vectors, request: &Request<'_>) -> Answer {
        let scan = Scan::new(vectors, request);
        let words = vectors.len().div_ceil(WORD_ROWS);
        if scan.matching.count().saturating_mul(vectors.dim()) < PARALLEL_VALUES {
            return scan.finish(scan.words(0..words));
        }
        let task_words = words.div_ceil(rayon::current_num_threads() * 4).max(TASK_WORDS);
        let selection = (0..words.div_ceil(task_words))
            .into_par_iter()
            .map(|task| scan.words(task * task_words..words.min((task + 1) * task_words)))
            .reduce(|| scan.selection(), |a, b| Selection { top: a.top.merge(b.top), ..b });
        scan.finish(selection)
    }

    /// As many answers as there are requests, each what [`search`](Self::search) gives: queries share the rows that
    /// are read, and all threads of the current rayon pool take part.
    ///
    /// # Panics
    /// When a query has another dimension than the vectors.
    pub fn search_batch(&self, vectors: &Vectors, requests: &[Request<'_>]) -> Vec<Answer> {
        let values = vectors.live().count().saturating_mul(vectors.dim()).saturating_mul(requests.len());
        let threads = if values < PARALLEL_VALUES { 1 } else { rayon::current_num_threads() };
        if requests.len() < threads {
            return requests.iter().map(|request| self.search(vectors, request)).collect();
        }
        let group = requests.len().div_ceil(threads).clamp(1, GROUP);
        requests.par_chunks(group).flat_map_iter(|requests| scan_together(vectors, requests)).collect()
    }
}

/// The answers to a group of requests, on this thread.
fn scan_together(vectors: &Vectors, requests: &[Request<'_>]) -> Vec<Answer> {
    let scans: Vec<Scan<'_>> = requests.iter().map(|request| Scan::new(vectors, request)).collect();
    let mut selections: Vec<Selection<'_>> = scans.iter().map(Scan::selection).collect();
    let mut distances = vec![0.0f32; WORD_ROWS * scans.len()];
    for word in 0..vectors.len().div_ceil(WORD_ROWS) {
        let rows = (vectors.len() - word * WORD_ROWS).min(WORD_ROWS);
        let dense: Vec<usize> = (0..scans.len()).filter(|&one| scans[one].is_dense(word)).collect();
        let queries: Vec<&Query<'_>> = dense.iter().map(|&one| &scans[one].query).collect();
        let distances = &mut distances[..rows * queries.len()];
        Query::scan_tile(&queries, (word * WORD_ROWS) as u32, distances);
        for (&one, distances) in dense.iter().zip(distances.chunks_exact(rows)) {
            scans[one].take_dense(word, distances, &mut selections[one]);
        }
        for (scan, selection) in scans.iter().zip(&mut selections).filter(|(scan, _)| !scan.is_dense(word)) {
            scan.take_sparse(word, selection);
        }
    }
    scans.iter().zip(selections).map(|(scan, selection)| scan.finish(selection)).collect()
}

/// One search.
struct Scan<'a> {
    query: Query<'a>,
    request: Request<'a>,
    matching: Cow<'a, BitSet>,
    k: usize,
}

/// The hits of some of the rows.
struct Selection<'a> {
    top: TopK<'a>,
    /// No row farther than this, a comparable distance, is a hit.
    bound: f32,
}

impl<'a> Scan<'a> {
    fn new(vectors: &'a Vectors, request: &Request<'a>) -> Self {
        let matching = request.matching(vectors);
        let k = request.k.min(matching.count());
        Self { query: vectors.query(request.query), request: *request, matching, k }
    }

    fn selection(&self) -> Selection<'a> {
        // Where no hit is wanted, no row is near enough.
        let bound = if self.k == 0 { f32::NEG_INFINITY } else { f32::INFINITY };
        Selection { top: TopK::new(self.k, self.request.tie_break), bound }
    }

    fn finish(&self, selection: Selection<'_>) -> Answer {
        let distance_computations = if self.k == 0 { 0 } else { self.matching.count() };
        Answer { hits: selection.top.into_sorted(), exact: true, distance_computations, ..Answer::default() }
    }

    fn words(&self, words: Range<usize>) -> Selection<'a> {
        let mut selection = self.selection();
        let mut distances = [0.0f32; WORD_ROWS];
        let mut sparse = Vec::with_capacity(GATHERED_ROWS);
        for word in if self.k == 0 { 0..0 } else { words } {
            if self.is_dense(word) {
                let first = word * WORD_ROWS;
                let distances = &mut distances[..(self.matching.len() - first).min(WORD_ROWS)];
                self.query.scan(first as u32, distances);
                self.take_dense(word, distances, &mut selection);
                continue;
            }
            sparse.extend(ones(self.matching.words()[word], (word * WORD_ROWS) as u32));
            if sparse.len() > GATHERED_ROWS - WORD_ROWS {
                self.take(&sparse, &mut selection);
                sparse.clear();
            }
        }
        self.take(&sparse, &mut selection);
        selection
    }

    /// Whether computing all of a word's distances costs less than picking those that match.
    fn is_dense(&self, word: usize) -> bool {
        let rows = (self.matching.len() - word * WORD_ROWS).min(WORD_ROWS);
        self.matching.words()[word].count_ones() as usize * 2 > rows
    }

    /// Takes a word's matching rows; `distances` are of all its rows.
    fn take_dense(&self, word: usize, distances: &[f32], selection: &mut Selection<'_>) {
        let first = (word * WORD_ROWS) as u32;
        for offset in ones(self.matching.words()[word], first) {
            self.push(offset, distances[(offset - first) as usize], selection);
        }
    }

    fn take_sparse(&self, word: usize, selection: &mut Selection<'_>) {
        let (mut offsets, mut count) = ([0; WORD_ROWS], 0);
        for offset in ones(self.matching.words()[word], (word * WORD_ROWS) as u32) {
            offsets[count] = offset;
            count += 1;
        }
        self.take(&offsets[..count], selection);
    }

    /// Compares these rows, at most [`GATHERED_ROWS`].
    fn take(&self, offsets: &[u32], selection: &mut Selection<'_>) {
        let mut distances = [0.0f32; GATHERED_ROWS];
        let distances = &mut distances[..offsets.len()];
        self.query.gather(offsets, distances);
        for (&offset, &distance) in offsets.iter().zip(&*distances) {
            self.push(offset, distance, selection);
        }
    }

    #[inline]
    fn push(&self, offset: u32, comparable: f32, selection: &mut Selection<'_>) {
        let Selection { top, bound } = selection;
        if comparable <= *bound && top.push(Hit { offset, distance: self.query.finish(offset, comparable) }) {
            *bound = top.worst().map_or(f32::INFINITY, |worst| self.query.bound(worst));
        }
    }
}
