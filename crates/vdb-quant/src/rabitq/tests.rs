//! The estimator's promises: no bias, errors inside the bounds, half the error per bit, one query for all lists;
//! and recall, edge cases and stored parameters.

use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::*;
use crate::fastscan::{BLOCK_VECTORS, BlockQuery};
use crate::quantizer::CodeQuery;

const METRICS: [Metric; 3] = [Metric::Euclidean, Metric::DotProduct, Metric::Cosine];

fn gaussian(count: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| rng.sample(StandardNormal)).collect()
}

/// Clusters of Gaussian points around Gaussian centres twice as far out.
fn clustered(points: usize, dim: usize, clusters: usize, seed: u64) -> Vec<f32> {
    let centres = gaussian(clusters * dim, seed);
    let mut rows = gaussian(points * dim, seed + 1);
    for (i, row) in rows.chunks_exact_mut(dim).enumerate() {
        let centre = &centres[i % clusters * dim..][..dim];
        row.iter_mut().zip(centre).for_each(|(value, centre)| *value = *value + 2.0 * centre + 1.0);
    }
    rows
}

fn mean(rows: &[f32], dim: usize) -> Vec<f32> {
    let count = (rows.len() / dim) as f32;
    (0..dim).map(|j| rows.iter().skip(j).step_by(dim).sum::<f32>() / count).collect()
}

fn prepared(metric: Metric, mut rows: Vec<f32>, dim: usize) -> Vec<f32> {
    if metric == Metric::Cosine {
        for row in rows.chunks_exact_mut(dim) {
            let norm = vdb_distance::norm(row);
            row.iter_mut().for_each(|value| *value /= norm);
        }
    }
    rows
}

fn exact(metric: Metric, query: &[f32], row: &[f32]) -> f32 {
    match metric {
        Metric::Euclidean => vdb_distance::l2_squared(query, row),
        Metric::DotProduct => -vdb_distance::dot(query, row),
        Metric::Cosine => -vdb_distance::cosine(query, row),
        Metric::Manhattan => vdb_distance::l1(query, row),
    }
}

fn encode_all(quantizer: &Rabitq, rows: &[f32]) -> Vec<u8> {
    let mut codes = vec![0; rows.len() / quantizer.dim() * quantizer.code_bytes()];
    for (row, code) in rows.chunks_exact(quantizer.dim()).zip(codes.chunks_exact_mut(quantizer.code_bytes()))
    {
        quantizer.encode(row, code);
    }
    codes
}

/// Errors of all estimates of all queries: (estimate − truth, bound).
fn errors(metric: Metric, bits: u8, epsilon: f32, dim: usize) -> Vec<(f64, f64)> {
    let rows = prepared(metric, clustered(1000, dim, 12, 1), dim);
    let queries = prepared(metric, clustered(20, dim, 12, 1).split_off(0), dim);
    let quantizer =
        Rabitq::new(mean(&rows, dim), RabitqConfig { epsilon, ..RabitqConfig::new(bits) }).unwrap();
    let codes = encode_all(&quantizer, &rows);
    let mut errors = Vec::new();
    for (i, query) in queries.chunks_exact(dim).enumerate() {
        // Not a stored vector itself.
        let query: Vec<f32> =
            query.iter().zip(&gaussian(dim, 900 + i as u64)).map(|(a, b)| a + b * 0.3 * a.abs()).collect();
        let prepared = quantizer.query(metric, &query);
        for (row, code) in rows.chunks_exact(dim).zip(codes.chunks_exact(quantizer.code_bytes())) {
            let (estimate, bound) = prepared.distance_with_error(code);
            errors.push((f64::from(estimate - exact(metric, &query, row)), f64::from(bound)));
        }
    }
    errors
}

