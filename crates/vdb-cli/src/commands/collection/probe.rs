//! One thread that searches while a collection is written and indexed, and how long searches and writes take meanwhile.
//!
//! The queries of a file in turn, for the default target recall, one after the other without a pause. A search counts for the
//! phase in which it began: `ingest` (batches are written), `index` (nothing is written, graphs are built and merged), `idle`
//! (the same collection, one segment) and, where points are written at a given pace after that, `paced`. A write's time is
//! split into what it was held back on purpose (`held`), what the log took, syncing included (`logged`), waits for locks of others
//! (`blocked`), and the rest (`own`): its own work, and what of it others had the processor. Of the slowest search it is told how
//! long it waited for a processor (`max_waited_us`), where the system says.

use super::embedded::{K, round};
use crate::formats::Matrix;
use anyhow::anyhow;
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use vdb_engine::{Collection, Point, Search};

/// How long the collection is searched when nothing else is done, and how long points are written at a pace, in times of
/// `--seconds`.
const IDLE: u32 = 5;
const PACED: u32 = 20;
/// Batches a second of paced writes.
const BATCHES_A_SECOND: f64 = 10.0;

/// What is printed for each phase, after its name.
pub(super) const COLUMNS: [&str; 20] = [
    "while",
    "searches",
    "p999_us",
    "max_us",
    "max_waited_us",
    "compared",
    "writes",
    "write_p50_ms",
    "write_p99_ms",
    "write_max_ms",
    "held_s",
    "held_p99_ms",
    "held_max_ms",
    "logged_p99_ms",
    "logged_max_ms",
    "blocked_p99_ms",
    "blocked_max_ms",
    "own_p99_ms",
    "own_max_ms",
    "write_s",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Ingest,
    Index,
    /// Nothing of it is counted.
    Between,
    Idle,
    Paced,
}

const PHASES: [(Phase, &str); 5] = [
    (Phase::Ingest, "ingest"),
    (Phase::Index, "index"),
    (Phase::Between, ""),
    (Phase::Idle, "idle"),
    (Phase::Paced, "paced"),
];

/// What searches of a phase took.
#[derive(Debug, Default)]
struct Searches {
    times: Vec<Duration>,
    compared: usize,
    slowest: Duration,
    /// What the slowest one waited for a processor.
    waited: Option<Duration>,
}

/// How long a thread has waited for a processor so far: the second number of its statistics.
fn waited(statistics: &mut File) -> Option<Duration> {
    let mut text = [0; 128];
    statistics.seek(SeekFrom::Start(0)).ok()?;
    let count = statistics.read(&mut text).ok()?;
    let waited = std::str::from_utf8(&text[..count]).ok()?.split_whitespace().nth(1)?;
    waited.parse().ok().map(Duration::from_nanos)
}

#[derive(Debug)]
struct Shared {
    phase: AtomicUsize,
    stopped: AtomicBool,
}

/// The thread that searches, one search after the other.
#[derive(Debug)]
pub(super) struct Probe {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<anyhow::Result<[Searches; PHASES.len()]>>>,
}

/// What writes took.
#[derive(Debug, Default)]
pub(super) struct Writes(Vec<WriteTime>);

#[derive(Debug)]
struct WriteTime {
    whole: Duration,
    held: Duration,
    logged: Duration,
    blocked: Duration,
}

impl Writes {
    pub(super) fn upsert(&mut self, collection: &Collection, points: Vec<Point>) -> anyhow::Result<()> {
        let began = Instant::now();
        let written = collection.upsert(points)?;
        let (whole, held) = (began.elapsed(), written.held_back);
        self.0.push(WriteTime { whole, held, logged: written.logged, blocked: written.blocked });
        Ok(())
    }

    fn report(&self, row: &mut Map<String, Value>) {
        if self.0.is_empty() {
            return;
        }
        let sorted = |of: fn(&WriteTime) -> Duration| {
            let mut times: Vec<Duration> = self.0.iter().map(of).collect();
            times.sort_unstable();
            times
        };
        let ms = |time: Duration| json!(round(time.as_secs_f64() * 1e3, 100.0));
        let seconds = |times: &[Duration]| json!(round(times.iter().sum::<Duration>().as_secs_f64(), 100.0));
        let whole = sorted(|time| time.whole);
        row.insert("writes".to_owned(), json!(whole.len()));
        row.insert("write_s".to_owned(), seconds(&whole));
        row.insert("write_p50_ms".to_owned(), ms(at(&whole, 0.5)));
        let held = sorted(|time| time.held);
        row.insert("held_s".to_owned(), seconds(&held));
        let (logged, blocked) = (sorted(|time| time.logged), sorted(|time| time.blocked));
        let own = sorted(|time| time.whole.saturating_sub(time.held + time.logged + time.blocked));
        for (name, times) in
            [("write", whole), ("held", held), ("logged", logged), ("blocked", blocked), ("own", own)]
        {
            row.insert(format!("{name}_p99_ms"), ms(at(&times, 0.99)));
            row.insert(format!("{name}_max_ms"), ms(at(&times, 1.0)));
        }
    }
}

