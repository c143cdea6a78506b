//! Neighbour selection: near ones, in different directions (Malkov & Yashunin, algorithm 4; the RNG rule).
//!
//! Candidates are taken nearest first; one is kept when it is nearer to the node than to every neighbour kept so far.
//! Then the nearest of those passed over fill the row up to `fill` (keep-pruned), so that later backward links find
//! room. Departures from the paper: no extension of the candidates; copies of the node itself never stand in the way
//! of others and take two places at most, since a copy is nearer than anything to everything behind it and would leave
//! a crowd of equal vectors linked to one another only.

use super::search::Candidate;
use super::space::{Scorer, Space, WithScorer};
use crate::vectors::Vectors;

/// Copies of a node that may be among its neighbours.
const MAX_COPIES: usize = 2;
/// Compared with this many kept neighbours at a time: most candidates fail against the first few.
const CHUNK: usize = 4;

/// At most `max` neighbours out of `candidates`, which are sorted by distance to the node and hold it not. Candidates
/// no farther than `copy_distance` are copies of the node. Adds the distances between candidates to `computed`.
pub(crate) fn select(
    space: &Space,
    vectors: &Vectors,
    candidates: &[Candidate],
    copy_distance: f32,
    max: usize,
    fill: usize,
    computed: &mut usize,
) -> Vec<u32> {
    let mut kept: Vec<u32> = Vec::with_capacity(max);
    let mut passed_over = Vec::with_capacity(fill);
    let mut copies = 0;
    for candidate in candidates {
        if kept.len() == max {
            break;
        }
        if candidate.distance <= copy_distance {
            if copies < MAX_COPIES {
                kept.insert(0, candidate.node);
                copies += 1;
            }
            continue;
        }
        let diverse = Diverse { kept: &kept[copies..], distance: candidate.distance };
        let (is_diverse, compared) = space.with_inner_row(vectors, candidate.node, diverse);
        *computed += compared;
        if is_diverse {
            kept.push(candidate.node);
        } else if passed_over.len() < fill {
            passed_over.push(candidate.node);
        }
    }
    let room = fill.saturating_sub(kept.len());
    kept.extend(passed_over.into_iter().take(room));
    kept
}

/// Whether a candidate is nearer to the node, at `distance`, than to all of `kept`; and the distances it took.
struct Diverse<'a> {
    kept: &'a [u32],
    distance: f32,
}

impl WithScorer for Diverse<'_> {
    type Output = (bool, usize);

    fn run(self, candidate: &impl Scorer) -> (bool, usize) {
        let mut distances = [0.0; CHUNK];
        let mut computed = 0;
        let is_diverse = self.kept.chunks(CHUNK).all(|chunk| {
            let distances = &mut distances[..chunk.len()];
            candidate.score(chunk, distances);
            computed += chunk.len();
            distances.iter().all(|&distance| distance > self.distance)
        });
        (is_diverse, computed)
    }
}
