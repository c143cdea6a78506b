//! Sealing: the points of a head become a segment, and the log's records that brought them are needed no more.

use super::join::without_the_gone;
use super::merge::is_provisional;
use super::state::{Left, State};
use super::{Collection, Durability, lock};
use crate::Error;
use crate::head::HeadView;
use crate::manifest::{Manifest, SegmentEntry, write_tombstones};
use crate::schema::{Field, Schema};
use crate::segment::{Content, Segment, write};
use crate::workers::Work;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use vdb_index::{Hnsw, Vectors};
use vdb_storage::SeqNo;

/// A writer is slowed down to about so many points a second when half of the points that may be without a graph are, and less
/// before it is stopped.
const INDEXED_A_SECOND: f64 = 10_000.0;
/// While somebody searches, writers are slowed down from so many points without a graph on, more and more, to a sixteenth of
/// that pace.
const MOST_UNLINKED: usize = 512;
const MOST_EXCESS: f64 = 16.0;
/// And by every segment beyond so many that waits for a merge.
const MOST_UNMERGED: usize = 1;
/// Where nobody searches, more points may be without a graph: the more are linked together, the less often is the graph copied
/// that they are linked to. So many times as many at least and at most, and in between as many as have so many bytes of vectors
/// as `f32`: the first search compares them within some tens of milliseconds.
const UNSEARCHED: (usize, usize) = (2, 8);
const UNSEARCHED_BYTES: usize = 256 << 20;

impl Collection {
    /// Whether the head has become too large.
    pub(super) fn is_seal_due(&self, state: &State) -> bool {
        let head = state.heads.last().expect("there is a head always");
        let points = head.now().rows() as usize;
        points >= self.settings.seal_points || head.bytes() >= self.settings.seal_bytes
    }

    /// Has a head sealed that has become too large, by whoever does such things.
    pub(super) fn make_room_soon(&self) -> Result<(), Error> {
        if self.is_in_background() {
            (self.wake.0)();
            return Ok(());
        }
        self.maintain().map(|_| ())
    }

    /// Slows a writer of some points down who is faster than graphs are built, and stops one who would leave so many points
    /// without a graph that searches become slow.
    pub(super) fn wait_for_room(&self, points: usize) -> Result<(), Error> {
        // Heads, and segments too small for a graph, leave so many without one whatever is done.
        let always =
            self.settings.seal_points.saturating_mul(2).saturating_add(self.settings.least_graph_rows);
        let mut slept = false;
        loop {
            let state = self.lock_state();
            let most = self.most_unindexed(&state.schema).max(always);
            let is_behind = state.heads.len() > 1 && self.is_seal_due(&state);
            let unindexed = state.unindexed(&self.settings);
            let is_linked = state.schema.has_graphs() && self.is_searched_lately();
            let from = if is_linked { MOST_UNLINKED.min(most / 2) } else { most / 2 };
            // Each of these is another graph to be walked, until a merge has taken it in.
            let unmerged = state.parts.iter().filter(|part| is_linked && is_provisional(part, &state.schema));
            let crowd = unmerged.count().saturating_sub(MOST_UNMERGED);
            // Nobody makes room when the database is being closed, which waits for writers.
            let is_full = (is_behind || unindexed >= most) && !self.is_closing.load(Ordering::Relaxed);
            if !is_full && (slept || (unindexed < from && crowd == 0)) {
                return Ok(());
            }
            if !self.is_in_background() {
                drop(state);
                if !is_full || !self.maintain()? {
                    return Ok(());
                }
                continue;
            }
            (self.wake.0)();
            if is_full {
                drop(self.room.wait_timeout(state, super::ROOM_INTERVAL));
            } else {
                drop(state);
                slept = true;
                let excess = unindexed.saturating_sub(from) as f64 / from.max(1) as f64 + crowd as f64;
                let excess = excess.min(MOST_EXCESS);
                std::thread::sleep(Duration::from_secs_f64(excess * points as f64 / INDEXED_A_SECOND));
            }
            if let Some(trouble) = lock(&self.trouble).take() {
                return Err(trouble);
            }
        }
    }

