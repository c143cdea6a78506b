//! `vdb bench churn`: a graph whose whole content is replaced again and again, beside a fresh one of the same content.
//!
//! Rows of the base are dealt at random into queries, and two halves of equal size. The graph starts with one half; a
//! round deletes all of it in random order and inserts the other half in random order, batch by batch, each batch deleted
//! and then inserted. After each round both graphs are searched with the held-out rows, or with a file of queries, query by
//! query in turns on one thread. Truth is the plain scan's; a hit no farther than the last true one is right. Updates run
//! on all threads and count a delete and an insert as one. With `--live` a live index takes the place of the graph.

use crate::args::ChurnArgs;
use crate::dataset::DataSet;
use crate::formats::Matrix;
use anyhow::{Context, ensure};
use serde::Serialize;
use std::io::Write;
use std::time::{Duration, Instant};
use vdb_index::{
    Answer, Change, FlatScan, GraphStats, Hnsw, HnswParams, LiveIndex, LiveParams, Request, Vectors,
};
use vector_db_rs::Metric;

#[derive(Serialize)]
struct Row {
    set: String,
    batch: usize,
    round: usize,
    /// Of the round; 0 for the graph before any.
    updates_per_s: f64,
    /// The width of the beam; with a target recall, its mean in the churned graph.
    ef: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_recall: Option<f64>,
    churned: Measured,
    fresh: Measured,
    unreachable: usize,
    /// Links of the base layer per node.
    degree: f64,
    degree_fresh: f64,
    /// Offsets in use beyond the live ones.
    spare: usize,
}

#[derive(Serialize, Default, Clone)]
struct Measured {
    recall: f64,
    distances: f64,
    hops: f64,
    ef: f64,
    qps: f64,
}

/// How far searches go.
#[derive(Clone, Copy)]
enum Setting {
    Beam(usize),
    Recall(f64),
}

pub(crate) fn run(args: &ChurnArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    for (name, value) in [("--queries", args.queries), ("--batch", args.batch), ("--k", args.k)] {
        ensure!(value > 0, "{name} is 0, expected at least 1");
    }
    let set = DataSet::open(&args.data, &args.set)?;
    let base = set.vectors("base")?;
    let rows = args.rows.unwrap_or(base.rows).min(base.rows);
    ensure!(rows >= args.queries + 4, "{rows} rows are too few for {} queries and two halves", args.queries);
    let params = HnswParams { exact_scan_factor: 0, ..args.graph.params(args.seed) };
    let mut random = Random(args.seed);
    let mut order: Vec<u32> = (0..base.rows as u32).collect();
    random.shuffle(&mut order);
    let (held_out, rest) = order[..rows].split_at(args.queries);
    let of_file = args.query_file.as_ref().map(|name| set.vectors(name)).transpose()?;
    let queries: Vec<&[f32]> = match &of_file {
        Some(file) => (0..file.rows.min(args.queries)).map(|query| file.row(query)).collect(),
        None => held_out.iter().map(|&row| base.row(row as usize)).collect(),
    };
    ensure!(
        queries.iter().all(|query| query.len() == base.dim),
        "queries have other dimensions than the base, which has {}",
        base.dim
    );
    let settings: Vec<Setting> = match args.target_recall.as_slice() {
        [] => args.ef_search.iter().copied().map(Setting::Beam).collect(),
        targets => targets.iter().copied().map(Setting::Recall).collect(),
    };
    let (one, other) = rest.split_at(rest.len() / 2);
    let halves =
        [one, &other[..one.len()]].map(|rows| Half::new(&base, set.metric, rows, &queries, params, args.k));

    let one_thread =
        rayon::ThreadPoolBuilder::new().num_threads(1).build().context("a pool of one thread")?;
    let mut churned = if args.live {
        Churned::grown(&base, set.metric, halves[0].rows, params, args.batch)
    } else {
        Churned::new(&base, set.metric, halves[0].rows, params)
    };
    for round in 0..=args.rounds {
        let half = &halves[round % 2];
        let mut took = Duration::ZERO;
        if round > 0 {
            took = churned.replace(&base, half.rows, args.batch, &mut random);
        }
        let (stats, spare) = churned.stats();
        let fresh_stats = half.fresh.stats().0;
        for &setting in &settings {
            let [fresh, churned] = one_thread.install(|| compare(&queries, half, &churned, setting, args));
            let per_node =
                |stats: &GraphStats| stats.base_links as f64 / (stats.live + stats.dead).max(1) as f64;
            let row = Row {
                set: args.set.clone(),
                batch: args.batch,
                round,
                updates_per_s: if round > 0 { half.rows.len() as f64 / took.as_secs_f64() } else { 0.0 },
                ef: churned.ef.round() as usize,
                target_recall: match setting {
                    Setting::Beam(_) => None,
                    Setting::Recall(target) => Some(target),
                },
                churned,
                fresh,
                unreachable: stats.unreachable,
                degree: per_node(&stats),
                degree_fresh: per_node(&fresh_stats),
                spare,
            };
            write_row(&row, args.json, out)?;
        }
    }
    Ok(())
}

