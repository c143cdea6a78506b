//! A store out of an archive. `docs/format.md`, "Archive", has the order of steps and what a crash can leave.

use super::Archive;
use crate::backend::{BlobWriter, PART_BYTES};
use crate::{Backend, Durability, SeqNo, StorageError, new_store};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::Path;

/// Records are handed to the operating system whenever they are as many bytes.
const LOG_BYTES: usize = 4 << 20;

impl<R: Read + Seek> Archive<R> {
    /// Makes an empty store one of this manifest, its blobs and the log, whose records keep their numbers; gives the number of
    /// the manifest, which is 1. Nobody else writes to that store meanwhile.
    ///
    /// # Durability
    /// The store is durable on return. After a crash it is there whole, or it has no manifest.
    ///
    /// # Errors
    /// [`StorageError::NotEmpty`]; [`StorageError::Checksum`] and all others of damaged files; [`StorageError::Io`]. What was
    /// written is removed again then. [`StorageError::Stopped`] when it is unknown whether the manifest is published.
    pub fn restore(&mut self, into: &dyn Backend) -> Result<u64, StorageError> {
        let manifest = self.manifest()?;
        // A log has no way back, so it is looked through first.
        self.records()?.try_for_each(|record| record.map(|_| ()))?;
        let (path, names) = (self.path.clone(), self.names.clone());
        new_store::make(into, &path, &manifest, &names, || {
            for name in &names {
                self.copy_blob(name, into.blobs().create(name)?)?;
            }
            self.copy_log(into)
        })
    }

    fn copy_blob(&mut self, name: &str, mut out: Box<dyn BlobWriter>) -> Result<(), StorageError> {
        let path = self.path.clone();
        let mut blob = self.blob(name)?;
        let mut part = vec![0; PART_BYTES];
        loop {
            match blob.read(&mut part) {
                Ok(0) => return out.finish(),
                Ok(read) => out.write_all(&part[..read]).map_err(StorageError::io(Path::new(name)))?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(StorageError::from_io(&path)(error)),
            }
        }
    }

    fn copy_log(&mut self, into: &dyn Backend) -> Result<(), StorageError> {
        let path = self.path.clone();
        let records = self.records_unchecked()?;
        let log = into.open_log(records.from())?;
        let (mut last, mut waiting) = (None, 0);
        for record in records {
            let (seq, record) = record?;
            log.advance(seq);
            if log.append(&record)? != seq {
                return Err(StorageError::NotEmpty { path, found: "is a log".to_owned() });
            }
            waiting += record.len();
            if waiting >= LOG_BYTES {
                log.commit(seq, Durability::Written)?;
                waiting = 0;
            }
            last = Some(seq);
        }
        last.map_or(Ok(()), |seq: SeqNo| log.commit(seq, Durability::Synced))
    }
}
