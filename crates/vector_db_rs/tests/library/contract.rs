//! What every answer promises: how many results, in which order, with which numbers, the same on any thread count.

use crate::{INDEX_TYPES, METRICS, config, record, walked};
use std::collections::HashMap;
use vector_db_rs::*;

#[test]
fn results_report_exactly_what_calculate_gives() {
    let records = generate_random_vectors_seeded(3_000, 33, 1);
    let queries = generate_random_vectors_seeded(20, 33, 2);
    for metric in METRICS {
        for index_type in INDEX_TYPES {
            let mut db = walked(33, metric, index_type);
            db.batch_insert(records.clone()).unwrap();
            for query in &queries {
                let results = db.search(&query.vector, 10).unwrap();
                assert_eq!(results.len(), 10);
                for found in &results {
                    let value = metric.calculate(&query.vector, &found.record.vector);
                    assert_eq!(found.distance, value);
                    assert_eq!(found.similarity, if metric.is_similarity() { value } else { -value });
                    assert_eq!(db.get(&found.record.id).as_ref(), Some(&found.record));
                }
                for pair in results.windows(2) {
                    let order = pair[1].similarity.total_cmp(&pair[0].similarity);
                    assert!(order.then(pair[0].record.id.cmp(&pair[1].record.id)).is_lt());
                }
            }
        }
    }
}

#[test]
fn ties_are_ordered_by_id_and_cut_by_id() {
    for metric in METRICS {
        let mut db = VectorDB::new(config(2, metric, IndexType::Flat));
        let ids = ["m", "b", "z", "a", "q", "c"];
        db.batch_insert(ids.iter().map(|id| record(id, &[1.0, 2.0])).collect()).unwrap();
        let results = db.search(&[2.0, 1.0], 4).unwrap();
        let found: Vec<&str> = results.iter().map(|found| &*found.record.id).collect();
        assert_eq!(found, ["a", "b", "c", "m"]);
    }
}

#[test]
fn k_is_met_whenever_enough_records_match() {
    let mut records = generate_random_vectors_seeded(1_500, 16, 3);
    for (i, record) in records.iter_mut().enumerate() {
        record.metadata.insert("rest".into(), (i % 500).to_string());
        record.metadata.insert("even".into(), (i % 2 == 0).to_string());
    }
    for metric in METRICS {
        for index_type in INDEX_TYPES {
            let mut db = walked(16, metric, index_type);
            db.batch_insert(records.clone()).unwrap();
            let query = [0.3; 16];
            for k in [0, 1, 7, 1_499, 1_500, 1_501, usize::MAX] {
                assert_eq!(db.search(&query, k).unwrap().len(), k.min(1_500));
            }
            let rare = SearchOptions::new().filter("rest", "77");
            let mut found: Vec<String> =
                db.search_with(&query, 10, &rare).unwrap().results.into_iter().map(|r| r.record.id).collect();
            found.sort();
            assert_eq!(found, ["vec_1077", "vec_577", "vec_77"]);
            let both = SearchOptions::new().filter("rest", "78").filter("even", "false");
            assert_eq!(db.search_with(&query, 10, &both).unwrap().results.len(), 0);
            let unknown = SearchOptions::new().filter("nothing", "x");
            assert_eq!(
                db.search_with(&query, 10, &unknown).unwrap(),
                SearchAnswer { exact: true, ..SearchAnswer::default() }
            );
        }
    }
}

#[test]
fn exact_answers_say_so_and_are() {
    let records = generate_random_vectors_seeded(4_000, 24, 4);
    let query = [0.2; 24];
    for metric in METRICS {
        let mut flat = VectorDB::new(config(24, metric, IndexType::Flat));
        flat.batch_insert(records.clone()).unwrap();
        let truth = flat.search(&query, 20).unwrap();
        for index_type in INDEX_TYPES {
            let mut db = walked(24, metric, index_type);
            db.batch_insert(records.clone()).unwrap();
            let answer = db.search_with(&query, 20, &SearchOptions::new()).unwrap();
            assert_eq!(answer.exact, index_type == IndexType::Flat, "{metric:?} {index_type:?}");
            let exact = db.search_with(&query, 20, &SearchOptions::new().exact(true)).unwrap();
            assert!(exact.exact && exact.distance_computations == 4_000);
            assert_eq!(exact.results, truth);
        }
    }
}

