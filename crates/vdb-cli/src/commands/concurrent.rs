//! `vdb bench concurrent`: searches of an index that is written at the same time, beside searches of it at rest.
//!
//! Rows of the base are dealt at random into queries, rows that are there from the start, and rows to come. Threads search
//! with the queries one by one, for `--seconds` a phase:
//!
//! - *at rest*, by one thread and by all of them: the graph is sealed and nobody writes;
//! - *written*: one more thread deletes a row and inserts another in turns, as fast as it can or `--writes-per-s` times a second,
//!   and yet another thread, with a pool of its own, is lent for merges;
//! - *after*: at rest again, with what the writer left, recent rows included;
//! - *merged*: the same when all of it is in the graph.
//!
//! Recall of the last two is against the exact scan of the same snapshot; that of the written phase is not measured.
//! Threads share the cores, so with as many of them as cores searches lose what writer and merges take.

use super::churn::Random;
use crate::args::ConcurrentArgs;
use crate::dataset::DataSet;
use crate::formats::Matrix;
use anyhow::{Context, ensure};
use serde::Serialize;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use vdb_index::{Answer, Change, Hnsw, LiveIndex, LiveParams, Request, Snapshot, Vectors};

#[derive(Serialize)]
struct Row {
    set: String,
    phase: &'static str,
    readers: usize,
    rows: usize,
    qps: f64,
    p50_us: f64,
    p99_us: f64,
    max_us: f64,
    /// Of the queries against the exact scan; absent while rows change.
    #[serde(skip_serializing_if = "Option::is_none")]
    recall: Option<f64>,
    /// Rows not in the graph, and rows of the graph that are no hits, at the end.
    recent: usize,
    hidden: usize,
    /// Heap of the index at the end; the most that was seen while rows changed.
    mb: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    writes: Option<Writes>,
    /// What the merge before this phase took, on all threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    merge_s: Option<f64>,
}

#[derive(Serialize)]
struct Writes {
    per_s: f64,
    p50_us: f64,
    p99_us: f64,
    /// The longest that a write took.
    stall_ms: f64,
    merges: u64,
}

pub(crate) fn run(args: &ConcurrentArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    for (name, value) in [("--readers", args.readers), ("--queries", args.queries), ("--k", args.k)] {
        ensure!(value > 0, "{name} is 0, expected at least 1");
    }
    if let Some(per_s) = args.writes_per_s {
        ensure!((0.001..1e9).contains(&per_s), "--writes-per-s is {per_s}, expected 0.001 or more");
    }
    let seconds = Duration::try_from_secs_f64(args.seconds);
    let seconds =
        seconds.ok().with_context(|| format!("--seconds is {}, expected 0 or more", args.seconds))?;
    let set = DataSet::open(&args.data, &args.set)?;
    let base = set.vectors("base")?;
    let rows = args.rows.unwrap_or(base.rows).min(base.rows);
    ensure!(rows >= args.queries + 20, "{rows} rows are too few for {} queries and an index", args.queries);
    let mut random = Random(args.seed);
    let mut order: Vec<u32> = (0..base.rows as u32).collect();
    random.shuffle(&mut order);
    let (queries, rest) = order[..rows].split_at(args.queries);
    let (coming, there) = rest.split_at(rest.len() / 10);

    let hnsw = args.graph.params(args.seed);
    let mut vectors = Vectors::new(set.metric, base.dim);
    vectors.reserve(there.len());
    let offsets: Vec<u32> = there.iter().map(|&row| vectors.push(base.row(row as usize))).collect();
    let mut graph = Hnsw::new(hnsw);
    graph.insert(&vectors, &offsets);
    let index = LiveIndex::from_graph(
        vectors,
        graph,
        args.least_recent.unwrap_or(LiveParams::default().least_recent),
    );

    let bench = Bench { args, base: &base, queries, index: &index, seconds };
    if args.readers > 1 {
        bench.write_row(bench.at_rest("at rest", 1), out)?;
    }
    bench.write_row(bench.at_rest("at rest", args.readers), out)?;
    bench.write_row(bench.written(coming, random)?, out)?;
    bench.write_row(bench.at_rest("after", args.readers), out)?;
    let start = Instant::now();
    index.merge();
    let merge_s = Some(start.elapsed().as_secs_f64());
    bench.write_row(Row { merge_s, ..bench.at_rest("merged", args.readers) }, out)
}

