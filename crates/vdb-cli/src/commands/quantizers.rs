//! `vdb bench quantizers`: what the codes of every quantizer weigh, how fast they are made and read, how right they are.
//!
//! Rows are trained on, coded and searched as a Flat database with that quantizer does it. Estimates are of all rows, in
//! the order in which they lie in memory, on one thread, from all bits of the codes; scans are for the best 40 rows by the
//! codes, which need not read all bits of all rows. The error of an estimate is relative to the squared distance (of the
//! normalised vectors under Cosine). `recall_codes` ranks by the codes alone;
//! oversampling 1 reranks just those k rows, which changes their order and not the set; 2 and 4 rerank as many times k.

use crate::args::QuantizersArgs;
use crate::dataset::DataSet;
use crate::formats::Matrix;
use anyhow::{Context, anyhow, ensure};
use serde::Serialize;
use std::io::Write;
use std::time::Instant;
use vdb_index::{CodeKind, Coded, CodedParams, FlatScan, Hit, Request, Vectors};
use vector_db_rs::Metric;

const K: usize = 10;
const OVERSAMPLING: [usize; 3] = [1, 2, 4];
/// Dimensions that sizes are told for.
const DIMENSIONS: [usize; 4] = [128, 384, 768, 1536];

#[derive(Serialize)]
struct Row {
    set: String,
    label: String,
    bytes: usize,
    /// At each of [`DIMENSIONS`]; none with pieces of one's own.
    bytes_at: Vec<usize>,
    train_s: f64,
    encoded_per_s: f64,
    encoded_per_s_two_threads: f64,
    estimates_per_s: f64,
    scanned_per_s: f64,
    qps: f64,
    error_mean: f64,
    error_p99: f64,
    recall_codes: f64,
    recall_reranked: Vec<f64>,
}

pub(crate) fn run(args: &QuantizersArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    ensure!(args.queries > 0, "--queries is 0, expected at least 1");
    let set = DataSet::open(&args.data, &args.set)?;
    let queries = set.vectors("query")?;
    let vectors = base(&set, args.rows)?;
    ensure!(
        queries.dim == vectors.dim(),
        "queries have {} dimensions, the base has {}",
        queries.dim,
        vectors.dim()
    );
    let truth = match args.rows {
        Some(_) => nearest(&vectors, &queries, args.queries),
        None => {
            let truth = set.truth("query", None, queries.rows, K)?;
            (0..queries.rows.min(args.queries)).map(|query| truth.neighbors(query)[..K].to_vec()).collect()
        }
    };
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().context("a pool of one thread")?;
    let two = rayon::ThreadPoolBuilder::new().num_threads(2).build().context("a pool of two threads")?;
    for params in chosen(args, set.metric)? {
        let offsets: Vec<u32> = vectors.live().iter().collect();
        let mut coded =
            Coded::new(params, vectors.metric(), vectors.dim()).map_err(|reason| anyhow!(reason))?;
        let ((), build) = timed(|| coded.insert(&vectors, &offsets));
        ensure!(coded.row_bytes().is_some(), "{} rows are too few for codes", vectors.len());
        let ((), on_two) = two.install(|| timed(|| coded.recode(&vectors)));
        let ((), on_one) = one.install(|| timed(|| coded.recode(&vectors)));
        let measured = one.install(|| measure(&coded, &vectors, &queries, &truth));
        let rows = vectors.len() as f64;
        let row = Row {
            set: args.set.clone(),
            label: label(&params),
            bytes: params.row_bytes(vectors.dim()),
            bytes_at: match params.subspaces {
                0 => DIMENSIONS.map(|dim| params.row_bytes(dim)).to_vec(),
                _ => Vec::new(),
            },
            train_s: (build - on_two).max(0.0),
            encoded_per_s: rows / on_one,
            encoded_per_s_two_threads: rows / on_two,
            ..measured
        };
        write_row(&row, args.json, out)?;
    }
    Ok(())
}

fn label(params: &CodedParams) -> String {
    match params.subspaces {
        0 => params.kind.to_string(),
        subspaces => format!("{}:{subspaces}", params.kind),
    }
}

fn chosen(args: &QuantizersArgs, metric: Metric) -> anyhow::Result<Vec<CodedParams>> {
    if args.quantizers.is_empty() {
        let all = CodeKind::ALL.into_iter().map(CodedParams::new);
        // Bytes are for whole numbers, of which normalised vectors have none.
        let fits = |params: &CodedParams| params.kind != CodeKind::U8 || metric == Metric::Euclidean;
        return Ok(all.filter(fits).collect());
    }
    let parse = |text: &String| {
        let (kind, subspaces) = text.split_once(':').unwrap_or((text, "0"));
        let kind = kind.parse().map_err(|reason: String| anyhow!(reason))?;
        let subspaces = subspaces.parse().with_context(|| format!("{text:?}: pieces of a quantizer"))?;
        Ok(CodedParams { subspaces, ..CodedParams::new(kind) })
    };
    args.quantizers.iter().map(parse).collect()
}

