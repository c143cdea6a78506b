//! Tests of the container: round trips, and damage of every kind, exhaustively on a file of about a kilobyte.
//!
//! Damage is never allowed to panic or to pass unnoticed. Fields that a checksum protects are also set to wrong
//! values with the checksum made right again, so that the checks behind the checksums are reached.

use super::*;
use crate::Region;
use crate::codec::Encode;
use crate::error::StorageError;
use proptest::prelude::*;
use std::io::{self, Cursor, Read, Write};
use std::path::Path;

const KIND: FileKind = FileKind::new(*b"test");

fn container(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ContainerWriter::new(Vec::new(), KIND).unwrap();
    for (name, bytes) in sections {
        writer.add_section(name, bytes).unwrap();
    }
    writer.finish().unwrap()
}

fn open(bytes: &[u8]) -> Result<ContainerReader<Cursor<Vec<u8>>>, StorageError> {
    ContainerReader::from_bytes(Path::new("file.vdb"), bytes.to_vec(), KIND)
}

/// A small file with the cases that matter: an empty section, one that ends aligned, one that does not.
fn sample() -> Vec<u8> {
    let long: Vec<u8> = (0..=255).cycle().take(628).collect();
    container(&[("aligned", &[7; 64]), ("empty", b""), ("long", &long), ("sixteen-letters.", b"x")])
}

