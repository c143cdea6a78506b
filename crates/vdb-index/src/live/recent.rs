//! Rows that the sealed graph does not hold yet, in small blocks that are searched exactly.
//!
//! A block is a matrix of up to 64 rows that never changes once it was given out, and one word that tells which of its
//! rows are live. A copy of the list shares the matrices. Rows come one by one, so the last blocks are joined again and
//! again as in a binary counter: a row is copied a handful of times, and blocks are few.
//!
//! A row has a *place*: how many rows had come before it, since the index was made. Places order the blocks and are never
//! used again.

use crate::vectors::Vectors;
use crate::{Answer, Hit, Request, top_k::TopK};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use vdb_distance::Metric;

/// Rows of a block at most: the bits of its word.
const BLOCK_ROWS: usize = u64::BITS as usize;
/// The last block but one is joined with the last where it holds at most this many times its rows.
const JOINED: usize = 2;

/// Rows and where in the index they belong.
#[derive(Debug, Clone)]
struct Rows {
    offsets: Vec<u32>,
    vectors: Vectors,
}

/// Some rows that came one after the other.
#[derive(Debug, Clone)]
struct Block {
    /// The place of the first row.
    first: u64,
    rows: Arc<Rows>,
    live: u64,
}

impl Block {
    fn len(&self) -> usize {
        self.rows.offsets.len()
    }
}

/// The recent rows.
#[derive(Debug, Clone)]
pub struct Recent {
    metric: Metric,
    dim: usize,
    blocks: Vec<Block>,
    rows: usize,
    live: usize,
    /// The place of the next row.
    next: u64,
    /// Rows before this place are not joined with later ones.
    sealed: u64,
}

impl Recent {
    /// No rows yet.
    pub fn new(metric: Metric, dim: usize) -> Self {
        Self { metric, dim, blocks: Vec::new(), rows: 0, live: 0, next: 0, sealed: 0 }
    }

    /// Rows, live or not.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Live rows.
    pub fn live(&self) -> usize {
        self.live
    }

    /// Takes a row in and gives its place. Not to be given out before [`join`](Self::join).
    pub fn push(&mut self, offset: u32, vector: &[f32]) -> u64 {
        let has_room = |block: &Block| block.len() < BLOCK_ROWS && block.first >= self.sealed;
        let open = self.blocks.last_mut().filter(|block| has_room(block));
        // A block that was given out is not changed any more; the next row gets one of its own.
        match open.and_then(|block| Arc::get_mut(&mut block.rows).map(|rows| (rows, &mut block.live))) {
            Some((rows, live)) => {
                *live |= 1 << rows.offsets.len();
                rows.offsets.push(offset);
                rows.vectors.push(vector);
            }
            None => {
                let mut vectors = Vectors::new(self.metric, self.dim);
                vectors.push(vector);
                let rows = Arc::new(Rows { offsets: vec![offset], vectors });
                self.blocks.push(Block { first: self.next, rows, live: 1 });
            }
        }
        self.rows += 1;
        self.live += 1;
        self.next += 1;
        self.next - 1
    }

    /// Joins small blocks at the end.
    pub fn join(&mut self) {
        while let [.., one, two] = self.blocks.as_slice() {
            let count = one.len() + two.len();
            if one.first < self.sealed || count > BLOCK_ROWS || one.len() > JOINED * two.len() {
                return;
            }
            let live = one.live | two.live << one.len();
            let mut rows =
                Rows { offsets: Vec::with_capacity(count), vectors: Vectors::new(self.metric, self.dim) };
            rows.vectors.reserve(count);
            for block in [one, two] {
                rows.offsets.extend_from_slice(&block.rows.offsets);
                (0..block.len() as u32).for_each(|row| {
                    rows.vectors.push(&block.rows.vectors.row(row));
                });
            }
            let joined = Block { first: one.first, rows: Arc::new(rows), live };
            self.blocks.truncate(self.blocks.len() - 2);
            self.blocks.push(joined);
        }
    }

    /// The row at a place is no longer live.
    ///
    /// # Panics
    /// When it is not live.
    pub fn remove(&mut self, place: u64) {
        let block = self.blocks.partition_point(|block| block.first <= place) - 1;
        let block = &mut self.blocks[block];
        let bit = 1 << (place - block.first);
        assert!(block.live & bit != 0, "the row at place {place} is not live");
        block.live &= !bit;
        self.live -= 1;
    }

    /// From now on what is here stays apart from what comes. Gives the place of the next row.
    pub fn seal(&mut self) -> u64 {
        self.sealed = self.next;
        self.next
    }

    /// Leaves out the rows before `place`, which was sealed.
    pub(super) fn drop_before(&mut self, place: u64) {
        let blocks = self.blocks.partition_point(|block| block.first < place);
        for block in self.blocks.drain(..blocks) {
            self.rows -= block.len();
            self.live -= block.live.count_ones() as usize;
        }
    }

