//! Indexes that are no graphs, over segments large enough for them: built when a segment is written, used when it is opened,
//! right under filters and deletions, and an error where they are damaged.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use vdb_distance::Metric;
use vdb_engine::{
    Collection, CollectionConfig, Database, Effort, Error, FieldIndex, Operation, Options, Payload, Point,
    PointId, Search, SearchAnswer, Settings, VectorConfig,
};
use vdb_index::{CodeKind, CodedParams, IvfParams, LshParams};
use vdb_storage::files::FileSystem;
use vdb_storage::{ContainerReader, ContainerWriter, FileKind};
use vdb_testkit::{Loss, SimFiles};

const DIM: usize = 16;
const POINTS: u64 = 3_000;
const FOLDER: &str = "db/collection-00000001";

fn mix(mut number: u64) -> u64 {
    number = (number ^ number >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    number = (number ^ number >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number ^ number >> 32
}

/// Near one of forty centres.
fn vector(number: u64) -> Vec<f32> {
    let value = |seed: u64| (mix(seed) % 2_001) as f32 / 1_000.0 - 1.0;
    let centre = mix(number) % 40;
    let place = |place: u64| value(centre << 8 | place | 1 << 40) + 0.3 * value(number << 8 | place);
    (0..DIM as u64).map(place).collect()
}

fn point(number: u64) -> Point {
    let mut payload = Payload::new();
    payload.insert("even".to_owned(), (number.is_multiple_of(2)).into());
    Point::new(number, vector(number)).with_payload(payload)
}

/// Every kind, an effort that is less than its default, one that finds nearly all, and the sections that it keeps.
fn kinds() -> Vec<(FieldIndex, Effort, Effort, Vec<&'static str>)> {
    let coded = |kind| {
        let sections = vec!["code.config", "code.quant", "code.rows", "code.rest"];
        let index = FieldIndex::Coded(CodedParams::new(kind));
        (index, Effort::Oversampling(1), Effort::Oversampling(60), sections)
    };
    let ivf = IvfParams { lists: Some(50), ..IvfParams::default() };
    let lists = vec!["ivf.config", "ivf.lens", "ivf.centres", "ivf.coarse", "ivf.lists"];
    let tables = vec!["lsh.config", "lsh.tables", "lsh.sketch", "lsh.codes"];
    vec![
        coded(CodeKind::Sq8),
        coded(CodeKind::Sq4),
        coded(CodeKind::Pq4),
        coded(CodeKind::Rabitq(1)),
        coded(CodeKind::Rabitq(3)),
        coded(CodeKind::Binary),
        coded(CodeKind::F16),
        (FieldIndex::Ivf(ivf), Effort::Probes(1), Effort::Probes(40), lists),
        (FieldIndex::Lsh(LshParams::default()), Effort::Candidates(10), Effort::Candidates(900), tables),
    ]
}

fn options(files: &SimFiles) -> Options {
    let mut settings = Settings::default();
    (settings.seal_points, settings.least_graph_rows, settings.most_segments) = (1_500, 1_000, 4);
    let files: Arc<dyn FileSystem> = Arc::new(files.clone());
    Options::new().files(files).settings(settings).background(false).seed(1)
}

fn made(files: &SimFiles, index: FieldIndex) -> (Database, Arc<Collection>) {
    let database = options(files).open("db").unwrap();
    let config = VectorConfig::new(DIM, Metric::Euclidean).with_index(index);
    let collection = database.create_collection("a", &CollectionConfig::from(config)).unwrap();
    for from in (0..POINTS).step_by(500) {
        collection.upsert((from..from + 500).map(point).collect()).unwrap();
    }
    (database, collection)
}

fn is_even(_: &PointId, payload: &Payload) -> bool {
    payload["even"] == true
}

fn search(collection: &Collection, number: u64, effort: Effort, filtered: bool) -> SearchAnswer {
    let query = vector(number);
    let search = Search::new(&query, 10).effort(effort);
    let search = if filtered { search.filter(&is_even) } else { search };
    let answer = collection.view().search(&search).unwrap();
    assert_eq!(answer.hits.len(), 10);
    answer
}

fn ids(answer: &SearchAnswer) -> BTreeSet<&PointId> {
    answer.hits.iter().map(|hit| &hit.id).collect()
}

/// The mean recall, and how many of thirty answers say that they are exact.
fn recall(collection: &Collection, effort: Effort, filtered: bool) -> (f64, usize) {
    let (mut found, mut exact) = (0, 0);
    for number in 10_000..10_030 {
        let truth = search(collection, number, Effort::Exact, filtered);
        let answer = search(collection, number, effort, filtered);
        assert!(truth.exact && answer.hops == 0);
        assert!(answer.exact || answer.distance_computations < truth.distance_computations);
        exact += usize::from(answer.exact);
        found += ids(&answer).intersection(&ids(&truth)).count();
    }
    (found as f64 / 300.0, exact)
}

fn answers(collection: &Collection) -> Vec<SearchAnswer> {
    let numbers = 10_000..10_010;
    numbers
        .flat_map(|number| {
            [false, true].map(|filtered| search(collection, number, Effort::Default, filtered))
        })
        .collect()
}

/// The sections of a file, by name.
type Sections = Vec<(String, Vec<u8>)>;

/// Names of the files of segments, and the sections of each.
fn segments(files: &SimFiles) -> Vec<(String, Sections)> {
    let mut names = files.list(Path::new(FOLDER)).unwrap();
    names.retain(|name| name.starts_with("blob-seg-"));
    let sections = |name: &String| {
        let path = Path::new(FOLDER).join(name);
        let bytes = files.open(&path).unwrap().map().unwrap().to_vec();
        let mut file = ContainerReader::from_bytes(&path, bytes, FileKind::new(*b"SEGM")).unwrap();
        let names: Vec<String> = file.sections().map(|section| section.0.to_owned()).collect();
        names.into_iter().map(|name| (name.clone(), file.section(&name).unwrap())).collect()
    };
    names.iter().map(|name| (name.clone(), sections(name))).collect()
}

#[test]
fn they_are_built_with_segments_found_again_and_right_under_filters_and_deletions() {
    for (index, narrow, wide, sections) in kinds() {
        println!("{index:?}");
        let files = SimFiles::new();
        let (database, collection) = made(&files, index);
        let info = collection.info();
        assert_eq!((info.segments, info.indexed_segments, info.indexed_points), (2, 2, 3_000));
        let check = |collection: &Collection, when: &str| {
            let (least, is_exact) = recall(collection, narrow, false);
            assert_eq!(is_exact, 0);
            let default = recall(collection, Effort::Default, false).0;
            let most = recall(collection, wide, false).0;
            let filtered = recall(collection, wide, true).0;
            println!("  {when}: {least:.3}, {default:.3}, {most:.3}, {filtered:.3} where half match");
            assert!(least <= default && default > 0.97 && most > 0.99 && filtered > 0.99, "{index:?}");
            // What is another index's says nothing here.
            let other = search(collection, 10_000, Effort::EfSearch(1), false);
            assert_eq!(other, search(collection, 10_000, Effort::Default, false));
        };
        check(&collection, "in two segments");
        collection.optimize().unwrap();
        assert_eq!((collection.info().segments, collection.info().indexed_segments), (1, 1));
        check(&collection, "in one");
        for (_, found) in segments(&files) {
            let found: Vec<&str> = found.iter().filter_map(|section| section.0.strip_prefix("0:")).collect();
            assert!(found.ends_with(&sections), "{found:?}");
        }
        let deletes =
            (0..POINTS).filter(|number| number % 3 == 0).map(|number| Operation::Delete(number.into()));
        collection.write(deletes.collect(), vdb_engine::Durability::Sync).unwrap();
        check(&collection, "without a third of the points");
        collection.verify().unwrap();
        let before = answers(&collection);
        drop((collection, database));
        let database = options(&files).open("db").unwrap();
        let collection = database.collection("a").unwrap();
        assert_eq!(answers(&collection), before, "{index:?}");
        assert!(collection.pin());
        assert_eq!(answers(&collection), before, "{index:?}");
        assert!(!collection.pin());
        let reader = options(&files).open_read_only("db").unwrap();
        assert_eq!(answers(&reader.collection("a").unwrap()), before, "{index:?}");
    }
}

#[test]
fn segments_that_are_too_small_are_indexed_together() {
    let files = SimFiles::new();
    let database = options(&files).open("db").unwrap();
    let index = FieldIndex::Coded(CodedParams::new(CodeKind::Sq8));
    let config = VectorConfig::new(DIM, Metric::Cosine).with_index(index);
    let collection = database.create_collection("a", &CollectionConfig::from(config)).unwrap();
    for from in [0, 400, 800] {
        collection.upsert((from..from + 400).map(point).collect()).unwrap();
        collection.seal().unwrap();
    }
    assert_eq!((collection.info().segments, collection.info().indexed_segments), (3, 0));
    assert!(search(&collection, 10_000, Effort::Default, false).exact);
    while collection.maintain().unwrap() {}
    assert_eq!((collection.info().segments, collection.info().indexed_segments), (1, 1));
    assert!(!search(&collection, 10_000, Effort::Default, false).exact);
}

#[test]
fn rows_that_no_quantizer_can_be_trained_on_are_searched_exactly() {
    let files = SimFiles::new();
    let mut settings = Settings::default();
    settings.least_graph_rows = 4;
    let database = options(&files).settings(settings).open("db").unwrap();
    let index = FieldIndex::Coded(CodedParams::new(CodeKind::Pq8));
    let config = VectorConfig::new(DIM, Metric::Euclidean).with_index(index);
    let collection = database.create_collection("a", &CollectionConfig::from(config)).unwrap();
    collection.upsert((0..100).map(point).collect()).unwrap();
    collection.seal().unwrap();
    // Nothing is tried again and again.
    while collection.maintain().unwrap() {}
    collection.optimize().unwrap();
    assert!(search(&collection, 10_000, Effort::Default, false).exact);
    drop((collection, database));
    let database = options(&files).open("db").unwrap();
    let collection = database.collection("a").unwrap();
    assert!(search(&collection, 10_000, Effort::Default, true).exact);
    collection.verify().unwrap();
}

#[test]
fn parameters_out_of_range_are_refused() {
    let files = SimFiles::new();
    let database = options(&files).open("db").unwrap();
    let check = |metric: Metric, index: FieldIndex, expected: &str| {
        let config = VectorConfig::new(DIM, metric).with_index(index);
        let error = database.create_collection("a", &CollectionConfig::from(config)).unwrap_err();
        assert!(matches!(error, Error::InvalidConfig { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    };
    let coded = |kind, subspaces| FieldIndex::Coded(CodedParams { subspaces, ..CodedParams::new(kind) });
    check(Metric::Cosine, coded(CodeKind::Pq4, 17), "subspaces is 17, expected at most the dimension, 16");
    check(Metric::Cosine, coded(CodeKind::Sq8, 2), "subspaces is 2, but sq8 is no product quantizer");
    check(Metric::Cosine, coded(CodeKind::Rabitq(9), 0), "rabitq with 9 bits a dimension, expected 1 to 8");
    check(Metric::Manhattan, coded(CodeKind::Sq8, 0), "does not keep Manhattan distances");
    let ivf = |lists, bits| FieldIndex::Ivf(IvfParams { lists, bits, ..IvfParams::default() });
    check(Metric::Cosine, ivf(Some(0), 4), "lists is 0, expected 1 to 1048576");
    check(Metric::Cosine, ivf(None, 9), "bits is 9, expected 1 to 8");
    let lsh = |num_tables, num_functions| {
        FieldIndex::Lsh(LshParams { num_tables, num_functions, ..LshParams::default() })
    };
    check(Metric::Cosine, lsh(Some(1_025), None), "num_tables is 1025, expected 1 to 1024");
    check(Metric::Cosine, lsh(None, Some(0)), "num_functions is 0, expected 1 to 64");
}

#[test]
fn damaged_sections_are_errors_and_never_a_panic() {
    for (index, ..) in kinds() {
        let files = SimFiles::new();
        drop(made(&files, index));
        let files = files.after(files.changes(), Loss::Nothing);
        let (mut refused, mut found) = (0, 0);
        let (name, sections) = segments(&files).swap_remove(0);
        let path = Path::new(FOLDER).join(&name);
        for (place, (section, content)) in sections.iter().enumerate() {
            let is_own = ["0:code", "0:ivf", "0:lsh"].iter().any(|prefix| section.starts_with(prefix));
            if !is_own || content.is_empty() {
                continue;
            }
            for change in 0..7 {
                let mut sections = sections.clone();
                let bytes = &mut sections[place].1;
                match change {
                    0 => drop(bytes.pop()),
                    1 => bytes.clear(),
                    2 => bytes.fill(0xff),
                    3 => bytes.fill(0x7f),
                    4 => drop(sections.remove(place)),
                    _ => (0..40).for_each(|seed| {
                        let at = mix(seed + 1_000 * change) as usize % bytes.len();
                        bytes[at] ^= mix(seed) as u8 | 1;
                    }),
                }
                // Checksums hold: what is behind them is tested.
                let damaged = files.after(files.changes(), Loss::Nothing);
                let mut file = ContainerWriter::new(Vec::new(), FileKind::new(*b"SEGM")).unwrap();
                sections.iter().for_each(|(name, bytes)| file.add_section(name, bytes).unwrap());
                let bytes = file.finish().unwrap();
                damaged.damage(&path, |content| *content = bytes);
                let database = options(&damaged).open("db").unwrap();
                let Ok(collection) = database.collection("a") else {
                    refused += 1;
                    continue;
                };
                for number in 10_000..10_004 {
                    for effort in [Effort::Default, Effort::Probes(3), Effort::Exact] {
                        assert_eq!(search(&collection, number, effort, false).hits.len(), 10);
                    }
                }
                found += usize::from(collection.verify().is_err());
            }
        }
        println!("{index:?}: {refused} refused, {found} found by verification");
        assert!(refused > 5, "{index:?}");
        assert!(found > 0 || matches!(index, FieldIndex::Coded(_)), "{index:?}");
    }
}
