//! `vdb import --collection`: vector files into a collection, batch by batch, each acknowledged when it is durable.

use super::{is_folder, with_merge_bar};
use crate::args::{ImportArgs, IndexName};
use crate::formats::{PointReader, PointRecord};
use crate::progress;
use anyhow::{Context, bail, ensure};
use serde::Serialize;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use vdb_engine::{
    Collection, CollectionConfig, Durability, Error, FieldIndex, Operation, Point, PointId, VectorConfig,
};
use vdb_index::{CodedParams, IvfParams, LshParams};

/// A batch that takes so many bytes is written before it has all its points.
const MOST_BATCH_BYTES: u64 = 64 << 20;
/// An import of at least one point in so many of the collection ends with one segment; a smaller one leaves merging to the
/// collection, for which writing everything anew would be out of proportion.
const WORTH_ONE_SEGMENT: usize = 10;

#[derive(Serialize)]
struct Acknowledged {
    acknowledged: usize,
}

#[derive(Serialize)]
struct Outcome {
    acknowledged: usize,
    points: usize,
    seconds: f64,
}

pub(crate) fn import(args: &ImportArgs, name: &str, out: &mut dyn Write) -> anyhow::Result<()> {
    let start = Instant::now();
    ensure!(args.batch > 0, "--batch is 0, expected at least 1");
    is_folder(&args.db)?;
    let index = index(args)?;
    let config = first_point(&args.files)?.map(|first| {
        let field = |len: usize| VectorConfig::new(len, args.metric).with_index(index);
        let vectors = first.vectors.iter().map(|(name, vector)| (name.clone(), field(vector.len())));
        CollectionConfig { vectors: vectors.collect() }
    });
    // Before a folder is made for what cannot be.
    config.iter().try_for_each(|config| config.check(name))?;
    let database = args.memory.options().open(&args.db)?;
    let (collection, is_new) = match database.collection(name) {
        Err(Error::NoSuchCollection { .. }) => {
            let Some(config) = config else { bail!("no record in {}", listed(&args.files)) };
            (database.create_collection(name, &config)?, true)
        }
        found => (found?, false),
    };
    let mut import = Import {
        args,
        index,
        collection: Arc::clone(&collection),
        durability: args.durability.into(),
        fields: is_new.then(|| collection.view().vectors().map(|vector| vector.0.to_owned()).collect()),
        greatest: None,
        has_looked: false,
        batch: Vec::new(),
        batch_bytes: 0,
        acknowledged: 0,
    };
    let read = args
        .files
        .iter()
        .try_for_each(|path| import.read(path, out).with_context(|| path.display().to_string()));
    // What came before an error is kept: it may be much, and importing it again changes nothing where ids are stated.
    let acknowledged = import.acknowledged;
    drop(import);
    if let Err(error) = read {
        drop(collection);
        database.close()?;
        return Err(error.context(format!("{acknowledged} points were imported, the others were not")));
    }
    if !args.no_wait {
        with_merge_bar(&collection, || {
            if acknowledged * WORTH_ONE_SEGMENT >= collection.len() {
                return collection.optimize();
            }
            while collection.maintain()? {}
            Ok(())
        })?;
    }
    let points = collection.len();
    drop(collection);
    database.close()?;
    let seconds = start.elapsed().as_secs_f64();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&Outcome { acknowledged, points, seconds })?)?;
    } else {
        let folder = args.db.display();
        writeln!(
            out,
            "imported {acknowledged} points in {seconds:.1} s; collection {name:?} of {folder} holds {points}"
        )?;
    }
    Ok(())
}

