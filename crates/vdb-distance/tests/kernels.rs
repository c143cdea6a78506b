//! Every kernel of every instruction set against the double-precision reference, and against each other.
//!
//! Kernels that this CPU cannot run are reported as skipped. `VDB_REQUIRE_ISA`, a comma-separated list of
//! instruction sets, turns such skips into failures, so that a full run can be demanded.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use proptest::prelude::*;
use vdb_distance::{AlignedVec, ElementType, Isa, Kernels, Matrix, Sum, reference};

type Pair = fn(&Kernels, &[f32], &[f32]) -> f32;

/// An operation, and what it is held to.
struct Op {
    name: &'static str,
    pair: Pair,
    sum: Sum,
    exact: fn(&[f32], &[f32]) -> f64,
    /// Sum of the absolute values of the terms, which the error is relative to.
    magnitude: fn(&[f32], &[f32]) -> f64,
}

const OPS: [Op; 3] = [
    Op {
        name: "dot",
        pair: Kernels::dot,
        sum: Sum::Dot,
        exact: reference::dot,
        magnitude: |a, b| a.iter().zip(b).map(|(&x, &y)| (f64::from(x) * f64::from(y)).abs()).sum(),
    },
    Op {
        name: "l2_squared",
        pair: Kernels::l2_squared,
        sum: Sum::L2Squared,
        exact: reference::l2_squared,
        magnitude: reference::l2_squared,
    },
    Op { name: "l1", pair: Kernels::l1, sum: Sum::L1, exact: reference::l1, magnitude: reference::l1 },
];

impl Op {
    fn gather(&self, k: &Kernels, query: &[f32], rows: &[f32], stride: usize, ids: &[u32], out: &mut [f32]) {
        k.gather(self.sum, query, Matrix::f32(rows, stride), ids, out);
    }

    fn rows(&self, k: &Kernels, query: &[f32], rows: &[f32], stride: usize, first: usize, out: &mut [f32]) {
        k.rows(self.sum, query, Matrix::f32(rows, stride), first, out);
    }

    fn tile(
        &self,
        k: &Kernels,
        queries: &[&[f32]],
        rows: &[f32],
        stride: usize,
        first: usize,
        out: &mut [f32],
    ) {
        k.tile(self.sum, queries, Matrix::f32(rows, stride), first, out);
    }
}

fn dims() -> impl Iterator<Item = usize> {
    (0..=300).chain([384, 767, 768, 769, 784, 960, 1536, 4096])
}

/// The kernels of this machine; names those that are missing, and fails if one of them was demanded.
fn kernels() -> Vec<Kernels> {
    let demanded: Vec<Isa> = match std::env::var("VDB_REQUIRE_ISA") {
        Ok(list) => list.split(',').map(|name| name.trim().parse().expect("an instruction set")).collect(),
        Err(_) => Vec::new(),
    };
    for isa in Isa::ALL {
        if Kernels::for_isa(isa).is_none() {
            assert!(!demanded.contains(&isa), "{isa} is demanded, but this CPU cannot run it");
            eprintln!("skipped: this CPU cannot run {isa}");
        }
    }
    runnable().collect()
}

fn runnable() -> impl Iterator<Item = Kernels> {
    Isa::ALL.into_iter().filter_map(Kernels::for_isa)
}

/// Kernels that must agree bit for bit: those with a fused multiply-add.
fn fused() -> Vec<Kernels> {
    runnable().filter(|kernels| kernels.isa() != Isa::Scalar).collect()
}

/// A generator with no dependency and the same numbers everywhere, uniform in `[-1, 1)`.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 40) as f32 / (1_u64 << 23) as f32) - 1.0
    }

    fn vector(&mut self, len: usize, scale: f32) -> Vec<f32> {
        (0..len).map(|_| self.next() * scale).collect()
    }

    /// Magnitudes across the whole range of `f32`, both signs.
    fn wild(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| f32::from_bits(((self.next() * 2147483648.0) as i32) as u32)).map(finite).collect()
    }
}

fn finite(v: f32) -> f32 {
    if v.is_finite() { v } else { f32::MAX }
}

