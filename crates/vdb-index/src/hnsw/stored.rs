//! A graph as named byte arrays, and opened where these lie, in a mapped file for example: no pass over rows or links.
//!
//! `docs/format.md`, "Rows and graphs of a segment", has the byte tables. A walk of a graph whose arrays were damaged may find
//! anything, but ends, and reads nothing that is not there; [`Hnsw::verify`] finds the damage.

use super::graph::Graph;
use super::space::Space;
use super::table::Table;
use super::{GraphError, Hnsw, HnswParams, HnswParts, check_parts};
use crate::vectors::{Vectors, numbers};
use std::borrow::Cow;
use std::sync::Arc;
use vdb_distance::{AlignedVec, Element, Owner};
use zerocopy::{FromBytes, IntoBytes};

const CONFIG: &str = "hnsw.config";
const LEVELS: &str = "hnsw.levels";
const BASE: &str = "hnsw.base";
const STARTS: &str = "hnsw.starts";
const UPPER: &str = "hnsw.upper";
const DEAD: &str = "hnsw.dead";
const RECALL: &str = "hnsw.recall";
const BASIS: &str = "hnsw.basis";
const CODES: &str = "hnsw.codes";

/// Numbers of the configuration: m, ef_construction, exact_scan_factor, seed, the entry point or all ones, rows that the basis
/// was trained on, rows changed since recalls were found out.
const CONFIG_NUMBERS: usize = 7;

impl Hnsw {
    /// All that [`open`](Self::open) needs: names of at most 11 characters, and bytes.
    pub fn stored(&self) -> Vec<(&'static str, Cow<'_, [u8]>)> {
        let HnswParams { m, ef_construction, exact_scan_factor, seed } = self.params;
        let (basis, trained) = self.space.to_parts();
        let entry = self.graph.entry.map_or(u64::MAX, u64::from);
        let config: [u64; CONFIG_NUMBERS] = [
            m as u64,
            ef_construction as u64,
            exact_scan_factor as u64,
            seed,
            entry,
            trained,
            self.changed as u64,
        ];
        let (levels, base, starts, upper) = self.graph.stored();
        let dead: Vec<u32> = self.dead.iter().collect();
        let recalls = self.recalls.as_ref().map(Table::to_numbers).unwrap_or_default();
        let codes = self.space.codes().map_or(&[][..], |codes| codes.rows().as_slice());
        let owned = |bytes: &[u8]| Cow::Owned(bytes.to_vec());
        vec![
            (CONFIG, owned(config.as_bytes())),
            (LEVELS, Cow::Borrowed(levels)),
            (BASE, Cow::Borrowed(base.as_bytes())),
            (STARTS, Cow::Borrowed(starts.as_bytes())),
            (UPPER, Cow::Borrowed(upper.as_bytes())),
            (DEAD, owned(dead.as_bytes())),
            (RECALL, owned(recalls.as_bytes())),
            (BASIS, owned(basis.as_bytes())),
            (CODES, Cow::Borrowed(codes)),
        ]
    }

