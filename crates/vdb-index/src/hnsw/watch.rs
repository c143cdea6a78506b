//! A walk that goes on and on, and what a search would have found had it ended earlier: one walk tells about all weights and
//! thresholds of the stop rule.
//!
//! The walk is looked at after each of its first hops, and then ever more rarely; where it would end between two looks,
//! what both saw is mixed. A look reranks the beam as a search does, so that what rerank misses is missed here, too.

use super::Hnsw;
use super::rerank::Reranking;
use super::search::{Beam, Scratch, StopRule};
use super::space::Scorer;
use super::stop::{FAR, Squared};
use super::table::{KS, WIDEST};
use crate::hash::mix;
use crate::top_k::TopK;
use crate::vectors::{Query, Vectors};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use vdb_distance::{Distance, Metric};

/// Weights of the stop rule that are looked at: eighths, from none to 1.
pub(super) const WEIGHTS: usize = 9;
/// Thresholds that are looked at, from the first on.
pub(super) const THRESHOLDS: usize = 704;
const FIRST_THRESHOLD: f32 = 0.25;
const PER_UNIT: f32 = 256.0;
/// A walk is over when the next node lies this far beyond the last of the greatest k.
const ENOUGH: f32 = 2.0;
/// A walk of h hops is looked at again after h divided by this.
const LOOKS: u32 = 10;

pub(super) fn weight(place: usize) -> f32 {
    place as f32 / 8.0
}

pub(super) fn threshold(place: f64) -> f32 {
    FIRST_THRESHOLD + place as f32 / PER_UNIT
}

/// The thresholds below what a walk has reached.
fn passed(reached: f32) -> u16 {
    ((reached - FIRST_THRESHOLD) * PER_UNIT).ceil().clamp(0.0, THRESHOLDS as f32) as u16
}

/// What one look at a walk saw.
#[derive(Debug, Clone)]
pub(super) struct Look {
    pub(super) hops: u32,
    /// The width of a beam that walks as far.
    pub(super) widest: u32,
    /// Thresholds at which the walk would be over by now, by k and weight.
    pub(super) passed: [[u16; WEIGHTS]; KS.len()],
    /// What a search would answer, by k.
    pub(super) hits: [Vec<Distance>; KS.len()],
}

/// Hashes one node.
#[derive(Default)]
struct NodeHasher(u64);

impl Hasher for NodeHasher {
    fn write_u32(&mut self, node: u32) {
        self.0 = mix(u64::from(node));
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("nodes are hashed as numbers")
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Watches a walk.
struct Watch<'a> {
    hnsw: &'a Hnsw,
    query: &'a Query<'a>,
    metric: Metric,
    squared: Squared,
    hops: u32,
    /// Hops at the next look.
    next: u32,
    reached: [[f32; WEIGHTS]; KS.len()],
    /// Comparable distances of nodes that were compared exactly.
    compared: HashMap<u32, f32, BuildHasherDefault<NodeHasher>>,
    reranking: Reranking,
    /// What the last look reranked, by k.
    reranked: [Vec<u32>; KS.len()],
    looks: Vec<Look>,
}

impl Watch<'_> {
    fn look(&mut self, beam: &Beam, passed: [[u16; WEIGHTS]; KS.len()]) {
        let hits = std::array::from_fn(|number| self.hits(beam, number));
        self.looks.push(Look { hops: self.hops, widest: beam.widest() as u32, passed, hits });
    }

    /// What a search for one of [`KS`] would answer now.
    fn hits(&mut self, beam: &Beam, number: usize) -> Vec<Distance> {
        let Watch { hnsw, query, metric, compared, reranking, reranked, looks, .. } = self;
        let live = || beam.candidates().filter(|candidate| !hnsw.dead.contains(candidate.node));
        let reranked = &mut reranked[number];
        if let Some(look) = looks.last()
            && live().map(|candidate| candidate.node).take(reranked.len()).eq(reranked.iter().copied())
        {
            return look.hits[number].clone();
        }
        reranked.clear();
        let gather = |nodes: &[u32], out: &mut [f32]| {
            reranked.extend(nodes);
            for (&node, out) in nodes.iter().zip(out) {
                *out = *compared.entry(node).or_insert_with(|| {
                    let mut distance = [0.0];
                    query.gather(&[node], &mut distance);
                    distance[0]
                });
            }
        };
        let mut top = TopK::new(KS[number], &|a, b| a.cmp(&b));
        reranking.rerank_by(query, gather, live(), *metric, &mut top);
        top.into_sorted().iter().map(|hit| hit.distance).collect()
    }

    /// Walks by a scorer.
    fn follow(mut self, scorer: &impl Scorer, entry: u32) -> Vec<Look> {
        let graph = &self.hnsw.graph;
        Scratch::with(|scratch| {
            scratch.start();
            let nearest = scratch.descend(graph, scorer, entry, 0);
            scratch.search_layer_until(graph, scorer, 0, &[nearest], WIDEST, &mut self);
            self.look(&scratch.beam, [[THRESHOLDS as u16; WEIGHTS]; KS.len()]);
        });
        self.looks
    }
}

impl StopRule for Watch<'_> {
    fn is_over(&mut self, beam: &mut Beam, place: usize) -> bool {
        self.hops += 1;
        if beam.len() <= FAR {
            return false;
        }
        let growth = self.squared.growth(beam);
        for (&k, reached) in KS.iter().zip(&mut self.reached) {
            let ratio = self.squared.ratio(beam, place, k);
            for (place, reached) in reached.iter_mut().enumerate() {
                *reached = reached.max(ratio + weight(place) * growth);
            }
        }
        if self.hops >= self.next {
            self.next = self.hops + 1 + self.hops / LOOKS;
            self.look(beam, self.reached.map(|reached| reached.map(passed)));
        }
        self.squared.ratio(beam, place, KS[KS.len() - 1]) > ENOUGH
    }
}

impl Hnsw {
    /// Looks at a walk for `vector`, the last one when it is over; none when all rows are equally near.
    pub(super) fn watch(&self, vectors: &Vectors, vector: &[f32]) -> Option<Vec<Look>> {
        let query = &vectors.query(vector);
        if query.is_undirected() {
            return None;
        }
        let entry = self.graph.entry?;
        let watch = |squared| Watch {
            hnsw: self,
            query,
            metric: vectors.metric(),
            squared,
            hops: 0,
            next: 0,
            reached: [[0.0; WEIGHTS]; KS.len()],
            compared: HashMap::default(),
            reranking: Reranking::default(),
            reranked: Default::default(),
            looks: Vec::new(),
        };
        let coded = self.space.with_coded_query(vector, |scorer| watch(Squared::CODED).follow(scorer, entry));
        Some(
            coded.unwrap_or_else(|| watch(Squared::plain(vectors, &self.space, vector)).follow(query, entry)),
        )
    }
}
