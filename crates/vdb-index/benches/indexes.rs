//! Every index on clustered vectors of a fixed seed: exact scan, LSH and HNSW search, filtered search, and the build of
//! a graph. Searches run one query after another, the exact scan and the build on all cores. Times are per search and,
//! for the build, per graph; recall belongs to the tests and to `vdb bench ann`.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use vdb_distance::Metric;
use vdb_index::{BitSet, FlatScan, Hnsw, HnswParams, Lsh, LshParams, Request, Vectors};

const ROWS: usize = 10_000;
const BUILD_ROWS: usize = 5_000;
const QUERIES: usize = 256;
const CLUSTERS: usize = 100;
const K: usize = 10;
/// Beam width of the filtered searches.
const FILTERED_EF: usize = 64;
/// Rows in a thousand that pass the filter.
const PASSING: [u32; 3] = [500, 50, 5];

/// A small generator: the data only has to be the same every time.
fn random(state: &mut u64) -> u32 {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*state >> 32) as u32
}

/// In [−1, 1).
fn signed(state: &mut u64) -> f32 {
    random(state) as f32 / (1u64 << 31) as f32 - 1.0
}

/// Rows and queries around the same centres.
struct Data {
    vectors: Vectors,
    offsets: Vec<u32>,
    queries: Vec<Vec<f32>>,
}

impl Data {
    fn new(rows: usize, dim: usize) -> Self {
        let mut state = 1;
        let centers: Vec<Vec<f32>> =
            (0..CLUSTERS).map(|_| (0..dim).map(|_| signed(&mut state)).collect()).collect();
        let mut point = || -> Vec<f32> {
            let center = &centers[random(&mut state) as usize % CLUSTERS];
            center.iter().map(|value| value + 0.6 * signed(&mut state)).collect()
        };
        let mut vectors = Vectors::new(Metric::Euclidean, dim);
        let offsets = (0..rows).map(|_| vectors.push(&point())).collect();
        let queries = (0..QUERIES).map(|_| point()).collect();
        Self { vectors, offsets, queries }
    }

    /// All queries, again and again.
    fn endless_queries(&self) -> impl Iterator<Item = &[f32]> {
        self.queries.iter().map(Vec::as_slice).cycle()
    }

    fn graph(&self) -> Hnsw {
        let mut hnsw = Hnsw::new(HnswParams::default());
        hnsw.insert(&self.vectors, &self.offsets);
        hnsw
    }
}

fn flat(c: &mut Criterion) {
    let mut group = c.benchmark_group("flat");
    group.throughput(Throughput::Elements(ROWS as u64));
    for dim in [128, 384] {
        let data = Data::new(ROWS, dim);
        group.bench_function(BenchmarkId::new("search", dim), |bencher| {
            let mut queries = data.endless_queries();
            bencher.iter(|| {
                let query = queries.next().unwrap_or_default();
                FlatScan.search(&data.vectors, &Request::new(black_box(query), K))
            });
        });
    }
    group.finish();
}

fn lsh(c: &mut Criterion) {
    let data = Data::new(ROWS, 128);
    let mut lsh = Lsh::new(LshParams::default());
    lsh.insert(&data.vectors, &data.offsets);
    let mut group = c.benchmark_group("lsh");
    for candidates in [200, 1_000] {
        group.bench_function(BenchmarkId::new("search/candidates", candidates), |bencher| {
            let mut queries = data.endless_queries();
            bencher.iter(|| {
                let query = queries.next().unwrap_or_default();
                lsh.search(&data.vectors, &Request::new(black_box(query), K), Some(candidates))
            });
        });
    }
    group.finish();
}

fn hnsw(c: &mut Criterion) {
    let data = Data::new(ROWS, 128);
    let hnsw = data.graph();
    let mut group = c.benchmark_group("hnsw");
    for ef_search in [32, 128] {
        group.bench_function(BenchmarkId::new("search/ef", ef_search), |bencher| {
            let mut queries = data.endless_queries();
            bencher.iter(|| {
                let query = queries.next().unwrap_or_default();
                hnsw.search(&data.vectors, &Request::new(black_box(query), K), ef_search)
            });
        });
    }
    // Whatever plan the index chooses: the graph for many matching rows, the scan for few.
    for passing in PASSING {
        let mut state = 3;
        let allowed = BitSet::from_fn(ROWS, |_| random(&mut state) % 1_000 < passing);
        group.bench_function(BenchmarkId::new("filtered/per_mille", passing), |bencher| {
            let mut queries = data.endless_queries();
            bencher.iter(|| {
                let query = queries.next().unwrap_or_default();
                let request = Request { allowed: Some(&allowed), ..Request::new(black_box(query), K) };
                hnsw.search(&data.vectors, &request, FILTERED_EF)
            });
        });
    }
    group.finish();
}

fn build(c: &mut Criterion) {
    let data = Data::new(BUILD_ROWS, 128);
    let mut group = c.benchmark_group("hnsw");
    group.throughput(Throughput::Elements(BUILD_ROWS as u64)).sample_size(10);
    group.bench_function(BenchmarkId::new("build", BUILD_ROWS), |bencher| bencher.iter(|| data.graph()));
    group.finish();
}

criterion_group!(benches, flat, lsh, hnsw, build);
criterion_main!(benches);