#[test]
fn estimates_have_no_bias_and_errors_stay_inside_the_bounds() {
    for metric in METRICS {
        for (bits, dim) in [(1, 128), (2, 100), (4, 128), (7, 70), (8, 192)] {
            let errors = errors(metric, bits, 4.0, dim);
            let n = errors.len() as f64;
            let mean = errors.iter().map(|e| e.0).sum::<f64>() / n;
            let deviation = (errors.iter().map(|e| e.0 * e.0).sum::<f64>() / n).sqrt();
            // Errors of one query, and of one code, go together: far fewer than n are independent.
            assert!(mean.abs() < 0.1 * deviation + 1e-6, "{metric} {bits}: {mean} of {deviation}");
            let outside = errors.iter().filter(|(error, bound)| error.abs() > *bound).count();
            assert!((outside as f64) < 0.001 * n, "{metric}, {bits} bits, {dim}: {outside} of {n} outside");
            let loose = errors.iter().map(|e| e.1).sum::<f64>() / n;
            assert!(loose < 8.0 * deviation, "{metric} {bits}: bounds of {loose} for errors of {deviation}");
        }
        let errors = errors(metric, 1, 1.9, 256);
        let outside = errors.iter().filter(|(error, bound)| error.abs() > *bound).count();
        assert!(outside as f64 <= 0.06 * errors.len() as f64, "{outside} outside at the default width");
    }
}

#[test]
fn every_bit_halves_the_error() {
    let deviation = |bits| {
        let errors = errors(Metric::Euclidean, bits, 1.9, 128);
        (errors.iter().map(|e| e.0 * e.0).sum::<f64>() / errors.len() as f64).sqrt()
    };
    let all: Vec<f64> = (1..=8).map(deviation).collect();
    for pair in all.windows(2) {
        assert!((1.5..3.0).contains(&(pair[0] / pair[1])), "{all:?}");
    }
}

fn recall(estimates: &[f32], truth: &[f32], k: usize) -> f64 {
    let top = |values: &[f32]| {
        let mut ids: Vec<usize> = (0..values.len()).collect();
        ids.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
        ids.truncate(k);
        ids
    };
    let truth = top(truth);
    top(estimates).iter().filter(|id| truth.contains(id)).count() as f64 / k as f64
}

/// Recall@10 of 50 queries in 2,000 clustered vectors of 64 values. With `decay` the clusters have few directions of
/// much variance, as embeddings have; without it they are round, the hardest case there is.
fn recall_of(bits: u8, metric: Metric, decay: bool) -> f64 {
    let dim = 64;
    let mut rows = clustered(2050, dim, 20, 21);
    if decay {
        for row in rows.chunks_exact_mut(dim) {
            row.iter_mut().enumerate().for_each(|(j, value)| *value /= 1.0 + j as f32 / 4.0);
        }
    }
    let queries = prepared(metric, rows.split_off(2000 * dim), dim);
    let rows = prepared(metric, rows, dim);
    let quantizer = Rabitq::new(mean(&rows, dim), RabitqConfig::new(bits)).unwrap();
    let codes = encode_all(&quantizer, &rows);
    let mut sum = 0.0;
    for query in queries.chunks_exact(dim) {
        let mut estimates = vec![0.0; 2000];
        quantizer.query(metric, query).distances(&codes, &mut estimates);
        let truth: Vec<f32> = rows.chunks_exact(dim).map(|row| exact(metric, query, row)).collect();
        sum += recall(&estimates, &truth, 10);
    }
    sum / 50.0
}

#[test]
fn recall_without_rerank() {
    for (decay, floors) in [(true, [0.37, 0.57, 0.83, 0.97]), (false, [0.25, 0.4, 0.77, 0.96])] {
        for metric in METRICS {
            let all = [1, 2, 4, 8].map(|bits| recall_of(bits, metric, decay));
            println!("recall@10, {metric}, decaying: {decay}, 1, 2, 4 and 8 bits: {all:.3?}");
            assert!(all.iter().zip(floors).all(|(recall, floor)| *recall > floor), "{metric}: {all:?}");
        }
    }
}

