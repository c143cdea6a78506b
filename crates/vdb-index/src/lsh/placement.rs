//! Where vectors are put before they are hashed and coded: scaled to the unit sphere under Cosine, centred, and under
//! DotProduct given the extra coordinate that makes the largest product the smallest angle (Neyshabur & Srebro, ICML
//! 2015). Embeddings that point the same way share most bits otherwise.

use crate::Vectors;
use vdb_distance::{Metric, l2_squared, norm};

/// The centre and the norm that rows are placed by, fitted to the rows.
#[derive(Debug, Clone)]
pub(super) struct Placement {
    pub(super) metric: Metric,
    pub(super) center: Vec<f32>,
    /// The norm that rows are lifted to under DotProduct.
    pub(super) max_norm: f32,
}

impl Placement {
    /// Fits the centre and the norm to the live rows.
    pub(super) fn fit(vectors: &Vectors) -> Self {
        let metric = vectors.metric();
        let mut sum = vec![0.0f64; vectors.dim()];
        for offset in vectors.live().iter() {
            let row = vectors.row(offset);
            let scale = unit_scale(metric, &row);
            for (sum, &value) in sum.iter_mut().zip(&*row) {
                *sum += f64::from(value) * f64::from(scale);
            }
        }
        let rows = vectors.live().count().max(1) as f64;
        let center: Vec<f32> = sum.into_iter().map(|sum| (sum / rows) as f32).collect();
        let max_norm = match metric {
            Metric::DotProduct => {
                let live = vectors.live().iter();
                live.map(|offset| l2_squared(&vectors.row(offset), &center).sqrt()).fold(0.0, f32::max)
            }
            _ => 0.0,
        };
        Self { metric, center, max_norm }
    }

    /// Values of a placed vector: the dimension, and one more under DotProduct.
    pub(super) fn width(&self) -> usize {
        self.center.len() + usize::from(self.metric == Metric::DotProduct)
    }

    /// Writes the placed row.
    pub(super) fn place_row(&self, row: &[f32], out: &mut [f32]) {
        let scale = unit_scale(self.metric, row);
        for ((out, &value), &center) in out.iter_mut().zip(row).zip(&self.center) {
            *out = value * scale - center;
        }
        if self.metric == Metric::DotProduct {
            let norm = l2_squared(row, &self.center).sqrt();
            out[row.len()] = (self.max_norm - norm).max(0.0).sqrt() * (self.max_norm + norm).sqrt();
        }
    }

    /// Writes the placed query.
    pub(super) fn place_query(&self, query: &[f32], out: &mut [f32]) {
        if self.metric == Metric::DotProduct {
            // Shifting every row shifts every product alike, so only rows are centred, never the query.
            out[..query.len()].copy_from_slice(query);
            out[query.len()] = 0.0;
        } else {
            self.place_row(query, out);
        }
    }
}

/// Under Cosine only the direction counts. Finite, lest a zero become no number: vectors shorter than 3 · 10⁻³⁹ are
/// lengthened as far as a factor of `f32` can.
fn unit_scale(metric: Metric, vector: &[f32]) -> f32 {
    match metric {
        Metric::Cosine => {
            let norm = norm(vector);
            if norm == 0.0 { 0.0 } else { (1.0 / norm).min(f32::MAX) }
        }
        _ => 1.0,
    }
}
