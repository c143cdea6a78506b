//! Blobs as files. A file gets its name at once and means nothing until a manifest names it.

use super::LocalDir;
use crate::backend::{Blob, BlobWriter, Blobs, PART_BYTES, check_blob_name};
use crate::files::{File, FileSystem};
use crate::{Region, StorageError};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const PREFIX: &str = "blob-";

impl LocalDir {
    pub(super) fn blob_path(&self, name: &str) -> Result<PathBuf, StorageError> {
        check_blob_name(name)?;
        Ok(Blobs::path(self, name))
    }
}

impl Blobs for LocalDir {
    fn create(&self, name: &str) -> Result<Box<dyn BlobWriter>, StorageError> {
        let path = self.blob_path(name)?;
        let file = self.files.create(&path).map_err(StorageError::io(&path))?;
        let appender = Appender { file, offset: 0 };
        Ok(Box::new(LocalBlobWriter {
            out: BufWriter::with_capacity(PART_BYTES, appender),
            path,
            folder: self.folder.clone(),
            files: Arc::clone(&self.files),
            finished: false,
        }))
    }

    fn open(&self, name: &str) -> Result<Box<dyn Blob>, StorageError> {
        let path = self.blob_path(name)?;
        let file = self.files.open(&path).map_err(StorageError::io(&path))?;
        let length = file.length().map_err(StorageError::io(&path))?;
        Ok(Box::new(LocalBlob { file, path, length }))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{PREFIX}{name}"))
    }

    fn names(&self) -> Result<Vec<String>, StorageError> {
        let names = LocalDir::names(self)?;
        let mut names: Vec<String> =
            names.iter().filter_map(|name| name.strip_prefix(PREFIX)).map(str::to_owned).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn remove(&self, name: &str) -> Result<(), StorageError> {
        let path = self.blob_path(name)?;
        match self.files.remove(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result.map_err(StorageError::io(&path)),
        }
    }
}

#[derive(Debug)]
struct Appender {
    file: Arc<dyn File>,
    offset: u64,
}

impl Write for Appender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(bytes, self.offset)?;
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct LocalBlobWriter {
    out: BufWriter<Appender>,
    path: PathBuf,
    folder: PathBuf,
    files: Arc<dyn FileSystem>,
    finished: bool,
}

impl LocalBlobWriter {
    fn end(&mut self) -> io::Result<()> {
        self.out.flush()?;
        self.out.get_ref().file.sync()
    }
}

impl Write for LocalBlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl BlobWriter for LocalBlobWriter {
    fn finish(mut self: Box<Self>) -> Result<(), StorageError> {
        self.end().map_err(StorageError::io(&self.path))?;
        self.files.sync_folder(&self.folder).map_err(StorageError::io(&self.folder))?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for LocalBlobWriter {
    fn drop(&mut self) {
        if !self.finished {
            // If it stays, it is a blob that no manifest names, and those are removed.
            let _ = self.files.remove(&self.path);
        }
    }
}

#[derive(Debug)]
struct LocalBlob {
    file: Arc<dyn File>,
    path: PathBuf,
    length: u64,
}

impl LocalBlob {
    fn error(&self) -> impl FnOnce(io::Error) -> StorageError + use<> {
        StorageError::io(&self.path)
    }
}

impl Blob for LocalBlob {
    fn length(&self) -> u64 {
        self.length
    }

    fn read(&self, range: Range<u64>) -> Result<Vec<u8>, StorageError> {
        check_range(&self.path, &range, self.length)?;
        let mut bytes = vec![0; (range.end - range.start) as usize];
        let mut filled = 0;
        while filled < bytes.len() {
            match self.file.read_at(&mut bytes[filled..], range.start + filled as u64) {
                Ok(0) => {
                    let found = range.start + filled as u64;
                    let (path, expected) = (self.path.clone(), range.end);
                    return Err(StorageError::Truncated { path, expected, found });
                }
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.error()(error)),
            }
        }
        Ok(bytes)
    }

    fn map(&self) -> Result<Region, StorageError> {
        self.file.map().map_err(self.error())
    }
}

/// Whether a range lies within a blob.
pub(crate) fn check_range(path: &Path, range: &Range<u64>, length: u64) -> Result<(), StorageError> {
    if range.start <= range.end && range.end <= length {
        return Ok(());
    }
    Err(StorageError::Truncated { path: path.to_owned(), expected: range.end, found: length })
}
