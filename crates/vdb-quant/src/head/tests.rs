//! Bounds are never wrong, and every path gives the same ones.

use super::*;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use vdb_distance::Metric;

/// The first `m` unit directions: orthonormal, and as good as any for correctness.
fn axes(m: usize, dim: usize) -> Vec<f32> {
    let mut directions = vec![0.0; m * dim];
    (0..m).for_each(|i| directions[i * dim + i] = 1.0);
    directions
}

/// Householder directions: I − 2vvᵀ, cut to `m` rows.
fn mirrored(m: usize, dim: usize, seed: u64) -> Vec<f32> {
    let v: Vec<f64> = (0..dim as u64).map(|i| f64::from(((i * 37 + seed) % 17) as u32) - 8.3).collect();
    let square: f64 = v.iter().map(|x| x * x).sum();
    let mut directions = Vec::new();
    for i in 0..m {
        for j in 0..dim {
            let value = f64::from(u8::from(i == j)) - 2.0 * v[i] * v[j] / square;
            directions.push(value as f32);
        }
    }
    directions
}

/// The comparable distance in double precision.
fn truth(metric: Metric, q: &[f32], x: &[f32]) -> f64 {
    let pairs = || q.iter().zip(x).map(|(&a, &b)| (f64::from(a), f64::from(b)));
    let product: f64 = pairs().map(|(a, b)| a * b).sum();
    match metric {
        Metric::Euclidean => pairs().map(|(a, b)| (a - b) * (a - b)).sum(),
        Metric::DotProduct => -product,
        _ => {
            let (a, b): (f64, f64) = pairs().fold((0.0, 0.0), |(s, t), (a, b)| (s + a * a, t + b * b));
            // On the unit sphere: ‖q − x‖² = 2 − 2 cos; a zero vector lies in its centre.
            let unit = |square: f64| if square == 0.0 { 0.0 } else { 1.0 };
            let cos = if a == 0.0 || b == 0.0 { 0.0 } else { product / (a * b).sqrt() };
            (unit(a) + unit(b) - 2.0 * cos).max(0.0)
        }
    }
}

/// The bounds of all rows, the same on every path.
fn all_bounds(codes: &HeadCodes, query: &HeadQuery, both_planes: bool) -> Vec<Near> {
    let allowed = vec![u64::MAX; codes.len().div_ceil(64)];
    let scan = kernel::Scan {
        query,
        high: query.constants(&query.high, &codes.ranges, codes.m),
        full: query.constants(&query.full, &codes.ranges, codes.m),
        codes: &codes.codes,
        factors: &codes.factors,
        allowed: &allowed,
        first_row: 0,
        limit: f32::INFINITY,
        both_planes,
    };
    let mut bounds = Vec::new();
    codes.near(query, 0..codes.len().div_ceil(BLOCK_ROWS), &allowed, f32::INFINITY, both_planes, &mut bounds);
    let bits = |near: &[Near]| -> Vec<_> {
        near.iter().map(|near| (near.row, near.lower.to_bits(), near.estimate.to_bits())).collect()
    };
    for (isa, other) in kernel::all(&scan) {
        assert_eq!(bits(&other), bits(&bounds), "{isa}");
    }
    bounds.truncate(codes.len());
    bounds
}

fn check(
    metric: Metric,
    center: Vec<f32>,
    directions: &[f32],
    rows: &[Vec<f32>],
    queries: &[Vec<f32>],
) -> f64 {
    let basis = HeadBasis::new(metric, center, directions);
    let coded: Vec<HeadRow> = rows.iter().map(|row| basis.encode(row)).collect();
    let mut tightness = Vec::new();
    // Ranges that hold all of the rows, and some that hold few of them.
    for fitted in [&coded[..], &coded[..1]] {
        let mut codes = HeadCodes::new(basis.m(), HeadRanges::of(fitted));
        coded.iter().for_each(|row| codes.push(row));
        let mut fine = FineHeadCodes::new(basis.m(), HeadRanges::of(fitted));
        rows.iter().for_each(|row| fine.push(&basis.encode_both(row).1));
        for query in queries {
            let Some(prepared) = basis.query(query) else { continue };
            let bounds = all_bounds(&codes, &prepared, true);
            for (row, near) in rows.iter().zip(all_bounds(&codes, &prepared, false)) {
                let distance = truth(metric, query, row);
                assert!(near.lower.is_nan() || f64::from(near.lower) <= distance, "{metric}: one plane");
            }
            let mut lower = vec![0.0; rows.len()];
            let ids: Vec<u32> = (0..rows.len() as u32).collect();
            fine.lower_bounds(&fine.query(&prepared), &ids, &mut lower);
            for (row, (near, lower)) in rows.iter().zip(bounds.into_iter().zip(lower)) {
                assert!(
                    lower.is_nan() || f64::from(lower) <= truth(metric, query, row),
                    "{metric}: fine bound {lower}, query {query:?}, row {row:?}"
                );
                let distance = truth(metric, query, row);
                assert!(
                    near.lower.is_nan() || f64::from(near.lower) <= distance,
                    "{metric}: bound {} for {distance}, query {query:?}, row {row:?}",
                    near.lower
                );
                if distance > 0.0 && near.lower > f32::NEG_INFINITY {
                    tightness.push(f64::from(near.lower) / distance);
                }
            }
        }
    }
    tightness.iter().sum::<f64>() / tightness.len().max(1) as f64
}

const METRICS: [Metric; 3] = [Metric::Euclidean, Metric::Cosine, Metric::DotProduct];

