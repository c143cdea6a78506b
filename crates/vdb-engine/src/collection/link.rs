//! Graphs of heads. While somebody searches, points get links before they are sealed: a search compares no more of them than
//! came since the last step, and the segment that they become has its graph from the first moment.
//!
//! A step copies the head's graph, takes in what came since, and exchanges it under the state's lock. Steps grow with the
//! graph, so that copies cost little beside links. When nobody has searched lately nothing is done here: points are sealed
//! bare, and merges link them once.

use super::merge::provisional;
use super::{Collection, lock};
use crate::Error;
use crate::head::{HeadGraph, HeadView};
use crate::schema::{FieldIndex, Schema};
use crate::workers::Work;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use vdb_index::{Hnsw, Vectors};

/// Searches count as going on for so long after one.
const LATELY: Duration = Duration::from_secs(5);
/// Fewer points without links are compared as fast as a graph is walked.
const LEAST_LINKED: usize = 256;
/// A step takes in at least one point for so many that the graph has.
const LINKED_PER_NEW: usize = 16;
/// What a point takes in a graph of a head beside its vector, its codes and its links, in bytes, about.
const POINT_BYTES: usize = 32;
const MOST_CODE_BYTES: usize = 1_024;

impl Collection {
    /// Somebody searches.
    pub(super) fn note_search(&self) {
        // Which of the searches at the same time stores its own does not matter.
        let now = self.now_ms();
        let before = self.last_search_ms.load(Ordering::Relaxed);
        if before != now {
            self.last_search_ms.store(now, Ordering::Relaxed);
        }
        if before == 0 {
            (self.wake.0)();
        }
    }

    /// Milliseconds since the collection was opened; not 0, which is for never.
    pub(super) fn now_ms(&self) -> u64 {
        (self.opened.elapsed().as_millis() as u64).max(1)
    }

    /// Whether anybody has ever searched.
    pub(super) fn is_searched(&self) -> bool {
        self.last_search_ms.load(Ordering::Relaxed) > 0
    }

    /// Whether somebody searches beside the writers, and somebody else works in the background for them.
    pub(crate) fn is_searched_lately(&self) -> bool {
        let last = self.last_search_ms.load(Ordering::Relaxed);
        last > 0 && self.now_ms().saturating_sub(last) < LATELY.as_millis() as u64 && self.is_in_background()
    }

    /// Whether somebody works in the background, and nobody in this process has searched lately.
    pub(super) fn is_unsearched(&self) -> bool {
        self.is_in_background() && !self.is_searched_lately()
    }

    /// Links points of heads, where that is due; says whether it was.
    ///
    /// # Errors
    /// What makes the state wrong, as in a write.
    pub(crate) fn link_due(&self) -> Result<bool, Error> {
        if !self.is_searched_lately() || self.log().is_err() {
            return Ok(false);
        }
        let _turn = lock(&self.linking);
        let mut state = self.state()?;
        let least = |head: &HeadView| LEAST_LINKED.max(head.linked() as usize / LINKED_PER_NEW);
        let is_due = |head: &HeadView| head.unlinked() >= least(head);
        let due = state.heads.iter_mut().filter(|head| is_due(head.now()));
        let Some(head) = due.max_by_key(|head| head.now().unlinked()) else { return Ok(false) };
        let head = head.begin_linking();
        let schema = Arc::clone(&state.schema);
        drop(state);
        self.link(&head, &schema, Work::Index)
    }

    /// Links all points of the head that is being sealed, if it has links at all; the head with them.
    pub(super) fn linked(&self, head: HeadView, schema: &Schema) -> Result<HeadView, Error> {
        if head.len() < self.settings.least_graph_rows || !self.is_searched_lately() {
            return Ok(head);
        }
        let _turn = lock(&self.linking);
        let begun = {
            let mut state = self.state()?;
            match state.heads.iter_mut().find(|own| own.now().is_same(&head)) {
                Some(own) if own.now().unlinked() > 0 => Some(own.begin_linking()),
                _ => None,
            }
        };
        if let Some(begun) = begun {
            self.link(&begun, schema, Work::Seal)?;
        }
        let state = self.state()?;
        let now = state.heads.iter().find(|own| own.now().is_same(&head));
        Ok(now.map_or_else(|| head.clone(), |now| head.with_graphs_of(now.now())))
    }

    /// Gives the head that was looked at a graph over all its rows; says whether it has one now. The caller has the turn.
    fn link(&self, head: &HeadView, schema: &Schema, work: Work) -> Result<bool, Error> {
        let Some(graphs) = self.aside(work, || self.grown(head, schema)) else { return Ok(false) };
        let mut state = self.lock_state();
        let Some(own) = state.heads.iter_mut().find(|own| own.now().is_same(head)) else { return Ok(false) };
        own.end_linking(head, graphs);
        state.generation += 1;
        let view = state.view();
        drop(state);
        self.room.notify_all();
        self.publish(view)?;
        Ok(true)
    }

    /// Graphs over all rows of a head, with those that it has as their beginning. Nothing when there is no field to have one, no
    /// memory, or the database is being closed.
    fn grown(&self, head: &HeadView, schema: &Schema) -> Option<Vec<(u32, Arc<HeadGraph>)>> {
        let mut graphs = Vec::new();
        for field in &schema.fields {
            let FieldIndex::Hnsw(params) = field.config.index else { continue };
            if head.vectors(field.number) == 0 {
                continue;
            }
            let links = params.base_row_bytes(head.rows() as usize);
            let values = field.config.dim * size_of::<f32>();
            let point = values + links + field.config.dim.min(MOST_CODE_BYTES) + POINT_BYTES;
            // Without room the points stay as they are, and are compared one by one.
            let reserved = self.budget.reserve((head.rows() as usize * point) as u64)?;
            let (mut vectors, mut hnsw) = match head.graph(field.number) {
                Some(before) => (before.vectors.clone(), before.hnsw.clone()),
                None => (Vectors::new(field.config.metric, field.config.dim), Hnsw::new(provisional(params))),
            };
            let first = vectors.len() as u32;
            vectors.reserve((head.rows() - first) as usize);
            let mut new = Vec::new();
            for row in first..head.rows() {
                match head.vector(row, field.number).filter(|_| head.live().contains(row)) {
                    Some(vector) => new.push(vectors.push(&vector)),
                    None => {
                        vectors.push_missing();
                    }
                }
            }
            let mut goes_on = |_: usize| !self.is_closing.load(Ordering::Relaxed);
            if !hnsw.insert_while(&vectors, &new, &mut goes_on) {
                return None;
            }
            graphs.push((field.number, Arc::new(HeadGraph { vectors, hnsw, _reserved: reserved })));
        }
        (!graphs.is_empty()).then_some(graphs)
    }
}

#[cfg(test)]
mod tests;
