//! Which stop rule gives which recall, found on queries that the graph knows nothing of.
//!
//! A bulk insertion keeps the last rows of its order out, and walks for them once everything else is linked. Where no rows
//! can be kept out, some are taken out of a copy of the graph as deleted rows are. (Rows that stay in the graph are no
//! queries: their neighbours are linked to them. Walks that ignore the row itself err on the other side: its neighbours may
//! have no other link.)
//!
//! Queries are often of another kind than rows, and harder. So there are *strange* queries, too: a row moved by half the
//! difference of two others. For each k and target, thresholds are found that give rows the target, one for each weight of
//! the stop rule; and of the weights the least that gives strange queries the target as well, unless rows would have to
//! walk clearly longer than with another weight.
//!
//! The table is made when there are [`LEAST`] rows and again when as many rows came, changed or went as half of those that
//! there are now.

use super::Hnsw;
use super::space::Space;
use super::stop::Squared;
use super::table::{Effort, KS, NO_THRESHOLD, TARGETS, Table, WIDEST};
use super::tree::Tree;
use super::watch::{Look, THRESHOLDS, WEIGHTS, threshold, weight};
use crate::hash::mix;
use crate::vectors::Vectors;
use crate::{Answer, BitSet, FlatScan, Request};
use rayon::prelude::*;
use vdb_distance::{Distance, Metric};

/// Fewer rows are not worth a table: the exact scan answers.
const LEAST: usize = 1_024;
/// Rows that stand for queries, at most, and at most one row in so many.
const QUERIES: usize = 1_024;
const QUERY_SHARE: usize = 8;
/// Of these, those that a strange query is made of: one in so many.
const STRANGE: usize = 2;
/// What of the difference of two rows is added to another one, by turns.
const STRANGENESS: [f32; 2] = [0.5, 1.0];
/// How much longer rows may take for the sake of strange queries.
const PREMIUM: f64 = 1.15;
/// What a search costs whatever its walk, in hops: placing the query, upper layers, rerank.
const FIXED_HOPS: f64 = 20.0;
/// Rows to look for, so that the greatest k are left when those that stand for queries are not counted.
const NEIGHBORS: usize = 160;
/// Rows whose whole walks are held against the truth, and the share of it that these have to find for others to go without.
const CHECKED: usize = 128;
const SURE: f64 = 0.999;
/// How much longer than the shortest walks others are that count as short.
const SHORTEST: f64 = 1.01;
/// Queries that are looked at in one go.
const CHUNK: usize = 64;
/// Parts that numbers of hits, hops and widths are counted in.
const PARTS: u32 = 16;

/// What walks that end at one threshold give, in [`PARTS`], summed over queries.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    found: u32,
    hops: u32,
    widest: u32,
    /// Not a sum.
    most: u32,
}

impl Cell {
    fn add(&mut self, other: Cell) {
        self.found += other.found;
        self.hops += other.hops;
        self.widest += other.widest;
        self.most = self.most.max(other.most);
    }
}

/// What all stop rules give, by k and weight.
struct Curves {
    cells: Vec<[[Cell; THRESHOLDS]; WEIGHTS]>,
    /// Hits that could be found, by k.
    wanted: [usize; KS.len()],
    queries: usize,
}

impl Curves {
    fn new() -> Self {
        Self {
            cells: vec![[[Cell::default(); THRESHOLDS]; WEIGHTS]; KS.len()],
            wanted: [0; KS.len()],
            queries: 0,
        }
    }

