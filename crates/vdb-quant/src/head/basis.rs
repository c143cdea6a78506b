//! The orthonormal directions that heads are taken in, and the slack that pays for every rounding.

use super::query::QueryLengths;
use super::{HeadQuery, HeadRow, ranges, round_up};
use vdb_distance::{AlignedVec, Kernels, Metric, dot, norm, norm_is_ordinary};

/// A centre and m orthonormal directions.
///
/// Under Cosine vectors are normalised before they are centred, so that distances are those of the unit sphere.
#[derive(Debug, Clone)]
pub struct HeadBasis {
    metric: Metric,
    center: Vec<f32>,
    /// m rows of d values.
    directions: AlignedVec<f32>,
    m: usize,
    /// How far a head, and the length of a tail, can be off per ‖x‖ + ‖μ‖.
    slack: f32,
}

impl HeadBasis {
    /// A basis of `directions.len() / center.len()` directions, which should be orthonormal.
    ///
    /// The slack is derived from how far they are from it. With B the matrix of directions, ‖B·Bᵀ − I‖ ≤ η (Frobenius)
    /// and U = (B·Bᵀ)^(−½)·B, whose rows are orthonormal, ‖Bx − Ux‖ ≤ η‖x‖ for η ≤ ¼. A coordinate computed in f32 is
    /// off by γ‖x‖ at most, γ = (d/128 + 6)·2⁻²³ (`vdb_distance`'s bound), so a head by √m·γ‖x‖. Centring rounds every
    /// coordinate once more, scaling to length one under Cosine is off by γ: relative to ‖x‖ + ‖μ‖, all of it is below
    /// slack = 2η + 4√m·γ + 64·2⁻²³, with room for the γ‖q‖‖x‖ of an inner product computed in f32. The difference
    /// ‖x‖² − ‖Bx‖² that a tail's length is made of keeps all of a relative error: its slack is on it before the root,
    /// in `tail`.
    ///
    /// # Panics
    /// When `metric` is Manhattan, lengths do not fit, or the directions are not orthonormal within 1 %.
    pub fn new(metric: Metric, center: Vec<f32>, directions: &[f32]) -> Self {
        assert!(metric != Metric::Manhattan, "no inner product bounds a Manhattan distance");
        let whole = directions.len().is_multiple_of(center.len()) && !directions.is_empty();
        assert!(whole, "{} values are no directions of {} dimensions", directions.len(), center.len());
        Self::try_new(metric, center, directions).expect("the caller's directions are orthonormal")
    }

    /// As [`new`](Self::new), for directions that may not be what they should.
    ///
    /// # Errors
    /// When a value is not finite, or the directions are not orthonormal within 1 %.
    ///
    /// # Panics
    /// When lengths do not fit.
    pub fn try_new(metric: Metric, center: Vec<f32>, directions: &[f32]) -> Result<Self, String> {
        let dim = center.len();
        let m = directions.len() / dim;
        let eta = orthogonality_defect(directions, dim);
        if eta.is_nan() || eta >= 0.01 || center.iter().any(|value| !value.is_finite()) {
            return Err(format!("the directions are {eta} away from orthonormal, expected less than 0.01"));
        }
        let gamma = (dim as f64 / 128.0 + 6.0) * f64::from(f32::EPSILON);
        let slack = 2.0 * eta + 4.0 * (m as f64).sqrt() * gamma + 64.0 * f64::from(f32::EPSILON);
        Ok(Self { metric, center, directions: AlignedVec::from(directions), m, slack: slack as f32 })
    }

    /// Coordinates of a head.
    pub fn m(&self) -> usize {
        self.m
    }

    /// The centre and the directions, as [`new`](Self::new) takes them.
    pub fn parts(&self) -> (&[f32], &[f32]) {
        (&self.center, &self.directions)
    }

    /// Heap bytes held.
    pub fn bytes(&self) -> usize {
        self.directions.bytes() + self.center.capacity() * 4
    }

    /// The row of a vector.
    pub fn encode(&self, vector: &[f32]) -> HeadRow {
        let Some(placed) = self.place(vector, true) else { return HeadRow::unbounded(self.m) };
        HeadRow::new(&placed.head, placed.tail, round_up(f64::from(placed.square).sqrt()))
    }

    /// The row of a vector, and that of eight-bit codes, as [`FineHeadCodes`](super::FineHeadCodes) takes it.
    pub fn encode_both(&self, vector: &[f32]) -> (HeadRow, HeadRow) {
        let Some(placed) = self.place(vector, true) else {
            return (HeadRow::unbounded(self.m), HeadRow::unbounded(self.m));
        };
        let norm = round_up(f64::from(placed.square).sqrt());
        (HeadRow::new(&placed.head, placed.tail, norm), HeadRow::fine(&placed.head, placed.tail, norm))
    }

    /// Prepares a query; `None` when its values are too large or too small to bound anything with.
    pub fn query(&self, vector: &[f32]) -> Option<HeadQuery> {
        let is_dot = self.metric == Metric::DotProduct;
        let placed = self.place(vector, !is_dot)?;
        // Rows are centred, so ⟨q, x⟩ = ⟨q, x − μ⟩ + ⟨q, μ⟩.
        let offset = if is_dot { -dot(vector, &self.center) } else { 0.0 };
        let lengths = QueryLengths {
            norm: placed.square.sqrt(),
            tail: placed.tail,
            offset,
            center_norm: norm(&self.center),
            slack: self.slack,
        };
        Some(HeadQuery::new(self.metric, &placed.head, lengths))
    }

    fn place(&self, vector: &[f32], centred: bool) -> Option<Placed> {
        assert_eq!(vector.len(), self.center.len(), "dimension of a vector");
        let length = norm(vector);
        if length != 0.0 && !norm_is_ordinary(length) {
            return None;
        }
        let scale = if self.metric == Metric::Cosine && length > 0.0 { 1.0 / length } else { 1.0 };
        let moved: Vec<f32> = if centred {
            vector.iter().zip(&self.center).map(|(value, center)| value * scale - center).collect()
        } else {
            vector.to_vec()
        };
        let square = dot(&moved, &moved);
        let ordinary = norm_is_ordinary(square.sqrt()) || square == 0.0;
        let mut head = vec![0.0; self.m];
        Kernels::get().dot_rows(&moved, &self.directions, self.center.len(), 0, &mut head);
        let tail = self.tail(square, &head);
        ordinary.then_some(Placed { head, square, tail })
    }

    /// Lower and upper bound of the length outside the head's span.
    fn tail(&self, square: f32, head: &[f32]) -> (f32, f32) {
        let inside: f64 = head.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
        let square = f64::from(square);
        let (tail, error) = ((square - inside).max(0.0), 2.0 * f64::from(self.slack) * square);
        ranges::interval((tail - error).max(0.0).sqrt(), (tail + error).sqrt())
    }
}

struct Placed {
    head: Vec<f32>,
    square: f32,
    tail: (f32, f32),
}

/// ‖B·Bᵀ − I‖ in the Frobenius norm.
fn orthogonality_defect(directions: &[f32], dim: usize) -> f64 {
    let rows: Vec<&[f32]> = directions.chunks_exact(dim).collect();
    let mut sum = 0.0;
    for (i, a) in rows.iter().enumerate() {
        for (j, b) in rows.iter().enumerate().take(i + 1) {
            let product: f64 = a.iter().zip(*b).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
            let defect = product - f64::from(u8::from(i == j));
            sum += defect * defect * if i == j { 1.0 } else { 2.0 };
        }
    }
    sum.sqrt()
}
