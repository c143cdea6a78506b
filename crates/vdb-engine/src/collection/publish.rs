//! The view that readers see, and those that were it before.
//!
//! The last one to let go of a view unmaps files and frees the points of a head, which takes milliseconds. No search and no
//! write is to be that one: a view that is replaced by one with other segments or heads is retired, and a thread of the
//! background lets go of it when searches that began before are over.

use super::{Collection, lock};
use crate::Error;
use crate::view::View;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vdb_storage::SeqNo;

impl Collection {
    /// Makes a view the one that readers see, unless a newer one is, as soon as all records in it are in the log.
    pub(super) fn publish(&self, view: Arc<View>) -> Result<(), Error> {
        let pending = self.commits.wait_until(SeqNo(view.version));
        if pending.failed {
            drop(pending);
            // A record before this one failed, so the view is wrong; the state that is made again holds this one.
            return self.recover();
        }
        let before = {
            let published = self.published.load();
            let is_newer = (view.version, view.generation) > (published.version, published.generation);
            is_newer.then(|| Arc::clone(&published))
        };
        let Some(before) = before else { return Ok(()) };
        let generation = view.generation;
        self.published.store(view);
        drop(pending);
        if before.generation != generation && self.is_in_background() {
            lock(&self.retired).push_back((Instant::now(), before));
        }
        Ok(())
    }

    /// Lets go of views that were replaced so long ago.
    pub(crate) fn release_retired(&self, age: Duration) {
        let mut retired = lock(&self.retired);
        let old = retired.iter().take_while(|(since, _)| since.elapsed() >= age).count();
        let released: Vec<_> = retired.drain(..old).collect();
        drop(retired);
        drop(released);
    }
}
