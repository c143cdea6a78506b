//! Looking for everything that is damaged, in a collection that cannot be opened, too.

use super::Collection;
use crate::manifest::{Manifest, read_tombstones};
use crate::{Error, segment};
use vdb_storage::Backend;

impl Collection {
    /// Checks every checksum, every id and payload, and every link of the segments that there are now.
    ///
    /// # Errors
    /// The first damage; [`damages`](Self::damages) gives all of them.
    pub fn verify(&self) -> Result<(), Error> {
        self.view().parts.iter().try_for_each(|part| part.segment.verify())
    }

    /// As [`verify`](Self::verify), going on after what is damaged: every section of every segment whose checksum does not
    /// hold, and of segments whose checksums do, the first wrong id, payload and link.
    pub fn damages(&self) -> Vec<Error> {
        self.view().parts.iter().flat_map(|part| part.segment.damages()).collect()
    }
}

/// As [`Collection::damages`], of a collection that perhaps cannot be opened, with its manifest and its log.
pub(crate) fn damages_of(name: &str, backend: &dyn Backend) -> Vec<Error> {
    let (manifests, blobs) = (backend.manifests(), backend.blobs());
    let manifest = manifests.current().map_err(Error::from).and_then(|current| {
        let no_manifest = || Error::NoSuchCollection { collection: name.to_owned() };
        let (number, content) = current.ok_or_else(no_manifest)?;
        Manifest::decode(&manifests.path(number), content)
    });
    let manifest = match manifest {
        Ok(manifest) => manifest,
        Err(error) => return vec![error],
    };
    let mut damages = Vec::new();
    for entry in &manifest.segments {
        damages.extend(segment::damages_of(blobs, entry.number, &manifest.schema));
        damages.extend(read_tombstones(blobs, entry).err());
    }
    let mut log = backend.read_log(manifest.log_from);
    loop {
        match log.read() {
            Ok(Some(_)) => {}
            Ok(None) => return damages,
            Err(error) => {
                damages.push(error.into());
                return damages;
            }
        }
    }
}
