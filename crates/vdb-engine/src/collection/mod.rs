//! A collection: points by id, durable, searched while they are written.
//!
//! # The protocol
//!
//! Readers load one pointer to a [`View`] and need no lock. The one writer's [`State`] lies behind a mutex. A write
//! resolves its operations to effects, appends them to the log, and makes them in the state, all under the mutex, so that
//! the order of the log is the order of the state. Then, without the mutex, it waits until the log has written its record,
//! together with those of other threads, and publishes the view of its version unless a newer one is published already.
//!
//! Sealing writes the points of a head as a segment, and merging writes one segment for several. Both work on what was
//! there when they began, on nobody's time but their own, publish a manifest, and then exchange parts of the state under
//! the mutex; deletes that happened meanwhile are carried over. The mutex is held during a call to the disk only
//! when the state has to be made again; appending is to memory.
//!
//! A manifest holds exactly what the records before its `log_from` made. So sealing captures which rows are left when it
//! freezes the head, and a merge, which leaves out what was replaced when it began, publishes only when a head with what
//! replaced it has been sealed.
//!
//! Order of locks: gate, merging, indexing, sealing, linking, pinning, manifest, state, commits.

mod commits;
mod damages;
mod erase;
mod expiry;
mod join;
mod link;
mod merge;
mod pinning;
mod progress;
mod publish;
mod retention;
mod rows_left;
mod seal;
mod settings;
mod state;

pub(crate) use damages::damages_of;
pub use erase::Erased;
pub use progress::{JobKind, Progress};
pub use settings::{Durability, Settings};

use crate::budget::{Budget, Reserved};
use crate::manifest::Manifest;
use crate::point::{Operation, StoredPoint};
use crate::record::Effect;
use crate::schema::{CollectionConfig, Schema, VectorConfig};
use crate::segment::Segment;
use crate::view::{Search, SearchAnswer, View};
use crate::workers::{Work, Workers};
use crate::{Error, PointId};
use arc_swap::ArcSwap;
use commits::Commits;
use progress::Job;
use state::{Resolved, State};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, mpsc};
use std::time::{Duration, Instant};
use vdb_storage::{Backend, CommitLog, LogReader, SeqNo, StorageError, TornTail};

/// How long a writer that waits for room sleeps at most before it looks again.
const ROOM_INTERVAL: Duration = Duration::from_millis(50);

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The version that holds it.
    pub version: u64,
    /// Operations that did nothing: their condition did not hold, or there was no point to delete.
    pub skipped: usize,
    /// How long it was held back on purpose: until there was room for more points without a graph, or in memory.
    pub held_back: Duration,
    /// How long it waited for the log, which syncs it to disk where the durability asks for that.
    pub logged: Duration,
    /// How long it waited for others, who write, seal or merge: for locks that they held, and for records before its own.
    pub blocked: Duration,
}

/// What a write waited for.
#[derive(Debug, Default)]
struct Waits {
    held_back: Duration,
    blocked: Duration,
}

/// What a collection holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CollectionInfo {
    /// The last version.
    pub version: u64,
    /// Points.
    pub points: usize,
    /// Segments.
    pub segments: usize,
    /// Those with an index.
    pub indexed_segments: usize,
    /// Points that an index covers, or that need none.
    pub indexed_points: usize,
    /// Points that are in memory and in the log only.
    pub head_points: usize,
    /// Rows of segments whose points are gone.
    pub dead_rows: usize,
    /// Bytes of the segments' files.
    pub segment_bytes: u64,
}

/// The current manifest.
#[derive(Debug)]
struct Current {
    number: u64,
    manifest: Manifest,
}

