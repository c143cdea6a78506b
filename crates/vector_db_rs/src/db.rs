//! [`VectorDB`], the database of the specification: in memory, or in a directory.

use crate::durable::Durable;
use crate::index::{Core, IndexParams};
use crate::record::{HitsAnswer, SearchAnswer, SearchOptions};
use crate::{Error, IndexType, SearchResult, VectorDBBuilder, VectorDBConfig, VectorIndex, VectorRecord};
use std::borrow::Cow;
use std::path::Path;
use vdb_distance::Metric;
use vdb_index::CodeKind;

/// Records with vectors, searchable by nearness.
///
/// [`new`](Self::new) makes a database in memory; [`open`](Self::open) opens one in a directory, where every change is
/// durable when the call returns. Both have the same methods and give the same answers.
///
/// Searches take `&self` and may run on any number of threads at once; changes take `&mut self`. Every answer is
/// ordered by (similarity descending, id) and has min(k, matching records) results. In memory, for the same seed, the
/// same sequence of changes gives the same answers, whatever the number of threads; in a directory that holds of exact
/// answers, since segments are made in the background.
///
/// A clone of a database in memory is a copy. Clones of one in a directory are the same database: what one writes, all
/// find.
#[derive(Debug, Clone)]
pub struct VectorDB {
    pub(crate) store: Store,
}

/// Where the records are.
#[allow(clippy::large_enum_variant, reason = "a database is one")]
#[derive(Debug, Clone)]
pub(crate) enum Store {
    Memory(Core),
    Durable(Durable),
}

impl VectorDB {
    /// An empty database in memory with the default parameters of its index.
    ///
    /// A configuration with a dimension outside 1 to 65,536 is accepted here, as the specification has it, and makes
    /// every later operation an error; [`builder`](Self::builder) refuses it at once.
    pub fn new(config: VectorDBConfig) -> Self {
        let VectorDBConfig { dimension, distance_metric, index_type } = config;
        let core = Core::new(distance_metric.into(), dimension, index_type, IndexParams::default());
        Self { store: Store::Memory(core) }
    }

    /// Opens the database in a directory, making it when the directory is missing or empty.
    ///
    /// ```
    /// use vector_db_rs::{DistanceMetric, IndexType, VectorDB, VectorDBConfig, VectorRecord};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path();
    /// let config =
    ///     VectorDBConfig { dimension: 2, distance_metric: DistanceMetric::Cosine, index_type: IndexType::HNSW };
    /// let mut db = VectorDB::open(path, config.clone())?;
    /// db.insert(VectorRecord { id: "east".into(), vector: vec![1.0, 0.0], metadata: Default::default() })?;
    /// // It is durable now: a crash would not take it. Closing only makes the next opening a little quicker.
    /// db.close()?;
    ///
    /// let db = VectorDB::open(path, config)?;
    /// assert_eq!(db.search(&[0.9, 0.1], 1)?[0].record.id, "east");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// The directory is a [`Database`](crate::Database) of the engine with a collection named `default`: an id is a text,
    /// metadata is the payload. Where another program put values into payloads that are no text, they read as their JSON, and
    /// its ids that are numbers or UUIDs read as text, but are not found by [`get`](Self::get) and [`delete`](Self::delete).
    ///
    /// Every index is the engine's, kept in the files of the directory: nothing is built when it is opened. A directory is
    /// opened with the kind of index that it was made with; a [quantizer](VectorDBBuilder::quantizer) that is not named is that
    /// of the directory.
    ///
    /// # Durability
    /// A change that returned survives a crash of the process and a power failure. One that failed with
    /// [`StorageError::Stopped`](crate::StorageError::Stopped) may or may not be found after opening again.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`]; [`Error::InFile`] for a directory of another dimension, metric or index, which says both;
    /// [`Error::Storage`] when another process writes to it; [`Error::Engine`] for what is damaged.
    ///
    /// # Complexity
    /// Milliseconds for Flat and HNSW, whatever the number of records, but for those that are in the log only: some 16,384 or
    /// 32 MiB at most, as a rule, and none after [`close`](Self::close). With an index in memory, the time to build it.
    pub fn open(path: impl AsRef<Path>, config: VectorDBConfig) -> Result<Self, Error> {
        Self::builder_of(config).open(path)
    }

    /// Opens the database in a directory to read: beside one process that writes, if there is one, and any number that read.
    /// Changes are errors. It stays as it was found until [`refresh`](Self::refresh).
    ///
    /// # Errors
    /// As [`open`](Self::open), and [`Error::Engine`] when there is no database.
    pub fn open_read_only(path: impl AsRef<Path>, config: VectorDBConfig) -> Result<Self, Error> {
        Self::builder_of(config).open_read_only(path)
    }

