//! Reading a container: the structure is checked when it is opened, a section's checksum when it is read.
//!
//! No number from the file is used before it was compared with the file's length, and arithmetic on such numbers is
//! checked. The checks go from outside in: magic, header, end mark, footer, table, padding.

use super::{
    ALIGNMENT, END_MAGIC, ENTRY_CHECKSUM, ENTRY_LENGTH, ENTRY_OFFSET, ENTRY_RESERVED, Entry, FOOTER_BYTES,
    FOOTER_CHECKSUM, FOOTER_COUNT, FOOTER_END_MAGIC, FOOTER_FILE_LENGTH, FOOTER_RESERVED,
    FOOTER_TABLE_CHECKSUM, FOOTER_TABLE_LENGTH, FOOTER_TABLE_OFFSET, FORMAT_VERSION, FileKind, HEADER_BYTES,
    HEADER_CHECKSUM, HEADER_KIND, HEADER_RESERVED, HEADER_VERSION, MAGIC, NAME_BYTES, OLDEST_FORMAT_VERSION,
    TABLE_ENTRY_BYTES, align_up, is_valid_name,
};
use crate::Region;
use crate::codec::{u32_at, u64_at};
use crate::error::StorageError;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// An open container, over a file or over bytes in memory.
///
/// Opening reads the header, the table, the footer and the padding; sections are read when asked for, each with its
/// checksum. A file must not change while it is open: [`write_atomically`](crate::write_atomically) never does
/// that, since it puts a new file in the old one's place.
#[derive(Debug)]
pub struct ContainerReader<R = File> {
    source: Source<R>,
    version: u32,
    pub(super) entries: Vec<Entry>,
}

impl ContainerReader<File> {
    /// Opens a file and checks its structure.
    ///
    /// # Errors
    ///
    /// Any [`StorageError`] but `MissingSection` and `Decode`.
    pub fn open(path: &Path, kind: FileKind) -> Result<Self, StorageError> {
        let file = File::open(path).map_err(StorageError::io(path))?;
        Self::new(file, path, kind)
    }
}

impl ContainerReader<Cursor<Vec<u8>>> {
    /// Opens a container that is in memory; `name` stands for the path in errors.
    ///
    /// # Errors
    ///
    /// As [`open`](ContainerReader::open).
    pub fn from_bytes(name: &Path, bytes: Vec<u8>, kind: FileKind) -> Result<Self, StorageError> {
        Self::new(Cursor::new(bytes), name, kind)
    }
}

impl ContainerReader<Cursor<Region>> {
    /// Opens a container that is mapped, or in memory, to read its sections in place; `name` stands for the path in errors.
    ///
    /// # Errors
    ///
    /// As [`open`](ContainerReader::open).
    pub fn from_region(name: &Path, region: Region, kind: FileKind) -> Result<Self, StorageError> {
        Self::new(Cursor::new(region), name, kind)
    }

    /// A section in place, at an address that is a multiple of 64. Its checksum is not compared, so that this takes the same
    /// time whatever the length: [`verify`](Self::verify) does that for all sections, [`section`](Self::section) for one.
    ///
    /// # Errors
    ///
    /// [`StorageError::MissingSection`].
    pub fn section_in_place(&self, name: &str) -> Result<Region, StorageError> {
        let entry = self.entry(name)?;
        // Both were compared with the length of the region when it was opened.
        let (offset, length) = (entry.offset as usize, entry.length as usize);
        Ok(self.source.inner.get_ref().slice(offset..offset + length))
    }

    /// A section in place, with its checksum verified.
    ///
    /// # Errors
    ///
    /// [`StorageError::MissingSection`], [`StorageError::Checksum`].
    pub fn verified_in_place(&self, name: &str) -> Result<Region, StorageError> {
        let region = self.section_in_place(name)?;
        let entry = self.entry(name)?;
        self.source.check_sum(&entry.name, entry.offset, entry.checksum, &region)?;
        Ok(region)
    }

    /// Compares the checksums of all sections.
    ///
    /// # Errors
    ///
    /// [`StorageError::Checksum`].
    pub fn verify_in_place(&self) -> Result<(), StorageError> {
        self.entries.iter().try_for_each(|entry| self.verified_in_place(&entry.name).map(|_| ()))
    }

    /// Compares the checksums of all sections: an error for each that is damaged, in the order of the file.
    pub fn damages_in_place(&self) -> Vec<StorageError> {
        self.entries.iter().filter_map(|entry| self.verified_in_place(&entry.name).err()).collect()
    }
}

