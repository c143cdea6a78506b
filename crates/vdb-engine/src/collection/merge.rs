//! Merging: one segment for several, with a graph where there are points enough for one, and without the rows that are gone.
//!
//! Where a large graph is among them and the others are worth it, its graph is copied and theirs are inserted, so that no
//! link is looked for twice. What is gone from the large one leaves places, which others take. Where they are too few for that,
//! its rows move together, and its graph with them.

use super::join::Join;
use super::progress::{Job, JobKind};
use super::rows_left::RowsLeft;
use super::state::{Left, LivePart, State};
use super::{Collection, lock};
use crate::budget::Reserved;
use crate::manifest::SegmentEntry;
use crate::schema::{Field, FieldIndex, Schema};
use crate::segment::{Content, Segment, write};
use crate::view::Part;
use crate::workers::Work;
use crate::{Error, PointId};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Instant;
use vdb_distance::Metric;
use vdb_index::{Hnsw, HnswParams, Vectors};
use vdb_storage::SeqNo;

/// A segment is merged with smaller ones that hold at least one in so many points of it together: its points are copied, for
/// about a hundredth of what linking them takes, and written to a file anew.
const COPIED_PER_MERGED: usize = 32;
/// Points that get a graph together at most: so that the next ones do not wait for long.
const MOST_INDEXED: usize = 1 << 16;
/// Graphs of new points are built with a beam of this width at most. They serve until they are merged, and show where in the
/// large graph their points belong; that graph is built as its field says.
const PROVISIONAL_EF: usize = 64;
/// A segment is written anew when this share of its rows is gone.
const DEAD_SHARE: usize = 5;
/// The graph of a segment is kept as long as one in so many of its rows is there: without seven of ten rows it was found as good as a
/// new one still, in a fifth of the time.
const KEPT_SHARE: usize = 3;
/// Fewer dead rows are worth nothing.
const LEAST_DEAD: usize = 256;
/// The codes of a vector are about as long at most.
const MOST_CODE_BYTES: usize = 1_024;
/// So often is it found out without the state's lock which rows of a merged segment are left, while more and more are deleted.
const LOOKS: usize = 8;
/// The most points of a segment that others are merged into.
const MOST_POINTS: usize = 16 << 20;

/// Segments that are to become one.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) inputs: Vec<Part>,
    /// The input whose graph is copied.
    pub(super) base: Option<usize>,
    /// Whether the rows of that input move together, for there are fewer others than places that came free.
    pub(super) compacts: bool,
    /// Whether a graph is only to serve for the moment.
    pub(super) is_provisional: bool,
}

impl Plan {
    fn kind(&self) -> JobKind {
        if self.is_provisional { JobKind::Index } else { JobKind::Merge }
    }

    fn work(&self) -> Work {
        if self.is_provisional { Work::Index } else { Work::Merge }
    }

    fn numbers(&self) -> Vec<u64> {
        self.inputs.iter().map(|part| part.segment.number).collect()
    }
}

/// The parameters of a graph that only serves for the moment.
pub(super) fn provisional(params: HnswParams) -> HnswParams {
    HnswParams { ef_construction: params.ef_construction.min(PROVISIONAL_EF), ..params }
}

/// Whether a segment's graphs only serve for the moment.
pub(super) fn is_provisional(part: &LivePart, schema: &Schema) -> bool {
    part.segment.fields.iter().any(|own| {
        let config = schema.by_number(own.number).map(|field| field.config.index);
        let built = own.hnsw.as_ref().map(|hnsw| *hnsw.params());
        matches!((config, built), (Some(FieldIndex::Hnsw(params)), Some(built)) if params != built)
    })
}

