//! An index that is searched while it is written: readers never wait, and each sees one version of all rows.
//!
//! # The protocol
//!
//! All that readers see is one pointer to a [`Snapshot`], which never changes: a sealed graph ([`Hnsw`] and its
//! [`Vectors`]), which of its rows are hits still, and the rows written since, which are searched exactly. A reader loads the
//! pointer once, without a lock, and searches what it points to. Memory is given back when the last holder lets go of it.
//!
//! Writers hold one mutex. A write (one change, or a batch of them) makes the next snapshot, publishes it by storing
//! the pointer, and returns: so it is visible as a whole, to every search that begins after it returned. Parts that did not
//! change are shared with the snapshot before: the graph, blocks of recent rows, the set of hits.
//!
//! A merge moves recent rows into the graph. Under the mutex it takes the snapshot of now and notes where later rows
//! begin; without it, it changes a copy of the graph; under the mutex again, it takes out of the copy's hits what was
//! overwritten or deleted meanwhile, keeps the later rows recent, and publishes. A merge changes no row, so the version
//! stays. At most one merge runs.
//!
//! The mutex is held for a time that depends on the change and on the number of recent rows, not on the graph, but
//! for the end of a merge, which goes through a bit a row.
//!
//! # When merges are due
//!
//! A recent row costs each search a comparison of its values, c. A merge costs M for each row of the graph, whatever it
//! takes in: the row is copied, and its links are looked at a few times. With n rows in the graph and a merge at every r
//! recent ones, a search pays c · r / 2 on average and a written row pays M · n / r. For s searches a write the sum is
//! least at r = √(2 M n / (s c)). On fashion-mnist-784 M is 1.1 µs (in memory that the process has used before) and
//! c 0.05 µs; where rows are shorter both are less. M / c is taken as 30 and s as 15, which makes r = 2 √n. Searches are to
//! be the more frequent ones; with fewer, writes cost a little more than they need to.

mod mask;
mod merge;
#[cfg(test)]
mod protocol;
mod recent;
mod snapshot;
mod sync;
mod writer;

pub use mask::Mask as RowMask;
pub use recent::Recent as RecentRows;
pub use snapshot::Snapshot;

use crate::{Hnsw, HnswParams, Vectors};
use snapshot::Base;
use std::sync::Arc;
use sync::{Condvar, Mutex, MutexGuard, Published, yield_now};
use vdb_distance::Metric;
use writer::Writer;

/// How often a merge yields to readers of the graph that it replaced, so that not one of them has to free it.
const YIELDS: usize = 1_000;

/// Parameters of a live index, fixed when it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveParams {
    /// Of the graph.
    pub hnsw: HnswParams,
    /// Fewer recent rows than this are never merged. More: fewer copies of the graph, slower searches between them.
    /// Default 256, which take no longer to compare than a walk does.
    pub least_recent: usize,
}

impl Default for LiveParams {
    fn default() -> Self {
        Self { hnsw: HnswParams::default(), least_recent: 256 }
    }
}

/// A change of one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change<'a> {
    /// A new row, at the smallest offset that is free.
    Insert(&'a [f32]),
    /// The row at an offset, whether there was one or not. Memory is held for all offsets below, in use or not.
    Set(u32, &'a [f32]),
    /// No row at an offset; nothing happens where there is none.
    Remove(u32),
}

/// What a write did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The first version that holds it.
    pub version: u64,
    /// Where the inserted rows are, in their order.
    pub offsets: Vec<u32>,
}

/// What a live index holds at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveStats {
    /// Writes so far.
    pub version: u64,
    /// Live rows.
    pub live: usize,
    /// Rows that are not in the graph yet, those overwritten or deleted meanwhile included.
    pub recent: usize,
    /// Rows of the graph that are no hits any more.
    pub hidden: usize,
    /// Merges so far.
    pub merges: u64,
    /// Whether a merge is running.
    pub is_merging: bool,
    /// Heap bytes; kept snapshots of before are not counted.
    pub bytes: usize,
}

