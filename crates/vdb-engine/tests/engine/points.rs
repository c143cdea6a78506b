//! What becomes of single points: times that have come already, and conditions inside of a batch.

use crate::model::options;
use serde_json::json;
use std::sync::Arc;
use vdb_distance::Metric;
use vdb_engine::{
    Collection, CollectionConfig, Condition, Database, Durability, Operation, Payload, Point, PointId,
    Settings, StoredPoint,
};
use vdb_testkit::SimFiles;

fn open(files: &SimFiles) -> (Database, Arc<Collection>) {
    let database = options(files, Settings::default(), 1).open("db").unwrap();
    let collection = match database.collection("points") {
        Ok(collection) => collection,
        Err(_) => database.create_collection("points", &CollectionConfig::new(2, Metric::Euclidean)).unwrap(),
    };
    (database, collection)
}

fn point(id: u64) -> Point {
    Point::new(id, vec![id as f32, 1.0])
}

/// A time of 0 is one that has come, whoever sets it, and whether the point lies in a head, a segment or the log.
#[test]
fn a_point_whose_time_is_zero_is_gone_at_the_next_look() {
    for is_sealed in [false, true] {
        let files = SimFiles::new();
        let (database, collection) = open(&files);
        let never = point(1);
        let at_zero = Point { expires_at: Some(0), ..point(2) };
        collection.upsert(vec![never, at_zero, point(3)]).unwrap();
        collection.write(vec![Operation::Expire(PointId::from(3), Some(0))], Durability::Sync).unwrap();
        let time = |id: u64| collection.get(&PointId::from(id)).unwrap().unwrap().point.expires_at;
        assert_eq!([time(1), time(2), time(3)], [None, Some(1), Some(1)]);
        if is_sealed {
            collection.seal().unwrap();
        }
        drop((database, collection));
        let (_database, collection) = open(&files);
        assert_eq!((collection.len(), collection.expire(1).unwrap(), collection.len()), (3, 2, 1));
        assert!(collection.get(&PointId::from(1)).unwrap().is_some());
        let last =
            vec![Operation::Expire(PointId::from(1), Some(7)), Operation::Expire(PointId::from(1), None)];
        collection.write(last, Durability::Sync).unwrap();
        assert_eq!((collection.expire(u64::MAX).unwrap(), collection.len()), (0, 1));
    }
}

fn with(id: u64, number: u64) -> Point {
    let Some(payload) = json!({ "n": number }).as_object().cloned() else { unreachable!() };
    point(id).with_payload(payload)
}

fn number_of(payload: &Payload) -> u64 {
    payload["n"].as_u64().unwrap()
}

/// Conditions of a batch see what the operations before them made, with the version that the batch gets.
#[test]
fn a_condition_sees_what_the_batch_did_before() {
    let (_database, collection) = open(&SimFiles::new());
    let first = collection.upsert(vec![with(1, 0), with(2, 0)]).unwrap().version;
    let own = first + 1;
    let is_own = |stored: &StoredPoint| stored.version == own;
    let is_first = |stored: &StoredPoint| stored.version == first && number_of(&stored.point.payload) == 0;
    let is_two = |stored: &StoredPoint| number_of(&stored.point.payload) == 2;
    let batch = vec![
        // The point as it was read.
        Operation::Upsert(with(1, 1), Condition::Version(first)),
        Operation::Upsert(with(1, 9), Condition::Version(first)),
        Operation::Upsert(with(1, 2), Condition::Version(own)),
        Operation::Upsert(with(1, 3), Condition::Holds(&is_two)),
        Operation::Upsert(with(2, 1), Condition::Holds(&is_own)),
        Operation::Upsert(with(2, 2), Condition::Holds(&is_first)),
        Operation::SetPayload(PointId::from(2), with(2, 3).payload),
        Operation::Upsert(with(2, 4), Condition::Holds(&is_own)),
        Operation::Delete(PointId::from(2)),
        Operation::Upsert(with(2, 5), Condition::Present),
        Operation::Upsert(with(2, 6), Condition::Absent),
        Operation::Upsert(with(2, 7), Condition::Absent),
        Operation::Upsert(with(3, 1), Condition::Version(own)),
        Operation::Upsert(with(3, 2), Condition::Absent),
        Operation::Upsert(with(3, 3), Condition::Version(own)),
    ];
    let written = collection.write(batch, Durability::Sync).unwrap();
    assert_eq!((written.version, written.skipped), (own, 5));
    for (id, number) in [(1, 3), (2, 6), (3, 3)] {
        let stored = collection.get(&PointId::from(id)).unwrap().unwrap();
        assert_eq!((stored.version, number_of(&stored.point.payload)), (own, number), "point {id}");
    }
}

/// After a write that failed numbers are left out: a condition sees the version that the batch gets all the same.
#[test]
fn a_condition_sees_the_version_that_the_batch_gets_after_one_that_failed() {
    let files = SimFiles::new();
    let (_database, collection) = open(&files);
    let first = collection.upsert(vec![with(1, 0)]).unwrap().version;
    files.limit(0);
    assert!(collection.upsert(vec![with(1, 1)]).is_err());
    files.limit(u64::MAX);
    let seen = std::sync::atomic::AtomicU64::new(0);
    let see = |stored: &StoredPoint| {
        seen.store(stored.version, std::sync::atomic::Ordering::Relaxed);
        true
    };
    let batch = vec![Operation::upsert(with(1, 2)), Operation::Upsert(with(1, 3), Condition::Holds(&see))];
    let written = collection.write(batch, Durability::Sync).unwrap();
    assert!(written.version > first + 1, "no number was left out: {}", written.version);
    assert_eq!(seen.into_inner(), written.version);
    assert_eq!(collection.get(&PointId::from(1)).unwrap().unwrap().version, written.version);
}
