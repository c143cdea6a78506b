//! The durable side of [`VectorDB`](crate::VectorDB): records as points of one collection of a database in a directory.
//!
//! An id is a text, metadata is the payload, the vector is the one without a name. The collection answers searches, exactly or
//! through the indexes of its segments.

mod points;

use crate::files::in_file;
use crate::index::{Beam, Core, IndexParams, check_options, check_queries, check_query};
use crate::record::{HitsAnswer, SearchHit, SearchOptions};
use crate::store::check_record;
use crate::{Error, IndexType, VectorRecord, engine};
use points::{Batch, holds, point_of, record_of};
use rayon::prelude::*;
use std::path::Path;
use std::sync::Arc;
use vdb_distance::Metric;
use vdb_engine::{
    Collection, CollectionConfig, Database, Durability, Effort, FieldIndex, Operation, Options, Payload,
    PointId, Search, VectorConfig, View,
};
use vdb_index::{CodedParams, HnswParams, IvfParams, LshParams};
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
        let index = match (self.index_type, self.params.coded) {
            (IndexType::Flat, None) => FieldIndex::Flat,
            (IndexType::Flat, Some(params)) => FieldIndex::Coded(params),
            (IndexType::HNSW, _) => FieldIndex::Hnsw(self.params.hnsw),
            (IndexType::LSH, _) => FieldIndex::Lsh(self.params.lsh),
            (IndexType::IVF, _) => FieldIndex::Ivf(self.params.ivf),
        };
        VectorConfig::new(self.dimension, self.metric).with_index(index)
    }

    /// The same with the parameters of the index that the directory was made with.
    ///
    /// # Errors
    /// What was expected and what was found.
    fn fitted(mut self, view: &View) -> Result<Self, String> {
        let Some((_, found)) = view.vectors().find(|(name, _)| *name == FIELD) else {
            return Err(format!("expected vectors without a name; the collection {COLLECTION:?} has none"));
        };
        if let (IndexType::Flat, None, FieldIndex::Coded(params)) =
            (self.index_type, self.params.coded, found.index)
        {
            // No quantizer was named: it is the one of the directory.
            self.params.coded = Some(params);
        }
        let own = self.vector_config();
        let kept = |config: &VectorConfig| {
            format!("{} dimensions, {}, {}", config.dim, config.metric, described(config.index))
        };
        let (expected, found_text) = (kept(&own), kept(found));
        if expected != found_text {
            return Err(format!(
                "expected a database of {expected}; the directory holds one of {found_text}"
            ));
        }
        let (what, asked) = parameters(own.index);
        let (default, found_numbers) = (parameters(with_defaults(own.index)).1, parameters(found.index).1);
        for (place, (name, found)) in found_numbers.into_iter().enumerate() {
            let asked = &asked[place].1;
            if *asked != default[place].1 && *asked != found {
                return Err(format!("expected {what} with {name} {asked}; the directory's has {found}"));
            }
        }
        match found.index {
            FieldIndex::Hnsw(found) => self.params.hnsw = found,
            FieldIndex::Coded(found) => self.params.coded = Some(found),
            FieldIndex::Ivf(found) => self.params.ivf = found,
            FieldIndex::Lsh(found) => self.params.lsh = found,
            _ => {}
        }
        Ok(self)
    }
}

/// What is kept for searches.
fn described(index: FieldIndex) -> String {
    match index {
        FieldIndex::Flat => "without an index (Flat)".to_owned(),
        FieldIndex::Hnsw(_) => "with a graph (HNSW)".to_owned(),
        FieldIndex::Coded(params) => format!("with codes (Flat, {})", params.kind),
        FieldIndex::Ivf(_) => "with posting lists (IVF)".to_owned(),
        FieldIndex::Lsh(_) => "with hash tables (LSH)".to_owned(),
        _ => "with an index that this version does not know".to_owned(),
    }
}

