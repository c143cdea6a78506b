//! Four-bit product codes in blocks of 32, for FastScan: 16 bytes a piece, pieces padded to a multiple of four, laid out
//! as [`crate::kernels::fastscan`] says. Look-up tables are rounded to eight bits with one step for all pieces.

use vdb_distance::Metric;

use super::{ProductBits, ProductQuantizer};
use crate::fastscan::{BLOCK_VECTORS, BlockQuery, Tables};
use crate::kernels::fastscan::{self, FastScan};
use crate::quantizer::Quantizer;
use crate::rabitq::normalised;

impl ProductQuantizer {
    /// Bytes of a block of 32 four-bit codes.
    pub fn block_bytes(&self) -> usize {
        fastscan::padded_bytes(self.subspaces())
    }

    /// Writes up to 32 row codes as a block; lanes that are left hold centroid 0 of every piece.
    ///
    /// # Panics
    /// When the codes have eight bits, are no whole ones or too many, or `block` has another length.
    pub fn pack_block(&self, codes: &[u8], block: &mut [u8]) {
        assert_eq!(self.bits, ProductBits::Four, "blocks hold four-bit codes");
        assert_eq!(block.len(), self.block_bytes(), "the block has another length");
        let bytes = self.code_bytes();
        assert!(codes.len().is_multiple_of(bytes) && codes.len() <= BLOCK_VECTORS * bytes, "up to 32 codes");
        block.fill(0);
        for (lane, code) in codes.chunks_exact(bytes).enumerate() {
            self.set_lane(code, block, lane);
        }
    }

    /// Writes a row code into a lane of a block, whatever was there.
    ///
    /// # Panics
    /// When the codes have eight bits, there is no such lane, or a length is wrong.
    pub fn set_lane(&self, code: &[u8], block: &mut [u8], lane: usize) {
        assert_eq!(self.bits, ProductBits::Four, "blocks hold four-bit codes");
        assert!(lane < BLOCK_VECTORS, "a block has 32 lanes");
        assert_eq!(code.len(), self.code_bytes(), "the code has another length");
        assert_eq!(block.len(), self.block_bytes(), "the block has another length");
        for piece in 0..self.subspaces() {
            fastscan::put(block, piece, lane, self.number(code, piece));
        }
    }

    /// Encodes up to 32 `vectors`, row-major, as a block.
    ///
    /// # Panics
    /// As [`pack_block`](Self::pack_block).
    pub fn encode_block(&self, vectors: &[f32], block: &mut [u8]) {
        assert!(vectors.len().is_multiple_of(self.dim), "whole vectors");
        let mut codes = vec![0; vectors.len() / self.dim * self.code_bytes()];
        self.encode_all(vectors, &mut codes);
        self.pack_block(&codes, block);
    }

    /// Prepares a query for blocks, with tables of eight bits, or of sixteen if `wide`.
    ///
    /// # Panics
    /// When the codes have eight bits, or the query another dimension.
    pub fn block_query(&self, metric: Metric, query: &[f32], wide: bool) -> ProductBlockQuery {
        assert_eq!(self.bits, ProductBits::Four, "blocks hold four-bit codes");
        let terms = self.terms(metric, &normalised(metric, query));
        ProductBlockQuery { kernel: FastScan::get(), tables: Tables::new(&terms, wide) }
    }
}

/// A query prepared for blocks; made by [`ProductQuantizer::block_query`].
#[derive(Clone)]
pub struct ProductBlockQuery {
    kernel: FastScan,
    tables: Tables,
}

impl ProductBlockQuery {
    /// How far a scanned distance may be from that of the row code: what rounding the tables costs.
    pub fn rounding_error(&self) -> f32 {
        self.tables.error()
    }
}

impl BlockQuery for ProductBlockQuery {
    fn block_bytes(&self) -> usize {
        self.tables.code_bytes()
    }

    fn scan_block(&self, block: &[u8], out: &mut [f32; BLOCK_VECTORS]) {
        assert_eq!(block.len(), self.block_bytes(), "the block has another length");
        self.tables.sums(self.kernel, block, out);
    }
}
