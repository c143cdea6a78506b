//! Reading an archive: its sections are looked through when it is opened, each one's checksum is compared when it is read.

use super::{KIND, LOG, MANIFEST, NAMES, RECORD_HEAD_BYTES, blob_section, is_in_order};
use crate::backend::{PART_BYTES, check_blob_name};
use crate::codec::{CodecError, Reader, u32_at, u64_at};
use crate::{ContainerReader, MAX_RECORD_BYTES, SectionReader, SeqNo, StorageError};
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

/// An open archive; see the [module](super).
#[derive(Debug)]
pub struct Archive<R = File> {
    pub(super) file: ContainerReader<R>,
    pub(super) path: PathBuf,
    pub(super) names: Vec<String>,
}

impl Archive<File> {
    /// Opens an archive and checks that it is a whole one; manifest, blobs and log are yet to be read.
    ///
    /// # Errors
    /// Any of a container's; [`StorageError::MissingSection`], [`StorageError::Malformed`] or [`StorageError::Decode`] when it is
    /// a container but no archive.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let file = File::open(path).map_err(StorageError::io(path))?;
        Self::new(file, path)
    }
}

impl<R: Read + Seek> Archive<R> {
    /// Opens an archive in anything that can be read and sought; `path` is for errors.
    ///
    /// # Errors
    /// As [`open`](Archive::open).
    pub fn new(inner: R, path: &Path) -> Result<Self, StorageError> {
        let mut file = ContainerReader::new(inner, path, KIND)?;
        let names = read_names(&mut file, path)?;
        check_sections(&file, path, names.len())?;
        Ok(Self { file, path: path.to_owned(), names })
    }

    /// Names of the blobs, ascending.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The content of the manifest.
    ///
    /// # Errors
    /// [`StorageError::Checksum`]; [`StorageError::Io`].
    pub fn manifest(&mut self) -> Result<Vec<u8>, StorageError> {
        self.file.section(MANIFEST)
    }

    /// The content of a blob, as a stream. Its checksum is compared as the last byte is read.
    ///
    /// # Errors
    /// [`StorageError::MissingSection`] when there is no blob of this name; [`StorageError::Io`].
    pub fn blob(&mut self, name: &str) -> Result<SectionReader<'_, R>, StorageError> {
        match self.names.binary_search_by(|other| other.as_str().cmp(name)) {
            Ok(place) => self.file.section_reader(&blob_section(place)),
            Err(_) => {
                let section = format!("blob {name}");
                Err(StorageError::MissingSection { path: self.path.clone(), section })
            }
        }
    }

    /// The records of the log, after their checksum was compared, which takes reading them twice.
    ///
    /// # Errors
    /// [`StorageError::Checksum`]; [`StorageError::Decode`]; [`StorageError::Malformed`]; [`StorageError::Io`].
    pub fn records(&mut self) -> Result<Records<'_, R>, StorageError> {
        let mut section = self.file.section_reader(LOG)?;
        io::copy(&mut section, &mut io::sink()).map_err(StorageError::from_io(&self.path))?;
        self.records_unchecked()
    }

    /// The same, where the checksum was compared before.
    pub(super) fn records_unchecked(&mut self) -> Result<Records<'_, R>, StorageError> {
        let base = self.file.section_offset(LOG)?;
        let section = self.file.section_reader(LOG)?;
        let (length, path) = (section.remaining(), &*self.path);
        let input = BufReader::with_capacity(PART_BYTES, section);
        let mut records = Records { input, path, base, length, position: 0, from: SeqNo(0), least: SeqNo(0) };
        let from = SeqNo(u64::from_le_bytes(records.bytes()?));
        if !is_in_order(from, SeqNo::FIRST) {
            return Err(records.malformed(0, format!("a log that begins at number {from}")));
        }
        (records.from, records.least) = (from, from);
        Ok(records)
    }

    /// Compares all checksums and looks at every record.
    ///
    /// # Errors
    /// The first thing that is wrong; [`StorageError::Io`].
    pub fn verify(&mut self) -> Result<(), StorageError> {
        self.file.verify()?;
        self.records_unchecked()?.try_for_each(|record| record.map(|_| ()))
    }
}

