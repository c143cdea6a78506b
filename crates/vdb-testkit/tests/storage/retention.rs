//! Collection of manifests and blobs: no crash leaves a manifest that names a blob which is gone.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Write};
use std::sync::Arc;
use vdb_storage::{Backend, LocalDir, Region, StorageError, collect};
use vdb_testkit::{Loss, SimFiles};

const SEEDS: u64 = 10;
const STEPS: usize = 50;

fn store(files: &SimFiles) -> LocalDir {
    LocalDir::new(Arc::new(files.clone()), "db", 1)
}

fn names(manifest: &Region) -> Result<Vec<String>, StorageError> {
    let text = std::str::from_utf8(manifest).expect("a manifest is text");
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

fn content(name: &str) -> Vec<u8> {
    name.repeat(9).into_bytes()
}

fn write(backend: &LocalDir, name: &str) {
    let mut blob = backend.blobs().create(name).unwrap();
    blob.write_all(&content(name)).unwrap();
    blob.finish().unwrap();
}

/// What must be there after how many changes, and up to how many.
#[derive(Default)]
struct Promises {
    manifests: BTreeMap<u64, (usize, usize)>,
}

impl Promises {
    fn promise(&mut self, number: u64, files: &SimFiles) {
        self.manifests.entry(number).or_insert((files.changes(), usize::MAX));
    }
}

fn work(files: &SimFiles, seed: u64) -> (Promises, usize) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut promises = Promises::default();
    let mut backend = store(files);
    backend.create().unwrap();
    let (mut named, mut written): (Vec<String>, BTreeSet<String>) = Default::default();
    let mut removed = 0;
    for step in 0..STEPS {
        let current = backend.manifests().current().unwrap().map_or(0, |(number, _)| number);
        match rng.random_range(0..8) {
            0..2 => {
                let name = format!("b{step}");
                written.insert(name.clone());
                write(&backend, &name);
            }
            2..5 => {
                named.retain(|_| rng.random_bool(0.7));
                named.extend(written.iter().cloned());
                // The process ends before it is known whether the name is durable: at the sync of the folder, the sixth call.
                let ends = rng.random_bool(0.3);
                if ends {
                    files.fail(6, ErrorKind::Other);
                }
                match backend.manifests().publish(current, named.join(" ").as_bytes()) {
                    Ok(number) => promises.promise(number, files),
                    Err(StorageError::Stopped { .. }) if ends => backend = store(files),
                    Err(error) => panic!("{error}"),
                }
                written.clear();
            }
            _ => {
                let keep = |number: u64| number.is_multiple_of(3) && number + 6 > current;
                for (_, until) in
                    promises.manifests.range_mut(..current).filter(|(n, _)| !keep(**n)).map(|(_, p)| p)
                {
                    *until = files.changes().min(*until);
                }
                let collected = collect(&backend, keep, names, |name| written.contains(name)).unwrap();
                removed += collected.blobs.len();
                for number in backend.manifests().numbers().unwrap() {
                    assert!(number == current || keep(number));
                    promises.promise(number, files);
                }
                let mut left: BTreeSet<String> = backend.blobs().names().unwrap().into_iter().collect();
                left.retain(|name| !written.contains(name));
                let all = backend.manifests().numbers().unwrap().into_iter();
                let needed =
                    all.flat_map(|n| names(&backend.manifests().load(n).unwrap()).unwrap()).collect();
                assert_eq!(left, needed, "what is left is what is needed");
            }
        }
    }
    (promises, removed)
}

fn check(left: &SimFiles, promises: &Promises, by: usize) {
    let backend = store(left);
    let Ok(numbers) = backend.manifests().numbers() else {
        assert_eq!(by, 0);
        return;
    };
    for (number, (from, until)) in &promises.manifests {
        assert!(by < *from || by > *until || numbers.contains(number), "manifest {number} is gone");
    }
    // The current one is among those that are promised, or newer.
    let promised = promises.manifests.iter().filter(|(_, (from, _))| *from <= by).map(|(n, _)| *n).max();
    assert!(numbers.last().copied() >= promised, "{numbers:?}, {promised:?}");
    for number in numbers {
        for name in names(&backend.manifests().load(number).unwrap()).unwrap() {
            let blob = backend.blobs().open(&name).and_then(|blob| blob.map());
            let blob = blob.unwrap_or_else(|error| panic!("manifest {number}: {error}"));
            assert!(*blob == content(&name)[..], "manifest {number}: {name}");
        }
    }
}

#[test]
fn no_crash_leaves_a_manifest_without_one_of_its_blobs() {
    let (mut images, mut removed) = (0, 0);
    for seed in 0..SEEDS {
        let files = SimFiles::new();
        let (promises, blobs) = work(&files, seed);
        removed += blobs;
        for by in 1..=files.changes() {
            let random = (0..8).map(|i| Loss::Random(seed << 40 | (by as u64) << 8 | i));
            for loss in [Loss::Nothing, Loss::Everything].into_iter().chain(random) {
                let caught = std::panic::catch_unwind(|| check(&files.after(by, loss), &promises, by));
                assert!(caught.is_ok(), "seed {seed}, after {by} changes, {loss:?}");
                images += 1;
            }
        }
    }
    println!("{images} crash images, {removed} blobs collected");
    assert!(images > 10_000 && removed > 50, "{images} images, {removed} blobs");
}

/// A call that fails leaves all that is needed, and the next collection goes on.
#[test]
fn every_call_failing_once() {
    let disk = || {
        let files = SimFiles::new();
        let backend = store(&files);
        backend.create().unwrap();
        ["a", "b", "c", "d"].iter().for_each(|name| write(&backend, name));
        for (before, content) in (0..).zip(["a", "a b", "b c", "c"]) {
            backend.manifests().publish(before, content.as_bytes()).unwrap();
        }
        files
    };
    let run = |files: &SimFiles| collect(&store(files), |number| number == 3, names, |_| false);
    let files = disk();
    let before = files.calls();
    let collected = run(&files).unwrap();
    assert_eq!((collected.manifests, collected.blobs.concat()), (vec![1, 2], "ad".to_owned()));
    for call in 1..=files.calls() - before {
        let files = disk();
        files.fail(call, ErrorKind::Other);
        run(&files).unwrap_err();
        let nothing = Promises::default();
        for left in [files.clone(), files.after(files.changes(), Loss::Everything)] {
            check(&left, &nothing, usize::MAX);
            run(&left).unwrap();
            check(&left, &nothing, usize::MAX);
            let backend = store(&left);
            assert_eq!(backend.manifests().numbers().unwrap(), [3, 4], "call {call}");
            assert_eq!(backend.blobs().names().unwrap(), ["b", "c"], "call {call}");
        }
    }
}

/// After a sync that failed nobody knows which manifests a power failure would leave.
#[test]
fn a_failed_sync_stops_the_store() {
    let files = SimFiles::new();
    let backend = store(&files);
    backend.create().unwrap();
    write(&backend, "a");
    for before in 0..2 {
        backend.manifests().publish(before, b"").unwrap();
    }
    // After the list of manifests.
    files.fail(2, ErrorKind::Other);
    let collect = |backend: &LocalDir| collect(backend, |_| false, names, |_| false);
    for _ in 0..2 {
        assert!(matches!(collect(&backend), Err(StorageError::Stopped { .. })));
        assert!(matches!(backend.manifests().publish(2, b""), Err(StorageError::Stopped { .. })));
    }
    assert_eq!(backend.manifests().numbers().unwrap(), [1, 2]);
    assert_eq!(collect(&store(&files)).unwrap().blobs, ["a"]);
}
