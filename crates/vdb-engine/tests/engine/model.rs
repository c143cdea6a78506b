//! Random sequences of everything that can be done with a database, from one printed seed, beside an ordered map.
//!
//! `VDB_SEED` replays or changes the seed, `VDB_SEQUENCES` the number of sequences, for long runs.

use crate::oracle::{Model, Refusal};
use crate::workload::{Workload, settings};
use crate::{for_all_seeds, number};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use vdb_engine::{Collection, Database, Durability, Error, Options, PointId, Settings, View};
use vdb_storage::files::FileSystem;
use vdb_testkit::SimFiles;

const SEQUENCES: u64 = 6_000;
const STEPS: usize = 40;
const NAME: &str = "points";

/// Recall of answers that are not exact, and how many of what there were.
#[derive(Debug, Default)]
struct Tally {
    recalls: Vec<f64>,
    refused: u64,
    writes: u64,
    merges: u64,
    graphs: u64,
    reopened: u64,
    refreshed: u64,
    past: u64,
}

struct Sequence {
    work: Workload,
    files: SimFiles,
    settings: Settings,
    database: Option<Database>,
    collection: Arc<Collection>,
    model: Model,
    /// Views of before, and what they must stay.
    kept: Vec<(Arc<View>, Model)>,
    /// Opened to read only, and what it has seen.
    reader: Option<(Database, Model)>,
    /// Points of versions of before.
    past: BTreeMap<u64, Model>,
    snapshots: u64,
    tally: Tally,
}

/// What databases of these tests are opened with.
pub(crate) fn options(files: &SimFiles, settings: Settings, seed: u64) -> Options {
    let files: Arc<dyn FileSystem> = Arc::new(files.clone());
    Options::new()
        .files(files)
        .settings(settings)
        .background(false)
        .seed(seed)
        .wal_file_bytes(1_500)
        .clock(|| 0)
}

impl Sequence {
    fn new(seed: u64) -> Self {
        let mut work = Workload::new(seed);
        let (files, settings) = (SimFiles::new(), settings(&mut work.rng));
        let database = options(&files, settings, seed).open("db").unwrap();
        let config = work.config();
        let collection = database.create_collection(NAME, &config).unwrap();
        let mut model = Model::default();
        config.vectors.iter().for_each(|(name, config)| model.add_vector(name, *config));
        let (database, tally) = (Some(database), Tally::default());
        Self {
            work,
            files,
            settings,
            database,
            collection,
            model,
            kept: Vec::new(),
            reader: None,
            past: BTreeMap::new(),
            snapshots: 0,
            tally,
        }
    }

    fn database(&self) -> &Database {
        self.database.as_ref().expect("it is open but for a moment")
    }

    fn step(&mut self) {
        match self.work.below(40) {
            0..18 => self.write(),
            18..20 => self.collection.flush().unwrap(),
            20..23 => {
                self.collection.seal().unwrap();
            }
            23..26 => {
                self.tally.merges += u64::from(self.collection.merge_due().unwrap());
            }
            26 => self.collection.optimize().unwrap(),
            27 => self.change_fields(),
            28..30 => self.kept.push((self.collection.view(), self.model.clone())),
            30..32 => self.reopen(),
            32..35 => self.read_only(),
            35 => self.clone_it(),
            36 => self.snapshot(),
            37 => self.erase(),
            38 => self.expire(),
            _ => self.refusals(),
        }
        self.check();
    }

    fn write(&mut self) {
        let operations = self.work.batch(&self.model);
        let durability = [Durability::Sync, Durability::Interval, Durability::None][self.work.below(3)];
        let before = self.model.version;
        let expected = self.model.write(&operations);
        self.tally.writes += 1;
        match (self.collection.write(operations.clone(), durability), expected) {
            (Ok(written), Ok(skipped)) => {
                assert_eq!(
                    (written.version, written.skipped),
                    (self.model.version, skipped),
                    "{operations:?}"
                );
            }
            (Err(error), Err(refusal)) => {
                assert_eq!(Refusal::of(&error), Some(refusal), "{error}: {operations:?}");
                assert_eq!(self.model.version, before);
                self.tally.refused += 1;
            }
            (found, expected) => panic!("{found:?}, expected {expected:?}: {operations:?}"),
        }
    }

