//! IVF: posting lists around k-means centroids (Jégou, Douze & Schmid, TPAMI 2011), with RaBitQ codes of the residuals
//! (Gao & Long, SIGMOD 2024 and 2025) in blocks that are scanned 32 rows at a time.
//!
//! A query ranks the lists by their centroids and scans the codes of the nearest ones. Each code gives an estimate of
//! the distance and a bound that holds with a stated probability; rows whose bound lies above the k-th estimate so far
//! are passed over, the others are refined with the remaining bits of their codes, and what is left at the end is
//! compared exactly, nearest estimates first, until the bounds exclude the rest. A filter is a mask per block, and
//! blocks without an allowed row are not read.
//!
//! Rows go to the list of their nearest centroid and are found at once; lists that grow beyond their share are split in two,
//! those that nearly empty are dissolved (LIRE; Xu et al., SOSP 2023). When the rows have doubled twice since the
//! centroids were trained, everything is trained again. Small collections have no lists and are scanned exactly. Under
//! Manhattan there are no codes: the rows of the probed lists are compared exactly.
//!
//! Invariant: while there are lists, every live row is in one (with spilling in two different ones), and `homes` says
//! in which.

mod coarse;
mod lists;
mod maintain;
mod parts;
mod search;
mod stored;
#[cfg(test)]
mod tests;
mod train;

pub use parts::IvfParts;

use crate::{Answer, FlatScan, Request, Vectors};
use coarse::Coarse;
use lists::Lists;
use vdb_distance::Metric;
use vdb_quant::{Rabitq, RabitqBlocks, RabitqConfig};

/// Parameters of the lists and codes, fixed when the index is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IvfParams {
    /// Posting lists (nlist). More: fewer rows scanned at equal recall, more centroids to rank. 1 to 1,048,576; default
    /// 3 √n, chosen anew at every training. Splitting and dissolving lists changes the number a little.
    pub lists: Option<usize>,
    /// Bits per dimension of a row's code (the paper's B), 1 to 8. One is scanned, the others refine what the scan
    /// leaves; each one more halves the error and takes an eighth of a byte per dimension. Default 4.
    pub bits: u8,
    /// Store every row in its second list, too: better recall at equal probes for twice the memory. Default false.
    pub spill: bool,
    /// Decides centroids and rotation. Default 0.
    pub seed: u64,
}

impl Default for IvfParams {
    fn default() -> Self {
        Self { lists: None, bits: 4, spill: false, seed: 0 }
    }
}

/// The most posting lists that can be asked for.
const MAX_LISTS: usize = 1 << 20;
/// Rows from which there are lists.
const MIN_ROWS: usize = 2_048;
/// Lists are trained again when there are so many times the rows.
const RETRAIN_FACTOR: usize = 4;
/// Matching rows that are always compared exactly.
const EXACT_ROWS: usize = 256;
/// Comparing a row exactly takes about as long as scanning so many codes.
const CODES_PER_ROW: usize = 32;
/// Stands for no list in `homes`.
const NOWHERE: u32 = u32::MAX;

/// The inverted-file index.
#[derive(Debug, Clone)]
pub struct Ivf {
    params: IvfParams,
    trained: Option<Trained>,
}

/// What training makes, and the lists.
#[derive(Debug, Clone)]
struct Trained {
    metric: Metric,
    /// None under Manhattan.
    codec: Option<RabitqBlocks>,
    coarse: Coarse,
    lists: Lists,
    /// The list of each row by offset, with spilling two; [`NOWHERE`] for rows that are not in the index. Empty while the
    /// lists are read in place.
    homes: Vec<u32>,
    /// Lists that a row is in.
    copies: usize,
    /// Rows in the index.
    rows: usize,
    /// Rows when the centroids were trained.
    trained_rows: usize,
    /// Lists that a search probes unless told otherwise.
    probes: usize,
}

impl IvfParams {
    /// Says in a sentence which parameter is out of its range.
    ///
    /// # Errors
    /// When `lists` is outside 1 to 1,048,576, or `bits` outside 1 to 8.
    pub fn check(&self) -> Result<(), String> {
        if let Some(lists) = self.lists.filter(|lists| !(1..=MAX_LISTS).contains(lists)) {
            return Err(format!("lists is {lists}, expected 1 to {MAX_LISTS}"));
        }
        if !(1..=8).contains(&self.bits) {
            return Err(format!("bits is {}, expected 1 to 8", self.bits));
        }
        Ok(())
    }

