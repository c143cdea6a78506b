//! Files: what is saved comes back bit for bit, and what is damaged, foreign or unfit is an error that says where.

use crate::{INDEX_TYPES, METRICS, config, record, walked};
use std::fs;
use vector_db_rs::*;

fn filled(metric: DistanceMetric, index_type: IndexType) -> VectorDB {
    let mut db = walked(9, metric, index_type);
    db.batch_insert(generate_random_vectors_seeded(700, 9, 1)).unwrap();
    for i in (0..700).step_by(6) {
        db.delete(&format!("vec_{i}"));
    }
    db.insert(record(
        "äöü \"quoted\"",
        &[1e-45, -0.0, 3.4e38, 0.1, -7.5e-39, 16_777_217.0, 0.3, 1.0 / 3.0, 5.0],
    ))
    .unwrap();
    db
}

/// Id, vector as bits, and metadata by key.
type Bits = (String, Vec<u32>, Vec<(String, String)>);

fn bits(db: &VectorDB) -> Vec<Bits> {
    let mut all: Vec<_> = db
        .iter()
        .map(|record| {
            let mut metadata: Vec<_> = record.metadata.into_iter().collect();
            metadata.sort();
            (record.id, record.vector.iter().map(|value| value.to_bits()).collect(), metadata)
        })
        .collect();
    all.sort();
    all
}

#[test]
fn a_file_keeps_what_its_graph_spends_memory_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db.vdb");
    let sizes = [Profile::Compact, Profile::Auto, Profile::Fast].map(|profile| {
        let builder = VectorDB::builder().dimension(9).exact_scan_factor(0).profile(profile);
        let mut db = builder.build().unwrap();
        db.save_binary(&path).unwrap();
        assert!(VectorDB::load_binary(&path).unwrap().is_empty());
        db.batch_insert(generate_random_vectors_seeded(300, 9, 1)).unwrap();
        db.save_binary(&path).unwrap();
        let size = fs::metadata(&path).unwrap().len();
        let mut loaded = VectorDB::load_binary(&path).unwrap();
        for db in [&mut db, &mut loaded] {
            db.batch_insert(generate_random_vectors_seeded(100, 9, 2)).unwrap();
        }
        for query in generate_random_vectors_seeded(20, 9, 3) {
            assert_eq!(loaded.search(&query.vector, 5).unwrap(), db.search(&query.vector, 5).unwrap());
        }
        size
    });
    assert_eq!(sizes[0], sizes[1], "so few records are compact");
    assert!((300 * 128..400 * 128).contains(&(sizes[2] - sizes[0])), "{sizes:?}");
}

#[test]
fn both_forms_bring_every_bit_back() {
    let folder = tempfile::tempdir().unwrap();
    for metric in METRICS {
        for index_type in INDEX_TYPES {
            let db = filled(metric, index_type);
            let (text, binary) = (folder.path().join("db.json"), folder.path().join("db.vdb"));
            db.save_to_file(&text).unwrap();
            db.save_binary(&binary).unwrap();
            for path in [&text, &binary] {
                let loaded = VectorDB::load_from_file(path, config(9, metric, index_type)).unwrap();
                assert_eq!(bits(&loaded), bits(&db));
            }
            let loaded = VectorDB::load_binary(&binary).unwrap();
            for query in generate_random_vectors_seeded(20, 9, 2) {
                let options = SearchOptions::new().ef_search(20).candidates(60);
                let expected = db.search_with(&query.vector, 10, &options).unwrap();
                assert_eq!(loaded.search_with(&query.vector, 10, &options).unwrap(), expected);
            }
        }
    }
}

#[test]
fn a_loaded_database_goes_on_working() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db.vdb");
    for index_type in INDEX_TYPES {
        let mut db = filled(DistanceMetric::Euclidean, index_type);
        db.save_binary(&path).unwrap();
        let mut loaded = VectorDB::load_binary(&path).unwrap();
        for db in [&mut db, &mut loaded] {
            for i in 0..300 {
                db.delete(&format!("vec_{i}"));
            }
            db.batch_insert(generate_random_vectors_seeded(400, 9, 3)).unwrap();
        }
        assert_eq!(bits(&loaded), bits(&db));
        let query = [0.1; 9];
        assert_eq!(loaded.search(&query, 20).unwrap(), db.search(&query, 20).unwrap());
    }
}

#[test]
fn every_family_of_hash_functions_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db.vdb");
    for family in [LshFamily::Hyperplane, LshFamily::FastHyperplane, LshFamily::CrossPolytope] {
        let lsh = VectorDB::builder().dimension(9).index(IndexType::LSH).lsh_family(family);
        let mut db = lsh.num_tables(5).num_functions(8).seed(3).build().unwrap();
        // Some rows in the tables' arrays, some in their chains, some places free.
        db.batch_insert(generate_random_vectors_seeded(3_000, 9, 1)).unwrap();
        for i in (0..3_000).step_by(6) {
            db.delete(&format!("vec_{i}"));
        }
        db.batch_insert(generate_random_vectors_seeded(200, 9, 4)).unwrap();
        db.save_binary(&path).unwrap();
        let loaded = VectorDB::load_binary(&path).unwrap();
        for query in generate_random_vectors_seeded(50, 9, 2) {
            let options = SearchOptions::new().candidates(25);
            let expected = db.search_with(&query.vector, 10, &options).unwrap();
            assert!(!expected.exact);
            assert_eq!(loaded.search_with(&query.vector, 10, &options).unwrap(), expected);
        }
        loaded.save_binary(folder.path().join("again.vdb")).unwrap();
        assert!(fs::read(&path).unwrap() == fs::read(folder.path().join("again.vdb")).unwrap());
    }
}

