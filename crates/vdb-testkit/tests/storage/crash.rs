//! Power failures: a store is written by a seeded workload, and looked at as it is left after every single change.
//!
//! Every record and manifest says what it is, so that one look tells whether it is one that was written. What was
//! acknowledged must be there; what was not is there whole or not at all; and the store can be written on.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use vdb_storage::{Backend, Durability, LocalDir, SeqNo};
use vdb_testkit::{Loss, SimFiles, conformance};

const SEEDS: u64 = 12;
const STEPS: usize = 60;

fn store(files: &SimFiles, seed: u64) -> LocalDir {
    LocalDir::new(Arc::new(files.clone()), "db", seed).with_wal_file_bytes(600)
}

/// The content that belongs to a number: no two are alike, and lengths differ.
fn content(number: u64, seed: u64) -> Vec<u8> {
    let mut rng = ChaCha8Rng::seed_from_u64(number ^ seed << 32);
    let length = rng.random_range(0..200);
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.extend((0..length).map(|_| rng.random_range(0..3u8)));
    bytes
}

/// A promise, and after how many changes it was given.
#[derive(Default)]
struct Promises {
    /// Records that are durable.
    records: BTreeMap<u64, usize>,
    /// Manifests that are durable.
    manifests: BTreeMap<u64, usize>,
}

/// Writes, and notes down what was promised when. The manifest's content is its number and the record it begins at.
fn work(files: &SimFiles, seed: u64) -> Promises {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut promises = Promises::default();
    let mut backend = store(files, seed);
    backend.create().unwrap();
    let mut log = backend.open_log(SeqNo::FIRST).unwrap();
    let mut written = Vec::new();
    let (mut manifest, mut begins) = (0, SeqNo::FIRST);
    for step in 0..STEPS {
        match rng.random_range(0..20) {
            0..14 => {
                let seq = log.append(&content(log.next().0, seed)).unwrap();
                written.push(seq.0);
                if rng.random_bool(0.6) {
                    log.commit(seq, Durability::Synced).unwrap();
                    let now = files.changes();
                    promises.records.extend(written.drain(..).map(|seq| (seq, now)));
                } else if rng.random_bool(0.5) {
                    log.commit(seq, Durability::Written).unwrap();
                }
            }
            14..17 => {
                let name = format!("blob-{}-{step}", manifest + 1);
                let mut blob = backend.blobs().create(&name).unwrap();
                blob.write_all(&content(manifest + 1, !seed)).unwrap();
                blob.finish().unwrap();
                let half = SeqNo(log.next().0 / 2 + 1);
                begins = if rng.random_bool(0.5) { log.next() } else { begins.max(half) };
                let state = format!("{} {begins} {name}", manifest + 1);
                manifest = backend.manifests().publish(manifest, state.as_bytes()).unwrap();
                promises.manifests.insert(manifest, files.changes());
                log.trim(begins).unwrap();
                for older in 1..manifest.saturating_sub(1) {
                    backend.manifests().remove(older).unwrap();
                }
            }
            17 => {
                // The process ends and starts again; what waited was never acknowledged.
                written.clear();
                drop(log);
                backend = store(files, seed + step as u64);
                backend.remove_temporaries().unwrap();
                log = backend.open_log(SeqNo::FIRST).unwrap();
            }
            _ => {
                log.sync().unwrap();
            }
        }
    }
    promises
}

