//! What goes in and what comes out: records and search results.

use crate::store::RecordStore;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

/// A vector with its id and metadata.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VectorRecord {
    /// Unique within a database; inserting a record whose id exists replaces it.
    pub id: String,
    /// Finite values, as many as the database has dimensions.
    pub vector: Vec<f32>,
    /// Free text fields.
    #[serde(default)]
    pub metadata: HashMap<String, String>,
}

/// A record that a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchResult {
    /// The record, its vector bit for bit as inserted.
    pub record: VectorRecord,
    /// Larger is closer, for every metric: the value for Cosine and DotProduct, the negated distance for others.
    pub similarity: f32,
    /// The metric's own value: exactly [`DistanceMetric::calculate`](crate::DistanceMetric::calculate) of the query
    /// and the record's vector.
    pub distance: f32,
}

/// How a search is to be done. The default asks for nothing special.
#[derive(Debug, Clone, Default, PartialEq)]
#[must_use]
pub struct SearchOptions {
    pub(crate) ef_search: Option<usize>,
    pub(crate) target_recall: Option<f64>,
    pub(crate) candidates: Option<usize>,
    pub(crate) oversampling: Option<usize>,
    pub(crate) probes: Option<usize>,
    pub(crate) filter: Vec<(String, String)>,
    pub(crate) exact: bool,
}

impl SearchOptions {
    /// The defaults of the database.
    pub fn new() -> Self {
        Self::default()
    }

    /// Beam width of an HNSW search, at least `k` in effect: larger finds more of the true neighbours and takes longer.
    /// It goes before a target recall. Other indexes pay no heed to it.
    pub fn ef_search(mut self, ef_search: usize) -> Self {
        self.ef_search = Some(ef_search);
        self
    }

    /// The share of the true neighbours that an HNSW search is to find on average, more than 0 and at most 1, which is an
    /// exact search. How far a search goes for it, the index found out on its own records; what it took is
    /// [`SearchAnswer::ef_search`]. Other indexes pay no heed to it.
    pub fn target_recall(mut self, target_recall: f64) -> Self {
        self.target_recall = Some(target_recall);
        self
    }

    /// How many records an LSH search compares by eight-bit codes, at least `k` in effect: larger finds more of the true
    /// neighbours and takes longer. Default: as many as find nine in ten, by what the index saw of its own records.
    /// Other indexes pay no heed to it.
    pub fn candidates(mut self, candidates: usize) -> Self {
        self.candidates = Some(candidates);
        self
    }

    /// How many records per result a search by codes compares exactly, the best ones by their codes: larger finds more
    /// of the true neighbours and takes longer. Default as [`Quantizer::oversampling`](crate::Quantizer::oversampling)
    /// says. Indexes without a quantizer pay no heed to it.
    pub fn oversampling(mut self, oversampling: usize) -> Self {
        self.oversampling = Some(oversampling);
        self
    }

    /// How many posting lists an IVF search probes (nprobe), 1 in effect for 0: more find more of the true neighbours and
    /// take longer. Other indexes pay no heed to it.
    pub fn probes(mut self, probes: usize) -> Self {
        self.probes = Some(probes);
        self
    }

    /// Only records whose metadata field `key` equals `value`; repeated, all must hold. In memory an answer is kept until a
    /// record changes; in a directory the metadata of every record is read for every search.
    pub fn filter(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.filter.push((key.into(), value.into()));
        self
    }

    /// Compares every matching record, whatever the index: the answer is the true one.
    pub fn exact(mut self, exact: bool) -> Self {
        self.exact = exact;
        self
    }
}

/// Search results and what is known about them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SearchAnswer {
    /// min(k, matching records) results, ordered by (similarity descending, id).
    pub results: Vec<SearchResult>,
    /// Whether these are provably the true nearest records. Approximate indexes, too, answer exactly where that is
    /// cheaper.
    pub exact: bool,
    /// How many records were compared with the query.
    pub distance_computations: usize,
    /// How many nodes of the graph were expanded; 0 for other indexes than HNSW.
    pub hops: usize,
    /// HNSW in memory: the beam width that the search took, as asked for or as it needed for the target recall; `None`
    /// where everything was compared. In a directory `None`: each segment has a beam of its own.
    pub ef_search: Option<usize>,
}