fn inputs(len: usize) -> Vec<(&'static str, Vec<f32>, Vec<f32>)> {
    let mut noise = Noise(len as u64);
    let x = noise.vector(len, 1.0);
    let alternating: Vec<f32> = (0..len).map(|i| if i % 2 == 0 { 1e30 } else { -1e30 }).collect();
    vec![
        ("noise", x.clone(), noise.vector(len, 1.0)),
        ("positive", x.iter().map(|v| v.abs()).collect(), noise.vector(len, 255.0)),
        ("equal", x.clone(), x.clone()),
        ("opposite", x.clone(), x.iter().map(|v| -v).collect()),
        ("zeros", vec![0.0; len], vec![-0.0; len]),
        ("one zero", x, vec![0.0; len]),
        ("huge", noise.vector(len, 1e30), noise.vector(len, 1e30)),
        ("cancelling", alternating, vec![1e30; len]),
        ("greatest", vec![f32::MAX; len], vec![-f32::MAX; len]),
        ("tiny", noise.vector(len, 1e-30), noise.vector(len, 1e-30)),
        ("subnormal", noise.vector(len, 1e-40), noise.vector(len, 1.0)),
        ("wild", noise.wild(len), noise.wild(len)),
    ]
}

/// What the crate page promises: each accumulator takes `n / 64` terms and a tail, six additions fold the
/// lanes, and a term has at most three roundings; the last part is what underflow may cost.
fn bound(magnitude: f64, len: usize) -> f64 {
    let relative = (len as f64 / 128.0 + 6.0) * f64::from(f32::EPSILON);
    relative * magnitude + 2.0 * (len as f64) * f64::from(f32::from_bits(1))
}

fn check(op: &Op, got: f32, a: &[f32], b: &[f32]) -> Result<(), String> {
    let exact = (op.exact)(a, b);
    let allowed = bound((op.magnitude)(a, b), a.len());
    if got == exact as f32 || (f64::from(got) - exact).abs() <= allowed {
        return Ok(());
    }
    Err(format!(
        "{} of {} floats: {got:e} instead of {exact:e} (off by at most {allowed:e})",
        op.name,
        a.len()
    ))
}

/// `values` at an address `offset` floats past a cache line.
fn at_offset(values: &[f32], offset: usize) -> AlignedVec<f32> {
    let mut buffer = AlignedVec::with_capacity(offset + values.len());
    buffer.resize(offset, f32::NAN);
    buffer.extend_from_slice(values);
    buffer
}

#[test]
fn pairs_match_the_reference_at_every_tail_and_alignment() {
    let all = kernels();
    for len in dims() {
        for (name, a, b) in inputs(len) {
            for (shift_a, shift_b) in [(0, 0), (1, 0), (2, 3), (3, 1)] {
                let (buffer_a, buffer_b) = (at_offset(&a, shift_a), at_offset(&b, shift_b));
                let (a, b) = (&buffer_a[shift_a..], &buffer_b[shift_b..]);
                for (op, kernels) in OPS.iter().flat_map(|op| all.iter().map(move |kernels| (op, kernels))) {
                    let checked = check(op, (op.pair)(kernels, a, b), a, b);
                    assert_eq!(checked, Ok(()), "{name}, {}, starts +{shift_a} +{shift_b}", kernels.isa());
                }
            }
        }
    }
}

#[test]
fn fused_kernels_agree_bit_for_bit() {
    for len in dims() {
        for (name, a, b) in inputs(len) {
            for op in &OPS {
                let bits: Vec<u32> = fused().iter().map(|k| (op.pair)(k, &a, &b).to_bits()).collect();
                assert!(
                    bits.windows(2).all(|w| w[0] == w[1]),
                    "{} of {name}, {len} floats: {bits:x?}",
                    op.name
                );
            }
        }
    }
}

#[test]
fn manhattan_distance_is_the_same_bits_everywhere() {
    for len in dims() {
        for (name, a, b) in inputs(len) {
            let bits: Vec<u32> = kernels().iter().map(|kernels| kernels.l1(&a, &b).to_bits()).collect();
            assert!(bits.windows(2).all(|w| w[0] == w[1]), "{name}, {len} floats: {bits:x?}");
        }
    }
}

