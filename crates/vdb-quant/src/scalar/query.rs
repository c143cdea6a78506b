//! Queries of scalar codes: the rotated query in integers of its own, and how sums of products become distances.
//!
//! With ŷ = s·c for a row and q̂ = t·k for the query, ⟨q, x⟩ is estimated by s·t·⟨k, c⟩, and ⟨k, c⟩ is an integer. A
//! query of 8 bits is one byte a value. One of 16 bits is two, k = 256·high + low, and costs a second product per
//! byte of code but no second read: nothing, where memory is the limit.

use vdb_distance::Metric;

use crate::{CodeQuery, Int8Kernels, QueryCodes};

use super::{Sq, TRAILER, Width, assert_metric, read_f32, rotated, squared_norm};

/// Rows whose sums are taken before they become distances.
const BATCH: usize = 64;

/// The precision of a query's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QueryPrecision {
    /// One signed byte, −127 to 127.
    #[default]
    Bits8,
    /// Two signed bytes, −32,639 to 32,639 together.
    Bits16,
}

/// A query's head in integers, and the kernels that meet them with codes.
#[derive(Debug, Clone)]
pub(super) struct IntegerQuery {
    kernels: Int8Kernels,
    codes: QueryCodes,
    pub(super) row_bytes: usize,
    /// What an integer is multiplied by.
    pub(super) step: f64,
    multiplier: i64,
    /// Subtracted from the sum of products: the codes' offset times the sum of the query's integers.
    offset: i64,
}

impl IntegerQuery {
    /// Also returns the values that the integers stand for.
    pub(super) fn new<W: Width>(
        head: &[f32],
        precision: QueryPrecision,
        row_bytes: usize,
    ) -> (IntegerQuery, Vec<f64>) {
        let greatest = head.iter().fold(0.0_f64, |greatest, &value| greatest.max(f64::from(value).abs()));
        let top = match precision {
            QueryPrecision::Bits8 => 127.0,
            QueryPrecision::Bits16 => 127.0 * 257.0,
        };
        let step = if greatest > 0.0 && greatest.is_finite() { greatest / top } else { 1.0 };
        // Casts from floating point saturate, and NaN becomes 0.
        let whole = |&value: &f32| (f64::from(value) / step).round().clamp(-top, top) as i32;
        let integers: Vec<i32> = head.iter().map(whole).collect();
        let codes = match precision {
            QueryPrecision::Bits8 => {
                let values: Vec<i8> = integers.iter().map(|&k| k as i8).collect();
                W::query(&[&values])
            }
            QueryPrecision::Bits16 => {
                // |k| ≤ 127 · 257, so the high part is at most 127 in size and the low part −128 to 127.
                let high: Vec<i8> = integers.iter().map(|&k| ((k + 128) >> 8) as i8).collect();
                let low: Vec<i8> =
                    integers.iter().zip(&high).map(|(&k, &h)| (k - 256 * i32::from(h)) as i8).collect();
                W::query(&[&high, &low])
            }
        };
        let total: i64 = integers.iter().map(|&k| i64::from(k)).sum();
        let query = IntegerQuery {
            kernels: Int8Kernels::get(),
            codes,
            row_bytes,
            step,
            multiplier: i64::from(W::MULTIPLIER),
            offset: i64::from(W::OFFSET) * total,
        };
        (query, integers.iter().map(|&k| f64::from(k) * step).collect())
    }

    #[cfg(test)]
    pub(super) fn with_kernels(self, kernels: Int8Kernels) -> IntegerQuery {
        IntegerQuery { kernels, ..self }
    }

