//! Manifests as numbered files, each put in its place by a link that fails when the place is taken.

use super::{LocalDir, TEMPORARY_PREFIX};
use crate::backend::Manifests;
use crate::files::read_from;
use crate::wal::numbered;
use crate::{Region, StorageError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

const PREFIX: &str = "manifest-";

impl LocalDir {
    fn manifest_path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{PREFIX}{number:020}"))
    }

    fn write_temporary(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let file = self.files.create(path)?;
        file.write_at(content, 0)?;
        file.sync()
    }
}

impl Manifests for LocalDir {
    fn current(&self) -> Result<Option<(u64, Region)>, StorageError> {
        let mut before = 0;
        loop {
            let Some(number) = self.numbers()?.pop() else { return Ok(None) };
            match self.load(number) {
                // A newer one has come and this one gone; without a newer one it is an error.
                Err(StorageError::Io { source, .. })
                    if source.kind() == ErrorKind::NotFound && number > before =>
                {
                    before = number;
                }
                content => return Ok(Some((number, content?))),
            }
        }
    }

    fn load(&self, number: u64) -> Result<Region, StorageError> {
        let path = self.manifest_path(number);
        let read = self.files.open(&path).and_then(|file| read_from(&*file, 0));
        Ok(Region::from(&read.map_err(StorageError::io(&path))?[..]))
    }

    fn path(&self, number: u64) -> PathBuf {
        self.manifest_path(number)
    }

    fn numbers(&self) -> Result<Vec<u64>, StorageError> {
        Ok(numbered(&self.names()?, PREFIX))
    }

    fn publish(&self, expected: u64, content: &[u8]) -> Result<u64, StorageError> {
        self.check()?;
        let conflict = |found| StorageError::Conflict { path: self.folder.clone(), expected, found };
        let found = self.numbers()?.pop().unwrap_or(0);
        if found != expected {
            return Err(conflict(found));
        }
        let number = expected + 1;
        // The order of the numbers does not matter, only that they differ.
        let count = self.temporaries.fetch_add(1, Ordering::Relaxed);
        let temporary = self.folder.join(format!("{TEMPORARY_PREFIX}{:016x}-{count}", self.seed));
        let path = self.manifest_path(number);
        let linked = self
            .write_temporary(&temporary, content)
            .map_err(StorageError::io(&temporary))
            .and_then(|()| match self.files.link(&temporary, &path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(conflict(number)),
                result => result.map_err(StorageError::io(&path)),
            });
        let published = linked.and_then(|()| self.sync_folder().map_err(|error| self.stop(&error)));
        // If it stays, the next writer removes it.
        let _ = self.files.remove(&temporary);
        published.map(|()| number)
    }

    fn remove(&self, number: u64) -> Result<(), StorageError> {
        let path = self.manifest_path(number);
        match self.files.remove(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result.map_err(StorageError::io(&path)),
        }
    }

    fn sync(&self) -> Result<(), StorageError> {
        self.check()?;
        self.sync_folder().map_err(|error| self.stop(&error))
    }
}
