//! Kernels of every available instruction set: between two vectors that lie in the second-level cache, and of
//! one query with 32 rows picked at random from a matrix of 64 MiB, as a graph search reads them.
//! Times are per vector compared for `pair`, and per gather of 32 rows for `gather`.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use vdb_distance::{AlignedVec, ElementType, Kernels, Matrix, Sum};

type Pair = fn(&Kernels, &[f32], &[f32]) -> f32;

const OPS: [(&str, Pair, Sum); 3] = [
    ("dot", Kernels::dot, Sum::Dot),
    ("l2", Kernels::l2_squared, Sum::L2Squared),
    ("l1", Kernels::l1, Sum::L1),
];
const DIMS: [usize; 4] = [128, 384, 784, 1536];
const CACHED_BYTES: usize = 256 << 10;
const MATRIX_BYTES: usize = 64 << 20;
const GATHERED: usize = 32;

/// A small generator: quality is no matter here, only that the hardware cannot guess the next row.
fn random(state: &mut u64) -> u32 {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*state >> 32) as u32
}

fn matrix(bytes: usize) -> AlignedVec<f32> {
    let mut state = 1;
    let mut values = AlignedVec::new();
    values.resize(bytes / size_of::<f32>(), 0.0);
    for value in values.iter_mut() {
        *value = random(&mut state) as f32 / u32::MAX as f32 - 0.5;
    }
    values
}

/// Eighteen keys at a time into a beam, until none is near enough any more.
fn insertions(c: &mut Criterion) {
    const BATCH: usize = 18;
    let mut state = 1;
    let keys: Vec<u64> = (0..40 * BATCH)
        .map(|_| u64::from(random(&mut state)) << 32 | u64::from(random(&mut state)))
        .collect();
    let mut group = c.benchmark_group("insert_sorted");
    group.throughput(Throughput::Elements(keys.len() as u64));
    for most in [16, 64, 256, 1024] {
        let mut slots = vec![u64::MAX; (most + BATCH).next_multiple_of(8)];
        for kernels in all_kernels() {
            group.bench_function(BenchmarkId::new(kernels.isa().name(), most), |bencher| {
                bencher.iter(|| {
                    slots.fill(u64::MAX);
                    let mut len = 0;
                    for batch in black_box(&keys).chunks_exact(BATCH) {
                        let farthest = if len == most { slots[most - 1] } else { u64::MAX };
                        let mut near = [0; BATCH];
                        let mut count = 0;
                        for &key in batch {
                            near[count] = key;
                            count += usize::from(key < farthest);
                        }
                        len = kernels.insert_sorted(&mut slots, len, most, &near[..count]);
                    }
                    len
                });
            });
        }
    }
    group.finish();
}

fn all_kernels() -> impl Iterator<Item = Kernels> {
    Kernels::available().into_iter().filter_map(Kernels::for_isa)
}

fn pairs(c: &mut Criterion) {
    let rows = matrix(CACHED_BYTES);
    for (name, pair, _) in OPS {
        let mut group = c.benchmark_group(format!("pair/{name}"));
        for dim in DIMS {
            let query = &rows[..dim];
            let points = rows.len() / dim;
            group.throughput(Throughput::Elements(dim as u64));
            for kernels in all_kernels() {
                group.bench_function(BenchmarkId::new(kernels.isa().name(), dim), |bencher| {
                    let mut at = 0;
                    bencher.iter(|| {
                        at = if at + 1 < points { at + 1 } else { 0 };
                        pair(&kernels, black_box(query), &rows[at * dim..(at + 1) * dim])
                    });
                });
            }
        }
        group.finish();
    }
}

fn gathers(c: &mut Criterion) {
    let queries = matrix(CACHED_BYTES);
    for (name, _, sum) in OPS {
        for element in [ElementType::F32, ElementType::F16, ElementType::Bf16, ElementType::U8] {
            gather_of(c, name, sum, element, &queries);
        }
    }
}

fn gather_of(c: &mut Criterion, name: &str, sum: Sum, element: ElementType, queries: &[f32]) {
    let mut bytes = AlignedVec::<u8>::new();
    bytes.resize(MATRIX_BYTES, 0x3c);
    let mut group = c.benchmark_group(format!("gather32/{name}/{element:?}"));
    for dim in DIMS {
        let rows = Matrix::new(element, &bytes, dim);
        let points = (bytes.len() / element.bytes() / dim) as u32;
        let mut state = 7;
        let ids: Vec<u32> = (0..GATHERED << 10).map(|_| random(&mut state) % points).collect();
        group.throughput(Throughput::Elements((GATHERED * dim) as u64));
        for kernels in all_kernels() {
            group.bench_function(BenchmarkId::new(kernels.isa().name(), dim), |bencher| {
                let mut batches = ids.chunks_exact(GATHERED).cycle();
                let mut out = [0.0; GATHERED];
                bencher.iter(|| {
                    let batch = batches.next().unwrap_or_default();
                    kernels.gather(sum, black_box(&queries[..dim]), rows, batch, &mut out);
                    out[GATHERED - 1]
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, pairs, gathers, insertions);
criterion_main!(benches);
