//! [`LiveIndex`](vdb_index::LiveIndex) as its users meet it: against a model, and under many threads.
#![allow(clippy::unwrap_used)]

mod model;
mod random;
mod stress;
