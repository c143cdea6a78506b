//! One scan over the codes of the rows that may be hits.
//!
//! The set of matching rows is walked a word (64 rows) at a time: empty words and empty blocks are not read, sparse
//! words gather. RaBitQ codes of several bits are read twice: the first bit of all 32 rows of a block, and the others
//! of rows whose estimate, less its error bound, is not above the threshold so far. Tasks have a fixed number of rows
//! and a threshold of their own, so that what is pruned does not depend on the number of threads.

use super::Codes;
use super::codec::Prepared;
use crate::BitSet;
use crate::select::{LANES, Nearest};
use rayon::prelude::*;
use vdb_quant::{BLOCK_VECTORS, BlockEstimates, BlockQuery};

/// Words of 64 rows that a task scans.
const TASK_WORDS: usize = 512;
/// Bytes of codes below which a second thread costs more than it brings.
const PARALLEL_BYTES: usize = 1 << 20;

/// Rows left of a block from which all of it is refined at once, without bounds. Half of a block: scans for the best 40 of
/// wordnet-minilm-384 with two bits ran at 173 to 215 million rows a second from 8 to 16, at 179 to 181 from 24 and at 161
/// to 167 if never (two rounds); with four bits at 109 to 156 in no order. For held-out rows of fashion-mnist-784 and
/// wordnet-minilm-384 (two rounds), 8, 12, 16, 20 and 24 were within the noise of each other, and never was 5 to 10 % slower
/// with two bits.
const WHOLE_BLOCK: u32 = 16;

pub(super) struct Scan<'a> {
    pub(super) codes: &'a Codes,
    pub(super) prepared: &'a Prepared<'a>,
    pub(super) matching: &'a BitSet,
}

/// Writes the estimates of all rows, in order.
pub(super) fn estimates(codes: &Codes, prepared: &Prepared<'_>, all: &mut Vec<f32>) {
    // Every row is asked for below, whatever matches.
    let scan = Scan { codes, prepared, matching: &BitSet::default() };
    all.resize(codes.len.next_multiple_of(LANES), 0.0);
    let mut block = BlockEstimates::default();
    for (word, estimates) in all.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        scan.word(u64::MAX, word * LANES, f32::INFINITY, &mut block, estimates);
    }
    all.truncate(codes.len);
}

