//! Exact search by bounds (the cascade): four-bit head codes of every row, eight-bit codes of whole rows for what they
//! leave, exact distances for what those leave.
//!
//! Rows go through in chunks. Bounds of a chunk are written to a buffer that stays in the first cache; rows whose bounds
//! are not above the k-th distance so far are compared exactly, which lowers that distance for the next chunk. In the
//! first chunk the rows of the lowest bounds come first. A row is left out only when its lower bound, itself rigorous,
//! is above the k-th distance by more than the rounding of an exact comparison; equal distances are always compared, so
//! that ties are decided as in the plain scan.
//!
//! How many leading directions the head codes cover, and whether eight-bit codes are kept, is chosen from the data: for
//! each choice, a sample tells which share of the rows its bounds leave, and the one that reads least memory wins, if it
//! wins over the plain scan at all.

use super::FlatScan;
use crate::top_k::TopK;
use crate::vectors::Query;
use crate::{Answer, BitSet, Hit, Request, Vectors};
use rayon::prelude::*;
use vdb_distance::{AlignedVec, Metric, norm};
use vdb_quant::{
    BLOCK_ROWS, BoundedQuery, BoundedSq8, HeadBasis, HeadCodes, HeadQuery, HeadRow, MAX_DIM, Quantizer,
    Rotation, leading_directions, spread,
};

/// Values below which the plain scan stays in the caches and nothing is to be gained.
const SMALLEST: usize = 1 << 21;
/// Rows per dimension below which directions are not worth finding: they would hold for the sample alone, and finding
/// them takes longer, by the square of their number, than scans could win back.
const ROWS_PER_DIMENSION: usize = 4;
/// Rows whose bounds are computed at a time.
const CHUNK_ROWS: usize = 64 * BLOCK_ROWS;
/// Survivors that are compared at a time.
const SURVIVORS: usize = 32;
/// Bytes of codes below which a second thread costs more than it brings.
const PARALLEL_BYTES: usize = 1 << 21;
/// One matching row in this many, or fewer, are gathered without bounds.
const SPARSE: usize = 16;

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
const LONGEST_HEAD: usize = 384;
/// Lengths considered, as far as the dimension allows.
const HEADS: [usize; 12] = [8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 320, LONGEST_HEAD];
/// What a byte of a survivor costs against a byte of the scan: survivors are read at random and bounded one by one.
const RANDOM_ACCESS: f64 = 4.0;
/// What eight-bit codes must save to be worth their memory.
const FINE_MARGIN: f64 = 1.5;
/// Bounds are used when they are expected to cost at most this share of the plain scan.
const WORTHWHILE: f64 = 0.75;
/// Decides the random turn of the directions. Any number does.
const SEED: u64 = 0x0f1a7;

/// The exact index.
#[derive(Debug, Clone, Default)]
pub struct Flat {
    bounds: Option<Bounds>,
    /// Live rows when it was last decided whether bounds pay.
    trained: usize,
}

#[derive(Debug, Clone)]
struct Bounds {
    basis: HeadBasis,
    codes: HeadCodes,
    fine: Option<Fine>,
}

/// Eight-bit codes of whole rows, as they are: a second bound, tighter by an order of magnitude.
#[derive(Debug, Clone)]
struct Fine {
    quantizer: BoundedSq8,
    rows: AlignedVec<u8>,
    /// The largest norm of a row coded so far.
    max_norm: f32,
}

/// What is needed to code the same rows again, for storing it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FlatParts {
    /// What rows are centred by; empty where bounds are not used.
    pub center: Vec<f32>,
    /// Orthonormal directions, one after the other.
    pub directions: Vec<f32>,
    /// Whether eight-bit codes are kept, too.
    pub fine: bool,
    /// Live rows when the directions were chosen.
    pub trained: u64,
}

impl Flat {
    /// An index over no rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Heap bytes held, the vectors not included.
    pub fn bytes(&self) -> usize {
        self.bounds.as_ref().map_or(0, Bounds::bytes)
    }

    /// Bytes that a scan reads for each row before any exact comparison; `None` where every row is compared exactly.
    pub fn row_bytes(&self) -> Option<usize> {
        self.bounds.as_ref().map(|bounds| bounds.codes.row_bytes())
    }

