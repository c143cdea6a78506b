//! `vdb bench embedded`: a data set into a collection in durable batches, until everything is indexed; then the collection is
//! opened in a process of its own, with the files in the page cache, and searched one query at a time.
//!
//! The phases and their figures are those that embedded databases of others are measured by: `ingest` (seconds to write all,
//! seconds until everything is indexed and the database closed, peak memory of the process, disk), `open`, `search` and, with
//! `--filters`, `filter`. A neighbour counts as found by its id. Filters are evaluated on the payload of every point in each
//! search. `--probe` adds a line for each phase of searches beside the ingest, see [`probe`].

use super::folder_size;
use super::probe::{self, Phase, Probe, Writes};
use crate::args::EmbeddedArgs;
use crate::dataset::DataSet;
use crate::formats::{GroundTruth, Matrix, PointReader};
use crate::payload_filter::Definition;
use crate::progress;
use anyhow::{Context, bail, ensure};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use vdb_engine::{Collection, CollectionConfig, Database, Effort, Payload, Point, PointId, Search};

const COLLECTION: &str = "bench";
pub(super) const K: usize = 10;
const EF_SEARCH: [usize; 7] = [10, 16, 32, 64, 128, 256, 512];
const TARGET_RECALL: [f64; 2] = [0.95, 0.99];
/// The beam width of the first queries, which are not measured but for the very first.
const WARMING_EF: usize = 64;
const WARMING_QUERIES: usize = 100;
/// A setting after one with this recall has nothing left to show.
const ENOUGH: f64 = 0.9985;
/// The first pass over the queries ends early after so long, once it has had this many.
const LONGEST_PASS: Duration = Duration::from_secs(3);
const LEAST_QUERIES: usize = 200;
/// The same under filters, which read every payload.
const LEAST_FILTERED_QUERIES: usize = 20;
/// The fields of payloads that points get.
const FIELDS: [&str; 5] = ["n_lemmas", "bucket", "pos", "depth", "domains"];

pub(crate) fn embedded(args: &EmbeddedArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    ensure!(args.batch > 0, "--batch is 0, expected at least 1");
    let shortest = Duration::try_from_secs_f64(args.seconds);
    let shortest =
        shortest.ok().with_context(|| format!("--seconds is {}, expected 0 or more", args.seconds))?;
    let set = DataSet::open(&args.data, &args.set)?;
    if args.reopen {
        let folder = args.dir.as_ref().context("--reopen goes with --dir")?;
        return reopened(args, &set, folder, shortest, out);
    }
    // Told before the work is done.
    let queries = set.vectors(&args.queries)?.rows;
    set.truth(&args.queries, None, queries, K)?;
    if args.filters {
        set.filters()?;
    }
    let (folder, _temporary) = folder(args)?;
    ingest(args, &set, &folder, shortest, out)?;
    out.flush()?;
    // The true neighbours are among the rows of the base, all of them and no others.
    if args.rows.is_some() || args.paced.is_some() { Ok(()) } else { run_reopened(args, &folder) }
}

/// The folder of the database, and what removes it at the end unless it was named.
fn folder(args: &EmbeddedArgs) -> anyhow::Result<(PathBuf, Option<tempfile::TempDir>)> {
    let Some(folder) = &args.dir else {
        let temporary =
            tempfile::Builder::new().prefix("vdb-embedded-").tempdir().context("a temporary folder")?;
        return Ok((temporary.path().to_owned(), Some(temporary)));
    };
    let is_free = fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none());
    if !is_free {
        let is_ours = Database::open_read_only(folder).is_ok_and(|found| found.names() == [COLLECTION]);
        ensure!(is_ours, "{}: there is something else here: name another folder by --dir", folder.display());
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    Ok((folder.clone(), None))
}

/// The rows of the base as points, one after the other, numbered from 0 whichever row comes.
struct Points<'a> {
    args: &'a EmbeddedArgs,
    set: &'a DataSet,
    base: PointReader,
    payloads: Option<Lines<BufReader<File>>>,
    /// Rows of the base that were read since it was last opened.
    row: u64,
    id: u64,
}

