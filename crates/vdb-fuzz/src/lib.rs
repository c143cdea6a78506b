//! What every decoder must survive: arbitrary bytes are an error or something that works, never a panic, and no
//! allocation is much larger than the input.
//!
//! A *target* takes bytes ([`Target::run`]) and has valid inputs of its own ([`Target::seeds`]). libFuzzer drives the
//! targets from `fuzz/`; `tests/mutations.rs` drives them on stable with a fixed number of mutations of the valid inputs.
//! Whatever a decoder accepts is used as its users would: codes are decoded and compared, indexes searched and changed,
//! databases searched, changed and saved.
#![forbid(unsafe_code)]

mod archive;
mod collection;
mod database;
mod fields;
mod index_parts;
mod log;
mod mutate;
mod quantizers;
mod segment;

pub use mutate::Mutator;

/// A body to fuzz and its valid inputs.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// As in `fuzz/fuzz_targets`.
    pub name: &'static str,
    /// Panics when something is wrong, and only then.
    pub run: fn(&[u8]),
    /// Inputs that are accepted, to start mutating from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: [Target; 11] = [
    Target { name: "quantizers", run: quantizers::run, seeds: quantizers::seeds },
    Target { name: "index_parts", run: index_parts::run, seeds: index_parts::seeds },
    Target { name: "log", run: log::run, seeds: log::seeds },
    Target { name: "archive", run: archive::run, seeds: archive::seeds },
    Target { name: "segment_ids", run: segment::ids, seeds: segment::ids_seeds },
    Target { name: "engine_record", run: collection::record, seeds: collection::record_seeds },
    Target { name: "engine_segment", run: collection::segment, seeds: collection::segment_seeds },
    Target { name: "engine_manifest", run: collection::manifest, seeds: collection::manifest_seeds },
    Target { name: "database_sections", run: database::sections, seeds: database::section_seeds },
    Target { name: "database_file", run: database::file, seeds: database::file_seeds },
    Target { name: "json", run: database::json, seeds: database::json_seeds },
];

/// Runs the target of this name.
///
/// # Panics
/// When there is none, or the target finds a fault.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    (target.expect("a target of this name").run)(data);
}
