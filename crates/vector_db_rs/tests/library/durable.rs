//! Databases in directories: the answers of those in memory, whatever happens to the process or the machine in between.
//!
//! `VDB_MODEL_SEED` replays one seed of the model test, `VDB_MODEL_RUNS` asks for more of them.

use crate::{METRICS, config, record};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use vdb_testkit::{Loss, SimFiles};
use vector_db_rs::*;

const DIMENSION: usize = 6;

/// Seals and merges after a few records, on the thread that writes.
fn options() -> Options {
    let mut settings = Settings::default();
    (settings.seal_points, settings.least_graph_rows) = (30, 20);
    (settings.most_unindexed, settings.most_segments) = (200, 3);
    Options::new().settings(settings).background(false).seed(1)
}

/// Every kind of index that there is.
fn kinds(metric: Metric) -> [(&'static str, VectorDBBuilder); 5] {
    let builder =
        |index| VectorDB::builder().dimension(DIMENSION).metric(metric).index(index).options(options());
    let quantizer = if metric == Metric::Manhattan { Quantizer::F16 } else { Quantizer::Sq8 };
    [
        ("Flat", builder(IndexType::Flat)),
        ("HNSW", builder(IndexType::HNSW).exact_scan_factor(0).m(8)),
        ("LSH", builder(IndexType::LSH).num_tables(4).num_functions(6)),
        ("IVF", builder(IndexType::IVF)),
        ("codes", builder(IndexType::Flat).quantizer(quantizer)),
    ]
}

/// A database in memory and one in a directory, which are told the same.
struct Twins {
    rng: ChaCha8Rng,
    builder: VectorDBBuilder,
    memory: VectorDB,
    durable: VectorDB,
}

impl Twins {
    fn below(&mut self, bound: u32) -> u32 {
        self.rng.next_u32() % bound
    }

    fn vector(&mut self) -> Vec<f32> {
        // Few distinct values: copies, ties and zero vectors are common.
        (0..DIMENSION).map(|_| self.below(5) as f32 - 2.0).collect()
    }

    fn record(&mut self) -> VectorRecord {
        let mut record = record(&format!("r{}", self.below(150)), &self.vector());
        if self.below(3) > 0 {
            record.metadata.insert("color".into(), ["red", "blue \"ü\""][self.below(2) as usize].into());
        }
        record
    }

    fn step(&mut self, path: &Path) {
        match self.below(24) {
            0..7 => {
                let record = self.record();
                self.memory.insert(record.clone()).unwrap();
                self.durable.insert(record).unwrap();
            }
            7..10 => {
                let batch: Vec<VectorRecord> = (0..self.below(40)).map(|_| self.record()).collect();
                let of_memory = self.memory.insert_all(batch.clone().into_iter().map(Ok::<_, Error>), |_| ());
                let of_durable = self.durable.insert_all(batch.into_iter().map(Ok::<_, Error>), |_| ());
                assert_eq!(of_durable.unwrap(), of_memory.unwrap());
            }
            10 => {
                let mut batch: Vec<VectorRecord> = (0..5).map(|_| self.record()).collect();
                batch[3].vector.pop();
                let refusal = self.memory.batch_insert(batch.clone()).unwrap_err();
                assert_eq!(self.durable.batch_insert(batch).unwrap_err().to_string(), refusal.to_string());
            }
            11..15 => {
                let id = format!("r{}", self.below(150));
                assert_eq!(self.durable.delete(&id), self.memory.delete(&id));
            }
            15 if self.below(8) == 0 => {
                self.memory.clear();
                self.durable.clear();
            }
            16 => self.durable.optimize().unwrap(),
            17 => {
                // A clone is the same database.
                let (mut clone, record) = (self.durable.clone(), self.record());
                clone.insert(record.clone()).unwrap();
                self.memory.insert(record).unwrap();
            }
            18 => {
                let reader = self.builder.clone().open_read_only(path).unwrap();
                self.compare(&reader);
            }
            19..21 => {
                // A database of no meaning takes the place for a moment.
                let db = std::mem::replace(&mut self.durable, self.builder.clone().build().unwrap());
                match self.below(2) {
                    0 => db.close().unwrap(),
                    _ => drop(db),
                }
                self.durable = self.builder.clone().open(path).unwrap();
            }
            _ => {
                let durable = self.durable.clone();
                self.compare(&durable);
            }
        }
        assert_eq!(self.durable.size(), self.memory.size());
    }

    fn compare(&mut self, durable: &VectorDB) {
        let (query, k) = (self.vector(), self.below(25) as usize);
        let k = if self.below(20) == 0 { usize::MAX } else { k };
        let mut options = SearchOptions::new();
        if self.below(2) == 0 {
            options = options.filter("color", ["red", "blue \"ü\""][self.below(2) as usize]);
        }
        let exact = options.clone().exact(true);
        let truth = self.memory.search_with(&query, k, &exact).unwrap();
        let answer = durable.search_with(&query, k, &exact).unwrap();
        assert_eq!((answer.results, answer.exact), (truth.results.clone(), true));
        let answer = durable.search_with(&query, k, &options).unwrap();
        assert_eq!(answer.results.len(), truth.results.len());
        assert!(!answer.exact || answer.results == truth.results);
        assert!(answer.exact || durable.index_type() != IndexType::Flat || durable.quantizer().is_some());
        for found in &answer.results {
            assert_eq!(self.memory.get(&found.record.id).as_ref(), Some(&found.record));
        }
        let batch = durable.search_batch(&[&query, &query], k, &options).unwrap();
        assert_eq!(batch, [answer.clone(), answer]);
        let id = format!("r{}", self.below(150));
        assert_eq!(durable.get(&id), self.memory.get(&id));
        assert_eq!(durable.contains(&id), self.memory.contains(&id));
    }
}

/// All records in the order of their ids.
fn all(db: &VectorDB) -> BTreeMap<String, VectorRecord> {
    db.iter().map(|record| (record.id.clone(), record)).collect()
}

#[test]
fn answers_are_those_of_a_database_in_memory() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("VDB_MODEL_SEED").unwrap_or(1);
    let metrics = METRICS.map(Metric::from).into_iter().chain([Metric::Manhattan]);
    for (metric, seed) in metrics.flat_map(|metric| {
        (first..first + number("VDB_MODEL_RUNS").unwrap_or(1)).map(move |seed| (metric, seed))
    }) {
        for (kind, builder) in kinds(metric) {
            println!("durable model seed {seed}, {metric}, {kind}");
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path();
            let (memory, durable) = (builder.clone().build().unwrap(), builder.clone().open(path).unwrap());
            let mut twins = Twins { rng: ChaCha8Rng::seed_from_u64(seed), builder, memory, durable };
            (0..150).for_each(|_| twins.step(path));
            let Twins { memory, durable, .. } = twins;
            assert_eq!(all(&durable), all(&memory));
            let mut ids: Vec<_> = durable.ids().collect();
            ids.sort();
            assert!(ids.iter().eq(all(&memory).keys()));
            // The files of both are the same, but for the order of the records.
            let file = path.join("records.json");
            durable.save_to_file(&file).unwrap();
            let config = config(DIMENSION, DistanceMetric::Cosine, IndexType::Flat);
            assert_eq!(all(&VectorDB::load_from_file(&file, config).unwrap()), all(&memory));
            durable.save_binary(&file).unwrap();
            assert_eq!(all(&VectorDB::load_binary(&file).unwrap()), all(&memory));
            assert_eq!(all(&durable.to_memory().unwrap()), all(&memory));
        }
    }
}

