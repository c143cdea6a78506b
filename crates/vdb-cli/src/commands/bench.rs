//! `vdb bench ann`: recall against speed on a data set with ground truth, one line per search setting.
//!
//! The index is built once on all cores through the public API. Then each setting is searched query by query, over all
//! queries at least once and for at least `--seconds`; times are of search calls, of one query or `--batch` of them; recall counts a neighbour as found
//! by its id or, where distances tie with the last true one, by its distance.
//!
//! Filters of the data set (`--filter`) become a metadata field of the records that they allow. The database evaluates
//! such a filter in the queries that come before the clock starts, and times are of searches with its answer at hand.

use crate::args::{AnnArgs, IndexArgs, IndexName};
use crate::commands::builder;
use crate::dataset::DataSet;
use crate::formats::{GroundTruth, Matrix};
use crate::progress;
use anyhow::{Context, ensure};
use clap::ValueEnum;
use serde::Serialize;
use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};
use vector_db_rs::{HitsAnswer, Metric, SearchOptions, VectorDB, VectorRecord};

/// A setting after one with this recall has nothing left to show.
const ENOUGH: f64 = 0.9985;

/// The value of a field that stands for a filter.
const ALLOWED: &str = "yes";

const EF_SEARCH: [usize; 12] = [10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512];
const OVERSAMPLING: [usize; 10] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];
/// Records that LSH compares.
const CANDIDATES: [usize; 9] = [50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800];
/// Posting lists that IVF probes.
const PROBES: [usize; 12] = [1, 2, 4, 6, 8, 12, 16, 24, 32, 64, 128, 256];

#[derive(Serialize)]
struct Row {
    set: String,
    label: String,
    /// The setting; with a target recall, the mean beam width that it took.
    param: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_recall: Option<f64>,
    recall: f64,
    qps: f64,
    p50_us: f64,
    p99_us: f64,
    build_s: f64,
    rss_mb: f64,
    k: usize,
    threads: usize,
    /// Per query.
    distances: f64,
    hops: f64,
    /// Of one query's time by one thread, per distance; all that a query does is in it.
    ns_per_distance: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<Filtered>,
}

/// What a filter did.
#[derive(Serialize)]
struct Filtered {
    name: String,
    /// Of the records, those that it allows.
    share: f64,
    /// Of the queries, those whose answer is known to be exact.
    exact: f64,
    /// Of the queries, those that expanded nodes of a graph.
    walked: f64,
    /// Least hits of a query, k unless fewer match.
    fewest_hits: usize,
}

pub(crate) fn run(args: &AnnArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    ensure!(args.threads > 0, "--threads is 0, expected at least 1");
    ensure!(args.k > 0, "--k is 0, expected at least 1");
    ensure!(
        args.target_recall.is_empty() || args.index == IndexName::Hnsw,
        "--target-recall goes with --index hnsw"
    );
    ensure!(args.batch > 0, "--batch is 0, expected at least 1");
    let shortest = Duration::try_from_secs_f64(args.seconds);
    let shortest =
        shortest.ok().with_context(|| format!("--seconds is {}, expected 0 or more", args.seconds))?;
    let mut set = DataSet::open(&args.data, &args.set)?;
    set.metric = args.metric.unwrap_or(set.metric);
    let queries = set.vectors(&args.queries)?;
    ensure!(args.rows != Some(0), "--rows is 0, expected at least 1");
    let counts_truth = args.rows.is_some() || args.metric.is_some();
    let mut scopes = if counts_truth { vec![Scope::default()] } else { scopes(args, &set, queries.rows)? };
    let before = resident_mb();
    let (db, build) = build(args, &set, &scopes)?;
    let rss_mb = round(resident_mb() - before, 10.0);
    ensure!(
        queries.dim == db.dimension(),
        "queries have {} dimensions, the base has {}",
        queries.dim,
        db.dimension()
    );
    if counts_truth {
        scopes[0].truth = truth(&db, &queries, args.k, set.metric)?;
    }
    for row in scopes.iter().flat_map(|scope| &scope.truth.ids) {
        ensure!(
            *row < 0 || (*row as usize) < db.size(),
            "the true neighbours name row {row}, the base has {} rows",
            db.size()
        );
    }
    if !args.json {
        writeln!(
            out,
            "{} · {} records · built in {:.1} s · {rss_mb} MB",
            args.set,
            db.size(),
            build.as_secs_f64()
        )?;
    }
    for scope in &scopes {
        for setting in settings(args, db.size()) {
            let run = measure(&db, &queries, args, &scope.options(args, setting), shortest)?;
            let row = row(args, &set, scope, setting, &run, (build, rss_mb));
            print(args, &row, out)?;
            if row.recall > ENOUGH && row.target_recall.is_none() {
                break;
            }
        }
    }
    Ok(())
}

