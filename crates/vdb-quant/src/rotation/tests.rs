//! Every rotation keeps inner products and returns from bytes as it was; training survives degenerate data and does
//! not depend on threads; bytes that are no rotation are an error.

use proptest::prelude::*;
use vdb_distance::reference;
use vdb_distance::{Isa, Kernels};

use super::{Dense, FhtKac, Pca, PcaConfig, Rotation, RotationError, eigen, fht, split_mix};

struct Noise(u64);

impl Noise {
    /// Near enough to normal: the sum of four uniform numbers.
    fn next(&mut self) -> f32 {
        let uniform = |bits: u64| (bits >> 40) as f32 / (1_u64 << 24) as f32 - 0.5;
        (0..4).map(|_| uniform(split_mix(&mut self.0))).sum::<f32>() * 1.7
    }

    fn vector(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.next()).collect()
    }

    /// Vectors with variances that fall along a few mixed directions, around a mean.
    fn clustered(&mut self, rows: usize, dim: usize) -> Vec<f32> {
        let directions: Vec<Vec<f32>> = (0..4).map(|_| self.vector(dim)).collect();
        let mut vectors = Vec::new();
        for _ in 0..rows {
            let weights = self.vector(4);
            for j in 0..dim {
                let along: f32 = directions.iter().zip(&weights).map(|(d, w)| d[j] * w).sum();
                vectors.push(along + 0.1 * self.next() + 0.5);
            }
        }
        vectors
    }
}

fn rotated(rotation: &Rotation, vector: &[f32]) -> Vec<f32> {
    let mut output = vec![f32::NAN; rotation.output_dim()];
    rotation.apply(vector, &mut output);
    output
}

fn centred(rotation: &Rotation, vector: &[f32]) -> Vec<f32> {
    let centre = rotation.centre().map_or_else(|| vec![0.0; vector.len()], <[f32]>::to_vec);
    vector.iter().zip(centre).map(|(&x, c)| x - c).collect()
}

fn rotations(dim: usize) -> Vec<Rotation> {
    let sample = Noise(3).clustered(40, dim);
    let pca = Pca::train(&sample, dim, &PcaConfig::default());
    vec![
        Rotation::identity(dim),
        Rotation::fht(dim, 1),
        Rotation::Fht(FhtKac::new(dim, dim, 2)),
        Rotation::dense(dim, 3),
        Rotation::from(pca.mix_head(dim * 2 / 3, 4)),
        Rotation::from(pca),
        Rotation::from(Pca::train(&sample, dim, &PcaConfig::uncentred())),
    ]
}

const DIMS: [usize; 14] = [1, 2, 3, 5, 7, 16, 31, 63, 64, 65, 100, 130, 248, 300];

#[test]
fn norms_and_inner_products_are_kept() {
    for dim in DIMS {
        let mut noise = Noise(dim as u64);
        for rotation in rotations(dim) {
            let slack = rotation.slack();
            assert!(slack.defect < 1e-4 && slack.relative < 1e-4, "{dim}: {slack:?}");
            for scale in [1.0, 1e-18, 1e15] {
                let [x, y] =
                    [(); 2].map(|()| noise.vector(dim).iter().map(|v| v * scale).collect::<Vec<_>>());
                let (rx, ry) = (rotated(&rotation, &x), rotated(&rotation, &y));
                let (cx, cy) = (centred(&rotation, &x), centred(&rotation, &y));
                let norms = (reference::dot(&cx, &cx) * reference::dot(&cy, &cy)).sqrt();
                let name = format!("{dim}, {scale}, kind {}", rotation.kind());
                let norm = reference::dot(&rx, &rx).sqrt() / reference::dot(&cx, &cx).sqrt();
                assert!((norm - 1.0).abs() < 1e-5, "{name}: norm times {norm}");
                let error = (reference::dot(&rx, &ry) - reference::dot(&cx, &cy)).abs() / norms;
                assert!(error < 1e-5, "{name}: product off by {error}");
                assert!(error <= slack.defect + 2.1 * slack.relative + 1e-6, "{name}: beyond the slack");
            }
        }
    }
}

