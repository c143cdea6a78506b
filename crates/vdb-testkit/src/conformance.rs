//! One suite for all storage backends.
//!
//! A backend joins it with a [`Store`]: how to open it, and how to open it again. Each check begins with a store of its own.
//!
//! ```
//! use std::sync::Arc;
//! use vdb_storage::{Backend, Memory};
//! use vdb_testkit::conformance;
//!
//! conformance::check(&|| {
//!     let memory = Memory::new();
//!     Box::new(move || Arc::new(memory.clone()) as Arc<dyn Backend>)
//! });
//! ```

use std::io::{ErrorKind, Write};
use std::sync::Arc;
use vdb_storage::{Backend, CommitLog, Durability, MAX_RECORD_BYTES, Region, SeqNo, StorageError};

/// Opens one store: each call as a program does that starts, after the one before has ended.
pub type Store = Box<dyn Fn() -> Arc<dyn Backend>>;

/// Panics when a backend does not do what `vdb_storage` says backends do. `new` makes an empty store.
pub fn check(new: &dyn Fn() -> Store) {
    records_come_back_in_order(&new());
    a_reader_follows_a_writer(&new());
    records_are_trimmed(&new());
    numbers_go_on(&new());
    numbers_are_left_out(&new());
    a_log_is_removed(&new());
    threads_share_a_log(&new());
    long_records(&new());
    manifests_are_numbered(&new());
    one_of_two_writers_publishes(&new());
    blobs_are_whole_or_absent(&new());
    blobs_outlive_their_names(&new());
    names_of_blobs(&new());
}

fn log(backend: &Arc<dyn Backend>) -> Arc<dyn CommitLog> {
    backend.open_log(SeqNo::FIRST).expect("a log that opens")
}

fn add(log: &dyn CommitLog, record: &[u8]) -> SeqNo {
    let seq = log.append(record).expect("a record that is appended");
    log.commit(seq, Durability::Synced).expect("a record that is committed");
    seq
}

/// All records from a number on.
///
/// # Panics
/// When the log cannot be read.
pub fn records(backend: &dyn Backend, from: SeqNo) -> Vec<(SeqNo, Vec<u8>)> {
    let mut reader = backend.read_log(from);
    let mut records = Vec::new();
    while let Some((seq, record)) = reader.read().expect("a log that can be read") {
        records.push((seq, record.to_vec()));
    }
    records
}

fn kind(error: StorageError) -> ErrorKind {
    match error {
        StorageError::Io { source, .. } => source.kind(),
        error => panic!("not an error of a call: {error}"),
    }
}

fn records_come_back_in_order(open: &Store) {
    let backend = open();
    assert_eq!(records(&*backend, SeqNo::FIRST), []);
    let log = log(&backend);
    assert_eq!(log.next(), SeqNo::FIRST);
    let contents: Vec<Vec<u8>> = (0..40).map(|i: usize| vec![i as u8; i * i]).collect();
    let durability = [Durability::Written, Durability::Synced];
    for (i, content) in contents.iter().enumerate() {
        let seq = log.append(content).expect("appended");
        log.commit(seq, durability[i % 2]).expect("committed");
        log.commit(seq, Durability::Synced).expect("committing twice is fine");
    }
    let expected: Vec<(SeqNo, Vec<u8>)> = (1..).map(SeqNo).zip(contents).collect();
    assert_eq!(records(&*backend, SeqNo::FIRST), expected);
    assert_eq!(records(&*backend, SeqNo(17)), expected[16..]);
    assert_eq!(records(&*backend, SeqNo(41)), []);
    drop((backend, log));
    assert_eq!(records(&*open(), SeqNo::FIRST), expected);
}

fn a_reader_follows_a_writer(open: &Store) {
    let backend = open();
    let log = log(&backend);
    let mut reader = backend.read_log(SeqNo::FIRST);
    for round in 0..50u64 {
        assert_eq!(reader.read().expect("readable"), None, "round {round}");
        let seq = add(&*log, &round.to_le_bytes());
        assert_eq!(reader.read().expect("readable"), Some((seq, &round.to_le_bytes()[..])));
    }
    assert_eq!(reader.torn_tail(), None);
}

