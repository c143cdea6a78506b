//! One image of the files, changes to it, and which of them a power failure leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file, whatever its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id(usize);

/// Something that a call did.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Create { path: PathBuf, id: Id },
    Link { path: PathBuf, id: Id },
    Remove { path: PathBuf },
    Write { id: Id, offset: u64, bytes: Arc<[u8]> },
    SetLength { id: Id, length: u64 },
    Sync { id: Id },
    CreateFolder { path: PathBuf },
    RemoveFolder { path: PathBuf },
    SyncFolder { path: PathBuf },
}

/// Files, their names, and folders.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    contents: Vec<Vec<u8>>,
    names: BTreeMap<PathBuf, Id>,
    folders: BTreeSet<PathBuf>,
}

impl Disk {
    pub(super) fn find(&self, path: &Path) -> Option<Id> {
        self.names.get(path).copied()
    }

    pub(super) fn free_id(&self) -> Id {
        Id(self.contents.len())
    }

    pub(super) fn content(&self, id: Id) -> &Vec<u8> {
        &self.contents[id.0]
    }

    pub(super) fn content_mut(&mut self, id: Id) -> &mut Vec<u8> {
        &mut self.contents[id.0]
    }

    /// Of all files that have a name.
    pub(super) fn bytes(&self) -> u64 {
        let named: BTreeSet<Id> = self.names.values().copied().collect();
        named.into_iter().map(|id| self.content(id).len() as u64).sum()
    }

    pub(super) fn has_folder(&self, path: &Path) -> bool {
        path.as_os_str().is_empty() || self.folders.contains(path)
    }

    pub(super) fn names(&self, folder: &Path) -> Option<Vec<String>> {
        let name = |path: &PathBuf| {
            let inside = path.parent() == Some(folder);
            inside.then(|| path.file_name()?.to_str().map(str::to_owned)).flatten()
        };
        let all = self.names.keys().chain(&self.folders);
        self.has_folder(folder).then(|| all.filter_map(name).collect())
    }

    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Create { path, id } => {
                self.contents.resize_with(id.0 + 1, Vec::new);
                self.names.insert(path.clone(), *id);
            }
            Change::Link { path, id } => {
                self.names.insert(path.clone(), *id);
            }
            Change::Remove { path } => {
                self.names.remove(path);
            }
            Change::Write { id, offset, bytes } => {
                let content = self.content_mut(*id);
                let end = *offset as usize + bytes.len();
                content.resize(content.len().max(end), 0);
                content[*offset as usize..end].copy_from_slice(bytes);
            }
            Change::SetLength { id, length } => self.content_mut(*id).resize(*length as usize, 0),
            Change::CreateFolder { path } => {
                let folders = path.ancestors().filter(|folder| !folder.as_os_str().is_empty());
                self.folders.extend(folders.map(Path::to_owned));
            }
            Change::RemoveFolder { path } => {
                self.folders.remove(path);
            }
            Change::Sync { .. } | Change::SyncFolder { .. } => {}
        }
    }
}

/// What is durable of a journal, and what may be.
pub(super) struct Survival {
    pub(super) live: Disk,
    durable: Disk,
    /// Not synced, in order. Changes of folders themselves are durable at once: nothing here depends on that.
    pending: Vec<Change>,
}

impl Survival {
    pub(super) fn new(base: &Disk) -> Self {
        Self { live: base.clone(), durable: base.clone(), pending: Vec::new() }
    }

    pub(super) fn apply(&mut self, change: &Change) {
        self.live.apply(change);
        match change {
            Change::Sync { id: synced } => self.settle(|change| match change {
                Change::Write { id, .. } | Change::SetLength { id, .. } => id == synced,
                _ => false,
            }),
            Change::SyncFolder { path: folder } => self.settle(|change| match change {
                Change::Create { path, .. } | Change::Link { path, .. } | Change::Remove { path } => {
                    path.parent() == Some(folder)
                }
                _ => false,
            }),
            Change::CreateFolder { .. } | Change::RemoveFolder { .. } => self.durable.apply(change),
            _ => self.pending.push(change.clone()),
        }
    }

    fn settle(&mut self, is_settled: impl Fn(&Change) -> bool) {
        let (settled, pending) = std::mem::take(&mut self.pending).into_iter().partition(is_settled);
        self.pending = pending;
        let settled: Vec<Change> = settled;
        settled.iter().for_each(|change| self.apply_to_durable(change));
    }

    fn apply_to_durable(&mut self, change: &Change) {
        // A file's content may be durable before its name is.
        self.durable.contents.resize_with(self.live.contents.len(), Vec::new);
        match change {
            Change::Create { path, id } => {
                self.durable.names.insert(path.clone(), *id);
            }
            change => self.durable.apply(change),
        }
    }

    /// What is durable, and of the rest, in order, as much as `kept` says for a number of bytes (1 where there are none):
    /// `None` for nothing, fewer for a part of a write.
    pub(super) fn durable(mut self, mut kept: impl FnMut(usize) -> Option<usize>) -> Disk {
        for change in std::mem::take(&mut self.pending) {
            let length = match &change {
                Change::Write { bytes, .. } => bytes.len(),
                _ => 1,
            };
            match (kept(length), change) {
                (None | Some(0), _) => {}
                (Some(kept), Change::Write { id, offset, bytes }) => {
                    self.apply_to_durable(&Change::Write { id, offset, bytes: bytes[..kept].into() });
                }
                (Some(_), change) => self.apply_to_durable(&change),
            }
        }
        self.durable.contents.resize_with(self.live.contents.len(), Vec::new);
        self.durable
    }

    /// Everything, but of the last write only as many bytes.
    pub(super) fn torn(self, bytes: usize) -> Disk {
        let last = self.pending.iter().rposition(|change| matches!(change, Change::Write { .. }));
        let mut place = 0;
        self.durable(|length| {
            place += 1;
            Some(if Some(place - 1) == last { length.min(bytes) } else { length })
        })
    }
}
