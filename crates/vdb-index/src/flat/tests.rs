//! Exact search against brute force, with and without bounds.

use super::*;
use crate::testing::{METRICS, Rng, brute_force, filled};
use crate::{Answer, BitSet, Request, Vectors};
use vdb_distance::{ElementType, Metric};

fn check(vectors: &Vectors, request: &Request<'_>) {
    let answer = FlatScan.search(vectors, request);
    assert_eq!(answer.hits, brute_force(vectors, request), "{} k {}", vectors.metric(), request.k);
    assert!(answer.exact);
}

#[test]
fn equals_brute_force_for_every_metric_filter_and_k() {
    let mut rng = Rng(1);
    for metric in METRICS {
        for (count, dim) in [(1, 1), (63, 3), (64, 16), (65, 17), (1_000, 40)] {
            // A third of the rows are copies, so that ties decide.
            let mut rows: Vec<Vec<f32>> = (0..count).map(|_| rng.vector(dim)).collect();
            (0..count).step_by(3).for_each(|i| rows[i] = rows[i / 2].clone());
            let (mut vectors, _) = filled(metric, rows);
            (0..count as u32).step_by(7).for_each(|offset| assert!(vectors.remove(offset)));
            let sparse = BitSet::from_fn(count, |i| i % 11 == 3);
            let dense = BitSet::from_fn(count, |i| i % 5 != 0);
            let query = rng.vector(dim);
            for k in [0, 1, 2, 10, 100, 5_000, usize::MAX] {
                for allowed in [None, Some(&sparse), Some(&dense)] {
                    let by_offset = Request { allowed, ..Request::new(&query, k) };
                    check(&vectors, &by_offset);
                    check(&vectors, &Request { tie_break: &|a, b| b.cmp(&a), ..by_offset });
                }
            }
        }
    }
}

#[test]
fn extreme_values_are_ordered_as_the_metric_says() {
    let scales = [1e-38, 1e-30, 1e-18, 1e-8, 1.0, 1e8, 1e18, 1e30];
    let mut rng = Rng(2);
    for metric in METRICS {
        let rows = (0..400).map(|i| {
            let scale = scales[i % scales.len()];
            rng.vector(20).into_iter().map(|value| value * scale).collect()
        });
        let (mut vectors, _) = filled(metric, rows.collect::<Vec<_>>());
        vectors.push(&[0.0; 20]);
        for scale in scales {
            let query: Vec<f32> = rng.vector(20).into_iter().map(|value| value * scale).collect();
            check(&vectors, &Request::new(&query, 15));
        }
        check(&vectors, &Request::new(&[0.0; 20], 15));
    }
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let mut rng = Rng(3);
    let (vectors, _) = filled(Metric::DotProduct, (0..40_000).map(|_| rng.vector(32)));
    let query = rng.vector(32);
    let request = Request::new(&query, 25);
    let expected = brute_force(&vectors, &request);
    for threads in [1, 2, 7] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(pool.install(|| FlatScan.search(&vectors, &request)).hits, expected);
    }
}

/// Rows whose energy falls off over random directions, so that bounds pay.
fn falling(rng: &mut Rng, count: usize, dim: usize, offset: f32) -> Vec<Vec<f32>> {
    let directions: Vec<Vec<f32>> = (0..dim).map(|_| rng.vector(dim)).collect();
    (0..count)
        .map(|_| {
            let mut row = vec![offset; dim];
            for (i, direction) in directions.iter().enumerate() {
                let weight = rng.signed() * (-(i as f32) / 6.0).exp();
                row.iter_mut().zip(direction).for_each(|(value, d)| *value += weight * d);
            }
            row
        })
        .collect()
}

const BOUNDED_METRICS: [Metric; 3] = [Metric::Euclidean, Metric::Cosine, Metric::DotProduct];

#[test]
fn a_batch_answers_as_one_query_at_a_time() {
    let mut rng = Rng(5);
    for metric in METRICS {
        for (count, dim) in [(1, 3), (130, 17), (2_000, 96)] {
            let (mut vectors, _) = filled(metric, (0..count).map(|_| rng.vector(dim)));
            (0..count as u32).step_by(9).for_each(|offset| assert!(vectors.remove(offset)));
            let sparse = BitSet::from_fn(count, |i| i % 11 == 3);
            let half = BitSet::from_fn(count, |i| i < count as u32 / 2);
            let queries: Vec<Vec<f32>> = (0..70).map(|_| rng.vector(dim)).collect();
            let filters = [None, Some(&sparse), Some(&half)];
            let requests: Vec<Request<'_>> = queries
                .iter()
                .enumerate()
                .map(|(i, query)| Request {
                    allowed: filters[i % 3],
                    ..Request::new(query, [10, 0, 3][i % 7 % 3])
                })
                .collect();
            for threads in [1, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let answers = pool.install(|| FlatScan.search_batch(&vectors, &requests));
                let single: Vec<Answer> =
                    requests.iter().map(|request| FlatScan.search(&vectors, request)).collect();
                assert_eq!(answers, single, "{metric} {count} {dim}");
            }
        }
        assert!(FlatScan.search_batch(&Vectors::new(metric, 4), &[]).is_empty());
    }
}

