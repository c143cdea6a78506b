//! Blocks of 32 codes of one or two bits relative to a list's centroid, the remaining bits beside them, and the query that
//! scans the one and refines with the other.
//!
//! ```text
//! block:  32 × add (f32), 32 × rescale and error (the upper halves of f32), then the S most significant bits of the
//!         codes in FastScan order, 4·S·D bytes
//! rest:   add, rescale, error (f32) of all B bits, then B − S planes of D/8 bytes          one row per vector
//! ```
//!
//! `error` is stored without ε₀. `add` is that of the rounded `rescale`, so that rounding it meets the residual only.
//! A lane that holds no vector has an infinite `add`, and so an infinite distance; one whose factors are not finite
//! has an `add` that is not a number and is always near. Refining does not read the scanned bits again: ⟨v,q'⟩ of all
//! bits is 2^(B−S)·⟨top − middle, q'⟩, which the scan has found, plus ⟨rest − middle, q'⟩.

use vdb_distance::{Kernels, Metric};

use super::query::{BATCH, RoundedQuery, normalised};
use super::{Factors, Rabitq, RabitqConfig, levels, read_f32, write_f32, write_planes};
use crate::fastscan::{BLOCK_VECTORS, BlockQuery, Tables};
pub use crate::kernels::fastscan::BlockEstimates;
use crate::kernels::fastscan::{self, BLOCK_FACTOR_BYTES, FastScan, Scale};
use crate::kernels::planes::PlaneDot;
use crate::quantizer::Quantizer;

/// Bytes before the planes of a row of remaining bits.
const REST_HEADER: usize = 12;
/// Bits from which the query for the remaining ones takes two passes.
const TWO_PASS_BITS: u8 = 7;

/// A list's centroid, rotated once.
#[derive(Debug, Clone, PartialEq)]
pub struct RabitqCentre {
    raw: Vec<f32>,
    /// c'.
    rotated: Vec<f32>,
}

/// What a query and a list have in common: the middle term of every estimate and the scale of every error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ListTerm {
    /// ‖q−c‖² under Euclidean, −⟨q,c⟩ otherwise.
    pub add: f32,
    /// ‖q−c‖.
    pub radius: f32,
}

/// Blocks of a [`Rabitq`] under one metric: Euclidean, DotProduct or Cosine.
#[derive(Debug, Clone)]
pub struct RabitqBlocks {
    quantizer: Rabitq,
    metric: Metric,
}

impl RabitqBlocks {
    /// Blocks for a metric. Under Cosine vectors have to be normalised before they are encoded.
    ///
    /// # Panics
    /// Under Manhattan, which these codes have no estimate of.
    #[must_use]
    pub fn new(quantizer: Rabitq, metric: Metric) -> RabitqBlocks {
        assert_ne!(metric, Metric::Manhattan, "RaBitQ blocks have no Manhattan distance");
        RabitqBlocks { quantizer, metric }
    }

    /// The quantizer.
    pub fn quantizer(&self) -> &Rabitq {
        &self.quantizer
    }

    /// The metric of the stored factors.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Bytes per block.
    pub fn block_bytes(&self) -> usize {
        BLOCK_FACTOR_BYTES + fastscan::padded_bytes(self.tables())
    }

    /// Nibbles of the scanned bits of a code.
    fn tables(&self) -> usize {
        self.quantizer.code_dim() * usize::from(self.quantizer.config.scan_bits) / 4
    }

    /// Bits of a code that are not scanned.
    fn rest_bits(&self) -> u8 {
        self.quantizer.config.bits - self.quantizer.config.scan_bits
    }

    /// Bytes per row of remaining bits; 0 when all bits are scanned.
    pub fn rest_bytes(&self) -> usize {
        match usize::from(self.rest_bits()) {
            0 => 0,
            bits => REST_HEADER + self.quantizer.code_dim() / 8 * bits,
        }
    }

    /// A block without vectors.
    ///
    /// # Panics
    /// When `block` does not have [`block_bytes`](Self::block_bytes) bytes.
    pub fn clear(&self, block: &mut [u8]) {
        assert_eq!(block.len(), self.block_bytes(), "the block has another length");
        block.fill(0);
        for lane in 0..BLOCK_VECTORS {
            write_f32(block, lane, f32::INFINITY);
        }
    }