/// Rows in a graph, searched by any number of threads while others write.
///
/// ```
/// use vdb_distance::Metric;
/// use vdb_index::{Change, LiveIndex, LiveParams, Request};
///
/// let index = LiveIndex::new(Metric::Euclidean, 2, LiveParams::default());
/// let written = index.write(&[Change::Insert(&[0.0, 1.0]), Change::Insert(&[5.0, 5.0])]);
/// let before = index.snapshot();
/// index.write(&[Change::Remove(written.offsets[0])]);
///
/// let request = Request::new(&[0.0, 0.0], 1);
/// assert_eq!(before.search(&request, 64).hits[0].offset, 0);
/// index.read(|now| {
///     assert_eq!(now.version(), 2);
///     assert_eq!(now.search(&request, 64).hits[0].offset, 1);
/// });
/// ```
///
/// No thread is started here. Merges run in the write that makes them due, or, so that no write waits for them, on a
/// thread that the caller lends to [`keep_merging`](Self::keep_merging). Parallel work of a merge, and of exact scans
/// of many rows, runs in the current rayon pool: give the lent thread a pool of its own, else scans queue behind merges.
///
/// Merges are due at max([`least_recent`](LiveParams::least_recent), 2 √n) recent rows for n rows in the graph, and
/// when a tenth of the graph's rows are no hits any more. Writes wait when there are twice as many recent rows.
/// While a merge runs, and until the last search of the graph before is over, there are two graphs in memory.
#[derive(Debug)]
pub struct LiveIndex {
    published: Published<Snapshot>,
    writer: Mutex<Writer>,
    /// A merge became due or ended, or lent threads are to come back.
    changed: Condvar,
    dim: usize,
}

impl LiveIndex {
    /// An empty index of vectors of `dim` values.
    ///
    /// # Panics
    /// When `dim` is 0 or parameters of the graph are out of range.
    pub fn new(metric: Metric, dim: usize, params: LiveParams) -> Self {
        Self::from_graph(Vectors::new(metric, dim), Hnsw::new(params.hnsw), params.least_recent)
    }

    /// An index that starts with a graph over all live rows of `vectors`.
    ///
    /// # Panics
    /// When the graph is over another number of rows.
    pub fn from_graph(vectors: Vectors, hnsw: Hnsw, least_recent: usize) -> Self {
        let params = LiveParams { hnsw: *hnsw.params(), least_recent };
        let (rows, nodes) = (vectors.live().count(), hnsw.live_count());
        assert_eq!(nodes, rows, "{nodes} live nodes for {rows} live rows");
        let dim = vectors.dim();
        let writer = Writer::new(Base { vectors, hnsw }, params);
        let published = Published::new(writer.snapshot());
        Self { published, writer: Mutex::new(writer), changed: Condvar::new(), dim }
    }

    /// Runs `work`, searches as a rule, with the rows of now. It never waits for writers or merges.
    pub fn read<R>(&self, work: impl FnOnce(&Snapshot) -> R) -> R {
        self.published.read(work)
    }

