//! One hash table: the rows of each code, one after the other in one array, and what came since in chains.
//!
//! `rows[starts[code]..starts[code + 1]]` are a bucket's rows; places that came free are at its end. Rows that were
//! inserted since the array was built hang in chains by code. When those are an eighth of the rows, the array is built
//! again, which costs a constant number of steps for each insertion.

use std::borrow::Cow;
use std::ops::Range;
use vdb_distance::AlignedVec;

/// No row, and the end of a chain.
const NONE: u32 = u32::MAX;
/// The fewest rows in chains before the array is built again.
const LEAST_CHAINED: usize = 1_024;
/// The share of the rows in chains at which it is: one in so many.
const CHAINED_SHARE: usize = 8;

#[derive(Debug, Clone)]
pub(super) struct Buckets {
    starts: AlignedVec<u32>,
    rows: AlignedVec<u32>,
    /// First link of each code's chain; empty while there are no chains.
    heads: Vec<u32>,
    links: Vec<Link>,
}

#[derive(Debug, Clone, Copy)]
struct Link {
    row: u32,
    next: u32,
}

impl Buckets {
    /// A table of `rows`, whose codes of `bits` bits `code` tells by their place.
    pub(super) fn build(bits: usize, rows: &[u32], code: impl Fn(usize) -> u32) -> Self {
        let mut ends = AlignedVec::<u32>::new();
        ends.resize((1 << bits) + 1, 0);
        (0..rows.len()).for_each(|place| ends[code(place) as usize + 1] += 1);
        (1..ends.len()).for_each(|i| ends[i] += ends[i - 1]);
        let starts = ends.clone();
        let mut sorted = AlignedVec::new();
        sorted.resize(rows.len(), NONE);
        for (place, &row) in rows.iter().enumerate() {
            let end = &mut ends[code(place) as usize];
            sorted[*end as usize] = row;
            *end += 1;
        }
        Self { starts, rows: sorted, heads: Vec::new(), links: Vec::new() }
    }

    pub(super) fn bytes(&self) -> usize {
        (self.starts.capacity() + self.rows.capacity() + self.heads.capacity()) * 4
            + self.links.capacity() * size_of::<Link>()
    }

    /// Adds a row that is not in the table.
    pub(super) fn insert(&mut self, code: u32, row: u32) {
        if self.heads.is_empty() {
            self.heads = vec![NONE; self.starts.len() - 1];
        }
        let head = &mut self.heads[code as usize];
        let next = std::mem::replace(head, self.links.len() as u32);
        self.links.push(Link { row, next });
        if self.links.len() > LEAST_CHAINED.max(self.rows.len() / CHAINED_SHARE) {
            self.rebuild();
        }
    }

    /// Where a bucket's rows are; nowhere where the numbers, those of a damaged file, say anything else.
    #[inline]
    fn range(&self, code: u32) -> Range<usize> {
        let end = (self.starts[code as usize + 1] as usize).min(self.rows.len());
        (self.starts[code as usize] as usize).min(end)..end
    }

    /// A table of its arrays, which may be read in place: as many `starts` as there are codes, and one more.
    pub(super) fn open(starts: AlignedVec<u32>, rows: AlignedVec<u32>) -> Self {
        Self { starts, rows, heads: Vec::new(), links: Vec::new() }
    }

    /// Its arrays where all rows, so many, lie in them; else those of a table that was built again.
    pub(super) fn arrays(&self, rows: usize) -> Cow<'_, Self> {
        if self.links.is_empty() && self.rows.len() == rows {
            return Cow::Borrowed(self);
        }
        let mut own = self.clone();
        own.rebuild();
        Cow::Owned(own)
    }

    pub(super) fn starts(&self) -> &AlignedVec<u32> {
        &self.starts
    }

    pub(super) fn rows(&self) -> &AlignedVec<u32> {
        &self.rows
    }

    /// Copies what is read in place.
    pub(super) fn pin(&mut self) {
        self.starts = AlignedVec::from(&self.starts[..]);
        self.rows = AlignedVec::from(&self.rows[..]);
    }

    fn rebuild(&mut self) {
        let codes = 0..self.starts.len() as u32 - 1;
        let pairs: Vec<(u32, u32)> =
            codes.flat_map(|code| self.bucket(code).map(move |row| (code, row))).collect();
        let rows: Vec<u32> = pairs.iter().map(|&(_, row)| row).collect();
        *self = Self::build((self.starts.len() - 1).ilog2() as usize, &rows, |place| pairs[place].0);
    }

    /// Takes a row out of a bucket; says whether it was there.
    pub(super) fn remove(&mut self, code: u32, row: u32) -> bool {
        let range = self.range(code);
        let bucket = &mut self.rows[range];
        if let Some(place) = bucket.iter().position(|&other| other == row) {
            bucket[place..].rotate_left(1);
            bucket[bucket.len() - 1] = NONE;
            return true;
        }
        let mut link = self.heads.get(code as usize).copied().unwrap_or(NONE);
        while link != NONE {
            let Link { row: other, next } = &mut self.links[link as usize];
            if *other == row {
                *other = NONE;
                return true;
            }
            link = *next;
        }
        false
    }

    /// Where a bucket's rows are, for asking for them ahead.
    #[inline]
    pub(super) fn prefetch_start(&self, code: u32) {
        vdb_distance::prefetch(&self.starts, code as usize, 1);
    }

    /// Asks for a bucket's rows.
    #[inline]
    pub(super) fn prefetch_rows(&self, code: u32) {
        vdb_distance::prefetch(&self.rows, self.starts[code as usize] as usize, 1);
    }

    /// The rows of a code.
    #[inline]
    pub(super) fn bucket(&self, code: u32) -> impl Iterator<Item = u32> + '_ {
        let array = self.rows[self.range(code)].iter().copied().take_while(|&row| row != NONE);
        let mut link = self.heads.get(code as usize).copied().unwrap_or(NONE);
        let chain = std::iter::from_fn(move || {
            let Link { row, next } = *self.links.get(link as usize)?;
            link = next;
            Some(row)
        });
        array.chain(chain.filter(|&row| row != NONE))
    }

    /// Takes a row out of whichever bucket holds it.
    pub(super) fn remove_anywhere(&mut self, row: u32) {
        for code in 0..self.starts.len() as u32 - 1 {
            if self.remove(code, row) {
                return;
            }
        }
    }
}
