//! Deletion, linking past deleted nodes, and the guarantee that every live node is reachable.

use super::Hnsw;
use super::graph::Graph;
use super::search::Scratch;
use super::space::{Scorer, WithScorer};
use crate::BitSet;
use crate::vectors::Vectors;
use rayon::prelude::*;

/// Deleted nodes are linked past when they are more than one in this many.
const DEAD_SHARE: usize = 5;
/// Fewer deleted nodes than this are never worth a pass.
const DEAD_MIN: usize = 32;
/// Rounds of attaching unreachable nodes; each attaches all it finds, more than two are hardly ever needed.
const CONNECT_ROUNDS: usize = 8;

impl Hnsw {
    /// Takes a row, which must no longer be live, out of the results.
    ///
    /// Gives the offsets that the graph no longer uses: none most of the time, all deleted ones after a repair.
    ///
    /// # Complexity
    /// O(1) most of the time; every node's row is looked at once per n / 5 deletes.
    pub fn remove(&mut self, vectors: &Vectors, offset: u32) -> Vec<u32> {
        if !self.nodes.contains(offset) || !self.dead.insert(offset) {
            return Vec::new();
        }
        self.changed = self.changed.saturating_add(1);
        let dead = self.dead.count();
        let nodes = self.nodes.count();
        if dead == nodes || (dead >= DEAD_MIN && dead * DEAD_SHARE > nodes) {
            return self.repair(vectors);
        }
        Vec::new()
    }

    /// Links every node past its deleted neighbours and frees these.
    ///
    /// A node's candidates are its live neighbours and the live neighbours of its deleted ones (Singh et al.,
    /// FreshDiskANN 2021, algorithm 4).
    pub(super) fn repair(&mut self, vectors: &Vectors) -> Vec<u32> {
        let freed: Vec<u32> = self.dead.iter().collect();
        let work: Vec<(u8, u32)> = self
            .live()
            .flat_map(|node| (0..=self.graph.level(node)).map(move |layer| (layer, node)))
            .filter(|&(layer, node)| {
                self.graph.links(layer, node).iter().any(|&link| self.dead.contains(link))
            })
            .collect();
        let rows: Vec<Vec<u32>> = work
            .par_iter()
            .with_min_len(8)
            .map(|&(layer, node)| self.links_past_dead(vectors, layer, node))
            .collect();
        for (&(layer, node), row) in work.iter().zip(&rows) {
            self.graph.set_links(layer, node, row);
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
        self.connect(vectors);
        freed
    }

    fn links_past_dead(&self, vectors: &Vectors, layer: u8, node: u32) -> Vec<u32> {
        let mut candidates: Vec<u32> = Vec::new();
        for &link in self.graph.links(layer, node) {
            if self.dead.contains(link) {
                let beyond = self.graph.links(layer, link).iter();
                candidates.extend(beyond.filter(|&&next| next != node && !self.dead.contains(next)));
            } else {
                candidates.push(link);
            }
        }
        candidates.sort_unstable();
        candidates.dedup();
        self.prune(vectors, layer, node, &candidates)
    }

    /// Every node that a walk from the entry point can reach, over the links of all layers.
    pub(super) fn reached(&self) -> BitSet {
        let mut reached = BitSet::new(self.graph.len());
        if let Some(entry) = self.graph.entry {
            spread(&self.graph, entry, &mut reached);
        }
        reached
    }

    /// Gives every unreachable live node a link from a reachable node near it.
    pub(super) fn connect(&mut self, vectors: &Vectors) {
        for _ in 0..CONNECT_ROUNDS {
            let mut reached = self.reached();
            let orphans: Vec<u32> = self.live().filter(|&node| !reached.contains(node)).collect();
            if orphans.is_empty() {
                return;
            }
            let mut in_degree = self.in_degrees();
            for orphan in orphans {
                if !reached.contains(orphan) {
                    self.attach(vectors, orphan, &mut in_degree);
                    spread(&self.graph, orphan, &mut reached);
                }
            }
        }
    }

    fn in_degrees(&self) -> Vec<u32> {
        let mut degrees = vec![0; self.graph.len()];
        for node in 0..self.graph.len() as u32 {
            for &link in self.graph.links(0, node) {
                degrees[link as usize] += 1;
            }
        }
        degrees
    }

    /// Links to `orphan` from the nearest node with a free place, or in place of a link that is not its target's only one.
    fn attach(&mut self, vectors: &Vectors, orphan: u32, in_degree: &mut [u32]) {
        let entry = self.graph.entry.expect("a graph with live nodes has an entry point");
        let near = self.space.with_row(vectors, orphan, Nearby { hnsw: self, entry, orphan });
        let max = self.graph.max_degree(0);
        let with_room = near.iter().find(|&&node| self.graph.links(0, node).len() < max);
        if let Some(&node) = with_room {
            let mut row = self.graph.links(0, node).to_vec();
            row.push(orphan);
            self.graph.set_links(0, node, &row);
        } else {
            let spare = near.iter().find_map(|&node| {
                let links = self.graph.links(0, node);
                let place = links.iter().rposition(|&link| in_degree[link as usize] > 1)?;
                Some((node, place))
            });
            let Some((node, place)) = spare else { return };
            let mut row = self.graph.links(0, node).to_vec();
            in_degree[row[place] as usize] -= 1;
            row[place] = orphan;
            self.graph.set_links(0, node, &row);
        }
        in_degree[orphan as usize] += 1;
    }
}

/// Nodes near an orphan, nearest first, without itself.
struct Nearby<'a> {
    hnsw: &'a Hnsw,
    entry: u32,
    orphan: u32,
}

impl WithScorer for Nearby<'_> {
    type Output = Vec<u32>;

    fn run(self, own: &impl Scorer) -> Vec<u32> {
        let Nearby { hnsw: Hnsw { graph, params, .. }, entry, orphan } = self;
        Scratch::with(|scratch| {
            let nearest = scratch.descend(graph, own, entry, 0);
            let found = scratch.search_layer(graph, own, 0, nearest, params.ef_construction);
            found.iter().map(|found| found.node).filter(|&node| node != orphan).collect()
        })
    }
}

/// Adds to `reached` whatever can be reached from `start`.
fn spread(graph: &Graph, start: u32, reached: &mut BitSet) {
    let mut open = vec![start];
    reached.insert(start);
    while let Some(node) = open.pop() {
        for layer in 0..=graph.level(node) {
            for &link in graph.links(layer, node) {
                if reached.insert(link) {
                    open.push(link);
                }
            }
        }
    }
}
