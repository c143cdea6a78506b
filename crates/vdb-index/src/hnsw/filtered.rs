//! Searches for matching nodes only: those of a filter, less deleted ones.
//!
//! Where most nodes match, a plain walk with a somewhat wider beam finds enough of them. Else the walk goes from matching
//! node to matching node: of the nearest unexpanded one the matching neighbours are compared with the query; where they
//! are few, the rows of its other neighbours are read, too, until a row's worth of matching nodes is in sight (two hops,
//! as in ACORN, SIGMOD 2024, but as far only as the local share of matching nodes asks for). The mask is tested before
//! anything of a node is read, and of nodes that do not match nothing but the row is.
//!
//! A second, short beam holds nodes that do not match: bridges from the entry point to the query's surroundings. How many
//! are expanded is bounded. They also tell how the filter and the query go together: where far fewer nodes match around
//! the query than elsewhere, the nearest matching ones are far off in directions that no walk knows, and the scan of all
//! matching rows by their codes answers. The same goes for walks that have cost as much as that scan.
//!
//! Walks for a target recall have no beam of a fixed width, but end by the rule of [`Within`].

use super::graph::Graph;
use super::search::{Entry, Scratch, StopRule, WholeBeam};
use super::space::Scorer;
use super::stop::Within;
use crate::BitSet;
use crate::bitset::ones;
use crate::top_k::TopK;
use crate::vectors::Query;
use vdb_distance::Metric;

/// Shares of matching nodes from which on a plain walk is the faster one (held-out rows of wordnet-minilm-384).
const PLAIN_SHARE: f64 = 0.4;
/// Bridges kept, and expanded at most.
const BRIDGES: usize = 8;
const BRIDGE_HOPS: usize = 16;
/// A filter is against the query when fewer than this part of the usual share of nodes match around it.
const AGAINST: f64 = 0.5;
/// Rows of bridges that are asked for ahead of their use.
const ROWS_AHEAD: usize = 6;
/// Reading and testing a row of links costs as much as this many distances.
const ROW_COST: usize = 2;
/// Rows that a scan scores at a time, or up to a word more.
const SCAN_ROWS: usize = 512;
/// Candidates for comparison that a scan keeps, per hit wanted.
const SCAN_KEPT: usize = 8;
/// After a first look at all rows a scan scores the nearest of them, at first so many per entry of the beam.
const LOOKED_AT: usize = 5;
/// Where this many times as many rows match, a first look pays.
const WORTH_A_LOOK: usize = 8;
/// First looks that thresholds are drawn from.
const SAMPLED: usize = 512;

/// A search among the matching nodes.
pub(super) struct FilteredSearch<'a> {
    pub(super) graph: &'a Graph,
    pub(super) matching: &'a BitSet,
    /// Of the live nodes, those that match.
    pub(super) share: f64,
    /// The same of all nodes, deleted ones included, which walks meet, too.
    pub(super) share_of_nodes: f64,
    pub(super) query: &'a Query<'a>,
    pub(super) metric: Metric,
    pub(super) entry: u32,
    /// Beam of matching nodes; after a walk that ends by a rule, what was made use of.
    pub(super) ef: usize,
    /// The widest beam of such a walk, and when it ends.
    pub(super) most: usize,
    pub(super) stop: Option<Within<'a>>,
    /// Where no more rows match than this, they are scanned by their codes.
    pub(super) most_scanned: usize,
    pub(super) top: TopK<'a>,
}

