//! `vdb import`: vector files into one database file.

use crate::args::ImportArgs;
use crate::commands::builder;
use crate::formats::{Record, RecordReader};
use crate::progress;
use anyhow::{Context, bail};
use indicatif::ProgressBar;
use serde::Serialize;
use std::io::Write;
use std::time::Instant;
use vector_db_rs::{VectorDB, VectorRecord};

#[derive(Serialize)]
struct Outcome {
    imported: usize,
    records: usize,
    seconds: f64,
}

pub(crate) fn run(args: &ImportArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let start = Instant::now();
    let mut db = open_or_create(args)?;
    let mut imported = 0;
    for path in &args.files {
        let reader = RecordReader::open(path, None)?;
        let next_row = next_row(&db);
        let reading = progress::bytes("reading ", reader.bytes_total());
        let total = reader.len_hint();
        let records = Reading { reader, bar: reading.clone(), next_row };
        let indexing = progress::records("indexing", total.unwrap_or(0));
        imported += db
            .insert_all(records, |done| indexing.set_position(done as u64))
            .with_context(|| path.display().to_string())?;
        indexing.finish_and_clear();
    }
    db.save_binary(&args.db)?;
    let outcome = Outcome { imported, records: db.size(), seconds: start.elapsed().as_secs_f64() };
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&outcome)?)?;
    } else {
        let Outcome { imported, records, seconds } = outcome;
        writeln!(
            out,
            "imported {imported} records in {seconds:.1} s; {} holds {records}",
            args.db.display()
        )?;
    }
    Ok(())
}

fn open_or_create(args: &ImportArgs) -> anyhow::Result<VectorDB> {
    if args.db.exists() {
        return Ok(VectorDB::load_binary(&args.db)?);
    }
    // The first record of the first file that has one decides the dimension.
    for path in &args.files {
        if let Some(first) = RecordReader::open(path, None)?.next() {
            return Ok(builder(first?.vector.len(), args.metric, args.index, &args.parameters).build()?);
        }
    }
    bail!(
        "no record in {}",
        args.files.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", ")
    )
}

/// The first number from which on none is an id: records without ids are numbered, and must replace no other.
fn next_row(db: &VectorDB) -> usize {
    let numbers = db.ids().filter_map(|id| id.parse::<usize>().ok());
    numbers.max().map_or(0, |last| last.saturating_add(1)).max(db.size())
}

/// The records of one file, given row numbers as ids where they have none.
struct Reading {
    reader: RecordReader,
    bar: ProgressBar,
    next_row: usize,
}

impl Iterator for Reading {
    type Item = anyhow::Result<VectorRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some(record) = self.reader.next() else {
            self.bar.finish_and_clear();
            return None;
        };
        let row = self.next_row;
        self.next_row += 1;
        if row.is_multiple_of(1024) {
            self.bar.set_position(self.reader.bytes_read());
        }
        Some(record.map_err(Into::into).map(|Record { id, vector, metadata }| VectorRecord {
            id: id.unwrap_or_else(|| row.to_string()),
            vector,
            metadata,
        }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.reader.len_hint().unwrap_or(0) as usize, None)
    }
}