/// The index and the plain scan agree bit for bit, in batches, too; gives the mean share of rows compared.
fn check_bounded(flat: &Flat, vectors: &Vectors, queries: &[Vec<f32>], allowed: Option<&BitSet>) -> f64 {
    let mut compared = 0;
    for query in queries {
        for k in [1, 10, 37] {
            let request = Request { allowed, tie_break: &|a, b| b.cmp(&a), ..Request::new(query, k) };
            let (bounded, plain) = (flat.search(vectors, &request), FlatScan.search(vectors, &request));
            assert_eq!(bounded.hits, plain.hits, "{} k {k}", vectors.metric());
            assert!(bounded.exact);
            compared += if k == 10 { bounded.distance_computations } else { 0 };
        }
    }
    let requests: Vec<Request<'_>> = queries
        .iter()
        .enumerate()
        .map(|(i, query)| Request { allowed, ..Request::new(query, 1 + i % 20) })
        .collect();
    let plain = FlatScan.search_batch(vectors, &requests);
    for (bounded, plain) in flat.search_batch(vectors, &requests).iter().zip(&plain) {
        assert_eq!((&bounded.hits, bounded.exact), (&plain.hits, true), "{} in a batch", vectors.metric());
    }
    compared as f64 / (queries.len() * vectors.len()) as f64
}

#[test]
fn bounds_change_no_answer_and_save_most_comparisons() {
    let mut rng = Rng(40);
    for metric in BOUNDED_METRICS {
        let rows = falling(&mut rng, 33_000, 64, 0.3);
        let queries: Vec<Vec<f32>> =
            (0..10).map(|i| rows[i * 700].iter().map(|v| v + 0.02).collect()).collect();
        let (vectors, offsets) = filled(metric, rows);
        let mut flat = Flat::new();
        flat.insert(&vectors, &offsets);
        let share = check_bounded(&flat, &vectors, &queries, None);
        assert!(share < 0.2, "{metric}: {share}");
        let dense = BitSet::from_fn(33_000, |i| i % 3 == 0);
        check_bounded(&flat, &vectors, &queries, Some(&dense));
        let sparse = BitSet::from_fn(33_000, |i| i % 300 == 0);
        check_bounded(&flat, &vectors, &queries, Some(&sparse));
    }
}

#[test]
fn bounds_hold_for_ties_copies_extremes_and_far_offsets() {
    let mut rng = Rng(41);
    for metric in BOUNDED_METRICS {
        for offset in [0.0, 50.0, 1_000.0] {
            let mut rows = falling(&mut rng, 33_000, 64, offset);
            for i in (0..33_000).step_by(5) {
                rows[i] = rows[i / 3].clone();
            }
            for i in (0..33_000).step_by(4_001) {
                rows[i] = vec![0.0; 64];
                rows[i + 1] = rng.vector(64).iter().map(|value| value * 1e20).collect();
                rows[i + 2] = rng.vector(64).iter().map(|value| value * 1e-20).collect();
                rows[i + 3] = rows[i + 4].iter().map(|value| value * (1.0 + f32::EPSILON)).collect();
            }
            let queries: Vec<Vec<f32>> = [0, 1, 2, 3, 7, 5_000, 12_003, 12_004, 20_005]
                .map(|i| rows[i].clone())
                .into_iter()
                .chain([vec![0.0; 64], rng.vector(64), rows[9].iter().map(|value| -value).collect()])
                .collect();
            let (vectors, offsets) = filled(metric, rows);
            let mut flat = Flat::new();
            flat.insert(&vectors, &offsets);
            check_bounded(&flat, &vectors, &queries, None);
        }
    }
}

/// Coarse values tie often, and rows that are kept in fewer bytes take other codes.
#[test]
fn bounds_hold_for_rows_of_bytes_and_of_half_precision() {
    let mut rng = Rng(46);
    for metric in BOUNDED_METRICS {
        for (element, scale) in [(ElementType::U8, 1.0), (ElementType::F16, 0.25)] {
            let rows: Vec<Vec<f32>> = falling(&mut rng, 40_000, 64, 0.3)
                .into_iter()
                .map(|row| row.iter().map(|v| (v * 40.0 + 128.0).round().clamp(0.0, 255.0) * scale).collect())
                .collect();
            let queries: Vec<Vec<f32>> = (0..8)
                .map(|i| rows[i * 700].iter().map(|v| v + if i % 2 == 0 { 0.3 } else { 0.0 }).collect())
                .collect();
            let (vectors, offsets) = filled(metric, rows);
            assert_eq!(vectors.element(), element);
            let mut flat = Flat::new();
            flat.insert(&vectors, &offsets);
            assert!(flat.row_bytes().is_some(), "{metric}, {element:?}");
            check_bounded(&flat, &vectors, &queries, None);
        }
    }
}

