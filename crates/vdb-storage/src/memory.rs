//! A store in memory: for data that need not last, and as the plainest thing that does what [`Backend`] says.

use crate::backend::{
    Backend, Blob, BlobWriter, Blobs, CommitLog, Durability, LogReader, Manifests, SeqNo, TornTail,
    check_blob_name,
};
use crate::local::check_range;
use crate::{MAX_RECORD_BYTES, Region, StorageError};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A store in memory. Clones are the same store.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    records: BTreeMap<SeqNo, Arc<[u8]>>,
    next: u64,
    /// Records before this one may be gone.
    kept: u64,
    manifests: BTreeMap<u64, Region>,
    /// `None` while a blob is being written.
    blobs: BTreeMap<String, Option<Region>>,
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stands for the path in errors.
fn path(name: &str) -> PathBuf {
    Path::new("memory").join(name)
}

fn error(kind: ErrorKind, name: &str) -> StorageError {
    StorageError::io(&path(name))(kind.into())
}

impl Backend for Memory {
    fn manifests(&self) -> &dyn Manifests {
        self
    }

    fn blobs(&self) -> &dyn Blobs {
        self
    }

    fn open_log(&self, at_least: SeqNo) -> Result<Arc<dyn CommitLog>, StorageError> {
        let mut state = self.state();
        state.next = state.next.max(at_least.0).max(SeqNo::FIRST.0);
        Ok(Arc::new(self.clone()))
    }

    fn read_log(&self, from: SeqNo) -> Box<dyn LogReader> {
        Box::new(MemoryReader { memory: self.clone(), from, record: Arc::default() })
    }

    fn remove_log(&self) -> Result<(), StorageError> {
        let mut state = self.state();
        state.records.clear();
        (state.next, state.kept) = (0, 0);
        Ok(())
    }
}

impl CommitLog for Memory {
    fn append(&self, record: &[u8]) -> Result<SeqNo, StorageError> {
        if record.len() > MAX_RECORD_BYTES {
            let (path, length) = (path("log"), record.len());
            return Err(StorageError::RecordTooLong { path, length, most: MAX_RECORD_BYTES });
        }
        let mut state = self.state();
        let seq = SeqNo(state.next);
        state.next += 1;
        state.records.insert(seq, record.into());
        Ok(seq)
    }

    fn commit(&self, record: SeqNo, _: Durability) -> Result<(), StorageError> {
        assert!(record.0 < self.state().next, "record {record} was never appended");
        Ok(())
    }

    fn sync(&self) -> Result<(), StorageError> {
        Ok(())
    }

    fn trim(&self, to: SeqNo) -> Result<(), StorageError> {
        let mut state = self.state();
        state.records = state.records.split_off(&to);
        state.kept = state.kept.max(to.0);
        Ok(())
    }

    fn next(&self) -> SeqNo {
        SeqNo(self.state().next)
    }

    fn advance(&self, to: SeqNo) {
        let mut state = self.state();
        state.next = state.next.max(to.0);
    }
}

#[derive(Debug)]
struct MemoryReader {
    memory: Memory,
    from: SeqNo,
    record: Arc<[u8]>,
}

impl LogReader for MemoryReader {
    fn read(&mut self) -> Result<Option<(SeqNo, &[u8])>, StorageError> {
        let state = self.memory.state();
        if self.from.0 < state.kept {
            return Err(StorageError::Trimmed { path: path("log"), wanted: self.from });
        }
        let Some((&seq, record)) = state.records.range(self.from..).next() else { return Ok(None) };
        self.record = Arc::clone(record);
        self.from = seq.next();
        drop(state);
        Ok(Some((seq, &self.record)))
    }

    fn torn_tail(&self) -> Option<&TornTail> {
        None
    }
}

impl Manifests for Memory {
    fn current(&self) -> Result<Option<(u64, Region)>, StorageError> {
        Ok(self.state().manifests.last_key_value().map(|(&number, content)| (number, content.clone())))
    }

    fn load(&self, number: u64) -> Result<Region, StorageError> {
        let found = self.state().manifests.get(&number).cloned();
        found.ok_or_else(|| StorageError::io(&Manifests::path(self, number))(ErrorKind::NotFound.into()))
    }

    fn path(&self, number: u64) -> PathBuf {
        path(&format!("manifest {number}"))
    }

    fn numbers(&self) -> Result<Vec<u64>, StorageError> {
        Ok(self.state().manifests.keys().copied().collect())
    }

    fn publish(&self, expected: u64, content: &[u8]) -> Result<u64, StorageError> {
        let mut state = self.state();
        let found = state.manifests.last_key_value().map_or(0, |(&number, _)| number);
        if found != expected {
            return Err(StorageError::Conflict { path: path("manifests"), expected, found });
        }
        state.manifests.insert(expected + 1, Region::from(content));
        Ok(expected + 1)
    }

    fn remove(&self, number: u64) -> Result<(), StorageError> {
        self.state().manifests.remove(&number);
        Ok(())
    }

    fn sync(&self) -> Result<(), StorageError> {
        Ok(())
    }
}

impl Blobs for Memory {
    fn create(&self, name: &str) -> Result<Box<dyn BlobWriter>, StorageError> {
        check_blob_name(name)?;
        let mut state = self.state();
        if state.blobs.contains_key(name) {
            return Err(error(ErrorKind::AlreadyExists, name));
        }
        state.blobs.insert(name.to_owned(), None);
        let name = name.to_owned();
        Ok(Box::new(MemoryWriter { memory: self.clone(), name, bytes: Vec::new(), finished: false }))
    }

    fn open(&self, name: &str) -> Result<Box<dyn Blob>, StorageError> {
        check_blob_name(name)?;
        let found = self.state().blobs.get(name).cloned().flatten();
        let content = found.ok_or_else(|| error(ErrorKind::NotFound, name))?;
        Ok(Box::new(MemoryBlob { name: name.to_owned(), content }))
    }

    fn path(&self, name: &str) -> PathBuf {
        path(name)
    }

    fn names(&self) -> Result<Vec<String>, StorageError> {
        Ok(self.state().blobs.keys().cloned().collect())
    }

    fn remove(&self, name: &str) -> Result<(), StorageError> {
        check_blob_name(name)?;
        self.state().blobs.remove(name);
        Ok(())
    }
}

struct MemoryWriter {
    memory: Memory,
    name: String,
    bytes: Vec<u8>,
    finished: bool,
}

impl Write for MemoryWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobWriter for MemoryWriter {
    fn finish(mut self: Box<Self>) -> Result<(), StorageError> {
        let content = Region::from(&self.bytes[..]);
        self.memory.state().blobs.insert(self.name.clone(), Some(content));
        self.finished = true;
        Ok(())
    }
}

impl Drop for MemoryWriter {
    fn drop(&mut self) {
        if !self.finished {
            self.memory.state().blobs.remove(&self.name);
        }
    }
}

#[derive(Debug)]
struct MemoryBlob {
    name: String,
    content: Region,
}

impl Blob for MemoryBlob {
    fn length(&self) -> u64 {
        self.content.len() as u64
    }

    fn read(&self, range: Range<u64>) -> Result<Vec<u8>, StorageError> {
        check_range(&path(&self.name), &range, self.length())?;
        Ok(self.content[range.start as usize..range.end as usize].to_vec())
    }

    fn map(&self) -> Result<Region, StorageError> {
        Ok(self.content.clone())
    }
}
