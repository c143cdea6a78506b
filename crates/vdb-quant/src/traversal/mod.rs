//! Traversal codes: what a graph walk orders its steps by.
//!
//! Every metric becomes squared Euclidean distance first ([`TraversalBasis`]): Cosine between normalised vectors,
//! DotProduct between vectors with one coordinate more. Of a placed vector y the first m coordinates in a basis of
//! principal components, turned at random, are kept as 8-bit integers c with a scale s, and the squared
//! length of all of y:
//!
//! ‖p − y‖² ≈ ‖p‖² + ‖y‖² − 2 s ⟨p_head, c⟩, as if the tails of p and y were orthogonal, which random ones are.
//!
//! A row is the scale and the squared length (`f32` each), m code bytes, and zeros up to whole cache lines. The leading
//! components are turned among themselves and the others among themselves, so that the first line says the most that a
//! line can: a scan of many rows has a first look at that alone. Queries are integers of 8 bits, so that a distance is one integer product, and every instruction set
//! gives the same number.

mod basis;
mod query;
#[cfg(test)]
mod tests;

pub use basis::TraversalBasis;
pub use query::TraversalQuery;

use crate::kernels::int8::{FACTOR_BYTES, Scoring};
use crate::scalar::{Eight, Fit};
use crate::{Int8Kernels, Width};
use rayon::prelude::*;
use vdb_distance::{AlignedVec, Owner, prefetch_early};

/// Bytes of a cache line, which heads and their factors fill.
const LINE: usize = 64;

/// Codes in the first line of a row.
const FIRST_CODES: usize = LINE - FACTOR_BYTES;

/// Codes of vectors addressed by offset.
#[derive(Debug, Clone)]
pub struct TraversalCodes {
    basis: TraversalBasis,
    kernels: Int8Kernels,
    stride: usize,
    rows: AlignedVec<u8>,
}

impl TraversalCodes {
    /// No codes yet.
    pub fn new(basis: TraversalBasis) -> TraversalCodes {
        let stride = (basis.m() + FACTOR_BYTES).next_multiple_of(LINE);
        TraversalCodes { basis, kernels: Int8Kernels::get(), stride, rows: AlignedVec::new() }
    }

    /// The space that vectors are placed in before they are coded.
    pub fn basis(&self) -> &TraversalBasis {
        &self.basis
    }

    /// Rows, set or not.
    pub fn len(&self) -> usize {
        self.rows.len() / self.stride
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes of a row: whole cache lines.
    pub fn row_bytes(&self) -> usize {
        self.stride
    }

    /// Heap bytes held.
    pub fn bytes(&self) -> usize {
        self.rows.bytes() + self.basis.bytes()
    }

    /// All rows, for storing them.
    pub fn stored(&self) -> &[u8] {
        &self.rows
    }

    /// Codes in this basis that were stored, read in place where they are aligned; `None` when they are no whole number of rows.
    pub fn open(basis: TraversalBasis, rows: Owner) -> Option<TraversalCodes> {
        let codes = TraversalCodes { rows: AlignedVec::opened(rows)?, ..TraversalCodes::new(basis) };
        codes.rows.len().is_multiple_of(codes.stride).then_some(codes)
    }

    /// Whether rows are read in place.
    pub fn is_shared(&self) -> bool {
        self.rows.is_shared()
    }

    /// Copies rows that are read in place into memory of their own.
    pub fn pin(&mut self) {
        if self.is_shared() {
            self.rows = AlignedVec::from(&self.rows[..]);
        }
    }

    fn row(&self, offset: u32) -> &[u8] {
        let start = offset as usize * self.stride;
        &self.rows[start..start + self.stride]
    }

    /// Gives rows of zeros, which lie at the centre, to all offsets below `len`; rows never get fewer.
    pub fn grow(&mut self, len: usize) {
        let bytes = len * self.stride;
        if bytes > self.rows.len() {
            if len > self.len() + 1 {
                self.rows.reserve_exact(bytes - self.rows.len());
            }
            self.rows.resize(bytes, 0);
        }
    }

    /// The rows at these offsets, in this order; where there is no such row, one of zeros.
    #[must_use]
    pub fn picked(&self, offsets: &[u32]) -> TraversalCodes {
        let mut picked = TraversalCodes { rows: AlignedVec::new(), basis: self.basis.clone(), ..*self };
        picked.grow(offsets.len());
        let rows = picked.rows.par_chunks_mut(self.stride).zip(offsets).with_min_len(1 << 10);
        rows.filter(|(_, offset)| (**offset as usize) < self.len())
            .for_each(|(row, &offset)| row.copy_from_slice(self.row(offset)));
        picked
    }

    /// Codes the vectors at these offsets, which are given by `vector`, on all threads.
    ///
    /// # Panics
    /// When an offset has no row, or a vector another dimension than the basis.
    pub fn set_all<R: AsRef<[f32]>>(&mut self, offsets: &[u32], vector: impl Fn(u32) -> R + Sync) {
        /// Vectors that share a pass over the directions.
        const BATCH: usize = 32;
        if let [offset] = *offsets {
            let place = offset as usize * self.stride;
            let row = &mut self.rows[place..place + self.stride];
            encode(&self.basis, &[vector(offset).as_ref()], row, &mut Fit::default());
            return;
        }
        let stride = self.stride;
        let basis = &self.basis;
        let coded: Vec<Vec<u8>> = offsets
            .par_chunks(BATCH)
            .map(|offsets| {
                let vectors: Vec<R> = offsets.iter().map(|&offset| vector(offset)).collect();
                let vectors: Vec<&[f32]> = vectors.iter().map(AsRef::as_ref).collect();
                let mut rows = vec![0; offsets.len() * stride];
                encode(basis, &vectors, &mut rows, &mut Fit::default());
                rows
            })
            .collect();
        for (offsets, coded) in offsets.chunks(BATCH).zip(&coded) {
            for (&offset, coded) in offsets.iter().zip(coded.chunks_exact(stride)) {
                let place = offset as usize * stride;
                self.rows[place..place + stride].copy_from_slice(coded);
            }
        }
    }

    /// Makes `query` one for `vector`; false when its values are too large or too small for distances in `f32`.
    ///
    /// # Panics
    /// When the vector has another dimension than the basis.
    pub fn prepare(&self, vector: &[f32], query: &mut TraversalQuery) -> bool {
        let Some(square) = self.basis.place_query(vector, query) else { return false };
        query.quantize(square);
        true
    }

    /// Makes `query` one for the code at `offset`.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn prepare_row(&self, offset: u32, query: &mut TraversalQuery) {
        query.copy_row(self.row(offset), self.basis.m());
    }

