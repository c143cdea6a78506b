//! Random writes, merges and searches beside an ordered map and brute force, from printed seeds.

use crate::random::Rng;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;
use vdb_distance::{Distance, Metric};
use vdb_index::{Answer, BitSet, Change, HnswParams, LiveIndex, LiveParams, Request, Snapshot};

const METRICS: [Metric; 4] = [Metric::Euclidean, Metric::Cosine, Metric::DotProduct, Metric::Manhattan];
const SEEDS: u64 = 60;
const STEPS: usize = 120;

type Model = BTreeMap<u32, Vec<f32>>;

/// Offsets at equal distance, largest first: not the order that rows are in.
fn tie_break(a: u32, b: u32) -> Ordering {
    b.cmp(&a)
}

/// Every matching row with its distance, nearest first.
fn all_hits(model: &Model, metric: Metric, request: &Request<'_>) -> Vec<(u32, Distance)> {
    let is_allowed = |offset: &u32| request.allowed.is_none_or(|allowed| allowed.contains(*offset));
    let rows = model.iter().filter(|(offset, _)| is_allowed(offset));
    let distance = |row: &[f32]| Distance::from_value(metric, metric.calculate(request.query, row));
    let mut hits: Vec<(u32, Distance)> = rows.map(|(&offset, row)| (offset, distance(row))).collect();
    hits.sort_by(|a, b| a.1.cmp(&b.1).then_with(|| tie_break(a.0, b.0)));
    hits
}

fn pairs(answer: &Answer) -> Vec<(u32, Distance)> {
    answer.hits.iter().map(|hit| (hit.offset, hit.distance)).collect()
}

struct Test {
    rng: Rng,
    metric: Metric,
    dim: usize,
    index: LiveIndex,
    model: Model,
    version: u64,
    /// Snapshots and what was in them.
    kept: Vec<(Arc<Snapshot>, Model, u64)>,
    /// Hits wanted of walks, and found.
    wanted: usize,
    right: usize,
}

impl Test {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let metric = METRICS[rng.below(METRICS.len())];
        let hnsw = HnswParams {
            m: Some(2 + rng.below(3)),
            ef_construction: 1 + rng.below(12),
            exact_scan_factor: 0,
            seed: rng.next(),
        };
        let params = LiveParams { hnsw, least_recent: 1 + rng.below(60) };
        let dim = 1 + rng.below(5);
        let index = LiveIndex::new(metric, dim, params);
        let (model, kept) = (Model::new(), Vec::new());
        Self { rng, metric, dim, index, model, version: 0, kept, wanted: 0, right: 0 }
    }

    fn vector(&mut self) -> Vec<f32> {
        if self.rng.below(6) == 0 { vec![1.0; self.dim] } else { self.rng.vector(self.dim) }
    }

    /// An offset that is in use, with luck.
    fn offset(&mut self) -> u32 {
        let end = self.model.last_key_value().map_or(0, |(&last, _)| last as usize);
        self.rng.below(end + 2) as u32
    }

    fn write(&mut self) {
        let count = if self.rng.below(5) == 0 { self.rng.below(60) } else { 1 + self.rng.below(4) };
        // Mostly a bit more comes than goes; once in a while nearly everything goes.
        let kinds = if self.rng.below(12) == 0 { [1, 1] } else { [5, 7] };
        let rows: Vec<Vec<f32>> = (0..count).map(|_| self.vector()).collect();
        let mut changes = Vec::new();
        let (mut inserted, mut changed) = (Vec::new(), false);
        for row in &rows {
            let kind = self.rng.below(10);
            if kind < kinds[0] {
                let free = (0..).find(|offset| !self.model.contains_key(offset)).unwrap();
                self.model.insert(free, row.clone());
                inserted.push(free);
                changes.push(Change::Insert(row));
                changed = true;
            } else if kind < kinds[1] {
                let offset = self.offset();
                self.model.insert(offset, row.clone());
                changes.push(Change::Set(offset, row));
                changed = true;
            } else {
                let offset = self.offset();
                changed |= self.model.remove(&offset).is_some();
                changes.push(Change::Remove(offset));
            }
        }
        self.version += u64::from(changed);
        let written = self.index.write(&changes);
        assert_eq!((written.version, written.offsets), (self.version, inserted));
    }

    fn filter(&mut self) -> Option<BitSet> {
        let share = [0, 2, 3, 20][self.rng.below(4)];
        let len = self.rng.below(self.model.len() + 40);
        (share > 0).then(|| BitSet::from_fn(len, |_| self.rng.below(share) == 0))
    }

    /// Searches a snapshot in every way.
    fn check(&mut self, snapshot: &Snapshot, model: &Model) {
        let query = self.vector();
        let allowed = self.filter();
        let k = self.rng.below(9);
        let request = Request { allowed: allowed.as_ref(), tie_break: &tie_break, ..Request::new(&query, k) };
        let all = all_hits(model, self.metric, &request);
        let nearest = &all[..k.min(all.len())];
        let exact = snapshot.search_exact(&request);
        assert!(exact.exact);
        assert_eq!(pairs(&exact), nearest);
        for answer in [snapshot.search(&request, 1_000), snapshot.search_for_recall(&request, 0.99)] {
            let hits = pairs(&answer);
            assert_eq!(hits.len(), nearest.len());
            assert!(hits.iter().all(|hit| all.contains(hit)), "a hit that is none: {hits:?}, {all:?}");
            let in_order = |a: &(u32, Distance), b: &(u32, Distance)| {
                a.1.cmp(&b.1).then_with(|| tie_break(a.0, b.0)) == Ordering::Less
            };
            assert!(hits.is_sorted_by(in_order), "{hits:?}");
            assert!(!answer.exact || hits == nearest);
            self.wanted += nearest.len();
            let farthest = nearest.last();
            self.right += hits.iter().filter(|hit| farthest.is_some_and(|last| hit.1 <= last.1)).count();
        }
        let end = model.last_key_value().map_or(0, |(&last, _)| last) + 3;
        for offset in 0..end {
            assert_eq!(snapshot.row(offset).as_ref(), model.get(&offset), "row {offset}");
        }
        assert_eq!((snapshot.len(), snapshot.is_empty()), (model.len(), model.is_empty()));
    }

    fn step(&mut self) {
        match self.rng.below(12) {
            0 => {
                self.index.merge();
                let stats = self.index.stats();
                assert_eq!((stats.recent, stats.hidden), (0, 0));
            }
            1..8 => self.write(),
            8 => self.kept.push((self.index.snapshot(), self.model.clone(), self.version)),
            9 if self.kept.len() > 3 => {
                let one = self.rng.below(self.kept.len());
                self.kept.remove(one);
            }
            _ => {}
        }
        let model = self.model.clone();
        let snapshot = self.index.snapshot();
        assert_eq!(snapshot.version(), self.version);
        self.check(&snapshot, &model);
        drop(snapshot);
        if !self.kept.is_empty() {
            let one = self.rng.below(self.kept.len());
            let (snapshot, model, version) = self.kept[one].clone();
            assert_eq!(snapshot.version(), version, "a snapshot of before");
            self.check(&snapshot, &model);
        }
        let stats = self.index.stats();
        assert_eq!((stats.version, stats.live), (self.version, self.model.len()));
        assert!(!stats.is_merging && (stats.bytes > 0 || self.version == 0), "{stats:?}");
    }
}