fn records_are_trimmed(open: &Store) {
    let backend = open();
    let log = log(&backend);
    let seqs: Vec<SeqNo> = (0..30u8).map(|i| add(&*log, &[i; 100])).collect();
    let mut slow = backend.read_log(SeqNo::FIRST);
    slow.read().expect("readable");
    log.trim(seqs[12]).expect("trimmed");
    let kept = records(&*backend, seqs[12]);
    assert_eq!(kept.len(), 18);
    assert_eq!(kept[0], (seqs[12], vec![12; 100]));
    // Everything.
    log.trim(log.next()).expect("trimmed");
    assert_eq!(records(&*backend, log.next()), []);
    assert!(matches!(
        backend.read_log(SeqNo::FIRST).read(),
        Err(StorageError::Trimmed { wanted: SeqNo::FIRST, .. })
    ));
    let next = add(&*log, b"after");
    assert!(next > seqs[29]);
    assert_eq!(records(&*backend, next), [(next, b"after".to_vec())]);
    // A reader that was behind reads on, if its records are there still, or learns that they are not.
    let mut last = 1;
    loop {
        match slow.read() {
            Ok(Some((seq, record))) if seq < next => {
                assert_eq!((seq.0, record), (last + 1, &[last as u8; 100][..]));
                last = seq.0;
            }
            Ok(found) => {
                assert_eq!(found, Some((next, &b"after"[..])));
                assert_eq!(last, 30);
                break;
            }
            Err(StorageError::Trimmed { .. }) => break,
            Err(error) => panic!("{error}"),
        }
    }
}

fn numbers_go_on(open: &Store) {
    let first = add(&*log(&open()), b"a");
    let second = add(&*log(&open()), b"b");
    assert!(second > first);
    {
        let log = log(&open());
        log.trim(log.next()).expect("trimmed");
    }
    let third = add(&*log(&open()), b"c");
    assert!(third > second);
    let log = open().open_log(SeqNo(1_000)).expect("a log that opens");
    assert_eq!(add(&*log, b"d"), SeqNo(1_000));
    assert_eq!(records(&*open(), third), [(third, b"c".to_vec()), (SeqNo(1_000), b"d".to_vec())]);
}

fn numbers_are_left_out(open: &Store) {
    let backend = open();
    let log = backend.open_log(SeqNo(3)).expect("a log that opens");
    log.advance(SeqNo(5));
    assert_eq!((log.next(), log.append(b"a").expect("appended")), (SeqNo(5), SeqNo(5)));
    log.advance(SeqNo(4));
    assert_eq!(log.next(), SeqNo(6), "numbers do not go back");
    // While a record waits.
    log.advance(SeqNo(9));
    assert_eq!(add(&*log, b"b"), SeqNo(9));
    let expected = [(SeqNo(5), b"a".to_vec()), (SeqNo(9), b"b".to_vec())];
    for backend in [&backend, &open()] {
        // Whoever asks for a number that was left out gets what comes after it.
        for from in 3..=5 {
            assert_eq!(records(&**backend, SeqNo(from)), expected, "from {from}");
        }
        assert_eq!(records(&**backend, SeqNo(6)), expected[1..]);
    }
}

fn a_log_is_removed(open: &Store) {
    open().remove_log().expect("removing nothing is fine");
    let backend = open();
    let log = log(&backend);
    for i in 0..40u8 {
        add(&*log, &[i; 100]);
    }
    log.trim(SeqNo(20)).expect("trimmed");
    drop(log);
    backend.remove_log().expect("removed");
    assert_eq!(records(&*backend, SeqNo::FIRST), []);
    assert_eq!(add(&*self::log(&backend), b"new"), SeqNo::FIRST);
    assert_eq!(records(&*open(), SeqNo::FIRST), [(SeqNo::FIRST, b"new".to_vec())]);
}

fn threads_share_a_log(open: &Store) {
    let backend = open();
    let log = log(&backend);
    std::thread::scope(|scope| {
        for thread in 0..8u8 {
            let log = &log;
            scope.spawn(move || {
                for i in 0..50u8 {
                    let seq = log.append(&[thread, i]).expect("appended");
                    let durability = if i % 3 == 0 { Durability::Written } else { Durability::Synced };
                    log.commit(seq, durability).expect("committed");
                }
            });
        }
    });
    let records = records(&*backend, SeqNo::FIRST);
    assert_eq!(records.len(), 400);
    assert!(records.is_sorted_by(|a, b| a.0 < b.0));
    for thread in 0..8u8 {
        let own = records.iter().filter(|(_, record)| record[0] == thread).map(|(_, record)| record[1]);
        assert!(own.eq(0..50), "thread {thread}");
    }
}

fn long_records(open: &Store) {
    let backend = open();
    let log = log(&backend);
    let long: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    for record in [&long[..], b"", &long[1..], b"x"] {
        add(&*log, record);
    }
    let read: Vec<Vec<u8>> = records(&*backend, SeqNo::FIRST).into_iter().map(|(_, record)| record).collect();
    assert_eq!(read, [&long[..], b"", &long[1..], b"x"]);
    let error = log.append(&vec![0; MAX_RECORD_BYTES + 1]).expect_err("too long");
    assert!(matches!(error, StorageError::RecordTooLong { .. }), "{error}");
    add(&*log, b"still works");
}

