//! An index in memory over the points of a collection, for the kinds of index that segments do not keep.
//!
//! It holds what one version of the collection holds, and is told of changes by those who make them. Whatever else changes
//! the collection (a point expires, another process writes) is seen by the version, which is another one then; and
//! whoever sees that brings the index up to date, looking at all points.

use super::Setup;
use super::points::{record_of, text_of};
use crate::Error;
use crate::VectorRecord;
use crate::index::Core;
use std::collections::HashSet;
use vdb_engine::{PointId, StoredPoint, View};

/// Records with their index as of a version.
#[derive(Debug)]
pub(super) struct Mirror {
    core: Core,
    version: u64,
}

impl Mirror {
    pub(super) fn new(setup: &Setup) -> Self {
        let Setup { dimension, metric, index_type, params } = *setup;
        Self { core: Core::new(metric, dimension, index_type, params), version: 0 }
    }

    pub(super) fn core(&self) -> &Core {
        &self.core
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Takes all in that has changed.
    pub(super) fn follow(&mut self, view: &View) -> Result<(), Error> {
        if view.version() == self.version {
            return Ok(());
        }
        if self.core.store.len() > 0 {
            let there: HashSet<String> =
                view.ids().map(|id| Ok(text_of(id?))).collect::<Result<_, Error>>()?;
            let ids = self.core.store.live().map(|offset| self.core.store.id(offset));
            let gone: Vec<String> = ids.filter(|id| !there.contains(*id)).map(str::to_owned).collect();
            gone.iter().for_each(|id| {
                self.core.delete(id);
            });
        }
        let is_new = |stored: &StoredPoint| stored.version > self.version;
        let new = view.points().filter(|stored| stored.as_ref().map_or(true, is_new));
        let new = new.filter_map(|stored| stored.map_err(Error::from).map(indexed).transpose());
        self.core.insert_all(new, &mut |_| ())?;
        self.version = view.version();
        Ok(())
    }

    /// The same where at most the points of these ids have changed, unless others have, too.
    pub(super) fn follow_ids(&mut self, view: &View, ids: &[PointId]) -> Result<(), Error> {
        if view.version() != self.version + 1 {
            return self.follow(view);
        }
        let mut records = Vec::new();
        for id in ids {
            match view.get(id)?.and_then(indexed) {
                Some(record) => records.push(record),
                None => {
                    self.core.delete(&text_of(id.clone()));
                }
            }
        }
        self.core.insert_all(records.into_iter().map(Ok::<_, Error>), &mut |_| ())?;
        self.version = view.version();
        Ok(())
    }
}

/// A point that can be searched for: one without a vector cannot.
fn indexed(stored: StoredPoint) -> Option<VectorRecord> {
    Some(record_of(stored)).filter(|record| !record.vector.is_empty())
}
