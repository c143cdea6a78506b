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
const CHUNK: usize = 4;
/// Rows that are refined at a time.
const REFINE: usize = 16;
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
            // What lists that are read in place hold was not looked at yet.
            allowed: (request.allowed.is_some() || self.homes.is_empty()).then_some(matching.as_ref()),
            nearest: Nearest::new(k),
            candidates: Vec::with_capacity(256),
            estimates: [BlockEstimates::default(); CHUNK],
            top: TopK::new(k, request.tie_break),
            computed: 0,
        };
        search.probe(&rank(probes), usize::MAX);
        if search.found() < k {
            search.probe(&rank(lists)[probes..], k);
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

/// A row that may be a hit, by its list and place.
#[derive(Clone, Copy)]
struct Candidate {
    estimate: f32,
    /// Below the distance, as far as the bounds hold.
    bound: f32,
    list: u32,
    place: u32,
}

/// A row that the scan of a list has left, by its place there.
#[derive(Clone, Copy)]
struct Survivor {
    place: u32,
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
    /// Room for a chunk of blocks, kept from list to list.
    estimates: [BlockEstimates; CHUNK],
    top: TopK<'a>,
    computed: usize,
}

impl Search<'_> {
    /// Scans the `ranked` lists until `wanted` rows are found. What a scan leaves is refined after the next scan: until
    /// then memory has brought it.
    fn probe(&mut self, ranked: &[Ranked], wanted: usize) {
        let lists = &self.trained.lists;
        let Some(prepared) = self.prepared else { return self.compare_lists(ranked, wanted) };
        let (mut fresh, mut waiting) = (Vec::with_capacity(256), Vec::with_capacity(256));
        let mut before: Option<(&Ranked, List<'_>)> = None;
        for (rank, one) in ranked.iter().enumerate() {
            let list = lists.get(one.list as usize);
            let next = ranked.get(rank + 1).map(|next| lists.get(next.list as usize));
            self.scan(prepared, one, &list, next.as_ref(), &mut fresh);
            if list.rest.is_empty() {
                self.compare(&list, &mut fresh);
            } else {
                if self.found() < self.nearest.k {
                    self.refine_nearest(prepared, one, &list, &mut fresh);
                }
                fresh.iter().for_each(|survivor| list.prefetch_rest(survivor.place as usize));
                if let Some((before, list)) = &before {
                    self.refine(prepared, before, list, &waiting);
                }
                std::mem::swap(&mut fresh, &mut waiting);
                before = Some((one, list));
            }
            fresh.clear();
            if self.found() >= wanted {
                break;
            }
        }
        if let Some((before, list)) = &before {
            self.refine(prepared, before, list, &waiting);
        }
    }

    /// Rows that are hits if nothing nearer is found, up to k.
    fn found(&self) -> usize {
        self.nearest.values.len()
    }

    /// Scans the codes of a list and asks memory for those of the next one on the way.
    fn scan(
        &mut self,
        prepared: &RabitqBlockQuery<'_>,
        one: &Ranked,
        list: &List<'_>,
        next: Option<&List<'_>>,
        survivors: &mut Vec<Survivor>,
    ) {
        let block_bytes = list.block_bytes();
        let chunk_bytes = CHUNK * block_bytes;
        for (chunk, blocks) in list.blocks.chunks(chunk_bytes).enumerate() {
            if let Some(next) = next {
                next.prefetch_codes(chunk * chunk_bytes, chunk_bytes);
            }
            let first = chunk * CHUNK;
            for block in 0..blocks.len() / block_bytes {
                self.estimates[block].near = self.wanted(list, first + block);
            }
            let out = &mut self.estimates[..blocks.len() / block_bytes];
            prepared.scan(one.term, self.nearest.limit(), blocks, out);
            for (block, out) in out.iter().enumerate() {
                let mut near = out.near;
                while near != 0 {
                    let lane = near.trailing_zeros() as usize;
                    near &= near - 1;
                    survivors.push(Survivor {
                        place: ((first + block) * BLOCK_VECTORS + lane) as u32,
                        estimate: out.distance[lane],
                        bound: out.bound[lane],
                        product: out.product[lane],
                    });
                }
            }
        }
    }

    /// The lanes of a block that hold matching rows.
    fn wanted(&self, list: &List<'_>, block: usize) -> u32 {
        let lanes = list.lanes(block);
        let Some(allowed) = self.allowed else { return lanes };
        let first = block * BLOCK_VECTORS;
        (0..BLOCK_VECTORS.min(list.len() - first))
            .fold(0, |mask, lane| mask | u32::from(allowed.contains(list.row(first + lane))) << lane)
    }

    /// Before there is anything to hold bounds against, refines the nearest `survivors` of a list and keeps those of the
    /// others that may be nearer.
    fn refine_nearest(
        &mut self,
        prepared: &RabitqBlockQuery<'_>,
        one: &Ranked,
        list: &List<'_>,
        survivors: &mut Vec<Survivor>,
    ) {
        let some = self.nearest.k.min(survivors.len());
        if some < survivors.len() {
            survivors.select_nth_unstable_by(some, |a, b| a.estimate.total_cmp(&b.estimate));
        }
        survivors[..some].iter().for_each(|survivor| list.prefetch_rest(survivor.place as usize));
        self.refine(prepared, one, list, &survivors[..some]);
        survivors.drain(..some);
        let limit = self.nearest.limit();
        survivors.retain(|survivor| is_near(survivor.bound, limit));
    }

    /// Refines rows of a list with the remaining bits of their codes.
    fn refine(
        &mut self,
        prepared: &RabitqBlockQuery<'_>,
        one: &Ranked,
        list: &List<'_>,
        survivors: &[Survivor],
    ) {
        let (mut places, mut products, mut refined) = ([0; REFINE], [0.0; REFINE], [(0.0, 0.0); REFINE]);
        for some in survivors.chunks(REFINE) {
            let (limit, mut count) = (self.nearest.limit(), 0);
            for survivor in some {
                (places[count], products[count]) = (survivor.place, survivor.product);
                count += usize::from(is_near(survivor.bound, limit));
            }
            let (places, products) = (&places[..count], &products[..count]);
            prepared.refine_rows(one.term, list.rest, (places, products), &mut refined[..count]);
            for (&place, &(estimate, error)) in places.iter().zip(&refined) {
                let estimate = if estimate.is_nan() { f32::INFINITY } else { estimate };
                let bound = estimate - error;
                if is_near(bound, self.nearest.limit()) {
                    // A row that is in one list only needs no name: looking it up would wait for memory.
                    let row = match self.trained.copies {
                        1 => self.candidates.len() as u32,
                        _ => list.row(place as usize),
                    };
                    self.candidates.push(Candidate { estimate, bound, list: one.list, place });
                    self.nearest.push(estimate, row);
                }
            }
        }
    }

    /// Compares the survivors of a list exactly, nearest estimates first.
    fn compare(&mut self, list: &List<'_>, survivors: &mut [Survivor]) {
        survivors.sort_unstable_by(|a, b| a.estimate.total_cmp(&b.estimate));
        for some in survivors.chunks(RERANK) {
            let limit = self.nearest.limit();
            let near = some.iter().filter(|survivor| is_near(survivor.bound, limit));
            let rows = near.map(|survivor| list.row(survivor.place as usize));
            self.compare_rows(rows);
        }
    }

    /// Compares all matching rows of lists, until `wanted` rows are found.
    fn compare_lists(&mut self, ranked: &[Ranked], wanted: usize) {
        let allowed = self.allowed;
        for one in ranked {
            let list = self.trained.lists.get(one.list as usize);
            let matching = |row: &u32| allowed.is_none_or(|allowed| allowed.contains(*row));
            let mut rows = list.rows().filter(matching).peekable();
            while rows.peek().is_some() {
                self.compare_rows(rows.by_ref().take(RERANK));
            }
            if self.found() >= wanted {
                return;
            }
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
        let row = |candidate: &Candidate| {
            self.trained.lists.get(candidate.list as usize).row(candidate.place as usize)
        };
        let mut rows: Vec<(Candidate, u32)> = candidates.iter().map(|one| (*one, row(one))).collect();
        rows.sort_unstable_by(|a, b| a.0.estimate.total_cmp(&b.0.estimate).then(a.1.cmp(&b.1)));
        if !rows.is_empty() {
            self.nearest = Nearest::new(self.nearest.k);
        }
        for some in rows.chunks(RERANK) {
            let limit = self.nearest.limit();
            let near = some.iter().filter(|(candidate, _)| is_near(candidate.bound, limit));
            self.compare_rows(near.map(|(_, row)| *row));
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