/// The neighbours of the queries by an exact search.
fn truth(db: &VectorDB, queries: &Matrix, k: usize, metric: Metric) -> anyhow::Result<GroundTruth> {
    ensure!(k <= db.size(), "--k is {k}, there are {} rows", db.size());
    let all: Vec<&[f32]> = (0..queries.rows).map(|query| queries.row(query)).collect();
    let answers = db.search_hits_batch(&all, k, &SearchOptions::new().exact(true))?;
    let hits = || answers.iter().flat_map(|answer| &answer.hits);
    let ids = hits().map(|hit| hit.id().parse()).collect::<Result<_, _>>()?;
    let distances = hits().map(|hit| comparable(metric, hit.distance)).collect();
    Ok(GroundTruth { n: queries.rows, k, ids, distances })
}

/// One filter, or none: what is searched for.
#[derive(Default)]
struct Scope {
    filter: Option<(String, Vec<bool>)>,
    truth: GroundTruth,
}

impl Scope {
    fn options(&self, args: &AnnArgs, setting: Setting) -> SearchOptions {
        let options = setting.options(args.index);
        match &self.filter {
            None => options,
            Some((name, _)) => options.filter(name, ALLOWED),
        }
    }

    fn filtered(&self, run: &Run<'_>) -> Option<Filtered> {
        let (name, allowed) = self.filter.as_ref()?;
        let share = |count: usize, of: usize| round(count as f64 / of as f64, 10_000.0);
        let queries = |holds: &dyn Fn(&HitsAnswer<'_>) -> bool| {
            share(run.answers.iter().filter(|answer| holds(answer)).count(), run.answers.len())
        };
        Some(Filtered {
            name: name.clone(),
            share: share(allowed.iter().filter(|&&allowed| allowed).count(), allowed.len()),
            exact: queries(&|answer| answer.exact),
            walked: queries(&|answer| answer.hops > 0),
            fewest_hits: run.answers.iter().map(|answer| answer.hits.len()).min().unwrap_or(0),
        })
    }
}

fn scopes(args: &AnnArgs, set: &DataSet, queries: usize) -> anyhow::Result<Vec<Scope>> {
    if args.filter.is_empty() {
        return Ok(vec![Scope { filter: None, truth: set.truth(&args.queries, None, queries, args.k)? }]);
    }
    let rows = set.vectors("base")?.rows;
    let scope = |name: &String| {
        let name = (name != "none").then_some(name);
        let filter = name.map(|name| Ok::<_, anyhow::Error>((name.clone(), set.filter(name, rows)?)));
        let filter = filter.transpose()?;
        let truth = set.truth(&args.queries, name.map(String::as_str), queries, args.k)?;
        Ok(Scope { filter, truth })
    };
    args.filter.iter().map(scope).collect()
}

fn row(
    args: &AnnArgs,
    set: &DataSet,
    scope: &Scope,
    setting: Setting,
    run: &Run<'_>,
    (build, rss_mb): (Duration, f64),
) -> Row {
    Row {
        set: args.set.clone(),
        label: label(args),
        param: setting.param(run),
        target_recall: setting.target_recall(),
        recall: round(recall(&run.answers, &scope.truth, args.k, set.metric), 10_000.0),
        qps: round(run.searched as f64 / run.wall.as_secs_f64(), 10.0),
        p50_us: round(run.percentile_us(0.50), 10.0),
        p99_us: round(run.percentile_us(0.99), 10.0),
        build_s: round(build.as_secs_f64(), 100.0),
        rss_mb,
        k: args.k,
        threads: args.threads,
        distances: round(run.distances, 10.0),
        hops: round(run.hops, 10.0),
        ns_per_distance: round(run.ns_per_distance(args.threads), 10.0),
        filter: scope.filtered(run),
    }
}