/// How to merge these.
pub(super) fn plan(inputs: &[&LivePart], schema: &Schema) -> Plan {
    // In the order in which their points came.
    let mut inputs: Vec<&LivePart> = inputs.to_vec();
    inputs.sort_by_key(|part| part.segment.number);
    let live: Vec<usize> = inputs.iter().map(|part| part.mask.current().count()).collect();
    let points: usize = live.iter().sum();
    let is_whole =
        |input: &usize| inputs[*input].segment.has_graph() && !is_provisional(inputs[*input], schema);
    let graphs = (0..inputs.len()).filter(is_whole);
    let compacts = |input: &usize| inputs[*input].segment.rows() > points;
    // Links to the largest products are not all found again when many rows go at once.
    let has_products = schema.fields.iter().any(|field| field.config.metric == Metric::DotProduct);
    let is_worth_it = |input: &usize| {
        KEPT_SHARE * live[*input] >= inputs[*input].segment.rows() && !(has_products && compacts(input))
    };
    let base = graphs.max_by_key(|&input| live[input]).filter(is_worth_it);
    let compacts = base.as_ref().is_some_and(compacts);
    let part =
        |part: &&LivePart| Part { segment: Arc::clone(&part.segment), live: Arc::clone(part.mask.current()) };
    Plan { inputs: inputs.iter().map(part).collect(), base, compacts, is_provisional: false }
}

/// Segments that a merge has, and that it is on its way, until this is dropped.
struct InUse<'a> {
    collection: &'a Collection,
    kind: JobKind,
    numbers: Vec<u64>,
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        let mut in_use = lock(&self.collection.in_use);
        self.numbers.iter().for_each(|number| {
            in_use.remove(number);
        });
        drop(in_use);
        lock(&self.collection.jobs).remove(&self.kind);
    }
}

/// The state that a merge began with.
struct Begun {
    applied: SeqNo,
    epoch: u64,
}

/// Where a row comes from: the input and its row.
pub(super) type Origin = (u32, u32);

/// What a merge comes to.
struct Merged {
    origins: Vec<Origin>,
    fields: Vec<(u32, Vectors, Option<Hnsw>)>,
}

/// A merged segment in its file.
struct Made {
    origins: Vec<Origin>,
    /// Nothing when no row is left.
    segment: Option<Arc<Segment>>,
}

impl Collection {
    /// Seals, builds graphs and merges where it is due; says whether there was anything.
    ///
    /// # Errors
    /// [`Error::Storage`]: nothing is lost, and it is tried again at the next time.
    pub fn maintain(&self) -> Result<bool, Error> {
        Ok(self.seal_due()? | self.index_due()? | self.merge_due()?)
    }

    /// Gives segments without a graph one, where they are to have one; says whether there were any.
    ///
    /// # Errors
    /// As [`maintain`](Self::maintain).
    pub fn index_due(&self) -> Result<bool, Error> {
        let _turn = lock(&self.indexing);
        self.merge_by(|free, state| {
            let provisional = |plan: Plan| Plan { is_provisional: true, ..plan };
            let mut points = 0;
            let bare = free.iter().filter(|part| part.segment.lacks_graph(&state.schema, 1));
            let fits = |part: &&&LivePart| {
                points += part.mask.current().count();
                points <= MOST_INDEXED
            };
            let inputs: Vec<&LivePart> = bare.take_while(fits).copied().collect();
            let points: usize = inputs.iter().map(|part| part.mask.current().count()).sum();
            // One that is too large to be taken with others is taken alone.
            match free.iter().find(|part| self.lacks_graph(state, part)) {
                Some(part) if points < self.settings.least_graph_rows => {
                    Some(provisional(plan(&[part], &state.schema)))
                }
                _ => (points >= self.settings.least_graph_rows)
                    .then(|| provisional(plan(&inputs, &state.schema))),
            }
        })
    }

    /// Runs a merge that is due; says whether there was one.
    ///
    /// # Errors
    /// As [`maintain`](Self::maintain).
    pub fn merge_due(&self) -> Result<bool, Error> {
        let _turn = lock(&self.merging);
        self.merge_by(|free, state| self.due(free, state))
    }

