//! What the one writer knows: the heads, the segments' rows that are left, and what a batch of operations comes to.
//!
//! The state runs ahead of what is published by the records that are being committed. When one of them fails it is made
//! again from the manifest and the log (`recover`).

use super::Settings;
use crate::budget::{Budget, Reserved};
use crate::head::{Head, HeadView};
use crate::manifest::{Manifest, read_tombstones};
use crate::point::{Condition, NamedVectors, Operation, Point, StoredPoint};
use crate::record::{self, Effect, Put};
use crate::schema::{Field, Schema};
use crate::segment::{Segment, parse, to_json};
use crate::view::{Part, View};
use crate::{Error, PointId};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use vdb_distance::ElementType;
use vdb_index::{BitSet, RowMask};
use vdb_storage::{Backend, LogReader, SeqNo, StorageError};

/// The longest id of a text, in bytes.
const MAX_ID_BYTES: usize = 4_096;
/// The longest payload, in bytes of JSON.
const MAX_PAYLOAD_BYTES: usize = 16 << 20;

/// A segment and its rows that are left.
#[derive(Debug)]
pub(super) struct LivePart {
    pub(super) segment: Arc<Segment>,
    pub(super) mask: RowMask,
}

/// Which rows of a segment are left.
pub(super) type Left = (u64, Arc<BitSet>);

/// A head that is being sealed, as it was when no record after `upto` was in it.
#[derive(Debug)]
pub(super) struct Frozen {
    pub(super) upto: SeqNo,
    pub(super) head: HeadView,
    /// Which rows of each segment were left then.
    pub(super) left: Vec<Left>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) collection: Arc<str>,
    pub(super) budget: Arc<Budget>,
    pub(super) schema: Arc<Schema>,
    pub(super) parts: Vec<LivePart>,
    /// Oldest first; the last takes what comes, one before it is being sealed.
    pub(super) heads: Vec<Head>,
    /// The last record that is in it.
    pub(super) applied: SeqNo,
    /// The first record that is not in the manifest.
    pub(super) log_from: SeqNo,
    /// Which rows of each segment were left before that record.
    pub(super) sealed: Vec<Left>,
    /// The head that is being sealed, the first of two.
    pub(super) frozen: Option<Frozen>,
    /// Counts what changes nothing but where points lie.
    pub(super) generation: u64,
    /// Counts recoveries.
    pub(super) epoch: u64,
}

impl State {
    /// The state of a manifest, before any record of the log.
    pub(super) fn of_manifest(
        budget: &Arc<Budget>,
        collection: &Arc<str>,
        manifest: &Manifest,
        backend: &dyn Backend,
        known: &[Arc<Segment>],
    ) -> Result<Self, Error> {
        let open = |number| match known.iter().find(|segment| segment.number == number) {
            Some(segment) => Ok(Arc::clone(segment)),
            None => Segment::open(backend.blobs(), number, &manifest.schema).map(Arc::new),
        };
        let parts = manifest.segments.iter().map(|entry| {
            let segment = open(entry.number)?;
            if segment.rows() as u64 != entry.rows {
                let reason = format!("{} rows, {} by the manifest", segment.rows(), entry.rows);
                return Err(Error::damaged(&segment.path, "ids.config", reason));
            }
            Ok(LivePart { mask: RowMask::new(read_tombstones(backend.blobs(), entry)?), segment })
        });
        let mut state = Self {
            collection: Arc::clone(collection),
            schema: Arc::new(manifest.schema.clone()),
            parts: parts.collect::<Result<_, Error>>()?,
            heads: vec![Head::new(budget)],
            budget: Arc::clone(budget),
            applied: SeqNo(manifest.log_from.0 - 1),
            log_from: manifest.log_from,
            sealed: Vec::new(),
            frozen: None,
            generation: 0,
            epoch: 0,
        };
        state.sealed = state.left();
        Ok(state)
    }

    /// Takes the records in that the log has now.
    pub(super) fn read_log(&mut self, log: &mut dyn LogReader) -> Result<usize, Error> {
        let mut count = 0;
        while let Some((seq, record)) = log.read()? {
            let effects = record::decode(record).map_err(|reason| {
                let path = Path::new(&*self.collection).join("wal");
                Error::damaged(&path, "record", format!("record {seq}: {reason}"))
            })?;
            self.check(seq, &effects)?;
            let reserved = self.budget.take(effects.iter().map(Effect::head_bytes).sum());
            self.apply(seq, effects, reserved)?;
            count += 1;
        }
        Ok(count)
    }

