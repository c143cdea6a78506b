//! `vdb check`: every checksum, id, payload and link of every collection, offline or beside whoever writes.

use super::{folder_size, open_to_read};
use crate::args::CheckArgs;
use anyhow::bail;
use std::io::Write;

pub(crate) fn check(args: &CheckArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let database = open_to_read(&args.db)?;
    let (names, mut damages) = (database.names(), 0);
    for name in &names {
        let found = database.damages(name)?;
        for error in &found {
            writeln!(out, "damaged: collection {name:?}: {error}")?;
        }
        damages += found.len();
        let collection = match database.collection(name) {
            Ok(collection) => collection,
            Err(error) => {
                writeln!(out, "{error}")?;
                continue;
            }
        };
        if let Some(tail) = collection.torn_tail() {
            writeln!(out, "collection {name:?}: {tail}: nothing acknowledged is lost")?;
        }
        let (info, megabytes) =
            (collection.info(), folder_size(&database.collection_folder(name)?)?.bytes as f64 / 1e6);
        let state = if found.is_empty() { "sound" } else { "damaged" };
        writeln!(
            out,
            "collection {name:?}: {state}: checked {} segments and the log, {} points, {megabytes:.1} MB",
            info.segments, info.points
        )?;
    }
    if damages > 0 {
        out.flush()?;
        let (folder, count) = (args.db.display(), names.len());
        bail!("{folder}: {damages} damages in {count} collections: restore what is damaged from a snapshot");
    }
    Ok(())
}
