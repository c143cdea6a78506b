//! Product codes: tables against decoded vectors, blocks against rows, training on little data, OPQ on correlated
//! data, stored codebooks.

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::*;
use crate::fastscan::{BLOCK_VECTORS, BlockQuery};

const METRICS: [Metric; 4] = [Metric::Euclidean, Metric::DotProduct, Metric::Cosine, Metric::Manhattan];

/// Gaussian vectors of few directions, mixed over all values.
fn correlated(points: usize, dim: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(99);
    let mix: Vec<f32> = (0..dim * dim).map(|_| rng.sample(StandardNormal)).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut rows = Vec::new();
    for _ in 0..points {
        let mut row = vec![0.5; dim];
        for (j, direction) in mix.chunks_exact(dim).enumerate() {
            let part = rng.sample::<f32, _>(StandardNormal) / (1.0 + j as f32);
            row.iter_mut().zip(direction).for_each(|(value, direction)| *value += part * direction);
        }
        rows.extend(row);
    }
    rows
}

fn exact(metric: Metric, query: &[f32], row: &[f32]) -> f32 {
    match metric {
        Metric::Euclidean => vdb_distance::l2_squared(query, row),
        Metric::DotProduct => -vdb_distance::dot(query, row),
        Metric::Cosine => -vdb_distance::dot(&normalised(metric, query), row),
        Metric::Manhattan => vdb_distance::l1(query, row),
    }
}

fn error(quantizer: &impl Quantizer, rows: &[f32]) -> f32 {
    let (mut code, mut decoded) = (vec![0; quantizer.code_bytes()], vec![0.0; quantizer.dim()]);
    let each = rows.chunks_exact(quantizer.dim()).map(|row| {
        quantizer.encode(row, &mut code);
        quantizer.decode(&code, &mut decoded);
        vdb_distance::l2_squared(row, &decoded)
    });
    each.sum::<f32>() / (rows.len() / quantizer.dim()) as f32
}

/// Estimated distances are those to the decoded vectors.
fn check_tables(quantizer: &impl Quantizer, rows: &[f32]) {
    let (dim, bytes) = (quantizer.dim(), quantizer.code_bytes());
    let mut codes = vec![0; rows.len() / dim * bytes];
    for (row, code) in rows.chunks_exact(dim).zip(codes.chunks_exact_mut(bytes)) {
        quantizer.encode(row, code);
    }
    for metric in METRICS {
        let query = quantizer.query(metric, &rows[..dim]);
        let (mut all, mut some) = (vec![0.0; rows.len() / dim], [0.0; 3]);
        query.distances(&codes, &mut all);
        query.gather(&codes, &[5, 0, 5], &mut some);
        assert_eq!(some, [all[5], all[0], all[5]]);
        for (code, estimate) in codes.chunks_exact(bytes).zip(&all) {
            let mut decoded = vec![0.0; dim];
            quantizer.decode(code, &mut decoded);
            let truth = exact(metric, &rows[..dim], &decoded);
            assert!((estimate - truth).abs() <= 1e-3 * truth.abs().max(1.0), "{metric}: {estimate}, {truth}");
        }
    }
}

#[test]
fn tables_give_the_distance_to_the_decoded_vector() {
    for (dim, subspaces) in [(1, 1), (7, 7), (10, 3), (32, 8), (33, 16)] {
        let rows = correlated(400, dim, 1);
        for bits in [ProductBits::Four, ProductBits::Eight] {
            let quantizer =
                ProductQuantizer::train(&rows, dim, &ProductConfig::new(subspaces, bits)).unwrap();
            check_tables(&quantizer, &rows[..20 * dim]);
        }
    }
}

#[test]
fn more_bits_and_more_pieces_lose_less() {
    let rows = correlated(3000, 24, 2);
    let train = |subspaces, bits| {
        error(&ProductQuantizer::train(&rows, 24, &ProductConfig::new(subspaces, bits)).unwrap(), &rows)
    };
    let (few, many) = (train(4, ProductBits::Four), train(12, ProductBits::Four));
    let eight = train(12, ProductBits::Eight);
    assert!(eight < 0.5 * many && many < 0.7 * few, "{few}, {many}, {eight}");
}