#[test]
fn wider_searches_compare_more_and_find_more() {
    let records = generate_random_vectors_seeded(8_000, 24, 5);
    let cases = [
        (IndexType::HNSW, SearchOptions::new().ef_search(10), SearchOptions::new().ef_search(300)),
        (IndexType::LSH, SearchOptions::new().candidates(100), SearchOptions::new().candidates(4_000)),
        (IndexType::IVF, SearchOptions::new().probes(2), SearchOptions::new().probes(10_000)),
    ];
    for (index_type, narrow, wide) in cases {
        let mut db = walked(24, DistanceMetric::Euclidean, index_type);
        db.batch_insert(records.clone()).unwrap();
        let (mut found_narrow, mut found_wide) = (0, 0);
        for query in generate_random_vectors_seeded(30, 24, 6) {
            let search = |options: &SearchOptions| db.search_with(&query.vector, 10, options).unwrap();
            let truth = search(&SearchOptions::new().exact(true)).results;
            let (narrow, wide) = (search(&narrow), search(&wide));
            assert!(narrow.distance_computations < wide.distance_computations);
            let hits = |answer: SearchAnswer| answer.results.iter().filter(|r| truth.contains(r)).count();
            found_narrow += hits(narrow);
            found_wide += hits(wide);
        }
        assert!(found_wide > found_narrow && found_wide >= 285, "{index_type:?} {found_narrow} {found_wide}");
    }
}

#[test]
fn answers_do_not_depend_on_threads() {
    let records = generate_random_vectors_seeded(3_000, 20, 7);
    let queries = generate_random_vectors_seeded(20, 20, 8);
    for index_type in INDEX_TYPES {
        let answers = [1, 2, 5].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut db = walked(20, DistanceMetric::Cosine, index_type);
                db.batch_insert(records.clone()).unwrap();
                let search = |query: &VectorRecord| db.search(&query.vector, 5).unwrap();
                queries.iter().map(search).collect::<Vec<_>>()
            })
        });
        assert!(answers[0] == answers[1] && answers[1] == answers[2], "{index_type:?}");
    }
}

#[test]
fn searches_run_on_many_threads_at_once() {
    fn is_shared<T: Send + Sync>(_: &T) {}
    let queries = generate_random_vectors_seeded(40, 16, 9);
    for index_type in INDEX_TYPES {
        let mut db = walked(16, DistanceMetric::Euclidean, index_type);
        db.batch_insert(generate_random_vectors_seeded(2_000, 16, 10)).unwrap();
        is_shared(&db);
        let expected: Vec<_> = queries.iter().map(|query| db.search(&query.vector, 3).unwrap()).collect();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for (query, expected) in queries.iter().zip(&expected) {
                        assert_eq!(&db.search(&query.vector, 3).unwrap(), expected);
                    }
                });
            }
        });
    }
}

#[test]
fn insert_replaces_and_delete_removes() {
    for index_type in INDEX_TYPES {
        let mut db = VectorDB::new(config(2, DistanceMetric::Euclidean, index_type));
        assert!(db.is_empty());
        db.insert(record("a", &[1.0, 0.0])).unwrap();
        db.insert(record("b", &[5.0, 0.0])).unwrap();
        db.insert(VectorRecord {
            metadata: HashMap::from([("x".into(), "y".into())]),
            ..record("a", &[9.0, 0.0])
        })
        .unwrap();
        assert_eq!((db.size(), db.get("a").unwrap().vector), (2, vec![9.0, 0.0]));
        assert_eq!(db.get("a").unwrap().metadata["x"], "y");
        assert_eq!(db.search(&[1.0, 0.0], 1).unwrap()[0].record.id, "b");
        let mut ids: Vec<String> = db.iter().map(|record| record.id).collect();
        ids.sort();
        assert_eq!(ids, ["a", "b"]);
        assert!(db.delete("b") && !db.delete("b") && !db.contains("b") && db.contains("a"));
        assert_eq!(db.search(&[5.0, 0.0], 5).unwrap().len(), 1);
        assert_eq!(db.get("b"), None);
        db.clear();
        assert_eq!((db.size(), db.search(&[5.0, 0.0], 5).unwrap()), (0, Vec::new()));
        db.insert(record("c", &[0.0, 1.0])).unwrap();
        assert_eq!(db.search(&[5.0, 0.0], 5).unwrap().len(), 1);
        assert_eq!(db.index_type(), index_type);
    }
}

