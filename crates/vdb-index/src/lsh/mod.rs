//! LSH: random-hyperplane hashing (Charikar, STOC 2002) with query-directed multi-probe (Lv et al., VLDB 2007).
//!
//! A vector's code in a table has one bit per hyperplane, packed into an integer that addresses its bucket directly:
//! codes are as long as leaves about eight rows a bucket, and grow with the rows. Normals are Gaussian, so that the
//! chance of equal bits is 1 − θ/π. Data is centred first, since embeddings that point the same way share most bits
//! otherwise; under DotProduct rows get the extra coordinate that makes the largest product the smallest angle
//! (Neyshabur & Srebro, ICML 2015). Centre and norm are retrained, and everything rehashed, whenever the rows double.
//!
//! A query looks into buckets in the order of how little its projections would have to move to fall into them, over
//! all tables at once, and gathers a pool of rows that may be hits, a few times as many as it is to compare. The codes
//! of all tables together then rank the pool: a row costs what the query would have to move in every table. The best
//! are compared exactly. When probing bucket by bucket no longer pays, all buckets are ranked at once, and in the end
//! every row is in the pool.

mod probe;

use crate::top_k::TopK;
use crate::{Answer, BitSet, Hit, Request, Vectors};
use probe::ProbeSequence;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use vdb_distance::{Kernels, Metric, dot, norm};

/// Parameters of the tables, fixed when they are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LshParams {
    /// Hash tables (paper: L). More: better recall at equal candidates, more memory. 1 to 1,024. Default 10.
    pub num_tables: usize,
    /// Hyperplanes, so bits, per table at most (paper: k or M). n rows use log2(n / 8) of them: longer codes would
    /// leave most buckets empty and make every probe a miss. 1 to 64. Default 20.
    pub num_functions: usize,
    /// Decides the hyperplanes. Default 0.
    pub seed: u64,
}

impl Default for LshParams {
    fn default() -> Self {
        Self { num_tables: 10, num_functions: 20, seed: 0 }
    }
}

/// Rows a query looks at per wanted hit when the caller does not say.
const CANDIDATES_PER_HIT: usize = 64;
/// And at least this share of the rows: one in so many.
const CANDIDATES_SHARE: usize = 20;
/// The most hash tables.
const MAX_TABLES: usize = 1_024;

/// Rows that share a bucket if they spread evenly.
const ROWS_PER_BUCKET: usize = 8;
/// Rows gathered from buckets for each one that is compared exactly.
const POOL_FACTOR: usize = 8;
/// A pool of more than one in this many of the matching rows is all of them: ranking a row costs less than finding it.
const POOL_SHARE: usize = 4;
/// All buckets are ranked at once when more than one in this many would be probed.
const PROBED_SHARE: usize = 8;

/// One table: the rows of each code.
type Table = Vec<Vec<u32>>;

/// The hash index.
#[derive(Debug, Clone)]
pub struct Lsh {
    params: LshParams,
    hyperplanes: Option<Hyperplanes>,
    tables: Vec<Table>,
    /// `num_tables` codes for each row, by offset.
    codes: Vec<u32>,
    /// Rows in the tables.
    rows: BitSet,
    /// Rows when the hyperplanes were last fitted to the data.
    trained: usize,
}

/// Hash tables as plain arrays, for storing them.
#[derive(Debug, Clone, PartialEq)]
pub struct LshParts {
    /// The parameters they were built with.
    pub params: LshParams,
    /// What hashing subtracts from a row; empty while nothing was inserted.
    pub center: Vec<f32>,
    /// The norm that rows are lifted to under DotProduct.
    pub max_norm: f32,
    /// Rows when the centre was computed.
    pub trained: u64,
    /// The rows in the tables, ascending.
    pub rows: Vec<u32>,
    /// `num_tables` codes per row of `rows`.
    pub codes: Vec<u32>,
}

/// The random directions and how vectors are placed before they are compared with them.
#[derive(Debug, Clone)]
struct Hyperplanes {
    /// Bits per table.
    bits: usize,
    /// num_tables × bits rows of dim + 1 values; the last one belongs to the lift.
    normals: Vec<f32>,
    width: usize,
    center: Vec<f32>,
    /// Each normal's product with the centre.
    center_products: Vec<f32>,
    max_norm: f32,
}

