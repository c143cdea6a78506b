//! The indexes of the specification as building blocks, and the core that they share with [`VectorDB`](crate::VectorDB).
//!
//! [`Core`] is a record store with one of the indexes over it; it validates, keeps both in step, and turns hits
//! into results. `FlatIndex`, `LSHIndex`, `HNSWIndex` and `IVFIndex` are thin faces of it.

use crate::config::check_dimension;
use crate::record::{HitsAnswer, SearchHit, SearchOptions};
use crate::store::{RecordStore, check_record, not_finite};
use crate::{Error, IndexType, SearchResult, VectorDBConfig, VectorRecord};
use rayon::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;
use vdb_distance::Metric;
use vdb_index::{
    Answer, BitSet, Coded, CodedParams, Flat, FlatScan, Hnsw, HnswParams, Ivf, IvfParams, Lsh, LshParams,
    MAX_ROWS, Request,
};

/// What every index does.
pub trait VectorIndex {
    /// Adds a record, replacing one with the same id.
    ///
    /// # Errors
    /// When the vector has the wrong dimension or holds a value that is not finite.
    fn insert(&mut self, record: VectorRecord) -> Result<(), Error>;

    /// The `k` records nearest to `query`, ordered by (similarity descending, id).
    ///
    /// # Errors
    /// When the query has the wrong dimension or holds a value that is not finite.
    fn search(&self, query: &[f32], k: usize) -> Result<Vec<SearchResult>, Error>;

    /// How many records it holds.
    fn size(&self) -> usize;
}

/// The recall that HNSW searches aim at by default.
const TARGET_RECALL: f64 = 0.95;

/// Parameters of every index; each uses its own.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct IndexParams {
    pub(crate) hnsw: HnswParams,
    /// The beam of HNSW searches; `None` leaves it to `target_recall`.
    pub(crate) ef_search: Option<usize>,
    pub(crate) target_recall: f64,
    pub(crate) lsh: LshParams,
    /// Flat: the codes to scan; `None` for the exact scan.
    pub(crate) coded: Option<CodedParams>,
    pub(crate) ivf: IvfParams,
    /// Lists that IVF searches probe; `None` leaves it to the index.
    pub(crate) probes: Option<usize>,
}

impl Default for IndexParams {
    fn default() -> Self {
        Self {
            hnsw: HnswParams::default(),
            ef_search: None,
            target_recall: TARGET_RECALL,
            lsh: LshParams::default(),
            ivf: IvfParams::default(),
            probes: None,
            coded: None,
        }
    }
}

impl IndexParams {
    /// How wide an HNSW search is: what it says itself, or else the database; a beam goes before a recall.
    pub(crate) fn beam(&self, options: &SearchOptions) -> Beam {
        let wide = options.ef_search.map(Beam::Wide);
        wide.or(options.target_recall.map(Beam::ForRecall))
            .or(self.ef_search.map(Beam::Wide))
            .unwrap_or(Beam::ForRecall(self.target_recall))
    }
}

/// One of the indexes.
#[allow(clippy::large_enum_variant, reason = "a database holds one")]
#[derive(Debug, Clone)]
pub(crate) enum Index {
    Flat(Flat),
    /// Flat with a quantizer.
    Coded(Coded),
    Lsh(Lsh),
    Hnsw(Hnsw),
    Ivf(Ivf),
}

impl Index {
    /// `params` were checked for this metric and dimension.
    fn new(index_type: IndexType, params: &IndexParams, metric: Metric, dimension: usize) -> Self {
        match index_type {
            IndexType::Flat => match params.coded {
                None => Index::Flat(Flat::new()),
                Some(coded) => Index::Coded(
                    Coded::new(coded, metric, dimension).expect("the builder checked the parameters"),
                ),
            },
            IndexType::LSH => Index::Lsh(Lsh::new(params.lsh)),
            IndexType::HNSW => Index::Hnsw(Hnsw::new(params.hnsw)),
            IndexType::IVF => Index::Ivf(Ivf::new(params.ivf)),
        }
    }

