//! The links of the graph: a flat base layer of fixed rows, and small rows for the few nodes on upper layers.
//!
//! A row holds the ids of a node's neighbours, then [`NONE`]. Base rows start on cache lines. The level of a node
//! depends on the seed and its offset alone, so an offset that is used again keeps its rows.

use crate::hash::unit_interval;
use rayon::prelude::*;
use vdb_distance::{AlignedVec, Owner, prefetch};

/// Fills the unused end of a row.
pub(crate) const NONE: u32 = u32::MAX;

/// No node is assigned a level above this.
pub(crate) const MAX_LEVEL: u8 = 31;

/// A new node has this many links wherever they lead, and half of those beyond it.
const FILLED: usize = 16;

/// Adjacency of every layer.
#[derive(Debug, Clone)]
pub(crate) struct Graph {
    m: usize,
    /// Links per base row, rounded up to whole cache lines.
    base_stride: usize,
    base: AlignedVec<u32>,
    levels: AlignedVec<u8>,
    /// Where a node's upper rows start in `upper`, in rows of `m`; layer 1 first.
    upper_start: AlignedVec<u32>,
    upper: AlignedVec<u32>,
    /// The node that searches start from, on its top layer.
    pub(crate) entry: Option<u32>,
}

impl Graph {
    pub(crate) fn new(m: usize) -> Self {
        Self {
            m,
            base_stride: base_stride(m),
            base: AlignedVec::new(),
            levels: AlignedVec::new(),
            upper_start: AlignedVec::new(),
            upper: AlignedVec::new(),
            entry: None,
        }
    }

    /// The links that a new node makes on each layer.
    pub(crate) fn m(&self) -> usize {
        self.m
    }

    /// How many links of a new node nodes in directions that it is linked in already may bring it to. Rows full of these make walks
    /// longer, above all for queries of another kind than rows: with 32 instead of 24 of 32 a target recall of 0.9 gave 0.876
    /// on wordnet-minilm-384.
    pub(crate) fn fill(&self) -> usize {
        self.m.min(FILLED + self.m.saturating_sub(FILLED) / 2)
    }

    /// How many links a row that is chosen anew is brought to in the same way: half as many again as that of a new node on the
    /// base layer, so that there is room for links of later nodes.
    pub(crate) fn fill_of_row(&self, layer: u8) -> usize {
        self.max_degree(layer) * self.fill() * 3 / (4 * self.m)
    }

    /// Nodes that have rows, linked or not.
    pub(crate) fn len(&self) -> usize {
        self.levels.len()
    }

    /// The most links of a node on `layer`: 2 m on the base layer, m above (paper: M_max0, M_max).
    pub(crate) fn max_degree(&self, layer: u8) -> usize {
        if layer == 0 { 2 * self.m } else { self.m }
    }

    pub(crate) fn level(&self, node: u32) -> u8 {
        self.levels[node as usize]
    }

    /// Gives rows to all nodes below `len`.
    pub(crate) fn grow(&mut self, len: usize, seed: u64) {
        let additional = len.saturating_sub(self.len());
        if additional > 1 {
            self.base.reserve_exact(additional * self.base_stride);
        }
        for node in self.len()..len {
            let level = level(seed, node as u32, self.m);
            self.push_node(level);
        }
    }

    fn push_node(&mut self, level: u8) {
        self.levels.extend_from_slice(&[level]);
        let start = (self.upper.len() / self.m) as u32;
        self.upper_start.extend_from_slice(&[start]);
        self.upper.resize(self.upper.len() + usize::from(level) * self.m, NONE);
        self.base.resize(self.levels.len() * self.base_stride, NONE);
    }

    fn row_range(&self, layer: u8, node: u32) -> std::ops::Range<usize> {
        if layer == 0 {
            let start = node as usize * self.base_stride;
            return start..start + 2 * self.m;
        }
        let start = (self.upper_start[node as usize] as usize + usize::from(layer.max(1)) - 1) * self.m;
        start..start + self.m
    }

    /// The neighbours of `node` on `layer`.
    #[inline]
    pub(crate) fn links(&self, layer: u8, node: u32) -> &[u32] {
        let row = self.row(layer, node);
        let len = row.iter().position(|&id| id == NONE).unwrap_or(row.len());
        &row[..len]
    }

    /// The whole row of `node`, unused end included; nothing where a damaged file says that it lies outside.
    #[inline]
    pub(crate) fn row(&self, layer: u8, node: u32) -> &[u32] {
        let range = self.row_range(layer, node);
        if layer == 0 { &self.base[range] } else { self.upper.get(range).unwrap_or(&[]) }
    }

