//! Every kernel against the definition, on every instruction set that this CPU has.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

#[test]
fn all_kernels_return_the_sums_of_the_definition() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for tables in [0, 4, 8, 12, 28, 32, 36, 192, 252, 256, 260, 508, 516, 1024, 1032] {
        for full in [false, true] {
            let bytes = tables * TABLE_BYTES;
            let mut byte = || if full { 255 } else { rng.random::<u8>() };
            // Odd starts: blocks in a mapped file need not be aligned.
            let codes: Vec<u8> = (0..bytes + 1).map(|_| byte()).collect();
            let luts: Vec<u8> = (0..bytes + 1).map(|_| byte()).collect();
            let (codes, luts) = (&codes[1..], &luts[1..]);
            let mut expected = [0; BLOCK];
            for (vector, sum) in expected.iter_mut().enumerate() {
                *sum = (0..tables)
                    .map(|t| u32::from(luts[t * TABLE_BYTES + usize::from(nibble(codes, t, vector))]))
                    .sum();
            }
            for isa in Isa::ALL {
                let Some(kernel) = FastScan::for_isa(isa) else {
                    eprintln!("skipped: this CPU has no {isa}");
                    continue;
                };
                let mut sums = [7; BLOCK];
                kernel.scan(codes, luts, &mut sums);
                assert_eq!(sums, expected, "{isa} with {tables} tables");
            }
        }
    }
}

#[test]
fn nibbles_are_read_where_they_were_put() {
    let mut block = vec![0xFF; padded_bytes(5)];
    for table in 0..5 {
        for vector in 0..BLOCK {
            put(&mut block, table, vector, ((vector * 5 + table) % 16) as u8);
        }
    }
    for table in 0..5 {
        for vector in 0..BLOCK {
            assert_eq!(nibble(&block, table, vector), ((vector * 5 + table) % 16) as u8);
        }
    }
}

#[test]
fn all_kernels_return_the_estimates_of_the_definition() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for (tables, wide, blocks) in
        [(0, false, 1), (4, false, 3), (12, true, 2), (96, false, 5), (260, true, 2)]
    {
        let bytes = tables * TABLE_BYTES;
        let mut random = |count: usize| -> Vec<u8> { (0..count).map(|_| rng.random()).collect() };
        let (low, high) = (random(bytes), if wide { random(bytes) } else { Vec::new() });
        let mut data = random(blocks * (BLOCK_FACTOR_BYTES + bytes) + 1);
        let data = &mut data[1..];
        for block in data.chunks_exact_mut(BLOCK_FACTOR_BYTES + bytes) {
            for (lane, factors) in block[..BLOCK_FACTOR_BYTES].chunks_exact_mut(4).enumerate() {
                let value = match lane {
                    3 => f32::NAN,
                    4 => f32::INFINITY,
                    _ => (lane as f32 - 30.0) * 0.7,
                };
                let word =
                    if lane < BLOCK { value.to_bits() } else { value.to_bits() & 0xFFFF_0000 | 0x3F8F };
                factors.copy_from_slice(&word.to_le_bytes());
            }
        }
        let tables = Tables8 { low: &low, high: &high };
        for limit in [0.0, 300.0, f32::INFINITY] {
            let scale = Scale { offset: -3.0, step: 0.01, list: 5.0, spread: 2.0, rounding: 0.1, limit };
            let wanted = |block: usize| if block == 1 { 0 } else { 0xFFFF_FFF7 | (block as u32) << 3 };
            let fresh = || -> Vec<BlockEstimates> {
                (0..blocks)
                    .map(|block| BlockEstimates { near: wanted(block), ..BlockEstimates::default() })
                    .collect()
            };
            let mut expected = fresh();
            PORTABLE.estimate(data, tables, &scale, &mut expected);
            let lanes = expected.iter().flat_map(|out| (0..BLOCK).map(move |lane| (out, lane)));
            for (out, lane) in lanes.filter(|(out, _)| out.near != 0) {
                if out.near >> lane & 1 == 1 {
                    assert!(out.bound[lane].is_nan() || out.bound[lane] < limit);
                }
            }
            assert!(blocks < 2 || expected[1] == BlockEstimates::default(), "a block was read in vain");
            let bits = |all: &[BlockEstimates]| -> Vec<u32> {
                let numbers = |e: &BlockEstimates| e.distance.into_iter().chain(e.bound).chain(e.product);
                // All numbers that are not numbers are alike.
                let word = |value: f32| if value.is_nan() { u32::MAX } else { value.to_bits() };
                all.iter().flat_map(|e| numbers(e).map(word).chain([e.near])).collect()
            };
            for isa in Isa::ALL {
                let Some(kernel) = FastScan::for_isa(isa) else { continue };
                let mut out = fresh();
                kernel.estimate(data, tables, &scale, &mut out);
                assert_eq!(bits(&out), bits(&expected), "{isa} limit {limit}");
            }
        }
    }
}
