//! Search by scanning codes: every matching row is judged by its code, the best are compared exactly (rerank).
//!
//! Any quantizer of `vdb-quant` makes the codes ([`CodeKind`]). Rows are placed first (normalised under Cosine, shifted
//! by the mean, scaled by a power of two) as [`placement`] says, then coded; codes lie in memory order of the rows, as
//! rows or in blocks of 32 that are scanned together. A search scans the codes of the rows that may be hits, keeps the
//! `oversampling · k` rows with the smallest estimates ([`select`]) and reranks them by exact distances.
//!
//! Too few rows to train on are compared exactly, and so are searches whose candidates would be most of the rows.
//! Invariants: what a code says decides which rows are compared, never the distance that is reported; the answer does
//! not depend on the number of threads, because a scan is cut into tasks of a fixed size.

mod codec;
mod kind;
mod placement;
mod scan;
mod stored;
#[cfg(test)]
mod tests;

use crate::top_k::TopK;
use crate::vectors::Query;
use crate::{Answer, BitSet, FlatScan, Hit, Request, Vectors};
use codec::Codec;
pub use kind::{CodeKind, CodedParams};
use placement::Placement;
use rayon::prelude::*;
use vdb_distance::AlignedVec;

/// Rows that are placed and coded at a time, by one thread: few enough to stay in its second-level cache meanwhile, and
/// whole blocks.
const STRIP_ROWS: usize = 64;
const _: () = assert!(STRIP_ROWS.is_multiple_of(vdb_quant::BLOCK_VECTORS));
/// Candidates whose exact distances are computed at a time.
const RERANKED: usize = 64;
/// Matching rows per candidate up to which all are compared: the rerank reads rows at random, the scan in order.
const EXACT_FACTOR: usize = 4;

/// The index.
#[derive(Debug, Clone)]
pub struct Coded {
    params: CodedParams,
    codes: Option<Codes>,
    /// Live rows when the quantizer was trained.
    trained: usize,
}

/// What is needed to restore an index without training or coding, for storing it.
#[derive(Debug, Clone, PartialEq)]
pub struct CodedParts {
    /// The settings.
    pub params: CodedParams,
    /// Live rows when the quantizer was trained; 0 before.
    pub trained: u64,
    /// What rows are multiplied by, a power of two.
    pub scale: f32,
    /// What is subtracted from rows; empty where nothing is.
    pub centre: Vec<f32>,
    /// The quantizer's parameters; empty before training and for quantizers without any.
    pub quantizer: Vec<u8>,
    /// Codes of all rows, in order; in whole blocks where the quantizer has blocks. Empty before training.
    pub codes: Vec<u8>,
    /// Bits of codes that are read for the best rows of a block only; empty for most quantizers.
    pub rest: Vec<u8>,
}

/// A trained quantizer and the codes of the rows.
#[derive(Debug, Clone)]
struct Codes {
    placement: Placement,
    codec: Codec,
    /// Rows that are coded.
    len: usize,
    units: AlignedVec<u8>,
    rest: AlignedVec<u8>,
}

impl Coded {
    /// An index over no rows.
    ///
    /// # Errors
    /// A sentence that says which setting does not fit vectors of `dim` values under `metric`.
    pub fn new(params: CodedParams, metric: vdb_distance::Metric, dim: usize) -> Result<Self, String> {
        params.check(metric, dim)?;
        Ok(Self { params, codes: None, trained: 0 })
    }

    /// The settings.
    pub fn params(&self) -> &CodedParams {
        &self.params
    }

    /// Heap bytes held, the vectors not included.
    pub fn bytes(&self) -> usize {
        self.codes.as_ref().map_or(0, |codes| codes.units.bytes() + codes.rest.bytes() + codes.codec.bytes())
    }

    /// Bytes of a row's code, its share of a block and the bits read for the best rows only included; `None` while
    /// there are too few rows to code.
    pub fn row_bytes(&self) -> Option<usize> {
        let codec = &self.codes.as_ref()?.codec;
        Some(codec.unit_bytes().div_ceil(codec.unit_rows()) + codec.rest_bytes())
    }

    /// Takes note of new or overwritten live rows.
    ///
    /// When the live rows have doubled, the quantizer is trained anew and all rows are coded again.
    pub fn insert(&mut self, vectors: &Vectors, offsets: &[u32]) {
        let live = vectors.live().count();
        if live >= self.params.fewest_rows() && live >= self.trained.saturating_mul(2) {
            self.trained = live;
            self.codes = Codes::train(&self.params, vectors);
        } else if let Some(codes) = &mut self.codes {
            // Rows that no insertion has reached yet lie between; they are coded on the way.
            let first = codes.len as u32;
            let last = offsets.iter().copied().max().unwrap_or(0);
            codes.push_up_to(vectors, last as usize + 1);
            offsets.iter().filter(|&&offset| offset < first).for_each(|&offset| codes.set(vectors, offset));
        }
    }

