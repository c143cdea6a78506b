//! The command line: every command, its arguments and their help texts.

use clap::{Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use vector_db_rs::{IndexType, LshFamily, Metric, Quantizer};

/// A vector database: store vectors with metadata, find the nearest ones.
#[derive(Debug, Parser)]
#[command(name = "vdb", version, about, arg_required_else_help = false)]
pub struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Search a bundled sample of real sentence embeddings by meaning; what `vdb` does when told nothing else
    Demo(DemoArgs),
    /// Read vectors from files into a database file, building its index
    Import(ImportArgs),
    /// Find the records of a database file nearest to a vector
    Search(SearchArgs),
    /// Tell what is in database files or vector files
    Info(InfoArgs),
    /// Measure speed and recall
    Bench(BenchArgs),
}

#[derive(Debug, Default, clap::Args)]
pub(crate) struct DemoArgs {
    /// Show what lies nearest to entries of the sample that contain these words
    pub(crate) words: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum IndexName {
    Flat,
    Lsh,
    Hnsw,
    Ivf,
}

impl From<IndexName> for IndexType {
    fn from(name: IndexName) -> IndexType {
        match name {
            IndexName::Flat => IndexType::Flat,
            IndexName::Lsh => IndexType::LSH,
            IndexName::Hnsw => IndexType::HNSW,
            IndexName::Ivf => IndexType::IVF,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LshFamilyName {
    Hyperplane,
    FastHyperplane,
    CrossPolytope,
}

impl From<LshFamilyName> for LshFamily {
    fn from(name: LshFamilyName) -> LshFamily {
        match name {
            LshFamilyName::Hyperplane => LshFamily::Hyperplane,
            LshFamilyName::FastHyperplane => LshFamily::FastHyperplane,
            LshFamilyName::CrossPolytope => LshFamily::CrossPolytope,
        }
    }
}

/// Parameters of an index, the same for every command that builds one.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct IndexArgs {
    /// HNSW: links a new vector makes on each layer
    #[arg(long, default_value_t = 16)]
    pub(crate) m: usize,
    /// HNSW: beam width while building
    #[arg(long, default_value_t = 200)]
    pub(crate) ef_construction: usize,
    /// LSH: family of hash functions
    #[arg(long, value_enum, default_value_t = LshFamilyName::CrossPolytope)]
    pub(crate) lsh_family: LshFamilyName,
    /// LSH: number of hash tables [default: 16]
    #[arg(long)]
    pub(crate) num_tables: Option<usize>,
    /// LSH: bits of a table's codes at most [default: as many as suit the records]
    #[arg(long)]
    pub(crate) num_functions: Option<usize>,
    /// Flat: scan codes and compare only the best exactly: sq8, sq4, pq8, pq4, opq, rabitq1 to rabitq8, binary, f16,
    /// bf16 or u8; the exact scan when not given
    #[arg(long)]
    pub(crate) quantizer: Option<Quantizer>,
    /// Flat with a product quantizer: pieces that a vector is cut into; 0 for the default
    #[arg(long, default_value_t = 0)]
    pub(crate) subspaces: usize,
    /// IVF: posting lists; about 3 times the root of the number of records unless given
    #[arg(long)]
    pub(crate) lists: Option<usize>,
    /// IVF: bits per dimension of a code
    #[arg(long, default_value_t = 4)]
    pub(crate) bits: u8,
    /// IVF: store every record in its second list, too
    #[arg(long)]
    pub(crate) spill: bool,
    /// Seed of everything random about the index
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    /// fvecs, bvecs, fbin, u8bin, i8bin, f16bin, npy, jsonl or json files
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// The database file; records are added to it when it exists
    #[arg(long)]
    pub(crate) db: PathBuf,
    /// Index of a new database
    #[arg(long, value_enum, default_value_t = IndexName::Hnsw)]
    pub(crate) index: IndexName,
    /// Metric of a new database: euclidean (l2), cosine, dot (ip) or manhattan (l1)
    #[arg(long, default_value = "cosine")]
    pub(crate) metric: Metric,
    #[command(flatten)]
    pub(crate) parameters: IndexArgs,
    /// Print the outcome as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["vector", "id", "queries"]))]
pub(crate) struct SearchArgs {
    /// The database file
    #[arg(long)]
    pub(crate) db: PathBuf,
    /// The query vector: comma-separated numbers
    #[arg(long, value_delimiter = ',', allow_hyphen_values = true)]
    pub(crate) vector: Option<Vec<f32>>,
    /// Search for what is near the record with this id
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// A file of query vectors, in any format that import reads
    #[arg(long)]
    pub(crate) queries: Option<PathBuf>,
    /// How many results
    #[arg(short, long, default_value_t = 10)]
    pub(crate) k: usize,
    /// HNSW: beam width
    #[arg(long)]
    pub(crate) ef_search: Option<usize>,
    /// HNSW: share of the true neighbours to find, on average, unless a beam width is given [default: 0.95]
    #[arg(long)]
    pub(crate) target_recall: Option<f64>,
    /// LSH: records to compare [default: as many as find nine in ten neighbours]
    #[arg(long)]
    pub(crate) candidates: Option<usize>,
    /// Flat with a quantizer: records per result that are compared exactly
    #[arg(long)]
    pub(crate) oversampling: Option<usize>,
    /// IVF: posting lists to probe
    #[arg(long)]
    pub(crate) probes: Option<usize>,
    /// Only records whose metadata field equals a value: KEY=VALUE, repeatable
    #[arg(long, value_parser = parse_filter)]
    pub(crate) filter: Vec<(String, String)>,
    /// Compare every matching record
    #[arg(long)]
    pub(crate) exact: bool,
    /// Print one JSON object per query
    #[arg(long)]
    pub(crate) json: bool,
}

fn parse_filter(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    pair.ok_or_else(|| format!("{text:?} has no '=', expected KEY=VALUE"))
}

#[derive(Debug, clap::Args)]
pub(crate) struct InfoArgs {
    /// Database files or vector files
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Print one JSON object per file
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(crate) bench: Bench,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Recall against queries per second on a data set with ground truth
    Ann(AnnArgs),
    /// Size, speed and accuracy of every quantizer's codes on a data set with ground truth
    Quantizers(QuantizersArgs),
    /// A graph whose content is replaced again and again, beside a fresh one
    Churn(ChurnArgs),
    /// Searches of an index that is written at the same time, beside searches of it at rest
    Concurrent(ConcurrentArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ConcurrentArgs {
    /// Folder of the data sets
    #[arg(long)]
    pub(crate) data: PathBuf,
    /// Data set: a folder with base.* and stats.json
    #[arg(long)]
    pub(crate) set: String,
    /// Rows of the base to use, drawn at random [default: all]
    #[arg(long)]
    pub(crate) rows: Option<usize>,
    /// Rows that are held out as queries
    #[arg(long, default_value_t = 500)]
    pub(crate) queries: usize,
    /// Threads that search
    #[arg(long, default_value_t = 1)]
    pub(crate) readers: usize,
    /// Seconds that each phase takes
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
    /// Writes a second, deletes and inserts counted each [default: as many as there is time for]
    #[arg(long)]
    pub(crate) writes_per_s: Option<f64>,
    /// Threads of the pool that merges run in
    #[arg(long, default_value_t = 1)]
    pub(crate) merge_threads: usize,
    /// Neighbours to find
    #[arg(long, default_value_t = 10)]
    pub(crate) k: usize,
    /// Share of the true neighbours to find, on average, unless a beam width is given
    #[arg(long, default_value_t = 0.95)]
    pub(crate) target_recall: f64,
    /// Beam width of the searches
    #[arg(long)]
    pub(crate) ef_search: Option<usize>,
    /// Fewer recent rows are never merged into the graph [default: 256]
    #[arg(long)]
    pub(crate) least_recent: Option<usize>,
    /// Links a node makes per layer
    #[arg(long, default_value_t = 16)]
    pub(crate) m: usize,
    /// Beam width while building
    #[arg(long, default_value_t = 200)]
    pub(crate) ef_construction: usize,
    /// Decides which rows are what, which are replaced, and the graph's levels
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Print one JSON object per phase
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ChurnArgs {
    /// Folder of the data sets
    #[arg(long)]
    pub(crate) data: PathBuf,
    /// Data set: a folder with base.* and stats.json
    #[arg(long)]
    pub(crate) set: String,
    /// Rows of the base to use, drawn at random [default: all]
    #[arg(long)]
    pub(crate) rows: Option<usize>,
    /// Rows that are held out as queries
    #[arg(long, default_value_t = 1_000)]
    pub(crate) queries: usize,
    /// How often the content is replaced
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    /// Rows that are deleted, and then inserted, at once
    #[arg(long, default_value_t = 1)]
    pub(crate) batch: usize,
    /// Neighbours to find
    #[arg(long, default_value_t = 10)]
    pub(crate) k: usize,
    /// Beam widths of the searches, comma-separated
    #[arg(long, value_delimiter = ',', default_value = "32,96")]
    pub(crate) ef_search: Vec<usize>,
    /// Passes over the queries; the fastest counts
    #[arg(long, default_value_t = 3)]
    pub(crate) passes: usize,
    /// Links a node makes per layer
    #[arg(long, default_value_t = 16)]
    pub(crate) m: usize,
    /// Beam width while building
    #[arg(long, default_value_t = 200)]
    pub(crate) ef_construction: usize,
    /// Decides which rows are what, the order of updates and the graph's levels
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Print one JSON object per round and beam width
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct QuantizersArgs {
    /// Folder of the data sets
    #[arg(long)]
    pub(crate) data: PathBuf,
    /// Data set: a folder with base.*, query.*, gt.ibin and stats.json
    #[arg(long)]
    pub(crate) set: String,
    /// Quantizers to measure, comma-separated, a product quantizer perhaps with its pieces, as in pq8:64; all by default
    #[arg(long, value_delimiter = ',')]
    pub(crate) quantizers: Vec<String>,
    /// Rows of the base to use, the first so many, with truth computed for them [default: all, with gt.ibin]
    #[arg(long)]
    pub(crate) rows: Option<usize>,
    /// Queries to measure with, at most
    #[arg(long, default_value_t = 200)]
    pub(crate) queries: usize,
    /// Print one JSON object per quantizer
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AnnArgs {
    /// Folder of the data sets
    #[arg(long)]
    pub(crate) data: PathBuf,
    /// Data set: a folder with base.*, query.*, gt.ibin and stats.json
    #[arg(long)]
    pub(crate) set: String,
    /// Which queries: `query` with gt.ibin, or another name with NAME.gt.ibin
    #[arg(long, default_value = "query")]
    pub(crate) queries: String,
    /// Index to measure
    #[arg(long, value_enum)]
    pub(crate) index: IndexName,
    /// Neighbours to find
    #[arg(long, default_value_t = 10)]
    pub(crate) k: usize,
    /// Threads that search, each one query at a time; the index is built on all cores
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    /// Queries that are given to one search call; times are of calls
    #[arg(long, default_value_t = 1)]
    pub(crate) batch: usize,
    /// Index the first rows of the base only, and count their true neighbours anew
    #[arg(long, conflicts_with = "filter")]
    pub(crate) rows: Option<usize>,
    /// Database file: its index is measured; where there is none yet, the built one is saved to it
    #[arg(long, conflicts_with = "filter")]
    pub(crate) db: Option<PathBuf>,
    /// Search settings, comma-separated: ef_search for HNSW, candidates for LSH (0: its default), probes for IVF,
    /// oversampling for Flat with a quantizer
    #[arg(long, value_delimiter = ',')]
    pub(crate) params: Vec<usize>,
    /// HNSW: shares of the true neighbours to find, comma-separated, instead of beam widths
    #[arg(long, value_delimiter = ',', conflicts_with = "params")]
    pub(crate) target_recall: Vec<f64>,
    /// Search under these filters, comma-separated, one after the other: names in the set's filters.json, on its
    /// payload.jsonl, with gt.filter.NAME.ibin; `none` searches without
    #[arg(long, value_delimiter = ',')]
    pub(crate) filter: Vec<String>,
    /// Shortest time to spend on a setting, in seconds
    #[arg(long, default_value_t = 1.5)]
    pub(crate) seconds: f64,
    #[command(flatten)]
    pub(crate) parameters: IndexArgs,
    /// Print one JSON object per setting
    #[arg(long)]
    pub(crate) json: bool,
}
