//! Indexes over vectors that are addressed by their row offset: exact scan, LSH, HNSW and IVF.
//!
//! An index borrows the [`Vectors`] it was built over at every call; it owns no vectors, ids or metadata. All of them
//! answer the same [`Request`] with the same [`Answer`], in the order (distance, then the caller's tie-break), and say
//! whether the answer is exact. [`LiveIndex`] alone owns its rows: they are searched by many threads while others change them.
//!
//! ```
//! use vdb_index::{FlatScan, Hnsw, HnswParams, Request, Vectors};
//! use vdb_distance::Metric;
//!
//! let mut vectors = Vectors::new(Metric::Euclidean, 2);
//! let offsets: Vec<u32> = (0..100).map(|i| vectors.push(&[i as f32, 1.0])).collect();
//! let mut hnsw = Hnsw::new(HnswParams::default());
//! hnsw.insert(&vectors, &offsets);
//!
//! let request = Request::new(&[41.9, 1.0], 2);
//! let exact = FlatScan.search(&vectors, &request);
//! let graph = hnsw.search(&vectors, &request, 64);
//! assert_eq!(exact.hits[0].offset, 42);
//! assert_eq!(graph.hits, exact.hits);
//! ```
//!
//! Limits: 2³¹ − 1 rows an index; any dimension, exact search being tested up to 65,536. Callers validate their input (finite values,
//! matching dimensions): these functions assert it.
#![forbid(unsafe_code)]

mod bitset;
mod coded;
mod flat;
mod hash;
mod hnsw;
mod ivf;
mod live;
mod lsh;
mod request;
mod select;
mod stored;
#[cfg(test)]
mod testing;
mod top_k;
mod vectors;

pub use bitset::BitSet;
pub use coded::{CodeKind, Coded, CodedParams, CodedParts};
pub use flat::{Flat, FlatParts, FlatScan};
pub use hnsw::{GraphError, GraphStats, Hnsw, HnswParams, HnswParts, Profile, Reach};
pub use ivf::{Ivf, IvfParams, IvfParts};
pub use live::{Change, LiveIndex, LiveParams, LiveStats, RecentRows, RowMask, Snapshot, Written};
pub use lsh::{Lsh, LshFamily, LshParams, LshParts};
pub use request::{Answer, Request};
pub use stored::Sections;
pub use top_k::{Hit, TieBreak};
pub use vectors::{StoredRows, Vectors};

/// The most rows one index holds: the graph keeps a mark in the top bit of an offset.
pub const MAX_ROWS: usize = (1 << 31) - 1;

/// At most `count` of `offsets`, evenly spaced.
pub(crate) fn evenly(offsets: &[u32], count: usize) -> Vec<u32> {
    let count = count.min(offsets.len());
    (0..count).map(|i| offsets[i * offsets.len() / count]).collect()
}
