//! Codes of every element type, by every kernel, against sums in double precision.

use vdb_distance::{Bf16, F16, Isa, Kernels, Metric, Number, U8};

use super::{Bf16Codec, ElementCodec, F16Codec, U8Codec};
use crate::{CodeQuery, Quantizer};

struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    }

    fn vector(&mut self, len: usize, scale: f32) -> Vec<f32> {
        (0..len).map(|_| self.next() * scale).collect()
    }
}

fn kernels() -> Vec<Kernels> {
    Isa::ALL.into_iter().filter_map(Kernels::for_isa).collect()
}

/// All kernels and metrics over one row after another, against double precision.
fn check<N: Number>(dim: usize, scale: f32) {
    const ROWS: usize = 11;
    let mut noise = Noise(dim as u64);
    let codec = ElementCodec::<N>::new(dim);
    let mut codes = vec![0; ROWS * codec.code_bytes()];
    let mut decoded = vec![0.0; ROWS * dim];
    for row in 0..ROWS {
        let vector: Vec<f32> = noise.vector(dim, scale);
        let bytes = row * codec.code_bytes()..(row + 1) * codec.code_bytes();
        codec.encode(&vector, &mut codes[bytes.clone()]);
        codec.decode(&codes[bytes], &mut decoded[row * dim..(row + 1) * dim]);
    }
    let query = noise.vector(dim, scale);
    let ids: Vec<u32> = (0..ROWS as u32).rev().collect();
    for metric in [Metric::Euclidean, Metric::DotProduct, Metric::Cosine, Metric::Manhattan] {
        for kernels in kernels() {
            let prepared = codec.query(metric, &query).with_kernels(kernels);
            let (mut out, mut picked) = ([0.0; ROWS], [0.0; ROWS]);
            prepared.distances(&codes, &mut out);
            prepared.gather(&codes, &ids, &mut picked);
            picked.reverse();
            assert_eq!(out.map(f32::to_bits), picked.map(f32::to_bits), "{kernels:?}");
            for (row, &value) in out.iter().enumerate() {
                let pairs = query.iter().zip(&decoded[row * dim..(row + 1) * dim]);
                let terms = pairs.map(|(&q, &x)| (f64::from(q), f64::from(x))).map(|(q, x)| match metric {
                    Metric::Euclidean => (q - x) * (q - x),
                    Metric::Manhattan => (q - x).abs(),
                    _ => -q * x,
                });
                let (sum, magnitude) = terms.fold((0.0, 0.0), |(s, m), t| (s + t, m + t.abs()));
                let bound = (dim as f64 / 64.0 + 6.0) * f64::from(f32::EPSILON) * magnitude;
                let saturated = sum.clamp(-f64::from(f32::MAX), f64::from(f32::MAX));
                let value = f64::from(value).clamp(-f64::from(f32::MAX), f64::from(f32::MAX));
                assert!(
                    (value - saturated).abs() <= bound + 1e-44,
                    "{kernels:?} {metric} {dim}: {value} {sum}"
                );
            }
        }
    }
}

#[test]
fn every_kernel_agrees_with_double_precision() {
    for dim in (0..=150).chain([255, 300, 768, 784, 1536]) {
        check::<F16>(dim, 1.0);
        check::<Bf16>(dim, 1.0);
        check::<U8>(dim, 255.0);
    }
    for dim in [1, 17, 64, 300] {
        check::<F16>(dim, 6e4);
        check::<F16>(dim, 1e-6);
        check::<Bf16>(dim, 3e38);
        check::<Bf16>(dim, 1e-20);
    }
}

#[test]
fn bytes_are_exact() {
    let vector: Vec<f32> = (0..=255_u8).map(f32::from).collect();
    let codec = U8Codec::new(256);
    let mut code = vec![0; codec.code_bytes()];
    codec.encode(&vector, &mut code);
    let mut back = vec![0.0; 256];
    codec.decode(&code, &mut back);
    assert_eq!(vector, back);
    let mut out = [1.0];
    codec.query(Metric::Euclidean, &vector).distances(&code, &mut out);
    assert_eq!(out, [0.0]);
}

#[test]
fn codes_and_rows_that_are_not_there_are_refused() {
    let refuse = |run: &dyn Fn()| {
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
    };
    let query = F16Codec::new(3).query(Metric::Euclidean, &[0.0; 3]);
    refuse(&|| query.distances(&[0; 11], &mut [0.0; 2]));
    refuse(&|| query.gather(&[0; 12], &[2], &mut [0.0]));
    refuse(&|| query.gather(&[0; 12], &[0, 1], &mut [0.0]));
    refuse(&|| drop(Bf16Codec::new(3).query(Metric::Euclidean, &[0.0; 4])));
}
