//! Writing a log: group commit, files of a bounded size, and what is done when a write fails.
//!
//! Protocol. `queue` holds records in the order of their numbers until one thread, the one that has `file` locked, takes
//! all of them, writes them at once, syncs if any record among those wants it, and says so in `queue`. Threads that wait
//! for their record queue up for `file`'s lock and mostly find, when they get it, that their record is done. `file` is
//! locked before `queue`, never the other way round.

use super::{
    HEADER_BYTES, Header, LAST_SEQ, MAX_RECORD_BYTES, OpenFile, WAL_FILE_BYTES, WalReader, file_name,
    frame_bytes, numbers, put_frame,
};
use crate::backend::{CommitLog, Durability, LogReader};
use crate::files::{File, FileSystem};
use crate::{SeqNo, StorageError};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A log in the files of a folder; see the [module](self).
#[derive(Debug)]
pub(crate) struct Wal {
    files: Arc<dyn FileSystem>,
    folder: PathBuf,
    /// Decides the salts.
    seed: u64,
    file_bytes: u64,
    file: Mutex<End>,
    queue: Mutex<Queue>,
}

/// Where the log ends in its files.
#[derive(Debug)]
struct End {
    /// The last file there is, and how far it is valid; number 0 without one.
    number: u64,
    length: u64,
    /// The log goes on with this number or a greater one. It does not count records that were refused: the lower bound in the
    /// next file's header is this, so that a reader which asks for a refused number finds that nothing is missing.
    first: SeqNo,
    /// That file, when it is this writer's.
    current: Option<Current>,
    /// That file is another writer's, which perhaps only handed it to the operating system.
    is_inherited: bool,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Current {
    file: Arc<dyn File>,
    path: PathBuf,
    salt: u64,
    /// How far it is known to be durable.
    durable: u64,
}

/// Records on their way.
#[derive(Debug)]
struct Queue {
    /// Not yet written.
    waiting: Vec<(SeqNo, Vec<u8>)>,
    /// The number of the next record.
    next: SeqNo,
    /// Records before these are written, and durable.
    written: SeqNo,
    durable: SeqNo,
    /// Somebody wants this record, and those before, to be durable.
    wanted: SeqNo,
    /// Records that were not written, and why.
    failed: Vec<(Range<SeqNo>, Failure)>,
    stopped: Option<String>,
}

/// An error that several threads get.
#[derive(Debug, Clone)]
struct Failure {
    path: PathBuf,
    kind: io::ErrorKind,
    message: String,
}

impl Failure {
    fn new(path: &Path, error: &io::Error) -> Self {
        Self { path: path.to_owned(), kind: error.kind(), message: error.to_string() }
    }