    /// Replaces the neighbours of `node` on `layer`.
    pub(crate) fn set_links(&mut self, layer: u8, node: u32, links: &[u32]) {
        let range = self.row_range(layer, node);
        let row = if layer == 0 { &mut self.base[range] } else { &mut self.upper[range] };
        row[..links.len()].copy_from_slice(links);
        row[links.len()..].fill(NONE);
    }

    /// Asks for the base row of `node` ahead of its use.
    #[inline]
    pub(crate) fn prefetch(&self, node: u32) {
        prefetch(&self.base, node as usize * self.base_stride, self.base_stride / 16);
    }

    /// Heap bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.base.bytes() + self.levels.bytes() + self.upper_start.bytes() + self.upper.bytes()
    }

    /// What a segment's file keeps: levels, base rows with their padding, starts of upper rows, and upper rows.
    pub(crate) fn stored(&self) -> [(&'static str, &[u8]); 4] {
        [
            ("hnsw.levels", &self.levels),
            ("hnsw.base", self.base.as_bytes()),
            ("hnsw.starts", self.upper_start.as_bytes()),
            ("hnsw.upper", self.upper.as_bytes()),
        ]
    }

    /// Of what [`stored`](Self::stored) gave, read in place; lengths are checked, and neither links nor starts are.
    pub(crate) fn open(
        m: usize,
        nodes: usize,
        [levels, base, starts, upper]: [Owner; 4],
    ) -> Result<Self, String> {
        let torn = || "part of a number".to_owned();
        let levels = AlignedVec::opened(levels).ok_or_else(torn)?;
        let [base, upper_start, upper] = [base, starts, upper].map(AlignedVec::opened);
        let (base, upper_start) = (base.ok_or_else(torn)?, upper_start.ok_or_else(torn)?);
        let graph = Self { levels, base, upper_start, upper: upper.ok_or_else(torn)?, ..Self::new(m) };
        let lens = (graph.levels.len(), graph.base.len(), graph.upper_start.len());
        if lens != (nodes, nodes * graph.base_stride, nodes) || !graph.upper.len().is_multiple_of(m) {
            return Err(format!("{lens:?} levels, base ids and starts for {nodes} nodes"));
        }
        Ok(graph)
    }

    /// What is wrong with levels, links or where upper rows begin, without a copy of them.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (m, nodes) = (self.m, self.len());
        let mut start = 0;
        for (node, (&level, &found)) in self.levels.iter().zip(self.upper_start.iter()).enumerate() {
            if level > MAX_LEVEL || found as usize != start {
                return Err(format!(
                    "node {node} is on layer {level}, its upper rows begin at {found}, not at {start}"
                ));
            }
            start += usize::from(level);
        }
        if self.upper.len() != start * m {
            return Err(format!("{} upper links, expected {}", self.upper.len(), start * m));
        }
        let leads_nowhere = |layer: u8, link: u32| {
            link != NONE && self.levels.get(link as usize).is_none_or(|&level| level < layer)
        };
        let wrong = (0..nodes as u32).into_par_iter().find_map_any(|node| {
            (0..=self.level(node)).find_map(|layer| {
                let link = self.row(layer, node).iter().find(|&&link| leads_nowhere(layer, link))?;
                Some(format!("node {node} links to {link} on layer {layer}, which is not there; there are {nodes} nodes"))
            })
        });
        wrong.map_or(Ok(()), Err)
    }

    /// Whether base rows are read in place.
    pub(crate) fn is_shared(&self) -> bool {
        self.base.is_shared()
    }

    /// Copies base rows that are read in place into memory of their own.
    pub(crate) fn pin(&mut self) {
        if self.is_shared() {
            self.base = AlignedVec::from(&self.base[..]);
        }
    }

    /// Bytes of the base rows.
    pub(crate) fn base_bytes(&self) -> usize {
        self.base.len() * 4
    }

    /// The rows as they are stored in a file: levels, base rows of 2 m, upper rows of m in node order.
    pub(crate) fn rows(&self) -> (&[u8], Vec<u32>, &[u32]) {
        let base = (0..self.len() as u32).flat_map(|node| self.row(0, node).iter().copied()).collect();
        (&self.levels, base, &self.upper)
    }

    /// The same links between nodes of other numbers; a number that was no node's so far gets a level and no links.
    pub(super) fn renumbered(&self, old_of_new: &[u32], new_of_old: &[Option<u32>], seed: u64) -> Self {
        let mut graph = Self::new(self.m);
        graph.base.reserve_exact(old_of_new.len() * graph.base_stride);
        for (new, &old) in (0u32..).zip(old_of_new) {
            let known = self.levels.get(old as usize).copied();
            graph.push_node(known.unwrap_or_else(|| level(seed, new, self.m)));
        }
        let moved = |from: &[u32], to: &mut [u32]| {
            let links = from.iter().take_while(|&&link| link != NONE);
            let links = links.filter_map(|&link| new_of_old.get(link as usize).copied().flatten());
            to.iter_mut().zip(links).for_each(|(to, link)| *to = link);
        };
        let rows = graph.base.par_chunks_mut(self.base_stride).zip(old_of_new).with_min_len(1 << 10);
        rows.filter(|(_, old)| (**old as usize) < self.len()).for_each(|(row, &old)| {
            moved(self.row(0, old), &mut row[..2 * self.m]);
        });
        for (new, &old) in (0u32..).zip(old_of_new).filter(|(_, old)| (**old as usize) < self.len()) {
            for layer in 1..=self.level(old) {
                let range = graph.row_range(layer, new);
                moved(self.row(layer, old), &mut graph.upper[range]);
            }
        }
        graph.entry = self.entry.and_then(|entry| new_of_old[entry as usize]);
        graph
    }

    /// The same links in rows for more of them; levels stay as they are.
    pub(super) fn widened(&self, m: usize) -> Self {
        let mut graph = Self::new(m);
        graph.base.reserve_exact(self.len() * graph.base_stride);
        for (node, &level) in (0u32..).zip(self.levels.iter()) {
            graph.push_node(level);
            for layer in 0..=level {
                graph.set_links(layer, node, self.links(layer, node));
            }
        }
        graph.entry = self.entry;
        graph
    }

    /// The inverse of [`rows`](Self::rows). Lengths must fit each other; ids are not checked here.
    pub(crate) fn from_rows(m: usize, levels: &[u8], base: &[u32], upper: &[u32]) -> Self {
        let mut graph = Self::new(m);
        graph.base.reserve_exact(levels.len() * graph.base_stride);
        for &level in levels {
            graph.push_node(level);
        }
        for (node, row) in base.chunks_exact(2 * m).enumerate() {
            let range = graph.row_range(0, node as u32);
            graph.base[range].copy_from_slice(row);
        }
        graph.upper.copy_from_slice(upper);
        graph
    }
}

