//! The space that a walk measures distances in: short codes of the rows, or the rows themselves.
//!
//! Codes are a few times smaller than rows, and a walk costs what it reads. They are trained when there are enough rows
//! to train on, and again whenever the rows have quadrupled, until there are plenty; the graph stays as it is then,
//! since links are as good as the space that they were chosen in. Until then, and under Manhattan, which codes do not
//! know, distances are those of the rows.

use super::search::Candidate;
use crate::evenly;
use crate::hash::mix;
use crate::vectors::{Lift, Query, Vectors};
use rayon::prelude::*;
use std::cell::RefCell;
use vdb_distance::{AlignedVec, Metric, Owner};
use vdb_quant::{MAX_DIM, TraversalBasis, TraversalCodes, TraversalQuery};

/// Fewer rows are not worth codes.
const LEAST_ROWS: usize = 512;
/// Rows that a basis is trained on.
const TRAINING_ROWS: usize = 4_096;
/// Codes trained on this share of the rows of now are trained again.
const RETRAIN: usize = 4;
/// A basis trained when there were so many rows is kept.
const PLENTY: usize = 1 << 17;
const SEED: u64 = 0x7a4e;
/// Rows that codes are judged on, and rows that these are compared with.
const JUDGED_ROWS: usize = 32;
const JUDGED_AGAINST: usize = 8_192;
/// Neighbours that a judged row should find.
const JUDGED_K: usize = 10;
/// Rows that are nearer by code than the last of those neighbours: with more, for one judged row in ten, a walk by codes
/// would need too wide a beam.
const MOST_AHEAD: usize = 64;
/// A crowd of so many rows may have the share below of them ahead: among rows that belong together many are nearly as near as the nearest,
/// and codes that cannot tell them apart at all have most of them ahead.
const LARGE_CROWD: usize = JUDGED_AGAINST;
const AHEAD_SHARE: usize = 4;
/// Fewer bytes of codes are at hand soon enough without asking ahead: most of them lie in the second-level cache.
const NEAR_BYTES: usize = 4 << 20;
/// Codes are judged again when this share of the rows is new.
const JUDGE_AGAIN: usize = 8;

/// Distances from one point to rows.
pub(crate) trait Scorer {
    /// Smaller is closer.
    fn score(&self, nodes: &[u32], out: &mut [f32]);

    /// Whether rows lie so far that asking for them a step ahead pays.
    #[inline(always)]
    fn fetches(&self) -> bool {
        false
    }

    /// Asks for the row of a node a while ahead of its use.
    #[inline(always)]
    fn fetch(&self, _node: u32) {}

    /// Whether [`first_look`](Self::first_look) reads less than [`score`](Self::score).
    fn has_first_look(&self) -> bool {
        false
    }

    /// Distances as far as a small part of each row tells.
    fn first_look(&self, nodes: &[u32], out: &mut [f32]) {
        self.score(nodes, out);
    }

    /// [`score`](Self::score) of nodes whose rows were asked for.
    #[inline]
    fn score_fetched(&self, nodes: &[u32], out: &mut [f32]) {
        self.score(nodes, out);
    }
}

impl Scorer for Query<'_> {
    #[inline]
    fn score(&self, nodes: &[u32], out: &mut [f32]) {
        self.gather(nodes, out);
    }
}

/// A query and the codes it meets.
pub(crate) struct CodeScorer<'a> {
    pub(crate) codes: &'a TraversalCodes,
    pub(crate) query: &'a TraversalQuery,
}

impl Scorer for CodeScorer<'_> {
    #[inline]
    fn score(&self, nodes: &[u32], out: &mut [f32]) {
        self.codes.score(self.query, nodes, out);
    }

    #[inline(always)]
    fn fetches(&self) -> bool {
        self.codes.bytes() >= NEAR_BYTES
    }

    #[inline(always)]
    fn fetch(&self, node: u32) {
        self.codes.fetch(node);
    }

    fn has_first_look(&self) -> bool {
        self.codes.has_first_look()
    }

    fn first_look(&self, nodes: &[u32], out: &mut [f32]) {
        self.codes.first_look(self.query, nodes, out);
    }

    #[inline]
    fn score_fetched(&self, nodes: &[u32], out: &mut [f32]) {
        self.codes.score_fetched(self.query, nodes, out);
    }
}

/// Work to be done with a scorer, whichever it is.
pub(crate) trait WithScorer {
    type Output;
    fn run(self, scorer: &impl Scorer) -> Self::Output;
}