    /// Takes in a walk for a query with these true distances, ascending.
    fn add(&mut self, looks: &[Look], truth: &[Distance]) {
        let Some(farthest) = truth.len().checked_sub(1) else { return };
        self.queries += 1;
        for (number, &k) in KS.iter().enumerate() {
            let last = truth[farthest.min(k - 1)];
            self.wanted[number] += k.min(truth.len());
            let found = |look: &Look| look.hits[number].iter().filter(|&&hit| hit <= last).count() as u32;
            let mut from = [0; WEIGHTS];
            let mut before: Option<(u32, &Look)> = None;
            for look in looks {
                let now = (found(look), look);
                let (earlier_found, earlier) = before.unwrap_or(now);
                // Of the hops since the last look, all are equally likely to be the one after which the walk ends.
                let hops = (look.hops - earlier.hops).max(1);
                let mean =
                    |earlier: u32, now: u32| (earlier * (hops - 1) + now * (hops + 1)) * (PARTS / 2) / hops;
                let cell = Cell {
                    found: mean(earlier_found, now.0),
                    hops: mean(earlier.hops, look.hops),
                    widest: mean(earlier.widest, look.widest),
                    most: look.widest,
                };
                for (weight, from) in from.iter_mut().enumerate() {
                    let to = usize::from(look.passed[number][weight]);
                    if to > *from {
                        self.cells[number][weight][*from..to].iter_mut().for_each(|sum| sum.add(cell));
                        *from = to;
                    }
                }
                before = Some(now);
            }
        }
    }

    fn merge(mut self, other: Curves) -> Self {
        let own = self.cells.iter_mut().flatten().flatten();
        own.zip(other.cells.iter().flatten().flatten()).for_each(|(own, other)| own.add(*other));
        self.wanted.iter_mut().zip(other.wanted).for_each(|(own, other)| *own += other);
        Self { queries: self.queries + other.queries, ..self }
    }

    fn recall(&self, number: usize, weight: usize, place: usize) -> f64 {
        let found = f64::from(self.cells[number][weight][place].found) / f64::from(PARTS);
        found / self.wanted[number].max(1) as f64
    }

    /// The recall at a place between two thresholds.
    fn recall_between(&self, number: usize, weight: usize, place: f64) -> f64 {
        let (low, high) = (place.floor() as usize, place.ceil() as usize);
        let t = place - place.floor();
        (1.0 - t) * self.recall(number, weight, low) + t * self.recall(number, weight, high)
    }

    /// The place of the least threshold that gives `target`.
    fn place(&self, number: usize, weight: usize, target: f64) -> Option<f64> {
        let recall = |place| self.recall(number, weight, place);
        let place = (0..THRESHOLDS).find(|&place| recall(place) >= target)?;
        let Some(before) = place.checked_sub(1) else { return Some(0.0) };
        Some(place as f64 - (recall(place) - target) / (recall(place) - recall(before)))
    }

    /// The place of the greatest threshold at which walks take no more hops than this in the mean.
    fn farthest(&self, number: usize, weight: usize, hops: f64) -> f64 {
        let cells = &self.cells[number][weight];
        cells.iter().rposition(|cell| self.mean(cell.hops) <= hops).unwrap_or(0) as f64
    }

    fn mean(&self, sum: u32) -> f64 {
        f64::from(sum) / f64::from(PARTS) / self.queries.max(1) as f64
    }
}

/// Walks for rows and for strange queries that want so many hits, one of [`KS`].
struct Compared<'a> {
    rows: &'a Curves,
    strange: &'a Curves,
    number: usize,
}

/// A weight and a threshold, and what they mean.
#[derive(Debug, Clone, Copy)]
struct Choice {
    effort: Effort,
    /// Of rows.
    hops: f64,
    /// The recall of strange queries.
    strange: f64,
}