impl Scan<'_> {
    /// The `wanted` matching rows with the smallest estimates, in ascending order of their offsets.
    pub(super) fn nearest(&self, wanted: usize) -> Vec<u32> {
        let words = &self.matching.words()[..self.codes.len.div_ceil(LANES).min(self.matching.words().len())];
        let task = |(task, words): (usize, &[u64])| {
            let mut nearest = Nearest::new(wanted);
            self.words(words, task * TASK_WORDS, &mut nearest);
            nearest
        };
        let nothing = || Nearest::new(wanted);
        let read = self.codes.units.len() / self.codes.len.max(1) * self.matching.count();
        let nearest = if read < PARALLEL_BYTES || rayon::current_num_threads() == 1 {
            words.chunks(TASK_WORDS).enumerate().map(task).fold(nothing(), Nearest::merge)
        } else {
            words.par_chunks(TASK_WORDS).enumerate().map(task).reduce(nothing, Nearest::merge)
        };
        nearest.into_offsets()
    }

    fn words(&self, words: &[u64], first_word: usize, nearest: &mut Nearest) {
        let mut estimates = [0.0f32; LANES];
        let mut block = BlockEstimates::default();
        for (index, &word) in words.iter().enumerate().filter(|(_, word)| **word != 0) {
            let first = (first_word + index) * LANES;
            let read = self.word(word, first, nearest.bound(), &mut block, &mut estimates);
            if read != 0 {
                nearest.offer(first as u32, read, &estimates);
            }
        }
    }

    /// Estimates of the coded rows of `word`, at their lanes; gives those that were estimated. Left out are rows that
    /// are surely above `bound`, as far as bounds are known.
    #[inline]
    fn word(
        &self,
        word: u64,
        first: usize,
        bound: f32,
        block: &mut BlockEstimates,
        estimates: &mut [f32; LANES],
    ) -> u64 {
        let rows = self.codes.len.saturating_sub(first).min(LANES);
        let word = if rows < LANES { word & ((1 << rows) - 1) } else { word };
        if let Prepared::Rows(query) = self.prepared {
            if word != 0 {
                self.rows(&**query, word, first, rows, estimates);
            }
            return word;
        }
        let mut read = 0;
        for (half, estimates) in estimates.as_chunks_mut::<BLOCK_VECTORS>().0.iter_mut().enumerate() {
            let mask = (word >> (half * BLOCK_VECTORS)) as u32;
            if mask != 0 {
                let mask = self.block(mask, first + half * BLOCK_VECTORS, bound, block, estimates);
                read |= u64::from(mask) << (half * BLOCK_VECTORS);
            }
        }
        read
    }

    /// [`word`](Self::word) for the block that `row` begins.
    #[inline]
    fn block(
        &self,
        mask: u32,
        row: usize,
        bound: f32,
        block: &mut BlockEstimates,
        estimates: &mut [f32; BLOCK_VECTORS],
    ) -> u32 {
        match self.prepared {
            Prepared::Rows(_) => unreachable!("rows have no blocks"),
            Prepared::Blocks(query) => {
                query.scan_block(self.unit(row), estimates);
                mask
            }
            Prepared::Rabitq { query, term, refines: false } => {
                query.for_list(*term).scan_block(self.unit(row), estimates);
                mask
            }
            Prepared::Rabitq { query, term, refines: true } => {
                block.near = mask;
                // Rows at the bound itself stay in.
                query.scan(*term, bound.next_up(), self.unit(row), std::slice::from_mut(block));
                if block.near.count_ones() >= WHOLE_BLOCK {
                    let rows = (self.codes.len - row).min(BLOCK_VECTORS);
                    let bytes = self.codes.codec.rest_bytes();
                    let rest = &self.codes.rest[row * bytes..][..rows * bytes];
                    query.refine_block(*term, &block.product[..rows], rest, &mut estimates[..rows]);
                    return block.near;
                }
                for lane in crate::bitset::ones(u64::from(block.near), 0) {
                    let (rest, lane) = (self.rest(row + lane as usize), lane as usize);
                    estimates[lane] = query.refine(*term, block.product[lane], rest).0;
                }
                block.near
            }
        }
    }

    /// Estimates of the rows of `word`, at their lanes.
    fn rows(
        &self,
        query: &dyn vdb_quant::CodeQuery,
        word: u64,
        first: usize,
        rows: usize,
        estimates: &mut [f32; LANES],
    ) {
        let bytes = self.codes.codec.unit_bytes();
        if word.count_ones() as usize * 2 > rows {
            query.distances(&self.codes.units[first * bytes..][..rows * bytes], &mut estimates[..rows]);
            return;
        }
        let (mut picked, mut gathered) = ([0u32; LANES], [0.0f32; LANES]);
        let count = word.count_ones() as usize;
        crate::bitset::ones(word, first as u32).zip(&mut picked).for_each(|(row, slot)| *slot = row);
        query.gather(&self.codes.units, &picked[..count], &mut gathered[..count]);
        for (&row, &estimate) in picked[..count].iter().zip(&gathered) {
            estimates[row as usize - first] = estimate;
        }
    }

    /// The block that `row`, a multiple of 32, begins.
    fn unit(&self, row: usize) -> &[u8] {
        let bytes = self.codes.codec.unit_bytes();
        &self.codes.units[row / BLOCK_VECTORS * bytes..][..bytes]
    }

    fn rest(&self, row: usize) -> &[u8] {
        let bytes = self.codes.codec.rest_bytes();
        &self.codes.rest[row * bytes..][..bytes]
    }
}
