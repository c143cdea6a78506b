//! Exact search: the plain scan, and the scan by bounds that reads a fraction of the memory.
//!
//! [`FlatScan`] compares every matching row. [`Flat`] keeps four-bit codes of the leading directions of the data beside
//! the vectors and compares only rows that their bounds cannot exclude; its answers are those of [`FlatScan`], bit for
//! bit. Where bounds do not pay (small data, white noise, Manhattan distance, rare matches), it is [`FlatScan`].

mod bounded;
mod scan;
#[cfg(test)]
mod tests;

pub use bounded::{Flat, FlatParts};
pub use scan::FlatScan;