    pub(crate) fn index_type(&self) -> IndexType {
        match self {
            Index::Flat(_) | Index::Coded(_) => IndexType::Flat,
            Index::Lsh(_) => IndexType::LSH,
            Index::Hnsw(_) => IndexType::HNSW,
            Index::Ivf(_) => IndexType::IVF,
        }
    }
}

/// Records and their index, kept in step.
#[derive(Debug, Clone)]
pub(crate) struct Core {
    /// Kept apart from the store, which cannot be of dimension 0: such a database refuses everything.
    pub(crate) dimension: usize,
    /// What is wrong with parameters that a constructor without an error was given: everything is refused with it.
    refusal: Option<String>,
    pub(crate) params: IndexParams,
    pub(crate) store: RecordStore,
    pub(crate) index: Index,
}

impl Core {
    pub(crate) fn new(metric: Metric, dimension: usize, index_type: IndexType, params: IndexParams) -> Self {
        Self {
            dimension,
            refusal: None,
            params,
            store: RecordStore::new(metric, dimension.max(1)),
            index: Index::new(index_type, &params, metric, dimension),
        }
    }

    fn from_config(config: &VectorDBConfig, index_type: IndexType, params: IndexParams) -> Self {
        Self::new(config.distance_metric.into(), config.dimension, index_type, params)
    }

    /// A core of its parts, as a file holds them.
    pub(crate) fn from_parts(
        dimension: usize,
        params: IndexParams,
        store: RecordStore,
        index: Index,
    ) -> Self {
        Self { dimension, refusal: None, params, store, index }
    }

    fn check_config(&self) -> Result<(), Error> {
        match &self.refusal {
            Some(reason) => Err(Error::InvalidConfig(reason.clone())),
            None => check_dimension(self.dimension),
        }
    }

    fn metric(&self) -> Metric {
        self.store.vectors.metric()
    }

    pub(crate) fn insert(&mut self, record: VectorRecord) -> Result<(), Error> {
        self.check_config()?;
        check_record(&record, self.dimension)?;
        self.check_room(1)?;
        self.delete(&record.id);
        let offset = self.store.add(record);
        self.index_rows(&[offset], &mut |_| ());
        Ok(())
    }

    /// Inserts all records or none; of several with the same id the last one stays.
    ///
    /// New records go to the store as they come, replacements wait: an error takes the new ones out again and finds
    /// the old ones untouched.
    pub(crate) fn insert_all<E: From<Error>>(
        &mut self,
        records: impl Iterator<Item = Result<VectorRecord, E>>,
        progress: &mut dyn FnMut(usize),
    ) -> Result<usize, E> {
        self.check_config()?;
        self.store.reserve(records.size_hint().0);
        let mut staged = Staged::default();
        for (position, record) in records.enumerate() {
            let staging =
                record.and_then(|record| self.stage(record, position, &mut staged).map_err(E::from));
            if let Err(error) = staging {
                staged.fresh.iter().for_each(|&offset| self.store.remove(offset));
                self.store.release(staged.fresh);
                return Err(error);
            }
        }
        let Staged { mut fresh, replacements, .. } = staged;
        for record in replacements {
            self.delete(&record.id);
            fresh.push(self.store.add(record));
        }
        self.index_rows(&fresh, progress);
        Ok(fresh.len())
    }

    fn stage(&mut self, record: VectorRecord, position: usize, staged: &mut Staged) -> Result<(), Error> {
        check_record(&record, self.dimension)
            .and_then(|()| self.check_room(1 + staged.replacements.len()))
            .map_err(|source| Error::InBatch { position, source: Box::new(source) })?;
        let Some(offset) = self.store.offset(&record.id) else {
            let offset = self.store.add(record);
            staged.is_fresh.insert(offset);
            staged.fresh.push(offset);
            return Ok(());
        };
        if staged.is_fresh.contains(offset) {
            self.store.overwrite(offset, record);
        } else if let Some(&earlier) = staged.replaced.get(&offset) {
            staged.replacements[earlier] = record;
        } else {
            staged.replaced.insert(offset, staged.replacements.len());
            staged.replacements.push(record);
        }
        Ok(())
    }