/// The order of additions is a promise: spelled out here once more, without vectors.
#[test]
fn the_order_of_additions_is_the_documented_one() {
    for len in dims() {
        let mut noise = Noise(len as u64 + 1);
        let (a, b) = (noise.vector(len, 1.0), noise.vector(len, 1.0));
        let mut acc = [[0.0_f32; 16]; 4];
        for (i, (&x, &y)) in a.iter().zip(&b).enumerate() {
            let lane = &mut acc[i / 16 % 4][i % 16];
            *lane = x.mul_add(y, *lane);
        }
        let mut lanes: [f32; 16] = std::array::from_fn(|i| (acc[0][i] + acc[1][i]) + (acc[2][i] + acc[3][i]));
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                lanes[i] += lanes[i + half];
            }
        }
        for kernels in fused() {
            assert_eq!(kernels.dot(&a, &b).to_bits(), lanes[0].to_bits(), "{}, {len} floats", kernels.isa());
        }
    }
}

/// Components that are multiples of 1/16 up to 4 have sums that need no rounding.
#[test]
fn sums_that_fit_are_exact() {
    for len in dims() {
        let mut noise = Noise(len as u64 + 2);
        let mut grid = || noise.vector(len, 64.0).iter().map(|v| v.trunc() / 16.0).collect::<Vec<f32>>();
        let (a, b) = (grid(), grid());
        for kernels in kernels() {
            for op in &OPS {
                let got = f64::from((op.pair)(&kernels, &a, &b));
                assert_eq!(got, (op.exact)(&a, &b), "{}, {}, {len} floats", op.name, kernels.isa());
            }
        }
    }
}

#[test]
fn rows_and_gathers_equal_pairs_bit_for_bit() {
    let points = 23;
    for len in [0, 1, 15, 16, 17, 63, 64, 65, 100, 128, 200, 784] {
        for pad in [0, 1, 16] {
            let stride = len + pad;
            let mut noise = Noise((len * 31 + pad) as u64);
            // Row 5 and row 6 leave the range of single precision: one saturates, one cancels.
            let mut rows = noise.vector(points * stride, 1.0);
            rows[5 * stride..6 * stride].fill(f32::MAX);
            for (i, v) in rows[6 * stride..7 * stride].iter_mut().enumerate() {
                *v = if i % 2 == 0 { f32::MAX } else { -f32::MAX };
            }
            let query = noise.vector(len, 1e3);
            // The last row may end with its vector.
            rows.truncate(rows.len() - pad);
            let row = |i: usize| &rows[i * stride..i * stride + len];
            for (op, kernels) in OPS.iter().flat_map(|op| kernels().into_iter().map(move |k| (op, k))) {
                let context = format!("{}, {}, {len} floats in rows of {stride}", op.name, kernels.isa());
                for count in [0, 1, 3, 4, 5, 17, 40] {
                    let ids: Vec<u32> = (0..count).map(|i| (i * 7 + 5) % points as u32).collect();
                    let mut out = vec![f32::NAN; ids.len()];
                    op.gather(&kernels, &query, &rows, stride, &ids, &mut out);
                    for (&id, got) in ids.iter().zip(out) {
                        let want = (op.pair)(&kernels, &query, row(id as usize));
                        assert_eq!(got.to_bits(), want.to_bits(), "{context}, row {id}");
                    }
                }
                for (first, count) in [(0, 0), (0, points), (4, 3), (points - 1, 1), (points, 0)] {
                    let mut out = vec![f32::NAN; count];
                    op.rows(&kernels, &query, &rows, stride, first, &mut out);
                    for (i, got) in out.into_iter().enumerate() {
                        let want = (op.pair)(&kernels, &query, row(first + i));
                        assert_eq!(got.to_bits(), want.to_bits(), "{context}, row {}", first + i);
                    }
                }
                // As many queries as rows, which are queries that are near, far, and out of range.
                for (queries, count) in [(1, 7), (2, 2), (3, 23), (4, 5), (9, 21), (5, 0), (0, 0)] {
                    let queries: Vec<&[f32]> = (0..queries).map(|i| row(i * 2)).collect();
                    let first = points - count;
                    let mut out = vec![f32::NAN; queries.len() * count];
                    op.tile(&kernels, &queries, &rows, stride, first, &mut out);
                    for (i, got) in out.into_iter().enumerate() {
                        let want = (op.pair)(&kernels, queries[i / count], row(first + i % count));
                        assert_eq!(got.to_bits(), want.to_bits(), "{context}, {count} rows, value {i}");
                    }
                }
            }
        }
    }
}

