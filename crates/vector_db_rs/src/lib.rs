//! A vector database as a library: records of an id, a vector and metadata; the nearest ones to a query, by meaning.
//!
//! ```
//! use std::collections::HashMap;
//! use vector_db_rs::{DistanceMetric, IndexType, SearchOptions, VectorDB, VectorDBConfig, VectorRecord};
//!
//! let mut db = VectorDB::new(VectorDBConfig {
//!     dimension: 3,
//!     distance_metric: DistanceMetric::Cosine,
//!     index_type: IndexType::HNSW,
//! });
//! for (id, vector, color) in [("sky", [0.1, 0.2, 0.9], "blue"), ("sea", [0.0, 0.3, 0.8], "blue"),
//!                             ("rose", [0.9, 0.1, 0.2], "red")] {
//!     db.insert(VectorRecord {
//!         id: id.to_string(),
//!         vector: vector.to_vec(),
//!         metadata: HashMap::from([("color".to_string(), color.to_string())]),
//!     })?;
//! }
//! let nearest = db.search(&[0.8, 0.2, 0.3], 1)?;
//! assert_eq!(nearest[0].record.id, "rose");
//!
//! let blue = SearchOptions::new().filter("color", "blue");
//! let answer = db.search_with(&[0.8, 0.2, 0.3], 2, &blue)?;
//! assert_eq!(answer.results.len(), 2);
//! assert!(answer.exact);
//! # Ok::<(), vector_db_rs::Error>(())
//! ```
//!
//! # Concepts
//! - **Index types**: [`IndexType::Flat`] compares everything and is exact; [`IndexType::HNSW`] is the graph for large
//!   collections; [`IndexType::IVF`] takes a fraction of its memory and build time; [`IndexType::LSH`] is there because
//!   it is specified. [`VectorDB::builder`] sets their parameters.
//! - **A quantizer** ([`VectorDBBuilder::quantizer`]) makes a Flat database scan short codes and compare only the best
//!   records exactly: several times faster than the exact scan, and no longer exact.
//! - **Results** are ordered by (similarity descending, id), and there are min(k, matching records) of them.
//!   [`SearchAnswer::exact`] says whether they are provably the nearest.
//! - **A zero vector under Cosine** has the similarity 0 to every vector: it is stored, found and searched with by this
//!   rule.
//! - **Input** is validated: a wrong dimension, NaN or infinity is an [`Error`] that names the record; a batch is
//!   inserted as a whole or not at all.
//!
//! # In memory or in a directory
//! [`VectorDB::new`] holds everything in memory; [`VectorDB::save_binary`] and [`VectorDB::load_binary`] keep it in a file.
//! [`VectorDB::open`] has the same methods, on a directory: every change is durable when the call returns, and is found
//! again after a crash; opening takes milliseconds.
//!
//! ```
//! use vector_db_rs::{DistanceMetric, IndexType, VectorDB, VectorDBConfig, VectorRecord};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path();
//! let config =
//!     VectorDBConfig { dimension: 2, distance_metric: DistanceMetric::Euclidean, index_type: IndexType::HNSW };
//! let mut db = VectorDB::open(path, config.clone())?;
//! db.insert(VectorRecord { id: "here".into(), vector: vec![0.0, 1.0], metadata: Default::default() })?;
//! drop(db);
//! assert!(VectorDB::open(path, config)?.contains("here"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The engine below it can do more: [`Database`]s of many [`Collection`]s, points with several vectors and any JSON as
//! payload, conditional upserts, times to expire, snapshots, archives. It is here as it is; what has the name of one of the
//! specification's types is in [`engine`].
//!
//! # Limits
//! 1 to 65,536 dimensions; in memory 2³¹ − 1 records, deleted ones that a graph still leads through included, in a directory
//! as many a segment; there an id has at most 4,096 bytes and metadata 16 MiB as JSON.
//!
//! # What this crate is not
//! Not a server: one process writes to a directory, any number read beside it.
#![forbid(unsafe_code)]

mod binary;
mod builder;
mod config;
mod db;
mod durable;
mod error;
mod files;
mod filter_cache;
mod ids;
mod index;
mod json;
mod random;
mod record;
mod store;

pub use builder::VectorDBBuilder;
pub use config::{DistanceMetric, IndexType, MAX_DIMENSION, VectorDBConfig};
pub use db::VectorDB;
pub use error::Error;
pub use index::{FlatIndex, HNSWIndex, IVFIndex, LSHIndex, VectorIndex};
pub use random::{generate_random_vectors, generate_random_vectors_seeded};
pub use record::{HitsAnswer, SearchAnswer, SearchHit, SearchOptions, SearchResult, VectorRecord};
pub use vdb_distance::Metric;
/// The whole engine; its `Error`, `SearchAnswer` and `SearchHit` are not those of [`VectorDB`].
pub use vdb_engine as engine;
pub use vdb_engine::{
    Collection, CollectionConfig, CollectionInfo, Condition, Database, Durability, Effort, Erased,
    FieldIndex, Filter, JobKind, NamedVectors, Operation, Options, Payload, Point, PointId, Progress, Search,
    Settings, StoredPoint, VectorConfig, View, Written,
};
pub use vdb_index::CodeKind as Quantizer;
pub use vdb_index::{LshFamily, Profile};
pub use vdb_storage::StorageError;
