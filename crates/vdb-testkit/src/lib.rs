//! What the tests of several crates share.
//!
//! [`SimFiles`] is a file system in memory that knows what was synced and what was not, so that a test can stop at any
//! call, lose what a power failure may lose, and look at what is left; it also fails calls and runs out of space.
//! [`conformance`] holds every storage backend to what `vdb_storage::backend` promises.
#![forbid(unsafe_code)]

pub mod conformance;
mod sim;

pub use sim::{Loss, SimFiles};