/// Short rows give the very bits that the same numbers give in `f32`, in every form.
#[test]
fn rows_of_every_element_type_equal_rows_of_floats_bit_for_bit() {
    let points = 13;
    for element in [ElementType::F16, ElementType::Bf16, ElementType::U8] {
        let (size, greatest) = match element {
            ElementType::F16 => (2, 65_504.0),
            ElementType::Bf16 => (2, 3.38e38),
            _ => (1, 255.0),
        };
        for len in (0..70).chain([100, 127, 128, 384, 784, 1000]) {
            for pad in [0, 3, 16] {
                let stride = len + pad;
                let mut noise = Noise((len * 37 + pad) as u64);
                let mut rows =
                    noise.vector(points * stride, if element == ElementType::U8 { 200.0 } else { 2.0 });
                // Rows whose sums leave the range of single precision with the second query, and subnormal ones.
                rows[4 * stride..5 * stride].fill(greatest);
                rows[5 * stride..6 * stride].iter_mut().for_each(|value| *value *= 1e-7);
                let mut bytes = vec![0; rows.len() * size];
                element.encode(&rows, &mut bytes);
                element.decode(&bytes, &mut rows);
                assert!(element.is_exact(&rows), "{element:?} of decoded numbers");
                bytes.truncate(bytes.len() - pad * size);
                rows.truncate(rows.len() - pad);
                let (floats, short) = (Matrix::f32(&rows, stride), Matrix::new(element, &bytes, stride));
                let queries = [noise.vector(len, 100.0), vec![f32::MAX; len], noise.vector(len, 1e-3)];
                let queries: Vec<&[f32]> = queries.iter().map(|query| &query[..]).collect();
                let ids: Vec<u32> = (0..20).map(|i| (i * 7 + 4) % points as u32).collect();
                for (op, kernels) in OPS.iter().flat_map(|op| kernels().into_iter().map(move |k| (op, k))) {
                    let both = |run: &dyn Fn(Matrix<'_>, &mut [f32]), count: usize| {
                        let (mut want, mut got) = (vec![f32::NAN; count], vec![f32::NAN; count]);
                        run(floats, &mut want);
                        run(short, &mut got);
                        let bits =
                            |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
                        let context =
                            format!("{element:?}, {}, {}, {len} of {stride}", op.name, kernels.isa());
                        assert_eq!(bits(got), bits(want), "{context}");
                    };
                    for query in &queries {
                        both(&|rows, out| kernels.gather(op.sum, query, rows, &ids, out), ids.len());
                        both(&|rows, out| kernels.rows(op.sum, query, rows, 2, out), points - 2);
                    }
                    both(&|rows, out| kernels.tile(op.sum, &queries, rows, 1, out), 3 * (points - 1));
                }
            }
        }
    }
}

#[test]
fn only_numbers_that_return_bit_for_bit_are_exact() {
    use ElementType::{Bf16, F16, F32, U8};
    let exact = |value: f32| [F32, F16, Bf16, U8].map(|element| element.is_exact(&[1.0, value, 0.0]));
    assert_eq!(exact(255.0), [true; 4]);
    assert_eq!(exact(256.0), [true, true, true, false]);
    assert_eq!(exact(257.0), [true, true, false, false]);
    assert_eq!(exact(0.5), [true, true, true, false]);
    assert_eq!(exact(-0.0), [true, true, true, false], "a byte has no sign");
    assert_eq!(exact(-3.0), [true, true, true, false]);
    assert_eq!(exact(1e30_f32), [true, false, false, false]);
    assert_eq!(exact(2_f32.powi(100)), [true, false, true, false]);
    assert_eq!(exact(2_f32.powi(-24)), [true, true, true, false]);
    assert_eq!(exact(2_f32.powi(-25)), [true, false, true, false]);
    assert_eq!(exact(0.1), [true, false, false, false]);
    assert_eq!(exact(f32::INFINITY), [true, false, false, false], "numbers beyond the range saturate");
    assert!(F32.is_exact(&[f32::NAN]) && !U8.is_exact(&[f32::NAN]));
}

