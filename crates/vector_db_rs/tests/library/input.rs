//! Bad input: a clear error that names record, expected and got; nothing changes, nothing panics.

use crate::{INDEX_TYPES, METRICS, config, record};
use vector_db_rs::*;

fn check<T: std::fmt::Debug>(result: Result<T, Error>, parts: &[&str]) {
    let message = result.unwrap_err().to_string();
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

#[test]
fn bad_records_are_refused() {
    for index_type in INDEX_TYPES {
        let mut db = VectorDB::new(config(3, DistanceMetric::Cosine, index_type));
        check(db.insert(record("short", &[1.0])), &["\"short\"", "has 1 dimensions", "expected 3"]);
        check(db.insert(record("none", &[])), &["\"none\"", "has 0 dimensions", "expected 3"]);
        check(db.insert(record("nan", &[1.0, f32::NAN, 0.0])), &["\"nan\"", "value 1", "NaN", "finite"]);
        check(db.insert(record("inf", &[1.0, 0.0, f32::NEG_INFINITY])), &["\"inf\"", "value 2", "-inf"]);
        assert_eq!(db.size(), 0);
    }
}

#[test]
fn a_bad_record_refuses_the_whole_batch() {
    for index_type in INDEX_TYPES {
        let mut db = VectorDB::new(config(2, DistanceMetric::Euclidean, index_type));
        db.insert(record("old", &[7.0, 7.0])).unwrap();
        let batch = vec![record("old", &[1.0, 1.0]), record("new", &[2.0, 2.0]), record("bad", &[1.0; 5])];
        check(db.batch_insert(batch), &["record 2", "\"bad\"", "has 5 dimensions", "expected 2", "nothing"]);
        assert_eq!((db.size(), db.get("old").unwrap().vector), (1, vec![7.0, 7.0]));
        assert!(!db.contains("new"));
        db.batch_insert(Vec::new()).unwrap();
    }
}

#[test]
fn an_error_of_the_source_leaves_everything_as_it_was() {
    for index_type in INDEX_TYPES {
        let mut db = VectorDB::new(config(1, DistanceMetric::Euclidean, index_type));
        db.batch_insert(vec![record("a", &[1.0]), record("b", &[2.0])]).unwrap();
        let source = vec![
            Ok(record("c", &[3.0])),
            Ok(record("a", &[4.0])),
            Ok(record("c", &[5.0])),
            Err(Box::<dyn std::error::Error>::from("the file ends here")),
            Ok(record("d", &[6.0])),
        ];
        let error = db.insert_all(source, |_| ()).unwrap_err();
        assert_eq!(error.to_string(), "the file ends here");
        let found: Vec<(String, f32)> = db
            .search(&[0.0], 9)
            .unwrap()
            .into_iter()
            .map(|found| (found.record.id, found.distance))
            .collect();
        assert_eq!(found, [("a".to_owned(), 1.0), ("b".to_owned(), 2.0)]);
        let replaced: Vec<Result<_, Error>> = vec![Ok(record("b", &[0.5])), Ok(record("e", &[0.1]))];
        let mut progress = Vec::new();
        assert_eq!(db.insert_all(replaced, |count| progress.push(count)).unwrap(), 2);
        assert_eq!((db.size(), progress.last()), (3, Some(&2)));
        assert_eq!(db.search(&[0.0], 1).unwrap()[0].record.id, "e");
    }
}

#[test]
fn bad_queries_are_refused() {
    for index_type in INDEX_TYPES {
        let mut db = VectorDB::new(config(2, DistanceMetric::DotProduct, index_type));
        for _ in 0..2 {
            check(db.search(&[1.0], 3), &["query has 1 dimensions", "expected 2"]);
            check(db.search(&[], 3), &["query has 0 dimensions"]);
            check(db.search(&[f32::INFINITY, 0.0], 3), &["value 0 of the query is inf"]);
            check(db.search(&[0.0, f32::NAN], 0), &["value 1 of the query is NaN"]);
            db.insert(record("a", &[1.0, 1.0])).unwrap();
        }
    }
}

#[test]
fn dimension_zero_is_an_error_everywhere_but_in_new() {
    for index_type in INDEX_TYPES {
        let mut db = VectorDB::new(config(0, DistanceMetric::Cosine, index_type));
        check(db.insert(record("a", &[])), &["dimension is 0", "expected 1 to 65536"]);
        check(db.batch_insert(vec![record("a", &[])]), &["dimension is 0"]);
        check(db.search(&[], 1), &["dimension is 0"]);
        assert_eq!(db.size(), 0);
        check(VectorDB::builder().index(index_type).build(), &["dimension is 0"]);
    }
    let mut flat = FlatIndex::new(config(0, DistanceMetric::Cosine, IndexType::Flat));
    check(flat.insert(record("a", &[])), &["dimension is 0"]);
}

#[test]
fn an_index_of_impossible_tables_refuses_everything() {
    let wrong =
        [(0, 20, "num_tables is 0, expected 1 to 1024"), (10, 65, "num_functions is 65, expected 1 to 64")];
    for (tables, functions, message) in wrong {
        let mut lsh = LSHIndex::new(config(2, DistanceMetric::Cosine, IndexType::LSH), tables, functions);
        check(lsh.insert(record("a", &[1.0, 2.0])), &[message]);
        check(lsh.search(&[1.0, 2.0], 1), &[message]);
        assert_eq!(lsh.size(), 0);
    }
}

#[test]
fn the_builder_names_the_parameter() {
    let builder = || VectorDB::builder().dimension(4);
    check(builder().dimension(65_537).build(), &["dimension is 65537"]);
    assert!(builder().num_tables(None).build().is_ok());
    check(builder().m(1).build(), &["m is 1, expected 2 to 128"]);
    check(builder().ef_construction(0).build(), &["ef_construction is 0"]);
    for target in [0.0, -0.5, 1.01, f64::NAN] {
        check(builder().target_recall(target).build(), &["target_recall is", "more than 0 and at most 1"]);
        let db = builder().build().unwrap();
        let options = SearchOptions::new().target_recall(target);
        let query = vec![0.5; db.dimension()];
        check(db.search_with(&query, 1, &options), &["invalid search: target_recall is", "at most 1"]);
        check(db.search_batch(&[&query], 1, &options), &["invalid search: target_recall is", "at most 1"]);
    }
    check(builder().ef_search(0).build(), &["ef_search is 0, expected at least 1"]);
    check(builder().num_tables(0).build(), &["num_tables is 0"]);
    check(builder().num_functions(65).build(), &["num_functions is 65, expected 1 to 64"]);
    assert!(builder().build().is_ok());
}

#[test]
fn zero_vectors_are_similar_to_nothing_under_cosine() {
    for index_type in INDEX_TYPES {
        let mut db = VectorDB::new(config(2, DistanceMetric::Cosine, index_type));
        db.batch_insert(vec![
            record("zero", &[0.0, 0.0]),
            record("with", &[1.0, 0.0]),
            record("against", &[-1.0, 0.0]),
        ])
        .unwrap();
        let found = |query: &[f32]| -> Vec<(String, f32)> {
            let results = db.search(query, 3).unwrap();
            results.into_iter().map(|found| (found.record.id, found.similarity)).collect()
        };
        let expected = [("with", 1.0), ("zero", 0.0), ("against", -1.0)];
        assert_eq!(found(&[2.0, 0.0]), expected.map(|(id, similarity)| (id.to_owned(), similarity)));
        let equal = [("against", 0.0), ("with", 0.0), ("zero", 0.0)];
        assert_eq!(found(&[0.0, 0.0]), equal.map(|(id, similarity)| (id.to_owned(), similarity)));
    }
}

#[test]
fn extreme_values_are_searched_without_panic() {
    let values = [0.0, -0.0, 1e-45, -1e-38, 1e-20, 1.0, -1e20, 3e38, -3e38];
    for metric in METRICS {
        for index_type in INDEX_TYPES {
            let mut db = VectorDB::new(config(2, metric, index_type));
            for (i, &x) in values.iter().enumerate() {
                for (j, &y) in values.iter().enumerate() {
                    db.insert(record(&format!("{i}{j}"), &[x, y])).unwrap();
                }
            }
            for &x in &values {
                let results = db.search(&[x, 1.0], 100).unwrap();
                assert_eq!(results.len(), 81);
                assert!(results.iter().all(|found| !found.similarity.is_nan()));
            }
        }
    }
}
