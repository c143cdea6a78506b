//! A graph as named sections of bytes, which are searched where they lie: `docs/format.md`, "Rows and graphs of a segment".
//!
//! Opening checks lengths and every number that a search takes for a size, and looks at no link. A search skips links that
//! lead nowhere, so a damaged file costs hits, not a panic; [`Hnsw::verify`] looks at every link.

use super::graph::{Graph, NONE};
use super::space::Space;
use super::table::Table;
use super::{GraphError, Hnsw, HnswParams};
use crate::{BitSet, Vectors};
use std::borrow::Cow;
use vdb_distance::Owner;

/// Version of the sections.
const VERSION: u64 = 2;
/// Numbers of the section `hnsw.config`.
const NUMBERS: usize = 14;

impl Hnsw {
    /// The sections that [`open`](Self::open) reads.
    ///
    /// # Panics
    /// On machines that keep numbers in another order than files do.
    pub fn stored(&self) -> Vec<(&'static str, Cow<'_, [u8]>)> {
        #[allow(clippy::assertions_on_constants, reason = "it is another one on other machines")]
        {
            assert!(cfg!(target_endian = "little"), "stored graphs are little-endian");
        }
        let HnswParams { m, ef_construction, exact_scan_factor, seed } = self.params;
        let is_chosen = m.is_none();
        let [trained, too_coarse, longest] = self.space.numbers();
        let numbers: [u64; NUMBERS] = [
            VERSION,
            self.graph.m() as u64,
            ef_construction as u64,
            exact_scan_factor as u64,
            seed,
            u64::from(self.graph.entry.unwrap_or(NONE)),
            self.graph.len() as u64,
            self.changed as u64,
            self.unchecked as u64,
            self.checks,
            trained,
            too_coarse,
            longest,
            u64::from(is_chosen),
        ];
        let mut dead = self.dead.clone();
        dead.grow(self.graph.len());
        let recalls = self.recalls.as_ref().map(Table::to_numbers).unwrap_or_default();
        let (basis, codes, lift) = self.space.stored();
        let mut sections: Vec<(&'static str, Cow<'_, [u8]>)> = vec![
            ("hnsw.config", numbers.iter().flat_map(|number| number.to_le_bytes()).collect()),
            ("hnsw.dead", dead.words().iter().flat_map(|word| word.to_le_bytes()).collect()),
            ("hnsw.recall", recalls.iter().flat_map(|number| number.to_le_bytes()).collect()),
            ("hnsw.basis", basis.iter().flat_map(|number| number.to_le_bytes()).collect()),
            ("hnsw.codes", Cow::Borrowed(codes)),
            ("hnsw.lift", Cow::Borrowed(lift)),
        ];
        sections.extend(self.graph.stored().map(|(name, bytes)| (name, Cow::Borrowed(bytes))));
        sections
    }

