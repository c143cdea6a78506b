//! `vdb` and `vdb demo`: the lines that readers and the specification expect, and the recall that is promised.

use crate::{Folder, vdb};
use std::process::Stdio;

/// Checks that `output` has lines that start like these, in this order.
fn assert_in_order(output: &str, starts: &[&str]) {
    let mut lines = output.lines();
    for start in starts {
        assert!(lines.any(|line| line.starts_with(start)), "no line {start:?} in its place in:\n{output}");
    }
}

/// The recall that the line of an index states.
fn recall(output: &str, index: &str) -> f64 {
    let line = output.lines().find(|line| line.starts_with(&format!("{index}: built in "))).unwrap();
    let (_, rest) = line.split_once("recall@10 ").unwrap();
    rest.split(' ').next().unwrap().parse().unwrap()
}

fn check_demo(output: &str) {
    assert_in_order(
        output,
        &[
            "4500 dictionary entries (WordNet)",
            "=== Flat ===",
            "Flat: built in ",
            "=== LSH ===",
            "LSH: built in ",
            "=== HNSW ===",
            "HNSW: built in ",
            "Generating test vectors...",
            "Inserting 10000 vectors...",
            "Insertion took: ",
            "Searching for similar vectors...",
            "Search took: ",
            "Top 10 similar vectors:",
            "1. ID: vec_",
            "10. ID: vec_",
            "--- Testing LSH Index ---",
            "Inserting vectors into LSH index...",
            "LSH insertion took: ",
            "Searching with LSH index...",
            "LSH search took: ",
            "LSH Top 10 similar vectors:",
            "1. ID: vec_",
            "10. ID: vec_",
            "What to try next:",
            "  vdb demo winter",
            "  vdb import ",
            "  vdb search ",
            "  vdb --help",
        ],
    );
    assert_eq!(recall(output, "Flat"), 1.0);
    // What is found by default is a recall of 0.95.
    assert!(recall(output, "HNSW") >= 0.94, "{output}");
    assert!(recall(output, "LSH") >= 0.85, "{output}");
}

/// The hits of the shown queries: a similarity and the text of an entry, three for each of three queries and indexes.
fn check_hits(output: &str) {
    let is_hit = |line: &&str| {
        let hit = ["  1. ", "  2. ", "  3. "].iter().find_map(|place| line.strip_prefix(place));
        hit.and_then(|hit| hit.split_once("  ")).is_some_and(|(similarity, text)| {
            similarity.parse().is_ok_and(|s: f32| (0.2..=1.0).contains(&s)) && text.len() > 10
        })
    };
    let hits: Vec<&str> = output.lines().filter(is_hit).collect();
    assert_eq!(hits.len(), 27, "{output}");
    // The three indexes agree about sentences this clear.
    assert_eq!(hits[..9], hits[18..], "{output}");
    let queries = output.lines().filter(|line| line.starts_with('"') && line.ends_with('"'));
    assert_eq!(queries.count(), 9, "{output}");
}

#[test]
fn without_arguments_the_demonstration_runs() {
    let output = Folder::new().run("").success();
    check_demo(&output);
    check_hits(&output);
}

#[test]
fn the_demonstration_leaves_no_files() {
    let folder = Folder::new();
    check_demo(&folder.run("demo").success());
    assert_eq!(std::fs::read_dir(folder.0.path()).unwrap().count(), 0);
}

#[test]
fn a_word_shows_its_neighbours() {
    let output = Folder::new().run("demo winter").success();
    assert!(output.lines().next().unwrap().ends_with("of 4500 entries contain \"winter\""), "{output}");
    assert!(output.contains("season"), "{output}");
    assert!(output.contains("summer"), "{output}");
    // Case and place do not matter, and several words are one phrase.
    assert_eq!(Folder::new().run("demo Winter").success(), output);
    let phrase = Folder::new().run("demo musical instrument").success();
    assert!(phrase.contains("contain \"musical instrument\""), "{phrase}");
}

#[test]
fn an_unknown_word_fails_with_a_hint() {
    Folder::new().run("demo xyzzy").failure(&["\"xyzzy\"", "it knows for example winter"]);
}

#[test]
fn a_reader_that_stops_reading_is_no_failure() {
    for arguments in [&[][..], &["demo", "winter"]] {
        let mut child = vdb().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
    }
}