#[test]
fn the_plain_scan_is_used_where_bounds_do_not_pay() {
    let mut rng = Rng(42);
    let is_bounded = |metric: Metric, rows: Vec<Vec<f32>>| {
        let (vectors, offsets) = filled(metric, rows);
        let mut flat = Flat::new();
        flat.insert(&vectors, &offsets);
        let queries: Vec<Vec<f32>> = (0..3).map(|i| vectors.row(i * 7).to_vec()).collect();
        check_bounded(&flat, &vectors, &queries, None);
        flat.row_bytes().is_some()
    };
    let noise: Vec<Vec<f32>> = (0..4_200).map(|_| rng.vector(1_024)).collect();
    assert!(!is_bounded(Metric::Euclidean, noise), "a third of the coordinates of noise says too little");
    let rows = falling(&mut rng, 40_000, 64, 0.0);
    assert!(is_bounded(Metric::Euclidean, rows.clone()));
    let wide: Vec<Vec<f32>> = (0..40).map(|_| rng.vector(65_536)).collect();
    assert!(!is_bounded(Metric::Cosine, wide), "few rows of many dimensions");
    assert!(!is_bounded(Metric::Manhattan, rows.clone()));
    assert!(!is_bounded(Metric::Euclidean, rows[..1_000].to_vec()), "small data lies in the caches");
}

#[test]
fn directions_are_found_anew_when_the_data_has_drifted() {
    let mut rng = Rng(45);
    let rows = falling(&mut rng, 40_000, 64, 0.1);
    // The same shape in other directions: the leading ones of the first rows say little about these.
    let others = falling(&mut rng, 20_000, 64, 0.1);
    let queries: Vec<Vec<f32>> = others.iter().step_by(3_000).cloned().collect();
    let (mut vectors, offsets) = filled(Metric::Euclidean, rows);
    let mut flat = Flat::new();
    flat.insert(&vectors, &offsets);
    let before = flat.to_parts();
    let same: Vec<u32> = (0..12_000).collect();
    flat.insert(&vectors, &same);
    assert_eq!(flat.to_parts(), before, "rows like those before change nothing");
    for rows in others.chunks(1_000) {
        let fresh: Vec<u32> = rows.iter().map(|row| vectors.push(row)).collect();
        flat.insert(&vectors, &fresh);
    }
    assert_ne!(flat.to_parts().directions, before.directions);
    check_bounded(&flat, &vectors, &queries, None);
}

#[test]
fn equal_rows_are_no_trouble() {
    for metric in BOUNDED_METRICS {
        let (vectors, offsets) = filled(metric, std::iter::repeat_n(vec![0.5; 64], 40_000));
        let mut flat = Flat::new();
        flat.insert(&vectors, &offsets);
        check_bounded(&flat, &vectors, &[vec![0.5; 64], vec![1.0; 64], vec![0.0; 64]], None);
    }
}

#[test]
fn inserts_overwrites_and_deletes_keep_the_bounds_right() {
    let mut rng = Rng(43);
    let rows = falling(&mut rng, 45_000, 64, 0.1);
    let (mut vectors, offsets) = filled(Metric::Euclidean, rows[..34_000].to_vec());
    let mut flat = Flat::new();
    flat.insert(&vectors, &offsets);
    assert!(flat.row_bytes().is_some());
    for (i, row) in rows[34_000..].iter().enumerate() {
        let victim = (i * 3) as u32;
        vectors.remove(victim);
        if i % 2 == 0 {
            vectors.set(victim, row);
            flat.insert(&vectors, &[victim]);
        } else if i % 7 != 1 {
            let offset = vectors.push(row);
            flat.insert(&vectors, &[offset]);
        } else {
            // A row that was taken back before the index heard of it.
            let offset = vectors.push(row);
            vectors.remove(offset);
        }
    }
    let queries: Vec<Vec<f32>> = rows.iter().step_by(4_000).cloned().collect();
    check_bounded(&flat, &vectors, &queries, None);
    let parts = flat.to_parts();
    let copy = Flat::from_parts(&vectors, parts.clone()).unwrap();
    assert_eq!(copy.to_parts(), parts);
    check_bounded(&copy, &vectors, &queries, None);

    let refused = |change: &dyn Fn(&mut FlatParts)| {
        let mut bad = parts.clone();
        change(&mut bad);
        Flat::from_parts(&vectors, bad).unwrap_err()
    };
    assert!(refused(&|parts| parts.center.truncate(3)).contains("3 centre values"));
    assert!(refused(&|parts| parts.directions.truncate(65)).contains("65 of directions"));
    assert!(refused(&|parts| parts.directions[5] += 1.0).contains("orthonormal"));
    assert!(refused(&|parts| parts.directions[5] = f32::NAN).contains("orthonormal"));
    assert!(refused(&|parts| parts.center[0] = f32::INFINITY).contains("orthonormal"));
}

#[test]
fn the_bounded_scan_does_not_depend_on_threads() {
    let mut rng = Rng(44);
    let rows = falling(&mut rng, 60_000, 64, 0.2);
    let queries: Vec<Vec<f32>> = rows.iter().step_by(9_000).cloned().collect();
    let (vectors, offsets) = filled(Metric::Cosine, rows);
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut flat = Flat::new();
            flat.insert(&vectors, &offsets);
            check_bounded(&flat, &vectors, &queries, None);
        });
    }
}
