//! Databases that format version 1 wrote, kept in `tests/golden/v1`: they open, hold every value, and are searched and written
//! on. Newer versions are refused, and a damaged byte is an error that names file, section and both checksums.
//!
//! `VDB_GOLDEN=write cargo test -p vdb-engine --test engine golden::written` writes them anew: for a format version that is not released
//! yet only. The operations below are all that a database knows, so it says what must be in the files.

use crate::oracle::{Model, Searched};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use vdb_distance::{ElementType, Metric};
use vdb_engine::{
    Collection, CollectionConfig, Database, Durability, Effort, Error, FieldIndex, Operation, Options,
    Payload, Point, PointId, Search, Settings, VectorConfig,
};
use vdb_index::{CodeKind, CodedParams, HnswParams, IvfParams, LshParams};
use vdb_storage::{ContainerReader, FileKind};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

enum Step {
    Write(Vec<Operation<'static>>),
    Add(&'static str, VectorConfig),
    Drop(&'static str),
    Seal,
    Optimize,
}

fn hnsw() -> FieldIndex {
    FieldIndex::Hnsw(HnswParams { m: Some(4), ef_construction: 20, exact_scan_factor: 0, seed: 5 })
}

fn id(number: u64) -> PointId {
    match number % 4 {
        0 | 1 => PointId::from(number),
        2 => PointId::Uuid(uuid::Uuid::from_u128(u128::from(number) * 0x1_0000_0001_0000_0001)),
        _ => PointId::from(format!("ключ {number}")),
    }
}

/// Values between -2 and 2 in steps of an eighth.
fn values(number: u64, dim: u64, salt: u64) -> Vec<f32> {
    (0..dim).map(|place| ((number * 37 + place * 101 + salt * 53) % 33) as f32 / 8.0 - 2.0).collect()
}

fn point(number: u64, names: &[&str]) -> Point {
    let vector = |name: &str| match name {
        "" => values(number, 4, 0).into_iter().map(|value| value + 0.1).collect(),
        "bytes" => (0..3).map(|place| ((number * 7 + place * 11) % 256) as f32).collect(),
        "half" => values(number, 5, 2),
        "dot" => values(number, 2, 3),
        _ => values(number, 3, 4),
    };
    let mut vectors: BTreeMap<_, _> = names.iter().map(|name| ((*name).to_owned(), vector(name))).collect();
    if number % 6 == 5 {
        vectors.remove("");
    }
    let mut payload = Payload::new();
    if !number.is_multiple_of(3) {
        payload.insert("number".to_owned(), json!(number));
        payload.insert(
            "any".to_owned(),
            json!([0.1, -1e-300, u64::MAX, null, true, {"ß": "\u{0}\n\u{10ffff}"}]),
        );
    }
    Point {
        id: id(number),
        vectors,
        payload,
        expires_at: (number % 10 == 7).then_some(4_000_000_000_000 + number),
    }
}

fn upserts(numbers: std::ops::Range<u64>, names: &[&str]) -> Step {
    Step::Write(numbers.map(|number| Operation::upsert(point(number, names))).collect())
}

/// The indexes that are no graphs, by the names of their fields.
fn kinds() -> [(&'static str, FieldIndex); 6] {
    let coded = |kind| FieldIndex::Coded(CodedParams::new(kind));
    let tables = LshParams { num_tables: Some(2), ..LshParams::default() };
    [
        ("sq8", coded(CodeKind::Sq8)),
        ("pq4", coded(CodeKind::Pq4)),
        ("rabitq", coded(CodeKind::Rabitq(3))),
        ("binary", coded(CodeKind::Binary)),
        ("ivf", FieldIndex::Ivf(IvfParams { lists: Some(8), ..IvfParams::default() })),
        ("lsh", FieldIndex::Lsh(tables)),
    ]
}

/// The first ones have a vector of each kind, the others only of those that are worth nothing for a few rows.
fn point_of_kinds(number: u64) -> Point {
    let value = |place: u64| ((number * 7_919 + place * 104_729) % 2_003) as f32 / 8.0;
    let kinds = kinds().into_iter().filter(|(name, _)| number < 40 || ["ivf", "lsh"].contains(name));
    let vectors = kinds.map(|(name, _)| (name.to_owned(), (0..2).map(value).collect()));
    Point { id: PointId::from(number), vectors: vectors.collect(), payload: Payload::new(), expires_at: None }
}

/// The collections: their fields at first, and all that was done.
fn collections() -> Vec<(&'static str, CollectionConfig, Vec<Step>)> {
    let plain = VectorConfig::new(4, Metric::Euclidean).with_index(hnsw());
    let bytes =
        VectorConfig::new(3, Metric::Manhattan).with_index(FieldIndex::Flat).with_element(ElementType::U8);
    let half = VectorConfig::new(5, Metric::Cosine).with_index(hnsw()).with_element(ElementType::F16);
    let dot =
        VectorConfig::new(2, Metric::DotProduct).with_index(FieldIndex::Flat).with_element(ElementType::Bf16);
    let gone = VectorConfig::new(3, Metric::Euclidean);
    let points = CollectionConfig { vectors: [(String::new(), plain), ("bytes".to_owned(), bytes)].into() };
    let moved =
        |number: u64| Operation::upsert(Point { id: id(number), ..point(number + 200, &["", "bytes"]) });
    let steps = vec![
        upserts(0..40, &["", "bytes"]),
        Step::Seal,
        Step::Add("half", half),
        Step::Add("gone", gone),
        upserts(40..70, &["", "half", "gone"]),
        Step::Drop("gone"),
        Step::Seal,
        Step::Optimize,
        Step::Write((0..10).map(|i| Operation::Delete(id(3 * i))).chain([moved(61), moved(62)]).collect()),
        upserts(70..80, &["half"]),
        Step::Seal,
        Step::Add("dot", dot),
        upserts(80..85, &["", "bytes", "half", "dot"]),
        Step::Write(vec![
            Operation::Delete(id(41)),
            Operation::SetPayload(id(42), Payload::from_iter([("set".to_owned(), json!(1.5))])),
            Operation::Expire(id(43), Some(4_100_000_000_000)),
            Operation::DeleteVectors(id(44), vec!["half".to_owned()]),
            Operation::Delete(id(84)),
        ]),
    ];
    let numbers =
        (0..20).map(|number| Operation::upsert(Point::new(number * 3, values(number, 2, 9)))).collect();
    let small = VectorConfig::new(2, Metric::Cosine).with_index(FieldIndex::Flat);
    let fields = kinds()
        .map(|(name, index)| (name.to_owned(), VectorConfig::new(2, Metric::Euclidean).with_index(index)));
    let of_kinds = vec![
        Step::Write((0..2_060).map(|number| Operation::upsert(point_of_kinds(number))).collect()),
        Step::Seal,
        Step::Write((0..6).map(|number| Operation::Delete(PointId::from(number * 11))).collect()),
        Step::Seal,
    ];
    vec![
        ("points", points, steps),
        ("numbers", small.into(), vec![Step::Write(numbers), Step::Seal]),
        ("empty ∅", CollectionConfig { vectors: BTreeMap::new() }, vec![]),
        ("kinds", CollectionConfig { vectors: fields.into() }, of_kinds),
    ]
}

fn options() -> Options {
    let mut settings = Settings::default();
    settings.least_graph_rows = 16;
    Options::new().settings(settings).background(false).seed(1).clock(|| 0)
}

fn model(config: &CollectionConfig, steps: &[Step]) -> Model {
    let mut model = Model::default();
    config.vectors.iter().for_each(|(name, config)| model.add_vector(name, *config));
    for step in steps {
        match step {
            Step::Write(operations) => drop(model.write(operations).unwrap()),
            Step::Add(name, config) => model.add_vector(name, *config),
            Step::Drop(name) => model.drop_vector(name),
            Step::Seal | Step::Optimize => {}
        }
    }
    model
}

/// Writes the files anew when it is asked for.
#[test]
fn written() {
    if std::env::var("VDB_GOLDEN").is_ok_and(|value| value == "write") {
        let folder = golden();
        if folder.exists() {
            fs::remove_dir_all(&folder).unwrap();
        }
        fs::create_dir_all(&folder).unwrap();
        let database = options().open(&folder).unwrap();
        for (name, config, steps) in collections() {
            let collection = database.create_collection(name, &config).unwrap();
            for step in steps {
                match step {
                    Step::Write(operations) => drop(collection.write(operations, Durability::Sync).unwrap()),
                    Step::Add(name, config) => collection.add_vector(name, config).unwrap(),
                    Step::Drop(name) => collection.drop_vector(name).unwrap(),
                    Step::Seal => assert!(collection.seal().unwrap()),
                    Step::Optimize => collection.optimize().unwrap(),
                }
            }
        }
        // Not closed: the log is to hold records.
    }
    let files = files(&golden());
    let has = |part: &str| files.iter().any(|file| file.to_str().unwrap().contains(part));
    for part in ["seg-", "dead-", "wal-", "manifest-"] {
        assert!(has(part), "no {part} among {files:?}");
    }
    let bytes: u64 = files.iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert!(bytes < 600_000, "{bytes} bytes");
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// A copy of the database to work on.
fn copy() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files(&golden()) {
        let to = folder.path().join(file.strip_prefix(golden()).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(&file, &to).unwrap();
    }
    folder
}

fn search_everything(collection: &Collection, model: &Model) {
    let view = collection.view();
    for (name, field) in &model.fields {
        for number in [1, 20, 64, 300] {
            let query = values(number, field.config.dim as u64, number);
            for (effort, is_exact) in
                [(Effort::Exact, true), (Effort::Default, false), (Effort::EfSearch(30), false)]
            {
                for k in [1, 7, 1_000] {
                    let search =
                        Search::new(&query, k).field(name).effort(effort).with_payload().with_vectors();
                    let of = Searched {
                        field: name,
                        query: &query,
                        k,
                        test: None,
                        is_exact,
                        with_payload: true,
                        with_vectors: true,
                    };
                    let recall = model.check_answer(&view.search(&search).unwrap(), &of);
                    assert!(recall > 0.5, "recall {recall} of {k} by {name:?}, {effort:?}");
                }
            }
        }
    }
}

#[test]
fn every_value_is_there_and_found_and_it_is_written_on() {
    let folder = copy();
    let database = options().open(folder.path()).unwrap();
    let mut models: Vec<(&str, Model)> = Vec::new();
    for (name, config, steps) in collections() {
        let collection = database.collection(name).unwrap();
        let mut model = model(&config, &steps);
        model.check(&collection.view());
        collection.verify().unwrap();
        search_everything(&collection, &model);
        let more = vec![
            Operation::upsert(Point { vectors: [].into(), ..point(500, &[]) }),
            Operation::Delete(id(50)),
        ];
        model.write(&more).unwrap();
        collection.write(more, Durability::Sync).unwrap();
        collection.optimize().unwrap();
        model.check(&collection.view());
        search_everything(&collection, &model);
        models.push((name, model));
    }
    let info = database.collection("points").unwrap().info();
    assert_eq!((info.segments, info.indexed_segments), (1, 1), "{info:?}");
    drop(database);
    let database = Database::open_read_only(folder.path()).unwrap();
    for (name, model) in models {
        model.check(&database.collection(name).unwrap().view());
    }
}

/// What a file is.
fn kind(path: &Path) -> Option<FileKind> {
    let name = path.file_name().unwrap().to_str().unwrap();
    let is_later = |other: &PathBuf| {
        other.parent() == path.parent()
            && other.as_path() > path
            && other.to_str().unwrap().contains("manifest-")
    };
    if name.starts_with("manifest-") && files(path.parent().unwrap()).iter().any(is_later) {
        // One of before; nobody reads it.
        return None;
    }
    let is_of_collection =
        path.parent().unwrap().file_name().unwrap().to_str().unwrap().starts_with("collection-");
    match name {
        name if name.starts_with("blob-seg-") => Some(FileKind::new(*b"SEGM")),
        name if name.starts_with("blob-dead-") => Some(FileKind::new(*b"DEAD")),
        name if name.starts_with("manifest-") && is_of_collection => Some(FileKind::new(*b"COLL")),
        name if name.starts_with("manifest-") => Some(FileKind::new(*b"CATA")),
        _ => None,
    }
}

/// Opens a database with one file that is not as it was and says what is wrong with it. Nothing may panic, and the other
/// collections can be used.
fn what_is_wrong(folder: &Path, damaged: &Path) -> Option<String> {
    let database = match options().open(folder) {
        Ok(database) => database,
        Err(error) => return Some(error.to_string()),
    };
    let mut wrong = None;
    let damaged = damaged.parent().unwrap().file_name().unwrap().to_str().unwrap();
    for (place, (name, ..)) in collections().into_iter().enumerate() {
        let is_damaged = damaged == format!("collection-{:08}", place + 1);
        match database.collection(name) {
            Ok(collection) => {
                let view = collection.view();
                view.points().for_each(drop);
                for (name, config) in view.vectors() {
                    let query = values(3, config.dim as u64, 0);
                    for effort in [Effort::Exact, Effort::EfSearch(20)] {
                        drop(view.search(&Search::new(&query, 10).field(name).effort(effort).with_payload()));
                    }
                }
                if let Err(error) = collection.verify() {
                    assert!(is_damaged, "{name}: {error}");
                    wrong = Some(error.to_string());
                } else if !is_damaged {
                    collection.upsert(vec![Point { vectors: [].into(), ..point(1, &[]) }]).unwrap();
                }
            }
            Err(Error::Quarantined { collection, reason }) => {
                assert!(is_damaged && collection == name, "{collection}: {reason}");
                assert_eq!(database.trouble(name).as_deref(), Some(&*reason));
                wrong = Some(reason);
            }
            Err(error) => panic!("{error}"),
        }
    }
    wrong
}

#[test]
fn a_damaged_byte_names_file_section_and_both_checksums() {
    let mut damaged = 0;
    for file in files(&golden()) {
        let Some(kind) = kind(&file) else { continue };
        let bytes = fs::read(&file).unwrap();
        let container = ContainerReader::from_bytes(&file, bytes.clone(), kind).unwrap();
        let sections: Vec<(String, usize)> =
            container.sections().map(|(name, length)| (name.to_owned(), length as usize)).collect();
        let mut places = vec![(4, None), (20, None), (bytes.len() - 30, None), (bytes.len() - 3, None)];
        let mut offset = 64;
        for (name, length) in sections {
            if length > 0 {
                places.push((offset + length / 2, Some(name)));
            }
            offset = (offset + length).next_multiple_of(64);
        }
        for (place, section) in places {
            let folder = copy();
            let path = folder.path().join(file.strip_prefix(golden()).unwrap());
            let mut changed = bytes.clone();
            changed[place] ^= 4;
            fs::write(&path, changed).unwrap();
            let message = what_is_wrong(folder.path(), &path);
            let message =
                message.unwrap_or_else(|| panic!("{}: byte {place} of {section:?}", path.display()));
            assert!(message.contains(path.to_str().unwrap()), "{}: {message}", path.display());
            if let Some(section) = section {
                assert!(message.contains(&section), "section {section}: {message}");
                // The name of a temporary folder may have these letters, too.
                let rest = message.replace(path.to_str().unwrap(), "");
                assert_eq!(rest.matches("0x").count(), 2, "section {section}: {message}");
            }
            damaged += 1;
        }
    }
    println!("{damaged} damaged bytes");
    assert!(damaged > 60, "{damaged}");
}

#[test]
fn a_damaged_record_of_the_log_puts_its_collection_aside() {
    let mut found = 0;
    for file in files(&golden()).into_iter().filter(|file| file.to_str().unwrap().contains("wal-")) {
        let bytes = fs::read(&file).unwrap();
        if bytes.len() < 300 {
            continue;
        }
        // In the header, and in the first of several records.
        for place in [10, 45, 70, 120] {
            let folder = copy();
            let path = folder.path().join(file.strip_prefix(golden()).unwrap());
            let mut changed = bytes.clone();
            changed[place] ^= 4;
            fs::write(&path, changed).unwrap();
            let message = what_is_wrong(folder.path(), &path).unwrap_or_else(|| panic!("byte {place}"));
            assert!(message.contains(path.file_name().unwrap().to_str().unwrap()), "{message}");
            found += 1;
        }
    }
    assert!(found >= 4, "{found}");
}

#[test]
fn newer_versions_are_refused() {
    let mut refused = 0;
    for file in files(&golden()) {
        let is_log = file.to_str().unwrap().contains("wal-");
        if kind(&file).is_none() && !is_log {
            continue;
        }
        let folder = copy();
        let path = folder.path().join(file.strip_prefix(golden()).unwrap());
        let mut bytes = fs::read(&file).unwrap();
        bytes[8] = 2;
        let checksum = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&checksum.to_le_bytes());
        fs::write(&path, bytes).unwrap();
        let message =
            what_is_wrong(folder.path(), &path).unwrap_or_else(|| panic!("{} was read", path.display()));
        let expected = "format version 2 is not supported: this program reads versions 1 to 1";
        assert!(message.contains(expected), "{message}");
        refused += 1;
    }
    assert!(refused >= 8, "{refused}");
}
