//! Scalar codes that prove how wrong they can be: lower and upper bounds on the true distance, never on an estimate.
//!
//! # The bound
//!
//! x and q are the vectors as given, u = q − c and v = x − c with the rotation's centre c (0 without one), R the linear
//! map of the rotation, p and y its outputs for q and x in `f32` as they were computed. Let h and t mark heads and
//! tails, z = s·k the code's vector, r = y_h − z, p̂ the integers' vector of the query's head. All of these are known
//! exactly, or their norms are, rounded to the safe side. Then ⟨p, y⟩ = ⟨p_h, z⟩ + ⟨p_h, r⟩ + ⟨p_t, y_t⟩, and with
//! G = ⟨p̂, z⟩, which is a product of two numbers and an integer:
//!
//! * |⟨p_h, z⟩ − G| ≤ ‖p_h − p̂‖ ‖z‖;
//! * r is orthogonal to z but for the rounding of s, so only the part of p_h orthogonal to z meets it:
//!   |⟨p_h, r⟩| ≤ √(‖p_h‖² − g²) ‖r‖ + ‖p_h‖ |⟨r, z⟩| / ‖z‖, where g = max(0, |G| / ‖z‖ − ‖p_h − p̂‖) is no more than
//!   the length of p_h along z;
//! * |⟨p_t, y_t⟩| ≤ ‖p_t‖ ‖y_t‖.
//!
//! The two Cauchy-Schwarz inequalities for head and tail stay apart: one over both lets several times as many rows
//! through (the idea is that of VA+-files and of FEXIPRO, Li and others, SIGMOD 2017).
//!
//! # The slack
//!
//! Let U = ‖u‖, V = ‖v‖ and let the rotation's slack be κ (defect), ε (relative) and a (absolute), with κ, ε ≤ 0.01
//! (with more, bounds are infinite). Then ‖y‖ ≤ √(1+κ) V + εV + a ≤ 1.02 V + a, likewise ‖p‖ ≤ 1.02 U + a, and
//! ‖Ru‖ ≤ 1.005 U. From ⟨Ru, Rv⟩ = ⟨p, y⟩ + ⟨Ru − p, y⟩ + ⟨Ru, Rv − y⟩:
//!
//! |⟨u, v⟩ − ⟨p, y⟩| ≤ κUV + (εU + a)(1.02V + a) + 1.005U (εV + a) ≤ (κ + 2.03ε) UV + 1.1a (U + V + a).
//!
//! The scale s is the least-squares one, s*, rounded to `f32`, and s* itself is off by the rounding of two sums in
//! double precision of at most 2¹⁶ terms: |⟨r, z⟩| / ‖z‖ = |s* − s| ‖k‖ ≤ 2⁻²⁴ ‖z‖ + 2⁻¹⁵⁰ ‖k‖ + 10⁻¹¹ ‖y_h‖, the second
//! term for subnormal scales, with ‖k‖ ≤ 127 · 2⁸ < 2¹⁵. As ‖z‖ ≤ 1.001 ‖y_h‖ ≤ 1.03 V + 2a, times ‖p_h‖ ≤ 1.02 U + a
//! that is below 8·10⁻⁸ (U + a)(V + a) + 2⁻¹³³ (U + a).
//! Everything else is double precision: norms are sums of at most 2¹⁶ squares, off by less than 2¹⁶ · 2⁻⁵³ < 10⁻¹¹
//! relative, and are widened by 10⁻¹⁰; what is stored in `f32` is rounded up. A dozen further operations err by less
//! than 10⁻¹⁴ of terms no greater than 2 (U + V)², which is subtracted from lower bounds and added to upper ones as
//! 10⁻¹² of that. The stored norm of v is the nearest `f32`: taken as an interval of ± 2⁻²³ relative, ± 2⁻¹⁴⁹.
//! Last, results are rounded outward to `f32`.
//!
//! Whatever is not finite on the way (a rotation that overflows) makes that term infinite; the product then is only
//! known to be at most UV in size.
//!
//! # Rows
//!
//! The code bytes, zeros, and at the very end five little-endian `f32`: scale, ‖v‖, ‖z‖, ‖r‖, ‖y_t‖. Rows are a
//! multiple of eight bytes.

