//! Many threads at once, each looking for what would show if something were torn.
//!
//! Rows come in groups. A write replaces all rows of one group, moves them to other offsets, or takes them away. A row says
//! which group it belongs to, which of its rows it is and which write it is from, and all of its values follow from that:
//! so a reader can tell a row that is half one thing and half another, a write that is half there, a deleted row that is
//! still found, and a snapshot older than one before.

use crate::random::Rng;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use vdb_distance::Metric;
use vdb_index::{Change, HnswParams, LiveIndex, LiveParams, Request, Snapshot};

const DIM: usize = 8;
const GROUPS: usize = 48;
/// Rows of a group.
const MEMBERS: usize = 5;
const WRITERS: usize = 3;
const READERS: usize = 4;
/// Of each writer, at least; they go on until there were so many merges.
const WRITES: u64 = 500;
const MERGES: u64 = 40;
/// Groups are farther apart than any write is from the first, so that the nearest rows of a group's place are its own.
const APART: f32 = 1e6;

fn values(group: usize, member: usize, stamp: u64) -> Vec<f32> {
    let mut rng = Rng((group * MEMBERS + member) as u64 ^ stamp << 20);
    let mut row = vec![group as f32 * APART, member as f32, stamp as f32];
    row.extend((row.len()..DIM).map(|_| rng.signed()));
    row
}

/// The member and the stamp of a row, all of whose values must be what they make them.
fn parse(row: &[f32], group: usize) -> (usize, u64) {
    let (member, stamp) = (row[1] as usize, row[2] as u64);
    assert_eq!(row, values(group, member, stamp), "a torn row");
    (member, stamp)
}

/// The stamp of a group; `None` when it is away.
fn stamp_of(snapshot: &Snapshot, group: usize) -> Option<u64> {
    let mut query = vec![0.0; DIM];
    query[0] = group as f32 * APART;
    let request = Request::new(&query, MEMBERS + 1);
    let answer = snapshot.search_exact(&request);
    assert!(answer.exact && answer.hits.len() == request.k.min(snapshot.len()));
    let rows = answer.hits.iter().map(|hit| snapshot.row(hit.offset).expect("a hit is live"));
    let own: Vec<(usize, u64)> =
        rows.filter(|row| row[0] == query[0]).map(|row| parse(&row, group)).collect();
    if own.is_empty() {
        return None;
    }
    let members: BTreeSet<usize> = own.iter().map(|row| row.0).collect();
    assert_eq!((own.len(), members.len()), (MEMBERS, MEMBERS), "a group that is half there: {own:?}");
    assert!(own.iter().all(|row| row.1 == own[0].1), "a group of two writes: {own:?}");
    Some(own[0].1)
}

/// What walks find is there, as often as it should be.
fn check_walk(snapshot: &Snapshot, rng: &mut Rng) {
    let mut query = values(rng.below(GROUPS), rng.below(MEMBERS), rng.next() % 1_000);
    query[0] += rng.signed() * APART;
    let request = Request::new(&query, 1 + rng.below(20));
    for answer in [snapshot.search(&request, 40), snapshot.search_for_recall(&request, 0.95)] {
        assert_eq!(answer.hits.len(), request.k.min(snapshot.len()));
        let offsets: BTreeSet<u32> = answer.hits.iter().map(|hit| hit.offset).collect();
        assert_eq!(offsets.len(), answer.hits.len(), "a row is found twice");
        assert!(answer.hits.is_sorted_by(|a, b| a.distance <= b.distance));
        for hit in &answer.hits {
            let row = snapshot.row(hit.offset).expect("a hit is live");
            assert_eq!(hit.distance.get(), Metric::Euclidean.calculate(&query, &row));
        }
    }
}