    fn error(&self) -> StorageError {
        StorageError::io(&self.path)(io::Error::new(self.kind, self.message.clone()))
    }
}

/// Why records were not written.
enum Trouble {
    /// The log is as it was before.
    Refused(Failure),
    /// It is unknown what the log holds.
    Unknown(Failure),
}

impl Wal {
    /// Opens the log in a folder, or begins one. `seed` should differ from one opening to the next.
    pub(crate) fn open(
        files: Arc<dyn FileSystem>,
        folder: PathBuf,
        at_least: SeqNo,
        seed: u64,
        file_bytes: u64,
    ) -> Result<Self, StorageError> {
        let mut numbers = numbers(&*files, &folder)?;
        let mut end = End {
            number: 0,
            length: 0,
            first: SeqNo::FIRST,
            current: None,
            is_inherited: false,
            buffer: Vec::new(),
        };
        let mut next = at_least.max(SeqNo::FIRST);
        let mut durable = None;
        if let Some(&last) = numbers.last()
            && OpenFile::open(&*files, &folder, last, true)?.is_none()
        {
            // Never used; its name is given again.
            let path = folder.join(file_name(last));
            files.remove(&path).map_err(StorageError::io(&path))?;
            numbers.pop();
        }
        if let Some(&last) = numbers.last()
            && let Some(open) = OpenFile::open(&*files, &folder, last, false)?
        {
            let first = open.header.first;
            let mut reader = WalReader::of_file(Arc::clone(&files), folder.clone(), open)?;
            while reader.read()?.is_some() {}
            let (length, seen) = reader.end();
            (end.number, end.length, end.is_inherited) = (last, length, true);
            next = next.max(first).max(seen.next());
            // What was read is not durable for that; files before it are.
            durable = Some(first);
        }
        end.first = next;
        let queue = Queue {
            waiting: Vec::new(),
            next,
            written: next,
            durable: durable.unwrap_or(next),
            wanted: SeqNo(0),
            failed: Vec::new(),
            stopped: None,
        };
        let seed = seed ^ u64::from(crc32c::crc32c(&end.number.to_le_bytes())) << 32;
        Ok(Self { files, folder, seed, file_bytes, file: Mutex::new(end), queue: Mutex::new(queue) })
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // The queue is whole between its statements; a panic elsewhere says nothing about it.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self) -> MutexGuard<'_, End> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what waits and syncs if that is wanted; whoever waits for a record finds in the queue what became of it.
    fn flush(&self, end: &mut End) {
        let (records, wanted) = {
            let mut queue = self.queue();
            if queue.stopped.is_some() {
                return;
            }
            (std::mem::take(&mut queue.waiting), queue.wanted)
        };
        if let Some((last, _)) = records.last() {
            let last = *last;
            let outcome = self.write(end, &records);
            let mut queue = self.queue();
            match outcome {
                Ok(()) => queue.written = last.next(),
                Err(trouble) => return queue.fail(records[0].0, trouble),
            }
        }
        let mut queue = self.queue();
        let written = queue.written;
        if queue.durable < written && wanted >= queue.durable {
            drop(queue);
            let outcome = self.sync_inherited(end).and_then(|()| end.sync());
            queue = self.queue();
            match outcome {
                Ok(()) => queue.durable = written,
                Err(failure) => queue.fail(written, Trouble::Unknown(failure)),
            }
        }
    }

    /// Writes records behind the last ones, in a new file if need be.
    fn write(&self, end: &mut End, records: &[(SeqNo, Vec<u8>)]) -> Result<(), Trouble> {
        if end.current.is_none() || end.length >= self.file_bytes {
            self.begin_file(end, end.first)?;
        }
        let End { length, first, current, buffer, .. } = end;
        let current = current.as_ref().expect("a file was begun");
        buffer.clear();
        buffer.reserve(records.iter().map(|(_, record)| frame_bytes(record.len())).sum());
        for (seq, record) in records {
            let offset = *length + buffer.len() as u64;
            put_frame(buffer, current.salt, offset, current.durable, *seq, record);
        }
        let written = current.file.write_at(buffer, *length);
        let bytes = buffer.len() as u64;
        if buffer.capacity() as u64 > WAL_FILE_BYTES {
            *buffer = Vec::new();
        }
        match written {
            Ok(()) => {
                *length += bytes;
                *first = records.last().map_or(*first, |(seq, _)| seq.next());
                Ok(())
            }
            Err(error) => {
                let failure = Failure::new(&current.path, &error);
                // Part of it may be there; what comes next must not stand behind that.
                Err(match current.file.set_length(*length) {
                    Ok(()) => Trouble::Refused(failure),
                    Err(_) => Trouble::Unknown(failure),
                })
            }
        }
    }

    /// Makes the file durable that another writer left.
    fn sync_inherited(&self, end: &mut End) -> Result<(), Failure> {
        if end.is_inherited {
            let path = self.folder.join(file_name(end.number));
            let synced = self.files.open_to_write(&path).and_then(|file| file.sync());
            synced.map_err(|error| Failure::new(&path, &error))?;
            end.is_inherited = false;
        }
        Ok(())
    }

    /// Begins the next file. The one before is durable first, since the new one's header tells how far it is valid.
    fn begin_file(&self, end: &mut End, first: SeqNo) -> Result<(), Trouble> {
        let unknown = |path: &Path| {
            let path = path.to_owned();
            move |error: io::Error| Trouble::Unknown(Failure::new(&path, &error))
        };
        if first.0 > LAST_SEQ {
            let error = io::Error::other(format!("no file can begin with record {first}"));
            return Err(Trouble::Refused(Failure::new(&self.folder, &error)));
        }
        self.sync_inherited(end).and_then(|()| end.sync()).map_err(Trouble::Unknown)?;
        let number = end.number + 1;
        let path = self.folder.join(file_name(number));
        let salt = self.seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let header = Header { number, first, previous_length: end.length, salt };
        let refused = |error: io::Error| Trouble::Refused(Failure::new(&path, &error));
        let file = self.files.create(&path).map_err(refused)?;
        if let Err(error) = file.write_at(&header.encode(), 0) {
            // Its name must be free for the next try.
            let removed = self.files.remove(&path);
            return Err(removed.map_or_else(unknown(&path), |()| refused(error)));
        }
        file.sync().map_err(unknown(&path))?;
        self.files.sync_folder(&self.folder).map_err(unknown(&self.folder))?;
        let length = HEADER_BYTES as u64;
        end.current = Some(Current { file, path, salt, durable: length });
        (end.number, end.length, end.first) = (number, length, first);
        Ok(())
    }
}

impl End {
    fn sync(&mut self) -> Result<(), Failure> {
        let Some(current) = &mut self.current else { return Ok(()) };
        if current.durable < self.length {
            current.file.sync().map_err(|error| Failure::new(&current.path, &error))?;
            current.durable = self.length;
        }
        Ok(())
    }
}

impl Queue {
    /// Records from `from` on are not written, nor is any other that waits: it was made knowing of those.
    fn fail(&mut self, from: SeqNo, trouble: Trouble) {
        self.waiting.clear();
        match trouble {
            Trouble::Refused(failure) => {
                let next = self.next;
                match self.failed.last_mut() {
                    Some((range, last)) if range.end == from => (range.end, *last) = (next, failure),
                    _ => self.failed.push((from..next, failure)),
                }
                (self.written, self.durable) = match self.durable == self.written {
                    true => (next, next),
                    false => (next, self.durable),
                };
            }
            Trouble::Unknown(failure) => {
                self.stopped.get_or_insert(format!("{}: {}", failure.path.display(), failure.message));
            }
        }
    }

