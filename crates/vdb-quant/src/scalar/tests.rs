//! Codes round-trip and estimate well, all kernels give one answer, and no bound is ever violated.

use proptest::prelude::*;
use vdb_distance::{Kernels, Metric, reference};

use super::fit::{Fit, angles};
use super::{BoundedSq, BoundedSq4, BoundedSq8, Eight, Four, QueryPrecision, Sq, Sq4, Sq8, Width};
use crate::{CodeQuery, FhtKac, Int8Isa, Int8Kernels, Pca, PcaConfig, Quantizer, Rotation};

struct Noise(u64);

impl Noise {
    fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    }

    /// Near enough to normal.
    fn vector(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| (0..4).map(|_| self.uniform()).sum::<f32>() * 0.87).collect()
    }
}

const METRICS: [Metric; 3] = [Metric::Euclidean, Metric::DotProduct, Metric::Cosine];

/// What a comparable distance is, in double precision.
fn exact(metric: Metric, query: &[f32], vector: &[f32]) -> f64 {
    match metric {
        Metric::Euclidean => reference::l2_squared(query, vector),
        _ => -reference::dot(query, vector),
    }
}

fn encoded<Q: Quantizer>(quantizer: &Q, vectors: &[f32]) -> Vec<u8> {
    let mut rows = vec![0xaa; vectors.len() / quantizer.dim() * quantizer.code_bytes()];
    let codes = rows.chunks_exact_mut(quantizer.code_bytes());
    for (vector, code) in vectors.chunks_exact(quantizer.dim()).zip(codes) {
        quantizer.encode(vector, code);
    }
    rows
}

fn pack_round_trip<W: Width>() {
    for len in 1..=200 {
        let levels: Vec<u8> = (0..len).map(|i| (i * 7 % 16) as u8).collect();
        let mut code = vec![0; W::code_bytes(len)];
        W::pack(&levels, &mut code);
        let mut back = vec![0; len];
        W::unpack(&code, &mut back);
        assert_eq!(levels, back);
        let values: Vec<i8> = (0..len).map(|i| (i * 29 % 255) as u8 as i8).collect();
        let expected: i32 = levels.iter().zip(&values).map(|(&u, &k)| i32::from(u) * i32::from(k)).sum();
        assert_eq!(W::query(&[&values]).reference(&code, 0), expected, "{len} values");
    }
}

#[test]
fn levels_return_from_codes_and_meet_their_query() {
    pack_round_trip::<Eight>();
    pack_round_trip::<Four>();
}

#[test]
fn rows_fill_cache_lines() {
    assert_eq!([1, 56, 57, 248, 249].map(Sq8::rows_of_whole_lines), [56, 56, 120, 248, 312]);
    assert_eq!([1, 112, 113, 240].map(Sq4::rows_of_whole_lines), [112, 112, 240, 240]);
    assert_eq!(Sq8::with_head(Rotation::identity(300), 248).code_bytes(), 256);
    assert_eq!(Sq4::with_head(Rotation::identity(300), 240).code_bytes(), 128);
    assert_eq!(Sq8::new(Rotation::identity(3)).code_bytes(), 16);
    let head = BoundedSq4::rows_of_whole_lines(60);
    assert_eq!((head, BoundedSq4::new(Rotation::identity(100), head).code_bytes()), (88, 64));
    assert_eq!(BoundedSq8::rows_of_whole_lines(60), 108);
}

/// Root mean square error of estimated products, relative to the norms.
fn product_error<Q: Quantizer>(quantizer: &Q, dim: usize) -> f64 {
    let mut noise = Noise(5);
    let vectors = noise.vector(dim * 200);
    let rows = encoded(quantizer, &vectors);
    let mut total = 0.0;
    for _ in 0..5 {
        let q = noise.vector(dim);
        let mut out = vec![0.0; 200];
        quantizer.query(Metric::DotProduct, &q).distances(&rows, &mut out);
        for (vector, &estimate) in vectors.chunks_exact(dim).zip(&out) {
            let norms = (reference::dot(&q, &q) * reference::dot(vector, vector)).sqrt();
            total += ((f64::from(estimate) - exact(Metric::DotProduct, &q, vector)) / norms).powi(2);
        }
    }
    (total / 1000.0).sqrt()
}

#[test]
fn estimates_are_as_good_as_their_width() {
    let rotation = Rotation::fht(128, 1);
    let error8 = product_error(&Sq8::new(rotation.clone()), 128);
    let error16 =
        product_error(&Sq8::new(rotation.clone()).with_query_precision(QueryPrecision::Bits16), 128);
    let error4 = product_error(&Sq4::new(rotation.clone()), 128);
    let bounded = product_error(&BoundedSq4::new(rotation, 128), 128);
    // About step / √12 / √128 of a unit vector: 3σ / 127 and 2.7σ / 8.
    assert!(error8 < 1.1e-3 && error16 < 0.8 * error8, "{error8}, {error16}");
    assert!((5e-3..1.1e-2).contains(&error4), "{error4}");
    assert!((error4 - bounded).abs() < 1e-3, "{bounded}");
}

