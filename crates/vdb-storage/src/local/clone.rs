//! Cloning a store by giving its blobs second names.
//!
//! `docs/format.md`, "Cloning a store", has the order of steps and what a crash can leave.

use super::LocalDir;
use crate::backend::{Blobs, for_each_part};
use crate::{StorageError, new_store};
use std::io::{ErrorKind, Write};

impl LocalDir {
    /// Makes `other`, a folder with nothing of a store in it, a store of these blobs and this manifest, as number 1; it has
    /// no log. Blobs are linked, or copied where the file system has no links between the two folders, so that both stores may
    /// remove them.
    ///
    /// The caller sees to it that the blobs are not removed here meanwhile, and that nobody writes there. Both folders are in
    /// the same [`FileSystem`](crate::files::FileSystem).
    ///
    /// # Durability
    /// The new store is durable on return. After a crash it is there whole, or it has no manifest.
    ///
    /// # Errors
    /// [`StorageError::NotEmpty`]; [`StorageError::Io`], for one when a blob is missing: what was made is removed again, but
    /// for the folder; [`StorageError::Stopped`] when it is unknown whether the manifest is published.
    pub fn link_to(&self, other: &LocalDir, blobs: &[String], manifest: &[u8]) -> Result<u64, StorageError> {
        other.create()?;
        new_store::make(other, &self.folder, manifest, blobs, || {
            blobs.iter().try_for_each(|name| self.link_blob(other, name))?;
            // A manifest must not be durable before the names of its blobs are.
            other.sync_folder()
        })
    }

    fn link_blob(&self, other: &LocalDir, name: &str) -> Result<(), StorageError> {
        let (from, to) = (self.blob_path(name)?, other.blob_path(name)?);
        match self.files.link(&from, &to) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(StorageError::io(&to)(error)),
            // Another file system, one without links, a file that has too many of them, a system that forbids it: a copy does
            // as well, and if the fault is another one, it tells.
            Err(_) => {
                let mut copy = Blobs::create(other, name)?;
                for_each_part(&*self.open(name)?, |part| {
                    copy.write_all(part).map_err(StorageError::io(&to))
                })?;
                copy.finish()
            }
        }
    }
}