    fn check_room(&self, additional: usize) -> Result<(), Error> {
        let records = self.store.vectors.len() + additional;
        if records > MAX_ROWS { Err(Error::Full { records, limit: MAX_ROWS }) } else { Ok(()) }
    }

    fn index_rows(&mut self, offsets: &[u32], progress: &mut dyn FnMut(usize)) {
        match &mut self.index {
            Index::Flat(flat) => flat.insert(&self.store.vectors, offsets),
            Index::Coded(coded) => coded.insert(&self.store.vectors, offsets),
            Index::Lsh(lsh) => lsh.insert(&self.store.vectors, offsets),
            Index::Hnsw(hnsw) => hnsw.insert_with_progress(&self.store.vectors, offsets, progress),
            Index::Ivf(ivf) => ivf.insert(&self.store.vectors, offsets),
        }
        progress(offsets.len());
    }

    pub(crate) fn delete(&mut self, id: &str) -> bool {
        let Some(offset) = self.store.offset(id) else { return false };
        self.store.remove(offset);
        let vectors = &self.store.vectors;
        let released = match &mut self.index {
            Index::Flat(_) | Index::Coded(_) => vec![offset],
            Index::Lsh(lsh) => {
                lsh.remove(vectors, offset);
                vec![offset]
            }
            Index::Hnsw(hnsw) => hnsw.remove(vectors, offset),
            Index::Ivf(ivf) => {
                ivf.remove(vectors, offset);
                vec![offset]
            }
        };
        self.store.release(released);
        true
    }

    pub(crate) fn clear(&mut self) {
        let refusal = self.refusal.take();
        *self = Self::new(self.metric(), self.dimension, self.index.index_type(), self.params);
        self.refusal = refusal;
    }

    /// Heap bytes of vectors and index.
    pub(crate) fn bytes(&self) -> usize {
        let index = match &self.index {
            Index::Flat(flat) => flat.bytes(),
            Index::Coded(coded) => coded.bytes(),
            Index::Lsh(lsh) => lsh.bytes(),
            Index::Hnsw(hnsw) => hnsw.bytes(),
            Index::Ivf(ivf) => ivf.bytes(),
        };
        self.store.vectors.bytes() + index
    }

