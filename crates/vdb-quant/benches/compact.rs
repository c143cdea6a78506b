//! Codes a second on one thread: RaBitQ blocks and rows, product blocks and rows, binary rows, encoding, and k-means
//! assignment. Codes lie in the second-level cache unless a name says otherwise.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use vdb_distance::Metric;
use vdb_quant::{
    BLOCK_VECTORS, Binary, BlockEstimates, BlockQuery, CodeQuery, KMeans, KMeansConfig, ProductBits,
    ProductConfig, ProductQuantizer, Quantizer, Rabitq, RabitqBlocks, RabitqConfig,
};

const ROWS: usize = 1024;

/// A small generator: any values will do.
fn random(count: usize) -> Vec<f32> {
    let mut state = 1_u64;
    let next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

fn encoded(quantizer: &impl Quantizer, rows: &[f32]) -> Vec<u8> {
    let mut codes = vec![0; rows.len() / quantizer.dim() * quantizer.code_bytes()];
    for (row, code) in rows.chunks_exact(quantizer.dim()).zip(codes.chunks_exact_mut(quantizer.code_bytes()))
    {
        quantizer.encode(row, code);
    }
    codes
}

fn rabitq(c: &mut Criterion) {
    let mut group = c.benchmark_group("rabitq");
    for dim in [128, 768, 1536] {
        let rows = random(ROWS * dim);
        for wide_tables in [false, true] {
            let mut config = RabitqConfig::new(1);
            config.wide_tables = wide_tables;
            let Ok(quantizer) = Rabitq::new(vec![0.0; dim], config) else { continue };
            let codec = RabitqBlocks::new(quantizer, Metric::Euclidean);
            let centre = codec.centre(&vec![0.1; dim]);
            let mut blocks = vec![0; ROWS / BLOCK_VECTORS * codec.block_bytes()];
            for (rows, block) in
                rows.chunks_exact(BLOCK_VECTORS * dim).zip(blocks.chunks_exact_mut(codec.block_bytes()))
            {
                codec.encode_block(&centre, rows, block, &mut []);
            }
            let query = codec.query(&rows[..dim]);
            let term = query.list_term(&vec![0.1; dim]);
            group.throughput(Throughput::Elements(ROWS as u64));
            let name = if wide_tables { "scan16" } else { "scan8" };
            group.bench_function(BenchmarkId::new(name, dim), |b| {
                let (query, mut out) = (query.for_list(term), [0.0; BLOCK_VECTORS]);
                b.iter(|| {
                    for block in blocks.chunks_exact(codec.block_bytes()) {
                        query.scan_block(black_box(block), &mut out);
                    }
                    out[0]
                });
            });
            group.bench_function(BenchmarkId::new(format!("{name}-bounds"), dim), |b| {
                let fresh = BlockEstimates { near: u32::MAX, ..BlockEstimates::default() };
                let mut out = vec![fresh; ROWS / BLOCK_VECTORS];
                b.iter(|| {
                    out.iter_mut().for_each(|out| out.near = u32::MAX);
                    query.scan(term, 0.0, black_box(&blocks), &mut out);
                    out.iter().map(|out| out.near.count_ones()).sum::<u32>()
                });
            });
            group.throughput(Throughput::Elements(1));
            group.bench_function(BenchmarkId::new(format!("{name}-prepare"), dim), |b| {
                b.iter(|| {
                    codec.query(black_box(&rows[..dim]));
                });
            });
        }
        for bits in [1, 2, 4, 8] {
            let Ok(quantizer) = Rabitq::new(vec![0.0; dim], RabitqConfig::new(bits)) else { continue };
            let codes = encoded(&quantizer, &rows);
            let query = quantizer.query(Metric::Euclidean, &rows[..dim]);
            let mut out = vec![0.0; ROWS];
            group.throughput(Throughput::Elements(ROWS as u64));
            group.bench_function(BenchmarkId::new(format!("rows{bits}"), dim), |b| {
                b.iter(|| query.distances(black_box(&codes), &mut out));
            });
            let mut code = vec![0; quantizer.code_bytes()];
            group.throughput(Throughput::Elements(1));
            group.bench_function(BenchmarkId::new(format!("encode{bits}"), dim), |b| {
                b.iter(|| quantizer.encode(black_box(&rows[..dim]), &mut code));
            });
        }
    }
    group.finish();
}

fn product(c: &mut Criterion) {
    let mut group = c.benchmark_group("product");
    let dim = 128;
    let rows = random(ROWS * dim);
    for (subspaces, bits, name) in [(32, ProductBits::Four, "4bit"), (16, ProductBits::Eight, "8bit")] {
        let mut config = ProductConfig::new(subspaces, bits);
        config.iterations = 4;
        let Ok(quantizer) = ProductQuantizer::train(&rows, dim, &config) else { continue };
        let codes = encoded(&quantizer, &rows);
        let query = quantizer.query(Metric::Euclidean, &rows[..dim]);
        let mut out = vec![0.0; ROWS];
        group.throughput(Throughput::Elements(ROWS as u64));
        group.bench_function(BenchmarkId::new("rows", name), |b| {
            b.iter(|| query.distances(black_box(&codes), &mut out));
        });
        if bits == ProductBits::Four {
            let mut blocks = vec![0; ROWS / BLOCK_VECTORS * quantizer.block_bytes()];
            let codes = codes.chunks_exact(BLOCK_VECTORS * quantizer.code_bytes());
            for (codes, block) in codes.zip(blocks.chunks_exact_mut(quantizer.block_bytes())) {
                quantizer.pack_block(codes, block);
            }
            let query = quantizer.block_query(Metric::Euclidean, &rows[..dim], false);
            let mut out = [0.0; BLOCK_VECTORS];
            group.bench_function(BenchmarkId::new("blocks", name), |b| {
                b.iter(|| {
                    for block in blocks.chunks_exact(quantizer.block_bytes()) {
                        query.scan_block(black_box(block), &mut out);
                    }
                    out[0]
                });
            });
        }
        group.throughput(Throughput::Elements(1));
        let mut code = vec![0; quantizer.code_bytes()];
        group.bench_function(BenchmarkId::new("encode", name), |b| {
            b.iter(|| quantizer.encode(black_box(&rows[..dim]), &mut code));
        });
        group.bench_function(BenchmarkId::new("prepare", name), |b| {
            b.iter(|| {
                quantizer.query(Metric::Euclidean, black_box(&rows[..dim]));
            });
        });
    }
    group.finish();
}

fn binary(c: &mut Criterion) {
    let mut group = c.benchmark_group("binary");
    for dim in [128, 768, 1536] {
        let rows = random(ROWS * dim);
        let quantizer = Binary::new(dim);
        let codes = encoded(&quantizer, &rows);
        let query = quantizer.query(Metric::Cosine, &rows[..dim]);
        let mut out = vec![0.0; ROWS];
        group.throughput(Throughput::Elements(ROWS as u64));
        group.bench_function(BenchmarkId::new("rows", dim), |b| {
            b.iter(|| query.distances(black_box(&codes), &mut out));
        });
    }
    group.finish();
}

fn kmeans(c: &mut Criterion) {
    let mut group = c.benchmark_group("kmeans");
    for dim in [8, 128, 768] {
        let centroids = random(256 * dim);
        let rows = random(32 * dim);
        let Ok(kmeans) = KMeans::from_centroids(dim, centroids) else { continue };
        group.throughput(Throughput::Elements(32 * 256));
        // 32 rows are one task: one thread.
        group.bench_function(BenchmarkId::new("assign-32x256", dim), |b| {
            b.iter(|| kmeans.assign_all(black_box(&rows)));
        });
    }
    let rows = random(4096 * 32);
    group.throughput(Throughput::Elements(4096 * 64 * 10));
    group.bench_function("train-4096x32-64", |b| {
        b.iter(|| KMeans::train(black_box(&rows), 32, &KMeansConfig::new(64).iterations(10)));
    });
    group.finish();
}

criterion_group!(benches, rabitq, product, binary, kmeans);
criterion_main!(benches);