fn manifests_are_numbered(open: &Store) {
    let backend = open();
    let manifests = backend.manifests();
    assert!(manifests.current().expect("readable").is_none());
    assert_eq!(manifests.publish(0, b"one").expect("published"), 1);
    assert_eq!(manifests.publish(1, b"two").expect("published"), 2);
    assert_eq!(manifests.publish(2, b"").expect("published"), 3);
    let error = manifests.publish(2, b"again").expect_err("a conflict");
    assert!(matches!(error, StorageError::Conflict { expected: 2, found: 3, .. }), "{error}");
    let backend = open();
    let manifests = backend.manifests();
    let (number, content) = manifests.current().expect("readable").expect("a manifest");
    assert_eq!((number, &*content), (3, &b""[..]));
    assert_eq!(&*manifests.load(1).expect("kept"), b"one");
    assert_eq!(manifests.numbers().expect("readable"), [1, 2, 3]);
    manifests.remove(1).expect("removed");
    manifests.remove(1).expect("removing nothing is fine");
    assert_eq!(kind(manifests.load(1).expect_err("gone")), ErrorKind::NotFound);
    assert_eq!(kind(manifests.load(9).expect_err("never there")), ErrorKind::NotFound);
    assert_eq!(manifests.numbers().expect("readable"), [2, 3]);
    manifests.sync().expect("synced");
    assert_eq!(open().manifests().numbers().expect("readable"), [2, 3], "also after a power failure");
}

fn one_of_two_writers_publishes(open: &Store) {
    let backend = open();
    let published: Vec<bool> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4u8)
            .map(|thread| {
                let backend = &backend;
                scope.spawn(move || backend.manifests().publish(0, &[thread]).is_ok())
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    let winner = published.iter().position(|&won| won).expect("one writer wins");
    assert_eq!(published.iter().filter(|&&won| won).count(), 1);
    let (number, content) = backend.manifests().current().expect("readable").expect("a manifest");
    assert_eq!((number, &*content), (1, &[winner as u8][..]));
}

fn blobs_are_whole_or_absent(open: &Store) {
    let backend = open();
    let blobs = backend.blobs();
    let content: Vec<u8> = (0..1_000_000u32).map(|i| (i % 253) as u8).collect();
    let mut writer = blobs.create("segment-1").expect("begun");
    content.chunks(70_001).for_each(|part| writer.write_all(part).expect("written"));
    writer.finish().expect("finished");
    blobs.create("empty").expect("begun").finish().expect("finished");
    let mut unfinished = blobs.create("unfinished").expect("begun");
    unfinished.write_all(b"half").expect("written");
    drop(unfinished);
    let backend = open();
    let blobs = backend.blobs();
    assert_eq!(kind(blobs.open("unfinished").expect_err("absent")), ErrorKind::NotFound);
    assert_eq!(kind(blobs.open("other").expect_err("absent")), ErrorKind::NotFound);
    assert_eq!(blobs.names().expect("readable"), ["empty", "segment-1"]);
    let again = blobs.create("segment-1").map(|_| ());
    assert_eq!(kind(again.expect_err("used")), ErrorKind::AlreadyExists);
    let blob = blobs.open("segment-1").expect("there");
    assert_eq!(blob.length(), 1_000_000);
    assert_eq!(blob.read(0..0).expect("readable"), b"");
    assert_eq!(blob.read(999_990..1_000_000).expect("readable"), content[999_990..]);
    assert!(matches!(blob.read(999_990..1_000_001), Err(StorageError::Truncated { .. })));
    let region: Region = blob.map().expect("mapped");
    assert!(*region == content[..]);
    assert!(region.as_ptr().addr().is_multiple_of(64));
    let empty = blobs.open("empty").expect("there");
    assert_eq!((empty.length(), empty.map().expect("mapped").len()), (0, 0));
}

fn blobs_outlive_their_names(open: &Store) {
    let backend = open();
    let blobs = backend.blobs();
    let mut writer = blobs.create("a").expect("begun");
    writer.write_all(b"content").expect("written");
    writer.finish().expect("finished");
    let blob = blobs.open("a").expect("there");
    let region = blob.map().expect("mapped");
    blobs.remove("a").expect("removed");
    blobs.remove("a").expect("removing nothing is fine");
    assert_eq!((blob.read(0..7).expect("readable").as_slice(), &*region), (&b"content"[..], &b"content"[..]));
    assert_eq!(kind(blobs.open("a").expect_err("gone")), ErrorKind::NotFound);
}

fn names_of_blobs(open: &Store) {
    let backend = open();
    let blobs = backend.blobs();
    let longest = "x".repeat(200);
    for name in ["a", "0-a_b.c", &longest] {
        blobs.create(name).expect("a valid name").finish().expect("finished");
    }
    let too_long = "x".repeat(201);
    for name in ["", ".a", "A", "a/b", "..", "ü", "a b", &too_long] {
        let created = blobs.create(name).map(|_| ());
        assert!(matches!(created, Err(StorageError::InvalidName { .. })), "{name:?}");
        assert!(matches!(blobs.open(name), Err(StorageError::InvalidName { .. })), "{name:?}");
        assert!(matches!(blobs.remove(name), Err(StorageError::InvalidName { .. })), "{name:?}");
    }
}