    /// Whether a record is done; an error when it will not be.
    fn outcome(&self, record: SeqNo, durability: Durability, folder: &Path) -> Result<bool, StorageError> {
        if let Some((_, failure)) = self.failed.iter().find(|(range, _)| range.contains(&record)) {
            return Err(failure.error());
        }
        let done = match durability {
            Durability::Written => record < self.written,
            Durability::Synced => record < self.durable,
        };
        if !done {
            self.check(folder)?;
        }
        Ok(done)
    }

    fn check(&self, folder: &Path) -> Result<(), StorageError> {
        match &self.stopped {
            None => Ok(()),
            Some(reason) => Err(StorageError::Stopped { path: folder.to_owned(), reason: reason.clone() }),
        }
    }
}

impl CommitLog for Wal {
    fn append(&self, record: &[u8]) -> Result<SeqNo, StorageError> {
        if record.len() > MAX_RECORD_BYTES {
            let (path, length) = (self.folder.clone(), record.len());
            return Err(StorageError::RecordTooLong { path, length, most: MAX_RECORD_BYTES });
        }
        let mut queue = self.queue();
        queue.check(&self.folder)?;
        let seq = queue.next;
        if seq.0 >= LAST_SEQ {
            // The next file could not tell where its records begin.
            let reason = format!("{seq} is the last number that a record can have");
            return Err(StorageError::Stopped { path: self.folder.clone(), reason });
        }
        queue.next = seq.next();
        queue.waiting.push((seq, record.to_vec()));
        Ok(seq)
    }

    fn commit(&self, record: SeqNo, durability: Durability) -> Result<(), StorageError> {
        {
            let mut queue = self.queue();
            if queue.outcome(record, durability, &self.folder)? {
                return Ok(());
            }
            if durability == Durability::Synced {
                queue.wanted = queue.wanted.max(record);
            }
        }
        let mut end = self.file();
        if !self.queue().outcome(record, durability, &self.folder)? {
            self.flush(&mut end);
        }
        drop(end);
        let done = self.queue().outcome(record, durability, &self.folder)?;
        assert!(done, "record {record} was never appended");
        Ok(())
    }

    fn sync(&self) -> Result<(), StorageError> {
        let mut end = self.file();
        {
            let mut queue = self.queue();
            queue.check(&self.folder)?;
            queue.wanted = queue.wanted.max(SeqNo(queue.written.0 - 1));
        }
        self.flush(&mut end);
        self.queue().check(&self.folder)
    }

    fn trim(&self, to: SeqNo) -> Result<(), StorageError> {
        let mut end = self.file();
        self.flush(&mut end);
        let next = {
            let queue = self.queue();
            queue.check(&self.folder)?;
            queue.next
        };
        // With everything trimmed, the last file goes, too, and an empty one says where the numbers go on.
        if to >= next && end.length > HEADER_BYTES as u64 {
            self.begin_file(&mut end, next).map_err(|trouble| {
                let (Trouble::Refused(failure) | Trouble::Unknown(failure)) = &trouble;
                let error = failure.error();
                if matches!(trouble, Trouble::Unknown(_)) {
                    self.queue().fail(next, trouble);
                }
                error
            })?;
        }
        let numbers = numbers(&*self.files, &self.folder)?;
        let mut kept = None;
        for &number in numbers.iter().rev() {
            // Files before one that begins at or before `to` hold older records only.
            let Some(open) = OpenFile::open(&*self.files, &self.folder, number, false)? else { continue };
            if open.header.first <= to {
                kept = Some(number);
                break;
            }
        }
        let Some(kept) = kept else { return Ok(()) };
        for &number in numbers.iter().take_while(|&&number| number < kept) {
            let path = self.folder.join(file_name(number));
            self.files.remove(&path).map_err(StorageError::io(&path))?;
        }
        Ok(())
    }

    fn next(&self) -> SeqNo {
        self.queue().next
    }

    fn advance(&self, to: SeqNo) {
        let mut queue = self.queue();
        queue.next = queue.next.max(to);
    }
}
