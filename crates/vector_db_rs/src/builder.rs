//! The builder of [`VectorDB`]: parameters beyond the specification's configuration, in memory or in a directory.

use crate::config::check_dimension;
use crate::db::Store;
use crate::durable::{Durable, Setup};
use crate::index::{Core, IndexParams, check_ivf, check_range, check_target_recall};
use crate::{Error, IndexType, Profile, VectorDB};
use std::path::Path;
use vdb_distance::Metric;
use vdb_engine::Options;
use vdb_index::{CodeKind, CodedParams, LshFamily};

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
    options: Options,
}

impl Default for VectorDBBuilder {
    fn default() -> Self {
        Self {
            dimension: 0,
            metric: Metric::Cosine,
            index_type: IndexType::HNSW,
            params: IndexParams::default(),
            quantizer: None,
            subspaces: 0,
            options: Options::default(),
        }
    }
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

    /// HNSW: what the graph spends memory on, which is to say its [`m`](Self::m); the later of the two calls counts. Default
    /// [`Profile::Auto`]: compact below 262,144 records, fast from there on.
    ///
    /// ```
    /// use vector_db_rs::{Profile, VectorDB};
    /// let db = VectorDB::builder().dimension(384).profile(Profile::Fast).build()?;
    /// # Ok::<(), vector_db_rs::Error>(())
    /// ```
    pub fn profile(mut self, profile: Profile) -> Self {
        self.params.hnsw.m = profile.m();
        self
    }

    /// HNSW: links that a new vector makes on each layer (the paper's M), 2 to 128. Larger: better recall at equal
    /// `ef_search`, more memory (8 m bytes a vector), a longer build. Unless set, by the [`profile`](Self::profile).
    pub fn m(mut self, m: usize) -> Self {
        self.params.hnsw.m = Some(m);
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
    /// [`SearchOptions::oversampling`](crate::SearchOptions::oversampling) trades recall for speed. Default none: every search
    /// is exact.
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

    /// In a directory: the bytes of memory that records on their way into segments, merges, and pinned parts of segments take
    /// at most; what has no room is refused with an error that says how much it needs. Default half of the machine's memory.
    /// A database in memory pays no heed to it.
    pub fn memory_budget(mut self, bytes: u64) -> Self {
        self.options = self.options.memory_budget(bytes);
        self
    }

    /// In a directory: everything else that the engine can be told, such as when it seals and merges. A
    /// [`memory_budget`](Self::memory_budget) that was set before is replaced. A database in memory pays no heed to it.
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// The empty database, in memory.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] names the parameter that is out of its range.
    pub fn build(self) -> Result<VectorDB, Error> {
        let Setup { dimension, metric, index_type, params } = self.checked()?;
        Ok(VectorDB { store: Store::Memory(Core::new(metric, dimension, index_type, params)) })
    }

    /// Opens the database in a directory, making it when the directory is missing or empty; as
    /// [`VectorDB::open`](VectorDB::open), with these parameters.
    ///
    /// What a directory was made with must fit: the dimension, the metric, the kind of index, and, where they are set to other
    /// values than the defaults, the quantizer and the parameters that the index is built with. Left at their defaults they
    /// are those of the directory. All other parameters are those of searches and may differ each time.
    ///
    /// ```
    /// use vector_db_rs::{Metric, VectorDB};
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path();
    /// let builder = VectorDB::builder().dimension(2).metric(Metric::Manhattan).m(24);
    /// let db = builder.target_recall(0.99).memory_budget(1 << 30).open(path)?;
    /// assert_eq!(db.size(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`VectorDB::open`](VectorDB::open).
    pub fn open(self, path: impl AsRef<Path>) -> Result<VectorDB, Error> {
        self.open_durable(path.as_ref(), true)
    }

    /// Opens the database in a directory to read, as [`VectorDB::open_read_only`](VectorDB::open_read_only), with these
    /// parameters.
    ///
    /// # Errors
    /// As [`VectorDB::open_read_only`](VectorDB::open_read_only).
    pub fn open_read_only(self, path: impl AsRef<Path>) -> Result<VectorDB, Error> {
        self.open_durable(path.as_ref(), false)
    }

    fn open_durable(self, path: &Path, writes: bool) -> Result<VectorDB, Error> {
        let setup = self.checked()?;
        Ok(VectorDB { store: Store::Durable(Durable::open(path, setup, self.options, writes)?) })
    }

    fn checked(&self) -> Result<Setup, Error> {
        check_dimension(self.dimension)?;
        let IndexParams { hnsw, ef_search, target_recall, lsh, ivf, probes, .. } = self.params;
        hnsw.check()
            .and_then(|()| check_range("ef_search", ef_search.unwrap_or(1), 1, usize::MAX))
            .and_then(|()| check_target_recall(target_recall))
            .and_then(|()| lsh.check())
            .and_then(|()| check_ivf(&ivf, probes))
            .map_err(Error::InvalidConfig)?;
        let coded = self.coded().map_err(Error::InvalidConfig)?;
        let params = IndexParams { coded, ..self.params };
        Ok(Setup { dimension: self.dimension, metric: self.metric, index_type: self.index_type, params })
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
