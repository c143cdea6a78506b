//! Archives restored into a folder, which may fail at any moment.

use super::making::{Making, NEW, store};
use std::io::{Cursor, Write};
use std::path::Path;
use vdb_storage::archive::{Archive, Contents, records_before, write_archive};
use vdb_storage::{Backend, Durability, LocalDir, Memory, SeqNo, StorageError};
use vdb_testkit::{Loss, SimFiles, conformance};

const FROM: SeqNo = SeqNo(40);

fn blobs() -> Vec<(String, Vec<u8>)> {
    [("empty", 0), ("long", 2_000), ("short", 9)]
        .map(|(name, length)| (name.to_owned(), (0..length).map(|i: u32| i as u8).collect()))
        .to_vec()
}

/// With numbers left out, at the begin, too.
fn records() -> Vec<(SeqNo, Vec<u8>)> {
    [42, 43, 50, 51, 90, 91, 92].map(|seq| (SeqNo(seq), vec![seq as u8; 60])).to_vec()
}

fn archive() -> Vec<u8> {
    let source = Memory::new();
    for (name, bytes) in blobs() {
        let mut blob = source.blobs().create(&name).unwrap();
        blob.write_all(&bytes).unwrap();
        blob.finish().unwrap();
    }
    let log = source.open_log(SeqNo(1)).unwrap();
    log.append(b"older").unwrap();
    for (seq, record) in records() {
        log.advance(seq);
        log.commit(log.append(&record).unwrap(), Durability::Synced).unwrap();
    }
    let end = log.next();
    log.append(b"newer").unwrap();
    let names: Vec<String> = blobs().into_iter().map(|(name, _)| name).collect();
    let contents = Contents { manifest: b"m", blobs: source.blobs(), names: &names, log_from: FROM };
    let records = records_before(source.read_log(FROM), end);
    write_archive(Vec::new(), Path::new("backup"), &contents, records).unwrap()
}

fn check(restored: &LocalDir) {
    assert_eq!(*restored.manifests().load(1).unwrap(), b"m"[..]);
    let names = restored.blobs().names().unwrap();
    let content = |name: String| {
        let bytes = restored.blobs().open(&name).unwrap().map().unwrap().to_vec();
        (name, bytes)
    };
    assert_eq!(names.into_iter().map(content).collect::<Vec<_>>(), blobs());
    // From where the manifest asks for it, though the first record comes later.
    assert_eq!(conformance::records(restored, FROM), records());
    assert_eq!(restored.open_log(FROM).unwrap().next(), SeqNo(93));
    // What was before that is known to be missing.
    let before = restored.read_log(SeqNo(FROM.0 - 1)).read().map(|_| ());
    assert!(matches!(before, Err(StorageError::Trimmed { .. })), "{before:?}");
}

#[test]
fn restoring_survives_crashes_failing_calls_and_a_full_disk() {
    let bytes = archive();
    let make = |_: &SimFiles, new: &LocalDir| -> Result<u64, StorageError> {
        new.create()?;
        Archive::new(Cursor::new(&bytes[..]), Path::new("backup"))?.restore(new)
    };
    let making = Making { disk: &SimFiles::new, make: &make, check: &|_, restored| check(restored) };
    let images = making.crashes();
    println!("{images} crash images");
    assert!(images > 1_000, "{images}");
    assert!(making.failing_calls() > 25);
    making.full_disk();
}

/// Records that are handed to the operating system in several parts, into several files.
#[test]
fn a_long_log() {
    let log: Vec<(SeqNo, Vec<u8>)> =
        [40, 41, 43, 60].map(|seq| (SeqNo(seq), vec![seq as u8; 3 << 20])).to_vec();
    let source = Memory::new();
    let contents = Contents { manifest: b"m", blobs: source.blobs(), names: &[], log_from: FROM };
    let bytes =
        write_archive(Vec::new(), Path::new("backup"), &contents, log.iter().cloned().map(Ok)).unwrap();
    let files = SimFiles::new();
    let new = store(&files, NEW);
    new.create().unwrap();
    Archive::new(Cursor::new(bytes), Path::new("backup")).unwrap().restore(&new).unwrap();
    let left = store(&files.after(files.changes(), Loss::Everything), NEW);
    assert!(conformance::records(&left, FROM) == log);
    assert!(conformance::records(&left, SeqNo(42)) == log[2..]);
}

/// Damage is found before anything of what it touches is there, and what was written goes.
#[test]
fn a_damaged_archive_leaves_an_empty_folder() {
    let bytes = archive();
    for place in (0..bytes.len()).step_by(5) {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x40;
        let files = SimFiles::new();
        let new = store(&files, NEW);
        new.create().unwrap();
        let restored = Archive::new(Cursor::new(damaged), Path::new("backup"));
        assert!(restored.and_then(|mut archive| archive.restore(&new)).is_err(), "byte {place}");
        assert_eq!(files.bytes(), 0, "byte {place}");
        assert_eq!(new.blobs().names().unwrap(), [""; 0]);
        Archive::new(Cursor::new(&bytes[..]), Path::new("backup")).unwrap().restore(&new).unwrap();
        check(&new);
    }
}
