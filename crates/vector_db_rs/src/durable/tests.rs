//! What cannot be seen from outside: batches that do not fit in one record.

use super::*;
use crate::index::IndexParams;
use std::collections::HashMap;

fn open(path: &Path, index_type: IndexType, options: Options) -> Durable {
    let setup = Setup { dimension: 2, metric: Metric::Euclidean, index_type, params: IndexParams::default() };
    Durable::open(path, setup, options.background(false), true).unwrap()
}

fn record(id: usize) -> VectorRecord {
    VectorRecord { id: id.to_string(), vector: vec![id as f32, 1.0], metadata: Default::default() }
}

#[test]
fn a_batch_that_is_too_long_is_written_in_parts() {
    for index_type in [IndexType::Flat, IndexType::IVF] {
        let folder = tempfile::tempdir().unwrap();
        let mut durable = open(folder.path(), index_type, Options::new());
        let version = |durable: &Durable| durable.collection.view().version();
        // One record of the log; then one for each four, in which the last of an id counts.
        durable.insert_all((0..10).map(|id| Ok::<_, Error>(record(id))), &mut |_| ()).unwrap();
        let before = version(&durable);
        durable.batch_bytes = 4 * 74;
        let mut seen = Vec::new();
        let records = (0..10).chain([9, 9, 0]).map(|id| Ok::<_, Error>(record(id)));
        assert_eq!(durable.insert_all(records, &mut |count| seen.push(count)).unwrap(), 11);
        assert_eq!((version(&durable) - before, seen), (4, vec![4, 8, 10, 11]));
        assert_eq!(durable.len(), 10);
        // An error leaves what was written before it.
        let records = (10..16)
            .map(|id| if id < 15 { Ok(record(id)) } else { Err(Error::InvalidSearch(String::new())) });
        durable.insert_all(records, &mut |_| ()).unwrap_err();
        assert_eq!(durable.len(), 14);
        durable.batch_bytes = points::LONGEST_ID_BYTES * 6;
        durable.clear().unwrap();
        assert_eq!(durable.len(), 0);
        assert!(durable.search_hits(&[0.0, 0.0], 5, &SearchOptions::new()).unwrap().hits.is_empty());
    }
}

#[test]
fn a_batch_takes_no_more_bytes_than_it_is_counted_with() {
    let long = VectorRecord {
        id: "x".repeat(50),
        metadata: HashMap::from([("\u{1}\"\n".repeat(30), "\u{1f}".repeat(100))]),
        ..record(1)
    };
    for record in [record(7), long] {
        let folder = tempfile::tempdir().unwrap();
        let counted = {
            let mut batch = Batch::default();
            batch.add(record.clone(), usize::MAX);
            batch.bytes()
        };
        let mut durable = open(folder.path(), IndexType::Flat, Options::new());
        let log = || {
            let files = std::fs::read_dir(folder.path().join("collection-00000001")).unwrap();
            files.map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>()
        };
        let before = log();
        durable.insert(record).unwrap();
        assert!((log() - before) as usize <= counted + 64, "{} bytes, counted {counted}", log() - before);
    }
}
