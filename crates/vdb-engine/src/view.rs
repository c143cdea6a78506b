//! One version of a collection, and searches of it.
//!
//! A [`View`] never changes: segments, which of their rows are there still, and heads as they were. Readers load the
//! newest one without a lock and keep it as long as they like. Every part is searched for k points and the best k of all
//! parts are taken, in the order (distance, id); so the answer does not depend on which part a point lies in, but for what
//! the graphs of the parts miss.

use crate::head::{HeadPoint, HeadView};
use crate::point::{NamedVectors, Payload, Point, StoredPoint};
use crate::schema::{Field, Schema, VectorConfig};
use crate::segment::{Segment, SegmentField, parse};
use crate::{Error, PointId};
use std::borrow::Cow;
use std::cmp::Reverse;
use std::path::Path;
use std::sync::Arc;
use vdb_distance::Distance;
use vdb_index::{Answer, BitSet, FlatScan, Reach, Request};

/// The target recall of searches that ask for nothing else.
const TARGET_RECALL: f64 = 0.95;

/// A segment and its rows that are there still.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) segment: Arc<Segment>,
    pub(crate) live: Arc<BitSet>,
}

/// One version of a collection.
#[derive(Debug)]
pub struct View {
    pub(crate) collection: Arc<str>,
    pub(crate) version: u64,
    /// Counts how often the same version was laid out anew.
    pub(crate) generation: u64,
    pub(crate) schema: Arc<Schema>,
    pub(crate) parts: Vec<Part>,
    /// Oldest first.
    pub(crate) heads: Vec<HeadView>,
}

/// How far a search goes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub enum Effort {
    /// A graph's walk for a target recall of 0.95; what other indexes go by of themselves. So do they for an effort that is
    /// another index's.
    #[default]
    Default,
    /// The true nearest points.
    Exact,
    /// A beam of this width (ef), at least k in effect.
    EfSearch(usize),
    /// As far as it takes to find this share of the true neighbours on average; more than 0 and at most 1.
    TargetRecall(f64),
    /// Quantized Flat: exact distances of so many candidates a hit (rerank), in each segment.
    Oversampling(usize),
    /// IVF: so many posting lists of each segment (nprobe).
    Probes(usize),
    /// LSH: so many candidates of each segment, at least k in effect.
    Candidates(usize),
}

/// Whether a point may be a hit.
pub type Filter<'a> = &'a (dyn Fn(&PointId, &Payload) -> bool + Sync);

/// A search. The default effort, no filter, hits without payload and vectors.
#[derive(Clone, Copy)]
#[must_use]
pub struct Search<'a> {
    query: &'a [f32],
    k: usize,
    field: &'a str,
    effort: Effort,
    filter: Option<Filter<'a>>,
    with_payload: bool,
    with_vectors: bool,
}

impl<'a> Search<'a> {
    /// The `k` points nearest to `query`, by the vectors without a name.
    pub fn new(query: &'a [f32], k: usize) -> Self {
        let (field, effort, filter) = ("", Effort::Default, None);
        Self { query, k, field, effort, filter, with_payload: false, with_vectors: false }
    }

    /// By the vectors of this name.
    pub fn field(self, field: &'a str) -> Self {
        Self { field, ..self }
    }

    /// How far to go.
    pub fn effort(self, effort: Effort) -> Self {
        Self { effort, ..self }
    }

    /// Only points for which this holds.
    pub fn filter(self, filter: Filter<'a>) -> Self {
        Self { filter: Some(filter), ..self }
    }

    /// Hits with their payloads.
    pub fn with_payload(self) -> Self {
        Self { with_payload: true, ..self }
    }

    /// Hits with all their vectors.
    pub fn with_vectors(self) -> Self {
        Self { with_vectors: true, ..self }
    }
}

/// A point that a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchHit {
    /// Its id.
    pub id: PointId,
    /// The version that last changed it.
    pub version: u64,
    /// The metric's own value: a distance, or under Cosine and DotProduct a similarity.
    pub value: f32,
    /// Larger is closer, for every metric: the value, or the negated distance.
    pub similarity: f32,
    /// Its payload, where asked for.
    pub payload: Option<Payload>,
    /// Its vectors, where asked for.
    pub vectors: Option<NamedVectors>,
}

/// The hits of a search and what is known about them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SearchAnswer {
    /// min(k, matching points) hits, ordered by (distance, id).
    pub hits: Vec<SearchHit>,
    /// Whether these are provably the true nearest points.
    pub exact: bool,
    /// The version of the collection that was searched.
    pub version: u64,
    /// Distances between the query and points that were computed.
    pub distance_computations: usize,
    /// Nodes of graphs that were expanded.
    pub hops: usize,
}

