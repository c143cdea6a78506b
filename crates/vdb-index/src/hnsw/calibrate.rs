//! Which threshold of the stop rule gives which recall, found on rows that the graph has not seen.
//!
//! A bulk insertion keeps the last rows of its order out, and walks for them once everything else is linked: they are
//! queries that the graph knows nothing of. Where no rows can be kept out, some are taken out of a copy of the graph as
//! deleted rows are. (Rows that stay in the graph are no queries: their neighbours are linked to them. Walks that ignore
//! the row itself err on the other side: its neighbours may have no other link.)
//!
//! One walk a row tells about all thresholds, since a lower one ends the same walk earlier.
//!
//! The table is made when there are [`LEAST`] rows and again when as many rows came, changed or went as half of those that
//! there are now.

use super::Hnsw;
use super::search::{Beam, Scratch, StopRule};
use super::space::{Scorer, Space};
use super::stop::{FAR, Squared};
use super::tree::Tree;
use crate::hash::mix;
use crate::vectors::Vectors;
use crate::{BitSet, FlatScan, Request};
use rayon::prelude::*;
use vdb_distance::Metric;

/// Fewer rows are not worth a table: the exact scan answers.
const LEAST: usize = 1_024;
/// Rows that stand for queries, at most, and at most one row in so many.
const QUERIES: usize = 1_024;
const QUERY_SHARE: usize = 8;
/// Numbers of hits that are looked at.
const KS: [usize; 5] = [1, 3, 10, 30, 100];
/// Rows to look for, so that the greatest k are left when those that stand for queries are not counted.
const NEIGHBORS: usize = 160;
/// The beam of a walk that is looked at.
const WIDEST: usize = 1_024;
/// Where in the beam the true neighbours are looked for.
const LOOKED_AT: usize = 400;
/// Thresholds that are looked at.
const THRESHOLDS: usize = 78;
/// How much farther than any of the rows a query may walk.
const MARGIN: usize = 4;
/// Version of the stored form.
const VERSION: u32 = 1;
/// The least width of a beam while there is no table.
const GUESS: f64 = 64.0;
const MILLION: f64 = 1e6;

fn threshold(place: usize) -> f32 {
    match place {
        0..25 => 0.5 + 0.02 * place as f32,
        25..66 => 1.0 + 0.01 * (place - 25) as f32,
        _ => 1.4 + 0.05 * (place - 65) as f32,
    }
}

/// What a threshold gives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Point {
    /// In millionths.
    recall: u32,
    /// The mean width of a beam that walks as far.
    ef: u32,
    /// The greatest.
    most: u32,
}

/// What thresholds give, for each of [`KS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table(Vec<[Point; THRESHOLDS]>);

/// How to search for a recall.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Effort {
    pub(super) threshold: f32,
    /// The typical width of a beam that walks as far.
    pub(super) ef: usize,
    /// The width that no walk passes.
    pub(super) most: usize,
}

impl Effort {
    /// A beam of one width for all queries.
    pub(super) fn beam(ef: usize) -> Effort {
        Effort { threshold: f32::INFINITY, ef, most: ef }
    }

    /// What is likely to do for so few rows that there is no table.
    pub(super) fn guess(k: usize, target: f64) -> Effort {
        let times = (0.1 / (1.0 - target)).clamp(2.0, 16.0);
        Effort::beam((k as f64 * times).ceil().max(GUESS) as usize)
    }

    /// The effort at a share `t` of the way from one number of hits to another.
    fn between(self, other: Effort, t: f64) -> Effort {
        let mix = |a: f64, b: f64| a + t * (b - a);
        let ef = mix((self.ef.max(1) as f64).ln(), (other.ef.max(1) as f64).ln()).exp();
        Effort {
            threshold: mix(f64::from(self.threshold), f64::from(other.threshold)) as f32,
            ef: ef.ceil() as usize,
            most: self.most.max(other.most),
        }
    }
}

impl Table {
    fn of(records: &[Record]) -> Self {
        let queries = records.len().max(1) as f64;
        let curve = |number: usize| {
            std::array::from_fn(|place| {
                let points = records.iter().map(|record| record.curves[number][place]);
                let (found, wanted) = points
                    .clone()
                    .zip(records)
                    .fold((0, 0), |sum, (point, record)| (sum.0 + point.0, sum.1 + record.wanted(number)));
                let widths: f64 = points.clone().map(|point| point.1 as f64).sum();
                Point {
                    recall: (found as f64 / wanted.max(1) as f64 * MILLION) as u32,
                    ef: (widths / queries).ceil() as u32,
                    most: points.map(|point| point.1).max().unwrap_or(0) as u32,
                }
            })
        };
        Self((0..KS.len()).map(curve).collect())
    }

