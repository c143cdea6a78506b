//! A writing process that is killed again and again, while readers follow what it writes.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use vdb_storage::files::OsFiles;
use vdb_storage::{Backend, Durability, LocalDir, SeqNo, StorageError};
use vdb_testkit::conformance;

const KILLS: u64 = 200;
const FOLDER: &str = "VDB_TESTKIT_KILL_FOLDER";

fn store(folder: &Path, seed: u64) -> LocalDir {
    LocalDir::new(Arc::new(OsFiles), folder, seed).with_wal_file_bytes(4_000)
}

/// The content that belongs to a number.
fn content(seq: SeqNo) -> Vec<u8> {
    let length = (seq.0 * 7_919 % 400) as usize;
    seq.0.to_le_bytes().into_iter().chain((0..length).map(|i| (seq.0 as usize + i) as u8)).collect()
}

/// The record that the current manifest leaves to the log as its first.
fn begins(store: &LocalDir) -> (u64, SeqNo) {
    match store.manifests().current().unwrap() {
        None => (0, SeqNo::FIRST),
        Some((number, content)) => {
            (number, SeqNo(u64::from_le_bytes(content[..].try_into().expect("eight bytes"))))
        }
    }
}

/// Writes until it is killed, and says which records are durable.
#[test]
#[ignore = "a process of its own, started by the test of kills"]
fn writer() {
    let folder = PathBuf::from(std::env::var_os(FOLDER).expect("the folder to write to"));
    let store = store(&folder, u64::from(std::process::id()));
    let _lock = store.lock().expect("the lock of a killed process is free");
    store.remove_temporaries().unwrap();
    let (mut manifest, begin) = begins(&store);
    let log = store.open_log(begin).unwrap();
    println!();
    for round in 1u64.. {
        let seq = log.append(&content(log.next())).unwrap();
        log.commit(seq, Durability::Synced).unwrap();
        println!("durable {seq}");
        if round % 50 == 0 {
            // All but the last twenty go into a manifest.
            let begin = SeqNo(seq.0.saturating_sub(20).max(1)).max(begins(&store).1);
            manifest = store.manifests().publish(manifest, &begin.0.to_le_bytes()).unwrap();
            log.trim(begin).unwrap();
            store.manifests().remove(manifest - 1).unwrap();
        }
    }
}

/// Reads what comes, from the current manifest on, until told to stop; gives the number of records.
fn follow(folder: &Path, stop: &AtomicBool) -> u64 {
    let store = store(folder, 0);
    let (mut count, mut last) = (0, SeqNo(0));
    'again: loop {
        let (_, begin) = begins(&store);
        let mut reader = store.read_log(begin.max(last.next()));
        while !stop.load(Ordering::Relaxed) {
            match reader.read() {
                Ok(Some((seq, record))) => {
                    assert!(seq > last && record == content(seq), "record {seq} after {last}");
                    (count, last) = (count + 1, seq);
                }
                Ok(None) => std::thread::yield_now(),
                // Files of the log went, with their manifest still to be seen, perhaps.
                Err(StorageError::Trimmed { .. }) => continue 'again,
                Err(StorageError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    continue 'again;
                }
                Err(error) => panic!("{error}"),
            }
        }
        return count;
    }
}

#[test]
fn a_killed_writer_loses_nothing_and_readers_see_no_fault() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let stop = AtomicBool::new(false);
    let (mut durable, mut kills) = (0, 0);
    let followed: u64 = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2).map(|_| scope.spawn(|| follow(folder, &stop))).collect();
        for round in 0..KILLS {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["kill::writer", "--exact", "--ignored", "--nocapture"])
                .env(FOLDER, folder)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            // Killed after a number of records, or in the midst of opening.
            let wanted = round * 37 % 120;
            let mut seen = 0;
            while seen < wanted {
                let line = lines.next().expect("the writer writes until it is killed").unwrap();
                if let Some(seq) = line.strip_prefix("durable ") {
                    durable = durable.max(seq.parse().unwrap());
                    seen += 1;
                }
            }
            child.kill().unwrap();
            // What it had said before that counts, too; the last line may be cut short.
            for line in lines.map_while(Result::ok) {
                if let Some(seq) = line.strip_prefix("durable ") {
                    durable = durable.max(seq.parse().unwrap_or(0));
                }
            }
            assert!(!child.wait().unwrap().success(), "it was killed");
            kills += 1;
            let store = store(folder, 1);
            let (_, begin) = begins(&store);
            let records = conformance::records(&store, begin);
            assert!(records.iter().all(|(seq, record)| *record == content(*seq)));
            assert!(records.is_sorted_by(|a, b| a.0.next() == b.0), "round {round}: one is missing");
            let last = records.last().map_or(begin.0 - 1, |(seq, _)| seq.0);
            assert!(last >= durable, "round {round}: {durable} was durable, {last} is the last");
        }
        stop.store(true, Ordering::Relaxed);
        readers.into_iter().map(|reader| reader.join().expect("no fault")).sum()
    });
    println!("{kills} kills, {durable} records, {followed} read by two readers meanwhile");
    assert!(kills == KILLS && durable > 5_000 && followed > 1_000);
}
