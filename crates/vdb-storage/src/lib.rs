//! Files of the database, as bytes: a container of named, checksummed sections, replacing a file atomically, and the
//! [`Backend`] of a durable store: a commit log, numbered manifests and blobs, in a [local folder](LocalDir) or in
//! [memory](Memory). Such a store goes into one file and comes back ([`archive`]), is [cloned](LocalDir::link_to) by links, and loses
//! what no manifest needs ([`collect`]).
//!
//! The lowest storage tier. It knows sections, checksums and fsync; it does not know vectors, JSON or queries.
//! The byte layout is specified in `docs/format.md`, and a test pins the constants here to that page.
//!
//! ```
//! use vdb_storage::codec::{Encode, Reader};
//! use vdb_storage::{ContainerReader, ContainerWriter, FileKind, StorageError, write_atomically};
//!
//! const KIND: FileKind = FileKind::new(*b"demo");
//! # let folder = tempfile::tempdir()?;
//! let path = folder.path().join("points.vdb");
//!
//! write_atomically(&path, |out| -> std::io::Result<()> {
//!     let mut file = ContainerWriter::new(out, KIND)?;
//!     file.write_section("vectors", |section| section.put_f32_slice(&[0.5, -1.0, 2.0]))?;
//!     file.add_section("note", b"three numbers")?;
//!     file.finish()?;
//!     Ok(())
//! })?;
//!
//! let mut file = ContainerReader::open(&path, KIND)?;
//! assert_eq!(file.section("note")?, b"three numbers");
//! let bytes = file.section("vectors")?;
//! let mut numbers = [0.0; 3];
//! Reader::new(&bytes).f32_slice_into(&mut numbers)?;
//! assert_eq!(numbers, [0.5, -1.0, 2.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Limits: a section and a file hold up to 2^63 bytes, a file holds fewer than 2^32 sections, and a section's name
//! is 1 to 16 printable ASCII characters. A record of the log holds up to 2^30 bytes. The crate is not a key-value store:
//! what manifests, records and blobs mean is their writer's business.

#![deny(unsafe_code)]

pub mod archive;
mod atomic_file;
mod backend;
pub mod codec;
pub mod container;
mod error;
pub mod files;
mod local;
mod memory;
mod new_store;
mod region;
mod retention;
mod wal;

pub use archive::{Archive, write_archive};
pub use atomic_file::write_atomically;
pub use backend::{
    Backend, Blob, BlobWriter, Blobs, CommitLog, Durability, LogReader, Manifests, SeqNo, TornTail,
};
pub use container::{ContainerReader, ContainerWriter, FileKind, SectionReader, SectionWriter};
pub use error::StorageError;
pub use local::LocalDir;
pub use memory::Memory;
pub use region::Region;
pub use retention::{Collected, collect};
pub use wal::{MAX_RECORD_BYTES, WAL_FILE_BYTES};
