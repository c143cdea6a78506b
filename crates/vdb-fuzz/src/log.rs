//! Log files: as raw bytes, and with every checksum made right, so that the fields are what is tested.

use std::path::Path;
use std::sync::Arc;
use vdb_storage::files::FileSystem;
use vdb_storage::{Backend, Durability, LocalDir, SeqNo};
use vdb_testkit::SimFiles;

const FOLDER: &str = "db";

fn store(files: &SimFiles) -> LocalDir {
    LocalDir::new(Arc::new(files.clone()), FOLDER, 1)
}

fn path() -> std::path::PathBuf {
    Path::new(FOLDER).join(format!("wal-{:020}", 1))
}

/// What reads without an error can be written on, and reads the same then.
fn exercise(data: &[u8]) {
    let files = SimFiles::new();
    files.create_folder(Path::new(FOLDER)).expect("a folder");
    let file = files.create(&path()).expect("a file");
    file.write_at(data, 0).expect("room");
    let records = |from| {
        let store = store(&files);
        let mut reader = store.read_log(from);
        let mut records = Vec::new();
        while let Some((seq, record)) = reader.read()? {
            records.push((seq, record.to_vec()));
        }
        Ok::<_, vdb_storage::StorageError>(records)
    };
    let Ok(log) = store(&files).open_log(SeqNo::FIRST) else { return };
    // Its header says from which record on.
    let first =
        data.get(24..32).map_or(1, |bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes")));
    let first = first.max(1);
    let before = records(SeqNo(first)).unwrap_or_default();
    // From the last number on, no more are taken.
    if log.next().0 >= 1 << 63 {
        assert!(log.append(b"more").is_err());
        return;
    }
    let seq = log.append(b"more").expect("a log that opens takes records");
    log.commit(seq, Durability::Synced).expect("there is room");
    let after = records(SeqNo(first.min(seq.0))).expect("what opens can be read");
    assert_eq!(after.split_last(), Some((&(seq, b"more".to_vec()), &before[..])));
}

pub(crate) fn run(data: &[u8]) {
    exercise(data);
    let mut sealed = data.to_vec();
    seal(&mut sealed);
    exercise(&sealed);
}

/// Makes magic, version, kind, number and all checksums right.
fn seal(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().max(64), 0);
    let magic = b"\x89VDB\r\n\x1a\n\x01\0\0\0WAL \x01\0\0\0\0\0\0\0";
    bytes[..magic.len()].copy_from_slice(magic);
    let checksum = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&checksum.to_le_bytes());
    let salt: [u8; 8] = bytes[40..48].try_into().expect("eight bytes");
    let mut offset = 64;
    while let Some(head) = bytes.get(offset..offset + 24) {
        let length = u32::from_le_bytes(head[..4].try_into().expect("four bytes")) as usize;
        let end = (offset + 24).saturating_add(length).next_multiple_of(8);
        let Some(frame) = bytes.get(offset..end) else { break };
        let place = [&salt[..], &(offset as u64).to_le_bytes(), &frame[..4], &frame[8..]].concat();
        let checksum = crc32c::crc32c(&place);
        bytes[offset + 4..offset + 8].copy_from_slice(&checksum.to_le_bytes());
        offset = end;
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let files = SimFiles::new();
    let store = store(&files);
    store.create().expect("a folder");
    let log = store.open_log(SeqNo(5)).expect("a log");
    let mut seeds = Vec::new();
    for record in [&b"one"[..], b"", &[7; 100], b"12345678"] {
        let seq = log.append(record).expect("appended");
        log.commit(seq, Durability::Synced).expect("committed");
        let file = files.open(&path()).expect("a log file");
        seeds.push(file.map().expect("its bytes").to_vec());
    }
    seeds
}
