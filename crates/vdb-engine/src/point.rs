//! Points, as callers give and get them, and the operations that change them.

use crate::PointId;
use std::collections::BTreeMap;
use std::fmt;

/// Any JSON object.
pub type Payload = serde_json::Map<String, serde_json::Value>;

/// The vectors of a point by name; the name of a collection's only vector is, as a rule, empty.
pub type NamedVectors = BTreeMap<String, Vec<f32>>;

/// A point: an id, a vector for some or all of the collection's vector fields, and a payload.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Unique within a collection.
    pub id: PointId,
    /// Finite values, as many each as its field has dimensions. A point without a vector of some field is not found by
    /// searches of that field.
    pub vectors: NamedVectors,
    /// Any JSON object; empty by default.
    pub payload: Payload,
    /// When the point ceases to be, in milliseconds since 1970 (UTC). A time that has come already is taken, too: such a point
    /// is deleted as any other whose time has come is. 0 is kept as 1.
    pub expires_at: Option<u64>,
}

impl Point {
    /// A point with one vector, of the field without a name.
    pub fn new(id: impl Into<PointId>, vector: Vec<f32>) -> Self {
        let vectors = BTreeMap::from([(String::new(), vector)]);
        Self { id: id.into(), vectors, payload: Payload::new(), expires_at: None }
    }

    /// The same with a payload.
    #[must_use]
    pub fn with_payload(self, payload: Payload) -> Self {
        Self { payload, ..self }
    }
}

/// A point of a collection and the version that wrote it last.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredPoint {
    /// The point.
    pub point: Point,
    /// The version of the collection that last changed it.
    pub version: u64,
}

/// What must hold of the point that is there for an upsert to happen; where it does not, the upsert is skipped.
///
/// It is asked of the point as the operations before it in the same batch leave it: one that they delete is absent, and one
/// that they write has the version that the batch gets, [`Written::version`](crate::Written::version), like all that the batch
/// writes. So [`Version`](Self::Version) of a point that was read before does not hold any more once an earlier operation of
/// the batch has changed it.
#[derive(Clone, Copy, Default)]
pub enum Condition<'a> {
    /// Nothing.
    #[default]
    Always,
    /// There is none with this id.
    Absent,
    /// There is one with this id.
    Present,
    /// There is one, and this version wrote it last: nobody changed it since it was read.
    Version(u64),
    /// There is one for which this holds.
    Holds(&'a dyn Fn(&StoredPoint) -> bool),
}

impl fmt::Debug for Condition<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("Always"),
            Self::Absent => f.write_str("Absent"),
            Self::Present => f.write_str("Present"),
            Self::Version(version) => f.debug_tuple("Version").field(version).finish(),
            Self::Holds(_) => f.write_str("Holds(..)"),
        }
    }
}

/// A change of one point. Those of a batch happen in order, all of them or none.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Operation<'a> {
    /// Puts a point in the place of whatever has its id.
    Upsert(Point, Condition<'a>),
    /// Replaces or adds these vectors; the others stay.
    UpdateVectors(PointId, NamedVectors),
    /// Takes the vectors of these names away; a name that the point has no vector of is fine.
    DeleteVectors(PointId, Vec<String>),
    /// Sets these keys of the payload; the others stay.
    SetPayload(PointId, Payload),
    /// Replaces the payload.
    OverwritePayload(PointId, Payload),
    /// Takes these keys out of the payload; one that is not there is fine.
    DeletePayload(PointId, Vec<String>),
    /// Sets when the point ceases to be, in milliseconds since 1970, or that it does not.
    Expire(PointId, Option<u64>),
    /// Removes a point; one that is not there is fine.
    Delete(PointId),
    /// Removes a point if its time to expire is set and not after this one, in milliseconds since 1970.
    DeleteExpired(PointId, u64),
}

impl Operation<'_> {
    /// An unconditional upsert.
    pub fn upsert(point: Point) -> Self {
        Self::Upsert(point, Condition::Always)
    }
}
