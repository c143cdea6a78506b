//! `vdb bench churn`: a graph whose whole content is replaced again and again, beside a fresh one of the same content.
//!
//! Rows of the base are dealt at random into queries, and two halves of equal size. The graph starts with one half; a
//! round deletes all of it in random order and inserts the other half in random order, batch by batch, each batch deleted
//! and then inserted. After each round both graphs are searched with the held-out rows, query by query in turns on one
//! thread. Truth is the plain scan's; a hit no farther than the last true one is right. Updates run on all threads and
//! count a delete and an insert as one.

use crate::args::ChurnArgs;
use crate::dataset::DataSet;
use crate::formats::Matrix;
use anyhow::{Context, ensure};
use serde::Serialize;
use std::io::Write;
use std::time::{Duration, Instant};
use vdb_index::{FlatScan, GraphStats, Hnsw, HnswParams, Request, Vectors};
use vector_db_rs::Metric;

#[derive(Serialize)]
struct Row {
    set: String,
    batch: usize,
    round: usize,
    /// Of the round; 0 for the graph before any.
    updates_per_s: f64,
    ef: usize,
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
    qps: f64,
}

pub(crate) fn run(args: &ChurnArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    for (name, value) in [("--queries", args.queries), ("--batch", args.batch), ("--k", args.k)] {
        ensure!(value > 0, "{name} is 0, expected at least 1");
    }
    let set = DataSet::open(&args.data, &args.set)?;
    let base = set.vectors("base")?;
    let rows = args.rows.unwrap_or(base.rows).min(base.rows);
    ensure!(rows >= args.queries + 4, "{rows} rows are too few for {} queries and two halves", args.queries);
    let params = HnswParams {
        m: args.m,
        ef_construction: args.ef_construction,
        exact_scan_factor: 0,
        seed: args.seed,
    };
    let mut random = Random(args.seed);
    let mut order: Vec<u32> = (0..base.rows as u32).collect();
    random.shuffle(&mut order);
    let (held_out, rest) = order[..rows].split_at(args.queries);
    let (one, other) = rest.split_at(rest.len() / 2);
    let halves =
        [one, &other[..one.len()]].map(|rows| Half::new(&base, set.metric, rows, held_out, params, args.k));

    let one_thread =
        rayon::ThreadPoolBuilder::new().num_threads(1).build().context("a pool of one thread")?;
    let mut churned = Churned::new(&base, set.metric, halves[0].rows, params);
    for round in 0..=args.rounds {
        let half = &halves[round % 2];
        let mut took = Duration::ZERO;
        if round > 0 {
            took = churned.replace(&base, half.rows, args.batch, &mut random);
        }
        let stats = churned.hnsw.stats();
        let spare = churned.vectors.len() - stats.live;
        let fresh_stats = half.hnsw.stats();
        for &ef in &args.ef_search {
            let [fresh, churned] = one_thread.install(|| compare(&base, held_out, half, &churned, ef, args));
            let per_node = |stats: &GraphStats| stats.base_links as f64 / (stats.live + stats.dead) as f64;
            let row = Row {
                set: args.set.clone(),
                batch: args.batch,
                round,
                updates_per_s: if round > 0 { half.rows.len() as f64 / took.as_secs_f64() } else { 0.0 },
                ef,
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
    vectors: Vectors,
    hnsw: Hnsw,
    farthest: Vec<f32>,
}

impl<'a> Half<'a> {
    fn new(
        base: &Matrix,
        metric: Metric,
        rows: &'a [u32],
        queries: &[u32],
        params: HnswParams,
        k: usize,
    ) -> Self {
        let Churned { vectors, hnsw, .. } = Churned::new(base, metric, rows, params);
        let farthest = queries.iter().map(|&query| {
            let truth = FlatScan.search(&vectors, &Request::new(base.row(query as usize), k));
            truth.hits.last().expect("a half has rows").distance.get()
        });
        let farthest = farthest.collect();
        Half { rows, vectors, hnsw, farthest }
    }
}

/// A graph and the rows that it is over.
struct Churned {
    vectors: Vectors,
    hnsw: Hnsw,
    /// Offsets that are in use, and ones that are free.
    live: Vec<u32>,
    free: Vec<u32>,
}

impl Churned {
    fn new(base: &Matrix, metric: Metric, rows: &[u32], params: HnswParams) -> Self {
        let mut vectors = Vectors::new(metric, base.dim);
        let live: Vec<u32> = rows.iter().map(|&row| vectors.push(base.row(row as usize))).collect();
        let mut hnsw = Hnsw::new(params);
        hnsw.insert(&vectors, &live);
        Churned { vectors, hnsw, live, free: Vec::new() }
    }

    /// Takes all rows out and `rows` in.
    fn replace(&mut self, base: &Matrix, rows: &[u32], batch: usize, random: &mut Random) -> Duration {
        let (mut leaving, mut coming) = (std::mem::take(&mut self.live), rows.to_vec());
        random.shuffle(&mut leaving);
        random.shuffle(&mut coming);
        let start = Instant::now();
        for (leaving, coming) in leaving.chunks(batch).zip(coming.chunks(batch)) {
            for &offset in leaving {
                self.vectors.remove(offset);
                self.free.extend(self.hnsw.remove(&self.vectors, offset));
            }
            let first = self.live.len();
            for &row in coming {
                let row = base.row(row as usize);
                let offset = match self.free.pop() {
                    Some(offset) => {
                        self.vectors.set(offset, row);
                        offset
                    }
                    None => self.vectors.push(row),
                };
                self.live.push(offset);
            }
            self.hnsw.insert(&self.vectors, &self.live[first..]);
        }
        start.elapsed()
    }
}

/// The fresh graph and the churned one, in turns.
fn compare(
    base: &Matrix,
    queries: &[u32],
    half: &Half<'_>,
    churned: &Churned,
    ef: usize,
    args: &ChurnArgs,
) -> [Measured; 2] {
    let graphs = [(&half.vectors, &half.hnsw), (&churned.vectors, &churned.hnsw)];
    let mut measured = [Measured::default(), Measured::default()];
    let mut best = [f64::INFINITY; 2];
    for pass in 0..args.passes.max(1) {
        for (place, (vectors, hnsw)) in graphs.into_iter().enumerate() {
            let start = Instant::now();
            let mut sums = [0; 3];
            for (&query, &farthest) in queries.iter().zip(&half.farthest) {
                let answer = hnsw.search(vectors, &Request::new(base.row(query as usize), args.k), ef);
                let right = answer.hits.iter().filter(|hit| hit.distance.get() <= farthest).count();
                sums[0] += right.min(args.k);
                sums[1] += answer.distance_computations;
                sums[2] += answer.hops;
            }
            best[place] = best[place].min(start.elapsed().as_secs_f64());
            if pass == 0 {
                let mean = |sum: usize| sum as f64 / queries.len() as f64;
                measured[place] = Measured {
                    recall: mean(sums[0]) / args.k.min(half.rows.len()) as f64,
                    distances: mean(sums[1]),
                    hops: mean(sums[2]),
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
            "round {}  ef {:>4}  recall {:.4} ({:.4})  {:>7.1} distances ({:>7.1})  {:>6.1} hops ({:>6.1})  {:>8.0} QPS ({:>8.0})  \
             degree {:>4.1} ({:>4.1})  {} unreachable  {} spare  {:>7.0} updates/s",
            row.round,
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
