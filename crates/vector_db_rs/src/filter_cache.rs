//! The answers to recent filters, so that a filter is evaluated once and not per query.
//!
//! An answer is the set of offsets whose records match. It holds for the records as they are: whoever changes a record
//! clears the cache, which takes `&mut`, so no search runs meanwhile. Searches share the cache behind a lock that is held
//! to look up or to add, not while a filter is evaluated; two searches may both evaluate a new one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vdb_index::BitSet;

/// Fields that must equal values.
type Filter = Vec<(String, String)>;

/// Answers kept at most; each takes a bit a record.
const CAPACITY: usize = 16;

/// The last used filters and their answers, the latest at the end.
#[derive(Debug, Default)]
pub(crate) struct FilterCache(Mutex<Vec<(Filter, Arc<BitSet>)>>);

impl FilterCache {
    /// The answer to `filter`: one kept, or what `evaluate` gives.
    pub(crate) fn get(&self, filter: &[(String, String)], evaluate: impl FnOnce() -> BitSet) -> Arc<BitSet> {
        let mut kept = self.lock();
        if let Some(place) = kept.iter().position(|(known, _)| known == filter) {
            let latest = kept.remove(place);
            let answer = Arc::clone(&latest.1);
            kept.push(latest);
            return answer;
        }
        drop(kept);
        let answer = Arc::new(evaluate());
        let mut kept = self.lock();
        if kept.iter().any(|(known, _)| known == filter) {
            return answer;
        }
        if kept.len() >= CAPACITY {
            kept.remove(0);
        }
        kept.push((filter.to_vec(), Arc::clone(&answer)));
        answer
    }

    /// Forgets everything, because records change.
    pub(crate) fn clear(&mut self) {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Filter, Arc<BitSet>)>> {
        // Every step leaves the list whole, so that of a thread that panicked is good.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clone for FilterCache {
    /// The copy will see other changes and starts with nothing.
    fn clone(&self) -> Self {
        Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(number: usize) -> Filter {
        vec![("number".to_owned(), number.to_string())]
    }

    #[test]
    fn evaluates_once_and_forgets_the_least_used() {
        let cache = FilterCache::default();
        let mut evaluated = Vec::new();
        let mut get = |number: usize| {
            let answer = cache.get(&filter(number), || {
                evaluated.push(number);
                BitSet::from_members(100, &[number as u32])
            });
            assert!(answer.iter().eq([number as u32]));
        };
        (0..CAPACITY).for_each(&mut get);
        (0..CAPACITY).for_each(&mut get);
        get(0);
        get(CAPACITY);
        get(0);
        get(1);
        assert!(evaluated.into_iter().eq((0..=CAPACITY).chain([1])));
    }

    #[test]
    fn clearing_evaluates_anew() {
        let mut cache = FilterCache::default();
        assert_eq!(cache.get(&filter(1), || BitSet::from_members(9, &[3])).count(), 1);
        cache.clear();
        assert_eq!(cache.get(&filter(1), || BitSet::from_members(9, &[3, 4])).count(), 2);
    }
}
