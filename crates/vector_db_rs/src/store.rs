//! Records by offset: ids, metadata and vectors side by side, and the table from id to offset.
//!
//! An id is kept once, in a block with others (see [`Ids`]); the table holds offsets and compares through them. A deleted
//! record's offset goes to the free list when the index no longer uses it, and is taken again before the arrays grow.

use crate::filter_cache::FilterCache;
use crate::ids::Ids;
use crate::{Error, VectorRecord};
use hashbrown::{DefaultHashBuilder, HashTable};
use std::collections::HashMap;
use std::hash::BuildHasher;
use std::sync::Arc;
use vdb_distance::Metric;
use vdb_index::{BitSet, Vectors};

/// Metadata of one record; most have none, and a pointer is smaller than an empty map.
pub(crate) type Metadata = Option<Box<HashMap<String, String>>>;

/// Id and metadata of one row of a file; `None` for an offset that holds no record.
pub(crate) type Row = Option<(Box<str>, Metadata)>;

/// All records of a database.
#[derive(Debug, Clone)]
pub(crate) struct RecordStore {
    pub(crate) vectors: Vectors,
    ids: Ids,
    /// Up to the last record that has any.
    metadata: Vec<Metadata>,
    offsets: HashTable<u32>,
    hasher: DefaultHashBuilder,
    free: Vec<u32>,
    filters: FilterCache,
}

impl RecordStore {
    pub(crate) fn new(metric: Metric, dimension: usize) -> Self {
        Self {
            vectors: Vectors::new(metric, dimension),
            ids: Ids::default(),
            metadata: Vec::new(),
            offsets: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            free: Vec::new(),
            filters: FilterCache::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.offsets.len()
    }

    pub(crate) fn offset(&self, id: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(id);
        self.offsets.find(hash, |&offset| self.ids.get(offset) == id).copied()
    }

    pub(crate) fn id(&self, offset: u32) -> &str {
        self.ids.get(offset)
    }

    pub(crate) fn metadata(&self, offset: u32) -> Option<&HashMap<String, String>> {
        self.metadata.get(offset as usize)?.as_deref()
    }

    pub(crate) fn record(&self, offset: u32) -> VectorRecord {
        VectorRecord {
            id: self.id(offset).to_owned(),
            vector: self.vectors.row(offset).into_owned(),
            metadata: self.metadata(offset).cloned().unwrap_or_default(),
        }
    }

    /// The offsets of all records, ascending.
    pub(crate) fn live(&self) -> impl Iterator<Item = u32> + '_ {
        self.vectors.live().iter()
    }

    pub(crate) fn reserve(&mut self, additional: usize) {
        let additional = additional.saturating_sub(self.free.len());
        self.vectors.reserve(additional);
    }

    /// Adds a record whose id is not present.
    pub(crate) fn add(&mut self, record: VectorRecord) -> u32 {
        self.filters.clear();
        let VectorRecord { id, vector, metadata } = record;
        let hash = self.hasher.hash_one(&*id);
        let offset = match self.free.pop() {
            Some(offset) => {
                self.vectors.set(offset, &vector);
                self.ids.set(offset, &id);
                offset
            }
            None => {
                self.ids.push(&id);
                self.vectors.push(&vector)
            }
        };
        self.set_metadata(offset, boxed(metadata));
        let Self { ids, hasher, offsets, .. } = self;
        offsets.insert_unique(hash, offset, |&offset| hasher.hash_one(ids.get(offset)));
        offset
    }

    fn set_metadata(&mut self, offset: u32, metadata: Metadata) {
        let index = offset as usize;
        if index >= self.metadata.len() && metadata.is_some() {
            self.metadata.resize(index + 1, None);
        }
        if let Some(place) = self.metadata.get_mut(index) {
            *place = metadata;
        }
    }

    /// Replaces vector and metadata of a record that no index has seen yet.
    pub(crate) fn overwrite(&mut self, offset: u32, record: VectorRecord) {
        self.filters.clear();
        self.vectors.set(offset, &record.vector);
        self.set_metadata(offset, boxed(record.metadata));
    }

