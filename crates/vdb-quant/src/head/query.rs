//! A query as the kernels read it: sixteen-bit integers of its head in two planes, and the constants of the bound.

use super::{HeadRanges, LINE_COORDINATES, round_up};
use vdb_distance::Metric;

/// The largest magnitude of a query's integer: 128 · 127 + 63, so that both planes fit `i8`.
const MAX_INTEGER: f32 = 16_319.0;
/// How far 1/‖c‖ can be off, relative: half a step of at least 65,535 / 15, and a few roundings.
const INVERSE_ERROR: f32 = 1.2e-4;
/// Room for a few roundings of `f32`.
const FEW: f32 = 8.0 * f32::EPSILON;

/// A query prepared by [`HeadBasis::query`](super::HeadBasis::query).
#[derive(Debug, Clone)]
pub struct HeadQuery {
    /// Per line: eight values of the high plane, then eight of the low one; the integer is 128 · high + low.
    pub(super) planes: Vec<[i8; 2 * LINE_COORDINATES]>,
    /// The same integers one by one.
    pub(super) integers: Vec<i16>,
    /// The head by both planes, and by the high plane alone.
    pub(super) full: Rounded,
    pub(super) high: Rounded,
    is_dot: bool,
    lengths: QueryLengths,
}

/// A query's head as integers, q̂_h.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rounded {
    /// 15 times the sum of the integers: what turns codes 0..15 into c = 2 · code − 15.
    pub(super) correction: i32,
    /// The value of one unit of the integers.
    pub(super) unit: f32,
    /// ‖q_h − q̂_h‖, rounded up.
    delta: f32,
    /// ‖q̂_h‖².
    head_square: f32,
}

impl Rounded {
    fn new(head: &[f32], integers: &[i32], unit: f32) -> Self {
        let represented = || integers.iter().map(|&integer| f64::from(unit) * f64::from(integer));
        let delta: f64 =
            head.iter().zip(represented()).map(|(&value, q)| (f64::from(value) - q).powi(2)).sum();
        let head_square: f64 = represented().map(|q| q * q).sum();
        Self {
            correction: 15 * integers.iter().sum::<i32>(),
            unit,
            delta: round_up(delta.sqrt()),
            head_square: head_square as f32,
        }
    }
}

/// What a query has besides its head.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueryLengths {
    /// ‖q‖.
    pub(super) norm: f32,
    /// Lower and upper bound of ‖q_t‖.
    pub(super) tail: (f32, f32),
    /// −⟨q, μ⟩ under DotProduct.
    pub(super) offset: f32,
    /// ‖μ‖.
    pub(super) center_norm: f32,
    /// The basis' slack.
    pub(super) slack: f32,
}

/// The bound's constants for one collection of codes; see the module's head for the bound itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Constants {
    pub(super) is_dot: bool,
    /// What turns an integer product and steps of 1/‖c‖ into α.
    pub(super) unit: f32,
    /// ‖q̂_h‖², and what α² is weighed by, so that their difference is a lower bound of ‖q̂_⊥‖² (DotProduct: upper).
    pub(super) head_square: f32,
    pub(super) alpha_weight: f32,
    pub(super) along_step: f32,
    /// How far α and β can be off, and their sum.
    pub(super) alpha_error: f32,
    pub(super) beta_error: f32,
    pub(super) along_error: f32,
    pub(super) across_step: f32,
    /// How far ‖q̂_⊥‖ and ρ can be off.
    pub(super) across_error: f32,
    /// The same for ρ alone.
    pub(super) row_error: f32,
    pub(super) tail_step: f32,
    /// ‖q_t‖ less its error and less the width of a row's interval.
    pub(super) tail_low: f32,
    /// ‖q_t‖ and its error.
    pub(super) tail_high: f32,
    /// The width of a row's interval and its error, DotProduct only.
    pub(super) tail_width: f32,
    pub(super) offset: f32,
}

impl HeadQuery {
    pub(super) fn new(metric: Metric, head: &[f32], lengths: QueryLengths) -> Self {
        let largest = head.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let unit = if largest == 0.0 { 0.0 } else { largest / MAX_INTEGER };
        let per_unit = if largest == 0.0 { 0.0 } else { MAX_INTEGER / largest };
        let integers: Vec<i32> = head.iter().map(|value| (value * per_unit).round() as i32).collect();
        let high: Vec<i32> = integers.iter().map(|&integer| (integer + 64).div_euclid(128)).collect();
        let lines = integers.chunks_exact(LINE_COORDINATES).zip(high.chunks_exact(LINE_COORDINATES));
        let planes = lines
            .map(|(integers, high)| {
                let mut planes = [0; 2 * LINE_COORDINATES];
                for (place, (&integer, &high)) in integers.iter().zip(high).enumerate() {
                    planes[place] = high as i8;
                    planes[LINE_COORDINATES + place] = (integer - 128 * high) as i8;
                }
                planes
            })
            .collect();
        Self {
            planes,
            // At most 16,319 in size.
            integers: integers.iter().map(|&integer| integer as i16).collect(),
            full: Rounded::new(head, &integers, unit),
            high: Rounded::new(head, &high, 128.0 * unit),
            is_dot: metric == Metric::DotProduct,
            lengths,
        }
    }

    pub(super) fn lines(&self) -> usize {
        self.planes.len()
    }

    /// Errors are those of [`HeadBasis::new`](super::HeadBasis::new): a head, and so its part along or across any
    /// direction, is off by slack · (‖x‖ + ‖μ‖), and so is the length of a tail. `head` is one of the query's two.
    pub(super) fn constants(&self, head: &Rounded, ranges: &HeadRanges, m: usize) -> Constants {
        let QueryLengths { norm, tail, offset, center_norm, slack } = self.lengths;
        let query_error = slack * (norm + center_norm);
        let row_error = slack * (ranges.norm + center_norm);
        let head_norm = head.head_square.sqrt();
        let alpha_error = query_error + head.delta + INVERSE_ERROR * head_norm;
        let beta_error = row_error + 0.5 * ranges.along * (1.0 + FEW);
        let rounding = FEW * (head_norm + ranges.norm);
        // α² is weighed so that its own error works against us.
        let (sign, tail_error) = if self.is_dot {
            (-1.0, 0.0)
        } else {
            (1.0, query_error + row_error + FEW * (norm + ranges.norm))
        };
        Constants {
            is_dot: self.is_dot,
            unit: head.unit * HeadRanges::inverse_norm(m),
            head_square: head.head_square * (1.0 - sign * FEW),
            alpha_weight: 1.0 + sign * (2.1 * INVERSE_ERROR + FEW),
            along_step: ranges.along,
            alpha_error,
            beta_error,
            along_error: alpha_error + beta_error + rounding,
            across_step: ranges.across,
            across_error: query_error + head.delta + row_error + rounding,
            row_error,
            tail_step: ranges.tail,
            tail_low: tail.0 - tail_error - ranges.tail_width,
            tail_high: tail.1 + tail_error + if self.is_dot { query_error } else { 0.0 },
            tail_width: ranges.tail_width + row_error,
            // Products of centred rows, that of the centre, and the caller's exact product round by this at most.
            offset: offset - slack * norm * (ranges.norm + center_norm),
        }
    }
}
