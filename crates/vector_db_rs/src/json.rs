//! The specification's file: a pretty-printed JSON array of records.
//!
//! Written record by record into a file that replaces the old one at once; metadata is sorted by key, so that equal
//! databases give equal files. Numbers are written in their shortest form that reads back to the same `f32`.

use crate::store::RecordStore;
use crate::{Error, VectorRecord};
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use vdb_storage::{StorageError, write_atomically};

/// A record on its way into a file.
#[derive(Serialize)]
pub(crate) struct RecordView<'a> {
    id: Cow<'a, str>,
    vector: Cow<'a, [f32]>,
    metadata: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
}

impl From<VectorRecord> for RecordView<'static> {
    fn from(record: VectorRecord) -> Self {
        let VectorRecord { id, vector, metadata } = record;
        let metadata = metadata.into_iter().map(|(key, value)| (Cow::Owned(key), Cow::Owned(value)));
        Self { id: Cow::Owned(id), vector: Cow::Owned(vector), metadata: metadata.collect() }
    }
}

/// The records of a store.
pub(crate) fn views(store: &RecordStore) -> impl Iterator<Item = Result<RecordView<'_>, Error>> {
    store.live().map(|offset| {
        let fields = store.metadata(offset).into_iter().flatten();
        let field = |(key, value)| (Cow::Borrowed(String::as_str(key)), Cow::Borrowed(String::as_str(value)));
        Ok(RecordView {
            id: Cow::Borrowed(store.id(offset)),
            vector: store.vectors.row(offset),
            metadata: fields.map(field).collect(),
        })
    })
}

/// Writes records until one of them is an error, which leaves the file as it was.
pub(crate) fn save<'a>(
    records: impl Iterator<Item = Result<RecordView<'a>, Error>>,
    path: &Path,
) -> Result<(), Error> {
    let failed = Cell::new(None);
    let whole = records.map_while(|record| record.map_err(|error| failed.set(Some(error))).ok());
    write_atomically(path, |out| {
        let written = serde_json::Serializer::pretty(out).collect_seq(whole);
        written.map_err(|error| StorageError::io(path)(error.into()))?;
        failed.take().map_or(Ok(()), Err)
    })
}

pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<VectorRecord>, Error> {
    serde_json::from_slice(bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let lines = bytes.split_inclusive(|&byte| byte == b'\n');
        let line_start: usize = lines.take(line.saturating_sub(1)).map(<[u8]>::len).sum();
        let text = error.to_string();
        let place = format!(" at line {line} column {column}");
        Error::Json {
            path: path.to_owned(),
            line,
            column,
            offset: line_start + column.saturating_sub(1),
            message: text.strip_suffix(&place).unwrap_or(&text).to_owned(),
        }
    })
}