/// A fresh graph over one half of the rows, and the distance of each query's k-th neighbour in it.
struct Half<'a> {
    rows: &'a [u32],
    fresh: Churned,
    farthest: Vec<f32>,
}

impl<'a> Half<'a> {
    fn new(
        base: &Matrix,
        metric: Metric,
        rows: &'a [u32],
        queries: &[&[f32]],
        params: HnswParams,
        k: usize,
    ) -> Self {
        let fresh = Churned::new(base, metric, rows, params);
        let Index::Graph { vectors, .. } = &fresh.index else { unreachable!("it was made of a graph") };
        let requests: Vec<Request<'_>> = queries.iter().map(|query| Request::new(query, k)).collect();
        let truth = FlatScan.search_batch(vectors, &requests);
        let last = |truth: &Answer| truth.hits.last().expect("a half has rows").distance.get();
        let farthest = truth.iter().map(last).collect();
        Half { rows, fresh, farthest }
    }
}

/// What is churned.
enum Index {
    Graph {
        vectors: Vectors,
        hnsw: Box<Hnsw>,
        /// Offsets that came free.
        free: Vec<u32>,
    },
    Live(LiveIndex),
}

/// An index and the offsets that are in use.
struct Churned {
    index: Index,
    live: Vec<u32>,
}

impl Churned {
    /// A graph of rows that come at once.
    fn new(base: &Matrix, metric: Metric, rows: &[u32], params: HnswParams) -> Self {
        let mut vectors = Vectors::new(metric, base.dim);
        let live: Vec<u32> = rows.iter().map(|&row| vectors.push(base.row(row as usize))).collect();
        let mut hnsw = Box::new(Hnsw::new(params));
        hnsw.insert(&vectors, &live);
        Churned { index: Index::Graph { vectors, hnsw, free: Vec::new() }, live }
    }

    /// A live index of rows that come batch by batch.
    fn grown(base: &Matrix, metric: Metric, rows: &[u32], hnsw: HnswParams, batch: usize) -> Self {
        let index = LiveIndex::new(metric, base.dim, LiveParams { hnsw, ..LiveParams::default() });
        let mut churned = Churned { index: Index::Live(index), live: Vec::new() };
        rows.chunks(batch).for_each(|coming| churned.exchange(base, &[], coming));
        churned
    }

    /// Takes all rows out and `rows` in.
    fn replace(&mut self, base: &Matrix, rows: &[u32], batch: usize, random: &mut Random) -> Duration {
        let (mut leaving, mut coming) = (std::mem::take(&mut self.live), rows.to_vec());
        random.shuffle(&mut leaving);
        random.shuffle(&mut coming);
        let start = Instant::now();
        for (leaving, coming) in leaving.chunks(batch).zip(coming.chunks(batch)) {
            self.exchange(base, leaving, coming);
        }
        start.elapsed()
    }

    fn exchange(&mut self, base: &Matrix, leaving: &[u32], coming: &[u32]) {
        let coming = coming.iter().map(|&row| base.row(row as usize));
        match &mut self.index {
            Index::Live(index) => {
                let changes = leaving.iter().map(|&offset| Change::Remove(offset));
                let changes: Vec<Change<'_>> = changes.chain(coming.map(Change::Insert)).collect();
                self.live.extend(index.write(&changes).offsets);
            }
            Index::Graph { vectors, hnsw, free } => {
                for &offset in leaving {
                    vectors.remove(offset);
                    free.extend(hnsw.remove(vectors, offset));
                }
                let first = self.live.len();
                for row in coming {
                    let offset = match free.pop() {
                        Some(offset) => {
                            vectors.set(offset, row);
                            offset
                        }
                        None => vectors.push(row),
                    };
                    self.live.push(offset);
                }
                hnsw.insert(vectors, &self.live[first..]);
            }
        }
    }