    /// The graph over `vectors` that [`stored`](Self::stored) gave the sections of. Large ones are read in place; written to,
    /// they are copied first.
    ///
    /// # Errors
    /// Those of `section`; when lengths do not fit each other, or a number is out of its range. Links are not looked at.
    ///
    /// # Complexity
    /// Independent of the number of rows but for a bit a row.
    pub fn open<E: From<GraphError>>(
        vectors: &Vectors,
        section: impl Fn(&str) -> Result<Owner, E>,
    ) -> Result<Self, E> {
        let config = numbers_of::<u32, E>(CONFIG, section(CONFIG)?)?;
        let config: Vec<u64> =
            config.as_chunks::<2>().0.iter().map(|[low, high]| u64::from(*low) | u64::from(*high) << 32).collect();
        let [m, ef_construction, exact_scan_factor, seed, entry, trained, changed] = config[..] else {
            return Err(fail(format!("{} numbers in {CONFIG}", config.len())).into());
        };
        if !(2..=128).contains(&m) || ef_construction == 0 {
            return Err(fail(format!("m is {m} and ef_construction {ef_construction}")).into());
        }
        let params = HnswParams {
            m: m as usize,
            ef_construction: ef_construction as usize,
            exact_scan_factor: exact_scan_factor as usize,
            seed,
        };
        let mut hnsw = Self::new(params);
        let word = |name: &str| numbers_of::<u32, E>(name, section(name)?);
        let levels = numbers_of::<u8, E>(LEVELS, section(LEVELS)?)?;
        let opened = Graph::open(params.m, levels, word(BASE)?, word(STARTS)?, word(UPPER)?);
        hnsw.graph = opened.map_err(GraphError)?;
        let nodes = hnsw.graph.len();
        let live = vectors.live();
        let last = live.words().iter().rposition(|word| *word != 0);
        let last = last.map(|word| 64 * word + 63 - live.words()[word].leading_zeros() as usize);
        if nodes > vectors.len() || last.is_some_and(|last| last >= nodes) {
            return Err(fail(format!("{nodes} nodes for {} rows", vectors.len())).into());
        }
        hnsw.graph.entry = u32::try_from(entry).ok().filter(|entry| (*entry as usize) < nodes);
        if hnsw.graph.entry.is_none() && (live.count() > 0 || entry != u64::MAX) {
            return Err(fail(format!("the entry point is {entry} of {nodes} nodes")).into());
        }
        hnsw.nodes = live.clone();
        for &node in word(DEAD)?.iter() {
            if node as usize >= nodes || live.contains(node) {
                return Err(fail(format!("node {node} is marked as deleted but is live or absent")).into());
            }
            hnsw.dead.insert(node);
            hnsw.nodes.insert(node);
        }
        hnsw.recalls = Table::from_numbers(&word(RECALL)?).map_err(GraphError)?;
        hnsw.changed = changed as usize;
        let basis = numbers_of::<f32, E>(BASIS, section(BASIS)?)?;
        let codes = numbers_of::<u8, E>(CODES, section(CODES)?)?;
        hnsw.space = Space::open(vectors, &basis, trained, codes).map_err(GraphError)?;
        Ok(hnsw)
    }

    /// Checks every link of an opened graph.
    ///
    /// # Errors
    /// What is wrong.
    pub fn verify(&self, vectors: &Vectors) -> Result<(), GraphError> {
        let parts: HnswParts = self.to_parts();
        check_parts(vectors, &parts)?;
        let (levels, _, starts, _) = self.graph.stored();
        let mut start = 0;
        for (node, (&level, &found)) in levels.iter().zip(starts).enumerate() {
            if found != start {
                return Err(fail(format!("upper rows of node {node} begin at {found}, expected {start}")));
            }
            start += u32::from(level);
        }
        Ok(())
    }

    /// Bytes of memory that [`pin`](Self::pin) takes.
    pub fn unpinned_bytes(&self) -> usize {
        self.graph.unpinned_bytes() + self.space.codes().map_or(0, |codes| codes.unpinned_bytes())
    }

    /// Copies links and codes that are read in place into memory of their own, on huge pages where the system grants them: a
    /// walk jumps around in them, and address translation takes a fifth of its time otherwise.
    pub fn pin(&mut self) {
        self.graph.pin();
        self.space.pin();
    }
}

fn fail(what: String) -> GraphError {
    GraphError(what)
}

fn numbers_of<T: Element + FromBytes + IntoBytes, E: From<GraphError>>(
    name: &str,
    owner: Owner,
) -> Result<AlignedVec<T>, E> {
    let length = (*owner).as_ref().len();
    let owner = Arc::clone(&owner);
    numbers(owner).ok_or_else(|| fail(format!("{length} bytes in {name} are no whole numbers")).into())
}

#[cfg(test)]
mod tests;
