//! Greedy best-first search on one layer, and the scratch memory it works in.
//!
//! The beam is one sorted array: the nearest `ef` nodes seen so far, each marked once expanded. A step expands the
//! nearest unexpanded one: its unvisited neighbours are gathered first, then their distances computed in one call that
//! prefetches ahead, then inserted. The row of the runner-up is prefetched before the distances are computed.
//! Nodes are ordered by (distance, offset), so the walk does not depend on anything but the graph and the query.

use super::graph::{Graph, NONE};
use crate::vectors::Query;
use std::cell::RefCell;

/// Marks a beam entry whose neighbours have been looked at.
const EXPANDED: u32 = 1 << 31;

/// A node and its comparable distance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) distance: f32,
    pub(crate) node: u32,
}

impl Candidate {
    #[inline]
    pub(crate) fn precedes(&self, other: &Candidate) -> bool {
        self.distance < other.distance || (self.distance == other.distance && self.node < other.node)
    }

    pub(crate) fn order(&self, other: &Candidate) -> std::cmp::Ordering {
        self.distance.total_cmp(&other.distance).then(self.node.cmp(&other.node))
    }
}

/// The nearest nodes seen so far, sorted, at most `ef` of them.
#[derive(Debug, Default)]
struct Beam {
    entries: Vec<Candidate>,
    ef: usize,
    /// Every entry before this one is expanded.
    next: usize,
}

impl Beam {
    fn reset(&mut self, ef: usize) {
        self.entries.clear();
        self.ef = ef;
        self.next = 0;
    }

    #[inline]
    fn insert(&mut self, candidate: Candidate) {
        let full = self.entries.len() == self.ef;
        if full && !candidate.precedes(&unmarked(self.entries[self.ef - 1])) {
            return;
        }
        let place = self.entries.partition_point(|entry| unmarked(*entry).precedes(&candidate));
        if full {
            self.entries.pop();
        }
        self.entries.insert(place, candidate);
        self.next = self.next.min(place);
    }

    /// Marks the nearest unexpanded entry and gives its node.
    #[inline]
    fn expand_next(&mut self) -> Option<u32> {
        let place = self.peek()?;
        self.next = place + 1;
        let entry = &mut self.entries[place];
        let node = entry.node;
        entry.node |= EXPANDED;
        Some(node)
    }

    #[inline]
    fn peek(&self) -> Option<usize> {
        let rest = self.entries.get(self.next..)?;
        rest.iter().position(|entry| entry.node & EXPANDED == 0).map(|ahead| self.next + ahead)
    }
}

#[inline]
fn unmarked(entry: Candidate) -> Candidate {
    Candidate { node: entry.node & !EXPANDED, ..entry }
}

/// Memory that one thread's searches use again and again; nothing is allocated or cleared per query.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// The epoch in which a node was last seen.
    visited: Vec<u16>,
    epoch: u16,
    beam: Beam,
    fresh: Vec<u32>,
    distances: Vec<f32>,
    /// Distances computed since [`start`](Self::start).
    pub(crate) computed: usize,
    /// Nodes expanded since [`start`](Self::start).
    pub(crate) hops: usize,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Scratch {
    /// Runs `work` with this thread's scratch.
    pub(crate) fn with<R>(work: impl FnOnce(&mut Scratch) -> R) -> R {
        SCRATCH.with_borrow_mut(work)
    }

    pub(crate) fn start(&mut self) {
        (self.computed, self.hops) = (0, 0);
    }

    fn new_epoch(&mut self, nodes: usize) {
        if self.visited.len() < nodes {
            self.visited.resize(nodes, 0);
        }
        self.epoch = self.epoch.wrapping_add(1);
        if self.epoch == 0 {
            self.visited.fill(0);
            self.epoch = 1;
        }
    }

    #[inline]
    fn visit(&mut self, node: u32) -> bool {
        let seen = &mut self.visited[node as usize];
        let fresh = *seen != self.epoch;
        *seen = self.epoch;
        fresh
    }

    /// The nearest `ef` nodes to `query` that a walk from `entry` over `layer` finds, nearest first.
    pub(crate) fn search_layer(
        &mut self,
        graph: &Graph,
        query: &Query<'_>,
        layer: u8,
        entry: Candidate,
        ef: usize,
    ) -> &[Candidate] {
        self.new_epoch(graph.len());
        self.beam.reset(ef);
        self.beam.insert(entry);
        self.visit(entry.node);
        while let Some(node) = self.beam.expand_next() {
            self.hops += 1;
            if layer == 0
                && let Some(runner_up) = self.beam.peek()
            {
                graph.prefetch(self.beam.entries[runner_up].node);
            }
            self.fresh.clear();
            for &neighbour in graph.row(layer, node) {
                if neighbour == NONE {
                    break;
                }
                if self.visit(neighbour) {
                    self.fresh.push(neighbour);
                }
            }
            self.distances.resize(self.fresh.len(), 0.0);
            self.computed += self.fresh.len();
            query.gather(&self.fresh, &mut self.distances);
            for (&node, &distance) in self.fresh.iter().zip(&self.distances) {
                self.beam.insert(Candidate { distance, node });
            }
        }
        self.beam.entries.iter_mut().for_each(|entry| entry.node &= !EXPANDED);
        &self.beam.entries
    }

    /// The node nearest to `query` that greedy walks find on the layers above `layer`.
    pub(crate) fn descend(&mut self, graph: &Graph, query: &Query<'_>, entry: u32, layer: u8) -> Candidate {
        let mut distance = [0.0];
        query.gather(&[entry], &mut distance);
        self.computed += 1;
        let mut nearest = Candidate { distance: distance[0], node: entry };
        for upper in (layer + 1..=graph.level(entry)).rev() {
            nearest = self.search_layer(graph, query, upper, nearest, 1)[0];
        }
        nearest
    }
}
