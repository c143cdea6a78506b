//! Replacing a file as a whole: readers and crashes see the old content or the new one, never a mixture.
//!
//! The content goes to a temporary file in the same folder, is flushed and synced, and is then renamed over the
//! target; the folder is synced last. The crash argument for each step is in `docs/format.md`.

use crate::error::StorageError;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Name of a temporary file: `.vdb-`, some random characters, `.tmp`. It does not contain the target's name, which
/// may already be as long as the file system allows.
const TEMPORARY_PREFIX: &str = ".vdb-";
const TEMPORARY_SUFFIX: &str = ".tmp";

/// Large enough that a system call's cost disappears, small enough to stay in the second-level cache.
const BUFFER_BYTES: usize = 256 * 1024;

/// Creates or replaces the file at `path` with what `write` writes.
///
/// An existing file's permissions are kept; a new file gets the usual ones (0666 less the umask). A symbolic link
/// is followed: the file it points to is replaced, in that file's folder. Owner, access lists, extended attributes
/// and hard links of an old file are not carried over.
///
/// # Durability
///
/// When this returns `Ok`, the new content survives a power failure (on Unix; elsewhere the folder entry is as
/// durable as the file system makes a rename). Before that, the old content does.
///
/// # Errors
///
/// What `write` returned, or [`StorageError::Io`]. The temporary file is removed and the old file is untouched, with
/// one exception: when only the last step fails, syncing the folder, the new content is in place but may not
/// survive a power failure. Writing again is the remedy.
pub fn write_atomically<E>(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<(), E>) -> Result<(), E>
where
    E: From<StorageError>,
{
    let target = follow_link(path)?;
    let folder = folder_of(&target);
    let old_permissions = existing_permissions(&target)?;

    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY_PREFIX).suffix(TEMPORARY_SUFFIX);
    #[cfg(unix)]
    let new_file_permissions = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    #[cfg(unix)]
    builder.permissions(new_file_permissions);
    let mut temporary = builder.tempfile_in(folder).map_err(StorageError::io(folder))?;

    // From here on, returning early drops `temporary`, which removes the file.
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, temporary.as_file_mut());
    write(&mut out)?;
    out.flush().map_err(StorageError::io(&target))?;
    drop(out);
    if let Some(permissions) = old_permissions {
        temporary.as_file().set_permissions(permissions).map_err(StorageError::io(&target))?;
    }
    temporary.as_file().sync_all().map_err(StorageError::io(&target))?;
    temporary.persist(&target).map_err(|failed| StorageError::io(&target)(failed.error))?;
    sync_folder(folder)?;
    Ok(())
}

/// The folder that holds `path`; "." when `path` is a bare file name.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Where the bytes should land: renaming over a symbolic link would replace the link and leave its target behind.
fn follow_link(path: &Path) -> Result<PathBuf, StorageError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_symlink() => {
            fs::canonicalize(path).map_err(StorageError::io(path))
        }
        // A missing file is the common case; any other trouble with the path shows when it is written.
        _ => Ok(path.to_path_buf()),
    }
}

/// The permissions of the file to be replaced, `None` when there is none.
fn existing_permissions(target: &Path) -> Result<Option<fs::Permissions>, StorageError> {
    match fs::metadata(target) {
        Ok(metadata) => Ok(Some(metadata.permissions())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StorageError::io(target)(error)),
    }
}

/// Makes a rename inside `folder` durable.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> Result<(), StorageError> {
    fs::File::open(folder).and_then(|handle| handle.sync_all()).map_err(StorageError::io(folder))
}

/// Other systems offer no portable way to sync a folder.
#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> Result<(), StorageError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn put(path: &Path, content: &[u8]) -> io::Result<()> {
        write_atomically(path, |out| out.write_all(content))
    }

    #[test]
    fn creates_and_replaces() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        put(&path, b"first").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"first");
        put(&path, b"2").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"2");
        assert_eq!(names(folder.path()), ["a.json"]);
    }

    #[test]
    fn a_failing_writer_keeps_the_old_file_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        put(&path, b"old").unwrap();
        let result = write_atomically(&path, |out| -> io::Result<()> {
            out.write_all(&vec![1; 3 * BUFFER_BYTES])?;
            Err(io::Error::other("no more"))
        });
        assert_eq!(result.unwrap_err().to_string(), "no more");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["a.json"]);
    }

    #[test]
    fn a_panicking_writer_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        put(&path, b"old").unwrap();
        let caught = std::panic::catch_unwind(|| {
            let _ = write_atomically(&path, |_| -> io::Result<()> { panic!("on purpose") });
        });
        assert!(caught.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["a.json"]);
    }

    #[test]
    fn a_target_that_is_a_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("inner");
        fs::create_dir(&path).unwrap();
        let error = put(&path, b"x").unwrap_err();
        assert!(error.to_string().contains("inner"), "{error}");
        assert_eq!(names(folder.path()), ["inner"]);
    }

    #[test]
    fn a_missing_folder_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let error = put(&folder.path().join("absent/a.json"), b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("absent"), "{error}");
    }

    #[test]
    fn a_bare_name_lands_in_the_current_folder() {
        assert_eq!(folder_of(Path::new("foo.json")), Path::new("."));
        assert_eq!(folder_of(Path::new("a/foo.json")), Path::new("a"));
        assert_eq!(folder_of(Path::new("/foo.json")), Path::new("/"));
        // The name is this crate's own, so that a parallel test run does not meet it.
        let path = Path::new("vdb-storage-bare-name.test");
        let result = put(path, b"here");
        let content = fs::read(path);
        let _ = fs::remove_file(path);
        result.unwrap();
        assert_eq!(content.unwrap(), b"here");
    }

    #[cfg(unix)]
    mod unix {
        use super::*;
        use std::os::unix::fs::PermissionsExt;

        fn mode(path: &Path) -> u32 {
            fs::metadata(path).unwrap().permissions().mode() & 0o777
        }

        #[test]
        fn permissions_of_an_old_file_are_kept() {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.json");
            put(&path, b"old").unwrap();
            for kept in [0o640, 0o600, 0o444] {
                fs::set_permissions(&path, fs::Permissions::from_mode(kept)).unwrap();
                put(&path, b"new").unwrap();
                assert_eq!(mode(&path), kept);
            }
        }

        #[test]
        fn a_new_file_gets_the_permissions_of_an_ordinary_one() {
            let folder = tempfile::tempdir().unwrap();
            let ordinary = folder.path().join("ordinary");
            fs::write(&ordinary, b"x").unwrap();
            let path = folder.path().join("ours");
            put(&path, b"x").unwrap();
            assert_eq!(mode(&path), mode(&ordinary));
        }

        #[test]
        fn a_symbolic_link_is_followed() {
            let folder = tempfile::tempdir().unwrap();
            let (real, link) = (folder.path().join("real"), folder.path().join("link"));
            put(&real, b"old").unwrap();
            std::os::unix::fs::symlink("real", &link).unwrap();
            put(&link, b"new").unwrap();
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
            assert_eq!(fs::read(&real).unwrap(), b"new");
        }
    }
}
