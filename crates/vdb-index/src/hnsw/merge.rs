//! Taking the rows of another graph in, for a part of the cost of inserting them.
//!
//! A few rows of the other graph, spread so that each of its rows is one of them or linked to one, are inserted as any
//! row is. The rest need no search from the entry point and no wide beam: those of their old neighbours that are in the
//! graph already lie where their new neighbours are, and a short walk from there finds these (the join set of Lucene's
//! HNSW merge). Batches are frozen as in any insertion, so the result does not depend on the number of threads.

use super::Hnsw;
use super::build::Plan;
use super::search::{Candidate, Scratch};
use super::select::select;
use super::space::{Scorer, WithScorer};
use crate::BitSet;
use crate::vectors::Vectors;

/// The beam of a walk among old neighbours is this many times m.
const BEAM_PER_M: usize = 4;

/// A row that comes over, and its node in the graph that it comes from.
#[derive(Clone, Copy)]
struct Coming {
    offset: u32,
    node: u32,
}

impl Hnsw {
    /// Adds rows that are linked in another graph already: its row i is `offsets[i]` of `vectors`, or is left out.
    ///
    /// `vectors` holds the rows of both graphs; those of the other were appended, or put in free places. Call it on the
    /// larger graph of the two, or a copy of it. Deleted rows of the other graph never come over.
    ///
    /// # Complexity
    /// Clearly fewer distances than [`insert`](Self::insert): about 40 % fewer at the default parameters.
    ///
    /// # Panics
    /// When an offset is not a live row of `vectors`, or `offsets` is shorter than the other graph.
    pub fn merge(&mut self, vectors: &Vectors, other: &Hnsw, offsets: &[Option<u32>]) {
        assert!(
            offsets.len() >= other.graph.len(),
            "{} offsets of {} rows",
            offsets.len(),
            other.graph.len()
        );
        let coming =
            other.live().filter_map(|node| offsets[node as usize].map(|offset| Coming { offset, node }));
        let mut coming: Vec<Coming> = coming.collect();
        coming.sort_by_cached_key(|row| self.place_in_order(row.offset));
        self.graph.grow(vectors.len(), self.params.seed);
        self.drop_tree();
        let (first, rest) = self.split(other, &coming);
        let new: Vec<u32> = rest.iter().map(|row| row.offset).collect();
        // All rows at once, so that codes are trained, if they are, before the first row is linked.
        self.take_in(vectors, &coming.iter().map(|row| row.offset).collect::<Vec<u32>>());
        self.link(vectors, &first, 0, &|hnsw, place| hnsw.plan(vectors, first[place]), &mut |_| true);
        let plan = |hnsw: &Hnsw, place: usize| {
            let Coming { offset, node } = rest[place];
            let old = other.graph.links(0, node).iter().filter_map(|&link| offsets[link as usize]);
            let seeds: Vec<u32> = old.filter(|&seed| hnsw.nodes.contains(seed)).collect();
            if seeds.is_empty() {
                return hnsw.plan(vectors, offset);
            }
            hnsw.space.with_row(vectors, offset, Nearby { hnsw, vectors, node: offset, seeds: &seeds })
        };
        self.link(vectors, &new, first.len(), &plan, &mut |_| true);
        self.link_products(vectors, &first);
        self.link_products(vectors, &new);
        self.unchecked = self.unchecked.saturating_add(coming.len());
        self.changed = self.changed.saturating_add(coming.len());
        if !coming.is_empty() {
            self.link_missed_rows(vectors);
            self.connect(vectors);
        }
    }

    /// The rows to insert first: those with upper layers, and enough others that every row is linked to one.
    fn split(&self, other: &Hnsw, coming: &[Coming]) -> (Vec<u32>, Vec<Coming>) {
        let mut joined = BitSet::new(other.graph.len());
        let (mut first, mut rest) = (Vec::new(), Vec::new());
        for &row in coming {
            let is_near = other.graph.links(0, row.node).iter().any(|&link| joined.contains(link));
            if self.graph.level(row.offset) > 0 || !is_near {
                joined.insert(row.node);
                first.push(row.offset);
            } else {
                rest.push(row);
            }
        }
        (first, rest)
    }
}

/// Finds the links of a new node on the base layer, from nodes that are known to be near.
struct Nearby<'a> {
    hnsw: &'a Hnsw,
    vectors: &'a Vectors,
    node: u32,
    seeds: &'a [u32],
}

impl WithScorer for Nearby<'_> {
    type Output = Plan;

    fn run(self, own: &impl Scorer) -> Plan {
        let Nearby { hnsw: Hnsw { graph, params, space, .. }, vectors, node, seeds } = self;
        let entries: Vec<Candidate> = space.ranked(seeds, own);
        let m = graph.m();
        let ef = params.ef_construction.min(BEAM_PER_M * m);
        let copy_distance = space.copy_distance(vectors, node, own);
        Scratch::with(|scratch| {
            scratch.start();
            let found = scratch.search_layer_from(graph, own, 0, &entries, ef);
            let near = found.iter().take(m).map(|found| found.node).collect();
            let live: Vec<Candidate> =
                found.iter().copied().filter(|found| vectors.live().contains(found.node)).collect();
            let mut computed = scratch.computed + seeds.len();
            let links = select(space, vectors, &live, copy_distance, m, graph.fill(), &mut computed);
            Plan { node, layers: vec![links], near, computed }
        })
    }
}