impl FilteredSearch<'_> {
    /// Puts the nearest matching nodes into the top; too few of them when the walk was given up and there are no codes to
    /// scan. Gives distances computed and hops.
    pub(super) fn run(&mut self, scorer: &impl Scorer, has_codes: bool) -> (usize, usize) {
        Scratch::with(|scratch| {
            scratch.start();
            let scans = has_codes && self.matching.count() <= self.most_scanned;
            let found = if scans {
                self.scan(scorer, scratch);
                true
            } else {
                (self.share >= PLAIN_SHARE && self.walk_plainly(scorer, scratch))
                    || self.walk(scorer, scratch)
                    || has_codes && self.scan(scorer, scratch)
            };
            if !found {
                return (scratch.computed, scratch.hops);
            }
            let Scratch { beam, reranking, .. } = scratch;
            let matching = beam.candidates().filter(|found| self.matching.contains(found.node));
            let compared = reranking.rerank(self.query, matching, self.metric, &mut self.top);
            (scratch.computed + compared, scratch.hops)
        })
    }

    /// Compares all matching rows by their codes, the nearest of which the beam then holds.
    fn scan(&self, scorer: &impl Scorer, scratch: &mut Scratch) -> bool {
        scratch.beam.reset(self.top.k().saturating_mul(SCAN_KEPT).max(self.ef));
        let portion = self.ef.max(self.top.k()).saturating_mul(LOOKED_AT);
        if scorer.has_first_look() && self.matching.count() / WORTH_A_LOOK >= portion {
            self.scan_after_a_look(scorer, scratch, portion);
            return true;
        }
        let Scratch { beam, pending, scores, computed, .. } = scratch;
        let last = self.matching.words().len().saturating_sub(1);
        pending.clear();
        for (place, &word) in self.matching.words().iter().enumerate() {
            pending.extend(ones(word, place as u32 * u64::BITS));
            if pending.len() >= SCAN_ROWS || place == last {
                scores.resize(pending.len(), 0.0);
                scorer.score(pending, scores);
                for (&node, &distance) in pending.iter().zip(scores.iter()) {
                    beam.insert(Entry::new(distance, node));
                }
                pending.clear();
            }
        }
        *computed += self.matching.count();
        true
    }

    /// The same, where a first look tells which rows to compare first: a portion of them, then twice as many and so on,
    /// until a portion adds none to the nearest.
    fn scan_after_a_look(&self, scorer: &impl Scorer, scratch: &mut Scratch, mut portion: usize) {
        let Scratch { beam, pending, failing: near, scores, computed, .. } = scratch;
        let (k, count) = (self.top.k(), self.matching.count());
        pending.clear();
        pending.reserve(count);
        for (place, &word) in self.matching.words().iter().enumerate() {
            pending.extend(ones(word, place as u32 * u64::BITS));
        }
        scores.resize(count, 0.0);
        scorer.first_look(pending, scores);
        *computed += count;
        let mut sample: Vec<f32> = scores.iter().step_by((count / SAMPLED).max(1)).copied().collect();
        let (mut place, mut distances) = (0, Vec::new());
        let mut from = f32::NEG_INFINITY;
        loop {
            let last = portion * sample.len() / count;
            let to = if last < sample.len() {
                *sample[place..].select_nth_unstable_by(last - place, f32::total_cmp).1
            } else {
                f32::INFINITY
            };
            let found = between(pending, scores, from, to, near);
            distances.resize(found, 0.0);
            scorer.score(near, &mut distances);
            *computed += found;
            let kth = beam.get(k - 1);
            for (&node, &distance) in near.iter().zip(&distances) {
                beam.insert(Entry::new(distance, node));
            }
            if to == f32::INFINITY || (kth.is_some() && kth == beam.get(k - 1)) {
                return;
            }
            (from, place, portion) = (to, last, portion.saturating_mul(2));
        }
    }

    /// The walk that heeds no filter, its beam wider by the root of one over the share. False when it found far fewer
    /// matching nodes than it should have.
    fn walk_plainly(&mut self, scorer: &impl Scorer, scratch: &mut Scratch) -> bool {
        let nearest = scratch.descend(self.graph, scorer, self.entry, 0);
        let is_done = match self.stop {
            None => {
                let ef = widened(self.ef, self.share_of_nodes);
                scratch.search_layer_until(self.graph, scorer, 0, &[nearest], ef, &mut WholeBeam);
                false
            }
            Some(stop) => {
                let stop = &mut stop.among(self.matching);
                let most = widened(self.most, self.share_of_nodes);
                scratch.search_layer_until(self.graph, scorer, 0, &[nearest], most, stop);
                self.ef = scratch.beam.widest();
                self.ef < most
            }
        };
        let beam = &scratch.beam;
        let matching = beam.candidates().filter(|found| self.matching.contains(found.node)).count();
        let least = if is_done { 0.0 } else { self.share_of_nodes * beam.len() as f64 / 2.0 };
        matching >= self.top.k() && matching as f64 >= least
    }

    /// The walk over matching nodes. False when the scan is to be preferred after all.
    fn walk(&mut self, scorer: &impl Scorer, scratch: &mut Scratch) -> bool {
        let Self { graph, matching, .. } = *self;
        // A pruned row holds this many links, so that is what a step sees without a filter.
        let wanted = graph.fill_of_row(0);
        let nearest = scratch.descend(graph, scorer, self.entry, 0);
        let (scored, read) = scratch.two_epochs(graph.len());
        let Scratch { visited, beam, bridges, pending, failing, scores, computed, hops, .. } = scratch;
        let visited = &mut visited[..graph.len()];
        let mut stop = self.stop;
        beam.reset(widened_among(if stop.is_some() { self.most } else { self.ef }, self.share_of_nodes));
        bridges.reset(BRIDGES);
        visited[nearest.node as usize] = scored;
        let first = Entry::new(nearest.distance, nearest.node);
        if matching.contains(nearest.node) {
            beam.insert(first);
            beam.meet(1);
        } else {
            bridges.insert(first);
        }
        let mut bridge_hops = 0;
        let mut near = Near::default();
        let mut rows_read = 0;
        loop {
            let over_bridge = bridge_hops < BRIDGE_HOPS && bridges.is_ahead_of(beam);
            if !over_bridge
                && let (Some(stop), Some(place)) = (&mut stop, beam.peek())
                && stop.is_over(beam, place)
            {
                break;
            }
            let next = if over_bridge { bridges.expand_next() } else { beam.expand_next() };
            let Some(node) = next else { break };
            *hops += 1;
            pending.clear();
            failing.clear();
            let mut see = |neighbour: u32, visited: &mut [u16]| {
                pending.push(neighbour);
                if visited[neighbour as usize] == scored {
                    pending.pop();
                }
                visited[neighbour as usize] = scored;
            };
            let mut sight = 0;
            for &neighbour in graph.row(0, node) {
                if neighbour as usize >= visited.len() {
                    break;
                }
                if matching.contains(neighbour) {
                    see(neighbour, visited);
                    sight += 1;
                } else {
                    failing.push(neighbour);
                }
            }
            if over_bridge {
                bridge_hops += 1;
                near.add(bridge_hops, sight, failing.len());
            }
            if sight < wanted {
                failing.iter().take(ROWS_AHEAD).for_each(|&bridge| graph.prefetch(bridge));
                for (place, &bridge) in failing.iter().enumerate() {
                    if sight >= wanted {
                        break;
                    }
                    failing.get(place + ROWS_AHEAD).into_iter().for_each(|&bridge| graph.prefetch(bridge));
                    if visited[bridge as usize] == read {
                        continue;
                    }
                    if !over_bridge {
                        visited[bridge as usize] = read;
                    }
                    rows_read += 1;
                    for &neighbour in graph.row(0, bridge) {
                        if neighbour as usize >= visited.len() {
                            break;
                        }
                        if matching.contains(neighbour) {
                            see(neighbour, visited);
                            sight += 1;
                        }
                    }
                }
            }
            let hits = pending.len();
            if over_bridge {
                for &bridge in failing.iter() {
                    if visited[bridge as usize] != scored && visited[bridge as usize] != read {
                        visited[bridge as usize] = scored;
                        pending.push(bridge);
                    }
                }
            }
            scores.resize(pending.len(), 0.0);
            scorer.score(pending, scores);
            *computed += pending.len();
            beam.meet(hits);
            for (place, (&node, &distance)) in pending.iter().zip(scores.iter()).enumerate() {
                let entry = Entry::new(distance, node);
                if place < hits {
                    beam.insert(entry);
                } else {
                    bridges.insert(entry);
                }
            }
            let against =
                bridge_hops == BRIDGE_HOPS && over_bridge && near.share() < self.share_of_nodes * AGAINST;
            if against || *computed + rows_read * ROW_COST > matching.count() {
                return false;
            }
        }
        if stop.is_some() {
            self.ef = beam.widest();
        }
        beam.len() >= self.top.k()
    }
}