impl<R: Read + Seek> ContainerReader<R> {
    /// Opens a container in anything that can be read and sought; `path` is for errors.
    ///
    /// # Errors
    ///
    /// As [`open`](ContainerReader::open).
    pub fn new(mut inner: R, path: &Path, kind: FileKind) -> Result<Self, StorageError> {
        let length = inner.seek(SeekFrom::End(0)).map_err(StorageError::io(path))?;
        let mut source = Source { inner, path: path.to_path_buf(), length };
        let version = check_header(&mut source, kind)?;
        let footer = read_footer(&mut source)?;
        let entries = read_table(&mut source, &footer)?;
        check_padding(&mut source, &entries, footer.table_offset)?;
        Ok(Self { source, version, entries })
    }

    /// The format version of the file.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The length of the file in bytes.
    pub fn file_length(&self) -> u64 {
        self.source.length
    }

    /// Names and lengths in bytes of the sections, in the order of the file.
    pub fn sections(&self) -> impl Iterator<Item = (&str, u64)> {
        self.entries.iter().map(|entry| (entry.name.as_str(), entry.length))
    }

    /// Whether there is a section of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.name == name)
    }

    /// Where a section begins in the file.
    pub(crate) fn section_offset(&self, name: &str) -> Result<u64, StorageError> {
        Ok(self.entry(name)?.offset)
    }

    /// The content of a section, with its checksum verified.
    ///
    /// # Errors
    ///
    /// [`StorageError::MissingSection`], [`StorageError::Checksum`], [`StorageError::Io`].
    pub fn section(&mut self, name: &str) -> Result<Vec<u8>, StorageError> {
        let entry = self.entry(name)?.clone();
        let bytes = self.source.read(entry.offset, entry.length)?;
        self.source.check_sum(&entry.name, entry.offset, entry.checksum, &bytes)?;
        Ok(bytes)
    }

    /// A section as a stream, for content that should not be in memory twice. Wrap it in a
    /// [`BufReader`](io::BufReader) for small reads.
    ///
    /// The checksum is compared when the last byte is read: that read fails if it is wrong. What was decoded before
    /// must not be trusted until then.
    ///
    /// # Errors
    ///
    /// [`StorageError::MissingSection`], [`StorageError::Io`].
    pub fn section_reader(&mut self, name: &str) -> Result<SectionReader<'_, R>, StorageError> {
        let entry = self.entry(name)?.clone();
        let source = &mut self.source;
        source.inner.seek(SeekFrom::Start(entry.offset)).map_err(StorageError::io(&source.path))?;
        Ok(SectionReader { inner: &mut source.inner, path: &source.path, position: 0, checksum: 0, entry })
    }

    /// Reads every section once and verifies its checksum, in constant memory.
    ///
    /// # Errors
    ///
    /// [`StorageError::Checksum`] of the first damaged section, [`StorageError::Io`].
    pub fn verify(&mut self) -> Result<(), StorageError> {
        for entry in &self.entries {
            let found = self.source.checksum_of(entry.offset, entry.length)?;
            self.source.compare_sum(&entry.name, entry.offset, entry.checksum, found)?;
        }
        Ok(())
    }

    fn entry(&self, name: &str) -> Result<&Entry, StorageError> {
        self.entries.iter().find(|entry| entry.name == name).ok_or_else(|| StorageError::MissingSection {
            path: self.source.path.clone(),
            section: name.to_owned(),
        })
    }
}

/// One section as a stream; see [`ContainerReader::section_reader`].
#[derive(Debug)]
pub struct SectionReader<'a, R> {
    inner: &'a mut R,
    path: &'a Path,
    position: u64,
    checksum: u32,
    entry: Entry,
}

impl<R> SectionReader<'_, R> {
    /// The number of bytes not yet read.
    pub fn remaining(&self) -> u64 {
        self.entry.length - self.position
    }
}

impl<R: Read> Read for SectionReader<'_, R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let wanted = out.len().min(usize::try_from(self.remaining()).unwrap_or(usize::MAX));
        let out = &mut out[..wanted];
        if out.is_empty() {
            return Ok(0);
        }
        let read = self.inner.read(out)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += read as u64;
        self.checksum = crc32c::crc32c_append(self.checksum, &out[..read]);
        if self.remaining() == 0 && self.checksum != self.entry.checksum {
            return Err(StorageError::Checksum {
                path: self.path.to_path_buf(),
                section: self.entry.name.clone(),
                offset: self.entry.offset,
                expected: self.entry.checksum,
                found: self.checksum,
            }
            .into());
        }
        Ok(read)
    }
}

/// The bytes of a file, with what every error about them needs.
#[derive(Debug)]
struct Source<R> {
    inner: R,
    path: PathBuf,
    length: u64,
}