    fn change_fields(&mut self) {
        let name = ["", "second", "third"][self.work.below(3)];
        let config = self.work.field();
        if self.model.fields.contains_key(name) {
            let error = self.collection.add_vector(name, config).unwrap_err();
            assert!(matches!(error, Error::InvalidConfig { .. }), "{error}");
            self.collection.drop_vector(name).unwrap();
            self.model.drop_vector(name);
        } else {
            let error = self.collection.drop_vector(name).unwrap_err();
            assert!(matches!(error, Error::NoSuchField { .. }), "{error}");
            self.collection.add_vector(name, config).unwrap();
            self.model.add_vector(name, config);
        }
    }

    fn reopen(&mut self) {
        // Views outlive the database that they are of.
        let database = self.database.take().expect("it is open");
        if self.work.chance(0.5) {
            database.close().unwrap();
        } else {
            drop(database);
        }
        let seed = self.work.below(1_000) as u64;
        let database = options(&self.files, self.settings, seed).open("db").unwrap();
        assert_eq!(database.names(), [NAME]);
        self.collection = database.collection(NAME).unwrap();
        self.database = Some(database);
        self.tally.reopened += 1;
    }

    /// A second process that reads: it stays where it is until it is refreshed, and is where the writer is then.
    fn read_only(&mut self) {
        match self.reader.take() {
            Some(_) if self.work.chance(0.2) => {}
            Some((database, seen)) => {
                let collection = database.collection(NAME).unwrap();
                seen.check(&collection.view());
                let error = collection.write(Vec::new(), Durability::Sync).unwrap_err();
                assert!(matches!(error, Error::ReadOnly { .. }), "{error}");
                let is_new = database.refresh().unwrap();
                assert!(is_new || seen.version == self.model.version, "nothing new at {}", seen.version);
                self.tally.refreshed += u64::from(is_new);
                self.model.check(&database.collection(NAME).unwrap().view());
                self.work.search(&collection.view(), &self.model);
                self.reader = Some((database, self.model.clone()));
            }
            None => {
                let database = options(&self.files, self.settings, 0).open_read_only("db").unwrap();
                self.model.check(&database.collection(NAME).unwrap().view());
                self.reader = Some((database, self.model.clone()));
            }
        }
    }

    /// A clone holds the same, and goes its own way.
    fn clone_it(&mut self) {
        let clone = self.database().clone_collection(NAME, "clone").unwrap();
        self.model.check(&clone.view());
        let mut model = self.model.clone();
        let operations = self.work.batch(&model);
        if model.write(&operations).is_ok() {
            clone.write(operations, Durability::Sync).unwrap();
        }
        clone.optimize().unwrap();
        model.check(&clone.view());
        self.work.search(&clone.view(), &model);
        assert!(self.database().drop_collection("clone").unwrap());
        assert!(matches!(clone.write(Vec::new(), Durability::Sync), Err(Error::NoSuchCollection { .. })));
        // Who has it open reads on.
        model.check(&clone.view());
    }