#[test]
fn the_last_of_equal_ids_in_a_batch_stays() {
    for index_type in INDEX_TYPES {
        let mut db = VectorDB::new(config(1, DistanceMetric::Euclidean, index_type));
        db.insert(record("a", &[0.0])).unwrap();
        let batch = vec![record("a", &[1.0]), record("b", &[2.0]), record("a", &[3.0]), record("b", &[4.0])];
        db.batch_insert(batch).unwrap();
        assert_eq!(db.size(), 2);
        assert_eq!((db.get("a").unwrap().vector, db.get("b").unwrap().vector), (vec![3.0], vec![4.0]));
        assert_eq!(db.search(&[0.0], 9).unwrap().len(), 2);
    }
}

#[test]
fn manhattan_is_reachable_through_the_builder() {
    for index_type in INDEX_TYPES {
        let builder = VectorDB::builder().dimension(2).metric(Metric::Manhattan).index(index_type);
        let mut db = builder.build().unwrap();
        db.batch_insert(vec![record("far", &[3.0, 3.0]), record("near", &[4.5, 0.0])]).unwrap();
        let results = db.search(&[0.0, 0.0], 2).unwrap();
        assert_eq!((&*results[0].record.id, results[0].distance, results[1].distance), ("near", 4.5, 6.0));
    }
}

#[test]
fn a_batch_of_queries_answers_as_one_at_a_time() {
    for index_type in [IndexType::Flat, IndexType::LSH, IndexType::HNSW, IndexType::IVF] {
        let mut db = VectorDB::builder().dimension(8).index(index_type).build().unwrap();
        let mut records = generate_random_vectors_seeded(3_000, 8, 31);
        for (i, record) in records.iter_mut().enumerate() {
            record.metadata.insert("part".to_owned(), (i % 4).to_string());
        }
        db.batch_insert(records).unwrap();
        let queries = generate_random_vectors_seeded(40, 8, 32);
        let vectors: Vec<&[f32]> = queries.iter().map(|query| &*query.vector).collect();
        let plain = SearchOptions::new();
        for options in [plain.clone(), plain.clone().exact(true), plain.clone().filter("part", "2")] {
            let batch = db.search_batch(&vectors, 7, &options).unwrap();
            let single: Vec<SearchAnswer> =
                vectors.iter().map(|query| db.search_with(query, 7, &options).unwrap()).collect();
            assert_eq!(batch, single, "{index_type:?} {options:?}");
        }
        assert!(db.search_batch(&[], 7, &plain).unwrap().is_empty());
        let error = db.search_batch(&[vectors[0], &[1.0; 3]], 7, &plain).unwrap_err();
        assert_eq!(
            error.to_string(),
            "query 1 of the batch (counted from 0) was refused, nothing was searched: \
             the query has 3 dimensions, expected 8"
        );
    }
}

#[test]
fn every_write_is_seen_by_the_next_search_under_the_same_filter() {
    let colored = |id: &str, color: &str| VectorRecord {
        metadata: HashMap::from([("color".to_owned(), color.to_owned())]),
        ..record(id, &[1.0, 2.0])
    };
    for index_type in INDEX_TYPES {
        let mut db = walked(2, DistanceMetric::Euclidean, index_type);
        let check = |db: &VectorDB, red: &[&str], after: &str| {
            // Twice: the second search finds the filter's answer kept by the first.
            for _ in 0..2 {
                let options = SearchOptions::new().filter("color", "red");
                let found = db.search_with(&[1.0, 2.0], 10, &options).unwrap().results;
                let ids: Vec<&str> = found.iter().map(|found| &*found.record.id).collect();
                assert_eq!(ids, red, "{index_type:?} after {after}");
            }
        };
        check(&db, &[], "nothing");
        db.insert(colored("b", "red")).unwrap();
        check(&db, &["b"], "an insertion");
        db.batch_insert(vec![colored("a", "red"), colored("c", "blue")]).unwrap();
        check(&db, &["a", "b"], "a batch");
        db.insert(colored("c", "red")).unwrap();
        db.insert(colored("a", "blue")).unwrap();
        check(&db, &["b", "c"], "replacements");
        assert!(db.delete("b"));
        check(&db, &["c"], "a deletion");
        // The offset of the deleted record may be taken by one that does not match.
        db.insert(colored("d", "blue")).unwrap();
        check(&db, &["c"], "an insertion that does not match");
        db.clear();
        check(&db, &[], "clearing");
        db.insert(colored("e", "red")).unwrap();
        check(&db, &["e"], "an insertion into a cleared database");
    }
}
