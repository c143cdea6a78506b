//! Collections: points by id, kept in immutable segments, found again after anything that can happen to a machine.
//!
//! So far the parts that a segment's file is made of: [`PointId`] and [`IdTable`], which finds the row of an id in a mapped
//! file without reading the file first.
#![forbid(unsafe_code)]

mod error;
mod point_id;
mod segment;

pub use error::Error;
pub use point_id::PointId;
pub use segment::{IdTable, write_ids};
