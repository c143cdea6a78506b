//! Random records, for examples and tests.

use crate::VectorRecord;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::HashMap;

/// `count` records with values uniform in [−1, 1), ids `vec_0`, `vec_1`, … and the metadata `id`; different each call.
pub fn generate_random_vectors(count: usize, dimension: usize) -> Vec<VectorRecord> {
    generate(count, dimension, &mut rand::rng())
}

/// As [`generate_random_vectors`], the same for the same seed on every machine.
pub fn generate_random_vectors_seeded(count: usize, dimension: usize, seed: u64) -> Vec<VectorRecord> {
    generate(count, dimension, &mut ChaCha8Rng::seed_from_u64(seed))
}

fn generate(count: usize, dimension: usize, rng: &mut impl Rng) -> Vec<VectorRecord> {
    (0..count)
        .map(|i| VectorRecord {
            id: format!("vec_{i}"),
            vector: (0..dimension).map(|_| rng.random_range(-1.0..1.0)).collect(),
            metadata: HashMap::from([("id".to_owned(), i.to_string())]),
        })
        .collect()
}
