//! [`VectorDB`], the database of the specification, and its builder.

use crate::config::check_dimension;
use crate::index::{Core, IndexParams, check_ivf, check_range, check_target_recall};
use crate::record::{HitsAnswer, SearchAnswer, SearchOptions};
use crate::{Error, IndexType, SearchResult, VectorDBConfig, VectorIndex, VectorRecord};
use vdb_distance::Metric;
use vdb_index::{CodeKind, CodedParams, LshFamily};

/// Records with vectors, searchable by nearness.
///
/// Searches take `&self` and may run on any number of threads at once; changes take `&mut self`. Every answer is
/// ordered by (similarity descending, id) and has min(k, matching records) results. For the same seed, the same
/// sequence of changes gives the same answers, whatever the number of threads.
#[derive(Debug, Clone)]
pub struct VectorDB {
    pub(crate) core: Core,
}

impl VectorDB {
    /// An empty database with the default parameters of its index.
    ///
    /// A configuration with a dimension outside 1 to 65,536 is accepted here, as the specification has it, and makes
    /// every later operation an error; [`builder`](Self::builder) refuses it at once.
    pub fn new(config: VectorDBConfig) -> Self {
        let VectorDBConfig { dimension, distance_metric, index_type } = config;
        Self { core: Core::new(distance_metric.into(), dimension, index_type, IndexParams::default()) }
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
        VectorDBBuilder {
            dimension: 0,
            metric: Metric::Cosine,
            index_type: IndexType::HNSW,
            params: IndexParams::default(),
            quantizer: None,
            subspaces: 0,
        }
    }

    /// Adds a record, replacing one with the same id.
    ///
    /// # Errors
    /// When the vector has the wrong dimension or holds a value that is not finite.
    pub fn insert(&mut self, record: VectorRecord) -> Result<(), Error> {
        self.core.insert(record)
    }

    /// Adds all records or none, building the index on all threads; of several with one id the last stays.
    ///
    /// # Errors
    /// [`Error::InBatch`] names the first record that is refused, by position and id.
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
    /// The first error of `records`, or [`Error::InBatch`]; either leaves the database as it was.
    pub fn insert_all<E: From<Error>>(
        &mut self,
        records: impl IntoIterator<Item = Result<VectorRecord, E>>,
        mut progress: impl FnMut(usize),
    ) -> Result<usize, E> {
        self.core.insert_all(records.into_iter(), &mut progress)
    }

    /// The `k` records nearest to `query`.
    ///
    /// # Errors
    /// When the query has the wrong dimension or holds a value that is not finite.
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
        self.core.search(query, k, options)
    }

    /// The answers to several queries at once, in their order: each what [`search_with`](Self::search_with) gives.
    ///
    /// All threads of the current rayon pool take part. Under [`IndexType::Flat`] queries go through the records together,
    /// which costs less than one after the other even on one thread.
    ///
    /// # Errors
    /// [`Error::InQueries`] names the first query that is refused; nothing is searched then.
    pub fn search_batch(
        &self,
        queries: &[&[f32]],
        k: usize,
        options: &SearchOptions,
    ) -> Result<Vec<SearchAnswer>, Error> {
        Ok(self.search_hits_batch(queries, k, options)?.iter().map(HitsAnswer::to_answer).collect())
    }

    /// As [`search_batch`](Self::search_batch), without copying the records found.
    ///
    /// # Errors
    /// As [`search_batch`](Self::search_batch).
    pub fn search_hits_batch<'a>(
        &'a self,
        queries: &[&[f32]],
        k: usize,
        options: &SearchOptions,
    ) -> Result<Vec<HitsAnswer<'a>>, Error> {
        self.core.search_hits_batch(queries, k, options)
    }

    /// As [`search_with`](Self::search_with), without copying the records found.
    ///
    /// # Errors
    /// As [`search`](Self::search).
    pub fn search_hits<'a>(
        &'a self,
        query: &[f32],
        k: usize,
        options: &SearchOptions,
    ) -> Result<HitsAnswer<'a>, Error> {
        self.core.search_hits(query, k, options)
    }

    /// How many records there are.
    pub fn size(&self) -> usize {
        self.core.store.len()
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.size() == 0
    }

    /// A copy of the record with this id.
    pub fn get(&self, id: &str) -> Option<VectorRecord> {
        self.core.store.offset(id).map(|offset| self.core.store.record(offset))
    }

    /// Whether there is a record with this id.
    pub fn contains(&self, id: &str) -> bool {
        self.core.store.offset(id).is_some()
    }

    /// Removes the record with this id; false when there is none.
    pub fn delete(&mut self, id: &str) -> bool {
        self.core.delete(id)
    }

    /// Removes all records; the configuration stays.
    pub fn clear(&mut self) {
        self.core.clear();
    }

    /// Copies of all records, in the order in which they are stored.
    pub fn iter(&self) -> impl Iterator<Item = VectorRecord> + '_ {
        self.core.store.live().map(|offset| self.core.store.record(offset))
    }

    /// The ids of all records, in the order in which they are stored.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.core.store.live().map(|offset| self.core.store.id(offset))
    }

    /// Values per vector.
    pub fn dimension(&self) -> usize {
        self.core.dimension
    }

    /// How vectors are compared.
    pub fn metric(&self) -> Metric {
        self.core.store.vectors.metric()
    }

    /// Bytes of memory that vectors and index take; ids and metadata are not counted.
    pub fn memory_bytes(&self) -> usize {
        self.core.bytes()
    }

    /// The quantizer whose codes a Flat database scans; `None` without one.
    pub fn quantizer(&self) -> Option<CodeKind> {
        self.core.params.coded.map(|coded| coded.kind)
    }

    /// Which index answers searches.
    pub fn index_type(&self) -> IndexType {
        self.core.index.index_type()
    }
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

