//! The protocol under shuttle: every test runs with hundreds of schedules of its threads, which differ in where threads
//! are interrupted at the mutex, the condition and the cell. A thread that waits for something that never comes is a
//! failure, too; shuttle then prints the schedule.
//!
//! Graphs are tiny, since what is tested is who sees what.

use super::*;
use crate::Request;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::thread;
use std::collections::BTreeMap;

/// Schedules of each kind.
const SCHEDULES: usize = 300;
const SEED: u64 = 0x11fe;
/// Points at which the second kind of schedule changes priorities.
const CHANGES: usize = 4;

fn check(test: impl Fn() + Send + Sync + Copy + 'static) {
    let config = || {
        let mut config = shuttle::Config::new();
        // Threads are coroutines, and the default is too little for a search.
        config.stack_size = 1 << 20;
        config
    };
    shuttle::Runner::new(RandomScheduler::new_from_seed(SEED, SCHEDULES), config()).run(test);
    shuttle::Runner::new(PctScheduler::new_from_seed(SEED, CHANGES, SCHEDULES), config()).run(test);
}

/// Merges are due at the second recent row, while the graph is empty, and writers wait at the fourth.
fn index() -> Arc<LiveIndex> {
    let hnsw = HnswParams { m: Some(2), ef_construction: 4, exact_scan_factor: 0, seed: 1 };
    Arc::new(LiveIndex::new(Metric::Euclidean, 2, LiveParams { hnsw, least_recent: 2 }))
}

fn start(work: impl FnOnce() + Send + 'static) -> thread::JoinHandle<()> {
    thread::spawn(work)
}

fn all_over(threads: impl IntoIterator<Item = thread::JoinHandle<()>>) {
    threads.into_iter().for_each(|thread| thread.join().expect("no thread panics"));
}

/// Rows of one batch, all with its stamp.
const GROUP: u32 = 3;

/// The stamp that all rows of the group carry, or none when there are no rows; anything else is a torn batch.
fn stamp(snapshot: &Snapshot) -> Option<f32> {
    let stamps: Vec<Option<f32>> = (0..GROUP).map(|offset| snapshot.row(offset).map(|row| row[1])).collect();
    assert!(stamps.iter().all(|stamp| *stamp == stamps[0]), "a torn batch: {stamps:?}");
    // Both ways of searching see the same rows as looking them up does.
    let request = Request::new(&[0.0, 0.0], GROUP as usize);
    let exact = snapshot.search_exact(&request);
    let graph = snapshot.search(&request, 16);
    for answer in [exact, graph] {
        let mut found: Vec<u32> = answer.hits.iter().map(|hit| hit.offset).collect();
        found.sort_unstable();
        let live: Vec<u32> = (0..GROUP).filter(|_| stamps[0].is_some()).collect();
        assert_eq!(found, live, "hits of version {}", snapshot.version());
        for hit in &answer.hits {
            let (id, stamp) = (hit.offset as f32, stamps[0].unwrap_or(f32::NAN));
            assert_eq!(hit.distance.get(), Metric::Euclidean.calculate(&[0.0, 0.0], &[id, stamp]));
        }
    }
    stamps[0]
}

/// Reads until the index is at `last`; versions and stamps never go back.
fn watch(index: &LiveIndex, last: u64) {
    let (mut version, mut seen) = (0, f32::NEG_INFINITY);
    while version < last {
        index.read(|snapshot| {
            assert!(snapshot.version() >= version, "version {} after {version}", snapshot.version());
            version = snapshot.version();
            if let Some(stamp) = stamp(snapshot) {
                assert!(stamp >= seen, "stamp {stamp} after {seen}");
                seen = stamp;
            }
        });
        thread::yield_now();
    }
}

#[test]
fn readers_see_whole_batches_in_order() {
    check(|| {
        let index = index();
        let readers = [(); 2].map(|()| {
            let index = Arc::clone(&index);
            start(move || watch(&index, 6))
        });
        let merger = Arc::clone(&index);
        let merger = start(move || merger.merge());
        for version in 1..=6u64 {
            let rows: Vec<[f32; 2]> = (0..GROUP).map(|id| [id as f32, version as f32]).collect();
            let changes: Vec<Change<'_>> = match version {
                4 => (0..GROUP).map(Change::Remove).collect(),
                _ => (0..).zip(&rows).map(|(id, row)| Change::Set(id, row)).collect(),
            };
            assert_eq!(index.write(&changes).version, version);
            let expected = (version != 4).then_some(version as f32);
            assert_eq!(index.read(stamp), expected, "a writer sees what it wrote");
        }
        all_over(readers.into_iter().chain([merger]));
    });
}

