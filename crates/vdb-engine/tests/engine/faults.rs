//! Calls that fail, each once, and a disk that is full: errors, never a panic. What was refused is not there, what was
//! acknowledged is, and after `Stopped` the database is opened again and goes on.

use crate::model::options;
use crate::oracle::{Model, Refusal};
use crate::story::{NEVER, Story};
use crate::workload::{Workload, settings};
use crate::{for_all_seeds, number};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vdb_engine::{Collection, Database, Durability, Error, Operation, Options, PointId, Settings};
use vdb_storage::StorageError;
use vdb_testkit::{Loss, SimFiles};

const SEEDS: u64 = 6;
const STEPS: usize = 22;
const FULL_SEEDS: u64 = 300;

struct Run {
    work: Workload,
    files: SimFiles,
    settings: Settings,
    seed: u64,
    open: Option<(Database, Arc<Collection>)>,
    model: Model,
    story: Story,
    /// The disk is full at times.
    fills: bool,
    errors: u64,
    stopped: u64,
}

fn is_stopped(error: &Error) -> bool {
    matches!(error, Error::Storage(StorageError::Stopped { .. }))
}

impl Run {
    /// With a disk whose n-th call fails.
    fn new(seed: u64, files: SimFiles) -> Self {
        let mut work = Workload::new(seed);
        let settings = settings(&mut work.rng);
        let config = work.config();
        let mut model = Model::default();
        config.vectors.iter().for_each(|(name, config)| model.add_vector(name, *config));
        let mut errors = 0;
        // One call fails; but a collection that could not be made may be there afterwards, as its name tells.
        let open = loop {
            let made = options(&files, settings, seed).open("db").and_then(|database| {
                let collection = match database.collection("points") {
                    Err(Error::NoSuchCollection { .. }) => database.create_collection("points", &config)?,
                    found => found?,
                };
                Ok((database, collection))
            });
            match made {
                Ok(open) => break open,
                Err(error) => {
                    errors += 1;
                    assert!(errors < 3, "{error}");
                }
            }
        };
        let story = Story::new(&model, 0, files.changes());
        Self { work, files, settings, seed, open: Some(open), model, story, fills: false, errors, stopped: 0 }
    }

    fn options(&self) -> Options {
        options(&self.files, self.settings, self.seed + self.errors)
    }

    fn collection(&self) -> Arc<Collection> {
        Arc::clone(&self.open.as_ref().expect("it is open").1)
    }

    /// Opens it again; an attempt fails when the call to fail is one of its, or while the disk is full.
    fn reopen(&mut self) {
        self.open = None;
        for attempt in 0.. {
            let opened = self.options().open("db").and_then(|database| {
                let collection = database.collection("points")?;
                Ok((database, collection))
            });
            match opened {
                Ok(open) => {
                    self.open = Some(open);
                    return;
                }
                Err(error) => {
                    assert!(attempt < 3, "{error}");
                    self.errors += 1;
                    self.files.limit(u64::MAX);
                }
            }
        }
    }

    /// Something failed that changes no point; says whether to go on from a new opening.
    fn failed(&mut self, error: &Error) {
        assert!(
            matches!(error, Error::Storage(StorageError::Io { .. } | StorageError::Stopped { .. })),
            "{error}"
        );
        self.errors += 1;
        if is_stopped(error) {
            self.stopped += 1;
            self.reopen();
        }
    }

    fn step(&mut self) {
        if self.fills && self.work.chance(0.3) {
            let room = [0, 40, 300, 2_000][self.work.below(4)];
            self.files.limit(self.files.bytes() + room);
        }
        let began = self.files.changes();
        let collection = self.collection();
        match self.work.below(24) {
            0..12 => self.write(),
            12 => match collection.flush() {
                Ok(()) => self.story.synced(self.files.changes()),
                Err(error) => self.failed(&error),
            },
            13..15 => {
                if let Err(error) = collection.seal() {
                    self.failed(&error);
                }
            }
            15..18 => {
                if let Err(error) = collection.merge_due() {
                    self.failed(&error);
                }
            }
            18 => {
                if let Err(error) = collection.optimize() {
                    self.failed(&error);
                }
            }
            19 => self.change_fields(began),
            20 => self.read_only(),
            21 => {
                let open = self.open.take();
                drop(collection);
                if let Some((database, held)) = open {
                    drop(held);
                    if self.work.chance(0.5) && database.close().is_err() {
                        self.errors += 1;
                    }
                }
                self.reopen();
                return self.check();
            }
            22 => self.files.limit(u64::MAX),
            _ => {
                let ids = [self.work.known_id(&self.model)];
                self.attempt(ids.iter().cloned().map(Operation::Delete).collect(), Durability::Sync);
            }
        }
        self.check();
    }

    fn write(&mut self) {
        let operations = self.work.batch(&self.model);
        let durability = [Durability::Sync, Durability::Sync, Durability::None][self.work.below(3)];
        self.attempt(operations, durability);
    }

    fn attempt(&mut self, operations: Vec<Operation<'static>>, durability: Durability) {
        let began = self.files.changes();
        let before = self.model.clone();
        match self.collection().write(operations.clone(), durability) {
            Ok(written) => {
                // Numbers of writes that failed are left out.
                assert_eq!(self.model.write_as(written.version, &operations), Ok(written.skipped));
                assert_eq!(written.version, self.model.version);
                self.story.wrote(&self.model, began, self.files.changes());
                if durability == Durability::Sync {
                    self.story.synced(self.files.changes());
                }
            }
            Err(error) if Refusal::of(&error).is_some() => {
                // Nobody is told which version it would have become, and a condition may ask for it.
                let versions = before.version + 1..before.version + 40;
                let refusals = versions.map(|version| before.clone().write_as(version, &operations).err());
                assert!(refusals.into_iter().any(|refusal| refusal == Refusal::of(&error)), "{error}");
            }
            Err(error) => {
                self.failed(&error);
                if is_stopped(&error) {
                    // It is there as a whole or not at all, and stays so.
                    let version = self.collection().view().version();
                    if version > self.model.version && self.model.write_as(version, &operations).is_ok() {
                        self.story.wrote(&self.model, began, NEVER);
                    }
                }
            }
        }
    }