#[test]
fn recall_without_rerank_from_list_centroids() {
    let (dim, clusters) = (64, 20);
    let mut rows = clustered(2050, dim, clusters, 21);
    for row in rows.chunks_exact_mut(dim) {
        row.iter_mut().enumerate().for_each(|(j, value)| *value /= 1.0 + j as f32 / 4.0);
    }
    let queries = rows.split_off(2000 * dim);
    for (bits, floor) in [(1, 0.4), (4, 0.9), (6, 0.96)] {
        let config = RabitqConfig { wide_tables: true, ..RabitqConfig::new(bits) };
        let codec = RabitqBlocks::new(Rabitq::new(mean(&rows, dim), config).unwrap(), Metric::Euclidean);
        let lists = lists(&codec, &rows, clusters);
        let mut sum = 0.0;
        for query in queries.chunks_exact(dim) {
            let prepared = codec.query(query);
            let (mut estimates, mut truth) = (Vec::new(), Vec::new());
            for list in &lists {
                let term = prepared.list_term(&list.centroid);
                for (i, row) in list.rows.chunks_exact(dim).enumerate() {
                    let mut out = [BlockEstimates { near: 1 << (i % 32), ..BlockEstimates::default() }];
                    let block = &list.blocks[i / 32 * codec.block_bytes()..][..codec.block_bytes()];
                    prepared.scan(term, f32::INFINITY, block, &mut out);
                    let [out] = out;
                    let rest = &list.rest[i * codec.rest_bytes()..][..codec.rest_bytes()];
                    estimates.push(match bits {
                        1 => out.distance[i % 32],
                        _ => prepared.refine(term, out.product[i % 32], rest).0,
                    });
                    truth.push(exact(Metric::Euclidean, query, row));
                }
            }
            sum += recall(&estimates, &truth, 10);
        }
        println!("recall@10 from list centroids, {bits} bits: {:.3}", sum / 50.0);
        assert!(sum / 50.0 > floor, "{bits} bits: {}", sum / 50.0);
    }
}

#[test]
fn gathered_rows_equal_scanned_ones_under_every_metric() {
    let (dim, rows) = (50, clustered(30, 50, 3, 5));
    for bits in [1, 3, 8] {
        let quantizer = Rabitq::new(mean(&rows, dim), RabitqConfig::new(bits)).unwrap();
        let codes = encode_all(&quantizer, &rows);
        for metric in [Metric::Euclidean, Metric::DotProduct, Metric::Cosine, Metric::Manhattan] {
            let query = quantizer.query(metric, &rows[..dim]);
            let (mut all, mut some) = ([0.0; 30], [0.0; 4]);
            query.distances(&codes, &mut all);
            query.gather(&codes, &[29, 0, 7, 7], &mut some);
            assert_eq!(some, [all[29], all[0], all[7], all[7]]);
            assert!(all.iter().all(|value| value.is_finite()));
        }
    }
}

#[test]
fn decoded_vectors_come_close() {
    let (dim, rows) = (96, clustered(20, 96, 3, 5));
    let mut last = f32::INFINITY;
    for bits in 1..=8 {
        let quantizer = Rabitq::new(mean(&rows, dim), RabitqConfig::new(bits)).unwrap();
        let codes = encode_all(&quantizer, &rows);
        let mut error = 0.0;
        for (row, code) in rows.chunks_exact(dim).zip(codes.chunks_exact(quantizer.code_bytes())) {
            let mut decoded = vec![0.0; dim];
            quantizer.decode(code, &mut decoded);
            error += vdb_distance::l2_squared(row, &decoded);
        }
        assert!(error < last, "{bits} bits: {error} after {last}");
        last = error;
    }
    assert!(last < 0.001 * vdb_distance::dot(&rows, &rows));
}

/// All vectors of a list in blocks, with what a query finds in them.
struct List {
    centroid: Vec<f32>,
    rows: Vec<f32>,
    blocks: Vec<u8>,
    rest: Vec<u8>,
}