/// Ids of a base row of up to 2 m links, in whole cache lines.
pub(super) fn base_stride(m: usize) -> usize {
    (2 * m).next_multiple_of(16)
}

/// The level of a node: ⌊−ln U · 1 / ln m⌋ with U in (0, 1] from the seed and the offset (Malkov & Yashunin, §4.1).
pub(crate) fn level(seed: u64, node: u32, m: usize) -> u8 {
    let level = -unit_interval(seed, node).ln() / (m as f64).ln();
    level.min(f64::from(MAX_LEVEL)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_fall_by_a_factor_of_m() {
        let count = |at_least: u8| (0..100_000).filter(|&i| level(1, i, 16) >= at_least).count();
        assert!((5_900..6_600).contains(&count(1)), "{}", count(1));
        assert!((320..460).contains(&count(2)), "{}", count(2));
    }

    #[test]
    fn long_rows_keep_places_for_diverse_links() {
        let fill = [2, 8, 16, 17, 24, 32, 128].map(|m| Graph::new(m).fill());
        assert_eq!(fill, [2, 8, 16, 16, 20, 24, 72]);
        let fill_of_rows = |layer| [2, 8, 16, 24, 32, 128].map(|m| Graph::new(m).fill_of_row(layer));
        assert_eq!(fill_of_rows(0), [3, 12, 24, 30, 36, 108]);
        assert_eq!(fill_of_rows(1), [1, 6, 12, 15, 18, 54]);
    }

    #[test]
    fn rows_survive_a_round_trip() {
        let mut graph = Graph::new(4);
        graph.grow(200, 9);
        for node in 0..200u32 {
            for layer in 0..=graph.level(node) {
                let links: Vec<u32> = (0..node % 4).map(|i| (node + i) % 200).collect();
                graph.set_links(layer, node, &links);
                assert_eq!(graph.links(layer, node), links);
            }
        }
        let (levels, base, upper) = graph.rows();
        let copy = Graph::from_rows(4, levels, &base, upper);
        for node in 0..200u32 {
            assert_eq!(copy.level(node), graph.level(node));
            for layer in 0..=graph.level(node) {
                assert_eq!(copy.links(layer, node), graph.links(layer, node));
            }
        }
        assert!(upper.iter().any(|&id| id != NONE));
    }
}