#[test]
fn decoded_vectors_are_near() {
    let mut noise = Noise(6);
    for dim in [1, 3, 64, 100, 300] {
        let vector = noise.vector(dim);
        for rotation in [Rotation::identity(dim), Rotation::fht(dim, 1)] {
            let norm = reference::dot(&vector, &vector).sqrt();
            let mut back = vec![0.0; dim];
            let (sq8, sq4) = (Sq8::new(rotation.clone()), Sq4::new(rotation));
            sq8.decode(&encoded(&sq8, &vector), &mut back);
            assert!(reference::l2_squared(&vector, &back).sqrt() < 0.02 * norm, "{dim}");
            sq4.decode(&encoded(&sq4, &vector), &mut back);
            assert!(reference::l2_squared(&vector, &back).sqrt() < 0.2 * norm, "{dim}");
        }
    }
}

#[test]
fn the_clip_chosen_is_no_worse_than_the_full_range() {
    let mut vector = Noise(8).vector(500);
    vector[3] = 40.0;
    let mut fit = Fit::default();
    fit.fit::<Four>(&vector);
    let kept: f64 = vector
        .iter()
        .zip(&fit.levels)
        .map(|(&x, &u)| f64::from(x) * f64::from(super::integer::<Four>(u)))
        .sum::<f64>()
        * f64::from(fit.scale);
    let [full] = angles::<Four, 1>(&vector, [40.0 / 15.0]);
    assert!(kept >= f64::from(full) * 0.9999, "{kept}, {full}");
}

fn fits_of_every_instruction_set<W: Width>() {
    let mut noise = Noise(11);
    for dim in [1, 2, 15, 16, 17, 31, 33, 64, 100, 384, 785] {
        for factor in [1.0, 1e-40, 1e30, 0.0, f32::NAN] {
            let head: Vec<f32> = noise.vector(dim).into_iter().map(|value| value * factor).collect();
            let (mut expected, mut fit) = (Fit::default(), Fit::default());
            expected.fit_for::<W>(vdb_distance::Isa::Scalar, &head);
            for isa in Kernels::available() {
                fit.fit_for::<W>(isa, &head);
                assert_eq!(fit.levels, expected.levels, "{isa} {dim}");
                assert_eq!(fit.scale.to_bits(), expected.scale.to_bits(), "{isa} {dim}");
                assert_eq!(fit.square, expected.square, "{isa} {dim}");
            }
        }
    }
}

#[test]
fn every_instruction_set_gives_the_same_codes() {
    fits_of_every_instruction_set::<Eight>();
    fits_of_every_instruction_set::<Four>();
}

#[test]
fn every_kernel_gives_the_same_distances() {
    let dim = 150;
    let mut noise = Noise(9);
    let vectors = noise.vector(dim * 150);
    let q = noise.vector(dim);
    for precision in [QueryPrecision::Bits8, QueryPrecision::Bits16] {
        let sq = Sq4::with_head(Rotation::identity(dim), 100).with_query_precision(precision);
        let rows = encoded(&sq, &vectors);
        for metric in METRICS {
            let query = sq.query(metric, &q);
            let mut expected = vec![0.0; 150];
            query.distances(&rows, &mut expected);
            for kernels in Int8Isa::ALL.into_iter().filter_map(Int8Kernels::for_isa) {
                let mut out = vec![0.0; 150];
                query.clone().with_kernels(kernels).distances(&rows, &mut out);
                assert_eq!(out, expected, "{kernels:?}");
            }
        }
    }
}

#[test]
fn gathered_rows_and_rows_encoded_together_are_the_same() {
    let dim = 70;
    let mut noise = Noise(10);
    let vectors = noise.vector(dim * 300);
    let q = noise.vector(dim);
    let pca = Pca::train(&vectors, dim, &PcaConfig::default()).mix_head(50, 1);
    let sq = Sq8::with_head(Rotation::from(pca.clone()), 50);
    let bounded = BoundedSq4::new(Rotation::from(pca), 50);
    let ids: Vec<u32> = (0..300).map(|i| i * 7 % 300).collect();

    let rows = encoded(&sq, &vectors);
    let mut together = vec![0; rows.len()];
    sq.encode_rows(&vectors, &mut together);
    assert!(rows == together);
    let query = sq.query(Metric::Euclidean, &q);
    let (mut all, mut picked) = (vec![0.0; 300], vec![0.0; 300]);
    query.distances(&rows, &mut all);
    query.gather(&rows, &ids, &mut picked);
    assert!(ids.iter().zip(&picked).all(|(&id, &value)| value == all[id as usize]));

    let rows = encoded(&bounded, &vectors);
    let mut together = vec![0; rows.len()];
    bounded.encode_rows(&vectors, &mut together);
    assert!(rows == together);
    let query = bounded.query(Metric::Euclidean, &q);
    let (mut lower, mut upper) = (vec![0.0; 300], vec![0.0; 300]);
    let (mut some_lower, mut some_upper) = (lower.clone(), upper.clone());
    query.bounds(&rows, &mut lower, &mut upper);
    query.gather_bounds(&rows, &ids, &mut some_lower, &mut some_upper);
    for (i, &id) in ids.iter().enumerate() {
        assert_eq!((some_lower[i], some_upper[i]), (lower[id as usize], upper[id as usize]));
    }
}

