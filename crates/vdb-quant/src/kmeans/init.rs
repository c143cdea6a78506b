//! First centroids: k-means++ (each next seed drawn with probability proportional to its squared distance to the
//! seeds so far) or an even sample. Invariant: as many rows as asked for, each one of the points.

use rand::seq::index;
use rand::{Rng, RngExt};
use rayon::prelude::*;

use super::{KMeansInit, MAX_PLUS_PLUS};

/// Points that k-means++ draws from, per seed.
const POINTS_PER_SEED: usize = 32;
/// Points whose distances one task lowers.
const TASK: usize = 4096;

/// `k` rows of `points`, which has at least as many.
pub(super) fn seeds(points: &[f32], dim: usize, k: usize, init: KMeansInit, rng: &mut impl Rng) -> Vec<f32> {
    let rows = points.len() / dim;
    let plus_plus = match init {
        KMeansInit::Auto => k <= MAX_PLUS_PLUS,
        KMeansInit::PlusPlus => true,
        KMeansInit::Sample => false,
    };
    let amount = if plus_plus { rows.min(k.saturating_mul(POINTS_PER_SEED)) } else { k };
    let picked = index::sample(rng, rows, amount);
    let pool: Vec<f32> = picked.iter().flat_map(|row| &points[row * dim..][..dim]).copied().collect();
    if plus_plus { spread(&pool, dim, k, rng) } else { pool }
}

fn spread(pool: &[f32], dim: usize, k: usize, rng: &mut impl Rng) -> Vec<f32> {
    let rows = pool.len() / dim;
    let mut seeds = Vec::with_capacity(k * dim);
    let mut nearest = vec![f32::INFINITY; rows];
    // The pool is in random order: its first row is an even draw.
    let mut picked = 0;
    loop {
        let seed = &pool[picked * dim..][..dim];
        seeds.extend_from_slice(seed);
        if seeds.len() == k * dim {
            return seeds;
        }
        nearest.par_chunks_mut(TASK).zip(pool.par_chunks(TASK * dim)).for_each(|(nearest, rows)| {
            let mut distances = vec![0.0; nearest.len()];
            vdb_distance::Kernels::get().l2_squared_rows(seed, rows, dim, 0, &mut distances);
            nearest
                .iter_mut()
                .zip(distances)
                .for_each(|(nearest, distance)| *nearest = nearest.min(distance));
        });
        nearest[picked] = 0.0;
        picked = draw(&nearest, rng).unwrap_or_else(|| rng.random_range(0..rows));
    }
}

/// An index drawn with probability proportional to its weight; `None` when all weights are zero.
fn draw(weights: &[f32], rng: &mut impl Rng) -> Option<usize> {
    let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
    if !(total > 0.0 && total.is_finite()) {
        return None;
    }
    let mut left = rng.random::<f64>() * total;
    let mut last = None;
    for (i, &weight) in weights.iter().enumerate() {
        if weight > 0.0 {
            last = Some(i);
            left -= f64::from(weight);
            if left < 0.0 {
                break;
            }
        }
    }
    last
}
