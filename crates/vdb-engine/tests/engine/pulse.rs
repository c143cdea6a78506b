//! What a writer writes over and over, so that one look at a view tells whether a batch is half there and which was the last:
//! *lanes* of points that change together, in *rounds*, and a point that tells the round of its lane.

use serde_json::json;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use vdb_distance::Metric;
use vdb_engine::{
    Collection, CollectionConfig, Condition, Database, Effort, Operation, Options, Payload, Point, PointId,
    Search, Settings, VectorConfig, View,
};

pub(crate) const LANES: u64 = 3;
/// Points of a lane.
const POINTS: u64 = 14;
pub(crate) const NAME: &str = "pulse";
const FOLDER: &str = "VDB_ENGINE_TEST_FOLDER";

pub(crate) fn config() -> CollectionConfig {
    VectorConfig::new(3, Metric::Euclidean).into()
}

/// Seals and merges all the time, with graphs of few rows.
pub(crate) fn options() -> Options {
    let mut settings = Settings::default();
    (settings.seal_points, settings.least_graph_rows) = (60, 16);
    (settings.most_segments, settings.most_unindexed) = (2, 400);
    Options::new().settings(settings).threads(1).wal_file_bytes(20_000)
}

fn payload(round: u64) -> Payload {
    Payload::from_iter([("round".to_owned(), json!(round))])
}

fn clock_id(lane: u64) -> PointId {
    PointId::from(format!("clock {lane}"))
}

fn id(lane: u64, point: u64) -> PointId {
    PointId::from(lane * 1_000 + point)
}

fn point(lane: u64, number: u64, round: u64) -> Point {
    let vector = vec![(round % 1_000) as f32, lane as f32, number as f32 + 0.5];
    Point::new(id(lane, number), vector).with_payload(payload(round))
}

/// What a round of a lane does: it is made of whole points, of parts of them, or takes all away.
pub(crate) fn operations(lane: u64, round: u64) -> Vec<Operation<'static>> {
    let mut operations = Vec::new();
    for number in 0..POINTS {
        match round % 7 {
            6 => operations.push(Operation::Delete(id(lane, number))),
            3 => operations.push(Operation::SetPayload(id(lane, number), payload(round))),
            5 => {
                // Several of one point; the last one counts.
                operations.push(Operation::upsert(point(lane, number, round + 3)));
                operations.push(Operation::Delete(id(lane, number)));
                operations.push(Operation::upsert(point(lane, number, round)));
                operations.push(Operation::Upsert(point(lane, number, round + 9), Condition::Absent));
            }
            _ => operations.push(Operation::upsert(point(lane, number, round))),
        }
    }
    let clock = Point { vectors: [].into(), ..Point::new(clock_id(lane), vec![]) };
    operations.push(Operation::upsert(clock.with_payload(payload(round))));
    operations
}

/// The rounds that payload and vectors of a lane's points are of, after a round; none when they are gone.
fn expected(round: u64) -> Option<(u64, u64)> {
    match round % 7 {
        _ if round == 0 => None,
        6 => None,
        3 => Some((round, round - 1)),
        _ => Some((round, round)),
    }
}

/// The rounds of the lanes in a view, after a look at every point.
pub(crate) fn check(view: &View) -> Vec<u64> {
    let mut points = 0;
    let rounds = (0..LANES).map(|lane| {
        let clock = view.get(&clock_id(lane)).unwrap();
        points += usize::from(clock.is_some());
        let round = clock.map_or(0, |clock| clock.point.payload["round"].as_u64().expect("a number"));
        let expected = expected(round);
        for number in 0..POINTS {
            let found = view.get(&id(lane, number)).unwrap();
            let found = found.map(|stored| (stored.point.payload, stored.point.vectors));
            let expected =
                expected.map(|(own, of_vector)| (payload(own), point(lane, number, of_vector).vectors));
            assert_eq!(
                found,
                expected,
                "lane {lane}, round {round}, point {number}, version {}",
                view.version()
            );
            points += usize::from(found.is_some());
        }
        if let Some((_, of_vector)) = expected {
            let is_own = |id: &PointId, _: &Payload| matches!(id, PointId::Number(n) if n / 1_000 == lane);
            let query = [(of_vector % 1_000) as f32, lane as f32, 0.0];
            for effort in [Effort::Exact, Effort::Default] {
                let answer = view.search(&Search::new(&query, 100).filter(&is_own).effort(effort)).unwrap();
                let ids: Vec<PointId> = answer.hits.into_iter().map(|hit| hit.id).collect();
                let expected: Vec<PointId> = (0..POINTS).map(|number| id(lane, number)).collect();
                assert_eq!(ids, expected, "lane {lane}, round {round}, {effort:?}");
            }
        }
        round
    });
    let rounds: Vec<u64> = rounds.collect();
    assert_eq!(view.len(), points, "points that nobody wrote");
    let hits = view.search(&Search::new(&[500.0, 1.0, 1.0], 5)).unwrap().hits;
    assert!(hits.len() <= 5 && hits.iter().all(|hit| view.contains(&hit.id).unwrap()));
    rounds
}

