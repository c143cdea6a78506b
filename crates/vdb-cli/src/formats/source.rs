//! A buffered file that knows its length and its position, so that errors and progress bars can tell them.
//!
//! The position counts the bytes handed out, not the bytes buffered.

use super::error::{FormatError, Place};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

const BUFFER_BYTES: usize = 256 * 1024;

/// An open, non-empty regular file.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    reader: BufReader<File>,
    total: u64,
    position: u64,
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Source, FormatError> {
        let io = |source| FormatError::Io { path: path.to_path_buf(), source };
        let file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if !metadata.is_file() {
            return Err(FormatError::NotAFile { path: path.to_path_buf() });
        }
        let source = Source {
            path: path.to_path_buf(),
            reader: BufReader::with_capacity(BUFFER_BYTES, file),
            total: metadata.len(),
            position: 0,
        };
        if source.total == 0 {
            return Err(source.empty());
        }
        Ok(source)
    }

    pub(super) fn path(&self) -> PathBuf {
        self.path.clone()
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn remaining(&self) -> u64 {
        self.total.saturating_sub(self.position)
    }

    /// Fills `out`.
    pub(super) fn read_exact(&mut self, place: Place, out: &mut [u8]) -> Result<(), FormatError> {
        self.reader.read_exact(out).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.truncated(place, out.len() as u64),
            _ => self.io(error),
        })?;
        self.position += out.len() as u64;
        Ok(())
    }

    pub(super) fn read_array<const N: usize>(&mut self, place: Place) -> Result<[u8; N], FormatError> {
        let mut bytes = [0; N];
        self.read_exact(place, &mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn read_u32(&mut self, place: Place) -> Result<u32, FormatError> {
        Ok(u32::from_le_bytes(self.read_array(place)?))
    }

    /// The next `length` bytes in a new vector, allocated only when the file has that many.
    pub(super) fn read_vec(&mut self, place: Place, length: u64) -> Result<Vec<u8>, FormatError> {
        let size = match usize::try_from(length) {
            Ok(size) if length <= self.remaining() => size,
            _ => return Err(self.truncated(place, length)),
        };
        let mut bytes = vec![0; size];
        self.read_exact(place, &mut bytes)?;
        Ok(bytes)
    }

    /// The bytes up to and including the next newline, at most `limit`, appended to `out`.
    pub(super) fn read_line(&mut self, limit: u64, out: &mut Vec<u8>) -> Result<(), FormatError> {
        let read = (&mut self.reader).take(limit).read_until(b'\n', out).map_err(|error| self.io(error))?;
        self.position += read as u64;
        Ok(())
    }

    /// The buffered bytes; empty only at the end of the file.
    pub(super) fn fill(&mut self) -> Result<&[u8], FormatError> {
        // In two steps, because the borrow checker thinks that the error path keeps the bytes borrowed.
        if let Err(error) = self.reader.fill_buf() {
            return Err(self.io(error));
        }
        Ok(self.reader.buffer())
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.reader.consume(count);
        self.position += count as u64;
    }

    pub(super) fn io(&self, source: io::Error) -> FormatError {
        FormatError::Io { path: self.path(), source }
    }

    pub(super) fn empty(&self) -> FormatError {
        FormatError::Empty { path: self.path(), bytes: self.total }
    }

    pub(super) fn truncated(&self, place: Place, expected: u64) -> FormatError {
        let (path, offset, found) = (self.path(), self.position, self.remaining());
        FormatError::Truncated { path, place, offset, expected, found }
    }
}
