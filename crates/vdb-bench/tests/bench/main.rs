//! The program from end to end, with scripts in place of Python and of `vdb`: who is measured, absent, failing or too slow
//! ends up in the table, the JSON file and the picture as what it is. Needs neither Python nor network.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use tempfile::TempDir;

/// Prints two rows; `$1` is the speed of the first.
const ROWS: &str = r#"rows() {
  echo "{\"param\":10,\"recall\":0.9,\"qps\":$1,\"build_s\":3.5,\"rss_mb\":12}"
  echo "{\"param\":20,\"recall\":0.99,\"qps\":100,\"build_s\":3.5,\"rss_mb\":12}"
}
"#;

/// Stands in for Python: `$3` is the name of the peer.
const PEERS: &str = r#"echo "$3" >> "$0.calls"
case "$3" in
  hnswlib) echo '{"version": "0.8.0"}'; rows 2000 ;;
  scann) echo '{"absent": "No module named scann"}' ;;
  voyager) echo '{"version": "2"}'; rows 1; echo Traceback >&2; echo "RuntimeError: out of luck" >&2; exit 1 ;;
  zvec) rows 500; exec sleep 600 ;;
  lancedb) exec sleep 600 ;;
  *) echo "$@" >&2; exit 2 ;;
esac
"#;

const SHARED: &str = "--data sets --set small --venv venv --vdb ./vdb --limit 2 --seconds 0";

struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bench = Self { folder };
        fs::create_dir_all(bench.path("sets/small")).unwrap();
        fs::create_dir_all(bench.path("venv/bin")).unwrap();
        fs::write(bench.path("sets/small/stats.json"), "{}").unwrap();
        bench.script("venv/bin/python", PEERS);
        bench.script("vdb", r#"echo "$RAYON_NUM_THREADS $*" >> "$0.calls"; rows 4000"#);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn script(&self, name: &str, text: &str) {
        fs::write(self.path(name), format!("#!/bin/sh\n{ROWS}{text}")).unwrap();
        fs::set_permissions(self.path(name), Permissions::from_mode(0o755)).unwrap();
    }

    fn run(&self, arguments: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vdb-bench"));
        command.current_dir(self.folder.path()).args(arguments.split(' ')).output().unwrap()
    }

    /// Runs all kinds of contenders; the table.
    fn measure(&self, arguments: &str) -> String {
        let output = self.run(&format!("{SHARED} {arguments}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

fn row<'a>(table: &'a str, beginning: &str) -> &'a str {
    let row = table.lines().find(|line| line.starts_with(&format!("| {beginning}")));
    row.unwrap_or_else(|| panic!("no row of {beginning}: {table}"))
}

#[test]
fn everyone_is_reported_as_what_happened() {
    let bench = Bench::new();
    let only = "--only vdb-hnsw,hnswlib,scann,voyager,zvec,lancedb --rounds 2";
    let table = bench.measure(&format!("{only} --out out.json --svg out.svg"));
    let ours = format!("vector_db_rs HNSW {} | 4,000 |", env!("CARGO_PKG_VERSION"));
    assert!(row(&table, &ours).contains("| 2 | 2.00 / "), "{table}");
    assert!(row(&table, "hnswlib 0.8.0 | 2,000 |").contains("| 3.5 | 12 |"), "{table}");
    assert_eq!(row(&table, "ScaNN"), "| ScaNN | absent: No module named scann |");
    assert_eq!(row(&table, "Voyager"), "| Voyager 2 | failed: RuntimeError: out of luck |");
    assert!(row(&table, "zvec HNSW, stopped after 2 s | 500 |").contains("| 1 | 0.25 / "), "{table}");
    assert_eq!(row(&table, "LanceDB"), "| LanceDB IVF_HNSW_SQ | stopped after 2 s |");

    let json: Value = serde_json::from_slice(&fs::read(bench.path("out.json")).unwrap()).unwrap();
    assert_eq!(json["task"]["set"], "small");
    for key in ["cpu", "cores", "isa", "huge_pages"] {
        assert!(!json["machine"][key].is_null(), "{json}");
    }
    assert!(json["commit"].is_string());
    let rounds: Vec<usize> = json["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["rounds"].as_array().unwrap().len())
        .collect();
    assert_eq!(rounds, [2, 2, 1, 2, 1, 1], "who is absent or too slow is asked once");
    let outcome = |place: usize| &json["entries"][place]["rounds"][0]["outcome"];
    assert_eq!([outcome(4), outcome(5)].map(|outcome| outcome["stopped"].as_f64()), [Some(2.0); 2]);
    let numbers = [0, 1].map(|round| json["entries"][1]["rounds"][round]["number"].as_u64());
    assert_eq!(numbers, [Some(1), Some(2)]);
    let svg = fs::read_to_string(bench.path("out.svg")).unwrap();
    assert_eq!(svg.matches("<polyline").count(), 3, "{svg}");
    assert_eq!(svg.matches("not measured").count(), 3, "{svg}");

    // The same from the file, and parts of it.
    let again = bench.run("--from out.json");
    assert_eq!(String::from_utf8(again.stdout).unwrap(), table);
    let part = String::from_utf8(bench.run("--from out.json --only hnswlib").stdout).unwrap();
    assert!(part.contains("| hnswlib 0.8.0 |") && !part.contains("ScaNN"), "{part}");
}

#[test]
fn a_run_that_is_killed_goes_on_where_it_was() {
    let bench = Bench::new();
    // The third contender takes the whole run with it, in the first round only.
    let killer = "[ \"$3\" != voyager ] || [ -e killed ] || { touch killed; kill -9 $PPID; exit 1; }";
    bench.script("venv/bin/python", &format!("{killer}\n{PEERS}"));
    let arguments = format!("{SHARED} --only vdb-hnsw,hnswlib,voyager --out out.json");
    let output = bench.run(&arguments);
    assert!(!output.status.success() && output.stdout.is_empty(), "it was not killed");
    let rounds = || -> Vec<(String, usize)> {
        let json: Value = serde_json::from_slice(&fs::read(bench.path("out.json")).unwrap()).unwrap();
        let entry = |entry: &Value| {
            (entry["name"].as_str().unwrap().to_owned(), entry["rounds"].as_array().unwrap().len())
        };
        json["entries"].as_array().unwrap().iter().map(entry).collect()
    };
    let named = |rounds: &[(&str, usize)]| -> Vec<(String, usize)> {
        rounds.iter().map(|&(name, count)| (name.to_owned(), count)).collect()
    };
    assert_eq!(rounds(), named(&[("vdb-hnsw", 1), ("hnswlib", 1)]));

    // What is there is not measured again; what comes later stands in its place.
    let resume = |more: &str| bench.measure(&format!("{more} --out out.json --resume"));
    let table = resume("--only vdb-hnsw,hnswlib,voyager --rounds 1");
    assert_eq!(rounds(), named(&[("vdb-hnsw", 1), ("hnswlib", 1), ("voyager", 1)]));
    assert!(row(&table, "Voyager 2").contains("failed"), "{table}");
    resume("--only vdb-flat-batch --rounds 1");
    let table = resume("--only hnswlib --rounds 2");
    let expected = [("vdb-hnsw", 1), ("vdb-flat-batch", 1), ("hnswlib", 2), ("voyager", 1)];
    assert_eq!(rounds(), named(&expected));
    assert!(row(&table, "vector_db_rs HNSW").contains("| 1 | 2.00 / "), "{table}");
    let calls = fs::read_to_string(bench.path("venv/bin/python.calls")).unwrap();
    assert_eq!(calls.lines().collect::<Vec<_>>(), ["hnswlib", "voyager", "hnswlib"]);

    // Another task is refused before anything runs, and a run without --resume starts anew.
    let output = bench.run(&format!("{SHARED} --k 7 --only hnswlib --out out.json --resume"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("different tasks"), "{said}");
    assert_eq!(rounds(), named(&expected));
    bench.measure("--only hnswlib --rounds 1 --out out.json");
    assert_eq!(rounds(), named(&[("hnswlib", 1)]));
}

#[test]
fn ours_are_asked_as_the_others_are() {
    let bench = Bench::new();
    bench.measure("--only vdb-flat --rounds 1 --k 7 --threads 3 --queries holdout");
    let calls = fs::read_to_string(bench.path("vdb.calls")).unwrap();
    let shared = "--data sets --set small --queries holdout --k 7 --threads 3 --seconds 0";
    let expected = [
        format!("2 bench ann --json --index flat {shared}"),
        format!("2 bench ann --json --index flat --batch 1000 {shared}"),
    ];
    assert_eq!(calls.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn without_python_the_peers_are_absent() {
    let bench = Bench::new();
    fs::remove_file(bench.path("venv/bin/python")).unwrap();
    let table = bench.measure("--only hnswlib,vdb-lsh --rounds 1");
    assert!(row(&table, "hnswlib").contains("absent: no venv/bin/python"), "{table}");
    assert!(row(&table, "vector_db_rs LSH").contains("4,000"), "{table}");
}

#[test]
fn wrong_arguments_are_refused() {
    let bench = Bench::new();
    let check = |arguments: &str, part: &str| {
        let output = bench.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(part), "{arguments}: {said}");
    };
    check("--data sets --set other --vdb ./vdb", "stats.json is not there");
    check("--data sets --set small --vdb ./vdb --only glass", "glass");
    check("--data sets --set small --vdb ./vdb --limit=-1", "--limit is -1");
    check("--data sets --set small --vdb ./vdb --rounds 0", "rounds");
    check("--data sets", "--set");
    check("--data sets --set small --resume", "--out");
    check("--from absent.json", "absent.json");
    fs::write(bench.path("bad.json"), "{}").unwrap();
    check("--from bad.json", "bad.json");
}
