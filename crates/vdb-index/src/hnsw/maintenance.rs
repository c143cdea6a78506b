//! What a graph must keep while rows come and go, and when graphs are merged: tests against brute force and fresh graphs.

use super::*;
use crate::testing::{METRICS, Rng, brute_force, filled, recall};
use vdb_distance::Metric;

const PARAMS: HnswParams = HnswParams { m: Some(8), ef_construction: 80, exact_scan_factor: 0, seed: 7 };
const DIM: usize = 24;

fn clustered(rng: &mut Rng) -> Vec<f32> {
    rng.clustered(DIM, 20)
}

/// Rows that come and go, and the graph over them.
struct Churned {
    vectors: Vectors,
    hnsw: Hnsw,
    free: Vec<u32>,
}

impl Churned {
    fn new(metric: Metric, dim: usize, params: HnswParams) -> Self {
        Churned { vectors: Vectors::new(metric, dim), hnsw: Hnsw::new(params), free: Vec::new() }
    }

    fn insert(&mut self, rows: &[Vec<f32>]) {
        let mut place = |row: &Vec<f32>| match self.free.pop() {
            Some(offset) => {
                self.vectors.set(offset, row);
                offset
            }
            None => self.vectors.push(row),
        };
        let offsets: Vec<u32> = rows.iter().map(&mut place).collect();
        self.hnsw.insert(&self.vectors, &offsets);
    }

    fn remove_any(&mut self, rng: &mut Rng) {
        let live = self.vectors.live();
        let victim = live.iter().nth(rng.below(live.count())).unwrap();
        self.vectors.remove(victim);
        self.free.extend(self.hnsw.remove(&self.vectors, victim));
    }
}

/// Mean recall@10 and mean distances of held-out queries.
fn quality(vectors: &Vectors, hnsw: &Hnsw, ef: usize, query: impl Fn(&mut Rng) -> Vec<f32>) -> (f64, f64) {
    const QUERIES: usize = 200;
    let mut rng = Rng(99);
    let (mut right, mut distances) = (0.0, 0);
    for _ in 0..QUERIES {
        let query = query(&mut rng);
        let request = Request::new(&query, 10);
        let answer = hnsw.search(vectors, &request, ef);
        let truth = brute_force(vectors, &request);
        assert_eq!(answer.hits.len(), truth.len());
        right += recall(&answer.hits, &truth);
        distances += answer.distance_computations;
    }
    (right / QUERIES as f64, distances as f64 / QUERIES as f64)
}

/// A fresh graph over the live rows.
fn fresh(churned: &Vectors, params: HnswParams) -> (Vectors, Hnsw) {
    let rows = churned.live().iter().map(|offset| churned.row(offset).to_vec());
    let (vectors, offsets) = filled(churned.metric(), rows);
    let mut hnsw = Hnsw::new(params);
    hnsw.insert(&vectors, &offsets);
    (vectors, hnsw)
}

/// Replaces the content five times; recall may be less by `allowance` than that of a fresh graph, at any beam width.
fn check_churn(batch: usize, row: fn(&mut Rng) -> Vec<f32>, allowance: f64) {
    let mut rng = Rng(31);
    let mut churned = Churned::new(Metric::Cosine, row(&mut rng).len(), PARAMS);
    let rows: Vec<Vec<f32>> = (0..2_000).map(|_| row(&mut rng)).collect();
    churned.insert(&rows);
    for _ in 0..5 * 2_000 / batch {
        (0..batch).for_each(|_| churned.remove_any(&mut rng));
        let rows: Vec<Vec<f32>> = (0..batch).map(|_| row(&mut rng)).collect();
        churned.insert(&rows);
    }
    let stats = churned.hnsw.stats();
    assert_eq!((stats.live, stats.unreachable), (2_000, 0));
    assert!(churned.vectors.len() <= 2_000 + 2_000 / 9 + 2 * batch, "{} rows", churned.vectors.len());
    let (vectors, fresh) = fresh(&churned.vectors, PARAMS);
    for ef in [16, 32, 64] {
        let (old, computed) = quality(&churned.vectors, &churned.hnsw, ef, row);
        let (new, computed_fresh) = quality(&vectors, &fresh, ef, row);
        let what = format!(
            "batches of {batch}, ef {ef}: {old}, {computed} distances; fresh {new}, {computed_fresh}"
        );
        assert!(old > new - allowance, "{what}");
        // Beams are wider by the share of deleted nodes, at most a ninth.
        assert!(computed < computed_fresh * 1.15, "{what}");
    }
}

