//! Neighbour selection: near ones, in different directions (Malkov & Yashunin, algorithm 4; the RNG rule).
//!
//! Candidates are taken nearest first; one is kept when it is nearer to the node than to every neighbour kept so far.
//! Then the nearest of those passed over fill the row up to `fill` (keep-pruned), so that later backward links find
//! room. Departures from the paper: no extension of the candidates; copies of the node itself never stand in the way
//! of others and take two places at most, since a copy is nearer than anything to everything behind it and would leave
//! a crowd of equal vectors linked to one another only.

use super::search::Candidate;
use crate::vectors::{Lift, Vectors};
use vdb_distance::Metric;

/// Copies of a node that may be among its neighbours.
const MAX_COPIES: usize = 2;

/// Compared with this many kept neighbours at a time: most candidates fail against the first few.
const CHUNK: usize = 4;

/// At most `max` neighbours out of `candidates`, which are sorted by distance to the node and hold it not.
pub(crate) fn select(
    vectors: &Vectors,
    lift: Option<&Lift>,
    candidates: &[Candidate],
    max: usize,
    fill: usize,
) -> Vec<u32> {
    let mut kept: Vec<u32> = Vec::with_capacity(max);
    let mut passed_over = Vec::with_capacity(fill);
    let mut copies = 0;
    let nearest_possible = self_distance(vectors.metric());
    for candidate in candidates {
        if kept.len() == max {
            break;
        }
        if candidate.distance <= nearest_possible {
            if copies < MAX_COPIES {
                kept.insert(0, candidate.node);
                copies += 1;
            }
            continue;
        }
        if is_diverse(vectors, lift, candidate, &kept[copies..]) {
            kept.push(candidate.node);
        } else if passed_over.len() < fill {
            passed_over.push(candidate.node);
        }
    }
    let room = fill.saturating_sub(kept.len());
    kept.extend(passed_over.into_iter().take(room));
    kept
}

/// A comparable distance at or below which two vectors are copies for the purposes of a graph.
fn self_distance(metric: Metric) -> f32 {
    match metric {
        // −cos of equal directions, with the rounding of one division.
        Metric::Cosine => -1.0 + 2.0 * f32::EPSILON,
        _ => 0.0,
    }
}

fn is_diverse(vectors: &Vectors, lift: Option<&Lift>, candidate: &Candidate, kept: &[u32]) -> bool {
    let query = vectors.query_row(candidate.node, lift);
    let mut distances = [0.0; CHUNK];
    kept.chunks(CHUNK).all(|chunk| {
        let distances = &mut distances[..chunk.len()];
        query.gather(chunk, distances);
        distances.iter().all(|&distance| distance > candidate.distance)
    })
}