#[test]
fn nan_and_infinite_components_are_carried_through() {
    for len in [1, 16, 17, 64, 65, 130] {
        for at in [0, len / 2, len - 1] {
            for kernels in kernels() {
                for op in &OPS {
                    let (mut a, b) = (vec![1.0; len], vec![0.5; len]);
                    a[at] = f32::NAN;
                    assert!((op.pair)(&kernels, &a, &b).is_nan(), "{}, {len} floats", op.name);
                    assert!((op.pair)(&kernels, &b, &a).is_nan(), "{}, {len} floats", op.name);
                    a[at] = f32::INFINITY;
                    assert_eq!((op.pair)(&kernels, &a, &b), f32::INFINITY, "{}, {len} floats", op.name);
                }
            }
        }
    }
}

fn panics(call: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(call)).is_err()
}

#[test]
fn bad_lengths_and_rows_panic_before_anything_is_written() {
    let rows = vec![1.0; 10 * 8 + 6];
    let query = [1.0; 6];
    for (op, kernels) in OPS.iter().flat_map(|op| kernels().into_iter().map(move |k| (op, k))) {
        assert!(panics(|| _ = (op.pair)(&kernels, &[1.0; 3], &[1.0; 4])));
        let gather = |query: &[f32], stride: usize, ids: &[u32], len: usize| {
            let mut out = vec![7.0; len];
            let panicked = panics(|| op.gather(&kernels, query, &rows, stride, ids, &mut out));
            assert!(!panicked || out.iter().all(|&v| v == 7.0), "written before the check");
            panicked
        };
        assert!(!gather(&query, 8, &[10, 0], 2));
        assert!(!gather(&query, 8, &[], 0));
        assert!(gather(&query, 8, &[0, 11, 1], 3), "a row past the end");
        assert!(gather(&[1.0; 7], 8, &[10], 1), "a vector past the end");
        assert!(gather(&query, 8, &[u32::MAX], 1));
        assert!(gather(&query, usize::MAX, &[2], 1), "an offset that overflows");
        assert!(!gather(&query, usize::MAX, &[0], 1));
        assert!(gather(&query, 8, &[0, 1], 1), "more ids than values");
        assert!(gather(&query, 5, &[0], 1), "a vector longer than a row");

        let run = |stride: usize, first: usize, len: usize| {
            let mut out = vec![7.0; len];
            let panicked = panics(|| op.rows(&kernels, &query, &rows, stride, first, &mut out));
            assert!(!panicked || out.iter().all(|&v| v == 7.0), "written before the check");
            panicked
        };
        assert!(!run(8, 0, 11));
        assert!(!run(8, usize::MAX, 0));
        assert!(!run(usize::MAX, 0, 1));
        assert!(run(8, 0, 12));
        assert!(run(8, 11, 1));
        assert!(run(8, usize::MAX, 2), "a row number that overflows");
        assert!(run(5, 0, 1), "a vector longer than a row");
        assert!(!panics(|| op.rows(&kernels, &[], &[], 0, usize::MAX, &mut [0.0; 3])));

        let tile = |queries: &[&[f32]], stride: usize, first: usize, len: usize| {
            let mut out = vec![7.0; len];
            let panicked = panics(|| op.tile(&kernels, queries, &rows, stride, first, &mut out));
            assert!(!panicked || out.iter().all(|&v| v == 7.0), "written before the check");
            panicked
        };
        assert!(!tile(&[&query, &query], 8, 0, 22));
        assert!(!tile(&[], 8, 0, 0));
        assert!(tile(&[&query, &query], 8, 0, 24), "a row past the end");
        assert!(tile(&[&query, &query], 8, 0, 21), "half a row");
        assert!(tile(&[&query, &query[1..]], 8, 0, 2), "queries of two lengths");
        assert!(tile(&[], 8, 0, 2), "values of no query");
    }
}

/// What inserting leaves: the least keys, and none in the slots after them that is smaller.
fn check_inserted(slots: &[u64], len: usize, expected: &[u64]) -> Result<(), String> {
    if slots[..len] != *expected {
        return Err(format!("{:?} instead of {expected:?}", &slots[..len]));
    }
    if slots.is_sorted() { Ok(()) } else { Err(format!("{slots:?} do not ascend")) }
}

