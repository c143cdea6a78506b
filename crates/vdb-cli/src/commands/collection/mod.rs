//! The commands on collections of a database directory, and what they share: opening one with messages that say what to do,
//! and bars that follow a merge.

mod archive;
mod check;
mod compact;
mod embedded;
mod export;
mod import;
mod info;
mod probe;
mod search;

pub(crate) use archive::{restore, snapshot};
pub(crate) use check::check;
pub(crate) use compact::compact;
pub(crate) use embedded::embedded;
pub(crate) use export::export;
pub(crate) use import::import;
pub(crate) use info::info;
pub(crate) use search::search;

use crate::args::MemoryArgs;
use crate::progress;
use anyhow::{anyhow, bail, ensure};
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use vdb_engine::{Collection, Database, Error, Options, PointId};

/// How often a bar looks at the merge that it follows.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

impl MemoryArgs {
    fn options(self) -> Options {
        match self.memory_budget {
            Some(megabytes) => Options::new().memory_budget(megabytes.saturating_mul(1 << 20)),
            None => Options::new(),
        }
    }
}

/// Opens a database to read, beside whoever writes to it.
fn open_to_read(folder: &Path) -> anyhow::Result<Database> {
    is_folder(folder)?;
    let opened = if folder.exists() {
        Database::open_read_only(folder)
    } else {
        Err(Error::NoDatabase { path: folder.to_owned() })
    };
    match opened {
        Err(Error::NoDatabase { .. }) => {
            bail!("{}: there is no database here: `vdb import --collection` makes one", folder.display())
        }
        opened => Ok(opened?),
    }
}

/// Opens a database to write that must be there.
fn open_to_write(folder: &Path, options: Options) -> anyhow::Result<Database> {
    open_to_read(folder)?;
    Ok(options.open(folder)?)
}

fn is_folder(folder: &Path) -> anyhow::Result<()> {
    ensure!(
        !folder.is_file(),
        "{}: a file, not a database directory: leave --collection out for a database file",
        folder.display()
    );
    Ok(())
}

/// The collection of a name; those that there are are told when there is none.
fn find(database: &Database, folder: &Path, name: &str) -> anyhow::Result<Arc<Collection>> {
    match database.collection(name) {
        Err(Error::NoSuchCollection { .. }) => {
            let names: Vec<String> = database.names().iter().map(|name| format!("{name:?}")).collect();
            let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            bail!("{}: there is no collection {name:?}; there is {known}", folder.display())
        }
        found => Ok(found?),
    }
}

/// The name of the only vector, or the one asked for.
fn vector_name(collection: &Collection, asked: Option<&str>, option: &str) -> anyhow::Result<String> {
    if let Some(name) = asked {
        return Ok(name.to_owned());
    }
    let view = collection.view();
    let names: Vec<&str> = view.vectors().map(|vector| vector.0).collect();
    match names[..] {
        [only] => Ok(only.to_owned()),
        _ if names.contains(&"") => Ok(String::new()),
        _ => Err(anyhow!(
            "collection {:?} has the vectors {names:?}: name one with {option}",
            collection.name()
        )),
    }
}

/// An id as JSON that keeps its kind.
fn id_json(id: &PointId) -> Value {
    match id {
        PointId::Number(number) => json!(number),
        PointId::Uuid(uuid) => json!({ "uuid": uuid.to_string() }),
        PointId::Text(text) => json!(text),
    }
}

/// Does something that merges, with a bar that follows the merges of the collection.
fn with_merge_bar<T>(collection: &Collection, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut bar = None;
            while !is_done.load(Ordering::Relaxed) {
                match collection.progress().first() {
                    Some(job) => {
                        let bar = bar.get_or_insert_with(|| progress::records("linking", job.to_link as u64));
                        bar.set_length(job.to_link as u64);
                        bar.set_position(job.linked as u64);
                    }
                    None => bar = None,
                }
                std::thread::park_timeout(LOOK_INTERVAL);
            }
        });
        let outcome = work();
        is_done.store(true, Ordering::Relaxed);
        watcher.thread().unpark();
        outcome
    })
}

/// What the files below a folder take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct FolderSize {
    /// Their lengths.
    bytes: u64,
    /// What they take of the disk.
    disk_bytes: u64,
}

fn folder_size(folder: &Path) -> io::Result<FolderSize> {
    let mut size = FolderSize::default();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // A writer may remove files while they are counted.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            let of_folder = folder_size(&entry.path())?;
            size.bytes += of_folder.bytes;
            size.disk_bytes += of_folder.disk_bytes;
        } else {
            size.bytes += metadata.len();
            size.disk_bytes += disk_bytes(&metadata);
        }
    }
    Ok(size)
}

#[cfg(unix)]
fn disk_bytes(metadata: &fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt;
    metadata.blocks() * 512
}

#[cfg(not(unix))]
fn disk_bytes(metadata: &fs::Metadata) -> u64 {
    metadata.len()
}