impl Hyperplanes {
    /// The directions for `rows` rows.
    fn new(params: &LshParams, rows: usize, center: Vec<f32>, max_norm: f32) -> Self {
        let width = center.len() + 1;
        let bits = params.bits(rows);
        let mut rng = ChaCha8Rng::seed_from_u64(params.seed);
        let count = params.num_tables * bits;
        let normals: Vec<f32> = (0..count * width).map(|_| StandardNormal.sample(&mut rng)).collect();
        let center_products =
            normals.chunks_exact(width).map(|normal| dot(&normal[..width - 1], &center)).collect();
        Self { bits, normals, width, center, center_products, max_norm }
    }

    /// Fits the centre and the norm to the live rows.
    fn fit(params: &LshParams, vectors: &Vectors) -> Self {
        let metric = vectors.metric();
        let mut sum = vec![0.0f64; vectors.dim()];
        for offset in vectors.live().iter() {
            let scale = unit_scale(metric, vectors.row(offset));
            for (sum, &value) in sum.iter_mut().zip(vectors.row(offset)) {
                *sum += f64::from(value) * f64::from(scale);
            }
        }
        let rows = vectors.live().count();
        let center: Vec<f32> = sum.into_iter().map(|sum| (sum / rows.max(1) as f64) as f32).collect();
        let max_norm = match metric {
            Metric::DotProduct => {
                let live = vectors.live().iter();
                live.map(|offset| centred_norm(vectors.row(offset), &center)).fold(0.0, f32::max)
            }
            _ => 0.0,
        };
        Self::new(params, rows, center, max_norm)
    }

    /// How far a row lies on the positive side of each hyperplane.
    fn project_row(&self, metric: Metric, row: &[f32]) -> Vec<f32> {
        let scale = unit_scale(metric, row);
        let lift = match metric {
            Metric::DotProduct => {
                let norm = centred_norm(row, &self.center);
                (self.max_norm - norm).max(0.0).sqrt() * (self.max_norm + norm).sqrt()
            }
            _ => 0.0,
        };
        let mut projections = self.products(row);
        let normals = self.normals.chunks_exact(self.width);
        for ((projection, center), normal) in projections.iter_mut().zip(&self.center_products).zip(normals) {
            *projection = *projection * scale - center + lift * normal[self.width - 1];
        }
        projections
    }

    /// The same for a query, scaled so that squared margins of different tables can be compared.
    fn project_query(&self, metric: Metric, query: &[f32]) -> Vec<f32> {
        if metric == Metric::DotProduct {
            // Shifting every row shifts every product alike, so only rows are centred, never the query.
            return self.products(query);
        }
        self.project_row(metric, query)
    }

    fn products(&self, vector: &[f32]) -> Vec<f32> {
        let mut products = vec![0.0; self.center_products.len()];
        Kernels::get().dot_rows(vector, &self.normals, self.width, 0, &mut products);
        products
    }
}

impl LshParams {
    /// Bits per table for `rows` rows.
    fn bits(&self, rows: usize) -> usize {
        let full = (rows / ROWS_PER_BUCKET).max(2).ilog2() as usize;
        full.min(self.num_functions)
    }
}

/// Under Cosine only the direction counts.
fn unit_scale(metric: Metric, vector: &[f32]) -> f32 {
    match metric {
        Metric::Cosine => {
            let norm = norm(vector);
            if norm == 0.0 { 0.0 } else { 1.0 / norm }
        }
        _ => 1.0,
    }
}

fn centred_norm(row: &[f32], center: &[f32]) -> f32 {
    vdb_distance::l2_squared(row, center).sqrt()
}

/// The code that a table's share of projections stands for: bit i is set when projection i is not negative.
fn code(projections: &[f32]) -> usize {
    projections
        .iter()
        .enumerate()
        .fold(0, |code, (bit, &projection)| code | (usize::from(projection >= 0.0) << bit))
}

impl Lsh {
    /// Empty tables.
    ///
    /// # Panics
    /// When `num_tables` is outside 1 to 1,024, or `num_functions` outside 1 to 64.
    pub fn new(params: LshParams) -> Self {
        let tables = params.num_tables;
        assert!((1..=MAX_TABLES).contains(&tables), "num_tables is {tables}, expected 1 to {MAX_TABLES}");
        let functions = params.num_functions;
        assert!((1..=64).contains(&functions), "num_functions is {functions}, expected 1 to 64");
        Self {
            params,
            hyperplanes: None,
            tables: vec![Table::new(); params.num_tables],
            codes: Vec::new(),
            rows: BitSet::default(),
            trained: 0,
        }
    }

    /// The parameters they were made with.
    pub fn params(&self) -> &LshParams {
        &self.params
    }