fn lists(codec: &RabitqBlocks, rows: &[f32], clusters: usize) -> Vec<List> {
    let dim = codec.quantizer().dim();
    (0..clusters)
        .map(|cluster| {
            let rows: Vec<f32> =
                rows.chunks_exact(dim).skip(cluster).step_by(clusters).flatten().copied().collect();
            let centroid = mean(&rows, dim);
            let centre = codec.centre(&centroid);
            let count = rows.len() / dim;
            let mut blocks = vec![0; count.div_ceil(BLOCK_VECTORS) * codec.block_bytes()];
            let mut rest = vec![0; count * codec.rest_bytes()];
            for (i, block) in blocks.chunks_exact_mut(codec.block_bytes()).enumerate() {
                let (from, to) = (i * BLOCK_VECTORS, ((i + 1) * BLOCK_VECTORS).min(count));
                let rest = &mut rest[from * codec.rest_bytes()..to * codec.rest_bytes()];
                codec.encode_block(&centre, &rows[from * dim..to * dim], block, rest);
            }
            List { centroid, rows, blocks, rest }
        })
        .collect()
}

#[test]
fn one_query_serves_blocks_of_all_lists() {
    let (dim, clusters) = (112, 7);
    for metric in METRICS {
        let all = [
            (1, 1, false),
            (1, 1, true),
            (4, 1, false),
            (5, 1, true),
            (8, 1, true),
            (2, 2, false),
            (5, 2, true),
        ];
        for (bits, scan_bits, wide_tables) in all {
            let rows = prepared(metric, clustered(700, dim, clusters, 31), dim);
            let config = RabitqConfig { epsilon: 4.0, scan_bits, wide_tables, ..RabitqConfig::new(bits) };
            let codec = RabitqBlocks::new(Rabitq::new(mean(&rows, dim), config).unwrap(), metric);
            let lists = lists(&codec, &rows, clusters);
            let (mut outside, mut outside_refined, mut total) = (0, 0, 0);
            let (mut sum, mut squares, mut squares_refined) = (0.0, 0.0, 0.0);
            for query in prepared(metric, clustered(20, dim, 5, 77), dim).chunks_exact(dim) {
                let prepared = codec.query(query);
                for list in &lists {
                    let term = prepared.list_term(&list.centroid);
                    for (i, block) in list.blocks.chunks_exact(codec.block_bytes()).enumerate() {
                        let mut out = [BlockEstimates { near: u32::MAX, ..BlockEstimates::default() }];
                        prepared.scan(term, f32::INFINITY, block, &mut out);
                        let [out] = out;
                        let mut distances = [0.0; BLOCK_VECTORS];
                        prepared.for_list(term).scan_block(block, &mut distances);
                        assert_eq!(distances, out.distance);
                        if bits > scan_bits {
                            let bytes = BLOCK_VECTORS * codec.rest_bytes();
                            let rest = list.rest.chunks(bytes).nth(i).expect("as many rests as blocks");
                            let rows = rest.len() / codec.rest_bytes();
                            let mut together = [0.0; BLOCK_VECTORS];
                            prepared.refine_block(term, &out.product[..rows], rest, &mut together[..rows]);
                            for (row, rest) in rest.chunks_exact(codec.rest_bytes()).enumerate() {
                                let alone = prepared.refine(term, out.product[row], rest).0;
                                assert_eq!(together[row], alone, "{metric} {bits} {row}");
                            }
                        }
                        for lane in 0..BLOCK_VECTORS {
                            let row = i * BLOCK_VECTORS + lane;
                            let Some(vector) = list.rows.get(row * dim..(row + 1) * dim) else {
                                assert_eq!(out.distance[lane], f32::INFINITY);
                                continue;
                            };
                            let truth = exact(metric, query, vector);
                            let error = f64::from(out.distance[lane] - truth);
                            total += 1;
                            sum += error;
                            squares += error * error;
                            outside +=
                                usize::from(error.abs() > f64::from(out.distance[lane] - out.bound[lane]));
                            if bits > scan_bits {
                                let rest = &list.rest[row * codec.rest_bytes()..][..codec.rest_bytes()];
                                let (refined, bound) = prepared.refine(term, out.product[lane], rest);
                                let error = f64::from(refined - truth);
                                squares_refined += error * error;
                                outside_refined += usize::from(error.abs() > f64::from(bound));
                            }
                        }
                    }
                }
            }
            let n = f64::from(total);
            let deviation = (squares / n).sqrt();
            assert!((sum / n).abs() < 0.1 * deviation, "{metric} {bits}: bias {}", sum / n);
            assert!(outside * 1000 < total as usize, "{metric} {bits} {outside} of {total}");
            if bits > scan_bits {
                assert!(outside_refined * 1000 < total as usize, "{metric} {bits} {outside_refined}");
                let ratio = deviation / (squares_refined / n).sqrt();
                let least = if wide_tables { 1.6_f64.powi(i32::from(bits - scan_bits)) } else { 4.0 };
                assert!(ratio > least, "{metric}, {bits} bits refine by {ratio}");
            }
        }
    }
}

