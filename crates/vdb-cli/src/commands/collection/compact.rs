//! `vdb compact`: one segment a collection, with a graph for every vector that is to have one, without deleted points.

use super::{find, folder_size, open_to_write, with_merge_bar};
use crate::args::CompactArgs;
use std::io::Write;
use std::time::Instant;

pub(crate) fn compact(args: &CompactArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let database = open_to_write(&args.db, args.memory.options())?;
    let names = match &args.collection {
        Some(name) => vec![name.clone()],
        None => database.names(),
    };
    for name in names {
        let collection = find(&database, &args.db, &name)?;
        let (start, folder) = (Instant::now(), database.collection_folder(&name)?);
        let before = folder_size(&folder)?.bytes as f64 / 1e6;
        with_merge_bar(&collection, || collection.optimize())?;
        let (after, seconds) = (folder_size(&folder)?.bytes as f64 / 1e6, start.elapsed().as_secs_f64());
        let points = collection.len();
        writeln!(
            out,
            "{name:?}: {points} points in {seconds:.1} s, {before:.1} MB before, {after:.1} MB now"
        )?;
    }
    Ok(database.close()?)
}
