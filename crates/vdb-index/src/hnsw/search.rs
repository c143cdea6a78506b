//! Greedy best-first search on one layer, and the scratch memory it works in.
//!
//! The beam is one sorted array: the nearest `ef` nodes seen so far, each marked once expanded. A step expands the
//! nearest unexpanded one: its unvisited neighbours are gathered first, then their distances computed in one call, then
//! those inserted that are near enough, in another. In a large index nothing is at hand, and most of a step would be
//! waiting. So the links of a node are asked for once it is among the nearest, and the codes of the runner-up's neighbours
//! while those of the nearest are compared: it is usually the next one, and if not, later.
//! Nodes are ordered by (distance, offset), so the walk does not depend on anything but the graph and the query.

use super::graph::{Graph, MAX_LEVEL, NONE};
use super::rerank::Reranking;
use super::space::Scorer;
use std::cell::RefCell;
use vdb_distance::{AlignedVec, Kernels};

/// The most links of a row.
const MAX_LINKS: usize = 256;
/// A node among so many from the nearest unexpanded one on is likely to be expanded soon.
const SOON: usize = 8;

/// A node and its comparable distance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) distance: f32,
    pub(crate) node: u32,
}

impl Candidate {
    pub(crate) fn order(&self, other: &Candidate) -> std::cmp::Ordering {
        self.distance.total_cmp(&other.distance).then(self.node.cmp(&other.node))
    }
}

/// A candidate in one number that orders as (distance, node): the distance's bits in the order of their values, the
/// node, and whether it is expanded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry(pub(super) u64);

impl Entry {
    /// After all others.
    const LAST: Entry = Entry(u64::MAX);

    #[inline(always)]
    pub(super) fn new(distance: f32, node: u32) -> Entry {
        let bits = distance.to_bits();
        // Negative numbers order the other way round.
        let ordered = bits ^ ((bits.cast_signed() >> 31).cast_unsigned() | 0x8000_0000);
        Entry(u64::from(ordered) << 32 | u64::from(node) << 1)
    }

    #[inline(always)]
    pub(super) fn node(self) -> u32 {
        self.0 as u32 >> 1
    }

    #[inline(always)]
    fn is_expanded(self) -> bool {
        self.0 & 1 == 1
    }

    pub(super) fn distance(self) -> f32 {
        let ordered = (self.0 >> 32) as u32;
        let mask = if ordered & 0x8000_0000 == 0 { u32::MAX } else { 0x8000_0000 };
        f32::from_bits(ordered ^ mask)
    }
}

/// The nearest nodes seen so far, sorted, at most `ef` of them.
#[derive(Debug, Default)]
pub(super) struct Beam {
    /// Entries, then some that are no longer or not yet any; they ascend.
    slots: AlignedVec<u64>,
    len: usize,
    ef: usize,
    /// Every entry before this one is expanded.
    next: usize,
    /// Nodes from here on are not taken in.
    limit: Entry,
    /// The width of a beam that would have expanded what this one has.
    widest: usize,
    /// Nodes that came by, taken in or not.
    met: usize,
}

/// When a walk stops before all of its beam is expanded.
pub(super) trait StopRule {
    /// Asked before the nearest unexpanded entry, the one at `place`, is expanded.
    fn is_over(&mut self, beam: &mut Beam, place: usize) -> bool;
}

/// Expands all of the beam.
pub(super) struct WholeBeam;

impl StopRule for WholeBeam {
    #[inline(always)]
    fn is_over(&mut self, _: &mut Beam, _: usize) -> bool {
        false
    }
}

impl Beam {
    pub(super) fn reset(&mut self, ef: usize) {
        self.slots.clear();
        self.len = 0;
        self.ef = ef;
        self.next = 0;
        self.limit = Entry::LAST;
        self.widest = 0;
        self.met = 0;
    }

    #[inline(always)]
    fn entries(&self) -> &[u64] {
        &self.slots[..self.len]
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline(always)]
    pub(super) fn get(&self, place: usize) -> Option<Entry> {
        self.entries().get(place).copied().map(Entry)
    }