    fn snapshot(&mut self) {
        self.snapshots += 1;
        let folder = format!("snapshot-{}", self.snapshots);
        self.database().snapshot(&folder).unwrap();
        assert!(matches!(self.database().snapshot(&folder), Err(Error::NotEmpty { .. })));
        let database = options(&self.files, self.settings, 9).open(&folder).unwrap();
        let collection = database.collection(NAME).unwrap();
        self.model.check(&collection.view());
        collection.verify().unwrap();
        let history = self.collection.history().unwrap();
        let &(number, version) = history.last().expect("there is a current state");
        assert_eq!(version, self.model.version, "all is sealed by a snapshot: {history:?}");
        self.model.check(&self.collection.view_at(number).unwrap());
        assert!(history.is_sorted(), "{history:?}");
        for (number, version) in history {
            let view = self.collection.view_at(number).unwrap();
            assert_eq!(view.version(), version);
            let Some(model) = self.past.get(&version) else { continue };
            let mut found: Vec<_> =
                view.points().map(Result::unwrap).map(|stored| (stored.point.id, stored.version)).collect();
            found.sort();
            let expected = model.points.iter().map(|(id, stored)| (id.clone(), stored.version));
            assert!(found.iter().cloned().eq(expected), "state {number}, version {version}: {found:?}");
            self.tally.past += 1;
        }
        drop((database, collection));
        self.files.remove_folder(Path::new(&folder)).unwrap();
    }

    /// Of what is erased no byte is left in any file.
    fn erase(&mut self) {
        let marker = format!("marker {} {}", self.model.version, self.work.below(1 << 30));
        let mut point = self.work.point(&self.model);
        point.id = PointId::from(format!("id of {marker}"));
        point.payload.insert("marker".to_owned(), marker.clone().into());
        let put = [vdb_engine::Operation::upsert(point.clone())];
        self.model.write(&put).unwrap();
        self.collection.write(put.to_vec(), Durability::None).unwrap();
        for _ in 0..self.work.below(3) {
            match self.work.below(4) {
                0 => self.collection.optimize().unwrap(),
                1 => drop(self.collection.seal().unwrap()),
                _ => self.write(),
            }
        }
        // Unless one of those writes took it away.
        let is_there = self.model.points.get(&point.id).is_some_and(|stored| stored.point == point);
        assert!(!is_there || holds(&self.files, &marker), "the marker cannot be found where it is");
        let ids = [point.id.clone(), self.work.known_id(&self.model), PointId::from("not there")];
        let deletes = ids.iter().cloned().map(vdb_engine::Operation::Delete).collect::<Vec<_>>();
        let there = ids
            .iter()
            .filter(|id| self.model.points.contains_key(id))
            .collect::<std::collections::BTreeSet<_>>()
            .len();
        self.model.write(&deletes).unwrap();
        let erased = self.collection.erase(&ids).unwrap();
        assert_eq!((erased.points, erased.version), (there, self.model.version));
        assert!(!holds(&self.files, &marker), "something of {marker:?} is left");
    }

    fn expire(&mut self) {
        let now = self.work.below(1_000) as u64;
        let has_come = |id: &&PointId| self.model.points[*id].point.expires_at.is_some_and(|at| at <= now);
        let due: Vec<_> = self.model.points.keys().filter(has_come).cloned().collect();
        let count = due.len();
        let deletes: Vec<_> = due.into_iter().map(vdb_engine::Operation::Delete).collect();
        self.model.write(&deletes).unwrap();
        assert_eq!(self.collection.expire(now).unwrap(), count);
    }

    /// What cannot be done is refused, and nothing changes.
    fn refusals(&mut self) {
        let database = self.database();
        assert!(
            matches!(options(&self.files, self.settings, 0).open("db"), Err(Error::Storage(_))),
            "two writers"
        );
        assert!(matches!(
            options(&self.files, self.settings, 0).open_read_only("no"),
            Err(Error::NoDatabase { .. } | Error::Storage(_))
        ));
        let config = vdb_engine::CollectionConfig { vectors: BTreeMap::new() };
        let create = |name: &str| database.create_collection(name, &config);
        assert!(matches!(create(NAME), Err(Error::CollectionExists { .. })));
        assert!(matches!(create(""), Err(Error::InvalidName { .. })));
        assert!(matches!(create("a\nb"), Err(Error::InvalidName { .. })));
        assert!(matches!(create(&"x".repeat(256)), Err(Error::InvalidName { .. })));
        assert!(matches!(database.collection("no"), Err(Error::NoSuchCollection { .. })));
        assert!(!database.drop_collection("no").unwrap());
        assert!(matches!(database.clone_collection("no", "clone"), Err(Error::NoSuchCollection { .. })));
        assert!(matches!(database.clone_collection(NAME, NAME), Err(Error::CollectionExists { .. })));
    }