use vdb_distance::Metric;

use crate::{CodeQuery, MAX_CODE_BYTES, Quantizer, Rotation};

use super::fit::{Fit, square};
use super::query::IntegerQuery;
use super::{
    Eight, Four, QueryPrecision, Width, assert_metric, decode, encode_rows, read_f32, rotated, squared_norm,
    whole_lines,
};

/// Bytes of a row that are not code.
const TRAILER: usize = 20;
/// Widening of computed norms and of sums of them, relative.
const WIDEN: f64 = 1e-10;

/// Codes of 8 bits with bounds.
pub type BoundedSq8 = BoundedSq<Eight>;
/// Codes of 4 bits with bounds.
pub type BoundedSq4 = BoundedSq<Four>;

/// A scalar quantizer whose codes also bound distances. Vectors and queries must be finite; with others, bounds mean
/// nothing.
#[derive(Debug, Clone)]
pub struct BoundedSq<W: Width> {
    rotation: Rotation,
    head: usize,
    precision: QueryPrecision,
    width: std::marker::PhantomData<W>,
}

impl<W: Width> BoundedSq<W> {
    /// Codes of the first `head` coordinates of rotated vectors, read with queries of 16 bits.
    ///
    /// # Panics
    /// When `head` is 0 or more than the rotation's [`output_dim`](Rotation::output_dim).
    pub fn new(rotation: Rotation, head: usize) -> BoundedSq<W> {
        assert!((1..=rotation.output_dim()).contains(&head), "a head of {head} of {}", rotation.output_dim());
        assert!(W::code_bytes(head) <= MAX_CODE_BYTES, "a head of {head} values");
        BoundedSq { rotation, head, precision: QueryPrecision::Bits16, width: std::marker::PhantomData }
    }

    /// The same codes, read with queries of another precision.
    #[must_use]
    pub fn with_query_precision(self, precision: QueryPrecision) -> BoundedSq<W> {
        BoundedSq { precision, ..self }
    }

    /// The least head, no smaller than `head`, whose rows are whole cache lines. It may be more than there are
    /// coordinates.
    pub fn rows_of_whole_lines(head: usize) -> usize {
        whole_lines::<W>(head, TRAILER)
    }

    /// The rotation of vectors and queries.
    pub fn rotation(&self) -> &Rotation {
        &self.rotation
    }

    /// Coordinates that are encoded.
    pub fn head(&self) -> usize {
        self.head
    }

    /// Encodes consecutive vectors into consecutive rows on all threads.
    ///
    /// # Panics
    /// When the slices are not as many whole vectors and rows.
    pub fn encode_rows(&self, vectors: &[f32], rows: &mut [u8]) {
        encode_rows(&self.rotation, vectors, rows, self.code_bytes(), |vector, rotated, fit, row| {
            self.write(vector, rotated, fit, row);
        });
    }

    fn write(&self, vector: &[f32], rotated: &[f32], fit: &mut Fit, row: &mut [u8]) {
        let (head, tail) = rotated.split_at(self.head);
        fit.fit::<W>(head);
        // ‖c‖² is a whole number, exact in double precision.
        let code_norm = widened(f64::from(fit.scale) * fit.square.sqrt());
        let residual = widened(fit.residual_square::<W>(head).sqrt());
        let tail = norm(tail);
        let length = squared_norm(&self.rotation, vector).sqrt().min(f64::from(f32::MAX)) as f32;

        row.fill(0);
        W::pack(&fit.levels, &mut row[..W::code_bytes(self.head)]);
        let at = row.len() - TRAILER;
        let trailer = [fit.scale, length, upper_f32(code_norm), upper_f32(residual), upper_f32(tail)];
        for (bytes, value) in row[at..].chunks_exact_mut(4).zip(trailer) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
    }
}

impl<W: Width> Quantizer for BoundedSq<W> {
    type Query<'a> = BoundedQuery;

    fn dim(&self) -> usize {
        self.rotation.dim()
    }

    fn code_bytes(&self) -> usize {
        (W::code_bytes(self.head) + TRAILER).next_multiple_of(8)
    }