    fn builder_of(config: VectorDBConfig) -> VectorDBBuilder {
        let VectorDBConfig { dimension, distance_metric, index_type } = config;
        Self::builder().dimension(dimension).metric(distance_metric).index(index_type)
    }

    /// Sets parameters beyond the specification's configuration.
    ///
    /// ```
    /// use vector_db_rs::{IndexType, VectorDB};
    /// let db = VectorDB::builder().dimension(384).index(IndexType::HNSW).m(24).seed(7).build()?;
    /// assert_eq!(db.size(), 0);
    /// # Ok::<(), vector_db_rs::Error>(())
    /// ```
    pub fn builder() -> VectorDBBuilder {
        VectorDBBuilder::default()
    }

    /// Adds a record, replacing one with the same id.
    ///
    /// # Errors
    /// When the vector has the wrong dimension or holds a value that is not finite; in a directory, when it cannot be
    /// written, for an id of more than 4,096 bytes and for metadata of more than 16 MiB.
    pub fn insert(&mut self, record: VectorRecord) -> Result<(), Error> {
        match &mut self.store {
            Store::Memory(core) => core.insert(record),
            Store::Durable(durable) => durable.insert(record),
        }
    }

    /// Adds all records or none, building the index on all threads; of several with one id the last stays.
    ///
    /// In a directory they are one record of the log. If they take more than 2³⁰ bytes they are several, one after the
    /// other and each whole or not at all, and an error leaves those that were written before it.
    ///
    /// # Errors
    /// [`Error::InBatch`] names the first record that is refused, by position and id; others as [`insert`](Self::insert).
    pub fn batch_insert(&mut self, records: Vec<VectorRecord>) -> Result<(), Error> {
        self.insert_all(records.into_iter().map(Ok::<_, Error>), |_| ())?;
        Ok(())
    }

    /// As [`batch_insert`](Self::batch_insert), from records that are made or read one by one and may fail to be:
    /// no second copy of them is held. Gives the number of records added or replaced.
    ///
    /// `progress` is called now and then with the number of records indexed so far, and at the end.
    ///
    /// # Errors
    /// The first error of `records`, or [`Error::InBatch`]; either leaves the database as it was, but for what
    /// [`batch_insert`](Self::batch_insert) says of more than 2³⁰ bytes.
    pub fn insert_all<E: From<Error>>(
        &mut self,
        records: impl IntoIterator<Item = Result<VectorRecord, E>>,
        mut progress: impl FnMut(usize),
    ) -> Result<usize, E> {
        match &mut self.store {
            Store::Memory(core) => core.insert_all(records.into_iter(), &mut progress),
            Store::Durable(durable) => durable.insert_all(records.into_iter(), &mut progress),
        }
    }

    /// The `k` records nearest to `query`.
    ///
    /// # Errors
    /// When the query has the wrong dimension or holds a value that is not finite; in a directory, for what is damaged.
    pub fn search(&self, query: &[f32], k: usize) -> Result<Vec<SearchResult>, Error> {
        Ok(self.search_with(query, k, &SearchOptions::default())?.results)
    }

    /// The `k` nearest records under `options`, and whether the answer is exact.
    ///
    /// # Errors
    /// As [`search`](Self::search).
    pub fn search_with(
        &self,
        query: &[f32],
        k: usize,
        options: &SearchOptions,
    ) -> Result<SearchAnswer, Error> {
        Ok(self.search_hits(query, k, options)?.into_answer())
    }

    /// The answers to several queries at once, in their order: each what [`search_with`](Self::search_with) gives.
    ///
    /// All threads of the current rayon pool take part. Under [`IndexType::Flat`] in memory queries go through the records
    /// together, which costs less than one after the other even on one thread.
    ///
    /// # Errors
    /// [`Error::InQueries`] names the first query that is refused; nothing is searched then.
    pub fn search_batch(
        &self,
        queries: &[&[f32]],
        k: usize,
        options: &SearchOptions,
    ) -> Result<Vec<SearchAnswer>, Error> {
        let answers = self.search_hits_batch(queries, k, options)?;
        Ok(answers.into_iter().map(HitsAnswer::into_answer).collect())
    }

