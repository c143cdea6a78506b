//! Data and the brute-force oracle that the tests of every index share.

use crate::hash::mix;
use crate::{Hit, Request, Vectors};
use vdb_distance::{Distance, Metric};

pub(crate) const METRICS: [Metric; 4] =
    [Metric::Euclidean, Metric::Cosine, Metric::DotProduct, Metric::Manhattan];

/// Numbers that depend on a seed alone.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// In [−1, 1).
    pub(crate) fn signed(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub(crate) fn vector(&mut self, dim: usize) -> Vec<f32> {
        (0..dim).map(|_| self.signed()).collect()
    }

    /// A point near one of `clusters` centres, off the origin: more like embeddings than uniform noise is.
    pub(crate) fn clustered(&mut self, dim: usize, clusters: usize) -> Vec<f32> {
        let mut center = Rng(self.below(clusters) as u64 * 1_000 + 5);
        (0..dim).map(|_| 0.5 + center.signed() + 0.4 * self.signed()).collect()
    }
}

pub(crate) fn filled(metric: Metric, rows: impl IntoIterator<Item = Vec<f32>>) -> (Vectors, Vec<u32>) {
    let mut rows = rows.into_iter().peekable();
    let mut vectors = Vectors::new(metric, rows.peek().map_or(1, Vec::len));
    let offsets = rows.map(|row| vectors.push(&row)).collect();
    (vectors, offsets)
}

/// The true answer, from the definition: every matching row, sorted, cut.
pub(crate) fn brute_force(vectors: &Vectors, request: &Request<'_>) -> Vec<Hit> {
    let mut hits: Vec<Hit> = (0..vectors.len() as u32)
        .filter(|&offset| vectors.live().contains(offset))
        .filter(|&offset| request.allowed.is_none_or(|allowed| allowed.contains(offset)))
        .map(|offset| {
            let value = vectors.metric().calculate(request.query, &vectors.row(offset));
            Hit { offset, distance: Distance::from_value(vectors.metric(), value) }
        })
        .collect();
    hits.sort_by(|a, b| a.distance.cmp(&b.distance).then_with(|| (request.tie_break)(a.offset, b.offset)));
    hits.truncate(request.k);
    hits
}

/// The share of the true hits that were found, an equally distant row counting as the true one.
pub(crate) fn recall(found: &[Hit], truth: &[Hit]) -> f64 {
    let Some(last) = truth.last() else { return 1.0 };
    let right = found.iter().filter(|hit| hit.distance <= last.distance).count();
    right as f64 / truth.len() as f64
}
