//! Traversal codes against distances of the vectors, on every instruction set.

use super::*;
use crate::Int8Isa;
use vdb_distance::{Metric, dot, norm};

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Vectors whose variance falls from coordinate to coordinate.
    fn vectors(&mut self, count: usize, dim: usize) -> Vec<f32> {
        (0..count * dim).map(|i| self.next() * (-((i % dim) as f32) * 4.0 / dim as f32).exp() + 0.3).collect()
    }
}

fn coded(metric: Metric, dim: usize, count: usize) -> (Vec<f32>, TraversalCodes) {
    let data = Rng(1).vectors(count, dim);
    let mut codes = TraversalCodes::new(TraversalBasis::train(metric, dim, &data, 3));
    codes.grow(count);
    let offsets: Vec<u32> = (0..count as u32).collect();
    codes.set_all(&offsets, |offset| &data[offset as usize * dim..][..dim]);
    (data, codes)
}

/// The distance in the placed space.
fn placed(metric: Metric, query: &[f32], vector: &[f32], longest: f32) -> f32 {
    let l2 = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
    match metric {
        Metric::Euclidean => l2(query, vector),
        Metric::Cosine => 2.0 - 2.0 * dot(query, vector) / (norm(query) * norm(vector)),
        _ => dot(query, query) + longest * longest - 2.0 * dot(query, vector),
    }
}

#[test]
fn distances_are_near_those_of_the_vectors() {
    for metric in [Metric::Euclidean, Metric::Cosine, Metric::DotProduct] {
        for dim in [1, 3, 40, 57, 130, 200] {
            let (data, codes) = coded(metric, dim, 300);
            assert!(codes.row_bytes().is_multiple_of(64) && codes.basis().m() <= dim + 1);
            let longest = data.chunks(dim).map(norm).fold(0.0, f32::max);
            let queries = Rng(2).vectors(20, dim);
            let offsets: Vec<u32> = (0..300).rev().collect();
            let mut query = TraversalQuery::default();
            let mut out = vec![0.0; offsets.len()];
            for vector in queries.chunks(dim) {
                assert!(codes.prepare(vector, &mut query));
                codes.score(&query, &offsets, &mut out);
                let scale = query.square() + longest * longest + 1.0;
                for (&offset, &found) in offsets.iter().zip(&out) {
                    let row = &data[offset as usize * dim..][..dim];
                    let wanted = placed(metric, vector, row, longest);
                    assert!((found - wanted).abs() < 0.06 * scale, "{metric} {dim}: {found} for {wanted}");
                }
            }
            // A row as a query is nearest to itself.
            codes.prepare_row(7, &mut query);
            codes.score(&query, &offsets, &mut out);
            let nearest = out.iter().zip(&offsets).min_by(|a, b| a.0.total_cmp(b.0)).expect("300 rows");
            assert!(*nearest.1 == 7 || dim == 1, "{metric} {dim}: {nearest:?}");
        }
    }
}

#[test]
fn every_instruction_set_gives_the_same_distances() {
    let (data, codes) = coded(Metric::Euclidean, 150, 101);
    let mut query = TraversalQuery::default();
    assert!(codes.prepare(&data[..150], &mut query));
    let scored = |codes: &TraversalCodes, offsets: &[u32]| {
        let mut out = vec![0.0; offsets.len()];
        codes.score(&query, offsets, &mut out);
        out
    };
    let offsets: Vec<u32> = (0..101).map(|i| i * 37 % 101).collect();
    for count in [0, 1, 2, 3, 4, 5, 8, 13, 101] {
        let offsets = &offsets[..count];
        let scalar = codes.clone().with_kernels(Int8Kernels::for_isa(Int8Isa::Scalar).expect("portable"));
        let expected = scored(&scalar, offsets);
        for kernels in Int8Isa::ALL.into_iter().filter_map(Int8Kernels::for_isa) {
            let found = scored(&codes.clone().with_kernels(kernels), offsets);
            assert_eq!(found, expected, "{} of {count}", kernels.isa().name());
            let mut fetched = vec![0.0; count];
            offsets.iter().for_each(|&offset| codes.fetch(offset));
            codes.clone().with_kernels(kernels).score_fetched(&query, offsets, &mut fetched);
            assert_eq!(fetched, expected, "{} of {count}, fetched", kernels.isa().name());
            let (mut looks, mut expected) = (vec![0.0; count], vec![0.0; count]);
            codes.clone().with_kernels(kernels).first_look(&query, offsets, &mut looks);
            scalar.first_look(&query, offsets, &mut expected);
            assert_eq!(looks, expected, "{} of {count}, first look", kernels.isa().name());
        }
    }
}

