//! A database: a directory of collections.
//!
//! The directory is a store of its own (`docs/format.md`, "Store") whose manifest is the catalogue; each collection is a
//! store in a folder inside. Creating and dropping a collection is publishing a catalogue. The lock of the directory is held
//! by the one process that writes; any number of others may read.

mod background;
mod catalogue;
mod copies;
mod damages;
mod status;

use crate::budget::Budget;
use crate::collection::{Collection, Settings, Surroundings, Wake};
use crate::schema::{CollectionConfig, MAX_NAME_BYTES};
use crate::workers::Workers;
use crate::{Error, Progress};
use background::{Background, Signal};
use catalogue::Catalogue;
use status::StatusFile;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vdb_storage::files::{FileSystem, LockGuard, OsFiles};
use vdb_storage::{Backend, LocalDir};

/// What a database is opened with.
#[derive(Debug, Clone)]
pub struct Options {
    files: Arc<dyn FileSystem>,
    settings: Settings,
    background: bool,
    threads: usize,
    seed: Option<u64>,
    wal_file_bytes: Option<u64>,
    clock: Clock,
    memory_budget: Option<u64>,
}

/// The time of day, in milliseconds since 1970 (UTC).
#[derive(Clone)]
struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

#[allow(clippy::disallowed_methods, reason = "the default of what is passed in")]
fn system_clock() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

/// Half of the machine's memory, or 4 GiB where it is not known.
fn default_budget() -> u64 {
    #[cfg(target_os = "linux")]
    let memory = {
        let info = rustix::system::sysinfo();
        info.totalram * u64::from(info.mem_unit)
    };
    #[cfg(not(target_os = "linux"))]
    let memory = 8 << 30;
    memory / 2
}

impl Default for Options {
    fn default() -> Self {
        let settings = Settings::default();
        let clock = Clock(Arc::new(system_clock));
        let (seed, wal_file_bytes) = (None, None);
        Self {
            files: Arc::new(OsFiles),
            settings,
            background: true,
            threads: 0,
            seed,
            wal_file_bytes,
            clock,
            memory_budget: None,
        }
    }
}

impl Options {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where files are; the operating system's by default.
    #[must_use]
    pub fn files(self, files: Arc<dyn FileSystem>) -> Self {
        Self { files, ..self }
    }

    /// When collections seal and merge.
    #[must_use]
    pub fn settings(self, settings: Settings) -> Self {
        Self { settings, ..self }
    }

    /// Whether threads are started that seal and merge, the default. Without them, writes that make it due do it before they
    /// return.
    #[must_use]
    pub fn background(self, background: bool) -> Self {
        Self { background, ..self }
    }

    /// Threads that a merge uses; 0, the default, for as many as there are processors.
    #[must_use]
    pub fn threads(self, threads: usize) -> Self {
        Self { threads, ..self }
    }

    /// The bytes that heads, merges and pinned parts of segments take at most, all collections together; what has no room is
    /// refused. Half of the machine's memory by default.
    #[must_use]
    pub fn memory_budget(self, bytes: u64) -> Self {
        Self { memory_budget: Some(bytes), ..self }
    }

    /// The time of day, in milliseconds since 1970 (UTC), by which points expire; the system's by default.
    #[must_use]
    pub fn clock(self, clock: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self { clock: Clock(Arc::new(clock)), ..self }
    }

    /// Goes into the checksums of log files; drawn by default.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self { seed: Some(seed), ..self }
    }

    /// Log files are followed by another one from this length on. For tests.
    #[must_use]
    pub fn wal_file_bytes(self, bytes: u64) -> Self {
        Self { wal_file_bytes: Some(bytes), ..self }
    }

    /// Opens a database to write; see [`Database::open`].
    ///
    /// # Errors
    /// As [`Database::open`].
    pub fn open(self, path: impl AsRef<Path>) -> Result<Database, Error> {
        Database::open_with(path.as_ref(), self, true)
    }

    /// Opens a database to read; see [`Database::open_read_only`].
    ///
    /// # Errors
    /// As [`Database::open_read_only`].
    pub fn open_read_only(self, path: impl AsRef<Path>) -> Result<Database, Error> {
        Database::open_with(path.as_ref(), self, false)
    }

    fn store(&self, folder: PathBuf) -> LocalDir {
        let seed = self.seed.unwrap_or_else(|| {
            use std::hash::{BuildHasher, RandomState};
            RandomState::new().hash_one(&folder)
        });
        let store = LocalDir::new(Arc::clone(&self.files), folder, seed);
        match self.wal_file_bytes {
            Some(bytes) => store.with_wal_file_bytes(bytes),
            None => store,
        }
    }
}