    /// The nearest of the `oversampling · k` rows with the best codes; without `oversampling`, as many as
    /// [`CodeKind::oversampling`] suggests.
    ///
    /// # Panics
    /// When the query has another dimension than the vectors.
    pub fn search(&self, vectors: &Vectors, request: &Request<'_>, oversampling: Option<usize>) -> Answer {
        let query = vectors.query(request.query);
        let matching = request.matching(vectors);
        let k = request.k.min(matching.count());
        let factor = oversampling.unwrap_or(self.params.kind.oversampling()).max(1);
        let wanted = k.saturating_mul(factor);
        let few = matching.count() <= wanted.saturating_mul(EXACT_FACTOR);
        let Some(codes) = self.codes.as_ref().filter(|_| !few && k > 0 && !query.is_undirected()) else {
            return FlatScan.search(vectors, request);
        };
        let candidates = codes.nearest(request.query, &matching, wanted);
        let hits = rerank(&query, &candidates, TopK::new(k, request.tie_break));
        // Codes whose estimates are no numbers, those of a damaged file, name no candidates.
        if hits.len() < k {
            return FlatScan.search(vectors, request);
        }
        Answer { hits, exact: false, distance_computations: candidates.len(), ..Answer::default() }
    }

    /// The `wanted` matching rows with the smallest estimates, in ascending order of their offsets: what a search
    /// compares exactly. `None` while there are no codes.
    ///
    /// # Panics
    /// When the query has another dimension than the vectors.
    pub fn candidates(&self, vectors: &Vectors, request: &Request<'_>, wanted: usize) -> Option<Vec<u32>> {
        let codes = self.codes.as_ref()?;
        assert_eq!(request.query.len(), codes.codec.dim(), "dimension of a query");
        Some(codes.nearest(request.query, &request.matching(vectors), wanted))
    }

    /// Codes all rows again with the quantizer as it is. Nothing changes; it tells how fast rows are coded.
    pub fn recode(&mut self, vectors: &Vectors) {
        if let Some(codes) = &mut self.codes {
            codes.len = 0;
            codes.push_up_to(vectors, vectors.len());
        }
    }

    /// Writes estimates of the comparable distances of all rows, in order, from all bits of their codes: squared under
    /// Euclidean; under Cosine the squared distance of the normalised vectors. Under DotProduct, and for
    /// [`CodeKind::Binary`], they are numbers in the order of the distances. False, and nothing is written, while there
    /// are no codes.
    ///
    /// # Panics
    /// When the query has another dimension than the vectors.
    pub fn estimates(&self, query: &[f32], estimates: &mut Vec<f32>) -> bool {
        let Some(codes) = &self.codes else { return false };
        assert_eq!(query.len(), codes.codec.dim(), "dimension of a query");
        let placed = codes.placement.place_query(query);
        let prepared = codes.codec.query(codes.placement.code_metric(), &placed);
        scan::estimates(codes, &prepared, estimates);
        if codes.placement.scale != 1.0 {
            let unit = codes.placement.unit();
            estimates.iter_mut().for_each(|estimate| *estimate *= unit);
        }
        true
    }

    /// What is needed to restore the index.
    pub fn to_parts(&self) -> CodedParts {
        let codes = self.codes.as_ref();
        CodedParts {
            params: self.params,
            trained: self.trained as u64,
            scale: codes.map_or(1.0, |codes| codes.placement.scale),
            centre: codes.map_or(Vec::new(), |codes| codes.placement.centre.clone()),
            quantizer: codes.map_or(Vec::new(), |codes| codes.codec.to_bytes()),
            codes: codes.map_or(Vec::new(), |codes| codes.units.to_vec()),
            rest: codes.map_or(Vec::new(), |codes| codes.rest.to_vec()),
        }
    }

    /// The index over `vectors` from stored parts.
    ///
    /// # Errors
    /// A sentence that says what does not fit.
    pub fn from_parts(vectors: &Vectors, parts: CodedParts) -> Result<Self, String> {
        let CodedParts { params, trained, scale, centre, quantizer, codes, rest } = parts;
        params.check(vectors.metric(), vectors.dim())?;
        let trained = usize::try_from(trained).map_err(|_| format!("trained on {trained} rows"))?;
        if codes.is_empty() && quantizer.is_empty() {
            return Ok(Self { params, codes: None, trained });
        }
        let placement = Placement::from_parts(&params, vectors, scale, centre)?;
        let codec = Codec::from_bytes(&params, &placement, vectors.dim(), &quantizer)?;
        let unit_rows = codec.unit_rows();
        if codes.len() % codec.unit_bytes() != 0 {
            return Err(format!("{} bytes of codes, no multiple of {}", codes.len(), codec.unit_bytes()));
        }
        // Rows at the end may be without codes, those that no insertion has reached.
        let len = vectors.len().min(codes.len() / codec.unit_bytes() * unit_rows);
        let found = (codes.len() / codec.unit_bytes(), rest.len());
        let expected = (len.div_ceil(unit_rows), len * codec.rest_bytes());
        let last_live = vectors.live().iter().last().map_or(0, |offset| offset as usize + 1);
        if found != expected || len < last_live {
            return Err(format!("codes of {len} rows (found {found:?}) for {} rows", vectors.len()));
        }
        let (units, rest) = (AlignedVec::from(&codes[..]), AlignedVec::from(&rest[..]));
        Ok(Self { params, codes: Some(Codes { placement, codec, len, units, rest }), trained })
    }
}