#[test]
fn an_empty_mask_reads_nothing_and_lanes_can_be_written_again() {
    let rows = gaussian(40 * 20, 3);
    let codec =
        RabitqBlocks::new(Rabitq::new(vec![0.0; 20], RabitqConfig::new(3)).unwrap(), Metric::Euclidean);
    let centre = codec.centre(&[0.1; 20]);
    let (mut block, mut again) = (vec![0; codec.block_bytes()], vec![0; codec.block_bytes()]);
    let mut rest = vec![0; 32 * codec.rest_bytes()];
    codec.encode_block(&centre, &rows[..32 * 20], &mut block, &mut rest);
    codec.encode_block(&centre, &rows[8 * 20..40 * 20], &mut again, &mut rest);
    for lane in 0..32 {
        let rest = &mut rest[lane * codec.rest_bytes()..][..codec.rest_bytes()];
        codec.encode(&centre, &rows[lane * 20..][..20], &mut again, lane, rest);
    }
    assert_eq!(block, again);

    let query = codec.query(&rows[..20]);
    let term = query.list_term(&[0.1; 20]);
    assert!(!query.for_list(term).scan_block_masked(&[], 0, &mut [0.0; 32]));
    let near = |limit| {
        let mut out = [BlockEstimates { near: 0x0F0F_0F0F, ..BlockEstimates::default() }];
        query.scan(term, limit, &block, &mut out);
        out[0].near
    };
    assert_eq!(near(f32::INFINITY), 0x0F0F_0F0F);
    assert_eq!(near(f32::NEG_INFINITY), 0);
}

#[test]
fn moved_codes_are_those_of_the_vector() {
    let rows = gaussian(40 * 20, 3);
    for (bits, scan_bits) in [(1, 1), (3, 2)] {
        let config = RabitqConfig { scan_bits, ..RabitqConfig::new(bits) };
        let codec = RabitqBlocks::new(Rabitq::new(vec![0.0; 20], config).unwrap(), Metric::Euclidean);
        let centre = codec.centre(&[0.1; 20]);
        let blocks_of = |order: &[usize]| {
            let mut blocks = vec![0; 2 * codec.block_bytes()];
            blocks.chunks_exact_mut(codec.block_bytes()).for_each(|block| codec.clear(block));
            let mut rest = vec![0; codec.rest_bytes()];
            for (place, &row) in order.iter().enumerate() {
                let block = &mut blocks[place / 32 * codec.block_bytes()..][..codec.block_bytes()];
                codec.encode(&centre, &rows[row * 20..][..20], block, place % 32, &mut rest);
            }
            blocks
        };
        let mut moved = blocks_of(&(0..40).collect::<Vec<_>>());
        codec.move_code(&mut moved, 39, 3);
        codec.move_code(&mut moved, 38, 38);
        let mut order: Vec<usize> = (0..38).collect();
        order[3] = 39;
        let estimates = |blocks: &[u8]| {
            let query = codec.query(&rows[..20]);
            let mut out = [BlockEstimates { near: u32::MAX, ..BlockEstimates::default() }; 2];
            query.scan(query.list_term(&[0.1; 20]), f32::INFINITY, blocks, &mut out);
            out.map(|out| out.distance)
        };
        assert_eq!(estimates(&moved), estimates(&blocks_of(&order)));
    }
}

