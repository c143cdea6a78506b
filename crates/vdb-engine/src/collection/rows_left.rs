//! Which rows of a merged segment are left, found out beside the state's lock: what was deleted while a merge was on its way is
//! deleted from its segment, too.

use super::merge::{Origin, Plan};
use super::state::Left;
use crate::view::Part;
use std::cell::RefCell;
use std::sync::Arc;
use vdb_index::BitSet;

/// Which rows of the merged segment are left, by what is left of the inputs. This is remembered, so that it can be found out
/// before the state is locked.
pub(super) struct RowsLeft<'a> {
    plan: &'a Plan,
    origins: &'a [Origin],
    known: RefCell<Vec<(Vec<Arc<BitSet>>, BitSet)>>,
}

impl<'a> RowsLeft<'a> {
    pub(super) fn new(plan: &'a Plan, origins: &'a [Origin]) -> Self {
        Self { plan, origins, known: RefCell::default() }
    }

    /// What is left of the inputs.
    fn of_inputs(&self, left: &[Left]) -> Vec<Arc<BitSet>> {
        let of_input = |part: &Part| {
            let own = left.iter().find(|(number, _)| *number == part.segment.number);
            Arc::clone(&own.expect("a merge has its segments to itself").1)
        };
        self.plan.inputs.iter().map(of_input).collect()
    }

    fn place(&self, inputs: &[Arc<BitSet>]) -> Option<usize> {
        // Sets that somebody holds do not change.
        let is_same = |known: &[Arc<BitSet>]| known.iter().zip(inputs).all(|(a, b)| Arc::ptr_eq(a, b));
        self.known.borrow().iter().position(|(known, _)| is_same(known))
    }

    /// Whether [`of`](Self::of) has been asked for the same already.
    pub(super) fn is_known(&self, left: &[Left]) -> bool {
        self.place(&self.of_inputs(left)).is_some()
    }

    pub(super) fn of(&self, left: &[Left]) -> BitSet {
        let inputs = self.of_inputs(left);
        if let Some(place) = self.place(&inputs) {
            return self.known.borrow()[place].1.clone();
        }
        let changed = |(part, now): (&Part, &'_ Arc<BitSet>)| part.live.count() != now.count();
        let changed: Vec<bool> = self.plan.inputs.iter().zip(&inputs).map(changed).collect();
        let rows = if changed.contains(&true) {
            BitSet::from_fn(self.origins.len(), |row| {
                let (input, from) = self.origins[row as usize];
                !changed[input as usize] || inputs[input as usize].contains(from)
            })
        } else {
            BitSet::all(self.origins.len())
        };
        self.known.borrow_mut().push((inputs, rows.clone()));
        rows
    }
}