/// Holds what is left against what was promised by then.
fn check(left: &SimFiles, promises: &Promises, by: usize, seed: u64) {
    let backend = store(left, seed ^ 99);
    let current = backend.manifests().current().unwrap();
    let promised = promises.manifests.iter().filter(|(_, when)| **when <= by).map(|(&n, _)| n).max();
    let mut begins = 1;
    match &current {
        None => assert_eq!(promised, None),
        Some((number, state)) => {
            assert!(Some(*number) >= promised, "manifest {number}, {promised:?} was promised");
            let state = std::str::from_utf8(state).unwrap();
            let [stated, from, name] = state.split(' ').collect::<Vec<_>>()[..] else { panic!("{state}") };
            assert_eq!(stated, number.to_string());
            begins = from.parse().unwrap();
            let blob = backend.blobs().open(name).unwrap().map().unwrap();
            assert!(*blob == content(*number, !seed)[..], "{name}");
        }
    }
    let records = conformance::records(&backend, SeqNo(begins));
    for (seq, record) in &records {
        assert!(*record == content(seq.0, seed), "record {seq} is not what was written");
    }
    // None is missing between two others, and none that was promised is.
    let found: Vec<u64> = records.iter().map(|(seq, _)| seq.0).collect();
    let expected: Vec<u64> = promises
        .records
        .iter()
        .filter(|&(&seq, &when)| when <= by && seq >= begins)
        .map(|(&seq, _)| seq)
        .collect();
    let last = expected.last().copied().unwrap_or(0);
    let kept: Vec<u64> = found.iter().copied().filter(|&seq| seq <= last).collect();
    assert!(expected.iter().all(|seq| kept.binary_search(seq).is_ok()), "{expected:?} of {found:?}");
    // It can be written on, and that is there, behind the rest, after another failure.
    let log = backend.open_log(SeqNo(begins)).unwrap();
    let seq = log.append(b"on").unwrap();
    assert!(found.last().is_none_or(|&last| seq.0 > last));
    log.commit(seq, Durability::Synced).unwrap();
    let again = left.after(left.changes(), Loss::Everything);
    let mut expected = records;
    expected.push((seq, b"on".to_vec()));
    assert_eq!(conformance::records(&store(&again, 5), SeqNo(begins)), expected);
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_half_appears() {
    let mut images = 0;
    for seed in 0..SEEDS {
        let files = SimFiles::new();
        let promises = work(&files, seed);
        for by in 1..=files.changes() {
            let mut losses = vec![Loss::Nothing, Loss::Everything];
            losses.extend((0..4).map(|i| Loss::Random(seed << 40 | (by as u64) << 8 | i)));
            if let Some(length) = files.write_at(by) {
                // The edges of a frame's fields, and of records.
                let edges =
                    [0, 1, 4, 8, 16, 24, 25, 32, 33, length / 2, length.saturating_sub(8), length - 1];
                losses.extend(edges.into_iter().filter(|&edge| edge < length).map(Loss::Torn));
            }
            for loss in losses {
                let caught = std::panic::catch_unwind(|| {
                    check(&files.after(by, loss), &promises, by, seed);
                });
                assert!(caught.is_ok(), "seed {seed}, after {by} changes, {loss:?}");
                images += 1;
            }
        }
    }
    // Not by `println!`, which tests that pass keep to themselves.
    writeln!(std::io::stderr(), "{images} crash images").unwrap();
    assert!(images >= 10_000, "only {images} crash images");
}

/// Damage to what was durable is an error, not a torn tail: all bits of a log, but for those of the last frames, behind
/// which nothing says that they were durable.
#[test]
fn damage_is_told_from_a_torn_tail() {
    let files = SimFiles::new();
    let backend = LocalDir::new(Arc::new(files.clone()), "db", 3);
    backend.create().unwrap();
    let log = backend.open_log(SeqNo::FIRST).unwrap();
    for number in 1..=8 {
        let seq = log.append(&content(number, 0)).unwrap();
        log.commit(seq, Durability::Synced).unwrap();
    }
    let path = Path::new("db").join(format!("wal-{:020}", 1));
    let length = files.bytes() as usize;
    let last = length - (24 + content(8, 0).len()).next_multiple_of(8);
    let mut found = 0;
    for place in 0..length {
        let left = files.after(files.changes(), Loss::Nothing);
        left.damage(&path, |bytes| bytes[place] ^= 1 << (place % 8));
        let mut reader = store(&left, 0).read_log(SeqNo::FIRST);
        let mut read = 0;
        let outcome = loop {
            match reader.read() {
                Ok(Some((seq, record))) => {
                    read += 1;
                    assert!(record == content(seq.0, 0));
                }
                Ok(None) => break None,
                Err(error) => break Some(error.to_string()),
            }
        };
        let opened = store(&left, 0).open_log(SeqNo::FIRST);
        if place < last {
            let message = outcome.unwrap_or_else(|| panic!("byte {place}: no error, {read} records"));
            assert!(message.contains(&format!("wal-{:020}", 1)), "{message}");
            assert!(opened.is_err());
            found += 1;
        } else {
            assert_eq!((outcome, read), (None, 7), "byte {place}");
            assert_eq!(reader.torn_tail().unwrap().offset, last as u64);
            assert!(opened.is_ok());
        }
    }
    assert_eq!(found, last);
}
