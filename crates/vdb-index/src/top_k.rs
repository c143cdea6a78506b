//! A bounded selection of the nearest hits under a total order: (distance, then the caller's tie-break).
//!
//! Candidates are collected into a buffer of about twice `k`; when it is full, the worse half is dropped by a
//! linear-time selection. That costs amortised O(1) a candidate for any `k`, and never a full sort of the data.

use std::cmp::Ordering;
use vdb_distance::Distance;

/// A row and how far it is from the query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    /// The row's offset.
    pub offset: u32,
    /// Its distance: smaller is closer, for every metric.
    pub distance: Distance,
}

/// Orders two offsets whose distances are equal.
pub type TieBreak<'a> = &'a (dyn Fn(u32, u32) -> Ordering + Sync);

/// The nearest `k` of the hits pushed so far.
pub(crate) struct TopK<'a> {
    k: usize,
    hits: Vec<Hit>,
    worst: Option<Distance>,
    tie_break: TieBreak<'a>,
}

impl<'a> TopK<'a> {
    pub(crate) fn new(k: usize, tie_break: TieBreak<'a>) -> Self {
        Self { k, hits: Vec::with_capacity(Self::buffer_len(k).min(4096)), worst: None, tie_break }
    }

    fn buffer_len(k: usize) -> usize {
        k.saturating_mul(2).max(k.saturating_add(32))
    }

    /// How many hits are kept.
    pub(crate) fn k(&self) -> usize {
        self.k
    }

    /// No hit farther than this can be among the nearest `k`; `None` while fewer than `k` were seen.
    pub(crate) fn worst(&self) -> Option<Distance> {
        self.worst
    }

    /// Takes `hit` into account; true when [`worst`](Self::worst) changed.
    pub(crate) fn push(&mut self, hit: Hit) -> bool {
        if self.k == 0 || self.worst.is_some_and(|worst| hit.distance > worst) {
            return false;
        }
        self.hits.push(hit);
        let full = self.hits.len() >= Self::buffer_len(self.k);
        let first_full = self.worst.is_none() && self.hits.len() == self.k;
        if full || first_full {
            self.shrink();
        }
        full || first_full
    }

    /// Brings [`worst`](Self::worst) up to date before the buffer is full; true when it changed.
    ///
    /// # Complexity
    /// Linear in k, so it pays after some hits, not after each.
    pub(crate) fn settle(&mut self) -> bool {
        let stale = self.k > 0 && self.hits.len() > self.k;
        if stale {
            self.shrink();
        }
        stale
    }

    fn shrink(&mut self) {
        let tie_break = self.tie_break;
        let (_, worst, _) = self.hits.select_nth_unstable_by(self.k - 1, |a, b| compare(a, b, tie_break));
        self.worst = Some(worst.distance);
        self.hits.truncate(self.k);
    }

    pub(crate) fn merge(mut self, other: TopK<'a>) -> TopK<'a> {
        for hit in other.hits {
            self.push(hit);
        }
        self
    }

    pub(crate) fn into_sorted(mut self) -> Vec<Hit> {
        let tie_break = self.tie_break;
        self.hits.sort_unstable_by(|a, b| compare(a, b, tie_break));
        self.hits.truncate(self.k);
        self.hits
    }
}

fn compare(a: &Hit, b: &Hit, tie_break: TieBreak<'_>) -> Ordering {
    a.distance.cmp(&b.distance).then_with(|| tie_break(a.offset, b.offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_a_full_sort() {
        let descending: TieBreak<'_> = &|a, b| b.cmp(&a);
        for k in [0, 1, 2, 7, 50, 199, 200, 1_000] {
            let hits: Vec<Hit> = (0..200u32)
                .map(|offset| Hit {
                    offset,
                    // Few distinct distances, so that ties straddle the k-th place.
                    distance: Distance::from_raw((crate::hash::mix(u64::from(offset)) % 9) as f32),
                })
                .collect();
            let mut top = TopK::new(k, descending);
            let mut other = TopK::new(k, descending);
            for hit in &hits {
                if hit.offset % 3 == 0 {
                    other.push(*hit)
                } else {
                    top.push(*hit)
                };
            }
            let mut expected = hits.clone();
            expected.sort_by(|a, b| compare(a, b, descending));
            expected.truncate(k);
            assert_eq!(top.merge(other).into_sorted(), expected, "k = {k}");
        }
    }
}
