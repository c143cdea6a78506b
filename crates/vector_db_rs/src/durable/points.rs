//! Records as points, and back.

use super::FIELD;
use crate::VectorRecord;
use serde_json::Value;
use std::collections::HashMap;
use vdb_engine::{Payload, Point, PointId, StoredPoint};

/// What a point takes in a record of the log beside its id, its values and its payload, at most.
const POINT_BYTES: usize = 64;
/// What the deletion of the longest id takes there, at most.
pub(super) const LONGEST_ID_BYTES: usize = 4_096 + 16;

pub(super) fn point_of(record: VectorRecord) -> Point {
    let VectorRecord { id, vector, metadata } = record;
    let fields = metadata.into_iter().map(|(key, value)| (key, Value::String(value)));
    Point::new(id, vector).with_payload(fields.collect())
}

pub(super) fn record_of(stored: StoredPoint) -> VectorRecord {
    let Point { id, mut vectors, payload, .. } = stored.point;
    let vector = vectors.remove(FIELD).unwrap_or_default();
    VectorRecord { id: text_of(id), vector, metadata: metadata_of(payload) }
}

pub(super) fn text_of(id: PointId) -> String {
    match id {
        PointId::Text(text) => text.into(),
        other => other.to_string(),
    }
}

pub(super) fn metadata_of(payload: Payload) -> HashMap<String, String> {
    let text = |value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    payload.into_iter().map(|(key, value)| (key, text(value))).collect()
}

/// Whether a payload, read as metadata, has every pair of `filter`.
pub(super) fn holds(payload: &Payload, filter: &[(String, String)]) -> bool {
    filter.iter().all(|(key, expected)| match payload.get(key) {
        None => false,
        Some(Value::String(text)) => text == expected,
        Some(other) => {
            let text = other.to_string();
            text == *expected
        }
    })
}

/// Points that go into one record of the log; of several with one id the last.
#[derive(Default)]
pub(super) struct Batch {
    points: Vec<Point>,
    places: HashMap<PointId, usize>,
    /// What they take, at most.
    bytes: usize,
}

impl Batch {
    /// Takes a record in. When there is no room for it, begins anew with it and gives the points so far.
    pub(super) fn add(&mut self, record: VectorRecord, most_bytes: usize) -> Option<Vec<Point>> {
        let bytes = most_bytes_of(&record);
        let is_full = !self.points.is_empty() && self.bytes + bytes > most_bytes;
        let full = is_full.then(|| std::mem::take(self).points);
        let point = point_of(record);
        self.bytes += bytes;
        match self.places.get(&point.id) {
            Some(&place) => self.points[place] = point,
            None => {
                self.places.insert(point.id.clone(), self.points.len());
                self.points.push(point);
            }
        }
        full
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn into_points(self) -> Vec<Point> {
        self.points
    }
}

/// The bytes that a record takes in the log, at most: JSON writes a byte of text as six at worst.
fn most_bytes_of(record: &VectorRecord) -> usize {
    let fields = record.metadata.iter().map(|(key, value)| 6 * (key.len() + value.len() + 1));
    POINT_BYTES + record.id.len() + size_of_val(&*record.vector) + fields.sum::<usize>()
}
