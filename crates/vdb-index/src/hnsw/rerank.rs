//! The last step of a search: exact distances of the nearest candidates, and of no more than it takes.
//!
//! A code's distance is off by something that is much the same for all candidates of a query (what the code leaves out)
//! and something that differs. Both are measured on the candidates compared so far, and comparing goes on, nearest first,
//! until a candidate this far off would still not be among the k nearest.

use super::search::Candidate;
use crate::Hit;
use crate::top_k::TopK;
use crate::vectors::Query;
use vdb_distance::Metric;

/// Candidates compared before errors are looked at, per hit wanted, and at least.
const FIRST: f64 = 1.25;
const LEAST: usize = 8;
/// Candidates compared in one go after that.
const MORE: usize = 4;
/// How many standard deviations a candidate may be off.
const DEVIATIONS: f32 = 2.5;

/// The last step of searches, and memory that it uses again and again.
#[derive(Debug, Default)]
pub(super) struct Reranking {
    nodes: Vec<u32>,
    estimates: Vec<f32>,
    distances: Vec<f32>,
    /// The k smallest comparable distances so far, ascending.
    nearest: Vec<f32>,
}

impl Reranking {
    /// Puts the exact distances of `candidates`, sorted by approximate distance, into `top` as long as they may matter.
    /// Gives how many were compared.
    pub(super) fn rerank(
        &mut self,
        query: &Query<'_>,
        candidates: impl Iterator<Item = Candidate>,
        metric: Metric,
        top: &mut TopK<'_>,
    ) -> usize {
        self.rerank_by(query, |nodes, out| query.gather(nodes, out), candidates, metric, top)
    }

    /// The same with comparable distances from elsewhere.
    pub(super) fn rerank_by(
        &mut self,
        query: &Query<'_>,
        mut gather: impl FnMut(&[u32], &mut [f32]),
        mut candidates: impl Iterator<Item = Candidate>,
        metric: Metric,
        top: &mut TopK<'_>,
    ) -> usize {
        // Placed distances are twice the comparable ones but for a constant, and squared ones under Euclidean.
        let scale = if matches!(metric, Metric::Euclidean | Metric::Manhattan) { 1.0 } else { 2.0 };
        let Self { nodes, estimates, distances, nearest } = self;
        nearest.clear();
        let mut errors = Errors::default();
        let k = top.k();
        let mut compared = 0;
        let mut count = ((k as f64 * FIRST).ceil() as usize).max(LEAST);
        loop {
            nodes.clear();
            estimates.clear();
            for candidate in candidates.by_ref().take(count) {
                nodes.push(candidate.node);
                estimates.push(candidate.distance);
            }
            let Some(&last) = estimates.last() else { return compared };
            distances.resize(nodes.len(), 0.0);
            gather(nodes, distances);
            for ((&offset, &distance), estimate) in nodes.iter().zip(&*distances).zip(&*estimates) {
                errors.add(scale * distance - estimate);
                // Different squares may be equal distances, whose order the tie-break decides: `top` sees all.
                top.push(Hit { offset, distance: query.finish(offset, distance) });
                if nearest.len() == k {
                    if distance >= nearest[k - 1] {
                        continue;
                    }
                    nearest.pop();
                }
                nearest.insert(nearest.partition_point(|&other| other <= distance), distance);
            }
            compared += nodes.len();
            if nearest.len() == k && last + errors.least() > scale * nearest[k - 1] {
                return compared;
            }
            count = MORE;
        }
    }
}

/// Mean and variance of what estimates were off by.
#[derive(Default)]
struct Errors {
    count: f32,
    mean: f32,
    squares: f32,
}

impl Errors {
    /// Welford's update.
    fn add(&mut self, error: f32) {
        self.count += 1.0;
        let difference = error - self.mean;
        self.mean += difference / self.count;
        self.squares += difference * (error - self.mean);
    }

    /// The least that a candidate is expected to be off by.
    fn least(&self) -> f32 {
        self.mean - DEVIATIONS * (self.squares / self.count).sqrt()
    }
}
