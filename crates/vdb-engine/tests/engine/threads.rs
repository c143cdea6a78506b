//! Threads: what happens at the same time, by chance and by force.

use crate::pulse::{self, LANES};
use crate::{model, number};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};
use vdb_distance::Metric;
use vdb_engine::{
    Collection, CollectionConfig, Database, Durability, Error, Operation, Options, Point, PointId, Settings,
    VectorConfig,
};
use vdb_storage::files::FileSystem;
use vdb_testkit::SimFiles;

const SECONDS: u64 = 6;

/// A writer for each lane, readers, sealing and merging in the background: every view is whole, and no reader goes back.
#[test]
fn writers_and_readers_of_one_collection() {
    let seconds = number("VDB_THREADS_SECONDS", SECONDS);
    let folder = tempfile::tempdir().unwrap();
    let (database, collection) = pulse::open(folder.path());
    let over = AtomicBool::new(false);
    let (written, looked, optimized) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for lane in 0..LANES {
            let (collection, over, written) = (&collection, &over, &written);
            scope.spawn(move || {
                for round in 1.. {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    let durability = [Durability::Sync, Durability::Interval, Durability::None]
                        [(lane + round) as usize % 3];
                    collection.write(pulse::operations(lane, round), durability).unwrap();
                    let seen = pulse::check(&collection.view());
                    assert_eq!(seen[lane as usize], round, "a write is seen by searches that begin after it");
                    written.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                let mut before = vec![0; LANES as usize];
                while !over.load(Ordering::Relaxed) {
                    let seen = pulse::check(&collection.view());
                    assert!(
                        seen.iter().zip(&before).all(|(seen, before)| seen >= before),
                        "{seen:?} after {before:?}"
                    );
                    before = seen;
                    looked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                collection.optimize().unwrap();
                collection.verify().unwrap();
                optimized.fetch_add(1, Ordering::Relaxed);
            }
        });
        let end = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < end && !over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
        }
        over.store(true, Ordering::Relaxed);
    });
    let rounds = pulse::check(&collection.view());
    // As a process that is killed.
    drop((collection, database));
    let (database, collection) = pulse::open(folder.path());
    assert_eq!(pulse::check(&collection.view()), rounds);
    database.close().unwrap();
    let [written, looked, optimized] = [written, looked, optimized].map(AtomicU64::into_inner);
    println!("{written} batches, {looked} looks, {optimized} merges of everything in {seconds} s");
    assert!(written > seconds && looked > seconds && optimized > 0);
}

/// Calls `work` when the next manifest of the collection is about to be written.
fn before_next_manifest(files: &SimFiles, work: impl FnOnce() + Send + 'static) {
    let own = files.clone();
    files.before_next_write(move || {
        let names = own.list(Path::new("db/collection-00000001")).unwrap();
        if names.iter().any(|name| name.starts_with("temp-")) {
            work();
        } else {
            before_next_manifest(&own, work);
        }
    });
}

fn segments(files: &SimFiles) -> usize {
    let names = files.list(Path::new("db/collection-00000001")).unwrap();
    names.iter().filter(|name| name.starts_with("blob-seg-")).count()
}

/// A point that is deleted after a merge has looked at what is left of its rows, by a record that a seal lets go of before the
/// merge has ended, stays deleted.
#[test]
fn a_seal_between_the_last_steps_of_a_merge() {
    let files = SimFiles::new();
    let mut settings = Settings::default();
    settings.most_segments = 1;
    let database = model::options(&files, settings, 1).open("db").unwrap();
    let collection =
        database.create_collection("points", &VectorConfig::new(1, Metric::Euclidean).into()).unwrap();
    for round in 0..3u64 {
        let points = (0..4).map(|i| Point::new(4 * round + i, vec![round as f32])).collect();
        collection.upsert(points).unwrap();
        collection.seal().unwrap();
    }
    let sealing: Arc<std::sync::Mutex<Option<std::thread::JoinHandle<()>>>> = Arc::default();
    let (own, of, thread): (SimFiles, Arc<Collection>, _) =
        (files.clone(), Arc::clone(&collection), Arc::clone(&sealing));
    before_next_manifest(&files, move || {
        of.write(
            vec![Operation::Delete(1.into()), Operation::upsert(Point::new(99, vec![0.0]))],
            Durability::Sync,
        )
        .unwrap();
        let before = segments(&own);
        let seal = std::thread::spawn(move || assert!(of.seal().unwrap()));
        // It waits for the merge from here on.
        while segments(&own) == before {
            std::thread::yield_now();
        }
        *thread.lock().unwrap() = Some(seal);
    });
    assert!(collection.merge_due().unwrap());
    sealing.lock().unwrap().take().expect("the merge wrote a manifest").join().unwrap();
    let check = |collection: &Collection| {
        let view = collection.view();
        assert!(!view.contains(&PointId::from(1)).unwrap(), "a deleted point is back");
        assert_eq!((view.len(), view.contains(&99.into()).unwrap()), (12, true));
    };
    check(&collection);
    drop((collection, database));
    let database = model::options(&files, settings, 2).open("db").unwrap();
    check(&database.collection("points").unwrap());
}

