//! What walks read most, in memory of its own while the budget has room for it.

use super::{Collection, lock};
use crate::Error;
use crate::budget::Reserved;
use crate::schema::Schema;
use crate::segment::Segment;
use crate::workers::Work;
use std::sync::Arc;
use std::time::Duration;

impl Collection {
    /// Copies what walks of graphs read most into memory, on huge pages where the system grants them, as far as the memory budget
    /// has room for it: a fifth faster searches. A database's background thread does this once somebody searches.
    /// Says whether there was anything to copy.
    pub fn pin(&self) -> bool {
        let _turn = lock(&self.pinning);
        let view = self.view();
        let pinned = || view.parts.iter().filter_map(|part| part.segment.pinned(&self.budget)).collect();
        let pinned: Vec<Segment> = self.aside(Work::Pin, pinned);
        let is_some = !pinned.is_empty();
        // A view that cannot be published holds a write that fails; the next one has the pinned segments, too.
        let _ = self.replace(pinned);
        is_some
    }

    /// As [`pin`](Self::pin), once somebody has searched.
    pub(crate) fn pin_if_searched(&self) -> bool {
        self.is_searched() && self.pin()
    }

    /// Opens a segment that was just written. Where somebody searches, what walks read most is in memory before they get to see
    /// it: through a new mapping, each page costs the first of them a fault.
    pub(super) fn open_segment(&self, number: u64, schema: &Schema) -> Result<Arc<Segment>, Error> {
        let segment = Segment::open(self.backend.blobs(), number, schema)?;
        let pinned = if self.is_searched_lately() { segment.pinned(&self.budget) } else { None };
        Ok(Arc::new(pinned.unwrap_or(segment)))
    }

    /// Reserves memory in the place of what is pinned, which is let go as soon as nobody searches it.
    pub(super) fn reserve_unpinning(&self, bytes: u64) -> Result<Option<Reserved>, Error> {
        let _turn = lock(&self.pinning);
        let view = self.view();
        let pinned = view.parts.iter().filter(|part| part.segment.is_pinned());
        self.replace(pinned.map(|part| part.segment.unpinned(&view.schema)).collect::<Result<_, Error>>()?)?;
        drop(view);
        self.release_retired(Duration::ZERO);
        Ok(self.budget.reserve(bytes))
    }

    /// Puts segments in the place of those of the same numbers, which hold the same.
    fn replace(&self, segments: Vec<Segment>) -> Result<(), Error> {
        if segments.is_empty() {
            return Ok(());
        }
        let mut state = self.lock_state();
        for segment in segments {
            if let Some(part) = state.parts.iter_mut().find(|part| part.segment.number == segment.number) {
                part.segment = Arc::new(segment);
            }
        }
        state.generation += 1;
        let view = state.view();
        drop(state);
        self.publish(view)
    }
}
