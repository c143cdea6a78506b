//! The durable side of [`VectorDB`](crate::VectorDB): records as points of one collection of a database in a directory.
//!
//! An id is a text, metadata is the payload, the vector is the one without a name. The collection answers searches, exactly or
//! through the graphs of its segments. What it keeps no index for lies in a [`Mirror`]: an index in memory that follows the
//! collection.

mod mirror;
mod points;

use crate::files::in_file;
use crate::index::{Beam, Core, IndexParams, check_options, check_queries, check_query};
use crate::record::{HitsAnswer, SearchHit, SearchOptions};
use crate::store::check_record;
use crate::{Error, IndexType, VectorRecord, engine};
use mirror::Mirror;
use points::{Batch, holds, id_of, point_of, record_of};
use rayon::prelude::*;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use vdb_distance::Metric;
use vdb_engine::{
    Collection, CollectionConfig, Database, Durability, Effort, FieldIndex, Operation, Options, Payload,
    PointId, Search, VectorConfig, View,
};
use vdb_index::HnswParams;
use vdb_storage::MAX_RECORD_BYTES;

/// The name of the one collection.
const COLLECTION: &str = "default";
/// The name of its vectors.
const FIELD: &str = "";

/// What a database is opened with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) dimension: usize,
    pub(crate) metric: Metric,
    pub(crate) index_type: IndexType,
    pub(crate) params: IndexParams,
}

impl Setup {
    /// The vectors of a directory that is made for it.
    fn vector_config(&self) -> VectorConfig {
        let index = match self.index_type {
            IndexType::HNSW => FieldIndex::Hnsw(self.params.hnsw),
            IndexType::Flat | IndexType::LSH | IndexType::IVF => FieldIndex::Flat,
        };
        VectorConfig::new(self.dimension, self.metric).with_index(index)
    }

    /// Whether the collection has no index for it.
    fn needs_mirror(&self) -> bool {
        match self.index_type {
            IndexType::Flat => self.params.coded.is_some(),
            IndexType::HNSW => false,
            IndexType::LSH | IndexType::IVF => true,
        }
    }

    /// The same with the graph that the directory was made with.
    ///
    /// # Errors
    /// What was expected and what was found.
    fn fitted(mut self, view: &View) -> Result<Self, String> {
        let Some((_, found)) = view.vectors().find(|(name, _)| *name == FIELD) else {
            return Err(format!("expected vectors without a name; the collection {COLLECTION:?} has none"));
        };
        let kept = |config: &VectorConfig| {
            let graph = match config.index {
                FieldIndex::Hnsw(_) => "with a graph (HNSW)",
                _ => "without a graph (Flat, LSH, IVF)",
            };
            format!("{} dimensions, {}, {graph}", config.dim, config.metric)
        };
        let (expected, found_text) = (kept(&self.vector_config()), kept(found));
        if expected != found_text {
            return Err(format!(
                "expected a database of {expected}; the directory holds one of {found_text}"
            ));
        }
        if let FieldIndex::Hnsw(found) = found.index {
            let numbers = |params: HnswParams| {
                let HnswParams { m, ef_construction, exact_scan_factor, seed } = params;
                [m as u64, ef_construction as u64, exact_scan_factor as u64, seed]
            };
            let (asked, default) = (numbers(self.params.hnsw), numbers(HnswParams::default()));
            let names = ["m", "ef_construction", "exact_scan_factor", "seed"];
            for (place, (name, found)) in names.into_iter().zip(numbers(found)).enumerate() {
                if asked[place] != default[place] && asked[place] != found {
                    let asked = asked[place];
                    return Err(format!("expected a graph with {name} {asked}; the directory's has {found}"));
                }
            }
            self.params.hnsw = found;
        }
        Ok(self)
    }
}

/// A database in a directory. Clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Durable {
    path: Arc<Path>,
    database: Arc<Database>,
    collection: Arc<Collection>,
    pub(crate) setup: Setup,
    /// Who changes records holds it while they do, so that its changes come in the collection's order.
    mirror: Option<Arc<RwLock<Mirror>>>,
    /// The most bytes of a batch that is one record of the log.
    batch_bytes: usize,
}

impl Durable {
    pub(crate) fn open(path: &Path, setup: Setup, options: Options, writes: bool) -> Result<Self, Error> {
        let database = if writes { options.open(path)? } else { options.open_read_only(path)? };
        let collection = match database.collection(COLLECTION) {
            Err(engine::Error::NoSuchCollection { .. }) if writes => {
                database.create_collection(COLLECTION, &CollectionConfig::from(setup.vector_config()))?
            }
            found => found?,
        };
        let setup = fitted(setup, &collection, path)?;
        let mirror = mirror_of(&setup, &collection)?;
        let (path, database) = (Arc::from(path), Arc::new(database));
        Ok(Self { path, database, collection, setup, mirror, batch_bytes: MAX_RECORD_BYTES })
    }

