//! What a collection must hold and answer: an ordered map, and brute force.

use std::collections::BTreeMap;
use std::sync::Arc;
use vdb_distance::Distance;
use vdb_engine::{
    Condition, Error, NamedVectors, Operation, Payload, Point, PointId, SearchAnswer, StoredPoint,
    VectorConfig, View,
};

/// Why a batch is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Point,
    Field,
    NoPoint,
}

impl Refusal {
    /// The one that an error of the engine stands for.
    pub(crate) fn of(error: &Error) -> Option<Self> {
        match error {
            Error::InvalidPoint { .. } => Some(Self::Point),
            Error::NoSuchField { .. } => Some(Self::Field),
            Error::NoSuchPoint { .. } => Some(Self::NoPoint),
            _ => None,
        }
    }
}

/// A vector field, with a number that no other one ever had.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Field {
    pub(crate) number: u32,
    pub(crate) config: VectorConfig,
}

/// Whether a point may be a hit.
pub(crate) type Test = fn(&PointId, &Payload) -> bool;

/// One version of a collection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    pub(crate) version: u64,
    pub(crate) fields: BTreeMap<String, Field>,
    pub(crate) next_field: u32,
    pub(crate) points: BTreeMap<PointId, Arc<StoredPoint>>,
}

impl Model {
    pub(crate) fn add_vector(&mut self, name: &str, config: VectorConfig) {
        let field = Field { number: self.next_field, config };
        assert!(self.fields.insert(name.to_owned(), field).is_none());
        self.next_field += 1;
    }

    pub(crate) fn drop_vector(&mut self, name: &str) {
        self.fields.remove(name);
        self.points.values_mut().filter(|stored| stored.point.vectors.contains_key(name)).for_each(
            |stored| {
                Arc::make_mut(stored).point.vectors.remove(name);
            },
        );
    }

    /// These points under the fields of another state: without vectors of fields that are not there, or not the same.
    pub(crate) fn under(&self, other: &Model) -> Model {
        let mut model = self.clone();
        for (name, field) in &self.fields {
            if other.fields.get(name).is_none_or(|own| own.number != field.number) {
                model.drop_vector(name);
            }
        }
        Model { fields: other.fields.clone(), next_field: other.next_field, ..model }
    }

    /// The write that was to be this version became another one.
    pub(crate) fn renumber(&mut self, from: u64, to: u64) {
        self.points.values_mut().filter(|stored| stored.version == from).for_each(|stored| {
            Arc::make_mut(stored).version = to;
        });
        if self.version == from {
            self.version = to;
        }
    }

