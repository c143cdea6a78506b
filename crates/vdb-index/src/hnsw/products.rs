//! Links for the largest inner products, besides those for the least distances.
//!
//! Edges are chosen by distances in the lifted space (see [`Lift`](crate::vectors::Lift)), where every node is its own
//! nearest and no rule for pruning breaks. But there the longest vectors, which hold most answers, lie far from each
//! other and from the vectors of their own direction. So every node is also linked to the nodes of the largest products
//! with it, as far as its row has room: a search for a query of about its direction, which comes by, finds them in one
//! step. (Graphs of products alone, ip-NSW, Morozov & Babenko, NeurIPS 2018, are made of such links only, and lose short
//! vectors.)

use super::Hnsw;
use super::search::Scratch;
use super::space::Scorer;
use crate::vectors::Vectors;
use rayon::prelude::*;
use vdb_distance::Metric;

/// Beam width of the walks that find the largest products.
const EF: usize = 64;

impl Hnsw {
    /// Links live nodes to those of the largest products with them, under DotProduct.
    ///
    /// Walks see the graph as it was before, so the links do not depend on threads.
    pub(super) fn link_products(&mut self, vectors: &Vectors, nodes: &[u32]) {
        if vectors.metric() != Metric::DotProduct {
            return;
        }
        let found: Vec<(u32, Vec<u32>, usize)> = nodes
            .par_iter()
            .map(|&node| {
                let row = vectors.row(node);
                let coded =
                    self.space.with_coded_query(&row, |scorer| self.largest_products(vectors, node, scorer));
                let (links, computed) =
                    coded.unwrap_or_else(|| self.largest_products(vectors, node, &vectors.query(&row)));
                (node, links, computed)
            })
            .collect();
        for (node, links, computed) in found {
            self.graph.set_links(0, node, &links);
            self.build_distances += computed as u64;
        }
    }

    /// The links of a node with up to m / 2 more, and the distances that they took.
    fn largest_products(&self, vectors: &Vectors, node: u32, query: &impl Scorer) -> (Vec<u32>, usize) {
        let mut links = self.graph.links(0, node).to_vec();
        let room = (links.len() + self.graph.m() / 2).min(self.graph.max_degree(0));
        let Some(entry) = self.graph.entry else { return (links, 0) };
        Scratch::with(|scratch| {
            scratch.start();
            let nearest = scratch.descend(&self.graph, query, entry, 0);
            let found = scratch.search_layer(&self.graph, query, 0, nearest, EF);
            for other in found.iter().map(|found| found.node) {
                let is_new = other != node && vectors.live().contains(other) && !links.contains(&other);
                if is_new && links.len() < room {
                    links.push(other);
                }
            }
            (links, scratch.computed)
        })
    }
}
