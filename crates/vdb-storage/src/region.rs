//! Bytes that are read in place: a mapped file, or memory that stands for one.
//!
//! A [`Region`] is a part of an owner that it keeps alive; cutting and cloning it copies nothing. The first byte of an
//! owner is aligned to 64 bytes, as the sections of a container are within it, so a section is aligned for every number.
//!
//! This is the one module of the crate with `unsafe`: mapping a file is, because the operating system changes the memory
//! when the file changes. Only files that never change again are mapped (`docs/format.md`, "Store"). A program that cuts
//! such a file short behind our back is answered by the operating system with a signal, not an error; so it is in every
//! program that maps files.

#![allow(unsafe_code)]

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::sync::Arc;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Immutable bytes, shared.
#[derive(Clone)]
pub struct Region {
    owner: Arc<Owner>,
    range: Range<usize>,
}

enum Owner {
    Mapped(memmap2::Mmap),
    Held(Vec<Line>),
}

/// What makes a vector's memory aligned.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
struct Line([u8; LINE]);

const LINE: usize = 64;

impl Owner {
    fn bytes(&self) -> &[u8] {
        match self {
            Owner::Mapped(map) => map,
            Owner::Held(lines) => lines.as_bytes(),
        }
    }
}

impl Region {
    /// All of a file, mapped.
    ///
    /// # Errors
    /// Those of the operating system.
    pub(crate) fn map(file: &File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        if length == 0 {
            // Nothing cannot be mapped.
            return Ok(Self::from(&[][..]));
        }
        // SAFETY: the file is one that no program of this database changes any more: `files::File::map` asks for it,
        // and its callers, which hold blobs that are complete, promise it.
        let map = unsafe { memmap2::Mmap::map(file) }?;
        Ok(Self { range: 0..map.len(), owner: Arc::new(Owner::Mapped(map)) })
    }

    /// A part of it.
    ///
    /// # Panics
    /// When it does not lie inside.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len(), "{range:?} of {} bytes", self.len());
        let start = self.range.start;
        Self { owner: Arc::clone(&self.owner), range: start + range.start..start + range.end }
    }

    /// Lets the operating system take the pages back from this process, if it is a mapped file: for what was read once from
    /// begin to end. They are found again when they are read.
    pub fn evict(&self) {
        #[cfg(unix)]
        if let Owner::Mapped(map) = &*self.owner
            && !self.is_empty()
        {
            let (advice, start) = (memmap2::UncheckedAdvice::DontNeed, self.range.start);
            // SAFETY: the mapping is shared with the file and never written to, and the file never changes: pages that are
            // dropped are read again with the same content. It is a hint; where it fails, memory is taken for longer.
            let _ = unsafe { map.unchecked_advise_range(advice, start, self.len()) };
        }
    }

    /// Whether it is a mapped file, which takes no memory that could not be had back.
    pub fn is_mapped(&self) -> bool {
        matches!(*self.owner, Owner::Mapped(_))
    }
}

impl From<&[u8]> for Region {
    fn from(bytes: &[u8]) -> Self {
        let mut lines = vec![Line([0; LINE]); bytes.len().div_ceil(LINE)];
        lines.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
        Self { owner: Arc::new(Owner::Held(lines)), range: 0..bytes.len() }
    }
}

impl Deref for Region {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.owner.bytes()[self.range.clone()]
    }
}

impl AsRef<[u8]> for Region {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_mapped() { "mapped" } else { "held" };
        write!(f, "Region({} {kind} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn is_aligned(region: &Region) -> bool {
        region.as_ptr().addr().is_multiple_of(LINE)
    }

    #[test]
    fn a_mapped_file_reads_as_held_bytes_do() {
        for length in [0, 1, 63, 64, 65, 10_000] {
            let bytes: Vec<u8> = (0..length).map(|i: usize| i as u8).collect();
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            let mapped = Region::map(&file).unwrap();
            let held = Region::from(&bytes[..]);
            assert_eq!((&*mapped, &*held), (&bytes[..], &bytes[..]));
            assert_eq!(mapped.is_mapped(), length > 0);
            assert!(is_aligned(&mapped) && is_aligned(&held), "{length} bytes");
        }
    }

    #[test]
    fn what_was_evicted_is_read_again() {
        let bytes: Vec<u8> = (0..100_000u32).map(|i| i as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let whole = Region::map(&file).unwrap();
        for region in [whole.clone(), whole.slice(5_000..60_001), whole.slice(7..7), Region::from(&bytes[..])]
        {
            let before = region.to_vec();
            region.evict();
            assert_eq!(&*region, &before[..]);
        }
        assert_eq!(&*whole, &bytes[..]);
    }

    #[test]
    fn parts_share_and_outlive_the_whole() {
        let whole = Region::from(&(0..200).collect::<Vec<u8>>()[..]);
        let part = whole.slice(64..130);
        let inner = part.slice(1..3);
        assert!(std::ptr::eq(&whole[64], &part[0]));
        drop((whole, part.clone()));
        assert_eq!((part.len(), &*inner), (66, &[65, 66][..]));
        assert!(is_aligned(&part));
        assert!(inner.slice(2..2).is_empty());
    }

    #[test]
    #[should_panic(expected = "1..4 of 3 bytes")]
    fn a_part_lies_inside() {
        let _ = Region::from(&[1, 2, 3][..]).slice(1..4);
    }
}
