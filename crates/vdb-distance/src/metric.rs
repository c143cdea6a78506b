//! The metrics a collection may use, their values, and [`Distance`]: one ordering for all of them in which
//! smaller is closer. Single precision is used while the squares stay inside [`square_is_ordinary`]'s range;
//! outside it the answer is computed again in double precision, so that very long and very short vectors are
//! compared correctly too.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use crate::dispatch::{dot, l1, l2_squared};
use crate::reference;

/// How two vectors are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metric {
    /// Straight-line distance, the square root of the sum of squared differences.
    Euclidean,
    /// Cosine of the angle between the vectors: a similarity.
    Cosine,
    /// Sum of products: a similarity.
    DotProduct,
    /// Sum of absolute differences.
    Manhattan,
}

impl Metric {
    /// The metric's natural value: a distance for Euclidean and Manhattan, a similarity for the other two.
    /// Cosine similarity is 0 if either vector is all zeros.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn calculate(self, a: &[f32], b: &[f32]) -> f32 {
        match self {
            Metric::Euclidean => euclidean(a, b),
            Metric::Cosine => cosine(a, b),
            Metric::DotProduct => dot(a, b),
            Metric::Manhattan => l1(a, b),
        }
    }

    /// Whether a larger value of [`Metric::calculate`] means closer.
    pub fn is_similarity(self) -> bool {
        matches!(self, Metric::Cosine | Metric::DotProduct)
    }

    /// The canonical name, one that [`Metric::from_str`] reads back.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Euclidean => "euclidean",
            Metric::Cosine => "cosine",
            Metric::DotProduct => "dot",
            Metric::Manhattan => "manhattan",
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Metric {
    type Err = ParseMetricError;

    /// Reads a canonical name or one of the usual short forms, in any case.
    fn from_str(text: &str) -> Result<Metric, ParseMetricError> {
        match text.to_ascii_lowercase().as_str() {
            "euclidean" | "l2" => Ok(Metric::Euclidean),
            "cosine" | "cos" => Ok(Metric::Cosine),
            "dot" | "ip" | "dot-product" | "dotproduct" => Ok(Metric::DotProduct),
            "manhattan" | "l1" => Ok(Metric::Manhattan),
            _ => Err(ParseMetricError { text: text.to_owned() }),
        }
    }
}

/// A name that is no metric's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseMetricError {
    text: String,
}

impl fmt::Display for ParseMetricError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "unknown metric {:?}: expected euclidean (l2), cosine (cos), dot (ip, dot-product, dotproduct) \
             or manhattan (l1)",
            self.text
        )
    }
}

impl std::error::Error for ParseMetricError {}

/// How far apart two vectors are: smaller is closer, the same meaning for every metric.
///
/// Holds the value itself for Euclidean and Manhattan, and the negated value for cosine and dot product.
/// It is never NaN and never negative zero, so equality and order agree with those of the numbers.
#[derive(Clone, Copy, Debug)]
pub struct Distance(f32);

impl Distance {
    /// Farther than any finite distance.
    pub const INFINITY: Distance = Distance(f32::INFINITY);
    /// The greatest distance there is, [`Distance::INFINITY`].
    pub const MAX: Distance = Distance::INFINITY;

    /// The distance for a value of [`Metric::calculate`]. NaN becomes [`Distance::INFINITY`].
    #[inline]
    pub fn from_value(metric: Metric, value: f32) -> Distance {
        Distance::from_raw(if metric.is_similarity() { -value } else { value })
    }

    /// The distance with this number, smaller meaning closer. NaN becomes [`Distance::INFINITY`].
    #[inline]
    pub fn from_raw(raw: f32) -> Distance {
        // Adding +0.0 turns -0.0 into +0.0 and changes no other number.
        if raw.is_nan() { Distance::INFINITY } else { Distance(raw + 0.0) }
    }

    /// The number: smaller is closer.
    #[inline]
    pub fn get(self) -> f32 {
        self.0
    }

    /// Back to what [`Metric::calculate`] returned.
    #[inline]
    pub fn value(self, metric: Metric) -> f32 {
        if metric.is_similarity() { self.similarity() } else { self.0 }
    }

    /// The negated number: larger is closer. Never negative zero.
    #[inline]
    pub fn similarity(self) -> f32 {
        0.0 - self.0
    }
}

impl PartialEq for Distance {
    #[inline]
    fn eq(&self, other: &Distance) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Distance {}

impl PartialOrd for Distance {
    #[inline]
    fn partial_cmp(&self, other: &Distance) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Distance {
    #[inline]
    fn cmp(&self, other: &Distance) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Euclidean distance. `l2_squared(a, b).sqrt()` where that square is ordinary, double precision elsewhere.
///
/// # Panics
/// If the lengths differ.
pub fn euclidean(a: &[f32], b: &[f32]) -> f32 {
    let squared = l2_squared(a, b);
    if square_is_ordinary(squared) { squared.sqrt() } else { reference::l2_squared(a, b).sqrt() as f32 }
}

/// Length of a vector. It is 0 for a vector of zeros only: squares that would underflow or overflow are
/// summed in double precision.
pub fn norm(x: &[f32]) -> f32 {
    let squared = dot(x, x);
    if square_is_ordinary(squared) { squared.sqrt() } else { reference::dot(x, x).sqrt() as f32 }
}

/// Cosine similarity in `[-1, 1]`; 0 if either vector is all zeros.
///
/// # Panics
/// If the lengths differ.
pub fn cosine(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "vectors have different lengths");
    let (norm_a, norm_b) = (norm(a), norm(b));
    if norm_a == 0.0 || norm_b == 0.0 {
        return 0.0;
    }
    if norm_is_ordinary(norm_a) && norm_is_ordinary(norm_b) {
        cosine_from_parts(dot(a, b), norm_a, norm_b)
    } else {
        reference::cosine(a, b) as f32
    }
}

/// Cosine similarity of two vectors whose dot product and [`norm`]s are known.
///
/// Equal to [`cosine`] bit for bit when [`norm_is_ordinary`] holds for both norms, or when either is 0.
#[inline]
pub fn cosine_from_parts(dot: f32, norm_a: f32, norm_b: f32) -> f32 {
    if norm_a == 0.0 || norm_b == 0.0 {
        return 0.0;
    }
    (dot / (norm_a * norm_b)).clamp(-1.0, 1.0)
}

/// Whether arithmetic on this [`norm`] in single precision neither overflows nor loses digits to underflow.
#[inline]
pub fn norm_is_ordinary(norm: f32) -> bool {
    (1e-15..=1e15).contains(&norm)
}

/// The same for a squared norm or a squared distance: whether its square root may be taken as it is.
#[inline]
pub fn square_is_ordinary(squared: f32) -> bool {
    (1e-30..=1e30).contains(&squared)
}

#[cfg(test)]
mod tests;