struct Bench<'a> {
    args: &'a ConcurrentArgs,
    base: &'a Matrix,
    queries: &'a [u32],
    index: &'a LiveIndex,
    seconds: Duration,
}

impl Bench<'_> {
    fn search(&self, snapshot: &Snapshot, query: usize) -> Answer {
        let request = Request::new(self.base.row(self.queries[query] as usize), self.args.k);
        match self.args.ef_search {
            Some(ef_search) => snapshot.search(&request, ef_search),
            None => snapshot.search_for_recall(&request, self.args.target_recall),
        }
    }

    /// Times of the searches that threads make until told to stop.
    fn search_until(&self, readers: usize, during: impl FnOnce()) -> (Vec<Duration>, Duration) {
        let is_over = AtomicBool::new(false);
        let start = Instant::now();
        let times: Vec<Vec<Duration>> = thread::scope(|scope| {
            let reader = |reader: usize| {
                let is_over = &is_over;
                scope.spawn(move || {
                    let mut times = Vec::new();
                    // Each query at least once by each, from places of their own on.
                    let mut query = reader * self.queries.len() / readers;
                    while !is_over.load(Ordering::Relaxed) || times.is_empty() {
                        let start = Instant::now();
                        let hits = self.index.read(|snapshot| self.search(snapshot, query)).hits.len();
                        times.push(start.elapsed());
                        assert!(hits > 0, "a search has hits");
                        query = (query + 1) % self.queries.len();
                    }
                    times
                })
            };
            let running: Vec<_> = (0..readers).map(reader).collect();
            during();
            is_over.store(true, Ordering::Relaxed);
            running.into_iter().map(|thread| thread.join().expect("a search does not panic")).collect()
        });
        let took = start.elapsed();
        let mut times: Vec<Duration> = times.into_iter().flatten().collect();
        times.sort_unstable();
        (times, took)
    }

    fn row(&self, phase: &'static str, readers: usize, (times, took): (Vec<Duration>, Duration)) -> Row {
        let stats = self.index.stats();
        Row {
            set: self.args.set.clone(),
            phase,
            readers,
            rows: stats.live,
            qps: times.len() as f64 / took.as_secs_f64(),
            p50_us: percentile_us(&times, 0.5),
            p99_us: percentile_us(&times, 0.99),
            max_us: percentile_us(&times, 1.0),
            recall: None,
            recent: stats.recent,
            hidden: stats.hidden,
            mb: stats.bytes as f64 / 1e6,
            writes: None,
            merge_s: None,
        }
    }

    fn at_rest(&self, phase: &'static str, readers: usize) -> Row {
        let row = self.row(phase, readers, self.search_until(readers, || thread::sleep(self.seconds)));
        Row { recall: Some(self.recall()), ..row }
    }

    fn written(&self, coming: &[u32], mut random: Random) -> anyhow::Result<Row> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(self.args.merge_threads).build();
        let pool = pool.context("a pool for merges")?;
        let merges = self.index.stats().merges;
        let mut times = Vec::new();
        let mut most_bytes = 0;
        let searched = thread::scope(|scope| {
            scope.spawn(|| pool.install(|| self.index.keep_merging()));
            let searched = self.search_until(self.args.readers, || {
                (times, most_bytes) = self.write(coming, &mut random);
            });
            self.index.stop_merging();
            searched
        });
        times.sort_unstable();
        let total = self.seconds.as_secs_f64().max(f64::MIN_POSITIVE);
        let writes = Writes {
            per_s: times.len() as f64 / total,
            p50_us: percentile_us(&times, 0.5),
            p99_us: percentile_us(&times, 0.99),
            stall_ms: percentile_us(&times, 1.0) / 1e3,
            merges: self.index.stats().merges - merges,
        };
        let row = self.row("written", self.args.readers, searched);
        Ok(Row { mb: most_bytes as f64 / 1e6, writes: Some(writes), ..row })
    }

    /// Replaces random rows until the time is over; gives what each write took, and the most bytes seen.
    fn write(&self, coming: &[u32], random: &mut Random) -> (Vec<Duration>, usize) {
        let live = self.index.snapshot().len() as u32;
        let start = Instant::now();
        let (mut times, mut most_bytes) = (Vec::new(), 0);
        while start.elapsed() < self.seconds || times.is_empty() {
            if let Some(per_s) = self.args.writes_per_s {
                let due = Duration::from_secs_f64(times.len() as f64 / per_s);
                if due >= self.seconds && !times.is_empty() {
                    break;
                }
                thread::sleep(due.saturating_sub(start.elapsed()));
            }
            let row = self.base.row(coming[(times.len() / 2) % coming.len()] as usize);
            let before = Instant::now();
            // The offset that a row leaves is the smallest free one, and the next row takes it.
            if times.len() % 2 == 0 {
                self.index.write(&[Change::Remove(random.below(live as usize) as u32)]);
            } else {
                self.index.write(&[Change::Insert(row)]);
            }
            times.push(before.elapsed());
            if times.len() % 64 == 0 {
                most_bytes = most_bytes.max(self.index.stats().bytes);
            }
        }
        (times, most_bytes)
    }

    /// The share of true neighbours that the searches find; a hit no farther than the last true one is right.
    fn recall(&self) -> f64 {
        let snapshot = self.index.snapshot();
        let (mut right, mut wanted) = (0, 0);
        for (place, &query) in self.queries.iter().enumerate() {
            let truth = snapshot.search_exact(&Request::new(self.base.row(query as usize), self.args.k)).hits;
            let farthest = truth.last().expect("there are rows").distance;
            let hits = self.search(&snapshot, place).hits;
            right += hits.iter().filter(|hit| hit.distance <= farthest).count().min(truth.len());
            wanted += truth.len();
        }
        right as f64 / wanted as f64
    }

    fn write_row(&self, row: Row, out: &mut dyn Write) -> anyhow::Result<()> {
        if self.args.json {
            writeln!(out, "{}", serde_json::to_string(&row)?)?;
            return Ok(out.flush()?);
        }
        write!(
            out,
            "{:<8} {} readers  {:>9.0} QPS  p50 {:>7.1} us  p99 {:>8.1} us  max {:>9.1} us  {} rows, {} recent, {} hidden  {:>7.1} MB",
            row.phase,
            row.readers,
            row.qps,
            row.p50_us,
            row.p99_us,
            row.max_us,
            row.rows,
            row.recent,
            row.hidden,
            row.mb
        )?;
        if let Some(recall) = row.recall {
            write!(out, "  recall {recall:.4}")?;
        }
        if let Some(writes) = &row.writes {
            write!(
                out,
                "  {:.0} writes/s  p50 {:.1} us  p99 {:.1} us  longest {:.1} ms  {} merges",
                writes.per_s, writes.p50_us, writes.p99_us, writes.stall_ms, writes.merges
            )?;
        }
        if let Some(merge_s) = row.merge_s {
            write!(out, "  merge of {merge_s:.3} s")?;
        }
        writeln!(out)?;
        Ok(out.flush()?)
    }
}

/// `times` is sorted.
fn percentile_us(times: &[Duration], share: f64) -> f64 {
    let place = (share * times.len().saturating_sub(1) as f64).round() as usize;
    times.get(place).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}
