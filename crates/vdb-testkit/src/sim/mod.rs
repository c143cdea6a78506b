//! A file system in memory with two images: what programs see, and what a power failure leaves.
//!
//! Every change is kept in a journal. [`SimFiles::after`] replays the journal up to some change and decides, by a [`Loss`],
//! what became of the changes that were not synced: a file's sync saves its content, a folder's sync the names in it, and
//! nothing else saves anything. What is left is again a file system, to open the store in.

mod disk;
mod handle;

use disk::{Change, Disk, Id};
use handle::Handle;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vdb_storage::files::{File, FileSystem, LockGuard};

/// What a power failure leaves of the changes that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// All of them: the process ended, the machine did not.
    Nothing,
    /// None of them.
    Everything,
    /// Any of them, in any combination, writes in part: as this seed has it.
    Random(u64),
    /// All of them, but of the last write only as many bytes.
    Torn(usize),
}

/// A file system in memory; clones are the same one.
#[derive(Debug, Clone)]
pub struct SimFiles {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// As the journal begins.
    base: Disk,
    journal: Vec<Change>,
    live: Disk,
    locked: BTreeSet<PathBuf>,
    calls: u64,
    failing: BTreeMap<u64, ErrorKind>,
    before_write: Hook,
    capacity: u64,
    /// What links from one folder to another fail with.
    no_links: Option<ErrorKind>,
}

/// Called before the next write.
#[derive(Default)]
struct Hook(Option<Box<dyn FnOnce() + Send>>);

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hook").field(&self.0.is_some()).finish()
    }
}

impl Default for SimFiles {
    fn default() -> Self {
        Self::from_disk(Disk::default())
    }
}

impl SimFiles {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    fn from_disk(disk: Disk) -> Self {
        let state = State {
            base: disk.clone(),
            journal: Vec::new(),
            live: disk,
            locked: BTreeSet::new(),
            calls: 0,
            failing: BTreeMap::new(),
            before_write: Hook::default(),
            capacity: u64::MAX,
            no_links: None,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many changes there were.
    pub fn changes(&self) -> usize {
        self.state().journal.len()
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Makes the `n`-th call from now on fail, the next one for 1: with this error, and, if it is a write, after half of it.
    pub fn fail(&self, n: u64, kind: ErrorKind) {
        let mut state = self.state();
        let call = state.calls + n;
        state.failing.insert(call, kind);
    }

    /// Calls `hook` when the next write begins: what other threads may do meanwhile.
    pub fn before_next_write(&self, hook: impl FnOnce() + Send + 'static) {
        self.state().before_write = Hook(Some(Box::new(hook)));
    }

    /// From now on files hold at most this many bytes together; more is `StorageFull`, after what there is room for.
    pub fn limit(&self, bytes: u64) {
        self.state().capacity = bytes;
    }

    /// From now on no file gets a name in another folder than its own: as if each were a disk.
    pub fn refuse_links_between_folders(&self, kind: ErrorKind) {
        self.state().no_links = Some(kind);
    }

    /// The bytes of all files together.
    pub fn bytes(&self) -> u64 {
        self.state().live.bytes()
    }

    /// Changes some bytes of a file, as failing hardware does.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let id = state.live.find(path).expect("a file to damage");
        change(state.live.content_mut(id));
    }

    /// Whether the last of the first `changes` changes is a write, and of how many bytes.
    pub fn write_at(&self, changes: usize) -> Option<usize> {
        match changes.checked_sub(1).and_then(|last| self.state().journal.get(last).cloned()) {
            Some(Change::Write { bytes, .. }) => Some(bytes.len()),
            _ => None,
        }
    }

    /// What is left when the power fails after the first `changes` changes.
    pub fn after(&self, changes: usize, loss: Loss) -> SimFiles {
        let state = self.state();
        let mut survived = disk::Survival::new(&state.base);
        for change in &state.journal[..changes] {
            survived.apply(change);
        }
        let disk = match loss {
            Loss::Nothing => survived.live,
            Loss::Everything => survived.durable(|_| None),
            Loss::Torn(bytes) => survived.torn(bytes),
            Loss::Random(seed) => {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                survived.durable(|length| match rng.random_range(0..4) {
                    0 => None,
                    1 => Some(rng.random_range(0..=length)),
                    _ => Some(length),
                })
            }
        };
        SimFiles::from_disk(disk)
    }

    /// Counts a call; an error when it is the one to fail.
    fn call(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        state.calls += 1;
        let call = state.calls;
        match state.failing.remove(&call) {
            Some(kind) => Err(io::Error::new(kind, "made to fail")),
            None => Ok(state),
        }
    }
}

impl State {
    fn change(&mut self, change: Change) {
        self.live.apply(&change);
        self.journal.push(change);
    }

    /// Writes as much as there is room for.
    fn write(&mut self, id: Id, bytes: &[u8], offset: u64) -> io::Result<()> {
        let end = offset + bytes.len() as u64;
        let more = end.saturating_sub(self.live.content(id).len() as u64);
        let room = self.capacity.saturating_sub(self.live.bytes());
        let missing = more.saturating_sub(room).min(bytes.len() as u64);
        let fits = bytes.len() - missing as usize;
        if fits > 0 {
            self.change(Change::Write { id, offset, bytes: bytes[..fits].into() });
        }
        if missing == 0 { Ok(()) } else { Err(ErrorKind::StorageFull.into()) }
    }
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(ErrorKind::NotFound, format!("no file {}", path.display()))
}

impl FileSystem for SimFiles {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = self.call()?;
        if state.live.find(path).is_some() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        if !state.live.has_folder(path.parent().unwrap_or(Path::new(""))) {
            return Err(not_found(path));
        }
        let id = state.live.free_id();
        state.change(Change::Create { path: path.to_owned(), id });
        Ok(Arc::new(Handle { files: self.clone(), id }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let state = self.call()?;
        let id = state.live.find(path).ok_or_else(|| not_found(path))?;
        Ok(Arc::new(Handle { files: self.clone(), id }))
    }

    fn open_to_write(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.open(path)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.call()?;
        let id = state.live.find(from).ok_or_else(|| not_found(from))?;
        if state.live.find(to).is_some() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        if let Some(kind) = state.no_links
            && from.parent() != to.parent()
        {
            return Err(kind.into());
        }
        state.change(Change::Link { path: to.to_owned(), id });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.call()?;
        state.live.find(path).ok_or_else(|| not_found(path))?;
        state.change(Change::Remove { path: path.to_owned() });
        Ok(())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let state = self.call()?;
        state.live.names(folder).ok_or_else(|| not_found(folder))
    }

    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.call()?;
        state.change(Change::CreateFolder { path: folder.to_owned() });
        Ok(())
    }

    fn remove_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.call()?;
        for name in state.live.names(folder).unwrap_or_default() {
            state.change(Change::Remove { path: folder.join(name) });
        }
        state.change(Change::RemoveFolder { path: folder.to_owned() });
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.call()?;
        state.change(Change::SyncFolder { path: folder.to_owned() });
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn LockGuard>>> {
        let mut state = self.call()?;
        if !state.locked.insert(path.to_owned()) {
            return Ok(None);
        }
        Ok(Some(Box::new(Lock { files: self.clone(), path: path.to_owned() })))
    }
}

#[derive(Debug)]
struct Lock {
    files: SimFiles,
    path: PathBuf,
}

impl LockGuard for Lock {}

impl Drop for Lock {
    fn drop(&mut self) {
        self.files.state().locked.remove(&self.path);
    }
}

#[cfg(test)]
mod tests;