/// Points by id, durable, searched by any number of threads while others write; of a [`Database`](crate::Database).
#[derive(Debug)]
pub struct Collection {
    name: Arc<str>,
    backend: Arc<dyn Backend>,
    settings: Settings,
    budget: Arc<Budget>,
    /// Writers pass it together; who keeps all of them out, alone.
    gate: RwLock<()>,
    /// `None` when opened to read only.
    log: Option<Arc<dyn CommitLog>>,
    /// The log from the last record read on, when opened to read only.
    reader: Mutex<Option<Box<dyn LogReader>>>,
    current: Mutex<Current>,
    state: Mutex<State>,
    /// There is room for writers again.
    room: Condvar,
    commits: Commits,
    published: ArcSwap<View>,
    /// Views that were replaced, and when.
    retired: Mutex<VecDeque<(Instant, Arc<View>)>>,
    sealing: Mutex<()>,
    linking: Mutex<()>,
    indexing: Mutex<()>,
    merging: Mutex<()>,
    pinning: Mutex<()>,
    /// Who asked for all segments to be merged, and waits for the thread that merges.
    optimizing: Mutex<Vec<mpsc::Sender<Result<(), Error>>>>,
    /// Segments that merges have.
    in_use: Mutex<BTreeSet<u64>>,
    jobs: Mutex<BTreeMap<JobKind, Job>>,
    blobs: Mutex<BlobNumbers>,
    /// Somebody seals and merges in the background, on these threads: then writers wait for room, else they make it.
    workers: OnceLock<Arc<Workers>>,
    wake: Wake,
    /// What went wrong in the background; the next writer that waits for room is told.
    trouble: Mutex<Option<Error>>,
    /// Records were acknowledged that a power failure may take.
    unsynced: AtomicBool,
    /// It was dropped, and its folder with it.
    dropped: AtomicBool,
    /// Merges are to give up.
    is_closing: AtomicBool,
    /// The database was closed; what is here can be read still.
    closed: AtomicBool,
    opened: Instant,
    /// When somebody last searched, in milliseconds since it was opened; 0 for never.
    last_search_ms: AtomicU64,
}

/// What a collection has of its database.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) budget: Arc<Budget>,
    pub(crate) wake: Wake,
    pub(crate) writes: bool,
}

/// Called when there is something to seal or to merge.
#[derive(Clone)]
pub(crate) struct Wake(pub(crate) Arc<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for Wake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wake")
    }
}

