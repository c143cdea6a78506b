//! A new graph of a snapshot: a copy of its graph that has let go of what is no hit any more and taken the recent rows in.
//!
//! Rows keep their offsets. So the offset of a row that was overwritten, or deleted and used again, has to come free in
//! the copy first: all deleted nodes are linked past at every merge, not only when they are a tenth.

use super::snapshot::{Base, Snapshot};
use crate::vectors::Vectors;

/// The snapshot's rows, all in the graph.
///
/// # Complexity
/// A copy of the graph and its rows, a look at each of its links, and the insertion of the recent rows.
pub(super) fn merged(snapshot: &Snapshot) -> Base {
    let Snapshot { base, mask, recent, .. } = snapshot;
    let (mut vectors, mut hnsw) = (base.vectors.clone(), base.hnsw.clone());
    for row in base.vectors.live().iter().filter(|&row| !mask.contains(row)) {
        vectors.remove(row);
        hnsw.remove(&vectors, row);
    }
    hnsw.free_deleted(&vectors);
    let mut rows: Vec<(u32, &Vectors, u32)> = recent.live_places().collect();
    rows.sort_unstable_by_key(|row| row.0);
    let len = rows.last().map_or(0, |row| row.0 as usize + 1);
    vectors.reserve(len.saturating_sub(vectors.len()));
    let mut free = vec![0.0; 0];
    for &(offset, from, row) in &rows {
        while vectors.len() < offset as usize {
            // An offset that was used for a while between two merges.
            free.resize(vectors.dim(), 0.0);
            let free = vectors.push(&free);
            vectors.remove(free);
        }
        if vectors.len() == offset as usize {
            vectors.push(&from.row(row));
        } else {
            vectors.set(offset, &from.row(row));
        }
    }
    let offsets: Vec<u32> = rows.iter().map(|row| row.0).collect();
    hnsw.insert(&vectors, &offsets);
    Base { vectors, hnsw }
}
