//! How rows and queries are laid before they are coded, so that every quantizer meets vectors of about length one
//! around the origin.
//!
//! ```text
//! row    x ↦ s·x − c   (x/‖x‖ − c under Cosine)      s a power of two, c the mean of a sample so placed
//! query  q ↦ the same, but q/‖q‖ under DotProduct
//! ```
//!
//! Distances are those of the vectors times s. Under Cosine they are Euclidean: ‖q − x‖² = 2 − 2 cos, and estimates of
//! a distance err by the length of q − x, which is small for the rows that matter, where those of a product err by the
//! length of q. Products become ⟨q, x⟩ less ⟨q, c⟩, the same for every row, times a factor that is positive: the order
//! of rows stays. Invariant: finite rows are placed as finite rows.

use super::CodedParams;
use crate::Vectors;
use vdb_distance::Metric;
use vdb_quant::length;

/// Lengths that need no scaling: products of such vectors are far inside single and half precision.
const COMFORTABLE: std::ops::RangeInclusive<f64> = 1.0 / 256.0..=16_384.0;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Placement {
    metric: Metric,
    pub(super) scale: f32,
    /// Empty for quantizers of the values themselves.
    pub(super) centre: Vec<f32>,
}

impl Placement {
    /// Also gives the placed sample.
    pub(super) fn train(params: &CodedParams, vectors: &Vectors, sample: &[u32]) -> (Placement, Vec<f32>) {
        let (metric, dim) = (vectors.metric(), vectors.dim());
        let squares: f64 = sample.iter().map(|&row| length(&vectors.row(row)).powi(2)).sum();
        let typical = (squares / sample.len().max(1) as f64).sqrt();
        let scales = metric != Metric::Cosine && params.kind != super::CodeKind::U8;
        let scale = if scales && typical > 0.0 && !COMFORTABLE.contains(&typical) {
            power_of_two(1.0 / typical)
        } else {
            1.0
        };
        let mut placement = Placement { metric, scale, centre: Vec::new() };
        let mut placed = vec![0.0; sample.len() * dim];
        for (placed, &row) in placed.chunks_exact_mut(dim).zip(sample) {
            placement.place(&vectors.row(row), placed);
        }
        if !params.kind.is_element() {
            placement.centre = mean(&placed, dim);
            for placed in placed.chunks_exact_mut(dim) {
                placed.iter_mut().zip(&placement.centre).for_each(|(value, centre)| *value -= centre);
            }
        }
        (placement, placed)
    }

    pub(super) fn from_parts(
        params: &CodedParams,
        vectors: &Vectors,
        scale: f32,
        centre: Vec<f32>,
    ) -> Result<Placement, String> {
        let expected = if params.kind.is_element() { 0 } else { vectors.dim() };
        if centre.len() != expected || centre.iter().any(|value| !value.is_finite()) {
            return Err(format!("a centre of {} values, expected {expected} finite ones", centre.len()));
        }
        if !(scale.is_normal() && scale > 0.0) {
            return Err(format!("a scale of {scale}, expected a power of two"));
        }
        Ok(Placement { metric: vectors.metric(), scale, centre })
    }

    /// The metric under which placed queries meet codes.
    pub(super) fn code_metric(&self) -> Metric {
        match self.metric {
            Metric::Cosine => Metric::Euclidean,
            other => other,
        }
    }

    /// What a comparable distance of placed vectors is multiplied by.
    pub(super) fn unit(&self) -> f32 {
        match self.metric {
            Metric::Euclidean => (1.0 / self.scale) * (1.0 / self.scale),
            _ => 1.0 / self.scale,
        }
    }

    /// Writes a placed row.
    pub(super) fn place(&self, row: &[f32], placed: &mut [f32]) {
        match self.metric {
            Metric::Cosine => normalise(row, &self.centre, placed),
            _ => vdb_quant::place(row, f64::from(self.scale), &self.centre, placed),
        }
    }

    pub(super) fn place_query(&self, query: &[f32]) -> Vec<f32> {
        let mut placed = vec![0.0; query.len()];
        match self.metric {
            Metric::DotProduct => normalise(query, &[], &mut placed),
            _ => self.place(query, &mut placed),
        }
        placed
    }
}

/// A vector of zeros, of no direction and the cosine 0 to all, becomes one that lies across nearly all others: of equal
/// values with signs as even as those of a counter's bits.
fn normalise(vector: &[f32], centre: &[f32], out: &mut [f32]) {
    let length = length(vector);
    if length > 0.0 {
        // No overflow: a length is at least the least `f32`.
        vdb_quant::place(vector, 1.0 / length, centre, out);
        return;
    }
    let value = 1.0 / (out.len() as f32).sqrt();
    let across: Vec<f32> =
        (0..out.len()).map(|i| if i.count_ones() % 2 == 0 { value } else { -value }).collect();
    vdb_quant::place(&across, 1.0, centre, out);
}

/// The nearest power of two within what `f32` holds with room to spare.
fn power_of_two(value: f64) -> f32 {
    value.log2().round().clamp(-120.0, 120.0).exp2() as f32
}

fn mean(rows: &[f32], dim: usize) -> Vec<f32> {
    let mut sums = vec![0.0f64; dim];
    for row in rows.chunks_exact(dim) {
        sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    let count = (rows.len() / dim).max(1) as f64;
    sums.into_iter().map(|sum| (sum / count) as f32).collect()
}
