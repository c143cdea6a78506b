//! Power failures and ended processes: a seeded workload on a disk in memory, looked at as it is left after every single change,
//! with several kinds of loss each. What was acknowledged must be there, what was not is there as a whole or not at all, and
//! the database can be written to and opened again.

use crate::model::options;
use crate::oracle::Model;
use crate::story::{NEVER, Story};
use crate::workload::{Workload, settings};
use crate::{for_all_seeds, number};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vdb_distance::Metric;
use vdb_engine::{
    Collection, Database, Durability, Error, Operation, Point, PointId, Settings, VectorConfig,
};
use vdb_testkit::{Loss, SimFiles};

const SEEDS: u64 = 14;
const STEPS: usize = 26;

/// A collection's story, and when it was dropped.
#[derive(Debug)]
struct Life {
    name: &'static str,
    story: Story,
    drop_began: usize,
    drop_ended: usize,
}

struct Run {
    work: Workload,
    files: SimFiles,
    settings: Settings,
    seed: u64,
    database: Option<Database>,
    open: BTreeMap<&'static str, (Arc<Collection>, Model, usize)>,
    lives: Vec<Life>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut work = Workload::new(seed);
        let (files, settings) = (SimFiles::new(), settings(&mut work.rng));
        let database = Some(options(&files, settings, seed).open("db").unwrap());
        let mut run =
            Self { work, files, settings, seed, database, open: BTreeMap::new(), lives: Vec::new() };
        run.create("points");
        run
    }

    fn database(&self) -> &Database {
        self.database.as_ref().expect("it is open")
    }

    fn create(&mut self, name: &'static str) {
        let config = self.work.config();
        let mut model = Model::default();
        config.vectors.iter().for_each(|(name, config)| model.add_vector(name, *config));
        let began = self.files.changes();
        let collection = self.database().create_collection(name, &config).unwrap();
        let story = Story::new(&model, began, self.files.changes());
        self.open.insert(name, (collection, model, self.lives.len()));
        self.lives.push(Life { name, story, drop_began: NEVER, drop_ended: NEVER });
    }

    fn step(&mut self) {
        let names: Vec<&'static str> = self.open.keys().copied().collect();
        let name = names[self.work.below(names.len())];
        let (collection, model, life) = self.open.get_mut(name).expect("it is open");
        let story = &mut self.lives[*life].story;
        let began = self.files.changes();
        match self.work.below(30) {
            0..15 => {
                let operations = self.work.batch(model);
                let durability = [Durability::Sync, Durability::Sync, Durability::None][self.work.below(3)];
                if model.write(&operations).is_ok() {
                    collection.write(operations, durability).unwrap();
                    story.wrote(model, began, self.files.changes());
                    if durability == Durability::Sync {
                        story.synced(self.files.changes());
                    }
                }
            }
            15 => {
                collection.flush().unwrap();
                story.synced(self.files.changes());
            }
            16..18 => drop(collection.seal().unwrap()),
            18..21 => drop(collection.merge_due().unwrap()),
            21 => collection.optimize().unwrap(),
            22..24 => {
                let name = ["second", "third"][self.work.below(2)];
                if model.fields.contains_key(name) {
                    collection.drop_vector(name).unwrap();
                    model.drop_vector(name);
                } else {
                    let config = self.work.field();
                    collection.add_vector(name, config).unwrap();
                    model.add_vector(name, config);
                }
                story.changed_fields(model, began, self.files.changes());
            }
            24 => {
                let ids = [self.work.known_id(model), PointId::from("not there")];
                let deletes: Vec<_> = ids.iter().cloned().map(Operation::Delete).collect();
                model.write(&deletes).unwrap();
                collection.erase(&ids).unwrap();
                story.wrote(model, began, self.files.changes());
                story.synced(self.files.changes());
            }
            25 => {
                if self.open.contains_key("other") {
                    assert!(self.database().drop_collection("other").unwrap());
                    let (_, _, life) = self.open.remove("other").expect("it was there");
                    (self.lives[life].drop_began, self.lives[life].drop_ended) =
                        (began, self.files.changes());
                } else {
                    self.create("other");
                }
            }
            _ => {
                // The process ends, perhaps without a word, and starts again; the machine stays.
                let database = self.database.take().expect("it is open");
                if self.work.chance(0.2) {
                    database.close().unwrap();
                } else {
                    drop(database);
                }
                let seed = self.seed + began as u64;
                self.database = Some(options(&self.files, self.settings, seed).open("db").unwrap());
                for (name, (collection, ..)) in &mut self.open {
                    *collection = self.database.as_ref().expect("it was opened").collection(name).unwrap();
                }
            }
        }
    }

    /// Holds what is left against what was promised by then.
    fn check(&self, left: &SimFiles, by: usize, power_failed: bool, draw: u64) {
        let database = options(left, self.settings, draw).open("db").unwrap();
        let mut found = Vec::new();
        for life in &self.lives {
            let (began, ended) = life.story.created();
            let may = began < by && by < life.drop_ended;
            let must = ended <= by && by <= life.drop_began;
            match database.collection(life.name) {
                Ok(collection) if may => {
                    let model = life.story.check(&collection.view(), by, power_failed);
                    collection.verify().unwrap();
                    found.push((collection, model));
                }
                // Another one of this name, before it or after it.
                Ok(_) => assert!(self.lives.iter().filter(|other| other.name == life.name).count() > 1),
                Err(Error::NoSuchCollection { .. }) => assert!(!must, "{} is gone", life.name),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(database.names().len(), found.len(), "collections that nobody made");
        // It can be written on; what is written is there after another failure, behind the rest.
        let mut work = Workload::new(draw);
        for (collection, model) in &mut found {
            match work.below(4) {
                0 => drop(collection.seal().unwrap()),
                1 => drop(collection.merge_due().unwrap()),
                _ => {}
            }
            let point = Point { id: PointId::from("on"), ..work.point(model) };
            let operations = vec![Operation::upsert(point), Operation::Delete(work.known_id(model))];
            let version = model.version;
            model.write(&operations).unwrap();
            let written = collection.write(operations, Durability::Sync).unwrap();
            // Numbers of what was lost may be left out.
            assert!(written.version > version);
            model.renumber(version + 1, written.version);
            if work.below(4) == 0 {
                collection.optimize().unwrap();
            }
            model.check(&collection.view());
            work.search(&collection.view(), model);
        }
        drop(database);
        let again = left.after(left.changes(), Loss::Everything);
        let database = options(&again, self.settings, draw + 1).open("db").unwrap();
        for (collection, model) in &found {
            model.check(&database.collection(collection.name()).unwrap().view());
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_half_appears() {
    let (first, seeds) = (number("VDB_SEED", 1), number("VDB_CRASH_SEEDS", SEEDS));
    println!("{seeds} workloads from VDB_SEED={first} on");
    let images = AtomicU64::new(0);
    for_all_seeds(first, seeds, "VDB_CRASH_SEEDS", |seed| {
        let mut run = Run::new(seed);
        for _ in 0..STEPS {
            run.step();
        }
        for by in 1..=run.files.changes() {
            let mut losses = vec![Loss::Nothing, Loss::Everything];
            losses.extend((0..3).map(|i| Loss::Random(seed << 40 | (by as u64) << 8 | i)));
            if let Some(length) = run.files.write_at(by) {
                let edges = [0, 7, 24, length / 2, length - 1];
                losses.extend(edges.into_iter().filter(|&edge| edge < length).map(Loss::Torn));
            }
            for (i, loss) in losses.into_iter().enumerate() {
                let draw = seed << 32 | (by as u64) << 8 | i as u64;
                let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    run.check(&run.files.after(by, loss), by, loss != Loss::Nothing, draw);
                }));
                assert!(
                    checked.is_ok(),
                    "seed {seed}, after {by} of {} changes, {loss:?}",
                    run.files.changes()
                );
                images.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let images = images.into_inner();
    // Not by `println!`, which tests that pass keep to themselves.
    writeln!(std::io::stderr(), "{images} crash images").unwrap();
    assert!(images >= 10_000 || seeds < SEEDS, "only {images} crash images");
}

/// What a killed process left in the operating system's memory is not durable because somebody else has read it: a merge that
/// leaves out what it replaced must see to that first.
#[test]
fn a_merge_after_a_kill_counts_on_nothing_that_a_power_failure_takes() {
    let files = SimFiles::new();
    let mut settings = Settings::default();
    (settings.seal_points, settings.most_segments) = (1_000, 1);
    let database = options(&files, settings, 1).open("db").unwrap();
    let collection =
        database.create_collection("points", &VectorConfig::new(1, Metric::Euclidean).into()).unwrap();
    for round in 0..3u64 {
        let points = (0..4).map(|i| Point::new(4 * round + i, vec![round as f32])).collect();
        collection.upsert(points).unwrap();
        collection.seal().unwrap();
    }
    // Replaces a point that was acknowledged, and is not waited for.
    collection.write(vec![Operation::upsert(Point::new(1, vec![9.0]))], Durability::None).unwrap();
    drop((collection, database));
    let database = options(&files, settings, 2).open("db").unwrap();
    assert!(database.collection("points").unwrap().merge_due().unwrap());
    let left = files.after(files.changes(), Loss::Everything);
    let database = options(&left, settings, 3).open("db").unwrap();
    let view = database.collection("points").unwrap().view();
    assert!(view.contains(&PointId::from(1)).unwrap(), "a point is lost that was acknowledged");
    assert_eq!(view.len(), 12);
}
