//! Rows that walks miss, and linking them anew.
//!
//! A new row is linked to what the walk for it comes by. Where clusters lie far from each other, walks for two rows of a new
//! cluster may come down in different old ones, and the cluster grows in two parts that know nothing of each other; and
//! where whole clusters are deleted, ways that led through them are gone. All rows are reachable still, but walks end in
//! the wrong part. So, whenever a share of the rows is new or gone, walks for a sample of the rows are looked at. A row is
//! *missed* when the walk for it ends with neither it nor any of its neighbours in the beam. It is linked anew, from both
//! where the walk ended and where it is. As long as rows are missed, another sample is taken, twice as large.
//!
//! In a sound graph hardly a row is missed, and the first sample is all that it costs.

use super::Hnsw;
use super::build::Plan;
use super::search::{Candidate, Scratch};
use super::select::select;
use super::space::{Scorer, WithScorer};
use crate::hash::mix;
use crate::vectors::Vectors;
use rayon::prelude::*;

/// Rows are looked at when one in so many is new or gone since they last were.
const CHANGED_SHARE: usize = 10;
/// Rows that are looked at first: one in so many, and at most so many. So this costs a walk or less for each change.
const SAMPLE_SHARE: usize = 8;
const SAMPLE: usize = 1_024;
/// Most walks are as wide as m. What these miss is looked for by walks that are so many times as wide: in one place, short
/// walks end somewhere, too.
const SURE_BEAM: usize = 4;

impl Hnsw {
    /// Looks for rows that walks miss if it is time to. Says whether any was linked anew; then the graph is
    /// to be connected.
    pub(super) fn link_missed_rows(&mut self, vectors: &Vectors) -> bool {
        let live = self.live_count();
        if self.unchecked * CHANGED_SHARE < live || live < SAMPLE_SHARE {
            return false;
        }
        self.unchecked = 0;
        self.checks += 1;
        let salt = mix(self.params.seed ^ self.checks);
        let mut rows: Vec<u32> = self.live().collect();
        rows.sort_by_cached_key(|&row| (mix(salt ^ u64::from(row)), row));
        let mut rest = rows.as_slice();
        let mut count = (live / SAMPLE_SHARE).min(SAMPLE);
        let mut linked = 0;
        while !rest.is_empty() {
            let (sample, others) = rest.split_at(count.min(rest.len()));
            let missed = self.missed(vectors, sample);
            if missed.is_empty() {
                break;
            }
            self.drop_tree();
            let plan = |hnsw: &Hnsw, place: usize| hnsw.plan_anew(vectors, missed[place]);
            self.link(vectors, &missed, linked, &plan, &mut |_| true);
            linked += missed.len();
            (rest, count) = (others, 2 * count);
        }
        linked > 0
    }

    /// Those of `rows` that are missed by the walks for them.
    fn missed(&self, vectors: &Vectors, rows: &[u32]) -> Vec<u32> {
        let is_missed =
            |&&row: &&u32| self.space.with_row(vectors, row, Looking { hnsw: self, row }).is_some();
        rows.par_iter().with_min_len(16).filter(is_missed).copied().collect()
    }

    /// The links of a row that is linked already; as they are, if walks have come to find it.
    fn plan_anew(&self, vectors: &Vectors, row: u32) -> Plan {
        let work = |ends: Vec<u32>| {
            self.space.with_row(vectors, row, Anew { hnsw: self, vectors, row, ends: &ends })
        };
        let ends = self.space.with_row(vectors, row, Looking { hnsw: self, row });
        ends.map_or_else(
            || Plan {
                node: row,
                layers: vec![self.graph.links(0, row).to_vec()],
                near: Vec::new(),
                computed: 0,
            },
            work,
        )
    }
}

/// Walks for a row and gives where the walk ended, if it missed the row.
struct Looking<'a> {
    hnsw: &'a Hnsw,
    row: u32,
}

impl WithScorer for Looking<'_> {
    type Output = Option<Vec<u32>>;

    fn run(self, own: &impl Scorer) -> Option<Vec<u32>> {
        let Looking { hnsw: Hnsw { graph, .. }, row } = self;
        let entry = graph.entry?;
        let links = graph.links(0, row);
        Scratch::with(|scratch| {
            scratch.start();
            let nearest = scratch.descend(graph, own, entry, 0);
            let mut miss = |width: usize| {
                let found = scratch.search_layer(graph, own, 0, nearest, width);
                let is_near = found.iter().any(|found| found.node == row || links.contains(&found.node));
                (!is_near).then(|| found.iter().map(|found| found.node).collect())
            };
            miss(graph.m())?;
            miss(SURE_BEAM * graph.m())
        })
    }
}

/// Finds the links of a missed row from its own surroundings and from the end of the walk that missed it.
struct Anew<'a> {
    hnsw: &'a Hnsw,
    vectors: &'a Vectors,
    row: u32,
    ends: &'a [u32],
}

impl WithScorer for Anew<'_> {
    type Output = Plan;

    fn run(self, own: &impl Scorer) -> Plan {
        let Anew { hnsw: Hnsw { graph, params, space, .. }, vectors, row, ends } = self;
        let links = graph.links(0, row);
        let mut entries = links.to_vec();
        entries.extend(ends);
        entries.sort_unstable();
        entries.dedup();
        let copy_distance = space.copy_distance(vectors, row, own);
        let max = graph.max_degree(0);
        let fill = links.len().max(graph.fill_of_row(0));
        Scratch::with(|scratch| {
            scratch.start();
            let mut found = space.ranked(&entries, own);
            let near = scratch.search_layer_from(graph, own, 0, &found, params.ef_construction);
            // The end of the walk may be farther than all that the beam holds.
            found.extend(near);
            found.sort_unstable_by(Candidate::order);
            found.dedup_by_key(|found| found.node);
            found.retain(|found| found.node != row && vectors.live().contains(found.node));
            let mut computed = scratch.computed + entries.len();
            let links = select(space, vectors, &found, copy_distance, max, fill, &mut computed);
            Plan { node: row, layers: vec![links], near: Vec::new(), computed }
        })
    }
}

#[cfg(test)]
mod tests;
