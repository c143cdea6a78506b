//! The fuzz targets on stable: valid inputs and a fixed number of mutations of them, from a printed seed.
//!
//! `VDB_FUZZ_SEED` replays or changes the seed, `VDB_FUZZ_RUNS` the number of mutations a target.
#![allow(clippy::unwrap_used)]

use vdb_fuzz::{Mutator, TARGETS};

/// Memory that no small input may make the program take, in kB.
const MOST_MEMORY_KB: u64 = 2 << 20;

/// Tells which input was at fault.
struct Case<'a> {
    target: &'a str,
    seed: u64,
    number: u64,
    input: &'a [u8],
}

impl Drop for Case<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { target, seed, number, input } = self;
            let shown = &input[..input.len().min(200)];
            eprintln!("{target}: mutation {number} of seed {seed}, {} bytes: {shown:02x?}", input.len());
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// The most memory that the process has taken, where the system tells.
fn peak_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok()).unwrap_or(0)
}

fn survives(name: &str, runs: u64) {
    let (seed, runs) = (number("VDB_FUZZ_SEED", 1), number("VDB_FUZZ_RUNS", runs));
    println!("{name}: {runs} mutations of seed {seed}");
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let seeds = (target.seeds)();
    seeds.iter().for_each(|input| (target.run)(input));
    let mut mutator = Mutator::new(seed);
    for number in 0..runs {
        let input = mutator.input(&seeds);
        let case = Case { target: name, seed, number, input: &input };
        (target.run)(&input);
        drop(case);
    }
    let peak = peak_kb();
    assert!(peak < MOST_MEMORY_KB, "{name}: {peak} kB were taken");
}

#[test]
fn quantizers_survive_mutations() {
    survives("quantizers", 20_000);
}

#[test]
fn index_parts_survive_mutations() {
    survives("index_parts", 2_000);
}

#[test]
fn database_sections_survive_mutations() {
    survives("database_sections", 1_500);
}

#[test]
fn database_files_survive_mutations() {
    survives("database_file", 1_000);
}

#[test]
fn json_files_survive_mutations() {
    survives("json", 1_000);
}

#[test]
fn mutations_follow_from_the_seed_and_differ() {
    let seeds = vec![vec![1u8; 50], vec![2; 30]];
    let inputs = |seed| {
        let mut mutator = Mutator::new(seed);
        (0..50).map(|_| mutator.input(&seeds)).collect::<Vec<_>>()
    };
    assert_eq!(inputs(7), inputs(7));
    assert!(inputs(7) != inputs(8));
    assert!(inputs(7).iter().filter(|input| seeds.contains(input)).count() < 10);
}

#[test]
fn log_files_survive_mutations() {
    survives("log", 20_000);
}

#[test]
fn ids_of_segments_survive_mutations() {
    survives("segment_ids", 20_000);
}

#[test]
fn archives_survive_mutations() {
    survives("archive", 20_000);
}

#[test]
fn records_of_collections_survive_mutations() {
    survives("engine_record", 50_000);
}

#[test]
fn collections_survive_mutations() {
    survives("engine_segment", 4_000);
}

#[test]
fn manifests_survive_mutations() {
    survives("engine_manifest", 4_000);
}