    /// Whether the fields take the vectors of a record.
    fn check(&self, seq: SeqNo, effects: &[Effect]) -> Result<(), Error> {
        for effect in effects {
            let Effect::Put(put) = effect else { continue };
            for (number, values) in &put.vectors {
                let path = Path::new(&*self.collection).join("wal");
                if *number >= self.schema.next {
                    // A field that came after the manifest was read: there is a newer one.
                    return Err(StorageError::Trimmed { path, wanted: seq }.into());
                }
                let dim = self.schema.by_number(*number).map_or(values.len(), |field| field.config.dim);
                if values.len() != dim {
                    let reason = format!("record {seq}: a vector of {} values, expected {dim}", values.len());
                    return Err(Error::damaged(&path, "record", reason));
                }
            }
        }
        Ok(())
    }

    /// The points that came so far are to be sealed, and what comes goes into another head; unless some are being sealed
    /// already.
    pub(super) fn freeze(&mut self) -> &Frozen {
        if self.frozen.is_none() {
            self.frozen = Some(Frozen { upto: self.applied, head: self.heads[0].view(), left: self.left() });
            self.heads.push(Head::new(&self.budget));
        }
        self.frozen.as_ref().expect("it was just set")
    }

    /// They are in a segment, if any are left, and a manifest holds all records up to theirs.
    pub(super) fn thaw(&mut self, segment: Option<Arc<Segment>>) {
        let Some(Frozen { upto, head, left }) = self.frozen.take() else { return };
        let now = self.heads.remove(0);
        self.sealed = left;
        if let Some(segment) = segment {
            let mut rows = BitSet::new(segment.rows());
            let left = (0..).zip(head.live().iter()).filter(|(_, row)| now.now().live().contains(*row));
            left.for_each(|(place, _)| {
                rows.insert(place);
            });
            self.sealed.push((segment.number, Arc::new(BitSet::all(segment.rows()))));
            self.parts.push(LivePart { segment, mask: RowMask::new(rows) });
        }
        self.log_from = upto.next();
        self.generation += 1;
    }

    /// A segment takes the place of others. `rows_of` gives, of a set of the others' rows, which rows of its own those are.
    pub(super) fn exchange(
        &mut self,
        others: &[u64],
        segment: Option<Arc<Segment>>,
        rows_of: &dyn Fn(&[Left]) -> BitSet,
    ) {
        let now = self.left();
        let translate = |left: &mut Vec<Left>| {
            let rows = segment.as_ref().map(|segment| (segment.number, Arc::new(rows_of(left))));
            left.retain(|(number, _)| !others.contains(number));
            left.extend(rows);
        };
        translate(&mut self.sealed);
        if let Some(frozen) = &mut self.frozen {
            translate(&mut frozen.left);
        }
        self.parts.retain(|part| !others.contains(&part.segment.number));
        if let Some(segment) = segment {
            self.parts.push(LivePart { segment, mask: RowMask::new(rows_of(&now)) });
        }
        self.generation += 1;
    }

    /// All that an [`exchange`](Self::exchange) asks for: which rows of each segment are left now, and were left before.
    pub(super) fn all_left(&self) -> Vec<Vec<Left>> {
        let frozen = self.frozen.iter().map(|frozen| frozen.left.clone());
        [self.left(), self.sealed.clone()].into_iter().chain(frozen).collect()
    }

    /// Which rows of each segment are left.
    pub(super) fn left(&self) -> Vec<Left> {
        let left = |part: &LivePart| (part.segment.number, Arc::clone(part.mask.current()));
        self.parts.iter().map(left).collect()
    }

    pub(super) fn head(&mut self) -> &mut Head {
        self.heads.last_mut().expect("there is a head always")
    }

    /// The collection as it is now.
    pub(super) fn view(&self) -> Arc<View> {
        let parts = self
            .parts
            .iter()
            .map(|part| Part { segment: Arc::clone(&part.segment), live: Arc::clone(part.mask.current()) });
        Arc::new(View {
            collection: Arc::clone(&self.collection),
            version: self.applied.0,
            generation: self.generation,
            schema: Arc::clone(&self.schema),
            parts: parts.collect(),
            heads: self.heads.iter().map(Head::view).filter(|head| head.rows() > 0).collect(),
        })
    }

    /// Points that no graph covers, of the fields that are to have one.
    pub(super) fn unindexed(&self, settings: &Settings) -> usize {
        let heads: usize = self.heads.iter().map(|head| head.now().unlinked()).sum();
        let bare = self
            .parts
            .iter()
            .filter(|part| part.segment.lacks_graph(&self.schema, settings.least_graph_rows));
        heads + bare.map(|part| part.mask.current().count()).sum::<usize>()
    }

