//! One number of bytes for all that a database holds in memory: heads, merges, parts of segments that are pinned. What is
//! read through a mapping is the operating system's to give and take, and is not counted.

use crate::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number of bytes, and how many of them are taken.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes: u64,
    taken: AtomicU64,
}

/// Bytes that are taken until this is dropped.
#[derive(Debug)]
pub(crate) struct Reserved {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Budget {
    pub(crate) fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self { bytes, taken: AtomicU64::new(0) })
    }

    /// All of it.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What is taken.
    pub(crate) fn taken(&self) -> u64 {
        // A number to show or to plan by; nothing is read because of it.
        self.taken.load(Ordering::Relaxed)
    }

    /// What is not.
    pub(crate) fn free(&self) -> u64 {
        self.bytes.saturating_sub(self.taken())
    }

    /// Takes bytes, if there are as many.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: u64) -> Option<Reserved> {
        let take = |taken: u64| taken.checked_add(bytes).filter(|taken| *taken <= self.bytes);
        let took = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        took.is_ok().then(|| Reserved { budget: Arc::clone(self), bytes })
    }

    /// Takes bytes that are in use already.
    pub(crate) fn take(self: &Arc<Self>, bytes: u64) -> Reserved {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        Reserved { budget: Arc::clone(self), bytes }
    }

    /// Why something cannot be done.
    pub(crate) fn refusal(&self, what: String, needed: u64, advice: &'static str) -> Error {
        Error::OutOfBudget { what, needed, available: self.free(), budget: self.bytes, advice }
    }
}

impl Reserved {
    /// Nothing yet.
    pub(crate) fn nothing(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0 }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Becomes responsible for the bytes of another one.
    pub(crate) fn join(&mut self, mut other: Reserved) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_comes_back() {
        let budget = Budget::new(100);
        let mut first = budget.reserve(60).unwrap();
        assert!(budget.reserve(41).is_none());
        let second = budget.reserve(40).unwrap();
        assert_eq!(budget.free(), 0);
        first.join(second);
        assert_eq!((first.bytes(), budget.taken()), (100, 100));
        drop(first);
        // What is in use already is counted, whether there is room or not.
        let over = budget.take(150);
        assert_eq!((budget.taken(), budget.free()), (150, 0));
        assert!(budget.reserve(1).is_none() && budget.reserve(u64::MAX).is_none());
        drop(over);
        assert_eq!(budget.free(), 100);
    }
}