    /// Seals what is in memory, and merges all segments into one that has no dead rows and a graph for every field that is to
    /// have one. Where a database works in the background, its thread for merges does it, and gives way to searches and writes.
    ///
    /// # Errors
    /// As [`maintain`](Self::maintain); [`Error::Closed`] when the database is closed meanwhile.
    pub fn optimize(&self) -> Result<(), Error> {
        self.log()?;
        if !self.is_in_background() {
            return self.optimize_now();
        }
        let (sender, done) = mpsc::channel();
        {
            let mut asked = lock(&self.optimizing);
            if !self.is_closing.load(Ordering::Relaxed) {
                asked.push(sender);
            }
        }
        (self.wake.0)();
        done.recv().unwrap_or_else(|_| Err(Error::Closed { collection: self.name.to_string() }))
    }

    /// Does what [`optimize`](Self::optimize) was asked for; says whether it was.
    pub(crate) fn optimize_if_asked(&self) -> bool {
        let asked = std::mem::take(&mut *lock(&self.optimizing));
        for sender in &asked {
            // Who asked may have panicked meanwhile.
            let _ = sender.send(self.optimize_now());
        }
        !asked.is_empty()
    }

    pub(super) fn optimize_now(&self) -> Result<(), Error> {
        self.seal()?;
        // Who searches meanwhile is not to compare these points one by one all the time.
        while self.is_searched_lately() && self.index_due()? {}
        let _turns = (lock(&self.merging), lock(&self.indexing));
        self.merge_by(|free, state| {
            let is_clean = |part: &LivePart| part.segment.rows() == part.mask.current().count();
            match free {
                [] => None,
                [one]
                    if is_clean(one)
                        && !self.lacks_graph(state, one)
                        && !is_provisional(one, &state.schema) =>
                {
                    None
                }
                _ => Some(plan(free, &state.schema)),
            }
        })?;
        Ok(())
    }

    fn lacks_graph(&self, state: &State, part: &LivePart) -> bool {
        part.segment.lacks_graph(&state.schema, self.settings.least_graph_rows)
    }

    /// The merge that is due, if one is.
    fn due(&self, free: &[&LivePart], state: &State) -> Option<Plan> {
        let schema = &state.schema;
        let live = |part: &LivePart| part.mask.current().count();
        let is_wanting = |part: &&&LivePart| {
            let dead = part.segment.rows() - live(part);
            dead >= LEAST_DEAD && dead * DEAD_SHARE >= part.segment.rows()
        };
        if let Some(part) = free.iter().find(is_wanting) {
            return Some(plan(&[part], schema));
        }
        let is_quiet = state.unindexed(&self.settings) < self.settings.seal_points;
        // What nobody searches yet is linked once, as its field says, and as much of it at a time as there is.
        let nobody_searches = self.is_unsearched();
        let is_waiting = free.iter().any(|part| {
            (is_quiet && is_provisional(part, schema)) || (nobody_searches && self.lacks_graph(state, part))
        });
        if !is_waiting && free.len() <= self.settings.most_segments {
            return None;
        }
        // The smaller ones, as long as each is not much larger than those before together.
        let mut order: Vec<&LivePart> = free.to_vec();
        order.sort_by_key(|part| live(part));
        let mut inputs: Vec<&LivePart> = Vec::new();
        let mut points = 0;
        for part in order {
            let is_large = live(part) > COPIED_PER_MERGED * points || live(part) + points > MOST_POINTS;
            if inputs.len() >= 2 && is_large {
                break;
            }
            points += live(part);
            inputs.push(part);
        }
        Some(plan(&inputs, schema))
    }

