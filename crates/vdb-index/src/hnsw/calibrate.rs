//! Which stop rule gives which recall, found on queries that the graph knows nothing of.
//!
//! The rows of a table are looked at when they have come and before they are linked. A bulk insertion keeps the last rows
//! of its order out, and walks for them once everything else is linked; a merge of graphs does the same
//! ([`Hnsw::insert_calibrating`]). Of rows that come in small numbers a few are looked at each time, so many that they
//! make a table when a quarter of the rows has changed: a *rolling sample*. No other rows will do: the neighbours of a row in the
//! graph are linked to it, and when it is taken out, to each other in its place. (Walks that ignore the row itself err on
//! the other side: its neighbours may have no other link.) Deletions alone make no new table.
//!
//! Queries are often of another kind than rows, and harder. So there are *strange* queries, too: a row moved by half the
//! difference of two others. For each k and target, thresholds are found that give rows the target, one for each weight of
//! the stop rule; and of the weights the least that gives strange queries the target as well, unless rows would have to
//! walk clearly longer than with another weight.
//!
//! The table is made when there are [`LEAST`] rows and again when as many rows came, changed or went as an eighth of those
//! that there are now, as soon as enough of them came: from what was looked at since the last table and before that one, a
//! quarter of the rows together.

use super::Hnsw;
use super::space::Space;
use super::stop::Squared;
use super::table::{Effort, KS, NO_THRESHOLD, TARGETS, Table, WIDEST};
use super::watch::{Look, THRESHOLDS, WEIGHTS, threshold, weight};
use crate::hash::mix;
use crate::vectors::Vectors;
use crate::{Answer, FlatScan, Request};
use rayon::prelude::*;
use vdb_distance::{Distance, Metric};

/// Fewer rows are not worth a table: the exact scan answers.
const LEAST: usize = 1_024;
/// Rows that stand for queries, at most, and at most one row in so many.
const QUERIES: usize = 1_024;
const QUERY_SHARE: usize = 8;
/// New rows stand for all rows when they are at least one in so many.
const STANDS_FOR_ALL: usize = 2;
/// A merge is calibrated when one row in so many has changed. (With half of them, the table of a live index that had grown from
/// nothing to 40,000 rows of photo-sift-1m gave 0.935 for 0.95, since it was of much smaller graphs.)
const CHANGED_SHARE: usize = 4;
/// A rolling sample is one of two halves that make a table.
const HALVES: usize = 2;
/// Rows of a rolling sample, at least, and one row in so many. So an eighth of the rows that come is looked at, or fewer.
const LEAST_ROLLING: usize = 256;
const ROLLING_SHARE: usize = 32;
/// Of the new rows at most one in so many is looked at.
const MOST_LOOKED_AT: usize = 2;
/// Of these, those that a strange query is made of: one in so many.
const STRANGE: usize = 2;
/// What of the difference of two rows is added to another one, by turns.
const STRANGENESS: [f32; 2] = [0.5, 1.0];
/// How much longer rows may take for the sake of strange queries.
const PREMIUM: f64 = 1.15;
/// What a search costs whatever its walk, in hops: placing the query, upper layers, rerank.
const FIXED_HOPS: f64 = 20.0;
/// Rows whose whole walks are held against the truth, and the share of it that these have to find for others to go without.
const CHECKED: usize = 64;
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
#[derive(Debug, Clone)]
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

/// Walks for rows that are not in the graph: what the next table is made of.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    rows: Curves,
    strange: Curves,
    /// Rows that were looked at.
    count: usize,
    /// Whether whole walks find all that there is; known once [`CHECKED`] rows were held against the truth.
    sees_all: Option<bool>,
}

impl Sample {
    fn new() -> Self {
        Self { rows: Curves::new(), strange: Curves::new(), count: 0, sees_all: None }
    }

    /// Heap bytes held.
    pub(super) fn bytes(&self) -> usize {
        [&self.rows, &self.strange].iter().map(|curves| size_of_val(&curves.cells[..])).sum()
    }
}

/// The efforts that walks for rows and for strange queries show; none where no row can be a query.
fn table(rows: &Curves, strange: &Curves) -> Option<Table> {
    let efforts = |number| {
        let compared = Compared { rows, strange, number };
        TARGETS.map(|target| compared.effort(target))
    };
    (rows.queries > 0).then(|| Table((0..KS.len()).map(efforts).collect()))
}

/// Rows of which a table is made, of so many that come at once.
fn wanted(rows: usize) -> usize {
    (rows / QUERY_SHARE).min(QUERIES)
}

/// Rows of which a table is made, of so many live ones, while they come in small numbers.
fn wanted_in_time(live: usize) -> usize {
    wanted(live).min((live / ROLLING_SHARE).max(LEAST_ROLLING))
}

impl Hnsw {
    /// Whether so many new rows are a share of all that stands for the rest, which rows that come by themselves do not.
    pub(super) fn stand_for_all(&self, inserted: usize) -> bool {
        inserted * STANDS_FOR_ALL >= self.live_count() + inserted
    }

