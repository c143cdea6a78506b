//! Four-bit codes of the leading coordinates of every row, and lower bounds on distances that are never wrong.
//!
//! A vector x (centred, in an orthonormal basis whose leading m directions carry most of the variance) is cut into a
//! *head* of m coordinates and a *tail*. The head is coded by odd integers c in −15..15, of which only the direction
//! ĉ = c / ‖c‖ counts; kept with it are the head's length along it, β = ⟨x_h, ĉ⟩, the length ρ of what is left of the
//! head, which is orthogonal to ĉ, and the length of the tail. With α = ⟨q_h, ĉ⟩ and q_⊥ the rest of the query's head,
//!
//! ```text
//! ‖q − x‖² = (α − β)² + ‖q_⊥ − x_⊥‖² + ‖q_t − x_t‖² ≥ (α − β)² + (‖q_⊥‖ − ρ)² + (‖q_t‖ − ‖x_t‖)²
//! ⟨q, x⟩ ≤ α·β + ‖q_⊥‖·ρ + ‖q_t‖·‖x_t‖                            where  ‖q_⊥‖² = ‖q_h‖² − α²
//! ```
//!
//! The idea is that of the VA⁺-file (Ferhatosmanoglu et al., CIKM 2000) with integer kernels. Three lengths apart let
//! several times fewer rows through than one inequality over the whole residual, and nothing cancels in a sum of
//! squares. The query's head is quantized to 16 bits, as two planes of 8; the length of what that leaves is paid for.
//! A scan reads the high plane alone, which gives a bound of its own, and both planes for the rows that it leaves.
//! All rounding, that of the basis included, is paid for by a slack proportional to ‖q‖ and ‖x‖ (see
//! [`HeadBasis::new`]).
//!
//! Layout: blocks of sixteen rows with the rows in the lanes. A 64-byte line holds eight coordinates of the sixteen
//! rows: four bytes a row, coordinate j in a low nibble and coordinate j + 4 in the high nibble of the same byte. Apart
//! from them lie the lengths, [`FACTOR_BYTES`] bytes a block, as steps of a range that is fitted to the data
//! ([`HeadRanges`]): ρ rounded up, ‖x_t‖ rounded down, so that bounds hold. A row outside a range has no bound.

mod basis;
mod fine;
mod kernel;
mod query;
mod ranges;
mod row;
#[cfg(test)]
mod tests;
mod train;

pub use basis::HeadBasis;
pub use fine::{FineHeadCodes, FineHeadQuery};
pub use query::HeadQuery;
pub use ranges::HeadRanges;
pub use row::HeadRow;
pub use train::{leading_directions, spread};

use std::ops::Range;
use vdb_distance::AlignedVec;

/// Rows of a block.
pub const BLOCK_ROWS: usize = 16;
/// Coordinates of a line.
const LINE_COORDINATES: usize = 8;
/// Bytes of a line.
const LINE_BYTES: usize = 64;
/// Bytes of a block's lengths: sixteen β and sixteen 1/‖c‖ of two bytes, sixteen ρ and sixteen ‖x_t‖ of one.
const FACTOR_BYTES: usize = 6 * BLOCK_ROWS;
/// Blocks to a word of 64 rows.
const WORD_BLOCKS: usize = 4;
/// The largest code; c = 2 · code − 15.
const MAX_CODE: i32 = 15;
/// The same of eight-bit codes, c = 2 · code − 255.
const MAX_FINE_CODE: i32 = 255;

/// A row that may be near: its bound is not above the limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Near {
    /// The row's number.
    pub row: u32,
    /// No more than the comparable distance; −∞ where nothing is known.
    pub lower: f32,
    /// About the comparable distance.
    pub estimate: f32,
}

/// Codes and lengths of any number of rows.
#[derive(Debug, Clone)]
pub struct HeadCodes {
    m: usize,
    len: usize,
    ranges: HeadRanges,
    /// Block by block, m / 8 lines each.
    codes: AlignedVec<u8>,
    /// Block by block, [`FACTOR_BYTES`] each.
    factors: AlignedVec<u8>,
}

impl HeadCodes {
    /// No rows yet, of heads of `m` coordinates and lengths within `ranges`.
    ///
    /// # Panics
    /// When `m` is 0, above 4,096 or no multiple of 8.
    pub fn new(m: usize, ranges: HeadRanges) -> Self {
        assert!(m > 0 && m <= 4_096 && m.is_multiple_of(LINE_COORDINATES), "a head of {m} coordinates");
        Self { m, len: 0, ranges, codes: AlignedVec::new(), factors: AlignedVec::new() }
    }

