//! The parts of the program `vdb`, as a library, so that tests and benchmarks can use them without a process.
//!
//! [`formats`] reads vector files.

#![forbid(unsafe_code)]

pub mod formats;
