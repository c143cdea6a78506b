//! Calls that fail, and a disk that is full: errors, never a panic, and no loss.

use std::io::{ErrorKind, Write};
use std::sync::Arc;
use vdb_storage::{Backend, CommitLog, Durability, LocalDir, SeqNo, StorageError};
use vdb_testkit::{Loss, SimFiles, conformance};

fn store(files: &SimFiles) -> LocalDir {
    LocalDir::new(Arc::new(files.clone()), "db", 1).with_wal_file_bytes(300)
}

/// A store with one durable record.
struct Kept {
    files: SimFiles,
    backend: LocalDir,
    log: Arc<dyn CommitLog>,
    kept: SeqNo,
}

impl Kept {
    fn new() -> Self {
        let files = SimFiles::new();
        let backend = store(&files);
        backend.create().unwrap();
        let log = backend.open_log(SeqNo::FIRST).unwrap();
        let kept = log.append(b"kept").unwrap();
        log.commit(kept, Durability::Synced).unwrap();
        Self { files, backend, log, kept }
    }
}

/// Some of everything; gives the records and the manifest that were acknowledged, and the first error.
#[derive(Default)]
struct Outcome {
    records: Vec<(SeqNo, Vec<u8>)>,
    manifest: u64,
    errors: Vec<StorageError>,
}

impl Outcome {
    fn note<T>(&mut self, result: Result<T, StorageError>) -> Option<T> {
        result.map_err(|error| self.errors.push(error)).ok()
    }
}

fn work(files: &SimFiles) -> Outcome {
    let mut outcome = Outcome::default();
    let backend = store(files);
    if outcome.note(backend.create()).is_none() {
        return outcome;
    }
    for round in 0..3u8 {
        let Some(log) = outcome.note(backend.open_log(SeqNo::FIRST)) else { continue };
        for i in 0..6u8 {
            let record = vec![round * 6 + i; 40];
            let result = log.append(&record).and_then(|seq| {
                log.commit(seq, Durability::Synced)?;
                Ok(seq)
            });
            if let Some(seq) = outcome.note(result) {
                outcome.records.push((seq, record));
            }
        }
        let blob = backend.blobs().create(&format!("b{round}")).and_then(|mut blob| {
            blob.write_all(&[round; 50]).map_err(StorageError::io("blob".as_ref()))?;
            blob.finish()
        });
        if outcome.note(blob).is_some()
            && let Some(number) = outcome.note(backend.manifests().publish(outcome.manifest, &[round]))
        {
            outcome.manifest = number;
        }
        if round == 1 {
            // Half of them are needed no more.
            let to = outcome.records.get(outcome.records.len() / 2).map_or(SeqNo::FIRST, |record| record.0);
            // When it fails, some of them may be gone.
            outcome.note(log.trim(to));
            outcome.records.retain(|(seq, _)| *seq >= to);
        }
    }
    outcome
}

#[test]
fn every_call_failing_once() {
    let files = SimFiles::new();
    assert!(work(&files).errors.is_empty());
    let calls = files.calls();
    assert!(calls > 100, "{calls} calls");
    for kind in [ErrorKind::Other, ErrorKind::StorageFull, ErrorKind::NotFound] {
        let mut failed = 0;
        for call in 1..=calls {
            let files = SimFiles::new();
            files.fail(call, kind);
            let outcome = work(&files);
            failed += usize::from(!outcome.errors.is_empty());
            for left in [files.clone(), files.after(files.changes(), Loss::Everything)] {
                let backend = store(&left);
                if backend.create().is_err() {
                    continue;
                }
                let first = outcome.records.first().map_or(SeqNo::FIRST, |record| record.0);
                let records = conformance::records(&backend, first);
                for record in &outcome.records {
                    assert!(records.contains(record), "call {call}, {kind:?}: record {} is lost", record.0);
                }
                let current = backend.manifests().current().unwrap().map_or(0, |(number, _)| number);
                assert!(current >= outcome.manifest, "call {call}, {kind:?}: {current}");
                let log = backend.open_log(SeqNo::FIRST).unwrap();
                let seq = log.append(b"on").unwrap();
                log.commit(seq, Durability::Synced).unwrap();
            }
        }
        println!("{failed} of {calls} failing calls were reported, the others made up for");
        assert!(failed as u64 > calls * 3 / 4, "{failed} of {calls}");
    }
}

#[test]
fn a_full_disk_is_an_error_and_writing_goes_on_when_there_is_room() {
    let files = SimFiles::new();
    let backend = LocalDir::new(Arc::new(files.clone()), "db", 1);
    backend.create().unwrap();
    let log = backend.open_log(SeqNo::FIRST).unwrap();
    let add = |record: &[u8]| {
        let seq = log.append(record)?;
        log.commit(seq, Durability::Synced)?;
        Ok::<_, StorageError>(seq)
    };
    let mut kept = vec![(add(b"first").unwrap(), b"first".to_vec())];
    for round in 0..4u8 {
        files.limit(files.bytes() + 50);
        for _ in 0..3 {
            let error = add(&[round; 100]).unwrap_err();
            assert!(
                matches!(&error, StorageError::Io { source, .. } if source.kind() == ErrorKind::StorageFull)
            );
        }
        let small = vec![round; 8];
        kept.push((add(&small).unwrap(), small));
        files.limit(u64::MAX);
        kept.push((add(&[round; 100]).unwrap(), vec![round; 100]));
    }
    assert_eq!(conformance::records(&backend, SeqNo::FIRST), kept);
    let left = files.after(files.changes(), Loss::Everything);
    assert_eq!(conformance::records(&store(&left), SeqNo::FIRST), kept);
    // What failed in part was cut off: a short record after it leaves nothing behind.
    files.limit(files.bytes() + 50);
    add(&[9; 100]).unwrap_err();
    add(b"x").unwrap();
    let mut reader = backend.read_log(SeqNo::FIRST);
    while reader.read().unwrap().is_some() {}
    assert_eq!(reader.torn_tail(), None);
}