fn base(set: &DataSet, first: Option<usize>) -> anyhow::Result<Vectors> {
    let base = set.vectors("base")?;
    let rows = first.unwrap_or(base.rows);
    ensure!((K..=base.rows).contains(&rows), "--rows is {rows}, expected {K} to {}", base.rows);
    let mut vectors = Vectors::new(set.metric, base.dim);
    vectors.reserve(rows);
    (0..rows).for_each(|row| {
        vectors.push(base.row(row));
    });
    Ok(vectors)
}

/// The true neighbours of at most `most` queries.
fn nearest(vectors: &Vectors, queries: &Matrix, most: usize) -> Vec<Vec<i32>> {
    let of = |query| FlatScan.search(vectors, &Request::new(queries.row(query), K)).hits;
    let offsets = |hits: Vec<Hit>| hits.iter().map(|hit| hit.offset as i32).collect();
    (0..queries.rows.min(most)).map(|query| offsets(of(query))).collect()
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let done = work();
    (done, start.elapsed().as_secs_f64())
}

/// What searching tells; sizes and the speed of coding are left zero.
fn measure(coded: &Coded, vectors: &Vectors, queries: &Matrix, truth: &[Vec<i32>]) -> Row {
    let count = truth.len();
    let (mut estimating, mut searching, mut errors, mut right) = (f64::INFINITY, 0.0, Vec::new(), [0; 4]);
    let (mut estimates, mut scans) = (Vec::new(), Vec::new());
    for (number, nearest) in truth.iter().enumerate() {
        let query = queries.row(number);
        let (_, took) = timed(|| coded.estimates(query, &mut estimates));
        // The fastest pass: what else the machine does only adds to it.
        estimating = estimating.min(took);
        scans.push(timed(|| coded.candidates(vectors, &Request::new(query, K), 4 * K)).1);
        right[0] += best(&estimates).iter().filter(|&&row| nearest.contains(&(row as i32))).count();
        for (place, oversampling) in OVERSAMPLING.into_iter().enumerate() {
            let answer = coded.search(vectors, &Request::new(query, K), Some(oversampling));
            let found = answer.hits.iter().filter(|hit| nearest.contains(&(hit.offset as i32)));
            right[1 + place] += found.count();
        }
        let (_, took) = timed(|| coded.search(vectors, &Request::new(query, K), None));
        searching += took;
        errors.extend(errors_of(&estimates, vectors, query));
    }
    errors.sort_unstable_by(f64::total_cmp);
    scans.sort_unstable_by(f64::total_cmp);
    let recalls = right.map(|right| right as f64 / (count * K) as f64);
    Row {
        set: String::new(),
        label: String::new(),
        bytes: 0,
        bytes_at: Vec::new(),
        train_s: 0.0,
        encoded_per_s: 0.0,
        encoded_per_s_two_threads: 0.0,
        estimates_per_s: vectors.len() as f64 / estimating,
        scanned_per_s: vectors.len() as f64 / scans[count / 2],
        qps: count as f64 / searching,
        error_mean: errors.iter().sum::<f64>() / errors.len() as f64,
        error_p99: errors[errors.len() * 99 / 100],
        recall_codes: recalls[0],
        recall_reranked: recalls[1..].to_vec(),
    }
}

/// The rows of the K smallest estimates.
fn best(estimates: &[f32]) -> Vec<u32> {
    let mut rows: Vec<u32> = (0..estimates.len() as u32).collect();
    let order = |a: &u32, b: &u32| estimates[*a as usize].total_cmp(&estimates[*b as usize]).then(a.cmp(b));
    if rows.len() > K {
        rows.select_nth_unstable_by(K - 1, order);
    }
    rows.truncate(K);
    rows
}

/// Relative errors of the estimates of a sample of the rows.
fn errors_of<'a>(
    estimates: &'a [f32],
    vectors: &'a Vectors,
    query: &'a [f32],
) -> impl Iterator<Item = f64> + 'a {
    let step = (estimates.len() / 500).max(1);
    estimates.iter().enumerate().step_by(step).filter_map(move |(row, &estimate)| {
        let value = f64::from(vectors.metric().calculate(query, &vectors.row(row as u32)));
        let truth = match vectors.metric() {
            Metric::Cosine => 2.0 - 2.0 * value,
            Metric::Euclidean => value * value,
            _ => value,
        };
        (truth != 0.0).then(|| (f64::from(estimate) - truth).abs() / truth.abs())
    })
}

fn write_row(row: &Row, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    if json {
        writeln!(out, "{}", serde_json::to_string(row)?)?;
    } else {
        let reranked: Vec<String> = row.recall_reranked.iter().map(|recall| format!("{recall:.4}")).collect();
        writeln!(
            out,
            "{:<10} {:>5} B  {:>8.0}/s coded  {:>7.1} M/s estimated  {:>7.1} M/s scanned  {:>8.0} QPS  error {:.4} / {:.4}  recall {:.4}  \
             reranked {}",
            row.label,
            row.bytes,
            row.encoded_per_s,
            row.estimates_per_s / 1e6,
            row.scanned_per_s / 1e6,
            row.qps,
            row.error_mean,
            row.error_p99,
            row.recall_codes,
            reranked.join(" / ")
        )?;
    }
    Ok(out.flush()?)
}
