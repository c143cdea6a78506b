//! Saving a database to a file and loading it: the specification's JSON, and the binary form that keeps the index.

use crate::db::Store;
use crate::{Error, VectorDB, VectorDBConfig, binary, json};
use std::borrow::Cow;
use std::fs;
use std::path::Path;
use vdb_distance::Metric;
use vdb_storage::StorageError;
use vdb_storage::container::MAGIC;

impl VectorDB {
    /// Writes all records as the specification's JSON: a pretty-printed array. The index is rebuilt when loading.
    ///
    /// # Durability
    /// The file is replaced at once, after its content has reached the disk: a crash leaves the old file or the new.
    ///
    /// # Errors
    /// [`Error::Storage`] names the path and the failed call.
    pub fn save_to_file(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        match &self.store {
            Store::Memory(core) => json::save(json::views(&core.store), path.as_ref()),
            Store::Durable(durable) => {
                json::save(durable.records().map(|record| Ok(record?.into())), path.as_ref())
            }
        }
    }

    /// Reads a file written by [`save_to_file`](Self::save_to_file) or [`save_binary`](Self::save_binary), told apart
    /// by their first bytes.
    ///
    /// # Errors
    /// [`Error::Json`] says where a file stops being an array of records, [`Error::InFile`] which record does not fit
    /// `config`; a binary file of another dimension, metric or index type is refused too.
    pub fn load_from_file(path: impl AsRef<Path>, config: VectorDBConfig) -> Result<Self, Error> {
        let path = path.as_ref();
        let bytes = fs::read(path).map_err(StorageError::io(path))?;
        if bytes.starts_with(&MAGIC) {
            drop(bytes);
            return Self::load_binary(path).and_then(|db| db.require(&config, path));
        }
        let records = json::parse(path, &bytes)?;
        drop(bytes);
        let mut db = VectorDB::new(config);
        db.batch_insert(records).map_err(|source| in_file(path, source))?;
        Ok(db)
    }

    /// Writes records and the built index to one file with a checksum on every part. Of a database in a directory the index
    /// is built for it, in memory; [`Database::export_archive`](crate::Database::export_archive) copies what is
    /// there.
    ///
    /// # Durability
    /// As [`save_to_file`](Self::save_to_file).
    ///
    /// # Errors
    /// [`Error::Storage`] names the path and the failed call; a database of invalid dimension cannot be saved.
    pub fn save_binary(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        crate::config::check_dimension(self.dimension())?;
        let core = match &self.store {
            Store::Memory(core) => Cow::Borrowed(core),
            Store::Durable(durable) => Cow::Owned(durable.to_core()?),
        };
        binary::save(&core, path.as_ref())
    }

    /// Reads a file written by [`save_binary`](Self::save_binary): no index is rebuilt.
    ///
    /// # Errors
    /// [`Error::Storage`] for a file that is foreign, cut short, damaged or of a newer version, and
    /// [`Error::Damaged`] for one whose content contradicts itself; both say where.
    pub fn load_binary(path: impl AsRef<Path>) -> Result<Self, Error> {
        Ok(Self { store: Store::Memory(binary::load(path.as_ref())?) })
    }

    fn require(self, config: &VectorDBConfig, path: &Path) -> Result<Self, Error> {
        let expected = (config.dimension, Metric::from(config.distance_metric), config.index_type);
        let found = (self.dimension(), self.metric(), self.index_type());
        if expected == found {
            return Ok(self);
        }
        let text =
            |(dimension, metric, index_type)| format!("{dimension} dimensions, {metric}, {index_type:?}");
        let (expected, found) = (text(expected), text(found));
        let reason = format!("expected a database of {expected}; the file holds one of {found}");
        Err(in_file(path, Error::InvalidConfig(reason)))
    }
}

pub(crate) fn in_file(path: &Path, source: Error) -> Error {
    Error::InFile { path: path.to_owned(), source: Box::new(source) }
}
