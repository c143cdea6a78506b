//! A program written against the specification, names and signatures as there.

use std::collections::HashMap;
use vector_db_rs::*;

fn program() -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let mut lines = Vec::new();
    let config = VectorDBConfig {
        dimension: 128,
        distance_metric: DistanceMetric::Cosine,
        index_type: IndexType::Flat,
    };
    let mut db = VectorDB::new(config.clone());
    let test_vectors = generate_random_vectors(500, 128);
    db.batch_insert(test_vectors)?;
    let query = vec![0.1; 128];
    let results = db.search(&query, 10)?;
    for (i, result) in results.iter().enumerate() {
        lines.push(format!(
            "{}. ID: {}, Similarity: {:.4}, Distance: {:.4}",
            i + 1,
            result.record.id,
            result.similarity,
            result.distance
        ));
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("vectors.json");
    let path: &str = path.to_str().ok_or("path is not UTF-8")?;
    db.save_to_file(path)?;
    let loaded = VectorDB::load_from_file(path, config)?;
    assert_eq!(loaded.size(), db.size());
    assert_eq!(loaded.search(&query, 10)?, results);
    Ok(lines)
}

#[test]
fn the_example_program_runs() {
    let lines = program().unwrap();
    assert_eq!(lines.len(), 10);
    assert!(lines[0].starts_with("1. ID: vec_"), "{}", lines[0]);
}

#[test]
fn every_specified_item_has_its_shape() {
    let config = VectorDBConfig {
        dimension: 2,
        distance_metric: DistanceMetric::Euclidean,
        index_type: IndexType::HNSW,
    };
    let flat: fn(VectorDBConfig) -> FlatIndex = FlatIndex::new;
    let lsh: fn(VectorDBConfig, usize, usize) -> LSHIndex = LSHIndex::new;
    let hnsw: fn(VectorDBConfig) -> HNSWIndex = HNSWIndex::new;
    let mut indexes: Vec<Box<dyn VectorIndex>> = vec![
        Box::new(flat(config.clone())),
        Box::new(lsh(config.clone(), 10, 20)),
        Box::new(hnsw(config.clone())),
        Box::new(VectorDB::new(config.clone())),
    ];
    for index in &mut indexes {
        for (id, x) in [("a", 0.0), ("b", 3.0), ("c", 1.0)] {
            let record = VectorRecord { id: id.into(), vector: vec![x, 0.0], metadata: HashMap::new() };
            index.insert(record).unwrap();
        }
        let results: Vec<SearchResult> = index.search(&[0.0, 4.0], 2).unwrap();
        assert_eq!(index.size(), 3);
        let found: Vec<(&str, f32, f32)> =
            results.iter().map(|found| (&*found.record.id, found.distance, found.similarity)).collect();
        assert_eq!(found, [("a", 4.0, -4.0), ("c", 17f32.sqrt(), -17f32.sqrt())]);
    }
}

/// An index of the user's own, with the three methods of the specification.
struct Nothing;

impl VectorIndex for Nothing {
    fn insert(&mut self, _record: VectorRecord) -> Result<(), Error> {
        Ok(())
    }
    fn search(&self, _query: &[f32], _k: usize) -> Result<Vec<SearchResult>, Error> {
        Ok(Vec::new())
    }
    fn size(&self) -> usize {
        0
    }
}

#[test]
fn the_trait_can_be_implemented_outside() {
    assert_eq!(Nothing.size() + Nothing.search(&[], 1).unwrap().len(), 0);
}

#[test]
fn metrics_calculate_as_specified() {
    let (a, b) = ([1.0, 2.0, 2.0], [2.0, -1.0, 2.0]);
    assert_eq!(DistanceMetric::Euclidean.calculate(&a, &b), 10f32.sqrt());
    assert_eq!(DistanceMetric::DotProduct.calculate(&a, &b), 4.0);
    assert_eq!(DistanceMetric::Cosine.calculate(&a, &b), 4.0 / 9.0);
    assert_eq!(DistanceMetric::Cosine.calculate(&a, &[0.0; 3]), 0.0);
    let similarities = [DistanceMetric::Euclidean, DistanceMetric::Cosine, DistanceMetric::DotProduct];
    assert_eq!(similarities.map(|metric| metric.is_similarity()), [false, true, true]);
}

#[test]
fn random_records_are_as_specified() {
    let records = generate_random_vectors(20, 7);
    assert_eq!(records.len(), 20);
    for (i, record) in records.iter().enumerate() {
        assert_eq!((record.id.clone(), record.vector.len()), (format!("vec_{i}"), 7));
        assert_eq!(record.metadata["id"], i.to_string());
        assert!(record.vector.iter().all(|value| (-1.0..1.0).contains(value)));
    }
    assert_ne!(records, generate_random_vectors(20, 7));
    assert_eq!(generate_random_vectors_seeded(5, 7, 1), generate_random_vectors_seeded(5, 7, 1));
}
