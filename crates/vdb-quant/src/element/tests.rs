//! Conversions over all bit patterns, and every kernel against sums in double precision.

use vdb_distance::{Isa, Metric};

use super::convert::{Bf16, F16, Number, U8, f16_value};
use super::{Bf16Codec, ElementCodec, ElementKernels, F16Codec, U8Codec};
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

fn code<N: Number>(value: f32) -> u32 {
    let mut bytes = [0; 4];
    N::encode(value, &mut bytes[..N::BYTES]);
    u32::from_le_bytes(bytes)
}

/// The number nearest to each midpoint between two neighbours, and just beside it.
fn check_rounding<N: Number>(below: u32, above: u32) {
    let value = |bits: u32| f64::from(N::decode(&bits.to_le_bytes()[..N::BYTES]));
    let middle = ((value(below) + value(above)) / 2.0) as f32;
    let even = if below.is_multiple_of(2) { below } else { above };
    assert_eq!(code::<N>(middle), even, "{middle}");
    assert_eq!(code::<N>(middle.next_down()), below, "{middle} less a little");
    assert_eq!(code::<N>(middle.next_up()), above, "{middle} and a little");
}

#[test]
fn every_short_number_returns_and_midpoints_go_to_even() {
    for bits in 0..=u16::MAX {
        let f16 = f16_value(bits);
        if f16.is_finite() {
            assert_eq!(code::<F16>(f16), u32::from(bits), "{f16}");
        } else {
            assert_eq!(f16.is_nan(), bits & 0x3ff != 0);
        }
        let bf16 = Bf16::decode(&bits.to_le_bytes());
        if bf16.is_finite() {
            assert_eq!(code::<Bf16>(bf16), u32::from(bits), "{bf16}");
        }
    }
    (0..0x7bff).for_each(|bits| check_rounding::<F16>(bits, bits + 1));
    (0..0x7f7f).for_each(|bits| check_rounding::<Bf16>(bits, bits + 1));
    (0..255).for_each(|bits| check_rounding::<U8>(bits, bits + 1));
}

#[test]
fn numbers_out_of_range_saturate() {
    for huge in [65_505.0, 1e30, f32::INFINITY] {
        assert_eq!(F16::decode(&(code::<F16>(huge) as u16).to_le_bytes()), 65_504.0);
        assert_eq!(F16::decode(&(code::<F16>(-huge) as u16).to_le_bytes()), -65_504.0);
    }
    assert_eq!(code::<Bf16>(f32::MAX), 0x7f7f);
    assert_eq!(code::<Bf16>(f32::NEG_INFINITY), 0xff7f);
    assert!(F16::decode(&(code::<F16>(f32::NAN) as u16).to_le_bytes()).is_nan());
    assert!(Bf16::decode(&(code::<Bf16>(f32::NAN) as u16).to_le_bytes()).is_nan());
    assert_eq!([-3.0, 300.0, f32::NAN].map(code::<U8>), [0, 255, 0]);
}

fn kernels() -> Vec<ElementKernels> {
    Isa::ALL.into_iter().filter_map(ElementKernels::for_isa).collect()
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
