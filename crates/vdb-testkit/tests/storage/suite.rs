//! The conformance suite, for every backend that there is.

use std::path::Path;
use std::sync::Arc;
use vdb_storage::files::{FileSystem, OsFiles};
use vdb_storage::{Backend, LocalDir, Memory, StorageError};
use vdb_testkit::{SimFiles, conformance};

/// A folder, with log files so short that the suite goes through several.
fn local(files: Arc<dyn FileSystem>, folder: &Path) -> Arc<dyn Backend> {
    let store = LocalDir::new(files, folder, 7).with_wal_file_bytes(2_000);
    store.create().unwrap();
    store.remove_temporaries().unwrap();
    Arc::new(store)
}

#[test]
fn memory() {
    conformance::check(&|| {
        let memory = Memory::new();
        Box::new(move || Arc::new(memory.clone()))
    });
}

#[test]
fn a_local_folder() {
    conformance::check(&|| {
        let folder = tempfile::tempdir().unwrap();
        Box::new(move || local(Arc::new(OsFiles), &folder.path().join("store")))
    });
}

#[test]
fn a_simulated_disk() {
    conformance::check(&|| {
        let files = SimFiles::new();
        Box::new(move || local(Arc::new(files.clone()), Path::new("store")))
    });
}

/// What was finished, and nothing else, is there after a power failure.
#[test]
fn a_simulated_disk_after_power_failures() {
    use vdb_testkit::Loss;
    conformance::check(&|| {
        let files = std::cell::RefCell::new(SimFiles::new());
        Box::new(move || {
            let left = files.borrow().after(files.borrow().changes(), Loss::Everything);
            *files.borrow_mut() = left.clone();
            local(Arc::new(left), Path::new("store"))
        })
    });
}

#[test]
fn one_writer_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let store = || LocalDir::new(Arc::new(OsFiles), folder.path(), 1);
    let guard = store().lock().unwrap();
    let error = store().lock().unwrap_err();
    assert!(matches!(error, StorageError::Locked { .. }));
    assert!(error.to_string().contains("open it to read only"), "{error}");
    drop(guard);
    store().lock().unwrap();
}
