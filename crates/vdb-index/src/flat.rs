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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{METRICS, Rng, brute_force, filled};

    fn check(vectors: &Vectors, request: &Request<'_>) {
        let answer = FlatScan.search(vectors, request);
        assert_eq!(answer.hits, brute_force(vectors, request), "{} k {}", vectors.metric(), request.k);
        assert!(answer.exact);
    }

    #[test]
    fn equals_brute_force_for_every_metric_filter_and_k() {
        let mut rng = Rng(1);
        for metric in METRICS {
            for (count, dim) in [(1, 1), (63, 3), (64, 16), (65, 17), (1_000, 40)] {
                // A third of the rows are copies, so that ties decide.
                let mut rows: Vec<Vec<f32>> = (0..count).map(|_| rng.vector(dim)).collect();
                (0..count).step_by(3).for_each(|i| rows[i] = rows[i / 2].clone());
                let (mut vectors, _) = filled(metric, rows);
                (0..count as u32).step_by(7).for_each(|offset| assert!(vectors.remove(offset)));
                let sparse = BitSet::from_fn(count, |i| i % 11 == 3);
                let dense = BitSet::from_fn(count, |i| i % 5 != 0);
                let query = rng.vector(dim);
                for k in [0, 1, 2, 10, 100, 5_000, usize::MAX] {
                    for allowed in [None, Some(&sparse), Some(&dense)] {
                        let by_offset = Request { allowed, ..Request::new(&query, k) };
                        check(&vectors, &by_offset);
                        check(&vectors, &Request { tie_break: &|a, b| b.cmp(&a), ..by_offset });
                    }
                }
            }
        }
    }

    #[test]
    fn extreme_values_are_ordered_as_the_metric_says() {
        let scales = [1e-38, 1e-30, 1e-18, 1e-8, 1.0, 1e8, 1e18, 1e30];
        let mut rng = Rng(2);
        for metric in METRICS {
            let rows = (0..400).map(|i| {
                let scale = scales[i % scales.len()];
                rng.vector(20).into_iter().map(|value| value * scale).collect()
            });
            let (mut vectors, _) = filled(metric, rows.collect::<Vec<_>>());
            vectors.push(&[0.0; 20]);
            for scale in scales {
                let query: Vec<f32> = rng.vector(20).into_iter().map(|value| value * scale).collect();
                check(&vectors, &Request::new(&query, 15));
            }
            check(&vectors, &Request::new(&[0.0; 20], 15));
        }
    }

    #[test]
    fn the_number_of_threads_does_not_matter() {
        let mut rng = Rng(3);
        let (vectors, _) = filled(Metric::DotProduct, (0..40_000).map(|_| rng.vector(32)));
        let query = rng.vector(32);
        let request = Request::new(&query, 25);
        let expected = brute_force(&vectors, &request);
        for threads in [1, 2, 7] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert_eq!(pool.install(|| FlatScan.search(&vectors, &request)).hits, expected);
        }
    }

    use vdb_distance::Metric;
}