#[test]
fn equal_databases_give_equal_files() {
    let folder = tempfile::tempdir().unwrap();
    let read = |name: &str| {
        let db = filled(DistanceMetric::Cosine, IndexType::HNSW);
        db.save_to_file(folder.path().join(name)).unwrap();
        db.save_binary(folder.path().join("binary")).unwrap();
        (fs::read(folder.path().join(name)).unwrap(), fs::read(folder.path().join("binary")).unwrap())
    };
    assert!(read("a") == read("b"));
}

#[test]
fn the_json_form_is_the_specified_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db.json");
    let mut db = VectorDB::new(config(2, DistanceMetric::Cosine, IndexType::Flat));
    db.save_to_file(&path).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "[]");
    db.insert(VectorRecord { metadata: [("k".into(), "v".into())].into(), ..record("a", &[1.0, -0.25]) })
        .unwrap();
    db.save_to_file(&path).unwrap();
    let expected = "[\n  {\n    \"id\": \"a\",\n    \"vector\": [\n      1.0,\n      -0.25\n    ],\n    \
                    \"metadata\": {\n      \"k\": \"v\"\n    }\n  }\n]";
    assert_eq!(fs::read_to_string(&path).unwrap(), expected);
}

fn check_json(content: &str, parts: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db.json");
    fs::write(&path, content).unwrap();
    let config = config(2, DistanceMetric::Cosine, IndexType::Flat);
    let message = VectorDB::load_from_file(&path, config).unwrap_err().to_string();
    for part in parts.iter().chain(&["db.json"]) {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

#[test]
fn bad_json_is_located() {
    check_json("", &["EOF", "line 1"]);
    check_json("[\n  {\"id\": \"a\", \"vector\": [1.0, 2.0", &["EOF", "line 2", "byte 34"]);
    check_json("[{\"id\": \"a\"}]", &["missing field `vector`", "line 1"]);
    check_json("{\"a\": 1}", &["expected a sequence"]);
    check_json("[\n{\"id\": 7, \"vector\": []}]", &["expected a string", "line 2", "byte 9"]);
    check_json("[{\"id\": \"a\", \"vector\": [1.0, 1e999]}]", &["number out of range"]);
    check_json("[{\"id\": \"a\", \"vector\": [1.0, 1e39]}]", &["number out of range", "line 1"]);
    check_json(
        "[{\"id\": \"a\", \"vector\": [1.0, 2.0, 3.0]}]",
        &["record 0", "has 3 dimensions", "expected 2"],
    );
    check_json("\u{1}\u{2}garbage", &["line 1"]);
}

#[test]
fn a_missing_file_is_named() {
    let config = config(2, DistanceMetric::Cosine, IndexType::Flat);
    for message in [
        VectorDB::load_from_file("no/such/file.json", config).unwrap_err().to_string(),
        VectorDB::load_binary("no/such/file.json").unwrap_err().to_string(),
        filled(DistanceMetric::Cosine, IndexType::Flat)
            .save_to_file("no/such/file.json")
            .unwrap_err()
            .to_string(),
    ] {
        assert!(message.contains("no/such"), "{message}");
    }
}

#[test]
fn a_binary_file_of_another_configuration_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db.vdb");
    filled(DistanceMetric::Cosine, IndexType::HNSW).save_binary(&path).unwrap();
    for wrong in [
        config(8, DistanceMetric::Cosine, IndexType::HNSW),
        config(9, DistanceMetric::Euclidean, IndexType::HNSW),
        config(9, DistanceMetric::Cosine, IndexType::LSH),
    ] {
        let message = VectorDB::load_from_file(&path, wrong).unwrap_err().to_string();
        assert!(message.contains("db.vdb") && message.contains("9 dimensions, cosine, HNSW"), "{message}");
    }
}

#[test]
fn every_truncation_and_many_flips_of_a_binary_file_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db.vdb");
    for index_type in INDEX_TYPES {
        let mut db = walked(2, DistanceMetric::Euclidean, index_type);
        db.batch_insert(generate_random_vectors_seeded(12, 2, 1)).unwrap();
        db.delete("vec_3");
        db.save_binary(&path).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let message = VectorDB::load_binary(&path).unwrap_err().to_string();
            assert!(message.contains("db.vdb"), "{message}");
        }
        for byte in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[byte] ^= 1 << (byte % 8);
            fs::write(&path, &damaged).unwrap();
            assert!(VectorDB::load_binary(&path).is_err(), "byte {byte} of {}", whole.len());
        }
    }
    fs::write(&path, "{\"not\": \"a database\"}").unwrap();
    let message = VectorDB::load_binary(&path).unwrap_err().to_string();
    assert!(message.contains("not a file of this database"), "{message}");
}