    /// Does the operations, all or none; gives how many did nothing.
    pub(crate) fn write(&mut self, operations: &[Operation<'_>]) -> Result<usize, Refusal> {
        self.write_as(self.version + 1, operations)
    }

    /// The same as a version of which numbers before may have been left out.
    pub(crate) fn write_as(&mut self, version: u64, operations: &[Operation<'_>]) -> Result<usize, Refusal> {
        let mut next = Model { version, ..self.clone() };
        let mut skipped = 0;
        for operation in operations {
            skipped += usize::from(!next.operate(operation)?);
        }
        if skipped < operations.len() {
            *self = next;
        }
        Ok(skipped)
    }

    fn operate(&mut self, operation: &Operation<'_>) -> Result<bool, Refusal> {
        match operation {
            Operation::Upsert(point, condition) => {
                let present = self.points.get(&point.id);
                let holds = match condition {
                    Condition::Always => true,
                    Condition::Absent => present.is_none(),
                    Condition::Present => present.is_some(),
                    Condition::Version(version) => present.is_some_and(|stored| stored.version == *version),
                    Condition::Holds(holds) => present.is_some_and(|stored| holds(stored)),
                };
                if holds {
                    self.put(point.clone())?;
                }
                return Ok(holds);
            }
            Operation::Delete(id) => return Ok(self.points.remove(id).is_some()),
            Operation::DeleteExpired(id, now) => {
                let expires = self.points.get(id).and_then(|stored| stored.point.expires_at);
                let has_come = expires.is_some_and(|at| at <= *now);
                if has_come {
                    self.points.remove(id);
                }
                return Ok(has_come);
            }
            Operation::UpdateVectors(id, vectors) => {
                self.change(id, |point| point.vectors.extend(vectors.clone()))?;
            }
            Operation::DeleteVectors(id, names) => {
                if names.iter().any(|name| !self.fields.contains_key(name)) {
                    return Err(Refusal::Field);
                }
                self.change(id, |point| point.vectors.retain(|name, _| !names.contains(name)))?;
            }
            Operation::SetPayload(id, payload) => {
                self.change(id, |point| point.payload.extend(payload.clone()))?
            }
            Operation::OverwritePayload(id, payload) => {
                self.change(id, |point| point.payload = payload.clone())?
            }
            Operation::DeletePayload(id, keys) => self.change(id, |point| {
                for key in keys {
                    point.payload.remove(key);
                }
            })?,
            Operation::Expire(id, at) => self.change(id, |point| point.expires_at = *at)?,
            other => panic!("an operation that the model does not know: {other:?}"),
        }
        Ok(true)
    }

    fn change(&mut self, id: &PointId, change: impl FnOnce(&mut Point)) -> Result<(), Refusal> {
        let mut point = self.points.get(id).ok_or(Refusal::NoPoint)?.point.clone();
        change(&mut point);
        self.put(point)
    }

    fn put(&mut self, mut point: Point) -> Result<(), Refusal> {
        if matches!(&point.id, PointId::Text(text) if text.len() > 4_096) {
            return Err(Refusal::Point);
        }
        for (name, values) in &mut point.vectors {
            let config = self.fields.get(name).ok_or(Refusal::Field)?.config;
            if values.len() != config.dim || values.iter().any(|value| !value.is_finite()) {
                return Err(Refusal::Point);
            }
            let mut bytes = vec![0; values.len() * config.element.bytes()];
            config.element.encode(values, &mut bytes);
            config.element.decode(&bytes, values);
        }
        point.expires_at = point.expires_at.map(|at| at.max(1));
        let stored = StoredPoint { version: self.version, point };
        self.points.insert(stored.point.id.clone(), Arc::new(stored));
        Ok(())
    }

    /// All matching points, nearest first.
    pub(crate) fn nearest(
        &self,
        field: &str,
        query: &[f32],
        test: Option<Test>,
    ) -> Vec<(Distance, f32, &StoredPoint)> {
        let metric = self.fields[field].config.metric;
        let matching = self
            .points
            .values()
            .filter(|stored| test.is_none_or(|test| test(&stored.point.id, &stored.point.payload)));
        let mut nearest: Vec<_> = matching
            .filter_map(|stored| {
                let distance =
                    Distance::from_value(metric, metric.calculate(query, stored.point.vectors.get(field)?));
                Some((distance, distance.value(metric), &**stored))
            })
            .collect();
        nearest.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| a.2.point.id.cmp(&b.2.point.id)));
        nearest
    }

    /// Holds everything that a view tells against what it must be, but for searches.
    pub(crate) fn check(&self, view: &View) {
        assert_eq!(view.version(), self.version, "version");
        assert_eq!(
            (view.len(), view.is_empty()),
            (self.points.len(), self.points.is_empty()),
            "number of points"
        );
        let fields: Vec<_> = view.vectors().map(|(name, config)| (name.to_owned(), *config)).collect();
        let expected: Vec<_> = self.fields.iter().map(|(name, field)| (name.clone(), field.config)).collect();
        assert_eq!(fields, expected, "vector fields");
        let mut points: Vec<StoredPoint> = view.points().map(Result::unwrap).collect();
        let ids: Vec<PointId> = view.ids().map(Result::unwrap).collect();
        assert!(
            ids.iter().eq(points.iter().map(|stored| &stored.point.id)),
            "ids and points differ in order"
        );
        points.sort_by(|a, b| a.point.id.cmp(&b.point.id));
        let expected: Vec<&StoredPoint> = self.points.values().map(|stored| &**stored).collect();
        for (found, expected) in points.iter().zip(&expected) {
            assert_same(found, expected);
        }
        assert_eq!(points.len(), expected.len(), "number of points listed");
    }

