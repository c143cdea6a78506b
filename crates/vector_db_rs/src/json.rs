//! The specification's file: a pretty-printed JSON array of records.
//!
//! Written record by record into a file that replaces the old one at once; metadata is sorted by key, so that equal
//! databases give equal files. Numbers are written in their shortest form that reads back to the same `f32`.

use crate::store::RecordStore;
use crate::{Error, VectorRecord};
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use vdb_storage::{StorageError, write_atomically};

#[derive(Serialize)]
struct RecordView<'a> {
    id: &'a str,
    vector: Cow<'a, [f32]>,
    metadata: BTreeMap<&'a str, &'a str>,
}

struct Records<'a>(&'a RecordStore);

impl Serialize for Records<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Records(store) = *self;
        serializer.collect_seq(store.live().map(|offset| {
            RecordView {
                id: store.id(offset),
                vector: store.vectors.row(offset),
                metadata: store
                    .metadata(offset)
                    .into_iter()
                    .flatten()
                    .map(|(key, value)| (key.as_str(), value.as_str()))
                    .collect(),
            }
        }))
    }
}

pub(crate) fn save(store: &RecordStore, path: &Path) -> Result<(), Error> {
    write_atomically(path, |out| {
        let written = serde_json::to_writer_pretty(out, &Records(store));
        written.map_err(|error| StorageError::io(path)(error.into()))
    })?;
    Ok(())
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
