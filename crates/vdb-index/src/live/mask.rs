//! Which rows of the sealed graph are hits still: a set per snapshot, made for the price of what changed.
//!
//! A search wants plain words, so a snapshot's set is whole and never changes. A copy for every delete would cost a bit a
//! row. Instead sets of before are kept until no snapshot holds them, and what they missed is taken out of them: two sets
//! in turn, unless a reader holds one for long.

use crate::BitSet;
use std::sync::Arc;

/// Sets of before that are kept. One is enough while readers let go before the next change; of more, the oldest is likely
/// to be one that a reader keeps.
const KEPT: usize = 2;

/// The set of now, and some of before.
#[derive(Debug)]
pub struct Mask {
    current: Arc<BitSet>,
    /// Oldest first; each lacks the removals of a list.
    before: Vec<(Arc<BitSet>, Vec<u32>)>,
}

impl Mask {
    /// The set of all rows that may be hits.
    pub fn new(rows: BitSet) -> Self {
        Self { current: Arc::new(rows), before: Vec::new() }
    }

    /// The set of now.
    pub fn current(&self) -> &Arc<BitSet> {
        &self.current
    }

    /// Takes a row out; says whether it was in. Sets that were given out before stay as they are.
    ///
    /// # Complexity
    /// O(1) amortised; a copy of the set while readers hold all that were given out.
    pub fn remove(&mut self, row: u32) -> bool {
        if !self.current.contains(row) {
            return false;
        }
        if Arc::get_mut(&mut self.current).is_none() {
            self.turn();
        }
        Arc::get_mut(&mut self.current).expect("nobody was given this set").remove(row);
        self.before.iter_mut().for_each(|(_, missed)| missed.push(row));
        true
    }

    /// Puts an equal set that nobody holds in the place of the current one.
    fn turn(&mut self) {
        let unheld = self.before.iter_mut().position(|(set, _)| Arc::get_mut(set).is_some());
        let next = match unheld {
            Some(place) => {
                let (mut set, missed) = self.before.remove(place);
                let rows = Arc::get_mut(&mut set).expect("nobody held it, and it is not given out");
                missed.into_iter().for_each(|row| {
                    rows.remove(row);
                });
                set
            }
            None => Arc::new(BitSet::clone(&self.current)),
        };
        let old = std::mem::replace(&mut self.current, next);
        self.before.push((old, Vec::new()));
        if self.before.len() > KEPT {
            self.before.remove(0);
        }
    }

    /// Heap bytes held.
    pub fn bytes(&self) -> usize {
        let sets = 1 + self.before.len();
        let missed: usize = self.before.iter().map(|(_, missed)| missed.capacity() * 4).sum();
        sets * self.current.words().len() * 8 + missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rng;

    /// Snapshots are kept for a random while; each must stay what it was.
    #[test]
    fn sets_that_were_given_out_never_change() {
        let mut rng = Rng(3);
        let mut mask = Mask::new(BitSet::from_fn(1_000, |row| row % 7 != 0));
        let mut model = mask.current().as_ref().clone();
        let mut held: Vec<(Arc<BitSet>, BitSet)> = Vec::new();
        let mut copies = std::collections::BTreeSet::new();
        for step in 0..3_000 {
            let row = rng.below(1_000) as u32;
            assert_eq!(mask.remove(row), model.remove(row), "step {step}");
            assert_eq!(**mask.current(), model, "step {step}");
            copies.insert(Arc::as_ptr(mask.current()) as usize);
            if rng.below(3) > 0 {
                held.push((Arc::clone(mask.current()), model.clone()));
            }
            if held.len() > rng.below(4) {
                held.remove(0);
            }
            for (set, model) in &held {
                assert_eq!(**set, *model, "step {step}");
            }
        }
        assert!(copies.len() < 100, "{} sets were made for 857 removals", copies.len());
    }
}