/// Numbers of blobs: a number is used once.
#[derive(Debug)]
struct BlobNumbers {
    next: u64,
    /// Blobs that no manifest names yet.
    unfinished: BTreeSet<u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Collection {
    /// Makes an empty collection in a store that has no manifest.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`]; [`Error::Storage`].
    pub(crate) fn create(name: &str, backend: &dyn Backend, config: &CollectionConfig) -> Result<(), Error> {
        backend.manifests().publish(0, &Manifest::new(config.schema(name)?).encode())?;
        Ok(())
    }

    /// Opens the collection of a store.
    ///
    /// # Errors
    /// What is damaged, or cannot be read.
    pub(crate) fn open(
        name: &str,
        backend: Arc<dyn Backend>,
        settings: Settings,
        surroundings: Surroundings,
    ) -> Result<Self, Error> {
        let Surroundings { budget, wake, writes } = surroundings;
        let name: Arc<str> = name.into();
        let (current, state, reader) = load(&budget, &name, &*backend, &[])?;
        let log = if writes { Some(backend.open_log(state.applied.next())?) } else { None };
        let published = ArcSwap::new(state.view());
        let blobs = BlobNumbers { next: current.manifest.next_blob, unfinished: BTreeSet::new() };
        let collection = Self {
            name,
            gate: RwLock::default(),
            settings,
            budget,
            log,
            reader: Mutex::new((!writes).then_some(reader)),
            current: Mutex::new(current),
            state: Mutex::new(state),
            room: Condvar::new(),
            commits: Commits::default(),
            published,
            retired: Mutex::default(),
            sealing: Mutex::default(),
            linking: Mutex::default(),
            indexing: Mutex::default(),
            merging: Mutex::default(),
            pinning: Mutex::default(),
            optimizing: Mutex::default(),
            in_use: Mutex::default(),
            jobs: Mutex::default(),
            blobs: Mutex::new(blobs),
            workers: OnceLock::new(),
            wake,
            trouble: Mutex::default(),
            unsynced: AtomicBool::new(false),
            dropped: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            opened: Instant::now(),
            last_search_ms: AtomicU64::new(0),
            backend,
        };
        if writes {
            collection.collect_garbage()?;
        }
        Ok(collection)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The points as they are now, to be read and searched for as long as one likes.
    pub fn view(&self) -> Arc<View> {
        self.published.load_full()
    }

    /// As [`View::search`], of the points as they are now.
    ///
    /// # Errors
    /// As [`View::search`].
    pub fn search(&self, search: &Search<'_>) -> Result<SearchAnswer, Error> {
        self.note_search();
        self.published.load().search(search)
    }

    /// As [`View::get`], of the points as they are now.
    ///
    /// # Errors
    /// As [`View::get`].
    pub fn get(&self, id: &PointId) -> Result<Option<StoredPoint>, Error> {
        self.published.load().get(id)
    }

    /// Points.
    pub fn len(&self) -> usize {
        self.published.load().len()
    }

    /// Whether there are no points.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Does the operations in order, all of them or none. When this returns, they survive what `durability` says, and every
    /// search that begins sees all of them; no search ever sees some of them.
    ///
    /// # Errors
    /// [`Error::InvalidPoint`], [`Error::NoSuchField`], [`Error::NoSuchPoint`]: nothing was done.
    /// [`Error::Storage`]: with [`StorageError::Stopped`] it is unknown whether a later opening will find it, else it was
    /// not done.
    pub fn write(&self, operations: Vec<Operation<'_>>, durability: Durability) -> Result<Written, Error> {
        let _open = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let log = self.log()?;
        let began = Instant::now();
        self.wait_for_room(operations.len())?;
        let mut waits = Waits { held_back: began.elapsed(), blocked: Duration::ZERO };
        let (mut state, resolved, reserved) = self.resolve(&operations, &mut waits)?;
        let skipped = resolved.skipped;
        let (seq, view) = if resolved.effects.is_empty() {
            // What was found may not be durable yet.
            (state.applied, state.view())
        } else {
            let seq = log.append(&crate::record::encode(&resolved.effects))?;
            debug_assert_eq!(seq, resolved.version, "nobody else appends while the state is held");
            self.commits.begin(seq);
            if let Err(error) = state.apply(seq, resolved.effects, reserved) {
                self.commits.end(seq, false);
                return Err(error);
            }
            (seq, state.view())
        };
        let is_full = self.is_seal_due(&state);
        drop(state);
        let began = Instant::now();
        self.commit(seq, durability)?;
        let logged = began.elapsed();
        let began = Instant::now();
        self.publish(view)?;
        waits.blocked += began.elapsed();
        if durability == Durability::Interval {
            self.unsynced.store(true, Ordering::Relaxed);
        }
        if is_full {
            // This write is done; what fails is tried again with the next one, which is told.
            let _ = self.make_room_soon();
        }
        let Waits { held_back, blocked } = waits;
        Ok(Written { version: seq.0, skipped, held_back, logged, blocked })
    }

    /// What operations come to, with the memory that it takes; a wait for that memory is one that holds it back. Where points have
    /// changed meanwhile, they are resolved again.
    fn resolve(
        &self,
        operations: &[Operation<'_>],
        waits: &mut Waits,
    ) -> Result<(MutexGuard<'_, State>, Resolved, Reserved), Error> {
        let log = self.log()?;
        let began = Instant::now();
        let state = self.state()?;
        waits.blocked += began.elapsed();
        let resolved = state.resolve(log.next(), operations)?;
        let needed = resolved.effects.iter().map(Effect::head_bytes).sum();
        if let Some(reserved) = self.budget.reserve(needed) {
            return Ok((state, resolved, reserved));
        }
        // What is sealed takes no memory.
        let (version, epoch, schema) = (resolved.version, state.epoch, Arc::clone(&state.schema));
        drop(state);
        let began = Instant::now();
        self.seal()?;
        waits.held_back += began.elapsed();
        let began = Instant::now();
        let state = self.state()?;
        waits.blocked += began.elapsed();
        let is_same = (log.next(), state.epoch) == (version, epoch) && Arc::ptr_eq(&state.schema, &schema);
        let resolved = if is_same { resolved } else { state.resolve(log.next(), operations)? };
        let needed = resolved.effects.iter().map(Effect::head_bytes).sum();
        match self.budget.reserve(needed) {
            Some(reserved) => Ok((state, resolved, reserved)),
            None => {
                let what = format!("collection {:?}: a batch of {} operations", self.name, operations.len());
                let advice = "write in smaller batches, or raise the memory budget";
                Err(self.budget.refusal(what, needed, advice))
            }
        }
    }

    /// One upsert; see [`write`](Self::write).
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn upsert(&self, points: Vec<crate::Point>) -> Result<Written, Error> {
        self.write(points.into_iter().map(Operation::upsert).collect(), Durability::Sync)
    }

    /// Removes points; those that are not there are fine. See [`write`](Self::write).
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn delete(&self, ids: &[PointId]) -> Result<Written, Error> {
        self.write(ids.iter().cloned().map(Operation::Delete).collect(), Durability::Sync)
    }

    /// Makes all that was acknowledged durable.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn flush(&self) -> Result<(), Error> {
        Ok(self.log()?.sync()?)
    }

    /// Adds a vector field. Points that are there have no vector of it.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`]; [`Error::Storage`].
    pub fn add_vector(&self, name: &str, config: VectorConfig) -> Result<(), Error> {
        self.change_schema(|schema| schema.add(&self.name, name, config))
    }

    /// Drops a vector field. The bytes go when segments are merged.
    ///
    /// # Errors
    /// [`Error::NoSuchField`]; [`Error::Storage`].
    pub fn drop_vector(&self, name: &str) -> Result<(), Error> {
        self.change_schema(|schema| {
            let number = schema.field(&self.name, name)?.number;
            schema.fields.retain(|field| field.number != number);
            Ok(())
        })
    }

    fn change_schema(&self, change: impl FnOnce(&mut Schema) -> Result<(), Error>) -> Result<(), Error> {
        self.log()?;
        let mut current = self.current();
        let mut manifest = current.manifest.clone();
        change(&mut manifest.schema)?;
        let schema = Arc::new(manifest.schema.clone());
        // A state that holds a write which failed is made again first.
        drop(self.state_under(&mut current)?);
        self.publish_manifest(&mut current, manifest)?;
        let mut state = self.state_under(&mut current)?;
        state.schema = schema;
        state.generation += 1;
        let (seq, view) = (state.applied, state.view());
        drop(state);
        drop(current);
        // Whoever wrote a record that fails now is told; the fields are there.
        let _ = self.commit(seq, Durability::None);
        self.publish(view)
    }

    /// What it holds at the moment.
    pub fn info(&self) -> CollectionInfo {
        let view = self.view();
        let mut info = CollectionInfo {
            version: view.version,
            points: view.len(),
            segments: view.parts.len(),
            ..Default::default()
        };
        for part in &view.parts {
            let live = part.live.count();
            info.indexed_segments += usize::from(part.segment.has_index());
            if !part.segment.lacks_graph(&view.schema, self.settings.least_graph_rows) {
                info.indexed_points += live;
            }
            info.dead_rows += part.segment.rows() - live;
            info.segment_bytes += part.segment.file_bytes;
        }
        info.head_points = view.heads.iter().map(crate::head::HeadView::len).sum();
        info
    }

    /// Merges are to give up, for the database is about to be closed.
    pub(crate) fn is_closing(&self) {
        let mut asked = lock(&self.optimizing);
        self.is_closing.store(true, Ordering::Relaxed);
        asked.clear();
    }

    /// From now on somebody seals and merges in the background; what takes long is done on these threads.
    pub(crate) fn has_background(&self, workers: Arc<Workers>) {
        // The first ones stay: all are of one database.
        let _ = self.workers.set(workers);
    }

    /// Whether somebody seals and merges in the background.
    fn is_in_background(&self) -> bool {
        self.workers.get().is_some()
    }

    /// Does what takes long on threads that give way to others, if there are such. No lock that writers want may be held, nor
    /// may the work ask for this itself.
    fn aside<R: Send>(&self, kind: Work, work: impl FnOnce() -> R + Send) -> R {
        match self.workers.get() {
            Some(workers) => workers.run(kind, work),
            None => work(),
        }
    }

    /// Waits for whoever writes, seals or merges. After that nobody does, and another process may.
    pub(crate) fn close(&self) {
        self.is_closing();
        let _alone = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        let _turns = (lock(&self.merging), lock(&self.indexing), lock(&self.sealing));
        self.closed.store(true, Ordering::Relaxed);
        self.release_retired(Duration::ZERO);
    }

    /// What stands behind the last record of the log and is none: left by a crash, or being written by another process. Of a
    /// collection that was opened to read only; one that writes has begun another file of the log.
    pub fn torn_tail(&self) -> Option<TornTail> {
        lock(&self.reader).as_ref().and_then(|log| log.torn_tail().cloned())
    }

    /// Reads what a writer, in another process perhaps, has written since; says whether there was anything. For a
    /// collection that was opened to read only; one that writes has nothing to read.
    ///
    /// # Errors
    /// What is damaged, or cannot be read.
    pub fn refresh(&self) -> Result<bool, Error> {
        let mut reader = lock(&self.reader);
        let Some(log) = reader.as_mut() else { return Ok(false) };
        let before = self.published.load().version;
        let mut current = self.current();
        let newest = self.backend.manifests().current()?;
        let is_new = newest.is_some_and(|(number, _)| number != current.number);
        let mut state = self.lock_state();
        let read = if is_new {
            Err(Error::NoSuchCollection { collection: String::new() })
        } else {
            state.read_log(&mut **log)
        };
        match read {
            // Records may have been read before an error, too, the last time.
            Ok(_) if state.applied.0 == before => return Ok(false),
            Ok(_) => {}
            Err(error) if is_new || matches!(error, Error::Storage(StorageError::Trimmed { .. })) => {
                let known: Vec<_> = state.parts.iter().map(|part| Arc::clone(&part.segment)).collect();
                let (newest, fresh, fresh_log) = load(&self.budget, &self.name, &*self.backend, &known)?;
                (*current, *state, *log) = (newest, fresh, fresh_log);
            }
            Err(error) => return Err(error),
        }
        let view = state.view();
        let is_newer = view.version != before || is_new;
        self.published.store(view);
        Ok(is_newer)
    }

    /// Its folder is about to be removed.
    pub(crate) fn is_dropped(&self) {
        self.dropped.store(true, Ordering::Relaxed);
    }

    fn log(&self) -> Result<&Arc<dyn CommitLog>, Error> {
        if self.dropped.load(Ordering::Relaxed) {
            return Err(Error::NoSuchCollection { collection: self.name.to_string() });
        }
        if self.closed.load(Ordering::Relaxed) {
            return Err(Error::Closed { collection: self.name.to_string() });
        }
        self.log.as_ref().ok_or_else(|| Error::ReadOnly { collection: self.name.to_string() })
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        lock(&self.current)
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| {
            // A panic halfway through a change: what there is, is not to be believed.
            self.commits.lock().failed = true;
            self.state.clear_poison();
            poisoned.into_inner()
        })
    }

    /// The state, made again where it was wrong.
    fn state(&self) -> Result<MutexGuard<'_, State>, Error> {
        loop {
            let state = self.lock_state();
            if !self.commits.lock().failed {
                return Ok(state);
            }
            drop(state);
            self.recover()?;
        }
    }