/// A collection that can be used, or why it cannot.
#[derive(Debug)]
enum Slot {
    Open(Arc<Collection>),
    Quarantined(String),
}

#[derive(Debug)]
struct State {
    /// The number of the catalogue's manifest.
    number: u64,
    catalogue: Catalogue,
    slots: BTreeMap<String, Slot>,
}

/// A directory of collections. One process has it open to write, any number read it.
#[derive(Debug)]
pub struct Database {
    folder: PathBuf,
    options: Options,
    store: LocalDir,
    state: Mutex<State>,
    signal: Arc<Signal>,
    budget: Arc<Budget>,
    background: Mutex<Option<Background>>,
    /// Where collections do what takes long, when they are written and work in the background.
    workers: Option<Arc<Workers>>,
    /// Held as long as this process writes.
    lock: Option<Box<dyn LockGuard>>,
}

const FOLDER_PREFIX: &str = "collection-";

fn folder_name(number: u64) -> String {
    format!("{FOLDER_PREFIX}{number:08}")
}

impl Database {
    /// Opens a database to write, making it when the folder is missing or empty.
    ///
    /// A collection that is damaged is put aside: [`collection`](Self::collection) says why, and the others can be used.
    ///
    /// # Errors
    /// [`vdb_storage::StorageError::Locked`] when another process has it open to write; what is wrong with the catalogue.
    ///
    /// # Complexity
    /// Independent of the number of points but for those that are in the log only.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Options::new().open(path)
    }

    /// Opens a database to read, beside the one process that writes, if there is one, and any number that read.
    ///
    /// # Errors
    /// When there is none; what is wrong with the catalogue.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Self, Error> {
        Options::new().open_read_only(path)
    }

    fn open_with(folder: &Path, options: Options, writes: bool) -> Result<Self, Error> {
        let store = options.store(folder.to_owned());
        let lock = if writes {
            store.create()?;
            let lock = store.lock()?;
            store.remove_temporaries()?;
            // The writer before may have ended before its catalogue was durable; this one goes on from it.
            options.files.sync_folder(folder).map_err(vdb_storage::StorageError::io(folder))?;
            Some(lock)
        } else {
            None
        };
        let (number, catalogue) = match store.manifests().current()? {
            Some((number, content)) => (number, Catalogue::decode(&store.manifests().path(number), content)?),
            None if writes => {
                let catalogue = Catalogue { next: 1, ..Catalogue::default() };
                (store.manifests().publish(0, &catalogue.encode())?, catalogue)
            }
            None => return Err(Error::NoDatabase { path: folder.to_owned() }),
        };
        let state = State { number, catalogue, slots: BTreeMap::new() };
        let workers = (writes && options.background).then(|| Workers::new(options.threads)).transpose()?;
        let database = Self {
            folder: folder.to_owned(),
            store,
            workers: workers.map(Arc::new),
            state: Mutex::new(state),
            signal: Arc::default(),
            budget: Budget::new(options.memory_budget.unwrap_or_else(default_budget)),
            background: Mutex::new(None),
            lock,
            options,
        };
        database.open_collections()?;
        if writes {
            database.remove_orphans()?;
        }
        if database.options.background {
            let signal = Arc::clone(&database.signal);
            let background = if writes {
                let status = StatusFile::new(Arc::clone(&database.options.files), folder);
                let clock = Arc::clone(&database.options.clock.0);
                Background::start(signal, clock, status)?
            } else {
                Background::start_pinning(signal)?
            };
            *database.background.lock().unwrap_or_else(PoisonError::into_inner) = Some(background);
        }
        Ok(database)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn collection_store(&self, folder: u64) -> LocalDir {
        self.options.store(self.folder.join(folder_name(folder)))
    }

    /// Opens the collections of the catalogue that are not open yet.
    fn open_collections(&self) -> Result<(), Error> {
        let state = &mut *self.state();
        state.slots.retain(|name, _| state.catalogue.folders.contains_key(name));
        for (name, &folder) in &state.catalogue.folders {
            if !state.slots.contains_key(name) {
                state.slots.insert(name.clone(), self.open_collection(name, folder));
            }
        }
        Ok(())
    }

    fn open_collection(&self, name: &str, folder: u64) -> Slot {
        let writes = self.lock.is_some();
        let store = self.collection_store(folder);
        let signal = Arc::clone(&self.signal);
        let wake = Wake(Arc::new(move || signal.wake()));
        let opened = (|| {
            if writes {
                store.remove_temporaries()?;
            }
            let surroundings = Surroundings { budget: Arc::clone(&self.budget), wake, writes };
            Collection::open(name, Arc::new(store), self.options.settings, surroundings)
        })();
        match opened {
            Ok(collection) => {
                let collection = Arc::new(collection);
                if let Some(workers) = &self.workers {
                    collection.has_background(Arc::clone(workers));
                }
                if self.options.background {
                    self.signal.add(&collection);
                }
                Slot::Open(collection)
            }
            Err(error) => Slot::Quarantined(error.to_string()),
        }
    }

    /// Removes folders that a crash left of collections that were being created or dropped.
    fn remove_orphans(&self) -> Result<(), Error> {
        let state = self.state();
        let files = &self.options.files;
        let io = |error| Error::from(vdb_storage::StorageError::io(&self.folder)(error));
        for name in files.list(&self.folder).map_err(io)? {
            let number = name.strip_prefix(FOLDER_PREFIX).and_then(|number| number.parse::<u64>().ok());
            if number.is_some_and(|number| !state.catalogue.folders.values().any(|own| *own == number)) {
                files.remove_folder(&self.folder.join(&name)).map_err(io)?;
            }
        }
        Ok(())
    }

    /// The memory budget, and how much of it is taken, in bytes.
    pub fn memory(&self) -> (u64, u64) {
        (self.budget.bytes(), self.budget.taken())
    }

    /// What is being done in the background: by this database, or, where it was opened to read only, by the writer in another
    /// process, as of a second ago or so. Nothing when there is no telling.
    pub fn progress(&self) -> Vec<Progress> {
        if self.lock.is_some() {
            self.open_ones().iter().flat_map(|collection| collection.progress()).collect()
        } else {
            status::read(&*self.options.files, &self.folder)
        }
    }

    /// The names of the collections, of those put aside, too.
    pub fn names(&self) -> Vec<String> {
        self.state().catalogue.folders.keys().cloned().collect()
    }

    /// The collection of a name.
    ///
    /// # Errors
    /// [`Error::NoSuchCollection`]; [`Error::Quarantined`] says what is wrong with it.
    pub fn collection(&self, name: &str) -> Result<Arc<Collection>, Error> {
        match self.state().slots.get(name) {
            Some(Slot::Open(collection)) => Ok(Arc::clone(collection)),
            Some(Slot::Quarantined(reason)) => {
                Err(Error::Quarantined { collection: name.to_owned(), reason: reason.clone() })
            }
            None => Err(Error::NoSuchCollection { collection: name.to_owned() }),
        }
    }

    /// Makes a collection.
    ///
    /// # Errors
    /// [`Error::CollectionExists`], [`Error::InvalidName`], [`Error::InvalidConfig`]; [`Error::Storage`].
    pub fn create_collection(&self, name: &str, config: &CollectionConfig) -> Result<Arc<Collection>, Error> {
        self.add_collection(name, |store| {
            store.create()?;
            Collection::create(name, store, config)
        })
    }

    /// Adds the collection that `make` makes in an empty folder.
    fn add_collection(
        &self,
        name: &str,
        make: impl FnOnce(&LocalDir) -> Result<(), Error>,
    ) -> Result<Arc<Collection>, Error> {
        self.check_writes(name)?;
        let refuse = |reason: &str| Error::InvalidName { name: name.to_owned(), reason: reason.to_owned() };
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            return Err(refuse(&format!("1 to {MAX_NAME_BYTES} bytes")));
        }
        if name.chars().any(char::is_control) {
            return Err(refuse("no control characters"));
        }
        let folder = {
            let mut state = self.state();
            if state.catalogue.folders.contains_key(name) {
                return Err(Error::CollectionExists { collection: name.to_owned() });
            }
            // Numbers are drawn once, so nobody else is in this folder.
            state.catalogue.next += 1;
            state.catalogue.next - 1
        };
        let store = self.collection_store(folder);
        // What a failed attempt left.
        let io = |error| Error::from(vdb_storage::StorageError::io(store.folder())(error));
        self.options.files.remove_folder(store.folder()).map_err(io)?;
        make(&store)?;
        let mut state = self.state();
        let mut catalogue = state.catalogue.clone();
        if catalogue.folders.insert(name.to_owned(), folder).is_some() {
            drop(state);
            self.options.files.remove_folder(store.folder()).map_err(io)?;
            return Err(Error::CollectionExists { collection: name.to_owned() });
        }
        self.publish(&mut state, catalogue)?;
        state.slots.insert(name.to_owned(), self.open_collection(name, folder));
        drop(state);
        self.collection(name)
    }

    /// Drops a collection and all its points; false when there was none. Who has it open reads on for as long as they like.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn drop_collection(&self, name: &str) -> Result<bool, Error> {
        self.check_writes(name)?;
        let mut state = self.state();
        let mut catalogue = state.catalogue.clone();
        let Some(folder) = catalogue.folders.remove(name) else { return Ok(false) };
        self.publish(&mut state, catalogue)?;
        if let Some(Slot::Open(collection)) = state.slots.remove(name) {
            collection.is_dropped();
        }
        let store = self.collection_store(folder);
        let io = |error| Error::from(vdb_storage::StorageError::io(store.folder())(error));
        self.options.files.remove_folder(store.folder()).map_err(io)?;
        Ok(true)
    }

    fn check_writes(&self, name: &str) -> Result<(), Error> {
        if self.lock.is_none() {
            return Err(Error::ReadOnly { collection: name.to_owned() });
        }
        Ok(())
    }

    fn publish(&self, state: &mut State, catalogue: Catalogue) -> Result<(), Error> {
        let before = state.number;
        state.number = self.store.manifests().publish(before, &catalogue.encode())?;
        state.catalogue = catalogue;
        // It is done; what is not removed now is after the next one.
        let manifests = self.store.manifests();
        let older =
            manifests.numbers().unwrap_or_default().into_iter().filter(|number| *number < state.number);
        older.for_each(|number| drop(manifests.remove(number)));
        Ok(())
    }

    /// Reads what a writer in another process has written since, of all collections; says whether there was anything.
    ///
    /// # Errors
    /// What is wrong with the catalogue.
    pub fn refresh(&self) -> Result<bool, Error> {
        if self.lock.is_some() {
            return Ok(false);
        }
        let mut is_new = false;
        {
            let mut state = self.state();
            if let Some((number, content)) = self.store.manifests().current()?
                && number != state.number
            {
                let catalogue = Catalogue::decode(&self.store.manifests().path(number), content)?;
                let (folders, slots) = (&catalogue.folders, &state.catalogue.folders);
                let replaced: Vec<String> = slots
                    .iter()
                    .filter(|(name, folder)| folders.get(*name) != Some(folder))
                    .map(|slot| slot.0.clone())
                    .collect();
                replaced.iter().for_each(|name| {
                    state.slots.remove(name);
                });
                (state.number, state.catalogue, is_new) = (number, catalogue, true);
            }
            // What could not be read, perhaps can be now.
            state.slots.retain(|_, slot| matches!(slot, Slot::Open(_)));
        }
        self.open_collections()?;
        let open: Vec<Arc<Collection>> = self.open_ones();
        for collection in open {
            match collection.refresh() {
                Ok(refreshed) => is_new |= refreshed,
                Err(error) => {
                    let reason = error.to_string();
                    self.state().slots.insert(collection.name().to_owned(), Slot::Quarantined(reason));
                }
            }
        }
        Ok(is_new)
    }

    fn open_ones(&self) -> Vec<Arc<Collection>> {
        let state = self.state();
        let open = state.slots.values().filter_map(|slot| match slot {
            Slot::Open(collection) => Some(Arc::clone(collection)),
            Slot::Quarantined(_) => None,
        });
        open.collect()
    }

    /// Ends background work; merges are given up.
    fn end_background(&self) {
        self.open_ones().iter().for_each(|collection| collection.is_closing());
        let background = self.background.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(background);
    }

    /// Ends background work, seals what is in memory, so that the next opening has nothing to read again, and gives the lock
    /// back. Collections that somebody holds can be read still. Without this call nothing acknowledged at [`Durability::Sync`](crate::Durability::Sync) is lost either.
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub fn close(self) -> Result<(), Error> {
        self.end_background();
        if self.lock.is_some() {
            for collection in self.open_ones() {
                collection.seal()?;
            }
        }
        Ok(())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.end_background();
        self.open_ones().iter().for_each(|collection| collection.close());
    }
}