impl<R: Read + Seek> Source<R> {
    /// Bytes of the file. The range was compared with the file's length before, so the allocation is bounded by it.
    fn read(&mut self, offset: u64, length: u64) -> Result<Vec<u8>, StorageError> {
        let too_large = || io::Error::new(io::ErrorKind::OutOfMemory, format!("{length} bytes of memory"));
        let size = usize::try_from(length).map_err(|_| StorageError::io(&self.path)(too_large()))?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size).map_err(|_| StorageError::io(&self.path)(too_large()))?;
        self.inner.seek(SeekFrom::Start(offset)).map_err(StorageError::io(&self.path))?;
        (&mut self.inner).take(length).read_to_end(&mut bytes).map_err(StorageError::io(&self.path))?;
        if bytes.len() < size {
            // The file became shorter after its length was taken.
            return Err(self.truncated(offset + length, offset + bytes.len() as u64));
        }
        Ok(bytes)
    }

    fn checksum_of(&mut self, offset: u64, length: u64) -> Result<u32, StorageError> {
        const BUFFER_BYTES: u64 = 256 * 1024;
        let (mut checksum, mut done) = (0, 0);
        while done < length {
            let bytes = self.read(offset + done, BUFFER_BYTES.min(length - done))?;
            checksum = crc32c::crc32c_append(checksum, &bytes);
            done += bytes.len() as u64;
        }
        Ok(checksum)
    }

    fn check_sum(&self, what: &str, offset: u64, expected: u32, bytes: &[u8]) -> Result<(), StorageError> {
        self.compare_sum(what, offset, expected, crc32c::crc32c(bytes))
    }

    fn compare_sum(&self, what: &str, offset: u64, expected: u32, found: u32) -> Result<(), StorageError> {
        if expected == found {
            return Ok(());
        }
        let (path, section) = (self.path.clone(), what.to_owned());
        Err(StorageError::Checksum { path, section, offset, expected, found })
    }

    fn check_zero(&self, offset: u64, bytes: &[u8]) -> Result<(), StorageError> {
        match bytes.iter().position(|&byte| byte != 0) {
            None => Ok(()),
            Some(index) => Err(self.malformed(
                offset + index as u64,
                format!("a reserved or padding byte is {:#04x}, not zero", bytes[index]),
            )),
        }
    }

    fn truncated(&self, expected: u64, found: u64) -> StorageError {
        StorageError::Truncated { path: self.path.clone(), expected, found }
    }

    fn malformed(&self, offset: u64, reason: String) -> StorageError {
        StorageError::Malformed { path: self.path.clone(), offset, reason }
    }
}

/// Checks the header and returns the format version.
///
/// The version comes after the checksum, so that a flipped bit is not taken for a newer version, and before the
/// reserved bytes, to which a newer version may give a meaning.
fn check_header<R: Read + Seek>(source: &mut Source<R>, kind: FileKind) -> Result<u32, StorageError> {
    let header = source.read(0, source.length.min(HEADER_BYTES as u64))?;
    let found_magic = &header[..header.len().min(MAGIC.len())];
    if !MAGIC.starts_with(found_magic) {
        return Err(StorageError::NotAContainer { path: source.path.clone(), found: found_magic.to_vec() });
    }
    let shortest = (HEADER_BYTES + FOOTER_BYTES) as u64;
    if source.length < shortest {
        return Err(source.truncated(shortest, source.length));
    }
    source.check_sum("the header", 0, u32_at(&header, HEADER_CHECKSUM), &header[..HEADER_CHECKSUM])?;
    let version = u32_at(&header, HEADER_VERSION);
    if !(OLDEST_FORMAT_VERSION..=FORMAT_VERSION).contains(&version) {
        return Err(StorageError::UnsupportedVersion {
            path: source.path.clone(),
            found: version,
            oldest: OLDEST_FORMAT_VERSION,
            newest: FORMAT_VERSION,
        });
    }
    let found = FileKind::from_u32(u32_at(&header, HEADER_KIND));
    if found != kind {
        return Err(StorageError::WrongKind { path: source.path.clone(), expected: kind, found });
    }
    source.check_zero(HEADER_RESERVED as u64, &header[HEADER_RESERVED..HEADER_CHECKSUM])?;
    Ok(version)
}

struct Footer {
    table_offset: u64,
    table_length: u64,
    table_checksum: u32,
}

