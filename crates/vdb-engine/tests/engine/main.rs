//! Collections beside an ordered map, through crashes, failing calls, killed processes and many readers.

#![allow(clippy::unwrap_used)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

mod crash;
mod damages;
mod faults;
mod golden;
mod indexes;
mod kill;
mod merges;
mod model;
mod oracle;
mod points;
mod progress;
mod pulse;
mod readers;
mod story;
mod threads;
mod workload;

/// A number from the environment.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Runs `work` for each seed, on all processors, and panics when it panicked for some: `variable` is how many seeds to run.
fn for_all_seeds(first: u64, seeds: u64, variable: &str, work: impl Fn(u64) + Sync) {
    let (next, failed) = (AtomicU64::new(first), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(seeds as usize);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        break;
                    }
                    if catch_unwind(AssertUnwindSafe(|| work(seed))).is_err() {
                        println!("failed: VDB_SEED={seed} {variable}=1");
                        failed.lock().unwrap().push(seed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "each of these fails with VDB_SEED=… {variable}=1: {failed:?}");
}
