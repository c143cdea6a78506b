//! Scalar quantization: every leading coordinate of a rotated vector becomes an integer of 8 or 4 bits, with one
//! scale per vector, and products with a query become products of integers.
//!
//! For the head y of a rotated vector (its first `head` coordinates) the code is integers c, and z = s·c stands for
//! y. The step with which y is rounded to c is the best of a few clippings, that with the smallest angle between c and
//! y (as RaBitQ chooses its step: Gao and others, SIGMOD 2025); the scale is then that of least squares,
//! s = ⟨y, c⟩ / ⟨c, c⟩, so the residual y − z is orthogonal to z. Smallest angle and smallest residual are the same
//! choice, as ‖y − z‖² = ‖y‖² − ⟨y, c⟩² / ⟨c, c⟩.
//!
//! A row is the code bytes, zeros, and at its very end eight bytes: the scale and the squared norm of the *whole*
//! vector (after the rotation's centre is subtracted), both little-endian `f32`. Rows are a multiple of eight bytes;
//! they are whole cache lines where [`Sq::rows_of_whole_lines`] says so.
//!
//! The invariant: estimates use integers until the very end and one order of operations in double precision, so they
//! are the same on every instruction set, given the same rotated query.

mod bounded;
mod fit;
mod query;
mod sq4;
mod sq8;
#[cfg(test)]
mod tests;

use rayon::prelude::*;
use vdb_distance::Metric;

use crate::{MAX_CODE_BYTES, Quantizer, QueryCodes, Rotation};

pub use bounded::{BoundedQuery, BoundedSq, BoundedSq4, BoundedSq8};
pub use query::{QueryPrecision, SqQuery};
pub use sq4::{Four, Sq4};
pub use sq8::{Eight, Sq8};

pub(crate) use fit::Fit;

/// Bytes of a row that are not code: scale and squared norm.
const TRAILER: usize = 8;
/// A cache line.
const LINE: usize = 64;

/// The width of a code's integers: [`Eight`] or [`Four`] bits.
pub trait Width: sealed::Sealed + Copy + Send + Sync + std::fmt::Debug + 'static {
    /// Integers that a code byte holds.
    const PER_BYTE: usize;
    /// A stored level `u` stands for `MULTIPLIER · u − OFFSET`.
    const MULTIPLIER: i32;
    /// See [`MULTIPLIER`](Self::MULTIPLIER).
    const OFFSET: i32;
    /// The greatest integer that a level stands for; its negative is the least.
    const GREATEST: i32;
    /// Clippings to try: the value, as a share of the greatest one in the vector, that the greatest integer stands
    /// for.
    const CLIPS: &'static [f32];

    /// Bytes of a code of `head` integers.
    fn code_bytes(head: usize) -> usize {
        head.div_ceil(Self::PER_BYTE)
    }

    /// Writes levels into a code.
    fn pack(levels: &[u8], code: &mut [u8]);
    /// Reads a code's levels.
    fn unpack(code: &[u8], levels: &mut [u8]);
    /// Lays query parts of as many values as a code has levels out like the code.
    fn query(parts: &[&[i8]]) -> QueryCodes;
}

mod sealed {
    /// Widths that kernels exist for.
    pub trait Sealed {}
}

/// A scalar quantizer over the first `head` coordinates of rotated vectors.
#[derive(Debug, Clone)]
pub struct Sq<W: Width> {
    rotation: Rotation,
    head: usize,
    precision: QueryPrecision,
    width: std::marker::PhantomData<W>,
}

impl<W: Width> Sq<W> {
    /// Codes of all coordinates of vectors that are rotated first, or not ([`Rotation::identity`]).
    pub fn new(rotation: Rotation) -> Sq<W> {
        let head = rotation.output_dim();
        Sq::with_head(rotation, head)
    }

    /// Codes of the first `head` coordinates of rotated vectors. The rest is left out: estimates of products leave
    /// its part out, estimates of Euclidean distances take its norm into account but not its direction.
    ///
    /// # Panics
    /// When `head` is 0 or more than the rotation's [`output_dim`](Rotation::output_dim).
    pub fn with_head(rotation: Rotation, head: usize) -> Sq<W> {
        assert!((1..=rotation.output_dim()).contains(&head), "a head of {head} of {}", rotation.output_dim());
        assert!(W::code_bytes(head) <= MAX_CODE_BYTES, "a head of {head} values");
        Sq { rotation, head, precision: QueryPrecision::Bits8, width: std::marker::PhantomData }
    }

    /// The same codes, read with queries of another precision.
    #[must_use]
    pub fn with_query_precision(self, precision: QueryPrecision) -> Sq<W> {
        Sq { precision, ..self }
    }

    /// The least head, no smaller than `head`, whose rows are whole cache lines: 64 j − 8 code bytes. It may be more
    /// than there are coordinates; then take the next smaller one, that of `head - 128`, or live with rows that
    /// straddle.
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

