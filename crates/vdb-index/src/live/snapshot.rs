//! One version of the rows: a sealed graph, which of its rows are hits still, and the recent rows. It never changes.

use super::recent::Recent;
use crate::hnsw::Reach;
use crate::top_k::TopK;
use crate::{Answer, BitSet, FlatScan, Hnsw, Request, Vectors};
use std::borrow::Cow;
use std::sync::Arc;

/// A graph and the rows that it is over.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) vectors: Vectors,
    pub(super) hnsw: Hnsw,
}

impl Base {
    /// Heap bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.vectors.bytes() + self.hnsw.bytes()
    }
}

/// What one search sees of a [`LiveIndex`](super::LiveIndex), from begin to end.
///
/// It may be kept as long as one likes, and holds the memory of all its rows for so long.
#[derive(Debug)]
pub struct Snapshot {
    pub(super) version: u64,
    pub(super) base: Arc<Base>,
    /// The rows of the base that are live and were not overwritten.
    pub(super) mask: Arc<BitSet>,
    pub(super) recent: Recent,
}

impl Snapshot {
    /// How many writes it has seen. Snapshots of the same version hold the same rows.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Live rows.
    pub fn len(&self) -> usize {
        self.mask.count() + self.recent.live()
    }

    /// Whether there is no live row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values of a live row, bit for bit as given; `None` for an offset without one.
    ///
    /// # Complexity
    /// Looks through the offsets of the recent rows unless the graph holds the row.
    pub fn row(&self, offset: u32) -> Option<Vec<f32>> {
        if self.mask.contains(offset) {
            return Some(self.base.vectors.row(offset).to_vec());
        }
        self.recent.row(offset)
    }

    /// As [`Hnsw::search`]: the nearest matching rows that a walk with a beam of `ef_search` finds, k whenever k match.
    ///
    /// # Panics
    /// When the query has another dimension than the rows.
    pub fn search(&self, request: &Request<'_>, ef_search: usize) -> Answer {
        self.search_to(request, Reach::Beam(ef_search))
    }

    /// As [`Hnsw::search_for_recall`]: a walk that goes on for as long as it takes to find a share `target` of the nearest
    /// rows.
    ///
    /// # Panics
    /// When the query has another dimension than the rows.
    pub fn search_for_recall(&self, request: &Request<'_>, target: f64) -> Answer {
        self.search_to(request, Reach::Recall(target))
    }

    /// The true nearest rows.
    ///
    /// # Panics
    /// When the query has another dimension than the rows.
    pub fn search_exact(&self, request: &Request<'_>) -> Answer {
        self.search_to(request, Reach::Recall(1.0))
    }

    /// Both parts are searched for k rows, and the recent one exactly, so the nearest k of both are as many as there are
    /// matching rows, and are as exact as the graph's.
    fn search_to(&self, request: &Request<'_>, reach: Reach) -> Answer {
        let Base { vectors, hnsw } = &*self.base;
        let matching = match request.allowed {
            None => Cow::Borrowed(&*self.mask),
            Some(allowed) => Cow::Owned(self.mask.intersection(allowed)),
        };
        let of_base = Request { allowed: Some(&matching), ..*request };
        let mut answer = match reach {
            Reach::Recall(target) if target >= 1.0 => FlatScan.search(vectors, &of_base),
            _ => hnsw.search_among(vectors, &of_base, &matching, reach),
        };
        if self.recent.live() > 0 {
            let mut top = TopK::new(request.k.min(self.len()), request.tie_break);
            std::mem::take(&mut answer.hits).into_iter().for_each(|hit| {
                top.push(hit);
            });
            answer.distance_computations += self.recent.search_into(request, &mut top);
            answer.hits = top.into_sorted();
        }
        answer
    }
}