#[test]
fn first_looks_are_distances_without_the_lesser_components() {
    let (dim, count) = (200, 300);
    let (data, codes) = coded(Metric::Euclidean, dim, count);
    assert!(codes.has_first_look());
    let directions = &codes.basis().to_values()[1 + dim..];
    let heads: Vec<f32> =
        data.chunks(dim).flat_map(|vector| centred_head(&codes, vector, directions)).collect();
    let offsets: Vec<u32> = (0..count as u32).collect();
    let mut query = TraversalQuery::default();
    let (mut scores, mut looks) = (vec![0.0; count], vec![0.0; count]);
    let (mut of_looks, mut of_scores) = (0.0, 0.0);
    for row in [3, 90, 211] {
        codes.prepare_row(row, &mut query);
        codes.score(&query, &offsets, &mut scores);
        codes.first_look(&query, &offsets, &mut looks);
        let own = &heads[row as usize * FIRST_CODES..][..FIRST_CODES];
        for (place, other) in heads.chunks(FIRST_CODES).enumerate() {
            let squares = query.square() + square_of(&codes, place as u32);
            let wanted = squares - 2.0 * dot(own, other);
            assert!((looks[place] - wanted).abs() < 0.03 * squares, "{} for {wanted}", looks[place]);
            of_looks += (squares - looks[place]).abs();
            of_scores += (squares - scores[place]).abs();
        }
    }
    // The variance falls, so that the first line holds most of all products.
    assert!(of_looks > 0.6 * of_scores, "{of_looks} of {of_scores}");
    // Where a row is one line, there is no less to look at.
    assert!(!coded(Metric::Euclidean, 40, 60).1.has_first_look());
}

/// The coordinates of a vector that the first line of its row holds.
fn centred_head(codes: &TraversalCodes, vector: &[f32], directions: &[f32]) -> Vec<f32> {
    let values = codes.basis().to_values();
    let centred: Vec<f32> = vector.iter().zip(&values[1..]).map(|(value, center)| value - center).collect();
    directions.chunks(vector.len()).take(FIRST_CODES).map(|direction| dot(direction, &centred)).collect()
}

fn square_of(codes: &TraversalCodes, offset: u32) -> f32 {
    let mut query = TraversalQuery::default();
    codes.prepare_row(offset, &mut query);
    query.square()
}

#[test]
fn vectors_beyond_single_precision_are_refused_or_lie_at_the_centre() {
    let (_, mut codes) = coded(Metric::Euclidean, 8, 50);
    let huge = [3e38_f32; 8];
    assert!(!codes.prepare(&huge, &mut TraversalQuery::default()));
    codes.set_all(&[4], |_| &huge);
    let mut query = TraversalQuery::default();
    assert!(codes.prepare(&[0.1; 8], &mut query));
    let mut out = [f32::NAN];
    codes.score(&query, &[4], &mut out);
    assert_eq!(out[0], query.square());
}

#[test]
fn a_basis_comes_back_from_its_values() {
    for metric in [Metric::Euclidean, Metric::DotProduct] {
        let (_, codes) = coded(metric, 57, 100);
        let values = codes.basis().to_values();
        let again = TraversalBasis::from_values(metric, 57, &values).expect("its own values");
        assert_eq!((again.m(), again.to_values()), (codes.basis().m(), values.clone()));
        let refused = |values: &[f32]| assert!(TraversalBasis::from_values(metric, 57, values).is_err());
        refused(&[]);
        refused(&values[..values.len() - 1]);
        refused(&values[..40]);
        for (place, bad) in [(0, -1.0), (0, f32::NAN), (5, f32::INFINITY), (values.len() - 1, 2.0)] {
            let mut values = values.clone();
            values[place] = bad;
            refused(&values);
        }
    }
}

#[test]
fn degenerate_samples_make_usable_codes() {
    for sample in [vec![], vec![0.0; 40], vec![2.5; 40]] {
        let mut codes = TraversalCodes::new(TraversalBasis::train(Metric::Cosine, 10, &sample, 1));
        codes.grow(3);
        let rows = [[1.0; 10], [0.0; 10], [-1.0; 10]];
        codes.set_all(&[0, 1, 2], |offset| &rows[offset as usize]);
        let mut query = TraversalQuery::default();
        assert!(codes.prepare(&[2.0; 10], &mut query));
        let mut out = [0.0; 3];
        codes.score(&query, &[0, 1, 2], &mut out);
        assert!(out[0] < out[1] && out[1] < out[2], "{out:?}");
    }
}
