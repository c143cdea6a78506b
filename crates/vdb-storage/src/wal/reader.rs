//! Reading a log, from its files, perhaps while another process writes it.
//!
//! What was read can be old by the time it is judged, so bytes that look wrong are read once more before they are called
//! torn or damaged; and where a next file exists, up to the length that its header tells, which was final before it began.

use super::{FRAME_ALIGNMENT, Frame, HEADER_BYTES, NoFrame, OpenFile, frame_at, numbers};
use crate::backend::{LogReader, TornTail};
use crate::codec::u64_at;
use crate::files::{FileSystem, read_from};
use crate::{SeqNo, StorageError};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct WalReader {
    files: Arc<dyn FileSystem>,
    folder: PathBuf,
    from: SeqNo,
    current: Option<Position>,
    torn: Option<TornTail>,
    /// Whether a file after the current one may be gone to.
    stays: bool,
}

/// A place in a file.
#[derive(Debug)]
struct Position {
    open: OpenFile,
    /// Bytes of the file from `base` on.
    bytes: Vec<u8>,
    base: u64,
    /// Where the next frame begins in the file.
    offset: u64,
    /// The number of the frame before.
    last: SeqNo,
}

impl WalReader {
    pub(crate) fn new(files: Arc<dyn FileSystem>, folder: PathBuf, from: SeqNo) -> Self {
        Self { files, folder, from, current: None, torn: None, stays: false }
    }

    /// Of one file only, from its begin.
    pub(super) fn of_file(
        files: Arc<dyn FileSystem>,
        folder: PathBuf,
        open: OpenFile,
    ) -> Result<Self, StorageError> {
        let from = open.header.first;
        let current = Some(Position::new(open, SeqNo(0))?);
        Ok(Self { files, folder, from, current, torn: None, stays: true })
    }

    /// The offset behind the last valid frame read, and its number.
    pub(super) fn end(&self) -> (u64, SeqNo) {
        self.current.as_ref().map_or((0, SeqNo(0)), |current| (current.offset, current.last))
    }

    /// Finds the file that holds the first record to read; `None` in a log without files.
    fn start(&self) -> Result<Option<Position>, StorageError> {
        let numbers = numbers(&*self.files, &self.folder)?;
        let mut any = false;
        for &number in numbers.iter().rev() {
            let is_last = Some(&number) == numbers.last();
            let Some(open) = OpenFile::open(&*self.files, &self.folder, number, is_last)? else { continue };
            if open.header.first <= self.from {
                return Position::new(open, SeqNo(0)).map(Some);
            }
            any = true;
        }
        if any { Err(self.trimmed()) } else { Ok(None) }
    }

    fn trimmed(&self) -> StorageError {
        StorageError::Trimmed { path: self.folder.clone(), wanted: self.from }
    }

    /// The file after the current one, if it is there and was begun.
    fn following(&self, number: u64) -> Result<Option<OpenFile>, StorageError> {
        if self.stays {
            return Ok(None);
        }
        loop {
            match OpenFile::open(&*self.files, &self.folder, number, true) {
                Err(StorageError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                result => return result,
            }
            match numbers(&*self.files, &self.folder)?.into_iter().find(|&other| other >= number) {
                None => return Ok(None),
                // It has come meanwhile.
                Some(other) if other == number => {}
                Some(_) => return Err(self.trimmed()),
            }
        }
    }

    /// Goes to the next frame of this file or a later one.
    fn advance(&mut self) -> Result<Option<Frame>, StorageError> {
        loop {
            if self.current.is_none() {
                self.current = self.start()?;
            }
            let Some(current) = &mut self.current else { return Ok(None) };
            if let Ok(frame) = current.frame() {
                return Ok(Some(current.pass(frame)));
            }
            // Which is the last file is found out before its bytes are read again.
            let number = current.open.header.number;
            let following = self.following(number + 1)?;
            let current = self.current.as_mut().expect("there is a current file");
            current.read_again()?;
            match current.frame() {
                Ok(frame) => return Ok(Some(current.pass(frame))),
                Err(reason) => {
                    let length = current.base + current.bytes.len() as u64;
                    let torn = (current.offset < length).then(|| TornTail {
                        path: current.open.path.clone(),
                        offset: current.offset,
                        bytes: length - current.offset,
                    });
                    let Some(next) = following else {
                        current.check_tail(reason)?;
                        self.torn = torn;
                        return Ok(None);
                    };
                    let known = next.header.previous_length;
                    if known > current.offset {
                        return Err(current.damaged(reason, known));
                    }
                    if known < current.offset {
                        // Records were read that the writer took back when a later part of the same write failed.
                        return Err(self.trimmed());
                    }
                    self.torn = torn;
                    let last = current.last;
                    self.current = Some(Position::new(next, last)?);
                }
            }
        }
    }
}

impl LogReader for WalReader {
    fn read(&mut self) -> Result<Option<(SeqNo, &[u8])>, StorageError> {
        loop {
            let Some(frame) = self.advance()? else { return Ok(None) };
            if frame.seq >= self.from {
                self.from = frame.seq.next();
                let bytes = &self.current.as_ref().expect("a frame was read from it").bytes;
                return Ok(Some((frame.seq, &bytes[frame.record..frame.record + frame.length])));
            }
        }
    }

