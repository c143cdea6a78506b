//! Collections: points by id, kept in immutable segments, found again after anything that can happen to a machine.
//!
//! A [`Database`] is a directory of [`Collection`]s. Points have an id (a number, a UUID or any text), a vector for some or all
//! of the collection's vector fields, and a payload, any JSON object. A write is acknowledged when it is in the log; searches
//! never wait for writers.
//!
//! ```
//! use vdb_distance::Metric;
//! use vdb_engine::{CollectionConfig, Database, Point, PointId, Search};
//!
//! # let folder = tempfile::tempdir()?;
//! let database = Database::open(folder.path())?;
//! let shoes = database.create_collection("shoes", &CollectionConfig::new(2, Metric::Euclidean))?;
//! shoes.upsert(vec![Point::new(7, vec![0.0, 1.0]), Point::new("boot", vec![5.0, 5.0])])?;
//! let answer = shoes.search(&Search::new(&[0.1, 1.0], 1))?;
//! assert_eq!(answer.hits[0].id, PointId::from(7));
//! assert!(answer.exact);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Limits: 65,536 values a vector, 256 vector fields a collection, 16 MiB of JSON a payload, 4,096 bytes of text an id,
//! 2³¹ − 1 points a segment; a batch is one record of at most 2³⁰ bytes.
#![forbid(unsafe_code)]

mod budget;
mod collection;
mod database;
mod error;
mod head;
mod manifest;
mod point;
mod point_id;
mod record;
mod schema;
mod segment;
mod view;
mod workers;

pub use collection::{Collection, CollectionInfo, Durability, Erased, JobKind, Progress, Settings, Written};
pub use database::{Database, Options};
pub use error::Error;
pub use point::{Condition, NamedVectors, Operation, Payload, Point, StoredPoint};
pub use point_id::PointId;
#[doc(hidden)]
pub use record::record_survives_a_round_trip;
pub use schema::{CollectionConfig, FieldIndex, MAX_DIM, MAX_FIELDS, VectorConfig};
pub use segment::{IdTable, write_ids};
pub use view::{Effort, Filter, Search, SearchAnswer, SearchHit, View};
