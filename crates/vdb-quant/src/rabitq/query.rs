//! A query against row codes: ⟨u, q'⟩ as an integer product of bit planes with the rotated query in eight bits.
//!
//! The query is `q'ᵢ ≈ step·(hᵢ + lᵢ/254)` with h and l of eight bits; l, a second pass, is used from seven bits a
//! dimension on, where h alone would add as much error as the code has. Both the levels and their middle meet the
//! same rounded query, so its rounding error meets v, which has mean zero, and not u.

use vdb_distance::{Kernels, Metric};

use super::{HEADER, Rabitq, levels, read_f32};
use crate::kernels::planes::PlaneDot;
use crate::quantizer::{CodeQuery, Quantizer};

/// Bits from which a query takes two passes.
const TWO_PASS_BITS: u8 = 7;
/// Rows that a gather asks memory for ahead.
const ROWS_AHEAD: usize = 4;

/// A rotated query in one or two times eight bits.
#[derive(Debug, Clone)]
pub(super) struct RoundedQuery {
    high: Vec<i8>,
    /// Empty in a query of one pass.
    low: Vec<i8>,
    step: f32,
    /// Σq' of the rounded query.
    sum: f32,
    /// The standard deviation of a coordinate's rounding error.
    pub(super) noise: f32,
}

impl RoundedQuery {
    pub(super) fn new(rotated: &[f32], two_pass: bool) -> RoundedQuery {
        let largest = rotated.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let step = if largest > 0.0 && largest.is_finite() { largest / 127.0 } else { 1.0 };
        let inverse = 1.0 / step;
        let high: Vec<i8> = rotated.iter().map(|value| rounded(value * inverse)).collect();
        let low: Vec<i8> = match two_pass {
            true => {
                let left = |(value, &high): (&f32, &i8)| value * inverse - f32::from(high);
                rotated.iter().zip(&high).map(|pair| rounded(left(pair) * 254.0)).collect()
            }
            false => Vec::new(),
        };
        let sum = |values: &[i8]| values.iter().map(|&value| i64::from(value)).sum::<i64>() as f32;
        let noise = step / 12.0_f32.sqrt() / if two_pass { 254.0 } else { 1.0 };
        RoundedQuery { sum: step * (sum(&high) + sum(&low) / 254.0), high, low, step, noise }
    }

    /// ⟨u − middle, q'⟩ for the u in these planes.
    #[inline]
    pub(super) fn product(&self, kernel: PlaneDot, planes: &[u8], middle: f32) -> f32 {
        let mut product = kernel.dot(planes, &self.high) as f32;
        if !self.low.is_empty() {
            product += kernel.dot(planes, &self.low) as f32 / 254.0;
        }
        self.step * product - middle * self.sum
    }

    /// [`product`](Self::product) for up to [`BATCH`] consecutive rows of `row_bytes` bytes, which end in `count`
    /// planes: the same operations, so the same bits.
    #[inline]
    pub(super) fn products(
        &self,
        kernel: PlaneDot,
        (rows, row_bytes, count): (&[u8], usize, usize),
        middle: f32,
        out: &mut [f32],
    ) {
        let (mut high, mut low) = ([0; BATCH], [0; BATCH]);
        let high = &mut high[..out.len()];
        kernel.dots(rows, row_bytes, count, &self.high, high);
        let subtract = middle * self.sum;
        if self.low.is_empty() {
            out.iter_mut().zip(high).for_each(|(out, high)| *out = self.step * *high as f32 - subtract);
            return;
        }
        let low = &mut low[..out.len()];
        kernel.dots(rows, row_bytes, count, &self.low, low);
        for ((out, high), low) in out.iter_mut().zip(high).zip(low) {
            *out = self.step * (*high as f32 + *low as f32 / 254.0) - subtract;
        }
    }
}

/// Rows that products are computed of at a time.
pub(super) const BATCH: usize = 32;

/// The nearest whole number, halves away from zero; without the call that `round` is on older instruction sets.
#[inline(always)]
fn rounded(value: f32) -> i8 {
    (value + 0.5_f32.copysign(value)) as i8
}

/// A query prepared for row codes; made by [`Quantizer::query`].
///
/// Under Euclidean the estimates are of the squared distance, and may be a little below zero; under DotProduct and
/// Cosine of the negated product, with the query normalised first under Cosine. Under Manhattan codes are decoded
/// one by one, which is slow.
pub struct RabitqQuery<'a> {
    quantizer: &'a Rabitq,
    metric: Metric,
    kernel: PlaneDot,
    rounded: RoundedQuery,
    middle: f32,
    /// ‖q−μ‖² or −⟨q,μ⟩.
    add: f32,
    /// ‖q−μ‖.
    radius: f32,
    /// The query itself, under Manhattan only.
    raw: Vec<f32>,
}

