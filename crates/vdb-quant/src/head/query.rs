//! A query as the kernels read it: sixteen-bit integers of its head in two planes, and the constants of the bound.

use super::LINE_COORDINATES;
use vdb_distance::Metric;

/// The largest magnitude of a query's integer: 128 · 127 + 63, so that both planes fit `i8`.
const MAX_INTEGER: f32 = 16_319.0;

/// A query prepared by [`HeadBasis::query`](super::HeadBasis::query).
#[derive(Debug, Clone)]
pub struct HeadQuery {
    /// Per line: eight values of the high plane, then eight of the low one; the integer is 128 · high + low.
    pub(super) planes: Vec<[i8; 2 * LINE_COORDINATES]>,
    /// 15 times the sum of the integers: what turns codes 0..15 into c = 2 · code − 15.
    pub(super) correction: i32,
    pub(super) constants: Constants,
}

/// The bound as one formula for every metric, with ⟨q, x⟩ ≤ up:
/// lower = offset + square_weight·‖x‖² − product_weight·up − slack.
#[derive(Debug, Clone, Copy)]
pub(super) struct Constants {
    /// The value of one unit of the query's integers.
    pub(super) unit: f32,
    /// ‖q_h − q̂_h‖.
    pub(super) delta: f32,
    /// ‖q_h‖², rounded up.
    pub(super) head_square: f32,
    /// ‖q_t‖, rounded up.
    pub(super) tail: f32,
    pub(super) offset: f32,
    pub(super) square_weight: f32,
    pub(super) product_weight: f32,
    /// slack = slack_square·‖x‖² + slack_norm·‖x‖ + slack_constant.
    pub(super) slack_square: f32,
    pub(super) slack_norm: f32,
    pub(super) slack_constant: f32,
}

impl HeadQuery {
    pub(super) fn new(
        metric: Metric,
        head: &[f32],
        square: f32,
        tail: f32,
        offset: f32,
        center_norm: f32,
        slack: f32,
    ) -> Self {
        let largest = head.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let unit = if largest == 0.0 { 0.0 } else { largest / MAX_INTEGER };
        let per_unit = if largest == 0.0 { 0.0 } else { MAX_INTEGER / largest };
        let integers: Vec<i32> = head.iter().map(|value| (value * per_unit).round() as i32).collect();
        let delta: f64 = head
            .iter()
            .zip(&integers)
            .map(|(&value, &integer)| f64::from(value) - f64::from(unit) * f64::from(integer))
            .map(|difference| difference * difference)
            .sum();
        let head_square: f64 = head.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
        let planes = integers
            .chunks_exact(LINE_COORDINATES)
            .map(|line| {
                let mut planes = [0; 2 * LINE_COORDINATES];
                for (place, &integer) in line.iter().enumerate() {
                    let high = (integer + 64).div_euclid(128);
                    planes[place] = high as i8;
                    planes[LINE_COORDINATES + place] = (integer - 128 * high) as i8;
                }
                planes
            })
            .collect();
        let length = square.sqrt();
        let is_dot = metric == Metric::DotProduct;
        let product_weight = if is_dot { 1.0 } else { 2.0 };
        let constants = Constants {
            unit,
            delta: super::round_up(delta.sqrt()),
            head_square: super::round_up(head_square),
            tail,
            offset,
            square_weight: if is_dot { 0.0 } else { 1.0 },
            product_weight,
            slack_square: if is_dot { 0.0 } else { slack },
            slack_norm: product_weight * slack * length,
            // Centring rounds every coordinate of a row once: an absolute error by the centre's norm.
            slack_constant: slack * (square + product_weight * length * center_norm)
                + if is_dot { 0.0 } else { slack * center_norm * center_norm },
        };
        let correction = 15 * integers.iter().sum::<i32>();
        Self { planes, correction, constants }
    }

    pub(super) fn lines(&self) -> usize {
        self.planes.len()
    }
}