/// The time that a share of the sorted ones do not exceed; of some.
fn at(times: &[Duration], share: f64) -> Duration {
    times[((times.len() as f64 * share) as usize).min(times.len() - 1)]
}

impl Probe {
    /// Starts with [`Phase::Ingest`].
    pub(super) fn start(collection: &Arc<Collection>, queries: &Arc<Matrix>) -> Self {
        let shared = Arc::new(Shared { phase: AtomicUsize::new(0), stopped: AtomicBool::new(false) });
        let (collection, queries, seen) = (Arc::clone(collection), Arc::clone(queries), Arc::clone(&shared));
        let thread = std::thread::spawn(move || {
            let mut searches: [Searches; PHASES.len()] = Default::default();
            let mut statistics = File::open("/proc/thread-self/schedstat").ok();
            let mut waited = || statistics.as_mut().and_then(waited);
            for query in (0..queries.rows).cycle() {
                if seen.stopped.load(Ordering::Relaxed) {
                    break;
                }
                let of_phase = &mut searches[seen.phase.load(Ordering::Relaxed)];
                let before = waited();
                let began = Instant::now();
                let answer = collection.search(&Search::new(queries.row(query), K))?;
                let took = began.elapsed();
                if took > of_phase.slowest {
                    of_phase.slowest = took;
                    of_phase.waited = waited().zip(before).map(|(now, before)| now.saturating_sub(before));
                }
                of_phase.times.push(took);
                of_phase.compared += answer.distance_computations;
            }
            Ok(searches)
        });
        Self { shared, thread: Some(thread) }
    }

    pub(super) fn enter(&mut self, phase: Phase) {
        let place = PHASES.iter().position(|(own, _)| *own == phase);
        self.shared.phase.store(place.expect("all phases are listed"), Ordering::Relaxed);
    }

    /// Searches when nothing else is done, then beside writes at a pace if one is given; the lines of all phases.
    pub(super) fn finish(
        mut self,
        collection: &Collection,
        ingested: Writes,
        pace: Option<f64>,
        unit: Duration,
        mut next: impl FnMut(usize) -> anyhow::Result<Vec<Point>>,
    ) -> anyhow::Result<Vec<Value>> {
        self.enter(Phase::Between);
        // What is pinned and cached takes a moment.
        std::thread::sleep(unit);
        self.enter(Phase::Idle);
        std::thread::sleep(unit * IDLE);
        let mut paced = Writes::default();
        if let Some(pace) = pace {
            let interval = Duration::from_secs_f64(1.0 / BATCHES_A_SECOND);
            let count = ((pace / BATCHES_A_SECOND).round() as usize).max(1);
            self.enter(Phase::Paced);
            let began = Instant::now();
            for number in 0.. {
                let due = interval * number;
                if due >= unit * PACED {
                    break;
                }
                let points = next(count)?;
                std::thread::sleep(due.saturating_sub(began.elapsed()));
                paced.upsert(collection, points)?;
            }
        }
        self.shared.stopped.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it is taken here only");
        let searches = thread.join().map_err(|_| anyhow!("the thread that searches panicked"))??;
        let rows = PHASES.iter().zip(searches).filter_map(|((phase, name), of_phase)| {
            let mut row = of_phase.report(name)?;
            match phase {
                Phase::Ingest => ingested.report(&mut row),
                Phase::Paced => paced.report(&mut row),
                _ => {}
            }
            Some(Value::Object(row))
        });
        Ok(rows.collect())
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Something else went wrong, which is told.
            let _ = thread.join();
        }
    }
}

impl Searches {
    /// Nothing for the phase without a name, and for one without searches.
    fn report(mut self, phase: &str) -> Option<Map<String, Value>> {
        if phase.is_empty() || self.times.is_empty() {
            return None;
        }
        self.times.sort_unstable();
        let in_us = |time: Duration| json!(round(time.as_secs_f64() * 1e6, 10.0));
        let us = |share| in_us(at(&self.times, share));
        let count = self.times.len();
        let row = [
            ("phase", json!("probe")),
            ("while", json!(phase)),
            ("searches", json!(count)),
            ("p50_us", us(0.5)),
            ("p99_us", us(0.99)),
            ("p999_us", us(0.999)),
            ("max_us", us(1.0)),
            ("compared", json!(self.compared / count)),
        ];
        let waited = self.waited.map(|waited| ("max_waited_us", in_us(waited)));
        Some(row.into_iter().chain(waited).map(|(key, value)| (key.to_owned(), value)).collect())
    }
}