#[test]
fn what_was_acknowledged_survives_a_power_failure_and_a_batch_is_whole_or_not_there() {
    for (kind, builder) in kinds(Metric::Cosine) {
        let files = SimFiles::new();
        let at = |files: &SimFiles| builder.clone().options(options().files(Arc::new(files.clone())));
        let open = |files: &SimFiles| at(files).open("/db").unwrap();
        let mut db = open(&files);
        // How many changes of the disk there were after each call, and the records then.
        let mut states = vec![(files.changes(), all(&db))];
        for step in 0..24 {
            let mut records = generate_random_vectors_seeded(12, DIMENSION, step);
            match step % 4 {
                0 => db.insert(records.pop().unwrap()).unwrap(),
                1 => assert!(db.delete("vec_3") == (step > 1)),
                2 if step == 14 => db.clear(),
                _ => db.batch_insert(records).unwrap(),
            }
            states.push((files.changes(), all(&db)));
        }
        drop(db);
        let mut images = 0;
        for pair in states.windows(2) {
            let [(from, before), (until, after)] = pair else { unreachable!() };
            for changes in *from..=*until {
                for loss in [Loss::Everything, Loss::Nothing, Loss::Random(changes as u64), Loss::Torn(7)] {
                    let found = all(&open(&files.after(changes, loss)));
                    let is_after = found == *after;
                    assert!(
                        is_after || changes < *until && found == *before,
                        "{kind}, {loss:?} after {changes} changes"
                    );
                    images += 1;
                }
            }
        }
        println!("{kind}: {images} images of the disk");
        assert!(images > 200);
    }
}