    /// A graph over `vectors` of its sections, which are read in place. Nothing is calibrated or trained again.
    ///
    /// # Errors
    /// When lengths do not fit each other or the vectors, and what `section` gives.
    pub fn open<E: From<GraphError>>(
        vectors: &Vectors,
        section: impl Fn(&str) -> Result<Owner, E>,
    ) -> Result<Hnsw, E> {
        let fail = |what: String| E::from(GraphError(what));
        let config = section("hnsw.config")?;
        let mut config = numbers((*config).as_ref(), u64::from_le_bytes);
        if config.first() == Some(&1) {
            // In the first version somebody always said how many links nodes make.
            config.push(0);
        }
        let Ok(
            [
                version,
                m,
                ef_construction,
                exact_scan_factor,
                seed,
                entry,
                nodes,
                changed,
                unchecked,
                checks,
                trained,
                too_coarse,
                longest,
                is_chosen,
            ],
        ) = <[u64; NUMBERS]>::try_from(config)
        else {
            return Err(fail("its configuration has another length".to_owned()));
        };
        let params = HnswParams {
            m: (is_chosen == 0).then_some(m as usize),
            ef_construction: ef_construction as usize,
            exact_scan_factor: exact_scan_factor as usize,
            seed,
        };
        params.check().map_err(fail)?;
        if !(1..=VERSION).contains(&version) || is_chosen > 1 || !params.makes(m as usize) {
            return Err(fail(format!("version {version}, m {m}, chosen: {is_chosen}")));
        }
        // Counts of rows that came, went or were looked at; numbers that no count comes to would overflow.
        if let Some(count) =
            [changed, unchecked, checks, trained].into_iter().find(|count| *count > MOST_COUNTED)
        {
            return Err(fail(format!("a count of {count} rows")));
        }
        let live = vectors.live();
        let last = live.words().iter().rposition(|&word| word != 0);
        let last = last.map(|place| place * 64 + 63 - live.words()[place].leading_zeros() as usize);
        if nodes > vectors.len() as u64 || last.is_some_and(|last| last as u64 >= nodes) {
            return Err(fail(format!("it has {nodes} nodes for {} vectors", vectors.len())));
        }
        let entry = u32::try_from(entry).ok().filter(|&entry| entry != NONE);
        if entry.is_some_and(|entry| u64::from(entry) >= nodes) || (entry.is_none() && last.is_some()) {
            return Err(fail(format!("the entry point is {entry:?} of {nodes} nodes")));
        }
        let nodes = nodes as usize;
        let rows =
            [section("hnsw.levels")?, section("hnsw.base")?, section("hnsw.starts")?, section("hnsw.upper")?];
        let mut graph = Graph::open(m as usize, nodes, rows).map_err(fail)?;
        graph.entry = entry;
        let words = numbers((*section("hnsw.dead")?).as_ref(), u64::from_le_bytes);
        let dead = BitSet::from_words(nodes, words)
            .ok_or_else(|| fail("a set of deleted nodes that does not fit".to_owned()))?;
        let mut all = live.clone();
        dead.iter().for_each(|node| _ = all.insert(node));
        let recalls = numbers((*section("hnsw.recall")?).as_ref(), u32::from_le_bytes);
        let recalls = Table::from_numbers(&recalls).map_err(fail)?;
        let basis = numbers((*section("hnsw.basis")?).as_ref(), f32::from_le_bytes);
        let space = Space::open(
            vectors,
            [trained, too_coarse, longest],
            &basis,
            [section("hnsw.codes")?, section("hnsw.lift")?],
        )
        .map_err(fail)?;
        if space.measured().is_some_and(|measured| measured < nodes) {
            return Err(fail("codes for a part of its nodes".to_owned()));
        }
        let (changed, unchecked) = (changed as usize, unchecked as usize);
        Ok(Hnsw { graph, dead, nodes: all, space, recalls, changed, unchecked, checks, ..Hnsw::new(params) })
    }

    /// Checks every link, as [`from_parts`](Self::from_parts) does.
    ///
    /// # Errors
    /// When a link or a number of the graph is out of range.
    pub fn verify(&self, vectors: &Vectors) -> Result<(), GraphError> {
        if self.graph.len() > vectors.len() {
            return Err(GraphError(format!("{} nodes for {} rows", self.graph.len(), vectors.len())));
        }
        self.graph.check().map_err(GraphError)
    }

    /// Copies what walks read, base links and codes, into memory of its own, on huge pages.
    pub fn pin(&mut self) {
        self.graph.pin();
        self.space.pin();
    }

    /// Bytes that [`pin`](Self::pin) takes.
    pub fn pinned_bytes(&self) -> usize {
        self.graph.base_bytes() + self.space.code_bytes()
    }

    /// Whether links and codes are read in place.
    pub fn is_shared(&self) -> bool {
        self.graph.is_shared() && self.space.is_shared()
    }
}

/// No count of rows over the life of a graph is greater.
const MOST_COUNTED: u64 = 1 << 48;

/// The little-endian numbers of some bytes.
fn numbers<const N: usize, T>(bytes: &[u8], number: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|&bytes| number(bytes)).collect()
}

#[cfg(test)]
mod tests;
