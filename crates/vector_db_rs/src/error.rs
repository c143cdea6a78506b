//! The one error type of the library: what was expected, what came, and where.

use std::path::PathBuf;
use vdb_storage::StorageError;

/// Why an operation was refused or failed. Nothing has changed when one is returned, but where a database in a directory
/// fails with [`StorageError::Stopped`]: then it is unknown until it is opened again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A parameter of the database is out of its range: fix the configuration.
    #[error("invalid configuration: {0}")]
    InvalidConfig(String),

    /// An option of a search is out of its range: fix the search.
    #[error("invalid search: {0}")]
    InvalidSearch(String),

    /// A record's vector has another number of values than the database: fix the record.
    #[error("record {id:?}: its vector has {got} dimensions, expected {expected}")]
    DimensionMismatch {
        /// The record's id.
        id: String,
        /// The dimension of the database.
        expected: usize,
        /// The length of the record's vector.
        got: usize,
    },

    /// A record's vector holds a NaN or an infinity: fix the record.
    #[error("record {id:?}: value {index} of its vector is {value}, expected a finite number")]
    NotFinite {
        /// The record's id.
        id: String,
        /// The place of the value, from 0.
        index: usize,
        /// The value.
        value: f32,
    },

    /// A query has another number of values than the database: fix the query.
    #[error("the query has {got} dimensions, expected {expected}")]
    QueryDimensionMismatch {
        /// The dimension of the database.
        expected: usize,
        /// The length of the query.
        got: usize,
    },

    /// A query holds a NaN or an infinity: fix the query.
    #[error("value {index} of the query is {value}, expected a finite number")]
    QueryNotFinite {
        /// The place of the value, from 0.
        index: usize,
        /// The value.
        value: f32,
    },

    /// One record of a batch was refused, and with it the whole batch.
    #[error("record {position} of the batch (counted from 0) was refused, nothing was inserted: {source}")]
    InBatch {
        /// The place of the record in the batch, from 0.
        position: usize,
        /// What is wrong with it.
        source: Box<Error>,
    },

    /// One query of a batch was refused, and with it the whole batch.
    #[error("query {position} of the batch (counted from 0) was refused, nothing was searched: {source}")]
    InQueries {
        /// The place of the query in the batch, from 0.
        position: usize,
        /// What is wrong with it.
        source: Box<Error>,
    },

    /// The database holds as many records as one index can: delete some, or use a second database.
    #[error("the database would hold {records} records, at most {limit} are possible")]
    Full {
        /// Records after the insertion.
        records: usize,
        /// The limit.
        limit: usize,
    },

    /// A JSON file could not be read as an array of records.
    #[error("{}: not a JSON array of records at line {line}, column {column} (byte {offset}): {message}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Line of the first character that does not fit, from 1.
        line: usize,
        /// Its column, from 1.
        column: usize,
        /// Its offset in the file, in bytes.
        offset: usize,
        /// What was expected.
        message: String,
    },

    /// A file holds records that this database refuses; the source names the record.
    #[error("{}: {source}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with its contents.
        source: Box<Error>,
    },

    /// A database file's checksums hold but its content contradicts itself.
    #[error("{}: section {section:?} is not as it should be: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The section.
        section: &'static str,
        /// What was expected and what was found.
        reason: String,
    },

    /// A file could not be read or written, is damaged, or is of another kind.
    #[error(transparent)]
    Storage(#[from] StorageError),

    /// A database in a directory could not do it: the engine says why.
    #[error(transparent)]
    Engine(vdb_engine::Error),
}

impl From<vdb_engine::Error> for Error {
    fn from(error: vdb_engine::Error) -> Self {
        match error {
            vdb_engine::Error::Storage(error) => Self::Storage(error),
            error => Self::Engine(error),
        }
    }
}
