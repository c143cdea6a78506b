//! Archives: what is restored is what was there, and damage of every kind is an error that leaves nothing behind.

use super::*;
use crate::backend::PART_BYTES;
use crate::codec::Encode;
use crate::{Backend, ContainerWriter, Durability, Memory, StorageError};
use proptest::prelude::*;
use std::io::{self, Cursor, Write};
use std::path::{Path, PathBuf};

type Blobs = Vec<(String, Vec<u8>)>;
type Log = Vec<(SeqNo, Vec<u8>)>;

/// Everything in a store.
#[derive(Debug, Clone, PartialEq)]
struct State {
    manifest: Vec<u8>,
    /// Names ascending.
    blobs: Blobs,
    from: SeqNo,
    log: Log,
}

impl State {
    fn sample() -> Self {
        let long: Vec<u8> = (0..700_000u32).map(|i| (i % 249) as u8).collect();
        let blobs = [("a", &b"short"[..]), ("empty", b""), ("long", &long)];
        let log = [(7, &b"seven"[..]), (8, b""), (12, &[3; 600_000]), (13, b"x")];
        Self {
            manifest: b"names three blobs".to_vec(),
            blobs: blobs.map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).to_vec(),
            from: SeqNo(5),
            log: log.map(|(seq, record)| (SeqNo(seq), record.to_vec())).to_vec(),
        }
    }

    /// Without what is long, so that a test can go through all bytes.
    fn small() -> Self {
        let mut state = Self::sample();
        state.blobs.pop();
        state.log.remove(2);
        state
    }

    fn store(&self) -> Memory {
        let store = Memory::new();
        for (name, bytes) in &self.blobs {
            let mut blob = store.blobs().create(name).unwrap();
            blob.write_all(bytes).unwrap();
            blob.finish().unwrap();
        }
        store
    }

    fn archive(&self) -> Vec<u8> {
        let store = self.store();
        // In any order, and more than once.
        let names: Vec<String> =
            self.blobs.iter().rev().chain(self.blobs.first()).map(|(name, _)| name.clone()).collect();
        let contents =
            Contents { manifest: &self.manifest, blobs: store.blobs(), names: &names, log_from: self.from };
        write_archive(Vec::new(), path(), &contents, self.log.iter().cloned().map(Ok)).unwrap()
    }

    fn of(store: &Memory, from: SeqNo) -> Self {
        let (number, manifest) = store.manifests().current().unwrap().unwrap();
        assert_eq!(number, 1);
        let names = store.blobs().names().unwrap();
        let content = |name: String| {
            let bytes = store.blobs().open(&name).unwrap().map().unwrap().to_vec();
            (name, bytes)
        };
        let log = records_before(store.read_log(from), SeqNo(u64::MAX)).map(Result::unwrap).collect();
        Self { manifest: manifest.to_vec(), blobs: names.into_iter().map(content).collect(), from, log }
    }
}

fn path() -> &'static Path {
    Path::new("backup")
}

fn open(bytes: &[u8]) -> Result<Archive<Cursor<&[u8]>>, StorageError> {
    Archive::new(Cursor::new(bytes), path())
}

fn restore(bytes: &[u8]) -> Result<Memory, StorageError> {
    let store = Memory::new();
    let restored = open(bytes).and_then(|mut archive| archive.restore(&store));
    if restored.is_err() {
        assert_is_empty(&store);
    }
    restored.map(|number| {
        assert_eq!(number, 1);
        store
    })
}

fn assert_is_empty(store: &Memory) {
    assert_eq!(store.manifests().numbers().unwrap(), []);
    assert_eq!(store.blobs().names().unwrap(), [""; 0]);
    assert_eq!(store.read_log(SeqNo::FIRST).read().unwrap(), None);
    assert_eq!(store.open_log(SeqNo::FIRST).unwrap().next(), SeqNo::FIRST);
}

