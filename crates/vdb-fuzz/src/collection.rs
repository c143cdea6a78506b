//! A database of collections, with any bytes in one of its files: sections of a segment, of the rows that are left of it, of the
//! manifest and the catalogue, each with checksums that hold, so that what is behind them is tested; and a record of the log.

use crate::fields::{Reader, Writer};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use vdb_distance::Metric;
use vdb_engine::{
    CollectionConfig, Database, Effort, FieldIndex, Operation, Options, Point, PointId, Search, Settings,
    VectorConfig,
};
use vdb_index::{CodeKind, CodedParams, HnswParams, IvfParams, LshParams};
use vdb_storage::files::FileSystem;
use vdb_storage::{Backend, ContainerReader, ContainerWriter, Durability, FileKind, LocalDir, SeqNo};
use vdb_testkit::{Loss, SimFiles};

const COLLECTION: &str = "db/collection-00000001";

/// A record that decodes comes out again as it went in.
pub(crate) fn record(data: &[u8]) {
    assert_ne!(vdb_engine::record_survives_a_round_trip(data), Some(false));
}

pub(crate) fn record_seeds() -> Vec<Vec<u8>> {
    let files = base();
    let store = LocalDir::new(Arc::new(files.clone()), COLLECTION, 1);
    let mut log = store.read_log(SeqNo(store_log_from(&store)));
    let mut records = Vec::new();
    while let Ok(Some((_, record))) = log.read() {
        records.push(record.to_vec());
    }
    records
}

/// The first record that is in the log.
fn store_log_from(store: &LocalDir) -> u64 {
    // The state begins with the number of the next blob and that of the record.
    let (number, content) = store.manifests().current().expect("readable").expect("a manifest");
    let file = ContainerReader::from_region(Path::new("m"), content, FileKind::new(*b"COLL"));
    let state = file.and_then(|file| file.verified_in_place("state")).expect("as it was written");
    assert!(number > 0);
    u64::from_le_bytes(state[8..16].try_into().expect("eight bytes"))
}

fn options(files: &SimFiles) -> Options {
    let mut settings = Settings::default();
    (settings.seal_points, settings.least_graph_rows, settings.most_segments) = (1_000, 8, 1);
    let files: Arc<dyn FileSystem> = Arc::new(files.clone());
    Options::new().files(files).settings(settings).background(false).seed(3).memory_budget(64 << 20)
}

fn vector(number: u64, dim: u64) -> Vec<f32> {
    (0..dim).map(|place| ((number * 31 + place * 17) % 23) as f32 / 4.0 - 1.0).collect()
}

fn point(number: u64) -> Point {
    let id = match number % 3 {
        0 => PointId::from(number),
        1 => PointId::from(format!("text {number}")),
        _ => PointId::Uuid(uuid::Uuid::from_u128(u128::from(number) << 64)),
    };
    let mut point = Point::new(id, vector(number, 3));
    if number.is_multiple_of(4) {
        point.vectors.insert("b".to_owned(), vector(number, 2));
        point.payload.insert("n".to_owned(), number.into());
    }
    for name in CODED {
        point.vectors.insert(name.to_owned(), vector(number + 7, 4));
    }
    point.expires_at = number.is_multiple_of(5).then_some(u64::MAX - number);
    point
}

/// Fields with indexes that are no graphs.
const CODED: [&str; 3] = ["codes", "lists", "tables"];

/// A segment with a graph and the other indexes, one without, rows that are gone, records in the log.
fn base() -> &'static SimFiles {
    static BASE: OnceLock<SimFiles> = OnceLock::new();
    BASE.get_or_init(|| {
        let files = SimFiles::new();
        let database = options(&files).open("db").expect("a database");
        let hnsw = HnswParams { m: Some(3), ef_construction: 10, exact_scan_factor: 0, seed: 1 };
        let plain = VectorConfig::new(3, Metric::Cosine).with_index(FieldIndex::Hnsw(hnsw));
        let second = VectorConfig::new(2, Metric::DotProduct).with_index(FieldIndex::Flat);
        let lists = IvfParams { lists: Some(3), ..IvfParams::default() };
        let tables = LshParams { num_tables: Some(2), ..LshParams::default() };
        let indexes = [
            FieldIndex::Coded(CodedParams::new(CodeKind::Rabitq(3))),
            FieldIndex::Ivf(lists),
            FieldIndex::Lsh(tables),
        ];
        let of_four = VectorConfig::new(4, Metric::Euclidean);
        let coded = CODED.into_iter().zip(indexes);
        let coded = coded.map(|(name, index)| (name.to_owned(), of_four.with_index(index)));
        let vectors = [(String::new(), plain), ("b".to_owned(), second)].into_iter().chain(coded).collect();
        let collection =
            database.create_collection("a", &CollectionConfig { vectors }).expect("a collection");
        collection.upsert((0..24).map(point).collect()).expect("points");
        collection.optimize().expect("a graph");
        collection.upsert((24..30).map(point).collect()).expect("points");
        collection.delete(&[point(1).id, point(2).id]).expect("deletes");
        collection.seal().expect("a segment");
        collection.upsert(vec![point(40), point(3)]).expect("a record");
        collection.delete(&[point(25).id]).expect("a record");
        drop((collection, database));
        files.after(files.changes(), Loss::Nothing)
    })
}

