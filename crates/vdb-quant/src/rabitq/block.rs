//! Blocks of 32 one-bit codes relative to a list's centroid, the remaining bits beside them, and the query that
//! scans the one and refines with the other.
//!
//! ```text
//! block:  32 × add, 32 × rescale, 32 × error (f32), then the one-bit codes in FastScan order, 4·D bytes
//! rest:   add, rescale, error (f32) of all B bits, then B − 1 planes of D/8 bytes          one row per vector
//! ```
//!
//! `error` is stored without ε₀. A lane that holds no vector has an infinite `add`, and so an infinite distance.
//! Refining does not read the one-bit code again: ⟨v,q'⟩ of all bits is 2^(B−1)·⟨bit − ½, q'⟩, which the scan has
//! found, plus ⟨rest − middle, q'⟩.

use vdb_distance::{Kernels, Metric};

use super::query::{RoundedQuery, normalised};
use super::{Factors, Rabitq, levels, read_f32, write_f32, write_planes};
use crate::fastscan::{BLOCK_VECTORS, BlockQuery, Tables};
use crate::kernels::fastscan::{self, FastScan};
use crate::kernels::planes::PlaneDot;
use crate::quantizer::Quantizer;

/// Bytes of a block's three times 32 factors.
const FACTORS: usize = 3 * 4 * BLOCK_VECTORS;
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

/// Estimates for the 32 vectors of a block.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockEstimates {
    /// Distances; infinite where the block holds no vector.
    pub distance: [f32; BLOCK_VECTORS],
    /// How far the truth may be from each.
    pub error: [f32; BLOCK_VECTORS],
    /// ⟨bit − ½, q'⟩, what [`RabitqBlockQuery::refine`] goes on from.
    pub product: [f32; BLOCK_VECTORS],
}

impl Default for BlockEstimates {
    fn default() -> Self {
        let none = [0.0; BLOCK_VECTORS];
        BlockEstimates { distance: [f32::INFINITY; BLOCK_VECTORS], error: none, product: none }
    }
}

