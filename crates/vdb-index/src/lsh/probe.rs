//! The order in which buckets are probed: by how far the query's projections are from falling into them.
//!
//! A bucket that differs from the query's own in some bits costs the sum of the squared projections of these bits.
//! Sets of flipped bits are enumerated cheapest first with a heap (Lv et al., VLDB 2007, §4.4): with the bits of a
//! table sorted by cost, every set is reached exactly once from the set {0} by moving its last member one place on
//! ("shift") or adding the next place ("expand"). One heap serves all tables, so that a table in which the query lies
//! close to many hyperplanes is probed more.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// The sum of squared margins of the bits in `flipped`.
pub(super) fn cost(projections: &[f32], flipped: u64) -> f32 {
    let mut rest = flipped;
    let mut sum = 0.0;
    while rest != 0 {
        let margin = projections[rest.trailing_zeros() as usize];
        sum += margin * margin;
        rest &= rest - 1;
    }
    sum
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
    code: u64,
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
    type Item = (usize, u64);

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
        let flips = (0..functions).filter(|i| set >> i & 1 == 1).map(|i| 1u64 << sorted[i].1);
        Some((table, code ^ flips.sum::<u64>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enumerates_every_bucket_once_cheapest_first() {
        let projections = [0.5, -0.1, 0.9, -1.5, 0.3, /* second table */ 2.0, -0.2, 0.7, 0.4, -0.6];
        let probes: Vec<(usize, u64)> = ProbeSequence::new(&projections, 5).collect();
        assert_eq!(probes.len(), 64);
        let mut unique = probes.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), 64);
        let costs: Vec<f32> = probes
            .iter()
            .map(|&(table, code)| {
                let own = &projections[table * 5..table * 5 + 5];
                cost(own, code ^ super::super::code(own))
            })
            .collect();
        assert!(costs.windows(2).all(|pair| pair[0] <= pair[1] + 1e-6), "{costs:?}");
        assert_eq!((costs[0], costs[1]), (0.0, 0.0));
    }

    #[test]
    fn goes_up_to_sixty_four_bits() {
        let projections = [1.0; 64];
        assert_eq!(ProbeSequence::new(&projections, 64).take(5_000).count(), 5_000);
    }
}
