//! What threads of a [`LiveIndex`](super::LiveIndex) meet at: a mutex, a condition, and the cell that snapshots are
//! published in.
//!
//! Unit tests of this crate take the ones of shuttle instead, which schedules the threads of a test in every order that
//! it can think of. There the cell is a mutex that is held for one copy of a pointer: what a reader may see is the same.

use std::sync::Arc;

#[cfg(test)]
pub(super) use shuttle::{
    sync::{Condvar, Mutex, MutexGuard},
    thread::yield_now,
};
#[cfg(not(test))]
pub(super) use std::{
    sync::{Condvar, Mutex, MutexGuard},
    thread::yield_now,
};

/// A pointer that is replaced as a whole. Who reads after a `publish` returned, or after anything that came after it, sees
/// what was published then or later, and all of it.
#[cfg(not(test))]
#[derive(Debug)]
pub(super) struct Published<T>(arc_swap::ArcSwap<T>);

#[cfg(not(test))]
impl<T> Published<T> {
    pub(super) fn new(value: Arc<T>) -> Self {
        Self(arc_swap::ArcSwap::new(value))
    }

    /// Runs `work` with what is published. Lock-free, and in the usual case no memory that another reader writes is
    /// written.
    pub(super) fn read<R>(&self, work: impl FnOnce(&T) -> R) -> R {
        work(&self.0.load())
    }

    /// What is published, to be kept. Lock-free.
    pub(super) fn get(&self) -> Arc<T> {
        self.0.load_full()
    }

    pub(super) fn publish(&self, value: Arc<T>) {
        self.0.store(value);
    }
}

#[cfg(test)]
#[derive(Debug)]
pub(super) struct Published<T>(Mutex<Arc<T>>);

#[cfg(test)]
impl<T> Published<T> {
    pub(super) fn new(value: Arc<T>) -> Self {
        Self(Mutex::new(value))
    }

    pub(super) fn read<R>(&self, work: impl FnOnce(&T) -> R) -> R {
        work(&self.get())
    }

    pub(super) fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.lock().expect("no reader panics while it copies"))
    }

    pub(super) fn publish(&self, value: Arc<T>) {
        let old = std::mem::replace(&mut *self.0.lock().expect("no reader panics while it copies"), value);
        drop(old);
    }
}