fn vectors(count: usize, dim: usize) -> impl Strategy<Value = Vec<Vec<f32>>> {
    let value = prop_oneof![
        8 => -1.0f32..1.0,
        1 => Just(0.0f32),
        1 => -100.0f32..100.0,
    ];
    let scale = prop_oneof![4 => Just(1.0f32), 1 => Just(1e-8f32), 1 => Just(1e6f32), 1 => Just(1e18f32), 1 => Just(1e-18f32)];
    let row = (prop::collection::vec(value, dim), scale)
        .prop_map(|(row, scale)| row.into_iter().map(|value| value * scale).collect::<Vec<f32>>());
    prop::collection::vec(row, 1..=count)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn bounds_are_never_above_the_distance(
        rows in vectors(40, 24),
        queries in vectors(3, 24),
        offset in prop_oneof![Just(0.0f32), Just(3.0), Just(1_000.0)],
        seed in 0u64..1_000,
        near in any::<bool>(),
    ) {
        let rows: Vec<Vec<f32>> = rows.iter().map(|row| row.iter().map(|value| value + offset).collect()).collect();
        let mut queries = queries;
        if near {
            // Copies and neighbours of rows: the distances that bounds must not exceed are 0 or tiny.
            queries = rows.iter().take(3).cloned().collect();
            queries.push(rows[0].iter().map(|value| value * 1.000_001).collect());
        }
        for metric in METRICS {
            check(metric, vec![0.0; 24], &axes(8, 24), &rows, &queries);
            check(metric, rows[0].iter().map(|value| value.clamp(-1e6, 1e6)).collect(), &mirrored(24, 24, seed), &rows, &queries);
        }
    }
}

#[test]
fn bounds_are_tight_where_the_head_holds_the_variance() {
    // The first 64 of 100 coordinates hold nearly all of the energy, evenly, as after a rotation.
    let vector = |seed: u64| -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..100).map(|i| rng.random_range(-1.0..1.0) * if i < 64 { 1.0 } else { 0.02 }).collect()
    };
    let rows: Vec<Vec<f32>> = (0..200).map(vector).collect();
    let queries: Vec<Vec<f32>> = (1_000..1_010).map(vector).collect();
    for metric in [Metric::Euclidean, Metric::Cosine] {
        let tightness = check(metric, vec![0.0; 100], &axes(64, 100), &rows, &queries);
        assert!(tightness > 0.8, "{metric}: {tightness}");
    }
}

#[test]
fn rows_can_be_overwritten() {
    let basis = HeadBasis::new(Metric::Euclidean, vec![0.0; 8], &axes(8, 8));
    let rows: Vec<HeadRow> = (0..20).map(|i| basis.encode(&[i as f32; 8])).collect();
    let mut codes = HeadCodes::new(8, HeadRanges::of(&rows));
    rows.iter().for_each(|row| codes.push(row));
    codes.set(17, &basis.encode(&[-4.0; 8]));
    let query = basis.query(&[-4.0; 8]).unwrap();
    let bounds = all_bounds(&codes, &query, true);
    let nearest = bounds.iter().min_by(|a, b| a.estimate.total_cmp(&b.estimate));
    assert_eq!((nearest.map(|near| near.row), codes.len()), (Some(17), 20));
}

#[test]
fn only_allowed_rows_within_the_limit_are_near() {
    let basis = HeadBasis::new(Metric::Euclidean, vec![0.0; 16], &axes(16, 16));
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let rows: Vec<HeadRow> = (0..200)
        .map(|_| basis.encode(&std::array::from_fn::<f32, 16, _>(|_| rng.random_range(-1.0..1.0))))
        .collect();
    let mut codes = HeadCodes::new(16, HeadRanges::of(&rows));
    rows.iter().for_each(|row| codes.push(row));
    let query = basis.query(&[0.3; 16]).unwrap();
    let bounds = all_bounds(&codes, &query, true);
    let mut sorted: Vec<f32> = bounds.iter().map(|near| near.lower).collect();
    sorted.sort_unstable_by(f32::total_cmp);
    let limit = sorted[60];
    let allowed: [u64; 4] = [0x0f0f, 0, u64::MAX << 40, 0x55];
    let holds = |row: u32| allowed[row as usize / 64] >> (row % 64) & 1 == 1;
    let mut near = Vec::new();
    codes.near(&query, 0..13, &allowed, limit, true, &mut near);
    let expected: Vec<Near> =
        bounds.iter().copied().filter(|near| near.lower <= limit && holds(near.row)).collect();
    assert_eq!(near, expected);
    assert!(!near.is_empty());
    near.clear();
    codes.near(&query, 4..12, &allowed[1..], limit, true, &mut near);
    assert_eq!(near, expected.into_iter().filter(|near| (64..192).contains(&near.row)).collect::<Vec<_>>());
}

#[test]
fn rows_outside_the_ranges_are_always_near() {
    let basis = HeadBasis::new(Metric::Euclidean, vec![0.0; 8], &axes(8, 8));
    let mut codes = HeadCodes::new(8, HeadRanges::of(&[basis.encode(&[1.0; 8])]));
    codes.push(&basis.encode(&[1.0; 8]));
    codes.push(&basis.encode(&[100.0; 8]));
    let query = basis.query(&[1.0; 8]).unwrap();
    let bounds = all_bounds(&codes, &query, true);
    assert_eq!(bounds[1].lower, f32::NEG_INFINITY);
    assert!(bounds[0].lower > f32::NEG_INFINITY);
}