/// Where a point is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Part(usize, u32),
    Head(usize, u32),
}

struct Found {
    distance: Distance,
    id: PointId,
    place: Place,
}

/// The nearest k that were found so far, in the order (distance, id).
struct Nearest {
    k: usize,
    found: Vec<Found>,
}

impl Nearest {
    /// The distance of the k-th, when there are as many.
    fn farthest(&self) -> Option<Distance> {
        self.found.get(self.k.checked_sub(1)?).map(|found| found.distance)
    }

    /// Takes the hits of a part in; `of` tells what a row of it is.
    fn add(
        &mut self,
        answer: &Answer,
        of: impl Fn(u32) -> Result<(PointId, Place), Error>,
    ) -> Result<(), Error> {
        let farthest = self.farthest().unwrap_or(Distance::MAX);
        for hit in answer.hits.iter().filter(|hit| hit.distance <= farthest) {
            let (id, place) = of(hit.offset)?;
            self.found.push(Found { distance: hit.distance, id, place });
        }
        self.found.sort_unstable_by(|a, b| a.distance.cmp(&b.distance).then_with(|| a.id.cmp(&b.id)));
        self.found.truncate(self.k);
        Ok(())
    }
}

impl View {
    /// How many changes the collection had seen; views of one version hold the same points.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Points.
    pub fn len(&self) -> usize {
        let parts: usize = self.parts.iter().map(|part| part.live.count()).sum();
        parts + self.heads.iter().map(HeadView::len).sum::<usize>()
    }

    /// Whether there are no points.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The vector fields by name.
    pub fn vectors(&self) -> impl Iterator<Item = (&str, &VectorConfig)> {
        self.schema.fields.iter().map(|field| (field.name.as_str(), &field.config))
    }