    /// Takes a record out; its offset stays taken until [`release`](Self::release).
    pub(crate) fn remove(&mut self, offset: u32) {
        self.filters.clear();
        let hash = self.hasher.hash_one(self.ids.get(offset));
        if let Ok(entry) = self.offsets.find_entry(hash, |&other| other == offset) {
            entry.remove();
        }
        self.vectors.remove(offset);
        self.ids.set(offset, "");
        self.set_metadata(offset, None);
    }

    /// Makes offsets that nothing refers to any more available again.
    pub(crate) fn release(&mut self, offsets: Vec<u32>) {
        self.free.extend(offsets);
    }

    pub(crate) fn free(&self) -> &[u32] {
        &self.free
    }

    /// The records whose metadata holds every pair of `filter`; evaluated once until a record changes.
    pub(crate) fn matching(&self, filter: &[(String, String)]) -> Arc<BitSet> {
        self.filters.get(filter, || self.evaluate(filter))
    }

    fn evaluate(&self, filter: &[(String, String)]) -> BitSet {
        let holds = |metadata: &HashMap<String, String>| {
            filter.iter().all(|(key, value)| metadata.get(key).is_some_and(|found| found == value))
        };
        BitSet::from_fn(self.vectors.len(), |offset| self.metadata(offset).is_some_and(holds))
    }

    /// Rebuilds a store from the rows of a file.
    pub(crate) fn from_rows(vectors: Vectors, rows: Vec<Row>, free: Vec<u32>) -> Result<Self, String> {
        let metric = vectors.metric();
        let mut store = Self { vectors, free, ..Self::new(metric, 1) };
        for (offset, row) in rows.into_iter().enumerate() {
            let (id, metadata) = row.unwrap_or_default();
            let offset = offset as u32;
            store.ids.push(&id);
            if store.vectors.live().contains(offset) {
                if store.offset(&id).is_some() {
                    return Err(format!("the id {id:?} occurs twice"));
                }
                let hash = store.hasher.hash_one(&*id);
                let Self { ids, hasher, offsets, .. } = &mut store;
                offsets.insert_unique(hash, offset, |&other| hasher.hash_one(ids.get(other)));
            }
            store.set_metadata(offset, metadata);
        }
        Ok(store)
    }
}

fn boxed(metadata: HashMap<String, String>) -> Metadata {
    (!metadata.is_empty()).then(|| Box::new(metadata))
}

/// Says what is wrong with a record for a database of `dimension` values a vector.
pub(crate) fn check_record(record: &VectorRecord, dimension: usize) -> Result<(), Error> {
    if record.vector.len() != dimension {
        let (id, got) = (record.id.clone(), record.vector.len());
        return Err(Error::DimensionMismatch { id, expected: dimension, got });
    }
    match not_finite(&record.vector) {
        None => Ok(()),
        Some((index, value)) => Err(Error::NotFinite { id: record.id.clone(), index, value }),
    }
}

/// The first value that is NaN or infinite.
pub(crate) fn not_finite(vector: &[f32]) -> Option<(usize, f32)> {
    // One pass without branches decides the ordinary case: x · 0 is 0 for finite x only.
    if vector.iter().map(|value| value * 0.0).sum::<f32>() == 0.0 {
        return None;
    }
    vector.iter().copied().enumerate().find(|(_, value)| !value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every change of a record is seen by a filter whose answer was kept, whatever an index would make of it.
    #[test]
    fn kept_answers_go_with_every_change() {
        let colored = |id: &str, color: &str| {
            let record = VectorRecord { id: id.to_owned(), vector: vec![1.0, 2.0], metadata: HashMap::new() };
            VectorRecord { metadata: HashMap::from([("color".to_owned(), color.to_owned())]), ..record }
        };
        let red = [("color".to_owned(), "red".to_owned())];
        let mut store = RecordStore::new(Metric::Euclidean, 2);
        let check = |store: &RecordStore, expected: &[u32], after: &str| {
            assert_eq!(store.matching(&red).iter().collect::<Vec<u32>>(), expected, "after {after}");
        };
        check(&store, &[], "nothing");
        store.add(colored("a", "red"));
        check(&store, &[0], "an addition");
        store.overwrite(0, colored("a", "blue"));
        check(&store, &[], "an overwriting");
        store.overwrite(0, colored("a", "red"));
        check(&store, &[0], "another");
        store.remove(0);
        check(&store, &[], "a removal");
    }
}
