//! How many rows a query compares when the caller does not say: as many as find nine in ten of the true neighbours.
//!
//! Rows of the data stand in for queries, and their hundred nearest for the neighbours: real queries often lie farther
//! from the data than its rows from each other, and the tenth neighbour of such a query is like the hundredth of a row.

use super::{Fitted, search};
use crate::{FlatScan, Request, Vectors};
use rayon::prelude::*;

/// Rows below which every row is compared: a scan of so few is as fast as hashing.
const SMALLEST: usize = 2_048;
/// Rows that stand in for queries.
const QUERIES: usize = 32;
/// Neighbours of each.
const NEIGHBORS: usize = 100;
/// The share of them to be found.
const RECALL: f64 = 0.9;

/// Rows to compare, for up to a hundred hits.
pub(super) fn default_candidates(fitted: &Fitted, vectors: &Vectors) -> usize {
    let live: Vec<u32> = vectors.live().iter().collect();
    if live.len() < SMALLEST {
        return live.len();
    }
    let step = live.len() / QUERIES;
    let queries: Vec<(u32, Vec<u32>)> = (0..QUERIES)
        .into_par_iter()
        .map(|i| (live[i * step], nearest(FlatScan.search(vectors, &request(&vectors.row(live[i * step]))))))
        .collect();
    let mut candidates = NEIGHBORS + NEIGHBORS / 4;
    while candidates < live.len() && mean_recall(fitted, vectors, &queries, candidates) < RECALL {
        candidates += candidates / 4;
    }
    candidates
}

fn request(row: &[f32]) -> Request<'_> {
    Request::new(row, NEIGHBORS)
}

fn nearest(answer: crate::Answer) -> Vec<u32> {
    answer.hits.iter().map(|hit| hit.offset).collect()
}

fn mean_recall(fitted: &Fitted, vectors: &Vectors, queries: &[(u32, Vec<u32>)], candidates: usize) -> f64 {
    let found: usize = queries
        .par_iter()
        .map(|(row, truth)| {
            let row = vectors.row(*row);
            let answer = search::search(fitted, vectors, &request(&row), vectors.live(), candidates);
            nearest(answer).iter().filter(|hit| truth.contains(hit)).count()
        })
        .sum();
    found as f64 / (queries.len() * NEIGHBORS) as f64
}
