//! The specification's benchmark: insert, search and recall of every index type over growing random data.
//!
//! `cargo test benchmarks -- --nocapture` prints the table. Times are printed, never judged; recall is.

use crate::{INDEX_TYPES, config};
use std::time::Instant;
use vector_db_rs::*;

const DIMENSION: usize = 128;
const QUERIES: usize = 20;
const K: usize = 10;

#[test]
fn benchmark_flat_lsh_hnsw() {
    println!("{DIMENSION}-d uniform random vectors, Cosine, k = {K}; times of one batch and one search");
    for size in [1_000, 5_000, 10_000, 50_000] {
        println!("\n--- Benchmark with {size} vectors ---");
        let records = generate_random_vectors_seeded(size, DIMENSION, 1);
        let queries = generate_random_vectors_seeded(QUERIES, DIMENSION, 2);
        let mut truth: Vec<Vec<SearchResult>> = Vec::new();
        for index_type in INDEX_TYPES {
            let mut db = VectorDB::new(config(DIMENSION, DistanceMetric::Cosine, index_type));
            let start = Instant::now();
            db.batch_insert(records.clone()).unwrap();
            let insert = start.elapsed();
            let start = Instant::now();
            let found: Vec<Vec<SearchResult>> =
                queries.iter().map(|query| db.search(&query.vector, K).unwrap()).collect();
            let search = start.elapsed() / QUERIES as u32;
            if index_type == IndexType::Flat {
                truth = found.clone();
            }
            let hits: usize = found
                .iter()
                .zip(&truth)
                .map(|(found, truth)| found.iter().filter(|result| truth.contains(result)).count())
                .sum();
            let recall = hits as f64 / (QUERIES * K) as f64;
            println!("{index_type:?} - Insert: {insert:.2?}, Search: {search:.2?}, Recall@{K}: {recall:.3}");
            let floor = match index_type {
                IndexType::Flat => 1.0,
                // Uniform noise of 128 dimensions has no near neighbours: the hardest case there is.
                IndexType::LSH => 0.15,
                IndexType::HNSW | IndexType::IVF => 0.3,
            };
            assert!(recall >= floor, "{index_type:?} over {size}: recall {recall}");
        }
    }
}
