//! Codes of links: one bit a coordinate of the difference between a neighbour and the node, 32 neighbours a block.
//!
//! Let p be a node, y a neighbour, both placed and coded (z their heads as the codes have them), r = z_y − z_p the
//! difference and s its signs. RaBitQ's estimator (Gao & Long, SIGMOD 2024) of ⟨r, v⟩ is f·⟨s, v⟩ with
//! f = ‖r‖² / ‖r‖₁, off by ‖r‖‖v‖ √((1 − a²) / a²) / √(m − 1) or so, a = ‖r‖₁ / (√m ‖r‖). Centred on the node, with
//! the query's head q and its distance d(q, p) by codes, the neighbour's distance by codes is about
//!
//! d(q, p) + [‖y‖² − ‖p‖² − 2⟨r, z_p⟩ + 2f⟨s, z_p⟩] − 2f⟨s, q⟩
//!
//! where the bracket is stored, so that one set of look-up tables serves all nodes (as SymphonyQG does: Gou and others,
//! SIGMOD 2025). A walk reads the code of a neighbour only if this estimate, less what it may be off by, is inside its
//! beam: estimates never order a beam.
//!
//! ```text
//! block: 32 × add (f32), 32 × rescale and error (the upper halves of f32), the signs in FastScan order
//! ```

use super::{TraversalCodes, TraversalQuery};
use crate::fastscan::{BLOCK_VECTORS, Tables};
use crate::kernels::compiled::{self, Work};
use crate::kernels::fastscan::{self, BLOCK_FACTOR_BYTES, BlockEstimates, FastScan, Scale};
use crate::kernels::int8::FACTOR_BYTES;
use rayon::prelude::*;
use vdb_distance::{AlignedVec, prefetch};

/// Values summed side by side.
const LANES: usize = 16;
/// Values of a nibble of signs.
const NIBBLE: usize = 4;

/// Blocks of the links of all nodes, as many blocks a node as its longest row of links needs.
#[derive(Debug, Clone)]
pub struct EdgeCodes {
    m: usize,
    block_bytes: usize,
    blocks_per_node: usize,
    blocks: AlignedVec<u8>,
}

/// A query of edge codes.
pub struct EdgeQuery {
    tables: Tables,
    kernel: FastScan,
    scale: Scale,
    spread: f32,
    estimates: [BlockEstimates; 1],
}

impl EdgeCodes {
    /// Blocks for nodes of up to `links` links whose codes are `codes`; links are not coded yet.
    pub fn new(codes: &TraversalCodes, links: usize) -> EdgeCodes {
        let m = codes.basis().m();
        let block_bytes = BLOCK_FACTOR_BYTES + fastscan::padded_bytes(m.div_ceil(NIBBLE));
        EdgeCodes {
            m,
            block_bytes,
            blocks_per_node: links.div_ceil(BLOCK_VECTORS),
            blocks: AlignedVec::new(),
        }
    }

    /// Heap bytes held.
    pub fn bytes(&self) -> usize {
        self.blocks.bytes()
    }

    fn node_bytes(&self) -> usize {
        self.block_bytes * self.blocks_per_node
    }

    /// Gives blocks to all nodes below `len`.
    pub fn grow(&mut self, len: usize) {
        let bytes = len * self.node_bytes();
        if bytes > self.blocks.len() {
            self.blocks.reserve_exact(bytes - self.blocks.len());
            self.blocks.resize(bytes, 0);
        }
    }

    /// Codes the links of `nodes`, which are given by `links`, on all threads.
    ///
    /// # Panics
    /// When a node or a neighbour has no code, or a node more links than there is room for.
    pub fn set_all<'a>(
        &mut self,
        codes: &TraversalCodes,
        nodes: &[u32],
        links: impl Fn(u32) -> &'a [u32] + Sync,
    ) {
        const CHUNK: usize = 4_096;
        let node_bytes = self.node_bytes();
        let (m, block_bytes) = (self.m, self.block_bytes);
        for nodes in nodes.chunks(CHUNK) {
            let mut coded = vec![0; nodes.len() * node_bytes];
            let work = coded.par_chunks_mut(node_bytes).zip(nodes).with_min_len(16);
            work.for_each_init(<(Vec<f32>, Vec<f32>)>::default, |(own, other), (blocks, &node)| {
                codes.head_of(node, own);
                let links = links(node).chunks(BLOCK_VECTORS);
                for (block, links) in blocks.chunks_exact_mut(block_bytes).zip(links) {
                    for (lane, &neighbour) in links.iter().enumerate() {
                        codes.head_of(neighbour, other);
                        let squares = (codes.square_of(node), codes.square_of(neighbour));
                        set(block, lane, (own, other), squares, m);
                    }
                }
            });
            for (&node, coded) in nodes.iter().zip(coded.chunks_exact(node_bytes)) {
                let start = node as usize * node_bytes;
                self.blocks[start..start + node_bytes].copy_from_slice(coded);
            }
        }
    }

    /// Makes a query whose estimates are lowered by `deviations` times what they are off by, typically, before they are
    /// held against a limit.
    pub fn query(&self, query: &TraversalQuery, deviations: f32) -> EdgeQuery {
        let mut head = query.head().to_vec();
        head.resize(self.m.next_multiple_of(NIBBLE), 0.0);
        let tables = Tables::of_levels(&head, 1, false);
        let scale = Scale {
            offset: tables.offset,
            step: tables.step,
            list: 0.0,
            spread: 0.0,
            rounding: deviations * tables.deviation(),
            limit: 0.0,
        };
        let estimates = [BlockEstimates::default()];
        EdgeQuery { tables, kernel: FastScan::get(), scale, spread: deviations, estimates }
    }

    /// Asks for a node's blocks ahead of their use.
    #[inline]
    pub fn prefetch(&self, node: u32) {
        prefetch(&self.blocks, node as usize * self.node_bytes(), self.node_bytes() / 64);
    }

    /// Which of the up to 32 links of a node's block, those in `mask`, may be nearer than `limit`; `distance` is that
    /// of the node itself.
    ///
    /// # Panics
    /// When there is no such block.
    #[inline]
    pub fn near(
        &self,
        query: &mut EdgeQuery,
        node: u32,
        block: usize,
        distance: f32,
        limit: f32,
        mask: u32,
    ) -> u32 {
        let start = node as usize * self.node_bytes() + block * self.block_bytes;
        query.scale.list = distance;
        query.scale.spread = query.spread * distance.max(0.0).sqrt();
        query.scale.limit = limit;
        query.estimates[0].near = mask;
        let block = &self.blocks[start..start + self.block_bytes];
        query.kernel.estimate(block, query.tables.bytes(), &query.scale, &mut query.estimates);
        query.estimates[0].near
    }
}

