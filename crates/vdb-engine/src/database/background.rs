//! Threads that seal, build graphs, merge and pin for all collections of a database: one each, so that heads never wait for a
//! merge, nor, while somebody searches, new points for their graph. What takes long they hand to [`Workers`](crate::workers::Workers).

use super::status::StatusFile;
use crate::workers::Priority;
use crate::{Collection, Error};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long after a write of interval durability it is made durable, at the latest.
const SYNC_INTERVAL: Duration = Duration::from_millis(100);
/// How long views stay that were replaced: longer than a search.
const RETIRED_FOR: Duration = Duration::from_millis(10);

#[derive(Debug, Default)]
pub(super) struct Signal {
    state: Mutex<Wanted>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Wanted {
    collections: Vec<Weak<Collection>>,
    /// Counts calls; each thread remembers how far it came.
    calls: u64,
    stopped: bool,
}

impl Signal {
    fn lock(&self) -> std::sync::MutexGuard<'_, Wanted> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There may be something to do.
    pub(super) fn wake(&self) {
        self.lock().calls += 1;
        self.changed.notify_all();
    }

    pub(super) fn add(&self, collection: &Arc<Collection>) {
        let mut wanted = self.lock();
        wanted.collections.retain(|one| one.strong_count() > 0);
        wanted.collections.push(Arc::downgrade(collection));
        drop(wanted);
        self.wake();
    }

    /// Waits for a call after the first `seen`, or for the interval to end; the collections, or `None` at the end.
    fn wait(&self, seen: &mut u64) -> Option<Vec<Arc<Collection>>> {
        let mut wanted = self.lock();
        if wanted.calls == *seen && !wanted.stopped {
            wanted =
                self.changed.wait_timeout(wanted, SYNC_INTERVAL).unwrap_or_else(PoisonError::into_inner).0;
        }
        *seen = wanted.calls;
        (!wanted.stopped).then(|| wanted.collections.iter().filter_map(Weak::upgrade).collect())
    }
}

/// The threads; they come back when this is dropped.
#[derive(Debug)]
pub(super) struct Background {
    signal: Arc<Signal>,
    threads: Vec<JoinHandle<()>>,
}

impl Background {
    /// Starts a thread that pins, for collections that were opened to read only.
    pub(super) fn start_pinning(signal: Arc<Signal>) -> Result<Self, Error> {
        // Nobody writes here, so it may do that itself, at a low priority.
        let low = std::sync::Once::new();
        let pin = start(&signal, "vdb-pin", move |collection| {
            low.call_once(|| Priority::Low.take());
            Ok(collection.pin_if_searched())
        })?;
        Ok(Self { signal, threads: vec![pin] })
    }

    /// Starts the threads.
    pub(super) fn start(
        signal: Arc<Signal>,
        clock: Arc<dyn Fn() -> u64 + Send + Sync>,
        status: StatusFile,
    ) -> Result<Self, Error> {
        let seal = start(&signal, "vdb-seal", move |collection| {
            // In this order: a write may wait for the head to be sealed, which nobody else does.
            let sealed = collection.seal_due()?;
            collection.expire(clock())?;
            Ok(sealed)
        })?;
        let index = start(&signal, "vdb-index", |collection| {
            // Points that nobody searches are linked once, by a merge.
            Ok(collection.link_due()? | (collection.is_searched_lately() && collection.index_due()?))
        })?;
        let merge = start(&signal, "vdb-merge", |collection| {
            Ok(collection.optimize_if_asked() | collection.merge_due()?)
        })?;
        let pin = start(&signal, "vdb-pin", |collection| {
            collection.release_retired(RETIRED_FOR);
            Ok(collection.pin_if_searched())
        })?;
        let tell = start_telling(&signal, status)?;
        Ok(Self { signal, threads: vec![seal, index, merge, pin, tell] })
    }
}

/// Starts a thread that does some work for every collection whenever it is called.
fn start(
    signal: &Arc<Signal>,
    name: &str,
    work: impl Fn(&Collection) -> Result<bool, Error> + Send + 'static,
) -> Result<JoinHandle<()>, Error> {
    let signal = Arc::clone(signal);
    let run = move || {
        let mut seen = 0;
        while let Some(collections) = signal.wait(&mut seen) {
            for collection in collections {
                match work(&collection) {
                    Ok(true) => signal.wake(),
                    Ok(false) => {}
                    Err(error) => collection.set_trouble(error),
                }
            }
        }
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(Error::thread)
}

/// Starts a thread that tells other processes of the work of the others.
fn start_telling(signal: &Arc<Signal>, mut status: StatusFile) -> Result<JoinHandle<()>, Error> {
    let signal = Arc::clone(signal);
    let run = move || {
        let mut seen = 0;
        while let Some(collections) = signal.wait(&mut seen) {
            let progress: Vec<_> = collections.iter().flat_map(|collection| collection.progress()).collect();
            status.tell(&progress);
        }
    };
    std::thread::Builder::new().name("vdb-status".to_owned()).spawn(run).map_err(Error::thread)
}

impl Drop for Background {
    fn drop(&mut self) {
        self.signal.lock().stopped = true;
        self.signal.changed.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}
