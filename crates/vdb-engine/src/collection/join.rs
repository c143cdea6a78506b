//! The graph of a merged segment: that of the input whose graph is kept, or a new one, with the rows of the other inputs.
//!
//! Rows that are linked in a graph of their own already are taken over from it ([`Hnsw::merge`]), which is clearly cheaper than
//! linking them anew. So a new graph, too, begins with the rows of one input where others have graphs.

use super::merge::{Origin, Plan, provisional};
use crate::Error;
use crate::segment::SegmentField;
use vdb_index::{BitSet, Hnsw, HnswParams, Vectors};

/// What a graph is made of.
pub(super) struct Join<'a> {
    pub(super) plan: &'a Plan,
    pub(super) origins: &'a [Origin],
    /// The field.
    pub(super) number: u32,
    /// Its vectors, a row for each origin.
    pub(super) vectors: &'a Vectors,
}

impl Join<'_> {
    /// The graph; `goes_on` is told how many rows are linked. Nothing when it gave up.
    ///
    /// # Errors
    /// What is damaged in graphs of the inputs.
    pub(super) fn graph(
        &self,
        params: HnswParams,
        goes_on: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Option<Hnsw>, Error> {
        let (first, mut hnsw, mut done) = match self.kept(params)? {
            Some((base, hnsw)) => (base, hnsw, self.plan.inputs[base].live.count()),
            None => {
                let mut hnsw = Hnsw::new(if self.plan.is_provisional { provisional(params) } else { params });
                let first = self.largest().filter(|first| self.others_have_graphs(*first));
                let rows: Vec<u32> = match first {
                    Some(first) => self.rows_where(|input| input == first).collect(),
                    None => self.vectors.live().iter().collect(),
                };
                if !hnsw.insert_while(self.vectors, &rows, goes_on) {
                    return Ok(None);
                }
                let Some(first) = first else { return Ok(Some(hnsw)) };
                (first, hnsw, rows.len())
            }
        };
        let new: Vec<u32> = self.rows_where(|input| input != first).collect();
        hnsw.take_in(self.vectors, &new);
        // Recalls are found out on rows that come last, of all inputs.
        let count = hnsw.rows_to_calibrate(new.len());
        let last: Vec<u32> = (0..count).map(|place| new[place * new.len() / count]).collect();
        let is_last = BitSet::from_members(self.origins.len(), &last);
        let others = (0..self.plan.inputs.len()).filter(|input| *input != first);
        let (linked, bare): (Vec<usize>, Vec<usize>) = others.partition(|input| self.has_graph(*input));
        for input in linked {
            let rows = self.rows_where(|other| other == input).filter(|row| !is_last.contains(*row));
            let rows: Vec<u32> = rows.collect();
            if let Some(own) = self.field_of(input) {
                self.take_over(&mut hnsw, input, own, &rows)?;
            }
            done += rows.len();
            if !goes_on(done) {
                return Ok(None);
            }
        }
        let rows = self.rows_where(|input| bare.contains(&input)).filter(|row| !is_last.contains(*row));
        let rows: Vec<u32> = rows.collect();
        let goes_on = &mut |linked: usize| goes_on(done + linked);
        let is_whole = if last.is_empty() {
            hnsw.insert_while(self.vectors, &rows, goes_on)
        } else {
            hnsw.insert_calibrating(self.vectors, &rows, &last, goes_on)
        };
        Ok(is_whole.then_some(hnsw))
    }

    /// Rows with a vector that come from some inputs, ascending.
    fn rows_where(&self, is_wanted: impl Fn(usize) -> bool) -> impl Iterator<Item = u32> {
        let origins = (0u32..).zip(self.origins);
        let wanted = origins.filter(move |(_, origin)| is_wanted(origin.0 as usize)).map(|(row, _)| row);
        wanted.filter(|row| self.vectors.live().contains(*row))
    }

    fn field_of(&self, input: usize) -> Option<&SegmentField> {
        self.plan.inputs[input].segment.field(self.number)
    }

    /// The input with the most points.
    fn largest(&self) -> Option<usize> {
        (0..self.plan.inputs.len()).max_by_key(|input| self.plan.inputs[*input].live.count())
    }

    fn has_graph(&self, input: usize) -> bool {
        self.field_of(input).is_some_and(|own| own.hnsw.is_some())
    }

    fn others_have_graphs(&self, first: usize) -> bool {
        (0..self.plan.inputs.len()).any(|input| input != first && self.has_graph(input))
    }

    /// The graph that is kept, without the rows that are gone, where there is one of these parameters; and whose it is.
    fn kept(&self, params: HnswParams) -> Result<Option<(usize, Hnsw)>, Error> {
        let Some(base) = self.plan.base else { return Ok(None) };
        let part = &self.plan.inputs[base];
        let Some(own) = self.field_of(base) else { return Ok(None) };
        let Some(graph) = own.hnsw.as_ref().filter(|hnsw| *hnsw.params() == params) else { return Ok(None) };
        // Changing a graph follows its links without looking at where they lead.
        part.segment.verify_graph(own)?;
        let is_left = |row| part.live.contains(row);
        let mut hnsw = without_the_gone(own.vectors.clone(), graph, is_left);
        part.segment.evict();
        if self.plan.compacts {
            let mut new_of_old = vec![None; part.segment.rows()];
            let moved = (0u32..).zip(self.origins).filter(|(_, origin)| origin.0 as usize == base);
            moved.for_each(|(new, origin)| new_of_old[origin.1 as usize] = Some(new));
            hnsw = hnsw.renumbered(&new_of_old);
        }
        Ok(Some((base, hnsw)))
    }

    /// Takes rows of an input over from its graph.
    fn take_over(
        &self,
        hnsw: &mut Hnsw,
        input: usize,
        own: &SegmentField,
        rows: &[u32],
    ) -> Result<(), Error> {
        let segment = &self.plan.inputs[input].segment;
        segment.verify_graph(own)?;
        let mut places = vec![None; segment.rows()];
        rows.iter().for_each(|row| places[self.origins[*row as usize].1 as usize] = Some(*row));
        if let Some(graph) = &own.hnsw {
            hnsw.merge(self.vectors, graph, &places);
        }
        Ok(())
    }
}

/// A graph without the rows that are gone, which are still live to it: taken again, they hold another vector.
pub(super) fn without_the_gone(mut vectors: Vectors, graph: &Hnsw, is_left: impl Fn(u32) -> bool) -> Hnsw {
    let gone: Vec<u32> = vectors.live().iter().filter(|row| !is_left(*row)).collect();
    gone.iter().for_each(|row| {
        vectors.remove(*row);
    });
    let mut graph = graph.clone();
    graph.remove_all(&vectors, &gone);
    graph
}