    /// How many rows of an insertion, all but linked, are to be looked at before they are: those of a bulk insertion at
    /// once, of others so many that there are enough when an eighth of the rows has changed.
    pub(super) fn rows_to_look_at(&self, inserted: usize, first: u32) -> usize {
        let live = self.live_count() + inserted;
        if live < LEAST {
            return 0;
        }
        if self.stand_for_all(inserted) {
            return wanted(inserted);
        }
        let has = self.sample.as_ref().map_or(0, |sample| sample.count);
        let needed = (wanted_in_time(live) / HALVES).saturating_sub(has).max(1);
        let to_come = (live / (HALVES * CHANGED_SHARE)).saturating_sub(self.changed);
        let share = inserted as f64 * needed as f64 / to_come.max(needed * MOST_LOOKED_AT) as f64;
        // A part of a row is one row with that probability.
        let drawn = mix(self.params.seed ^ mix(self.changed as u64) ^ u64::from(first)) >> 11;
        ((share + drawn as f64 / (1_u64 << 53) as f64) as usize).min(needed)
    }

    /// How many of some new rows are to be inserted [last](Self::insert_calibrating), so that recalls can be found out on them;
    /// none while less than a quarter of the rows is new since that was last done, or they are too few.
    pub fn rows_to_calibrate(&self, new: usize) -> usize {
        let rows = self.live_count() + new;
        let is_due = rows >= LEAST && self.changed.saturating_add(new).saturating_mul(CHANGED_SHARE) >= rows;
        let count = wanted(rows).min(new / MOST_LOOKED_AT);
        if is_due && count >= wanted(LEAST) { count } else { 0 }
    }

    /// Makes the table from rows that are not in the graph.
    pub(super) fn calibrate(&mut self, vectors: &Vectors, rows: &[u32]) {
        (self.sample, self.earlier) = (None, None);
        self.look_at(vectors, rows);
        self.make_table();
    }

    /// Takes rows that are not in the graph yet into the sample; makes the table when they are enough.
    pub(super) fn sample(&mut self, vectors: &Vectors, rows: &[u32]) {
        self.look_at(vectors, rows);
        let enough = wanted_in_time(self.live_count()) / HALVES;
        if self.sample.as_ref().is_some_and(|sample| sample.count >= enough) {
            self.make_table();
        }
    }

    fn make_table(&mut self) {
        let halves = || [&self.earlier, &self.sample].into_iter().flatten();
        let rows = halves().map(|half| half.rows.clone()).fold(Curves::new(), Curves::merge);
        let strange = halves().map(|half| half.strange.clone()).fold(Curves::new(), Curves::merge);
        self.recalls = table(&rows, &strange);
        self.earlier = self.sample.take();
        self.changed = 0;
    }

    fn look_at(&mut self, vectors: &Vectors, rows: &[u32]) {
        let mut sample = self.sample.take().unwrap_or_else(|| Box::new(Sample::new()));
        let unchecked = CHECKED.saturating_sub(sample.count);
        let (checked, rest) = rows.split_at(rows.len().min(unchecked));
        let of_rows = |rows: &[u32], truths: Option<Vec<Vec<Distance>>>| {
            let truth = |place: usize| Some(truths.as_ref()?[place].as_slice());
            self.walks(vectors, rows.len(), &|place| vectors.row(rows[place]).to_vec(), &truth)
        };
        if !checked.is_empty() {
            sample.rows = sample.rows.merge(of_rows(checked, Some(self.truths(vectors, checked))));
        }
        if sample.count + checked.len() >= CHECKED && sample.sees_all.is_none() {
            sample.sees_all = Some(sample.rows.recall(KS.len() - 1, 0, THRESHOLDS - 1) >= SURE);
        }
        if !rest.is_empty() {
            let truths = (sample.sees_all != Some(true)).then(|| self.truths(vectors, rest));
            sample.rows = sample.rows.merge(of_rows(rest, truths));
        }
        // Every so many-th row of the sample, by turns.
        let first = sample.count;
        let turns: Vec<(u32, f32)> = (first..)
            .zip(rows)
            .filter(|(number, _)| number % STRANGE == 0)
            .map(|(number, &row)| (row, STRANGENESS[number / STRANGE % STRANGENESS.len()]))
            .collect();
        let strange_query = |place: usize| {
            let (row, strangeness) = turns[place];
            self.strange_query(vectors, row, strangeness)
        };
        if !turns.is_empty() {
            let walks = self.walks(vectors, turns.len(), &strange_query, &|_| None);
            sample.strange = sample.strange.merge(walks);
        }
        sample.count += rows.len();
        self.sample = Some(sample);
    }

    /// The true distances of some rows from those of the graph.
    fn truths(&self, vectors: &Vectors, rows: &[u32]) -> Vec<Vec<Distance>> {
        let queries: Vec<_> = rows.iter().map(|&row| vectors.row(row)).collect();
        let request = |row| Request { allowed: Some(&self.nodes), ..Request::new(row, KS[KS.len() - 1]) };
        let requests: Vec<Request<'_>> = queries.iter().map(|row| request(row)).collect();
        let truth = |answer: Answer| answer.hits.iter().map(|hit| hit.distance).collect();
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
}

impl Squared {
    /// Codes give squared distances.
    pub(super) const CODED: Squared = Squared { scale: 1.0, shift: 0.0 };

    /// The squared distance that a distance is, with this for comparable ones.
    pub(super) fn of_distance(self, metric: Metric, distance: Distance) -> f32 {
        let distance = distance.get();
        let comparable = if metric == Metric::Euclidean { distance * distance } else { distance };
        (self.scale * comparable + self.shift).max(0.0)
    }

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