/// What a graph measures by.
#[derive(Debug, Clone, Default)]
pub(crate) struct Space {
    codes: Option<TraversalCodes>,
    /// The space that edges are chosen in under DotProduct, while there are no codes.
    lift: Option<Lift>,
    /// Rows there were when codes or lift were trained.
    trained: usize,
    /// Coded rows that no judgement has seen yet.
    unjudged: Vec<u32>,
    /// Whether codes were found too coarse for the data: a tight cluster far from the rest, say.
    too_coarse: bool,
}

thread_local! {
    /// Queries of this thread: one for searches and nodes, one for the candidates that are compared with each other.
    static QUERIES: [RefCell<TraversalQuery>; 2] = std::array::from_fn(|_| RefCell::default());
}

impl Space {
    /// The length that rows are lifted to under DotProduct, while there are no codes.
    pub(super) fn longest(&self) -> f32 {
        self.lift.as_ref().map_or(0.0, Lift::max_norm)
    }

    /// What a file keeps of it: the numbers of the codes' basis, and on how many rows that was trained. Without numbers,
    /// but rows, codes were found too coarse.
    pub(crate) fn to_parts(&self) -> (Vec<f32>, u64) {
        match &self.codes {
            Some(codes) => (codes.basis().to_values(), self.trained as u64),
            None => (Vec::new(), u64::from(self.too_coarse)),
        }
    }

    /// Makes it again of what a file kept.
    ///
    /// # Errors
    /// When the numbers are no basis for these vectors.
    pub(crate) fn restore(&mut self, vectors: &Vectors, basis: &[f32], trained: u64) -> Result<(), String> {
        if trained == 0 || basis.is_empty() {
            self.too_coarse = trained > 0;
            self.update(vectors, &[]);
            return Ok(());
        }
        if vectors.metric() == Metric::Manhattan || vectors.dim() >= MAX_DIM {
            return Err("there are no codes for such vectors".to_owned());
        }
        let basis = TraversalBasis::from_values(vectors.metric(), vectors.dim(), basis)?;
        self.code_all(vectors, basis);
        self.trained = trained.min(crate::MAX_ROWS as u64) as usize;
        Ok(())
    }

    /// What a segment's file keeps in sections: the basis and the codes, or else the coordinates of the lift.
    pub(super) fn stored(&self) -> (Vec<f32>, &[u8], &[u8]) {
        let basis = self.codes.as_ref().map(|codes| codes.basis().to_values()).unwrap_or_default();
        let codes = self.codes.as_ref().map_or(&[][..], TraversalCodes::stored);
        (basis, codes, self.lift.as_ref().map_or(&[][..], |lift| lift.values().as_bytes()))
    }

    /// The numbers beside those: rows trained on, whether codes are too coarse, and the length that rows are lifted to.
    pub(super) fn numbers(&self) -> [u64; 3] {
        [self.trained as u64, u64::from(self.too_coarse), u64::from(self.longest().to_bits())]
    }

    /// Of what [`stored`](Self::stored) and [`numbers`](Self::numbers) gave; codes are read in place.
    pub(super) fn open(
        vectors: &Vectors,
        [trained, too_coarse, longest]: [u64; 3],
        basis: &[f32],
        [codes, lift]: [Owner; 2],
    ) -> Result<Self, String> {
        let rows = vectors.len();
        let mut space = Space { trained: trained as usize, too_coarse: too_coarse != 0, ..Space::default() };
        if !basis.is_empty() {
            if vectors.metric() == Metric::Manhattan || vectors.dim() >= MAX_DIM {
                return Err("there are no codes for such vectors".to_owned());
            }
            let basis = TraversalBasis::from_values(vectors.metric(), vectors.dim(), basis)?;
            let codes = TraversalCodes::open(basis, codes).filter(|codes| codes.len() <= rows);
            space.codes = Some(codes.ok_or("codes that fit no rows")?);
        } else if vectors.metric() == Metric::DotProduct && !(*lift).as_ref().is_empty() {
            let lift = AlignedVec::opened(lift).ok_or("part of a number")?;
            if lift.len() > rows {
                return Err(format!("{} lifted rows of {rows}", lift.len()));
            }
            space.lift = Some(Lift::open(f32::from_bits(longest as u32), lift));
        }
        Ok(space)
    }