    /// A list's centroid, prepared for encoding.
    ///
    /// # Panics
    /// When it has another dimension.
    pub fn centre(&self, centroid: &[f32]) -> RabitqCentre {
        RabitqCentre {
            raw: centroid.to_vec(),
            rotated: self.quantizer.rotated(centroid, &self.quantizer.centre),
        }
    }

    /// Writes up to 32 `vectors`, row-major, as a block and as many rows of remaining bits.
    ///
    /// # Panics
    /// When the vectors are no whole ones or too many, or a buffer has another length.
    pub fn encode_block(&self, centre: &RabitqCentre, vectors: &[f32], block: &mut [u8], rest: &mut [u8]) {
        let dim = self.quantizer.dim();
        assert!(
            vectors.len().is_multiple_of(dim) && vectors.len() <= dim * BLOCK_VECTORS,
            "up to 32 vectors"
        );
        assert_eq!(rest.len(), vectors.len() / dim * self.rest_bytes(), "rows of remaining bits");
        self.clear(block);
        let mut rests = rest.chunks_exact_mut(self.rest_bytes().max(1));
        for (lane, vector) in vectors.chunks_exact(dim).enumerate() {
            self.encode(centre, vector, block, lane, rests.next().unwrap_or_default());
        }
    }

    /// Writes one vector into a lane of a block, whatever was there, and its row of remaining bits.
    ///
    /// # Panics
    /// When there is no such lane, or a length is wrong.
    pub fn encode(
        &self,
        centre: &RabitqCentre,
        vector: &[f32],
        block: &mut [u8],
        lane: usize,
        rest: &mut [u8],
    ) {
        assert!(lane < BLOCK_VECTORS, "a block has 32 lanes");
        assert_eq!(block.len(), self.block_bytes(), "the block has another length");
        assert_eq!(rest.len(), self.rest_bytes(), "the row of remaining bits has another length");
        let quantizer = &self.quantizer;
        let RabitqConfig { bits, scan_bits, scale, .. } = quantizer.config;
        let residual = quantizer.rotated(vector, &centre.raw);
        let fit = levels::fit(&residual, bits, scale);
        let top: Vec<u8> = fit.levels.iter().map(|&level| level >> (bits - scan_bits)).collect();

        let middle = levels::middle(scan_bits);
        let (mut product, mut level_square) = (0.0, 0.0);
        for (&level, &r) in top.iter().zip(&residual) {
            let v = f64::from(level) - middle;
            product += v * f64::from(r);
            level_square += v * v;
        }
        let mut scanned = Factors::new(quantizer, fit.square, product, level_square);
        scanned.rescale = f64::from(upper_half(scanned.rescale as f32));
        let along = along(vector, &centre.raw);
        let [mut add, rescale, error] = self.stored(along, scanned, across(&top, middle, &centre.rotated));
        if !(add.is_finite() && rescale.is_finite() && error.is_finite()) {
            add = f32::NAN;
        }
        write_f32(block, lane, add);
        let pair = rescale.to_bits() & 0xFFFF_0000 | error.to_bits().wrapping_add(0x8000) >> 16;
        write_f32(block, BLOCK_VECTORS + lane, f32::from_bits(pair));
        let per_nibble = usize::from(4 / scan_bits);
        for (table, some) in top.chunks_exact(per_nibble).enumerate() {
            let nibble = some.iter().rev().fold(0, |nibble, level| nibble << scan_bits | level);
            fastscan::put(&mut block[BLOCK_FACTOR_BYTES..], table, lane, nibble);
        }

        if bits > scan_bits {
            let all = Factors::new(quantizer, fit.square, fit.product, fit.level_square);
            let across = across(&fit.levels, levels::middle(bits), &centre.rotated);
            for (i, value) in self.stored(along, all, across).into_iter().enumerate() {
                write_f32(rest, i, value);
            }
            write_planes(&fit.levels, usize::from(bits - scan_bits), &mut rest[REST_HEADER..]);
        }
    }

