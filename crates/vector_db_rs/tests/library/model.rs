//! Random operations against a map and brute force, for every index type and metric, from a printed seed.
//!
//! `VDB_MODEL_SEED` replays one seed, `VDB_MODEL_RUNS` asks for more of them.

use crate::{INDEX_TYPES, METRICS, config, walked};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::{BTreeMap, HashMap};
use vector_db_rs::*;

const DIMENSION: usize = 6;

struct Model {
    rng: ChaCha8Rng,
    records: BTreeMap<String, VectorRecord>,
    metric: DistanceMetric,
    db: VectorDB,
}

impl Model {
    fn below(&mut self, bound: u32) -> u32 {
        self.rng.next_u32() % bound
    }

    fn vector(&mut self) -> Vec<f32> {
        // Few distinct values: copies, ties and zero vectors are common.
        (0..DIMENSION).map(|_| self.below(5) as f32 - 2.0).collect()
    }

    fn record(&mut self) -> VectorRecord {
        let metadata =
            HashMap::from([("color".to_owned(), ["red", "blue"][self.below(2) as usize].to_owned())]);
        VectorRecord { id: format!("r{}", self.below(150)), vector: self.vector(), metadata }
    }

    fn step(&mut self, folder: &std::path::Path) {
        match self.below(20) {
            0..8 => {
                let record = self.record();
                self.db.insert(record.clone()).unwrap();
                self.records.insert(record.id.clone(), record);
            }
            8..10 => {
                let count = self.below(40);
                let batch: Vec<VectorRecord> = (0..count).map(|_| self.record()).collect();
                self.db.batch_insert(batch.clone()).unwrap();
                self.records.extend(batch.into_iter().map(|record| (record.id.clone(), record)));
            }
            10 => {
                let mut batch: Vec<VectorRecord> = (0..5).map(|_| self.record()).collect();
                batch[3].vector.pop();
                self.db.batch_insert(batch).unwrap_err();
            }
            11..15 => {
                let id = format!("r{}", self.below(150));
                assert_eq!(self.db.delete(&id), self.records.remove(&id).is_some());
            }
            15 => {
                let path = folder.join("model.vdb");
                self.db.save_binary(&path).unwrap();
                self.db = VectorDB::load_binary(&path).unwrap();
            }
            16 => {
                let path = folder.join("model.json");
                self.db.save_to_file(&path).unwrap();
                let config = config(DIMENSION, self.metric, self.db.index_type());
                self.db = VectorDB::load_from_file(&path, config).unwrap();
            }
            17 if self.below(10) == 0 => {
                self.db.clear();
                self.records.clear();
            }
            _ => self.compare_search(),
        }
        assert_eq!(self.db.size(), self.records.len());
    }

    fn compare_search(&mut self) {
        let (query, k) = (self.vector(), self.below(25) as usize);
        let color = [None, Some("red")][self.below(2) as usize];
        let mut options = SearchOptions::new();
        if let Some(color) = color {
            options = options.filter("color", color);
        }
        let mut truth: Vec<(f32, &VectorRecord)> = self
            .records
            .values()
            .filter(|record| color.is_none_or(|color| record.metadata["color"] == color))
            .map(|record| {
                let value = self.metric.calculate(&query, &record.vector);
                (if self.metric.is_similarity() { value } else { -value }, record)
            })
            .collect();
        truth.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.id.cmp(&b.1.id)));
        truth.truncate(k);
        let answer = self.db.search_with(&query, k, &options).unwrap();
        assert_eq!(answer.results.len(), truth.len());
        for found in &answer.results {
            assert_eq!(Some(&found.record), self.records.get(&found.record.id));
        }
        if answer.exact {
            let found: Vec<(f32, &VectorRecord)> =
                answer.results.iter().map(|found| (found.similarity, &found.record)).collect();
            assert_eq!(found, truth);
        }
    }
}

fn run(seed: u64, metric: DistanceMetric, index_type: IndexType, steps: usize) {
    println!("model seed {seed}, {metric:?}, {index_type:?}");
    let folder = tempfile::tempdir().unwrap();
    let mut model = Model {
        rng: ChaCha8Rng::seed_from_u64(seed),
        records: BTreeMap::new(),
        metric,
        db: walked(DIMENSION, metric, index_type),
    };
    (0..steps).for_each(|_| model.step(folder.path()));
    for (id, record) in &model.records {
        assert_eq!(model.db.get(id).as_ref(), Some(record));
    }
    let mut all: Vec<VectorRecord> = model.db.iter().collect();
    all.sort_by(|a, b| a.id.cmp(&b.id));
    assert!(all.iter().eq(model.records.values()));
}

#[test]
fn follows_the_model() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("VDB_MODEL_SEED").unwrap_or(1);
    for seed in first..first + number("VDB_MODEL_RUNS").unwrap_or(3) {
        for metric in METRICS {
            for index_type in INDEX_TYPES {
                run(seed, metric, index_type, 400);
            }
        }
    }
}
