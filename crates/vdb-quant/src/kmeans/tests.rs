//! k-means on data whose clusters are known, on degenerate data, and across thread counts.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// `clusters` far-apart blobs with `per` points each.
fn blobs(clusters: usize, per: usize, dim: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let centres: Vec<f32> = (0..clusters * dim).map(|_| rng.random_range(-50.0..50.0)).collect();
    let mut rows = Vec::new();
    for _ in 0..per {
        for centre in centres.chunks_exact(dim) {
            rows.extend(centre.iter().map(|c| c + rng.random_range(-0.5..0.5_f32)));
        }
    }
    rows
}

fn error(kmeans: &KMeans, rows: &[f32]) -> f32 {
    let dim = kmeans.dim();
    rows.chunks_exact(dim).map(|row| kmeans.assign(row).1).sum::<f32>() / (rows.len() / dim) as f32
}

#[test]
fn finds_separate_blobs_in_odd_dimensions() {
    for dim in [1, 3, 17, 70] {
        let rows = blobs(9, 60, dim, 3);
        let kmeans = KMeans::train(&rows, dim, &KMeansConfig::new(9)).unwrap();
        assert_eq!((kmeans.clusters(), kmeans.dim()), (9, dim));
        let bound = if dim == 1 { 2.0 } else { dim as f32 / 12.0 * 1.2 };
        assert!(error(&kmeans, &rows) < bound, "dim {dim}: {}", error(&kmeans, &rows));
    }
}

#[test]
fn the_error_never_rises() {
    let rows = blobs(40, 40, 8, 5);
    let mut errors = Vec::new();
    KMeans::train_with(&rows, 8, &KMeansConfig::new(25), &mut |p| errors.push(p.mean_squared_error)).unwrap();
    assert_eq!(errors.len(), 20);
    assert!(errors.windows(2).all(|pair| pair[1] <= pair[0] * 1.0001), "{errors:?}");
}

#[test]
fn one_result_whatever_the_number_of_threads() {
    let rows = blobs(30, 50, 12, 7);
    let train = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let config = KMeansConfig { points_per_centroid: 20, ..KMeansConfig::new(40) };
            let flat = KMeans::train(&rows, 12, &config).unwrap();
            let two_level = KMeans::train_two_level(&rows, 12, &config, &mut |_| {}).unwrap();
            (flat, two_level)
        })
    };
    assert_eq!(train(1), train(3));
    let config = KMeansConfig::new(40);
    let other = KMeans::train(&rows, 12, &config.clone().seed(1)).unwrap();
    assert_ne!(KMeans::train(&rows, 12, &config).unwrap(), other);
}

#[test]
fn degenerate_data_gives_centroids_that_exist() {
    let equal = [2.5_f32; 300];
    let kmeans = KMeans::train(&equal, 3, &KMeansConfig::new(7)).unwrap();
    assert_eq!(kmeans.clusters(), 7);
    assert_eq!(kmeans.centroids(), &[2.5; 21]);
    assert_eq!(kmeans.assign(&[2.5, 2.5, 2.5]), (0, 0.0));

    let rows: Vec<f32> = (0..20).map(|i| i as f32).collect();
    let one = KMeans::train(&rows, 2, &KMeansConfig::new(1)).unwrap();
    assert_eq!(one.centroids(), &[9.0, 10.0]);
    let all = KMeans::train(&rows, 2, &KMeansConfig::new(10)).unwrap();
    assert!(error(&all, &rows) < 1e-9, "as many centroids as points hit every point");
    let two_level = KMeans::train_two_level(&rows, 2, &KMeansConfig::new(10), &mut |_| {}).unwrap();
    assert_eq!(two_level.clusters(), 10);
}

#[test]
fn what_cannot_be_trained_is_an_error() {
    let train = |rows: &[f32], dim, k| KMeans::train(rows, dim, &KMeansConfig::new(k)).unwrap_err();
    assert_eq!(train(&[0.0; 6], 2, 4), KMeansError::TooFewPoints { points: 3, clusters: 4 });
    assert_eq!(train(&[0.0; 6], 4, 1), KMeansError::Shape { values: 6, dim: 4 });
    assert_eq!(train(&[0.0; 6], 0, 1), KMeansError::Shape { values: 6, dim: 0 });
    assert_eq!(train(&[0.0; 6], 2, 0), KMeansError::NoClusters);
    assert_eq!(train(&[0.0, 0.0, f32::NAN, 1.0], 2, 1), KMeansError::NotFinite { row: 1 });
    assert_eq!(KMeans::from_centroids(3, vec![]).unwrap_err(), KMeansError::NoClusters);
}

#[test]
fn assignment_agrees_with_brute_force() {
    // Far from the origin, where norms alone would cancel.
    let rows: Vec<f32> = blobs(50, 20, 10, 9).iter().map(|value| value + 3000.0).collect();
    let kmeans = KMeans::train(&rows, 10, &KMeansConfig::new(45)).unwrap();
    let labels = kmeans.assign_all(&rows);
    for (row, &label) in rows.chunks_exact(10).zip(&labels) {
        let mut all: Vec<(u32, f32)> =
            (0..45).map(|c| (c, vdb_distance::l2_squared(row, kmeans.centroid(c as usize)))).collect();
        all.sort_by(|a, b| a.1.total_cmp(&b.1));
        assert_eq!(kmeans.assign(row).0, label);
        assert!(kmeans.assign(row).1 <= all[0].1 * 1.001);
        let top = kmeans.assign_top(row, 5);
        assert_eq!(top.len(), 5);
        assert!(top.iter().zip(&all).all(|(a, b)| (a.1 - b.1).abs() <= b.1 * 1e-3));
    }
    assert_eq!(kmeans.assign_top(&rows[..10], 99).len(), 45);
    assert!(kmeans.assign_top(&rows[..10], 0).is_empty());
}

#[test]
fn two_levels_are_nearly_as_good_as_one() {
    let rows = blobs(100, 40, 6, 11);
    let config = KMeansConfig::new(300);
    let flat = error(&KMeans::train(&rows, 6, &config).unwrap(), &rows);
    let two = error(&KMeans::train_two_level(&rows, 6, &config, &mut |_| {}).unwrap(), &rows);
    assert!(two < flat * 1.5, "{two} against {flat}");
}

#[test]
fn centroids_come_back_from_bytes() {
    let kmeans = KMeans::train(&blobs(5, 20, 3, 1), 3, &KMeansConfig::new(5)).unwrap();
    let bytes = kmeans.to_bytes();
    assert_eq!(KMeans::from_bytes(&bytes).unwrap(), kmeans);
    assert!((0..bytes.len()).all(|end| KMeans::from_bytes(&bytes[..end]).is_err()));
    assert!(KMeans::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
}