    /// Moves the code of vector `from` of consecutive blocks to `to`, and leaves no vector where it was.
    ///
    /// # Panics
    /// When there is no such block.
    pub fn move_code(&self, blocks: &mut [u8], from: usize, to: usize) {
        let bytes = self.block_bytes();
        let place = |vector: usize| (vector / BLOCK_VECTORS * bytes, vector % BLOCK_VECTORS);
        let ((from, from_lane), (to, to_lane)) = (place(from), place(to));
        if (from, from_lane) != (to, to_lane) {
            for factor in 0..2 {
                let value = read_f32(&blocks[from..], factor * BLOCK_VECTORS + from_lane);
                write_f32(&mut blocks[to..], factor * BLOCK_VECTORS + to_lane, value);
            }
            for table in 0..self.tables() {
                let nibble = fastscan::nibble(&blocks[from + BLOCK_FACTOR_BYTES..], table, from_lane);
                fastscan::put(&mut blocks[to + BLOCK_FACTOR_BYTES..], table, to_lane, nibble);
            }
        }
        write_f32(&mut blocks[from..], from_lane, f32::INFINITY);
    }

    /// `add`, `rescale` and `error`, for ⟨c,r⟩ = `along` and ⟨v,c'⟩ = `across`.
    fn stored(&self, along: f64, factors: Factors, across: f64) -> [f32; 3] {
        let Factors { square, rescale, error } = factors;
        let [add, rescale, error] = if self.metric == Metric::Euclidean {
            [square + 2.0 * rescale * across, -2.0 * rescale, 2.0 * error]
        } else {
            [rescale * across - along, -rescale, error]
        };
        [add as f32, rescale as f32, error as f32]
    }

    /// Prepares a query for all blocks of all lists.
    ///
    /// # Panics
    /// When it has another dimension.
    pub fn query(&self, query: &[f32]) -> RabitqBlockQuery<'_> {
        let quantizer = &self.quantizer;
        let RabitqConfig { bits, scan_bits, wide_tables, .. } = quantizer.config;
        let raw = normalised(self.metric, query);
        let rotated = quantizer.rotated(&raw, &quantizer.centre);
        let rounded = (bits > scan_bits).then(|| RoundedQuery::new(&rotated, bits >= TWO_PASS_BITS));
        RabitqBlockQuery {
            blocks: self,
            fastscan: FastScan::get(),
            planes: PlaneDot::get(),
            tables: Tables::of_levels(&rotated, scan_bits, wide_tables),
            rounded,
            raw,
        }
    }
}

/// ⟨x − c, c⟩.
fn along(vector: &[f32], centre: &[f32]) -> f64 {
    vector.iter().zip(centre).map(|(&x, &c)| f64::from(x - c) * f64::from(c)).sum()
}

/// The nearest number that the upper half of an f32 holds.
fn upper_half(value: f32) -> f32 {
    let bits = value.to_bits();
    f32::from_bits(bits.wrapping_add(0x8000) & 0xFFFF_0000)
}

/// ⟨u − middle, c'⟩.
fn across(levels: &[u8], middle: f64, rotated: &[f32]) -> f64 {
    levels.iter().zip(rotated).map(|(&level, &c)| (f64::from(level) - middle) * f64::from(c)).sum()
}

/// A query prepared for the blocks of all lists; made by [`RabitqBlocks::query`].
#[derive(Clone)]
pub struct RabitqBlockQuery<'a> {
    blocks: &'a RabitqBlocks,
    fastscan: FastScan,
    planes: PlaneDot,
    tables: Tables,
    rounded: Option<RoundedQuery>,
    raw: Vec<f32>,
}