    /// Runs the merge that `choose` wants of the segments that no other merge has. The caller has the turn.
    pub(super) fn merge_by(
        &self,
        choose: impl FnOnce(&[&LivePart], &State) -> Option<Plan>,
    ) -> Result<bool, Error> {
        self.log()?;
        let state = self.state()?;
        let (plan, _in_use) = {
            let mut in_use = lock(&self.in_use);
            let is_free = |part: &&LivePart| !in_use.contains(&part.segment.number);
            let free: Vec<&LivePart> = state.parts.iter().filter(is_free).collect();
            let Some(plan) = choose(&free, &state) else { return Ok(false) };
            in_use.extend(plan.numbers());
            (plan.clone(), InUse { collection: self, kind: plan.kind(), numbers: plan.numbers() })
        };
        let begun = Begun { applied: state.applied, epoch: state.epoch };
        let schema = Arc::clone(&state.schema);
        drop(state);
        let _reserved = self.reserve_merge(&plan, &schema)?;
        // Given up: there is another time.
        let number = self.take_blob_number();
        let made = self.aside(plan.work(), || self.make(number, &plan, &schema));
        let finished = made.and_then(|made| match made {
            Some(made) => self.finish_merge(&plan, &begun, made),
            None => Ok(false),
        });
        self.blob_is_finished(number);
        let finished = finished?;
        self.collect_garbage()?;
        self.room.notify_all();
        Ok(finished)
    }

    /// The memory that a merge takes. Pinned segments make room for it.
    fn reserve_merge(&self, plan: &Plan, schema: &Schema) -> Result<Reserved, Error> {
        let points: usize = plan.inputs.iter().map(|part| part.live.count()).sum();
        let (own, graphs) = merge_bytes_a_point(plan, schema);
        // While rows move together, there is the graph as it was, too.
        let moved = plan.base.filter(|_| plan.compacts).map_or(0, |base| plan.inputs[base].segment.rows());
        let needed = points as u64 * (own + graphs) + moved as u64 * graphs;
        if let Some(reserved) = self.budget.reserve(needed) {
            return Ok(reserved);
        }
        self.reserve_unpinning(needed)?.ok_or_else(|| {
            let what = format!("collection {:?}: merging {points} points", self.name);
            self.budget.refusal(what, needed, "raise the memory budget")
        })
    }

    /// Builds the merged segment, writes it and opens it. Nothing when it was given up.
    fn make(&self, number: u64, plan: &Plan, schema: &Schema) -> Result<Option<Made>, Error> {
        let Some(Merged { origins, fields }) = self.build(plan, schema)? else { return Ok(None) };
        let is_some = !origins.is_empty();
        let write = || self.write_merged(number, plan, &origins, &fields, schema);
        let written = if is_some { write() } else { Ok(()) };
        plan.inputs.iter().for_each(|part| part.segment.evict());
        written?;
        drop(fields);
        let segment = is_some.then(|| self.open_segment(number, schema)).transpose()?;
        Ok(Some(Made { origins, segment }))
    }

    /// Nothing when it was given up.
    fn build(&self, plan: &Plan, schema: &Schema) -> Result<Option<Merged>, Error> {
        let origins = origins(plan);
        let has_vectors =
            |field: &&Field| plan.inputs.iter().any(|part| part.segment.field(field.number).is_some());
        let fields: Vec<&Field> = schema.fields.iter().filter(has_vectors).collect();
        let gets_graph = |field: &Field| matches!(field.config.index, FieldIndex::Hnsw(_));
        let to_link = fields.iter().filter(|field| gets_graph(field)).count() * origins.len();
        let (kind, points) = (plan.kind(), origins.len());
        lock(&self.jobs).insert(kind, Job { points, to_link, linked: 0, started: Instant::now() });
        let mut merged = Vec::with_capacity(fields.len());
        for field in fields {
            let copied = plan.base.and_then(|base| plan.inputs[base].segment.field(field.number));
            let before = lock(&self.jobs).get(&kind).map_or(0, |job| job.linked);
            let mut goes_on = |linked: usize| {
                if let Some(job) = lock(&self.jobs).get_mut(&kind) {
                    job.linked = before + linked;
                }
                !self.is_closing.load(Ordering::Relaxed)
            };
            let vectors = match (plan.base, copied) {
                (Some(base), Some(own)) if !plan.compacts => extended(plan, base, own, &origins, field),
                _ => collected(plan, &origins, field),
            };
            let FieldIndex::Hnsw(params) = field.config.index else {
                merged.push((field.number, vectors, None));
                continue;
            };
            if vectors.live().count() < self.settings.least_graph_rows {
                merged.push((field.number, vectors, None));
                continue;
            }
            let join = Join { plan, origins: &origins, number: field.number, vectors: &vectors };
            let Some(hnsw) = join.graph(params, &mut goes_on)? else { return Ok(None) };
            merged.push((field.number, vectors, Some(hnsw)));
        }
        Ok(Some(Merged { origins, fields: merged }))
    }

