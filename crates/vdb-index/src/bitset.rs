//! A set of offsets as plain 64-bit words: which rows are live, which rows a filter allows.
//!
//! Words are exposed so that a scan can skip 64 rows at once. Bits past the length are always zero.

/// A growable set of row offsets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BitSet {
    words: Vec<u64>,
    len: usize,
    ones: usize,
}

impl BitSet {
    /// An empty set over `len` offsets.
    pub fn new(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(64)], len, ones: 0 }
    }

    /// A set holding those of `0..len` for which `holds` answers true.
    pub fn from_fn(len: usize, mut holds: impl FnMut(u32) -> bool) -> Self {
        let mut set = Self::new(len);
        for offset in 0..len as u32 {
            if holds(offset) {
                set.insert(offset);
            }
        }
        set
    }

    /// The set of all offsets below `len`.
    pub fn all(len: usize) -> Self {
        let mut words = vec![u64::MAX; len.div_ceil(64)];
        if let (Some(last), 1..) = (words.last_mut(), len % 64) {
            *last = (1 << (len % 64)) - 1;
        }
        Self { words, len, ones: len }
    }

    /// A set over `len` offsets of its words; `None` when they are not as many, or bits past the end are set.
    pub fn from_words(len: usize, words: Vec<u64>) -> Option<Self> {
        let past_end = match (words.last(), len % 64) {
            (Some(last), rest @ 1..) => last >> rest,
            _ => 0,
        };
        if words.len() != len.div_ceil(64) || past_end != 0 {
            return None;
        }
        let ones = words.iter().map(|word| word.count_ones() as usize).sum();
        Some(Self { words, len, ones })
    }

    /// A set over `len` offsets that holds `members`.
    pub fn from_members(len: usize, members: &[u32]) -> Self {
        let mut set = Self::new(len);
        for &member in members {
            set.insert(member);
        }
        set
    }

    /// How many offsets the set ranges over (set or not).
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the set ranges over no offsets at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many offsets are in the set.
    pub fn count(&self) -> usize {
        self.ones
    }

    /// Grows the range to `len`; new offsets are not in the set.
    pub fn grow(&mut self, len: usize) {
        if len > self.len {
            self.words.resize(len.div_ceil(64), 0);
            self.len = len;
        }
    }

    /// Whether `offset` is in the set; offsets past the range are not.
    #[inline]
    pub fn contains(&self, offset: u32) -> bool {
        self.words.get(offset as usize / 64).is_some_and(|word| word >> (offset % 64) & 1 == 1)
    }

    /// Adds `offset`, growing the range where needed; says whether it was absent.
    pub fn insert(&mut self, offset: u32) -> bool {
        self.grow(offset as usize + 1);
        let word = &mut self.words[offset as usize / 64];
        let absent = *word >> (offset % 64) & 1 == 0;
        *word |= 1 << (offset % 64);
        self.ones += usize::from(absent);
        absent
    }

    /// Removes `offset`; says whether it was present.
    pub fn remove(&mut self, offset: u32) -> bool {
        let present = self.contains(offset);
        if present {
            self.words[offset as usize / 64] &= !(1 << (offset % 64));
            self.ones -= 1;
        }
        present
    }

    /// The words; bit `i % 64` of word `i / 64` is offset `i`.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// The members in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().enumerate().flat_map(|(index, &word)| ones(word, index as u32 * 64))
    }

    /// The members that are also in `other`.
    pub fn intersection(&self, other: &BitSet) -> BitSet {
        let mut words: Vec<u64> = self.words.iter().zip(&other.words).map(|(a, b)| a & b).collect();
        words.resize(self.words.len(), 0);
        let ones = words.iter().map(|word| word.count_ones() as usize).sum();
        BitSet { words, len: self.len, ones }
    }
}

/// The offsets of the set bits of `word`, the lowest bit being `first`.
pub(crate) fn ones(mut word: u64, first: u32) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        if word == 0 {
            return None;
        }
        let bit = word.trailing_zeros();
        word &= word - 1;
        Some(first + bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn follows_an_ordered_set() {
        let mut model = BTreeSet::new();
        let mut set = BitSet::new(10);
        let mut state = 7u64;
        for _ in 0..5_000 {
            state = crate::hash::mix(state);
            let offset = (state >> 8) as u32 % 300;
            if state & 1 == 0 {
                assert_eq!(set.insert(offset), model.insert(offset));
            } else {
                assert_eq!(set.remove(offset), model.remove(&offset));
            }
            assert_eq!(set.count(), model.len());
        }
        assert!(set.iter().eq(model.iter().copied()));
        assert!(!set.contains(100_000));
    }

    #[test]
    fn words_make_a_set_unless_they_reach_past_its_end() {
        for len in [0, 1, 63, 64, 65, 200] {
            let all = BitSet::all(len);
            assert_eq!(all, BitSet::from_fn(len, |_| true));
            let words = all.words().to_vec();
            assert_eq!(BitSet::from_words(len, words.clone()), Some(all));
            assert_eq!(BitSet::from_words(len, [&words[..], &[0]].concat()), None);
            if len > 0 {
                assert_eq!(BitSet::from_words(len - 1, words), None);
            }
        }
    }

    #[test]
    fn intersection_keeps_common_members() {
        let even = BitSet::from_fn(200, |i| i % 2 == 0);
        let third = BitSet::from_fn(130, |i| i % 3 == 0);
        let both = even.intersection(&third);
        assert!(both.iter().eq((0..130).filter(|i| i % 6 == 0)));
        assert_eq!((both.count(), both.len()), (22, 200));
    }
}
