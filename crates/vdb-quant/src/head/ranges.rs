//! Lengths as small integers: which range each of them covers, and how a block holds them.

use super::row::{HeadRow, Lengths};
use super::{BLOCK_ROWS, FACTOR_BYTES, round_down, round_up};

/// The largest β and 1/‖c‖.
const MOST: f32 = 65_535.0;
/// The largest ρ and ‖x_t‖; one more marks a row without bounds.
const MOST_SHORT: f32 = 254.0;
/// The ρ of a row without bounds.
pub(super) const UNBOUNDED: u8 = 255;
/// Share of the rows that a range must cover. What few outliers there are go without bounds: a range that covers them
/// would be coarse for all others.
const COVERED: f64 = 0.999;
/// Room beyond the covered rows.
const ROOM: f32 = 1.05;

/// The ranges that a collection's lengths are held in.
///
/// The default holds zeros only.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct HeadRanges {
    /// One step of β.
    pub(super) along: f32,
    /// One step of ρ.
    pub(super) across: f32,
    /// One step of ‖x_t‖, which is at least its number of steps, and above that by `tail_width` at most.
    pub(super) tail: f32,
    pub(super) tail_width: f32,
    /// The greatest ‖x‖.
    pub(super) norm: f32,
}

/// A row's lengths in steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Steps {
    pub(super) along: u16,
    pub(super) inverse_norm: u16,
    pub(super) across: u8,
    pub(super) tail: u8,
}

impl Default for Steps {
    /// Those of a row without bounds.
    fn default() -> Self {
        Self { along: 0, inverse_norm: 0, across: UNBOUNDED, tail: 0 }
    }
}

impl HeadRanges {
    /// Ranges for rows such as these.
    pub fn of(rows: &[HeadRow]) -> Self {
        let range = |length: fn(&Lengths) -> f32| -> f32 {
            let mut values: Vec<f32> =
                rows.iter().filter_map(|row| row.lengths.as_ref()).map(length).collect();
            values.sort_unstable_by(f32::total_cmp);
            let covered = (values.len() as f64 * COVERED).ceil() as usize;
            values.get(covered.saturating_sub(1)).map_or(0.0, |value| value * ROOM)
        };
        let tail = range(|lengths| lengths.tail.1) / MOST_SHORT;
        Self {
            along: range(|lengths| lengths.along) / MOST,
            across: range(|lengths| lengths.across) / MOST_SHORT,
            tail,
            tail_width: tail + range(|lengths| lengths.tail.1 - lengths.tail.0),
            norm: range(|lengths| lengths.norm),
        }
    }

    /// For lengths that are kept as they are: only what a tail may vary by and the greatest norm.
    pub(super) fn of_lengths(self) -> Self {
        Self { along: 0.0, across: 0.0, tail: 0.0, ..self }
    }

    /// One step of 1/‖c‖ for codes of `m` coordinates, each at least 1.
    pub(super) fn inverse_norm(m: usize) -> f32 {
        1.0 / ((m as f32).sqrt() * MOST)
    }

    /// The lengths in steps; `None` when one of them is out of its range.
    pub(super) fn steps(&self, lengths: &Lengths, m: usize) -> Option<Steps> {
        let (low, high) = lengths.tail;
        let tail = in_steps(low, self.tail)?.floor();
        let holds = f64::from(tail) * f64::from(self.tail) <= f64::from(low)
            && f64::from(tail) * f64::from(self.tail) + f64::from(self.tail_width) >= f64::from(high);
        let across = in_steps(lengths.across, self.across)?.ceil();
        // Rounded quotients may be one step short.
        let short = f64::from(across) * f64::from(self.across) < f64::from(lengths.across);
        let across = if short { across + 1.0 } else { across };
        let along = in_steps(lengths.along, self.along)?.round();
        let fits = along <= MOST && across <= MOST_SHORT && tail <= MOST_SHORT && lengths.norm <= self.norm;
        (fits && holds).then(|| Steps {
            along: along as u16,
            inverse_norm: (lengths.inverse_norm / Self::inverse_norm(m)).round().min(MOST) as u16,
            across: across as u8,
            tail: tail as u8,
        })
    }
}

/// How many steps a length is; `None` when only a length of zero fits.
fn in_steps(length: f32, step: f32) -> Option<f32> {
    if step > 0.0 { Some(length / step) } else { (length == 0.0).then_some(0.0) }
}

/// Writes a row's lengths into its lane of a block's.
pub(super) fn write(factors: &mut [u8], lane: usize, steps: Steps) {
    factors[2 * lane..][..2].copy_from_slice(&steps.along.to_le_bytes());
    factors[2 * (BLOCK_ROWS + lane)..][..2].copy_from_slice(&steps.inverse_norm.to_le_bytes());
    factors[4 * BLOCK_ROWS + lane] = steps.across;
    factors[5 * BLOCK_ROWS + lane] = steps.tail;
}

/// A row's β, 1/‖c‖, ρ and ‖x_t‖ as plain numbers of steps.
#[inline(always)]
pub(super) fn read(factors: &[u8; FACTOR_BYTES], lane: usize) -> [f32; 4] {
    let (along, inverse) = (2 * lane, 2 * (BLOCK_ROWS + lane));
    [
        f32::from(u16::from_le_bytes([factors[along], factors[along + 1]])),
        f32::from(u16::from_le_bytes([factors[inverse], factors[inverse + 1]])),
        f32::from(factors[4 * BLOCK_ROWS + lane]),
        f32::from(factors[5 * BLOCK_ROWS + lane]),
    ]
}

/// The interval of the lengths of a tail, from its bounds in double precision.
pub(super) fn interval(least: f64, most: f64) -> (f32, f32) {
    (round_down(least), round_up(most))
}