    /// The rows of now, to be kept for a while. It never waits for writers or merges.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.published.get()
    }

    /// Makes the changes in order, all of them or none. When this returns, every search that begins sees all of them, and
    /// no search ever sees some of them.
    ///
    /// Writers take turns. A write that makes a merge due runs it before it returns, unless a thread is lent to
    /// [`keep_merging`](Self::keep_merging); it waits for that one when recent rows have become too many.
    ///
    /// # Panics
    /// When a vector has another dimension, or there are more rows than [`MAX_ROWS`](crate::MAX_ROWS); nothing was changed
    /// then.
    pub fn write(&self, changes: &[Change<'_>]) -> Written {
        for change in changes {
            if let Change::Insert(vector) | Change::Set(_, vector) = change {
                assert_eq!(vector.len(), self.dim, "dimension of a written vector");
            }
        }
        let mut writer = self.lock();
        while writer.is_full() {
            if writer.is_merging() {
                writer = self.wait(writer);
            } else {
                drop(writer);
                self.merge_if(Writer::is_full);
                writer = self.lock();
            }
        }
        if !writer.has_room_for(changes) {
            // First, so that later writers do not find the mutex poisoned.
            drop(writer);
            panic!("more than {} rows", crate::MAX_ROWS);
        }
        let (offsets, changed) = writer.apply(changes);
        let snapshot = writer.snapshot();
        let version = snapshot.version;
        if changed {
            self.published.publish(snapshot);
        }
        let is_due = writer.is_merge_due();
        let is_lent = writer.mergers > 0;
        drop(writer);
        if is_due && is_lent {
            self.changed.notify_all();
        } else if is_due {
            self.merge_if(Writer::is_merge_due);
        }
        Written { version, offsets }
    }

    /// Adds a row and gives its offset; see [`write`](Self::write).
    ///
    /// # Panics
    /// When the vector has another dimension.
    pub fn insert(&self, vector: &[f32]) -> u32 {
        self.write(&[Change::Insert(vector)]).offsets[0]
    }

    /// Moves all that was written before this call into the graph, in the current rayon pool.
    pub fn merge(&self) {
        let mut writer = self.lock();
        while writer.is_merging() {
            writer = self.wait(writer);
        }
        drop(writer);
        self.merge_if(|writer| writer.is_merge_possible() && !writer.is_merging());
    }

    /// Lends this thread to the index: it runs the merges that become due until [`stop_merging`](Self::stop_merging).
    pub fn keep_merging(&self) {
        let lent = Lent::new(self);
        let mut writer = self.lock();
        while !writer.stopped {
            if writer.is_merge_due() {
                drop(writer);
                self.merge_if(Writer::is_merge_due);
                writer = self.lock();
            } else {
                writer = self.wait(writer);
            }
        }
        drop(writer);
        drop(lent);
    }

    /// Lent threads come back when their merge is over, and [`keep_merging`](Self::keep_merging) returns at once from now on.
    pub fn stop_merging(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    /// What is held at the moment.
    pub fn stats(&self) -> LiveStats {
        let writer = self.lock();
        let snapshot = writer.snapshot();
        LiveStats {
            version: snapshot.version(),
            live: snapshot.len(),
            recent: writer.recent().rows(),
            hidden: writer.hidden(),
            merges: writer.merges,
            is_merging: writer.is_merging(),
            bytes: writer.bytes(),
        }
    }

    /// Merges what there is if `wanted` holds, which is asked under the mutex.
    fn merge_if(&self, wanted: impl FnOnce(&Writer) -> bool) {
        let mut writer = self.lock();
        if writer.is_merging() || !wanted(&writer) {
            return;
        }
        let frozen = writer.begin_merge();
        drop(writer);
        let running = Running { index: self, is_over: false };
        let merged = merge::merged(&frozen);
        running.end(merged);
        // The graph before is freed here, not by the reader who is the last to leave it, unless that one stays.
        for _ in 0..YIELDS {
            if Arc::strong_count(&frozen.base) == 1 {
                break;
            }
            yield_now();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().expect("a writer panicked halfway")
    }

    fn wait<'a>(&self, writer: MutexGuard<'a, Writer>) -> MutexGuard<'a, Writer> {
        self.changed.wait(writer).expect("a writer panicked halfway")
    }
}

/// A merge between its begin and its end; one that panics is given up.
struct Running<'a> {
    index: &'a LiveIndex,
    is_over: bool,
}

impl Running<'_> {
    fn end(mut self, merged: Base) {
        let mut writer = self.index.lock();
        writer.end_merge(merged);
        self.index.published.publish(writer.snapshot());
        // Another merge may begin as soon as the mutex is free.
        self.is_over = true;
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.is_over
            && let Ok(mut writer) = self.index.writer.lock()
        {
            writer.give_up_merge();
        }
        self.index.changed.notify_all();
    }
}

/// A thread that is lent for merges.
struct Lent<'a>(&'a LiveIndex);

impl<'a> Lent<'a> {
    fn new(index: &'a LiveIndex) -> Self {
        index.lock().mergers += 1;
        Self(index)
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Ok(mut writer) = self.0.writer.lock() {
            writer.mergers -= 1;
        }
    }
}
