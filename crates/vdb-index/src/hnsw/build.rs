//! Insertion in deterministic parallel batches.
//!
//! For each batch: (1) every new node searches the frozen graph and selects its neighbours, in parallel; (2) their
//! rows are written; (3) reverse links are grouped by target and every touched row is recomputed once, in parallel;
//! (4) the rows are written. Nothing is locked, and no step depends on timing.

use super::Hnsw;
use super::search::{Candidate, Scratch};
use super::select::select;
use super::space::{Scorer, WithScorer};
use crate::hash::mix;
use crate::vectors::Vectors;
use rayon::prelude::*;

/// A batch is at most the number of nodes inserted by the same call before it, divided by this.
const GROWTH: usize = 16;
/// A batch is at most the whole graph divided by this: its members do not see each other.
const SHARE: usize = 50;
/// Batches up to this size are fine at any size of the graph.
const SMALL_BATCH: usize = 32;

/// The links that one new node makes, by layer.
struct Plan {
    node: u32,
    layers: Vec<Vec<u32>>,
}

impl Hnsw {
    /// Adds live rows to the graph; they must not be in it yet.
    ///
    /// # Complexity
    /// About `ef_construction` × m distances a row, on all threads of the current rayon pool.
    ///
    /// # Panics
    /// When an offset is not a live row of `vectors`, or there are more rows than [`MAX_ROWS`](crate::MAX_ROWS).
    pub fn insert(&mut self, vectors: &Vectors, offsets: &[u32]) {
        self.insert_with_progress(vectors, offsets, &mut |_| ());
    }

    /// As [`insert`](Self::insert), calling `progress` with the number of rows added so far.
    ///
    /// # Panics
    /// As [`insert`](Self::insert).
    pub fn insert_with_progress(
        &mut self,
        vectors: &Vectors,
        offsets: &[u32],
        progress: &mut dyn FnMut(usize),
    ) {
        assert!(vectors.len() <= crate::MAX_ROWS, "more than {} rows", crate::MAX_ROWS);
        assert!(offsets.iter().all(|&offset| vectors.live().contains(offset)), "an offset is not live");
        if offsets.is_empty() {
            return;
        }
        self.graph.grow(vectors.len(), self.params.seed);
        self.space.update(vectors, offsets);
        let mut order = offsets.to_vec();
        // In input order, sorted or clustered data would be linked before its surroundings exist.
        order.sort_by_cached_key(|&offset| (mix(self.params.seed ^ mix(u64::from(offset))), offset));
        let mut done = 0;
        if self.graph.entry.is_none() {
            self.graph.entry = Some(order[0]);
            self.nodes.insert(order[0]);
            done = 1;
        }
        self.changed = self.changed.saturating_add(order.len());
        let kept_out = self.rows_to_keep_out(vectors, order.len());
        for end in [order.len() - kept_out, order.len()] {
            while done < end {
                let limit = (self.nodes.count() / SHARE).max(SMALL_BATCH);
                let len = (done / GROWTH).clamp(1, limit).min(end - done);
                self.insert_batch(vectors, &order[done..done + len]);
                done += len;
                progress(done);
            }
            if order.len() > 1 {
                self.connect(vectors);
            }
            if end < order.len() {
                self.calibrate(vectors, &order[end..]);
            }
        }
        self.calibrate_again(vectors);
    }

    fn insert_batch(&mut self, vectors: &Vectors, batch: &[u32]) {
        let plans: Vec<Plan> = if batch.len() == 1 {
            vec![self.plan(vectors, batch[0])]
        } else {
            batch.par_iter().map(|&node| self.plan(vectors, node)).collect()
        };
        let mut reversed = Vec::new();
        for Plan { node, layers } in &plans {
            for (layer, links) in layers.iter().enumerate() {
                self.graph.set_links(layer as u8, *node, links);
                reversed.extend(links.iter().map(|&target| (layer as u8, target, *node)));
            }
        }
        reversed.par_sort_unstable();
        let groups: Vec<&[(u8, u32, u32)]> = reversed.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)).collect();
        let rows: Vec<Vec<u32>> =
            groups.par_iter().with_min_len(8).map(|group| self.with_reverse_links(vectors, group)).collect();
        for (group, row) in groups.iter().zip(&rows) {
            self.graph.set_links(group[0].0, group[0].1, row);
        }
        for &node in batch {
            self.nodes.insert(node);
            if self.graph.entry.is_none_or(|entry| self.graph.level(node) > self.graph.level(entry)) {
                self.graph.entry = Some(node);
            }
        }
    }

    fn plan(&self, vectors: &Vectors, node: u32) -> Plan {
        self.space.with_row(vectors, node, Planning { hnsw: self, vectors, node })
    }

    /// The row of one target with its new backward links, pruned from the target's own point of view when too long.
    fn with_reverse_links(&self, vectors: &Vectors, group: &[(u8, u32, u32)]) -> Vec<u32> {
        let (layer, target, _) = group[0];
        let mut row = self.graph.links(layer, target).to_vec();
        row.extend(group.iter().map(|&(_, _, source)| source));
        if row.len() <= self.graph.max_degree(layer) {
            return row;
        }
        self.prune(vectors, layer, target, &row)
    }

    /// At most the layer's degree out of `row`, leaving room for a few links more.
    pub(super) fn prune(&self, vectors: &Vectors, layer: u8, node: u32, row: &[u32]) -> Vec<u32> {
        self.space.with_row(vectors, node, Pruning { hnsw: self, vectors, layer, node, row })
    }
}

/// Finds the links of a new node, from its own distances.
struct Planning<'a> {
    hnsw: &'a Hnsw,
    vectors: &'a Vectors,
    node: u32,
}

impl WithScorer for Planning<'_> {
    type Output = Plan;

    fn run(self, own: &impl Scorer) -> Plan {
        let Planning { hnsw: Hnsw { graph, params, space, .. }, vectors, node } = self;
        let entry = graph.entry.expect("the first node is linked before any batch");
        let top = graph.level(node).min(graph.level(entry));
        let copy_distance = space.copy_distance(vectors, node, own);
        Scratch::with(|scratch| {
            let mut nearest = scratch.descend(graph, own, entry, top);
            let mut layers = vec![Vec::new(); usize::from(top) + 1];
            for layer in (0..=top).rev() {
                let found = scratch.search_layer(graph, own, layer, nearest, params.ef_construction);
                nearest = found[0];
                let live: Vec<Candidate> =
                    found.iter().copied().filter(|found| vectors.live().contains(found.node)).collect();
                layers[usize::from(layer)] = select(space, vectors, &live, copy_distance, params.m, params.m);
            }
            Plan { node, layers }
        })
    }
}

/// Shortens a row, from the distances of its node.
struct Pruning<'a> {
    hnsw: &'a Hnsw,
    vectors: &'a Vectors,
    layer: u8,
    node: u32,
    row: &'a [u32],
}

impl WithScorer for Pruning<'_> {
    type Output = Vec<u32>;

    fn run(self, own: &impl Scorer) -> Vec<u32> {
        let Pruning { hnsw: Hnsw { graph, space, .. }, vectors, layer, node, row } = self;
        let max = graph.max_degree(layer);
        let copy_distance = space.copy_distance(vectors, node, own);
        select(space, vectors, &space.ranked(row, own), copy_distance, max, max * 3 / 4)
    }
}