impl<'a> Points<'a> {
    fn open(args: &'a EmbeddedArgs, set: &'a DataSet) -> anyhow::Result<Self> {
        let (base, payloads) = Self::readers(args, set)?;
        Ok(Self { args, set, base, payloads, row: 0, id: 0 })
    }

    fn readers(
        args: &EmbeddedArgs,
        set: &DataSet,
    ) -> anyhow::Result<(PointReader, Option<Lines<BufReader<File>>>)> {
        let payloads = args.filters.then(|| payloads(&set.payload())).transpose()?;
        Ok((PointReader::open(&set.path("base")?)?, payloads))
    }

    /// The next one with the number of its values; `None` behind the last.
    fn next(&mut self) -> anyhow::Result<Option<(Point, usize)>> {
        let Some(mut record) = self.base.next().transpose()? else { return Ok(None) };
        if let Some(payloads) = &mut self.payloads {
            record.payload = next_payload(payloads, &self.set.payload(), self.row)?;
        }
        let (values, id) = (record.values(), self.id);
        self.row += 1;
        self.id += 1;
        Ok(Some((record.into_point(PointId::from(id)), values)))
    }

    /// So many of the next ones; behind the last row comes the first.
    fn cycle(&mut self, count: usize) -> anyhow::Result<Vec<Point>> {
        let mut points = Vec::with_capacity(count);
        while points.len() < count {
            match self.next()? {
                Some((point, _)) => points.push(point),
                None => {
                    (self.base, self.payloads) = Self::readers(self.args, self.set)?;
                    self.row = 0;
                }
            }
        }
        Ok(points)
    }
}

fn ingest(
    args: &EmbeddedArgs,
    set: &DataSet,
    folder: &Path,
    shortest: Duration,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let mut base = Points::open(args, set)?;
    let bar = progress::bytes("ingesting", base.base.bytes_total());
    let queries = args.probe.then(|| set.vectors(&args.queries).map(Arc::new)).transpose()?;
    let before_mb = peak_mb();
    let start = Instant::now();
    let database = args.memory.options().threads(args.threads).open(folder)?;
    let (mut collection, mut batch) = (None::<Arc<Collection>>, Vec::new());
    let (mut probe, mut writes) = (None, Writes::default());
    loop {
        let next = if args.rows.is_some_and(|rows| base.id >= rows) { None } else { base.next()? };
        let is_last = next.is_none();
        if let Some((point, values)) = next {
            if collection.is_none() {
                let config = CollectionConfig::new(values, set.metric);
                let made = database.create_collection(COLLECTION, &config)?;
                collection = Some(made);
            }
            batch.push(point);
        }
        if let Some(collection) = &collection
            && (batch.len() == args.batch || is_last && !batch.is_empty())
        {
            writes.upsert(collection, std::mem::take(&mut batch))?;
            if probe.is_none() && args.paced.is_none() {
                probe = queries.as_ref().map(|queries| Probe::start(collection, queries));
            }
            bar.set_position(base.base.bytes_read());
        }
        if is_last {
            break;
        }
    }
    bar.finish_and_clear();
    let ingested = start.elapsed();
    let collection = collection.context("the base holds no vectors")?;
    if let Some(probe) = &mut probe {
        probe.enter(Phase::Index);
    }
    super::with_merge_bar(&collection, || collection.optimize())?;
    let mut indexed = start.elapsed() - ingested;
    let points = base.id;
    let mut rows = Vec::new();
    if let Some(queries) = &queries {
        let probe = probe.unwrap_or_else(|| Probe::start(&collection, queries));
        rows = probe.finish(&collection, writes, args.paced, shortest, |count| base.cycle(count))?;
    }
    let closing = Instant::now();
    drop(collection);
    database.close()?;
    indexed += closing.elapsed();
    let disk_mb = folder_size(folder)?.disk_bytes as f64 / 1e6;
    let row = json!({
        "phase": "ingest", "points": points, "batch": args.batch, "ingest_s": round(ingested.as_secs_f64(), 10.0),
        "index_s": round(indexed.as_secs_f64(), 10.0), "peak_mb": peak_mb(), "before_mb": before_mb,
        "disk_mb": round(disk_mb, 10.0),
    });
    say(args, row, out)?;
    rows.into_iter().try_for_each(|row| say(args, row, out))
}

