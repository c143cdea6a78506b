//! `vdb export`: the points of a collection as JSON lines that `vdb import` reads, or their vectors as a matrix.

use super::{find, id_json, open_to_read, vector_name};
use crate::args::ExportArgs;
use crate::progress;
use anyhow::{Context, bail};
use serde::Serialize;
use serde_json::Value;
use std::io::{self, Write};
use std::path::Path;
use vdb_engine::{NamedVectors, Payload, PointId, StoredPoint, View};
use vdb_storage::{StorageError, write_atomically};

/// A point in the form that `vdb import` reads. Numbers are the shortest that read back as the same ones.
#[derive(Serialize)]
struct Line<'a> {
    id: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    vector: Option<&'a [f32]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vectors: Option<NamedVectors>,
    #[serde(skip_serializing_if = "Payload::is_empty")]
    payload: Payload,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
}

/// What ends an export.
struct Failure(anyhow::Error);

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self(error.into())
    }
}

pub(crate) fn export(args: &ExportArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let database = open_to_read(&args.db)?;
    let collection = find(&database, &args.db, &args.collection)?;
    let view = collection.view();
    if let Some(name) = &args.vector
        && !view.vectors().any(|vector| vector.0 == name)
    {
        let known: Vec<&str> = view.vectors().map(|vector| vector.0).collect();
        bail!("collection {:?} has no vector {name:?}: it has {known:?}", args.collection);
    }
    let extension = args.file.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    let header = match extension.as_deref() {
        Some("jsonl" | "ndjson") => None,
        Some("npy") => Some(npy_header as Header),
        Some("fbin") => Some(fbin_header as Header),
        _ => bail!("{}: a file to export to ends in .jsonl, .ndjson, .npy or .fbin", args.file.display()),
    };
    let exported = match header {
        None => replace(&args.file, |file| lines(&view, args.vector.as_deref(), file)),
        Some(header) => {
            let name = vector_name(&collection, args.vector.as_deref(), "--vector")?;
            replace(&args.file, |file| matrix(&view, &name, header, file))
        }
    };
    exported.with_context(|| args.file.display().to_string())?;
    writeln!(out, "exported {} points to {}", view.len(), args.file.display())?;
    Ok(())
}

fn replace(path: &Path, write: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>) -> anyhow::Result<()> {
    write_atomically(path, |file| write(file).map_err(Failure)).map_err(|Failure(error)| error)
}

/// All points, in the order in which they are stored.
fn lines(view: &View, only: Option<&str>, file: &mut dyn Write) -> anyhow::Result<()> {
    let bar = progress::records("exporting", view.len() as u64);
    for point in view.points() {
        let StoredPoint { point, .. } = point?;
        let mut vectors = point.vectors;
        vectors.retain(|name, _| only.is_none_or(|only| only == name));
        let vector = vectors.remove("");
        let has_vector = vector.is_some();
        let line = Line {
            id: id_json(&point.id),
            vector: vector.as_deref(),
            // A line without any says so.
            vectors: (!vectors.is_empty() || !has_vector).then_some(vectors),
            payload: point.payload,
            expires_at: point.expires_at,
        };
        serde_json::to_writer(&mut *file, &line)?;
        file.write_all(b"\n")?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

/// Writes what stands before `rows` rows of `dim` values.
type Header = fn(rows: usize, dim: usize, file: &mut dyn Write) -> io::Result<()>;

/// The vectors of a field in the order of their ids, so that numbered rows come out as they went in.
fn matrix(view: &View, name: &str, header: Header, file: &mut dyn Write) -> anyhow::Result<()> {
    let mut ids = view.ids().collect::<Result<Vec<PointId>, _>>()?;
    ids.sort_unstable();
    let config = view.vectors().find(|vector| vector.0 == name).map(|vector| vector.1);
    let config = config.with_context(|| format!("there is no vector {name:?}"))?;
    header(ids.len(), config.dim, file)?;
    let bar = progress::records("exporting", ids.len() as u64);
    for id in &ids {
        let stored = view.get(id)?.with_context(|| format!("the point {id} is not where it was"))?;
        let Some(vector) = stored.point.vectors.get(name) else {
            bail!("the point {id} has no vector {name:?}: export to .jsonl, where points may lack one");
        };
        for value in vector {
            file.write_all(&value.to_le_bytes())?;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

fn fbin_header(rows: usize, dim: usize, file: &mut dyn Write) -> io::Result<()> {
    for count in [rows, dim] {
        let count = u32::try_from(count)
            .map_err(|_| io::Error::other(format!("{count} do not fit into an fbin file: export to .npy")))?;
        file.write_all(&count.to_le_bytes())?;
    }
    Ok(())
}

/// Format version 1.0: the header's text ends at a multiple of 64 bytes.
fn npy_header(rows: usize, dim: usize, file: &mut dyn Write) -> io::Result<()> {
    const PREFIX: usize = 10;
    let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dim}), }}");
    let length = (PREFIX + text.len() + 1).next_multiple_of(64) - PREFIX;
    file.write_all(b"\x93NUMPY\x01\x00")?;
    file.write_all(&(length as u16).to_le_bytes())?;
    writeln!(file, "{text:<width$}", width = length - 1)
}