#[test]
fn what_is_restored_is_what_was_there() {
    let empty = State { manifest: Vec::new(), blobs: Vec::new(), from: SeqNo(1), log: Vec::new() };
    for state in [State::sample(), State::small(), empty] {
        let bytes = state.archive();
        let store = restore(&bytes).unwrap();
        assert_eq!(State::of(&store, state.from), state);
        // One archive for one content.
        assert_eq!(State::of(&store, state.from).archive(), bytes);
        // The log goes on behind the last record, and not below what the manifest asks for.
        let next = state.log.last().map_or(state.from, |(seq, _)| seq.next());
        let log = store.open_log(state.from).unwrap();
        assert_eq!(log.append(b"on").unwrap(), next);
    }
}

#[test]
fn parts_are_read_alone() {
    let state = State::sample();
    let bytes = state.archive();
    let mut archive = open(&bytes).unwrap();
    archive.verify().unwrap();
    assert_eq!(archive.names(), ["a", "empty", "long"]);
    assert_eq!(archive.manifest().unwrap(), state.manifest);
    for (name, content) in &state.blobs {
        let mut read = Vec::new();
        let mut blob = archive.blob(name).unwrap();
        assert_eq!(blob.remaining(), content.len() as u64);
        io::Read::read_to_end(&mut blob, &mut read).unwrap();
        assert_eq!(&read, content);
    }
    let error = archive.blob("b").unwrap_err();
    assert!(error.to_string().contains("\"blob b\""), "{error}");
    let records = archive.records().unwrap();
    assert_eq!(records.from(), SeqNo(5));
    assert_eq!(records.map(Result::unwrap).collect::<Log>(), state.log);
}