fn print(args: &AnnArgs, row: &Row, out: &mut dyn Write) -> anyhow::Result<()> {
    if args.json {
        writeln!(out, "{}", serde_json::to_string(row)?)?;
    } else {
        write!(
            out,
            "{:<28} {:>8}  recall {:.4}  {:>9.1} QPS  p50 {:>8.1} us  p99 {:>8.1} us  {:>8} distances  {:>6} hops  {:>5} ns",
            row.label,
            row.param,
            row.recall,
            row.qps,
            row.p50_us,
            row.p99_us,
            row.distances,
            row.hops,
            row.ns_per_distance
        )?;
        if let Some(filtered) = &row.filter {
            let Filtered { name, share, exact, walked, fewest_hits } = filtered;
            write!(
                out,
                "  {name}: {share} match, {exact} exact, {walked} walked, {fewest_hits} hits or more"
            )?;
        }
        writeln!(out)?;
    }
    Ok(out.flush()?)
}

fn label(args: &AnnArgs) -> String {
    let p = &args.parameters;
    match args.index {
        IndexName::Flat => match p.quantizer {
            None => "vdb flat".to_owned(),
            Some(quantizer) if p.subspaces > 0 => format!("vdb flat {quantizer} m{}", p.subspaces),
            Some(quantizer) => format!("vdb flat {quantizer}"),
        },
        IndexName::Lsh => lsh_label(p),
        IndexName::Hnsw => {
            let profile = p.graph.profile.to_possible_value().expect("every profile has a name");
            let links = p.graph.m.map_or(profile.get_name().to_owned(), |m| format!("M{m}"));
            format!("vdb hnsw {links} efc{}", p.graph.ef_construction)
        }
        IndexName::Ivf => {
            let lists = p.lists.map_or("auto".to_owned(), |lists| lists.to_string());
            format!("vdb ivf {lists}x{}{}", p.bits, if p.spill { " spill" } else { "" })
        }
    }
}

/// The family, with what was said about the tables.
fn lsh_label(parameters: &IndexArgs) -> String {
    let family = parameters.lsh_family.to_possible_value().expect("every family has a name");
    let number = |given: Option<usize>| given.map_or("auto".to_owned(), |number| number.to_string());
    let (tables, functions) = (number(parameters.num_tables), number(parameters.num_functions));
    format!("vdb lsh {} {tables}x{functions}", family.get_name())
}

/// How queries are searched.
#[derive(Clone, Copy)]
enum Setting {
    Param(usize),
    TargetRecall(f64),
}

impl Setting {
    fn param(self, run: &Run<'_>) -> usize {
        match self {
            Setting::Param(param) => param,
            Setting::TargetRecall(_) => run.ef_search.round() as usize,
        }
    }

    fn target_recall(self) -> Option<f64> {
        match self {
            Setting::Param(_) => None,
            Setting::TargetRecall(target) => Some(target),
        }
    }

    fn options(self, index: IndexName) -> SearchOptions {
        let options = SearchOptions::new();
        match (index, self) {
            (_, Setting::TargetRecall(target)) => options.target_recall(target),
            (IndexName::Flat, Setting::Param(param)) => options.oversampling(param),
            (IndexName::Lsh, Setting::Param(0)) => options,
            (IndexName::Lsh, Setting::Param(param)) => options.candidates(param),
            (IndexName::Hnsw, Setting::Param(param)) => options.ef_search(param),
            (IndexName::Ivf, Setting::Param(param)) => options.probes(param),
        }
    }
}

