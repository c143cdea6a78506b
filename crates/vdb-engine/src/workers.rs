//! Threads for work that takes long: they run when searches and writes leave them a processor.
//!
//! Who hands work to them waits at a priority of its own, and takes the locks that writers want itself: a thread that does
//! not get to run for some tens of milliseconds holds none of them.

use crate::Error;
use rayon::ThreadPool;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    Seal,
    Index,
    Merge,
    Pin,
}

/// A pool for each kind of work. In one for all, a thread that waits for a step of its own work takes up other work, and a
/// graph of a few points, which writers wait for, is done only when a merge is.
#[derive(Debug)]
pub(crate) struct Workers {
    seal: ThreadPool,
    index: ThreadPool,
    merge: ThreadPool,
    pin: ThreadPool,
}

impl Workers {
    /// So many threads for each kind, but for pinning, which takes one.
    pub(crate) fn new(threads: usize) -> Result<Self, Error> {
        let pool = |name: &'static str, threads: usize, priority: Priority| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .thread_name(move |number| format!("{name}-{number}"))
                .start_handler(move |_| priority.take())
                .build()
                .map_err(|error| Error::thread(std::io::Error::other(error)))
        };
        Ok(Self {
            seal: pool("vdb-seal", threads, Priority::Low)?,
            index: pool("vdb-index", threads, Priority::Low)?,
            merge: pool("vdb-merge", threads, Priority::Lowest)?,
            pin: pool("vdb-pin", 1, Priority::Low)?,
        })
    }

    /// Does some work on its threads, and waits. The work must not ask for threads itself.
    pub(crate) fn run<R: Send>(&self, kind: Work, work: impl FnOnce() -> R + Send) -> R {
        let pool = match kind {
            Work::Seal => &self.seal,
            Work::Index => &self.index,
            Work::Merge => &self.merge,
            Work::Pin => &self.pin,
        };
        if rayon::current_thread_index().is_none() {
            return pool.install(work);
        }
        // A thread of some pool would take up other work of that pool while it waits, and that may want a lock which this
        // one holds. So another one waits for it.
        let done = std::thread::scope(|scope| scope.spawn(|| pool.install(work)).join());
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// When a thread gets a processor: when searches and writes leave one. A hint: where it fails, they wait a little longer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Priority {
    /// Searches wait for some of this, for what is not sealed and linked is compared one by one.
    Low,
    /// Nobody waits for a merge; a slice of time that one gets at the cost of a search is longer than the search.
    Lowest,
}

impl Priority {
    /// Gives the thread that calls it this priority.
    pub(crate) fn take(self) {
        #[cfg(target_os = "linux")]
        {
            // A tenth and a seventieth of the share of a thread of ordinary priority.
            let nice = match self {
                Self::Low => 10,
                Self::Lowest => 19,
            };
            // Linux keeps this for each thread.
            let _ = rustix::process::nice(nice);
        }
    }
}
