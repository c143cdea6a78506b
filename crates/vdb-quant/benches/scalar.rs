//! Scalar codes and short number formats: integer kernels of every instruction set and whole distances over rows that
//! stay in the second-level cache; encoding; training of principal components.
//! Times are per row (criterion's throughput in elements), per vector for encoding, and per training.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use vdb_distance::Metric;
use vdb_quant::{
    Bf16Codec, BoundedSq4, BoundedSq8, CodeQuery, F16Codec, Int8Isa, Int8Kernels, Pca, PcaConfig, Quantizer,
    QueryCodes, QueryPrecision, Rotation, Sq4, Sq8, U8Codec,
};

const DIMS: [usize; 3] = [128, 384, 784];
const ROWS: usize = 256;

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    *state >> 32
}

fn vectors(len: usize) -> Vec<f32> {
    let mut state = 1;
    (0..len).map(|_| random(&mut state) as f32 / u32::MAX as f32 - 0.5).collect()
}

fn kernels(c: &mut Criterion) {
    let mut group = c.benchmark_group("int8");
    group.throughput(Throughput::Elements(ROWS as u64));
    let mut state = 3;
    for dim in DIMS {
        let codes: Vec<u8> = (0..ROWS * (dim + 8)).map(|_| random(&mut state) as u8).collect();
        let values: Vec<i8> = (0..dim).map(|_| random(&mut state) as i8).collect();
        let half = &values[..dim / 2];
        let queries = [
            ("8x8", QueryCodes::bytes(&[&values])),
            ("8x16", QueryCodes::bytes(&[&values, &values])),
            ("4x8", QueryCodes::nibbles(&[[half, half]])),
            ("4x16", QueryCodes::nibbles(&[[half, half], [half, half]])),
        ];
        for (name, query) in &queries {
            let stride = query.code_bytes() + 8;
            for kernels in Int8Isa::ALL.into_iter().filter_map(Int8Kernels::for_isa) {
                let mut out = vec![0; ROWS * query.parts()];
                let id = BenchmarkId::new(format!("{name}/{}", kernels.isa().name()), dim);
                group.bench_function(id, |bencher| {
                    bencher.iter(|| kernels.rows(query, black_box(&codes), stride, 0, &mut out));
                });
            }
        }
    }
    group.finish();
}

/// Distances from one query to all rows, and to all rows in a random order.
fn distances<Q: Quantizer>(c: &mut Criterion, name: &str, quantizer: &Q) {
    let dim = quantizer.dim();
    let data = vectors((ROWS + 1) * dim);
    let mut rows = vec![0; ROWS * quantizer.code_bytes()];
    for (vector, code) in data.chunks_exact(dim).zip(rows.chunks_exact_mut(quantizer.code_bytes())) {
        quantizer.encode(vector, code);
    }
    let query = quantizer.query(Metric::Euclidean, &data[ROWS * dim..]);
    let mut state = 5;
    let ids: Vec<u32> = (0..ROWS).map(|_| (random(&mut state) as usize % ROWS) as u32).collect();
    let mut out = vec![0.0; ROWS];
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function(BenchmarkId::new("consecutive", dim), |bencher| {
        bencher.iter(|| query.distances(black_box(&rows), &mut out));
    });
    group.bench_function(BenchmarkId::new("gather", dim), |bencher| {
        bencher.iter(|| query.gather(black_box(&rows), &ids, &mut out));
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function(BenchmarkId::new("encode", dim), |bencher| {
        bencher.iter(|| quantizer.encode(black_box(&data[..dim]), &mut rows[..quantizer.code_bytes()]));
    });
    group.bench_function(BenchmarkId::new("query", dim), |bencher| {
        bencher.iter(|| quantizer.query(Metric::Euclidean, black_box(&data[..dim])));
    });
    group.finish();
}

fn codes(c: &mut Criterion) {
    for dim in DIMS {
        let rotation = Rotation::fht(dim, 1);
        distances(c, "sq8", &Sq8::new(rotation.clone()));
        distances(c, "sq8q16", &Sq8::new(rotation.clone()).with_query_precision(QueryPrecision::Bits16));
        distances(c, "sq4", &Sq4::new(rotation));
        distances(c, "f16", &F16Codec::new(dim));
        distances(c, "bf16", &Bf16Codec::new(dim));
        distances(c, "u8", &U8Codec::new(dim));
    }
}

fn bounds(c: &mut Criterion) {
    let dim = 384;
    let data = vectors((ROWS + 1) * dim);
    let rotation = Rotation::fht(dim, 1);
    let mut group = c.benchmark_group("bounds");
    group.throughput(Throughput::Elements(ROWS as u64));
    let (mut lower, mut upper) = (vec![0.0; ROWS], vec![0.0; ROWS]);

    let eight = BoundedSq8::new(rotation.clone(), dim);
    let mut rows = vec![0; ROWS * eight.code_bytes()];
    eight.encode_rows(&data[..ROWS * dim], &mut rows);
    let query = eight.query(Metric::Euclidean, &data[ROWS * dim..]);
    group.bench_function("8", |bencher| {
        bencher.iter(|| query.bounds(black_box(&rows), &mut lower, &mut upper))
    });

    let four = BoundedSq4::new(rotation, 88);
    let mut rows = vec![0; ROWS * four.code_bytes()];
    four.encode_rows(&data[..ROWS * dim], &mut rows);
    let query = four.query(Metric::Euclidean, &data[ROWS * dim..]);
    group.bench_function("4 of 88", |bencher| {
        bencher.iter(|| query.bounds(black_box(&rows), &mut lower, &mut upper));
    });
    group.finish();
}

fn rotations(c: &mut Criterion) {
    let mut group = c.benchmark_group("rotation");
    for dim in DIMS {
        let data = vectors(dim);
        for (name, rotation) in [("fht", Rotation::fht(dim, 1)), ("dense", Rotation::dense(dim, 1))] {
            let mut out = vec![0.0; rotation.output_dim()];
            group.bench_function(BenchmarkId::new(name, dim), |bencher| {
                bencher.iter(|| rotation.apply(black_box(&data), &mut out));
            });
        }
    }
    group.finish();
}

fn training(c: &mut Criterion) {
    let mut group = c.benchmark_group("pca");
    group.sample_size(10);
    for dim in [128, 384, 784] {
        let data = vectors(4096 * dim);
        group.bench_function(BenchmarkId::new("train 4096 rows", dim), |bencher| {
            bencher.iter(|| Pca::train(black_box(&data), dim, &PcaConfig::default()));
        });
    }
    group.finish();
}

criterion_group!(benches, kernels, codes, bounds, rotations, training);
criterion_main!(benches);
