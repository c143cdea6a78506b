//! The command line: every command, its arguments and their help texts.

use clap::{Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use vdb_engine::Durability;
use vdb_index::HnswParams;
use vector_db_rs::{IndexType, LshFamily, Metric, Profile, Quantizer};

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
    /// Read vectors from files into a database file, or into a collection of a database directory, building its index
    Import(ImportArgs),
    /// Write the points of a collection to a file
    Export(ExportArgs),
    /// Find the records of a database file, or the points of a collection, nearest to a vector
    Search(SearchArgs),
    /// Tell what is in database files, vector files or a database directory
    Info(InfoArgs),
    /// Verify every checksum, id, payload and link of a database directory
    Check(CheckArgs),
    /// Make each collection one segment with a graph, without deleted points
    Compact(CompactArgs),
    /// Write a collection as it is now to one archive file
    Snapshot(SnapshotArgs),
    /// Make a collection of an archive file
    Restore(RestoreArgs),
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProfileName {
    /// compact below 262,144 vectors, fast from there on
    Auto,
    /// 16 links: least memory, shortest build
    Compact,
    /// 32 links: 128 bytes a vector more, faster over many vectors or for much recall
    Fast,
}

impl From<ProfileName> for Profile {
    fn from(name: ProfileName) -> Profile {
        match name {
            ProfileName::Auto => Profile::Auto,
            ProfileName::Compact => Profile::Compact,
            ProfileName::Fast => Profile::Fast,
        }
    }
}

/// Parameters of a graph, the same for every command that builds one.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct GraphArgs {
    /// HNSW: what the graph spends memory on
    #[arg(long, value_enum, default_value_t = ProfileName::Auto)]
    pub(crate) profile: ProfileName,
    /// HNSW: links a new vector makes on each layer, 2 to 128 [default: as the profile says]
    #[arg(long, conflicts_with = "profile")]
    pub(crate) m: Option<usize>,
    /// HNSW: beam width while building
    #[arg(long, default_value_t = 200)]
    pub(crate) ef_construction: usize,
}

impl GraphArgs {
    pub(crate) fn params(&self, seed: u64) -> HnswParams {
        let m = self.m.or(Profile::from(self.profile).m());
        HnswParams { m, ef_construction: self.ef_construction, seed, ..HnswParams::default() }
    }
}

/// Parameters of an index, the same for every command that builds one.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct IndexArgs {
    #[command(flatten)]
    pub(crate) graph: GraphArgs,
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
    /// The database file; records are added to it when it exists. With --collection: the database directory
    #[arg(long)]
    pub(crate) db: PathBuf,
    /// The collection of a database directory; points are added to it when it exists
    #[arg(long)]
    pub(crate) collection: Option<String>,
    /// Points that are written, and made durable, at once
    #[arg(long, default_value_t = 1_000, requires = "collection")]
    pub(crate) batch: usize,
    /// What a batch survives once it is acknowledged: `sync` a power failure; `interval` too, a tenth of a second later;
    /// `none` the end of the program only
    #[arg(long, value_enum, default_value_t = DurabilityName::Sync, requires = "collection")]
    pub(crate) durability: DurabilityName,
    /// End without waiting until the index is complete
    #[arg(long, requires = "collection")]
    pub(crate) no_wait: bool,
    #[command(flatten)]
    pub(crate) memory: MemoryArgs,
    /// Index of a new database, or collection
    #[arg(long, value_enum, default_value_t = IndexName::Hnsw)]
    pub(crate) index: IndexName,
    /// Metric of a new database: euclidean (l2), cosine, dot (ip) or manhattan (l1)
    #[arg(long, default_value = "cosine")]
    pub(crate) metric: Metric,
    #[command(flatten)]
    pub(crate) parameters: IndexArgs,
    /// Print the outcome as JSON; of a collection, a line {"acknowledged": points so far} after each batch, too
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DurabilityName {
    Sync,
    Interval,
    None,
}

impl From<DurabilityName> for Durability {
    fn from(name: DurabilityName) -> Durability {
        match name {
            DurabilityName::Sync => Durability::Sync,
            DurabilityName::Interval => Durability::Interval,
            DurabilityName::None => Durability::None,
        }
    }
}