impl Compared<'_> {
    /// The effort that gives rows the target, and strange queries too unless that costs too much.
    fn effort(&self, target: f64) -> Effort {
        let number = self.number;
        let places: Vec<Option<f64>> =
            (0..WEIGHTS).map(|weight| self.rows.place(number, weight, target)).collect();
        let choices: Vec<Choice> =
            places.iter().enumerate().map(|(weight, &place)| self.choice(weight, place)).collect();
        let least_hops = choices.iter().map(|choice| choice.hops).fold(f64::INFINITY, f64::min);
        let most_hops = PREMIUM * (FIXED_HOPS + least_hops) - FIXED_HOPS;
        if self.rows.recall(number, 0, 0) >= target {
            return self.effort_beyond(target, SHORTEST * least_hops, most_hops);
        }
        let affordable = choices.iter().position(|choice| choice.hops <= most_hops).unwrap_or(0);
        let mut effort = choices[affordable].effort;
        for pair in choices[affordable..].windows(2) {
            let share = |from: f64, to: f64, at: f64| if to > from { (at - from) / (to - from) } else { 1.0 };
            let enough = share(pair[0].strange, pair[1].strange, target);
            let t = enough.min(share(pair[0].hops, pair[1].hops, most_hops));
            effort = pair[0].effort.between(pair[1].effort, t.clamp(0.0, 1.0));
            if t < 1.0 {
                break;
            }
        }
        effort
    }

    /// The effort where the shortest walks give rows more than the target: what the strange queries need, if rows can
    /// afford it.
    fn effort_beyond(&self, target: f64, least_hops: f64, most_hops: f64) -> Effort {
        let choice = |weight: usize| {
            let (number, rows) = (self.number, self.rows);
            let (least, most) =
                (rows.farthest(number, weight, least_hops), rows.farthest(number, weight, most_hops));
            let wanted = match self.strange.queries {
                0 => least,
                _ => self.strange.place(number, weight, target).unwrap_or(most),
            };
            self.choice(weight, Some(wanted.clamp(least, most.max(least))))
        };
        let rank = |choice: &Choice| (choice.strange.min(target), -choice.hops);
        let better = |a: &Choice, b: &Choice| {
            let ((a, a_hops), (b, b_hops)) = (rank(a), rank(b));
            a.total_cmp(&b).then(a_hops.total_cmp(&b_hops))
        };
        let best = (0..WEIGHTS).map(choice).max_by(better);
        best.expect("there are weights").effort
    }

    /// What a threshold means; without one, no walk ends before its beam is done.
    fn choice(&self, place: usize, at: Option<f64>) -> Choice {
        let Compared { rows, strange, number } = *self;
        let cell = rows.cells[number][place][at.map_or(THRESHOLDS - 1, |at| at.ceil() as usize)];
        let effort = match at {
            Some(at) => Effort {
                weight: weight(place),
                threshold: threshold(at),
                ef: rows.mean(cell.widest).ceil() as usize,
                most: cell.most as usize,
            },
            None => Effort { weight: weight(place), threshold: NO_THRESHOLD, ef: WIDEST, most: WIDEST },
        };
        let strange = match at {
            Some(at) if strange.queries > 0 => strange.recall_between(number, place, at),
            _ => 1.0,
        };
        Choice { effort, hops: rows.mean(cell.hops), strange }
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

    /// How many of some new rows are to be [inserted](Self::insert_calibrating) after all others, so that recalls can be found out
    /// on them; none while less than a quarter of the rows is new since that was last done.
    pub fn rows_to_calibrate(&self, new: usize) -> usize {
        let rows = self.live_count() + new;
        let is_due = rows >= LEAST && self.changed.saturating_add(new).saturating_mul(4) >= rows;
        if is_due { (new / QUERY_SHARE).min(QUERIES) } else { 0 }
    }

    /// As [`insert`](Self::insert), for rows that stand for all others: before they are linked, it is found out on them how far
    /// walks go for a recall. Rows taken out of a graph again are found too easily, for others are linked in their place.
    ///
    /// # Panics
    /// As [`insert`](Self::insert).
    pub fn insert_calibrating(&mut self, vectors: &Vectors, rows: &[u32]) {
        if rows.is_empty() {
            return;
        }
        self.take_in(vectors, rows);
        self.connect(vectors);
        self.calibrate(vectors, rows);
        self.insert(vectors, rows);
    }

    /// Makes the table from rows that are not in the graph.
    pub(super) fn calibrate(&mut self, vectors: &Vectors, rows: &[u32]) {
        let (checked, rest) = rows.split_at(rows.len().min(CHECKED));
        let of_rows = |rows: &[u32], truths: Option<Vec<Vec<Distance>>>| {
            let truth = |place: usize| Some(truths.as_ref()?[place].as_slice());
            self.walks(vectors, rows.len(), &|place| vectors.row(rows[place]).to_vec(), &truth)
        };
        let checked = of_rows(checked, Some(self.truths(vectors, checked, rows)));
        let sees_all = checked.recall(KS.len() - 1, 0, THRESHOLDS - 1) >= SURE;
        let truths = (!sees_all).then(|| self.truths(vectors, rest, rows));
        let known = checked.merge(of_rows(rest, truths));
        let strange_query =
            |place: usize| self.strange_query(vectors, rows[place], STRANGENESS[place % STRANGENESS.len()]);
        let strange = self.walks(vectors, rows.len() / STRANGE, &strange_query, &|_| None);
        let efforts = |number| {
            let compared = Compared { rows: &known, strange: &strange, number };
            TARGETS.map(|target| compared.effort(target))
        };
        self.recalls = (known.queries > 0).then(|| Table((0..KS.len()).map(efforts).collect()));
        self.changed = 0;
    }

    /// The true distances for some rows of those that are not in the graph.
    fn truths(&self, vectors: &Vectors, rows: &[u32], not_in_graph: &[u32]) -> Vec<Vec<Distance>> {
        let out = BitSet::from_members(vectors.len(), not_in_graph);
        let queries: Vec<_> = rows.iter().map(|&row| vectors.row(row)).collect();
        let requests: Vec<Request<'_>> = queries.iter().map(|row| Request::new(row, NEIGHBORS)).collect();
        let truth = |answer: Answer| {
            let others = answer.hits.iter().filter(|hit| !out.contains(hit.offset));
            others.take(KS[KS.len() - 1]).map(|hit| hit.distance).collect()
        };
        FlatScan.search_batch(vectors, &requests).into_iter().map(truth).collect()
    }

    /// What walks for queries give; where there is no truth, what the whole walk finds is taken for it.
    fn walks<'a>(
        &self,
        vectors: &Vectors,
        count: usize,
        query: &(impl Fn(usize) -> Vec<f32> + Sync),
        truth: &(impl Fn(usize) -> Option<&'a [Distance]> + Sync),
    ) -> Curves {
        let places: Vec<usize> = (0..count).collect();
        let of_chunk = |chunk: &[usize]| {
            let mut curves = Curves::new();
            for &place in chunk {
                if let Some(looks) = self.watch(vectors, &query(place)) {
                    let found = looks.last().map_or(&[][..], |look| &look.hits[KS.len() - 1]);
                    curves.add(&looks, truth(place).unwrap_or(found));
                }
            }
            curves
        };
        places.par_chunks(CHUNK).map(of_chunk).reduce(Curves::new, Curves::merge)
    }

    /// A row moved by a part of the difference of two rows; under Cosine all three of length 1.
    fn strange_query(&self, vectors: &Vectors, row: u32, strangeness: f32) -> Vec<f32> {
        let pick = |salt: u64| {
            (mix(self.params.seed ^ mix(u64::from(row) << 2 | salt)) % vectors.len() as u64) as u32
        };
        let scaled = |row: u32| {
            let mut row = vectors.row(row).into_owned();
            let norm = if vectors.metric() == Metric::Cosine { vdb_distance::norm(&row) } else { 1.0 };
            if norm > 0.0 {
                row.iter_mut().for_each(|value| *value /= norm);
            }
            row
        };
        let mut query = scaled(row);
        for (value, (to, from)) in query.iter_mut().zip(scaled(pick(1)).into_iter().zip(scaled(pick(2)))) {
            *value += strangeness * (to - from);
        }
        query
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
            unchecked: 0,
            checks: 0,
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
