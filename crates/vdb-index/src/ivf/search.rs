//! One search: lists in the order of their centroids, codes block by block, and what the bounds leave exactly.

use super::coarse::Ranked;
use super::lists::List;
use super::{CODES_PER_ROW, EXACT_ROWS, Trained};
use crate::top_k::TopK;
use crate::vectors::Query;
use crate::{Answer, BitSet, FlatScan, Hit, Request, Vectors};
use vdb_distance::Metric;
use vdb_quant::{BLOCK_VECTORS, BlockEstimates, RabitqBlockQuery};

/// Blocks that are scanned before what they leave is looked at.
const CHUNK: usize = 8;
/// Rows that are compared exactly at a time.
const RERANK: usize = 16;

impl Trained {
    pub(super) fn search(&self, vectors: &Vectors, request: &Request<'_>, probes: usize) -> Answer {
        let query = vectors.query(request.query);
        let matching = request.matching(vectors);
        let k = request.k.min(matching.count());
        let lists = self.coarse.count();
        let probes = self.widened(probes, matching.count());
        let scanned = self.rows / lists * probes;
        let few = EXACT_ROWS.max(4 * k).max(scanned / CODES_PER_ROW);
        if probes >= lists || matching.count() <= few || query.is_undirected() {
            return FlatScan.search(vectors, request);
        }
        let vector = self.placed_query(request.query);
        let prepared = self.codec.as_ref().map(|codec| (codec, codec.query(&vector)));
        let rank = |wanted| {
            let prepared = prepared.as_ref().map(|(codec, query)| (*codec, query));
            self.coarse.rank(self.metric, &vector, prepared, wanted)
        };
        let mut search = Search {
            trained: self,
            prepared: prepared.as_ref().map(|(_, query)| query),
            query,
            allowed: request.allowed.map(|_| matching.as_ref()),
            nearest: Nearest::new(k),
            candidates: Vec::with_capacity(256),
            estimates: vec![BlockEstimates::default(); CHUNK],
            survivors: Vec::with_capacity(256),
            top: TopK::new(k, request.tie_break),
            computed: 0,
        };
        search.probe(&rank(probes));
        if search.found() < k {
            search.probe_until(&rank(lists)[probes..], k);
        }
        let answer = search.finish();
        // Only numbers that leave the range of f32 can keep a matching row from being found.
        if answer.hits.len() < k { FlatScan.search(vectors, request) } else { answer }
    }

    /// More lists for a filter: the k nearest of a share s of the rows are the k / s nearest of all.
    fn widened(&self, probes: usize, matching: usize) -> usize {
        let share = (matching as f64 / self.rows as f64).clamp(1e-9, 1.0);
        (probes as f64 * share.powf(-0.25)).ceil().min(self.coarse.count() as f64) as usize
    }

    fn placed_query(&self, query: &[f32]) -> Vec<f32> {
        let norm = if self.metric == Metric::Cosine { vdb_distance::norm(query) } else { 1.0 };
        query.iter().map(|value| value / norm).collect()
    }
}

/// A row that may be a hit.
#[derive(Clone, Copy)]
struct Candidate {
    estimate: f32,
    /// Below the distance, as far as the bounds hold.
    bound: f32,
    row: u32,
}

/// A row that the scan of a list has left, by its place.
#[derive(Clone, Copy)]
struct Survivor {
    place: usize,
    estimate: f32,
    bound: f32,
    product: f32,
}

struct Search<'a> {
    trained: &'a Trained,
    prepared: Option<&'a RabitqBlockQuery<'a>>,
    query: Query<'a>,
    /// The matching rows under a filter.
    allowed: Option<&'a BitSet>,
    /// The nearest estimates, or distances where there is nothing to refine with.
    nearest: Nearest,
    candidates: Vec<Candidate>,
    /// Room for a chunk of blocks and what they leave, kept from list to list.
    estimates: Vec<BlockEstimates>,
    survivors: Vec<Survivor>,
    top: TopK<'a>,
    computed: usize,
}

