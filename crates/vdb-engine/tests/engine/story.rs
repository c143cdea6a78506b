//! What happened to a collection, and what may be left of it after a crash: how many changes the journal of the disk had when
//! each write began, when it was acknowledged, and when it was promised to survive a power failure.

use crate::oracle::Model;
use vdb_engine::View;

/// Never.
pub(crate) const NEVER: usize = usize::MAX;

/// A state of the points or of the fields. With `by` changes kept it may be there if it began before, and it must be if it
/// ended by then.
#[derive(Debug, Clone)]
struct State {
    began: usize,
    ended: usize,
    durable: usize,
    model: Model,
}

/// All states of a collection; the first is the empty one that it was created with.
#[derive(Debug, Clone)]
pub(crate) struct Story {
    versions: Vec<State>,
    fields: Vec<State>,
}

impl Story {
    pub(crate) fn new(model: &Model, began: usize, ended: usize) -> Self {
        let state = State { began, ended, durable: ended, model: model.clone() };
        Self { versions: vec![state.clone()], fields: vec![state] }
    }

    /// The collection was there from this change on, or could be.
    pub(crate) fn created(&self) -> (usize, usize) {
        (self.fields[0].began, self.fields[0].ended)
    }

    /// A write came to this, acknowledged at `ended`.
    pub(crate) fn wrote(&mut self, model: &Model, began: usize, ended: usize) {
        if self.versions.last().expect("there is a first").model.version < model.version {
            self.versions.push(State { began, ended, durable: NEVER, model: model.clone() });
        }
    }

    /// Everything so far was promised to survive a power failure.
    pub(crate) fn synced(&mut self, now: usize) {
        self.versions.iter_mut().for_each(|state| state.durable = state.durable.min(now));
    }

    /// A field came or went, durably.
    pub(crate) fn changed_fields(&mut self, model: &Model, began: usize, ended: usize) {
        self.fields.push(State { began, ended, durable: ended, model: model.clone() });
    }

    /// Holds what is left after the first `by` changes against what may be; gives it.
    pub(crate) fn check(&self, view: &View, by: usize, power_failed: bool) -> Model {
        let must = |state: &&State| if power_failed { state.durable <= by } else { state.ended <= by };
        let least = self.versions.iter().rfind(must).map_or(0, |state| state.model.version);
        assert!(view.version() >= least, "version {} is left, {least} was acknowledged", view.version());
        let is_there = |state: &&State| state.model.version == view.version() && state.began < by;
        let version = self.versions.iter().find(is_there);
        let version =
            version.unwrap_or_else(|| panic!("version {} was never written by then", view.version()));
        let first = self.fields.iter().rposition(|state| state.ended <= by).unwrap_or(0);
        let names = |model: &Model| {
            model.fields.iter().map(|(name, field)| (name.clone(), field.config)).collect::<Vec<_>>()
        };
        let found: Vec<_> = view.vectors().map(|(name, config)| (name.to_owned(), *config)).collect();
        let mut possible = self.fields[first..].iter().filter(|state| state.began < by || state.began == 0);
        let fields = possible.find(|state| names(&state.model) == found);
        let fields = fields.unwrap_or_else(|| panic!("fields that it did not have by then: {found:?}"));
        let model = version.model.under(&fields.model);
        model.check(view);
        model
    }
}
