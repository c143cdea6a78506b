//! What goes wrong is told in a sentence that names the file, and leaves the files as they were.

use crate::Folder;
use crate::files::{fbin, fvecs, jsonl, npy, vectors};
use std::fs;

/// A folder with a database `db.vdb` of 50 records in 4 dimensions.
fn with_database() -> Folder {
    let folder = Folder::new();
    folder.write("rows.jsonl", jsonl("r", &vectors(50, 4, 1)));
    folder.run("import rows.jsonl --db db.vdb").success();
    folder
}

#[test]
fn missing_files_are_named() {
    let folder = with_database();
    folder.run("import absent.fvecs --db new.vdb").failure(&["absent.fvecs", "No such file"]);
    assert!(!folder.path("new.vdb").exists());
    folder.run("search --db absent.vdb --id r1").failure(&["absent.vdb", "No such file"]);
    folder.run("search --db db.vdb --queries absent.npy").failure(&["absent.npy", "No such file"]);
    folder.run("info absent.vdb").failure(&["absent.vdb", "No such file"]);
    folder.run("import rows.jsonl --db absent/db.vdb").failure(&["absent", "No such file"]);
    folder.run("info .").failure(&["."]);
}

#[test]
fn a_cause_is_told_once() {
    let folder = Folder::new();
    let told = folder.run("import absent.fvecs --db new.vdb");
    assert_eq!(told.stderr.matches("No such file").count(), 1, "{}", told.stderr);
}

#[test]
fn a_failed_import_leaves_the_database_untouched() {
    let folder = with_database();
    let before = fs::read(folder.path("db.vdb")).unwrap();
    let good = vectors(10, 4, 2);
    let mut with_nan = good.clone();
    with_nan[7][2] = f32::NAN;
    folder.write("good.npy", npy(&good));
    folder.write("nan.fbin", fbin(&with_nan));
    folder.write("wide.fvecs", fvecs(&vectors(10, 5, 3)));
    folder.write("short.fbin", &fbin(&good)[..100]);
    folder.write("text.jsonl", "{\"id\": \"a\", \"vector\": [1, 2, 3, 4]}\nnot JSON\n");
    folder.write("mixed.jsonl", jsonl("r", &good) + &jsonl("x", &vectors(1, 3, 4)));
    folder.write("empty.jsonl", "");
    folder.write("rows.xyz", "1 2 3 4");
    for (file, parts) in [
        ("nan.fbin", &["nan.fbin", "record 7", "NaN"][..]),
        ("wide.fvecs", &["wide.fvecs", "5 dimensions, expected 4"]),
        ("short.fbin", &["short.fbin", "168"]),
        ("text.jsonl", &["text.jsonl", "line 2"]),
        ("mixed.jsonl", &["mixed.jsonl", "record 10", "dimension 3"]),
        ("empty.jsonl", &["empty.jsonl", "empty"]),
        ("rows.xyz", &["rows.xyz", "\"xyz\"", "jsonl"]),
        ("absent.npy", &["absent.npy"]),
    ] {
        // The good file goes in before the bad one is found out.
        folder.run(&format!("import good.npy {file} --db db.vdb")).failure(parts);
        assert!(fs::read(folder.path("db.vdb")).unwrap() == before, "{file} changed the database");
    }
    let left: Vec<_> =
        fs::read_dir(folder.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 10, "no temporary file stays: {left:?}");
}

#[test]
fn queries_that_do_not_fit_are_refused() {
    let folder = with_database();
    folder.write("wide.fvecs", fvecs(&vectors(2, 5, 3)));
    folder.run("search --db db.vdb --vector 1,2,3").failure(&["3 dimensions, expected 4"]);
    folder.run("search --db db.vdb --vector 1,2,nan,4").failure(&["value 2 of the query is NaN"]);
    folder.run("search --db db.vdb --queries wide.fvecs").failure(&[
        "wide.fvecs",
        "query 0",
        "5 dimensions, expected 4",
    ]);
    folder.run("search --db db.vdb --id nobody").failure(&["db.vdb", "no record has the id \"nobody\""]);
}

