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

/// An insertion of at least this share of the graph ends with a look at the whole graph; smaller ones keep a tree.
const BULK: usize = 16;
/// The nearest nodes found that may become the parent of a new node, deleted ones included.
const PARENTS: usize = 16;

/// The links that one new node makes, by layer.
pub(super) struct Plan {
    pub(super) node: u32,
    pub(super) layers: Vec<Vec<u32>>,
    /// The nearest nodes of the base layer, deleted ones included.
    pub(super) near: Vec<u32>,
    /// Distances that it took.
    pub(super) computed: usize,
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
        self.insert_while(vectors, offsets, &mut |done| {
            progress(done);
            true
        });
    }

    /// As [`insert`](Self::insert), asking `goes_on` with the number of rows added so far. When it says no, not all rows are
    /// linked, and the graph is to be dropped; says whether all are.
    ///
    /// # Panics
    /// As [`insert`](Self::insert).
    pub fn insert_while(
        &mut self,
        vectors: &Vectors,
        offsets: &[u32],
        goes_on: &mut dyn FnMut(usize) -> bool,
    ) -> bool {
        self.insert_rows(vectors, offsets, None, goes_on)
    }

    /// As [`insert_while`](Self::insert_while), for `offsets` and then for `last`, which stand for all rows: before they are
    /// linked, and when all others are, it is found out on them how far walks go for a recall. Nothing is, where there are none.
    /// (Rows taken out of a graph again would not do: they are found too easily, for others are linked in their place.)
    ///
    /// # Panics
    /// As [`insert`](Self::insert).
    pub fn insert_calibrating(
        &mut self,
        vectors: &Vectors,
        offsets: &[u32],
        last: &[u32],
        goes_on: &mut dyn FnMut(usize) -> bool,
    ) -> bool {
        self.insert_rows(vectors, offsets, Some(last), goes_on)
    }

    fn insert_rows(
        &mut self,
        vectors: &Vectors,
        offsets: &[u32],
        to_calibrate: Option<&[u32]>,
        goes_on: &mut dyn FnMut(usize) -> bool,
    ) -> bool {
        assert!(vectors.len() <= crate::MAX_ROWS, "more than {} rows", crate::MAX_ROWS);
        let mut order = [offsets, to_calibrate.unwrap_or_default()].concat();
        assert!(order.iter().all(|&offset| vectors.live().contains(offset)), "an offset is not live");
        if order.is_empty() {
            return true;
        }
        self.take_in(vectors, &order);
        // In input order, sorted or clustered data would be linked before its surroundings exist.
        let (others, last) = order.split_at_mut(offsets.len());
        others.sort_by_cached_key(|&offset| self.place_in_order(offset));
        last.sort_by_cached_key(|&offset| self.place_in_order(offset));
        let is_bulk = order.len() * BULK > self.nodes.count();
        if is_bulk {
            self.drop_tree();
        } else {
            self.keep_tree();
        }
        let (looked_at, stand_for_all) = match to_calibrate {
            Some(last) => (last.len(), true),
            None => (self.rows_to_look_at(order.len(), order[0]), self.stand_for_all(order.len())),
        };
        let kept_out = if looked_at == 0 || stand_for_all {
            looked_at
        } else {
            // With whole batches, the graph does not depend on how many are looked at.
            order.len() - self.batch_start(order.len() - looked_at)
        };
        self.changed = self.changed.saturating_add(order.len());
        self.unchecked = self.unchecked.saturating_add(order.len());
        let (first, last) = order.split_at(order.len() - kept_out);
        if !self.link(vectors, first, 0, &|hnsw, place| hnsw.plan(vectors, first[place]), goes_on) {
            return false;
        }
        if stand_for_all {
            self.link_products(vectors, first);
        }
        if !last.is_empty() {
            let looked_at = &last[kept_out - looked_at..];
            if stand_for_all {
                self.connect(vectors);
                self.calibrate(vectors, looked_at);
                if !is_bulk {
                    self.keep_tree();
                }
            } else {
                self.sample(vectors, looked_at);
            }
            let before = first.len();
            let plan = |hnsw: &Hnsw, place: usize| hnsw.plan(vectors, last[place]);
            if !self.link(vectors, last, before, &plan, &mut |done| goes_on(before + done)) {
                return false;
            }
        }
        self.link_products(vectors, if stand_for_all { last } else { &order });
        if self.link_missed_rows(vectors) || is_bulk {
            self.connect(vectors);
        }
        true
    }

    pub(super) fn place_in_order(&self, offset: u32) -> (u64, u32) {
        (mix(self.params.seed ^ mix(u64::from(offset))), offset)
    }

    /// Makes room for new rows, wider ones where there are now so many that more links pay, and gives them codes. Insertions and
    /// merges do so for their own rows; who has several of them to come calls it for all rows first, since codes are judged against
    /// every live row.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn take_in(&mut self, vectors: &Vectors, offsets: &[u32]) {
        let m = self.params.m_for(vectors.live().count());
        if m > self.graph.m() {
            self.graph = self.graph.widened(m);
        }
        self.graph.grow(vectors.len(), self.params.seed);
        let had_codes = self.space.has_codes();
        self.space.update(vectors, offsets);
        if had_codes && !self.space.has_codes() {
            // What was found out about walks by codes says nothing about walks by rows.
            (self.recalls, self.sample, self.earlier) = (None, None, None);
            self.changed = self.changed.max(self.live_count());
        }
    }

    /// Links nodes batch by batch, in the given order; `plan` is asked for the links of the node at a place of it.
    ///
    /// `before` is how many nodes the same insertion has linked already. Says whether all are linked, which `goes_on` may end.
    pub(super) fn link(
        &mut self,
        vectors: &Vectors,
        order: &[u32],
        before: usize,
        plan: &(impl Fn(&Hnsw, usize) -> Plan + Sync),
        goes_on: &mut dyn FnMut(usize) -> bool,
    ) -> bool {
        let mut done = 0;
        if self.graph.entry.is_none()
            && let Some(&first) = order.first()
        {
            self.graph.entry = Some(first);
            self.nodes.insert(first);
            done = 1;
        }
        while done < order.len() {
            let len = batch_len(before + done, self.nodes.count()).min(order.len() - done);
            let places = done..done + len;
            let plans: Vec<Plan> = if len == 1 {
                vec![plan(self, done)]
            } else {
                places.into_par_iter().map(|place| plan(self, place)).collect()
            };
            self.insert_batch(vectors, &plans);
            done += len;
            if !goes_on(done) {
                return false;
            }
        }
        true
    }

    /// Where the batch begins that holds the row at a place of an order, when that is linked next.
    fn batch_start(&self, place: usize) -> usize {
        let mut start = 0;
        loop {
            let end = start + batch_len(start, self.nodes.count() + start);
            if end > place {
                return start;
            }
            start = end;
        }
    }

    fn insert_batch(&mut self, vectors: &Vectors, plans: &[Plan]) {
        let mut reversed = Vec::new();
        for Plan { node, layers, computed, .. } in plans {
            self.build_distances += *computed as u64;
            for (layer, links) in layers.iter().enumerate() {
                self.graph.set_links(layer as u8, *node, links);
                reversed.extend(links.iter().map(|&target| (layer as u8, target, *node)));
            }
        }
        reversed.par_sort_unstable();
        let groups: Vec<&[(u8, u32, u32)]> = reversed.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)).collect();
        let rows: Vec<(Vec<u32>, usize)> =
            groups.par_iter().with_min_len(8).map(|group| self.with_reverse_links(vectors, group)).collect();
        for (group, (row, computed)) in groups.iter().zip(&rows) {
            self.graph.set_links(group[0].0, group[0].1, row);
            self.build_distances += *computed as u64;
        }
        let root = self.graph.entry;
        let mut all_reached = true;
        for Plan { node, layers, near, .. } in plans {
            let node = *node;
            if self.tree.is_kept() {
                all_reached &= self.adopt(node, &layers[0]) || self.adopt(node, near);
            }
            self.nodes.insert(node);
            if self.graph.entry.is_none_or(|entry| self.graph.level(node) > self.graph.level(entry)) {
                self.graph.entry = Some(node);
            }
        }
        if self.tree.is_kept()
            && let (Some(old), Some(new)) = (root, self.graph.entry)
            && old != new
        {
            all_reached &= self.replant(old, new);
        }
        if !all_reached {
            self.connect(vectors);
            self.keep_tree();
        }
    }

    pub(super) fn plan(&self, vectors: &Vectors, node: u32) -> Plan {
        self.space.with_row(vectors, node, Planning { hnsw: self, vectors, node })
    }

    /// The row of one target with its new backward links, pruned from the target's own point of view when too long.
    fn with_reverse_links(&self, vectors: &Vectors, group: &[(u8, u32, u32)]) -> (Vec<u32>, usize) {
        let (layer, target, _) = group[0];
        let mut row = self.graph.links(layer, target).to_vec();
        let sources = group.iter().map(|&(_, _, source)| source);
        row.extend(sources.filter(|source| !self.graph.links(layer, target).contains(source)));
        if row.len() <= self.graph.max_degree(layer) {
            return (row, 0);
        }
        let max = self.graph.max_degree(layer);
        let (mut pruned, computed) = self.prune(vectors, layer, target, &row, self.graph.fill_of_row(layer));
        if layer == 0 {
            self.tree.restore(target, &row, &mut pruned, max);
        }
        (pruned, computed)
    }

    /// At most the layer's degree out of `row`: all that the selection keeps, and others up to `fill`. Gives the number
    /// of distances that it took, too.
    pub(super) fn prune(
        &self,
        vectors: &Vectors,
        layer: u8,
        node: u32,
        row: &[u32],
        fill: usize,
    ) -> (Vec<u32>, usize) {
        self.space.with_row(vectors, node, Pruning { hnsw: self, vectors, layer, node, row, fill })
    }
}

