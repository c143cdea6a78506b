//! What holds for every way to make a store out of another one: it is there whole or has no manifest, whatever happens.

use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use vdb_storage::{Backend, LocalDir, StorageError};
use vdb_testkit::{Loss, SimFiles};

pub(crate) const NEW: &str = "new";

/// A way to make a store in the folder [`NEW`].
pub(crate) struct Making<'a> {
    /// What there is before.
    pub(crate) disk: &'a dyn Fn() -> SimFiles,
    pub(crate) make: &'a dyn Fn(&SimFiles, &LocalDir) -> Result<u64, StorageError>,
    /// Panics unless the new store, which has a manifest, is whole, and what there was before is there still.
    pub(crate) check: &'a dyn Fn(&SimFiles, &LocalDir),
}

pub(crate) fn store(files: &SimFiles, folder: &str) -> LocalDir {
    LocalDir::new(Arc::new(files.clone()), folder, 11).with_wal_file_bytes(300)
}

impl Making<'_> {
    /// Whether there is a new store, which is whole then.
    fn look(&self, files: &SimFiles) -> bool {
        let store = store(files, NEW);
        match store.manifests().numbers() {
            Err(StorageError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => false,
            numbers => match numbers.unwrap()[..] {
                [] => false,
                [1] => {
                    (self.check)(files, &store);
                    true
                }
                ref more => panic!("{more:?}"),
            },
        }
    }

    /// Stops after every change, with every kind of loss; gives the number of images.
    pub(crate) fn crashes(&self) -> usize {
        let files = (self.disk)();
        let begun = files.changes();
        (self.make)(&files, &store(&files, NEW)).unwrap();
        let (mut images, mut whole) = (0, 0);
        for by in begun..=files.changes() {
            let mut losses = vec![Loss::Nothing, Loss::Everything];
            losses.extend((0..40).map(|i| Loss::Random((by as u64) << 8 | i)));
            if let Some(length) = files.write_at(by) {
                losses.extend([0, 1, length / 2, length.saturating_sub(1)].map(Loss::Torn));
            }
            for loss in losses {
                let found = catch_unwind(AssertUnwindSafe(|| self.look(&files.after(by, loss))));
                let found = found.unwrap_or_else(|_| panic!("after {by} changes, {loss:?}"));
                // Done but for the temporary file.
                assert!(found || by + 1 < files.changes(), "after {by} changes, {loss:?}: nothing is there");
                assert!(!found || by > begun + 2);
                images += 1;
                whole += usize::from(found);
            }
        }
        assert!(whole > 0 && whole < images / 2, "{whole} of {images}");
        images
    }

    /// Fails every call once; gives how many calls there are. After an error nothing is left but the folder and, when it is
    /// unknown whether there is a store, a whole one; another try succeeds.
    pub(crate) fn failing_calls(&self) -> u64 {
        let files = (self.disk)();
        let before = files.calls();
        (self.make)(&files, &store(&files, NEW)).unwrap();
        let calls = files.calls() - before;
        for kind in [ErrorKind::Other, ErrorKind::StorageFull, ErrorKind::CrossesDevices] {
            let mut failed = 0;
            for call in 1..=calls {
                let files = (self.disk)();
                files.fail(call, kind);
                match (self.make)(&files, &store(&files, NEW)) {
                    Ok(number) => {
                        assert_eq!(number, 1);
                        assert!(self.look(&files.after(files.changes(), Loss::Everything)), "call {call}");
                    }
                    Err(StorageError::Stopped { .. }) if self.look(&files) => failed += 1,
                    Err(error) => {
                        failed += 1;
                        assert!(!self.look(&files), "call {call}: {error}");
                        let again = store(&files, NEW);
                        again.create().unwrap();
                        assert_eq!(again.blobs().names().unwrap(), [""; 0], "call {call}: {error}");
                        let made = (self.make)(&files, &again);
                        assert_eq!(made.unwrap(), 1, "call {call}: {error}");
                    }
                }
                assert!(self.look(&files), "call {call}");
            }
            println!("{failed} of {calls} failing calls were reported, the others made up for");
            assert!(failed > calls / 2, "{failed} of {calls}");
        }
        calls
    }

    /// Runs out of space at every length.
    pub(crate) fn full_disk(&self) {
        let files = (self.disk)();
        let before = files.bytes();
        (self.make)(&files, &store(&files, NEW)).unwrap();
        for room in (0..files.bytes() - before).step_by(7) {
            let files = (self.disk)();
            files.limit(before + room);
            let error = (self.make)(&files, &store(&files, NEW)).unwrap_err();
            assert!(
                matches!(&error, StorageError::Io { source, .. } if source.kind() == ErrorKind::StorageFull),
                "{room} bytes: {error}"
            );
            assert_eq!(files.bytes(), before, "{room} bytes: something was left");
            files.limit(u64::MAX);
            (self.make)(&files, &store(&files, NEW)).unwrap();
            assert!(self.look(&files));
        }
    }
}
