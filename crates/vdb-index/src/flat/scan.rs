//! Exact search by scanning every matching row.
//!
//! The scan walks the set of matching rows a word (64 rows) at a time: empty words are skipped, dense ones go through
//! the contiguous kernel, sparse ones gather. Large scans are split over the current rayon pool; the answer is the
//! same for any number of threads, because hits are selected under a total order.

use crate::{Answer, BitSet, Hit, Request, Vectors, bitset::ones, top_k::TopK, vectors::Query};
use rayon::prelude::*;

/// Values to scan below which a second thread costs more than it brings (about a tenth of a millisecond).
const PARALLEL_VALUES: usize = 1 << 20;
/// Words of 64 rows that one task scans at least.
const TASK_WORDS: usize = 16;

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
        let query = vectors.query(request.query);
        let matching = request.matching(vectors);
        let k = request.k.min(matching.count());
        let computed = if k == 0 { 0 } else { matching.count() };
        let hits = if k == 0 { Vec::new() } else { scan(&query, &matching, k, vectors.dim(), request) };
        Answer { hits, exact: true, distance_computations: computed }
    }
}

fn scan(query: &Query<'_>, matching: &BitSet, k: usize, dim: usize, request: &Request<'_>) -> Vec<Hit> {
    let words = matching.words();
    let top = || TopK::new(k, request.tie_break);
    if matching.count().saturating_mul(dim) < PARALLEL_VALUES {
        return scan_words(query, matching.len(), words, 0, top()).into_sorted();
    }
    let task_words = words.len().div_ceil(rayon::current_num_threads() * 4).max(TASK_WORDS);
    words
        .par_chunks(task_words)
        .enumerate()
        .map(|(task, chunk)| scan_words(query, matching.len(), chunk, task * task_words, top()))
        .reduce(top, TopK::merge)
        .into_sorted()
}

fn scan_words<'a>(
    query: &Query<'_>,
    len: usize,
    words: &[u64],
    first_word: usize,
    mut top: TopK<'a>,
) -> TopK<'a> {
    let mut distances = [0.0f32; 64];
    let mut offsets = [0u32; 64];
    let mut bound = f32::INFINITY;
    for (index, &word) in words.iter().enumerate().filter(|(_, word)| **word != 0) {
        let first = (first_word + index) * 64;
        let rows = (len - first).min(64);
        let count = word.count_ones() as usize;
        let dense = count * 2 > rows;
        ones(word, first as u32).zip(&mut offsets).for_each(|(offset, slot)| *slot = offset);
        if dense {
            query.scan(first as u32, &mut distances[..rows]);
        } else {
            query.gather(&offsets[..count], &mut distances[..count]);
        }
        for (index, &offset) in offsets[..count].iter().enumerate() {
            let comparable = distances[if dense { offset as usize - first } else { index }];
            if comparable <= bound && top.push(Hit { offset, distance: query.finish(offset, comparable) }) {
                bound = top.worst().map_or(f32::INFINITY, |worst| query.bound(worst));
            }
        }
    }
    top
}
