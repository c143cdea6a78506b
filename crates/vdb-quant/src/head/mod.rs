//! Four-bit codes of the leading coordinates of every row, and lower bounds on distances that are never wrong.
//!
//! A vector x (centred, in an orthonormal basis whose leading m directions carry most of the variance) is cut into a
//! *head* of m coordinates and a *tail*. The head is coded as z = s·c with odd integers c in −15..15; the scale is the
//! least-squares one, s = ⟨x_h, c⟩ / ⟨c, c⟩, so that the residual r = x_h − z is orthogonal to z and only the part of the
//! query orthogonal to z can meet it:
//!
//! ```text
//! ⟨q, x⟩ = ⟨q_h, z⟩ + ⟨q_h, r⟩ + ⟨q_t, x_t⟩
//! |⟨q_h, r⟩| ≤ √(‖q_h‖² − (⟨q_h, z⟩ / ‖z‖)²) · ‖r‖        |⟨q_t, x_t⟩| ≤ ‖q_t‖ · ‖x_t‖
//! ```
//!
//! The idea is that of the VA⁺-file (Ferhatosmanoglu et al., CIKM 2000) with integer kernels. The query's head is
//! quantized to 16 bits, as two planes of 8; ‖q_h − q̂_h‖·‖z‖ pays for that. All rounding, that of the basis included, is
//! paid for by a slack proportional to ‖q‖·‖x‖ (see [`HeadBasis::new`]).
//!
//! Layout: blocks of sixteen rows with the rows in the lanes. A 64-byte line holds eight coordinates of the sixteen
//! rows: four bytes a row, coordinate j in a low nibble and coordinate j + 4 in the high nibble of the same byte.

mod basis;
mod kernel;
mod query;
#[cfg(test)]
mod tests;
mod train;

pub use basis::HeadBasis;
pub use query::HeadQuery;
pub use train::{leading_directions, spread};

use vdb_distance::AlignedVec;

/// Rows of a block.
pub const BLOCK_ROWS: usize = 16;
/// Coordinates of a line.
const LINE_COORDINATES: usize = 8;
/// Bytes of a line.
const LINE_BYTES: usize = 64;
/// Numbers kept per row: 1/‖c‖, ‖z‖, ‖r‖, ‖x_t‖, ‖x‖².
const FACTORS: usize = 5;
/// The largest code; c = 2 · code − 15.
const MAX_CODE: i32 = 15;
/// Shares of the largest magnitude that the code range is tried to cover: clipping a few peaks often pays.
const CLIPS: [f32; 6] = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5];

/// Codes and factors of any number of rows.
#[derive(Debug, Clone)]
pub struct HeadCodes {
    m: usize,
    len: usize,
    /// Block by block, m / 8 lines each.
    codes: AlignedVec<u8>,
    /// Block by block, sixteen of each factor in turn.
    factors: AlignedVec<f32>,
}

impl HeadCodes {
    /// No rows yet, of heads of `m` coordinates.
    ///
    /// # Panics
    /// When `m` is 0, above 4,096 or no multiple of 8.
    pub fn new(m: usize) -> Self {
        assert!(m > 0 && m <= 4_096 && m.is_multiple_of(LINE_COORDINATES), "a head of {m} coordinates");
        Self { m, len: 0, codes: AlignedVec::new(), factors: AlignedVec::new() }
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
        (self.block_bytes() + FACTORS * BLOCK_ROWS * 4) / BLOCK_ROWS
    }

    fn block_bytes(&self) -> usize {
        self.m / LINE_COORDINATES * LINE_BYTES
    }

    /// Makes room for `additional` rows.
    pub fn reserve(&mut self, additional: usize) {
        let blocks = (self.len + additional).div_ceil(BLOCK_ROWS);
        self.codes.reserve_exact((blocks * self.block_bytes()).saturating_sub(self.codes.len()));
        self.factors.reserve_exact((blocks * FACTORS * BLOCK_ROWS).saturating_sub(self.factors.len()));
    }