/// Checks the footer, and that the table lies where it must: aligned, between the header and the footer.
fn read_footer<R: Read + Seek>(source: &mut Source<R>) -> Result<Footer, StorageError> {
    let start = source.length - FOOTER_BYTES as u64;
    let bytes = source.read(start, FOOTER_BYTES as u64)?;
    if bytes[FOOTER_END_MAGIC..] != END_MAGIC {
        let (path, offset) = (source.path.clone(), start + FOOTER_END_MAGIC as u64);
        return Err(StorageError::MissingEnd { path, offset, length: source.length });
    }
    source.check_sum("the footer", start, u32_at(&bytes, FOOTER_CHECKSUM), &bytes[..FOOTER_CHECKSUM])?;
    source.check_zero(start + FOOTER_RESERVED as u64, &bytes[FOOTER_RESERVED..FOOTER_CHECKSUM])?;

    let file_length = u64_at(&bytes, FOOTER_FILE_LENGTH);
    if file_length > source.length {
        return Err(source.truncated(file_length, source.length));
    }
    let footer = Footer {
        table_offset: u64_at(&bytes, FOOTER_TABLE_OFFSET),
        table_length: u64_at(&bytes, FOOTER_TABLE_LENGTH),
        table_checksum: u32_at(&bytes, FOOTER_TABLE_CHECKSUM),
    };
    let count = u64::from(u32_at(&bytes, FOOTER_COUNT));
    let table_end = footer.table_offset.checked_add(footer.table_length);
    let problem = if file_length < source.length {
        format!("the file should have {file_length} bytes, it has {}", source.length)
    } else if footer.table_length != count * TABLE_ENTRY_BYTES as u64 {
        format!("{count} sections do not make a table of {} bytes", footer.table_length)
    } else if table_end != Some(start)
        || footer.table_offset < HEADER_BYTES as u64
        || !footer.table_offset.is_multiple_of(ALIGNMENT)
    {
        let Footer { table_offset, table_length, .. } = footer;
        format!("the table, {table_length} bytes at {table_offset}, should end at {start} and be aligned")
    } else {
        return Ok(footer);
    };
    Err(source.malformed(start, problem))
}

/// Reads the table: valid, distinct names, and each section where the one before it ends.
fn read_table<R: Read + Seek>(source: &mut Source<R>, footer: &Footer) -> Result<Vec<Entry>, StorageError> {
    let bytes = source.read(footer.table_offset, footer.table_length)?;
    source.check_sum("the section table", footer.table_offset, footer.table_checksum, &bytes)?;
    let mut entries = Vec::with_capacity(bytes.len() / TABLE_ENTRY_BYTES);
    let mut names = HashSet::new();
    let mut end = Some(HEADER_BYTES as u64);
    for (index, row) in bytes.chunks_exact(TABLE_ENTRY_BYTES).enumerate() {
        let row_offset = footer.table_offset + (index * TABLE_ENTRY_BYTES) as u64;
        let name = &row[..NAME_BYTES];
        let name_length = name.iter().position(|&byte| byte == 0).unwrap_or(NAME_BYTES);
        let (name, rest) = name.split_at(name_length);
        source.check_zero(row_offset + name_length as u64, rest)?;
        source.check_zero(row_offset + ENTRY_RESERVED as u64, &row[ENTRY_RESERVED..])?;
        if !is_valid_name(name) || !names.insert(name) {
            let reason = format!("the section name \"{}\" is not valid or not unique", name.escape_ascii());
            return Err(source.malformed(row_offset, reason));
        }
        let (offset, length) = (u64_at(row, ENTRY_OFFSET), u64_at(row, ENTRY_LENGTH));
        let expected_offset = end.and_then(align_up);
        end = offset.checked_add(length).filter(|&end| end <= footer.table_offset);
        if expected_offset != Some(offset) || end.is_none() {
            let name = name.escape_ascii();
            let reason = format!(
                "section \"{name}\", {length} bytes at {offset}, should begin at {} and end before the table at {}",
                expected_offset.unwrap_or(u64::MAX),
                footer.table_offset,
            );
            return Err(source.malformed(row_offset, reason));
        }
        let name: String = name.iter().map(|&byte| char::from(byte)).collect();
        let checksum = u32_at(row, ENTRY_CHECKSUM);
        if length == 0 {
            // Nothing will ever be read of it, so now is the time.
            source.check_sum(&name, offset, checksum, &[])?;
        }
        entries.push(Entry { name, offset, length, checksum });
    }
    if end.and_then(align_up) != Some(footer.table_offset) {
        let reason = format!("bytes between the last section and the table at {}", footer.table_offset);
        return Err(source.malformed(end.unwrap_or(u64::MAX), reason));
    }
    Ok(entries)
}

/// The bytes after each section, up to the next one or the table, are zero: fewer than [`ALIGNMENT`] each.
fn check_padding<R: Read + Seek>(
    source: &mut Source<R>,
    entries: &[Entry],
    table_offset: u64,
) -> Result<(), StorageError> {
    let next_offsets = entries.iter().skip(1).map(|entry| entry.offset).chain([table_offset]);
    for (entry, next) in entries.iter().zip(next_offsets) {
        let end = entry.offset + entry.length;
        let padding = source.read(end, next - end)?;
        source.check_zero(end, &padding)?;
    }
    Ok(())
}
