//! Training: how many lists, their centroids, which row goes where, and how many lists a search should probe.

use super::coarse::Coarse;
use super::lists::{Layout, Lists};
use super::{IvfParams, NOWHERE, Trained, placed};
use crate::{Request, Vectors};
use rayon::prelude::*;
use vdb_quant::{KMeans, KMeansConfig};

/// Rows of the training sample per list.
const ROWS_PER_LIST: usize = 64;
/// Iterations of k-means.
const ITERATIONS: usize = 10;
/// From so many lists on, k-means runs in two levels.
const TWO_LEVEL_LISTS: usize = 4_096;
/// Rows that are placed at a time.
const PART: usize = 1 << 12;
/// Lists as a multiple of √n.
const LISTS_PER_ROOT: f64 = 3.0;
/// Rows of the data that are searched for to choose the number of probes.
const JUDGED_QUERIES: usize = 256;
/// Neighbours of each.
const JUDGED_K: usize = 10;
/// The share of those neighbours that the probed lists have to hold.
const JUDGED_RECALL: f64 = 0.95;
/// Probed lists that stand for all when neighbours are looked for: one in so many, and at least [`JUDGED_LISTS`].
const JUDGED_SHARE: usize = 8;
const JUDGED_LISTS: usize = 64;

impl Trained {
    /// Lists over all live rows; `None` when the rows give no centroids.
    pub(super) fn train(params: &IvfParams, vectors: &Vectors) -> Option<Self> {
        let (dim, metric) = (vectors.dim(), vectors.metric());
        let live: Vec<u32> = vectors.live().iter().collect();
        let default = || (LISTS_PER_ROOT * (live.len() as f64).sqrt()) as usize;
        let count = params.lists.unwrap_or_else(default).clamp(1, live.len());
        let sample = rows_of(vectors, &evenly(&live, count * ROWS_PER_LIST));
        let mut config = KMeansConfig::new(count).seed(params.seed).iterations(ITERATIONS);
        config.points_per_centroid = ROWS_PER_LIST;
        let means = match count < TWO_LEVEL_LISTS {
            true => KMeans::train(&sample, dim, &config),
            false => KMeans::train_two_level(&sample, dim, &config, &mut |_| ()),
        };
        let means = means.ok()?;
        let codec = params.codec(metric, mean(&sample, dim)).ok()?;
        drop(sample);
        let mut trained = Self {
            metric,
            coarse: Coarse::new(dim, means.centroids().to_vec(), codec.as_ref()),
            lists: Lists::build(Layout::new(codec.as_ref()), &[], |_, _| ()),
            codec,
            homes: Vec::new(),
            copies: if params.spill && count > 1 { 2 } else { 1 },
            rows: live.len(),
            trained_rows: live.len(),
            probes: 1,
        };
        trained.fill(vectors, &live);
        trained.probes = trained.judged_probes(vectors, &live);
        Some(trained)
    }

    /// Makes the lists of all live rows.
    fn fill(&mut self, vectors: &Vectors, live: &[u32]) {
        self.homes = vec![NOWHERE; vectors.len() * self.copies];
        let mut members: Vec<Vec<u32>> = vec![Vec::new(); self.coarse.count()];
        for part in live.chunks(PART) {
            let homes = self.choose_homes(&rows_of(vectors, part));
            for (&offset, homes) in part.iter().zip(homes.chunks_exact(self.copies)) {
                self.homes[offset as usize * self.copies..][..self.copies].copy_from_slice(homes);
                homes.iter().for_each(|&list| members[list as usize].push(offset));
            }
        }
        let lens: Vec<usize> = members.iter().map(Vec::len).collect();
        let (codec, coarse) = (self.codec.as_ref(), &self.coarse);
        self.lists = Lists::build(Layout::new(codec), &lens, |list, part| {
            let centre = coarse.centre(list, codec);
            let mut vector = Vec::with_capacity(vectors.dim());
            for (place, &offset) in members[list].iter().enumerate() {
                vector.clear();
                placed(vectors, offset, &mut vector);
                part.set(place, offset, codec.zip(centre.as_ref()), &vector);
            }
        });
    }

    /// The lists of each of the `rows`, as lists hold them: `copies` a row.
    pub(super) fn choose_homes(&self, rows: &[f32]) -> Vec<u32> {
        let first = self.coarse.assign_all(rows);
        if self.copies == 1 {
            return first;
        }
        let rows = rows.par_chunks_exact(self.coarse.centroid(0).len());
        rows.zip(first).flat_map_iter(|(row, first)| [first, self.coarse.spill(row, first)]).collect()
    }

    /// How many lists hold [`JUDGED_RECALL`] of the neighbours of rows of the data.
    fn judged_probes(&self, vectors: &Vectors, live: &[u32]) -> usize {
        let lists = self.coarse.count();
        let all = (lists / JUDGED_SHARE).max(JUDGED_LISTS).min(lists);
        let queries = evenly(live, JUDGED_QUERIES);
        let mut ranks: Vec<usize> = queries
            .par_iter()
            .flat_map_iter(|&offset| {
                let query = &vectors.row(offset);
                let hits = self.search(vectors, &Request::new(query, JUDGED_K + 1), all).hits;
                let mut vector = Vec::new();
                placed(vectors, offset, &mut vector);
                let ranked = self.coarse.rank(self.metric, &vector, None, lists);
                let others = hits.into_iter().filter(move |hit| hit.offset != offset).take(JUDGED_K);
                others.map(move |hit| {
                    let homes = &self.homes[hit.offset as usize * self.copies..][..self.copies];
                    let rank = ranked.iter().position(|ranked| homes.contains(&ranked.list));
                    rank.map_or(lists, |rank| rank + 1)
                })
            })
            .collect();
        ranks.sort_unstable();
        let place = (ranks.len() as f64 * JUDGED_RECALL) as usize;
        ranks.get(place.min(ranks.len().saturating_sub(1))).copied().unwrap_or(1)
    }
}

/// At most `count` of `offsets`, evenly spaced.
pub(super) fn evenly(offsets: &[u32], count: usize) -> Vec<u32> {
    let count = count.min(offsets.len());
    (0..count).map(|i| offsets[i * offsets.len() / count]).collect()
}

/// Rows as lists hold them, one after another.
pub(super) fn rows_of(vectors: &Vectors, offsets: &[u32]) -> Vec<f32> {
    let mut rows = Vec::with_capacity(offsets.len() * vectors.dim());
    offsets.iter().for_each(|&offset| placed(vectors, offset, &mut rows));
    rows
}

/// The mean of rows.
pub(super) fn mean(rows: &[f32], dim: usize) -> Vec<f32> {
    let mut sums = vec![0.0f64; dim];
    for row in rows.chunks_exact(dim) {
        sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    let count = (rows.len() / dim).max(1) as f64;
    sums.into_iter().map(|sum| (sum / count) as f32).collect()
}