    /// As [`search_batch`](Self::search_batch), without copying the records found where they are in memory.
    ///
    /// # Errors
    /// As [`search_batch`](Self::search_batch).
    pub fn search_hits_batch<'a>(
        &'a self,
        queries: &[&[f32]],
        k: usize,
        options: &SearchOptions,
    ) -> Result<Vec<HitsAnswer<'a>>, Error> {
        match &self.store {
            Store::Memory(core) => core.search_hits_batch(queries, k, options),
            Store::Durable(durable) => durable.search_hits_batch(queries, k, options),
        }
    }

    /// As [`search_with`](Self::search_with), without copying the records found where they are in memory.
    ///
    /// # Errors
    /// As [`search`](Self::search).
    pub fn search_hits<'a>(
        &'a self,
        query: &[f32],
        k: usize,
        options: &SearchOptions,
    ) -> Result<HitsAnswer<'a>, Error> {
        match &self.store {
            Store::Memory(core) => core.search_hits(query, k, options),
            Store::Durable(durable) => durable.search_hits(query, k, options),
        }
    }

    /// How many records there are.
    pub fn size(&self) -> usize {
        match &self.store {
            Store::Memory(core) => core.store.len(),
            Store::Durable(durable) => durable.len(),
        }
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.size() == 0
    }

    /// A copy of the record with this id.
    ///
    /// # Panics
    /// When the record is damaged on disk; [`try_get`](Self::try_get) gives the error instead.
    pub fn get(&self, id: &str) -> Option<VectorRecord> {
        or_panic(self.try_get(id))
    }

    /// As [`get`](Self::get).
    ///
    /// # Errors
    /// In a directory, for what is damaged; in memory, never.
    pub fn try_get(&self, id: &str) -> Result<Option<VectorRecord>, Error> {
        match &self.store {
            Store::Memory(Core { store, .. }) => Ok(store.offset(id).map(|offset| store.record(offset))),
            Store::Durable(durable) => durable.get(id),
        }
    }

    /// Whether there is a record with this id.
    ///
    /// # Panics
    /// When the table of ids is damaged on disk; [`try_contains`](Self::try_contains) gives the error instead.
    pub fn contains(&self, id: &str) -> bool {
        or_panic(self.try_contains(id))
    }

    /// As [`contains`](Self::contains).
    ///
    /// # Errors
    /// In a directory, for what is damaged; in memory, never.
    pub fn try_contains(&self, id: &str) -> Result<bool, Error> {
        match &self.store {
            Store::Memory(core) => Ok(core.store.offset(id).is_some()),
            Store::Durable(durable) => durable.contains(id),
        }
    }

    /// Removes the record with this id; false when there is none.
    ///
    /// # Panics
    /// In a directory, when it cannot be written: a disk is full or fails, or it was opened to read only.
    /// [`try_delete`](Self::try_delete) gives the error instead.
    pub fn delete(&mut self, id: &str) -> bool {
        or_panic(self.try_delete(id))
    }

    /// As [`delete`](Self::delete).
    ///
    /// # Errors
    /// In a directory, when it cannot be written; in memory, never.
    pub fn try_delete(&mut self, id: &str) -> Result<bool, Error> {
        match &mut self.store {
            Store::Memory(core) => Ok(core.delete(id)),
            Store::Durable(durable) => durable.delete(id),
        }
    }

    /// Removes all records; the configuration stays.
    ///
    /// # Panics
    /// As [`delete`](Self::delete); [`try_clear`](Self::try_clear) gives the error instead.
    pub fn clear(&mut self) {
        or_panic(self.try_clear());
    }

    /// As [`clear`](Self::clear).
    ///
    /// # Errors
    /// In a directory, when it cannot be written; in memory, never.
    pub fn try_clear(&mut self) -> Result<(), Error> {
        match &mut self.store {
            Store::Memory(core) => {
                core.clear();
                Ok(())
            }
            Store::Durable(durable) => durable.clear(),
        }
    }

    /// Copies of all records, in the order in which they are stored.
    ///
    /// # Panics
    /// When a record is damaged on disk; [`try_iter`](Self::try_iter) gives the error instead.
    pub fn iter(&self) -> impl Iterator<Item = VectorRecord> + '_ {
        self.try_iter().map(or_panic)
    }

    /// As [`iter`](Self::iter). In a directory they are the records as they are now, whatever is written meanwhile.
    ///
    /// # Errors
    /// In a directory each may be one that is damaged; in memory, never.
    pub fn try_iter(&self) -> impl Iterator<Item = Result<VectorRecord, Error>> + '_ {
        let (memory, durable) = match &self.store {
            Store::Memory(core) => (Some(&core.store), None),
            Store::Durable(durable) => (None, Some(durable.records())),
        };
        let memory = memory.into_iter();
        let memory = memory.flat_map(|store| store.live().map(|offset| Ok(store.record(offset))));
        memory.chain(durable.into_iter().flatten())
    }

    /// The ids of all records, in the order in which they are stored.
    ///
    /// # Panics
    /// As [`contains`](Self::contains).
    pub fn ids(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let (memory, durable) = match &self.store {
            Store::Memory(core) => (Some(&core.store), None),
            Store::Durable(durable) => (None, Some(durable.ids())),
        };
        let memory = memory.into_iter();
        let memory = memory.flat_map(|store| store.live().map(|offset| Cow::Borrowed(store.id(offset))));
        memory.chain(durable.into_iter().flatten().map(|id| Cow::Owned(or_panic(id))))
    }

    /// Values per vector.
    pub fn dimension(&self) -> usize {
        match &self.store {
            Store::Memory(core) => core.dimension,
            Store::Durable(durable) => durable.setup.dimension,
        }
    }

    /// How vectors are compared.
    pub fn metric(&self) -> Metric {
        match &self.store {
            Store::Memory(core) => core.store.vectors.metric(),
            Store::Durable(durable) => durable.setup.metric,
        }
    }

    /// Bytes of memory that vectors and index take; ids and metadata are not counted. In a directory: what is taken of the
    /// memory budget, and an index in memory; what is read through mappings is the operating system's to give and take.
    pub fn memory_bytes(&self) -> usize {
        match &self.store {
            Store::Memory(core) => core.bytes(),
            Store::Durable(durable) => durable.bytes(),
        }
    }

    /// The quantizer whose codes a Flat database scans; `None` without one.
    pub fn quantizer(&self) -> Option<CodeKind> {
        let params = match &self.store {
            Store::Memory(core) => &core.params,
            Store::Durable(durable) => &durable.setup.params,
        };
        params.coded.map(|coded| coded.kind)
    }

    /// Which index answers searches.
    pub fn index_type(&self) -> IndexType {
        match &self.store {
            Store::Memory(core) => core.index.index_type(),
            Store::Durable(durable) => durable.setup.index_type,
        }
    }

    /// Reads what the process that writes to the directory has written since; says whether there was anything. Only of a
    /// database that was [opened to read](Self::open_read_only); others have nothing to read.
    ///
    /// # Errors
    /// What is damaged, or does not fit any more because the collection was made anew.
    pub fn refresh(&mut self) -> Result<bool, Error> {
        match &mut self.store {
            Store::Memory(_) => Ok(false),
            Store::Durable(durable) => durable.refresh(),
        }
    }

    /// Waits until everything is on disk, which it is already, since every change waits. Nothing in memory.
    ///
    /// # Errors
    /// [`Error::Storage`]; [`Error::Engine`] when opened to read only.
    pub fn flush(&self) -> Result<(), Error> {
        match &self.store {
            Store::Memory(_) => Ok(()),
            Store::Durable(durable) => durable.flush(),
        }
    }

    /// Makes one segment of all, without deleted records and with a graph under [`IndexType::HNSW`]: searches are fastest after
    /// it. Without the call the engine does what is worth it in the background. Nothing in memory.
    ///
    /// # Errors
    /// As [`flush`](Self::flush); nothing is lost.
    pub fn optimize(&mut self) -> Result<(), Error> {
        match &self.store {
            Store::Memory(_) => Ok(()),
            Store::Durable(durable) => durable.optimize(),
        }
    }

    /// Ends background work, seals what is in the log only, so that the next opening has nothing to read again, and gives the
    /// directory back to others who want to write. Dropping a database loses nothing either; both wait for a merge that is
    /// under way. While there are clones, the last one to be closed does it. Nothing in memory.
    ///
    /// # Errors
    /// [`Error::Storage`]; nothing is lost.
    pub fn close(self) -> Result<(), Error> {
        match self.store {
            Store::Memory(_) => Ok(()),
            Store::Durable(durable) => durable.close(),
        }
    }

    /// A database in memory that holds the same records, with an index of its own.
    ///
    /// # Errors
    /// In a directory, for what is damaged; in memory, never.
    pub fn to_memory(&self) -> Result<Self, Error> {
        let core = match &self.store {
            Store::Memory(core) => core.clone(),
            Store::Durable(durable) => durable.to_core()?,
        };
        Ok(Self { store: Store::Memory(core) })
    }
}

/// What there is to return where no error can be.
fn or_panic<T>(done: Result<T, Error>) -> T {
    done.unwrap_or_else(|error| panic!("{error}"))
}

impl VectorIndex for VectorDB {
    fn insert(&mut self, record: VectorRecord) -> Result<(), Error> {
        VectorDB::insert(self, record)
    }

    fn search(&self, query: &[f32], k: usize) -> Result<Vec<SearchResult>, Error> {
        VectorDB::search(self, query, k)
    }

    fn size(&self) -> usize {
        VectorDB::size(self)
    }
}