    /// The point of an id.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn get(&self, id: &PointId) -> Result<Option<StoredPoint>, Error> {
        self.find(id)?.map(|place| self.point(place)).transpose()
    }

    /// Whether there is a point of an id.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn contains(&self, id: &PointId) -> Result<bool, Error> {
        Ok(self.find(id)?.is_some())
    }

    /// All points, in the order in which they are stored.
    ///
    /// # Errors
    /// Each may be [`Error::Damaged`].
    pub fn points(&self) -> impl Iterator<Item = Result<StoredPoint, Error>> + '_ {
        self.places().map(|place| self.point(place))
    }

    /// The ids of all points, in the order in which they are stored.
    ///
    /// # Errors
    /// Each may be [`Error::Damaged`].
    pub fn ids(&self) -> impl Iterator<Item = Result<PointId, Error>> + '_ {
        self.places().map(|place| self.id(place))
    }

    /// As [`points`](Self::points), keeping the view for as long as it takes.
    ///
    /// # Errors
    /// Each may be [`Error::Damaged`].
    pub fn into_points(self: Arc<Self>) -> impl Iterator<Item = Result<StoredPoint, Error>> {
        let view = Arc::clone(&self);
        self.rows().filter(move |place| view.is_live(*place)).map(move |place| self.point(place))
    }

    /// As [`ids`](Self::ids), keeping the view for as long as it takes.
    ///
    /// # Errors
    /// Each may be [`Error::Damaged`].
    pub fn into_ids(self: Arc<Self>) -> impl Iterator<Item = Result<PointId, Error>> {
        let view = Arc::clone(&self);
        self.rows().filter(move |place| view.is_live(*place)).map(move |place| self.id(place))
    }

    /// All rows, those of points that are gone, too.
    fn rows(&self) -> impl Iterator<Item = Place> + use<> {
        let parts: Vec<u32> = self.parts.iter().map(|part| part.segment.rows() as u32).collect();
        let heads: Vec<u32> = self.heads.iter().map(HeadView::rows).collect();
        let of = |rows: Vec<u32>, place: fn(usize, u32) -> Place| {
            rows.into_iter()
                .enumerate()
                .flat_map(move |(number, rows)| (0..rows).map(move |row| place(number, row)))
        };
        of(parts, Place::Part).chain(of(heads, Place::Head))
    }

    fn is_live(&self, place: Place) -> bool {
        match place {
            Place::Part(number, row) => self.parts[number].live.contains(row),
            Place::Head(number, row) => self.heads[number].live().contains(row),
        }
    }

    fn places(&self) -> impl Iterator<Item = Place> + '_ {
        let parts = (self.parts.iter().enumerate())
            .flat_map(|(number, part)| part.live.iter().map(move |row| Place::Part(number, row)));
        let heads = (self.heads.iter().enumerate())
            .flat_map(|(number, head)| head.live().iter().map(move |row| Place::Head(number, row)));
        parts.chain(heads)
    }

    pub(crate) fn find(&self, id: &PointId) -> Result<Option<Place>, Error> {
        for (number, head) in self.heads.iter().enumerate().rev() {
            if let Some(row) = head.find(id) {
                return Ok(Some(Place::Head(number, row)));
            }
        }
        for (number, part) in self.parts.iter().enumerate().rev() {
            if let Some(row) = part.segment.find(id)?.filter(|row| part.live.contains(*row)) {
                return Ok(Some(Place::Part(number, row)));
            }
        }
        Ok(None)
    }

    fn id(&self, place: Place) -> Result<PointId, Error> {
        match place {
            Place::Part(number, row) => self.parts[number].segment.ids.id(row),
            Place::Head(number, row) => Ok(self.heads[number].point(row).id.clone()),
        }
    }

    fn payload(&self, place: Place) -> Result<Payload, Error> {
        match place {
            Place::Part(number, row) => self.parts[number].segment.payloads.payload(row),
            Place::Head(number, row) => self.parsed(self.heads[number].point(row)),
        }
    }

    fn vectors_of(&self, place: Place) -> NamedVectors {
        let vector = |field: &Field| match place {
            Place::Part(number, row) => {
                let own = self.parts[number].segment.field(field.number)?;
                own.vectors.live().contains(row).then(|| own.vectors.row(row).into_owned())
            }
            Place::Head(number, row) => self.heads[number].vector(row, field.number),
        };
        let vectors = self.schema.fields.iter().map(|field| (field, vector(field)));
        vectors.filter_map(|(field, vector)| Some((field.name.clone(), vector?))).collect()
    }

    fn version_of(&self, place: Place) -> u64 {
        match place {
            Place::Part(number, row) => self.parts[number].segment.version(row),
            Place::Head(number, row) => self.heads[number].point(row).version,
        }
    }

    fn point(&self, place: Place) -> Result<StoredPoint, Error> {
        let expires = match place {
            Place::Part(number, row) => self.parts[number].segment.expires(row),
            Place::Head(number, row) => self.heads[number].point(row).expires,
        };
        let point = Point {
            id: self.id(place)?,
            vectors: self.vectors_of(place),
            payload: self.payload(place)?,
            expires_at: (expires > 0).then_some(expires),
        };
        Ok(StoredPoint { point, version: self.version_of(place) })
    }

    /// The nearest points.
    ///
    /// # Errors
    /// [`Error::NoSuchField`], [`Error::InvalidQuery`]; [`Error::Damaged`].
    pub fn search(&self, search: &Search<'_>) -> Result<SearchAnswer, Error> {
        let field = self.schema.field(&self.collection, search.field)?;
        self.check(field, search)?;
        let mut answer = SearchAnswer { exact: true, version: self.version, ..SearchAnswer::default() };
        let mut found = Nearest { k: search.k, found: Vec::new() };
        // The largest first: where most hits are likely to be, so that less is to be found elsewhere.
        let mut parts: Vec<(usize, &Part)> = self.parts.iter().enumerate().collect();
        parts.sort_by_key(|(_, part)| Reverse(part.live.count()));
        for (number, part) in parts {
            let Some(own) = part.segment.field(field.number) else { continue };
            let matching = self.matching(part, own, search)?;
            let tie_break = |a, b| part.segment.ids.compare(a, b);
            let request = Request {
                allowed: Some(&matching),
                tie_break: &tie_break,
                known: found.farthest(),
                ..Request::new(search.query, search.k)
            };
            let of_part = search_part(own, &request, &matching, search.effort);
            answer.add(&of_part);
            found.add(&of_part, |offset| Ok((part.segment.ids.id(offset)?, Place::Part(number, offset))))?;
        }
        for (number, head) in self.heads.iter().enumerate() {
            let tie_break = |a, b| head.point(a).id.cmp(&head.point(b).id);
            let allowed = search.filter.map(|filter| self.passing(head, filter)).transpose()?;
            let request = Request {
                allowed: allowed.as_ref(),
                tie_break: &tie_break,
                known: found.farthest(),
                ..Request::new(search.query, search.k)
            };
            for of_head in head.search(field.number, &request, reach(search.effort)) {
                answer.add(&of_head);
                found.add(&of_head, |row| Ok((head.point(row).id.clone(), Place::Head(number, row))))?;
            }
        }
        let metric = field.config.metric;
        answer.hits = found
            .found
            .into_iter()
            .map(|Found { distance, id, place }| {
                Ok(SearchHit {
                    id,
                    version: self.version_of(place),
                    value: distance.value(metric),
                    similarity: distance.similarity(),
                    payload: search.with_payload.then(|| self.payload(place)).transpose()?,
                    vectors: search.with_vectors.then(|| self.vectors_of(place)),
                })
            })
            .collect::<Result<_, Error>>()?;
        Ok(answer)
    }

    /// Rows of a head that pass a filter.
    fn passing(&self, head: &HeadView, filter: Filter<'_>) -> Result<BitSet, Error> {
        let mut passing = BitSet::new(head.rows() as usize);
        for row in head.live().iter() {
            let point = head.point(row);
            if filter(&point.id, &self.parsed(point)?) {
                passing.insert(row);
            }
        }
        Ok(passing)
    }

    /// The payload of a point that came in as an object, or in a record of the log.
    fn parsed(&self, point: &HeadPoint) -> Result<Payload, Error> {
        parse(&point.payload).map_err(|error| {
            let path = Path::new(&*self.collection).join("wal");
            Error::damaged(&path, "record", format!("the payload of the point {}: {error}", point.id))
        })
    }

    fn check(&self, field: &Field, search: &Search<'_>) -> Result<(), Error> {
        let refuse = |reason: String| {
            let (collection, field) = (self.collection.to_string(), field.name.clone());
            Err(Error::InvalidQuery { collection, field, reason })
        };
        let (dim, found) = (field.config.dim, search.query.len());
        if found != dim {
            return refuse(format!("a query of {found} values, expected {dim}"));
        }
        if let Some(place) = search.query.iter().position(|value| !value.is_finite()) {
            return refuse(format!(
                "value {place} of the query is {}, expected a finite number",
                search.query[place]
            ));
        }
        match search.effort {
            Effort::TargetRecall(target) if !(target > 0.0 && target <= 1.0) => {
                refuse(format!("a target recall of {target}, expected more than 0 and at most 1"))
            }
            Effort::EfSearch(0) => refuse("ef_search is 0, expected at least 1".to_owned()),
            Effort::Oversampling(0) => refuse("oversampling is 0, expected at least 1".to_owned()),
            Effort::Probes(0) => refuse("probes is 0, expected at least 1".to_owned()),
            Effort::Candidates(0) => refuse("candidates is 0, expected at least 1".to_owned()),
            _ => Ok(()),
        }
    }

    /// Rows of a part that may be hits.
    fn matching<'a>(
        &self,
        part: &'a Part,
        own: &SegmentField,
        search: &Search<'_>,
    ) -> Result<Cow<'a, BitSet>, Error> {
        let Part { segment, live } = part;
        let is_full = own.vectors.live().count() == segment.rows();
        let matching =
            if is_full { Cow::Borrowed(&**live) } else { Cow::Owned(live.intersection(own.vectors.live())) };
        let Some(filter) = search.filter else { return Ok(matching) };
        let mut passed = BitSet::new(segment.rows());
        for row in matching.iter() {
            if filter(&segment.ids.id(row)?, &segment.payloads.payload(row)?) {
                passed.insert(row);
            }
        }
        Ok(Cow::Owned(passed))
    }
}

/// How far walks go.
fn reach(effort: Effort) -> Reach {
    match effort {
        Effort::Default | Effort::Oversampling(_) | Effort::Probes(_) | Effort::Candidates(_) => {
            Reach::Recall(TARGET_RECALL)
        }
        Effort::Exact => Reach::Recall(1.0),
        Effort::EfSearch(ef) => Reach::Beam(ef),
        Effort::TargetRecall(target) => Reach::Recall(target),
    }
}

/// The nearest matching rows of a segment.
fn search_part(own: &SegmentField, request: &Request<'_>, matching: &BitSet, effort: Effort) -> Answer {
    if let Some(codes) = &own.codes {
        return codes.search(&own.vectors, request, effort);
    }
    let reach = reach(effort);
    match &own.hnsw {
        Some(hnsw) if reach != Reach::Recall(1.0) => {
            hnsw.search_among(&own.vectors, request, matching, reach)
        }
        _ => FlatScan.search(&own.vectors, request),
    }
}

impl SearchAnswer {
    fn add(&mut self, part: &Answer) {
        self.exact &= part.exact;
        self.distance_computations += part.distance_computations;
        self.hops += part.hops;
    }
}