#[test]
fn content_replaced_five_times_is_searched_as_a_fresh_graph() {
    for batch in [1, 100] {
        check_churn(batch, |rng| rng.vector(16), 0.005);
    }
}

/// Clusters of a hundred rows, far from each other: a beam that comes down in the wrong one may not find the way out.
#[test]
fn distant_clusters_stay_linked_while_content_is_replaced() {
    for batch in [1, 100] {
        check_churn(batch, clustered, 0.005);
    }
}

#[test]
fn single_insertions_leave_every_node_reachable() {
    // Tiny rows, so that backward links push others out all the time.
    let params = HnswParams { m: Some(2), ef_construction: 8, ..PARAMS };
    for metric in METRICS {
        for seed in 0..4 {
            let mut rng = Rng(1_000 * seed);
            let mut churned = Churned::new(metric, 3, HnswParams { seed, ..params });
            let row = |rng: &mut Rng| if rng.below(4) == 0 { vec![0.5; 3] } else { rng.clustered(3, 5) };
            for step in 0..600 {
                let row = row(&mut rng);
                churned.insert(&[row]);
                if step > 100 && rng.below(3) == 0 {
                    churned.remove_any(&mut rng);
                }
                assert_eq!(churned.hnsw.stats().unreachable, 0, "{metric}, seed {seed}, step {step}");
            }
        }
    }
}

/// Random operations against brute force, with limits so small that rare paths are common.
#[test]
fn random_operations_agree_with_brute_force() {
    for seed in 0..60 {
        let mut rng = Rng(mix_seed(seed));
        let metric = METRICS[rng.below(METRICS.len())];
        let params = HnswParams {
            m: Some(2 + rng.below(3)),
            ef_construction: 1 + rng.below(12),
            exact_scan_factor: 0,
            seed: rng.next(),
        };
        let dim = 1 + rng.below(4);
        let mut churned = Churned::new(metric, dim, params);
        let (mut searched, mut right) = (0, 0.0);
        for step in 0..150 {
            let what = format!("seed {seed}, step {step}: {metric}, {params:?}");
            match rng.below(10) {
                0..4 => {
                    let count = if rng.below(5) == 0 { rng.below(40) } else { 1 };
                    let rows: Vec<Vec<f32>> = (0..count)
                        .map(|_| if rng.below(6) == 0 { vec![1.0; dim] } else { rng.vector(dim) })
                        .collect();
                    churned.insert(&rows);
                }
                4..6 if churned.vectors.live().count() > 0 => {
                    (0..1 + rng.below(churned.vectors.live().count()).min(20))
                        .for_each(|_| churned.remove_any(&mut rng));
                }
                6 => {
                    let parts = churned.hnsw.to_parts();
                    churned.hnsw = Hnsw::from_parts(&churned.vectors, parts).expect(&what);
                }
                _ => {
                    let query = rng.vector(dim);
                    let allowed = BitSet::from_fn(churned.vectors.len(), |_| rng.below(3) > 0);
                    let allowed = (rng.below(2) == 0).then_some(&allowed);
                    let request = Request { allowed, ..Request::new(&query, 1 + rng.below(8)) };
                    let answer = churned.hnsw.search(&churned.vectors, &request, 1_000);
                    let truth = brute_force(&churned.vectors, &request);
                    assert_eq!(answer.hits.len(), truth.len(), "{what}");
                    assert!(answer.hits.is_sorted_by(|a, b| a.distance <= b.distance), "{what}");
                    for hit in &answer.hits {
                        assert!(churned.vectors.live().contains(hit.offset), "{what}");
                        assert!(allowed.is_none_or(|allowed| allowed.contains(hit.offset)), "{what}");
                        let value = metric.calculate(&query, &churned.vectors.row(hit.offset));
                        assert_eq!(hit.distance, vdb_distance::Distance::from_value(metric, value), "{what}");
                    }
                    searched += 1;
                    right += recall(&answer.hits, &truth);
                }
            }
            let stats = churned.hnsw.stats();
            assert_eq!((stats.live, stats.unreachable), (churned.vectors.live().count(), 0), "{what}");
        }
        // The beam holds all nodes; only walks that cannot come back to where they are from miss any.
        assert!(right > 0.8 * f64::from(searched), "seed {seed}: {right} of {searched}");
    }
}

fn mix_seed(seed: u64) -> u64 {
    crate::hash::mix(seed ^ 0x5eed)
}

