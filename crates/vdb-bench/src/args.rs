//! The command line.

use clap::Parser;
use std::path::PathBuf;

/// Measure vector_db_rs beside public libraries and draw recall against queries per second
#[derive(Debug, Parser)]
#[command(name = "vdb-bench", version)]
pub struct Args {
    /// Folder of the data sets
    #[arg(long, required_unless_present_any = ["from", "list", "install"])]
    pub data: Option<PathBuf>,
    /// Data set: a folder with base.*, query.*, gt.ibin and stats.json
    #[arg(long, required_unless_present_any = ["from", "list", "install"])]
    pub set: Option<String>,
    /// Stem of the files with the queries: `query`, or `holdout` with the truth in holdout.gt.ibin
    #[arg(long, default_value = "query")]
    pub queries: String,
    /// Neighbours to find
    #[arg(long, default_value_t = 10)]
    pub k: usize,
    /// Rounds of each contender, with --resume those of before included; figures are medians over them
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Threads that search; all build with two
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub threads: u32,
    /// Shortest time to search with one setting, in seconds
    #[arg(long, default_value_t = 1.0)]
    pub seconds: f64,
    /// Longest time for one contender in one round, in seconds; who needs longer is stopped, has the figures that it came
    /// to, and is not asked in later rounds
    #[arg(long, default_value_t = 1800.0)]
    pub limit: f64,
    /// Names of contenders, or beginnings of names, comma-separated; all when not given
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// File to write all measurements to, after each round of each contender
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Go on with the measurements in --out, where there are some: of the same task, machine and commit
    #[arg(long, requires = "out", conflicts_with = "from")]
    pub resume: bool,
    /// File to draw the curves into
    #[arg(long)]
    pub svg: Option<PathBuf>,
    /// Virtual environment of Python with the peers
    #[arg(long, default_value = "target/vdb-bench/venv")]
    pub venv: PathBuf,
    /// Create the virtual environment and install the peers of --only from PyPI first
    #[arg(long)]
    pub install: bool,
    /// The program `vdb` to measure; when not given, the workspace's is built
    #[arg(long)]
    pub vdb: Option<PathBuf>,
    /// Measure nothing: take earlier results, of several runs when given more than once
    #[arg(long, conflicts_with_all = ["data", "set", "install"])]
    pub from: Vec<PathBuf>,
    /// Name the contenders
    #[arg(long)]
    pub list: bool,
}