#[test]
fn random_writes_agree_with_an_ordered_map_and_brute_force() {
    let (mut merges, mut wanted, mut right) = (0, 0, 0);
    for seed in 0..SEEDS {
        let mut test = Test::new(seed);
        for step in 0..STEPS {
            let stepped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test.step()));
            if let Err(panic) = stepped {
                eprintln!("seed {seed}, step {step}, {}", test.metric);
                std::panic::resume_unwind(panic);
            }
        }
        merges += test.index.stats().merges;
        wanted += test.wanted;
        right += test.right;
    }
    assert!(merges > 5 * SEEDS, "{merges} merges");
    // Beams that hold all rows; only walks that cannot come back to where they are from miss any.
    assert!(right as f64 > 0.97 * wanted as f64, "{right} of {wanted} hits are right");
}

/// Recent rows that are overwritten again and again are moved together, not merged.
#[test]
fn one_hot_row_never_makes_a_merge() {
    let index =
        LiveIndex::new(Metric::Euclidean, 1, LiveParams { least_recent: 50, ..LiveParams::default() });
    for value in 0..1_000u32 {
        index.write(&[Change::Set(0, &[value as f32])]);
        let stats = index.stats();
        assert_eq!((stats.merges, stats.live), (0, 1));
        assert!(stats.recent <= 50, "{stats:?}");
        assert_eq!(index.snapshot().row(0), Some(vec![value as f32]));
    }
}

#[test]
fn rows_that_only_go_are_merged_away() {
    let params = LiveParams { least_recent: 100, ..LiveParams::default() };
    let index = LiveIndex::new(Metric::Cosine, 3, params);
    let mut rng = Rng(5);
    let rows: Vec<Vec<f32>> = (0..1_000).map(|_| rng.vector(3)).collect();
    index.write(&rows.iter().map(|row| Change::Insert(row)).collect::<Vec<_>>());
    for offset in 0..1_000 {
        index.write(&[Change::Remove(offset)]);
        let stats = index.stats();
        assert_eq!(stats.live, 999 - offset as usize);
        assert!(stats.hidden <= 32.max((stats.live + stats.hidden) / 10), "{stats:?}");
    }
    assert!(index.snapshot().is_empty());
    assert_eq!(index.insert(&rows[3]), 0);
}

#[test]
fn what_cannot_be_written_changes_nothing() {
    let index = LiveIndex::new(Metric::Euclidean, 2, LiveParams::default());
    index.insert(&[1.0, 2.0]);
    let refused = |changes: &[Change<'_>]| {
        let write = std::panic::AssertUnwindSafe(|| index.write(changes));
        std::panic::catch_unwind(write).unwrap_err().downcast_ref::<String>().unwrap().clone()
    };
    let message = refused(&[Change::Remove(0), Change::Insert(&[1.0])]);
    assert!(message.contains("dimension of a written vector"), "{message}");
    let message = refused(&[Change::Remove(0), Change::Set(u32::MAX, &[1.0, 2.0])]);
    assert!(message.contains("more than 2147483647 rows"), "{message}");
    assert_eq!((index.snapshot().version(), index.snapshot().row(0)), (1, Some(vec![1.0, 2.0])));
    // Offsets may be left out, and are used later.
    index.write(&[Change::Set(3, &[4.0, 4.0])]);
    assert_eq!((index.insert(&[5.0, 5.0]), index.insert(&[6.0, 6.0]), index.insert(&[7.0, 7.0])), (1, 2, 4));
}