/// A database with threads in the background, and its empty collection, which seals and indexes after as many points.
fn small(folder: &Path, points: usize, most_unindexed: usize) -> (Database, Arc<Collection>) {
    let mut settings = Settings::default();
    (settings.seal_points, settings.least_graph_rows) = (points, points);
    settings.most_unindexed = most_unindexed;
    let database = Options::new().settings(settings).threads(1).open(folder).unwrap();
    let config = CollectionConfig::new(64, Metric::Euclidean);
    let collection = database.create_collection("small", &config).unwrap();
    (database, collection)
}

fn batch(first: u64, points: u64) -> Vec<Operation<'static>> {
    let vector = |id: u64| (0..64).map(|place| ((id * 7_919 + place * 104_729) % 1_000) as f32).collect();
    (first..first + points).map(|id| Operation::upsert(Point::new(id, vector(id)))).collect()
}

/// Points that are too few for a graph have none however long a writer waits.
#[test]
fn a_limit_below_what_heads_hold_stops_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (_database, collection) = small(folder.path(), 300, 10);
    for first in (0..2_000).step_by(50) {
        collection.write(batch(first, 50), Durability::None).unwrap();
    }
    assert_eq!(collection.len(), 2_000);
}

/// A writer that waits until points have a graph is told that nobody will give them one.
#[test]
fn a_database_closes_while_a_writer_waits() {
    let folder = tempfile::tempdir().unwrap();
    let (database, collection) = small(folder.path(), 400, 0);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            (0..).step_by(100).find_map(|first| collection.write(batch(first, 100), Durability::None).err())
        });
        std::thread::sleep(Duration::from_millis(700));
        drop(database);
        let error = writer.join().unwrap().unwrap();
        assert!(matches!(error, Error::Closed { .. }), "{error}");
    });
}

/// What a thread of a pool sends, unless the pool waits for itself.
fn received<T>(done: &Receiver<T>) -> T {
    done.recv_timeout(Duration::from_secs(120)).unwrap_or_else(|_| {
        eprintln!("the pool waits for itself, and so would closing");
        std::process::abort()
    })
}

/// A thread of a pool that waits for a head to be written must not begin to seal another one meanwhile.
#[test]
fn sealing_from_within_a_pool_ends() {
    const SEALED: u64 = 40;
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path()).unwrap();
    let config = VectorConfig::new(2, Metric::Euclidean);
    let collection = database.create_collection("c", &CollectionConfig::from(config)).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let (sender, done) = std::sync::mpsc::channel();
    for id in 0..SEALED {
        let (collection, sender) = (Arc::clone(&collection), sender.clone());
        pool.spawn(move || {
            collection.upsert(vec![Point::new(id, vec![id as f32, 1.0])]).unwrap();
            sender.send(collection.seal()).unwrap();
        });
    }
    for _ in 0..SEALED {
        received(&done).unwrap();
    }
    let info = collection.info();
    assert_eq!((info.points, info.head_points), (SEALED as usize, 0));
    database.close().unwrap();
}

/// Threads of one pool that ask for the same at the same time: one that waits for its work takes up what others asked for.
#[test]
fn optimizing_from_within_a_pool_ends_and_after_closing_is_an_error() {
    const POINTS: u64 = 6_000;
    const ASKED: usize = 40;
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path()).unwrap();
    let config = VectorConfig::new(2, Metric::Euclidean);
    let collection = database.create_collection("c", &CollectionConfig::from(config)).unwrap();
    let point = |id: u64| Point::new(id, vec![(id % 97) as f32, (id % 89) as f32]);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    let (sender, done) = std::sync::mpsc::channel();
    for round in 0..3 {
        collection.upsert((round * POINTS..(round + 1) * POINTS).map(point).collect()).unwrap();
        // One by one: those that come at once would keep each other's threads from taking part in the work.
        for _ in 0..ASKED {
            let (collection, sender) = (Arc::clone(&collection), sender.clone());
            pool.spawn(move || sender.send(collection.optimize()).unwrap());
            std::thread::sleep(Duration::from_millis(10));
        }
        for _ in 0..ASKED {
            received(&done).unwrap();
        }
        assert_eq!(collection.info().segments, 1);
    }
    database.close().unwrap();
    assert!(matches!(collection.optimize(), Err(Error::Closed { .. })));
    let database = Database::open_read_only(folder.path()).unwrap();
    assert!(database.collection("c").unwrap().optimize().is_err(), "it was opened to read only");
}
