//! The order in which buckets are probed: by how far the query's projections are from falling into them.
//!
//! A bucket costs the sum of its two cells' costs (`hasher`), and all tables share one order, so that a table in which
//! the query lies close to many boundaries is probed more (query-directed multi-probe: Lv et al., VLDB 2007, §4.4).
//! There, buckets come off a heap one by one. Here they come in *shells*, all those whose costs lie between two
//! thresholds: with both cells' values sorted by cost a shell is enumerated at a few nanoseconds a bucket, and a
//! counting sort by 256 levels of cost orders it. A heap of some thousand entries costs ten times that.
//!
//! Thresholds come from the fact that projections of any vector onto random directions are normally distributed: how
//! many buckets of a table lie within a cost, in units of the mean squared projection, is found once on random numbers
//! ([`Reach`]). It decides how the work is cut up, not which buckets come first.

use super::hasher::{Cells, Hasher, cell_projections};
use super::params::LshFamily;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// Levels of cost that a shell is sorted by.
const LEVELS: usize = 256;
/// Tables that thresholds are found on.
const SAMPLED_TABLES: usize = 8;
/// The most buckets of a table that a threshold is found for, as a power of two.
const MOST_DOUBLINGS: usize = 12;

/// A bucket to look into.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Probe {
    pub(super) cost: f32,
    pub(super) table: u32,
    pub(super) code: u32,
}

/// Within which cost a table has about 2^i buckets, in units of the mean squared projection.
#[derive(Debug, Clone)]
pub(super) struct Reach {
    thresholds: Vec<f32>,
}

impl Reach {
    pub(super) fn new(hasher: &Hasher, family: LshFamily) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let Cells { low, high } = hasher.cells;
        let doublings = MOST_DOUBLINGS.min(low + high);
        let mut sums = vec![0.0f32; doublings];
        for _ in 0..SAMPLED_TABLES {
            let [low, high] = [low, high].map(|bits| {
                let count = cell_projections(family, bits);
                let projections: Vec<f32> = (0..count).map(|_| StandardNormal.sample(&mut rng)).collect();
                let mut costs = Vec::new();
                hasher.costs(&projections, &mut costs);
                costs.sort_unstable_by(f32::total_cmp);
                costs
            });
            // Among the cheapest m there is no pair of places i and j with (i + 1)(j + 1) > m.
            let most = 1 << doublings;
            let pairs = low
                .iter()
                .enumerate()
                .flat_map(|(i, a)| high.iter().take(most / (i + 1)).map(move |b| a + b));
            let mut costs: Vec<f32> = pairs.collect();
            costs.sort_unstable_by(f32::total_cmp);
            sums.iter_mut()
                .enumerate()
                .for_each(|(i, sum)| *sum += costs[(1 << i) - 1 + usize::from(i == 0)]);
        }
        Self { thresholds: sums.into_iter().map(|sum| sum / SAMPLED_TABLES as f32).collect() }
    }

    /// The cost within which a table has about 2^`doublings` buckets; infinite where that is not known.
    fn threshold(&self, doublings: usize) -> f32 {
        self.thresholds.get(doublings).copied().unwrap_or(f32::INFINITY)
    }
}

/// One query's buckets, in shells; its memory is used again for the next query.
#[derive(Debug, Default)]
pub(super) struct Shells {
    /// Costs of all values of the low and the high cell of each table, one after the other.
    costs: Vec<f32>,
    cell_costs: Vec<f32>,
    /// The mean squared projection.
    unit: f32,
    /// The greatest cost that was enumerated.
    reached: f32,
    doublings: usize,
    low: Vec<(f32, u32)>,
    high: Vec<(f32, u32)>,
    found: Vec<Probe>,
    shell: Vec<Probe>,
}

impl Shells {
    /// Starts with a first shell of about `probes` buckets.
    pub(super) fn start(&mut self, hasher: &Hasher, projections: &[f32], probes: usize) {
        self.costs.clear();
        let mut sum = 0.0;
        for (low, high) in hasher.shares(projections) {
            for share in [low, high] {
                hasher.costs(share, &mut self.cell_costs);
                self.costs.extend_from_slice(&self.cell_costs);
                sum += share.iter().map(|projection| projection * projection).sum::<f32>();
            }
        }
        let count: usize = hasher.shares(projections).map(|(low, high)| low.len() + high.len()).sum();
        self.unit = sum / count as f32;
        self.reached = -1.0;
        self.doublings = (probes / hasher.tables).max(1).ilog2() as usize;
    }

    /// The next shell, likeliest bucket first; `None` when all buckets were enumerated, or would be more than `most`.
    pub(super) fn next(&mut self, hasher: &Hasher, reach: &Reach, most: usize) -> Option<&[Probe]> {
        let from = self.reached;
        if from == f32::INFINITY {
            return None;
        }
        let threshold = reach.threshold(self.doublings);
        let to = if threshold == f32::INFINITY { threshold } else { threshold * self.unit };
        self.found.clear();
        let Cells { low, high } = hasher.cells;
        for (table, costs) in self.costs.chunks_exact((1 << low) + (1 << high)).enumerate() {
            let (low_costs, high_costs) = costs.split_at(1 << low);
            sorted_within(low_costs, to, &mut self.low);
            sorted_within(high_costs, to, &mut self.high);
            for &(a, low_value) in &self.low {
                let partners = self.high.iter().skip_while(|(b, _)| a + b <= from);
                for &(b, high_value) in partners.take_while(|(b, _)| a + b <= to) {
                    let code = low_value | high_value << low;
                    self.found.push(Probe { cost: a + b, table: table as u32, code });
                }
            }
            if self.found.len() > most {
                return None;
            }
        }
        self.reached = to;
        self.doublings += 1;
        sort_by_level(&self.found, from.max(0.0), &mut self.shell);
        Some(&self.shell)
    }
}

/// (cost, value) of the values within a cost, cheapest first.
fn sorted_within(costs: &[f32], most: f32, sorted: &mut Vec<(f32, u32)>) {
    sorted.clear();
    sorted
        .extend(costs.iter().zip(0..).filter(|(cost, _)| **cost <= most).map(|(&cost, value)| (cost, value)));
    sorted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
}

/// Orders probes by their level of cost, stably.
fn sort_by_level(probes: &[Probe], least: f32, sorted: &mut Vec<Probe>) {
    let greatest = probes.iter().fold(least, |greatest, probe| greatest.max(probe.cost));
    let scale = (LEVELS - 1) as f32 / (greatest - least).max(f32::MIN_POSITIVE);
    let level = |probe: &Probe| ((probe.cost - least) * scale) as usize;
    let mut places = [0usize; LEVELS + 1];
    probes.iter().for_each(|probe| places[level(probe).min(LEVELS - 1) + 1] += 1);
    (1..=LEVELS).for_each(|i| places[i] += places[i - 1]);
    sorted.clear();
    sorted.resize(probes.len(), Probe { cost: 0.0, table: 0, code: 0 });
    for probe in probes {
        let place = &mut places[level(probe).min(LEVELS - 1)];
        sorted[*place] = *probe;
        *place += 1;
    }
}