/// A record that waited behind one that failed is refused, too: it was made by somebody who counted on that one.
#[test]
fn records_behind_a_failed_one_fail() {
    let Kept { files, backend, log, kept } = Kept::new();
    let (one, two) = (log.append(b"one").unwrap(), log.append(b"two").unwrap());
    files.fail(1, ErrorKind::Other);
    for seq in [two, one, two] {
        assert!(matches!(log.commit(seq, Durability::Written), Err(StorageError::Io { .. })));
    }
    let three = log.append(b"three").unwrap();
    log.commit(three, Durability::Synced).unwrap();
    assert_eq!(
        conformance::records(&backend, SeqNo::FIRST),
        [(kept, b"kept".to_vec()), (three, b"three".to_vec())]
    );
}

/// A log that begins behind numbers which were refused is whole all the same: who asks for those finds what comes after.
#[test]
fn a_refused_first_record_leaves_no_gap() {
    let files = SimFiles::new();
    let backend = store(&files);
    backend.create().unwrap();
    let log = backend.open_log(SeqNo(4)).unwrap();
    let refused = log.append(b"refused").unwrap();
    // The log's first file cannot be made.
    files.fail(1, ErrorKind::StorageFull);
    assert!(matches!(log.commit(refused, Durability::Synced), Err(StorageError::Io { .. })));
    let seq = log.append(b"kept").unwrap();
    log.commit(seq, Durability::Synced).unwrap();
    assert_eq!((refused, seq), (SeqNo(4), SeqNo(5)));
    let left = files.after(files.changes(), Loss::Everything);
    assert_eq!(conformance::records(&store(&left), SeqNo(4)), [(seq, b"kept".to_vec())]);
}

/// So is one that comes while the write that fails is under way.
#[test]
fn records_that_come_while_one_fails_fail() {
    let Kept { files, backend, log, kept } = Kept::new();
    let one = log.append(b"one").unwrap();
    files.fail(1, ErrorKind::StorageFull);
    let other = Arc::clone(&log);
    files.before_next_write(move || {
        other.append(b"two").unwrap();
    });
    let two = one.next();
    for seq in [one, two] {
        assert!(matches!(log.commit(seq, Durability::Synced), Err(StorageError::Io { .. })), "{seq}");
    }
    let three = log.append(b"three").unwrap();
    log.commit(three, Durability::Synced).unwrap();
    let expected = [(kept, b"kept".to_vec()), (three, b"three".to_vec())];
    assert_eq!(conformance::records(&backend, SeqNo::FIRST), expected);
}

/// When what was written in part cannot be cut off, it is unknown what is there.
#[test]
fn a_write_that_cannot_be_undone_stops_the_log() {
    let Kept { files, log, kept, .. } = Kept::new();
    let seq = log.append(&[1; 100]).unwrap();
    files.fail(1, ErrorKind::Other);
    files.fail(2, ErrorKind::Other);
    assert!(matches!(log.commit(seq, Durability::Written), Err(StorageError::Stopped { .. })));
    assert!(matches!(log.append(b"more"), Err(StorageError::Stopped { .. })));
    let mut reader = store(&files).read_log(SeqNo::FIRST);
    assert_eq!(reader.read().unwrap(), Some((kept, &b"kept"[..])));
    assert_eq!(reader.read().unwrap(), None);
    assert!(reader.torn_tail().is_some());
}

/// After a failed sync nobody knows what is on disk: nothing is written until the store is opened again.
#[test]
fn a_failed_sync_stops_the_log() {
    let Kept { files, log, kept, .. } = Kept::new();
    let seq = log.append(b"unknown").unwrap();
    files.fail(2, ErrorKind::Other);
    let error = log.commit(seq, Durability::Synced).unwrap_err();
    assert!(matches!(error, StorageError::Stopped { .. }), "{error}");
    assert!(error.to_string().contains("open it again"), "{error}");
    assert!(matches!(log.append(b"more"), Err(StorageError::Stopped { .. })));
    assert!(matches!(log.sync(), Err(StorageError::Stopped { .. })));
    log.commit(kept, Durability::Synced).unwrap();
    let log = store(&files).open_log(SeqNo::FIRST).unwrap();
    let seq = log.append(b"on").unwrap();
    log.commit(seq, Durability::Synced).unwrap();
    let left = files.after(files.changes(), Loss::Everything);
    assert_eq!(conformance::records(&store(&left), SeqNo::FIRST).last().unwrap().0, seq);
}