fn index(args: &ImportArgs) -> anyhow::Result<FieldIndex> {
    let parameters = &args.parameters;
    ensure!(
        parameters.quantizer.is_none() || args.index == IndexName::Flat,
        "--quantizer goes with --index flat: leave one of them out"
    );
    let seed = parameters.seed;
    match args.index {
        IndexName::Flat => Ok(parameters.quantizer.map_or(FieldIndex::Flat, |kind| {
            FieldIndex::Coded(CodedParams { kind, subspaces: parameters.subspaces, seed })
        })),
        IndexName::Hnsw => Ok(FieldIndex::Hnsw(parameters.graph.params(seed))),
        IndexName::Lsh => Ok(FieldIndex::Lsh(LshParams {
            family: parameters.lsh_family.into(),
            num_tables: parameters.num_tables,
            num_functions: parameters.num_functions,
            seed,
        })),
        IndexName::Ivf => Ok(FieldIndex::Ivf(IvfParams {
            lists: parameters.lists,
            bits: parameters.bits,
            spill: parameters.spill,
            seed,
        })),
    }
}

fn listed(files: &[PathBuf]) -> String {
    files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// The first point of the first file that has one; every file is opened, so that a missing one is told before anything is
/// written.
fn first_point(files: &[PathBuf]) -> anyhow::Result<Option<PointRecord>> {
    let mut first = None;
    for path in files {
        let mut reader = PointReader::open(path)?;
        if first.is_none() {
            first = reader.next().transpose()?;
        }
    }
    Ok(first)
}

struct Import<'a> {
    args: &'a ImportArgs,
    index: FieldIndex,
    collection: Arc<Collection>,
    durability: Durability,
    /// The vector fields of a collection that was made for this import, and gets another one when a point brings it.
    fields: Option<BTreeSet<String>>,
    /// The greatest number that is an id, as far as this import knows.
    greatest: Option<u64>,
    /// Whether the collection was looked through for it.
    has_looked: bool,
    batch: Vec<Point>,
    batch_bytes: u64,
    acknowledged: usize,
}

impl Import<'_> {
    fn read(&mut self, path: &Path, out: &mut dyn Write) -> anyhow::Result<()> {
        let mut reader = PointReader::open(path)?;
        let bar = progress::bytes("importing", reader.bytes_total());
        let mut position = reader.bytes_read();
        while let Some(record) = reader.next() {
            let record = record?;
            let read = reader.bytes_read();
            self.batch_bytes += (read - position).max(4 * record.values() as u64);
            position = read;
            self.add(record)?;
            if self.batch.len() >= self.args.batch || self.batch_bytes >= MOST_BATCH_BYTES {
                self.write(out)?;
                bar.set_position(position);
            }
        }
        self.write(out)?;
        bar.finish_and_clear();
        Ok(())
    }

    fn add(&mut self, record: PointRecord) -> anyhow::Result<()> {
        let id = match record.id.clone() {
            Some(id) => id,
            None => PointId::from(self.next_number()?),
        };
        if let PointId::Number(number) = id {
            self.greatest = self.greatest.max(Some(number));
        }
        if let Some(fields) = &mut self.fields {
            for (name, vector) in &record.vectors {
                if fields.insert(name.clone()) {
                    let config = VectorConfig::new(vector.len(), self.args.metric).with_index(self.index);
                    self.collection.add_vector(name, config)?;
                }
            }
        }
        self.batch.push(record.into_point(id));
        Ok(())
    }

    /// The first number from which on none is an id: records without ids are numbered, and must replace no other.
    fn next_number(&mut self) -> anyhow::Result<u64> {
        if !self.has_looked {
            for id in self.collection.view().ids() {
                if let PointId::Number(number) = id? {
                    self.greatest = self.greatest.max(Some(number));
                }
            }
            self.has_looked = true;
        }
        let next = self.greatest.map_or(Some(0), |greatest| greatest.checked_add(1));
        next.context("there is no number left for a record without an id: give it one")
    }

    fn write(&mut self, out: &mut dyn Write) -> anyhow::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let points = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        let count = points.len();
        self.collection.write(points.into_iter().map(Operation::upsert).collect(), self.durability)?;
        self.acknowledged += count;
        if self.args.json {
            writeln!(out, "{}", serde_json::to_string(&Acknowledged { acknowledged: self.acknowledged })?)?;
            out.flush()?;
        }
        Ok(())
    }
}