impl<'a> RabitqQuery<'a> {
    pub(super) fn new(quantizer: &'a Rabitq, metric: Metric, query: &[f32]) -> RabitqQuery<'a> {
        assert_eq!(query.len(), quantizer.dim(), "the query and the quantizer differ in dimension");
        let query = normalised(metric, query);
        let (kernels, bits) = (Kernels::get(), quantizer.config.bits);
        let square = kernels.l2_squared(&query, &quantizer.centre);
        let rotated = quantizer.rotated(&query, &quantizer.centre);
        RabitqQuery {
            quantizer,
            metric,
            kernel: PlaneDot::get(),
            rounded: RoundedQuery::new(&rotated, bits >= TWO_PASS_BITS),
            middle: levels::middle(bits) as f32,
            add: if metric == Metric::Euclidean { square } else { -kernels.dot(&query, &quantizer.centre) },
            radius: square.sqrt(),
            raw: if metric == Metric::Manhattan { query } else { Vec::new() },
        }
    }

    /// An estimate and how far the truth may be from it; see [`RabitqConfig::epsilon`](super::RabitqConfig). Under
    /// Manhattan there is no bound and the second number is infinite.
    ///
    /// # Panics
    /// When `code` is not one code.
    pub fn distance_with_error(&self, code: &[u8]) -> (f32, f32) {
        assert_eq!(code.len(), self.quantizer.code_bytes(), "the code has another length");
        if self.metric == Metric::Manhattan {
            return (self.manhattan(code), f32::INFINITY);
        }
        let epsilon = self.quantizer.config.epsilon;
        let rescale = read_f32(code, 2).abs();
        // The rounding errors of the query meet v, about as long as levels spread evenly: √(D·4^B/12).
        let length = (self.quantizer.code_dim() as f32 / 12.0).sqrt() * (2.0 * self.middle + 1.0);
        let rounding = rescale * self.rounded.noise * length;
        let error = epsilon * (read_f32(code, 3) * self.radius + rounding);
        (self.estimate(code), if self.metric == Metric::Euclidean { 2.0 * error } else { error })
    }

    #[inline]
    fn estimate(&self, code: &[u8]) -> f32 {
        self.finish(code, self.rounded.product(self.kernel, &code[HEADER..], self.middle))
    }

    /// The estimate from ⟨u − middle, q'⟩.
    #[inline(always)]
    fn finish(&self, code: &[u8], product: f32) -> f32 {
        let scaled = read_f32(code, 2) * product;
        if self.metric == Metric::Euclidean {
            read_f32(code, 0) + self.add - 2.0 * scaled
        } else {
            self.add - read_f32(code, 1) - scaled
        }
    }

    #[cold]
    fn manhattan(&self, code: &[u8]) -> f32 {
        let mut vector = vec![0.0; self.raw.len()];
        self.quantizer.decode(code, &mut vector);
        vdb_distance::l1(&self.raw, &vector)
    }

    fn distance(&self, code: &[u8]) -> f32 {
        if self.metric == Metric::Manhattan { self.manhattan(code) } else { self.estimate(code) }
    }
}

impl CodeQuery for RabitqQuery<'_> {
    fn distances(&self, codes: &[u8], out: &mut [f32]) {
        let bytes = self.quantizer.code_bytes();
        assert_eq!(codes.len(), out.len() * bytes, "as many codes as distances");
        if self.metric == Metric::Manhattan {
            codes.chunks_exact(bytes).zip(out).for_each(|(code, out)| *out = self.manhattan(code));
            return;
        }
        let bits = usize::from(self.quantizer.config.bits);
        for (codes, out) in codes.chunks(BATCH * bytes).zip(out.chunks_mut(BATCH)) {
            self.rounded.products(self.kernel, (codes, bytes, bits), self.middle, out);
            for (code, out) in codes.chunks_exact(bytes).zip(out) {
                *out = self.finish(code, *out);
            }
        }
    }

    fn gather(&self, codes: &[u8], rows: &[u32], out: &mut [f32]) {
        assert_eq!(rows.len(), out.len(), "as many distances as rows");
        let bytes = self.quantizer.code_bytes();
        for (i, (&row, out)) in rows.iter().zip(out).enumerate() {
            if let Some(&ahead) = rows.get(i + ROWS_AHEAD) {
                vdb_distance::prefetch(codes, ahead as usize * bytes, bytes.div_ceil(64).min(10));
            }
            *out = self.distance(&codes[row as usize * bytes..][..bytes]);
        }
    }
}

/// The query, of length one under Cosine; zeros stay zeros.
pub(crate) fn normalised(metric: Metric, query: &[f32]) -> Vec<f32> {
    let norm = if metric == Metric::Cosine { vdb_distance::norm(query) } else { 1.0 };
    if norm > 0.0 && norm.is_finite() && norm != 1.0 {
        query.iter().map(|value| value / norm).collect()
    } else {
        query.to_vec()
    }
}