    pub(crate) fn insert(&mut self, record: VectorRecord) -> Result<(), Error> {
        check_record(&record, self.setup.dimension)?;
        self.write(vec![Operation::upsert(point_of(record))])?;
        Ok(())
    }

    /// Inserts all records or none, as far as they fit in one record of the log.
    pub(crate) fn insert_all<E: From<Error>>(
        &mut self,
        records: impl Iterator<Item = Result<VectorRecord, E>>,
        progress: &mut dyn FnMut(usize),
    ) -> Result<usize, E> {
        let mut batch = Batch::default();
        let mut inserted = 0;
        for (position, record) in records.enumerate() {
            let record = record?;
            check_record(&record, self.setup.dimension)
                .map_err(|source| Error::InBatch { position, source: Box::new(source) })?;
            if let Some(full) = batch.add(record, self.batch_bytes) {
                inserted += full.len();
                self.write(full.into_iter().map(Operation::upsert).collect())?;
                progress(inserted);
            }
        }
        let points = batch.into_points();
        if !points.is_empty() {
            inserted += points.len();
            self.write(points.into_iter().map(Operation::upsert).collect())?;
        }
        progress(inserted);
        Ok(inserted)
    }

    pub(crate) fn delete(&mut self, id: &str) -> Result<bool, Error> {
        Ok(self.write(vec![Operation::Delete(PointId::from(id))])? == 0)
    }

    pub(crate) fn clear(&mut self) -> Result<(), Error> {
        let ids: Vec<PointId> = self.collection.view().ids().collect::<Result<_, _>>()?;
        // The longest ids a record of the log has room for are some 200,000.
        for ids in ids.chunks(self.batch_bytes / points::LONGEST_ID_BYTES) {
            self.write(ids.iter().cloned().map(Operation::Delete).collect())?;
        }
        Ok(())
    }

    /// Makes changes that are durable then; gives the number of those that did nothing.
    fn write(&self, operations: Vec<Operation<'_>>) -> Result<usize, Error> {
        let Some(mirror) = &self.mirror else {
            return Ok(self.collection.write(operations, Durability::Sync)?.skipped);
        };
        let ids: Vec<PointId> = operations.iter().filter_map(id_of).cloned().collect();
        let mut mirror = mirror.write().unwrap_or_else(PoisonError::into_inner);
        let written = self.collection.write(operations, Durability::Sync)?;
        // They are made; where the mirror cannot follow now, the next search has it try again.
        let _ = mirror.follow_ids(&self.collection.view(), &ids);
        Ok(written.skipped)
    }

    pub(crate) fn len(&self) -> usize {
        self.collection.len()
    }

    pub(crate) fn get(&self, id: &str) -> Result<Option<VectorRecord>, Error> {
        Ok(self.collection.get(&PointId::from(id))?.map(record_of))
    }

    pub(crate) fn contains(&self, id: &str) -> Result<bool, Error> {
        Ok(self.collection.view().contains(&PointId::from(id))?)
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = Result<VectorRecord, Error>> + use<> {
        self.collection.view().into_points().map(|stored| Ok(record_of(stored?)))
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = Result<String, Error>> + use<> {
        self.collection.view().into_ids().map(|id| Ok(points::text_of(id?)))
    }

    pub(crate) fn search_hits(
        &self,
        query: &[f32],
        k: usize,
        options: &SearchOptions,
    ) -> Result<HitsAnswer<'static>, Error> {
        check_options(options)?;
        check_query(query, self.setup.dimension)?;
        match &self.mirror {
            Some(mirror) => {
                self.with_core(mirror, |core| Ok(core.search_hits(query, k, options)?.into_owned()))
            }
            None => self.search_view(&self.collection.view(), query, k, options),
        }
    }

    /// The answers of one version to all queries.
    pub(crate) fn search_hits_batch(
        &self,
        queries: &[&[f32]],
        k: usize,
        options: &SearchOptions,
    ) -> Result<Vec<HitsAnswer<'static>>, Error> {
        check_options(options)?;
        check_queries(queries, self.setup.dimension)?;
        if let Some(mirror) = &self.mirror {
            return self.with_core(mirror, |core| {
                let answers = core.search_hits_batch(queries, k, options)?;
                Ok(answers.into_iter().map(HitsAnswer::into_owned).collect())
            });
        }
        let view = self.collection.view();
        queries.par_iter().map(|query| self.search_view(&view, query, k, options)).collect()
    }

