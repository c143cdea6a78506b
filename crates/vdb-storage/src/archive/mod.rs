//! A store as of one manifest in one file, to be kept elsewhere and restored.
//!
//! An archive is a [container](crate::container): `docs/format.md`, "Archive", lists its sections. It is written from front to
//! back, into anything that takes bytes, and read with bounded memory: blobs and records come as streams, only the manifest,
//! the list of names and one record at a time are held.
//!
//! ```
//! use std::io::{Cursor, Write};
//! use std::path::Path;
//! use vdb_storage::archive::{Archive, Contents, records_before, write_archive};
//! use vdb_storage::{Backend, Durability, Memory, SeqNo};
//!
//! let store = Memory::new();
//! let mut blob = store.blobs().create("segment-1")?;
//! blob.write_all(b"rows")?;
//! blob.finish()?;
//! let log = store.open_log(SeqNo(7))?;
//! log.commit(log.append(b"a change")?, Durability::Synced)?;
//!
//! let (path, names) = (Path::new("backup"), ["segment-1".to_owned()]);
//! let contents = Contents { manifest: b"names segment-1", blobs: store.blobs(), names: &names, log_from: SeqNo(7) };
//! let records = records_before(store.read_log(SeqNo(7)), log.next());
//! let bytes = write_archive(Vec::new(), path, &contents, records)?;
//!
//! let restored = Memory::new();
//! let mut archive = Archive::new(Cursor::new(bytes), path)?;
//! assert_eq!(archive.restore(&restored)?, 1);
//! assert_eq!(*restored.blobs().open("segment-1")?.map()?, b"rows"[..]);
//! assert_eq!(restored.read_log(SeqNo(7)).read()?, Some((SeqNo(7), &b"a change"[..])));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod reader;
mod restore;
#[cfg(test)]
mod tests;
mod writer;

pub use reader::{Archive, Records};
pub use writer::{Contents, records_before, write_archive};

use crate::FileKind;
use crate::SeqNo;
use crate::wal::LAST_SEQ;

/// The kind in an archive's header.
pub const KIND: FileKind = FileKind::new(*b"ARCH");

const NAMES: &str = "names";
const MANIFEST: &str = "manifest";
const LOG: &str = "log";

/// Bytes of a record before its content: number and length.
const RECORD_HEAD_BYTES: usize = 12;

/// The section of the blob whose name is at this place of the list.
fn blob_section(place: usize) -> String {
    format!("blob.{place}")
}

/// Whether a record of this number may stand in a log from `least` on.
fn is_in_order(seq: SeqNo, least: SeqNo) -> bool {
    (least..=SeqNo(LAST_SEQ)).contains(&seq)
}