/// Records, queries, and how many of `k` true neighbours a search of `db` finds.
fn recall(db: &VectorDB, queries: &[VectorRecord], k: usize) -> f64 {
    let mut found = 0;
    for query in queries {
        let truth = db.search_with(&query.vector, k, &SearchOptions::new().exact(true)).unwrap().results;
        let results = db.search(&query.vector, k).unwrap();
        assert_eq!(results.len(), k);
        found += results.iter().filter(|result| truth.contains(result)).count();
    }
    found as f64 / (queries.len() * k) as f64
}

#[test]
fn graphs_of_segments_reach_the_target_recall() {
    let folder = tempfile::tempdir().unwrap();
    let builder = || {
        let mut settings = Settings::default();
        (settings.seal_points, settings.least_graph_rows) = (700, 600);
        let options = Options::new().settings(settings).background(false);
        VectorDB::builder().dimension(20).metric(Metric::Euclidean).exact_scan_factor(0).options(options)
    };
    let queries = generate_random_vectors_seeded(60, 20, 2);
    let mut db = builder().open(folder.path()).unwrap();
    for batch in generate_random_vectors_seeded(6_000, 20, 1).chunks(500) {
        db.batch_insert(batch.to_vec()).unwrap();
    }
    let check = |db: &VectorDB, when: &str| {
        let answer = db.search_with(&queries[0].vector, 10, &SearchOptions::new()).unwrap();
        assert!(!answer.exact && answer.hops > 0 && answer.distance_computations < 6_000, "{when}");
        let recall = recall(db, &queries, 10);
        println!("{when}: recall {recall:.3}");
        assert!(recall > 0.93, "{when}: recall {recall}");
        let wide = SearchOptions::new().ef_search(1_000);
        let work = |options: &SearchOptions| {
            db.search_with(&queries[0].vector, 10, options).unwrap().distance_computations
        };
        assert!(work(&wide) > 2 * work(&SearchOptions::new().ef_search(10)), "{when}");
    };
    check(&db, "in segments");
    db.optimize().unwrap();
    check(&db, "optimized");
    db.close().unwrap();
    check(&builder().open(folder.path()).unwrap(), "opened again");
    let exact = builder().target_recall(1.0).open(folder.path()).unwrap();
    assert_eq!(recall(&exact, &queries, 10), 1.0);
}

