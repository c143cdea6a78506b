//! Which records are on their way into the log.
//!
//! A writer applies its record to the state, lets go of the state's lock, and waits for the log. What it may publish after
//! that holds the effects of all records before its own; so it waits for those, too, which the log writes no later. When one
//! of them failed, the state is wrong, and nothing is published that was made of it: `failed` stays until a recovery.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use vdb_storage::SeqNo;

#[derive(Debug, Default)]
pub(super) struct Commits {
    pending: Mutex<Pending>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct Pending {
    records: BTreeSet<SeqNo>,
    /// A record failed that the state holds.
    pub(super) failed: bool,
}

impl Commits {
    pub(super) fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A record was appended, under the state's lock.
    pub(super) fn begin(&self, record: SeqNo) {
        self.lock().records.insert(record);
    }

    /// It is in the log, or is not.
    pub(super) fn end(&self, record: SeqNo, is_ok: bool) {
        let mut pending = self.lock();
        pending.records.remove(&record);
        pending.failed |= !is_ok;
        drop(pending);
        self.changed.notify_all();
    }

    /// Waits for the records up to this one; the guard says whether one failed.
    pub(super) fn wait_until(&self, record: SeqNo) -> MutexGuard<'_, Pending> {
        let mut pending = self.lock();
        while pending.records.first().is_some_and(|first| *first <= record) {
            pending = self.changed.wait(pending).unwrap_or_else(PoisonError::into_inner);
        }
        pending
    }
}