    /// Takes note of new or overwritten live rows.
    ///
    /// When the live rows have doubled, directions and head length are chosen anew and all rows are coded again.
    ///
    /// # Complexity
    /// m × d products a row; choosing takes about as long as a few dozen plain scans.
    pub fn insert(&mut self, vectors: &Vectors, offsets: &[u32]) {
        let live = vectors.live().count();
        let enough = live * vectors.dim() >= SMALLEST && live >= ROWS_PER_DIMENSION * vectors.dim();
        if enough && live >= 2 * self.trained {
            self.trained = live;
            self.bounds = train(vectors);
        } else if let Some(bounds) = &mut self.bounds {
            // Rows that no insertion has reached yet lie between; they are coded on the way.
            let first = bounds.codes.len() as u32;
            let last = offsets.iter().copied().max().unwrap_or(0);
            bounds.push_up_to(vectors, last + 1);
            bounds.set(vectors, offsets.iter().copied().filter(|&offset| offset < first));
        }
    }

    /// The true nearest rows: what [`FlatScan::search`] answers, bit for bit.
    ///
    /// # Panics
    /// When the query has another dimension than the vectors.
    pub fn search(&self, vectors: &Vectors, request: &Request<'_>) -> Answer {
        let Some(bounds) = &self.bounds else { return FlatScan.search(vectors, request) };
        let matching = request.matching(vectors);
        let k = request.k.min(matching.count());
        let prepared = bounds.basis.query(request.query);
        let query = vectors.query(request.query);
        // A large k leaves most rows, and an undirected query all of them.
        let pays = matching.count() * SPARSE > vectors.len() && k * SPARSE < matching.count();
        let Some(prepared) = prepared.filter(|_| pays && !query.is_undirected()) else {
            return FlatScan.search(vectors, request);
        };
        let scan = Scan {
            codes: &bounds.codes,
            prepared,
            fine: bounds.fine.as_ref().map(|fine| FineScan::new(fine, vectors, request.query)),
            query,
            matching: &matching,
            limit: Limit::new(vectors),
        };
        let (top, computed) = scan.run(k, request);
        Answer { hits: top.into_sorted(), exact: true, distance_computations: computed }
    }

    /// What is needed to code the same rows again.
    pub fn to_parts(&self) -> FlatParts {
        let parts = self.bounds.as_ref().map(|bounds| bounds.basis.parts());
        let (center, directions) = parts.unwrap_or_default();
        FlatParts {
            center: center.to_vec(),
            directions: directions.to_vec(),
            fine: self.bounds.as_ref().is_some_and(|bounds| bounds.fine.is_some()),
            trained: self.trained as u64,
        }
    }

    /// The index over `vectors` from stored parts; all rows are coded again.
    ///
    /// # Errors
    /// A sentence that says what does not fit.
    pub fn from_parts(vectors: &Vectors, parts: FlatParts) -> Result<Self, String> {
        let FlatParts { center, directions, fine, trained } = parts;
        let trained = trained as usize;
        if center.is_empty() && directions.is_empty() {
            return Ok(Self { bounds: None, trained });
        }
        let (dim, len) = (vectors.dim(), directions.len());
        let fits =
            center.len() == dim && len.is_multiple_of(dim * 8) && (1..=dim * LONGEST_HEAD).contains(&len);
        if !fits || len / dim > dim || dim > MAX_DIM {
            return Err(format!(
                "{} centre values and {len} of directions for {dim} dimensions",
                center.len()
            ));
        }
        if vectors.metric() == Metric::Manhattan {
            return Err("a Manhattan distance has no bounds".to_owned());
        }
        let basis = HeadBasis::try_new(vectors.metric(), center, &directions)?;
        Ok(Self { bounds: Some(Bounds::build(basis, fine, vectors)), trained })
    }
}

impl Bounds {
    fn build(basis: HeadBasis, fine: bool, vectors: &Vectors) -> Self {
        let mut codes = HeadCodes::new(basis.m());
        codes.reserve(vectors.len());
        let mut bounds = Self { basis, codes, fine: fine.then(|| Fine::new(vectors)) };
        bounds.push_up_to(vectors, vectors.len() as u32);
        bounds
    }