    /// Heap bytes held, the vectors not included.
    pub fn bytes(&self) -> usize {
        let normals = self.hyperplanes.as_ref().map_or(0, |planes| planes.normals.len() * 4);
        let table = |table: &Table| -> usize {
            table.iter().map(|rows| rows.capacity() * 4 + size_of::<Vec<u32>>()).sum()
        };
        normals + self.codes.capacity() * 4 + self.tables.iter().map(table).sum::<usize>()
    }

    /// Adds live rows to the tables; they must not be in them yet.
    ///
    /// # Complexity
    /// `num_tables` × log2(n / 8) products a row, and as much again each time the number of rows has doubled.
    ///
    /// # Panics
    /// When an offset is not a live row of `vectors`.
    pub fn insert(&mut self, vectors: &Vectors, offsets: &[u32]) {
        assert!(offsets.iter().all(|&offset| vectors.live().contains(offset)), "an offset is not live");
        if offsets.is_empty() {
            return;
        }
        if vectors.live().count() >= 2 * self.trained {
            self.trained = vectors.live().count();
            self.use_hyperplanes(Hyperplanes::fit(&self.params, vectors));
            let all: Vec<u32> = vectors.live().iter().collect();
            return self.add(vectors, &all);
        }
        self.add(vectors, offsets);
    }

    /// Empties the tables and sizes them for other codes.
    fn use_hyperplanes(&mut self, hyperplanes: Hyperplanes) {
        self.tables = vec![vec![Vec::new(); 1 << hyperplanes.bits]; self.params.num_tables];
        self.rows = BitSet::default();
        self.hyperplanes = Some(hyperplanes);
    }

    fn add(&mut self, vectors: &Vectors, offsets: &[u32]) {
        let codes: Vec<Vec<u32>> =
            offsets.par_iter().with_min_len(64).map(|&offset| self.hash(vectors, offset)).collect();
        for (&offset, codes) in offsets.iter().zip(&codes) {
            self.put(offset, codes);
        }
    }

    fn put(&mut self, offset: u32, codes: &[u32]) {
        self.rows.insert(offset);
        for (table, &code) in self.tables.iter_mut().zip(codes) {
            table[code as usize].push(offset);
        }
        let start = offset as usize * codes.len();
        if self.codes.len() < start + codes.len() {
            self.codes.resize(start + codes.len(), 0);
        }
        self.codes[start..start + codes.len()].copy_from_slice(codes);
    }

    /// The row's code in every table.
    fn codes(&self, offset: u32) -> &[u32] {
        let start = offset as usize * self.params.num_tables;
        &self.codes[start..start + self.params.num_tables]
    }

    fn hash(&self, vectors: &Vectors, offset: u32) -> Vec<u32> {
        let planes = self.hyperplanes.as_ref().expect("fitted before the first row is added");
        let projections = planes.project_row(vectors.metric(), vectors.row(offset));
        projections.chunks_exact(planes.bits).map(|table| code(table) as u32).collect()
    }

    /// Takes a row out of the tables.
    pub fn remove(&mut self, offset: u32) {
        if !self.rows.remove(offset) {
            return;
        }
        for index in 0..self.params.num_tables {
            let code = self.codes(offset)[index];
            self.tables[index][code as usize].retain(|&row| row != offset);
        }
    }

    /// The nearest of the `candidates` matching rows whose codes are nearest; k hits whenever k match.
    ///
    /// `None` compares 64 rows a hit and at least 5 % of the rows. The answer is exact when every matching row was
    /// compared.
    ///
    /// # Panics
    /// When the query has another dimension than the vectors.
    pub fn search(&self, vectors: &Vectors, request: &Request<'_>, candidates: Option<usize>) -> Answer {
        let matching = request.matching(vectors);
        let k = request.k.min(matching.count());
        let default = || (k * CANDIDATES_PER_HIT).max(self.rows.count() / CANDIDATES_SHARE);
        let wanted = candidates.unwrap_or_else(default).max(k).min(matching.count());
        let query = vectors.query(request.query);
        if wanted == matching.count() || query.is_undirected() {
            return crate::FlatScan.search(vectors, request);
        }
        let found = self.candidates(vectors, request.query, &matching, wanted);
        let mut distances = vec![0.0; found.len()];
        query.gather(&found, &mut distances);
        let mut top = TopK::new(k, request.tie_break);
        for (&offset, &distance) in found.iter().zip(&distances) {
            top.push(Hit { offset, distance: query.finish(offset, distance) });
        }
        let exact = found.len() == matching.count();
        Answer { hits: top.into_sorted(), exact, distance_computations: found.len() }
    }

