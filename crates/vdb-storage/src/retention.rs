//! Removing what no kept manifest needs.
//!
//! Every step leaves a store in which each manifest's blobs are there, also after a power failure: `docs/format.md`,
//! "Collecting", has the argument.

use crate::{Backend, Region, StorageError};
use std::collections::HashSet;

/// What a collection removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Collected {
    /// Numbers of manifests.
    pub manifests: Vec<u64>,
    /// Names of blobs.
    pub blobs: Vec<String>,
}

/// Removes manifests that `keep` does not want, but never the current one, and then the blobs that no manifest names.
///
/// `blobs_of` tells the names in a manifest. `is_written` tells whether a blob is being written: from before it is created
/// until a manifest that names it is published, or it is given up. It is called while other threads write and publish; there
/// is one collection at a time, by the one writer, and whoever reads an older manifest has it kept.
///
/// # Errors
/// [`StorageError::Io`], [`StorageError::Stopped`] and those of `blobs_of`. No manifest misses a blob then, and the next collection goes on.
pub fn collect<E: From<StorageError>>(
    backend: &dyn Backend,
    keep: impl Fn(u64) -> bool,
    blobs_of: impl Fn(&Region) -> Result<Vec<String>, E>,
    is_written: impl Fn(&str) -> bool,
) -> Result<Collected, E> {
    let (manifests, blobs) = (backend.manifests(), backend.blobs());
    let mut collected = Collected::default();
    let mut numbers = manifests.numbers()?;
    if numbers.pop().is_some() {
        numbers.retain(|&number| !keep(number));
        if !numbers.is_empty() {
            // The current one may be there for programs only, not for a power failure: those before it are still needed then.
            manifests.sync()?;
            numbers.iter().try_for_each(|&number| manifests.remove(number))?;
            collected.manifests = numbers;
        }
    }
    // None of those that are gone comes back, those of an earlier collection that failed among them.
    manifests.sync()?;
    // In this order: a blob that is listed and no longer being written is named by now, if it ever will be.
    let mut unneeded = blobs.names()?;
    unneeded.retain(|name| !is_written(name));
    let mut named = HashSet::new();
    for number in manifests.numbers()? {
        named.extend(blobs_of(&manifests.load(number)?)?);
    }
    unneeded.retain(|name| !named.contains(name));
    for name in unneeded {
        blobs.remove(&name)?;
        collected.blobs.push(name);
    }
    Ok(collected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Memory;

    /// A store in which manifest 1, 2, … name the blobs of these letters.
    fn store(manifests: &[&str], blobs: &str) -> Memory {
        let store = Memory::new();
        for name in blobs.chars() {
            store.blobs().create(&name.to_string()).unwrap().finish().unwrap();
        }
        for (before, names) in (0..).zip(manifests) {
            store.manifests().publish(before, names.as_bytes()).unwrap();
        }
        store
    }

    fn letters(content: &Region) -> Result<Vec<String>, StorageError> {
        Ok(content.iter().map(|&byte| char::from(byte).to_string()).collect())
    }

    /// What is removed, and that the rest is there.
    fn check(manifests: &[&str], keep: &[u64], written: &str, gone: &[u64], blobs_gone: &str) {
        let blobs = "abcdefg";
        let store = store(manifests, blobs);
        let collected =
            collect(&store, |number| keep.contains(&number), letters, |name| written.contains(name)).unwrap();
        assert_eq!((&*collected.manifests, &*collected.blobs.concat()), (gone, blobs_gone), "{manifests:?}");
        let left: String = store.blobs().names().unwrap().concat();
        assert_eq!(left, blobs.replace(|name| blobs_gone.contains(name), ""));
        let numbers: Vec<u64> =
            (1..=manifests.len() as u64).filter(|number| !gone.contains(number)).collect();
        assert_eq!(store.manifests().numbers().unwrap(), numbers);
        let again =
            collect(&store, |number| keep.contains(&number), letters, |name| written.contains(name)).unwrap();
        assert_eq!(again, Collected::default());
    }

    #[test]
    fn what_no_kept_manifest_names_goes() {
        check(&[], &[], "", &[], "abcdefg");
        check(&[], &[], "bd", &[], "acefg");
        check(&["ab"], &[], "", &[], "cdefg");
        check(&["ab", "bc", "cd"], &[], "", &[1, 2], "abefg");
        check(&["ab", "bc", "cd"], &[1], "", &[2], "efg");
        check(&["ab", "bc", "cd"], &[1, 2, 3], "g", &[], "ef");
        check(&["ab", "bc", ""], &[2], "a", &[1], "defg");
    }

    #[test]
    fn a_manifest_that_cannot_be_read_saves_all_blobs() {
        let store = store(&["ab", "?", "c"], "abcd");
        let read = |content: &Region| match &**content {
            b"?" => Err(StorageError::MissingSection { path: "m".into(), section: "s".to_owned() }),
            _ => letters(content),
        };
        let error = collect(&store, |number| number == 2, read, |_| false).unwrap_err();
        assert!(matches!(error, StorageError::MissingSection { .. }));
        assert_eq!(store.blobs().names().unwrap().concat(), "abcd");
        assert_eq!(collect(&store, |_| false, read, |_| false).unwrap().blobs.concat(), "abd");
    }

    /// A blob that gets its manifest, and is no longer being written, while blobs are collected.
    #[test]
    fn a_blob_that_is_published_meanwhile_stays() {
        let store = store(&["a"], "ab");
        let is_written = |name: &str| {
            if name == "b" {
                store.manifests().publish(1, b"b").unwrap();
            }
            false
        };
        let collected = collect(&store, |_| true, letters, is_written).unwrap();
        assert_eq!(collected, Collected::default());
        assert_eq!(store.blobs().names().unwrap().concat(), "ab");
    }
}
