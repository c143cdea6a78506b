//! Floors of recall on the bundled sample of real sentence embeddings, by index, setting and metric, at a fixed seed.
//!
//! The graph is walked whatever the number of records, so that it is the graph that is measured. A floor is what was
//! measured less a hundredth; each run prints what it measures.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use vdb_cli::Sample;
use vector_db_rs::{IndexType, Metric, SearchOptions, VectorDB, VectorRecord};

const K: usize = 10;
const METRICS: [Metric; 3] = [Metric::Cosine, Metric::Euclidean, Metric::DotProduct];

fn database(sample: &Sample, metric: Metric, index_type: IndexType) -> VectorDB {
    let builder = VectorDB::builder().dimension(Sample::DIMENSION).metric(metric).index(index_type);
    let mut db = builder.exact_scan_factor(0).seed(1).build().unwrap();
    let records = sample.entries.iter().enumerate().map(|(place, entry)| VectorRecord {
        id: entry.id.clone(),
        vector: entry.vector.iter().map(|value| value * length(metric, place)).collect(),
        metadata: [("pos".to_owned(), entry.pos.clone())].into(),
    });
    db.batch_insert(records.collect()).unwrap();
    db
}

/// The length of an entry's vector. The model's vectors have the length 1, which makes all metrics agree; with lengths
/// from 0.75 to 1.25 each has answers of its own.
fn length(metric: Metric, place: usize) -> f32 {
    if metric == Metric::Cosine { 1.0 } else { 0.75 + 0.5 * (place * 37 % 101) as f32 / 100.0 }
}

/// The ids that a search answers with, for each query of the sample.
fn found(db: &VectorDB, sample: &Sample, options: &SearchOptions) -> Vec<HashSet<String>> {
    let search = |query: &[f32]| db.search_hits(query, K, options).unwrap();
    let ids = |query| search(query).hits.iter().map(|hit| hit.id().to_owned()).collect();
    sample.queries.iter().map(|query| ids(&query.vector)).collect()
}

fn share(found: &[HashSet<String>], truth: &[HashSet<String>]) -> f64 {
    let right: usize = found.iter().zip(truth).map(|(found, truth)| found.intersection(truth).count()).sum();
    right as f64 / truth.iter().map(HashSet::len).sum::<usize>() as f64
}

/// Recall of `options` against the exact answers under the same filter, printed and held to its floor.
fn check(what: &str, db: &VectorDB, sample: &Sample, options: SearchOptions, floor: f64) {
    let truth = found(db, sample, &options.clone().exact(true));
    let recall = share(&found(db, sample, &options), &truth);
    println!("{what:<40} recall@{K} {recall:.4}, at least {floor}");
    assert!(recall >= floor, "{what}: recall@{K} is {recall}, expected at least {floor}");
}

/// The answers that come with the sample, computed elsewhere: what `exact` gives is right.
#[test]
fn flat_finds_the_published_neighbours() {
    let sample = Sample::load();
    let db = database(&sample, Metric::Cosine, IndexType::Flat);
    let published: Vec<HashSet<String>> = sample
        .queries
        .iter()
        .map(|query| {
            query.nearest[..K].iter().map(|&place| sample.entries[place as usize].id.clone()).collect()
        })
        .collect();
    let recall = share(&found(&db, &sample, &SearchOptions::new()), &published);
    println!("flat, published neighbours: recall@{K} {recall:.4}");
    assert_eq!(recall, 1.0);
    for metric in METRICS {
        let db = database(&sample, metric, IndexType::Flat);
        check(&format!("flat {metric}"), &db, &sample, SearchOptions::new(), 1.0);
    }
}

#[test]
fn hnsw_reaches_its_floors() {
    let sample = Sample::load();
    for (metric, floors) in [
        (Metric::Cosine, [0.960, 0.981, 0.989, 0.990]),
        (Metric::Euclidean, [0.931, 0.974, 0.988, 0.989]),
        (Metric::DotProduct, [0.879, 0.938, 0.975, 0.984]),
    ] {
        let db = database(&sample, metric, IndexType::HNSW);
        for (ef_search, floor) in [16, 32, 64, 128].into_iter().zip(floors) {
            let options = SearchOptions::new().ef_search(ef_search);
            check(&format!("hnsw {metric}, ef_search {ef_search}"), &db, &sample, options, floor);
        }
    }
}

#[test]
fn lsh_reaches_its_floors() {
    let sample = Sample::load();
    for (metric, floors) in [
        (Metric::Cosine, [0.801, 0.888, 0.948]),
        (Metric::Euclidean, [0.726, 0.820, 0.908]),
        (Metric::DotProduct, [0.735, 0.839, 0.918]),
    ] {
        let db = database(&sample, metric, IndexType::LSH);
        for (candidates, floor) in [200, 400, 800].into_iter().zip(floors) {
            let options = SearchOptions::new().candidates(candidates);
            check(&format!("lsh {metric}, {candidates} candidates"), &db, &sample, options, floor);
        }
    }
}

/// Four in ten entries are nouns, a quarter verbs, one in seventeen an adverb.
#[test]
fn filtered_search_reaches_its_floors() {
    let sample = Sample::load();
    let hnsw = database(&sample, Metric::Cosine, IndexType::HNSW);
    let lsh = database(&sample, Metric::Cosine, IndexType::LSH);
    for (pos, hnsw_floor, lsh_floor) in
        [("noun", 0.990, 0.957), ("verb", 0.987, 0.962), ("adv", 0.990, 0.990)]
    {
        let options = || SearchOptions::new().filter("pos", pos);
        check(&format!("hnsw, pos={pos}"), &hnsw, &sample, options().ef_search(64), hnsw_floor);
        check(&format!("lsh, pos={pos}"), &lsh, &sample, options(), lsh_floor);
    }
}

#[test]
fn hnsw_keeps_its_recall_when_a_third_is_deleted() {
    let sample = Sample::load();
    for (metric, floors) in [
        (Metric::Cosine, [0.977, 0.990]),
        (Metric::Euclidean, [0.974, 0.989]),
        (Metric::DotProduct, [0.933, 0.985]),
    ] {
        let mut db = database(&sample, metric, IndexType::HNSW);
        let deleted: Vec<&str> = sample.entries.iter().step_by(3).map(|entry| entry.id.as_str()).collect();
        assert!(deleted.iter().all(|id| db.delete(id)));
        assert_eq!(db.size(), sample.entries.len() - deleted.len());
        for (ef_search, floor) in [32, 128].into_iter().zip(floors) {
            let options = SearchOptions::new().ef_search(ef_search);
            check(
                &format!("hnsw {metric} less a third, ef_search {ef_search}"),
                &db,
                &sample,
                options,
                floor,
            );
        }
    }
}