impl Codes {
    /// Trains on a sample of the live rows and codes all rows. `None` when no row has a length that can be placed.
    fn train(params: &CodedParams, vectors: &Vectors) -> Option<Codes> {
        let live: Vec<u32> = vectors.live().iter().collect();
        let count = params.training_rows().min(live.len());
        let sampled: Vec<u32> = (0..count).map(|i| live[i * live.len() / count]).collect();
        let (placement, sample) = Placement::train(params, vectors, &sampled);
        let codec = Codec::train(params, &placement, vectors.dim(), &sample)?;
        drop(sample);
        let mut codes = Codes { placement, codec, len: 0, units: AlignedVec::new(), rest: AlignedVec::new() };
        codes.units.reserve_exact(vectors.len().div_ceil(codes.codec.unit_rows()) * codes.codec.unit_bytes());
        codes.rest.reserve_exact(vectors.len() * codes.codec.rest_bytes());
        codes.push_up_to(vectors, vectors.len());
        Some(codes)
    }

    /// The `wanted` matching rows with the smallest estimates, in ascending order of their offsets.
    fn nearest(&self, query: &[f32], matching: &BitSet, wanted: usize) -> Vec<u32> {
        let placed = self.placement.place_query(query);
        let prepared = self.codec.query(self.placement.code_metric(), &placed);
        scan::Scan { codes: self, prepared: &prepared, matching }.nearest(wanted)
    }

    fn grow(&mut self, len: usize) {
        if len > self.len {
            self.units.resize(len.div_ceil(self.codec.unit_rows()) * self.codec.unit_bytes(), 0);
            self.rest.resize(len * self.codec.rest_bytes(), 0);
            self.len = len;
        }
    }

    /// Codes the rows below `end` that are not coded yet.
    fn push_up_to(&mut self, vectors: &Vectors, end: usize) {
        let (first, unit_rows) = (self.len, self.codec.unit_rows());
        self.grow(end);
        // A block that was begun is filled row by row.
        let whole = first.next_multiple_of(unit_rows).min(end);
        (first..whole).for_each(|row| self.set(vectors, row as u32));
        let (dim, unit_bytes, rest_bytes) = (vectors.dim(), self.codec.unit_bytes(), self.codec.rest_bytes());
        let Codes { placement, codec, units, rest, .. } = self;
        let units = &mut units[whole / unit_rows * unit_bytes..end.div_ceil(unit_rows) * unit_bytes];
        let rest = &mut rest[whole * rest_bytes..end * rest_bytes];
        // Without a second part, chunks of nothing.
        let mut rests: Vec<&mut [u8]> = rest.chunks_mut((STRIP_ROWS * rest_bytes).max(1)).collect();
        rests.resize_with((end - whole).div_ceil(STRIP_ROWS), Default::default);
        let strips = units.par_chunks_mut(STRIP_ROWS / unit_rows * unit_bytes).zip(rests).enumerate();
        strips.with_min_len(4).for_each_init(Vec::new, |placed, (strip, (units, rest))| {
            let first = whole + strip * STRIP_ROWS;
            let rows = first..(first + STRIP_ROWS).min(end);
            placed.resize(rows.len() * dim, 0.0);
            for (row, placed) in rows.zip(placed.chunks_exact_mut(dim)) {
                placement.place(&vectors.row(row as u32), placed);
            }
            codec.encode_all(placed, units, rest);
        });
    }

    /// Codes a row, new or overwritten, by itself.
    fn set(&mut self, vectors: &Vectors, offset: u32) {
        let mut placed = vec![0.0; vectors.dim()];
        self.placement.place(&vectors.row(offset), &mut placed);
        let (row, unit_rows) = (offset as usize, self.codec.unit_rows());
        let (unit_bytes, rest_bytes) = (self.codec.unit_bytes(), self.codec.rest_bytes());
        let unit = &mut self.units[row / unit_rows * unit_bytes..][..unit_bytes];
        let rest = &mut self.rest[row * rest_bytes..][..rest_bytes];
        self.codec.encode_one(&placed, unit, row % unit_rows, rest);
    }
}

/// Exact distances of `candidates`, in the order in which they lie in memory.
fn rerank(query: &Query<'_>, candidates: &[u32], mut top: TopK<'_>) -> Vec<Hit> {
    let mut distances = [0.0f32; RERANKED];
    for offsets in candidates.chunks(RERANKED) {
        let distances = &mut distances[..offsets.len()];
        query.gather(offsets, distances);
        for (&offset, &mut comparable) in offsets.iter().zip(distances) {
            top.push(Hit { offset, distance: query.finish(offset, comparable) });
        }
    }
    top.into_sorted()
}