    /// The same for who holds the manifest's lock.
    fn state_under(&self, current: &mut Current) -> Result<MutexGuard<'_, State>, Error> {
        loop {
            let state = self.lock_state();
            if !self.commits.lock().failed {
                return Ok(state);
            }
            drop(state);
            self.recover_under(current)?;
        }
    }

    /// Makes the state again from the manifest and the log.
    fn recover(&self) -> Result<(), Error> {
        let mut current = self.current();
        self.recover_under(&mut current)
    }

    fn recover_under(&self, current: &mut Current) -> Result<(), Error> {
        let mut state = self.lock_state();
        // Nobody appends meanwhile, and those who wait for the log need no lock to end.
        if !self.commits.wait_until(SeqNo(u64::MAX)).failed {
            return Ok(());
        }
        let known: Vec<_> = state.parts.iter().map(|part| Arc::clone(&part.segment)).collect();
        let (newest, fresh, _) = load(&self.budget, &self.name, &*self.backend, &known)?;
        let (epoch, generation) = (state.epoch + 1, state.generation + 1);
        *current = newest;
        *state = State { epoch, generation, ..fresh };
        let view = state.view();
        let mut pending = self.commits.lock();
        pending.failed = false;
        self.published.store(view);
        Ok(())
    }

    /// Waits until the log has a record, as `durability` asks.
    fn commit(&self, seq: SeqNo, durability: Durability) -> Result<(), Error> {
        let level = match durability {
            Durability::Sync => vdb_storage::Durability::Synced,
            Durability::Interval | Durability::None => vdb_storage::Durability::Written,
        };
        let committed = self.log()?.commit(seq, level);
        self.commits.end(seq, committed.is_ok());
        Ok(committed?)
    }

    /// Publishes a manifest; from now on it is the current one.
    fn publish_manifest(&self, current: &mut Current, manifest: Manifest) -> Result<(), Error> {
        let manifest = Manifest { next_blob: lock(&self.blobs).next, ..manifest };
        let number = self.backend.manifests().publish(current.number, &manifest.encode())?;
        *current = Current { number, manifest };
        Ok(())
    }

    /// A number for a blob that is about to be written.
    fn take_blob_number(&self) -> u64 {
        let mut blobs = lock(&self.blobs);
        let number = blobs.next;
        blobs.next += 1;
        blobs.unfinished.insert(number);
        number
    }

    /// A manifest names the blob of this number, or it is to be removed.
    fn blob_is_finished(&self, number: u64) {
        lock(&self.blobs).unfinished.remove(&number);
    }
}