    fn bytes(&self) -> usize {
        self.basis.bytes() + self.codes.bytes() + self.fine.as_ref().map_or(0, |fine| fine.rows.bytes())
    }

    /// Codes the rows below `end` that are not coded yet.
    fn push_up_to(&mut self, vectors: &Vectors, end: u32) {
        let fresh: Vec<u32> = (self.codes.len() as u32..end).collect();
        for part in fresh.chunks(1 << 16) {
            encode(&self.basis, vectors, part).iter().for_each(|row| self.codes.push(row));
        }
        if let Some(fine) = &mut self.fine {
            fine.code(vectors, &fresh);
        }
    }

    /// Codes overwritten rows again.
    fn set(&mut self, vectors: &Vectors, offsets: impl Iterator<Item = u32>) {
        let offsets: Vec<u32> = offsets.collect();
        for (row, &offset) in encode(&self.basis, vectors, &offsets).iter().zip(&offsets) {
            self.codes.set(offset as usize, row);
        }
        if let Some(fine) = &mut self.fine {
            offsets.iter().for_each(|&offset| fine.code(vectors, &[offset]));
        }
    }
}

impl Fine {
    fn new(vectors: &Vectors) -> Self {
        let dim = vectors.dim();
        let quantizer = BoundedSq8::new(Rotation::identity(dim), dim);
        let mut rows = AlignedVec::new();
        rows.reserve_exact(vectors.len() * quantizer.code_bytes());
        Self { quantizer, rows, max_norm: 0.0 }
    }

    /// Bytes of a row of so many dimensions.
    fn row_bytes(dim: usize) -> usize {
        BoundedSq8::new(Rotation::identity(dim), dim).code_bytes()
    }

    /// Codes consecutive rows.
    fn code(&mut self, vectors: &Vectors, offsets: &[u32]) {
        let (Some(&first), Some(&last)) = (offsets.first(), offsets.last()) else { return };
        let bytes = self.quantizer.code_bytes();
        let end = (last as usize + 1) * bytes;
        if self.rows.len() < end {
            self.rows.resize(end, 0);
        }
        let quantizer = &self.quantizer;
        let rows = self.rows[first as usize * bytes..end].par_chunks_mut(bytes).zip(offsets);
        let norms = rows.with_min_len(64).map(|(row, &offset)| {
            quantizer.encode(vectors.row(offset), row);
            norm(vectors.row(offset))
        });
        self.max_norm = norms.reduce(|| self.max_norm, f32::max);
    }
}

fn encode(basis: &HeadBasis, vectors: &Vectors, offsets: &[u32]) -> Vec<HeadRow> {
    offsets.par_iter().with_min_len(64).map(|&offset| basis.encode(vectors.row(offset))).collect()
}

/// Turns the k-th distance so far into the largest lower bound that is still to be looked at.
#[derive(Clone, Copy)]
struct Limit {
    metric: Metric,
    /// How far off a distance computed in f32 can be, relative to its terms.
    rounding: f32,
}

impl Limit {
    fn new(vectors: &Vectors) -> Self {
        let rounding = (vectors.dim() as f32 / 128.0 + 8.0) * f32::EPSILON;
        Self { metric: vectors.metric(), rounding }
    }

    /// `comparable` is a bound on comparable distances as the indexes compute them.
    fn of(self, comparable: f32) -> f32 {
        match self.metric {
            // Bounds are on the unit sphere: ‖q − x‖² = 2 − 2 cos.
            Metric::Cosine => 2.0 + 2.0 * (comparable + 2.0 * self.rounding),
            Metric::Euclidean => comparable * (1.0 + 4.0 * self.rounding),
            _ => comparable,
        }
    }
}

/// A search's view of the eight-bit codes.
struct FineScan<'a> {
    rows: &'a [u8],
    prepared: BoundedQuery,
    vectors: &'a Vectors,
    query_norm: f32,
    /// What the rounding of exact comparisons can be, in comparable distances.
    rounding: f32,
}

impl<'a> FineScan<'a> {
    fn new(fine: &'a Fine, vectors: &'a Vectors, query: &[f32]) -> Self {
        let query_norm = norm(query);
        let relative = 4.0 * Limit::new(vectors).rounding;
        let (metric, rounding) = match vectors.metric() {
            Metric::Euclidean => (Metric::Euclidean, 0.0),
            // The product is bounded, and divided by the norms afterwards.
            Metric::Cosine => (Metric::DotProduct, relative),
            other => (other, relative * query_norm * fine.max_norm),
        };
        let prepared = fine.quantizer.query(metric, query);
        Self { rows: &fine.rows, prepared, vectors, query_norm, rounding }
    }