    /// The codec around a mean.
    fn codec(&self, metric: Metric, mean: Vec<f32>) -> Result<Option<RabitqBlocks>, String> {
        if metric == Metric::Manhattan {
            return Ok(None);
        }
        let mut config = RabitqConfig::new(self.bits);
        config.seed ^= self.seed;
        let quantizer = Rabitq::new(mean, config).map_err(|error| error.to_string())?;
        Ok(Some(RabitqBlocks::new(quantizer, metric)))
    }
}

impl Ivf {
    /// An empty index.
    ///
    /// # Panics
    /// When `lists` is outside 1 to 1,048,576, or `bits` outside 1 to 8.
    pub fn new(params: IvfParams) -> Self {
        if let Err(reason) = params.check() {
            panic!("{reason}");
        }
        Self { params, trained: None }
    }

    /// The parameters it was made with.
    pub fn params(&self) -> &IvfParams {
        &self.params
    }

    /// Posting lists; none while there are few rows.
    pub fn lists(&self) -> usize {
        self.trained.as_ref().map_or(0, |trained| trained.coarse.count())
    }

    /// Lists that a search probes unless told otherwise: as many as held 95 % of the ten nearest neighbours of sampled rows
    /// when the lists were trained. None while there are few rows.
    pub fn default_probes(&self) -> Option<usize> {
        self.trained.as_ref().map(|trained| trained.probes)
    }

    /// Heap bytes held, the vectors not included.
    pub fn bytes(&self) -> usize {
        self.trained.as_ref().map_or(0, |trained| {
            trained.coarse.bytes() + trained.lists.bytes() + trained.homes.capacity() * 4
        })
    }

    /// Whether there are lists: too few rows have none.
    pub fn has_lists(&self) -> bool {
        self.trained.is_some()
    }

    /// Adds live rows; they must not be in the index yet. They are found at once.
    ///
    /// # Complexity
    /// As many distances a row as there are lists, and the code; training, when rows have doubled twice, compares at
    /// most 64 rows a list with all centroids, ten times.
    ///
    /// # Panics
    /// When an offset is not a live row of `vectors`.
    pub fn insert(&mut self, vectors: &Vectors, offsets: &[u32]) {
        assert!(offsets.iter().all(|&offset| vectors.live().contains(offset)), "an offset is not live");
        self.settle(vectors);
        let live = vectors.live().count();
        let known = self.trained.as_ref().map_or(MIN_ROWS, |trained| RETRAIN_FACTOR * trained.trained_rows);
        if live >= known && vectors.dim() <= vdb_quant::MAX_CODE_BYTES {
            self.trained = Trained::train(&self.params, vectors);
        } else if let Some(trained) = &mut self.trained {
            trained.add(vectors, offsets);
        }
    }

    /// Takes a row out. Its values must still be there when a list has to be dissolved, so call this before the row
    /// is overwritten.
    pub fn remove(&mut self, vectors: &Vectors, offset: u32) {
        self.settle(vectors);
        let Some(trained) = &mut self.trained else { return };
        trained.remove(vectors, offset);
        if trained.rows < MIN_ROWS / 2 {
            self.trained = None;
        }
    }

    /// The nearest matching rows of the `probes` lists nearest to the query; k hits whenever k match: more lists are
    /// probed until there are. A filter widens the probing, since the hits lie farther out.
    ///
    /// `None` probes [`default_probes`](Self::default_probes) lists. The answer is exact when all lists are asked for,
    /// or when comparing all matching rows is predicted to cost no more than probing.
    ///
    /// # Panics
    /// When the query has another dimension than the vectors.
    pub fn search(&self, vectors: &Vectors, request: &Request<'_>, probes: Option<usize>) -> Answer {
        let Some(trained) = &self.trained else { return FlatScan.search(vectors, request) };
        trained.search(vectors, request, probes.unwrap_or(trained.probes).max(1))
    }
}

/// A row as lists hold it: of length one under Cosine.
fn placed(vectors: &Vectors, offset: u32, out: &mut Vec<f32>) {
    let row = vectors.row(offset);
    let norm = vectors.norm(offset);
    match vectors.metric() {
        Metric::Cosine if norm > 0.0 => out.extend(row.iter().map(|value| value / norm)),
        _ => out.extend_from_slice(&row),
    }
}