    /// The distance of the entry at `place`.
    #[inline(always)]
    pub(super) fn distance(&self, place: usize) -> f32 {
        Entry(self.entries()[place]).distance()
    }

    /// Its nodes, nearest first.
    pub(super) fn candidates(&self) -> impl Iterator<Item = Candidate> + '_ {
        let entries = self.entries().iter().copied().map(Entry);
        entries.map(|entry| Candidate { distance: entry.distance(), node: entry.node() })
    }

    /// The width of a beam that would have expanded what this one has.
    pub(super) fn widest(&self) -> usize {
        self.widest
    }

    /// Nodes that came by, taken in or not.
    #[inline(always)]
    pub(super) fn met(&self) -> usize {
        self.met
    }

    /// Notes that so many nodes came by.
    #[inline(always)]
    pub(super) fn meet(&mut self, nodes: usize) {
        self.met += nodes;
    }

    /// From now on holds no node that is both farther than `distance` and not among the nearest `least`, of which
    /// there are as many.
    #[inline(always)]
    pub(super) fn limit_to(&mut self, distance: f32, least: usize) {
        self.limit = Entry::new(distance, 0).max(Entry(self.entries()[least - 1]));
        // What is left out stays in the slots, as the smallest of those that do not count.
        while self.len > least && Entry(self.slots[self.len - 1]) >= self.limit {
            self.len -= 1;
        }
    }

    /// Nodes from here on are not taken in, as long as no other is.
    #[inline(always)]
    fn bound(&self) -> Entry {
        let last = if self.len == self.ef { self.entries().last() } else { None };
        last.map_or(self.limit, |&last| self.limit.min(Entry(last)))
    }

    /// Takes in entries that come before its [`bound`](Self::bound), as far as there is room for them.
    #[inline(always)]
    fn insert_all(&mut self, entries: &[u64]) {
        let Some(&nearest) = entries.iter().min() else { return };
        let room = (self.len + entries.len()).next_multiple_of(Kernels::SORTED_SLOTS);
        if room > self.slots.len() {
            self.slots.resize(room, Entry::LAST.0);
        }
        let expanded = &self.slots[..self.next];
        if expanded.last().is_some_and(|&last| nearest < last) {
            self.next = expanded.partition_point(|&other| other < nearest);
        }
        self.len = Kernels::get().insert_sorted(&mut self.slots, self.len, self.ef, entries);
    }

    /// Takes in one, unless it is too far.
    #[inline(always)]
    pub(super) fn insert(&mut self, entry: Entry) {
        if entry < self.bound() {
            self.insert_all(&[entry.0]);
        }
    }

    /// Marks the nearest unexpanded entry, the one at `place`, and gives its node.
    #[inline(always)]
    fn expand(&mut self, place: usize) -> u32 {
        self.next = place + 1;
        self.widest = self.widest.max(place + 1);
        self.slots[place] |= 1;
        Entry(self.slots[place]).node()
    }

    /// Marks the nearest unexpanded entry and gives its node.
    #[inline(always)]
    pub(super) fn expand_next(&mut self) -> Option<u32> {
        let place = self.peek()?;
        Some(self.expand(place))
    }

    /// Whether its nearest unexpanded entry is nearer than that of `other`.
    #[inline(always)]
    pub(super) fn is_ahead_of(&self, other: &Beam) -> bool {
        let nearest = |beam: &Beam| beam.peek().and_then(|place| beam.get(place));
        nearest(self).is_some_and(|own| nearest(other).is_none_or(|other| own < other))
    }

    /// The farthest entry that is likely to be expanded soon.
    #[inline(always)]
    fn soon(&self) -> Entry {
        self.get(self.next + SOON - 1).unwrap_or(Entry::LAST)
    }

    /// The place of the nearest unexpanded entry.
    #[inline(always)]
    pub(super) fn peek(&self) -> Option<usize> {
        let rest = self.entries().get(self.next..)?;
        rest.iter().position(|&entry| !Entry(entry).is_expanded()).map(|ahead| self.next + ahead)
    }
}

