//! Several damages at once: all of them are told, each with its file, its section and both checksums.

use std::fs;
use std::path::{Path, PathBuf};
use vdb_distance::Metric;
use vdb_engine::{CollectionConfig, Database, Error, Options, Point};
use vdb_storage::{ContainerReader, FileKind, StorageError};

fn open(folder: &Path) -> Database {
    Options::new().background(false).open(folder).unwrap()
}

/// Two collections of three segments each.
fn make(folder: &Path) {
    let database = open(folder);
    for name in ["a", "b"] {
        let collection = database.create_collection(name, &CollectionConfig::new(3, Metric::Cosine)).unwrap();
        for part in 0..3 {
            let points = (0..300u64).map(|i| {
                let id = part * 300 + i;
                Point { expires_at: Some(1 << 60), ..Point::new(id, vec![id as f32 + 0.1, 1.0, 2.0]) }
            });
            collection.upsert(points.collect()).unwrap();
            collection.seal().unwrap();
        }
    }
    database.close().unwrap();
}

fn segment(folder: &Path, collection: u64, number: u64) -> PathBuf {
    folder.join(format!("collection-{collection:08}/blob-seg-{number:08}"))
}

/// Changes a byte of a section.
fn damage(path: &Path, section: &str) {
    let mut bytes = fs::read(path).unwrap();
    let container = ContainerReader::from_bytes(path, bytes.clone(), FileKind::new(*b"SEGM")).unwrap();
    let mut offset = 64;
    for (name, length) in container.sections() {
        if name == section {
            bytes[offset + length as usize / 2] ^= 8;
            return fs::write(path, bytes).unwrap();
        }
        offset = (offset + length as usize).next_multiple_of(64);
    }
    panic!("{}: no section {section}", path.display());
}

/// Files and sections of damages, in order.
fn told(damages: &[Error]) -> Vec<(PathBuf, String)> {
    let told = |error: &Error| match error {
        Error::Storage(StorageError::Checksum { path, section, expected, found, .. }) => {
            let message = error.to_string();
            for part in [&path.display().to_string(), section, &format!("{expected:#010x}")] {
                assert!(message.contains(part), "{message}");
            }
            assert!(message.contains(&format!("{found:#010x}")), "{message}");
            (path.clone(), section.clone())
        }
        other => panic!("{other}"),
    };
    damages.iter().map(told).collect()
}

#[test]
fn all_damaged_sections_of_all_segments_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    make(folder);
    let path = |collection, number| segment(folder, collection, number);
    for (file, section) in
        [(path(1, 1), "versions"), (path(1, 1), "0:rows"), (path(1, 3), "expires"), (path(2, 2), "0:norms")]
    {
        damage(&file, section);
    }
    let expected: Vec<Vec<(PathBuf, String)>> = vec![
        vec![
            (path(1, 1), "versions".to_owned()),
            (path(1, 1), "0:rows".to_owned()),
            (path(1, 3), "expires".to_owned()),
        ],
        vec![(path(2, 2), "0:norms".to_owned())],
    ];
    let database = Database::open_read_only(folder).unwrap();
    for (name, expected) in ["a", "b"].into_iter().zip(&expected) {
        assert_eq!(&told(&database.damages(name).unwrap()), expected);
        assert_eq!(&told(&database.collection(name).unwrap().damages()), expected);
        let first = told(&[database.collection(name).unwrap().verify().unwrap_err()]);
        assert_eq!(first, expected[..1]);
    }
    drop(database);
    // What is checked when a segment is opened, too: the collection cannot be used, and all is told still.
    damage(&path(1, 2), "0:config");
    let database = Database::open_read_only(folder).unwrap();
    assert!(database.trouble("a").unwrap().contains(&path(1, 2).display().to_string()));
    let mut with_config = expected[0].clone();
    with_config.insert(2, (path(1, 2), "0:config".to_owned()));
    assert_eq!(told(&database.damages("a").unwrap()), with_config);
    assert_eq!(told(&database.damages("b").unwrap()), expected[1]);
    assert!(matches!(database.damages("c"), Err(Error::NoSuchCollection { .. })));
    drop(database);
    // A file that is cut short, and one that is not there.
    let bytes = fs::read(path(1, 1)).unwrap();
    fs::write(path(1, 1), &bytes[..bytes.len() / 2]).unwrap();
    fs::remove_file(path(1, 3)).unwrap();
    let database = Database::open_read_only(folder).unwrap();
    let messages: Vec<String> = database.damages("a").unwrap().iter().map(Error::to_string).collect();
    assert_eq!(messages.len(), 3, "{messages:?}");
    for (message, number) in messages.iter().zip(1..) {
        assert!(message.starts_with(&path(1, number).display().to_string()), "{message}");
    }
}
