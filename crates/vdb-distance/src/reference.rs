//! The naive loops in double precision: obviously right, never optimised. Every kernel is tested against
//! these, and the fast paths fall back on them where single precision overflows or underflows.
//! A product of two `f32` values is exact in `f64`, so only the additions round here.

/// Sum of products.
///
/// # Panics
/// If the lengths differ.
pub fn dot(a: &[f32], b: &[f32]) -> f64 {
    sum(a, b, |x, y| x * y)
}

/// Sum of squared differences.
///
/// # Panics
/// If the lengths differ.
pub fn l2_squared(a: &[f32], b: &[f32]) -> f64 {
    sum(a, b, |x, y| (x - y) * (x - y))
}

/// Sum of absolute differences.
///
/// # Panics
/// If the lengths differ.
pub fn l1(a: &[f32], b: &[f32]) -> f64 {
    sum(a, b, |x, y| (x - y).abs())
}

/// Cosine similarity in `[-1, 1]`; 0 if either vector is all zeros.
///
/// # Panics
/// If the lengths differ.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let (norm_a, norm_b) = (dot(a, a).sqrt(), dot(b, b).sqrt());
    if norm_a == 0.0 || norm_b == 0.0 {
        return 0.0;
    }
    (dot(a, b) / (norm_a * norm_b)).clamp(-1.0, 1.0)
}

fn sum(a: &[f32], b: &[f32], term: impl Fn(f64, f64) -> f64) -> f64 {
    assert_eq!(a.len(), b.len(), "vectors have different lengths");
    let mut total = 0.0;
    for (&x, &y) in a.iter().zip(b) {
        total += term(f64::from(x), f64::from(y));
    }
    total
}