/// The full number in release builds: 10,000 equal vectors among 100,000.
#[test]
fn a_crowd_of_copies_costs_nothing() {
    let count = if cfg!(debug_assertions) { 5_000 } else { 100_000 };
    let mut rng = Rng(41);
    let all: Vec<Vec<f32>> = (0..count).map(|_| clustered(&mut rng)).collect();
    let (plain_vectors, offsets) = filled(Metric::Euclidean, all.iter().cloned());
    let mut plain = Hnsw::new(PARAMS);
    plain.insert(&plain_vectors, &offsets);
    let copy = clustered(&mut rng);
    let crowded = all.iter().enumerate().map(|(i, row)| if i % 10 == 0 { copy.clone() } else { row.clone() });
    let (mut vectors, offsets) = filled(Metric::Euclidean, crowded);
    let mut hnsw = Hnsw::new(PARAMS);
    hnsw.insert(&vectors, &offsets);
    assert_eq!(hnsw.stats().unreachable, 0);
    let ratio = hnsw.build_distances() as f64 / plain.build_distances() as f64;
    assert!(ratio < 1.1, "{ratio} times the distances to build");
    let (without, _) = quality(&plain_vectors, &plain, 64, clustered);
    let (with, _) = quality(&vectors, &hnsw, 64, clustered);
    assert!(with > without - 0.005, "recall {with}, without copies {without}");
    for _ in 0..100 {
        let offset = vectors.push(&copy);
        hnsw.insert(&vectors, &[offset]);
    }
    assert_eq!(hnsw.stats().unreachable, 0);
    let near: Vec<f32> = copy.iter().map(|value| value + 0.01).collect();
    for (query, k) in [(&copy, 10), (&copy, 300), (&near, 10), (&near, 300)] {
        let request = Request::new(query, k);
        let answer = hnsw.search(&vectors, &request, 400);
        assert_eq!(recall(&answer.hits, &brute_force(&vectors, &request)), 1.0, "{k} hits");
    }
}

/// The default parameters, at which walks are most of the cost of insertion.
const MERGED: HnswParams = HnswParams { m: Some(16), ef_construction: 200, exact_scan_factor: 0, seed: 7 };

/// Two graphs, and where the second one's rows are in `both`.
struct Pair {
    both: Vectors,
    large: Hnsw,
    small: Hnsw,
    offsets: Vec<Option<u32>>,
}

fn pair(metric: Metric, large: usize, small: usize) -> Pair {
    const PARAMS: HnswParams = MERGED;
    let mut rng = Rng(51);
    let (mut both, offsets) = filled(metric, (0..large).map(|_| clustered(&mut rng)));
    let mut first = Hnsw::new(PARAMS);
    first.insert(&both, &offsets);
    let (mut own, offsets) = filled(metric, (0..small).map(|_| clustered(&mut rng)));
    let mut second = Hnsw::new(PARAMS);
    second.insert(&own, &offsets);
    for gone in (0..small as u32).step_by(50) {
        own.remove(gone);
        second.remove(&own, gone);
    }
    let offsets = (0..small as u32).map(|i| own.live().contains(i).then(|| both.push(&own.row(i)))).collect();
    Pair { both, large: first, small: second, offsets }
}

#[test]
fn merged_graphs_are_as_good_as_fresh_ones_and_cheaper() {
    for metric in METRICS {
        let Pair { both, large, small, offsets } = pair(metric, 4_000, 1_000);
        let mut merged = large.clone();
        merged.merge(&both, &small, &offsets);
        let stats = merged.stats();
        assert_eq!((stats.live, stats.dead, stats.unreachable), (4_980, 0, 0), "{metric}");
        let mut inserted = large.clone();
        let new: Vec<u32> = offsets.iter().copied().flatten().collect();
        inserted.insert(&both, &new);
        let cost = |hnsw: &Hnsw| (hnsw.build_distances() - large.build_distances()) as f64;
        assert!(cost(&merged) < 0.7 * cost(&inserted), "{metric}: {} {}", cost(&merged), cost(&inserted));
        let (vectors, fresh) = fresh(&both, MERGED);
        for ef in [16, 48] {
            let (found, computed) = quality(&both, &merged, ef, clustered);
            let (found_fresh, computed_fresh) = quality(&vectors, &fresh, ef, clustered);
            assert!(found > found_fresh - 0.005, "{metric}, ef {ef}: recall {found}, fresh {found_fresh}");
            assert!(computed < 1.1 * computed_fresh, "{metric}, ef {ef}: {computed}, fresh {computed_fresh}");
        }
    }
}