    fn write_merged(
        &self,
        number: u64,
        plan: &Plan,
        origins: &[Origin],
        fields: &[(u32, Vectors, Option<Hnsw>)],
        schema: &Schema,
    ) -> Result<(), Error> {
        let segment = |origin: &Origin| &plan.inputs[origin.0 as usize].segment;
        let ids = origins.iter().map(|origin| segment(origin).ids.id(origin.1));
        let ids = ids.collect::<Result<Vec<PointId>, Error>>()?;
        let versions: Vec<u64> = origins.iter().map(|origin| segment(origin).version(origin.1)).collect();
        let expires: Vec<u64> = origins.iter().map(|origin| segment(origin).expires(origin.1)).collect();
        let lengths = origins.iter().map(|origin| Ok(segment(origin).payloads.json(origin.1)?.len() as u32));
        let payload_lengths = lengths.collect::<Result<Vec<u32>, Error>>()?;
        let content = Content {
            ids: &ids,
            versions: &versions,
            expires: &expires,
            payload_lengths: &payload_lengths,
            payload: &|row| segment(&origins[row]).payloads.json(origins[row].1),
            fields,
            schema,
            least_rows: self.settings.least_graph_rows,
        };
        write(self.backend.blobs(), number, &content)
    }

    /// Publishes the merged segment; says whether it did, which it does not when the state was made again meanwhile.
    fn finish_merge(&self, plan: &Plan, begun: &Begun, made: Made) -> Result<bool, Error> {
        let Made { origins, segment } = made;
        let number = segment.as_ref().map(|segment| segment.number);
        // As long as this is held, no head becomes a segment, and the state is not made again.
        let mut current = self.current();
        while current.manifest.log_from <= begun.applied {
            if self.lock_state().epoch != begun.epoch {
                return Ok(false);
            }
            // Points that were replaced before the merge began are not in it; what replaced them has to be in the manifest.
            drop(current);
            self.seal()?;
            current = self.current();
        }
        let rows_left = RowsLeft::new(plan, &origins);
        let rows_of = |left: &[Left]| rows_left.of(left);
        let state = self.lock_state();
        if state.epoch != begun.epoch {
            return Ok(false);
        }
        let sealed = state.sealed.clone();
        drop(state);
        let left = number.map(|number| (number, Arc::new(rows_of(&sealed))));
        let numbers = plan.numbers();
        let mut manifest = current.manifest.clone();
        manifest.segments.retain(|entry| !numbers.contains(&entry.number));
        let rows = origins.len() as u64;
        manifest.segments.extend(number.map(|number| SegmentEntry {
            number,
            rows,
            live: rows,
            tombstones: 0,
        }));
        let tombstones = self.write_left(&mut manifest, left.as_slice())?;
        let published = self.publish_manifest(&mut current, manifest);
        tombstones.into_iter().for_each(|number| self.blob_is_finished(number));
        published?;
        let mut state = self.lock_state();
        for _ in 0..LOOKS {
            let sets = state.all_left();
            if sets.iter().all(|left| rows_left.is_known(left)) {
                break;
            }
            drop(state);
            sets.iter().for_each(|left| drop(rows_left.of(left)));
            state = self.lock_state();
        }
        state.exchange(&numbers, segment, &rows_of);
        let view = state.view();
        drop(state);
        drop(current);
        self.publish(view)?;
        Ok(true)
    }
}