/// Gathers the nodes whose looks lie above `from` and not above `to`.
fn between(nodes: &[u32], looks: &[f32], from: f32, to: f32, found: &mut Vec<u32>) -> usize {
    found.resize(nodes.len(), 0);
    let mut count = 0;
    let slots = &mut found[..nodes.len()];
    for (&node, &look) in nodes.iter().zip(looks) {
        // Written in any case and counted if it is one.
        slots[count] = node;
        count += usize::from((look > from) & (look <= to));
    }
    found.truncate(count);
    count
}

/// The beam of a walk that heeds no filter where a share of the nodes matches; wider by one entry for a single deleted node.
pub(super) fn widened(ef: usize, share: f64) -> usize {
    (ef as f64 / share.sqrt()).ceil() as usize
}

/// The beam of a walk over matching nodes only. Two steps through others see some of the nearest matching ones, not all: of
/// wordnet-minilm-384, where 9 % match at random, a beam half as wide again finds as many as one without a filter.
pub(super) fn widened_among(ef: usize, share: f64) -> usize {
    (ef as f64 / share.powf(1.0 / 6.0)).ceil() as usize
}

/// How many nodes match around the query: neighbours of the later half of the bridges, which are nearer to it.
#[derive(Default)]
struct Near {
    matching: usize,
    seen: usize,
}

impl Near {
    fn add(&mut self, bridge_hops: usize, matching: usize, failing: usize) {
        if bridge_hops * 2 > BRIDGE_HOPS {
            self.matching += matching;
            self.seen += matching + failing;
        }
    }

    fn share(&self) -> f64 {
        self.matching as f64 / self.seen.max(1) as f64
    }
}

#[cfg(test)]
mod tests;