#[test]
fn vectors_without_direction_have_exact_distances() {
    let centre = vec![1.0, 2.0, 3.0];
    for bits in 1..=8 {
        let quantizer = Rabitq::new(centre.clone(), RabitqConfig::new(bits)).unwrap();
        let mut code = vec![0; quantizer.code_bytes()];
        quantizer.encode(&centre, &mut code);
        let (distance, error) =
            quantizer.query(Metric::Euclidean, &[1.0, 2.0, 5.0]).distance_with_error(&code);
        assert_eq!((distance, error), (4.0, 0.0));
        let (product, _) = quantizer.query(Metric::DotProduct, &[1.0, 0.0, 1.0]).distance_with_error(&code);
        assert_eq!(product, -4.0);
        let (cosine, _) = quantizer.query(Metric::Cosine, &[0.0; 3]).distance_with_error(&code);
        assert_eq!(cosine, 0.0);
    }
}

#[test]
fn settings_out_of_range_are_errors() {
    let new = |dim: usize, config| Rabitq::new(vec![0.0; dim], config).map(|_| ());
    assert_eq!(new(4, RabitqConfig::new(0)), Err(RabitqError::Bits { bits: 0 }));
    assert_eq!(new(4, RabitqConfig::new(9)), Err(RabitqError::Bits { bits: 9 }));
    assert_eq!(new(0, RabitqConfig::new(1)), Err(RabitqError::Dim { dim: 0 }));
    for (bits, scan_bits) in [(1, 2), (4, 3), (4, 0)] {
        let config = RabitqConfig { scan_bits, ..RabitqConfig::new(bits) };
        assert_eq!(new(4, config), Err(RabitqError::ScanBits { scan_bits, bits }));
    }
    let config = RabitqConfig { epsilon: f32::NAN, ..RabitqConfig::new(1) };
    assert_eq!(new(4, config), Err(RabitqError::Epsilon));
    let rotation = Arc::new(Rotation::identity(4));
    let error = Rabitq::with_rotation(vec![0.0; 4], rotation, RabitqConfig::new(1)).unwrap_err();
    assert_eq!(error, RabitqError::Rotation { input: 4, output: 4, dim: 4 });
}

#[test]
fn parameters_come_back_from_bytes() {
    let rows = gaussian(10 * 30, 8);
    let config = RabitqConfig { wide_tables: true, scale: ScaleSearch::Exact, ..RabitqConfig::new(4) };
    let quantizer = Rabitq::new(mean(&rows, 30), config).unwrap();
    let bytes = quantizer.to_bytes();
    let again = Rabitq::from_bytes(&bytes).unwrap();
    assert_eq!(again, quantizer);
    assert_eq!(encode_all(&quantizer, &rows), encode_all(&again, &rows));
    for end in 0..bytes.len() {
        assert!(Rabitq::from_bytes(&bytes[..end]).is_err());
    }
    let rows = gaussian(10 * 64, 8);
    let dense = Arc::new(Rotation::dense(64, 1));
    let given = Rabitq::with_rotation(mean(&rows, 64), dense, config).unwrap();
    assert_eq!(Rabitq::from_bytes(&given.to_bytes()).unwrap(), given);
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_an_error_or_a_quantizer(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..80),
        head in any::<bool>(),
    ) {
        if head && bytes.len() > 2 {
            bytes[..2].copy_from_slice(&[4, 1]);
        }
        let _ = Rabitq::from_bytes(&bytes);
    }
}