impl RabitqBlockQuery<'_> {
    /// What the query has in common with a list.
    ///
    /// # Panics
    /// When the centroid has another dimension.
    pub fn list_term(&self, centroid: &[f32]) -> ListTerm {
        let kernels = Kernels::get();
        let square = kernels.l2_squared(&self.raw, centroid);
        let euclidean = self.blocks.metric == Metric::Euclidean;
        let add = if euclidean { square } else { -kernels.dot(&self.raw, centroid) };
        ListTerm { add, radius: square.sqrt() }
    }

    /// The same query bound to a list.
    pub fn for_list(&self, term: ListTerm) -> RabitqListQuery<'_> {
        RabitqListQuery { query: self, term }
    }

    /// Estimates for consecutive blocks of a list, as many as `out` has room for. A block of which `near` marks no
    /// lane is not read; afterwards `near` marks those of its lanes whose bound is below `limit`.
    ///
    /// # Panics
    /// When `blocks` has another length.
    pub fn scan(&self, term: ListTerm, limit: f32, blocks: &[u8], out: &mut [BlockEstimates]) {
        let epsilon = self.blocks.quantizer.config.epsilon;
        let scale = Scale {
            offset: self.tables.offset,
            step: self.tables.step,
            list: term.add,
            spread: epsilon * term.radius,
            rounding: epsilon * self.tables.deviation(),
            limit,
        };
        self.fastscan.estimate(blocks, self.tables.bytes(), &scale, out);
    }

    /// The estimates of [`refine`](Self::refine) alone, for the vectors of a block, with their products and rows of
    /// remaining bits in order: without the bounds, and so without a square root a row.
    ///
    /// # Panics
    /// When all bits are scanned, or there are more than 32 or not as many rows as products and estimates.
    pub fn refine_block(&self, term: ListTerm, products: &[f32], rest: &[u8], out: &mut [f32]) {
        const { assert!(BATCH == BLOCK_VECTORS) };
        let rounded = self.rounded.as_ref().expect("all bits are scanned, none are left to refine with");
        assert!(out.len() <= BLOCK_VECTORS && out.len() == products.len(), "as many products as estimates");
        let (bytes, bits) = (self.blocks.rest_bytes(), self.blocks.rest_bits());
        let (top, middle) = (f32::from(1_u16 << bits), levels::middle(bits) as f32);
        rounded.products(self.planes, (rest, bytes, usize::from(bits)), middle, out);
        for ((out, product), rest) in out.iter_mut().zip(products).zip(rest.chunks_exact(bytes)) {
            let all = top * product + *out;
            *out = read_f32(rest, 0) + term.add + read_f32(rest, 1) * all;
        }
    }

    /// [`refine`](Self::refine) for some rows of a list, by their places among its rows of remaining bits: no row waits for
    /// what is decided about the one before.
    ///
    /// # Panics
    /// As [`refine`](Self::refine), and when there are not as many products and estimates as places.
    pub fn refine_rows(
        &self,
        term: ListTerm,
        rest: &[u8],
        (places, products): (&[u32], &[f32]),
        out: &mut [(f32, f32)],
    ) {
        assert!(places.len() == out.len() && products.len() == out.len(), "as many products as estimates");
        let bytes = self.blocks.rest_bytes();
        for ((out, &place), &product) in out.iter_mut().zip(places).zip(products) {
            *out = self.refine(term, product, &rest[place as usize * bytes..][..bytes]);
        }
    }

    /// The estimate from all bits, and how far the truth may be from it, for a vector whose
    /// [`product`](BlockEstimates::product) of the scanned bits a scan has found.
    ///
    /// # Panics
    /// When all bits are scanned, or `rest` is not one row of remaining bits.
    #[inline]
    pub fn refine(&self, term: ListTerm, product: f32, rest: &[u8]) -> (f32, f32) {
        let rounded = self.rounded.as_ref().expect("all bits are scanned, none are left to refine with");
        assert_eq!(rest.len(), self.blocks.rest_bytes(), "the row of remaining bits has another length");
        let config = &self.blocks.quantizer.config;
        let rest_bits = self.blocks.rest_bits();
        let top = f32::from(1_u16 << rest_bits);
        let middle = levels::middle(rest_bits) as f32;
        let all = top * product + rounded.product(self.planes, &rest[REST_HEADER..], middle);
        let (add, rescale, error) = (read_f32(rest, 0), read_f32(rest, 1), read_f32(rest, 2));
        let dims = self.blocks.quantizer.code_dim() as f32;
        let noise = rounded.noise * (dims / 12.0).sqrt() * top;
        let rounding = rescale.abs() * (top * self.tables.deviation() + noise);
        (add + term.add + rescale * all, config.epsilon * (error * term.radius + rounding))
    }
}

/// A [`RabitqBlockQuery`] bound to a list.
#[derive(Clone, Copy)]
pub struct RabitqListQuery<'a> {
    query: &'a RabitqBlockQuery<'a>,
    term: ListTerm,
}

impl BlockQuery for RabitqListQuery<'_> {
    fn block_bytes(&self) -> usize {
        self.query.blocks.block_bytes()
    }

    fn scan_block(&self, block: &[u8], out: &mut [f32; BLOCK_VECTORS]) {
        let mut estimates = [BlockEstimates { near: u32::MAX, ..BlockEstimates::default() }];
        self.query.scan(self.term, f32::INFINITY, block, &mut estimates);
        *out = estimates[0].distance;
    }
}