    /// Keeps the rows that may be within `limit`, a comparable distance as the indexes compute it; gives how many.
    fn retain(&self, rows: &mut [u32], limit: Limit, comparable: f32) -> usize {
        let (mut lower, mut upper) = ([0.0f32; SURVIVORS], [0.0f32; SURVIVORS]);
        let count = rows.len();
        self.prepared.gather_bounds(self.rows, rows, &mut lower[..count], &mut upper[..count]);
        let limit = match limit.metric {
            Metric::Euclidean => limit.of(comparable),
            _ => comparable + self.rounding,
        };
        let mut kept = 0;
        for index in 0..count {
            let bound = match self.vectors.metric() {
                Metric::Cosine => lower[index] / (self.query_norm * self.vectors.norm(rows[index])),
                _ => lower[index],
            };
            rows[kept] = rows[index];
            kept += usize::from(is_near(bound, limit));
        }
        kept
    }
}

/// One search.
struct Scan<'a> {
    codes: &'a HeadCodes,
    prepared: HeadQuery,
    fine: Option<FineScan<'a>>,
    query: Query<'a>,
    matching: &'a BitSet,
    limit: Limit,
}

impl Scan<'_> {
    fn run<'r>(&self, k: usize, request: &Request<'r>) -> (TopK<'r>, usize) {
        let rows = self.codes.len();
        let top = || (TopK::new(k, request.tie_break), 0);
        let threads = rayon::current_num_threads();
        if threads == 1 || rows * self.codes.row_bytes() < PARALLEL_BYTES {
            return self.scan_rows(0..rows, top());
        }
        let task_rows = rows.div_ceil(threads).next_multiple_of(CHUNK_ROWS);
        (0..rows.div_ceil(task_rows))
            .into_par_iter()
            .map(|task| self.scan_rows(task * task_rows..rows.min((task + 1) * task_rows), top()))
            .reduce(top, |(a, m), (b, n)| (a.merge(b), m + n))
    }

    fn scan_rows<'r>(
        &self,
        range: std::ops::Range<usize>,
        (mut top, mut computed): (TopK<'r>, usize),
    ) -> (TopK<'r>, usize) {
        let mut bounds = [0.0f32; CHUNK_ROWS];
        let mut survivors = Vec::with_capacity(CHUNK_ROWS);
        let mut limit = f32::INFINITY;
        let mut comparable = f32::INFINITY;
        for first in range.clone().step_by(CHUNK_ROWS) {
            let rows = (range.end - first).min(CHUNK_ROWS);
            let bounds = &mut bounds[..rows.next_multiple_of(BLOCK_ROWS)];
            self.codes.lower_bounds(&self.prepared, first / BLOCK_ROWS, bounds);
            survivors.clear();
            let near = bounds[..rows].iter().enumerate().filter(|(_, bound)| is_near(**bound, limit));
            survivors.extend(near.map(|(row, &bound)| (bound, (first + row) as u32)));
            survivors.retain(|&(_, row)| self.matching.contains(row));
            if top.worst().is_none() {
                survivors.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
            }
            for some in survivors.chunks(SURVIVORS) {
                computed += self.compare(some, &mut comparable, &mut top);
                limit = self.limit.of(comparable);
            }
        }
        (top, computed)
    }

    /// Compares rows exactly, those that `comparable`, the k-th distance so far, does not exclude; updates it.
    fn compare(&self, survivors: &[(f32, u32)], comparable: &mut f32, top: &mut TopK<'_>) -> usize {
        let mut rows = [0u32; SURVIVORS];
        let mut distances = [0.0f32; SURVIVORS];
        let mut count = 0;
        let limit = self.limit.of(*comparable);
        for &(_, row) in survivors.iter().filter(|(bound, _)| is_near(*bound, limit)) {
            rows[count] = row;
            count += 1;
        }
        if let Some(fine) = self.fine.as_ref().filter(|_| comparable.is_finite()) {
            count = fine.retain(&mut rows[..count], self.limit, *comparable);
        }
        self.query.gather(&rows[..count], &mut distances[..count]);
        let mut changed = false;
        for (&offset, &distance) in rows[..count].iter().zip(&distances) {
            changed |= top.push(Hit { offset, distance: self.query.finish(offset, distance) });
        }
        if changed && let Some(worst) = top.worst() {
            *comparable = self.query.bound(worst);
        }
        count
    }
}