/// What two writers and two mergers leave is what the writers wrote, each in rows of its own.
#[test]
fn writes_during_a_merge_are_carried_over() {
    const ROWS: u32 = 3;
    check(|| {
        let index = index();
        let writer = |first: u32| {
            let index = Arc::clone(&index);
            thread::spawn(move || {
                let mut model = BTreeMap::new();
                for step in 0..5u32 {
                    let offset = first + step % ROWS;
                    let row = [offset as f32, step as f32];
                    let removes = step == 3;
                    if removes {
                        index.write(&[Change::Remove(offset)]);
                        model.remove(&offset);
                    } else {
                        index.write(&[Change::Set(offset, &row)]);
                        model.insert(offset, row.to_vec());
                    }
                    for offset in first..first + ROWS {
                        let found = index.read(|snapshot| snapshot.row(offset));
                        assert_eq!(found.as_ref(), model.get(&offset), "row {offset} after step {step}");
                    }
                }
                model
            })
        };
        let writers = [0, ROWS].map(writer);
        let mergers = [(); 2].map(|()| {
            let index = Arc::clone(&index);
            start(move || index.merge())
        });
        let mut model = BTreeMap::new();
        writers.into_iter().for_each(|writer| model.extend(writer.join().expect("no writer panics")));
        all_over(mergers);
        for _ in 0..2 {
            let snapshot = index.snapshot();
            assert_eq!((snapshot.version(), snapshot.len()), (10, model.len()));
            for offset in 0..2 * ROWS {
                assert_eq!(snapshot.row(offset).as_ref(), model.get(&offset), "row {offset}");
            }
            let request = Request::new(&[0.0, 0.0], 10);
            assert_eq!(snapshot.search_exact(&request).hits, snapshot.search(&request, 16).hits);
            // Once more with everything in the graph.
            index.merge();
            let stats = index.stats();
            assert_eq!(
                (stats.recent, stats.hidden, stats.live, stats.is_merging),
                (0, 0, model.len(), false)
            );
        }
    });
}

/// Writers that are faster than the lent thread wait for it, and nobody waits for nobody.
#[test]
fn lent_threads_merge_and_come_back() {
    check(|| {
        let index = index();
        let lent = Arc::clone(&index);
        let lent = start(move || lent.keep_merging());
        let writer = |writer: u32| {
            let index = Arc::clone(&index);
            start(move || {
                for step in 0..6 {
                    index.insert(&[writer as f32, step as f32]);
                    let stats = index.stats();
                    assert!(stats.merges > 0 || stats.recent <= 4, "a writer did not wait: {stats:?}");
                }
            })
        };
        let writers = [0, 1].map(writer);
        all_over(writers);
        index.stop_merging();
        all_over([lent]);
        assert_eq!(index.snapshot().len(), 12);
        let stats = index.stats();
        assert_eq!((stats.version, stats.is_merging), (12, false));
        assert!(stats.merges > 0, "{stats:?}");
    });
}

/// A snapshot that is kept stays what it was, and the set that hides its rows is not used for another while it is.
#[test]
fn kept_snapshots_stay() {
    check(|| {
        let index = index();
        let rows: Vec<[f32; 2]> = (0..6).map(|id| [id as f32, 0.0]).collect();
        index.write(&rows.iter().map(|row| Change::Insert(row)).collect::<Vec<_>>());
        index.merge();
        let keeper = Arc::clone(&index);
        let keeper = start(move || {
            let kept: Vec<Arc<Snapshot>> = (0..3)
                .map(|_| {
                    thread::yield_now();
                    keeper.snapshot()
                })
                .collect();
            for snapshot in kept {
                // Version 1 wrote all rows, each later one took the lowest away.
                let gone = snapshot.version() as u32 - 1;
                assert_eq!(snapshot.len() as u32, 6 - gone);
                assert!((0..6).all(|row| snapshot.row(row).is_some() == (row >= gone)));
                thread::yield_now();
            }
        });
        for row in 0..5 {
            index.write(&[Change::Remove(row)]);
        }
        all_over([keeper]);
    });
}