fn write(index: &LiveIndex, groups: std::ops::Range<usize>, latest: &[AtomicU64]) {
    let mut rng = Rng(groups.start as u64);
    let mut places: Vec<Vec<u32>> = vec![Vec::new(); GROUPS];
    let is_enough =
        |stamp: &u64| *stamp > WRITES && (index.stats().merges >= MERGES || *stamp > 100 * WRITES);
    for stamp in (1..).take_while(|stamp| !is_enough(stamp)) {
        let group = groups.start + rng.below(groups.len());
        let rows: Vec<Vec<f32>> = (0..MEMBERS).map(|member| values(group, member, stamp)).collect();
        let old = std::mem::take(&mut places[group]);
        let goes = rng.below(5) == 0;
        let stays = !old.is_empty() && rng.below(2) == 0;
        let changes: Vec<Change<'_>> = if goes {
            old.iter().map(|&offset| Change::Remove(offset)).collect()
        } else if stays {
            old.iter().zip(&rows).map(|(&offset, row)| Change::Set(offset, row)).collect()
        } else {
            let removed = old.iter().map(|&offset| Change::Remove(offset));
            removed.chain(rows.iter().map(|row| Change::Insert(row))).collect()
        };
        let written = index.write(&changes);
        index.read(|snapshot| {
            assert!(snapshot.version() >= written.version, "a writer sees an older version than its own");
            assert_eq!(stamp_of(snapshot, group), (!goes).then_some(stamp), "a writer sees what it wrote");
        });
        latest[group].store(if goes { u64::MAX } else { stamp }, Ordering::Release);
        places[group] = match (goes, stays) {
            (true, _) => Vec::new(),
            (false, true) => old,
            (false, false) => written.offsets,
        };
    }
}

fn read(index: &LiveIndex, seed: u64, is_over: &AtomicBool, reads: &AtomicUsize) {
    let mut rng = Rng(seed);
    let mut version = 0;
    let mut seen = [0; GROUPS];
    while !is_over.load(Ordering::Acquire) {
        index.read(|snapshot| {
            assert!(snapshot.version() >= version, "version {} after {version}", snapshot.version());
            version = snapshot.version();
            let group = rng.below(GROUPS);
            let stamp = stamp_of(snapshot, group);
            if let Some(stamp) = stamp {
                assert!(stamp >= seen[group], "write {stamp} of a group after {}", seen[group]);
                seen[group] = stamp;
            }
            check_walk(snapshot, &mut rng);
            // Nothing has changed under way.
            assert_eq!((snapshot.version(), stamp_of(snapshot, group)), (version, stamp));
        });
        if rng.below(50) == 0 {
            // Kept over many writes, until it goes out of scope; merges find its graph in use.
            let snapshot = index.snapshot();
            let before: Vec<Option<u64>> = (0..GROUPS).map(|group| stamp_of(&snapshot, group)).collect();
            (0..20).for_each(|_| check_walk(&snapshot, &mut rng));
            assert!((0..GROUPS).all(|group| stamp_of(&snapshot, group) == before[group]));
        }
        reads.fetch_add(1, Ordering::Relaxed);
    }
}

fn stress(lends_a_thread: bool) {
    let hnsw = HnswParams { m: Some(4), ef_construction: 16, exact_scan_factor: 0, seed: 3 };
    let index = LiveIndex::new(Metric::Euclidean, DIM, LiveParams { hnsw, least_recent: 24 });
    let latest: Vec<AtomicU64> = (0..GROUPS).map(|_| AtomicU64::new(u64::MAX)).collect();
    let (is_over, reads) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        if lends_a_thread {
            scope.spawn(|| index.keep_merging());
        }
        let readers: Vec<_> = (0..READERS as u64)
            .map(|seed| {
                let (index, is_over, reads) = (&index, &is_over, &reads);
                scope.spawn(move || read(index, seed, is_over, reads))
            })
            .collect();
        let each = GROUPS / WRITERS;
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (index, latest) = (&index, &latest);
                scope.spawn(move || write(index, writer * each..(writer + 1) * each, latest))
            })
            .collect();
        let written: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        is_over.store(true, Ordering::Release);
        index.stop_merging();
        let read: Vec<_> = readers.into_iter().map(|reader| reader.join()).collect();
        // All threads were told to end before one that failed is looked at.
        written.into_iter().chain(read).for_each(|ended| ended.unwrap());
    });
    let snapshot = index.snapshot();
    for (group, latest) in latest.iter().enumerate() {
        let latest = latest.load(Ordering::Acquire);
        assert_eq!(stamp_of(&snapshot, group), (latest != u64::MAX).then_some(latest), "group {group}");
    }
    let merges = index.stats().merges;
    println!("{merges} merges, {} rounds of searches", reads.load(Ordering::Relaxed));
    assert!(merges >= MERGES, "{merges} merges");
    assert!(reads.load(Ordering::Relaxed) > 100, "readers made no progress");
    index.merge();
    assert_eq!((index.stats().recent, index.stats().hidden), (0, 0));
}

#[test]
fn many_threads_see_whole_writes_in_order_while_writers_merge() {
    stress(false);
}

#[test]
fn many_threads_see_whole_writes_in_order_while_a_lent_thread_merges() {
    stress(true);
}