fn payloads(path: &Path) -> anyhow::Result<Lines<BufReader<File>>> {
    Ok(BufReader::new(File::open(path).with_context(|| path.display().to_string())?).lines())
}

fn next_payload(lines: &mut Lines<BufReader<File>>, path: &Path, row: u64) -> anyhow::Result<Payload> {
    let place = || format!("{}, line {}", path.display(), row + 1);
    let line = lines.next().with_context(|| format!("{}: no record for row {row}", path.display()))?;
    let mut record: Payload = serde_json::from_str(&line.with_context(place)?).with_context(place)?;
    record.retain(|field, _| FIELDS.contains(&field.as_str()));
    Ok(record)
}

/// Runs the program again for the second half.
fn run_reopened(args: &EmbeddedArgs, folder: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(std::env::current_exe().context("where this program is")?);
    command.args(["bench", "embedded", "--reopen", "--queries", &args.queries, "--set", &args.set]);
    command.arg("--data").arg(&args.data).arg("--dir").arg(folder);
    command.args(["--seconds", &args.seconds.to_string(), "--threads", &args.threads.to_string()]);
    if let Some(budget) = args.memory.memory_budget {
        command.args(["--memory-budget", &budget.to_string()]);
    }
    command.args(args.filters.then_some("--filters")).args(args.json.then_some("--json"));
    let status = command.stdin(Stdio::null()).status().context("running this program again")?;
    match status.success() {
        true => Ok(()),
        false => bail!("the process that opened the database again ended with {status}"),
    }
}

fn reopened(
    args: &EmbeddedArgs,
    set: &DataSet,
    folder: &Path,
    shortest: Duration,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let queries = set.vectors(&args.queries)?;
    let truth = set.truth(&args.queries, None, queries.rows, K)?;
    let start = Instant::now();
    let database = args.memory.options().threads(args.threads).open(folder)?;
    let collection = database.collection(COLLECTION)?;
    let opened = start.elapsed();
    let warming = Effort::EfSearch(WARMING_EF);
    collection.search(&Search::new(queries.row(0), K).effort(warming))?;
    let first = start.elapsed() - opened;
    let ms = |time: Duration| round(time.as_secs_f64() * 1e3, 10.0);
    say(args, json!({"phase": "open", "open_ms": ms(opened), "first_query_ms": ms(first)}), out)?;
    for query in 0..queries.rows.min(WARMING_QUERIES) {
        collection.search(&Search::new(queries.row(query), K).effort(warming))?;
    }
    let sweep = Sweep { args, collection: &collection, queries: &queries, shortest };
    sweep.run(&truth, None, out)?;
    if args.filters {
        for (name, definition) in set.filters()? {
            let truth = set.truth(&args.queries, Some(&name), queries.rows, K)?;
            sweep.run(&truth, Some((&name, &definition)), out)?;
        }
    }
    drop(collection);
    Ok(database.close()?)
}

struct Sweep<'a> {
    args: &'a EmbeddedArgs,
    collection: &'a Collection,
    queries: &'a Matrix,
    shortest: Duration,
}

