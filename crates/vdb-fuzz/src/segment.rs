//! Sections of a segment, each with any bytes.

use crate::fields::{Reader, Writer};
use std::path::Path;
use vdb_engine::{IdTable, PointId, write_ids};
use vdb_storage::container::{ContainerReader, ContainerWriter, FileKind};
use vdb_storage::{Region, StorageError};

const KIND: FileKind = FileKind::new(*b"fuzz");
const SECTIONS: [&str; 5] = ["ids.config", "ids.keys", "ids.tags", "ids.text", "ids.slots"];

fn path() -> &'static Path {
    Path::new("segment")
}

/// A table of ids that opens gives an answer or an error to any question; one that passes its own check gives right ones.
pub(crate) fn ids(data: &[u8]) {
    let mut reader = Reader(data);
    let sections: Vec<Region> = SECTIONS.iter().map(|_| Region::from(reader.bytes())).collect();
    let table = IdTable::open(path(), |name| {
        let missing = || StorageError::MissingSection { path: path().to_owned(), section: name.to_owned() };
        SECTIONS.iter().position(|section| *section == name).map(|i| sections[i].clone()).ok_or_else(missing)
    });
    let Ok(table) = table else { return };
    let is_right = table.verify().is_ok();
    for row in (0..table.len() as u32).take(1_000) {
        match table.id(row) {
            Ok(id) => assert!(!is_right || table.find(&id).expect("it was verified") == Some(row)),
            Err(_) => assert!(!is_right, "row {row}"),
        }
    }
    for id in [PointId::from(7), PointId::from("seven"), PointId::from("")] {
        drop(table.find(&id));
    }
}

pub(crate) fn ids_seeds() -> Vec<Vec<u8>> {
    let numbers: Vec<PointId> = (0..20).map(PointId::from).collect();
    let mut mixed = numbers.clone();
    mixed.extend(["a", "", "longer text", "7"].map(PointId::from));
    [numbers, mixed, Vec::new()].map(|ids| seed(&ids)).to_vec()
}

fn seed(ids: &[PointId]) -> Vec<u8> {
    let mut file = ContainerWriter::new(Vec::new(), KIND).expect("written to memory");
    write_ids(ids, 1, &mut file, path()).expect("few ids");
    let bytes = file.finish().expect("written to memory");
    let mut file = ContainerReader::from_bytes(path(), bytes, KIND).expect("as it was written");
    let section = |name: &&str| file.section(name).unwrap_or_default();
    SECTIONS.iter().map(section).fold(Writer::default(), |writer, bytes| writer.bytes(&bytes)).0
}
