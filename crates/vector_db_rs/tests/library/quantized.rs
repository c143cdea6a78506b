//! A Flat database with a quantizer: configuration, answers, changes, and the file that brings its codes back.

use crate::record;
use std::collections::HashMap;
use std::fs;
use vector_db_rs::*;

const DIMENSION: usize = 12;
const RECORDS: usize = 1_400;

fn builder(quantizer: Quantizer, metric: Metric) -> VectorDBBuilder {
    VectorDB::builder()
        .dimension(DIMENSION)
        .metric(metric)
        .index(IndexType::Flat)
        .quantizer(quantizer)
        .seed(5)
}

fn filled(quantizer: Quantizer, metric: Metric) -> VectorDB {
    let mut db = builder(quantizer, metric).build().unwrap();
    let mut records = generate_random_vectors_seeded(RECORDS, DIMENSION, 1);
    for (i, record) in records.iter_mut().enumerate() {
        record.metadata = HashMap::from([("parity".to_owned(), (i % 2).to_string())]);
    }
    db.batch_insert(records).unwrap();
    db
}

#[test]
fn most_neighbours_are_found_and_every_distance_is_exact() {
    for quantizer in [Quantizer::Sq8, Quantizer::Pq4, Quantizer::Rabitq(4), Quantizer::F16] {
        let db = filled(quantizer, Metric::Cosine);
        assert_eq!((db.quantizer(), db.index_type()), (Some(quantizer), IndexType::Flat));
        let (mut found, queries) = (0, generate_random_vectors_seeded(20, DIMENSION, 2));
        for query in &queries {
            for options in [SearchOptions::new(), SearchOptions::new().filter("parity", "1")] {
                let answer = db.search_with(&query.vector, 10, &options.clone().oversampling(8)).unwrap();
                assert_eq!(
                    (answer.results.len(), answer.distance_computations, answer.exact),
                    (10, 80, false)
                );
                let truth = db.search_with(&query.vector, 10, &options.exact(true)).unwrap();
                assert!(truth.exact);
                for result in &answer.results {
                    let value = DistanceMetric::Cosine.calculate(&query.vector, &result.record.vector);
                    assert_eq!(result.distance.to_bits(), value.to_bits());
                }
                found += answer.results.iter().filter(|result| truth.results.contains(result)).count();
            }
        }
        assert!(found > 20 * 20 * 9 / 10, "{quantizer}: {found} of 400");
    }
}

#[test]
fn a_file_brings_quantizer_and_codes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db.vdb");
    for quantizer in Quantizer::ALL {
        let mut db = filled(quantizer, Metric::Euclidean);
        for i in 0..40 {
            db.delete(&format!("vec_{}", i * 3));
        }
        db.insert(record("new", &[0.5; DIMENSION])).unwrap();
        db.save_binary(&path).unwrap();
        let mut loaded = VectorDB::load_binary(&path).unwrap();
        assert_eq!((loaded.quantizer(), loaded.memory_bytes() > 0), (Some(quantizer), true));
        for db in [&mut db, &mut loaded] {
            db.insert(record("newer", &[0.25; DIMENSION])).unwrap();
            db.delete("vec_7");
        }
        for query in generate_random_vectors_seeded(5, DIMENSION, 3) {
            assert_eq!(loaded.search(&query.vector, 9).unwrap(), db.search(&query.vector, 9).unwrap());
        }
        let again = folder.path().join("again.vdb");
        db.save_binary(&path).unwrap();
        loaded.save_binary(&again).unwrap();
        assert!(fs::read(&path).unwrap() == fs::read(&again).unwrap(), "{quantizer}");
        loaded.clear();
        assert_eq!((loaded.quantizer(), loaded.size()), (Some(quantizer), 0));
    }
}

#[test]
fn few_records_are_compared_exactly() {
    let mut db = builder(Quantizer::Rabitq(1), Metric::DotProduct).build().unwrap();
    db.batch_insert(generate_random_vectors_seeded(200, DIMENSION, 1)).unwrap();
    let answer = db.search_with(&[0.3; DIMENSION], 10, &SearchOptions::new()).unwrap();
    assert!(answer.exact);
    assert_eq!(answer.distance_computations, 200);
}

#[test]
fn combinations_that_make_no_sense_are_refused_in_a_sentence() {
    let check = |builder: VectorDBBuilder, parts: &[&str]| {
        let message = builder.build().unwrap_err().to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    };
    let sq8 = || builder(Quantizer::Sq8, Metric::Cosine);
    check(sq8().index(IndexType::HNSW), &["quantizer sq8 goes with the index Flat, not with HNSW"]);
    check(sq8().index(IndexType::LSH), &["not with LSH"]);
    check(sq8().metric(Metric::Manhattan), &["sq8 rotates vectors", "Manhattan"]);
    check(sq8().subspaces(3), &["subspaces is 3, but sq8 is no product quantizer"]);
    check(builder(Quantizer::Pq4, Metric::Cosine).subspaces(13), &["at most the dimension, 12"]);
    check(builder(Quantizer::Rabitq(9), Metric::Cosine), &["9 bits"]);
    check(VectorDB::builder().dimension(4).subspaces(2), &["there is no quantizer"]);
    builder(Quantizer::Pq4, Metric::Manhattan).build().unwrap();
}