    pub(crate) fn search_hits<'a>(
        &'a self,
        query: &[f32],
        k: usize,
        options: &SearchOptions,
    ) -> Result<HitsAnswer<'a>, Error> {
        check_options(options)?;
        self.check_config().and_then(|()| check_query(query, self.dimension))?;
        let allowed = self.allowed(options);
        let by_id = |a: u32, b: u32| self.store.id(a).cmp(self.store.id(b));
        let request = Request { allowed: allowed.as_deref(), tie_break: &by_id, ..Request::new(query, k) };
        Ok(self.hits(&self.answer(&request, options)))
    }

    /// As many answers as there are queries, each what [`search_hits`](Self::search_hits) gives.
    pub(crate) fn search_hits_batch<'a>(
        &'a self,
        queries: &[&[f32]],
        k: usize,
        options: &SearchOptions,
    ) -> Result<Vec<HitsAnswer<'a>>, Error> {
        check_options(options)?;
        self.check_config().and_then(|()| check_queries(queries, self.dimension))?;
        let allowed = self.allowed(options);
        let by_id = |a: u32, b: u32| self.store.id(a).cmp(self.store.id(b));
        let request =
            |query| Request { allowed: allowed.as_deref(), tie_break: &by_id, ..Request::new(query, k) };
        let requests: Vec<Request<'_>> = queries.iter().map(|query| request(*query)).collect();
        let vectors = &self.store.vectors;
        let answers = match &self.index {
            _ if options.exact => FlatScan.search_batch(vectors, &requests),
            Index::Flat(flat) => flat.search_batch(vectors, &requests),
            _ => requests.par_iter().map(|request| self.answer(request, options)).collect(),
        };
        Ok(answers.iter().map(|answer| self.hits(answer)).collect())
    }

    /// The records that the filter leaves; `None` without a filter.
    fn allowed(&self, options: &SearchOptions) -> Option<Arc<BitSet>> {
        (!options.filter.is_empty()).then(|| self.store.matching(&options.filter))
    }

    fn answer(&self, request: &Request<'_>, options: &SearchOptions) -> Answer {
        let vectors = &self.store.vectors;
        match &self.index {
            _ if options.exact => FlatScan.search(vectors, request),
            Index::Flat(flat) => flat.search(vectors, request),
            Index::Coded(coded) => coded.search(vectors, request, options.oversampling),
            Index::Lsh(lsh) => lsh.search(vectors, request, options.candidates),
            Index::Hnsw(hnsw) => match self.params.beam(options) {
                Beam::Wide(ef_search) => hnsw.search(vectors, request, ef_search),
                Beam::ForRecall(target) => hnsw.search_for_recall(vectors, request, target),
            },
            Index::Ivf(ivf) => ivf.search(vectors, request, options.probes.or(self.params.probes)),
        }
    }

    fn hits(&self, answer: &Answer) -> HitsAnswer<'_> {
        let hits = answer.hits.iter().map(|hit| {
            let (similarity, distance) = (hit.distance.similarity(), hit.distance.value(self.metric()));
            SearchHit::stored(&self.store, hit.offset, similarity, distance)
        });
        HitsAnswer {
            hits: hits.collect(),
            exact: answer.exact,
            distance_computations: answer.distance_computations,
            hops: answer.hops,
            ef_search: answer.ef_search,
        }
    }
}

/// Says in a sentence what is wrong with a parameter that must lie in `least..=most`.
pub(crate) fn check_range(name: &str, value: usize, least: usize, most: usize) -> Result<(), String> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let expected =
        if most == usize::MAX { format!("at least {least}") } else { format!("{least} to {most}") };
    Err(format!("{name} is {value}, expected {expected}"))
}

pub(crate) fn check_ivf(ivf: &IvfParams, probes: Option<usize>) -> Result<(), String> {
    check_range("lists", ivf.lists.unwrap_or(1), 1, 1 << 20)?;
    check_range("bits", usize::from(ivf.bits), 1, 8)?;
    check_range("probes", probes.unwrap_or(1), 1, usize::MAX)
}

pub(crate) fn check_options(options: &SearchOptions) -> Result<(), Error> {
    options.target_recall.map_or(Ok(()), check_target_recall).map_err(Error::InvalidSearch)
}

pub(crate) fn check_query(query: &[f32], dimension: usize) -> Result<(), Error> {
    if query.len() != dimension {
        return Err(Error::QueryDimensionMismatch { expected: dimension, got: query.len() });
    }
    match not_finite(query) {
        Some((index, value)) => Err(Error::QueryNotFinite { index, value }),
        None => Ok(()),
    }
}

pub(crate) fn check_queries(queries: &[&[f32]], dimension: usize) -> Result<(), Error> {
    for (position, query) in queries.iter().enumerate() {
        check_query(query, dimension)
            .map_err(|source| Error::InQueries { position, source: Box::new(source) })?;
    }
    Ok(())
}

pub(crate) fn check_target_recall(target: f64) -> Result<(), String> {
    if target > 0.0 && target <= 1.0 {
        return Ok(());
    }
    Err(format!("target_recall is {target}, expected more than 0 and at most 1"))
}

