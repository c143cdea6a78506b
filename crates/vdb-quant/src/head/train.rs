//! The directions in which a sample of vectors varies most, by subspace iteration (Halko, Martinsson & Tropp 2011).
//!
//! Only the span of the leading directions matters for a head: inside it the directions are turned at random, so that
//! energy spreads evenly over the codes. A few iterations give the span; no eigenvectors are needed. The result depends
//! on the sample and the seed, not on the number of threads: every product is computed by one thread in one order.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use vdb_distance::Kernels;

/// Iterations: enough where the spectrum falls, and where it does not, any span is as good.
const ITERATIONS: usize = 5;

/// `m` orthonormal directions of `dim` values, those of large variance first, for centred rows of `dim` values.
///
/// # Panics
/// When `m` is above `dim`, or `rows` is not whole rows.
pub fn leading_directions(rows: &[f32], dim: usize, m: usize, seed: u64) -> Vec<f32> {
    assert!(m <= dim && rows.len().is_multiple_of(dim), "{m} directions of {dim} dimensions");
    let count = rows.len() / dim;
    let columns = transposed(rows, count, dim);
    let mut directions = gaussian(m * dim, seed);
    orthonormalize(&mut directions, dim, seed);
    if rows.is_empty() {
        return directions;
    }
    for _ in 0..ITERATIONS {
        // Y = rows · directionsᵀ, kept as m rows of `count` values; then directions = Yᵀ · rows.
        let scores = products(&directions, rows, dim);
        directions = products(&scores, &columns, count);
        orthonormalize(&mut directions, dim, seed);
    }
    directions
}

/// The same span in randomly turned directions.
pub fn spread(directions: &[f32], dim: usize, seed: u64) -> Vec<f32> {
    let m = directions.len() / dim;
    if m == 0 {
        return Vec::new();
    }
    let mut turn = gaussian(m * m, seed ^ 0x5eed);
    orthonormalize(&mut turn, m, seed);
    let columns = transposed(directions, m, dim);
    let mut turned = products(&turn, &columns, m);
    // Each product was rounded to f32: one more pass keeps the basis orthonormal to the last bits.
    orthonormalize(&mut turned, dim, seed);
    turned
}

fn gaussian(len: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..len).map(|_| StandardNormal.sample(&mut rng)).collect()
}

fn transposed(rows: &[f32], count: usize, dim: usize) -> Vec<f32> {
    let mut columns = vec![0.0; rows.len()];
    columns.par_chunks_mut(count.max(1)).enumerate().for_each(|(column, values)| {
        for (row, value) in values.iter_mut().enumerate() {
            *value = rows[row * dim + column];
        }
    });
    columns
}

/// The product of every row of `left` with every row of `right`, both of `width` values: as many rows as `left` has.
fn products(left: &[f32], right: &[f32], width: usize) -> Vec<f32> {
    let height = right.len().checked_div(width).unwrap_or(0);
    if width == 0 || height == 0 {
        return Vec::new();
    }
    let mut products = vec![0.0; left.len() / width * height];
    let outputs = products.par_chunks_mut(height).zip(left.par_chunks(width));
    outputs.for_each(|(out, row)| Kernels::get().dot_rows(row, right, width, 0, out));
    products
}

/// Gram–Schmidt, twice, in double precision. A row that depends on those before it is replaced by a random one.
fn orthonormalize(rows: &mut [f32], dim: usize, seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x0a7b);
    let mut done: Vec<Vec<f64>> = Vec::new();
    for row in rows.chunks_exact_mut(dim) {
        let mut values: Vec<f64> = row.iter().map(|&value| f64::from(value)).collect();
        loop {
            let before = length(&values);
            for _ in 0..2 {
                for other in &done {
                    let along: f64 = values.iter().zip(other).map(|(a, b)| a * b).sum();
                    values.iter_mut().zip(other).for_each(|(value, other)| *value -= along * other);
                }
            }
            let after = length(&values);
            if after > 1e-6 * before && before > 0.0 && before.is_finite() {
                values.iter_mut().for_each(|value| *value /= after);
                break;
            }
            values.iter_mut().for_each(|value| *value = StandardNormal.sample(&mut rng));
        }
        row.iter_mut().zip(&values).for_each(|(out, &value)| *out = value as f32);
        done.push(values);
    }
}

fn length(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use vdb_distance::dot;

    fn defect(directions: &[f32], dim: usize) -> f32 {
        let rows: Vec<&[f32]> = directions.chunks(dim).collect();
        let mut worst = 0.0f32;
        for (i, a) in rows.iter().enumerate() {
            for (j, b) in rows.iter().enumerate() {
                worst = worst.max((dot(a, b) - f32::from(u8::from(i == j))).abs());
            }
        }
        worst
    }

    #[test]
    fn finds_the_span_of_large_variance() {
        // Variance 100 in three oblique directions of forty, 1 in all.
        let dim = 40;
        let noise = gaussian(500 * dim, 1);
        let strong = gaussian(500 * 3, 2);
        let mut axes = gaussian(3 * dim, 3);
        orthonormalize(&mut axes, dim, 0);
        let mut rows = noise;
        for (row, weights) in rows.chunks_mut(dim).zip(strong.chunks(3)) {
            for (axis, weight) in axes.chunks(dim).zip(weights) {
                row.iter_mut().zip(axis).for_each(|(value, axis)| *value += 10.0 * weight * axis);
            }
        }
        let found = leading_directions(&rows, dim, 8, 4);
        assert!(defect(&found, dim) < 1e-5);
        let turned = spread(&found[..3 * dim], dim, 5);
        assert!(defect(&turned, dim) < 1e-5);
        for axis in axes.chunks(dim) {
            let inside: f32 = turned.chunks(dim).map(|direction| dot(axis, direction).powi(2)).sum();
            assert!(inside > 0.97, "{inside}");
        }
    }

    #[test]
    fn degenerate_samples_give_orthonormal_directions() {
        for rows in [vec![], vec![0.0; 50], vec![3.0; 50], gaussian(20, 1)] {
            let directions = leading_directions(&rows, 10, 10, 7);
            assert!(defect(&directions, 10) < 1e-5);
            assert!(defect(&spread(&directions, 10, 7), 10) < 1e-5);
        }
    }
}