    /// Encodes consecutive vectors into consecutive rows on all threads; each row equals that of
    /// [`encode`](Quantizer::encode).
    ///
    /// # Panics
    /// When the slices are not as many whole vectors and rows.
    pub fn encode_rows(&self, vectors: &[f32], rows: &mut [u8]) {
        encode_rows(&self.rotation, vectors, rows, self.code_bytes(), |vector, rotated, fit, row| {
            self.write(vector, rotated, fit, row);
        });
    }

    fn write(&self, vector: &[f32], rotated: &[f32], fit: &mut Fit, row: &mut [u8]) {
        let code_bytes = W::code_bytes(self.head);
        fit.fit::<W>(&rotated[..self.head]);
        row[code_bytes..].fill(0);
        W::pack(&fit.levels, &mut row[..code_bytes]);
        let squared = squared_norm(&self.rotation, vector).min(f64::from(f32::MAX)) as f32;
        let at = row.len() - TRAILER;
        row[at..at + 4].copy_from_slice(&fit.scale.to_le_bytes());
        row[at + 4..].copy_from_slice(&squared.to_le_bytes());
    }
}

impl<W: Width> Quantizer for Sq<W> {
    type Query<'a> = SqQuery;

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

    fn encode_all(&self, vectors: &[f32], codes: &mut [u8]) {
        self.encode_rows(vectors, codes);
    }

    fn decode(&self, code: &[u8], vector: &mut [f32]) {
        assert_eq!(code.len(), self.code_bytes(), "a row of {} bytes", self.code_bytes());
        let scale = read_f32(code, code.len() - TRAILER);
        decode::<W>(&self.rotation, self.head, code, scale, vector);
    }

    /// # Panics
    /// Also under Manhattan, which no rotation keeps, and under DotProduct and Cosine when the rotation has a
    /// [`centre`](Rotation::centre).
    fn query(&self, metric: Metric, query: &[f32]) -> SqQuery {
        SqQuery::new(self, metric, query)
    }
}

/// The least head, no smaller than `head`, for which code and trailer are whole cache lines.
fn whole_lines<W: Width>(head: usize, trailer: usize) -> usize {
    let bytes = (W::code_bytes(head) + trailer).next_multiple_of(LINE) - trailer;
    bytes * W::PER_BYTE
}

fn assert_metric(rotation: &Rotation, metric: Metric) {
    match metric {
        Metric::Euclidean => {}
        Metric::DotProduct | Metric::Cosine => {
            assert!(
                rotation.centre().is_none(),
                "products with vectors are lost once a centre is subtracted"
            );
        }
        Metric::Manhattan => panic!("scalar codes of rotated vectors do not know Manhattan distances"),
    }
}

fn rotated(rotation: &Rotation, vector: &[f32]) -> Vec<f32> {
    let mut output = vec![0.0; rotation.output_dim()];
    rotation.apply(vector, &mut output);
    output
}

/// The squared norm of a vector less the centre, in double precision: differences of `f32` values are off by half a
/// unit in the last place, and the sum by less than n · 2⁻⁵³ relative.
fn squared_norm(rotation: &Rotation, vector: &[f32]) -> f64 {
    fit::square(vector, rotation.centre())
}

fn encode_rows(
    rotation: &Rotation,
    vectors: &[f32],
    rows: &mut [u8],
    row_bytes: usize,
    write: impl Fn(&[f32], &[f32], &mut Fit, &mut [u8]) + Sync,
) {
    /// Vectors that are rotated together: few enough to stay in the second-level cache.
    const BATCH: usize = 64;
    let (dim, output_dim) = (rotation.dim(), rotation.output_dim());
    assert!(vectors.len().is_multiple_of(dim), "{} values are not whole vectors of {dim}", vectors.len());
    assert!(rows.len().is_multiple_of(row_bytes), "{} bytes are not whole rows", rows.len());
    assert_eq!(vectors.len() / dim, rows.len() / row_bytes, "as many rows as vectors");
    let batches = vectors.par_chunks(BATCH * dim).zip(rows.par_chunks_mut(BATCH * row_bytes));
    batches.for_each_init(<(Vec<f32>, Fit)>::default, |(rotated, fit), (vectors, rows)| {
        rotated.resize(vectors.len() / dim * output_dim, 0.0);
        rotation.apply_rows(vectors, rotated);
        let vectors = vectors.chunks_exact(dim).zip(rotated.chunks_exact(output_dim));
        for ((vector, rotated), row) in vectors.zip(rows.chunks_exact_mut(row_bytes)) {
            write(vector, rotated, fit, row);
        }
    });
}

fn decode<W: Width>(rotation: &Rotation, head: usize, code: &[u8], scale: f32, vector: &mut [f32]) {
    let mut levels = vec![0; head];
    W::unpack(&code[..W::code_bytes(head)], &mut levels);
    let mut rotated = vec![0.0; rotation.output_dim()];
    for (value, &level) in rotated.iter_mut().zip(&levels) {
        *value = scale * integer::<W>(level) as f32;
    }
    rotation.apply_inverse(&rotated, vector);
}

/// The integer that a level stands for.
#[inline(always)]
fn integer<W: Width>(level: u8) -> i32 {
    W::MULTIPLIER * i32::from(level) - W::OFFSET
}

fn read_f32(bytes: &[u8], at: usize) -> f32 {
    f32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}