fn settings(args: &AnnArgs, records: usize) -> Vec<Setting> {
    match args.target_recall.as_slice() {
        [] => params(args, records).into_iter().map(Setting::Param).collect(),
        targets => targets.iter().copied().map(Setting::TargetRecall).collect(),
    }
}

fn params(args: &AnnArgs, records: usize) -> Vec<usize> {
    match args.index {
        _ if !args.params.is_empty() => args.params.clone(),
        IndexName::Flat if args.parameters.quantizer.is_some() => OVERSAMPLING.to_vec(),
        IndexName::Flat => vec![0],
        IndexName::Hnsw => EF_SEARCH.to_vec(),
        IndexName::Ivf => PROBES.to_vec(),
        IndexName::Lsh => CANDIDATES.into_iter().filter(|&candidates| candidates < records).collect(),
    }
}

/// Reads the base and builds the index; the base itself is given back before memory is measured.
///
/// Records that a filter allows have a field of its name.
fn build(args: &AnnArgs, set: &DataSet, scopes: &[Scope]) -> anyhow::Result<(VectorDB, Duration)> {
    let base = set.vectors("base")?;
    let rows = args.rows.unwrap_or(base.rows);
    ensure!(rows <= base.rows, "--rows is {rows}, the base has {}", base.rows);
    if let Some(path) = args.db.as_ref().filter(|path| path.exists()) {
        let start = Instant::now();
        let db = VectorDB::load_binary(path)?;
        ensure!(db.size() == rows, "{} holds {} records, expected {rows}", path.display(), db.size());
        let (expected, got) = (set.metric, db.metric());
        ensure!(got == expected, "{} compares by {got}, expected {expected}", path.display());
        return Ok((db, start.elapsed()));
    }
    let mut db = builder(base.dim, set.metric, args.index, &args.parameters).build()?;
    let bar = progress::records("building", rows as u64);
    let start = Instant::now();
    let records = (0..rows).map(|row| {
        let vector = base.row(row).to_vec();
        Ok::<_, vector_db_rs::Error>(VectorRecord {
            id: row.to_string(),
            vector,
            metadata: scopes.iter().filter_map(|scope| field(scope.filter.as_ref()?, row)).collect(),
        })
    });
    db.insert_all(records, |done| bar.set_position(done as u64))?;
    let took = start.elapsed();
    bar.finish_and_clear();
    if let Some(path) = &args.db {
        db.save_binary(path)?;
    }
    Ok((db, took))
}

fn field((name, allowed): &(String, Vec<bool>), row: usize) -> Option<(String, String)> {
    allowed[row].then(|| (name.clone(), ALLOWED.to_owned()))
}

/// What searching all queries with one setting gave.
struct Run<'a> {
    answers: Vec<HitsAnswer<'a>>,
    times: Vec<Duration>,
    searched: usize,
    wall: Duration,
    distances: f64,
    hops: f64,
    /// The mean beam width, of the queries that walked a graph.
    ef_search: f64,
}

impl Run<'_> {
    fn ns_per_distance(&self, threads: usize) -> f64 {
        let query = self.wall.as_secs_f64() * threads as f64 / self.searched as f64;
        if self.distances > 0.0 { query * 1e9 / self.distances } else { 0.0 }
    }

    /// `times` is sorted.
    fn percentile_us(&self, share: f64) -> f64 {
        let place = (share * (self.times.len() - 1) as f64).round() as usize;
        self.times[place].as_secs_f64() * 1e6
    }
}