/// What a point of a merge takes in memory, about, in bytes: itself, and in graphs.
fn merge_bytes_a_point(plan: &Plan, schema: &Schema) -> (u64, u64) {
    /// Ids, versions, times, where it comes from, and what linking it takes.
    const POINT_BYTES: usize = 120;
    let own = |field: &Field| {
        let number = field.number;
        plan.inputs.iter().filter_map(move |part| part.segment.field(number))
    };
    let values = |field: &Field| {
        let value_bytes = own(field).map(|own| own.vectors.element().bytes()).max().unwrap_or(0);
        field.config.dim * value_bytes + field.config.index.build_bytes_a_row(field.config.dim)
    };
    let graph = |field: &Field| {
        let FieldIndex::Hnsw(params) = field.config.index else { return 0 };
        let rows = own(field).map(|own| own.vectors.len()).sum();
        let links = params.base_row_bytes(rows);
        let own = || own(field);
        let codes = own().find_map(|own| Some(own.hnsw.as_ref()?.pinned_bytes() / own.vectors.len().max(1)));
        codes.unwrap_or(links + field.config.dim.min(MOST_CODE_BYTES))
    };
    let values: usize = schema.fields.iter().map(values).sum();
    let graphs: usize = schema.fields.iter().map(graph).sum();
    ((POINT_BYTES + values) as u64, graphs as u64)
}

/// Where the rows of the merged segment come from. Rows of the base come first, or keep their places.
fn origins(plan: &Plan) -> Vec<Origin> {
    let others = plan.inputs.iter().enumerate().filter(|(input, _)| plan.base != Some(*input));
    let mut others = others.flat_map(|(input, part)| part.live.iter().map(move |row| (input as u32, row)));
    let mut origins = Vec::new();
    if let Some(base) = plan.base {
        let part = &plan.inputs[base];
        let own = |row: u32| part.live.contains(row).then_some((base as u32, row));
        let rows = 0..part.segment.rows() as u32;
        if plan.compacts {
            origins.extend(rows.filter_map(own));
        } else {
            origins.extend(rows.map_while(|row| own(row).or_else(|| others.next())));
        }
    }
    origins.extend(others);
    origins
}

/// The vectors of the base, and those of the others behind them or in places that came free.
fn extended(
    plan: &Plan,
    base: usize,
    own: &crate::segment::SegmentField,
    origins: &[Origin],
    field: &Field,
) -> Vectors {
    let part = &plan.inputs[base];
    let mut vectors = own.vectors.clone();
    vectors.reserve(origins.len() - vectors.len());
    for (row, &(input, from)) in (0u32..).zip(origins) {
        if input as usize == base {
            continue;
        }
        debug_assert!(!part.live.contains(row));
        let source = plan.inputs[input as usize].segment.field(field.number);
        let vector = source.filter(|own| own.vectors.live().contains(from)).map(|own| own.vectors.row(from));
        match vector {
            Some(vector) if (row as usize) < vectors.len() => vectors.set(row, &vector),
            Some(vector) => {
                vectors.push(&vector);
            }
            None if (row as usize) < vectors.len() => {
                vectors.remove(row);
            }
            None => {
                vectors.push_missing();
            }
        }
    }
    vectors
}

/// The vectors of all inputs, one after another.
fn collected(plan: &Plan, origins: &[Origin], field: &Field) -> Vectors {
    let mut vectors = Vectors::new(field.config.metric, field.config.dim);
    vectors.reserve(origins.len());
    for run in origins.chunk_by(|a, b| a.0 == b.0) {
        let rows: Vec<u32> = run.iter().map(|origin| origin.1).collect();
        match plan.inputs[run[0].0 as usize].segment.field(field.number) {
            Some(own) => vectors.append(&own.vectors, &rows),
            None => rows.iter().for_each(|_| {
                vectors.push_missing();
            }),
        }
    }
    vectors
}