#[test]
fn a_merge_is_the_same_for_any_number_of_threads() {
    let Pair { both, large, small, offsets } = pair(Metric::Cosine, 1_500, 600);
    let merged = [1, 2, 5].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut merged = large.clone();
            merged.merge(&both, &small, &offsets);
            merged.to_parts()
        })
    });
    assert!(merged[0] == merged[1] && merged[1] == merged[2]);
}

#[test]
fn empty_graphs_merge() {
    let Pair { both, large, small, offsets } = pair(Metric::Euclidean, 1, 300);
    let mut merged = Hnsw::new(PARAMS);
    merged.merge(&both, &small, &offsets);
    assert_eq!((merged.stats().live, merged.stats().unreachable), (294, 0));
    let mut same = large.clone();
    same.merge(&both, &Hnsw::new(PARAMS), &[]);
    assert_eq!(same.stats(), large.stats());
}

/// Parameters that leave the number of links to the graph.
const AUTO: HnswParams = HnswParams { m: None, ef_construction: 80, exact_scan_factor: 0, seed: 7 };

#[test]
fn rows_become_wider_once_there_are_many() {
    let (mut vectors, offsets) = filled(Metric::Euclidean, (0..100).map(|row| vec![row as f32]));
    let mut hnsw = Hnsw::new(AUTO);
    hnsw.insert(&vectors, &offsets);
    assert_eq!(hnsw.m(), 16);
    while vectors.len() < (1 << 18) - 1 {
        vectors.push(&[1.0]);
    }
    hnsw.take_in(&vectors, &[]);
    assert_eq!(hnsw.m(), 16);
    vectors.push(&[1.0]);
    let mut compact = hnsw.clone();
    compact.params.m = Some(16);
    for (mut hnsw, m) in [(hnsw, 32), (compact, 16)] {
        hnsw.take_in(&vectors, &[]);
        assert_eq!(hnsw.m(), m);
    }
}

#[test]
fn a_graph_whose_rows_became_wider_is_as_good_as_one_that_had_them() {
    for metric in METRICS {
        let mut rng = Rng(71);
        let (mut vectors, offsets) = filled(metric, (0..2_000).map(|_| clustered(&mut rng)));
        let mut hnsw = Hnsw::new(AUTO);
        hnsw.insert(&vectors, &offsets);
        let request_row = clustered(&mut rng);
        let request = Request::new(&request_row, 10);
        let before = hnsw.search(&vectors, &request, 40);
        hnsw.graph = hnsw.graph.widened(32);
        assert_eq!(hnsw.search(&vectors, &request, 40), before, "{metric}: the same links");
        let levels = hnsw.to_parts().levels;
        for _ in 0..4 {
            let new: Vec<u32> = (0..500).map(|_| vectors.push(&clustered(&mut rng))).collect();
            hnsw.insert(&vectors, &new);
        }
        for gone in (0..4_000).step_by(20) {
            vectors.remove(gone);
            hnsw.remove(&vectors, gone);
        }
        assert!(hnsw.to_parts().levels.starts_with(&levels), "{metric}: levels stay");
        hnsw.verify(&vectors).unwrap();
        let stats = hnsw.stats();
        assert_eq!((stats.live, stats.unreachable), (3_800, 0), "{metric}");
        let longest = (0..4_000).map(|node| hnsw.graph.links(0, node).len()).max().unwrap();
        assert!((33..=64).contains(&longest), "{metric}: {longest} links");
        let (rows, of_one_width) = fresh(&vectors, HnswParams { m: Some(32), ..AUTO });
        // Links to the largest products were made while there was room for half as many.
        let allowance = if metric == Metric::DotProduct { 0.015 } else { 0.005 };
        for ef in [16, 48] {
            let (found, computed) = quality(&vectors, &hnsw, ef, clustered);
            let (found_fresh, computed_fresh) = quality(&rows, &of_one_width, ef, clustered);
            assert!(
                found > found_fresh - allowance,
                "{metric}, ef {ef}: recall {found}, fresh {found_fresh}"
            );
            assert!(computed < 1.1 * computed_fresh, "{metric}, ef {ef}: {computed}, fresh {computed_fresh}");
        }
        let copy = Hnsw::from_parts(&vectors, hnsw.to_parts()).unwrap();
        assert_eq!((copy.m(), copy.params()), (32, &AUTO));
        assert_eq!(copy.search(&vectors, &request, 40), hnsw.search(&vectors, &request, 40));
    }
}