/// The nodes that a walk has seen: a bit each, so that those of a million nodes stay in the second-level cache.
#[derive(Debug, Default)]
struct Seen {
    words: Vec<u64>,
    nodes: Vec<u32>,
}

impl Seen {
    /// None of so many nodes.
    fn reset(&mut self, nodes: usize) {
        /// Words that are cleared in a row in the time of one elsewhere.
        const IN_A_ROW: usize = 8;
        if self.nodes.len() * IN_A_ROW < self.words.len() {
            self.nodes.iter().for_each(|&node| self.words[node as usize / 64] = 0);
        } else {
            self.words.fill(0);
        }
        self.nodes.clear();
        self.words.resize(self.words.len().max(nodes.div_ceil(64)), 0);
    }

    /// Whether it has not been seen before. Has to be [kept](Self::keep) if so.
    #[inline(always)]
    fn see(&mut self, node: u32) -> bool {
        let word = &mut self.words[node as usize / 64];
        let bit = 1_u64 << (node % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// Notes which nodes were new.
    #[inline(always)]
    fn keep(&mut self, nodes: &[u32]) {
        self.nodes.extend_from_slice(nodes);
    }
}

/// Memory that one thread's searches use again and again; nothing is allocated per query.
#[derive(Debug)]
pub(crate) struct Scratch {
    seen: Seen,
    /// Of filtered walks: the epoch in which a node was last seen.
    pub(super) visited: Vec<u16>,
    epoch: u16,
    pub(super) beam: Beam,
    /// Of filtered walks: nodes that do not match, and lists of those at hand.
    pub(super) bridges: Beam,
    pub(super) failing: Vec<u32>,
    pub(super) pending: Vec<u32>,
    pub(super) scores: Vec<f32>,
    pub(super) reranking: Reranking,
    fresh: [u32; MAX_LINKS],
    distances: [f32; MAX_LINKS],
    /// Entries that come into the beam.
    entering: [u64; MAX_LINKS],
    found: Vec<Candidate>,
    /// Distances computed since [`start`](Self::start).
    pub(crate) computed: usize,
    /// Nodes expanded since [`start`](Self::start).
    pub(crate) hops: usize,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            seen: Seen::default(),
            visited: Vec::new(),
            epoch: 0,
            beam: Beam::default(),
            bridges: Beam::default(),
            failing: Vec::new(),
            pending: Vec::new(),
            scores: Vec::new(),
            reranking: Reranking::default(),
            fresh: [0; MAX_LINKS],
            distances: [0.0; MAX_LINKS],
            entering: [0; MAX_LINKS],
            found: Vec::new(),
            computed: 0,
            hops: 0,
        }
    }
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

    /// Two marks that no node carries.
    pub(super) fn two_epochs(&mut self, nodes: usize) -> (u16, u16) {
        self.new_epoch(nodes);
        let first = self.epoch;
        self.new_epoch(nodes);
        (first, self.epoch)
    }

    /// The nearest `ef` nodes that a walk from `entry` over `layer` finds, nearest first.
    pub(crate) fn search_layer(
        &mut self,
        graph: &Graph,
        scorer: &impl Scorer,
        layer: u8,
        entry: Candidate,
        ef: usize,
    ) -> &[Candidate] {
        self.search_layer_from(graph, scorer, layer, &[entry], ef)
    }

    /// The same from several nodes.
    pub(crate) fn search_layer_from(
        &mut self,
        graph: &Graph,
        scorer: &impl Scorer,
        layer: u8,
        entries: &[Candidate],
        ef: usize,
    ) -> &[Candidate] {
        self.search_layer_until(graph, scorer, layer, entries, ef, &mut WholeBeam);
        let Self { found, beam, .. } = self;
        found.clear();
        found.extend(beam.candidates());
        found
    }

