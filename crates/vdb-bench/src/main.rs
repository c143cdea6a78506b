//! Runs the contenders in turn and writes what came out: see the library's page.
#![forbid(unsafe_code)]

use anyhow::{Context, bail, ensure};
use clap::Parser;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use vdb_bench::args::Args;
use vdb_bench::contenders::{CONTENDERS, Contender, Kind, chosen};
use vdb_bench::machine::{Machine, commit};
use vdb_bench::results::{Outcome, Results, Round, Task};
use vdb_bench::{install, plot, process, table};

/// Threads that build an index; `benchmarks/peers.py` has the same number.
const BUILD_THREADS: u32 = 2;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if args.list {
        for contender in CONTENDERS {
            println!("{:<18} {}", contender.name, contender.label);
        }
        return Ok(());
    }
    let contenders = chosen(&args.only)?;
    if args.install {
        for package in install::install(&args.venv, &contenders)? {
            eprintln!("{package} could not be installed: it will be reported as absent");
        }
    }
    let results = match (&args.data, &args.set) {
        _ if !args.from.is_empty() => read(&args.from, &contenders)?,
        (Some(data), Some(set)) => Bench::new(&args, data, set)?.run(&contenders)?,
        _ => return Ok(()),
    };
    if let Some(path) = &args.out {
        save(path, &results)?;
    }
    if let Some(path) = &args.svg {
        write(path, &plot::svg(&results))?;
    }
    print!("{}", table::markdown(&results));
    Ok(())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| path.display().to_string())
}

/// Writes results beside their file first, so that a run that is stopped leaves whole ones.
fn save(path: &Path, results: &Results) -> anyhow::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    write(&part, &(serde_json::to_string_pretty(results)? + "\n"))?;
    fs::rename(&part, path).with_context(|| path.display().to_string())
}

/// One file of results.
fn load(path: &Path) -> anyhow::Result<Results> {
    let place = || path.display().to_string();
    let text = fs::read_to_string(path).with_context(place)?;
    serde_json::from_str(&text).with_context(place)
}

/// Puts entries into the order of the contenders.
fn order(results: &mut Results) {
    results.entries.sort_by_key(|entry| CONTENDERS.iter().position(|contender| contender.name == entry.name));
}

/// Earlier results, of the chosen contenders.
fn read(paths: &[PathBuf], contenders: &[&Contender]) -> anyhow::Result<Results> {
    let mut joined: Option<Results> = None;
    for path in paths {
        let results = load(path)?;
        match &mut joined {
            Some(joined) => joined.join(results).with_context(|| path.display().to_string())?,
            None => joined = Some(results),
        }
    }
    let Some(mut results) = joined else { bail!("--from names no file") };
    results.entries.retain(|entry| contenders.iter().any(|contender| contender.name == entry.name));
    order(&mut results);
    Ok(results)
}

/// What every round needs.
struct Bench<'a> {
    args: &'a Args,
    data: &'a Path,
    set: &'a str,
    /// The checkout that this program was built in.
    root: PathBuf,
    vdb: PathBuf,
    limit: Duration,
}

impl<'a> Bench<'a> {
    fn new(args: &'a Args, data: &'a Path, set: &'a str) -> anyhow::Result<Self> {
        let limit = Duration::try_from_secs_f64(args.limit);
        let limit = limit.ok().with_context(|| format!("--limit is {}, expected 0 or more", args.limit))?;
        ensure!(args.seconds.is_finite() && args.seconds >= 0.0, "--seconds is {}", args.seconds);
        let stats = data.join(set).join("stats.json");
        ensure!(stats.exists(), "{} is not there", stats.display());
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let root = root.canonicalize().with_context(|| root.display().to_string())?;
        let vdb = match &args.vdb {
            Some(vdb) => vdb.clone(),
            None => build_vdb(&root)?,
        };
        Ok(Self { args, data, set, root, vdb, limit })
    }

    /// What is there already, or nothing of anyone.
    fn start(&self) -> anyhow::Result<Results> {
        let task = Task {
            set: self.set.to_owned(),
            queries: self.args.queries.clone(),
            k: self.args.k,
            threads: self.args.threads,
            build_threads: BUILD_THREADS,
        };
        let (machine, commit) = (Machine::detect(), commit(&self.root));
        let empty = Results { task, machine, commit, entries: Vec::new() };
        match self.args.out.as_deref().filter(|path| self.args.resume && path.exists()) {
            Some(path) => {
                let earlier = load(path)?;
                earlier.same_run(&empty).with_context(|| format!("--resume of {}", path.display()))?;
                Ok(earlier)
            }
            None => Ok(empty),
        }
    }

    fn run(&self, contenders: &[&Contender]) -> anyhow::Result<Results> {
        let mut results = self.start()?;
        for number in 1..=self.args.rounds {
            for contender in contenders {
                let entry = results.entry_mut(contender.name, contender.label);
                if entry.rounds.len() >= number as usize || !entry.worth_a_round() {
                    continue;
                }
                let round = self.round(contender);
                let state = match &round.outcome {
                    Outcome::Measured => "measured".to_owned(),
                    Outcome::Stopped(limit) => format!("stopped after {limit} s"),
                    Outcome::Absent(reason) => format!("absent: {reason}"),
                    Outcome::Failed(reason) => format!("failed: {reason}"),
                };
                eprintln!("round {number} of {}: {} {state}", self.args.rounds, contender.name);
                entry.push(round);
                order(&mut results);
                if let Some(path) = &self.args.out {
                    save(path, &results)?;
                }
            }
        }
        Ok(results)
    }

    fn round(&self, contender: &Contender) -> Round {
        let mut command = match contender.kind {
            Kind::Ours(arguments) => {
                let mut command = Command::new(&self.vdb);
                command.args(["bench", "ann", "--json", "--index"]).args(arguments.split(' '));
                command.env("RAYON_NUM_THREADS", BUILD_THREADS.to_string());
                command
            }
            Kind::Peer(_) => {
                let python = install::python(&self.args.venv);
                if !python.exists() {
                    let reason = format!("no {}: --install creates it", python.display());
                    return Round::without_rows(Outcome::Absent(reason));
                }
                let mut command = Command::new(python);
                command.arg(self.root.join("benchmarks/peers.py")).args(["--peer", contender.name]);
                command
            }
        };
        command.arg("--data").arg(self.data).args(["--set", self.set, "--queries", &self.args.queries]);
        for (name, value) in [
            ("--k", self.args.k.to_string()),
            ("--threads", self.args.threads.to_string()),
            ("--seconds", self.args.seconds.to_string()),
        ] {
            command.args([name, &value]);
        }
        let mut round = process::run(&mut command, self.limit);
        if matches!(contender.kind, Kind::Ours(_)) && !round.rows.is_empty() {
            round.version = Some(env!("CARGO_PKG_VERSION").to_owned());
        }
        round
    }
}

/// Builds the workspace's program as it is measured: with all optimisations.
fn build_vdb(root: &Path) -> anyhow::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--quiet", "--locked", "-p", "vdb-cli"]).current_dir(root);
    let status = command.status().context("cargo build")?;
    ensure!(status.success(), "the program vdb could not be built");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(root.join(target).join("release").join("vdb"))
}
