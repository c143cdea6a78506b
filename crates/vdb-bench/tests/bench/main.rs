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
const PEERS: &str = r#"case "$3" in
  hnswlib) echo '{"version": "0.8.0"}'; rows 2000 ;;
  scann) echo '{"absent": "No module named scann"}' ;;
  voyager) echo '{"version": "2"}'; rows 1; echo Traceback >&2; echo "RuntimeError: out of luck" >&2; exit 1 ;;
  zvec) exec sleep 600 ;;
  *) echo "$@" >&2; exit 2 ;;
esac
"#;

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
        let shared = "--data sets --set small --venv venv --vdb ./vdb --limit 5 --seconds 0";
        let output = self.run(&format!("{shared} {arguments}"));
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
    let only = "--only vdb-hnsw,hnswlib,scann,voyager,zvec --rounds 2";
    let table = bench.measure(&format!("{only} --out out.json --svg out.svg"));
    let ours = format!("vector_db_rs HNSW {} | 4,000 |", env!("CARGO_PKG_VERSION"));
    assert!(row(&table, &ours).contains("| 2.00 / "), "{table}");
    assert!(row(&table, "hnswlib 0.8.0 | 2,000 |").contains("| 3.5 | 12 |"), "{table}");
    assert_eq!(row(&table, "ScaNN"), "| ScaNN | absent: No module named scann |");
    assert_eq!(row(&table, "Voyager"), "| Voyager 2 | failed: RuntimeError: out of luck |");
    assert_eq!(row(&table, "zvec"), "| zvec HNSW | failed: not done after 5 s |");

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
    assert_eq!(rounds, [2, 2, 1, 2, 2], "who is absent is asked once");
    let svg = fs::read_to_string(bench.path("out.svg")).unwrap();
    assert_eq!(svg.matches("<polyline").count(), 2, "{svg}");
    assert_eq!(svg.matches("not measured").count(), 3, "{svg}");

    // The same from the file, and parts of it.
    let again = bench.run("--from out.json");
    assert_eq!(String::from_utf8(again.stdout).unwrap(), table);
    let part = String::from_utf8(bench.run("--from out.json --only hnswlib").stdout).unwrap();
    assert!(part.contains("| hnswlib 0.8.0 |") && !part.contains("ScaNN"), "{part}");
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
    check("--from absent.json", "absent.json");
    fs::write(bench.path("bad.json"), "{}").unwrap();
    check("--from bad.json", "bad.json");
}
