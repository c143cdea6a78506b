//! What the one writer knows beyond the published snapshot, and the changes it makes: all of it under one mutex.
//!
//! Nothing here is seen by readers until [`Writer::snapshot`] is published.

use super::mask::Mask;
use super::recent::Recent;
use super::snapshot::{Base, Snapshot};
use super::{Change, LiveParams};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// A merge is due when there are this many recent rows, times the root of the number of rows in the graph: see
/// [`LiveIndex`](super::LiveIndex).
const RECENT_PER_ROOT: f64 = 2.0;
/// Writers wait for a merge when there are this many times as many recent rows.
const MOST_RECENT: usize = 2;
/// A merge is due, too, when this share of the graph's rows are no hits any more: as many as a graph links past by itself.
const HIDDEN_SHARE: usize = 10;
/// Fewer of them are never worth a merge.
const LEAST_HIDDEN: usize = 32;
/// Recent rows are not merged but moved together while at most one in so many is live.
const COMPACTED: usize = 2;

/// The state of the rows, and of merges.
#[derive(Debug)]
pub(super) struct Writer {
    params: LiveParams,
    version: u64,
    base: Arc<Base>,
    mask: Mask,
    recent: Recent,
    /// Where the live recent rows are: by offset, their places.
    places: HashMap<u32, u64>,
    /// Offsets below `len` without a live row.
    free: BTreeSet<u32>,
    len: u32,
    /// What the running merge started from, and the place of the first recent row that it does not take in.
    merging: Option<(Arc<Snapshot>, u64)>,
    pub(super) merges: u64,
    /// Threads in [`keep_merging`](super::LiveIndex::keep_merging).
    pub(super) mergers: usize,
    pub(super) stopped: bool,
}

impl Writer {
    pub(super) fn new(base: Base, params: LiveParams) -> Self {
        let live = base.vectors.live();
        let len = base.vectors.len() as u32;
        Self {
            params,
            version: 0,
            mask: Mask::new(live.clone()),
            recent: Recent::new(base.vectors.metric(), base.vectors.dim()),
            places: HashMap::new(),
            free: (0..len).filter(|&offset| !live.contains(offset)).collect(),
            len,
            base: Arc::new(base),
            merging: None,
            merges: 0,
            mergers: 0,
            stopped: false,
        }
    }

