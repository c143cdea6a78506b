//! Ids against an ordered map, and what damage does.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use vdb_storage::{ContainerReader, FileKind};

const KIND: FileKind = FileKind::new(*b"test");

fn path() -> &'static Path {
    Path::new("segment")
}

/// The sections as a file has them.
fn sections(ids: &[PointId], seed: u64) -> BTreeMap<String, Vec<u8>> {
    let mut file = ContainerWriter::new(Vec::new(), KIND).unwrap();
    write_ids(ids, seed, &mut file, path()).unwrap();
    let mut reader = ContainerReader::from_bytes(path(), file.finish().unwrap(), KIND).unwrap();
    let names: Vec<String> = reader.sections().map(|(name, _)| name.to_owned()).collect();
    names.into_iter().map(|name| (name.clone(), reader.section(&name).unwrap())).collect()
}

fn open(sections: &BTreeMap<String, Vec<u8>>) -> Result<IdTable, Error> {
    IdTable::open(path(), |name| {
        let missing = || StorageError::MissingSection { path: path().to_owned(), section: name.to_owned() };
        sections.get(name).map(|bytes| Region::from(&bytes[..])).ok_or_else(missing)
    })
}

fn id() -> impl Strategy<Value = PointId> {
    prop_oneof![
        (0u64..50).prop_map(PointId::from),
        any::<u64>().prop_map(PointId::from),
        any::<u128>().prop_map(|value| PointId::from(Uuid::from_u128(value))),
        ".{0,12}".prop_map(PointId::from),
        (0u64..50).prop_map(|number| PointId::from(number.to_string())),
    ]
}

proptest! {
    #[test]
    fn rows_are_found_and_nothing_else(
        ids in prop::collection::btree_set(id(), 0..200),
        others in prop::collection::vec(id(), 0..100),
        only_numbers: bool,
        seed: u64,
    ) {
        let ids: Vec<PointId> =
            ids.into_iter().filter(|id| !only_numbers || matches!(id, PointId::Number(_))).collect();
        let table = open(&sections(&ids, seed)).unwrap();
        prop_assert_eq!((table.len(), table.is_empty()), (ids.len(), ids.is_empty()));
        let rows: BTreeMap<&PointId, u32> = ids.iter().zip(0..).collect();
        for (&id, &row) in &rows {
            prop_assert_eq!(&table.id(row).unwrap(), id);
        }
        for id in ids.iter().chain(&others) {
            prop_assert_eq!(table.find(id).unwrap(), rows.get(id).copied());
        }
        table.verify().unwrap();
    }

    /// Whatever bytes there are: an error, or an answer; never a panic.
    #[test]
    fn damage_is_an_error(
        ids in prop::collection::btree_set(id(), 1..30),
        edits in prop::collection::vec((0usize..5, any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::of((0usize..5, any::<prop::sample::Index>())),
    ) {
        let ids: Vec<PointId> = ids.into_iter().collect();
        let mut sections = sections(&ids, 7);
        let names: Vec<String> = sections.keys().cloned().collect();
        for (section, place, value) in edits {
            let bytes = sections.get_mut(&names[section % names.len()]).unwrap();
            if !bytes.is_empty() {
                let place = place.index(bytes.len());
                bytes[place] = value;
            }
        }
        if let Some((section, length)) = cut {
            let bytes = sections.get_mut(&names[section % names.len()]).unwrap();
            bytes.truncate(length.index(bytes.len() + 1));
        }
        if let Ok(table) = open(&sections) {
            (0..table.len() as u32).for_each(|row| drop(table.id(row)));
            ids.iter().for_each(|id| drop(table.find(id)));
            drop(table.verify());
        }
    }
}

#[test]
fn numbers_alone_take_eight_bytes() {
    let numbers: Vec<PointId> = (0..1000).map(PointId::from).collect();
    let lengths = |ids: &[PointId]| {
        let sections = sections(ids, 1);
        [KEYS, TAGS, TEXT, SLOTS].map(|name| sections.get(name).map(Vec::len))
    };
    assert_eq!(lengths(&numbers), [Some(8_000), None, None, Some(5_336)]);
    let mut mixed = numbers;
    mixed.push(PointId::from("ü"));
    assert_eq!(lengths(&mixed), [Some(16_016), Some(1_001), Some(2), Some(5_340)]);
}

#[test]
fn verify_finds_what_opening_leaves() {
    let ids = [PointId::from(1), PointId::from("one"), PointId::from("two")];
    let check = |section: &str, place: usize, value: u8, expected: &str| {
        let mut sections = sections(&ids, 1);
        sections.get_mut(section).unwrap()[place] = value;
        let message = open(&sections).unwrap().verify().unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains("segment: damaged"), "{message}");
    };
    check(TAGS, 1, 3, "row 1 has the tag 3");
    check(KEYS, 2 * 16 + 8, 9, "9 bytes from 3 on, is no text");
    check(TEXT, 0, 0xff, "the id of row 1");
    check(TEXT, 0, b'O', "no slot leads to row 1, the id One");
    let twice = [PointId::from(5), PointId::from(6), PointId::from(5)];
    let message = open(&sections(&twice, 1)).unwrap().verify().unwrap_err().to_string();
    assert!(message.contains("rows 0 and 2 both have the id 5"), "{message}");
}

/// The hash is part of the format.
#[test]
fn hashes_stay() {
    let ids = [PointId::from(1), PointId::from(Uuid::from_u128(1)), PointId::from("1")];
    let found = ids.map(|id| hash(&id, 42));
    assert_eq!(found, [13807507226512690490, 14689542164272765754, 14508492122780714233]);
}