/// The memory budget of commands that write to a database directory.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct MemoryArgs {
    /// Of a database directory: MiB that recent points, merges and pinned parts take at most [default: half of the machine's]
    #[arg(long, value_name = "MIB")]
    pub(crate) memory_budget: Option<u64>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// The file: .jsonl with everything, or .npy and .fbin with the vectors, in the order of the ids
    pub(crate) file: PathBuf,
    /// The database directory
    #[arg(long)]
    pub(crate) db: PathBuf,
    /// The collection
    #[arg(long)]
    pub(crate) collection: String,
    /// The vector to write, where points have several [default: all of them, or the only one]
    #[arg(long, value_name = "NAME")]
    pub(crate) vector: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// The database directory
    #[arg(long)]
    pub(crate) db: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct CompactArgs {
    /// The database directory
    #[arg(long)]
    pub(crate) db: PathBuf,
    /// The collection [default: all]
    #[arg(long)]
    pub(crate) collection: Option<String>,
    #[command(flatten)]
    pub(crate) memory: MemoryArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SnapshotArgs {
    /// The archive file, which is replaced when it exists
    pub(crate) file: PathBuf,
    /// The database directory
    #[arg(long)]
    pub(crate) db: PathBuf,
    /// The collection
    #[arg(long)]
    pub(crate) collection: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RestoreArgs {
    /// The archive file
    pub(crate) file: PathBuf,
    /// The database directory; made when it is missing
    #[arg(long)]
    pub(crate) db: PathBuf,
    /// What the collection is to be called [default: the file's name without its extension]
    #[arg(long)]
    pub(crate) collection: Option<String>,
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["vector", "id", "queries"]))]
pub(crate) struct SearchArgs {
    /// The database file; with --collection, the database directory
    #[arg(long)]
    pub(crate) db: PathBuf,
    /// The collection of a database directory
    #[arg(long)]
    pub(crate) collection: Option<String>,
    /// The vector to compare, where points have several
    #[arg(long, value_name = "NAME", requires = "collection")]
    pub(crate) vector_name: Option<String>,
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
    /// LSH: records to compare, of a collection in each segment [default: as many as find nine in ten neighbours]
    #[arg(long)]
    pub(crate) candidates: Option<usize>,
    /// Flat with a quantizer: records per result that are compared exactly
    #[arg(long)]
    pub(crate) oversampling: Option<usize>,
    /// IVF: posting lists to probe, of a collection in each segment
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
    #[arg(required_unless_present = "db")]
    pub(crate) files: Vec<PathBuf>,
    /// A database directory
    #[arg(long, conflicts_with = "files")]
    pub(crate) db: Option<PathBuf>,
    /// Print one JSON object per file, or collection
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
    /// A collection on disk: batches into it, opening it in another process, searches, on a data set with ground truth
    Embedded(EmbeddedArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct EmbeddedArgs {
    /// Folder of the data sets
    #[arg(long)]
    pub(crate) data: PathBuf,
    /// Data set: a folder with base.*, query.*, gt.ibin and stats.json
    #[arg(long)]
    pub(crate) set: String,
    /// Which queries: `query` with gt.ibin, or another name with NAME.gt.ibin
    #[arg(long, default_value = "query")]
    pub(crate) queries: String,
    /// Give points their payload, and search under the set's filters, too
    #[arg(long)]
    pub(crate) filters: bool,
    /// Points that are written, and made durable, at once
    #[arg(long, default_value_t = 1_000)]
    pub(crate) batch: usize,
    /// Folder of the database, which must not exist or hold a database of this command [default: one that is removed at the end]
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// Threads that build the index
    #[arg(long, default_value_t = 2)]
    pub(crate) threads: usize,
    /// Shortest time to search with a setting, in seconds, over all queries once at least
    #[arg(long, default_value_t = 1.0)]
    pub(crate) seconds: f64,
    /// Write only so many rows of the base, and leave the second half out, for the true neighbours are among all rows
    #[arg(long)]
    pub(crate) rows: Option<u64>,
    /// A thread searches while points are written, while the rest is indexed, and afterwards, and each write is timed
    #[arg(long)]
    pub(crate) probe: bool,
    /// Then so many points a second are written beside that thread, for twenty times `--seconds`: the next rows of the base, or
    /// the first ones again; it does not search before everything is indexed
    #[arg(long, requires = "probe")]
    pub(crate) paced: Option<f64>,
    #[command(flatten)]
    pub(crate) memory: MemoryArgs,
    /// Print one JSON object per phase and setting
    #[arg(long)]
    pub(crate) json: bool,
    /// The second half, in a process of its own
    #[arg(long, hide = true)]
    pub(crate) reopen: bool,
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
    #[command(flatten)]
    pub(crate) graph: GraphArgs,
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
    /// File of the set with the queries, instead of held-out rows: `query`, say
    #[arg(long, value_name = "NAME")]
    pub(crate) query_file: Option<String>,
    /// Rows go through a live index that starts with none, written in batches
    #[arg(long)]
    pub(crate) live: bool,
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
    /// Recalls to aim at, comma-separated, instead of beam widths
    #[arg(long, value_delimiter = ',')]
    pub(crate) target_recall: Vec<f64>,
    /// Passes over the queries; the fastest counts
    #[arg(long, default_value_t = 3)]
    pub(crate) passes: usize,
    #[command(flatten)]
    pub(crate) graph: GraphArgs,
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
    /// Compare vectors by this metric, and count their true neighbours anew: euclidean (l2), cosine, dot (ip) or manhattan (l1)
    /// [default: the set's]
    #[arg(long, conflicts_with = "filter")]
    pub(crate) metric: Option<Metric>,
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