    /// Rows held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Heap bytes held.
    pub fn bytes(&self) -> usize {
        self.codes.bytes() + self.factors.bytes()
    }

    /// Bytes that a scan reads per row.
    pub fn row_bytes(&self) -> usize {
        (self.block_bytes() + FACTOR_BYTES) / BLOCK_ROWS
    }

    fn block_bytes(&self) -> usize {
        self.m / LINE_COORDINATES * LINE_BYTES
    }

    /// Makes room for `additional` rows.
    pub fn reserve(&mut self, additional: usize) {
        let blocks = (self.len + additional).div_ceil(BLOCK_ROWS);
        self.codes.reserve_exact((blocks * self.block_bytes()).saturating_sub(self.codes.len()));
        self.factors.reserve_exact((blocks * FACTOR_BYTES).saturating_sub(self.factors.len()));
    }

    /// Appends a row.
    ///
    /// # Panics
    /// When the row has another number of coordinates.
    pub fn push(&mut self, row: &HeadRow) {
        if self.len.is_multiple_of(BLOCK_ROWS) {
            let blocks = self.len / BLOCK_ROWS + 1;
            self.codes.resize(blocks * self.block_bytes(), 0);
            self.factors.resize(blocks * FACTOR_BYTES, 0);
        }
        self.len += 1;
        self.set(self.len - 1, row);
    }

    /// Overwrites a row.
    ///
    /// # Panics
    /// When there is no such row, or it has another number of coordinates.
    pub fn set(&mut self, index: usize, row: &HeadRow) {
        assert!(index < self.len, "row {index} of {}", self.len);
        assert_eq!(row.codes.len(), self.m, "coordinates of a row");
        let (block, lane) = (index / BLOCK_ROWS, index % BLOCK_ROWS);
        let start = block * self.block_bytes() + lane * 4;
        for (line, codes) in row.codes.chunks_exact(LINE_COORDINATES).enumerate() {
            for byte in 0..4 {
                self.codes[start + line * LINE_BYTES + byte] = codes[byte] | codes[byte + 4] << 4;
            }
        }
        let steps = row.lengths.as_ref().and_then(|lengths| self.ranges.steps(lengths, self.m));
        let factors = &mut self.factors[block * FACTOR_BYTES..][..FACTOR_BYTES];
        ranges::write(factors, lane, steps.unwrap_or_default());
    }

    /// Adds to `out` those of the blocks' rows that `allowed` holds and whose lower bound is not above `limit`.
    ///
    /// `allowed` has a bit for every row, from the first row of `blocks` on; a block without one is not read.
    /// A bound that cannot be computed is not above anything. With `both_planes` the query is as exact as it can be,
    /// otherwise its bounds are a little lower and take less time: right where eight-bit codes are looked at next.
    ///
    /// # Panics
    /// When a block does not exist or has no word in `allowed`, `blocks` does not start at a multiple of four, or the
    /// query is for another basis.
    pub fn near(
        &self,
        query: &HeadQuery,
        blocks: Range<usize>,
        allowed: &[u64],
        limit: f32,
        both_planes: bool,
        out: &mut Vec<Near>,
    ) {
        assert_eq!(query.lines(), self.m / LINE_COORDINATES, "the query's head has another length");
        assert!(blocks.start.is_multiple_of(WORD_BLOCKS), "blocks start at a word of {WORD_BLOCKS} blocks");
        let scan = kernel::Scan {
            query,
            high: query.constants(&query.high, &self.ranges, self.m),
            full: query.constants(&query.full, &self.ranges, self.m),
            codes: &self.codes[blocks.start * self.block_bytes()..blocks.end * self.block_bytes()],
            factors: &self.factors[blocks.start * FACTOR_BYTES..blocks.end * FACTOR_BYTES],
            allowed,
            first_row: blocks.start * BLOCK_ROWS,
            limit,
            both_planes,
        };
        scan.run(out);
    }
}

/// The smallest f32 that is not below `value`, or one next to it.
fn round_up(value: f64) -> f32 {
    let rounded = value as f32;
    if f64::from(rounded) < value { rounded.next_up() } else { rounded }
}

/// The largest f32 that is not above `value`, or one next to it.
fn round_down(value: f64) -> f32 {
    let rounded = value as f32;
    if f64::from(rounded) > value { rounded.next_down() } else { rounded }
}
