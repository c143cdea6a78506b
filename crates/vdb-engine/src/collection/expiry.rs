//! Points that cease to be at some time. A point whose time has come is deleted as by anybody else, so the log and other
//! processes know of it.

use super::{Collection, Durability};
use crate::point::Operation;
use crate::view::View;
use crate::workers::Work;
use crate::{Error, PointId};
use std::sync::atomic::Ordering;

/// Points that are deleted with one record.
const BATCH: usize = 1_000;

impl Collection {
    /// Deletes the points whose time is not after `now`, in milliseconds since 1970; says how many.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    ///
    /// # Complexity
    /// Looks through the rows of a segment only when the first of its times has come.
    pub fn expire(&self, now: u64) -> Result<usize, Error> {
        let ids = self.aside(Work::Seal, || expired(&self.view(), now))?;
        let mut count = 0;
        for batch in ids.chunks(BATCH) {
            let operations = batch.iter().map(|id| Operation::DeleteExpired(id.clone(), now)).collect();
            // A power failure brings them back until the next call; so nothing is lost by not waiting for the disk.
            let written = self.write(operations, Durability::Interval)?;
            count += batch.len() - written.skipped;
        }
        Ok(count)
    }
}

/// The points whose time has come.
fn expired(view: &View, now: u64) -> Result<Vec<PointId>, Error> {
    let mut ids = Vec::new();
    let has_come = |at: u64| (1..=now).contains(&at);
    for part in &view.parts {
        let segment = &part.segment;
        if segment.next_expiry.load(Ordering::Relaxed) > now {
            continue;
        }
        let mut next = u64::MAX;
        for row in part.live.iter() {
            match segment.expires(row) {
                at if has_come(at) => ids.push(segment.ids.id(row)?),
                0 => {}
                at => next = next.min(at),
            }
        }
        // Rows that this view does not know to be gone only make it look too early.
        segment.next_expiry.store(next, Ordering::Relaxed);
    }
    for head in &view.heads {
        if head.has_expiring() {
            let due = head.live().iter().filter(|row| has_come(head.point(*row).expires));
            ids.extend(due.map(|row| head.point(row).id.clone()));
        }
    }
    Ok(ids)
}