#[test]
fn lengths_and_metrics_that_cannot_be_are_refused() {
    let refuse = |run: &dyn Fn()| {
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
    };
    let sq = Sq8::new(Rotation::identity(10));
    refuse(&|| sq.encode(&[0.0; 9], &mut vec![0; sq.code_bytes()]));
    refuse(&|| sq.encode(&[0.0; 10], &mut vec![0; sq.code_bytes() + 1]));
    let query = sq.query(Metric::Euclidean, &[0.0; 10]);
    refuse(&|| query.distances(&[0; 24], &mut [0.0; 2]));
    refuse(&|| query.gather(&[0; 48], &[2], &mut [0.0]));
    refuse(&|| drop(sq.query(Metric::Manhattan, &[0.0; 10])));
    let centred = Pca::train(&[1.0; 20], 10, &PcaConfig::default());
    let sq = Sq8::new(Rotation::from(centred));
    refuse(&|| drop(sq.query(Metric::Cosine, &[0.0; 10])));
}

/// Asserts every bound between each query and each vector, under every metric that the rotation keeps. Returns the
/// greatest relative width.
fn check_bounds<W: Width>(quantizer: &BoundedSq<W>, vectors: &[f32], queries: &[f32]) -> f64 {
    let dim = quantizer.dim();
    let count = vectors.len() / dim;
    let rows = encoded(quantizer, vectors);
    let mut widest = 0.0_f64;
    for q in queries.chunks_exact(dim) {
        for metric in METRICS {
            if metric != Metric::Euclidean && quantizer.rotation().centre().is_some() {
                continue;
            }
            let query = quantizer.query(metric, q);
            let (mut lower, mut upper, mut estimate) = (vec![0.0; count], vec![0.0; count], vec![0.0; count]);
            query.bounds(&rows, &mut lower, &mut upper);
            query.distances(&rows, &mut estimate);
            for (i, x) in vectors.chunks_exact(dim).enumerate() {
                let truth = exact(metric, q, x);
                // The truth is a sum in double precision.
                let norms = reference::dot(q, q).sqrt() * reference::dot(x, x).sqrt();
                let error = 1e-13 * (norms + truth.abs());
                let (lower, upper) = (f64::from(lower[i]), f64::from(upper[i]));
                assert!(
                    lower <= truth + error && truth - error <= upper,
                    "{dim} dimensions, head {}, {metric}: {lower} {truth} {upper}",
                    quantizer.head()
                );
                assert!(!estimate[i].is_nan());
                if norms > 0.0 && upper.is_finite() {
                    widest = widest.max((upper - lower) / norms);
                }
            }
        }
    }
    widest
}

/// Vectors of all the shapes that have broken bounds somewhere: seven of `dim` values.
fn shapes(dim: usize, noise: &mut Noise) -> Vec<f32> {
    let normal = noise.vector(dim);
    let near: Vec<f32> = normal.iter().map(|x| x * (1.0 + 1e-4 * noise.uniform())).collect();
    let mut single = vec![0.0; dim];
    single[dim / 2] = -3.0;
    let mut mixed = noise.vector(dim);
    mixed.iter_mut().step_by(3).for_each(|x| *x *= 1e-18);
    let constant = vec![0.7; dim];
    let opposite = normal.iter().map(|x| -x).collect();
    [normal, near, single, mixed, constant, opposite, vec![0.0; dim]].concat()
}

fn scaled(vectors: &[f32], factor: f32) -> Vec<f32> {
    vectors.iter().map(|x| x * factor).collect()
}