    fn encode(&self, vector: &[f32], code: &mut [u8]) {
        assert_eq!(code.len(), self.code_bytes(), "a row of {} bytes", self.code_bytes());
        self.write(vector, &rotated(&self.rotation, vector), &mut Fit::default(), code);
    }

    fn decode(&self, code: &[u8], vector: &mut [f32]) {
        assert_eq!(code.len(), self.code_bytes(), "a row of {} bytes", self.code_bytes());
        decode::<W>(&self.rotation, self.head, code, read_f32(code, code.len() - TRAILER), vector);
    }

    /// # Panics
    /// Also under Manhattan, which no rotation keeps, and under DotProduct and Cosine when the rotation has a
    /// [`centre`](Rotation::centre).
    fn query(&self, metric: Metric, query: &[f32]) -> BoundedQuery {
        BoundedQuery::new(self, metric, query)
    }
}

/// A norm, widened; infinite when it is not finite.
fn widened(norm: f64) -> f64 {
    let norm = norm * (1.0 + WIDEN);
    if norm.is_finite() { norm } else { f64::INFINITY }
}

/// The norm of values, widened.
fn norm(values: &[f32]) -> f64 {
    widened(square(values, None).sqrt())
}

/// The least `f32` that is no less.
fn upper_f32(value: f64) -> f32 {
    let nearest = value as f32;
    if f64::from(nearest) < value { nearest.next_up() } else { nearest }
}

/// The greatest `f32` that is no greater.
fn lower_f32(value: f64) -> f32 {
    let nearest = value as f32;
    if f64::from(nearest) > value { nearest.next_down() } else { nearest }
}

/// A query of [`BoundedSq`] codes.
///
/// Distances are comparable ones, as for [`CodeQuery`]; DotProduct and Cosine mean the negated product of the query,
/// as it was given, with the vector as it was encoded.
#[derive(Debug, Clone)]
pub struct BoundedQuery {
    integers: IntegerQuery,
    euclidean: bool,
    /// U, both ways.
    least_length: f64,
    length: f64,
    /// ‖p_h‖², ‖p_h − p̂‖ and ‖p_t‖, all rounded up.
    head_squared: f64,
    head_error: f64,
    tail: f64,
    /// Slack: this · V + that.
    slack_per_length: f64,
    slack: f64,
}

impl BoundedQuery {
    fn new<W: Width>(quantizer: &BoundedSq<W>, metric: Metric, query: &[f32]) -> BoundedQuery {
        let rotation = &quantizer.rotation;
        assert_metric(rotation, metric);
        let rotated = rotated(rotation, query);
        let (head, tail) = rotated.split_at(quantizer.head);
        let (integers, represented) =
            IntegerQuery::new::<W>(head, quantizer.precision, quantizer.code_bytes());
        let head_norm = norm(head);
        // The represented values are products rounded in double precision: 2⁻⁵³ relative each.
        let errors = head.iter().zip(&represented).map(|(&p, k)| f64::from(p) - k);
        let head_error = widened(errors.map(|error| error * error).sum::<f64>().sqrt()) + head_norm * 1e-14;
        let length = squared_norm(rotation, query).sqrt();
        let (least_length, length) = (length * (1.0 - WIDEN), length * (1.0 + WIDEN));
        let s = rotation.slack();
        let usable = s.defect <= 0.01 && s.relative <= 0.01;
        let relative = if usable { s.defect + 2.03 * s.relative + 8e-8 } else { f64::INFINITY };
        // (κ + 2.03ε) UV + 1.1a (U + V + a) + 8·10⁻⁸ (U + a)(V + a) + 2⁻¹³³ (U + a), by powers of V.
        let a = s.absolute;
        BoundedQuery {
            integers,
            euclidean: metric == Metric::Euclidean,
            least_length,
            length,
            head_squared: head_norm * head_norm * (1.0 + WIDEN),
            head_error,
            tail: norm(tail),
            slack_per_length: relative * length + 1.2 * a,
            slack: 1.2 * a * (length + a) + 2_f64.powi(-133) * (length + a),
        }
    }