    /// The most points that may be without a graph for now.
    fn most_unindexed(&self, schema: &Schema) -> usize {
        let most = self.settings.most_unindexed;
        if !self.is_unsearched() {
            return most;
        }
        let (least, times) = UNSEARCHED;
        let fitting = UNSEARCHED_BYTES / (schema.linked_dimensions() * size_of::<f32>()).max(1);
        fitting.clamp(most.saturating_mul(least), most.saturating_mul(times))
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

    /// Writes the points that are in memory as a segment, whatever their number, and lets go of the log behind them; says
    /// whether there was anything to do.
    ///
    /// # Errors
    /// [`Error::Storage`]: the points stay where they are, and it is tried again at the next time.
    pub fn seal(&self) -> Result<bool, Error> {
        let _turn = lock(&self.sealing);
        self.log()?;
        let mut state = self.state()?;
        if state.frozen.is_none() && state.applied < state.log_from {
            return Ok(false);
        }
        let frozen = state.freeze();
        let (upto, head) = (frozen.upto, frozen.head.clone());
        let (epoch, schema) = (state.epoch, Arc::clone(&state.schema));
        drop(state);
        // The manifest will hold all records up to this one, so all of them must have become something.
        self.commit(upto, Durability::Sync)?;
        let head = self.linked(head, &schema)?;
        let number = (head.len() > 0).then(|| self.take_blob_number());
        let write = |number| {
            self.write_head(number, &head, &schema)?;
            self.open_segment(number, &schema)
        };
        let segment = number.map(|number| self.aside(Work::Seal, || write(number))).transpose();
        let sealed = segment.and_then(|segment| self.finish_seal(upto, epoch, &head, segment));
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
        let fields: Vec<_> = fields.map(|field| self.sealed_field(head, &rows, field)).collect();
        let content = Content {
            ids: &ids,
            versions: &versions,
            expires: &expires,
            payload_lengths: &payload_lengths,
            payload: &|row| Ok(&head.point(rows[row]).payload),
            fields: &fields,
            schema,
            least_rows: self.settings.least_graph_rows,
        };
        write(self.backend.blobs(), number, &content)
    }

    /// The vectors of a field, with the graph that the head has for them if it is over all of them.
    fn sealed_field(&self, head: &HeadView, rows: &[u32], field: &Field) -> (u32, Vectors, Option<Hnsw>) {
        let vectors = vectors_of(head, rows, field);
        let graph = head.graph(field.number).filter(|graph| {
            graph.vectors.len() == head.rows() as usize
                && vectors.live().count() >= self.settings.least_graph_rows
        });
        let hnsw = graph.map(|graph| {
            if rows.len() == graph.vectors.len() && graph.hnsw.live_count() == vectors.live().count() {
                return graph.hnsw.clone();
            }
            // Some are gone, so rows have other numbers in the segment.
            let mut places = vec![None; graph.vectors.len()];
            (0u32..).zip(rows).for_each(|(place, row)| places[*row as usize] = Some(place));
            let is_left = |row: u32| places[row as usize].is_some();
            without_the_gone(graph.vectors.clone(), &graph.hnsw, is_left).renumbered(&places)
        });
        (field.number, vectors, hnsw)
    }

    fn finish_seal(
        &self,
        upto: SeqNo,
        epoch: u64,
        head: &HeadView,
        segment: Option<Arc<Segment>>,
    ) -> Result<(), Error> {
        let number = segment.as_ref().map(|segment| segment.number);
        // As long as this is held, no merge exchanges segments, and the state is not made again.
        let mut current = self.current();
        let state = self.lock_state();
        let left = match &state.frozen {
            Some(frozen) if state.epoch == epoch => frozen.left.clone(),
            // The state was made again meanwhile: the points are in its head, and the segment is nobody's.
            _ => return Ok(()),
        };
        drop(state);
        let mut manifest = current.manifest.clone();
        let tombstones = self.write_left(&mut manifest, &left)?;
        let rows = head.len() as u64;
        manifest.segments.extend(number.map(|number| SegmentEntry {
            number,
            rows,
            live: rows,
            tombstones: 0,
        }));
        manifest.log_from = upto.next();
        let published = self.publish_manifest(&mut current, manifest);
        tombstones.into_iter().for_each(|number| self.blob_is_finished(number));
        published?;
        let mut state = self.lock_state();
        state.thaw(segment);
        let view = state.view();
        drop(state);
        drop(current);
        self.publish(view)
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