    /// Calls `finish(i, row, ⟨k, c⟩)` for consecutive rows.
    #[inline]
    pub(super) fn consecutive(&self, rows: &[u8], count: usize, mut finish: impl FnMut(usize, &[u8], i64)) {
        assert_eq!(
            Some(rows.len()),
            count.checked_mul(self.row_bytes),
            "{count} rows of {} bytes",
            self.row_bytes
        );
        let parts = self.codes.parts();
        let mut sums = [0; 2 * BATCH];
        for first in (0..count).step_by(BATCH) {
            let sums = &mut sums[..parts * BATCH.min(count - first)];
            self.kernels.rows(&self.codes, rows, self.row_bytes, first, sums);
            let rows = rows[first * self.row_bytes..].chunks_exact(self.row_bytes);
            for ((i, sums), row) in sums.chunks_exact(parts).enumerate().zip(rows) {
                finish(first + i, row, self.product(sums));
            }
        }
    }

    /// The same for rows picked by number.
    #[inline]
    pub(super) fn picked(&self, rows: &[u8], ids: &[u32], mut finish: impl FnMut(usize, &[u8], i64)) {
        let parts = self.codes.parts();
        let mut sums = [0; 2 * BATCH];
        for (batch, ids) in ids.chunks(BATCH).enumerate() {
            let sums = &mut sums[..parts * ids.len()];
            self.kernels.gather(&self.codes, rows, self.row_bytes, ids, sums);
            for ((i, sums), &id) in sums.chunks_exact(parts).enumerate().zip(ids) {
                let row = &rows[id as usize * self.row_bytes..][..self.row_bytes];
                finish(batch * BATCH + i, row, self.product(sums));
            }
        }
    }

    /// ⟨k, c⟩ from the sums over levels. At most 2¹⁶ values of 255 · 2¹⁵ in size: far inside `i64`, and exact in
    /// double precision.
    #[inline(always)]
    fn product(&self, sums: &[i32]) -> i64 {
        let sum = match *sums {
            [high, low] => 256 * i64::from(high) + i64::from(low),
            _ => i64::from(sums[0]),
        };
        self.multiplier * sum - self.offset
    }
}

/// A query of [`Sq`] codes. DotProduct and Cosine give the negated product of the query, as it was given, with the
/// vector as it was encoded.
#[derive(Debug, Clone)]
pub struct SqQuery {
    integers: IntegerQuery,
    form: Form,
}

#[derive(Debug, Clone, Copy)]
enum Form {
    /// With the squared norm of the query.
    Euclidean(f64),
    Product,
}

impl SqQuery {
    pub(super) fn new<W: Width>(quantizer: &Sq<W>, metric: Metric, query: &[f32]) -> SqQuery {
        assert_metric(&quantizer.rotation, metric);
        let rotated = rotated(&quantizer.rotation, query);
        let row_bytes = crate::Quantizer::code_bytes(quantizer);
        let (integers, _) =
            IntegerQuery::new::<W>(&rotated[..quantizer.head], quantizer.precision, row_bytes);
        let form = match metric {
            Metric::Euclidean => Form::Euclidean(squared_norm(&quantizer.rotation, query)),
            _ => Form::Product,
        };
        SqQuery { integers, form }
    }

    #[cfg(test)]
    pub(super) fn with_kernels(self, kernels: Int8Kernels) -> SqQuery {
        SqQuery { integers: self.integers.with_kernels(kernels), ..self }
    }

    #[inline(always)]
    fn distance(&self, row: &[u8], product: i64) -> f32 {
        let at = row.len() - TRAILER;
        let product = self.integers.step * f64::from(read_f32(row, at)) * product as f64;
        match self.form {
            Form::Euclidean(squared) => {
                (squared + f64::from(read_f32(row, at + 4)) - 2.0 * product).max(0.0) as f32
            }
            Form::Product => -product as f32,
        }
    }
}

impl CodeQuery for SqQuery {
    fn distances(&self, codes: &[u8], out: &mut [f32]) {
        self.integers.consecutive(codes, out.len(), |i, row, product| out[i] = self.distance(row, product));
    }

    fn gather(&self, codes: &[u8], rows: &[u32], out: &mut [f32]) {
        assert_eq!(rows.len(), out.len(), "as many distances as rows");
        self.integers.picked(codes, rows, |i, row, product| out[i] = self.distance(row, product));
    }
}