/// How wide HNSW searches are.
pub(crate) enum Beam {
    Wide(usize),
    ForRecall(f64),
}

/// A batch on its way in.
#[derive(Default)]
struct Staged {
    /// Offsets of records with new ids, in the store but not in the index.
    fresh: Vec<u32>,
    is_fresh: BitSet,
    /// Records whose ids were there before the batch.
    replacements: Vec<VectorRecord>,
    /// The offset of the record to be replaced, and the place of its replacement.
    replaced: HashMap<u32, usize>,
}

/// Exact search: every record is compared.
#[derive(Debug, Clone)]
pub struct FlatIndex(Core);

/// Locality-sensitive hashing with multi-probe.
#[derive(Debug, Clone)]
pub struct LSHIndex(Core);

/// A hierarchical navigable small-world graph.
#[derive(Debug, Clone)]
pub struct HNSWIndex(Core);

/// Posting lists around centroids, with short codes.
#[derive(Debug, Clone)]
pub struct IVFIndex(Core);

impl FlatIndex {
    /// An empty index; `config.index_type` is not looked at.
    pub fn new(config: VectorDBConfig) -> Self {
        Self(Core::from_config(&config, IndexType::Flat, IndexParams::default()))
    }
}

impl LSHIndex {
    /// An empty index of `num_tables` tables whose codes have up to `num_functions` bits, as many as suit the number of
    /// records; `config.index_type` is not looked at.
    ///
    /// With `num_tables` outside 1 to 1,024 or `num_functions` outside 1 to 64 every later operation is an error.
    pub fn new(config: VectorDBConfig, num_tables: usize, num_functions: usize) -> Self {
        let lsh = LshParams {
            num_tables: Some(num_tables),
            num_functions: Some(num_functions),
            ..LshParams::default()
        };
        let checked = lsh.check();
        let lsh = if checked.is_ok() { lsh } else { LshParams::default() };
        let params = IndexParams { lsh, ..IndexParams::default() };
        let mut core = Core::from_config(&config, IndexType::LSH, params);
        core.refusal = checked.err();
        Self(core)
    }
}

impl HNSWIndex {
    /// An empty index with the default parameters; `config.index_type` is not looked at.
    pub fn new(config: VectorDBConfig) -> Self {
        Self(Core::from_config(&config, IndexType::HNSW, IndexParams::default()))
    }
}

impl IVFIndex {
    /// An empty index with the default parameters; `config.index_type` is not looked at.
    pub fn new(config: VectorDBConfig) -> Self {
        Self(Core::from_config(&config, IndexType::IVF, IndexParams::default()))
    }
}

macro_rules! vector_index {
    ($index:ident) => {
        impl $index {
            /// Adds a record, replacing one with the same id.
            ///
            /// # Errors
            /// When the vector has the wrong dimension or holds a value that is not finite.
            pub fn insert(&mut self, record: VectorRecord) -> Result<(), Error> {
                self.0.insert(record)
            }

            /// The `k` records nearest to `query`, ordered by (similarity descending, id).
            ///
            /// # Errors
            /// When the query has the wrong dimension or holds a value that is not finite.
            pub fn search(&self, query: &[f32], k: usize) -> Result<Vec<SearchResult>, Error> {
                Ok(self.0.search_hits(query, k, &SearchOptions::default())?.into_answer().results)
            }

            /// How many records it holds.
            pub fn size(&self) -> usize {
                self.0.store.len()
            }
        }

        impl VectorIndex for $index {
            fn insert(&mut self, record: VectorRecord) -> Result<(), Error> {
                $index::insert(self, record)
            }

            fn search(&self, query: &[f32], k: usize) -> Result<Vec<SearchResult>, Error> {
                $index::search(self, query, k)
            }

            fn size(&self) -> usize {
                $index::size(self)
            }
        }
    };
}

vector_index!(FlatIndex);
vector_index!(LSHIndex);
vector_index!(HNSWIndex);
vector_index!(IVFIndex);