    /// Appends a row.
    ///
    /// # Panics
    /// When the row has another number of coordinates.
    pub fn push(&mut self, row: &HeadRow) {
        if self.len.is_multiple_of(BLOCK_ROWS) {
            let blocks = self.len / BLOCK_ROWS + 1;
            self.codes.resize(blocks * self.block_bytes(), 0);
            self.factors.resize(blocks * FACTORS * BLOCK_ROWS, 0.0);
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
        let start = block * FACTORS * BLOCK_ROWS + lane;
        for (factor, value) in row.factors.into_iter().enumerate() {
            self.factors[start + factor * BLOCK_ROWS] = value;
        }
    }

    /// Writes lower bounds on the comparable distances of the rows of whole blocks, from block `first_block` on.
    ///
    /// A bound may be −∞ or NaN where a row cannot be bounded: such a row is to be taken for near. Lanes past the last
    /// row get some value.
    ///
    /// # Panics
    /// When `out` is not whole blocks, a block does not exist, or the query is for another basis.
    pub fn lower_bounds(&self, query: &HeadQuery, first_block: usize, out: &mut [f32]) {
        assert!(out.len().is_multiple_of(BLOCK_ROWS), "bounds are written by whole blocks");
        assert_eq!(query.lines(), self.m / LINE_COORDINATES, "the query's head has another length");
        let blocks = out.len() / BLOCK_ROWS;
        let codes = &self.codes[first_block * self.block_bytes()..][..blocks * self.block_bytes()];
        let per_block = FACTORS * BLOCK_ROWS;
        let factors = &self.factors[first_block * per_block..][..blocks * per_block];
        kernel::lower_bounds(query, codes, factors, out);
    }
}

/// A row as [`HeadCodes`] takes it; made by [`HeadBasis::encode`].
#[derive(Debug, Clone)]
pub struct HeadRow {
    codes: Vec<u8>,
    factors: [f32; FACTORS],
}

impl HeadRow {
    /// A row that no bound ever excludes.
    fn unbounded(m: usize) -> Self {
        Self { codes: vec![0; m], factors: [0.0, 0.0, f32::INFINITY, f32::INFINITY, 0.0] }
    }

    /// Codes `head`; `square` is ‖x‖² and `tail` an upper bound of ‖x_t‖.
    fn new(head: &[f32], square: f32, tail: f32) -> Self {
        let largest = head.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        if largest == 0.0 {
            return Self { codes: vec![0; head.len()], factors: [0.0, 0.0, 0.0, tail, square] };
        }
        let best =
            CLIPS.map(|clip| fit(head, largest * clip)).into_iter().max_by(|a, b| a.gain.total_cmp(&b.gain));
        let Fit { codes, scale, code_square, .. } = best.expect("there is at least one clip");
        let code_norm = code_square.sqrt();
        let residual: f64 = head
            .iter()
            .zip(&codes)
            .map(|(&value, &code)| f64::from(value) - scale * f64::from(2 * i32::from(code) - MAX_CODE))
            .map(|difference| difference * difference)
            .sum();
        // The residual is not exactly orthogonal to z once s is rounded; the slack of the query covers that.
        let factors =
            [(1.0 / code_norm) as f32, (scale * code_norm) as f32, round_up(residual.sqrt()), tail, square];
        Self { codes, factors }
    }
}

struct Fit {
    codes: Vec<u8>,
    scale: f64,
    code_square: f64,
    /// ⟨x, c⟩² / ⟨c, c⟩: how much of the square the code explains.
    gain: f64,
}

fn fit(head: &[f32], range: f32) -> Fit {
    let per_step = MAX_CODE as f32 / range;
    let mut product = 0.0f64;
    let mut code_square = 0.0f64;
    let codes = head
        .iter()
        .map(|&value| {
            let code = ((value * per_step + MAX_CODE as f32) * 0.5).round().clamp(0.0, MAX_CODE as f32) as u8;
            let integer = f64::from(2 * i32::from(code) - MAX_CODE);
            product += f64::from(value) * integer;
            code_square += integer * integer;
            code
        })
        .collect();
    Fit { codes, scale: product / code_square, code_square, gain: product * product / code_square }
}

/// The smallest f32 that is not below `value`, or one next to it.
fn round_up(value: f64) -> f32 {
    let rounded = value as f32;
    if f64::from(rounded) < value { rounded.next_up() } else { rounded }
}
