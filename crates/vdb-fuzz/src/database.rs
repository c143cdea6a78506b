//! Database files: as raw bytes, as sections whose checksums are right whatever they hold, and as JSON.

use crate::fields::{Reader, Writer};
use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use vdb_storage::container::{ContainerReader, ContainerWriter, FileKind};
use vector_db_rs::{
    DistanceMetric, IndexType, Quantizer, SearchOptions, VectorDB, VectorDBConfig, VectorRecord,
    generate_random_vectors_seeded,
};

const KIND: FileKind = FileKind::new(*b"DB  ");
const DIM: usize = 3;

/// A folder of one run.
fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("db.vdb");
    (folder, path)
}

/// Uses a database as its owner would: search, change, search, save, load.
fn exercise(mut db: VectorDB, path: &Path) {
    let dimension = db.dimension();
    let query: Vec<f32> = (0..dimension).map(|i| i as f32 / 7.0 - 1.0).collect();
    let options = SearchOptions::new().ef_search(20).candidates(20).oversampling(2);
    let check = |db: &VectorDB| {
        let found = db.search_with(&query, 5, &options).map(|answer| answer.results.len());
        assert!(found.is_ok_and(|found| found <= 5.min(db.size())));
    };
    check(&db);
    for i in 0..3 {
        let vector = query.iter().map(|value| value + i as f32).collect();
        let record = VectorRecord { id: format!("new {i}"), vector, metadata: Default::default() };
        // Parameters that a file brought may be refused, with an error.
        if db.insert(record).is_err() {
            return;
        }
    }
    let ids: Vec<String> = db.ids().take(2).map(Cow::into_owned).collect();
    assert!(ids.iter().all(|id| db.delete(id)));
    check(&db);
    db.save_binary(path).expect("what was loaded can be saved");
    let again = VectorDB::load_binary(path).expect("what was saved can be loaded");
    assert!(again.iter().eq(db.iter()));
}

pub(crate) fn file(data: &[u8]) {
    let (_folder, path) = folder();
    if let Ok(mut container) = ContainerReader::from_bytes(&path, data.to_vec(), KIND) {
        drop(container.verify());
    }
    fs::write(&path, data).expect("a temporary file");
    if let Ok(db) = VectorDB::load_binary(&path) {
        exercise(db, &path);
    }
}

pub(crate) fn sections(data: &[u8]) {
    let mut reader = Reader(data);
    let mut bytes = Vec::new();
    let mut writer = ContainerWriter::new(&mut bytes, KIND).expect("memory can be written");
    while !reader.0.is_empty() {
        let name = String::from_utf8_lossy(reader.bytes()).into_owned();
        // A name that is none or taken is refused; then the file lacks the section.
        let named = (1..=16).contains(&name.len()) && name.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
        let section = reader.bytes();
        if !named || writer.add_section(&name, section).is_err() {
            return;
        }
    }
    writer.finish().expect("memory can be written");
    file(&bytes);
}

pub(crate) fn json(data: &[u8]) {
    let (_folder, path) = folder();
    fs::write(&path, data).expect("a temporary file");
    let config =
        |index_type| VectorDBConfig { dimension: 2, distance_metric: DistanceMetric::Cosine, index_type };
    for index_type in [IndexType::Flat, IndexType::LSH, IndexType::HNSW] {
        if let Ok(db) = VectorDB::load_from_file(&path, config(index_type)) {
            exercise(db, &path.with_extension("again"));
        }
    }
}

pub(crate) fn file_seeds() -> Vec<Vec<u8>> {
    let (_folder, path) = folder();
    let builder = |index_type| {
        VectorDB::builder().dimension(DIM).index(index_type).exact_scan_factor(0).m(4).num_tables(3)
    };
    let plain =
        [IndexType::Flat, IndexType::LSH, IndexType::HNSW].map(|index_type| (builder(index_type), 40));
    let few = builder(IndexType::Flat).quantizer(Quantizer::Sq8);
    let kinds = [Quantizer::Sq8, Quantizer::Pq4, Quantizer::Rabitq(3), Quantizer::Binary, Quantizer::F16];
    let coded = kinds.map(|kind| (builder(IndexType::Flat).quantizer(kind), 1_030));
    let all = plain.into_iter().chain([(few, 40)]).chain(coded);
    all.map(|(builder, rows)| {
        let mut db = builder.build().expect("valid parameters");
        let mut records = generate_random_vectors_seeded(rows, DIM, 1);
        records[3].metadata.insert("key".to_owned(), "value".to_owned());
        db.batch_insert(records).expect("finite vectors");
        db.delete("vec_2");
        db.delete("vec_9");
        db.save_binary(&path).expect("a temporary file");
        fs::read(&path).expect("a file that was written")
    })
    .collect()
}

pub(crate) fn section_seeds() -> Vec<Vec<u8>> {
    let sections = |bytes: Vec<u8>| {
        let mut container =
            ContainerReader::from_bytes(Path::new("seed"), bytes, KIND).expect("a valid file");
        let names: Vec<String> = container.sections().map(|(name, _)| name.to_owned()).collect();
        let fields = names.iter().fold(Writer::default(), |fields, name| {
            let section = container.section(name).expect("a section that is listed");
            fields.bytes(name.as_bytes()).bytes(&section)
        });
        fields.0
    };
    file_seeds().into_iter().map(sections).collect()
}

pub(crate) fn json_seeds() -> Vec<Vec<u8>> {
    let texts = [
        r#"[{"id": "a", "vector": [1.0, -2.5e-3], "metadata": {"k": "v"}}, {"id": "b", "vector": [0, 7]}]"#,
        r#"[{"id": "\u00e4\n", "vector": [1e38, -1e-40], "metadata": {}}]"#,
        r#"[{"id": "shortest", "vector": [0e38, -8e-40], "metadata": {}}]"#,
        "[]",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}
