//! An immutable file of named, checksummed, aligned sections.
//!
//! A header, the sections, a table of the sections and a footer, written in this order without seeking back. There
//! is one valid file for a list of sections: every byte is covered by a checksum, is a constant, or is padding that
//! must be zero, so that any changed bit is noticed. `docs/format.md` has the byte tables and the reasons.

mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use reader::{ContainerReader, SectionReader};
pub use writer::{ContainerWriter, SectionWriter};

use std::fmt;

/// The first eight bytes. After PNG's example: the high bit, the line endings and the control character tell a
/// file that went through a text-mode transfer from one that did not.
pub const MAGIC: [u8; 8] = *b"\x89VDB\r\n\x1a\n";

/// The last eight bytes.
pub const END_MAGIC: [u8; 8] = *b"VDB-END\n";

/// The version that is written.
pub const FORMAT_VERSION: u32 = 1;

/// The oldest version that is read.
pub const OLDEST_FORMAT_VERSION: u32 = 1;

/// Length of the header.
pub const HEADER_BYTES: usize = 64;

/// Length of one entry of the section table.
pub const TABLE_ENTRY_BYTES: usize = 40;

/// Length of the footer.
pub const FOOTER_BYTES: usize = 48;

/// Sections and the table begin at multiples of this: a cache line and the widest vector register. When a file is
/// mapped, the mapping starts at a page, so a section is aligned for every element type. Whole pages (4096) would
/// make a file of a few small sections ten times as large and are needed only for direct I/O.
pub const ALIGNMENT: u64 = 64;

/// Longest name of a section.
pub const NAME_BYTES: usize = 16;

// Header: offsets of the fields. The header's first 64 bytes keep this shape in all versions, so that every
// version's reader can tell a newer file from a damaged one.
const HEADER_VERSION: usize = MAGIC.len();
const HEADER_KIND: usize = HEADER_VERSION + 4;
const HEADER_RESERVED: usize = HEADER_KIND + 4;
const HEADER_CHECKSUM: usize = HEADER_BYTES - 4;

// Table entry: offsets of the fields.
const ENTRY_OFFSET: usize = NAME_BYTES;
const ENTRY_LENGTH: usize = ENTRY_OFFSET + 8;
const ENTRY_CHECKSUM: usize = ENTRY_LENGTH + 8;
const ENTRY_RESERVED: usize = ENTRY_CHECKSUM + 4;
const _: () = assert!(ENTRY_RESERVED + 4 == TABLE_ENTRY_BYTES);

// Footer: offsets of the fields.
const FOOTER_TABLE_OFFSET: usize = 0;
const FOOTER_TABLE_LENGTH: usize = FOOTER_TABLE_OFFSET + 8;
const FOOTER_COUNT: usize = FOOTER_TABLE_LENGTH + 8;
const FOOTER_TABLE_CHECKSUM: usize = FOOTER_COUNT + 4;
const FOOTER_FILE_LENGTH: usize = FOOTER_TABLE_CHECKSUM + 4;
const FOOTER_RESERVED: usize = FOOTER_FILE_LENGTH + 8;
const FOOTER_CHECKSUM: usize = FOOTER_RESERVED + 4;
const FOOTER_END_MAGIC: usize = FOOTER_CHECKSUM + 4;
const _: () = assert!(FOOTER_END_MAGIC + END_MAGIC.len() == FOOTER_BYTES);

/// What a container is used for: four characters, chosen by the crate that writes it.
///
/// Opening a file with another kind than it was written with is an error.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileKind([u8; 4]);

impl FileKind {
    /// A kind from its four characters.
    pub const fn new(tag: [u8; 4]) -> Self {
        Self(tag)
    }

    /// The number in the header: the characters read as a little-endian integer.
    pub const fn to_u32(self) -> u32 {
        u32::from_le_bytes(self.0)
    }

    /// The kind that a header's number stands for.
    pub const fn from_u32(number: u32) -> Self {
        Self(number.to_le_bytes())
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl fmt::Debug for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileKind({self})")
    }
}

/// One row of the section table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    name: String,
    offset: u64,
    length: u64,
    checksum: u32,
}

/// Whether a section may have this name.
fn is_valid_name(name: &[u8]) -> bool {
    (1..=NAME_BYTES).contains(&name.len()) && name.iter().all(u8::is_ascii_graphic)
}

/// The next multiple of [`ALIGNMENT`]; `None` past the end of the numbers.
fn align_up(offset: u64) -> Option<u64> {
    offset.checked_next_multiple_of(ALIGNMENT)
}