#[test]
fn keys_come_into_their_places_with_every_instruction_set() {
    let mut noise = Noise(11);
    let mut key = move || u64::from(noise.next().to_bits()) << 32 | u64::from(noise.next().to_bits());
    for kernels in runnable() {
        for most in [1, 2, 7, 8, 9, 15, 16, 17, 40, 64, 101, 530] {
            let (mut slots, mut len, mut all): (Vec<u64>, usize, Vec<u64>) = (Vec::new(), 0, Vec::new());
            for round in 0..80 {
                let mut keys: Vec<u64> = (0..round % 20).map(|_| key()).collect();
                if round % 5 == 4 {
                    // Extremes, and keys that are there already.
                    keys.extend([0, u64::MAX, u64::MAX - 1, all[all.len() / 2], all[0]]);
                }
                slots.resize(slots.len().max((len + keys.len()).next_multiple_of(8)), u64::MAX);
                len = kernels.insert_sorted(&mut slots, len, most, &keys);
                all.extend(keys);
                all.sort_unstable();
                let inserted = check_inserted(&slots, len, &all[..most.min(all.len())]);
                inserted.unwrap_or_else(|error| panic!("{}, at most {most}: {error}", kernels.isa()));
            }
        }
        for (slots, len, most, keys) in [(8, 3, 2, 1), (9, 0, 9, 1), (8, 5, 100, 4), (0, 0, 1, 1)] {
            let mut slots = vec![u64::MAX; slots];
            assert!(
                panics(|| {
                    kernels.insert_sorted(&mut slots, len, most, &vec![1; keys]);
                }),
                "{slots:?}"
            );
            assert!(slots.iter().all(|&slot| slot == u64::MAX));
        }
    }
}

#[test]
fn prefetching_accepts_any_range() {
    let values = [1.0_f32; 4];
    for (index, lines) in [(0, 0), (3, 1), (3, usize::MAX), (4, 1), (usize::MAX, usize::MAX)] {
        vdb_distance::prefetch(&values, index, lines);
    }
    vdb_distance::prefetch::<u8>(&[], 0, 1);
}

#[test]
fn instruction_sets_are_found_and_named() {
    let available = Kernels::available();
    assert_eq!(available.last(), Some(&Isa::Scalar));
    assert!(Kernels::for_isa(if cfg!(target_arch = "aarch64") { Isa::Avx2 } else { Isa::Neon }).is_none());
    for isa in Isa::ALL {
        assert_eq!(isa.to_string().parse(), Ok(isa));
        assert_eq!(
            Kernels::for_isa(isa).map(|kernels| kernels.isa()),
            available.contains(&isa).then_some(isa)
        );
    }
    assert!("sse9".parse::<Isa>().unwrap_err().to_string().contains("avx512"));
}

/// Prints what this process chose, for the test below, which runs it with other environments.
#[test]
fn report_the_choice() {
    println!("chosen: {};", Kernels::get().isa());
}

#[test]
fn the_environment_can_ask_for_other_kernels() {
    let best = Kernels::available()[0];
    let wishes =
        Isa::ALL.map(|isa| (isa.name(), Kernels::for_isa(isa).map_or(best, |kernels| kernels.isa())));
    for (wish, want) in wishes.into_iter().chain([("", best), ("sse9", best)]) {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "report_the_choice", "--nocapture"])
            .env("VDB_ISA", wish)
            .output()
            .unwrap();
        let output = String::from_utf8(child.stdout).unwrap();
        assert!(output.contains(&format!("chosen: {want};")), "VDB_ISA={wish}: {output}");
    }
}

proptest! {
    #[test]
    fn any_finite_vectors_match_the_reference(
        pairs in proptest::collection::vec((any::<f32>(), any::<f32>()), 0..200),
        scale in prop_oneof![Just(None), (-40..38_i32).prop_map(Some)],
    ) {
        // Either any finite bits, or numbers of one magnitude, whose sums do not drown in one component.
        let shape = |v: f32| match scale {
            None => finite(v),
            Some(exponent) => (v.to_bits() as i32 as f32 / 2147483648.0) * 10_f32.powi(exponent),
        };
        let (a, b): (Vec<f32>, Vec<f32>) = pairs.into_iter().map(|(x, y)| (shape(x), shape(y))).unzip();
        for op in &OPS {
            for kernels in runnable() {
                let got = (op.pair)(&kernels, &a, &b);
                prop_assert!(!got.is_nan());
                prop_assert_eq!(check(op, got, &a, &b), Ok(()));
            }
            let bits: Vec<u32> = fused().iter().map(|k| (op.pair)(k, &a, &b).to_bits()).collect();
            prop_assert!(bits.windows(2).all(|w| w[0] == w[1]));
        }
    }
}
