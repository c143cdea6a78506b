//! Deletion, linking past deleted nodes, and the guarantee that every live node is reachable.

use super::Hnsw;
use super::search::Scratch;
use super::space::{Scorer, WithScorer};
use super::tree::Tree;
use crate::BitSet;
use crate::vectors::Vectors;
use rayon::prelude::*;
use vdb_distance::Metric;

/// Deleted nodes are linked past when they are more than one in this many.
const DEAD_SHARE: usize = 10;
/// Fewer deleted nodes than this are never worth a pass.
const DEAD_MIN: usize = 32;

impl Hnsw {
    /// Takes a row, which must no longer be live, out of the results.
    ///
    /// Gives the offsets that the graph no longer uses: none most of the time, all deleted ones after a repair.
    ///
    /// # Complexity
    /// O(1) most of the time; every node's row is looked at once per n / 10 deletes.
    pub fn remove(&mut self, vectors: &Vectors, offset: u32) -> Vec<u32> {
        if !self.nodes.contains(offset) || !self.dead.insert(offset) {
            return Vec::new();
        }
        self.changed = self.changed.saturating_add(1);
        self.unchecked = self.unchecked.saturating_add(1);
        let dead = self.dead.count();
        let nodes = self.nodes.count();
        if dead == nodes || (dead >= DEAD_MIN && dead * DEAD_SHARE > nodes) {
            return self.repair(vectors);
        }
        Vec::new()
    }

    /// Takes rows, which must no longer be live, out of the graph at once, however many: with one repair for all of them, and
    /// under DotProduct, when they are more than a tenth, links to the largest products again. Gives the offsets that are free
    /// now.
    pub fn remove_all(&mut self, vectors: &Vectors, offsets: &[u32]) -> Vec<u32> {
        let mut count = 0;
        for &offset in offsets {
            count += usize::from(self.nodes.contains(offset) && self.dead.insert(offset));
        }
        self.changed = self.changed.saturating_add(count);
        self.unchecked = self.unchecked.saturating_add(count);
        if self.dead.count() == 0 {
            return Vec::new();
        }
        let freed = self.repair(vectors);
        if vectors.metric() == Metric::DotProduct && freed.len() * DEAD_SHARE > self.nodes.count() {
            let live: Vec<u32> = self.live().collect();
            self.link_products(vectors, &live);
        }
        freed
    }

    /// Links past deleted nodes now, however few they are, so that the offsets of all of them are free.
    pub fn free_deleted(&mut self, vectors: &Vectors) {
        if self.dead.count() > 0 {
            self.repair(vectors);
        }
    }

    /// Links every node past its deleted neighbours and frees these.
    ///
    /// A node keeps its live neighbours. Each deleted one is replaced by its live neighbour that is nearest to the node,
    /// and each neighbour of a deleted node is linked to from the other one that is nearest to it: so whatever parts of
    /// the graph a deleted node held together stay together. Free places are filled by selection from the live neighbours
    /// of deleted ones (as in Singh et al., FreshDiskANN 2021, algorithm 4; that rule alone loses the links between
    /// distant clusters in a few replacements of the content).
    pub(super) fn repair(&mut self, vectors: &Vectors) -> Vec<u32> {
        let freed: Vec<u32> = self.dead.iter().collect();
        let mut heirs: Vec<Heir> =
            freed.par_iter().flat_map_iter(|&dead| self.heirs(vectors, dead)).collect();
        heirs.par_sort_unstable();
        heirs.dedup();
        let mut work: Vec<(u8, u32)> = self
            .live()
            .flat_map(|node| (0..=self.graph.level(node)).map(move |layer| (layer, node)))
            .filter(|&(layer, node)| {
                self.graph.links(layer, node).iter().any(|&link| self.dead.contains(link))
            })
            .collect();
        work.extend(heirs.iter().map(|&(layer, node, _)| (layer, node)));
        work.sort_unstable();
        work.dedup();
        let rows: Vec<(Vec<u32>, usize)> = work
            .par_iter()
            .with_min_len(8)
            .map(|&(layer, node)| {
                let from = heirs.partition_point(|heir| (heir.0, heir.1) < (layer, node));
                let own = heirs[from..].iter().take_while(|heir| (heir.0, heir.1) == (layer, node));
                self.links_past_dead(vectors, layer, node, own.map(|heir| heir.2))
            })
            .collect();
        for (&(layer, node), (row, computed)) in work.iter().zip(&rows) {
            self.graph.set_links(layer, node, row);
            self.build_distances += *computed as u64;
        }
        for &node in &freed {
            for layer in 0..=self.graph.level(node) {
                self.graph.set_links(layer, node, &[]);
            }
            self.nodes.remove(node);
        }
        self.dead = BitSet::default();
        if self.graph.entry.is_some_and(|entry| !self.nodes.contains(entry)) {
            self.graph.entry =
                self.nodes.iter().max_by_key(|&node| (self.graph.level(node), std::cmp::Reverse(node)));
        }
        self.link_missed_rows(vectors);
        self.connect(vectors);
        freed
    }

    /// For each live neighbour of a deleted node the other one that is nearest to it.
    fn heirs(&self, vectors: &Vectors, dead: u32) -> Vec<Heir> {
        let mut heirs = Vec::new();
        for layer in 0..=self.graph.level(dead) {
            let links = self.graph.links(layer, dead).iter().copied();
            let live: Vec<u32> = links.filter(|&link| !self.dead.contains(link)).collect();
            for &link in &live {
                let others: Vec<u32> = live.iter().copied().filter(|&other| other != link).collect();
                let nearest = self.space.with_row(vectors, link, Ranking { hnsw: self, nodes: &others });
                heirs.extend(nearest.first().map(|&nearest| (layer, nearest, link)));
            }
        }
        heirs
    }

