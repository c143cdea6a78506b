//! The file of a segment: what its sections hold, read in place.

mod ids;

pub use ids::{IdTable, write_ids};
