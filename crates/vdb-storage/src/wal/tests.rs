//! The bytes of a log file: pinned to `docs/format.md`, and never a panic for any others.

use super::*;
use crate::backend::{Backend, Durability};
use crate::files::OsFiles;
use crate::{LocalDir, LogReader};
use proptest::prelude::*;
use std::fs;
use std::sync::Arc;

/// A log file of two records, byte for byte as version 1 writes it.
const GOLDEN: &str = "\
    8956 4442 0d0a 1a0a 0100 0000 5741 4c20 0300 0000 0000 0000 0900 0000 0000 0000 c800 0000 0000 0000 \
    efcd ab89 6745 2301 0000 0000 0000 0000 0000 0000 b416 b9d8 0300 0000 95bc f317 0900 0000 0000 0000 \
    4000 0000 0000 0000 6f6e 6500 0000 0000 0000 0000 aa47 c1d4 0b00 0000 0000 0000 6000 0000 0000 0000";

fn golden() -> Vec<u8> {
    let digits: String = GOLDEN.split_whitespace().collect();
    let byte = |place| u8::from_str_radix(&digits[place..place + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// Records, and where a torn tail begins.
type Found = (Vec<(SeqNo, Vec<u8>)>, Option<u64>);

/// All records of a folder with one log file of these bytes, or the error.
fn read(bytes: &[u8], number: u64, from: SeqNo) -> Result<Found, StorageError> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(file_name(number)), bytes).unwrap();
    let mut reader = WalReader::new(Arc::new(OsFiles), folder.path().to_owned(), from);
    let mut records = Vec::new();
    while let Some((seq, record)) = reader.read()? {
        records.push((seq, record.to_vec()));
    }
    Ok((records, reader.torn_tail().map(|torn| torn.offset)))
}

#[test]
fn the_bytes_are_those_of_the_format_page() {
    let header = Header { number: 3, first: SeqNo(9), previous_length: 200, salt: 0x0123_4567_89ab_cdef };
    let mut bytes = header.encode().to_vec();
    put_frame(&mut bytes, header.salt, 64, 64, SeqNo(9), b"one");
    put_frame(&mut bytes, header.salt, 96, 96, SeqNo(11), b"");
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(bytes, golden(), "{hex}");
    let expected = vec![(SeqNo(9), b"one".to_vec()), (SeqNo(11), Vec::new())];
    assert_eq!(read(&bytes, 3, SeqNo(9)).unwrap(), (expected, None));
    // The page states the constants.
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/format.md")).unwrap();
    let stated = [
        format!("A header of {HEADER_BYTES} bytes, then frames"),
        format!("multiples of {FRAME_ALIGNMENT}; offsets"),
        format!("| {FRAME_BYTES} | n | bytes |"),
        format!("has reached {} MiB", WAL_FILE_BYTES >> 20),
        "at most 2³⁰".to_owned(),
        "kind: `WAL `".to_owned(),
    ];
    assert_eq!(MAX_RECORD_BYTES, 1 << 30);
    for text in stated {
        assert!(page.contains(&text), "docs/format.md does not state: {text}");
    }
}

#[test]
fn headers_that_are_refused() {
    let check = |place: usize, value: u8, seal: bool, expected: &str| {
        let mut bytes = golden();
        bytes[place] = value;
        if seal {
            let checksum = crc32c::crc32c(&bytes[..60]);
            bytes[60..64].copy_from_slice(&checksum.to_le_bytes());
        }
        let message = read(&bytes, 3, SeqNo(9)).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
        assert!(message.contains("wal-00000000000000000003"), "{message}");
    };
    check(0, 0, false, "not a file of this database");
    check(9, 1, false, "checksum of the header");
    check(9, 1, true, "format version 257 is not supported");
    check(12, b'X', true, "kind \"XAL \"");
    check(16, 4, true, "it says that it is log file 4");
    check(50, 1, true, "malformed at byte 50");
    check(31, 0x81, true, "have numbers from 9295429630892703753 on");
    // Without anything behind it, a header that is not valid is that of a file that was being made; a newer version is not.
    let mut bytes = golden()[..64].to_vec();
    bytes[20] = 9;
    assert_eq!(read(&bytes, 3, SeqNo(9)).unwrap(), (vec![], None));
    assert_eq!(read(&bytes[..7], 3, SeqNo(9)).unwrap(), (vec![], None));
    check(8, 7, true, "format version 7");
}

#[test]
fn records_that_look_like_frames_are_none() {
    // The record of this one holds a whole log file, frames with right checksums for their own place in it.
    let folder = tempfile::tempdir().unwrap();
    let store = LocalDir::new(Arc::new(OsFiles), folder.path(), 1);
    let log = store.open_log(SeqNo::FIRST).unwrap();
    let seq = log.append(&golden()).unwrap();
    log.commit(seq, Durability::Synced).unwrap();
    let path = folder.path().join(file_name(1));
    let mut bytes = fs::read(&path).unwrap();
    bytes[HEADER_BYTES + 4] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let mut reader = store.read_log(SeqNo::FIRST);
    assert!(reader.read().unwrap().is_none());
    assert_eq!(reader.torn_tail().unwrap().offset, 64);
    assert_eq!(
        reader.torn_tail().unwrap().to_string(),
        format!(
            "{}: the last {} bytes, from byte 64 on, are an unfinished write and were left out",
            path.display(),
            bytes.len() - 64
        )
    );
}

#[test]
fn a_log_that_begins_too_late_or_has_a_gap_is_no_empty_one() {
    assert!(matches!(read(&golden(), 3, SeqNo(8)), Err(StorageError::Trimmed { wanted: SeqNo(8), .. })));
    let folder = tempfile::tempdir().unwrap();
    let store = LocalDir::new(Arc::new(OsFiles), folder.path(), 1).with_wal_file_bytes(100);
    let log = store.open_log(SeqNo::FIRST).unwrap();
    for _ in 0..5 {
        let seq = log.append(&[7; 80]).unwrap();
        log.commit(seq, Durability::Synced).unwrap();
    }
    fs::remove_file(folder.path().join(file_name(3))).unwrap();
    let mut reader = store.read_log(SeqNo::FIRST);
    reader.read().unwrap();
    reader.read().unwrap();
    assert!(matches!(reader.read(), Err(StorageError::Trimmed { wanted: SeqNo(3), .. })));
}

#[test]
fn damage_before_the_length_that_the_next_header_tells() {
    let check = |change: &dyn Fn(&mut Vec<u8>), expected: &str| {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalDir::new(Arc::new(OsFiles), folder.path(), 1).with_wal_file_bytes(100);
        let log = store.open_log(SeqNo::FIRST).unwrap();
        for _ in 0..3 {
            let seq = log.append(&[7; 80]).unwrap();
            log.commit(seq, Durability::Synced).unwrap();
        }
        let path = folder.path().join(file_name(2));
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(&path, &bytes).unwrap();
        let mut reader = store.read_log(SeqNo::FIRST);
        assert!(reader.read().unwrap().is_some());
        let message = reader.read().unwrap_err().to_string();
        assert!(message.contains("wal-00000000000000000002") && message.contains(expected), "{message}");
    };
    check(&|bytes| *bytes.last_mut().unwrap() ^= 1, "checksum of the record after number 1");
    check(&|bytes| bytes.truncate(64), "cut short: 168 bytes expected, 64 found");
    check(&|bytes| bytes.truncate(100), "no valid record after number 1");
}

#[test]
fn fields_of_frames_that_no_writer_makes() {
    let check = |seq: u64, durable: u64| {
        let mut bytes = golden();
        put_frame(&mut bytes, 0x0123_4567_89ab_cdef, 120, durable, SeqNo(seq), b"more");
        read(&bytes, 3, SeqNo(9)).unwrap().1
    };
    assert_eq!(check(12, 120), None);
    assert_eq!(check(11, 120), Some(120), "a number twice");
    assert_eq!(check(12, 121), Some(120), "durable before it is written");
}

/// Found by fuzzing: a number that nothing can come after.
#[test]
fn the_greatest_number_is_no_records() {
    let mut bytes = golden()[..HEADER_BYTES].to_vec();
    put_frame(&mut bytes, 0x0123_4567_89ab_cdef, 64, 64, SeqNo(u64::MAX), b"last");
    assert_eq!(read(&bytes, 3, SeqNo(9)).unwrap(), (vec![], Some(64)));
}

/// Found by fuzzing: behind the last number there is, another file would begin with one that is none.
#[test]
fn a_log_that_has_the_last_number_takes_no_more() {
    for (last, taken) in [(LAST_SEQ, 0), (LAST_SEQ - 1, 0), (LAST_SEQ - 2, 1)] {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = golden()[..HEADER_BYTES].to_vec();
        bytes[16] = 1;
        let checksum = crc32c::crc32c(&bytes[..HEADER_BYTES - 4]);
        bytes[HEADER_BYTES - 4..].copy_from_slice(&checksum.to_le_bytes());
        put_frame(&mut bytes, 0x0123_4567_89ab_cdef, 64, 64, SeqNo(last), b"last");
        fs::write(folder.path().join(file_name(1)), bytes).unwrap();
        let store = LocalDir::new(Arc::new(OsFiles), folder.path().to_owned(), 1);
        let log = store.open_log(SeqNo::FIRST).unwrap();
        for _ in 0..taken {
            let seq = log.append(b"more").unwrap();
            log.commit(seq, Durability::Synced).unwrap();
        }
        assert!(matches!(log.append(b"more"), Err(StorageError::Stopped { .. })));
        let next = log.next();
        assert_eq!(log.trim(next).is_err(), last == LAST_SEQ, "{last}");
        let mut reader = store.read_log(SeqNo(last + taken));
        let found = reader.read().map(|record| record.map(|(seq, _)| seq));
        match last {
            LAST_SEQ => assert_eq!(found.unwrap(), Some(SeqNo(last))),
            _ => assert!(matches!(found, Err(StorageError::Trimmed { .. }))),
        }
        assert_eq!(store.open_log(SeqNo::FIRST).unwrap().next(), next);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(tail: Vec<u8>, keeps in 0usize..200) {
        let _ = read(&tail, 3, SeqNo(9));
        let mut bytes = golden();
        bytes.truncate(keeps);
        bytes.extend(&tail);
        let _ = read(&bytes, 3, SeqNo(9));
    }

    /// Cut anywhere, a file gives a prefix of its records.
    #[test]
    fn a_cut_leaves_a_prefix(records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8), cut: prop::sample::Index) {
        let header = Header { number: 3, first: SeqNo(1), previous_length: 0, salt: 5 };
        let mut bytes = header.encode().to_vec();
        let mut durable = 64;
        for (seq, record) in (1..).map(SeqNo).zip(&records) {
            let offset = bytes.len() as u64;
            put_frame(&mut bytes, 5, offset, durable, seq, record);
            durable = offset;
        }
        let cut = cut.index(bytes.len() + 1);
        let (read, torn) = read(&bytes[..cut], 3, SeqNo(1)).unwrap();
        let found: Vec<Vec<u8>> = read.into_iter().map(|(_, record)| record).collect();
        prop_assert_eq!(&found[..], &records[..found.len()]);
        prop_assert!(cut < bytes.len() || (found.len() == records.len() && torn.is_none()));
    }
}
