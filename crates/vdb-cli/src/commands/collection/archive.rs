//! `vdb snapshot` and `vdb restore`: a collection as one archive file with checksums.

use super::{find, is_folder, open_to_write};
use crate::args::{RestoreArgs, SnapshotArgs};
use anyhow::Context;
use std::fs;
use std::io::Write;
use vdb_engine::{Database, Options};

pub(crate) fn snapshot(args: &SnapshotArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let database = open_to_write(&args.db, Options::new())?;
    let points = find(&database, &args.db, &args.collection)?.len();
    database.export_archive(&args.collection, &args.file)?;
    database.close()?;
    let megabytes =
        fs::metadata(&args.file).with_context(|| args.file.display().to_string())?.len() as f64 / 1e6;
    writeln!(
        out,
        "{}: collection {:?}, {points} points, {megabytes:.1} MB",
        args.file.display(),
        args.collection
    )?;
    Ok(())
}

pub(crate) fn restore(args: &RestoreArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    is_folder(&args.db)?;
    // A database is not made for a file that is missing.
    fs::metadata(&args.file).with_context(|| args.file.display().to_string())?;
    let name = match &args.collection {
        Some(name) => name.clone(),
        None => args.file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default(),
    };
    let database = Database::open(&args.db)?;
    let points = database.restore_archive(&name, &args.file)?.len();
    database.close()?;
    writeln!(out, "restored collection {name:?} of {}: {points} points", args.db.display())?;
    Ok(())
}
