//! The simulated disk forgets what was not synced, and only that.

use super::*;
use vdb_storage::files::OsFiles;

fn path(name: &str) -> PathBuf {
    Path::new("db").join(name)
}

fn read(files: &dyn FileSystem, name: &str) -> Option<Vec<u8>> {
    let file = files.open(&path(name)).ok()?;
    let mut bytes = vec![0; file.length().unwrap() as usize];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    Some(bytes)
}

fn disk() -> SimFiles {
    let files = SimFiles::new();
    files.create_folder(Path::new("db")).unwrap();
    files
}

#[test]
fn a_file_needs_its_own_sync_and_its_folders() {
    let files = disk();
    let file = files.create(&path("a")).unwrap();
    file.write_at(b"one", 0).unwrap();
    let left = |loss| read(&files.after(files.changes(), loss), "a");
    assert_eq!(left(Loss::Everything), None);
    assert_eq!(left(Loss::Nothing), Some(b"one".to_vec()));
    assert_eq!(left(Loss::Torn(2)), Some(b"on".to_vec()));
    file.sync().unwrap();
    assert_eq!(left(Loss::Everything), None, "its name is not durable");
    files.sync_folder(Path::new("db")).unwrap();
    file.write_at(b"two", 3).unwrap();
    let left = |loss| read(&files.after(files.changes(), loss), "a").unwrap();
    assert_eq!(left(Loss::Everything), b"one");
    assert_eq!(left(Loss::Torn(0)), b"one");
    let seen: BTreeSet<Vec<u8>> = (0..200).map(|seed| left(Loss::Random(seed))).collect();
    let all = ["one", "onet", "onetw", "onetwo"].map(|text| text.as_bytes().to_vec());
    assert_eq!(seen, BTreeSet::from(all));
}

#[test]
fn a_later_write_may_survive_an_earlier_one() {
    let files = disk();
    let file = files.create(&path("a")).unwrap();
    files.sync_folder(Path::new("db")).unwrap();
    file.write_at(b"1", 0).unwrap();
    file.write_at(b"2", 1).unwrap();
    let left = (0..100).map(|seed| read(&files.after(files.changes(), Loss::Random(seed)), "a").unwrap());
    let seen: BTreeSet<Vec<u8>> = left.collect();
    let all = [&b""[..], b"1", b"12", b"\x002"].map(<[u8]>::to_vec);
    assert_eq!(seen, BTreeSet::from(all));
}

#[test]
fn names_that_were_removed_come_back_until_the_folder_is_synced() {
    let files = disk();
    files.create(&path("a")).unwrap();
    files.link(&path("a"), &path("b")).unwrap();
    files.sync_folder(Path::new("db")).unwrap();
    files.remove(&path("a")).unwrap();
    let before = files.changes();
    files.sync_folder(Path::new("db")).unwrap();
    assert!(read(&files.after(before, Loss::Everything), "a").is_some());
    assert!(read(&files.after(files.changes(), Loss::Everything), "a").is_none());
    assert!(read(&files.after(files.changes(), Loss::Everything), "b").is_some());
}

#[test]
fn calls_fail_once_and_space_runs_out() {
    let files = disk();
    let file = files.create(&path("a")).unwrap();
    files.fail(2, ErrorKind::Other);
    file.sync().unwrap();
    assert_eq!(file.write_at(b"1234", 0).unwrap_err().kind(), ErrorKind::Other);
    assert_eq!(read(&files, "a").unwrap(), b"12");
    files.limit(5);
    assert_eq!(file.write_at(b"123456", 0).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(read(&files, "a").unwrap(), b"12345");
    file.write_at(b"abc", 0).unwrap();
    files.limit(6);
    file.write_at(b"z", 5).unwrap();
    assert_eq!(read(&files, "a").unwrap(), b"abc45z");
}

/// Both file systems answer the same calls in the same way.
#[test]
fn it_is_as_the_operating_systems() {
    let folder = tempfile::tempdir().unwrap();
    let systems: [(&dyn FileSystem, PathBuf); 2] =
        [(&OsFiles, folder.path().join("x")), (&SimFiles::new(), PathBuf::from("x"))];
    for (files, folder) in systems {
        let kind = |result: io::Result<()>| result.unwrap_err().kind();
        assert_eq!(files.list(&folder).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(files.create(&folder.join("a")).unwrap_err().kind(), ErrorKind::NotFound);
        files.create_folder(&folder).unwrap();
        files.create_folder(&folder).unwrap();
        let file = files.create(&folder.join("a")).unwrap();
        assert_eq!(files.create(&folder.join("a")).unwrap_err().kind(), ErrorKind::AlreadyExists);
        file.write_at(b"hello", 2).unwrap();
        file.sync().unwrap();
        let mut buffer = [9; 8];
        assert_eq!(file.read_at(&mut buffer, 0).unwrap(), 7);
        assert_eq!(&buffer, b"\0\0hello\x09");
        assert_eq!(file.read_at(&mut buffer, 7).unwrap(), 0);
        file.set_length(3).unwrap();
        assert_eq!((file.length().unwrap(), &*file.map().unwrap()), (3, &b"\0\0h"[..]));
        files.link(&folder.join("a"), &folder.join("b")).unwrap();
        assert_eq!(kind(files.link(&folder.join("a"), &folder.join("b"))), ErrorKind::AlreadyExists);
        assert_eq!(kind(files.link(&folder.join("c"), &folder.join("d"))), ErrorKind::NotFound);
        files.remove(&folder.join("a")).unwrap();
        assert_eq!(kind(files.remove(&folder.join("a"))), ErrorKind::NotFound);
        assert_eq!(files.open(&folder.join("a")).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(files.open_to_write(&folder.join("b")).unwrap().length().unwrap(), 3);
        files.remove(&folder.join("b")).unwrap();
        assert_eq!(file.length().unwrap(), 3, "who has it open keeps it");
        let guard = files.lock(&folder.join("lock")).unwrap();
        assert!(guard.is_some() && files.lock(&folder.join("lock")).unwrap().is_none());
        drop(guard);
        assert!(files.lock(&folder.join("lock")).unwrap().is_some());
        files.sync_folder(&folder).unwrap();
        files.remove_folder(&folder).unwrap();
        files.remove_folder(&folder).unwrap();
        assert_eq!(files.list(&folder).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