    fn search(&self, request: &Request<'_>, setting: Setting) -> Answer {
        match (&self.index, setting) {
            (Index::Graph { vectors, hnsw, .. }, Setting::Beam(ef)) => hnsw.search(vectors, request, ef),
            (Index::Graph { vectors, hnsw, .. }, Setting::Recall(target)) => {
                hnsw.search_for_recall(vectors, request, target)
            }
            (Index::Live(index), Setting::Beam(ef)) => index.read(|rows| rows.search(request, ef)),
            (Index::Live(index), Setting::Recall(target)) => {
                index.read(|rows| rows.search_for_recall(request, target))
            }
        }
    }

    /// What the graph looks like, as far as it can be seen, and offsets in use beyond the live ones.
    fn stats(&self) -> (GraphStats, usize) {
        match &self.index {
            Index::Graph { vectors, hnsw, .. } => {
                let stats = hnsw.stats();
                (stats, vectors.len() - stats.live)
            }
            Index::Live(index) => {
                let stats = index.stats();
                let live = stats.live;
                (
                    GraphStats { live, dead: stats.hidden, base_links: 0, layers: 0, unreachable: 0 },
                    stats.hidden,
                )
            }
        }
    }
}

/// The fresh graph and the churned one, in turns.
fn compare(
    queries: &[&[f32]],
    half: &Half<'_>,
    churned: &Churned,
    setting: Setting,
    args: &ChurnArgs,
) -> [Measured; 2] {
    let indexes = [&half.fresh, churned];
    let mut measured = [Measured::default(), Measured::default()];
    let mut best = [f64::INFINITY; 2];
    for pass in 0..args.passes.max(1) {
        for (place, index) in indexes.into_iter().enumerate() {
            let start = Instant::now();
            let mut sums = [0; 4];
            for (&query, &farthest) in queries.iter().zip(&half.farthest) {
                let answer = index.search(&Request::new(query, args.k), setting);
                let right = answer.hits.iter().filter(|hit| hit.distance.get() <= farthest).count();
                sums[0] += right.min(args.k);
                sums[1] += answer.distance_computations;
                sums[2] += answer.hops;
                sums[3] += answer.ef_search.unwrap_or(0);
            }
            best[place] = best[place].min(start.elapsed().as_secs_f64());
            if pass == 0 {
                let mean = |sum: usize| sum as f64 / queries.len() as f64;
                measured[place] = Measured {
                    recall: mean(sums[0]) / args.k.min(half.rows.len()) as f64,
                    distances: mean(sums[1]),
                    hops: mean(sums[2]),
                    ef: mean(sums[3]),
                    qps: 0.0,
                };
            }
        }
    }
    for (measured, best) in measured.iter_mut().zip(best) {
        measured.qps = queries.len() as f64 / best;
    }
    measured
}

fn write_row(row: &Row, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    if json {
        writeln!(out, "{}", serde_json::to_string(row)?)?;
    } else {
        let Row { churned, fresh, .. } = row;
        writeln!(
            out,
            "round {}  {}ef {:>4}  recall {:.4} ({:.4})  {:>7.1} distances ({:>7.1})  {:>6.1} hops ({:>6.1})  {:>8.0} QPS ({:>8.0})  \
             degree {:>4.1} ({:>4.1})  {} unreachable  {} spare  {:>7.0} updates/s",
            row.round,
            row.target_recall.map_or(String::new(), |target| format!("target {target:<5}  ")),
            row.ef,
            churned.recall,
            fresh.recall,
            churned.distances,
            fresh.distances,
            churned.hops,
            fresh.hops,
            churned.qps,
            fresh.qps,
            row.degree,
            row.degree_fresh,
            row.unreachable,
            row.spare,
            row.updates_per_s
        )?;
    }
    Ok(out.flush()?)
}

/// SplitMix64 (Steele, Lea, Flood 2014).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    pub(super) fn shuffle(&mut self, values: &mut [u32]) {
        for last in (1..values.len()).rev() {
            values.swap(last, self.below(last + 1));
        }
    }
}