    /// Distances between the query and the rows at `offsets`, in the placed space: squared, smaller is closer, and
    /// possibly a little below zero.
    ///
    /// # Panics
    /// When there is no such row, or `out` is not as long as `offsets`.
    #[inline]
    pub fn score(&self, query: &TraversalQuery, offsets: &[u32], out: &mut [f32]) {
        self.kernels.score(&query.codes, query.scoring, &self.rows, self.stride, offsets, out);
    }

    /// The same for rows that [`fetch`](Self::fetch) was called for.
    ///
    /// # Panics
    /// As [`score`](Self::score).
    #[inline]
    pub fn score_fetched(&self, query: &TraversalQuery, offsets: &[u32], out: &mut [f32]) {
        let scoring = Scoring { fetched: true, ..query.scoring };
        self.kernels.score(&query.codes, scoring, &self.rows, self.stride, offsets, out);
    }

    /// Whether a first look reads less than [`score`](Self::score) does.
    pub fn has_first_look(&self) -> bool {
        self.stride > LINE
    }

    /// What [`score`](Self::score) gives, as far as the first lines of the rows tell: of the product of two vectors, the
    /// part of the leading components.
    ///
    /// # Panics
    /// As [`score`](Self::score).
    #[inline]
    pub fn first_look(&self, query: &TraversalQuery, offsets: &[u32], out: &mut [f32]) {
        self.kernels.score(&query.codes, query.first_look(), &self.rows, self.stride, offsets, out);
    }

    /// Asks for the row at `offset` a while ahead of its use.
    #[inline(always)]
    pub fn fetch(&self, offset: u32) {
        prefetch_early(&self.rows, offset as usize * self.stride, self.stride / LINE);
    }

    #[cfg(test)]
    fn with_kernels(self, kernels: Int8Kernels) -> TraversalCodes {
        TraversalCodes { kernels, ..self }
    }
}

/// Writes the rows of `vectors`.
fn encode(basis: &TraversalBasis, vectors: &[&[f32]], rows: &mut [u8], fit: &mut Fit) {
    let m = basis.m();
    let (heads, squares) = basis.place_rows(vectors);
    let stride = rows.len() / vectors.len().max(1);
    for ((row, head), square) in rows.chunks_exact_mut(stride.max(1)).zip(heads.chunks_exact(m)).zip(squares)
    {
        fit.fit::<Eight>(head);
        let (factors, codes) = row.split_at_mut(FACTOR_BYTES);
        factors[..4].copy_from_slice(&fit.scale.to_le_bytes());
        factors[4..].copy_from_slice(&square.to_le_bytes());
        Eight::pack(&fit.levels, &mut codes[..m]);
        codes[m..].fill(0);
    }
}