/// The newest manifest of a store, with the records of the log behind it.
fn load(
    budget: &Arc<Budget>,
    name: &Arc<str>,
    backend: &dyn Backend,
    known: &[Arc<Segment>],
) -> Result<(Current, State, Box<dyn LogReader>), Error> {
    /// A writer may remove files of a manifest that it has replaced, faster than we read, but not forever.
    const ATTEMPTS: usize = 100;
    let mut attempt = 0;
    loop {
        attempt += 1;
        match load_once(budget, name, backend, known) {
            Err(Error::Storage(StorageError::Io { source, .. }))
                if source.kind() == std::io::ErrorKind::NotFound && attempt < ATTEMPTS => {}
            Err(Error::Storage(StorageError::Trimmed { .. })) if attempt < ATTEMPTS => {}
            loaded => return loaded,
        }
    }
}

fn load_once(
    budget: &Arc<Budget>,
    name: &Arc<str>,
    backend: &dyn Backend,
    known: &[Arc<Segment>],
) -> Result<(Current, State, Box<dyn LogReader>), Error> {
    let Some((number, content)) = backend.manifests().current()? else {
        return Err(Error::NoSuchCollection { collection: name.to_string() });
    };
    let manifest = Manifest::decode(&backend.manifests().path(number), content)?;
    let mut state = State::of_manifest(budget, name, &manifest, backend, known)?;
    let mut log = backend.read_log(manifest.log_from);
    state.read_log(&mut *log)?;
    Ok((Current { number, manifest }, state, log))
}
