//! LSH against brute force: recall, guarantees, updates, storage.

use super::*;
use crate::testing::{METRICS, Rng, brute_force, filled, recall};

fn built(metric: Metric, count: usize) -> (Vectors, Lsh) {
    let mut rng = Rng(11);
    let (vectors, offsets) = filled(metric, (0..count).map(|_| rng.clustered(24, 20)));
    let mut lsh = Lsh::new(LshParams { num_tables: 8, num_functions: 10, seed: 4 });
    lsh.insert(&vectors, &offsets);
    (vectors, lsh)
}

#[test]
fn finds_most_neighbours_under_every_metric() {
    for metric in METRICS {
        let (vectors, lsh) = built(metric, 3_000);
        let mut rng = Rng(12);
        let mean: f64 = (0..50)
            .map(|_| {
                let query = rng.clustered(24, 20);
                let request = Request::new(&query, 10);
                let answer = lsh.search(&vectors, &request, Some(300));
                assert!((300..3_000).contains(&answer.distance_computations) && !answer.exact);
                recall(&answer.hits, &brute_force(&vectors, &request))
            })
            .sum::<f64>()
            / 50.0;
        // The lift squeezes the angles between inner-product rows.
        let floor = if metric == Metric::DotProduct { 0.6 } else { 0.9 };
        assert!(mean > floor, "{metric}: {mean}");
    }
}

#[test]
fn widens_until_k_matching_rows_are_found() {
    let (vectors, lsh) = built(Metric::Euclidean, 3_000);
    // The query is far from everything, and the allowed rows lie anywhere.
    let query = vec![-30.0; 24];
    let allowed = BitSet::from_fn(3_000, |i| i % 97 == 0);
    for k in [1, 20, 31, 100] {
        let request = Request { allowed: Some(&allowed), ..Request::new(&query, k) };
        assert_eq!(lsh.search(&vectors, &request, Some(0)).hits.len(), k.min(31));
    }
    let all = Request::new(&query, 3_000);
    let answer = lsh.search(&vectors, &all, None);
    assert!(answer.exact);
    assert_eq!(answer.hits, brute_force(&vectors, &all));
}

#[test]
fn the_specified_parameters_fit_themselves_to_the_rows() {
    let params = LshParams::default();
    let bits = [0, 1, 100, 10_000, 1_000_000, 100_000_000].map(|rows| params.bits(rows));
    assert_eq!(bits, [1, 1, 3, 10, 16, 20]);
}

#[test]
fn removed_rows_leave_every_table() {
    let (mut vectors, mut lsh) = built(Metric::DotProduct, 500);
    for offset in 0..400 {
        lsh.remove(offset);
        vectors.remove(offset);
    }
    assert!(lsh.tables.iter().all(|table| table.iter().map(Vec::len).sum::<usize>() == 100));
    let query = Rng(14).clustered(24, 20);
    let request = Request::new(&query, 500);
    assert_eq!(lsh.search(&vectors, &request, None).hits, brute_force(&vectors, &request));
}

#[test]
fn parts_give_the_same_tables_back() {
    for metric in METRICS {
        let (mut vectors, mut lsh) = built(metric, 800);
        lsh.remove(5);
        vectors.remove(5);
        let parts = lsh.to_parts();
        let copy = Lsh::from_parts(&vectors, parts.clone()).unwrap();
        assert_eq!(copy.to_parts(), parts);
        let query = Rng(15).clustered(24, 20);
        let request = Request::new(&query, 10);
        assert_eq!(copy.search(&vectors, &request, Some(60)), lsh.search(&vectors, &request, Some(60)));

        let wrong = LshParts { codes: parts.codes[1..].to_vec(), ..parts.clone() };
        assert!(Lsh::from_parts(&vectors, wrong).unwrap_err().contains("codes"));
        let wrong = LshParts { rows: parts.rows.iter().map(|row| row + 1).collect(), ..parts.clone() };
        assert!(Lsh::from_parts(&vectors, wrong).unwrap_err().contains("rows"));
        let wrong = LshParts { codes: vec![1 << 20; parts.codes.len()], ..parts.clone() };
        assert!(Lsh::from_parts(&vectors, wrong).unwrap_err().contains("bits"));
        let wrong = LshParts { center: vec![0.0; 3], ..parts };
        assert!(Lsh::from_parts(&vectors, wrong).unwrap_err().contains("centre"));
    }
}

#[test]
fn rows_added_one_by_one_are_found() {
    let mut rng = Rng(16);
    let mut vectors = Vectors::new(Metric::Euclidean, 24);
    let mut lsh = Lsh::new(LshParams { num_tables: 8, num_functions: 10, seed: 4 });
    for _ in 0..1_000 {
        let offset = vectors.push(&rng.clustered(24, 20));
        lsh.insert(&vectors, &[offset]);
    }
    for offset in (0..1_000).step_by(83) {
        let request = Request::new(vectors.row(offset), 1);
        assert_eq!(lsh.search(&vectors, &request, Some(1)).hits[0].offset, offset);
    }
}