    /// How to find `target` of the `k` nearest.
    pub(super) fn effort(&self, k: usize, target: f64) -> Effort {
        let above = KS.iter().position(|&known| k <= known);
        let effort = match above {
            Some(0) => self.known(0, target),
            Some(above) => {
                let (low, high) = ((KS[above - 1] as f64).ln(), (KS[above] as f64).ln());
                let t = ((k as f64).ln() - low) / (high - low);
                self.known(above - 1, target).between(self.known(above, target), t)
            }
            None => {
                let last = KS.len() - 1;
                let known = self.known(last, target);
                let grown = |width: usize| (width as f64 * k as f64 / KS[last] as f64).ceil() as usize;
                Effort { ef: grown(known.ef), most: grown(known.most), ..known }
            }
        };
        Effort { most: (MARGIN * effort.most).max(k).max(FAR + 1), ..effort }
    }

    fn known(&self, number: usize, target: f64) -> Effort {
        let points = &self.0[number];
        let at = |place: usize| Effort {
            threshold: threshold(place),
            ef: points[place].ef as usize,
            most: points[place].most as usize,
        };
        let recall = |place: usize| f64::from(points[place].recall) / MILLION;
        match (0..THRESHOLDS).find(|&place| recall(place) >= target) {
            None => at(THRESHOLDS - 1),
            Some(0) => at(0),
            Some(place) => {
                let t = (target - recall(place - 1)) / (recall(place) - recall(place - 1));
                at(place - 1).between(at(place), t)
            }
        }
    }

    /// As numbers, for storing it.
    pub(super) fn to_numbers(&self) -> Vec<u32> {
        let points = self.0.iter().flatten().flat_map(|point| [point.recall, point.ef, point.most]);
        [VERSION].into_iter().chain(points).collect()
    }

    /// The table of stored numbers; `None` when there are none, or they are of another version.
    ///
    /// # Errors
    /// What is wrong with the numbers.
    pub(super) fn from_numbers(numbers: &[u32]) -> Result<Option<Self>, String> {
        if numbers.first() != Some(&VERSION) {
            return Ok(None);
        }
        let expected = 1 + KS.len() * THRESHOLDS * 3;
        if numbers.len() != expected {
            return Err(format!("{} numbers of recalls, expected {expected}", numbers.len()));
        }
        let point = |numbers: &[u32]| Point { recall: numbers[0], ef: numbers[1], most: numbers[2] };
        let mut points = numbers[1..].chunks_exact(3).map(point);
        let table =
            Self((0..KS.len()).map(|_| std::array::from_fn(|_| points.next().unwrap_or_default())).collect());
        let sound = |curve: &[Point; THRESHOLDS]| {
            curve.is_sorted_by_key(|point| point.recall)
                && curve
                    .iter()
                    .all(|point| f64::from(point.recall) <= MILLION && point.most as usize <= WIDEST)
        };
        match table.0.iter().all(sound) {
            true => Ok(Some(table)),
            false => Err("recalls that fall, or widths that are too large".to_owned()),
        }
    }
}

/// What one walk found, and how wide it was, by k and threshold.
#[derive(Debug, Clone)]
struct Record {
    neighbors: usize,
    curves: [[(usize, usize); THRESHOLDS]; KS.len()],
}

impl Record {
    fn wanted(&self, number: usize) -> usize {
        KS[number].min(self.neighbors)
    }
}

/// Watches a walk that goes on and on.
struct Watch<'a> {
    squared: Squared,
    /// True neighbours, ascending by offset, with their ranks.
    truth: &'a [(u32, usize)],
    /// Thresholds passed so far, by k.
    passed: [usize; KS.len()],
    record: Record,
}

impl Watch<'_> {
    /// Notes what has been found for those `passed` thresholds that are not noted yet.
    fn note(&mut self, beam: &Beam, passed: [usize; KS.len()]) {
        if passed.iter().zip(&self.passed).all(|(now, before)| now <= before) {
            return;
        }
        let mut found = [0; KS.len()];
        for node in beam.nodes(LOOKED_AT) {
            if let Ok(place) = self.truth.binary_search_by_key(&node, |&(offset, _)| offset) {
                let rank = self.truth[place].1;
                KS.iter().zip(&mut found).for_each(|(&k, found)| *found += usize::from(rank < k));
            }
        }
        for number in 0..KS.len() {
            for place in self.passed[number]..passed[number] {
                self.record.curves[number][place] = (found[number], beam.widest());
            }
            self.passed[number] = self.passed[number].max(passed[number]);
        }
    }
}

impl StopRule for Watch<'_> {
    fn is_over(&mut self, beam: &mut Beam, place: usize) -> bool {
        if beam.len() <= FAR {
            return false;
        }
        let passed = std::array::from_fn(|number| {
            let reach = self.squared.reach(beam, place, KS[number]);
            let from = self.passed[number];
            from + (from..THRESHOLDS).take_while(|&place| reach > threshold(place)).count()
        });
        self.note(beam, passed);
        self.passed == [THRESHOLDS; KS.len()]
    }
}

