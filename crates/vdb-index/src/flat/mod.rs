//! Exact search: the plain scan, and the scan by bounds that reads a fraction of the memory.
//!
//! [`FlatScan`] compares every matching row. [`Flat`] keeps four-bit codes of the leading directions of the data beside
//! the vectors and compares only rows that their bounds cannot exclude; its answers are those of [`FlatScan`], bit for
//! bit. Where bounds do not pay (small data, white noise, Manhattan distance, rare matches), it is [`FlatScan`].

mod bounds;
mod cascade;
mod scan;
#[cfg(test)]
mod tests;
mod train;

pub use scan::FlatScan;

use crate::{Answer, Request, Vectors};
use bounds::Bounds;
use cascade::Cascade;
use rayon::prelude::*;
use vdb_distance::Metric;
use vdb_quant::{HeadBasis, MAX_DIM};

/// Values below which the plain scan stays in the caches and nothing is to be gained.
const SMALLEST: usize = 1 << 21;
/// Rows per dimension below which directions are not worth finding: they would hold for the sample alone, and finding
/// them takes longer, by the square of their number, than scans could win back.
const ROWS_PER_DIMENSION: usize = 4;
/// One matching row in this many, or fewer, are gathered without bounds.
const SPARSE: usize = 16;
/// Queries that go through the codes together: each keeps a few kilobytes, which should stay in the second cache beside
/// a chunk of codes.
const GROUP: usize = 32;

/// The exact index.
#[derive(Debug, Clone, Default)]
pub struct Flat {
    bounds: Option<Bounds>,
    /// Live rows when it was last decided whether bounds pay.
    trained: usize,
}

/// What is needed to code the same rows again, for storing it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FlatParts {
    /// What rows are centred by; empty where bounds are not used.
    pub center: Vec<f32>,
    /// Orthonormal directions, one after the other.
    pub directions: Vec<f32>,
    /// Whether eight-bit codes are kept, too.
    pub fine: bool,
    /// Live rows when the directions were chosen.
    pub trained: u64,
}

impl Flat {
    /// An index over no rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// Heap bytes held, the vectors not included.
    pub fn bytes(&self) -> usize {
        self.bounds.as_ref().map_or(0, Bounds::bytes)
    }

    /// Bytes that a scan reads for each row before any exact comparison; `None` where every row is compared exactly.
    pub fn row_bytes(&self) -> Option<usize> {
        self.bounds.as_ref().map(|bounds| bounds.codes.row_bytes())
    }

    /// Takes note of new or overwritten live rows.
    ///
    /// When the live rows have doubled, or new rows are coded much worse than those that the directions were found in,
    /// directions and head length are chosen anew and all rows are coded again.
    ///
    /// # Complexity
    /// m × d products a row; choosing takes about as long as a few dozen plain scans.
    pub fn insert(&mut self, vectors: &Vectors, offsets: &[u32]) {
        let live = vectors.live().count();
        let enough = live * vectors.dim() >= SMALLEST && live >= ROWS_PER_DIMENSION * vectors.dim();
        let drifted = self.bounds.as_ref().is_some_and(|bounds| bounds.has_drifted(self.trained));
        if enough && (live >= self.trained.saturating_mul(2) || drifted) {
            self.trained = live;
            self.bounds = train::train(vectors);
        } else if let Some(bounds) = &mut self.bounds {
            // Rows that no insertion has reached yet lie between; they are coded on the way.
            let first = bounds.codes.len() as u32;
            let last = offsets.iter().copied().max().unwrap_or(0);
            bounds.push_up_to(vectors, last + 1);
            bounds.set(vectors, offsets.iter().copied().filter(|&offset| offset < first));
        }
    }

    /// The true nearest rows: what [`FlatScan::search`] answers, bit for bit.
    ///
    /// # Panics
    /// When the query has another dimension than the vectors.
    pub fn search(&self, vectors: &Vectors, request: &Request<'_>) -> Answer {
        match self.cascade(vectors, request) {
            Some(cascade) => cascade.search(),
            None => FlatScan.search(vectors, request),
        }
    }

    /// As many answers as there are requests, each what [`search`](Self::search) gives: queries share every part of
    /// the data that is read, and all threads of the current rayon pool take part.
    ///
    /// # Panics
    /// When a query has another dimension than the vectors.
    pub fn search_batch(&self, vectors: &Vectors, requests: &[Request<'_>]) -> Vec<Answer> {
        let group = requests.len().div_ceil(rayon::current_num_threads()).clamp(1, GROUP);
        let groups = requests.par_chunks(group).map(|requests| {
            let cascades: Vec<_> = requests.iter().map(|request| self.cascade(vectors, request)).collect();
            let plain: Vec<Request<'_>> = requests
                .iter()
                .zip(&cascades)
                .filter(|(_, cascade)| cascade.is_none())
                .map(|(r, _)| *r)
                .collect();
            let bounded: Vec<&Cascade<'_>> = cascades.iter().flatten().collect();
            let mut bounded = cascade::search_together(&bounded).into_iter();
            let mut plain = FlatScan.search_batch(vectors, &plain).into_iter();
            let next = |cascade: &Option<_>| if cascade.is_some() { bounded.next() } else { plain.next() };
            cascades.iter().filter_map(next).collect::<Vec<_>>()
        });
        groups.flatten_iter().collect()
    }

    /// The search by bounds; `None` where they do not pay.
    fn cascade<'a>(&'a self, vectors: &'a Vectors, request: &Request<'a>) -> Option<Cascade<'a>> {
        let bounds = self.bounds.as_ref()?;
        let query = vectors.query(request.query);
        let matching = request.matching(vectors);
        let k = request.k.min(matching.count());
        // A large k leaves most rows, and an undirected query all of them.
        let pays = matching.count() * SPARSE > vectors.len() && k * SPARSE < matching.count();
        if !pays || query.is_undirected() {
            return None;
        }
        let prepared = bounds.basis.query(request.query)?;
        Some(Cascade::new(bounds, vectors, Request { k, ..*request }, matching, prepared))
    }

    /// What is needed to code the same rows again.
    pub fn to_parts(&self) -> FlatParts {
        let parts = self.bounds.as_ref().map(|bounds| bounds.basis.parts());
        let (center, directions) = parts.unwrap_or_default();
        FlatParts {
            center: center.to_vec(),
            directions: directions.to_vec(),
            fine: self.bounds.as_ref().is_some_and(|bounds| bounds.fine.is_some()),
            trained: self.trained as u64,
        }
    }

    /// The index over `vectors` from stored parts; all rows are coded again.
    ///
    /// # Errors
    /// A sentence that says what does not fit.
    pub fn from_parts(vectors: &Vectors, parts: FlatParts) -> Result<Self, String> {
        let FlatParts { center, directions, fine, trained } = parts;
        let trained = trained as usize;
        if center.is_empty() && directions.is_empty() {
            return Ok(Self { bounds: None, trained });
        }
        let (dim, len) = (vectors.dim(), directions.len());
        let fits = center.len() == dim
            && len.is_multiple_of(dim * 8)
            && (1..=dim * train::LONGEST_HEAD).contains(&len);
        if !fits || len / dim > dim || dim > MAX_DIM {
            return Err(format!(
                "{} centre values and {len} of directions for {dim} dimensions",
                center.len()
            ));
        }
        if vectors.metric() == Metric::Manhattan {
            return Err("a Manhattan distance has no bounds".to_owned());
        }
        let basis = HeadBasis::try_new(vectors.metric(), center, &directions)?;
        Ok(Self { bounds: Some(Bounds::build(basis, fine, vectors)), trained })
    }
}
