//! Sealing: the points of a head become a segment, and the log's records that brought them are needed no more.

use super::state::{LivePart, State};
use super::{Collection, Durability, lock};
use crate::Error;
use crate::head::HeadView;
use crate::manifest::{Manifest, SegmentEntry, write_tombstones};
use crate::schema::{Field, Schema};
use crate::segment::{Content, Segment, write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use vdb_index::{BitSet, RowMask, Vectors};

/// Which rows of a segment are left.
pub(super) type Left = (u64, Arc<BitSet>);

impl Collection {
    /// Whether the head has become too large.
    pub(super) fn is_seal_due(&self, state: &State) -> bool {
        let head = state.heads.last().expect("there is a head always");
        let points = head.now().rows() as usize;
        points >= self.settings.seal_points || head.bytes() >= self.settings.seal_bytes
    }

    /// Has a head sealed that has become too large, by whoever does such things.
    pub(super) fn make_room_soon(&self) -> Result<(), Error> {
        if self.background.load(Ordering::Relaxed) {
            (self.wake.0)();
            return Ok(());
        }
        self.maintain().map(|_| ())
    }

    /// Waits, or works, while the head is far too large or far too many points are without a graph.
    pub(super) fn wait_for_room(&self) -> Result<(), Error> {
        loop {
            let state = self.lock_state();
            let is_behind = state.heads.len() > 1 && self.is_seal_due(&state);
            if !is_behind && state.unindexed(&self.settings) < self.settings.most_unindexed {
                return Ok(());
            }
            if self.background.load(Ordering::Relaxed) {
                (self.wake.0)();
                drop(self.room.wait_timeout(state, super::ROOM_INTERVAL));
                if let Some(trouble) = lock(&self.trouble).take() {
                    return Err(trouble);
                }
            } else {
                drop(state);
                if !self.maintain()? {
                    return Ok(());
                }
            }
        }
    }

    /// Seals the head if it is due, and syncs the log; says whether it was.
    pub(crate) fn seal_due(&self) -> Result<bool, Error> {
        if self.unsynced.swap(false, Ordering::Relaxed) {
            self.flush()?;
        }
        let is_due = {
            let state = self.state()?;
            self.is_seal_due(&state) || state.frozen.is_some()
        };
        if is_due { self.seal() } else { Ok(false) }
    }

    /// What went wrong in the background.
    pub(crate) fn set_trouble(&self, error: Error) {
        *lock(&self.trouble) = Some(error);
        self.room.notify_all();
    }

    /// From now on somebody seals and merges in the background.
    pub(crate) fn has_background(&self) {
        self.background.store(true, Ordering::Relaxed);
    }

    /// Writes the points that are in memory as a segment, whatever their number, and lets go of the log behind them; says
    /// whether there was anything to do.
    ///
    /// # Errors
    /// [`Error::Storage`]: the points stay where they are, and it is tried again at the next time.
    pub fn seal(&self) -> Result<bool, Error> {
        self.log()?;
        let _turn = lock(&self.sealing);
        let mut state = self.state()?;
        if state.frozen.is_none() && state.applied < state.log_from {
            return Ok(false);
        }
        let upto = state.freeze();
        let (until, epoch, schema) = (state.applied, state.epoch, Arc::clone(&state.schema));
        let head = state.heads[0].view();
        let left: Vec<Left> = state.left().collect();
        drop(state);
        // What the manifest holds must not be lost by a log that ends before.
        self.commit(until, Durability::Sync)?;
        let number = (head.len() > 0).then(|| self.take_blob_number());
        let written = number.map_or(Ok(()), |number| self.write_head(number, &head, &schema));
        let sealed = written.and_then(|()| self.finish_seal(upto, epoch, &head, number, &left));
        number.into_iter().for_each(|number| self.blob_is_finished(number));
        sealed?;
        self.log()?.trim(upto.next())?;
        self.collect_garbage()?;
        self.room.notify_all();
        Ok(true)
    }

    fn write_head(&self, number: u64, head: &HeadView, schema: &Schema) -> Result<(), Error> {
        let rows: Vec<u32> = head.live().iter().collect();
        let points = || rows.iter().map(|row| head.point(*row));
        let ids: Vec<_> = points().map(|point| point.id.clone()).collect();
        let versions: Vec<u64> = points().map(|point| point.version).collect();
        let expires: Vec<u64> = points().map(|point| point.expires).collect();
        let payload_lengths: Vec<u32> = points().map(|point| point.payload.len() as u32).collect();
        let fields = schema.fields.iter().filter(|field| head.vectors(field.number) > 0);
        let fields: Vec<_> = fields.map(|field| (field.number, vectors_of(head, &rows, field), None)).collect();
        let content = Content {
            ids: &ids,
            versions: &versions,
            expires: &expires,
            payload_lengths: &payload_lengths,
            payload: &|row| Ok(&head.point(rows[row]).payload),
            fields: &fields,
        };
        write(self.backend.blobs(), number, &content)
    }

    fn finish_seal(
        &self,
        upto: vdb_storage::SeqNo,
        epoch: u64,
        head: &HeadView,
        number: Option<u64>,
        left: &[Left],
    ) -> Result<(), Error> {
        let mut current = self.current();
        let mut manifest = current.manifest.clone();
        let left = self.with_merged(&manifest, left)?;
        let written = self.write_left(&mut manifest, &left);
        let published = written.and_then(|tombstones| {
            let rows = head.len() as u64;
            manifest.segments.extend(number.map(|number| SegmentEntry { number, rows, live: rows, tombstones: 0 }));
            manifest.log_from = upto.next();
            let published = self.publish_manifest(&mut current, manifest);
            tombstones.into_iter().for_each(|number| self.blob_is_finished(number));
            published
        });
        published?;
        let opened = number.map(|number| Segment::open(self.backend.blobs(), number, &current.manifest.schema));
        let opened = opened.transpose();
        let mut state = self.lock_state();
        let segment = match opened {
            Ok(segment) if state.epoch == epoch => segment,
            opened => {
                // The state was made again meanwhile, of the manifest before; or it can't take the segment in.
                self.commits.lock().failed = true;
                drop(state);
                drop(current);
                opened?;
                return self.recover();
            }
        };
        if let Some(segment) = segment {
            let now = state.heads[0].now().live();
            let mut rows = BitSet::new(segment.rows());
            (0..).zip(head.live().iter()).filter(|(_, row)| now.contains(*row)).for_each(|(place, _)| {
                rows.insert(place);
            });
            state.parts.push(LivePart { segment: Arc::new(segment), mask: RowMask::new(rows) });
        }
        state.thaw(upto.next());
        let view = state.view();
        drop(state);
        drop(current);
        self.commit(vdb_storage::SeqNo(view.version), Durability::None)?;
        self.publish(view)
    }

    /// Which rows are left, of a segment that a merge has made meanwhile, too: what its manifest says of it may be older than the
    /// records that this one leaves behind. Merges wait as long as the caller holds the manifest's lock.
    fn with_merged(&self, manifest: &Manifest, left: &[Left]) -> Result<Vec<Left>, Error> {
        let mut left = left.to_vec();
        let is_known = |left: &[Left], number: u64| left.iter().any(|(own, _)| *own == number);
        if manifest.segments.iter().any(|entry| !is_known(&left, entry.number)) {
            let state = self.lock_state();
            let until = state.applied;
            let now: Vec<Left> = state.left().filter(|(number, _)| !is_known(&left, *number)).collect();
            drop(state);
            left.extend(now);
            // Rows of which it says that they are gone must be gone for good.
            self.commit(until, Durability::Sync)?;
        }
        Ok(left)
    }

    /// Writes which rows are left of those segments of a manifest of which it says otherwise. Gives the numbers of the
    /// blobs, which are to be [finished](Self::blob_is_finished) after the manifest is published.
    pub(super) fn write_left(&self, manifest: &mut Manifest, left: &[Left]) -> Result<Vec<u64>, Error> {
        let mut numbers = Vec::new();
        for entry in &mut manifest.segments {
            let Some((_, rows)) = left.iter().find(|(number, _)| *number == entry.number) else { continue };
            if rows.count() as u64 == entry.live {
                continue;
            }
            let number = self.take_blob_number();
            numbers.push(number);
            if let Err(error) = write_tombstones(self.backend.blobs(), number, rows) {
                numbers.into_iter().for_each(|number| self.blob_is_finished(number));
                return Err(error);
            }
            entry.tombstones = number;
            entry.live = rows.count() as u64;
        }
        Ok(numbers)
    }
}

/// The vectors of some rows of a head, in their order.
fn vectors_of(head: &HeadView, rows: &[u32], field: &Field) -> Vectors {
    let mut vectors = Vectors::new(field.config.metric, field.config.dim);
    vectors.reserve(rows.len());
    for row in rows {
        match head.vector(*row, field.number) {
            Some(vector) => vectors.push(&vector),
            None => vectors.push_missing(),
        };
    }
    vectors
}