/// A file that tells which rounds were acknowledged, to who looks before it refreshes.
#[derive(Debug)]
pub(crate) struct Board(File);

impl Board {
    pub(crate) fn open(folder: &Path) -> Self {
        let path = folder.join("board");
        Self(File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap())
    }

    pub(crate) fn tell(&self, lane: u64, round: u64) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&round.to_le_bytes());
        bytes[8..].copy_from_slice(&(!round).to_le_bytes());
        self.0.write_all_at(&bytes, lane * 16).unwrap();
    }

    pub(crate) fn look(&self) -> Vec<u64> {
        let look = |lane| loop {
            let mut bytes = [0; 16];
            if self.0.read_at(&mut bytes, lane * 16).unwrap() < 16 {
                return 0;
            }
            let [round, check] =
                [&bytes[..8], &bytes[8..]].map(|half| u64::from_le_bytes(half.try_into().unwrap()));
            if round == !check {
                return round;
            }
        };
        (0..LANES).map(look).collect()
    }
}

/// The folder that this process was started for.
fn folder() -> PathBuf {
    PathBuf::from(std::env::var_os(FOLDER).expect("the folder to work in"))
}

/// This program again, as another process.
pub(crate) fn start(test: &str, folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([&format!("pulse::{test}"), "--exact", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Ends a process by closing its input; it must have found no fault.
pub(crate) fn stop(mut child: Child) {
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success(), "a process found a fault");
}

/// Whether the process that started this one wants it to end.
fn is_over(input: &std::sync::mpsc::Receiver<()>) -> bool {
    !matches!(input.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty))
}

/// Says when the input ends.
fn watch_input() -> std::sync::mpsc::Receiver<()> {
    let (say, hear) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        drop(say);
    });
    hear
}

/// Opens the collection to write, making it when it is missing.
pub(crate) fn open(folder: &Path) -> (Database, std::sync::Arc<Collection>) {
    let database = options().open(folder.join("db")).unwrap();
    let collection = match database.names().is_empty() {
        true => database.create_collection(NAME, &config()).unwrap(),
        false => database.collection(NAME).unwrap(),
    };
    (database, collection)
}

#[test]
#[ignore = "a process of its own: writes until it is killed or its input ends"]
fn writer() {
    let folder = folder();
    let over = watch_input();
    let board = Board::open(&folder);
    let told = board.look();
    let (database, collection) = open(&folder);
    let mut rounds = check(&collection.view());
    assert!(
        rounds.iter().zip(&told).all(|(round, told)| round >= told),
        "{rounds:?} are left, {told:?} were acknowledged"
    );
    for turn in 0u64.. {
        if is_over(&over) {
            break;
        }
        let lane = turn * 7 % 5 % LANES;
        let round = rounds[lane as usize] + 1;
        collection.write(operations(lane, round), vdb_engine::Durability::Sync).unwrap();
        rounds[lane as usize] = round;
        board.tell(lane, round);
    }
    assert_eq!(check(&collection.view()), rounds);
    database.close().unwrap();
}

#[test]
#[ignore = "a process of its own: reads until its input ends"]
fn reader() {
    let folder = folder();
    let over = watch_input();
    let board = Board::open(&folder);
    let database = loop {
        match options().open_read_only(folder.join("db")) {
            Ok(database) if database.names() == [NAME] => break database,
            // The writer has not made it yet.
            Ok(_) | Err(vdb_engine::Error::NoDatabase { .. }) => {}
            Err(vdb_engine::Error::Storage(vdb_storage::StorageError::Io { source, .. }))
                if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => panic!("{error}"),
        }
        if is_over(&over) {
            return;
        }
    };
    let (mut rounds, mut version, mut looks) = (vec![0; LANES as usize], 0, 0u64);
    while !is_over(&over) {
        let told = board.look();
        database.refresh().unwrap();
        let view = database.collection(NAME).unwrap().view();
        assert!(view.version() >= version, "version {} after {version}", view.version());
        version = view.version();
        let seen = check(&view);
        let is_fresh = |least: &[u64]| seen.iter().zip(least).all(|(seen, least)| seen >= least);
        assert!(is_fresh(&told), "rounds {seen:?} after {told:?} were acknowledged");
        assert!(is_fresh(&rounds), "rounds {seen:?} after {rounds:?}");
        rounds = seen;
        looks += 1;
    }
    assert!(looks > 0, "it never came to read");
}
