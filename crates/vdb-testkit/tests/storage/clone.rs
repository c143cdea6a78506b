//! Clones of a store by links, or by copies where there are none.

use super::making::{Making, NEW, store};
use std::io::{ErrorKind, Write};
use std::sync::Arc;
use vdb_storage::files::OsFiles;
use vdb_storage::{Backend, LocalDir, SeqNo, StorageError};
use vdb_testkit::{SimFiles, conformance};

const BLOBS: [&str; 3] = ["a", "empty", "z"];
const MANIFEST: &[u8] = b"a empty z";

fn names() -> Vec<String> {
    BLOBS.map(str::to_owned).to_vec()
}

fn content(name: &str) -> Vec<u8> {
    match name {
        "empty" => Vec::new(),
        name => name.repeat(300).into_bytes(),
    }
}

fn fill(source: &LocalDir) {
    source.create().unwrap();
    for name in BLOBS {
        let mut blob = source.blobs().create(name).unwrap();
        blob.write_all(&content(name)).unwrap();
        blob.finish().unwrap();
    }
    let log = source.open_log(SeqNo::FIRST).unwrap();
    log.commit(log.append(b"of the source").unwrap(), vdb_storage::Durability::Synced).unwrap();
    source.manifests().publish(0, b"older").unwrap();
    source.manifests().publish(1, MANIFEST).unwrap();
}

fn disk() -> SimFiles {
    let files = SimFiles::new();
    fill(&store(&files, "db"));
    files
}

fn without_links() -> SimFiles {
    let files = disk();
    files.refuse_links_between_folders(ErrorKind::CrossesDevices);
    files
}

fn check(clone: &LocalDir) {
    assert_eq!(*clone.manifests().load(1).unwrap(), *MANIFEST);
    assert_eq!(clone.blobs().names().unwrap(), BLOBS);
    for name in BLOBS {
        assert!(*clone.blobs().open(name).unwrap().map().unwrap() == content(name)[..], "{name}");
    }
    assert_eq!(conformance::records(clone, SeqNo::FIRST), [], "a clone has no log");
}

fn make(files: &SimFiles, clone: &LocalDir) -> Result<u64, StorageError> {
    store(files, "db").link_to(clone, &names(), MANIFEST)
}

fn check_both(files: &SimFiles, clone: &LocalDir) {
    check(clone);
    let source = store(files, "db");
    assert_eq!(source.manifests().numbers().unwrap(), [1, 2]);
    assert_eq!(source.blobs().names().unwrap(), BLOBS);
}

#[test]
fn a_crash_leaves_a_clone_or_none() {
    for disk in [disk as fn() -> SimFiles, without_links] {
        let images = Making { disk: &disk, make: &make, check: &check_both }.crashes();
        println!("{images} crash images");
        assert!(images > 500, "{images}");
    }
}

#[test]
fn every_call_failing_once() {
    for disk in [disk as fn() -> SimFiles, without_links] {
        assert!(Making { disk: &disk, make: &make, check: &check_both }.failing_calls() > 12);
    }
}

#[test]
fn a_full_disk() {
    Making { disk: &without_links, make: &make, check: &check_both }.full_disk();
}

/// Links take no space, copies do, and either store may go without the other.
#[test]
fn both_stores_live_on_alone() {
    for kind in [None, Some(ErrorKind::CrossesDevices), Some(ErrorKind::PermissionDenied)] {
        let files = disk();
        kind.into_iter().for_each(|kind| files.refuse_links_between_folders(kind));
        let (source, clone) = (store(&files, "db"), store(&files, NEW));
        let before = files.bytes();
        source.link_to(&clone, &names(), MANIFEST).unwrap();
        let copied = BLOBS.iter().map(|name| content(name).len() as u64).sum();
        let more = files.bytes() - before - MANIFEST.len() as u64;
        assert_eq!(more, if kind.is_some() { copied } else { 0 }, "{kind:?}");
        source.blobs().remove("a").unwrap();
        clone.blobs().remove("z").unwrap();
        assert_eq!(source.blobs().names().unwrap(), ["empty", "z"]);
        assert_eq!(clone.blobs().names().unwrap(), ["a", "empty"]);
        assert_eq!(*clone.blobs().open("a").unwrap().map().unwrap(), *content("a"));
        assert_eq!(*source.blobs().open("z").unwrap().map().unwrap(), *content("z"));
        assert_eq!(clone.manifests().publish(1, b"on").unwrap(), 2);
    }
}

#[test]
fn clones_of_the_operating_systems_files() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| LocalDir::new(Arc::new(OsFiles), folder.path().join(name), 1);
    let (source, clone) = (at("db"), at("deep/er/new"));
    fill(&source);
    assert_eq!(source.link_to(&clone, &names(), MANIFEST).unwrap(), 1);
    check(&clone);
    for name in BLOBS {
        source.blobs().remove(name).unwrap();
    }
    check(&clone);
}

#[test]
fn clones_that_are_refused() {
    let files = disk();
    let source = store(&files, "db");
    let error = source.link_to(&source, &names(), MANIFEST).unwrap_err();
    assert!(matches!(error, StorageError::NotEmpty { .. }), "{error}");
    let clone = store(&files, NEW);
    let missing = [names(), vec!["missing".to_owned()]].concat();
    let error = source.link_to(&clone, &missing, MANIFEST).unwrap_err();
    let StorageError::Io { path, source: reason } = &error else { panic!("{error}") };
    assert!(path.ends_with("db/blob-missing") && reason.kind() == ErrorKind::NotFound, "{error}");
    let twice = [names(), names()].concat();
    let error = source.link_to(&clone, &twice, MANIFEST).unwrap_err();
    assert!(matches!(&error, StorageError::Io { source, .. } if source.kind() == ErrorKind::AlreadyExists));
    let error = source.link_to(&clone, &["/etc".to_owned()], MANIFEST).unwrap_err();
    assert!(matches!(error, StorageError::InvalidName { .. }), "{error}");
    assert_eq!(clone.blobs().names().unwrap(), [""; 0]);
    assert_eq!(source.link_to(&clone, &names(), MANIFEST).unwrap(), 1);
    let error = source.link_to(&clone, &names(), MANIFEST).unwrap_err();
    assert!(matches!(error, StorageError::NotEmpty { .. }), "{error}");
    check(&clone);
}
