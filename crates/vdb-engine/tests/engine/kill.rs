//! A writing process, with its threads that seal and merge, that is killed again and again, while two others read. What was
//! acknowledged is there, no batch is half there, and readers see no fault.
//!
//! `VDB_KILLS` is how often it is killed.

use crate::number;
use crate::pulse::{Board, NAME, check, options, start, stop};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::Duration;

const KILLS: u64 = 200;

#[test]
fn a_killed_writer_loses_nothing_and_readers_see_no_fault() {
    let kills = number("VDB_KILLS", KILLS);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let board = Board::open(folder);
    let readers: Vec<_> = (0..2).map(|_| start("reader", folder)).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(number("VDB_SEED", 1));
    let mut empty = 0;
    for kill in 0..kills {
        let before = board.look();
        let mut writer = start("writer", folder);
        // From the midst of opening to some hundred batches.
        std::thread::sleep(Duration::from_millis(rng.random_range(0..250)));
        assert!(writer.try_wait().unwrap().is_none(), "kill {kill}: the writer found a fault");
        writer.kill().unwrap();
        writer.wait().unwrap();
        let told = board.look();
        empty += u64::from(told == before);
        if told.iter().all(|round| *round == 0) {
            continue;
        }
        let database = options().open_read_only(folder.join("db")).unwrap();
        let seen = check(&database.collection(NAME).unwrap().view());
        assert!(
            seen.iter().zip(&told).all(|(seen, told)| seen >= told),
            "kill {kill}: {seen:?} are left of {told:?}"
        );
    }
    readers.into_iter().for_each(stop);
    let writer = start("writer", folder);
    std::thread::sleep(Duration::from_millis(100));
    stop(writer);
    let rounds: u64 = board.look().iter().sum();
    println!("{kills} kills, {rounds} batches acknowledged, nothing between {empty} of the kills");
    assert!(rounds > kills && empty < kills * 3 / 4, "{rounds} batches, {empty} kills before any");
}