    /// The `wanted` matching rows whose codes are nearest to the query's, of those in the likeliest buckets.
    fn candidates(&self, vectors: &Vectors, query: &[f32], matching: &BitSet, wanted: usize) -> Vec<u32> {
        let planes = self.hyperplanes.as_ref().expect("fitted, since rows match");
        let projections = planes.project_query(vectors.metric(), query);
        let costs: Vec<Vec<f32>> = projections.chunks_exact(planes.bits).map(probe::code_costs).collect();
        let pool = self.pool(&projections, &costs, matching, wanted * POOL_FACTOR);
        let mut ranked: Vec<(f32, u32)> = pool
            .into_iter()
            .map(|row| {
                (self.codes(row).iter().zip(&costs).map(|(&code, costs)| costs[code as usize]).sum(), row)
            })
            .collect();
        if ranked.len() > wanted {
            let order = |a: &(f32, u32), b: &(f32, u32)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
            ranked.select_nth_unstable_by(wanted, order);
            ranked.truncate(wanted);
        }
        ranked.into_iter().map(|(_, row)| row).collect()
    }

    /// At least `wanted` matching rows from the likeliest buckets, all of them if there are fewer.
    fn pool(&self, projections: &[f32], costs: &[Vec<f32>], matching: &BitSet, wanted: usize) -> Vec<u32> {
        if wanted * POOL_SHARE > matching.count() {
            return matching.iter().collect();
        }
        let mut seen = BitSet::new(matching.len());
        let mut pool = Vec::with_capacity(wanted);
        let mut collect = |rows: &[u32]| {
            pool.extend(rows.iter().copied().filter(|&row| matching.contains(row) && seen.insert(row)));
            pool.len() < wanted
        };
        let bits = projections.len() / costs.len();
        let limit = (costs.len() << bits) / PROBED_SHARE;
        for (table, code) in ProbeSequence::new(projections, bits).take(limit) {
            if !collect(&self.tables[table][code]) {
                return pool;
            }
        }
        for (table, code) in probe::ranked(costs) {
            if !collect(&self.tables[table][code]) {
                break;
            }
        }
        pool
    }

    /// The tables as plain arrays.
    pub fn to_parts(&self) -> LshParts {
        let rows: Vec<u32> = self.rows.iter().collect();
        let codes = rows.iter().flat_map(|&row| self.codes(row)).copied().collect();
        let planes = self.hyperplanes.as_ref();
        LshParts {
            params: self.params,
            center: planes.map_or(Vec::new(), |planes| planes.center.clone()),
            max_norm: planes.map_or(0.0, |planes| planes.max_norm),
            trained: self.trained as u64,
            rows,
            codes,
        }
    }

    /// Tables over `vectors` from plain arrays.
    ///
    /// # Errors
    /// A sentence that says what does not fit: parameters out of range, array lengths, rows that are not live.
    pub fn from_parts(vectors: &Vectors, parts: LshParts) -> Result<Self, String> {
        let LshParts { params, center, max_norm, trained, rows, codes } = parts;
        if !(1..=MAX_TABLES).contains(&params.num_tables) || !(1..=64).contains(&params.num_functions) {
            return Err(format!("{} tables of {} functions", params.num_tables, params.num_functions));
        }
        if Some(codes.len()) != rows.len().checked_mul(params.num_tables) {
            return Err(format!("{} codes for {} rows", codes.len(), rows.len()));
        }
        if !rows.iter().copied().eq(vectors.live().iter()) {
            return Err("its rows are not those of the vectors".to_owned());
        }
        if center.len() != vectors.dim() && !(center.is_empty() && rows.is_empty()) {
            return Err(format!("its centre has {} values, expected {}", center.len(), vectors.dim()));
        }
        let bits = params.bits(trained as usize);
        // Nothing is trained on more rows than there are places for; that bounds the tables, too.
        if trained > vectors.len() as u64 || codes.iter().any(|code| code >> bits != 0) {
            return Err(format!("a code is longer than the {bits} bits that {trained} rows have"));
        }
        let mut lsh = Self::new(params);
        lsh.trained = trained as usize;
        if !center.is_empty() {
            lsh.use_hyperplanes(Hyperplanes::new(&params, lsh.trained, center, max_norm));
        }
        for (&row, codes) in rows.iter().zip(codes.chunks_exact(params.num_tables)) {
            lsh.put(row, codes);
        }
        Ok(lsh)
    }
}

#[cfg(test)]
mod tests;