#[test]
fn records_end_before_a_number() {
    let store = Memory::new();
    let log = store.open_log(SeqNo(3)).unwrap();
    for i in 0..5u8 {
        log.append(&[i]).unwrap();
    }
    let before = |end| -> Vec<u64> {
        records_before(store.read_log(SeqNo(4)), SeqNo(end)).map(|record| record.unwrap().0.0).collect()
    };
    assert_eq!((before(6), before(4), before(100)), (vec![4, 5], vec![], vec![4, 5, 6, 7]));
    log.trim(SeqNo(5)).unwrap();
    let error = records_before(store.read_log(SeqNo(4)), SeqNo(6)).next().unwrap().unwrap_err();
    assert!(matches!(error, StorageError::Trimmed { .. }), "{error}");
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed_and_leaves_nothing() {
    let mut bytes = State::small().archive();
    assert!((500..1_500).contains(&bytes.len()), "{}", bytes.len());
    for length in 0..bytes.len() {
        assert!(restore(&bytes[..length]).is_err(), "{length} bytes");
    }
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let verified = open(&bytes).and_then(|mut archive| archive.verify());
        assert!(restore(&bytes).is_err() && verified.is_err(), "bit {} of byte {}", bit % 8, bit / 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    restore(&bytes).unwrap();
}

/// Where some bytes stand, to be damaged.
fn find(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).position(|window| window == part).unwrap()
}

#[test]
fn damage_names_file_section_and_both_checksums() {
    let bytes = State::sample().archive();
    let check = |part: &[u8], section: &str| {
        let mut damaged = bytes.clone();
        let at = find(&bytes, part);
        damaged[at] ^= 1;
        let error = restore(&damaged).unwrap_err();
        let StorageError::Checksum { path: named, section: found, expected, found: sum, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!((&**named, &**found), (path(), section));
        let message = error.to_string();
        assert!(message.contains(&format!("{expected:#010x}")) && message.contains(&format!("{sum:#010x}")));
    };
    check(b"names three", "manifest");
    check(b"\x05\0\0\0empty", "names");
    check(b"short", "blob.0");
    check(&[10, 11, 12, 13], "blob.2");
    check(b"seven", "log");
    // A length that would lead astray: the checksum is compared before it is used.
    check(b"\x05\0\0\0seven", "log");
}

/// Sections with right checksums and wrong content.
#[test]
fn containers_that_are_no_archives() {
    let log = |records: &[(u64, u32, &[u8])]| {
        let mut bytes = Vec::new();
        bytes.put_u64(5).unwrap();
        for (seq, length, record) in records {
            bytes.put_u64(*seq).unwrap();
            bytes.put_u32(*length).unwrap();
            bytes.extend(*record);
        }
        bytes
    };
    let check = |sections: &[(&str, &[u8])], expected: &str| {
        let mut file = ContainerWriter::new(Vec::new(), KIND).unwrap();
        sections.iter().for_each(|(name, bytes)| file.add_section(name, bytes).unwrap());
        let bytes = file.finish().unwrap();
        let error = restore(&bytes).map(|_| ()).unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        let message = format!("{error}: {source}");
        assert!(message.contains(expected) && message.contains("backup"), "{message}");
        assert!(open(&bytes).and_then(|mut archive| archive.verify()).is_err());
    };
    let (names, manifest, blob) =
        (("names", &b"\x01\0\0\0a"[..]), ("manifest", &b"m"[..]), ("blob.0", &b"b"[..]));
    let (none, some) = (log(&[]), log(&[(5, 1, b"x")]));
    check(&[], "no section named \"names\"");
    check(&[names], "no section named \"manifest\"");
    check(&[names, manifest], "no section named \"blob.0\"");
    check(&[names, manifest, blob], "no section named \"log\"");
    check(&[names, manifest, ("log", &none)], "section \"log\" where section \"blob.0\" should be");
    check(&[manifest, names, blob, ("log", &none)], "section \"manifest\" where section \"names\"");
    check(
        &[names, manifest, blob, ("log", &some), ("more", b"")],
        "section \"more\" where the end should be",
    );
    let with_names =
        |bytes: &[u8], expected| check(&[("names", bytes), manifest, blob, ("log", &none)], expected);
    with_names(b"\x01\0\0\0A", "\"A\" is no name of a blob");
    with_names(b"\x02\0\0\0..", "\"..\" is no name of a blob");
    with_names(b"\x01\0\0\0b\x01\0\0\0a", "\"a\" is no name of a blob, or not above");
    with_names(b"\x01\0\0\0a\x01\0\0\0a", "not above the one before");
    with_names(b"\x09\0\0\0a", "\"names\" does not decode");
    with_names(b"\x01\0\0\0\xff", "\"names\" does not decode");
    let with_log = |bytes: &[u8], expected| check(&[names, manifest, blob, ("log", bytes)], expected);
    with_log(b"", "8 bytes expected, 0 left");
    with_log(&[0; 8], "a log that begins at number 0");
    with_log(&[0xff; 8], "a log that begins at number 18446744073709551615");
    with_log(&log(&[(4, 0, b"")]), "record 4 where 5 is the least number");
    with_log(&log(&[(6, 0, b""), (6, 0, b"")]), "record 6 where 7 is the least number");
    with_log(&log(&[(LAST_SEQ + 1, 0, b"")]), "record 9223372036854775809 where");
    with_log(&log(&[(5, 9, b"x")]), "9 bytes expected, 1 left");
    with_log(&log(&[(5, 1 << 31, b"x")]), "a record of 2147483648 bytes");
    with_log(&some[..some.len() - 2], "12 bytes expected, 11 left");
}

#[test]
fn a_store_is_restored_into_an_empty_one() {
    let state = State::sample();
    let bytes = state.archive();
    let refused = |store: &Memory, expected: &str| {
        let error = open(&bytes).unwrap().restore(store).unwrap_err();
        assert!(matches!(error, StorageError::NotEmpty { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    };
    let store = Memory::new();
    store.manifests().publish(0, b"mine").unwrap();
    refused(&store, "there are manifests already");
    assert_eq!(*store.manifests().load(1).unwrap(), b"mine"[..]);
    let store = Memory::new();
    store.blobs().create("mine").unwrap().finish().unwrap();
    refused(&store, "there are blobs already");
    assert_eq!(store.blobs().names().unwrap(), ["mine"]);
    for trim in [false, true] {
        let store = Memory::new();
        let log = store.open_log(SeqNo::FIRST).unwrap();
        log.commit(log.append(b"mine").unwrap(), Durability::Synced).unwrap();
        if trim {
            log.trim(log.next()).unwrap();
        }
        refused(&store, "there is a log already");
        assert_eq!(log.next(), SeqNo(2));
    }
}

#[test]
fn what_cannot_be_archived_is_refused() {
    let store = State::sample().store();
    let write = |names: &[&str], from: u64, log: Vec<Result<(SeqNo, Vec<u8>), StorageError>>| {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let contents = Contents { manifest: b"", blobs: store.blobs(), names: &names, log_from: SeqNo(from) };
        write_archive(Vec::new(), path(), &contents, log).map(|_| ())
    };
    let record = |seq| Ok((SeqNo(seq), Vec::new()));
    write(&["a"], 1, vec![record(1), record(LAST_SEQ)]).unwrap();
    assert!(matches!(write(&["A"], 1, vec![]), Err(StorageError::InvalidName { .. })));
    let not_found = write(&["a", "b"], 1, vec![]).unwrap_err();
    let StorageError::Io { path: named, source } = &not_found else { panic!("{not_found}") };
    assert!(
        named.ends_with("b") && source.kind() == io::ErrorKind::NotFound,
        "the blob is named: {not_found}"
    );
    let trimmed = StorageError::Trimmed { path: "wal".into(), wanted: SeqNo(1) };
    assert!(matches!(write(&[], 1, vec![record(1), Err(trimmed)]), Err(StorageError::Trimmed { .. })));
    for (from, log) in [
        (0, vec![]),
        (LAST_SEQ + 1, vec![]),
        (2, vec![record(1)]),
        (1, vec![record(3), record(3)]),
        (1, vec![record(LAST_SEQ + 1)]),
    ] {
        let error = write(&[], from, log).unwrap_err();
        assert!(
            matches!(&error, StorageError::Io { source, .. } if source.kind() == io::ErrorKind::InvalidInput),
            "{error}"
        );
    }
}

/// A writer that takes no more than so many bytes.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        if taken == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(taken) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_an_error_of_the_archive() {
    let state = State::sample();
    let (store, length) = (state.store(), state.archive().len());
    let names: Vec<String> = state.blobs.iter().map(|(name, _)| name.clone()).collect();
    let write = |room: usize| {
        let contents = Contents { manifest: b"", blobs: store.blobs(), names: &names, log_from: SeqNo(5) };
        write_archive(Full(room), path(), &contents, state.log.iter().cloned().map(Ok))
    };
    for room in [0, 10, 1_000, 300_000, 700_000] {
        let error = write(room).map(|_| ()).unwrap_err();
        let StorageError::Io { path: named, source } = &error else { panic!("{error}") };
        assert_eq!((&**named, source.kind()), (path(), io::ErrorKind::StorageFull));
    }
    write(length).map(|_| ()).unwrap();
}

#[test]
fn archives_in_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup.vdba");
    let bytes = State::sample().archive();
    std::fs::write(&file, &bytes).unwrap();
    let store = Memory::new();
    Archive::open(&file).unwrap().restore(&store).unwrap();
    assert_eq!(State::of(&store, SeqNo(5)), State::sample());
    let missing = folder.path().join("missing");
    let error = Archive::open(&missing).unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
}

/// A blob of a gibibyte that is nowhere, and must not be asked for at once.
#[derive(Debug)]
struct Endless;

impl crate::Blobs for Endless {
    fn create(&self, _: &str) -> Result<Box<dyn crate::BlobWriter>, StorageError> {
        unreachable!("it is read only")
    }

    fn open(&self, _: &str) -> Result<Box<dyn crate::Blob>, StorageError> {
        Ok(Box::new(Endless))
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(name)
    }

    fn names(&self) -> Result<Vec<String>, StorageError> {
        unreachable!("names are given")
    }

    fn remove(&self, _: &str) -> Result<(), StorageError> {
        unreachable!("it is read only")
    }
}

impl crate::Blob for Endless {
    fn length(&self) -> u64 {
        (1 << 30) + 5
    }

    fn read(&self, range: std::ops::Range<u64>) -> Result<Vec<u8>, StorageError> {
        assert!(range.end - range.start <= PART_BYTES as u64 && range.end <= self.length(), "{range:?}");
        Ok(vec![1; (range.end - range.start) as usize])
    }

    fn map(&self) -> Result<crate::Region, StorageError> {
        unreachable!("a mapped file that cannot be read ends the process")
    }
}

/// Counts bytes.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn large_blobs_go_through_a_buffer() {
    let names = ["a".to_owned()];
    let contents = Contents { manifest: b"", blobs: &Endless, names: &names, log_from: SeqNo(1) };
    let Counter(bytes) = write_archive(Counter(0), path(), &contents, []).unwrap();
    assert!((1 << 30..(1 << 30) + 1_000).contains(&bytes), "{bytes}");
}

#[test]
fn the_bytes_are_those_of_the_format_page() {
    let state = State {
        manifest: b"m".to_vec(),
        blobs: vec![("a".to_owned(), b"one".to_vec()), ("b.2".to_owned(), Vec::new())],
        from: SeqNo(0x0102),
        log: vec![(SeqNo(0x0103), b"xyz".to_vec()), (SeqNo(1 << 63), Vec::new())],
    };
    let log =
        [&b"\x02\x01\0\0\0\0\0\0"[..], b"\x03\x01\0\0\0\0\0\0\x03\0\0\0xyz", b"\0\0\0\0\0\0\0\x80\0\0\0\0"]
            .concat();
    let mut file = ContainerWriter::new(Vec::new(), FileKind::new(*b"ARCH")).unwrap();
    file.add_section("names", b"\x01\0\0\0a\x03\0\0\0b.2").unwrap();
    file.add_section("manifest", b"m").unwrap();
    file.add_section("blob.0", b"one").unwrap();
    file.add_section("blob.1", b"").unwrap();
    file.add_section("log", &log).unwrap();
    let bytes = file.finish().unwrap();
    assert_eq!(state.archive(), bytes);
    assert_eq!(State::of(&restore(&bytes).unwrap(), state.from), state);
}

#[test]
fn the_format_page_states_the_sections() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/format.md")).unwrap();
    let blobs = format!("| `{}`, `{}`, … |", blob_section(0), blob_section(1));
    let kind = String::from_utf8(KIND.to_u32().to_le_bytes().to_vec()).unwrap();
    for text in [
        format!("a container of kind `{kind}`"),
        format!("| `{NAMES}` | a string per blob"),
        format!("| `{MANIFEST}` |"),
        blobs,
        format!("| `{LOG}` | u64 F, then the records: u64 sequence number, u32 length"),
    ] {
        assert!(page.contains(&text), "docs/format.md does not state: {text}");
    }
    assert_eq!(RECORD_HEAD_BYTES, 8 + 4);
}

prop_compose! {
    fn any_state()(
        manifest: Vec<u8>,
        blobs in prop::collection::btree_map("[a-z0-9_-][a-z0-9._-]{0,20}", any::<Vec<u8>>(), 0..6),
        from in 1..1_000u64,
        records in prop::collection::vec((0..3u64, any::<Vec<u8>>()), 0..20),
    ) -> State {
        let mut least = from;
        let log = records.into_iter().map(|(gap, record)| {
            let seq = SeqNo(least + gap);
            least = seq.0 + 1;
            (seq, record)
        }).collect();
        State { manifest, blobs: blobs.into_iter().collect(), from: SeqNo(from), log }
    }
}

proptest! {
    #[test]
    fn any_store_comes_back(state in any_state()) {
        let store = restore(&state.archive()).unwrap();
        prop_assert_eq!(State::of(&store, state.from), state);
    }

    #[test]
    fn arbitrary_sections_never_panic(
        names: Vec<u8>,
        log in prop::collection::vec(any::<u8>(), 0..60),
        begins in any::<bool>(),
    ) {
        let log = if begins { [&[1, 0, 0, 0, 0, 0, 0, 0], &log[..]].concat() } else { log };
        let mut file = ContainerWriter::new(Vec::new(), KIND).unwrap();
        for (name, bytes) in [(NAMES, &names), (MANIFEST, &names), (LOG, &log)] {
            file.add_section(name, bytes).unwrap();
        }
        let _ = restore(&file.finish().unwrap());
    }
}