#[test]
fn numbers_at_their_ends_are_taken() {
    let folder = with_database();
    let hits = |arguments: &str| {
        let answer = folder.run(&format!("search --db db.vdb --vector 1,-2,3,-4 --json {arguments}")).json();
        answer[0]["hits"].as_array().unwrap().len()
    };
    let huge = usize::MAX;
    assert_eq!(hits("-k 0"), 0);
    assert_eq!(hits(&format!("-k {huge}")), 50);
    assert_eq!(hits(&format!("-k 3 --ef-search {huge}")), 3);
    assert_eq!(hits(&format!("-k 3 --candidates {huge}")), 3);
    assert_eq!(hits("-k 3 --ef-search 0 --candidates 0"), 3);
}

#[test]
fn a_damaged_database_is_refused_wherever_it_is_damaged() {
    let folder = with_database();
    let sound = fs::read(folder.path("db.vdb")).unwrap();
    let is_refused = |bytes: &[u8], what: &str| {
        folder.write("bad.vdb", bytes);
        for command in ["search --db bad.vdb --id r1", "import rows.jsonl --db bad.vdb"] {
            folder.run(command).failure(&["bad.vdb"]);
        }
        assert!(fs::read(folder.path("bad.vdb")).unwrap() == bytes, "{what}: the file was changed");
    };
    for share in [0, 10, 50, 90, 99] {
        let end = sound.len() * share / 100;
        is_refused(&sound[..end], &format!("cut to {end} bytes"));
        let mut flipped = sound.clone();
        flipped[end] ^= 0x10;
        is_refused(&flipped, &format!("a bit flipped in byte {end}"));
    }
    is_refused(b"something else altogether", "a foreign file");
    folder.write("cut.vdb", &sound[..sound.len() - 1]);
    folder.run("info cut.vdb").failure(&["cut.vdb"]);
}

#[test]
fn arguments_that_make_no_sense_are_explained() {
    let folder = with_database();
    for (arguments, parts) in [
        ("search --db db.vdb --id r1 --filter parity", &["no '='", "KEY=VALUE"][..]),
        ("search --db db.vdb --vector 1,x,3,4", &["--vector", "x"]),
        ("search --db db.vdb", &["--vector", "--id", "--queries"]),
        ("search --db db.vdb --id r1 --vector 1,2,3,4", &["cannot be used"]),
        ("import rows.jsonl --db db.vdb --profile small", &["small", "auto", "compact", "fast"]),
        ("import rows.jsonl --db db.vdb --profile fast --m 8", &["cannot be used", "--m"]),
        ("import rows.jsonl --db db.vdb --index tree", &["flat", "lsh", "hnsw", "ivf"]),
        ("import rows.jsonl --db db.vdb --metric hamming", &["hamming", "cosine"]),
        ("import --db db.vdb", &["FILES"]),
        ("frobnicate", &["frobnicate"]),
    ] {
        folder.run(arguments).usage_error(parts);
    }
    for (parameter, expected) in [
        ("--m 1", "m is 1, expected 2 to 128"),
        ("--ef-construction 0", "ef_construction is 0, expected 1 to 65536"),
        ("--num-tables 0", "num_tables is 0, expected 1 to 1024"),
        ("--num-functions 65", "num_functions is 65, expected 1 to 64"),
    ] {
        folder.run(&format!("import rows.jsonl --db new.vdb {parameter}")).failure(&[expected]);
        assert!(!folder.path("new.vdb").exists());
    }
}

#[test]
fn help_and_version_succeed() {
    let folder = Folder::new();
    let help = folder.run("--help").success();
    for command in ["demo", "import", "search", "info", "bench"] {
        assert!(help.contains(&format!("  {command} ")), "{help}");
    }
    assert_eq!(folder.run("--version").success(), format!("vdb {}\n", env!("CARGO_PKG_VERSION")));
}
