//! Training on data without a shape: every trainable quantizer gives one that codes and compares, or says why not.
#![allow(clippy::unwrap_used)]

use vdb_distance::Metric;
use vdb_quant::{
    Binary, CodeQuery, KMeans, KMeansConfig, Opq, OpqConfig, Pca, PcaConfig, ProductBits, ProductConfig,
    ProductQuantizer, Quantizer, Rabitq, RabitqConfig, Rotation, Sq4, Sq8,
};

/// Names, dimensions and rows.
fn data() -> Vec<(&'static str, usize, Vec<f32>)> {
    let varied = |count: usize, scale: f32| -> Vec<f32> {
        (0..count).map(|i| scale * (((i * 7_919) % 1_009) as f32 / 504.5 - 1.0)).collect()
    };
    vec![
        ("equal", 7, vec![0.75; 7 * 300]),
        ("zeros", 7, vec![0.0; 7 * 300]),
        ("one row", 13, varied(13, 1.0)),
        ("fewer rows than centroids", 13, varied(13 * 5, 1.0)),
        ("one dimension", 1, varied(300, 1.0)),
        ("an odd dimension", 67, varied(67 * 40, 1.0)),
        ("tiny", 9, varied(9 * 300, 1e-38)),
        ("large", 9, varied(9 * 300, 1e15)),
        ("huge", 9, varied(9 * 300, 1e38)),
        ("two places", 5, (0..5 * 200).map(|i| if i / 5 % 2 == 0 { 1.0 } else { 1_000.0 }).collect()),
    ]
}

/// Codes and compares; where squares stay inside single precision, a row is nearer to itself than its opposite is.
fn check<Q: Quantizer>(name: &str, quantizer: &Q, rows: &[f32]) {
    let (dim, bytes) = (quantizer.dim(), quantizer.code_bytes());
    let mut codes = vec![0; rows.len() / dim * bytes];
    quantizer.encode_all(rows, &mut codes);
    for (row, code) in rows.chunks_exact(dim).zip(codes.chunks_exact(bytes)).take(3) {
        let mut single = vec![0; bytes];
        quantizer.encode(row, &mut single);
        assert_eq!(single, code, "{name}: coded alone and together");
        let mut decoded = vec![0.0; dim];
        quantizer.decode(code, &mut decoded);
        let length = vdb_distance::norm(row);
        if (1e-10..1e15).contains(&length) {
            assert!(decoded.iter().all(|value| value.is_finite()), "{name}: {decoded:?}");
        }
        for metric in [Metric::Euclidean, Metric::DotProduct] {
            let query = quantizer.query(metric, row);
            let mut distances = vec![0.0; rows.len() / dim];
            query.distances(&codes, &mut distances);
            if (1e-10..1e15).contains(&length) {
                assert!(distances.iter().all(|distance| !distance.is_nan()), "{name} {metric}");
            }
        }
    }
}

#[test]
fn every_quantizer_trains_on_anything_finite() {
    for (name, dim, rows) in data() {
        for bits in [ProductBits::Four, ProductBits::Eight] {
            for pieces in [1, dim.div_ceil(2), dim] {
                let mut config = ProductConfig::new(pieces, bits);
                config.iterations = 4;
                check(name, &ProductQuantizer::train(&rows, dim, &config).unwrap(), &rows);
            }
        }
        let mut config = OpqConfig::new(ProductConfig::new(dim.div_ceil(3), ProductBits::Four));
        config.rounds = 2;
        check(name, &Opq::train(&rows, dim, &config).unwrap(), &rows);
        for uncentred in [false, true] {
            let config = if uncentred { PcaConfig::uncentred() } else { PcaConfig::default() };
            let pca = Pca::train(&rows, dim, &config);
            let square = |i: usize| -> f32 { pca.basis()[i * dim..][..dim].iter().map(|v| v * v).sum() };
            assert!((0..dim).all(|i| (square(i) - 1.0).abs() < 1e-4), "{name}: the basis is orthonormal");
            if uncentred {
                check(name, &Sq8::new(Rotation::Pca(pca.clone())), &rows);
                check(name, &Sq4::new(Rotation::Pca(pca)), &rows);
            }
        }
        let mean: Vec<f32> = (0..dim)
            .map(|j| {
                (rows.iter().skip(j).step_by(dim).map(|&v| f64::from(v)).sum::<f64>() * dim as f64
                    / rows.len() as f64) as f32
            })
            .collect();
        for bits in 1..=8 {
            check(name, &Rabitq::new(mean.clone(), RabitqConfig::new(bits)).unwrap(), &rows);
        }
        check(name, &Binary::rotated(mean.clone(), Rotation::fht(dim, 1)), &rows);
        let kmeans = KMeans::train(&rows, dim, &KMeansConfig::new((rows.len() / dim).min(20))).unwrap();
        assert!(kmeans.centroids().iter().all(|value| value.is_finite()), "{name}");
    }
}

#[test]
fn what_cannot_be_trained_on_is_refused_in_a_sentence() {
    let refused = |rows: &[f32], dim: usize, pieces: usize| {
        let config = ProductConfig::new(pieces, ProductBits::Four);
        let product = ProductQuantizer::train(rows, dim, &config).unwrap_err().to_string();
        assert_eq!(Opq::train(rows, dim, &OpqConfig::new(config)).unwrap_err().to_string(), product);
        product
    };
    assert!(refused(&[0.0, f32::NAN, 1.0, 2.0], 2, 1).contains("vector 0 holds a value that is not finite"));
    assert!(refused(&[0.0, 1.0, 1.0, f32::INFINITY], 2, 1).contains("vector 1"));
    assert!(refused(&[], 2, 1).contains("0 points"));
    assert!(refused(&[1.0; 5], 2, 1).contains("5 values are not whole vectors of 2"));
    assert!(refused(&[1.0; 4], 2, 3).contains("3 pieces of vectors of 2 values"));
    assert!(refused(&[1.0; 4], 2, 0).contains("0 pieces"));
    let few = KMeans::train(&[1.0; 4], 2, &KMeansConfig::new(3)).unwrap_err().to_string();
    assert!(few.contains("2 points cannot give 3 clusters"), "{few}");
}