    fn change_fields(&mut self, began: usize) {
        let mut model = self.model.clone();
        let collection = self.collection();
        let name = ["second", "third"][self.work.below(2)];
        let done = if model.fields.contains_key(name) {
            model.drop_vector(name);
            collection.drop_vector(name)
        } else {
            let config = self.work.field();
            model.add_vector(name, config);
            collection.add_vector(name, config)
        };
        drop(collection);
        match done {
            Ok(()) => {
                self.model = model;
                self.story.changed_fields(&self.model, began, self.files.changes());
            }
            Err(error) => {
                self.failed(&error);
                if is_stopped(&error) {
                    let view = self.collection().view();
                    if view.vectors().map(|field| field.0).eq(model.fields.keys().map(String::as_str)) {
                        self.model = model;
                        self.story.changed_fields(&self.model, began, NEVER);
                    }
                }
            }
        }
    }

    /// One that reads sees everything after it was refreshed without an error, whatever failed before.
    fn read_only(&mut self) {
        let Ok(database) = self.options().open_read_only("db") else {
            self.errors += 1;
            return;
        };
        let Ok(reader) = database.collection("points") else {
            // Put aside, for a call that failed.
            self.errors += 1;
            return;
        };
        self.write();
        self.write();
        for _ in 0..3 {
            match reader.refresh() {
                Ok(_) => {
                    self.model.check(&reader.view());
                    return;
                }
                Err(error) => {
                    assert!(matches!(error, Error::Storage(StorageError::Io { .. })), "{error}");
                    self.errors += 1;
                }
            }
        }
        panic!("it cannot be refreshed");
    }

    fn check(&mut self) {
        let view = self.collection().view();
        self.model.check(&view);
        let id = self.work.known_id(&self.model);
        self.model.check_id(&view, &id);
        self.work.search(&view, &self.model);
    }

    /// The end: what is left, with and without a power failure.
    fn end(mut self) {
        self.files.limit(u64::MAX);
        self.reopen();
        self.check();
        self.open = None;
        let now = self.files.changes();
        let left = self.files.after(now, Loss::Everything);
        for (left, power_failed) in [(left, true), (self.files.clone(), false)] {
            let database = options(&left, self.settings, 7).open("db").unwrap();
            let collection = database.collection("points").unwrap();
            let mut model = self.story.check(&collection.view(), now, power_failed);
            collection.verify().unwrap();
            let operations = vec![Operation::upsert(vdb_engine::Point {
                id: PointId::from("on"),
                ..self.work.point(&model)
            })];
            let version = model.version;
            model.write(&operations).unwrap();
            model.renumber(version + 1, collection.write(operations, Durability::Sync).unwrap().version);
            collection.optimize().unwrap();
            model.check(&collection.view());
        }
    }
}

fn run(seed: u64, files: SimFiles) -> Run {
    let mut run = Run::new(seed, files);
    for _ in 0..STEPS {
        run.step();
    }
    run
}

#[test]
fn every_call_failing_once() {
    let (first, seeds) = (number("VDB_SEED", 1), number("VDB_FAULT_SEEDS", SEEDS));
    let (runs, reported, stopped) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    for_all_seeds(first, seeds, "VDB_FAULT_SEEDS", |seed| {
        let files = SimFiles::new();
        let untouched = run(seed, files.clone());
        assert_eq!(untouched.errors, 0);
        let calls = files.calls();
        untouched.end();
        let kinds = [ErrorKind::Other, ErrorKind::StorageFull, ErrorKind::PermissionDenied];
        for call in 1..=calls {
            // Which kind it is matters little but for where it is asked for.
            let kind = kinds[(call + seed) as usize % kinds.len()];
            let failed = std::panic::catch_unwind(|| {
                let files = SimFiles::new();
                files.fail(call, kind);
                let run = run(seed, files);
                reported.fetch_add(u64::from(run.errors > 0), Ordering::Relaxed);
                stopped.fetch_add(u64::from(run.stopped > 0), Ordering::Relaxed);
                run.end();
            });
            assert!(failed.is_ok(), "seed {seed}, call {call} of {calls}, {kind:?}");
            runs.fetch_add(1, Ordering::Relaxed);
        }
    });
    let [runs, reported, stopped] = [runs, reported, stopped].map(AtomicU64::into_inner);
    println!(
        "{runs} failing calls, {reported} reported, {stopped} stopped the writer, the others made up for"
    );
    assert!(reported * 2 > runs, "{reported} of {runs}");
    assert!(stopped * 50 > runs, "{stopped} of {runs}");
}

#[test]
fn a_full_disk_is_an_error_and_writing_goes_on_when_there_is_room() {
    let (first, seeds) = (number("VDB_SEED", 1), number("VDB_FULL_SEEDS", FULL_SEEDS));
    let errors = AtomicU64::new(0);
    for_all_seeds(first, seeds, "VDB_FULL_SEEDS", |seed| {
        let mut run = Run::new(seed, SimFiles::new());
        run.fills = true;
        for _ in 0..2 * STEPS {
            run.step();
        }
        errors.fetch_add(run.errors, Ordering::Relaxed);
        run.end();
    });
    let errors = errors.into_inner();
    println!("{errors} errors of full disks in {seeds} sequences");
    assert!(errors > seeds, "{errors} errors of full disks");
}
