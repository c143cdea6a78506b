//! Rules of the whole workspace, read from its manifests, its lock file and its sources: who may depend on whom, where
//! `unsafe` may stand, that every file says what it is, and that the embedded library stays light.
#![allow(clippy::unwrap_used)]

mod manifests;
mod ring;
mod sources;
