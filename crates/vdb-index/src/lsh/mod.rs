//! LSH: random-hyperplane hashing (Charikar, STOC 2002) with query-directed multi-probe (Lv et al., VLDB 2007).
//!
//! A vector's code in a table has one bit per hyperplane, packed into a `u64`. Normals are Gaussian, so that the
//! chance of equal bits is 1 − θ/π. Data is centred first, since embeddings that point the same way share most bits
//! otherwise; under DotProduct rows get the extra coordinate that makes the largest product the smallest angle
//! (Neyshabur & Srebro, ICML 2015). Centre and norm are retrained, and everything rehashed, whenever the rows double.
//!
//! A query looks into buckets in the order of how little its projections would have to move to fall into them, over
//! all tables at once, until it has seen enough rows that may be hits; then it computes their exact distances. If the
//! nearby buckets do not suffice, all occupied buckets are ranked the same way, and in the end every row is scanned.

mod probe;

use crate::top_k::TopK;
use crate::{Answer, BitSet, Hit, Request, Vectors};
use probe::ProbeSequence;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use std::collections::HashMap;
use vdb_distance::{Kernels, Metric, dot, norm};

/// Parameters of the tables, fixed when they are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LshParams {
    /// Hash tables (paper: L). More: better recall at equal candidates, more memory. At least 1. Default 10.
    pub num_tables: usize,
    /// Hyperplanes, so bits, per table (paper: k or M). About log2(n / 8) fills buckets well; more only cost memory,
    /// since probing goes by bucket. 1 to 64. Default 20.
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
const CANDIDATES_PER_HIT: usize = 40;
/// And at least this share of the rows: one in so many.
const CANDIDATES_SHARE: usize = 20;
/// Probes of near buckets before all occupied buckets are ranked, per table and per bit.
const PROBES_PER_FUNCTION: usize = 8;

/// One table: code to the rows that have it.
type Table = HashMap<u64, Vec<u32>>;

/// The hash index.
#[derive(Debug, Clone)]
pub struct Lsh {
    params: LshParams,
    hyperplanes: Option<Hyperplanes>,
    tables: Vec<Table>,
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
    pub codes: Vec<u64>,
}

/// The random directions and how vectors are placed before they are compared with them.
#[derive(Debug, Clone)]
struct Hyperplanes {
    /// num_tables × num_functions rows of dim + 1 values; the last one belongs to the lift.
    normals: Vec<f32>,
    width: usize,
    center: Vec<f32>,
    /// Each normal's product with the centre.
    center_products: Vec<f32>,
    max_norm: f32,
}

impl Hyperplanes {
    fn new(params: &LshParams, center: Vec<f32>, max_norm: f32) -> Self {
        let width = center.len() + 1;
        let mut rng = ChaCha8Rng::seed_from_u64(params.seed);
        let count = params.num_tables * params.num_functions;
        let normals: Vec<f32> = (0..count * width).map(|_| StandardNormal.sample(&mut rng)).collect();
        let center_products =
            normals.chunks_exact(width).map(|normal| dot(&normal[..width - 1], &center)).collect();
        Self { normals, width, center, center_products, max_norm }
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
        let count = vectors.live().count().max(1) as f64;
        let center: Vec<f32> = sum.into_iter().map(|sum| (sum / count) as f32).collect();
        let max_norm = match metric {
            Metric::DotProduct => {
                let rows = vectors.live().iter();
                rows.map(|offset| centred_norm(vectors.row(offset), &center)).fold(0.0, f32::max)
            }
            _ => 0.0,
        };
        Self::new(params, center, max_norm)
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
fn code(projections: &[f32]) -> u64 {
    projections
        .iter()
        .enumerate()
        .fold(0, |code, (bit, &projection)| code | (u64::from(projection >= 0.0) << bit))
}

impl Lsh {
    /// Empty tables.
    ///
    /// # Panics
    /// When there is no table, or `num_functions` is outside 1 to 64.
    pub fn new(params: LshParams) -> Self {
        assert!(params.num_tables > 0, "num_tables is 0, expected at least 1");
        let functions = params.num_functions;
        assert!((1..=64).contains(&functions), "num_functions is {functions}, expected 1 to 64");
        Self {
            params,
            hyperplanes: None,
            tables: vec![Table::new(); params.num_tables],
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
            table.values().map(|rows| rows.capacity() * 4).sum::<usize>() + table.capacity() * 33
        };
        normals + self.tables.iter().map(table).sum::<usize>()
    }

    /// Adds live rows to the tables; they must not be in them yet.
    ///
    /// # Complexity
    /// `num_tables` × `num_functions` products a row, and as much again each time the number of rows has doubled.
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
            self.hyperplanes = Some(Hyperplanes::fit(&self.params, vectors));
            self.tables.iter_mut().for_each(Table::clear);
            self.rows = BitSet::default();
            let all: Vec<u32> = vectors.live().iter().collect();
            return self.add(vectors, &all);
        }
        self.add(vectors, offsets);
    }

