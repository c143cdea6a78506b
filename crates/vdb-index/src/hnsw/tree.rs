//! A tree of links that are never pruned: why every node stays reachable while rows are inserted one by one.
//!
//! Every node but the entry point has a parent, a node that links to it on the base layer; parents lead to the entry point.
//! Pruning keeps the links to children, and a new node gets a place in the row of one of its neighbours, whose own link
//! elsewhere is then the one to go. So no walk over the whole graph is needed after a small insertion. Bulk insertions
//! and repairs drop the tree and check the whole graph instead; the next small insertion grows it again. It is grown
//! depth first: then most nodes have one child and hardly a row is bound to keep more than one or two links.

use super::Hnsw;
use super::graph::{Graph, NONE};
use crate::BitSet;

/// The parent of every node; empty while no tree is kept.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tree {
    parents: Vec<u32>,
}

impl Tree {
    pub(crate) fn is_kept(&self) -> bool {
        !self.parents.is_empty()
    }

    /// Heap bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.parents.capacity() * 4
    }

    /// Over all that can be reached from the entry point, which is given, too.
    pub(crate) fn grown(graph: &Graph) -> (Tree, BitSet) {
        let mut tree = Tree { parents: vec![NONE; graph.len()] };
        let mut reached = BitSet::new(graph.len());
        if let Some(entry) = graph.entry {
            tree.spread(graph, entry, &mut reached);
        }
        (tree, reached)
    }

    /// Adds what can be reached from `start` and is not yet.
    pub(crate) fn spread(&mut self, graph: &Graph, start: u32, reached: &mut BitSet) {
        reached.insert(start);
        let mut path = vec![(start, 0)];
        while let Some((node, place)) = path.last_mut() {
            match graph.row(0, *node).get(*place) {
                Some(&link) if link != NONE => {
                    *place += 1;
                    if reached.insert(link) {
                        self.parents[link as usize] = *node;
                        path.push((link, 0));
                    }
                }
                _ => _ = path.pop(),
            }
        }
    }

    fn is_child(&self, parent: u32, node: u32) -> bool {
        self.parents.get(node as usize) == Some(&parent)
    }

    /// Brings those links of `before` back into the pruned row of `node` that must not go.
    pub(crate) fn restore(&self, node: u32, before: &[u32], row: &mut Vec<u32>, max: usize) {
        if !self.is_kept() {
            return;
        }
        for &link in before {
            if self.is_child(node, link) && !row.contains(&link) {
                self.put(node, link, row, max);
            }
        }
    }

    /// Puts `link` at the end of the row of `node`, in the place of another if need be; false when all must stay.
    fn put(&self, node: u32, link: u32, row: &mut Vec<u32>, max: usize) -> bool {
        if row.len() < max {
            row.push(link);
            return true;
        }
        let spare = row.iter().rposition(|&other| !self.is_child(node, other));
        if let Some(place) = spare {
            row[place] = link;
        }
        spare.is_some()
    }
}

impl Hnsw {
    /// Makes sure that there is a tree with places for all nodes.
    pub(super) fn keep_tree(&mut self) {
        if !self.tree.is_kept() {
            self.tree = Tree::grown(&self.graph).0;
        }
        self.tree.parents.resize(self.graph.len(), NONE);
    }

    /// Finds a parent for a new node among `near`, all of which are in the tree; false when none has a place for it.
    pub(super) fn adopt(&mut self, node: u32, near: &[u32]) -> bool {
        let linked = near.iter().copied().find(|&parent| self.graph.links(0, parent).contains(&node));
        let parent = linked.or_else(|| near.iter().copied().find(|&parent| self.force_link(parent, node)));
        if let Some(parent) = parent {
            self.tree.parents[node as usize] = parent;
        }
        parent.is_some()
    }

    /// Hangs the tree, whose root is `old`, below the new entry point.
    pub(super) fn replant(&mut self, old: u32, new: u32) -> bool {
        if !self.graph.links(0, new).contains(&old) && !self.force_link(new, old) {
            return false;
        }
        self.tree.parents[old as usize] = new;
        self.tree.parents[new as usize] = NONE;
        true
    }

    fn force_link(&mut self, from: u32, to: u32) -> bool {
        let mut row = self.graph.links(0, from).to_vec();
        let has_place = self.tree.put(from, to, &mut row, self.graph.max_degree(0));
        if has_place {
            self.graph.set_links(0, from, &row);
        }
        has_place
    }

    pub(super) fn drop_tree(&mut self) {
        self.tree = Tree::default();
    }
}
