//! Kernels over codes, where the `unsafe` code of this crate belongs: a kernel value exists only for an
//! instruction set that the CPU was found to have, and its safe entries check every length.

pub(crate) mod compiled;
pub(crate) mod fastscan;
pub(crate) mod hadamard;
pub(crate) mod hamming;
pub(crate) mod int8;
pub(crate) mod planes;
pub(crate) mod tile;