/// Whether a row with this lower bound has to be compared; one whose bound is NaN has.
#[inline]
fn is_near(bound: f32, limit: f32) -> bool {
    bound.is_nan() || bound <= limit
}

/// Codes for all rows, if any head is worth it.
fn train(vectors: &Vectors) -> Option<Bounds> {
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
    let best = HEADS
        .into_iter()
        .filter(|&m| m <= dim)
        .map(|m| HeadBasis::new(metric, center.clone(), &spread(&directions[..m * dim], dim, SEED)))
        .flat_map(|basis| judge.costs(&basis).map(|(cost, fine)| (cost, fine, basis.clone())))
        .min_by(|a, b| a.0.total_cmp(&b.0))?;
    let (cost, fine, basis) = best;
    (cost < WORTHWHILE * (dim * 4) as f64).then(|| Bounds::build(basis, fine, vectors))
}

/// At most `count` of `offsets`, evenly spaced.
fn evenly(offsets: &[u32], count: usize) -> Vec<u32> {
    let count = count.min(offsets.len());
    (0..count).map(|i| offsets[i * offsets.len() / count]).collect()
}

/// The mean of the rows and the centred rows; normalised first under Cosine, as they are coded.
fn placed_sample(vectors: &Vectors, offsets: &[u32]) -> (Vec<f32>, Vec<f32>) {
    let dim = vectors.dim();
    let mut rows = Vec::with_capacity(offsets.len() * dim);
    let mut sums = vec![0.0f64; dim];
    let mut counted = 0;
    for &offset in offsets {
        let row = vectors.row(offset);
        let norm = vdb_distance::norm(row);
        if !vdb_distance::norm_is_ordinary(norm) {
            continue;
        }
        let scale = if vectors.metric() == Metric::Cosine { 1.0 / norm } else { 1.0 };
        rows.extend(row.iter().map(|value| value * scale));
        sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value * scale));
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
                let query = vectors.row(offset);
                let request = Request { allowed: Some(&searched), ..Request::new(query, k) };
                let last = *FlatScan.search(vectors, &request).hits.last()?;
                Some((offset, Limit::new(vectors).of(vectors.query(query).bound(last.distance))))
            })
            .collect();
        Self { vectors, rows: evenly(live, JUDGED_ROWS), queries }
    }

    /// Bytes that a search reads per row of the data, a survivor's weighted as random access is: without eight-bit
    /// codes and with them.
    fn costs(&self, basis: &HeadBasis) -> [(f64, bool); 2] {
        let mut codes = HeadCodes::new(basis.m());
        encode(basis, self.vectors, &self.rows).iter().for_each(|row| codes.push(row));
        let mut bounds = vec![0.0; self.rows.len().next_multiple_of(BLOCK_ROWS)];
        let mut survivors = 0;
        for &(offset, limit) in &self.queries {
            let Some(query) = basis.query(self.vectors.row(offset)) else {
                survivors += self.rows.len();
                continue;
            };
            codes.lower_bounds(&query, 0, &mut bounds);
            survivors += bounds[..self.rows.len()].iter().filter(|bound| is_near(**bound, limit)).count();
        }
        let judged = (self.rows.len() * self.queries.len()).max(1);
        let share = survivors as f64 / judged as f64;
        let row_bytes = (self.vectors.dim() * 4) as f64;
        let fine_bytes = Fine::row_bytes(self.vectors.dim()) as f64;
        let projection = basis.m() as f64 * row_bytes / self.vectors.live().count() as f64;
        let scan = codes.row_bytes() as f64 + projection;
        // What eight-bit codes leave is hardly more than the hits themselves.
        [
            (scan + share * row_bytes * RANDOM_ACCESS, false),
            (scan + share * fine_bytes * RANDOM_ACCESS * FINE_MARGIN, true),
        ]
    }
}