impl Hnsw {
    /// How many of the `inserted` rows, all live by now, are to be kept out of the graph until it is calibrated.
    pub(super) fn rows_to_keep_out(&self, vectors: &Vectors, inserted: usize) -> usize {
        let live = vectors.live().count();
        // Rows that came by themselves, a small share, do not stand for the rest.
        let stand_for_all = inserted * 2 >= live && live >= LEAST;
        if stand_for_all { (inserted / QUERY_SHARE).min(QUERIES) } else { 0 }
    }

    /// Makes the table from rows that are not in the graph.
    pub(super) fn calibrate(&mut self, vectors: &Vectors, rows: &[u32]) {
        let out = BitSet::from_members(vectors.len(), rows);
        let queries: Vec<_> = rows.iter().map(|&row| vectors.row(row)).collect();
        let requests: Vec<Request<'_>> = queries.iter().map(|row| Request::new(row, NEIGHBORS)).collect();
        let answers = FlatScan.search_batch(vectors, &requests);
        let records: Vec<Record> = rows
            .par_iter()
            .zip(&answers)
            .filter_map(|(&row, answer)| {
                let others = answer.hits.iter().map(|hit| hit.offset).filter(|&hit| !out.contains(hit));
                let mut truth: Vec<(u32, usize)> = others.take(KS[KS.len() - 1]).zip(0..).collect();
                truth.sort_unstable();
                self.record(vectors, &vectors.row(row), &truth)
            })
            .collect();
        self.recalls = (!records.is_empty()).then(|| Table::of(&records));
        self.changed = 0;
    }

    /// Makes the table anew if it is time to.
    pub(super) fn calibrate_again(&mut self, vectors: &Vectors) {
        let live = self.nodes.count() - self.dead.count();
        if live < LEAST || self.changed.saturating_mul(2) < live {
            return;
        }
        let count = (live / QUERY_SHARE).min(QUERIES);
        let mut rows: Vec<u32> = self.live().collect();
        rows.sort_by_cached_key(|&row| (mix(!self.params.seed ^ mix(u64::from(row))), row));
        rows.truncate(count);
        let mut trial = Hnsw {
            params: self.params,
            graph: self.graph.clone(),
            dead: self.dead.clone(),
            nodes: self.nodes.clone(),
            space: std::mem::take(&mut self.space),
            recalls: None,
            changed: 0,
            tree: Tree::default(),
            build_distances: 0,
        };
        rows.iter().for_each(|&row| {
            trial.dead.insert(row);
        });
        trial.repair(vectors);
        trial.calibrate(vectors, &rows);
        (self.space, self.recalls, self.changed) = (trial.space, trial.recalls, 0);
    }

    /// What a walk for `vector` finds of its true neighbours; `None` when all rows are equally near.
    fn record(&self, vectors: &Vectors, vector: &[f32], truth: &[(u32, usize)]) -> Option<Record> {
        let query = vectors.query(vector);
        if query.is_undirected() {
            return None;
        }
        let entry = self.graph.entry?;
        let coded =
            self.space.with_coded_query(vector, |scorer| self.watch(scorer, entry, Squared::CODED, truth));
        let squared = Squared::plain(vectors, &self.space, vector);
        Some(coded.unwrap_or_else(|| self.watch(&query, entry, squared, truth)))
    }

    fn watch(&self, scorer: &impl Scorer, entry: u32, squared: Squared, truth: &[(u32, usize)]) -> Record {
        let curves = [[(0, 0); THRESHOLDS]; KS.len()];
        let record = Record { neighbors: truth.len(), curves };
        let mut watch = Watch { squared, truth, passed: [0; KS.len()], record };
        Scratch::with(|scratch| {
            scratch.start();
            let nearest = scratch.descend(&self.graph, scorer, entry, 0);
            scratch.search_layer_until(&self.graph, scorer, 0, &[nearest], WIDEST, &mut watch);
            watch.note(scratch.beam(), [THRESHOLDS; KS.len()]);
        });
        watch.record
    }
}

impl Squared {
    /// Codes give squared distances.
    pub(super) const CODED: Squared = Squared { scale: 1.0, shift: 0.0 };

    /// For the comparable distances of rows; Manhattan distances are taken as they are.
    pub(super) fn plain(vectors: &Vectors, space: &Space, vector: &[f32]) -> Squared {
        match vectors.metric() {
            Metric::Euclidean | Metric::Manhattan => Squared::CODED,
            Metric::Cosine => Squared { scale: 2.0, shift: 2.0 },
            Metric::DotProduct => {
                let lengths = [vdb_distance::norm(vector), space.longest()];
                Squared { scale: 2.0, shift: lengths.iter().map(|length| length * length).sum() }
            }
        }
    }
}