/// The parameters of an index by name; those of one kind in one order.
fn parameters(index: FieldIndex) -> (&'static str, Vec<(&'static str, String)>) {
    let given =
        |number: Option<usize>| number.map_or("left to the index".to_owned(), |number| number.to_string());
    match index {
        FieldIndex::Hnsw(HnswParams { m, ef_construction, exact_scan_factor, seed }) => (
            "a graph",
            vec![
                ("m", given(m)),
                ("ef_construction", ef_construction.to_string()),
                ("exact_scan_factor", exact_scan_factor.to_string()),
                ("seed", seed.to_string()),
            ],
        ),
        FieldIndex::Coded(CodedParams { subspaces, seed, .. }) => {
            ("codes", vec![("subspaces", subspaces.to_string()), ("seed", seed.to_string())])
        }
        FieldIndex::Ivf(IvfParams { lists, bits, spill, seed }) => (
            "posting lists",
            vec![
                ("lists", given(lists)),
                ("bits", bits.to_string()),
                ("spill", spill.to_string()),
                ("seed", seed.to_string()),
            ],
        ),
        FieldIndex::Lsh(LshParams { family, num_tables, num_functions, seed }) => (
            "hash tables",
            vec![
                ("family", format!("{family:?}")),
                ("num_tables", given(num_tables)),
                ("num_functions", given(num_functions)),
                ("seed", seed.to_string()),
            ],
        ),
        _ => ("nothing", Vec::new()),
    }
}

/// The same kind of index with the parameters that nobody has set.
fn with_defaults(index: FieldIndex) -> FieldIndex {
    match index {
        FieldIndex::Hnsw(_) => FieldIndex::Hnsw(HnswParams::default()),
        FieldIndex::Coded(params) => FieldIndex::Coded(CodedParams::new(params.kind)),
        FieldIndex::Ivf(_) => FieldIndex::Ivf(IvfParams::default()),
        FieldIndex::Lsh(_) => FieldIndex::Lsh(LshParams::default()),
        other => other,
    }
}

/// A database in a directory. Clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Durable {
    path: Arc<Path>,
    database: Arc<Database>,
    collection: Arc<Collection>,
    pub(crate) setup: Setup,
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
        let (path, database) = (Arc::from(path), Arc::new(database));
        Ok(Self { path, database, collection, setup, batch_bytes: MAX_RECORD_BYTES })
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
        Ok(self.collection.write(operations, Durability::Sync)?.skipped)
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
        self.search_view(&self.collection.view(), query, k, options)
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
        let IndexParams { coded, probes, .. } = self.setup.params;
        match self.setup.index_type {
            _ if options.exact => Effort::Exact,
            IndexType::Flat if coded.is_none() => Effort::Exact,
            IndexType::Flat => {
                options.oversampling.map_or(Effort::Default, |n| Effort::Oversampling(n.max(1)))
            }
            IndexType::IVF => options.probes.or(probes).map_or(Effort::Default, |n| Effort::Probes(n.max(1))),
            IndexType::LSH => options.candidates.map_or(Effort::Default, |n| Effort::Candidates(n.max(1))),
            IndexType::HNSW => match self.setup.params.beam(options) {
                Beam::Wide(ef_search) => Effort::EfSearch(ef_search.max(1)),
                Beam::ForRecall(target) => Effort::TargetRecall(target),
            },
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.database.memory().1 as usize
    }

    pub(crate) fn refresh(&mut self) -> Result<bool, Error> {
        let is_new = self.database.refresh()?;
        let collection = self.database.collection(COLLECTION)?;
        if !Arc::ptr_eq(&collection, &self.collection) {
            // It was dropped and made anew.
            self.setup = fitted(self.setup, &collection, &self.path)?;
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

fn hit_of(hit: engine::SearchHit) -> SearchHit<'static> {
    let engine::SearchHit { id, value, similarity, payload, vectors, .. } = hit;
    let vector = vectors.and_then(|mut vectors| vectors.remove(FIELD)).unwrap_or_default();
    let metadata = points::metadata_of(payload.unwrap_or_default());
    SearchHit::owned(VectorRecord { id: points::text_of(id), vector, metadata }, similarity, value)
}

#[cfg(test)]
mod tests;
