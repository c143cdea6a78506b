//! Which codes to keep, if any.
//!
//! How many leading directions the head codes cover, and whether eight-bit codes are kept, is chosen from the data: for
//! each choice, a sample tells which share of the rows its bounds leave, and the one that reads least memory wins, if it
//! wins over the plain scan at all.

use super::FlatScan;
use super::bounds::{Bounds, encode_both};
use super::cascade::{Limit, is_near};
use crate::{BitSet, Request, Vectors, evenly};
use vdb_distance::Metric;
use vdb_quant::{
    BLOCK_ROWS, FineHeadCodes, HeadBasis, HeadCodes, HeadRanges, MAX_DIM, leading_directions, spread,
};

/// Rows that the directions are found in.
const TRAINING_ROWS: usize = 4_096;
/// Rows and queries that a head's length is judged by.
const JUDGED_ROWS: usize = 4_096;
const JUDGED_QUERIES: usize = 24;
/// Rows searched for the true neighbours of the judging queries.
const TRUTH_ROWS: usize = 1 << 17;
/// A judging query's limit is the distance of this neighbour. Few searches ask for so many, but judging queries are rows
/// of the data, and real queries often lie farther from it: sentences against definitions, say.
const JUDGED_K: usize = 100;
/// The longest head considered.
pub(super) const LONGEST_HEAD: usize = 384;
/// Lengths considered, as far as the dimension allows.
const HEADS: [usize; 17] =
    [8, 16, 24, 32, 40, 48, 64, 96, 112, 128, 192, 208, 224, 240, 256, 320, LONGEST_HEAD];
/// What a byte of a survivor costs against a byte of the scan: survivors are read at random and bounded one by one.
const RANDOM_ACCESS: f64 = 4.0;
/// What eight-bit codes must save to be worth their memory.
const FINE_MARGIN: f64 = 1.1;
/// Bounds are used when they are expected to cost at most this share of the plain scan.
const WORTHWHILE: f64 = 0.75;
/// Decides the random turn of the directions. Any number does.
const SEED: u64 = 0x0f1a7;

/// Codes for all rows, if any head is worth it.
pub(super) fn train(vectors: &Vectors) -> Option<Bounds> {
    let metric = vectors.metric();
    let dim = vectors.dim();
    if metric == Metric::Manhattan || !(HEADS[0]..=MAX_DIM).contains(&dim) {
        return None;
    }
    let live: Vec<u32> = vectors.live().iter().collect();
    let (center, sample) = placed_sample(vectors, &evenly(&live, TRAINING_ROWS));
    let longest = HEADS.into_iter().filter(|&m| m <= dim).max()?;
    let directions = leading_directions(&sample, dim, longest, SEED);
    let judge = Judge::new(vectors, &live);
    let costs: Vec<(HeadBasis, [f64; 2])> = HEADS
        .into_iter()
        .filter(|&m| m <= dim)
        .map(|m| HeadBasis::new(metric, center.clone(), &spread(&directions[..m * dim], dim, SEED)))
        .map(|basis| {
            let costs = judge.costs(&basis);
            (basis, costs)
        })
        .collect();
    let best = |kind: usize| costs.iter().min_by(|a, b| a.1[kind].total_cmp(&b.1[kind]));
    let (coarse, fine) = (best(0)?, best(1)?);
    let is_fine = fine.1[1] * FINE_MARGIN < coarse.1[0];
    let (basis, cost) = if is_fine { (&fine.0, fine.1[1]) } else { (&coarse.0, coarse.1[0]) };
    (cost < WORTHWHILE * vectors.row_bytes() as f64).then(|| Bounds::build(basis.clone(), is_fine, vectors))
}