#[test]
fn the_inverse_returns_the_vector_and_rows_equal_single_vectors() {
    for dim in DIMS {
        let vectors = Noise(7).vector(dim * 70);
        for rotation in rotations(dim) {
            let mut all = vec![0.0; 70 * rotation.output_dim()];
            rotation.apply_rows(&vectors, &mut all);
            let outputs = all.chunks_exact(rotation.output_dim());
            for (vector, output) in vectors.chunks_exact(dim).zip(outputs) {
                assert_eq!(rotated(&rotation, vector), output);
                let mut back = vec![0.0; dim];
                rotation.apply_inverse(output, &mut back);
                let error = reference::l2_squared(vector, &back).sqrt();
                assert!(error < 1e-5 * (1.0 + reference::dot(vector, vector).sqrt()), "{dim}: {error}");
            }
        }
    }
}

#[test]
fn the_fast_rotation_spreads_a_single_value() {
    for dim in [64, 100, 248, 784] {
        let rotation = Rotation::Fht(FhtKac::new(dim, dim, 5));
        for i in [0, dim / 2, dim - 1] {
            let mut unit = vec![0.0; dim];
            unit[i] = 1.0;
            let greatest = rotated(&rotation, &unit).iter().fold(0.0_f32, |a, b| a.max(b.abs()));
            assert!(greatest < 7.0 / (dim as f32).sqrt(), "{dim}, {i}: {greatest}");
        }
    }
}

#[test]
fn transforming_twice_returns_the_values_and_a_single_value_becomes_even() {
    for log in 0..9 {
        let len = 1 << log;
        let values: Vec<f64> = Noise(log).vector(len).iter().map(|&value| f64::from(value)).collect();
        let mut twice = values.clone();
        fht::transform(&mut twice);
        // Entry (i, j) of the matrix is the parity of i & j.
        let expected: f64 = (0..len)
            .map(|j| if (j & (len / 2)).count_ones() % 2 == 0 { values[j] } else { -values[j] })
            .sum();
        assert!((twice[len / 2] - expected / (len as f64).sqrt()).abs() < 1e-12);
        fht::transform(&mut twice);
        assert!(values.iter().zip(&twice).all(|(a, b)| (a - b).abs() < 1e-12), "{len}");
    }
}

#[test]
fn the_fast_rotation_is_the_same_on_every_instruction_set() {
    let dims = (1_usize..=70).chain([127, 128, 130, 255, 256, 384, 449, 512, 784, 832, 1536, 2050]);
    for (dim, output_dim) in dims.flat_map(|dim| [(dim, dim), (dim, dim.next_multiple_of(64))]) {
        let rotation = FhtKac::new(dim, output_dim, 9);
        let mut vector = Noise(dim as u64).vector(dim);
        vector.resize(rotation.output_dim(), 0.0);
        let mut expected = vector.clone();
        rotation.forward(&mut expected);
        for isa in Isa::ALL {
            let Some(kernels) = Kernels::for_isa(isa) else {
                eprintln!("skipped: this CPU has no {isa}");
                continue;
            };
            let mut output = vector.clone();
            rotation.forward_with(&kernels, &mut output);
            assert!(output.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()), "{isa} {dim}");
        }
    }
}

#[test]
fn version_one_of_the_fast_rotation_never_changes() {
    let mut output = [0.0; 5];
    FhtKac::new(5, 5, 42).apply(&[1.0, 2.0, 3.0, 4.0, 5.0], &mut output);
    assert_eq!(output.map(|value| (value * 1e4).round()), GOLDEN);
}

const GOLDEN: [f32; 5] = [28491.0, 5000.0, 35240.0, -58491.0, 392.0];

#[test]
fn components_are_sorted_and_explain_the_variance() {
    let (dim, rows) = (50, 2000);
    let vectors = Noise(9).clustered(rows, dim);
    let pca = Pca::train(&vectors, dim, &PcaConfig::default());
    assert!(pca.variances().is_sorted_by(|a, b| a >= b));
    assert!(pca.share(4) > 0.9, "{}", pca.share(4));
    let rotation = Rotation::from(pca.clone());
    let mut rotated = vec![0.0; vectors.len()];
    rotation.apply_rows(&vectors, &mut rotated);
    for (j, &variance) in pca.variances().iter().enumerate() {
        let measured: f64 =
            rotated.chunks_exact(dim).map(|v| f64::from(v[j]).powi(2)).sum::<f64>() / rows as f64;
        assert!((measured - variance).abs() < 1e-4 * pca.variances()[0], "{j}: {measured}, {variance}");
    }
}