/// Makes a [`VectorDB`] with parameters of its own.
#[derive(Debug, Clone)]
#[must_use]
pub struct VectorDBBuilder {
    dimension: usize,
    metric: Metric,
    index_type: IndexType,
    params: IndexParams,
    quantizer: Option<CodeKind>,
    subspaces: usize,
}

impl VectorDBBuilder {
    /// Values per vector, 1 to 65,536. Must be given.
    pub fn dimension(mut self, dimension: usize) -> Self {
        self.dimension = dimension;
        self
    }

    /// How vectors are compared: a [`DistanceMetric`](crate::DistanceMetric), or a [`Metric`], which also knows
    /// Manhattan. Default Cosine.
    pub fn metric(mut self, metric: impl Into<Metric>) -> Self {
        self.metric = metric.into();
        self
    }

    /// Which index answers searches. Default HNSW.
    pub fn index(mut self, index_type: IndexType) -> Self {
        self.index_type = index_type;
        self
    }

    /// HNSW: links that a new vector makes on each layer (the paper's M), 2 to 128. Larger: better recall at equal
    /// `ef_search`, more memory (8 m bytes a vector), a longer build. Default 16.
    pub fn m(mut self, m: usize) -> Self {
        self.params.hnsw.m = m;
        self
    }

    /// HNSW: beam width while building (efConstruction), 1 to 65,536. Larger: better recall, a longer build. Default
    /// 200.
    pub fn ef_construction(mut self, ef_construction: usize) -> Self {
        self.params.hnsw.ef_construction = ef_construction;
        self
    }

    /// HNSW: beam width of searches that say neither theirs nor a target recall (ef). Larger: better recall, slower. Unless
    /// set, searches aim at the [target recall](Self::target_recall).
    pub fn ef_search(mut self, ef_search: usize) -> Self {
        self.params.ef_search = Some(ef_search);
        self
    }

    /// HNSW: the share of the true neighbours that searches are to find on average, more than 0 and at most 1, which makes
    /// every search exact. How far a search goes for it, the index finds out on its own records. An `ef_search` goes before
    /// it. Default 0.95.
    pub fn target_recall(mut self, target_recall: f64) -> Self {
        self.params.target_recall = target_recall;
        self
    }

    /// HNSW: an exact scan answers when it compares at most this many records per entry of the beam that the graph
    /// would need. 0 uses the graph whenever it can. Default 16.
    pub fn exact_scan_factor(mut self, factor: usize) -> Self {
        self.params.hnsw.exact_scan_factor = factor;
        self
    }

    /// LSH: the family of hash functions. Default cross-polytope.
    pub fn lsh_family(mut self, family: LshFamily) -> Self {
        self.params.lsh.family = family;
        self
    }