#[test]
fn fewer_vectors_than_centroids_are_all_kept() {
    let rows = correlated(9, 6, 3);
    for bits in [ProductBits::Four, ProductBits::Eight] {
        let quantizer = ProductQuantizer::train(&rows, 6, &ProductConfig::new(3, bits)).unwrap();
        assert!(error(&quantizer, &rows) < 1e-9);
        let mut code = vec![0; quantizer.code_bytes()];
        quantizer.encode(&rows[..6], &mut code);
        assert!((0..3).all(|piece| quantizer.number(&code, piece) < 9));
    }
    let equal = vec![3.0; 300 * 4];
    let quantizer = ProductQuantizer::train(&equal, 4, &ProductConfig::new(2, ProductBits::Eight)).unwrap();
    assert_eq!(error(&quantizer, &equal), 0.0);
}

#[test]
fn training_reports_every_codebook() {
    let rows = correlated(300, 12, 5);
    let config = ProductConfig::new(4, ProductBits::Four);
    let mut reports = Vec::new();
    let mut note = |progress: ProductProgress| reports.push((progress.done, progress.total));
    let product = ProductQuantizer::train_with(&rows, 12, &config, &mut note).unwrap();
    assert_eq!(product, ProductQuantizer::train(&rows, 12, &config).unwrap());
    assert_eq!(reports, [(1, 4), (2, 4), (3, 4), (4, 4)]);
    let opq = OpqConfig::new(config);
    let mut done = Vec::new();
    let most = (opq.rounds + 1) * 4;
    let mut note = |progress: ProductProgress| {
        assert_eq!(progress.total, most);
        done.push(progress.done);
    };
    let trained = Opq::train_with(&rows, 12, &opq, &mut note).unwrap();
    assert_eq!(trained, Opq::train(&rows, 12, &opq).unwrap());
    assert!(done.iter().copied().eq(1..=done.len()) && (8..=most).contains(&done.len()), "{done:?}");
}

#[test]
fn what_cannot_be_trained_is_an_error() {
    let train = |rows: &[f32], dim, m| {
        let product = ProductConfig::new(m, ProductBits::Four);
        let error = ProductQuantizer::train(rows, dim, &product).unwrap_err();
        let other = Opq::train(rows, dim, &OpqConfig::new(product)).unwrap_err();
        assert_eq!(error, other);
        error
    };
    assert_eq!(train(&[0.0; 8], 4, 5), ProductError::Subspaces { subspaces: 5, dim: 4 });
    assert_eq!(train(&[0.0; 8], 4, 0), ProductError::Subspaces { subspaces: 0, dim: 4 });
    assert!(matches!(train(&[], 4, 2), ProductError::KMeans(KMeansError::TooFewPoints { .. })));
    assert!(matches!(train(&[0.0; 7], 4, 2), ProductError::KMeans(KMeansError::Shape { .. })));
    assert!(matches!(train(&[f32::NAN; 8], 4, 2), ProductError::KMeans(KMeansError::NotFinite { .. })));
}

