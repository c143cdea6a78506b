//! Making a store out of another one's parts: what restored archives and clones have in common.
//!
//! Everything is written before the first manifest is published, so that a crash leaves a store or something that has no
//! manifest (`docs/format.md`, "Archive" and "Cloning a store").

use crate::{Backend, SeqNo, StorageError};
use std::path::Path;

/// Publishes the first manifest of an empty store after `write` has written all else, its blobs under these names; when that
/// fails, they are removed again. `source` is for errors.
pub(crate) fn make(
    backend: &dyn Backend,
    source: &Path,
    manifest: &[u8],
    blobs: &[String],
    write: impl FnOnce() -> Result<(), StorageError>,
) -> Result<u64, StorageError> {
    check_empty(backend, source)?;
    if let Err(error) = write() {
        discard(backend, blobs);
        return Err(error);
    }
    let published = backend.manifests().publish(0, manifest);
    match &published {
        // The manifest may be there, and name the blobs.
        Ok(_) | Err(StorageError::Stopped { .. } | StorageError::Conflict { .. }) => {}
        Err(_) => discard(backend, blobs),
    }
    published
}

fn check_empty(backend: &dyn Backend, source: &Path) -> Result<(), StorageError> {
    let found = if !backend.manifests().numbers()?.is_empty() {
        "are manifests"
    } else if !backend.blobs().names()?.is_empty() {
        "are blobs"
    } else {
        match backend.read_log(SeqNo::FIRST).read() {
            Ok(None) => return Ok(()),
            Ok(Some(_)) | Err(StorageError::Trimmed { .. }) => "is a log",
            Err(error) => return Err(error),
        }
    };
    Err(StorageError::NotEmpty { path: source.to_owned(), found: found.to_owned() })
}

/// Removes what was written, as far as that can be done: the error that led here is the one to report.
fn discard(backend: &dyn Backend, blobs: &[String]) {
    for name in blobs {
        let _ = backend.blobs().remove(name);
    }
    let _ = backend.remove_log();
}