/// A record that a search found: not copied where it is in memory, else as it was read.
#[derive(Clone)]
pub struct SearchHit<'a> {
    source: Source<'a>,
    /// As [`SearchResult::similarity`].
    pub similarity: f32,
    /// As [`SearchResult::distance`].
    pub distance: f32,
}

#[derive(Clone)]
enum Source<'a> {
    Stored(&'a RecordStore, u32),
    Owned(Box<VectorRecord>),
}

impl fmt::Debug for SearchHit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SearchHit")
            .field("id", &self.id())
            .field("vector", &self.vector())
            .field("metadata", &self.metadata())
            .field("similarity", &self.similarity)
            .field("distance", &self.distance)
            .finish()
    }
}

/// The same record at the same distance.
impl PartialEq for SearchHit<'_> {
    fn eq(&self, other: &Self) -> bool {
        (self.similarity, self.distance) == (other.similarity, other.distance)
            && (self.id(), self.metadata()) == (other.id(), other.metadata())
            && self.vector() == other.vector()
    }
}

impl<'a> SearchHit<'a> {
    pub(crate) fn stored(store: &'a RecordStore, offset: u32, similarity: f32, distance: f32) -> Self {
        Self { source: Source::Stored(store, offset), similarity, distance }
    }

    pub(crate) fn owned(record: VectorRecord, similarity: f32, distance: f32) -> Self {
        Self { source: Source::Owned(Box::new(record)), similarity, distance }
    }

    /// The record's id.
    pub fn id(&self) -> &str {
        match &self.source {
            Source::Stored(store, offset) => store.id(*offset),
            Source::Owned(record) => &record.id,
        }
    }

    /// Its metadata; `None` when it has no field.
    pub fn metadata(&self) -> Option<&HashMap<String, String>> {
        match &self.source {
            Source::Stored(store, offset) => store.metadata(*offset),
            Source::Owned(record) => Some(&record.metadata).filter(|metadata| !metadata.is_empty()),
        }
    }

    /// Its vector, bit for bit as inserted; a copy where the database keeps vectors in a shorter element type.
    pub fn vector(&self) -> Cow<'_, [f32]> {
        match &self.source {
            Source::Stored(store, offset) => store.vectors.row(*offset),
            Source::Owned(record) => Cow::Borrowed(&record.vector),
        }
    }

    /// A copy of the record.
    pub fn to_record(&self) -> VectorRecord {
        match &self.source {
            Source::Stored(store, offset) => store.record(*offset),
            Source::Owned(record) => (**record).clone(),
        }
    }

    /// The record: a copy where it is in memory.
    pub fn into_record(self) -> VectorRecord {
        match self.source {
            Source::Stored(store, offset) => store.record(offset),
            Source::Owned(record) => *record,
        }
    }
}

/// A [`SearchAnswer`] whose records are not copied where they are in memory.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HitsAnswer<'a> {
    /// min(k, matching records) hits, ordered by (similarity descending, id).
    pub hits: Vec<SearchHit<'a>>,
    /// As [`SearchAnswer::exact`].
    pub exact: bool,
    /// As [`SearchAnswer::distance_computations`].
    pub distance_computations: usize,
    /// As [`SearchAnswer::hops`].
    pub hops: usize,
    /// As [`SearchAnswer::ef_search`].
    pub ef_search: Option<usize>,
}

impl HitsAnswer<'_> {
    /// The same with copies of the records.
    pub fn to_answer(&self) -> SearchAnswer {
        self.clone().into_answer()
    }

    /// The same with the records: copies where they are in memory.
    pub fn into_answer(self) -> SearchAnswer {
        let Self { hits, exact, distance_computations, hops, ef_search } = self;
        let results = hits.into_iter().map(|hit| {
            let SearchHit { similarity, distance, .. } = hit;
            SearchResult { record: hit.into_record(), similarity, distance }
        });
        SearchAnswer { results: results.collect(), exact, distance_computations, hops, ef_search }
    }
}