#[test]
fn indexes_of_segments_are_found_again_and_as_good_as_those_in_memory() {
    let records = generate_random_vectors_seeded(3_000, DIMENSION, 5);
    let queries = generate_random_vectors_seeded(30, DIMENSION, 6);
    for (kind, builder) in
        kinds(Metric::Euclidean).into_iter().filter(|kind| !["Flat", "HNSW"].contains(&kind.0))
    {
        let folder = tempfile::tempdir().unwrap();
        let mut memory = builder.clone().build().unwrap();
        let mut durable = builder.clone().open(folder.path()).unwrap();
        memory.batch_insert(records.clone()).unwrap();
        durable.batch_insert(records.clone()).unwrap();
        durable.optimize().unwrap();
        // The parameter of each is one that all others pay no heed to.
        let efforts = [SearchOptions::new(), SearchOptions::new().candidates(150).oversampling(5).probes(9)];
        let search = |db: &VectorDB, options: &SearchOptions| -> Vec<SearchAnswer> {
            queries.iter().map(|query| db.search_with(&query.vector, 10, options).unwrap()).collect()
        };
        for options in &efforts {
            // One segment, over the same rows in the same order.
            assert_eq!(search(&durable, options), search(&memory, options), "{kind}");
            assert!(search(&durable, options).iter().all(|answer| !answer.exact), "{kind}");
        }
        assert_ne!(search(&durable, &efforts[0]), search(&durable, &efforts[1]), "{kind}");
        assert_eq!(durable.quantizer(), memory.quantizer());
        let before = search(&durable, &efforts[0]);
        durable.close().unwrap();
        let durable = builder.open(folder.path()).unwrap();
        assert!(durable.memory_bytes() < size_of::<f32>() * DIMENSION * records.len());
        assert_eq!(search(&durable, &efforts[0]), before, "{kind}");
        let found = recall(&durable, &queries, 10);
        println!("{kind}: recall {found:.3} when opened again");
        assert!(found > 0.8, "{kind}: recall {found}");
    }
}

