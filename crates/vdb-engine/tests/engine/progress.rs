//! What a reader in another process is told of the writer's work: by a merge that is held up until it was.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use vdb_distance::Metric;
use vdb_engine::{
    CollectionConfig, Database, FieldIndex, JobKind, Options, Point, Progress, Settings, VectorConfig,
};
use vdb_index::HnswParams;
use vdb_storage::files::{File, FileSystem, LockGuard, OsFiles};

/// Whether merges may write what they made.
#[derive(Debug, Default)]
struct Gate {
    is_shut: Mutex<bool>,
    opened: Condvar,
}

/// Opens the gate in the end: a merge that waits for it would keep a failed test from ending.
struct Opening(Arc<Gate>);

impl Drop for Opening {
    fn drop(&mut self) {
        *self.0.is_shut.lock().unwrap() = false;
        self.0.opened.notify_all();
    }
}

/// The real files, but for segments, which wait for a gate.
#[derive(Debug)]
struct Held(Arc<Gate>);

impl FileSystem for Held {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        if path.to_str().unwrap().contains("blob-seg-") {
            let shut = self.0.is_shut.lock().unwrap();
            drop(self.0.opened.wait_while(shut, |shut| *shut).unwrap());
        }
        OsFiles.create(path)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        OsFiles.open(path)
    }

    fn open_to_write(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        OsFiles.open_to_write(path)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsFiles.link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        OsFiles.remove(path)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        OsFiles.list(folder)
    }

    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        OsFiles.create_folder(folder)
    }

    fn remove_folder(&self, folder: &Path) -> io::Result<()> {
        OsFiles.remove_folder(folder)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        OsFiles.sync_folder(folder)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        OsFiles.lock(path)
    }
}

const ROWS: usize = 300;

/// What is told, once it is as `is_it` wants it.
fn wait_for(database: &Database, is_it: impl Fn(&[Progress]) -> bool) -> Vec<Progress> {
    let began = Instant::now();
    loop {
        let told = database.progress();
        if is_it(&told) {
            return told;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{told:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_reader_sees_how_far_a_merge_of_the_writer_is() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Arc::new(Gate::default());
    let settings = {
        let mut settings = Settings::default();
        settings.least_graph_rows = 100;
        settings
    };
    let options = || Options::new().settings(settings);
    let index =
        FieldIndex::Hnsw(HnswParams { m: Some(4), ef_construction: 20, exact_scan_factor: 0, seed: 1 });
    let config = VectorConfig::new(2, Metric::Euclidean).with_index(index);
    let database = options().background(false).open(folder.path()).unwrap();
    let collection = database.create_collection("c", &CollectionConfig::from(config)).unwrap();
    collection
        .upsert((0..ROWS as u64).map(|i| Point::new(i, vec![i as f32, (i % 17) as f32])).collect())
        .unwrap();
    collection.seal().unwrap();
    drop(collection);
    database.close().unwrap();
    let reader = Database::open_read_only(folder.path()).unwrap();
    assert_eq!(reader.progress(), []);
    *gate.is_shut.lock().unwrap() = true;
    let writer = options().files(Arc::new(Held(Arc::clone(&gate)))).open(folder.path()).unwrap();
    let opening = Opening(Arc::clone(&gate));
    let told = wait_for(&reader, |told| !told.is_empty());
    let [progress] = &told[..] else { panic!("{told:?}") };
    assert_eq!((&*progress.collection, progress.kind), ("c", JobKind::Merge));
    assert_eq!((progress.points, progress.to_link), (ROWS, ROWS));
    assert!(progress.linked <= ROWS && progress.seconds >= 0.0, "{progress:?}");
    // All are linked, and the segment waits to be written.
    let told = wait_for(&reader, |told| told.iter().any(|progress| progress.linked == ROWS));
    assert!(told[0].per_second() > 0.0 && told[0].seconds_left() == Some(0.0), "{told:?}");
    assert_eq!(writer.progress()[0].linked, ROWS);
    drop(opening);
    wait_for(&reader, <[Progress]>::is_empty);
    wait_for(&writer, <[Progress]>::is_empty);
    writer.close().unwrap();
    assert_eq!(reader.progress(), []);
    assert!(!folder.path().join("status").exists());
}