/// The mean of the rows and the centred rows; normalised first under Cosine, as they are coded.
fn placed_sample(vectors: &Vectors, offsets: &[u32]) -> (Vec<f32>, Vec<f32>) {
    let dim = vectors.dim();
    let mut rows = Vec::with_capacity(offsets.len() * dim);
    let mut sums = vec![0.0f64; dim];
    let mut counted = 0;
    for &offset in offsets {
        let row = vectors.row(offset);
        let norm = vdb_distance::norm(&row);
        if !vdb_distance::norm_is_ordinary(norm) {
            continue;
        }
        let scale = if vectors.metric() == Metric::Cosine { 1.0 / norm } else { 1.0 };
        rows.extend(row.iter().map(|value| value * scale));
        sums.iter_mut().zip(&*row).for_each(|(sum, &value)| *sum += f64::from(value * scale));
        counted += 1;
    }
    let center: Vec<f32> = sums.iter().map(|sum| (sum / f64::from(counted.max(1))) as f32).collect();
    for row in rows.chunks_exact_mut(dim) {
        row.iter_mut().zip(&center).for_each(|(value, center)| *value -= center);
    }
    (center, rows)
}

/// Rows of the data as queries, and the k-th distance that a search for them would reach.
struct Judge<'a> {
    vectors: &'a Vectors,
    rows: Vec<u32>,
    /// A row, and the comparable distance that bounds are held against.
    queries: Vec<(u32, f32)>,
}

impl<'a> Judge<'a> {
    fn new(vectors: &'a Vectors, live: &[u32]) -> Self {
        let truth_rows = evenly(live, TRUTH_ROWS);
        let searched = BitSet::from_members(vectors.len(), &truth_rows);
        // Fewer rows have fewer neighbours as near; the query itself is one of the hits.
        let k = (JUDGED_K * truth_rows.len()).div_ceil(live.len()) + 1;
        let queries = evenly(live, JUDGED_QUERIES)
            .into_iter()
            .filter_map(|offset| {
                let query = &vectors.row(offset);
                let request = Request { allowed: Some(&searched), ..Request::new(query, k) };
                let last = *FlatScan.search(vectors, &request).hits.last()?;
                Some((offset, Limit::new(vectors).of(vectors.query(query).bound(last.distance))))
            })
            .collect();
        Self { vectors, rows: evenly(live, JUDGED_ROWS), queries }
    }

    /// Bytes that a search reads per row of the data, a survivor's weighted as random access is: without eight-bit
    /// codes and with them.
    fn costs(&self, basis: &HeadBasis) -> [f64; 2] {
        let (coded, fine) = encode_both(basis, self.vectors, &self.rows);
        let ranges = HeadRanges::of(&coded);
        let (mut codes, mut fine_codes) =
            (HeadCodes::new(basis.m(), ranges), FineHeadCodes::new(basis.m(), ranges));
        coded.iter().for_each(|row| codes.push(row));
        fine.iter().for_each(|row| fine_codes.push(row));
        let blocks = self.rows.len().div_ceil(BLOCK_ROWS);
        let all = BitSet::from_fn(self.rows.len(), |_| true);
        // Rows that the four-bit codes leave, and the eight-bit codes of those.
        let mut left = [0; 2];
        let (mut near, mut rows, mut lower) = (Vec::new(), Vec::new(), Vec::new());
        for &(offset, limit) in &self.queries {
            let Some(query) = basis.query(&self.vectors.row(offset)) else {
                left = left.map(|count| count + self.rows.len());
                continue;
            };
            near.clear();
            codes.near(&query, 0..blocks, all.words(), limit, true, &mut near);
            rows.clear();
            rows.extend(near.iter().map(|near| near.row));
            lower.resize(rows.len(), 0.0);
            fine_codes.lower_bounds(&fine_codes.query(&query), &rows, &mut lower);
            left[0] += rows.len();
            left[1] += lower.iter().filter(|&&lower| is_near(lower, limit)).count();
        }
        let judged = (self.rows.len() * self.queries.len()).max(1);
        // Bytes read at random, weighted, a row of the data.
        let random = |count: usize, bytes: usize| (count * bytes) as f64 * RANDOM_ACCESS / judged as f64;
        let projection = (basis.m() * self.vectors.dim() * 4) as f64 / self.vectors.live().count() as f64;
        let scan = codes.row_bytes() as f64 + projection;
        let row_bytes = self.vectors.row_bytes();
        let looked_at = random(left[0], FineHeadCodes::row_bytes(basis.m()));
        [scan + random(left[0], row_bytes), scan + looked_at + random(left[1], row_bytes)]
    }
}
