//! Storage backends: the suite that all pass, crashes, and calls that fail.

#![allow(clippy::unwrap_used)]

mod archive;
mod clone;
mod crash;
mod faults;
mod kill;
mod making;
mod retention;
mod suite;
