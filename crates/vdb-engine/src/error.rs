//! What can go wrong with a collection.

use crate::PointId;
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
        section: String,
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
    /// A setting of a vector field that it cannot have.
    #[error("collection {collection:?}, vector {field:?}: {reason}")]
    InvalidConfig {
        /// The collection.
        collection: String,
        /// The vector field.
        field: String,
        /// What was expected and what was found.
        reason: String,
    },
    /// A vector field that the collection does not have.
    #[error("collection {collection:?} has no vector {field:?}: it has {known}")]
    NoSuchField {
        /// The collection.
        collection: String,
        /// The name asked for.
        field: String,
        /// The names there are.
        known: String,
    },
    /// A point that cannot be taken in. Nothing of its batch was.
    #[error("collection {collection:?}, point {id}: {reason}")]
    InvalidPoint {
        /// The collection.
        collection: String,
        /// The point.
        id: PointId,
        /// What was expected and what was found.
        reason: String,
    },
    /// A change of a point that is not there. Nothing of its batch was done.
    #[error("collection {collection:?} has no point {id} to change: upsert it first")]
    NoSuchPoint {
        /// The collection.
        collection: String,
        /// The point.
        id: PointId,
    },
    /// A query that cannot be searched for.
    #[error("collection {collection:?}, vector {field:?}: {reason}")]
    InvalidQuery {
        /// The collection.
        collection: String,
        /// The vector field.
        field: String,
        /// What was expected and what was found.
        reason: String,
    },
    /// A collection that does not exist.
    #[error("there is no collection {collection:?}: create it first")]
    NoSuchCollection {
        /// The name asked for.
        collection: String,
    },
    /// A collection that exists already.
    #[error("there is a collection {collection:?} already: open it, or drop it first")]
    CollectionExists {
        /// The name.
        collection: String,
    },
    /// A name that no collection can have.
    #[error("{name:?} is no name of a collection: {reason}")]
    InvalidName {
        /// The name.
        name: String,
        /// What was expected.
        reason: String,
    },
    /// A collection that could not be opened; the others can be used.
    #[error("collection {collection:?} is out of use until it is repaired or restored: {reason}")]
    Quarantined {
        /// The collection.
        collection: String,
        /// Why it could not be opened.
        reason: String,
    },
    /// A folder that holds no database.
    #[error("{}: there is no database here: open it to write first, which makes one", path.display())]
    NoDatabase {
        /// The folder.
        path: PathBuf,
    },
    /// A folder that was to be empty.
    #[error("{}: there is a database here already: choose another folder", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A thread that could not be started.
    #[error("a thread could not be started: {source}")]
    Thread {
        /// What the operating system answered.
        source: std::io::Error,
    },
    /// A write to a collection whose database was closed.
    #[error("collection {collection:?}: its database was closed: open it again")]
    Closed {
        /// The collection.
        collection: String,
    },
    /// A write to what was opened to read only.
    #[error("collection {collection:?} was opened to read only")]
    ReadOnly {
        /// The collection.
        collection: String,
    },
    /// Something of an erased point was found: a bug, or a merge that ran at the same time.
    #[error(
        "collection {collection:?}: {what} still holds something of the points to be erased: erase them again"
    )]
    Unerased {
        /// The collection.
        collection: String,
        /// What was found.
        what: String,
    },
    /// What the memory budget has no room for.
    #[error("{what} takes {needed} bytes, and {available} of the budget of {budget} are free: {advice}")]
    OutOfBudget {
        /// What was to be done.
        what: String,
        /// The bytes that it takes.
        needed: u64,
        /// The bytes that are free.
        available: u64,
        /// The budget.
        budget: u64,
        /// What helps.
        advice: &'static str,
    },
}

impl Error {
    pub(crate) fn thread(source: std::io::Error) -> Self {
        Self::Thread { source }
    }

    pub(crate) fn damaged(path: &Path, section: &str, reason: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), section: section.to_owned(), reason: reason.into() }
    }
}