impl TraversalCodes {
    /// The head that a code stands for.
    fn head_of(&self, offset: u32, head: &mut Vec<f32>) {
        let row = self.row(offset);
        let scale = factor(row, 0);
        head.clear();
        head.extend(row[..self.basis.m()].iter().map(|&level| scale * (f32::from(level) - 128.0)));
        head.resize(head.len().next_multiple_of(LANES), 0.0);
    }

    fn square_of(&self, offset: u32) -> f32 {
        factor(self.row(offset), 4)
    }
}

fn factor(row: &[u8], at: usize) -> f32 {
    let factors = &row[row.len() - FACTOR_BYTES..];
    f32::from_le_bytes(factors[at..at + 4].try_into().expect("four bytes"))
}

/// Writes one link; heads are those of the node and of the neighbour, padded with zeros.
fn set(block: &mut [u8], lane: usize, heads: (&[f32], &[f32]), squares: (f32, f32), m: usize) {
    let [square, size, along, signs_along] = compiled::widest(Sums(heads.0, heads.1));
    let f = if size > 0.0 { square / size } else { 0.0 };
    let add = squares.1 - squares.0 - 2.0 * along + 2.0 * f * signs_along;
    // Products with tables are of levels less a half, half as large as those with signs.
    let rescale = upper_half(-4.0 * f);
    // ‖r‖² (1 − a²) / a² = m ‖r‖⁴ / ‖r‖₁² − ‖r‖².
    let variance = (m as f32 * f * f - square).max(0.0) / (m as f32 - 1.0).max(1.0);
    let error = upper_half(2.0 * variance.sqrt());
    block[4 * lane..4 * lane + 4].copy_from_slice(&add.to_le_bytes());
    let pair = rescale | error >> 16;
    let at = 4 * (BLOCK_VECTORS + lane);
    block[at..at + 4].copy_from_slice(&pair.to_le_bytes());
    let codes = &mut block[BLOCK_FACTOR_BYTES..];
    let values = heads.0.as_chunks::<NIBBLE>().0.iter().zip(heads.1.as_chunks::<NIBBLE>().0);
    for (table, (own, other)) in values.take(m.div_ceil(NIBBLE)).enumerate() {
        let bits = (0..NIBBLE).map(|i| u8::from(other[i] > own[i]) << i).sum();
        fastscan::put(codes, table, lane, bits);
    }
}

/// The upper half of a number's bits, rounded to the nearest.
fn upper_half(value: f32) -> u32 {
    value.to_bits().saturating_add(0x8000) & 0xFFFF_0000
}

/// For r = second − first: ‖r‖², ‖r‖₁, ⟨r, first⟩ and ⟨signs of r, first⟩, where zero is negative.
struct Sums<'a>(&'a [f32], &'a [f32]);

impl Work for Sums<'_> {
    type Output = [f32; 4];

    #[inline(always)]
    fn run(self) -> [f32; 4] {
        let mut sums = [[0.0_f32; LANES]; 4];
        for (own, other) in self.0.as_chunks::<LANES>().0.iter().zip(self.1.as_chunks::<LANES>().0) {
            for i in 0..LANES {
                let r = other[i] - own[i];
                let sign = if r > 0.0 { 1.0 } else { -1.0 };
                sums[0][i] += r * r;
                sums[1][i] += r.abs();
                sums[2][i] += r * own[i];
                sums[3][i] += sign * own[i];
            }
        }
        sums.map(|lanes| lanes.iter().sum())
    }
}
