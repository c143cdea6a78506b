//! The quality of graphs over fixed data, held against a committed text: recall, hops, distances, degrees.
//!
//! Distances are the same bits on every instruction set, so the numbers are the same everywhere and compared exactly.
//! `VDB_BASELINES=write cargo test -p vdb-index baseline` writes the text anew; its diff is reviewed like code.

use super::*;
use crate::testing::{METRICS, Rng, brute_force, filled, recall};
use std::fmt::Write;
use std::path::Path;
use vdb_distance::Metric;

const PARAMS: HnswParams = HnswParams { m: Some(8), ef_construction: 80, exact_scan_factor: 0, seed: 7 };
const DIM: usize = 32;
const CLUSTERS: usize = 40;

#[test]
fn graphs_are_as_they_were() {
    let mut text = String::from("# VDB_BASELINES=write cargo test -p vdb-index baseline\n");
    for metric in METRICS {
        // With codes, and too few rows for them.
        for rows in [400, 3_000] {
            let mut rng = Rng(71);
            let (mut vectors, offsets) = filled(metric, (0..rows).map(|_| rng.clustered(DIM, CLUSTERS)));
            let mut hnsw = Hnsw::new(PARAMS);
            hnsw.insert(&vectors, &offsets);
            describe(&mut text, "bulk", &vectors, &hnsw);
            for offset in (0..rows as u32).step_by(3) {
                vectors.remove(offset);
                hnsw.remove(&vectors, offset);
            }
            for _ in 0..rows / 10 {
                let offset = vectors.push(&rng.clustered(DIM, CLUSTERS));
                hnsw.insert(&vectors, &[offset]);
            }
            describe(&mut text, "churned", &vectors, &hnsw);
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("baselines/hnsw.txt");
    if std::env::var_os("VDB_BASELINES").is_some_and(|value| value == "write") {
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    for (committed, now) in committed.lines().zip(text.lines()) {
        assert_eq!(committed, now, "see {}", path.display());
    }
    assert_eq!(committed.lines().count(), text.lines().count());
}

fn describe(text: &mut String, what: &str, vectors: &Vectors, hnsw: &Hnsw) {
    let GraphStats { live, dead, base_links, layers, unreachable } = hnsw.stats();
    let metric: Metric = vectors.metric();
    writeln!(
        text,
        "\n{metric} {what}: {live} live, {dead} dead, {base_links} links, {layers} layers, {unreachable} unreachable, \
         {} distances to build",
        hnsw.build_distances()
    )
    .unwrap();
    let mut degrees = [0; 9];
    hnsw.live().for_each(|node| degrees[hnsw.graph.links(0, node).len() / 2] += 1);
    writeln!(text, "nodes by degree 0-1, 2-3, ... 16: {degrees:?}").unwrap();
    for ef in [10, 20, 40, 80] {
        let mut rng = Rng(72);
        let (mut right, mut distances, mut hops) = (0.0, 0, 0);
        for _ in 0..100 {
            let query = rng.clustered(DIM, CLUSTERS);
            let request = Request::new(&query, 10);
            let answer = hnsw.search(vectors, &request, ef);
            right += 10.0 * recall(&answer.hits, &brute_force(vectors, &request));
            distances += answer.distance_computations;
            hops += answer.hops;
        }
        writeln!(text, "ef {ef}: {right:.0} of 1000 found, {distances} distances, {hops} hops").unwrap();
    }
}