    /// Rows that can be measured, where not all can.
    pub(super) fn measured(&self) -> Option<usize> {
        let lifted = self.lift.as_ref().map(|lift| lift.values().len());
        self.codes.as_ref().map(TraversalCodes::len).or(lifted)
    }

    pub(super) fn is_shared(&self) -> bool {
        self.codes.as_ref().is_none_or(TraversalCodes::is_shared)
    }

    /// Copies codes that are read in place into memory of their own.
    pub(super) fn pin(&mut self) {
        self.codes.iter_mut().for_each(TraversalCodes::pin);
    }

    /// Bytes of the codes.
    pub(super) fn code_bytes(&self) -> usize {
        self.codes.as_ref().map_or(0, |codes| codes.len() * codes.row_bytes())
    }

    /// The same for rows of other numbers.
    pub(super) fn renumbered(&self, old_of_new: &[u32], new_of_old: &[Option<u32>]) -> Self {
        let new_number = |row: &u32| new_of_old.get(*row as usize).copied().flatten();
        Space {
            codes: self.codes.as_ref().map(|codes| codes.picked(old_of_new)),
            lift: self.lift.as_ref().map(|lift| lift.picked(old_of_new)),
            unjudged: self.unjudged.iter().filter_map(new_number).collect(),
            ..*self
        }
    }

    fn code_all(&mut self, vectors: &Vectors, basis: TraversalBasis) {
        let mut codes = TraversalCodes::new(basis);
        codes.grow(vectors.len());
        let all: Vec<u32> = (0..vectors.len() as u32).collect();
        codes.set_all(&all, |offset| vectors.row(offset));
        (self.codes, self.lift) = (Some(codes), None);
    }

    /// Whether walks go by codes.
    pub(super) fn has_codes(&self) -> bool {
        self.codes.is_some()
    }