    /// The same, until a rule ends the walk; what it finds is in the beam.
    pub(super) fn search_layer_until(
        &mut self,
        graph: &Graph,
        scorer: &impl Scorer,
        layer: u8,
        entries: &[Candidate],
        ef: usize,
        stop: &mut impl StopRule,
    ) {
        let Scratch { seen, beam, fresh, distances, entering, computed, hops, .. } = self;
        let fetches = layer == 0 && scorer.fetches();
        seen.reset(graph.len());
        let nodes = graph.len() as u32;
        beam.reset(ef);
        for entry in entries {
            beam.insert(Entry::new(entry.distance, entry.node));
            seen.see(entry.node);
            seen.keep(&[entry.node]);
        }
        beam.meet(entries.len());
        while let Some(place) = beam.peek() {
            if stop.is_over(beam, place) {
                break;
            }
            let node = beam.expand(place);
            *hops += 1;
            let runner_up = if layer == 0 { beam.peek() } else { None };
            let runner_up = runner_up.and_then(|place| beam.get(place)).map(Entry::node);
            if let Some(runner_up) = runner_up {
                graph.prefetch(runner_up);
            }
            let mut count = 0;
            for &neighbour in graph.row(layer, node) {
                // `NONE` is past the last node, as a link of a damaged file may be.
                if neighbour >= nodes {
                    break;
                }
                // Written in any case and counted if new: whether a node is new is anybody's guess, the CPU's too.
                fresh[count] = neighbour;
                count += usize::from(seen.see(neighbour));
            }
            let (fresh, distances) = (&fresh[..count], &mut distances[..count]);
            seen.keep(fresh);
            *computed += count;
            beam.meet(count);
            if fetches {
                fresh.iter().for_each(|&node| scorer.fetch(node));
                if let Some(runner_up) = runner_up {
                    // Those seen before are near and cost little.
                    let links = graph.row(0, runner_up).iter().take_while(|&&neighbour| neighbour != NONE);
                    links.for_each(|&neighbour| scorer.fetch(neighbour));
                }
                scorer.score_fetched(fresh, distances);
            } else {
                scorer.score(fresh, distances);
            }
            let bound = beam.bound();
            let mut count = 0;
            for (&node, &distance) in fresh.iter().zip(distances.iter()) {
                // As above.
                let entry = Entry::new(distance, node);
                entering[count] = entry.0;
                count += usize::from(entry < bound);
            }
            let entering = &entering[..count];
            beam.insert_all(entering);
            if fetches {
                let soon = beam.soon();
                let near = entering.iter().copied().map(Entry).filter(|entry| *entry <= soon);
                near.for_each(|entry| graph.prefetch(entry.node()));
            }
        }
    }

    /// The node nearest to the query that greedy walks find on the layers above `layer`.
    pub(crate) fn descend(
        &mut self,
        graph: &Graph,
        scorer: &impl Scorer,
        entry: u32,
        layer: u8,
    ) -> Candidate {
        let mut distance = [0.0];
        scorer.score(&[entry], &mut distance);
        self.computed += 1;
        let mut nearest = Candidate { distance: distance[0], node: entry };
        for upper in (layer + 1..=graph.level(entry).min(MAX_LEVEL)).rev() {
            nearest = self.search_layer(graph, scorer, upper, nearest, 1)[0];
        }
        nearest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_order_as_distances_and_nodes_do() {
        let distances = [f32::NEG_INFINITY, -2.5, -0.0, 0.0, 1e-30, 1.0, 3.5, f32::INFINITY];
        for (i, &a) in distances.iter().enumerate() {
            assert_eq!(Entry::new(a, 7).distance().to_bits(), a.to_bits());
            assert_eq!(Entry::new(a, (1 << 31) - 1).node(), (1 << 31) - 1);
            for &b in &distances[i + 1..] {
                assert!(Entry::new(a, 9) < Entry::new(b, 3), "{a} {b}");
            }
            assert!(Entry::new(a, 3) < Entry::new(a, 4));
        }
    }
}