fn measure<'a>(
    db: &'a VectorDB,
    queries: &Matrix,
    args: &AnnArgs,
    options: &SearchOptions,
    shortest: Duration,
) -> anyhow::Result<Run<'a>> {
    for query in 0..queries.rows.min(20) {
        db.search_hits(queries.row(query), args.k, options)?;
    }
    let start = Instant::now();
    let workers: Vec<anyhow::Result<Worker<'_>>> = std::thread::scope(|scope| {
        let start_worker =
            |first| scope.spawn(move || search_share(db, queries, args, options, first, start, shortest));
        let running: Vec<_> = (0..args.threads).map(start_worker).collect();
        running.into_iter().map(|thread| thread.join().expect("a search does not panic")).collect()
    });
    let wall = start.elapsed();
    let mut answers: Vec<HitsAnswer<'_>> = vec![HitsAnswer::default(); queries.rows];
    let (mut times, mut searched) = (Vec::new(), 0);
    for worker in workers {
        let worker = worker?;
        searched += worker.searched;
        worker.answers.into_iter().for_each(|(query, answer)| answers[query] = answer);
        times.extend(worker.times);
    }
    times.sort_unstable();
    let computed: usize = answers.iter().map(|answer| answer.distance_computations).sum();
    let expanded: usize = answers.iter().map(|answer| answer.hops).sum();
    let per_query = |total: usize| total as f64 / queries.rows as f64;
    let (distances, hops) = (per_query(computed), per_query(expanded));
    let widths: Vec<usize> = answers.iter().filter_map(|answer| answer.ef_search).collect();
    let ef_search = widths.iter().sum::<usize>() as f64 / widths.len().max(1) as f64;
    Ok(Run { answers, times, searched, wall, distances, hops, ef_search })
}

struct Worker<'a> {
    answers: Vec<(usize, HitsAnswer<'a>)>,
    times: Vec<Duration>,
    searched: usize,
}

/// Searches every `--threads`-th batch of queries from the `first` on, again and again until the time is over.
fn search_share<'a>(
    db: &'a VectorDB,
    queries: &Matrix,
    args: &AnnArgs,
    options: &SearchOptions,
    first: usize,
    start: Instant,
    shortest: Duration,
) -> anyhow::Result<Worker<'a>> {
    // Inside a pool of one thread a search uses no other.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
    let _pool = pool.context("a pool of one thread")?;
    let mut worker = Worker { answers: Vec::new(), times: Vec::new(), searched: 0 };
    let all: Vec<&[f32]> = (0..queries.rows).map(|query| queries.row(query)).collect();
    let mut first_round = true;
    while first_round || start.elapsed() < shortest {
        for (number, batch) in all.chunks(args.batch).enumerate().skip(first).step_by(args.threads) {
            let began = Instant::now();
            let answers = match batch {
                [query] => vec![db.search_hits(query, args.k, options)?],
                _ => db.search_hits_batch(batch, args.k, options)?,
            };
            worker.times.push(began.elapsed());
            worker.searched += batch.len();
            if first_round {
                worker.answers.extend((number * args.batch..).zip(answers));
            }
        }
        first_round = false;
    }
    Ok(worker)
}

fn recall(answers: &[HitsAnswer<'_>], truth: &GroundTruth, k: usize, metric: Metric) -> f64 {
    let found: usize = answers
        .iter()
        .enumerate()
        .map(|(query, answer)| {
            let nearest = &truth.neighbors(query)[..k];
            let last = truth.distances.get(query * truth.k + k - 1).copied();
            let is_right = |id: &str, distance: f32| {
                let by_id = id.parse().is_ok_and(|id: i32| nearest.contains(&id));
                by_id || last.is_some_and(|last| ties(comparable(metric, distance), last))
            };
            answer.hits.iter().filter(|hit| is_right(hit.id(), hit.distance)).count().min(k)
        })
        .sum();
    found as f64 / (answers.len() * k) as f64
}

/// A reported distance in the ground truth's terms: squared L2, 1 − cosine, or the negated product.
fn comparable(metric: Metric, distance: f32) -> f32 {
    match metric {
        Metric::Euclidean => distance * distance,
        Metric::Cosine => 1.0 - distance,
        Metric::DotProduct => -distance,
        Metric::Manhattan => distance,
    }
}

fn ties(distance: f32, last: f32) -> bool {
    (distance - last).abs() <= 1e-6 * last.abs()
}

fn round(value: f64, per_unit: f64) -> f64 {
    (value * per_unit).round() / per_unit
}

/// Resident memory of the process in MB (2²⁰ bytes); 0 where the system does not tell.
fn resident_mb() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    kilobytes.unwrap_or(0.0) / 1024.0
}