/// Opens and reads everything in all three ways, which must agree.
fn read_all(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, StorageError> {
    let mut reader = open(bytes)?;
    let verified = reader.verify();
    let names: Vec<String> = reader.sections().map(|(name, _)| name.to_owned()).collect();
    let mut sections = Vec::new();
    for name in names {
        let mut streamed = Vec::new();
        let stream_result = reader.section_reader(&name).unwrap().read_to_end(&mut streamed);
        let whole = reader.section(&name);
        assert_eq!(stream_result.is_err(), whole.is_err());
        if whole.is_err() {
            assert!(verified.is_err());
        }
        let whole = whole?;
        assert_eq!(streamed, whole);
        sections.push((name, whole));
    }
    verified.unwrap();
    Ok(sections)
}

/// Changes a file with `edit`, makes all checksums right again, and compares the error's text.
fn check_edit(edit: impl FnOnce(&mut Vec<u8>), expected: &[&str]) {
    let mut bytes = sample();
    edit(&mut bytes);
    seal(&mut bytes);
    check_error(&bytes, expected);
}

fn check_error(bytes: &[u8], expected: &[&str]) {
    let message = read_all(bytes).unwrap_err().to_string();
    for part in expected.iter().chain(&["file.vdb"]) {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

fn footer_start(bytes: &[u8]) -> usize {
    bytes.len() - FOOTER_BYTES
}

/// Where the sample's table is, before a test changes the field that says so.
fn table_start(bytes: &[u8]) -> usize {
    footer_start(bytes) - 4 * TABLE_ENTRY_BYTES
}

fn seal(bytes: &mut [u8]) {
    let (table, footer) = (table_start(bytes), footer_start(bytes));
    let sum = |bytes: &[u8]| crc32c::crc32c(bytes).to_le_bytes();
    let header_sum = sum(&bytes[..HEADER_CHECKSUM]);
    bytes[HEADER_CHECKSUM..HEADER_BYTES].copy_from_slice(&header_sum);
    let table_sum = sum(&bytes[table..footer]);
    bytes[footer + FOOTER_TABLE_CHECKSUM..][..4].copy_from_slice(&table_sum);
    let footer_sum = sum(&bytes[footer..footer + FOOTER_CHECKSUM]);
    bytes[footer + FOOTER_CHECKSUM..][..4].copy_from_slice(&footer_sum);
}

fn set_u64(bytes: &mut [u8], offset: usize, value: u64) {
    bytes[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
}

#[test]
fn round_trip_and_alignment() {
    let bytes = sample();
    let sections = read_all(&bytes).unwrap();
    let names: Vec<&str> = sections.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["aligned", "empty", "long", "sixteen-letters."]);
    let lengths: Vec<usize> = sections.iter().map(|(_, content)| content.len()).collect();
    assert_eq!(lengths, [64, 0, 628, 1]);
    let reader = open(&bytes).unwrap();
    assert!(reader.entries.iter().all(|entry| entry.offset.is_multiple_of(ALIGNMENT)));
    assert!(reader.contains("long") && !reader.contains("short"));
    assert_eq!((reader.version(), reader.file_length()), (FORMAT_VERSION, bytes.len() as u64));
}

#[test]
fn a_container_without_sections() {
    let bytes = container(&[]);
    assert_eq!(bytes.len(), HEADER_BYTES + FOOTER_BYTES);
    assert_eq!(read_all(&bytes).unwrap(), []);
}

#[test]
fn a_section_written_in_pieces_is_the_same_as_one_written_whole() {
    let mut writer = ContainerWriter::new(Vec::new(), KIND).unwrap();
    writer
        .write_section("s", |section| -> io::Result<()> {
            section.put_u32(1)?;
            section.write_all(b"abc")?;
            assert_eq!(section.length(), 7);
            section.put_f32_slice(&[1.0; 3000])
        })
        .unwrap();
    let mut whole = vec![1, 0, 0, 0, b'a', b'b', b'c'];
    whole.extend([0, 0, 0x80, 0x3f].repeat(3000));
    assert_eq!(writer.finish().unwrap(), container(&[("s", &whole)]));
}

#[test]
fn open_reads_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.vdb");
    crate::write_atomically(&path, |out| out.write_all(&sample()))
        .unwrap_or_else(|e: io::Error| panic!("{e}"));
    let mut reader = ContainerReader::open(&path, KIND).unwrap();
    assert_eq!(reader.section("aligned").unwrap(), [7; 64]);
    let error = reader.section("absent").unwrap_err();
    assert!(matches!(&error, StorageError::MissingSection { section, .. } if section == "absent"), "{error}");
    let error = ContainerReader::open(&folder.path().join("absent.vdb"), KIND).unwrap_err();
    assert!(matches!(error, StorageError::Io { .. }) && error.to_string().contains("absent.vdb"), "{error}");
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = sample();
    for length in 0..bytes.len() {
        let error = read_all(&bytes[..length]).unwrap_err();
        let as_expected = match error {
            StorageError::Truncated { found, .. } => found == length as u64,
            StorageError::MissingEnd { length: found, .. } => found == length as u64,
            _ => false,
        };
        assert!(as_expected, "{length} bytes: {error}");
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let mut bytes = sample();
    assert!(bytes.len() > 1000, "{}", bytes.len());
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(read_all(&bytes).is_err(), "bit {} of byte {}", bit % 8, bit / 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    read_all(&bytes).unwrap();
}

#[test]
fn a_removed_or_inserted_byte_is_noticed() {
    let bytes = sample();
    for index in 0..bytes.len() {
        let mut shorter = bytes.clone();
        shorter.remove(index);
        assert!(read_all(&shorter).is_err(), "without byte {index}");
        let mut longer = bytes.clone();
        longer.insert(index, 0);
        assert!(read_all(&longer).is_err(), "with a byte before {index}");
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(read_all(&longer).is_err());
}

#[test]
fn damage_to_a_section_names_it_and_spares_the_others() {
    let mut bytes = sample();
    bytes[64] ^= 1;
    let mut reader = open(&bytes).unwrap();
    let (expected, found) = (crc32c::crc32c(&[7; 64]), crc32c::crc32c(&bytes[64..128]));
    let message = reader.section("aligned").unwrap_err().to_string();
    assert_eq!(
        message,
        format!(
            "file.vdb: damaged: checksum of aligned (from byte 64) should be {expected:#010x}, is {found:#010x}"
        )
    );
    assert!(reader.verify().is_err());
    assert_eq!(reader.section("long").unwrap().len(), 628);
    let mut streamed = reader.section_reader("aligned").unwrap();
    assert_eq!(streamed.remaining(), 64);
    streamed.read_exact(&mut [0; 63]).unwrap();
    let error = streamed.read_exact(&mut [0; 1]).unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (io::ErrorKind::InvalidData, message));
}

#[test]
fn sections_in_place_are_aligned_parts_of_the_region() {
    let region = Region::from(&sample()[..]);
    let reader = ContainerReader::from_region(Path::new("file.vdb"), region.clone(), KIND).unwrap();
    for (name, content) in read_all(&sample()).unwrap() {
        let section = reader.section_in_place(&name).unwrap();
        assert_eq!(&*section, content, "{name}");
        assert!(section.as_ptr().addr().is_multiple_of(64), "{name}");
        assert!(region.as_ptr_range().contains(&section.as_ptr()), "{name}");
    }
    assert!(matches!(reader.section_in_place("absent"), Err(StorageError::MissingSection { .. })));
}

#[test]
fn foreign_files() {
    let check = |bytes: &[u8], expected: &str| check_error(bytes, &["not a file of this database", expected]);
    check(b"{\"ids\": [1, 2]}", "{\\\"ids\\\":");
    check(b"\x89PNG\r\n\x1a\n and more", "\\x89PNG\\r\\n\\x1a\\n");
    check(b"x", "starts with \"x\"");
    check(&[0; 5000], "\\x00");
    // A text-mode transfer replaced the line ending.
    let mut bytes = sample();
    bytes.remove(4);
    check(&bytes, "\\x89VDB\\n");
}

#[test]
fn other_versions() {
    let versions = ["versions 1 to 1"];
    check_edit(|bytes| bytes[HEADER_VERSION] = 2, &["format version 2 is not supported", versions[0]]);
    check_edit(|bytes| bytes[HEADER_VERSION] = 0, &["format version 0 is not supported", versions[0]]);
    // A newer version may use the reserved bytes: the version is what the error is about.
    check_edit(
        |bytes| bytes[HEADER_VERSION..HEADER_RESERVED + 8].fill(9),
        &["format version 151587081 is not supported"],
    );
}

#[test]
fn another_kind() {
    check_edit(|bytes| bytes[HEADER_KIND] = b'T', &["of kind \"test\" was expected", "kind \"Test\""]);
    check_edit(|bytes| bytes[HEADER_KIND] = 0, &["kind \"\\x00est\""]);
}

#[test]
fn reserved_bytes_are_checked() {
    for index in HEADER_RESERVED..HEADER_CHECKSUM {
        check_edit(|bytes| bytes[index] = 1, &[&format!("at byte {index}:"), "0x01, not zero"]);
    }
    let (table, footer) = (table_start(&sample()), footer_start(&sample()));
    for start in [table + ENTRY_RESERVED, footer + FOOTER_RESERVED] {
        for index in start..start + 4 {
            check_edit(|bytes| bytes[index] = 2, &[&format!("at byte {index}:"), "0x02, not zero"]);
        }
    }
}

#[test]
fn wrong_fields_behind_right_checksums() {
    let (table, footer) = (table_start(&sample()), footer_start(&sample()));
    let field = |row: usize, field: usize| table + row * TABLE_ENTRY_BYTES + field;
    // Footer.
    let length = sample().len() as u64;
    let set = |offset: usize, value: u64| move |bytes: &mut Vec<u8>| set_u64(bytes, offset, value);
    check_edit(set(footer + FOOTER_FILE_LENGTH, length + 1), &["cut short", &format!("{}", length + 1)]);
    check_edit(set(footer + FOOTER_FILE_LENGTH, length - 1), &["should have", &format!("it has {length}")]);
    check_edit(set(footer + FOOTER_TABLE_LENGTH, 1 << 60), &["do not make a table"]);
    check_edit(set(footer + FOOTER_TABLE_OFFSET, u64::MAX), &["should end at"]);
    check_edit(set(footer + FOOTER_TABLE_OFFSET, 0), &["should end at"]);
    check_edit(|bytes| bytes[footer + FOOTER_COUNT] = 5, &["5 sections do not make a table"]);
    // Table.
    check_edit(|bytes| bytes[field(0, 0)] = 0, &[&format!("at byte {}", table + 1), "not zero"]);
    check_edit(|bytes| bytes[field(0, 0)..][..7].fill(0), &["name \"\" is not valid"]);
    check_edit(|bytes| bytes[field(0, 2)] = b' ', &["name \"al gned\" is not valid"]);
    check_edit(|bytes| bytes.copy_within(table..table + 16, field(1, 0)), &["\"aligned\"", "not unique"]);
    check_edit(set(field(0, ENTRY_OFFSET), 128), &["64 bytes at 128, should begin at 64"]);
    check_edit(set(field(0, ENTRY_OFFSET), u64::MAX), &["should begin at 64"]);
    check_edit(set(field(0, ENTRY_LENGTH), u64::MAX), &["end before the table"]);
    check_edit(set(field(0, ENTRY_LENGTH), u64::MAX - 64), &["end before the table"]);
    check_edit(set(field(1, ENTRY_LENGTH), 1), &["\"long\"", "should begin at 192"]);
    check_edit(
        |bytes| bytes[field(3, ENTRY_LENGTH)..ENTRY_RESERVED + field(3, 0)].fill(0),
        &["bytes between the last section and the table"],
    );
    check_edit(set(field(0, ENTRY_LENGTH), 63), &["at byte 127", "0x07, not zero"]);
    check_edit(|bytes| bytes[field(0, ENTRY_CHECKSUM)] ^= 1, &["checksum of aligned (from byte 64)"]);
    check_edit(|bytes| bytes[field(1, ENTRY_CHECKSUM)] ^= 1, &["checksum of empty (from byte 128)"]);
}

#[test]
fn names_are_checked_when_written() {
    for name in ["", "seventeen-letters", "a b", "naïve", "tab\t", "once"] {
        let mut writer = ContainerWriter::new(Vec::new(), KIND).unwrap();
        writer.add_section("once", b"").unwrap();
        let error = writer.add_section(name, b"").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name:?}");
        assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
        // A refused name writes nothing: the container can be continued.
        assert_eq!(writer.finish().unwrap(), container(&[("once", b"")]));
    }
}

#[test]
fn a_failed_section_makes_the_container_unusable() {
    let mut writer = ContainerWriter::new(Vec::new(), KIND).unwrap();
    let failing = |section: &mut SectionWriter<'_, Vec<u8>>| {
        section.write_all(b"half")?;
        Err(io::Error::other("no more"))
    };
    assert_eq!(writer.write_section("s", failing).unwrap_err().to_string(), "no more");
    assert!(writer.add_section("t", b"").unwrap_err().to_string().contains("earlier section failed"));
    assert!(writer.finish().unwrap_err().to_string().contains("earlier section failed"));
}

#[test]
fn the_format_page_states_the_constants() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/format.md");
    let page = std::fs::read_to_string(path).unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ");
    let row = |offset: usize, size: usize, kind: &str| format!("| {offset} | {size} | {kind} |");
    let stated = [
        format!("Format version: {FORMAT_VERSION}. Oldest readable version: {OLDEST_FORMAT_VERSION}."),
        format!("Header ({HEADER_BYTES} bytes)"),
        format!("Section table ({TABLE_ENTRY_BYTES} bytes per section)"),
        format!("Footer ({FOOTER_BYTES} bytes)"),
        format!("multiple of {ALIGNMENT}"),
        format!("`{}`", hex(&MAGIC)),
        format!("`{}`", hex(&END_MAGIC)),
        row(HEADER_VERSION, 4, "u32"),
        row(HEADER_KIND, 4, "u32"),
        row(HEADER_RESERVED, HEADER_CHECKSUM - HEADER_RESERVED, "zero"),
        row(HEADER_CHECKSUM, 4, "u32"),
        row(0, NAME_BYTES, "text"),
        row(ENTRY_OFFSET, 8, "u64"),
        row(ENTRY_LENGTH, 8, "u64"),
        row(ENTRY_CHECKSUM, 4, "u32"),
        row(ENTRY_RESERVED, 4, "zero"),
        row(FOOTER_TABLE_OFFSET, 8, "u64"),
        row(FOOTER_TABLE_LENGTH, 8, "u64"),
        row(FOOTER_COUNT, 4, "u32"),
        row(FOOTER_TABLE_CHECKSUM, 4, "u32"),
        row(FOOTER_FILE_LENGTH, 8, "u64"),
        row(FOOTER_RESERVED, 4, "zero"),
        row(FOOTER_CHECKSUM, 4, "u32"),
        row(FOOTER_END_MAGIC, 8, "bytes"),
    ];
    for text in stated {
        assert!(page.contains(&text), "docs/format.md does not state: {text}");
    }
}

proptest! {
    #[test]
    fn any_sections_round_trip(contents in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8)) {
        let names: Vec<String> = (0..contents.len()).map(|i| format!("section-{i}")).collect();
        let sections: Vec<(&str, &[u8])> =
            names.iter().zip(&contents).map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        let read: Vec<Vec<u8>> = read_all(&container(&sections)).unwrap().into_iter().map(|(_, b)| b).collect();
        prop_assert_eq!(read, contents);
    }

    #[test]
    fn arbitrary_bytes_never_panic(tail: Vec<u8>) {
        let _ = read_all(&tail);
        let mut bytes = sample()[..HEADER_BYTES].to_vec();
        bytes.extend(&tail);
        prop_assert!(read_all(&bytes).is_err());
    }

    /// Random bytes over the table and the footer, with the checksums right, so that the fields are what is tested.
    #[test]
    fn arbitrary_fields_never_panic(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = sample();
        let (start, end) = (table_start(&bytes), bytes.len() - 16);
        for (index, value) in edits {
            bytes[start + index.index(end - start)] = value;
        }
        seal(&mut bytes);
        let _ = read_all(&bytes);
    }
}
