//! Merges of segments many of whose rows are gone: graphs move with the rows that are left.

use crate::model::options;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;
use vdb_distance::Metric;
use vdb_engine::{
    Collection, CollectionConfig, Effort, FieldIndex, Point, PointId, Search, Settings, VectorConfig,
};
use vdb_index::HnswParams;
use vdb_testkit::SimFiles;

const DIM: usize = 8;

fn vector(rng: &mut ChaCha8Rng) -> Vec<f32> {
    (0..DIM).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// Every point is there with its vector, and found by walks of both fields.
fn check(collection: &Collection, expected: &[(u64, Vec<f32>)], rng: &mut ChaCha8Rng) {
    collection.verify().unwrap();
    let view = collection.view();
    let ids: BTreeSet<u64> = expected.iter().map(|point| point.0).collect();
    assert_eq!(view.len(), ids.len());
    for (id, vector) in expected {
        let point = view.get(&PointId::from(*id)).unwrap().unwrap().point;
        assert_eq!(&point.vectors[""], vector, "point {id}");
        assert_eq!(point.vectors.contains_key("odd"), id % 2 == 1, "point {id}");
    }
    for field in ["", "odd"] {
        let (mut right, mut walks) = (0, 0);
        for _ in 0..100 {
            let query = vector(rng);
            let search = |effort| view.search(&Search::new(&query, 10).field(field).effort(effort)).unwrap();
            let (exact, found) = (search(Effort::Exact), search(Effort::EfSearch(48)));
            assert!(
                found
                    .hits
                    .iter()
                    .all(|hit| field.is_empty() || hit.id.to_string().parse::<u64>().unwrap() % 2 == 1)
            );
            right += found.hits.iter().filter(|hit| exact.hits.iter().any(|own| own.id == hit.id)).count();
            walks += usize::from(!found.exact);
        }
        assert_eq!(walks, 100, "field {field:?} has no graph");
        assert!(right >= 980, "field {field:?}: {right} of 1,000");
    }
}

#[test]
fn a_segment_without_a_third_of_its_rows_keeps_its_graph() {
    let mut rng = ChaCha8Rng::seed_from_u64(71);
    let files = SimFiles::new();
    let mut settings = Settings::default();
    (settings.least_graph_rows, settings.seal_points) = (200, 1_000_000);
    let database = options(&files, settings, 1).open("db").unwrap();
    let index =
        FieldIndex::Hnsw(HnswParams { m: Some(8), ef_construction: 80, exact_scan_factor: 0, seed: 3 });
    let config = VectorConfig::new(DIM, Metric::Euclidean).with_index(index);
    let fields = [(String::new(), config), ("odd".to_owned(), config)];
    let config = CollectionConfig { vectors: fields.into_iter().collect() };
    let collection = database.create_collection("c", &config).unwrap();
    let mut points: Vec<(u64, Vec<f32>)> = (0..3_000).map(|id| (id, vector(&mut rng))).collect();
    let upsert = |points: &[(u64, Vec<f32>)]| {
        let points = points.iter().map(|(id, vector)| {
            let mut point = Point::new(*id, vector.clone());
            if id % 2 == 1 {
                point.vectors.insert("odd".to_owned(), vector.clone());
            }
            point
        });
        collection.upsert(points.collect()).unwrap();
    };
    upsert(&points);
    collection.optimize().unwrap();
    let delete = |share: f64, rng: &mut ChaCha8Rng, points: &mut Vec<(u64, Vec<f32>)>| {
        let gone: Vec<u64> = points.iter().map(|point| point.0).filter(|_| rng.random_bool(share)).collect();
        points.retain(|point| !gone.contains(&point.0));
        collection.delete(&gone.into_iter().map(PointId::from).collect::<Vec<_>>()).unwrap();
    };
    delete(0.35, &mut rng, &mut points);
    check(&collection, &points, &mut rng);
    assert!(collection.merge_due().unwrap());
    let info = collection.info();
    assert_eq!((info.segments, info.dead_rows, info.indexed_segments), (1, 0, 1), "{info:?}");
    check(&collection, &points, &mut rng);
    // With new points besides, fewer than places came free, and with more.
    for new in [200, 900] {
        delete(0.2, &mut rng, &mut points);
        let more: Vec<(u64, Vec<f32>)> = (0..new).map(|id| (10_000 * new + id, vector(&mut rng))).collect();
        upsert(&more);
        points.extend(more);
        collection.optimize().unwrap();
        let info = collection.info();
        assert_eq!((info.segments, info.dead_rows, info.indexed_segments), (1, 0, 1), "{info:?}");
        check(&collection, &points, &mut rng);
    }
    drop((collection, database));
    let database = options(&files, settings, 2).open("db").unwrap();
    check(&database.collection("c").unwrap(), &points, &mut rng);
}
