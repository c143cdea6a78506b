//! The order in which buckets are probed: by how far the query's projections are from falling into them.
//!
//! A bucket that differs from the query's own in some bits costs the sum of the squared projections of these bits.
//! Sets of flipped bits are enumerated cheapest first with a heap (Lv et al., VLDB 2007, §4.4): with the bits of a
//! table sorted by cost, every set is reached exactly once from the set {0} by moving its last member one place on
//! ("shift") or adding the next place ("expand"). One heap serves all tables, so that a table in which the query lies
//! close to many hyperplanes is probed more.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// Every bucket (table, code) of tables with these costs, likeliest first, in one go: cheaper than probing when many
/// buckets are needed.
pub(super) fn ranked(costs: &[Vec<f32>]) -> impl Iterator<Item = (usize, usize)> {
    let buckets = |(table, costs): (usize, &Vec<f32>)| -> Vec<(f32, usize, usize)> {
        costs.iter().enumerate().map(|(code, &cost)| (cost, table, code)).collect()
    };
    let mut ranked: Vec<(f32, usize, usize)> = costs.iter().enumerate().flat_map(buckets).collect();
    ranked.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    ranked.into_iter().map(|(_, table, code)| (table, code))
}

/// For every code of a table, the sum of the squared margins of the bits in which it differs from the query's.
pub(super) fn code_costs(projections: &[f32]) -> Vec<f32> {
    let mut costs = vec![0.0];
    for &margin in projections {
        let (clear, set) = if margin >= 0.0 { (margin * margin, 0.0) } else { (0.0, margin * margin) };
        for code in 0..costs.len() {
            costs.push(costs[code] + set);
            costs[code] += clear;
        }
    }
    costs
}

/// A set of flipped bits of one table; `set` has bit i for the i-th cheapest projection.
#[derive(Debug, Clone, Copy)]
struct Probe {
    cost: f32,
    table: usize,
    set: u64,
}

impl Ord for Probe {
    fn cmp(&self, other: &Self) -> Ordering {
        let place = (self.table, self.set).cmp(&(other.table, other.set));
        self.cost.total_cmp(&other.cost).then(place)
    }
}

impl PartialOrd for Probe {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Probe {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Probe {}

/// What probing needs to know of one table.
struct TableMargins {
    /// The query's own code.
    code: usize,
    /// (squared margin, bit), cheapest first.
    sorted: Vec<(f32, u32)>,
}

/// The buckets (table, code) that a query should look into, likeliest first.
pub(super) struct ProbeSequence {
    tables: Vec<TableMargins>,
    heap: BinaryHeap<Reverse<Probe>>,
}

impl ProbeSequence {
    /// `projections` holds `functions` values per table.
    pub(super) fn new(projections: &[f32], functions: usize) -> Self {
        let tables: Vec<TableMargins> = projections
            .chunks_exact(functions)
            .map(|projections| {
                let squares = projections.iter().map(|margin| margin * margin);
                let mut sorted: Vec<(f32, u32)> = squares.zip(0..).collect();
                sorted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                TableMargins { code: super::code(projections), sorted }
            })
            .collect();
        let heap = (0..tables.len()).map(|table| Reverse(Probe { cost: 0.0, table, set: 0 })).collect();
        Self { tables, heap }
    }

    fn push(&mut self, table: usize, set: u64) {
        let sorted = &self.tables[table].sorted;
        let cost = (0..sorted.len()).filter(|i| set >> i & 1 == 1).map(|i| sorted[i].0).sum();
        self.heap.push(Reverse(Probe { cost, table, set }));
    }
}

impl Iterator for ProbeSequence {
    type Item = (usize, usize);

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse(Probe { table, set, .. }) = self.heap.pop()?;
        let functions = self.tables[table].sorted.len();
        if set == 0 {
            self.push(table, 1);
        } else {
            let last = 63 - set.leading_zeros() as usize;
            if last + 1 < functions {
                let next = 1u64 << (last + 1);
                self.push(table, (set ^ (1 << last)) | next);
                self.push(table, set | next);
            }
        }
        let TableMargins { code, sorted } = &self.tables[table];
        let flips = (0..functions).filter(|i| set >> i & 1 == 1).map(|i| 1 << sorted[i].1);
        Some((table, code ^ flips.sum::<usize>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enumerates_every_bucket_once_cheapest_first() {
        let projections = [0.5, -0.1, 0.9, -1.5, 0.3, /* second table */ 2.0, -0.2, 0.7, 0.4, -0.6];
        let probes: Vec<(usize, usize)> = ProbeSequence::new(&projections, 5).collect();
        assert_eq!(probes.len(), 64);
        let mut unique = probes.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), 64);
        let costs: Vec<f32> = probes
            .iter()
            .map(|&(table, code)| {
                let own = &projections[table * 5..table * 5 + 5];
                code_costs(own)[code]
            })
            .collect();
        assert!(costs.windows(2).all(|pair| pair[0] <= pair[1] + 1e-6), "{costs:?}");
        assert_eq!((costs[0], costs[1]), (0.0, 0.0));
        let tables: Vec<Vec<f32>> = projections.chunks(5).map(code_costs).collect();
        let ranked: Vec<(usize, usize)> = ranked(&tables).collect();
        assert_eq!(ranked, probes);
    }
}