    /// LSH: hash tables (L), 1 to 1,024, or `None` for the default, 16. More: better recall per candidate, more memory.
    pub fn num_tables(mut self, num_tables: impl Into<Option<usize>>) -> Self {
        self.params.lsh.num_tables = num_tables.into();
        self
    }

    /// LSH: bits of a table's codes (k) at most, 1 to 64; n records use log2(n / 2) of them. `None`, the default: as
    /// many as suit the number of records.
    pub fn num_functions(mut self, num_functions: impl Into<Option<usize>>) -> Self {
        self.params.lsh.num_functions = num_functions.into();
        self
    }

    /// Flat: scans the codes of this quantizer and compares the best records exactly. Answers are no longer exact;
    /// [`SearchOptions::oversampling`] trades recall for speed. Default none: every search is exact.
    pub fn quantizer(mut self, quantizer: CodeKind) -> Self {
        self.quantizer = Some(quantizer);
        self
    }

    /// Product quantizers: pieces that a vector is cut into (m), 1 to the dimension. More: better codes, more memory.
    /// Default 0, two values a piece of four bits and four a piece of eight.
    pub fn subspaces(mut self, subspaces: usize) -> Self {
        self.subspaces = subspaces;
        self
    }

    /// IVF: posting lists (nlist), 1 to 1,048,576. More: fewer records scanned at equal recall, more centroids to rank.
    /// Unless set, about 3 √n, chosen anew whenever the number of records has quadrupled.
    pub fn lists(mut self, lists: usize) -> Self {
        self.params.ivf.lists = Some(lists);
        self
    }

    /// IVF: bits per dimension of a record's code, 1 to 8. More: fewer vectors compared, an eighth of a byte more per
    /// dimension each. Default 4.
    pub fn bits(mut self, bits: u8) -> Self {
        self.params.ivf.bits = bits;
        self
    }

    /// IVF: store every record in its second list, too: better recall at equal probes for twice the memory. Default
    /// false.
    pub fn spill(mut self, spill: bool) -> Self {
        self.params.ivf.spill = spill;
        self
    }

    /// IVF: lists that searches probe (nprobe) which do not say their own. Unless set, chosen from the data for a recall of
    /// about 0.95.
    pub fn probes(mut self, probes: usize) -> Self {
        self.params.probes = Some(probes);
        self
    }

    /// Decides everything random about the index. Default 0.
    pub fn seed(mut self, seed: u64) -> Self {
        self.params.hnsw.seed = seed;
        self.params.lsh.seed = seed;
        self.params.ivf.seed = seed;
        self
    }

    /// The empty database.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] names the parameter that is out of its range.
    pub fn build(self) -> Result<VectorDB, Error> {
        check_dimension(self.dimension)?;
        let IndexParams { hnsw, ef_search, target_recall, lsh, ivf, probes, .. } = self.params;
        check_range("m", hnsw.m, 2, 128)
            .and_then(|()| check_range("ef_construction", hnsw.ef_construction, 1, 65_536))
            .and_then(|()| check_range("ef_search", ef_search.unwrap_or(1), 1, usize::MAX))
            .and_then(|()| check_target_recall(target_recall))
            .and_then(|()| lsh.check())
            .and_then(|()| check_ivf(&ivf, probes))
            .map_err(Error::InvalidConfig)?;
        let coded = self.coded().map_err(Error::InvalidConfig)?;
        let params = IndexParams { coded, ..self.params };
        Ok(VectorDB { core: Core::new(self.metric, self.dimension, self.index_type, params) })
    }

    fn coded(&self) -> Result<Option<CodedParams>, String> {
        let Some(kind) = self.quantizer else {
            return match self.subspaces {
                0 => Ok(None),
                subspaces => {
                    Err(format!("subspaces is {subspaces}, but there is no quantizer to cut vectors"))
                }
            };
        };
        if self.index_type != IndexType::Flat {
            let index = self.index_type;
            return Err(format!("the quantizer {kind} goes with the index Flat, not with {index:?}"));
        }
        let coded = CodedParams { kind, subspaces: self.subspaces, seed: self.params.hnsw.seed };
        coded.check(self.metric, self.dimension)?;
        Ok(Some(coded))
    }
}
