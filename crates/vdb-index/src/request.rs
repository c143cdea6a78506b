//! What a search asks for and what it answers, the same for every index.

use crate::{BitSet, Hit, TieBreak, Vectors};
use vdb_distance::Distance;

/// One search: the query, how many hits, which rows may be hits, and how equal distances are ordered.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The query vector, of the vectors' dimension.
    pub query: &'a [f32],
    /// How many hits are wanted.
    pub k: usize,
    /// The rows that may be hits; `None` allows every live row.
    pub allowed: Option<&'a BitSet>,
    /// Orders hits at equal distance.
    pub tie_break: TieBreak<'a>,
    /// As many hits at this distance or nearer are known from elsewhere as are wanted. A walk for a target recall ends when
    /// there are likely none nearer than that; other searches need not heed it. k hits are answered all the same.
    pub known: Option<Distance>,
}

impl<'a> Request<'a> {
    /// The `k` nearest live rows, ties by offset.
    pub fn new(query: &'a [f32], k: usize) -> Self {
        Self { query, k, allowed: None, tie_break: &|a, b| a.cmp(&b), known: None }
    }

    /// The rows that may be hits: live, and allowed by the filter where there is one.
    pub(crate) fn matching<'b>(&self, vectors: &'b Vectors) -> std::borrow::Cow<'b, BitSet> {
        match self.allowed {
            None => std::borrow::Cow::Borrowed(vectors.live()),
            Some(allowed) => std::borrow::Cow::Owned(vectors.live().intersection(allowed)),
        }
    }
}

/// The hits of one search, nearest first, and what is known about them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// min(k, matching rows) hits in the order (distance, tie-break).
    pub hits: Vec<Hit>,
    /// Whether these are provably the true nearest rows.
    pub exact: bool,
    /// How many distances between the query and a row were computed.
    pub distance_computations: usize,
    /// How many nodes of a graph were expanded; 0 for other indexes.
    pub hops: usize,
    /// The beam width that a walk of a graph took; `None` where no graph was walked.
    pub ef_search: Option<usize>,
}
