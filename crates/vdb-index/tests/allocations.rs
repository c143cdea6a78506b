//! Searches of a graph allocate their answer and nothing else.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use vdb_distance::Metric;
use vdb_index::{BitSet, Hnsw, HnswParams, Reach, Request, Vectors};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, and how often each thread asked it for memory.
struct Counting;

impl Counting {
    fn count() {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
    }
}

// SAFETY: everything is passed on to the system's allocator as it is. The counter needs no memory and is never dropped.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Counting::count();
        // SAFETY: this function's own contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: this function's own contract.
        unsafe { System.dealloc(start, layout) }
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Counting::count();
        // SAFETY: this function's own contract.
        unsafe { System.realloc(start, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often memory is asked for meanwhile.
fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

/// Numbers in [−1, 1), from a linear congruential generator.
fn numbers(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    }
}

#[test]
fn searches_allocate_their_answer_only() {
    const DIM: usize = 32;
    for metric in [Metric::Euclidean, Metric::Cosine, Metric::DotProduct, Metric::Manhattan] {
        let mut next = numbers(3);
        let mut vector = || (0..DIM).map(|_| next()).collect::<Vec<f32>>();
        let mut vectors = Vectors::new(metric, DIM);
        let offsets: Vec<u32> = (0..3_000).map(|_| vectors.push(&vector())).collect();
        let mut hnsw = Hnsw::new(HnswParams { exact_scan_factor: 0, ..HnswParams::default() });
        hnsw.insert(&vectors, &offsets);
        let queries: Vec<Vec<f32>> = (0..50).map(|_| vector()).collect();
        let mut half = BitSet::default();
        offsets.iter().filter(|&offset| offset % 2 == 0).for_each(|&offset| {
            half.insert(offset);
        });
        for (matching, reach) in [vectors.live(), &half]
            .into_iter()
            .flat_map(|matching| [Reach::Beam(64), Reach::Recall(0.95)].map(|reach| (matching, reach)))
        {
            let search_all = || {
                for query in &queries {
                    let answer = hnsw.search_among(&vectors, &Request::new(query, 10), matching, reach);
                    assert!(answer.hits.len() == 10 && answer.hops > 0, "{answer:?}");
                }
            };
            // The first searches of a thread find its memory.
            search_all();
            assert_eq!(
                allocations(search_all),
                queries.len(),
                "{metric}, {reach:?}, {} match",
                matching.count()
            );
        }
    }
}
