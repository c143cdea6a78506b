//! `vdb info --db`: what the collections of a database directory hold, read beside whoever writes to it.

use super::{folder_size, open_to_read};
use anyhow::Context;
use serde::Serialize;
use std::io::Write;
use std::path::Path;
use vdb_engine::{Database, Error, FieldIndex, VectorConfig};
use vdb_index::Profile;

#[derive(Serialize)]
struct Vector {
    name: String,
    dimension: usize,
    metric: &'static str,
    index: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    m: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ef_construction: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quantizer: Option<String>,
}

#[derive(Serialize)]
struct Job {
    /// `merge`, or `index` for a first graph.
    kind: &'static str,
    points: usize,
    linked: usize,
    to_link: usize,
    seconds: f64,
    linked_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_left: Option<f64>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Info {
    Usable {
        collection: String,
        version: u64,
        points: usize,
        vectors: Vec<Vector>,
        segments: usize,
        indexed_segments: usize,
        indexed_points: usize,
        /// Points in memory and in the log only.
        head_points: usize,
        dead_rows: usize,
        bytes_on_disk: u64,
        /// What the writer does in the background.
        jobs: Vec<Job>,
        /// `complete`, or `partial` while points are compared one by one because no index covers them yet.
        index_state: &'static str,
    },
    Quarantined {
        collection: String,
        quarantined: String,
        bytes_on_disk: u64,
    },
}

pub(crate) fn info(folder: &Path, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    let database = open_to_read(folder)?;
    let names = database.names();
    if !json {
        let bytes = folder_size(folder).with_context(|| folder.display().to_string())?.bytes;
        let (folder, count) = (folder.display(), names.len());
        writeln!(out, "{folder}: a database of {count} collections, {:.1} MB on disk", bytes as f64 / 1e6)?;
    }
    for name in names {
        let info = of_collection(&database, &name)?;
        if json {
            writeln!(out, "{}", serde_json::to_string(&info)?)?;
        } else {
            write_text(&info, out)?;
        }
    }
    Ok(())
}

fn of_collection(database: &Database, name: &str) -> anyhow::Result<Info> {
    let folder = database.collection_folder(name)?;
    // The folder of a damaged collection may be gone altogether.
    let bytes_on_disk = folder_size(&folder).unwrap_or_default().bytes;
    let collection = name.to_owned();
    let found = match database.collection(name) {
        Err(Error::Quarantined { reason, .. }) => {
            return Ok(Info::Quarantined { collection, quarantined: reason, bytes_on_disk });
        }
        found => found?,
    };
    let info = found.info();
    let own = database.progress().into_iter().filter(|progress| progress.collection == name);
    let jobs = own.map(|progress| Job {
        kind: progress.kind.name(),
        points: progress.points,
        linked: progress.linked,
        to_link: progress.to_link,
        seconds: progress.seconds,
        linked_per_second: progress.per_second(),
        seconds_left: progress.seconds_left(),
    });
    let is_complete = info.indexed_points == info.points;
    Ok(Info::Usable {
        collection,
        version: info.version,
        points: info.points,
        vectors: found.view().vectors().map(|(name, config)| vector(name, config)).collect(),
        segments: info.segments,
        indexed_segments: info.indexed_segments,
        indexed_points: info.indexed_points,
        head_points: info.head_points,
        dead_rows: info.dead_rows,
        bytes_on_disk,
        jobs: jobs.collect(),
        index_state: if is_complete { "complete" } else { "partial" },
    })
}

fn vector(name: &str, config: &VectorConfig) -> Vector {
    let (index, graph, quantizer) = match config.index {
        FieldIndex::Hnsw(parameters) => ("hnsw", Some(parameters), None),
        FieldIndex::Coded(parameters) => ("flat", None, Some(parameters.kind.to_string())),
        FieldIndex::Ivf(_) => ("ivf", None, None),
        FieldIndex::Lsh(_) => ("lsh", None, None),
        _ => ("flat", None, None),
    };
    let profile = graph.and_then(|graph| Profile::of(graph.m)).map(Profile::name);
    let (m, ef_construction) = (graph.and_then(|graph| graph.m), graph.map(|graph| graph.ef_construction));
    let (dimension, metric) = (config.dim, config.metric.name());
    Vector { name: name.to_owned(), dimension, metric, index, profile, m, ef_construction, quantizer }
}

fn write_text(info: &Info, out: &mut dyn Write) -> std::io::Result<()> {
    match info {
        Info::Quarantined { collection, quarantined, bytes_on_disk } => {
            let megabytes = *bytes_on_disk as f64 / 1e6;
            writeln!(out, "{collection:?}: out of use, {megabytes:.1} MB on disk: {quarantined}")
        }
        Info::Usable {
            collection,
            version,
            points,
            vectors,
            segments,
            indexed_segments,
            indexed_points,
            head_points,
            dead_rows,
            bytes_on_disk,
            jobs,
            index_state,
        } => {
            let megabytes = *bytes_on_disk as f64 / 1e6;
            writeln!(out, "{collection:?}: {points} points, {megabytes:.1} MB on disk, version {version}")?;
            for Vector { name, dimension, metric, index, profile, m, quantizer, .. } in vectors {
                let links = || m.map_or(String::new(), |m| format!(" with {m} links"));
                let profile = profile.map_or_else(links, |profile| format!(" ({profile})"));
                let quantizer = quantizer.as_ref().map_or(String::new(), |name| format!(" with {name}"));
                writeln!(
                    out,
                    "  vector {name:?}: {dimension} dimensions, {metric}, {index}{profile}{quantizer}"
                )?;
            }
            writeln!(
                out,
                "  {segments} segments, {indexed_segments} with an index; {head_points} points in the log only, {dead_rows} \
                 dead rows"
            )?;
            writeln!(out, "  index {index_state}: {indexed_points} of {points} points")?;
            for Job { kind, points, linked, to_link, linked_per_second, seconds_left, .. } in jobs {
                let left = seconds_left.map_or(String::new(), |seconds| format!(", {seconds:.0} s left"));
                writeln!(
                    out,
                    "  {kind} of {points} points: {linked} of {to_link} linked, {linked_per_second:.0} a second{left}"
                )?;
            }
            Ok(())
        }
    }
}
