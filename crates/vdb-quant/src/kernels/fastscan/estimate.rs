//! From a block's sums to estimates of distances, with a lower bound on each held against a limit.
//!
//! ```text
//! factors of a block: 32 × add (f32), then 32 × u32: rescale (high half) and error (low half), each the upper half
//!                     of an f32
//! product  = offset + step · sum            distance = (add + list) + rescale · product
//! bound    = distance − (spread · error + rounding · |rescale|)          near: not bound ≥ limit
//! ```
//!
//! Every operation is rounded by itself (no fused multiply-add), so every path gives the same bits. A bound that is
//! not a number counts as near.

use super::BLOCK;

/// Bytes of a block before its codes.
pub(crate) const BLOCK_FACTOR_BYTES: usize = 2 * 4 * BLOCK;

/// The look-up tables of one query, eight bits an entry.
#[derive(Clone, Copy)]
pub(crate) struct Tables8<'a> {
    pub(crate) low: &'a [u8],
    /// The more significant bytes of entries of sixteen bits; else empty.
    pub(crate) high: &'a [u8],
}

/// What the estimates of a list have in common; see the module page.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scale {
    pub(crate) offset: f32,
    pub(crate) step: f32,
    pub(crate) list: f32,
    pub(crate) spread: f32,
    pub(crate) rounding: f32,
    pub(crate) limit: f32,
}

/// BlockEstimates for the 32 vectors of a block.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(64))]
pub struct BlockEstimates {
    /// Distances; infinite where the block holds no vector.
    pub distance: [f32; BLOCK],
    /// Below the distances by how far the truth may be from each.
    pub bound: [f32; BLOCK],
    /// ⟨u − middle, q'⟩ of the scanned bits, what refining goes on from.
    pub product: [f32; BLOCK],
    /// Before a scan the lanes that are wanted, afterwards those of them whose bound is below the limit. A block of
    /// which no lane is wanted is not read, and its numbers are left as they were.
    pub near: u32,
}

impl Default for BlockEstimates {
    fn default() -> Self {
        let none = [0.0; BLOCK];
        BlockEstimates { distance: none, bound: none, product: none, near: 0 }
    }
}

/// The loop over blocks, around a kernel that sums.
#[inline(always)]
pub(super) fn all(
    blocks: &[u8],
    tables: Tables8<'_>,
    scale: &Scale,
    out: &mut [BlockEstimates],
    scan: impl Fn(&[u8], &[u8], &mut [u32; BLOCK]),
) {
    let block = BLOCK_FACTOR_BYTES + tables.low.len();
    for (block, out) in blocks.chunks_exact(block).zip(out) {
        if out.near == 0 {
            continue;
        }
        let (factors, codes) = block.split_at(BLOCK_FACTOR_BYTES);
        let mut sums = [0; BLOCK];
        scan(codes, tables.low, &mut sums);
        if !tables.high.is_empty() {
            let mut high = [0; BLOCK];
            scan(codes, tables.high, &mut high);
            // A sum of 16-bit entries fits: 65,535 times 32,768 tables of the greatest dimension at two bits.
            sums.iter_mut().zip(high).for_each(|(sum, high)| *sum += high << 8);
        }
        finish(factors, &sums, scale, out);
    }
}

/// The definition; see the module page.
#[inline(always)]
fn finish(factors: &[u8], sums: &[u32; BLOCK], scale: &Scale, out: &mut BlockEstimates) {
    let (adds, pairs) = factors.split_at(4 * BLOCK);
    let (adds, pairs) = (adds.as_chunks::<4>().0, pairs.as_chunks::<4>().0);
    let mut near = 0;
    for lane in 0..BLOCK {
        let pair = u32::from_le_bytes(pairs[lane]);
        let (rescale, error) = (f32::from_bits(pair & 0xFFFF_0000), f32::from_bits(pair << 16));
        let product = scale.offset + scale.step * sums[lane].cast_signed() as f32;
        let distance = (f32::from_le_bytes(adds[lane]) + scale.list) + rescale * product;
        let bound = distance - (scale.spread * error + scale.rounding * rescale.abs());
        out.product[lane] = product;
        out.distance[lane] = distance;
        out.bound[lane] = bound;
        near |= u32::from(!matches!(
            bound.partial_cmp(&scale.limit),
            Some(std::cmp::Ordering::Greater | std::cmp::Ordering::Equal)
        )) << lane;
    }
    out.near &= near;
}