#[test]
fn blocks_agree_with_rows() {
    for (dim, subspaces) in [(10, 5), (48, 24), (65, 33)] {
        let rows = correlated(500, dim, 4);
        let config = ProductConfig::new(subspaces, ProductBits::Four);
        let quantizer = ProductQuantizer::train(&rows, dim, &config).unwrap();
        let bytes = quantizer.code_bytes();
        let mut codes = vec![0; 40 * bytes];
        quantizer.encode_all(&rows[..40 * dim], &mut codes);
        for (first, count) in [(0, 32), (32, 8)] {
            let (mut block, mut same) = (vec![0; quantizer.block_bytes()], vec![1; quantizer.block_bytes()]);
            quantizer.encode_block(&rows[first * dim..][..count * dim], &mut block);
            quantizer.pack_block(&codes[first * bytes..][..count * bytes], &mut same);
            assert_eq!(block, same);
            for metric in METRICS {
                for wide in [false, true] {
                    let query = quantizer.block_query(metric, &rows[..dim], wide);
                    let (mut out, mut expected) = ([0.0; BLOCK_VECTORS], vec![0.0; count]);
                    query.scan_block(&block, &mut out);
                    quantizer
                        .query(metric, &rows[..dim])
                        .distances(&codes[first * bytes..][..count * bytes], &mut expected);
                    for (scanned, exact) in out.iter().zip(&expected) {
                        let slack = query.rounding_error() + 1e-4 * exact.abs().max(1.0);
                        assert!((scanned - exact).abs() <= slack, "{metric}, wide: {wide}");
                    }
                    assert!(!query.scan_block_masked(&block, 0, &mut out));
                    assert!(query.scan_block_masked(&block, 4, &mut out));
                }
            }
        }
    }
}

#[test]
fn a_learned_rotation_fits_correlated_data_better() {
    let rows = correlated(3000, 16, 5);
    let product = ProductConfig::new(4, ProductBits::Four);
    let plain = error(&ProductQuantizer::train(&rows, 16, &product).unwrap(), &rows);
    let opq = Opq::train(&rows, 16, &OpqConfig::new(product)).unwrap();
    let rotated = error(&opq, &rows);
    println!("mean squared error: {plain} plain, {rotated} rotated");
    assert!(rotated < 0.8 * plain, "{plain} plain, {rotated} rotated");
    check_tables(&opq, &rows[..20 * 16]);
    let (x, y) = (opq.rotate(&rows[..16]), opq.rotate(&rows[16..32]));
    let (before, after) =
        (vdb_distance::l2_squared(&rows[..16], &rows[16..32]), vdb_distance::l2_squared(&x, &y));
    assert!((before - after).abs() < 1e-4 * before, "rotated distances are those of the vectors");
}

#[test]
fn a_rotation_is_learned_from_data_of_few_directions_too() {
    // All vectors on one line, and all equal.
    let line: Vec<f32> = (0..500).flat_map(|i| [i as f32, 2.0 * i as f32, 0.0, 1.0]).collect();
    for rows in [line, vec![7.0; 400]] {
        let opq = Opq::train(&rows, 4, &OpqConfig::new(ProductConfig::new(2, ProductBits::Eight))).unwrap();
        let scale = vdb_distance::dot(&rows, &rows) / (rows.len() / 4) as f32;
        assert!(error(&opq, &rows) < 1e-4 * scale);
    }
}

#[test]
fn codebooks_come_back_from_bytes() {
    let rows = correlated(300, 11, 6);
    for bits in [ProductBits::Four, ProductBits::Eight] {
        let product = ProductConfig::new(4, bits);
        let quantizer = ProductQuantizer::train(&rows, 11, &product).unwrap();
        let bytes = quantizer.to_bytes();
        assert_eq!(ProductQuantizer::from_bytes(&bytes).unwrap(), quantizer);
        let opq = Opq::train(&rows, 11, &OpqConfig { rounds: 1, ..OpqConfig::new(product) }).unwrap();
        assert_eq!(Opq::from_bytes(&opq.to_bytes()).unwrap(), opq);
        for end in (0..bytes.len()).step_by(7) {
            assert!(ProductQuantizer::from_bytes(&bytes[..end]).is_err());
            assert!(Opq::from_bytes(&opq.to_bytes()[..end]).is_err());
        }
        assert!(Opq::from_bytes(&bytes).is_err(), "a codebook is no rotation");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_an_error_or_a_codebook(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
        kind in 0..6_u8,
    ) {
        if bytes.len() > 2 {
            bytes[..2].copy_from_slice(&[kind, 1]);
        }
        if let Ok(quantizer) = ProductQuantizer::from_bytes(&bytes) {
            prop_assert_eq!(quantizer.to_bytes(), bytes.clone());
        }
        let _ = Opq::from_bytes(&bytes);
        let _ = KMeans::from_bytes(&bytes);
    }
}