    fn add(&mut self, vectors: &Vectors, offsets: &[u32]) {
        let codes: Vec<Vec<u64>> =
            offsets.par_iter().with_min_len(64).map(|&offset| self.codes(vectors, offset)).collect();
        for (&offset, codes) in offsets.iter().zip(&codes) {
            self.put(offset, codes);
        }
    }

    fn put(&mut self, offset: u32, codes: &[u64]) {
        self.rows.insert(offset);
        for (table, &code) in self.tables.iter_mut().zip(codes) {
            table.entry(code).or_default().push(offset);
        }
    }

    fn codes(&self, vectors: &Vectors, offset: u32) -> Vec<u64> {
        let planes = self.hyperplanes.as_ref().expect("fitted before the first row is added");
        let projections = planes.project_row(vectors.metric(), vectors.row(offset));
        projections.chunks_exact(self.params.num_functions).map(code).collect()
    }

    /// Takes a row out of the tables; its values must still be those it was added with.
    pub fn remove(&mut self, vectors: &Vectors, offset: u32) {
        if !self.rows.remove(offset) {
            return;
        }
        let codes = self.codes(vectors, offset);
        for (table, code) in self.tables.iter_mut().zip(codes) {
            if let Some(rows) = table.get_mut(&code) {
                rows.retain(|&row| row != offset);
                if rows.is_empty() {
                    table.remove(&code);
                }
            }
        }
    }

    /// The nearest matching rows among at least `candidates` rows of the likeliest buckets; k hits whenever k match.
    ///
    /// `None` looks at 40 rows a hit and at least 5 % of the rows. The answer is exact when every matching row was
    /// looked at.
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

    /// At least `wanted` matching rows, in the order in which the query's buckets yield them.
    fn candidates(&self, vectors: &Vectors, query: &[f32], matching: &BitSet, wanted: usize) -> Vec<u32> {
        let planes = self.hyperplanes.as_ref().expect("fitted, since rows match");
        let projections = planes.project_query(vectors.metric(), query);
        let mut seen = BitSet::new(vectors.len());
        let mut found = Vec::with_capacity(wanted);
        let mut collect = |rows: &[u32]| {
            for &row in rows {
                if matching.contains(row) && seen.insert(row) {
                    found.push(row);
                }
            }
            found.len() < wanted
        };
        let functions = self.params.num_functions;
        let limit = self.params.num_tables * functions * PROBES_PER_FUNCTION;
        for (table, code) in ProbeSequence::new(&projections, functions).take(limit) {
            if let Some(rows) = self.tables[table].get(&code)
                && !collect(rows)
            {
                return found;
            }
        }
        for (table, code) in self.ranked_buckets(&projections) {
            if !collect(&self.tables[table][&code]) {
                break;
            }
        }
        found
    }

    /// Every occupied bucket, likeliest first: by the sum of squared margins of the bits it differs in.
    fn ranked_buckets(&self, projections: &[f32]) -> Vec<(usize, u64)> {
        let mut ranked: Vec<(f32, usize, u64)> = Vec::new();
        for (index, (table, projections)) in
            self.tables.iter().zip(projections.chunks_exact(self.params.num_functions)).enumerate()
        {
            let own = code(projections);
            ranked.extend(table.keys().map(|&code| (probe::cost(projections, own ^ code), index, code)));
        }
        ranked.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        ranked.into_iter().map(|(_, table, code)| (table, code)).collect()
    }

    /// The tables as plain arrays.
    pub fn to_parts(&self) -> LshParts {
        let rows: Vec<u32> = self.rows.iter().collect();
        let tables = self.params.num_tables;
        let mut place = vec![0; rows.last().map_or(0, |&last| last as usize + 1)];
        rows.iter().enumerate().for_each(|(index, &row)| place[row as usize] = index);
        let mut codes = vec![0; rows.len() * tables];
        for (index, table) in self.tables.iter().enumerate() {
            for (&code, rows) in table {
                rows.iter().for_each(|&row| codes[place[row as usize] * tables + index] = code);
            }
        }
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
        if params.num_tables == 0 || !(1..=64).contains(&params.num_functions) {
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
        let mut lsh = Self::new(params);
        lsh.trained = trained as usize;
        if !center.is_empty() {
            lsh.hyperplanes = Some(Hyperplanes::new(&params, center, max_norm));
        }
        for (&row, codes) in rows.iter().zip(codes.chunks_exact(params.num_tables)) {
            lsh.put(row, codes);
        }
        Ok(lsh)
    }
}

#[cfg(test)]
mod tests;
