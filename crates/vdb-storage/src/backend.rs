//! What the engine asks of durable storage: a commit log, manifests and blobs.
//!
//! Three narrow traits, so that a local directory, memory, or a bucket can stand behind them. A [`Backend`] holds the
//! three of one store: of one collection, or of the catalogue of a database. One conformance suite, in `vdb-testkit`,
//! holds all backends to what is said here.
//!
//! A commit goes like this: blobs are written, then a manifest that names them is published; that is the moment. Records
//! of the log are changes since the manifest; once a manifest holds what they did, the log is trimmed. Nothing that a
//! manifest or a later record may need is removed before the manifest that does not is durable.

use crate::{Region, StorageError};
use std::fmt;
use std::io::Write;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// The place of a record in the log: records of larger numbers came later. The first is 1; numbers of writes that failed are
/// missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeqNo(pub u64);

impl SeqNo {
    /// Before every record.
    pub const FIRST: SeqNo = SeqNo(1);

    /// The number after this one.
    #[must_use]
    pub fn next(self) -> SeqNo {
        SeqNo(self.0 + 1)
    }
}

impl fmt::Display for SeqNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a record survives once [`CommitLog::commit`] has returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process: the operating system has it.
    Written,
    /// A power failure, too.
    Synced,
}

/// A log that many threads append to.
pub trait CommitLog: fmt::Debug + Send + Sync {
    /// Gives a record its place behind all that came before. It is not kept yet: [`commit`](Self::commit) must follow.
    ///
    /// # Errors
    /// [`StorageError::RecordTooLong`]; [`StorageError::Stopped`] after a failure that leaves the state of the log unknown.
    fn append(&self, record: &[u8]) -> Result<SeqNo, StorageError>;

    /// Returns when the record, and with it all records before, is as safe as `durability` asks. Threads that wait at the same
    /// time share one write and one sync.
    ///
    /// # Errors
    /// [`StorageError::Io`] when it could not be written: then it is not in the log, nor are the records that were appended
    /// after it and are not committed yet, and the log goes on. [`StorageError::Stopped`] when it is unknown whether it is.
    fn commit(&self, record: SeqNo, durability: Durability) -> Result<(), StorageError>;

    /// Makes all that was committed durable.
    ///
    /// # Errors
    /// [`StorageError::Stopped`], and from then on.
    fn sync(&self) -> Result<(), StorageError>;

    /// Records before this one are needed no more; space comes back in large pieces.
    ///
    /// # Errors
    /// [`StorageError::Io`]: the rest goes at the next time.
    fn trim(&self, to: SeqNo) -> Result<(), StorageError>;

    /// The number that the next record gets at least.
    fn next(&self) -> SeqNo;

    /// Gives no record to come a number before this one, at most 2^63. Numbers that are left out are missing as those of
    /// writes that failed are.
    fn advance(&self, to: SeqNo);
}

/// Reads a log from some place on, also while it is written by somebody else.
pub trait LogReader: fmt::Debug + Send {
    /// The next record, `None` when there is none now; later there may be.
    ///
    /// # Errors
    /// What is damaged, with file and offset. [`StorageError::Trimmed`] when records that were to come are gone.
    fn read(&mut self) -> Result<Option<(SeqNo, &[u8])>, StorageError>;

    /// What stands behind the last record that was read and is none: left by a crash, or being written.
    fn torn_tail(&self) -> Option<&TornTail>;
}

/// Bytes at the end of a log that hold no complete record: none of them was ever acknowledged as durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// The file.
    pub path: PathBuf,
    /// Where they begin in the file.
    pub offset: u64,
    /// How many they are.
    pub bytes: u64,
}

impl fmt::Display for TornTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: the last {} bytes, from byte {} on, are an unfinished write and were left out",
            self.path.display(),
            self.bytes,
            self.offset
        )
    }
}

/// Numbered states. The greatest number is the current one; a number has one content for ever.
pub trait Manifests: fmt::Debug + Send + Sync {
    /// The current number and its content; `None` in a store without any.
    ///
    /// # Errors
    /// [`StorageError::Io`].
    fn current(&self) -> Result<Option<(u64, Region)>, StorageError>;

    /// The content of a number.
    ///
    /// # Errors
    /// [`StorageError::Io`], with the kind `NotFound` when it was removed or never published.
    fn load(&self, number: u64) -> Result<Region, StorageError>;

    /// Where the content of a number is, for messages.
    fn path(&self, number: u64) -> PathBuf;

    /// The numbers that there are, ascending.
    ///
    /// # Errors
    /// [`StorageError::Io`].
    fn numbers(&self) -> Result<Vec<u64>, StorageError>;

    /// Makes `content` the current state, and gives its number, `expected` + 1. It is durable on return.
    ///
    /// # Errors
    /// [`StorageError::Conflict`] when the current number is not `expected` (0: none): nothing is published.
    /// [`StorageError::Stopped`] when it is unknown whether it is published. Otherwise it is not.
    fn publish(&self, expected: u64, content: &[u8]) -> Result<u64, StorageError>;

