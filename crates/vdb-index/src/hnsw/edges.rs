//! The fast profile: codes of the links of a graph beside its rows, which decide which neighbours a walk looks at.
//!
//! A node whose links have changed since they were coded ([`Graph::coded`]) is stale: its links are all looked at. Stale
//! nodes are coded again when there are many of them.

use super::graph::Graph;
use super::space::LinkFilter;
use crate::BitSet;
use vdb_quant::{EdgeCodes, EdgeQuery, TraversalCodes, TraversalQuery};

/// Links are coded again when more than one node in this many is stale.
const STALE_SHARE: usize = 16;
/// A link is passed over when its estimate, less so many times what it is off by typically, is outside the beam. More
/// make a walk look at more neighbours, fewer make it miss some.
const DEVIATIONS: f32 = 1.0;

/// Codes of all base links, as far as they are not stale.
#[derive(Debug, Clone)]
pub(crate) struct Edges {
    codes: EdgeCodes,
}

impl Edges {
    /// Codes all links.
    pub(crate) fn new(codes: &TraversalCodes, graph: &mut Graph, nodes: &BitSet) -> Edges {
        graph.coded = BitSet::default();
        let mut edges = Edges { codes: EdgeCodes::new(codes, graph.max_degree(0)) };
        edges.refresh(codes, graph, nodes);
        edges
    }

    /// Heap bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.codes.bytes()
    }

    /// Codes stale nodes, if they are many.
    pub(crate) fn refresh(&mut self, codes: &TraversalCodes, graph: &mut Graph, nodes: &BitSet) {
        let stale = nodes.count().saturating_sub(graph.coded.count());
        if stale * STALE_SHARE <= nodes.count() {
            return;
        }
        let stale: Vec<u32> = nodes.iter().filter(|&node| !graph.coded.contains(node)).collect();
        self.codes.grow(graph.len());
        self.codes.set_all(codes, &stale, |node| graph.links(0, node));
        for node in stale {
            graph.coded.insert(node);
        }
    }

    /// The filter of one walk.
    pub(crate) fn filter<'a>(&'a self, graph: &'a Graph, query: &TraversalQuery) -> EdgeFilter<'a> {
        EdgeFilter { edges: self, graph, query: self.codes.query(query, DEVIATIONS) }
    }
}

/// A query's view of [`Edges`].
pub(crate) struct EdgeFilter<'a> {
    edges: &'a Edges,
    graph: &'a Graph,
    query: EdgeQuery,
}

impl LinkFilter for EdgeFilter<'_> {
    #[inline]
    fn applies(&self, node: u32) -> bool {
        self.graph.coded.contains(node)
    }

    #[inline]
    fn prefetch(&self, node: u32) {
        self.edges.codes.prefetch(node);
    }

    #[inline]
    fn near(&mut self, node: u32, block: usize, distance: f32, limit: f32, links: u32) -> u32 {
        self.edges.codes.near(&mut self.query, node, block, distance, limit, links)
    }
}