/// The length of the next batch when the same insertion has linked `before` rows, and there are so many nodes.
fn batch_len(before: usize, nodes: usize) -> usize {
    (before / GROWTH).clamp(1, (nodes / SHARE).max(SMALL_BATCH))
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
        let m = graph.m();
        let entry = graph.entry.expect("the first node is linked before any batch");
        let top = graph.level(node).min(graph.level(entry));
        let copy_distance = space.copy_distance(vectors, node, own);
        Scratch::with(|scratch| {
            scratch.start();
            let mut nearest = scratch.descend(graph, own, entry, top);
            let (mut near, mut compared) = (Vec::new(), 0);
            let mut layers = vec![Vec::new(); usize::from(top) + 1];
            for layer in (0..=top).rev() {
                let found = scratch.search_layer(graph, own, layer, nearest, params.ef_construction);
                nearest = found[0];
                let live: Vec<Candidate> =
                    found.iter().copied().filter(|found| vectors.live().contains(found.node)).collect();
                if layer == 0 {
                    near = found.iter().take(PARENTS).map(|found| found.node).collect();
                }
                layers[usize::from(layer)] =
                    select(space, vectors, &live, copy_distance, m, graph.fill(), &mut compared);
            }
            Plan { node, layers, near, computed: scratch.computed + compared }
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
    fill: usize,
}

impl WithScorer for Pruning<'_> {
    type Output = (Vec<u32>, usize);

    fn run(self, own: &impl Scorer) -> (Vec<u32>, usize) {
        let Pruning { hnsw: Hnsw { graph, space, .. }, vectors, layer, node, row, fill } = self;
        let max = graph.max_degree(layer);
        let copy_distance = space.copy_distance(vectors, node, own);
        let mut computed = row.len();
        let links = select(space, vectors, &space.ranked(row, own), copy_distance, max, fill, &mut computed);
        (links, computed)
    }
}