#[test]
fn eigenvectors_solve_the_equation() {
    for n in [1, 2, 3, 9, 40, 130] {
        let mut noise = Noise(n as u64);
        let mut matrix = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..=i {
                let value = f64::from(noise.next());
                (matrix[i * n + j], matrix[j * n + i]) = (value, value);
            }
        }
        let eigen = eigen::symmetric(matrix.clone(), n);
        for (value, vector) in eigen.values.iter().zip(eigen.vectors.chunks_exact(n)) {
            for (row, x) in matrix.chunks_exact(n).zip(vector) {
                let product: f64 = row.iter().zip(vector).map(|(a, b)| a * b).sum();
                assert!((product - value * x).abs() < 1e-11 * n as f64, "{n}");
            }
        }
    }
}

#[test]
fn degenerate_samples_give_an_orthonormal_basis() {
    let dim = 33;
    let equal = [2.5; 33 * 10];
    let mut line = vec![0.0; dim * 20];
    line.iter_mut().step_by(dim).zip(1..).for_each(|(value, i)| *value = i as f32);
    let huge: Vec<f32> = Noise(1).vector(dim * 50).iter().map(|v| v * 1e30).collect();
    let tiny: Vec<f32> = Noise(1).vector(dim * 50).iter().map(|v| v * 1e-35).collect();
    let mut spoiled = Noise(2).vector(dim * 50);
    spoiled[40] = f32::NAN;
    spoiled[400] = f32::INFINITY;
    let few = Noise(3).vector(dim * 3);
    for config in [PcaConfig::default(), PcaConfig::uncentred()] {
        for sample in [&[][..], &equal, &line, &huge, &tiny, &spoiled, &few] {
            let pca = Pca::train(sample, dim, &config);
            assert!(pca.slack().defect < 1e-5, "{:?}", pca.slack());
            assert!(pca.variances().iter().all(|value| value.is_finite() && *value >= 0.0));
        }
    }
}

#[test]
fn training_does_not_depend_on_threads() {
    let vectors = Noise(11).clustered(900, 70);
    let train = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| {
            let config = PcaConfig { max_rows: 700, ..PcaConfig::default() };
            (Pca::train(&vectors, 70, &config).mix_head(40, 1), Dense::random(70, 1))
        })
    };
    assert!(train(1) == train(3));
}

#[test]
fn bytes_return_the_same_rotation() {
    for dim in [1, 5, 64, 100] {
        for rotation in rotations(dim) {
            let bytes = rotation.to_bytes();
            assert_eq!(Rotation::from_bytes(&bytes).as_ref(), Ok(&rotation));
            for len in [0, 4, 15, 16, bytes.len() - 1] {
                assert!(Rotation::from_bytes(&bytes[..len.min(bytes.len() - 1)]).is_err());
            }
            let mut longer = bytes.clone();
            longer.push(0);
            assert!(matches!(Rotation::from_bytes(&longer), Err(RotationError::Length { .. })));
        }
    }
    let bytes = Rotation::fht(5, 1).to_bytes();
    let changed = |at: usize, value: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = value;
        Rotation::from_bytes(&bytes)
    };
    assert!(matches!(changed(0, 0), Err(RotationError::Magic(_))));
    assert_eq!(changed(4, 2), Err(RotationError::Version(2)));
    assert_eq!(changed(5, 9), Err(RotationError::Dimensions { kind: 9, dim: 5, output_dim: 64 }));
    assert_eq!(changed(6, 1), Err(RotationError::Value("reserved field")));
    assert!(matches!(changed(11, 255), Err(RotationError::Dimensions { .. })));
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_refused_or_read(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
        kind in 0_u8..5,
        dim in 0_u8..6,
        header in any::<bool>(),
    ) {
        if header && bytes.len() >= 16 {
            bytes[..16].copy_from_slice(&[b'V', b'R', b'O', b'T', 1, kind, 0, 0, dim, 0, 0, 0, dim, 0, 0, 0]);
        }
        if let Ok(rotation) = Rotation::from_bytes(&bytes) {
            prop_assert_eq!(rotation.to_bytes(), bytes);
        }
    }
}
