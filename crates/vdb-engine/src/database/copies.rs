//! Snapshots, clones and archives of collections.

use super::{Catalogue, Database};
use crate::{Collection, Error};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vdb_storage::{Archive, Backend, StorageError, archive, write_archive, write_atomically};

impl Database {
    /// Makes a collection that holds what another one does now. The two share the bytes of their segments on disk, and nothing
    /// else: it takes milliseconds, and neither sees what is written to the other.
    ///
    /// # Errors
    /// [`Error::NoSuchCollection`], [`Error::CollectionExists`], [`Error::InvalidName`]; [`Error::Storage`].
    pub fn clone_collection(&self, name: &str, clone: &str) -> Result<Arc<Collection>, Error> {
        let source = self.collection(name)?;
        self.add_collection(clone, |store| {
            let from = self.collection_store(self.folder_of(name)?);
            source.with_pinned(|manifest, blobs, _| Ok(from.link_to(store, blobs, manifest)?))?;
            Ok(())
        })
    }

    /// Makes a database in another folder that holds what this one does now, of all collections that can be used. Where the file
    /// system has links the two share the bytes of segments, and it takes milliseconds; else they are copied.
    ///
    /// # Errors
    /// [`Error::NotEmpty`] when there is a database in that folder; [`Error::Storage`].
    pub fn snapshot(&self, folder: impl AsRef<Path>) -> Result<(), Error> {
        self.check_writes("")?;
        let folder = folder.as_ref();
        let store = self.options.store(folder.to_owned());
        store.create()?;
        if store.manifests().current()?.is_some() {
            return Err(Error::NotEmpty { path: folder.to_owned() });
        }
        let mut catalogue = Catalogue { next: 1, ..Catalogue::default() };
        for collection in self.open_ones() {
            let from = self.collection_store(self.folder_of(collection.name())?);
            let to = self.options.store(folder.join(super::folder_name(catalogue.next)));
            collection.with_pinned(|manifest, blobs, _| Ok(from.link_to(&to, blobs, manifest)?))?;
            catalogue.folders.insert(collection.name().to_owned(), catalogue.next);
            catalogue.next += 1;
        }
        store.manifests().publish(0, &catalogue.encode())?;
        Ok(())
    }

    /// Writes an archive of what a collection holds now: one file with checksums, in the place of whatever is there.
    ///
    /// # Errors
    /// [`Error::NoSuchCollection`]; [`Error::Storage`].
    pub fn export_archive(&self, name: &str, path: impl AsRef<Path>) -> Result<(), Error> {
        self.check_writes(name)?;
        let source = self.collection(name)?;
        let from = self.collection_store(self.folder_of(name)?);
        // A clone of its own, so that nothing waits for the archive.
        let clone = {
            let mut state = self.state();
            state.catalogue.next += 1;
            self.collection_store(state.catalogue.next - 1)
        };
        let (content, names, log_from) = source.with_pinned(|manifest, blobs, log_from| {
            from.link_to(&clone, blobs, manifest)?;
            Ok((manifest.to_vec(), blobs.to_vec(), log_from))
        })?;
        let contents =
            archive::Contents { manifest: &content, blobs: clone.blobs(), names: &names, log_from };
        let path = path.as_ref();
        let written =
            write_atomically(path, |out| write_archive(out, path, &contents, std::iter::empty()).map(|_| ()));
        let io = |error| Error::from(StorageError::io(clone.folder())(error));
        self.options.files.remove_folder(clone.folder()).map_err(io)?;
        Ok(written?)
    }

    /// Makes a collection of an archive, after every byte of it was checked.
    ///
    /// # Errors
    /// [`Error::CollectionExists`], [`Error::InvalidName`]; [`Error::Storage`] with what is damaged.
    pub fn restore_archive(&self, name: &str, path: impl AsRef<Path>) -> Result<Arc<Collection>, Error> {
        let mut archive = Archive::<File>::open(path.as_ref())?;
        self.add_collection(name, |store| {
            store.create()?;
            archive.restore(store)?;
            Ok(())
        })
    }

    /// The number of a collection's folder.
    pub(super) fn folder_of(&self, name: &str) -> Result<u64, Error> {
        let folder = self.state().catalogue.folders.get(name).copied();
        folder.ok_or_else(|| Error::NoSuchCollection { collection: name.to_owned() })
    }

    /// The folder that holds the files of a collection.
    ///
    /// # Errors
    /// [`Error::NoSuchCollection`].
    pub fn collection_folder(&self, name: &str) -> Result<PathBuf, Error> {
        Ok(self.folder.join(super::folder_name(self.folder_of(name)?)))
    }
}