impl Search<'_> {
    fn probe(&mut self, ranked: &[Ranked]) {
        for (i, list) in ranked.iter().enumerate() {
            if let Some(next) = ranked.get(i + 1) {
                self.trained.lists.prefetch(next.list as usize);
            }
            self.probe_list(list);
        }
    }

    fn probe_until(&mut self, ranked: &[Ranked], k: usize) {
        for list in ranked {
            self.probe_list(list);
            if self.found() >= k {
                return;
            }
        }
    }

    /// Rows that are hits if nothing nearer is found, up to k.
    fn found(&self) -> usize {
        self.nearest.values.len()
    }

    fn probe_list(&mut self, ranked: &Ranked) {
        let list = self.trained.lists.get(ranked.list as usize);
        let Some(prepared) = self.prepared else { return self.compare_list(&list) };
        let mut estimates = std::mem::take(&mut self.estimates);
        let mut survivors = std::mem::take(&mut self.survivors);
        survivors.clear();
        let block_bytes = list.blocks.len() / list.len().div_ceil(BLOCK_VECTORS).max(1);
        for (chunk, blocks) in list.blocks.chunks((CHUNK * block_bytes).max(1)).enumerate() {
            let out = &mut estimates[..blocks.len() / block_bytes];
            let first = chunk * CHUNK;
            for (block, out) in out.iter_mut().enumerate() {
                out.near = self.wanted(&list, first + block);
            }
            prepared.scan(ranked.term, self.nearest.limit(), blocks, out);
            for (block, out) in out.iter().enumerate() {
                let mut near = out.near;
                while near != 0 {
                    let lane = near.trailing_zeros() as usize;
                    near &= near - 1;
                    let place = (first + block) * BLOCK_VECTORS + lane;
                    list.prefetch_rest(place);
                    let (estimate, bound) = (out.distance[lane], out.bound[lane]);
                    survivors.push(Survivor { place, estimate, bound, product: out.product[lane] });
                }
            }
        }
        self.look_at(prepared, ranked, &list, &mut survivors);
        (self.estimates, self.survivors) = (estimates, survivors);
    }

    /// The lanes of a block that hold matching rows.
    fn wanted(&self, list: &List<'_>, block: usize) -> u32 {
        let lanes = list.lanes(block);
        let Some(allowed) = self.allowed else { return lanes };
        let first = block * BLOCK_VECTORS;
        (0..BLOCK_VECTORS.min(list.len() - first))
            .fold(0, |mask, lane| mask | u32::from(allowed.contains(list.row(first + lane))) << lane)
    }

    /// Refines what a scan has left; without more bits, compares it.
    fn look_at(
        &mut self,
        prepared: &RabitqBlockQuery<'_>,
        ranked: &Ranked,
        list: &List<'_>,
        survivors: &mut [Survivor],
    ) {
        if list.rest.is_empty() {
            return self.compare(list, survivors);
        }
        for survivor in survivors.iter() {
            if !is_near(survivor.bound, self.nearest.limit()) {
                continue;
            }
            let rest = list.rest_of(survivor.place);
            let (estimate, error) = prepared.refine(ranked.term, survivor.product, rest);
            let estimate = if estimate.is_nan() { f32::INFINITY } else { estimate };
            let bound = estimate - error;
            if is_near(bound, self.nearest.limit()) {
                let row = list.row(survivor.place);
                self.candidates.push(Candidate { estimate, bound, row });
                self.nearest.push(estimate, row);
            }
        }
    }

    /// Compares the survivors of a list exactly, nearest estimates first.
    fn compare(&mut self, list: &List<'_>, survivors: &mut [Survivor]) {
        survivors.sort_unstable_by(|a, b| a.estimate.total_cmp(&b.estimate));
        for some in survivors.chunks(RERANK) {
            let limit = self.nearest.limit();
            let near = some.iter().filter(|survivor| is_near(survivor.bound, limit));
            let rows = near.map(|survivor| list.row(survivor.place));
            self.compare_rows(rows);
        }
    }

    /// Compares all matching rows of a list.
    fn compare_list(&mut self, list: &List<'_>) {
        let allowed = self.allowed;
        let mut rows =
            list.rows().filter(|&row| allowed.is_none_or(|allowed| allowed.contains(row))).peekable();
        while rows.peek().is_some() {
            self.compare_rows(rows.by_ref().take(RERANK));
        }
    }

    /// Compares up to [`RERANK`] rows.
    fn compare_rows(&mut self, some: impl Iterator<Item = u32>) {
        let (mut rows, mut distances) = ([0; RERANK], [0.0; RERANK]);
        let mut count = 0;
        for (slot, row) in rows.iter_mut().zip(some) {
            *slot = row;
            count += 1;
        }
        self.query.gather(&rows[..count], &mut distances[..count]);
        self.computed += count;
        for (&row, &distance) in rows[..count].iter().zip(&distances) {
            if self.nearest.push(distance, row) {
                self.top.push(Hit { offset: row, distance: self.query.finish(row, distance) });
            }
        }
    }

    fn finish(mut self) -> Answer {
        // The k-th estimate is known now; estimates take the order, distances the limit from here on.
        let limit = self.nearest.limit();
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.retain(|candidate| is_near(candidate.bound.min(candidate.estimate), limit));
        candidates.sort_unstable_by(|a, b| a.estimate.total_cmp(&b.estimate).then(a.row.cmp(&b.row)));
        if !candidates.is_empty() {
            self.nearest = Nearest::new(self.nearest.k);
        }
        for some in candidates.chunks(RERANK) {
            let limit = self.nearest.limit();
            let near = some.iter().filter(|candidate| is_near(candidate.bound, limit));
            self.compare_rows(near.map(|candidate| candidate.row));
        }
        Answer {
            hits: self.top.into_sorted(),
            exact: false,
            distance_computations: self.computed,
            ..Answer::default()
        }
    }
}

/// Whether a row with this lower bound may be a hit; a bound that is not a number excludes nothing.
#[inline]
fn is_near(bound: f32, limit: f32) -> bool {
    bound.is_nan() || bound <= limit
}

/// The k least numbers so far, and whose they are; a row counts once.
struct Nearest {
    k: usize,
    values: Vec<(f32, u32)>,
}

impl Nearest {
    fn new(k: usize) -> Self {
        Self { k, values: Vec::with_capacity(k + 1) }
    }

    /// Nothing above this is among the k least.
    #[inline]
    fn limit(&self) -> f32 {
        if self.values.len() < self.k { f32::INFINITY } else { self.values.last().map_or(0.0, |last| last.0) }
    }

    /// Takes a number into account; false when the row is there already or its number not among the k least. Equal
    /// numbers are all let through.
    fn push(&mut self, value: f32, row: u32) -> bool {
        if value > self.limit() {
            return false;
        }
        if self.values.iter().any(|other| other.1 == row) {
            return false;
        }
        let place = self.values.partition_point(|other| other.0.total_cmp(&value).is_le());
        self.values.insert(place, (value, row));
        self.values.truncate(self.k);
        true
    }
}
