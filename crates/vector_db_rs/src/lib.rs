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
//! # Limits
//! 1 to 65,536 dimensions; 2³¹ − 1 records, deleted ones that a graph still leads through included. Everything is held
//! in memory; [`VectorDB::save_binary`] and [`VectorDB::load_binary`] keep it in a file.
//!
//! # What this crate is not
//! Not a server, and not yet a durable store: a change is on disk when a save has returned.
#![forbid(unsafe_code)]

mod binary;
mod config;
mod db;
mod error;
mod files;
mod filter_cache;
mod ids;
mod index;
mod json;
mod random;
mod record;
mod store;

pub use config::{DistanceMetric, IndexType, MAX_DIMENSION, VectorDBConfig};
pub use db::{VectorDB, VectorDBBuilder};
pub use error::Error;
pub use index::{FlatIndex, HNSWIndex, IVFIndex, LSHIndex, VectorIndex};
pub use random::{generate_random_vectors, generate_random_vectors_seeded};
pub use record::{HitsAnswer, SearchAnswer, SearchHit, SearchOptions, SearchResult, VectorRecord};
pub use vdb_distance::Metric;
pub use vdb_index::CodeKind as Quantizer;
pub use vdb_index::LshFamily;
pub use vdb_storage::StorageError;