impl BlockEstimates {
    /// A bit for every vector whose distance may be below `limit`.
    pub fn may_be_below(&self, limit: f32) -> u32 {
        let lanes = self.distance.iter().zip(&self.error).enumerate();
        lanes.fold(0, |mask, (lane, (distance, error))| mask | u32::from(distance - error < limit) << lane)
    }
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
        FACTORS + 4 * self.quantizer.code_dim()
    }

    /// Bytes per row of remaining bits; none for one-bit codes.
    pub fn rest_bytes(&self) -> usize {
        match usize::from(self.quantizer.config.bits) {
            1 => 0,
            bits => REST_HEADER + self.quantizer.code_dim() / 8 * (bits - 1),
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
        let bits = quantizer.config.bits;
        let residual = quantizer.rotated(vector, &centre.raw);
        let fit = levels::fit(&residual, bits, quantizer.config.scale);
        let (top, dims) = (1 << (bits - 1), residual.len() as f64);

        let signs: Vec<u8> = fit.levels.iter().map(|&level| u8::from(level >= top)).collect();
        let sizes: f64 = residual.iter().map(|&r| f64::from(r).abs()).sum();
        let one_bit = Factors::new(quantizer, fit.square, sizes / 2.0, dims / 4.0);
        let across = across(&signs, 0.5, &centre.rotated);
        for (i, value) in self.stored(vector, centre, one_bit, across).into_iter().enumerate() {
            write_f32(block, i * BLOCK_VECTORS + lane, value);
        }
        let (byte, shift) = fastscan::place(lane);
        for (table, signs) in signs.chunks_exact(4).enumerate() {
            let nibble = signs[0] | signs[1] << 1 | signs[2] << 2 | signs[3] << 3;
            let codes = &mut block[FACTORS..];
            codes[table * fastscan::TABLE_BYTES + byte] &= !(0x0F << shift);
            fastscan::put(codes, table, lane, nibble);
        }

        if bits > 1 {
            let all = Factors::new(quantizer, fit.square, fit.product, fit.level_square);
            let across = self::across(&fit.levels, levels::middle(bits), &centre.rotated);
            for (i, value) in self.stored(vector, centre, all, across).into_iter().enumerate() {
                write_f32(rest, i, value);
            }
            write_planes(&fit.levels, usize::from(bits) - 1, &mut rest[REST_HEADER..]);
        }
    }

    /// `add`, `rescale` and `error`, for ⟨v,c'⟩ = `across`.
    fn stored(&self, vector: &[f32], centre: &RabitqCentre, factors: Factors, across: f64) -> [f32; 3] {
        let Factors { square, rescale, error } = factors;
        let [add, rescale, error] = if self.metric == Metric::Euclidean {
            [square + 2.0 * rescale * across, -2.0 * rescale, 2.0 * error]
        } else {
            let terms = vector.iter().zip(&centre.raw);
            let along: f64 = terms.map(|(&x, &c)| f64::from(x - c) * f64::from(c)).sum();
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
        let bits = quantizer.config.bits;
        let raw = normalised(self.metric, query);
        let rotated = quantizer.rotated(&raw, &quantizer.centre);
        let terms = subset_terms(&rotated);
        let tables = Tables::new(&terms, quantizer.config.wide_tables);
        let rounded = match bits {
            1 => None,
            _ => Some(RoundedQuery::new(&rotated, bits >= TWO_PASS_BITS)),
        };
        RabitqBlockQuery {
            blocks: self,
            fastscan: FastScan::get(),
            planes: PlaneDot::get(),
            tables,
            rounded,
            raw,
        }
    }
}

/// ⟨u − middle, c'⟩.
fn across(levels: &[u8], middle: f64, rotated: &[f32]) -> f64 {
    levels.iter().zip(rotated).map(|(&level, &c)| (f64::from(level) - middle) * f64::from(c)).sum()
}

/// For every four coordinates the sixteen sums `Σ (bit − ½)·q`, each by adding the lowest bit set to a sum that is
/// there already.
fn subset_terms(rotated: &[f32]) -> Vec<f32> {
    let mut terms = Vec::with_capacity(rotated.len() * 4);
    for four in rotated.chunks_exact(4) {
        let mut table = [-four.iter().sum::<f32>() / 2.0; 16];
        for code in 1..16_usize {
            table[code] = table[code & (code - 1)] + four[code.trailing_zeros() as usize];
        }
        terms.extend_from_slice(&table);
    }
    terms
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

    /// Estimates for a block of a list, unless no bit of `mask` is set: then the block is not read, `out` stays as
    /// it is and the answer is false.
    ///
    /// # Panics
    /// When `block` has another length.
    pub fn scan(&self, term: ListTerm, block: &[u8], mask: u32, out: &mut BlockEstimates) -> bool {
        if mask == 0 {
            return false;
        }
        self.scan_distances(term, block, &mut out.product, &mut out.distance);
        let epsilon = self.blocks.quantizer.config.epsilon;
        let (scale, rounding) = (epsilon * term.radius, self.tables.error());
        for lane in 0..BLOCK_VECTORS {
            let rescale = read_f32(block, BLOCK_VECTORS + lane).abs();
            out.error[lane] = scale * read_f32(block, 2 * BLOCK_VECTORS + lane) + rounding * rescale;
        }
        true
    }

    #[inline]
    fn scan_distances(
        &self,
        term: ListTerm,
        block: &[u8],
        product: &mut [f32; BLOCK_VECTORS],
        distance: &mut [f32; BLOCK_VECTORS],
    ) {
        assert_eq!(block.len(), FACTORS + self.tables.code_bytes(), "the block has another length");
        let (factors, codes) = block.split_at(FACTORS);
        self.tables.sums(self.fastscan, codes, product);
        for lane in 0..BLOCK_VECTORS {
            let (add, rescale) = (read_f32(factors, lane), read_f32(factors, BLOCK_VECTORS + lane));
            distance[lane] = add + term.add + rescale * product[lane];
        }
    }

    /// The estimate from all bits, and how far the truth may be from it, for a vector whose one-bit
    /// [`product`](BlockEstimates::product) a scan has found.
    ///
    /// # Panics
    /// When the codes have one bit, or `rest` is not one row of remaining bits.
    pub fn refine(&self, term: ListTerm, product: f32, rest: &[u8]) -> (f32, f32) {
        let rounded = self.rounded.as_ref().expect("codes of one bit have no others to refine with");
        assert_eq!(rest.len(), self.blocks.rest_bytes(), "the row of remaining bits has another length");
        let config = &self.blocks.quantizer.config;
        let bits = config.bits;
        let top = f32::from(1_u16 << (bits - 1));
        let middle = levels::middle(bits - 1) as f32;
        let all = top * product + rounded.product(self.planes, &rest[REST_HEADER..], middle);
        let (add, rescale, error) = (read_f32(rest, 0), read_f32(rest, 1), read_f32(rest, 2));
        let dims = self.blocks.quantizer.code_dim() as f32;
        let noise = config.epsilon * rounded.noise * (dims / 12.0).sqrt() * top;
        let rounding = rescale.abs() * (top * self.tables.error() + noise);
        (add + term.add + rescale * all, config.epsilon * error * term.radius + rounding)
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
        let mut product = [0.0; BLOCK_VECTORS];
        self.query.scan_distances(self.term, block, &mut product, out);
    }
}
