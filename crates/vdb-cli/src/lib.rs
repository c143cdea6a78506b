//! The program `vdb`: a demonstration on real data, import from the usual vector files, search, and benchmarks.
//!
//! `main.rs` only parses arguments and reports errors; each command is a module. Results go to standard output, as text
//! for people or, with `--json`, as one JSON object a line; progress and errors go to standard error.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod dataset;
pub mod formats;
mod payload_filter;
mod progress;
mod sample;

pub use args::Args;
pub use commands::run;
pub use sample::Sample;