    fn torn_tail(&self) -> Option<&TornTail> {
        self.torn.as_ref()
    }
}

impl Position {
    /// Of the first frame of a file.
    fn new(open: OpenFile, last: SeqNo) -> Result<Self, StorageError> {
        let base = HEADER_BYTES as u64;
        // Numbers below the header's lower bound are none of this file's.
        let last = last.max(SeqNo(open.header.first.0.saturating_sub(1)));
        let mut position = Self { open, bytes: Vec::new(), base, offset: base, last };
        position.read_again()?;
        Ok(position)
    }

    fn frame(&self) -> Result<Frame, NoFrame> {
        let start = (self.offset - self.base) as usize;
        frame_at(&self.bytes[start..], self.open.header.salt, self.offset, self.last)
    }

    /// Goes behind a frame; gives it with the place of its record in `bytes`.
    fn pass(&mut self, frame: Frame) -> Frame {
        let start = (self.offset - self.base) as usize;
        self.offset += frame.bytes() as u64;
        self.last = frame.seq;
        Frame { record: start + frame.record, ..frame }
    }

    fn read_again(&mut self) -> Result<(), StorageError> {
        self.bytes = read_from(&*self.open.file, self.offset).map_err(StorageError::io(&self.open.path))?;
        self.base = self.offset;
        Ok(())
    }

    /// Whether the bytes from here on, no frame, can be what a crash left: no later frame may know that they were durable.
    fn check_tail(&mut self, reason: NoFrame) -> Result<(), StorageError> {
        let behind = (FRAME_ALIGNMENT..self.bytes.len()).step_by(FRAME_ALIGNMENT);
        let salt = self.open.header.salt;
        for place in behind {
            let durable = self.bytes.get(place + 16..place + 24).map(|bytes| u64_at(bytes, 0));
            if durable.is_none_or(|durable| durable <= self.offset || durable > self.offset + place as u64) {
                continue;
            }
            let frame = frame_at(&self.bytes[place..], salt, self.offset + place as u64, self.last);
            if frame.is_ok() {
                // Unless it is complete by now.
                let offset = self.offset;
                self.read_again()?;
                return if self.frame().is_ok() { Ok(()) } else { Err(self.damaged(reason, offset)) };
            }
        }
        Ok(())
    }

    fn damaged(&self, reason: NoFrame, known: u64) -> StorageError {
        let (path, offset) = (self.open.path.clone(), self.offset);
        match reason {
            NoFrame::Checksum(expected, found) => {
                let section = format!("the record after number {}", self.last);
                StorageError::Checksum { path, section, offset, expected, found }
            }
            NoFrame::Short if self.bytes.is_empty() => {
                StorageError::Truncated { path, expected: known, found: offset }
            }
            NoFrame::Short | NoFrame::Field => {
                let reason = format!("no valid record after number {}, where there was one", self.last);
                StorageError::Malformed { path, offset, reason }
            }
        }
    }
}
