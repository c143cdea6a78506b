//! How far merges are.

use super::{Collection, lock};
use std::time::Instant;

/// What is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum JobKind {
    /// One segment for several, or for one with many dead rows.
    Merge,
    /// A graph for points that have none yet.
    Index,
}

impl JobKind {
    /// Its name: `merge` or `index`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Merge => "merge",
            Self::Index => "index",
        }
    }
}

/// Work in the background of a collection that takes a while.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// The collection.
    pub collection: String,
    /// What is made.
    pub kind: JobKind,
    /// Points that the new segment will hold.
    pub points: usize,
    /// Points to be linked to others, in all graphs.
    pub to_link: usize,
    /// Those that are.
    pub linked: usize,
    /// Since it began.
    pub seconds: f64,
}

impl Progress {
    /// Points linked a second so far.
    pub fn per_second(&self) -> f64 {
        self.linked as f64 / self.seconds.max(1e-9)
    }

    /// About how many seconds it will take still; `None` while there is no telling.
    pub fn seconds_left(&self) -> Option<f64> {
        (self.linked > 0).then(|| self.to_link.saturating_sub(self.linked) as f64 / self.per_second())
    }
}

/// A merge on its way.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) points: usize,
    pub(super) to_link: usize,
    pub(super) linked: usize,
    pub(super) started: Instant,
}

impl Collection {
    /// What is being done in the background: at most one of each kind.
    pub fn progress(&self) -> Vec<Progress> {
        let of_job = |(kind, job): (&JobKind, &Job)| Progress {
            collection: self.name.to_string(),
            kind: *kind,
            points: job.points,
            to_link: job.to_link,
            linked: job.linked,
            seconds: job.started.elapsed().as_secs_f64(),
        };
        lock(&self.jobs).iter().map(of_job).collect()
    }
}