    fn links_past_dead(
        &self,
        vectors: &Vectors,
        layer: u8,
        node: u32,
        inherited: impl Iterator<Item = u32>,
    ) -> (Vec<u32>, usize) {
        let before = self.graph.links(layer, node);
        let mut kept: Vec<u32> = before.iter().copied().filter(|&link| !self.dead.contains(link)).collect();
        let mut candidates = kept.clone();
        for &dead in before.iter().filter(|&&link| self.dead.contains(link)) {
            let beyond = self.graph.links(layer, dead).iter().copied();
            let beyond: Vec<u32> = beyond.filter(|&next| next != node && !self.dead.contains(next)).collect();
            let ranked = self.space.with_row(vectors, node, Ranking { hnsw: self, nodes: &beyond });
            kept.extend(ranked.first());
            candidates.extend(beyond);
        }
        kept.extend(inherited);
        candidates.extend(&kept);
        let unique = |nodes: &mut Vec<u32>| {
            nodes.sort_unstable();
            nodes.dedup();
        };
        unique(&mut kept);
        unique(&mut candidates);
        let max = self.graph.max_degree(layer);
        if layer > 0 {
            // Few nodes have upper layers, and walks that come down in the wrong place are lost among distant clusters:
            // these rows are chosen as those of new nodes are.
            candidates.extend(self.space.with_row(vectors, node, OnLayer { hnsw: self, layer, node }));
            unique(&mut candidates);
            return self.prune(vectors, layer, node, &candidates, self.graph.fill_of_row(layer));
        }
        if kept.len() > max {
            let (row, computed) = self.prune(vectors, layer, node, &kept, max);
            return (row, computed);
        }
        // Never shorter than before: rows that lost a few links at every repair would be worn down by many.
        let fill = self.graph.fill_of_row(0).max(before.len());
        if candidates.len() > kept.len() && kept.len() < fill {
            let (selected, computed) = self.prune(vectors, layer, node, &candidates, fill);
            let room = fill - kept.len();
            let new: Vec<u32> = selected.into_iter().filter(|link| !kept.contains(link)).take(room).collect();
            kept.extend(new);
            return (kept, computed);
        }
        (kept, 0)
    }

    /// Every node that a walk from the entry point can reach over the links of the base layer, which is where searches
    /// end.
    pub(super) fn reached(&self) -> BitSet {
        Tree::grown(&self.graph).1
    }

    /// Gives every unreachable node a link from a reachable node near it; dead ones, too, since walks over upper layers may
    /// come by them and new nodes may be linked from them.
    pub(super) fn connect(&mut self, vectors: &Vectors) {
        let (tree, mut reached) = Tree::grown(&self.graph);
        self.tree = tree;
        let orphans: Vec<u32> = self.nodes.iter().filter(|&node| !reached.contains(node)).collect();
        for orphan in orphans {
            if !reached.contains(orphan) {
                self.attach(vectors, orphan, &reached);
                self.tree.spread(&self.graph, orphan, &mut reached);
            }
        }
        self.drop_tree();
    }

    fn attach(&mut self, vectors: &Vectors, orphan: u32, reached: &BitSet) {
        let entry = self.graph.entry.expect("a graph with live nodes has an entry point");
        let near = self.space.with_row(vectors, orphan, Nearby { hnsw: self, entry });
        // A tree has fewer links than the rows of its nodes have places, so some reached node has one.
        let _ = self.adopt(orphan, &near) || self.adopt(orphan, &reached.iter().collect::<Vec<u32>>());
    }
}

/// On a layer, a node and the neighbour of a deleted one that it gets a link to.
type Heir = (u8, u32, u32);

/// Orders nodes by their distance to another.
struct Ranking<'a> {
    hnsw: &'a Hnsw,
    nodes: &'a [u32],
}

impl WithScorer for Ranking<'_> {
    type Output = Vec<u32>;

    fn run(self, own: &impl Scorer) -> Vec<u32> {
        self.hnsw.space.ranked(self.nodes, own).into_iter().map(|candidate| candidate.node).collect()
    }
}

/// The live nodes near a node on an upper layer, without itself.
struct OnLayer<'a> {
    hnsw: &'a Hnsw,
    layer: u8,
    node: u32,
}

impl WithScorer for OnLayer<'_> {
    type Output = Vec<u32>;

    fn run(self, own: &impl Scorer) -> Vec<u32> {
        let OnLayer { hnsw: Hnsw { graph, params, dead, .. }, layer, node } = self;
        let entry = graph.entry.expect("a graph with nodes has an entry point");
        Scratch::with(|scratch| {
            let nearest = scratch.descend(graph, own, entry, layer);
            let found = scratch.search_layer(graph, own, layer, nearest, params.ef_construction);
            let found = found.iter().map(|found| found.node);
            found.filter(|&found| found != node && !dead.contains(found)).collect()
        })
    }
}

/// Reachable nodes near an orphan, nearest first.
struct Nearby<'a> {
    hnsw: &'a Hnsw,
    entry: u32,
}

impl WithScorer for Nearby<'_> {
    type Output = Vec<u32>;

    fn run(self, own: &impl Scorer) -> Vec<u32> {
        let Nearby { hnsw: Hnsw { graph, params, .. }, entry } = self;
        Scratch::with(|scratch| {
            // Not by the upper layers: they may lead to where the base layer does not.
            let nearest = scratch.descend(graph, own, entry, graph.level(entry));
            let found = scratch.search_layer(graph, own, 0, nearest, params.ef_construction);
            found.iter().map(|found| found.node).collect()
        })
    }
}
