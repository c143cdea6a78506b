//! Sixteen processes that read beside one that writes: no error, and no stale answer after a refresh: the writer tells what is
//! acknowledged in a file that they look into before.
//!
//! `VDB_READERS_SECONDS` is for how long, minutes for a long run.

use crate::number;
use crate::pulse::{Board, start, stop};
use std::time::Duration;

const READERS: usize = 16;
const SECONDS: u64 = 8;

#[test]
fn sixteen_readers_beside_a_writer() {
    let seconds = number("VDB_READERS_SECONDS", SECONDS);
    let folder = tempfile::tempdir().unwrap();
    let board = Board::open(folder.path());
    let writer = start("writer", folder.path());
    let mut readers: Vec<_> = (0..READERS).map(|_| start("reader", folder.path())).collect();
    for _ in 0..seconds {
        std::thread::sleep(Duration::from_secs(1));
        for reader in &mut readers {
            assert!(reader.try_wait().unwrap().is_none(), "a reader found a fault");
        }
    }
    readers.into_iter().for_each(stop);
    stop(writer);
    let rounds: u64 = board.look().iter().sum();
    println!("{rounds} batches acknowledged beside {READERS} readers in {seconds} s");
    assert!(rounds > seconds, "{rounds} batches");
}
