//! Erasing: points are deleted, and then every file that holds anything of them is written anew or removed.

use super::merge::plan;
use super::state::LivePart;
use super::{Collection, Durability, lock};
use crate::manifest::Manifest;
use crate::point::Operation;
use crate::segment::Segment;
use crate::{Error, PointId};
use std::sync::PoisonError;
use vdb_storage::{SeqNo, StorageError};

/// What is known about erased points.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Erased {
    /// Points that were there.
    pub points: usize,
    /// Segments that were written anew.
    pub rewritten: usize,
    /// Segments in which none of the ids is: all that there are.
    pub segments: usize,
    /// The log holds no record up to this version, the one that deleted them.
    pub version: u64,
}

impl Collection {
    /// Deletes points and sees to it that no file of the collection holds anything of them any more: not the log, no segment, no
    /// state of before. Snapshots, clones and archives are others' and stay. The proof is made by looking at every file that is
    /// left.
    ///
    /// Writers wait while the log is emptied; segments that hold such points are written anew, which takes as long as a merge.
    ///
    /// # Errors
    /// As [`write`](Self::write); [`Error::Unerased`] when something is found after all.
    pub fn erase(&self, ids: &[PointId]) -> Result<Erased, Error> {
        let operations = ids.iter().cloned().map(Operation::Delete).collect();
        let written = self.write(operations, Durability::Sync)?;
        let rewritten = self.erase_from_segments(ids)?;
        {
            // Nothing may come behind the records in the file that holds them.
            let _alone = self.gate.write().unwrap_or_else(PoisonError::into_inner);
            self.seal()?;
        }
        // A head that was being sealed meanwhile may have become a segment with them.
        let rewritten = rewritten + self.erase_from_segments(ids)?;
        self.forget_history()?;
        let segments = self.prove_erased(ids, written.version)?;
        Ok(Erased { points: ids.len() - written.skipped, rewritten, segments, version: written.version })
    }

    /// Writes segments anew that hold any of these points, dead as they are.
    fn erase_from_segments(&self, ids: &[PointId]) -> Result<usize, Error> {
        let holds = |segment: &Segment| {
            ids.iter().try_fold(false, |found, id| Ok::<_, Error>(found || segment.find(id)?.is_some()))
        };
        let _turns = (lock(&self.merging), lock(&self.indexing));
        let mut rewritten = 0;
        loop {
            let mut failed = None;
            let is_done = !self.merge_by(|free, state| {
                let part = free.iter().find(|part: &&&LivePart| {
                    holds(&part.segment).unwrap_or_else(|error| {
                        failed = Some(error);
                        false
                    })
                });
                part.map(|part| plan(&[part], &state.schema))
            })?;
            if let Some(error) = failed {
                return Err(error);
            }
            if is_done {
                return Ok(rewritten);
            }
            rewritten += 1;
        }
    }

    /// Looks at every file; gives the number of segments.
    fn prove_erased(&self, ids: &[PointId], version: u64) -> Result<usize, Error> {
        let current = self.current();
        let found = |what: String| Err(Error::Unerased { collection: self.name.to_string(), what });
        let mut log = self.backend.read_log(SeqNo::FIRST);
        match log.read() {
            Ok(Some((seq, _))) if seq.0 <= version => return found(format!("record {seq} of the log")),
            Ok(_) | Err(StorageError::Trimmed { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let manifests = self.backend.manifests();
        let numbers = manifests.numbers()?;
        let manifest = Manifest::decode(&manifests.path(current.number), manifests.load(current.number)?)?;
        if let Some(number) = numbers.iter().find(|number| **number != current.number) {
            return found(format!("manifest {number}"));
        }
        let named = manifest.blobs();
        let is_segment = |name: &String| name.starts_with("seg-");
        if let Some(name) =
            self.backend.blobs().names()?.iter().find(|name| is_segment(name) && !named.contains(*name))
        {
            return found(format!("the blob {name}, which nothing names"));
        }
        for entry in &manifest.segments {
            let segment = Segment::open(self.backend.blobs(), entry.number, &manifest.schema)?;
            for id in ids {
                if segment.find(id)?.is_some() {
                    return found(format!("the point {id} in {}", segment.path.display()));
                }
            }
        }
        Ok(manifest.segments.len())
    }
}
