//! A store in a folder of the local file system.
//!
//! `docs/format.md`, "Store", says which files there are, in which order they are written, and what a crash can leave.

mod blobs;
mod clone;
mod manifests;

use crate::backend::{Backend, Blobs, CommitLog, LogReader, Manifests};
use crate::files::{FileSystem, LockGuard};
use crate::wal::{self, WAL_FILE_BYTES, Wal, WalReader};
use crate::{SeqNo, StorageError};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) use blobs::check_range;

const LOCK: &str = "lock";
const TEMPORARY_PREFIX: &str = "temp-";

/// A folder that holds a log, manifests and blobs.
///
/// There is one writer at a time, the one that holds the [lock](Self::lock); readers need none.
#[derive(Debug)]
pub struct LocalDir {
    files: Arc<dyn FileSystem>,
    folder: PathBuf,
    seed: u64,
    wal_file_bytes: u64,
    /// Temporary files so far: each has a name of its own.
    temporaries: AtomicU64,
    /// Why nothing is published any more.
    stopped: Mutex<Option<String>>,
}

impl LocalDir {
    /// The store in `folder`, which may be missing until [`create`](Self::create) is called. `seed` should differ from one
    /// opening to the next: it goes into checksums of log files.
    pub fn new(files: Arc<dyn FileSystem>, folder: impl Into<PathBuf>, seed: u64) -> Self {
        let wal_file_bytes = WAL_FILE_BYTES;
        let (temporaries, stopped) = (AtomicU64::new(0), Mutex::new(None));
        Self { files, folder: folder.into(), seed, wal_file_bytes, temporaries, stopped }
    }

    /// Log files are followed by another one from this length on; default [`WAL_FILE_BYTES`]. For tests.
    #[must_use]
    pub fn with_wal_file_bytes(self, bytes: u64) -> Self {
        Self { wal_file_bytes: bytes, ..self }
    }

    /// Makes the folder, durably, if there is none.
    ///
    /// # Errors
    /// [`StorageError::Io`].
    pub fn create(&self) -> Result<(), StorageError> {
        self.files.create_folder(&self.folder).map_err(StorageError::io(&self.folder))?;
        match self.folder.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => {
                self.files.sync_folder(parent).map_err(StorageError::io(parent))
            }
            _ => Ok(()),
        }
    }

    /// Becomes the one writer until the guard is dropped or the process ends.
    ///
    /// # Errors
    /// [`StorageError::Locked`] when there is another one.
    pub fn lock(&self) -> Result<Box<dyn LockGuard>, StorageError> {
        let path = self.folder.join(LOCK);
        let guard = self.files.lock(&path).map_err(StorageError::io(&path))?;
        guard.ok_or(StorageError::Locked { path })
    }

    /// Removes what a crash left of manifests that were being written. For the one writer.
    ///
    /// # Errors
    /// [`StorageError::Io`].
    pub fn remove_temporaries(&self) -> Result<(), StorageError> {
        for name in self.names()?.iter().filter(|name| name.starts_with(TEMPORARY_PREFIX)) {
            let path = self.folder.join(name);
            self.files.remove(&path).map_err(StorageError::io(&path))?;
        }
        Ok(())
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn names(&self) -> Result<Vec<String>, StorageError> {
        self.files.list(&self.folder).map_err(StorageError::io(&self.folder))
    }

    fn sync_folder(&self) -> Result<(), StorageError> {
        self.files.sync_folder(&self.folder).map_err(StorageError::io(&self.folder))
    }

    fn check(&self) -> Result<(), StorageError> {
        match &*self.stopped.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(reason) => Err(StorageError::Stopped { path: self.folder.clone(), reason: reason.clone() }),
        }
    }

    /// From now on nothing is published.
    fn stop(&self, error: &StorageError) -> StorageError {
        let reason = error.to_string();
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| reason.clone());
        StorageError::Stopped { path: self.folder.clone(), reason }
    }
}

impl Backend for LocalDir {
    fn manifests(&self) -> &dyn Manifests {
        self
    }

    fn blobs(&self) -> &dyn Blobs {
        self
    }

    fn open_log(&self, at_least: SeqNo) -> Result<Arc<dyn CommitLog>, StorageError> {
        let (files, folder) = (Arc::clone(&self.files), self.folder.clone());
        Ok(Arc::new(Wal::open(files, folder, at_least, self.seed, self.wal_file_bytes)?))
    }

    fn read_log(&self, from: SeqNo) -> Box<dyn LogReader> {
        Box::new(WalReader::new(Arc::clone(&self.files), self.folder.clone(), from))
    }

    fn remove_log(&self) -> Result<(), StorageError> {
        wal::remove(&*self.files, &self.folder)
    }
}