    /// Heap bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.codes.as_ref().map_or(0, TraversalCodes::bytes)
    }

    /// Takes new or overwritten rows in.
    pub(crate) fn update(&mut self, vectors: &Vectors, offsets: &[u32]) {
        let live = vectors.live().count();
        let stale = live >= RETRAIN * self.trained && self.trained < PLENTY;
        let codable = vectors.metric() != Metric::Manhattan && vectors.dim() < MAX_DIM && !self.too_coarse;
        if codable && live >= LEAST_ROWS && (self.codes.is_none() || stale) {
            self.train(vectors);
        } else if let Some(codes) = &mut self.codes {
            codes.grow(vectors.len());
            codes.set_all(offsets, |offset| vectors.row(offset));
            self.unjudged.extend_from_slice(offsets);
            if self.unjudged.len() * JUDGE_AGAIN >= live {
                self.judge(vectors);
            }
        } else if vectors.metric() == Metric::DotProduct {
            if live >= 2 * self.trained {
                self.lift.get_or_insert_default().train(vectors);
                self.trained = live;
            } else if let Some(lift) = &mut self.lift {
                lift.grow(vectors);
                offsets.iter().for_each(|&offset| lift.set(vectors, offset));
            }
        }
    }

    /// Trains codes on live rows and codes all rows, dead ones that the graph still leads through included.
    fn train(&mut self, vectors: &Vectors) {
        let live: Vec<u32> = vectors.live().iter().collect();
        let count = TRAINING_ROWS.min(live.len());
        let mut sample = Vec::with_capacity(count * vectors.dim());
        for i in 0..count {
            // One row of every stretch, at a place that does not follow the order of the data.
            let (from, to) = (i * live.len() / count, (i + 1) * live.len() / count);
            let offset = live[from + (mix(SEED + i as u64) % (to - from) as u64) as usize];
            sample.extend_from_slice(&vectors.row(offset));
        }
        let basis = TraversalBasis::train(vectors.metric(), vectors.dim(), &sample, SEED);
        drop(sample);
        self.code_all(vectors, basis);
        self.trained = live.len();
        self.unjudged = live;
        self.judge(vectors);
    }

    /// Drops codes by which rows that were not judged yet do not find their neighbours.
    fn judge(&mut self, vectors: &Vectors) {
        let Some(codes) = &self.codes else { return };
        let unjudged = std::mem::take(&mut self.unjudged);
        let live: Vec<u32> = vectors.live().iter().collect();
        let mut others = evenly(&live, JUDGED_AGAINST);
        // Dense where the judged rows are, in case they are a crowd of their own.
        let mut crowd = evenly(&unjudged, JUDGED_AGAINST);
        crowd.retain(|&row| vectors.live().contains(row));
        let is_large = crowd.len() >= LARGE_CROWD;
        let most_ahead = if is_large { crowd.len() / AHEAD_SHARE } else { MOST_AHEAD };
        others.extend(crowd);
        others.sort_unstable();
        others.dedup();
        let judged = evenly(&unjudged, JUDGED_ROWS);
        let mut ahead: Vec<usize> = judged
            .par_iter()
            .map_init(
                || (TraversalQuery::default(), vec![0.0; others.len()], vec![0.0; others.len()]),
                |(query, exact, coded), &row| {
                    codes.prepare_row(row, query);
                    codes.score(query, &others, coded);
                    vectors.query(&vectors.row(row)).gather(&others, exact);
                    rows_ahead(exact, coded)
                },
            )
            .collect();
        ahead.sort_unstable();
        if ahead.get(judged.len() * 9 / 10).is_some_and(|&ahead| ahead > most_ahead) {
            self.codes = None;
            self.too_coarse = true;
            if vectors.metric() == Metric::DotProduct {
                self.lift.get_or_insert_default().train(vectors);
            }
        }
    }

    /// Runs `work` with the distances from a row.
    pub(crate) fn with_row<W: WithScorer>(&self, vectors: &Vectors, node: u32, work: W) -> W::Output {
        self.with_row_in(0, vectors, node, work)
    }

    /// The same inside of other work with a row.
    pub(crate) fn with_inner_row<W: WithScorer>(&self, vectors: &Vectors, node: u32, work: W) -> W::Output {
        self.with_row_in(1, vectors, node, work)
    }

    fn with_row_in<W: WithScorer>(&self, place: usize, vectors: &Vectors, node: u32, work: W) -> W::Output {
        let Some(codes) = &self.codes else {
            return work.run(&vectors.query_row(node, self.lift.as_ref()));
        };
        QUERIES.with(|queries| {
            let mut query = queries[place].borrow_mut();
            codes.prepare_row(node, &mut query);
            work.run(&CodeScorer { codes, query: &query })
        })
    }

    /// Runs `work` with the distances from a query of the codes; `None` when there are none, or the query's values do
    /// not allow it.
    pub(crate) fn with_coded_query<R>(
        &self,
        vector: &[f32],
        work: impl FnOnce(&CodeScorer<'_>) -> R,
    ) -> Option<R> {
        let codes = self.codes.as_ref()?;
        QUERIES.with(|queries| {
            let mut query = queries[0].borrow_mut();
            codes.prepare(vector, &mut query).then(|| work(&CodeScorer { codes, query: &query }))
        })
    }

    /// The distance at or below which two rows count as copies of each other, for this row.
    pub(crate) fn copy_distance(&self, vectors: &Vectors, node: u32, own: &impl Scorer) -> f32 {
        if self.codes.is_some() {
            // The distance of a code to itself holds what the code leaves out, twice.
            let mut distance = [0.0];
            own.score(&[node], &mut distance);
            return distance[0];
        }
        match vectors.metric() {
            // −cos of equal directions, with the rounding of one division.
            Metric::Cosine => -1.0 + 2.0 * f32::EPSILON,
            _ => 0.0,
        }
    }

    /// Candidates for the links of a node, nearest first.
    pub(crate) fn ranked(&self, nodes: &[u32], own: &impl Scorer) -> Vec<Candidate> {
        let mut distances = vec![0.0; nodes.len()];
        own.score(nodes, &mut distances);
        let mut ranked: Vec<Candidate> =
            nodes.iter().zip(distances).map(|(&node, distance)| Candidate { distance, node }).collect();
        ranked.sort_unstable_by(Candidate::order);
        ranked
    }
}

/// Rows that are nearer by code than one of the nearest by exact distance. Rows at the distance of the last of those are
/// not counted: it does not matter which of them are found.
fn rows_ahead(exact: &[f32], coded: &[f32]) -> usize {
    let mut order: Vec<usize> = (0..exact.len()).collect();
    let k = JUDGED_K.min(order.len());
    if k == 0 {
        return 0;
    }
    order.select_nth_unstable_by(k - 1, |&a, &b| exact[a].total_cmp(&exact[b]));
    let last = exact[order[k - 1]];
    let farthest = order[..k].iter().map(|&row| coded[row]).fold(f32::MIN, f32::max);
    exact.iter().zip(coded).filter(|&(&exact, &coded)| exact > last && coded < farthest).count()
}