    /// Holds a look at one id against what it must be.
    pub(crate) fn check_id(&self, view: &View, id: &PointId) {
        let expected = self.points.get(id);
        assert_eq!(view.contains(id).unwrap(), expected.is_some(), "contains {id:?}");
        match (view.get(id).unwrap(), expected) {
            (Some(found), Some(expected)) => assert_same(&found, expected),
            (None, None) => {}
            (found, expected) => panic!("got {found:?}, expected {expected:?}"),
        }
    }

    /// Holds an answer against brute force; gives the share of the true neighbours that it has.
    pub(crate) fn check_answer(&self, answer: &SearchAnswer, of: &Searched<'_>) -> f64 {
        let Searched { field, query, k, test, is_exact, with_payload, with_vectors } = *of;
        let nearest = self.nearest(field, query, test);
        assert_eq!(answer.version, self.version);
        assert!(answer.exact || !is_exact, "an exact search whose answer is not");
        assert_eq!(answer.hits.len(), k.min(nearest.len()), "hits of {} that match, {of:?}", nearest.len());
        let mut found = 0;
        let mut last = None;
        for (place, hit) in answer.hits.iter().enumerate() {
            let Some((distance, value, stored)) = nearest.iter().find(|near| near.2.point.id == hit.id)
            else {
                panic!("hit {:?} does not match, {of:?}", hit.id);
            };
            assert_eq!(hit.version, stored.version, "version of hit {:?}", hit.id);
            assert_eq!(
                hit.value.to_bits(),
                value.to_bits(),
                "value of hit {:?}: {}, {value}",
                hit.id,
                hit.value
            );
            assert_eq!(
                hit.similarity.to_bits(),
                distance.similarity().to_bits(),
                "similarity of hit {:?}",
                hit.id
            );
            assert_eq!(
                hit.payload.as_ref(),
                with_payload.then_some(&stored.point.payload),
                "payload of {:?}",
                hit.id
            );
            match &hit.vectors {
                Some(vectors) if with_vectors => {
                    assert!(same_vectors(vectors, &stored.point.vectors), "{:?}", hit.id)
                }
                vectors => {
                    assert!(!with_vectors && vectors.is_none(), "vectors that nobody asked for, or none")
                }
            }
            let order = (*distance, hit.id.clone());
            assert!(last.is_none_or(|last| last < order), "hit {place} is out of order, {of:?}");
            last = Some(order);
            found += usize::from(*distance <= nearest[answer.hits.len() - 1].0);
            if answer.exact {
                assert_eq!(hit.id, nearest[place].2.point.id, "hit {place} of an exact answer, {of:?}");
            }
        }
        if answer.hits.is_empty() { 1.0 } else { found as f64 / answer.hits.len() as f64 }
    }
}

/// A search and how it was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Searched<'a> {
    pub(crate) field: &'a str,
    pub(crate) query: &'a [f32],
    pub(crate) k: usize,
    pub(crate) test: Option<Test>,
    /// The true nearest points were asked for.
    pub(crate) is_exact: bool,
    pub(crate) with_payload: bool,
    pub(crate) with_vectors: bool,
}

/// Equal to the bit.
pub(crate) fn same_vectors(a: &NamedVectors, b: &NamedVectors) -> bool {
    let bits = |vectors: &NamedVectors| -> Vec<(String, Vec<u32>)> {
        let bits = |values: &Vec<f32>| values.iter().map(|value| value.to_bits()).collect();
        vectors.iter().map(|(name, values)| (name.clone(), bits(values))).collect()
    };
    bits(a) == bits(b)
}

pub(crate) fn assert_same(found: &StoredPoint, expected: &StoredPoint) {
    assert_eq!(found, expected);
    assert!(
        same_vectors(&found.point.vectors, &expected.point.vectors),
        "{found:?} is not {expected:?} to the bit"
    );
}