/// The files whose sections are replaced, and what they are.
fn targets() -> Vec<(PathBuf, FileKind)> {
    let mut found = Vec::new();
    for folder in ["db", COLLECTION] {
        let mut names = base().list(Path::new(folder)).expect("a folder");
        names.sort();
        let newest = names.iter().filter(|name| name.starts_with("manifest-")).max().cloned();
        for name in &names {
            let kind = match name {
                name if name.starts_with("blob-seg-") => *b"SEGM",
                name if name.starts_with("blob-dead-") => *b"DEAD",
                name if Some(name) == newest.as_ref() && folder == "db" => *b"CATA",
                name if Some(name) == newest.as_ref() => *b"COLL",
                _ => continue,
            };
            found.push((Path::new(folder).join(name), FileKind::new(kind)));
        }
    }
    found
}

fn sections(path: &Path, kind: FileKind) -> Vec<(String, Vec<u8>)> {
    let bytes = base().open(path).and_then(|file| file.map()).expect("a file").to_vec();
    let mut file = ContainerReader::from_bytes(path, bytes, kind).expect("as it was written");
    let names: Vec<String> = file.sections().map(|section| section.0.to_owned()).collect();
    names.into_iter().map(|name| (name.clone(), file.section(&name).expect("as it was written"))).collect()
}

/// Opens, reads, searches, writes and merges: errors are fine, a panic is not.
fn exercise(files: &SimFiles) {
    let look = |database: &Database| {
        for name in database.names() {
            let Ok(collection) = database.collection(&name) else { continue };
            let view = collection.view();
            let is_right = collection.verify().is_ok();
            for number in [0, 1, 2, 3, 25, 40, 77] {
                let id = point(number).id;
                if let (Ok(found), true) = (view.get(&id), is_right) {
                    assert!(found.is_none_or(|found| found.point.id == id), "another point than asked for");
                }
            }
            view.points().take(100).for_each(drop);
            let fields: Vec<(String, usize)> =
                view.vectors().map(|(name, config)| (name.to_owned(), config.dim)).collect();
            for (name, dim) in fields.iter().filter(|field| field.1 <= 1_000) {
                for effort in [Effort::Exact, Effort::Default, Effort::EfSearch(5), Effort::Candidates(2)] {
                    let query = vector(7, *dim as u64);
                    let search =
                        Search::new(&query, 4).field(name).effort(effort).with_payload().with_vectors();
                    drop(view.search(&search));
                    drop(view.search(&search.filter(&|_, payload| !payload.is_empty())));
                }
            }
        }
    };
    if let Ok(database) = options(files).open_read_only("db") {
        look(&database);
        let _ = database.refresh();
    }
    let Ok(database) = options(files).open("db") else { return };
    look(&database);
    for name in database.names() {
        let Ok(collection) = database.collection(&name) else { continue };
        let more =
            vec![Operation::upsert(Point { vectors: [].into(), ..point(3) }), Operation::Delete(point(6).id)];
        let _ = collection.write(more, vdb_engine::Durability::Sync);
        let _ = collection.expire(5);
        let _ = collection.merge_due();
        let _ = collection.optimize();
        let _ = collection.drop_vector("b");
        let _ = collection.erase(&[point(9).id]);
    }
    look(&database);
}

/// Whether a file says what a database or a collection is made of.
fn is_manifest(target: &(PathBuf, FileKind)) -> bool {
    [FileKind::new(*b"CATA"), FileKind::new(*b"COLL")].contains(&target.1)
}

/// Any file of the database, or its log.
pub(crate) fn segment(data: &[u8]) {
    let targets = targets();
    let mut reader = Reader(data);
    let which = usize::from(reader.u8()) % (targets.len() + 1);
    match targets.get(which) {
        Some(target) => replace(target, &mut reader),
        None => {
            let files = base().after(base().changes(), Loss::Nothing);
            let store = LocalDir::new(Arc::new(files.clone()), COLLECTION, 5);
            let log = store.open_log(SeqNo::FIRST).expect("a log");
            let seq = log.append(reader.bytes()).expect("appended");
            log.commit(seq, Durability::Synced).expect("committed");
            exercise(&files);
        }
    }
}

/// The manifest of the database or of the collection.
pub(crate) fn manifest(data: &[u8]) {
    let targets: Vec<_> = targets().into_iter().filter(is_manifest).collect();
    let mut reader = Reader(data);
    let which = usize::from(reader.u8()) % targets.len();
    replace(&targets[which], &mut reader);
}

/// Uses the database with other sections in one of its files.
fn replace((path, kind): &(PathBuf, FileKind), reader: &mut Reader<'_>) {
    let files = base().after(base().changes(), Loss::Nothing);
    let mut file = ContainerWriter::new(Vec::new(), *kind).expect("written to memory");
    for (name, _) in sections(path, *kind) {
        // Left out with a mark.
        let is_there = reader.u8() != 1;
        let bytes = reader.bytes();
        if is_there {
            file.add_section(&name, bytes).expect("written to memory");
        }
    }
    let bytes = file.finish().expect("written to memory");
    files.damage(path, |content| *content = bytes);
    exercise(&files);
}

pub(crate) fn segment_seeds() -> Vec<Vec<u8>> {
    let targets = targets();
    let records = record_seeds().into_iter();
    let records = records.map(|record| Writer(vec![targets.len() as u8]).bytes(&record).0);
    file_seeds(&targets).chain(records).collect()
}

pub(crate) fn manifest_seeds() -> Vec<Vec<u8>> {
    file_seeds(&targets().into_iter().filter(is_manifest).collect::<Vec<_>>()).collect()
}

/// The files as they were written.
fn file_seeds(targets: &[(PathBuf, FileKind)]) -> impl Iterator<Item = Vec<u8>> {
    targets.iter().enumerate().map(|(which, (path, kind))| {
        let start = Writer(vec![which as u8]);
        let sections = sections(path, *kind).into_iter();
        sections
            .fold(start, |mut writer, (_, bytes)| {
                writer.0.push(0);
                writer.bytes(&bytes)
            })
            .0
    })
}
