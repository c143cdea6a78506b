//! Archives: as raw bytes, and as a container of sections with any bytes, so that what is behind the checksums is tested.

use crate::fields::{Reader, Writer};
use std::io::{Cursor, Write};
use std::path::Path;
use vdb_storage::archive::{Archive, Contents, KIND, records_before, write_archive};
use vdb_storage::{Backend, ContainerReader, ContainerWriter, Durability, Memory, SeqNo};

/// As many blobs as an input made of sections has at most.
const MOST_BLOBS: usize = 16;

fn path() -> &'static Path {
    Path::new("archive")
}

/// What is restored makes the same archive again, byte for byte, and can be written on; what is refused leaves nothing.
fn exercise(data: &[u8]) {
    let store = Memory::new();
    let archive = Archive::new(Cursor::new(data), path());
    let is_whole = archive.and_then(|mut archive| archive.verify()).is_ok();
    let archive = Archive::new(Cursor::new(data), path());
    let restored = archive.and_then(|mut archive| {
        let from = archive.records()?.from();
        archive.restore(&store)?;
        Ok((from, archive.names().to_vec()))
    });
    assert_eq!(restored.is_ok(), is_whole, "{restored:?}");
    let Ok((log_from, names)) = restored else {
        assert!(store.manifests().numbers().expect("readable").is_empty());
        assert!(store.blobs().names().expect("readable").is_empty());
        assert_eq!(store.read_log(SeqNo::FIRST).read().expect("readable"), None);
        return;
    };
    let (_, manifest) = store.manifests().current().expect("readable").expect("a manifest");
    let contents = Contents { manifest: &manifest, blobs: store.blobs(), names: &names, log_from };
    let records = records_before(store.read_log(log_from), SeqNo(u64::MAX));
    let again = write_archive(Vec::new(), path(), &contents, records).expect("what was read can be written");
    assert!(again == data, "the same store, another archive");
    let log = store.open_log(log_from).expect("a log");
    let seq = log.append(b"more").expect("appended");
    log.commit(seq, Durability::Synced).expect("committed");
    assert!(seq >= log_from);
}

pub(crate) fn run(data: &[u8]) {
    exercise(data);
    // Names, manifest and log, then blobs; and whatever is left is one more section.
    let mut reader = Reader(data);
    let mut file = ContainerWriter::new(Vec::new(), KIND).expect("written to memory");
    let [names, manifest, log] = [reader.bytes(), reader.bytes(), reader.bytes()];
    let mut add = |name: &str, bytes: &[u8]| file.add_section(name, bytes).expect("written to memory");
    add("names", names);
    add("manifest", manifest);
    for place in 0..MOST_BLOBS {
        if reader.0.len() < 4 {
            break;
        }
        add(&format!("blob.{place}"), reader.bytes());
    }
    add("log", log);
    if !reader.0.is_empty() {
        add("more", reader.0);
    }
    exercise(&file.finish().expect("written to memory"));
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (count, records) in [(0u8, &[][..]), (1, &[3]), (3, &[5, 6, 9, 20])] {
        let store = Memory::new();
        let names: Vec<String> = (0..count).map(|i| format!("segment-{i}.x_")).collect();
        for (name, length) in names.iter().zip([5, 0, 300]) {
            let mut blob = store.blobs().create(name).expect("a valid name");
            blob.write_all(&vec![7; length]).expect("written to memory");
            blob.finish().expect("finished");
        }
        let records = records.iter().map(|&seq| Ok((SeqNo(seq), vec![seq as u8; seq as usize])));
        let contents =
            Contents { manifest: b"a manifest", blobs: store.blobs(), names: &names, log_from: SeqNo(2) };
        let bytes = write_archive(Vec::new(), path(), &contents, records).expect("written to memory");
        let mut file = ContainerReader::from_bytes(path(), bytes.clone(), KIND).expect("as it was written");
        let blobs = (0..count).map(|place| format!("blob.{place}"));
        let sections = ["names", "manifest", "log"].map(str::to_owned).into_iter().chain(blobs);
        let sections = sections.map(|section| file.section(&section).expect("as it was written"));
        seeds.push(sections.fold(Writer::default(), |writer, bytes| writer.bytes(&bytes)).0);
        seeds.push(bytes);
    }
    seeds
}