fn check_rotation(rotation: &Rotation, noise: &mut Noise) {
    let dim = rotation.dim();
    let out = rotation.output_dim();
    let vectors = shapes(dim, noise);
    let all = [1.0, 1e18, 1e-18].map(|factor| scaled(&vectors, factor)).concat();
    let queries = [&all[..], &noise.vector(dim)].concat();
    let mut heads = vec![out, (out * 2 / 3).max(1), 1];
    heads.dedup();
    for head in heads {
        let eight = BoundedSq8::new(rotation.clone(), head);
        check_bounds(&eight, &all, &queries);
        let four = BoundedSq4::new(rotation.clone(), head);
        check_bounds(&four.clone().with_query_precision(QueryPrecision::Bits8), &all, &queries);
        check_bounds(&four, &all, &queries);
    }
}

#[test]
fn bounds_hold_in_every_dimension() {
    let mut noise = Noise(20);
    for dim in 1..=300 {
        let rotation = match dim % 3 {
            0 => Rotation::identity(dim),
            1 => Rotation::fht(dim, dim as u64),
            _ => Rotation::Fht(FhtKac::new(dim, dim, 1)),
        };
        check_rotation(&rotation, &mut noise);
    }
}

#[test]
fn bounds_hold_behind_matrices_and_centres() {
    let mut noise = Noise(21);
    for dim in [1, 2, 17, 64, 100, 257] {
        let mut sample = noise.vector(dim * 60);
        // Falling variances, and a mean far from zero, which most vectors below are far from too.
        sample.chunks_exact_mut(dim).for_each(|vector| {
            vector.iter_mut().enumerate().for_each(|(j, x)| *x = *x / (1 + j) as f32 + 100.0);
        });
        let centred = Pca::train(&sample, dim, &PcaConfig::default());
        let uncentred = Pca::train(&sample, dim, &PcaConfig::uncentred());
        check_rotation(&Rotation::dense(dim, 1), &mut noise);
        check_rotation(&Rotation::from(centred.mix_head(dim / 2, 3)), &mut noise);
        check_rotation(&Rotation::from(centred), &mut noise);
        check_rotation(&Rotation::from(uncentred), &mut noise);
    }
}

#[test]
fn bounds_survive_the_ends_of_single_precision() {
    let mut noise = Noise(22);
    for dim in [1, 3, 64, 200] {
        for rotation in [Rotation::identity(dim), Rotation::fht(dim, 1), Rotation::dense(dim, 2)] {
            let vectors = shapes(dim, &mut noise);
            let all = [1e38, 1e30, 1e-38, 1e-42].map(|factor| scaled(&vectors, factor)).concat();
            let all: Vec<f32> = all.iter().map(|x| x.clamp(-f32::MAX, f32::MAX)).collect();
            check_bounds(&BoundedSq8::new(rotation.clone(), dim), &all, &all);
            check_bounds(&BoundedSq4::new(rotation, dim), &all, &all);
        }
    }
}

#[test]
fn bounds_are_narrow() {
    let dim = 256;
    let mut noise = Noise(23);
    let (vectors, queries) = (noise.vector(dim * 50), noise.vector(dim * 3));
    let rotation = Rotation::fht(dim, 1);
    let eight = check_bounds(&BoundedSq8::new(rotation.clone(), dim), &vectors, &queries);
    let four = check_bounds(&BoundedSq4::new(rotation, dim), &vectors, &queries);
    // Of a squared distance, relative to the norms: four times ‖r‖ / ‖x‖, about.
    assert!(eight < 0.06, "{eight}");
    assert!(four < 0.6, "{four}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn bounds_hold_for_arbitrary_numbers(
        seed in any::<u64>(),
        dim in 1_usize..80,
        bits in proptest::collection::vec(any::<u32>(), 240),
        rotated in any::<bool>(),
    ) {
        let finite = |bits: &u32| Some(f32::from_bits(*bits)).filter(|x| x.is_finite()).unwrap_or(1.0);
        let wild: Vec<f32> = bits.iter().map(finite).collect();
        let vectors = &wild[..wild.len() / dim * dim];
        let rotation = if rotated { Rotation::fht(dim, seed) } else { Rotation::identity(dim) };
        let head = 1 + seed as usize % rotation.output_dim();
        check_bounds(&BoundedSq8::new(rotation.clone(), head), vectors, vectors);
        check_bounds(&BoundedSq4::new(rotation, head), vectors, vectors);
    }

    #[test]
    fn estimates_of_arbitrary_numbers_are_numbers(
        bits in proptest::collection::vec(any::<u32>(), 2..80),
    ) {
        let finite = |bits: &u32| Some(f32::from_bits(*bits)).filter(|x| x.is_finite()).unwrap_or(1.0);
        let vector: Vec<f32> = bits.iter().map(finite).collect();
        let sq = Sq::<Eight>::new(Rotation::fht(vector.len(), 1));
        let row = encoded(&sq, &vector);
        for metric in METRICS {
            let mut out = [0.0];
            sq.query(metric, &vector).distances(&row, &mut out);
            prop_assert!(!out[0].is_nan());
        }
    }
}