impl Sweep<'_> {
    fn run(
        &self,
        truth: &GroundTruth,
        filter: Option<(&str, &Definition)>,
        out: &mut dyn Write,
    ) -> anyhow::Result<()> {
        for ef in EF_SEARCH {
            let recall = self.setting(truth, filter, json!(ef), Effort::EfSearch(ef), out)?;
            if recall > ENOUGH {
                break;
            }
        }
        for target in TARGET_RECALL {
            self.setting(truth, filter, json!(format!("t{target}")), Effort::TargetRecall(target), out)?;
        }
        Ok(())
    }

    /// Searches with one setting and prints its line; gives its recall.
    fn setting(
        &self,
        truth: &GroundTruth,
        filter: Option<(&str, &Definition)>,
        param: Value,
        effort: Effort,
        out: &mut dyn Write,
    ) -> anyhow::Result<f64> {
        let wanted =
            filter.and_then(|(_, definition)| definition.matches).map_or(K, |matches| matches.min(K));
        let least = if filter.is_some() { LEAST_FILTERED_QUERIES } else { LEAST_QUERIES };
        // A comparison that there is not allows nothing; it was refused when the filters were first read.
        let passes = |_: &PointId, payload: &Payload| {
            filter.is_none_or(|(_, definition)| definition.holds(payload).unwrap_or(false))
        };
        let (mut times, mut found, mut short, mut counted) = (Vec::new(), 0, 0, 0);
        let start = Instant::now();
        'passes: for pass in 0.. {
            for query in 0..self.queries.rows {
                let mut search = Search::new(self.queries.row(query), K).effort(effort);
                if filter.is_some() {
                    search = search.filter(&passes);
                }
                let began = Instant::now();
                let answer = self.collection.search(&search)?;
                times.push(began.elapsed());
                if pass == 0 {
                    let ids: BTreeSet<PointId> = answer.hits.into_iter().map(|hit| hit.id).collect();
                    short += usize::from(ids.len() < wanted);
                    let nearest = truth.neighbors(query)[..K].iter();
                    found +=
                        nearest.filter(|id| **id >= 0 && ids.contains(&PointId::from(**id as u64))).count();
                    counted += 1;
                }
                if pass == 0 && times.len() >= least && start.elapsed() > LONGEST_PASS {
                    break 'passes;
                }
            }
            if start.elapsed() >= self.shortest {
                break;
            }
        }
        let count = times.len();
        let total: Duration = times.iter().sum();
        times.sort_unstable();
        let us = |place: usize| round(times[place].as_secs_f64() * 1e6, 10.0);
        let recall = found as f64 / (counted * wanted) as f64;
        let mut row = json!({
            "phase": "search", "param": param, "recall": round(recall, 1e4), "short": short, "queries": count,
            "qps": round(count as f64 / total.as_secs_f64(), 10.0), "p50_us": us(count / 2),
            "p99_us": us(count * 99 / 100), "peak_mb": peak_mb(),
        });
        if let Some((name, _)) = filter {
            (row["phase"], row["filter"]) = (json!("filter"), json!(name));
        }
        say(self.args, row, out)?;
        Ok(recall)
    }
}

/// Prints a row: as JSON with what was measured, or in columns.
fn say(args: &EmbeddedArgs, row: Value, out: &mut dyn Write) -> anyhow::Result<()> {
    let Value::Object(row) = row else { unreachable!("rows are objects") };
    if args.json {
        let mut line = Map::from_iter([("db".to_owned(), json!("vdb")), ("set".to_owned(), json!(args.set))]);
        line.extend(row);
        writeln!(out, "{}", serde_json::to_string(&line)?)?;
    } else {
        const COLUMNS: [&str; 15] = [
            "phase",
            "filter",
            "points",
            "batch",
            "ingest_s",
            "index_s",
            "before_mb",
            "open_ms",
            "first_query_ms",
            "param",
            "recall",
            "qps",
            "p50_us",
            "p99_us",
            "peak_mb",
        ];
        for column in COLUMNS.into_iter().chain(["disk_mb", "short", "queries"]).chain(probe::COLUMNS) {
            match row.get(column) {
                Some(Value::String(text)) if column == "phase" => write!(out, "{text:<7}")?,
                Some(Value::String(text)) => write!(out, " {column} {text:>6}")?,
                Some(value) => write!(out, " {column} {:>6}", value.to_string())?,
                None => {}
            }
        }
        writeln!(out)?;
    }
    Ok(out.flush()?)
}

pub(super) fn round(value: f64, per_unit: f64) -> f64 {
    (value * per_unit).round() / per_unit
}

/// The most memory of the process so far in MB (2²⁰ bytes); 0 where the system does not tell.
fn peak_mb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    (kilobytes.unwrap_or(0.0) / 1024.0).round() as u64
}