    /// What a batch that gets this version comes to: the effects, at most one for each id. Nothing is changed.
    ///
    /// # Errors
    /// [`Error::InvalidPoint`], [`Error::NoSuchField`], [`Error::NoSuchPoint`]; [`Error::Damaged`].
    pub(super) fn resolve(&self, version: SeqNo, operations: &[Operation<'_>]) -> Result<Resolved, Error> {
        let mut batch = Batch {
            state: self,
            version,
            effects: Vec::with_capacity(operations.len()),
            places: HashMap::new(),
            view: None,
        };
        let mut skipped = 0;
        for operation in operations {
            skipped += usize::from(!batch.add(operation)?);
        }
        Ok(Resolved { version, effects: batch.effects.into_iter().flatten().collect(), skipped })
    }

    /// Makes the changes of a record, for which bytes were taken.
    pub(super) fn apply(
        &mut self,
        seq: SeqNo,
        effects: Vec<Effect>,
        reserved: Reserved,
    ) -> Result<(), Error> {
        let schema = Arc::clone(&self.schema);
        self.head().reserve(reserved);
        for effect in effects {
            self.take(effect.id())?;
            if let Effect::Put(put) = effect {
                self.head().put(put, seq.0, &schema);
            }
        }
        self.head().join();
        self.applied = seq;
        Ok(())
    }

    /// The point of an id is there no longer.
    fn take(&mut self, id: &PointId) -> Result<(), Error> {
        for head in self.heads.iter_mut().rev() {
            if head.remove(id) {
                return Ok(());
            }
        }
        for part in self.parts.iter_mut().rev() {
            if let Some(row) = part.segment.find(id)?
                && part.mask.remove(row)
            {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// What a batch of operations comes to.
pub(super) struct Resolved {
    /// The version that it gets, unless there are no effects.
    pub(super) version: SeqNo,
    pub(super) effects: Vec<Effect>,
    /// Operations whose condition did not hold, or that found nothing to do.
    pub(super) skipped: usize,
}

struct Batch<'a> {
    state: &'a State,
    version: SeqNo,
    /// `None`: a later operation of the batch says what becomes of that point.
    effects: Vec<Option<Effect>>,
    places: HashMap<PointId, usize>,
    /// Made when an operation asks for a point.
    view: Option<Arc<View>>,
}

impl Batch<'_> {
    /// Takes an operation in; says whether it does anything.
    fn add(&mut self, operation: &Operation<'_>) -> Result<bool, Error> {
        match operation {
            Operation::Upsert(point, condition) => {
                if !self.holds(&point.id, *condition)? {
                    return Ok(false);
                }
                let put = self.put(point)?;
                self.set(Effect::Put(put));
            }
            Operation::Delete(id) => {
                if self.is_absent(id)? {
                    return Ok(false);
                }
                self.set(Effect::Delete(id.clone()));
            }
            Operation::DeleteExpired(id, now) => {
                let expires = self.get(id)?.and_then(|stored| stored.point.expires_at);
                if expires.is_none_or(|at| at > *now) {
                    return Ok(false);
                }
                self.set(Effect::Delete(id.clone()));
            }
            Operation::UpdateVectors(id, vectors) => {
                self.change(id, |point| point.vectors.extend(vectors.clone()))?;
            }
            Operation::DeleteVectors(id, names) => {
                for name in names {
                    self.state.schema.field(&self.state.collection, name)?;
                }
                self.change(id, |point| point.vectors.retain(|name, _| !names.contains(name)))?;
            }
            Operation::SetPayload(id, payload) => {
                self.change(id, |point| point.payload.extend(payload.clone()))?;
            }
            Operation::OverwritePayload(id, payload) => {
                self.change(id, |point| point.payload.clone_from(payload))?;
            }
            Operation::DeletePayload(id, keys) => {
                self.change(id, |point| {
                    keys.iter().for_each(|key| {
                        point.payload.remove(key);
                    });
                })?;
            }
            Operation::Expire(id, at) => self.change(id, |point| point.expires_at = *at)?,
        }
        Ok(true)
    }

    fn set(&mut self, effect: Effect) {
        let place = self.effects.len();
        if let Some(before) = self.places.insert(effect.id().clone(), place) {
            self.effects[before] = None;
        }
        self.effects.push(Some(effect));
    }

    /// The point of an id as the operations before in this batch leave it.
    fn get(&mut self, id: &PointId) -> Result<Option<StoredPoint>, Error> {
        if let Some(&place) = self.places.get(id) {
            return match &self.effects[place] {
                Some(Effect::Put(put)) => Ok(Some(self.point(put.clone()))),
                _ => Ok(None),
            };
        }
        self.view.get_or_insert_with(|| self.state.view()).get(id)
    }

    fn is_absent(&mut self, id: &PointId) -> Result<bool, Error> {
        if let Some(&place) = self.places.get(id) {
            return Ok(!matches!(&self.effects[place], Some(Effect::Put(_))));
        }
        let view = self.view.get_or_insert_with(|| self.state.view());
        Ok(view.find(id)?.is_none())
    }

    fn holds(&mut self, id: &PointId, condition: Condition<'_>) -> Result<bool, Error> {
        Ok(match condition {
            Condition::Always => true,
            Condition::Absent => self.is_absent(id)?,
            Condition::Present => !self.is_absent(id)?,
            Condition::Version(version) => self.get(id)?.is_some_and(|point| point.version == version),
            Condition::Holds(holds) => self.get(id)?.is_some_and(|point| holds(&point)),
        })
    }

    fn change(&mut self, id: &PointId, change: impl FnOnce(&mut Point)) -> Result<(), Error> {
        let Some(StoredPoint { mut point, .. }) = self.get(id)? else {
            return Err(Error::NoSuchPoint { collection: self.state.collection.to_string(), id: id.clone() });
        };
        change(&mut point);
        let put = self.put(&point)?;
        self.set(Effect::Put(put));
        Ok(())
    }

    /// A point of this batch.
    fn point(&self, put: Put) -> StoredPoint {
        let name = |number| self.state.schema.by_number(number).map(|field| field.name.clone());
        let vectors = put.vectors.into_iter().filter_map(|(number, vector)| Some((name(number)?, vector)));
        let point = Point {
            id: put.id,
            vectors: vectors.collect(),
            payload: parse(&put.payload).expect("a payload that was just written"),
            expires_at: (put.expires > 0).then_some(put.expires),
        };
        StoredPoint { point, version: self.version.0 }
    }

    /// A point in the form that is kept.
    fn put(&self, point: &Point) -> Result<Put, Error> {
        let Point { id, vectors, payload, expires_at } = point;
        let refuse = |reason: String| {
            let collection = self.state.collection.to_string();
            Error::InvalidPoint { collection, id: id.clone(), reason }
        };
        if let PointId::Text(text) = id
            && text.len() > MAX_ID_BYTES
        {
            return Err(refuse(format!(
                "an id of {} bytes, at most {MAX_ID_BYTES} are possible",
                text.len()
            )));
        }
        let payload = to_json(payload);
        if payload.len() > MAX_PAYLOAD_BYTES {
            let length = payload.len();
            return Err(refuse(format!(
                "a payload of {length} bytes, at most {MAX_PAYLOAD_BYTES} are possible"
            )));
        }
        let vectors = self.checked(vectors, refuse)?;
        Ok(Put { vectors, payload, expires: expires_at.map_or(0, |at| at.max(1)), id: id.clone() })
    }

    /// Vectors by the numbers of their fields.
    fn checked(
        &self,
        vectors: &NamedVectors,
        refuse: impl Fn(String) -> Error,
    ) -> Result<Vec<(u32, Vec<f32>)>, Error> {
        let mut checked = Vec::with_capacity(vectors.len());
        for (name, values) in vectors {
            let Field { number, config, .. } = self.state.schema.field(&self.state.collection, name)?;
            let (dim, found) = (config.dim, values.len());
            if found != dim {
                return Err(refuse(format!("vector {name:?} has {found} values, expected {dim}")));
            }
            if let Some(place) = values.iter().position(|value| !value.is_finite()) {
                let value = values[place];
                return Err(refuse(format!(
                    "value {place} of vector {name:?} is {value}, expected a finite number"
                )));
            }
            checked.push((*number, rounded(values.clone(), config.element)));
        }
        checked.sort_unstable_by_key(|vector| vector.0);
        Ok(checked)
    }
}

/// The nearest values of a type; those beyond its range become the last ones within.
fn rounded(mut values: Vec<f32>, element: ElementType) -> Vec<f32> {
    if !element.is_exact(&values) {
        let mut bytes = vec![0; values.len() * element.bytes()];
        element.encode(&values, &mut bytes);
        element.decode(&bytes, &mut values);
    }
    values
}