    /// Bounds on the distances to consecutive rows: `lower[i] ≤ true distance to row i ≤ upper[i]`, for the distance
    /// in exact arithmetic between the vectors as they were given.
    ///
    /// # Panics
    /// When `codes` is not `lower.len()` whole rows, or `lower` and `upper` differ in length.
    pub fn bounds(&self, codes: &[u8], lower: &mut [f32], upper: &mut [f32]) {
        assert_eq!(lower.len(), upper.len(), "as many lower bounds as upper ones");
        self.integers.consecutive(codes, lower.len(), |i, row, product| {
            (lower[i], upper[i]) = self.bound(row, product);
        });
    }

    /// The same for the rows with these numbers.
    ///
    /// # Panics
    /// When a row is not in `codes`, or the lengths of `rows`, `lower` and `upper` differ.
    pub fn gather_bounds(&self, codes: &[u8], rows: &[u32], lower: &mut [f32], upper: &mut [f32]) {
        assert_eq!(lower.len(), upper.len(), "as many lower bounds as upper ones");
        assert_eq!(lower.len(), rows.len(), "as many bounds as rows");
        self.integers.picked(codes, rows, |i, row, product| {
            (lower[i], upper[i]) = self.bound(row, product);
        });
    }

    #[inline(always)]
    fn bound(&self, row: &[u8], product: i64) -> (f32, f32) {
        let row = Row::read(row);
        let estimate = self.integers.step * row.scale * product as f64;
        let margin = f64::from(f32::EPSILON) * row.length + f64::from(f32::from_bits(1));
        let (least, most) = (row.length - margin, row.length + margin);
        let (least, most) = (
            least.max(0.0),
            // A norm that does not fit is stored as the greatest number that does.
            if row.length >= f64::from(f32::MAX) { f64::INFINITY } else { most },
        );

        // ‖z‖ is rounded up, so this is no more than the length along z.
        let along = if row.code > 0.0 {
            (estimate.abs() / row.code * (1.0 - WIDEN) - self.head_error).max(0.0)
        } else {
            0.0
        };
        let across = (self.head_squared - along * along).max(0.0).sqrt();
        let width = self.head_error * row.code
            + across * row.residual
            + self.tail * row.tail
            + self.slack_per_length * most
            + self.slack;
        let width = width * (1.0 + WIDEN) + 1e-12 * self.length * most;
        // Not a number: an infinite norm met a zero.
        let width = if width.is_nan() { f64::INFINITY } else { width };
        // `min` and `max` pass over a product that is not a number.
        let greatest = self.length * most * (1.0 + WIDEN);
        let (low, high) = ((estimate - width).max(-greatest), (estimate + width).min(greatest));
        if !self.euclidean {
            return (lower_f32(-high), upper_f32(-low));
        }
        let rounding = 1e-12 * (self.length + most) * (self.length + most);
        let lower = self.least_length * self.least_length + least * least - 2.0 * high - rounding;
        let upper = self.length * self.length + most * most - 2.0 * low + rounding;
        (lower_f32(lower.max(0.0)), upper_f32(upper))
    }

    #[inline(always)]
    fn estimate(&self, row: &[u8], product: i64) -> f32 {
        let row = Row::read(row);
        let product = self.integers.step * row.scale * product as f64;
        if self.euclidean {
            (self.length * self.length + row.length * row.length - 2.0 * product).max(0.0) as f32
        } else {
            -product as f32
        }
    }
}

/// A row's trailer.
struct Row {
    scale: f64,
    length: f64,
    code: f64,
    residual: f64,
    tail: f64,
}

impl Row {
    #[inline(always)]
    fn read(row: &[u8]) -> Row {
        let at = row.len() - TRAILER;
        let number = |i: usize| f64::from(read_f32(row, at + 4 * i));
        Row { scale: number(0), length: number(1), code: number(2), residual: number(3), tail: number(4) }
    }
}

impl CodeQuery for BoundedQuery {
    fn distances(&self, codes: &[u8], out: &mut [f32]) {
        self.integers.consecutive(codes, out.len(), |i, row, product| out[i] = self.estimate(row, product));
    }

    fn gather(&self, codes: &[u8], rows: &[u32], out: &mut [f32]) {
        assert_eq!(rows.len(), out.len(), "as many distances as rows");
        self.integers.picked(codes, rows, |i, row, product| out[i] = self.estimate(row, product));
    }
}