    fn check(&mut self) {
        self.past.entry(self.model.version).or_insert_with(|| self.model.clone());
        let view = self.collection.view();
        self.model.check(&view);
        for _ in 0..2 {
            let id = self.work.id();
            self.model.check_id(&view, &id);
            let id = self.work.known_id(&self.model);
            self.model.check_id(&view, &id);
        }
        for _ in 0..2 {
            self.tally.recalls.extend(self.work.search(&view, &self.model));
        }
        let info = self.collection.info();
        assert_eq!((info.version, info.points), (self.model.version, self.model.points.len()));
        self.tally.graphs += u64::from(info.indexed_segments > 0);
        if !self.kept.is_empty() {
            let place = self.work.below(self.kept.len());
            let (view, model) = &self.kept[place];
            model.check(view);
            let id = self.work.id();
            model.check_id(view, &id);
            self.work.search(view, model);
            if self.kept.len() > 4 || self.work.chance(0.1) {
                self.kept.remove(place);
            }
        }
    }
}

/// Whether some file of the database holds a text.
fn holds(files: &SimFiles, text: &str) -> bool {
    fn search(files: &SimFiles, folder: &Path, text: &[u8]) -> bool {
        files.list(folder).unwrap().into_iter().any(|name| {
            let path = folder.join(name);
            match files.open(&path) {
                Ok(file) => {
                    let bytes = file.map().unwrap();
                    bytes.windows(text.len()).any(|window| window == text)
                }
                Err(_) => search(files, &path, text),
            }
        })
    }
    search(files, Path::new("db"), text.as_bytes())
}

fn run(seed: u64) -> Tally {
    let mut sequence = Sequence::new(seed);
    for _ in 0..STEPS {
        sequence.step();
    }
    sequence.collection.verify().unwrap();
    for (view, model) in &sequence.kept {
        model.check(view);
    }
    sequence.tally
}

#[test]
fn sequences_are_as_an_ordered_map_and_brute_force() {
    let (first, sequences) = (number("VDB_SEED", 1), number("VDB_SEQUENCES", SEQUENCES));
    println!("{sequences} sequences from VDB_SEED={first} on");
    let total = Mutex::new(Tally::default());
    for_all_seeds(first, sequences, "VDB_SEQUENCES", |seed| {
        let tally = run(seed);
        let mut total = total.lock().unwrap();
        total.recalls.extend(tally.recalls);
        total.refused += tally.refused;
        total.writes += tally.writes;
        total.merges += tally.merges;
        total.graphs += tally.graphs;
        total.reopened += tally.reopened;
        total.refreshed += tally.refreshed;
        total.past += tally.past;
    });
    let total = total.into_inner().unwrap();
    let recall = total.recalls.iter().sum::<f64>() / total.recalls.len().max(1) as f64;
    println!(
        "{} writes, {} refused, {} merges, {} steps with a graph, {} reopened, {} refreshed, recall {recall:.4} of {} searches",
        total.writes,
        total.refused,
        total.merges,
        total.graphs,
        total.reopened,
        total.refreshed,
        total.recalls.len()
    );
    if sequences >= 100 {
        // What is to be common is.
        for (what, count) in [
            ("refused", total.refused),
            ("merges", 3 * total.merges),
            ("graphs", total.graphs),
            ("reopened", total.reopened),
            ("refreshed", total.refreshed),
            ("past", total.past),
            ("approximate", total.recalls.len() as u64),
        ] {
            assert!(count > sequences / 2, "{what}: {count} in {sequences} sequences");
        }
        assert!(recall > 0.9, "recall {recall}");
    }
}