    fn search_view(
        &self,
        view: &View,
        query: &[f32],
        k: usize,
        options: &SearchOptions,
    ) -> Result<HitsAnswer<'static>, Error> {
        let filter = |_: &PointId, payload: &Payload| holds(payload, &options.filter);
        let mut search = Search::new(query, k).effort(self.effort(options)).with_payload().with_vectors();
        if !options.filter.is_empty() {
            search = search.filter(&filter);
        }
        let answer = view.search(&search)?;
        Ok(HitsAnswer {
            hits: answer.hits.into_iter().map(hit_of).collect(),
            exact: answer.exact,
            distance_computations: answer.distance_computations,
            hops: answer.hops,
            ef_search: None,
        })
    }

    fn effort(&self, options: &SearchOptions) -> Effort {
        if options.exact || self.setup.index_type == IndexType::Flat {
            return Effort::Exact;
        }
        match self.setup.params.beam(options) {
            Beam::Wide(ef_search) => Effort::EfSearch(ef_search.max(1)),
            Beam::ForRecall(target) => Effort::TargetRecall(target),
        }
    }

    /// Searches the mirror as of the version that is there now.
    fn with_core<R>(
        &self,
        mirror: &RwLock<Mirror>,
        search: impl FnOnce(&Core) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let version = self.collection.view().version();
        {
            let mirror = mirror.read().unwrap_or_else(PoisonError::into_inner);
            if mirror.version() == version {
                return search(mirror.core());
            }
        }
        // A record has expired, another process was read, or a clone has written since.
        let mut mirror = mirror.write().unwrap_or_else(PoisonError::into_inner);
        mirror.follow(&self.collection.view())?;
        search(mirror.core())
    }

    pub(crate) fn bytes(&self) -> usize {
        let (_, taken) = self.database.memory();
        let mirror = self
            .mirror
            .as_ref()
            .map_or(0, |mirror| mirror.read().unwrap_or_else(PoisonError::into_inner).core().bytes());
        taken as usize + mirror
    }

    pub(crate) fn refresh(&mut self) -> Result<bool, Error> {
        let is_new = self.database.refresh()?;
        let collection = self.database.collection(COLLECTION)?;
        if !Arc::ptr_eq(&collection, &self.collection) {
            // It was dropped and made anew.
            self.setup = fitted(self.setup, &collection, &self.path)?;
            self.mirror = mirror_of(&self.setup, &collection)?;
            self.collection = collection;
        }
        Ok(is_new)
    }

    pub(crate) fn flush(&self) -> Result<(), Error> {
        Ok(self.collection.flush()?)
    }

    pub(crate) fn optimize(&self) -> Result<(), Error> {
        Ok(self.collection.optimize()?)
    }

    pub(crate) fn close(self) -> Result<(), Error> {
        // With clones left, theirs is the last one.
        match Arc::try_unwrap(self.database) {
            Ok(database) => Ok(database.close()?),
            Err(_) => Ok(()),
        }
    }

    /// All records in memory, with an index of their own.
    pub(crate) fn to_core(&self) -> Result<Core, Error> {
        let Setup { dimension, metric, index_type, params } = self.setup;
        let mut core = Core::new(metric, dimension, index_type, params);
        core.insert_all(self.records(), &mut |_| ())?;
        Ok(core)
    }
}

fn fitted(setup: Setup, collection: &Collection, path: &Path) -> Result<Setup, Error> {
    setup.fitted(&collection.view()).map_err(|reason| in_file(path, Error::InvalidConfig(reason)))
}

fn mirror_of(setup: &Setup, collection: &Collection) -> Result<Option<Arc<RwLock<Mirror>>>, Error> {
    if !setup.needs_mirror() {
        return Ok(None);
    }
    let mut mirror = Mirror::new(setup);
    mirror.follow(&collection.view())?;
    Ok(Some(Arc::new(RwLock::new(mirror))))
}

fn hit_of(hit: engine::SearchHit) -> SearchHit<'static> {
    let engine::SearchHit { id, value, similarity, payload, vectors, .. } = hit;
    let vector = vectors.and_then(|mut vectors| vectors.remove(FIELD)).unwrap_or_default();
    let metadata = points::metadata_of(payload.unwrap_or_default());
    SearchHit::owned(VectorRecord { id: points::text_of(id), vector, metadata }, similarity, value)
}

#[cfg(test)]
mod tests;
