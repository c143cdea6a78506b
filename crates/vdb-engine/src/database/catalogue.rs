//! Which collections a database has, and in which folders. `docs/format.md`, "Catalogue", has the byte table.

use crate::Error;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use vdb_storage::codec::{CodecError, Encode, Reader};
use vdb_storage::{ContainerReader, ContainerWriter, FileKind, Region, StorageError};

const KIND: FileKind = FileKind::new(*b"CATA");
/// No folder has a greater number, so that numbers can be added to.
const LAST_FOLDER: u64 = 1 << 62;
const COLLECTIONS: &str = "collections";

/// The collections by name, each with the number of its folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Catalogue {
    /// The number of the next folder.
    pub(super) next: u64,
    pub(super) folders: BTreeMap<String, u64>,
}

impl Catalogue {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut file = ContainerWriter::new(Vec::new(), KIND).expect("memory takes all bytes");
        file.write_section(COLLECTIONS, |out| {
            out.put_u64(self.next)?;
            out.put_u32(self.folders.len() as u32)?;
            self.folders.iter().try_for_each(|(name, folder)| {
                out.put_str(name)?;
                out.put_u64(*folder)
            })
        })
        .expect("memory takes all bytes");
        file.finish().expect("memory takes all bytes")
    }

    /// # Errors
    /// [`Error::Storage`], [`Error::Damaged`].
    pub(super) fn decode(name: &Path, region: Region) -> Result<Self, Error> {
        let file = ContainerReader::from_region(name, region, KIND)?;
        let bytes = file.verified_in_place(COLLECTIONS)?;
        let mut reader = Reader::new(&bytes);
        let catalogue = Self::read(&mut reader).map_err(StorageError::decode(name, COLLECTIONS))?;
        reader.finish().map_err(StorageError::decode(name, COLLECTIONS))?;
        let numbers: BTreeSet<u64> = catalogue.folders.values().copied().collect();
        let is_possible =
            catalogue.next <= LAST_FOLDER && numbers.last().is_none_or(|last| *last < catalogue.next);
        if !is_possible || numbers.len() < catalogue.folders.len() {
            let reason = format!("folders {:?}, the next one {}", catalogue.folders, catalogue.next);
            return Err(Error::damaged(name, COLLECTIONS, reason));
        }
        Ok(catalogue)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let (next, count) = (reader.u64()?, reader.u32()?);
        let mut folders = BTreeMap::new();
        for _ in 0..count {
            folders.insert(reader.str()?.to_owned(), reader.u64()?);
        }
        Ok(Self { next, folders })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalogue_comes_out_as_it_went_in() {
        let folders = BTreeMap::from([("shoes".to_owned(), 1), (String::from("ü"), 7)]);
        let catalogue = Catalogue { next: 8, folders };
        let bytes = catalogue.encode();
        let read = Catalogue::decode(Path::new("c"), Region::from(&bytes[..])).unwrap();
        assert_eq!(read, catalogue);
        for end in 0..bytes.len() {
            assert!(Catalogue::decode(Path::new("c"), Region::from(&bytes[..end])).is_err(), "{end} bytes");
        }
    }
}
