//! The library from outside: the specification's program, the contract of results, files, models, and the benchmarks
//! that `cargo test benchmarks -- --nocapture` prints.
#![allow(clippy::unwrap_used)]

mod benchmarks;
mod contract;
mod durable;
mod files;
mod input;
mod model;
mod quantized;
mod seed_program;

use std::collections::HashMap;
use vector_db_rs::{DistanceMetric, IndexType, VectorDB, VectorDBConfig, VectorRecord};

const METRICS: [DistanceMetric; 3] =
    [DistanceMetric::Euclidean, DistanceMetric::Cosine, DistanceMetric::DotProduct];
const INDEX_TYPES: [IndexType; 4] = [IndexType::Flat, IndexType::LSH, IndexType::HNSW, IndexType::IVF];

fn config(dimension: usize, distance_metric: DistanceMetric, index_type: IndexType) -> VectorDBConfig {
    VectorDBConfig { dimension, distance_metric, index_type }
}

fn record(id: &str, vector: &[f32]) -> VectorRecord {
    VectorRecord { id: id.to_owned(), vector: vector.to_vec(), metadata: HashMap::new() }
}

/// An empty database whose HNSW is walked however few records there are.
fn walked(dimension: usize, metric: DistanceMetric, index_type: IndexType) -> VectorDB {
    let builder = VectorDB::builder().dimension(dimension).metric(metric).index(index_type);
    builder.exact_scan_factor(0).num_tables(4).num_functions(6).seed(3).build().unwrap()
}
