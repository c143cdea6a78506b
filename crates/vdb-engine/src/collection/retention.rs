//! Which manifests and blobs stay: the current state, states of before, and what somebody is copying.

use super::state::State;
use super::{Collection, lock};
use crate::Error;
use crate::manifest::Manifest;
use crate::view::View;
use std::sync::Arc;
use vdb_storage::{Region, SeqNo, collect};

impl Collection {
    /// Removes manifests and blobs that are needed no more.
    pub(super) fn collect_garbage(&self) -> Result<(), Error> {
        self.keep_manifests(self.settings.kept_manifests as u64)
    }

    /// Removes all states of before.
    pub(super) fn forget_history(&self) -> Result<(), Error> {
        self.keep_manifests(0)
    }

    /// Removes manifests but for the current one and so many before it, and blobs that none of those names.
    fn keep_manifests(&self, kept: u64) -> Result<(), Error> {
        let current = self.current();
        let oldest = current.number.saturating_sub(kept);
        let any = self.backend.manifests().path(current.number);
        let blobs_of = |content: &Region| {
            Ok::<_, Error>(Manifest::decode(&any, content.clone())?.blobs().into_iter().collect())
        };
        let is_being_written = |name: &str| {
            let number = name.rsplit('-').next().and_then(|number| number.parse::<u64>().ok());
            number.is_some_and(|number| lock(&self.blobs).unfinished.contains(&number))
        };
        collect(&*self.backend, |number| number >= oldest, blobs_of, is_being_written)?;
        Ok(())
    }

    /// Seals what is in memory and runs `work` with the manifest that holds everything then, and the names of its blobs, none of
    /// which is removed meanwhile. Writes go on; sealing and merging wait, so `work` is to be short.
    ///
    /// # Errors
    /// Those of sealing and of `work`.
    pub(crate) fn with_pinned<R>(
        &self,
        work: impl FnOnce(&[u8], &[String], SeqNo) -> Result<R, Error>,
    ) -> Result<R, Error> {
        self.seal()?;
        let current = self.current();
        let names: Vec<String> = current.manifest.blobs().into_iter().collect();
        work(&current.manifest.encode(), &names, current.manifest.log_from)
    }

    /// The states of before that can be read still, and the current one, oldest first: a number, and the version of the
    /// collection. How many are kept is a [setting](crate::Settings::kept_manifests).
    ///
    /// # Errors
    /// What is damaged, or cannot be read.
    pub fn history(&self) -> Result<Vec<(u64, u64)>, Error> {
        let manifests = self.backend.manifests();
        let version = |number| {
            let manifest = Manifest::decode(&manifests.path(number), manifests.load(number)?)?;
            Ok((number, manifest.log_from.0 - 1))
        };
        manifests.numbers()?.into_iter().map(version).collect()
    }

    /// The points as they were in a state of the [`history`](Self::history).
    ///
    /// # Errors
    /// [`Error::Storage`], with the kind `NotFound` for a state that is not kept.
    pub fn view_at(&self, number: u64) -> Result<Arc<View>, Error> {
        let manifests = self.backend.manifests();
        let manifest = Manifest::decode(&manifests.path(number), manifests.load(number)?)?;
        let known: Vec<_> = self.view().parts.iter().map(|part| Arc::clone(&part.segment)).collect();
        Ok(State::of_manifest(&self.budget, &self.name, &manifest, &*self.backend, &known)?.view())
    }
}