    /// The live rows alone, at places of their own.
    pub(super) fn compacted(&self, mut moved: impl FnMut(u32, u64)) -> Recent {
        let mut compacted = Recent { next: self.next, sealed: self.next, ..Self::new(self.metric, self.dim) };
        for (offset, vectors, row) in self.live_places() {
            moved(offset, compacted.push(offset, &vectors.row(row)));
        }
        compacted
    }

    /// The live rows in the order in which they came: where they belong, and where their values are.
    pub(super) fn live_places(&self) -> impl Iterator<Item = (u32, &Vectors, u32)> {
        self.blocks.iter().flat_map(|Block { rows, live, .. }| {
            let Rows { offsets, vectors } = &**rows;
            crate::bitset::ones(*live, 0).map(move |row| (offsets[row as usize], vectors, row))
        })
    }

    /// Offsets of rows that are live here and not, or no more, in `later`, a later state of these rows.
    pub(super) fn gone_in(&self, later: &Recent) -> Vec<u32> {
        let pairs = self.blocks.iter().zip(&later.blocks);
        let gone = pairs.flat_map(|(now, later)| {
            debug_assert_eq!((now.first, now.len()), (later.first, later.len()), "sealed blocks stay");
            crate::bitset::ones(now.live & !later.live, 0).map(|row| now.rows.offsets[row as usize])
        });
        gone.collect()
    }

    /// The values of the live row that belongs to `offset`.
    pub(super) fn row(&self, offset: u32) -> Option<Vec<f32>> {
        self.blocks.iter().rev().find_map(|Block { rows, live, .. }| {
            let row =
                rows.offsets.iter().zip(0..).position(|(&own, bit)| own == offset && live >> bit & 1 == 1)?;
            Some(rows.vectors.row(row as u32).to_vec())
        })
    }

    /// The values of the live row at `place`.
    pub fn row_at(&self, place: u64) -> Option<Vec<f32>> {
        let block = self.blocks.partition_point(|block| block.first <= place).checked_sub(1)?;
        let block = &self.blocks[block];
        let row = place - block.first;
        (row < block.len() as u64 && block.live >> row & 1 == 1)
            .then(|| block.rows.vectors.row(row as u32).to_vec())
    }

    /// The live rows in the order in which they came: where they belong, and their values.
    pub fn live_rows(&self) -> impl Iterator<Item = (u32, Cow<'_, [f32]>)> {
        self.live_places().map(|(offset, vectors, row)| (offset, vectors.row(row)))
    }

    /// The `k` nearest live rows that the request allows by their offsets; exact.
    ///
    /// # Panics
    /// When the query has another dimension.
    pub fn search(&self, request: &Request<'_>) -> Answer {
        let mut top = TopK::new(request.k, request.tie_break);
        let distance_computations = self.search_into(request, &mut top);
        Answer { hits: top.into_sorted(), exact: true, distance_computations, ..Answer::default() }
    }

    /// As [`search`](Self::search), of the rows from `place` on, at which they were [kept apart](Self::seal).
    ///
    /// # Panics
    /// When the query has another dimension.
    pub fn search_from(&self, place: u64, request: &Request<'_>) -> Answer {
        let mut top = TopK::new(request.k, request.tie_break);
        let first = self.blocks.partition_point(|block| block.first < place);
        let distance_computations =
            self.blocks[first..].iter().map(|block| block.search(request, &mut top)).sum();
        Answer { hits: top.into_sorted(), exact: true, distance_computations, ..Answer::default() }
    }

    /// Compares all matching rows; gives how many.
    pub(super) fn search_into(&self, request: &Request<'_>, top: &mut TopK<'_>) -> usize {
        self.blocks.iter().map(|block| block.search(request, top)).sum()
    }

    /// Heap bytes held.
    pub fn bytes(&self) -> usize {
        let rows = |block: &Block| block.rows.vectors.bytes() + block.rows.offsets.capacity() * 4;
        self.blocks.capacity() * size_of::<Block>() + self.blocks.iter().map(rows).sum::<usize>()
    }

    /// Sizes of the blocks.
    #[cfg(test)]
    fn block_lens(&self) -> Vec<usize> {
        self.blocks.iter().map(Block::len).collect()
    }
}