    /// Removes a number that is not the current one; one that is not there is fine. After a power failure it may be there
    /// again.
    ///
    /// # Errors
    /// [`StorageError::Io`].
    fn remove(&self, number: u64) -> Result<(), StorageError>;

    /// What there is stays, and what was removed is gone, whatever happens now: also what was published by a process that
    /// ended before it could say that it is durable.
    ///
    /// # Errors
    /// [`StorageError::Stopped`]: it is as unknown as before, and nothing is published until the store is opened again.
    fn sync(&self) -> Result<(), StorageError>;
}

/// Immutable files by name. A name is 1 to 200 of `a`–`z`, `0`–`9`, `-`, `_` and `.`, the first no dot, and is used once.
pub trait Blobs: fmt::Debug + Send + Sync {
    /// Begins a blob.
    ///
    /// # Errors
    /// [`StorageError::Io`], with the kind `AlreadyExists` when the name was used; [`StorageError::InvalidName`].
    fn create(&self, name: &str) -> Result<Box<dyn BlobWriter>, StorageError>;

    /// Opens a blob that was finished.
    ///
    /// # Errors
    /// [`StorageError::Io`], with the kind `NotFound` when there is none.
    fn open(&self, name: &str) -> Result<Box<dyn Blob>, StorageError>;

    /// Where a blob is, for messages.
    fn path(&self, name: &str) -> PathBuf;

    /// All names, those of unfinished blobs perhaps among them, ascending.
    ///
    /// # Errors
    /// [`StorageError::Io`].
    fn names(&self) -> Result<Vec<String>, StorageError>;

    /// Removes a blob; one that is not there is fine. Who has it open reads on. After a power failure it may be there again.
    ///
    /// # Errors
    /// [`StorageError::Io`].
    fn remove(&self, name: &str) -> Result<(), StorageError>;
}

/// A blob being written.
pub trait BlobWriter: Write + Send {
    /// Ends it: complete and durable on return. Without this call there is no blob, at most a name without meaning.
    ///
    /// # Errors
    /// [`StorageError::Io`].
    fn finish(self: Box<Self>) -> Result<(), StorageError>;
}

/// A finished blob.
pub trait Blob: fmt::Debug + Send + Sync {
    /// Its length in bytes.
    fn length(&self) -> u64;

    /// Some of its bytes.
    ///
    /// # Errors
    /// [`StorageError::Truncated`] when it is shorter; [`StorageError::Io`].
    fn read(&self, range: Range<u64>) -> Result<Vec<u8>, StorageError>;

    /// All of it in place: mapped where that can be done, else in memory.
    ///
    /// # Errors
    /// [`StorageError::Io`].
    fn map(&self) -> Result<Region, StorageError>;
}

/// The three parts of one store.
pub trait Backend: fmt::Debug + Send + Sync {
    /// Its states.
    fn manifests(&self) -> &dyn Manifests;

    /// Its blobs.
    fn blobs(&self) -> &dyn Blobs;

    /// Its log, to write: there is one writer at a time, which the caller sees to. New records get numbers from `at_least` on.
    ///
    /// # Errors
    /// As [`LogReader::read`].
    fn open_log(&self, at_least: SeqNo) -> Result<Arc<dyn CommitLog>, StorageError>;

    /// Reads the log from a record on.
    fn read_log(&self, from: SeqNo) -> Box<dyn LogReader>;

    /// Removes the log, as if there had never been one: that of a store that did not come to be, which nobody has open. After a
    /// power failure any part of it may be there again, unless a new one was begun.
    ///
    /// # Errors
    /// [`StorageError::Io`]: a part of it may be gone.
    fn remove_log(&self) -> Result<(), StorageError>;
}

/// Whether a blob may have this name.
pub(crate) fn check_blob_name(name: &str) -> Result<(), StorageError> {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    if (1..=MAX_BLOB_NAME).contains(&name.len()) && name.bytes().all(is_allowed) && !name.starts_with('.') {
        return Ok(());
    }
    Err(StorageError::InvalidName { name: name.to_owned() })
}

/// Reads a blob from its first byte to its last, without ever holding much of it.
pub(crate) fn for_each_part(
    blob: &dyn Blob,
    mut take: impl FnMut(&[u8]) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let mut start = 0;
    while start < blob.length() {
        let end = blob.length().min(start + PART_BYTES as u64);
        take(&blob.read(start..end)?)?;
        start = end;
    }
    Ok(())
}

/// What is copied at once: a system call's cost disappears behind as many bytes.
pub(crate) const PART_BYTES: usize = 256 << 10;

/// The longest name of a blob: with its prefix within what every file system takes.
const MAX_BLOB_NAME: usize = 200;