/// Names, manifest, so many blobs and the log, in this order, and no others.
fn check_sections<R: Read + Seek>(
    file: &ContainerReader<R>,
    path: &Path,
    blobs: usize,
) -> Result<(), StorageError> {
    let blobs = (0..blobs).map(blob_section);
    let mut expected = [NAMES, MANIFEST].map(str::to_owned).into_iter().chain(blobs).chain([LOG.to_owned()]);
    for (found, _) in file.sections() {
        let section = expected.next();
        if section.as_deref() != Some(found) {
            let place = section.map_or("the end".to_owned(), |section| format!("section {section:?}"));
            let (offset, reason) =
                (file.section_offset(found)?, format!("section {found:?} where {place} should be"));
            return Err(StorageError::Malformed { path: path.to_owned(), offset, reason });
        }
    }
    match expected.next() {
        None => Ok(()),
        Some(section) => Err(StorageError::MissingSection { path: path.to_owned(), section }),
    }
}

fn read_names<R: Read + Seek>(
    file: &mut ContainerReader<R>,
    path: &Path,
) -> Result<Vec<String>, StorageError> {
    let bytes = file.section(NAMES)?;
    let base = file.section_offset(NAMES)?;
    let mut reader = Reader::new(&bytes);
    let mut names: Vec<String> = Vec::new();
    while reader.remaining() > 0 {
        let offset = base + reader.position() as u64;
        let name = reader.str().map_err(StorageError::decode(path, NAMES))?;
        if check_blob_name(name).is_err() || names.last().is_some_and(|last| last.as_str() >= name) {
            let reason = format!("{name:?} is no name of a blob, or not above the one before");
            return Err(StorageError::Malformed { path: path.to_owned(), offset, reason });
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

/// Records of an archive, in the order of their numbers; see [`Archive::records`]. Nothing comes after an error.
#[derive(Debug)]
pub struct Records<'a, R> {
    input: BufReader<SectionReader<'a, R>>,
    path: &'a Path,
    /// Where the section begins in the file, and how long it is.
    base: u64,
    length: u64,
    position: u64,
    from: SeqNo,
    least: SeqNo,
}

impl<R: Read> Records<'_, R> {
    /// The number from which on the log is there.
    pub fn from(&self) -> SeqNo {
        self.from
    }

    fn record(&mut self) -> Result<(SeqNo, Vec<u8>), StorageError> {
        let start = self.position;
        let head: [u8; RECORD_HEAD_BYTES] = self.bytes()?;
        let (seq, length) = (SeqNo(u64_at(&head, 0)), u32_at(&head, 8) as usize);
        if !is_in_order(seq, self.least) {
            let reason = format!("record {seq} where {} is the least number", self.least);
            return Err(self.malformed(start, reason));
        }
        if length > MAX_RECORD_BYTES {
            return Err(self.malformed(start + 8, format!("a record of {length} bytes")));
        }
        self.check_left(length)?;
        let mut record = vec![0; length];
        self.fill(&mut record)?;
        self.least = seq.next();
        Ok((seq, record))
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], StorageError> {
        self.check_left(N)?;
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), StorageError> {
        self.input.read_exact(bytes).map_err(StorageError::from_io(self.path))?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn check_left(&self, needed: usize) -> Result<(), StorageError> {
        let (offset, needed, remaining) = (self.position, needed as u64, self.length - self.position);
        if needed <= remaining {
            return Ok(());
        }
        let error = CodecError::UnexpectedEnd { offset, needed, remaining };
        Err(StorageError::decode(self.path, LOG)(error))
    }

    fn malformed(&self, position: u64, reason: String) -> StorageError {
        StorageError::Malformed { path: self.path.to_owned(), offset: self.base + position, reason }
    }
}

impl<R: Read> Iterator for Records<'_, R> {
    type Item = Result<(SeqNo, Vec<u8>), StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.position == self.length {
            return None;
        }
        let record = self.record();
        if record.is_err() {
            self.position = self.length;
        }
        Some(record)
    }
}