impl Block {
    fn search(&self, request: &Request<'_>, top: &mut TopK<'_>) -> usize {
        let Rows { offsets, vectors } = &*self.rows;
        let is_allowed = |row: &u32| request.allowed.is_none_or(|set| set.contains(offsets[*row as usize]));
        let (mut matching, mut count) = ([0; BLOCK_ROWS], 0);
        for row in crate::bitset::ones(self.live, 0).filter(is_allowed) {
            matching[count] = row;
            count += 1;
        }
        if count == 0 || top.k() == 0 {
            return 0;
        }
        let matching = &matching[..count];
        let query = vectors.query(request.query);
        let mut distances = [0.0f32; BLOCK_ROWS];
        let all: Range<usize> = 0..offsets.len();
        let is_dense = count * 2 > all.len();
        if is_dense {
            query.scan(0, &mut distances[all]);
        } else {
            query.gather(matching, &mut distances[..count]);
        }
        let mut bound = top.worst().map_or(f32::INFINITY, |worst| query.bound(worst));
        for (place, &row) in matching.iter().enumerate() {
            let comparable = distances[if is_dense { row as usize } else { place }];
            if comparable <= bound {
                let hit = Hit { offset: offsets[row as usize], distance: query.finish(row, comparable) };
                if top.push(hit) {
                    bound = top.worst().map_or(f32::INFINITY, |worst| query.bound(worst));
                }
            }
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BitSet;
    use crate::testing::{METRICS, Rng, brute_force};

    /// Rows that come alone, in batches and go, beside a plain matrix with the same places.
    #[test]
    fn finds_what_a_plain_scan_finds_and_copies_stay_as_they_were() {
        for metric in METRICS {
            let mut rng = Rng(17);
            let mut recent = Recent::new(metric, 5);
            let mut plain = Vectors::new(metric, 5);
            let mut kept: Vec<(Recent, Vectors)> = Vec::new();
            for step in 0..400 {
                let count = if rng.below(8) == 0 { rng.below(150) } else { 1 };
                for _ in 0..count {
                    let row = rng.vector(5);
                    let offset = plain.push(&row);
                    assert_eq!(recent.push(offset, &row), u64::from(offset));
                }
                for _ in 0..rng.below(3) {
                    let place = rng.below(plain.len()) as u32;
                    if plain.remove(place) {
                        recent.remove(u64::from(place));
                    }
                }
                recent.join();
                kept.push((recent.clone(), plain.clone()));
                let (recent, plain) = &kept[rng.below(kept.len())];
                let query = rng.vector(5);
                let allowed = BitSet::from_fn(plain.len(), |_| rng.below(3) > 0);
                for allowed in [None, Some(&allowed)] {
                    let request = Request { allowed, ..Request::new(&query, 1 + rng.below(20)) };
                    let mut top = TopK::new(request.k, request.tie_break);
                    let compared = recent.search_into(&request, &mut top);
                    assert_eq!(top.into_sorted(), brute_force(plain, &request), "{metric}, step {step}");
                    assert_eq!(compared, request.matching(plain).count());
                }
                let offset = rng.below(plain.len()) as u32;
                let row = plain.live().contains(offset).then(|| plain.row(offset).to_vec());
                assert_eq!(recent.row(offset), row);
            }
        }
    }

    #[test]
    fn blocks_are_few_whatever_the_batches() {
        for batches in
            [vec![1], vec![1, 64], vec![3, 7, 40], (1..64).rev().collect(), vec![33, 32], vec![1_000]]
        {
            let mut recent = Recent::new(Metric::Euclidean, 1);
            let mut copied = Vec::new();
            for round in 0..2_000 / batches.len() {
                for &batch in &batches {
                    (0..batch).for_each(|_| {
                        recent.push(round as u32, &[0.5]);
                    });
                    recent.join();
                    // As a snapshot does.
                    copied = recent.blocks.clone();
                }
            }
            drop(copied);
            let lens = recent.block_lens();
            assert_eq!(lens.iter().sum::<usize>(), recent.rows());
            assert!(
                lens.len() <= recent.rows() / 24 + 8,
                "{batches:?}: {} blocks of {}",
                lens.len(),
                recent.rows()
            );
        }
    }

    #[test]
    fn sealed_rows_can_be_left_out() {
        let mut recent = Recent::new(Metric::Euclidean, 1);
        let push = |recent: &mut Recent, offset| {
            let place = recent.push(offset, &[offset as f32]);
            recent.join();
            place
        };
        let places: Vec<u64> = (0..90).map(|offset| push(&mut recent, offset)).collect();
        recent.remove(places[3]);
        let from = recent.seal();
        let frozen = recent.clone();
        (90..200).for_each(|offset| {
            push(&mut recent, offset);
        });
        recent.remove(places[80]);
        recent.remove(places[0]);
        assert_eq!(frozen.gone_in(&recent), [0, 80]);
        recent.drop_before(from);
        assert_eq!((recent.rows(), recent.live()), (110, 110));
        assert!(recent.live_places().map(|(offset, ..)| offset).eq(90..200));
        recent.remove(100);
        let mut moved = Vec::new();
        let compacted = recent.compacted(|offset, place| moved.push((offset, place)));
        assert_eq!((compacted.rows(), compacted.live()), (109, 109));
        assert_eq!((moved[0], moved[10]), ((90, 200), (101, 210)));
    }
}