#[test]
fn another_dimension_metric_or_index_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let builder = || VectorDB::builder().dimension(3).metric(Metric::Cosine).m(8);
    builder().open(path).unwrap().close().unwrap();
    let check = |builder: VectorDBBuilder, expected: &str| {
        let error = builder.open(path).unwrap_err();
        assert!(matches!(error, Error::InFile { .. }), "{error}");
        assert_eq!(
            error.to_string(),
            format!("{}: invalid configuration: expected a {expected}", path.display())
        );
    };
    let holds = "the directory holds one of 3 dimensions, cosine, with a graph (HNSW)";
    check(builder().dimension(4), &format!("database of 4 dimensions, cosine, with a graph (HNSW); {holds}"));
    check(
        builder().metric(Metric::Manhattan),
        &format!("database of 3 dimensions, manhattan, with a graph (HNSW); {holds}"),
    );
    for (index, expected) in [
        (IndexType::Flat, "without an index (Flat)"),
        (IndexType::IVF, "with posting lists (IVF)"),
        (IndexType::LSH, "with hash tables (LSH)"),
    ] {
        let expected = format!("database of 3 dimensions, cosine, {expected}; {holds}");
        check(builder().index(index), &expected);
    }
    check(builder().m(12), "graph with m 12; the directory's has 8");
    check(builder().profile(Profile::Fast), "graph with m 32; the directory's has 8");
    check(builder().seed(3), "graph with seed 3; the directory's has 0");
    // What is not said is taken as it was made.
    let db = VectorDB::open(path, config(3, DistanceMetric::Cosine, IndexType::HNSW)).unwrap();
    assert_eq!((db.dimension(), db.metric(), db.index_type()), (3, Metric::Cosine, IndexType::HNSW));
    // One process writes.
    let locked = VectorDB::open(path, config(3, DistanceMetric::Cosine, IndexType::HNSW)).unwrap_err();
    assert!(matches!(locked, Error::Storage(StorageError::Locked { .. })), "{locked}");
    for (place, builder, other, expected) in [
        (
            "codes",
            builder().index(IndexType::Flat).quantizer(Quantizer::Pq4).subspaces(2),
            builder().index(IndexType::Flat).quantizer(Quantizer::Pq4).subspaces(3),
            "expected codes with subspaces 3; the directory's has 2",
        ),
        (
            "codes",
            builder().index(IndexType::Flat),
            builder().index(IndexType::Flat).quantizer(Quantizer::Sq8),
            "cosine, with codes (Flat, sq8); the directory holds one of 3 dimensions, cosine, with codes (Flat, pq4)",
        ),
        (
            "lists",
            builder().index(IndexType::IVF).bits(2),
            builder().index(IndexType::IVF).bits(3),
            "expected posting lists with bits 3; the directory's has 2",
        ),
        (
            "tables",
            builder().index(IndexType::LSH).num_tables(5),
            builder().index(IndexType::LSH).num_tables(6),
            "expected hash tables with num_tables 6; the directory's has 5",
        ),
    ] {
        let path = folder.path().join(place);
        builder.open(&path).unwrap().close().unwrap();
        let error = other.open(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let plain = folder.path().join("plain");
    builder().index(IndexType::Flat).open(&plain).unwrap().close().unwrap();
    let error = builder().index(IndexType::Flat).quantizer(Quantizer::Sq8).open(&plain).unwrap_err();
    assert!(error.to_string().contains("with codes (Flat, sq8); the directory holds one of"), "{error}");
    assert!(error.to_string().ends_with("without an index (Flat)"), "{error}");
    let error =
        VectorDB::open(path.join("other"), config(0, DistanceMetric::Cosine, IndexType::HNSW)).unwrap_err();
    assert_eq!(error.to_string(), "invalid configuration: dimension is 0, expected 1 to 65536");
    assert!(!path.join("other").exists());
}

#[test]
fn bad_input_is_refused_as_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(2, DistanceMetric::Euclidean, IndexType::Flat);
    let mut both = [VectorDB::new(config.clone()), VectorDB::open(folder.path(), config).unwrap()];
    let errors = both.each_mut().map(|db| {
        let options = SearchOptions::new().target_recall(2.0);
        [
            db.insert(record("a", &[1.0])).unwrap_err(),
            db.insert(record("a", &[1.0, f32::NAN])).unwrap_err(),
            db.batch_insert(vec![record("b", &[1.0, 2.0]), record("c", &[])]).unwrap_err(),
            db.search(&[1.0, 2.0, 3.0], 1).unwrap_err(),
            db.search(&[1.0, f32::INFINITY], 1).unwrap_err(),
            db.search_with(&[1.0, 2.0], 1, &options).unwrap_err(),
            db.search_batch(&[&[1.0, 2.0], &[1.0]], 1, &SearchOptions::new()).unwrap_err(),
        ]
        .map(|error| format!("{error:?}"))
    });
    assert_eq!(errors[0], errors[1]);
    assert_eq!(both.each_ref().map(VectorDB::size), [0, 0]);
    let [_, durable] = &mut both;
    let error = durable.insert(record(&"x".repeat(5_000), &[1.0, 2.0])).unwrap_err();
    assert!(matches!(error, Error::Engine(engine::Error::InvalidPoint { .. })), "{error}");
    assert_eq!(durable.size(), 0);
}

