//! `vdb info`: what a database file or a vector file holds.

use crate::args::InfoArgs;
use crate::formats::RecordReader;
use anyhow::Context;
use serde::Serialize;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use vdb_storage::container::MAGIC;
use vector_db_rs::VectorDB;

#[derive(Serialize)]
#[serde(untagged)]
enum Info {
    Database {
        file: String,
        file_bytes: u64,
        records: usize,
        dimension: usize,
        metric: &'static str,
        index: String,
        memory_bytes: usize,
    },
    Vectors {
        file: String,
        file_bytes: u64,
        format: String,
        records: Option<u64>,
        dimension: Option<usize>,
    },
}

pub(crate) fn run(args: &InfoArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    for path in &args.files {
        let info = if is_database(path)? { database(path)? } else { vectors(path)? };
        if args.json {
            writeln!(out, "{}", serde_json::to_string(&info)?)?;
        } else {
            write_text(&info, out)?;
        }
    }
    Ok(())
}

fn is_database(path: &Path) -> anyhow::Result<bool> {
    let mut first = Vec::new();
    let file = File::open(path).with_context(|| path.display().to_string())?;
    file.take(MAGIC.len() as u64).read_to_end(&mut first).with_context(|| path.display().to_string())?;
    Ok(first == MAGIC)
}

fn database(path: &Path) -> anyhow::Result<Info> {
    let db = VectorDB::load_binary(path)?;
    Ok(Info::Database {
        file: path.display().to_string(),
        file_bytes: fs::metadata(path)?.len(),
        records: db.size(),
        dimension: db.dimension(),
        metric: db.metric().name(),
        index: match db.quantizer() {
            None => format!("{:?}", db.index_type()),
            Some(quantizer) => format!("{:?} {quantizer}", db.index_type()),
        },
        memory_bytes: db.memory_bytes(),
    })
}

fn vectors(path: &Path) -> anyhow::Result<Info> {
    let mut reader = RecordReader::open(path, None)?;
    let first = reader.next().transpose()?;
    Ok(Info::Vectors {
        file: path.display().to_string(),
        file_bytes: reader.bytes_total(),
        format: format!("{:?}", reader.format()),
        records: reader.len_hint(),
        dimension: first.map(|record| record.vector.len()),
    })
}

fn write_text(info: &Info, out: &mut dyn Write) -> std::io::Result<()> {
    match info {
        Info::Database { file, file_bytes, records, dimension, metric, index, memory_bytes } => {
            writeln!(
                out,
                "{file}: a database of {records} records, {dimension} dimensions, {metric}, {index}"
            )?;
            let (file_mb, memory_mb) = (*file_bytes as f64 / 1e6, *memory_bytes as f64 / 1e6);
            writeln!(out, "  {file_mb:.1} MB on disk, {memory_mb:.1} MB of vectors and index in memory")
        }
        Info::Vectors { file, file_bytes, format, records, dimension } => {
            let count = records.map_or("an unknown number of".to_owned(), |count| count.to_string());
            let dimension = dimension.map_or("no".to_owned(), |dimension| dimension.to_string());
            let megabytes = *file_bytes as f64 / 1e6;
            writeln!(out, "{file}: {format}, {count} records, {dimension} dimensions, {megabytes:.1} MB")
        }
    }
}
