//! Writing a container from front to back, into anything that takes bytes.
//!
//! Nothing but the section table is held in memory: a section is written by any number of `write` calls while its
//! length and checksum are kept. After a failed write the file cannot be finished, so that half a section never
//! becomes a valid file.

use super::{
    END_MAGIC, ENTRY_CHECKSUM, ENTRY_LENGTH, ENTRY_OFFSET, Entry, FOOTER_BYTES, FOOTER_CHECKSUM,
    FOOTER_COUNT, FOOTER_END_MAGIC, FOOTER_FILE_LENGTH, FOOTER_TABLE_CHECKSUM, FOOTER_TABLE_LENGTH,
    FOOTER_TABLE_OFFSET, FORMAT_VERSION, FileKind, HEADER_BYTES, HEADER_CHECKSUM, HEADER_KIND,
    HEADER_VERSION, MAGIC, NAME_BYTES, TABLE_ENTRY_BYTES, align_up, is_valid_name,
};
use std::io::{self, Write};

/// Writes one container; see the [module](super).
///
/// Dropping it without [`finish`](Self::finish) leaves a file that no reader accepts.
#[derive(Debug)]
#[must_use = "a container is complete only after `finish`"]
pub struct ContainerWriter<W: Write> {
    out: W,
    position: u64,
    entries: Vec<Entry>,
    failed: bool,
}

impl<W: Write> ContainerWriter<W> {
    /// Writes the header. The writer should be buffered: padding and table rows are small writes.
    ///
    /// # Errors
    ///
    /// Those of the writer.
    pub fn new(mut out: W, kind: FileKind) -> io::Result<Self> {
        out.write_all(&header(kind))?;
        Ok(Self { out, position: HEADER_BYTES as u64, entries: Vec::new(), failed: false })
    }

    /// Writes a section that is already in memory.
    ///
    /// # Errors
    ///
    /// As [`write_section`](Self::write_section).
    pub fn add_section(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.write_section(name, |section| section.write_all(bytes))
    }

    /// Writes a section piece by piece: whatever `write` writes is its content, in as many calls as it likes.
    ///
    /// # Errors
    ///
    /// `InvalidInput` when the name is not 1 to 16 printable ASCII characters or was used before; otherwise what
    /// `write` or the writer returned, and then this container cannot be finished any more.
    pub fn write_section<E: From<io::Error>>(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut SectionWriter<'_, W>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.check_name(name)?;
        self.check_usable()?;
        self.failed = true;
        self.pad()?;
        let offset = self.position;
        let mut section = SectionWriter { out: &mut self.out, length: 0, checksum: 0 };
        write(&mut section)?;
        let SectionWriter { length, checksum, .. } = section;
        self.position = offset + length;
        self.entries.push(Entry { name: name.to_owned(), offset, length, checksum });
        self.failed = false;
        Ok(())
    }

    /// Writes the table and the footer, flushes, and gives the inner writer back.
    ///
    /// # Durability
    ///
    /// The bytes are handed to the writer, not synced: [`write_atomically`](crate::write_atomically) does that.
    ///
    /// # Errors
    ///
    /// Those of the writer, and an error when an earlier write failed.
    pub fn finish(mut self) -> io::Result<W> {
        self.check_usable()?;
        self.pad()?;
        let table = table(&self.entries);
        self.out.write_all(&table)?;
        self.out.write_all(&footer(self.position, self.entries.len(), &table)?)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn check_name(&self, name: &str) -> io::Result<()> {
        let problem = if !is_valid_name(name.as_bytes()) {
            format!("a section's name has 1 to {NAME_BYTES} printable ASCII characters, not {name:?}")
        } else if self.entries.iter().any(|entry| entry.name == name) {
            format!("the section {name:?} was already written")
        } else {
            return Ok(());
        };
        Err(io::Error::new(io::ErrorKind::InvalidInput, problem))
    }

    fn check_usable(&self) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other("an earlier section failed: the container cannot be continued"));
        }
        Ok(())
    }

    /// Zero bytes up to the next aligned offset.
    fn pad(&mut self) -> io::Result<()> {
        let aligned = align_up(self.position).ok_or_else(|| io::Error::other("the file is too long"))?;
        let zeros = [0; super::ALIGNMENT as usize];
        self.out.write_all(&zeros[..(aligned - self.position) as usize])?;
        self.position = aligned;
        Ok(())
    }
}

/// Takes the content of one section; [`Encode`](crate::codec::Encode) adds methods for numbers and strings.
#[derive(Debug)]
pub struct SectionWriter<'a, W: Write> {
    out: &'a mut W,
    length: u64,
    checksum: u32,
}

impl<W: Write> SectionWriter<'_, W> {
    /// The number of bytes written to this section so far.
    pub fn length(&self) -> u64 {
        self.length
    }
}

impl<W: Write> Write for SectionWriter<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.length += written as u64;
        self.checksum = crc32c::crc32c_append(self.checksum, &bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn header(kind: FileKind) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    put(&mut header, 0, &MAGIC);
    put(&mut header, HEADER_VERSION, &FORMAT_VERSION.to_le_bytes());
    put(&mut header, HEADER_KIND, &kind.to_u32().to_le_bytes());
    let checksum = crc32c::crc32c(&header[..HEADER_CHECKSUM]);
    put(&mut header, HEADER_CHECKSUM, &checksum.to_le_bytes());
    header
}

fn table(entries: &[Entry]) -> Vec<u8> {
    let mut table = vec![0; entries.len() * TABLE_ENTRY_BYTES];
    for (row, entry) in table.chunks_exact_mut(TABLE_ENTRY_BYTES).zip(entries) {
        put(row, 0, entry.name.as_bytes());
        put(row, ENTRY_OFFSET, &entry.offset.to_le_bytes());
        put(row, ENTRY_LENGTH, &entry.length.to_le_bytes());
        put(row, ENTRY_CHECKSUM, &entry.checksum.to_le_bytes());
    }
    table
}

fn footer(table_offset: u64, count: usize, table: &[u8]) -> io::Result<[u8; FOOTER_BYTES]> {
    let count = u32::try_from(count).map_err(|_| io::Error::other("the file has too many sections"))?;
    let table_length = table.len() as u64;
    let file_length = table_offset + table_length + FOOTER_BYTES as u64;
    let mut footer = [0; FOOTER_BYTES];
    put(&mut footer, FOOTER_TABLE_OFFSET, &table_offset.to_le_bytes());
    put(&mut footer, FOOTER_TABLE_LENGTH, &table_length.to_le_bytes());
    put(&mut footer, FOOTER_COUNT, &count.to_le_bytes());
    put(&mut footer, FOOTER_TABLE_CHECKSUM, &crc32c::crc32c(table).to_le_bytes());
    put(&mut footer, FOOTER_FILE_LENGTH, &file_length.to_le_bytes());
    let checksum = crc32c::crc32c(&footer[..FOOTER_CHECKSUM]);
    put(&mut footer, FOOTER_CHECKSUM, &checksum.to_le_bytes());
    put(&mut footer, FOOTER_END_MAGIC, &END_MAGIC);
    Ok(footer)
}

fn put(record: &mut [u8], offset: usize, bytes: &[u8]) {
    record[offset..offset + bytes.len()].copy_from_slice(bytes);
}