#[test]
fn readers_see_what_is_written_when_they_refresh() {
    for (kind, builder) in kinds(Metric::Euclidean) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let nothing = builder.clone().open_read_only(path).unwrap_err();
        assert!(matches!(nothing, Error::Engine(engine::Error::NoDatabase { .. })), "{nothing}");
        let mut writer = builder.clone().open(path).unwrap();
        let mut reader = builder.open_read_only(path).unwrap();
        let found = |db: &VectorDB| db.search(&[0.5; DIMENSION], 200).unwrap();
        for round in 0..3 {
            writer.batch_insert(generate_random_vectors_seeded(60, DIMENSION, round)).unwrap();
            writer.delete(&format!("vec_{round}"));
            assert_ne!(found(&reader), found(&writer), "{kind}");
            assert!(reader.refresh().unwrap() && !reader.refresh().unwrap());
            assert_eq!(found(&reader), found(&writer), "{kind}");
            assert_eq!(all(&reader), all(&writer));
        }
        assert!(!writer.refresh().unwrap());
        for error in [
            reader.insert(record("a", &[1.0; DIMENSION])).unwrap_err(),
            reader.try_delete("vec_9").unwrap_err(),
            reader.try_clear().unwrap_err(),
            reader.flush().unwrap_err(),
            reader.optimize().unwrap_err(),
        ] {
            assert!(matches!(error, Error::Engine(engine::Error::ReadOnly { .. })), "{error}");
        }
        assert_eq!(all(&reader), all(&writer));
        reader.close().unwrap();
        writer.flush().unwrap();
    }
}

#[test]
fn a_directory_is_given_back_by_the_last_clone() {
    let folder = tempfile::tempdir().unwrap();
    let open = || VectorDB::open(folder.path(), config(1, DistanceMetric::Euclidean, IndexType::Flat));
    let mut db = open().unwrap();
    let mut clone = db.clone();
    clone.insert(record("a", &[1.0])).unwrap();
    assert!(db.contains("a"));
    clone.close().unwrap();
    db.insert(record("b", &[2.0])).unwrap();
    open().unwrap_err();
    // A copy in memory goes its own way.
    let mut copy = db.to_memory().unwrap();
    copy.insert(record("c", &[3.0])).unwrap();
    db.close().unwrap();
    let db = open().unwrap();
    assert!(db.ids().eq(["a", "b"]));
    assert_eq!(copy.size(), 3);
}

#[test]
fn points_of_other_programs_read_as_text() {
    let folder = tempfile::tempdir().unwrap();
    {
        let database = Database::open(folder.path()).unwrap();
        let shoes = CollectionConfig::new(2, Metric::Euclidean);
        let collection = database.create_collection("default", &shoes).unwrap();
        database.create_collection("other", &shoes).unwrap();
        let mut fields = Payload::new();
        fields.insert("size".to_owned(), 42.into());
        fields.insert("tags".to_owned(), vec!["a", "b"].into());
        fields.insert("name".to_owned(), "boot".into());
        let points =
            vec![Point::new("x", vec![1.0, 0.0]).with_payload(fields), Point::new(7, vec![2.0, 0.0])];
        collection.upsert(points).unwrap();
        database.close().unwrap();
    }
    let db = VectorDB::open(folder.path(), config(2, DistanceMetric::Euclidean, IndexType::HNSW)).unwrap();
    let metadata = db.get("x").unwrap().metadata;
    let mut fields: Vec<(&str, &str)> = metadata.iter().map(|(key, value)| (&**key, &**value)).collect();
    fields.sort();
    assert_eq!(fields, [("name", "boot"), ("size", "42"), ("tags", "[\"a\",\"b\"]")]);
    for (key, value) in fields {
        let options = SearchOptions::new().filter(key, value);
        let answer = db.search_hits(&[0.0, 0.0], 5, &options).unwrap();
        assert_eq!(answer.hits.len(), 1);
        assert_eq!((answer.hits[0].id(), answer.hits[0].metadata()), ("x", Some(&metadata)));
        let other = options.filter(key, "else");
        assert!(db.search_hits(&[0.0, 0.0], 5, &other).unwrap().hits.is_empty());
    }
    let answer = db.search_hits(&[0.0, 0.0], 5, &SearchOptions::new()).unwrap();
    let found: Vec<(&str, Vec<f32>)> =
        answer.hits.iter().map(|hit| (hit.id(), hit.vector().into_owned())).collect();
    assert_eq!(found, [("x", vec![1.0, 0.0]), ("7", vec![2.0, 0.0])]);
    assert_eq!(answer.hits[1].metadata(), None);
    assert!(db.ids().eq(["x", "7"]) && !db.contains("7"));
}