    /// What readers are to see.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::new(Snapshot {
            version: self.version,
            base: Arc::clone(&self.base),
            mask: Arc::clone(self.mask.current()),
            recent: self.recent.clone(),
        })
    }

    /// Whether offsets stay below the limit.
    pub(super) fn has_room_for(&self, changes: &[Change<'_>]) -> bool {
        let farthest =
            |change: &Change<'_>| if let Change::Set(offset, _) = *change { offset as usize + 1 } else { 0 };
        let len = changes.iter().map(farthest).fold(self.len as usize, usize::max);
        let inserted = changes.iter().filter(|change| matches!(change, Change::Insert(_))).count();
        len + inserted.saturating_sub(self.free.len()) <= crate::MAX_ROWS
    }

    /// Makes the changes in order; gives the offsets of inserted rows, and whether anything changed.
    pub(super) fn apply(&mut self, changes: &[Change<'_>]) -> (Vec<u32>, bool) {
        let mut inserted = Vec::new();
        let mut changed = false;
        for change in changes {
            match *change {
                Change::Insert(vector) => {
                    let offset = self.free.first().copied().unwrap_or(self.len);
                    self.put(offset, vector);
                    inserted.push(offset);
                    changed = true;
                }
                Change::Set(offset, vector) => {
                    self.take(offset);
                    self.put(offset, vector);
                    changed = true;
                }
                Change::Remove(offset) => {
                    let was_live = self.take(offset);
                    if was_live {
                        self.free.insert(offset);
                    }
                    changed |= was_live;
                }
            }
        }
        self.recent.join();
        if self.merging.is_none()
            && self.recent.rows() >= self.limit()
            && self.recent.live() * COMPACTED <= self.recent.rows()
        {
            let places = &mut self.places;
            self.recent = self.recent.compacted(|offset, place| {
                places.insert(offset, place);
            });
        }
        self.version += u64::from(changed);
        (inserted, changed)
    }

    /// The row of an offset is no longer live; says whether it was.
    fn take(&mut self, offset: u32) -> bool {
        if let Some(place) = self.places.remove(&offset) {
            self.recent.remove(place);
            return true;
        }
        self.mask.remove(offset)
    }

    /// Gives an offset that has no live row one.
    fn put(&mut self, offset: u32, vector: &[f32]) {
        self.free.remove(&offset);
        self.free.extend(self.len..offset);
        self.len = self.len.max(offset + 1);
        let place = self.recent.push(offset, vector);
        self.places.insert(offset, place);
    }

    /// Recent rows from which on a merge is due.
    fn limit(&self) -> usize {
        let root = (self.base.vectors.live().count() as f64).sqrt();
        self.params.least_recent.max((RECENT_PER_ROOT * root) as usize)
    }

    /// Rows of the graph that are no hits any more.
    pub(super) fn hidden(&self) -> usize {
        self.base.vectors.live().count() - self.mask.current().count()
    }

    pub(super) fn recent(&self) -> &Recent {
        &self.recent
    }

    pub(super) fn is_merging(&self) -> bool {
        self.merging.is_some()
    }

    /// Whether it is time for a merge, and none runs.
    pub(super) fn is_merge_due(&self) -> bool {
        let hidden = self.hidden();
        let many_hidden = hidden >= LEAST_HIDDEN && hidden * HIDDEN_SHARE > self.base.vectors.live().count();
        !self.is_merging() && (self.recent.rows() >= self.limit() || many_hidden)
    }

    /// Whether there is anything that a merge would take in.
    pub(super) fn is_merge_possible(&self) -> bool {
        self.recent.rows() > 0 || self.hidden() > 0
    }

    /// Whether recent rows have become so many that searches would suffer.
    pub(super) fn is_full(&self) -> bool {
        self.recent.rows() >= MOST_RECENT * self.limit()
    }

    /// A merge of all that there is begins. What is written from now on is kept apart from it.
    pub(super) fn begin_merge(&mut self) -> Arc<Snapshot> {
        assert!(self.merging.is_none(), "one merge at a time");
        let place = self.recent.seal();
        let frozen = self.snapshot();
        self.merging = Some((Arc::clone(&frozen), place));
        frozen
    }

    /// The merge has become a graph, which takes the place of what it took in. What was deleted or overwritten meanwhile
    /// is no hit in it, and rows that came meanwhile stay recent. The version stays, since the rows do.
    pub(super) fn end_merge(&mut self, merged: Base) {
        let (frozen, place) = self.merging.take().expect("a merge began");
        let mut rows = merged.vectors.live().clone();
        let mask = self.mask.current();
        frozen.mask.iter().filter(|&row| !mask.contains(row)).for_each(|row| {
            rows.remove(row);
        });
        frozen.recent.gone_in(&self.recent).into_iter().for_each(|row| {
            rows.remove(row);
        });
        self.recent.drop_before(place);
        self.places.retain(|_, own| *own >= place);
        self.mask = Mask::new(rows);
        self.base = Arc::new(merged);
        self.merges += 1;
    }

    /// A merge came to nothing.
    pub(super) fn give_up_merge(&mut self) {
        self.merging = None;
    }

    /// Heap bytes of all that is held now, a running merge's copy included.
    pub(super) fn bytes(&self) -> usize {
        let copy = if self.is_merging() { self.base.bytes() } else { 0 };
        let own = self.places.capacity() * (size_of::<(u32, u64)>() + 1) + self.free.len() * size_of::<u32>();
        self.base.bytes() + copy + self.mask.bytes() + self.recent.bytes() + own
    }
}
