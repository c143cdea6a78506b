//! What can go wrong with a collection.

use std::path::{Path, PathBuf};
use vdb_storage::StorageError;

/// An error of the engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Of a file or a call.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A file whose checksums hold says something impossible.
    #[error("{}: damaged: section {section:?}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The section.
        section: &'static str,
        /// What was expected and what was found.
        reason: String,
    },
    /// More points than one segment holds.
    #[error("a segment holds at most {most} points, not {found}: seal in smaller parts")]
    TooManyPoints {
        /// The points there were to be.
        found: usize,
        /// The points there may be.
        most: usize,
    },
}

impl Error {
    pub(crate) fn damaged(path: &Path, section: &'static str, reason: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), section, reason: reason.into() }
    }
}
