//! `vdb import`, `vdb info` and `vdb search` over each other's files.

use crate::Folder;
use crate::files::{fbin, fvecs, jsonl, npy, vectors};
use serde_json::Value;

const DIM: usize = 8;

fn ids(answer: &Value) -> Vec<&str> {
    answer["hits"].as_array().unwrap().iter().map(|hit| hit["id"].as_str().unwrap()).collect()
}

/// A vector as `--vector` takes it.
fn commas(vector: &[f32]) -> String {
    vector.iter().map(f32::to_string).collect::<Vec<_>>().join(",")
}

/// The rows nearest to `query` by the squared distance.
fn nearest(rows: &[Vec<f32>], query: &[f32], k: usize) -> Vec<usize> {
    let squared = |row: &Vec<f32>| -> f32 { row.iter().zip(query).map(|(a, b)| (a - b) * (a - b)).sum() };
    let mut places: Vec<usize> = (0..rows.len()).collect();
    places.sort_by(|&a, &b| {
        squared(&rows[a]).total_cmp(&squared(&rows[b])).then(a.to_string().cmp(&b.to_string()))
    });
    places.truncate(k);
    places
}

/// A folder with a database `db.vdb` of 300 records r0, r1, … by the squared distance.
fn with_database(index: &str) -> (Folder, Vec<Vec<f32>>) {
    let (folder, rows) = (Folder::new(), vectors(300, DIM, 1));
    folder.write("rows.jsonl", jsonl("r", &rows));
    let outcome =
        folder.run(&format!("import rows.jsonl --db db.vdb --index {index} --metric l2 --json")).json();
    assert_eq!((&outcome[0]["imported"], &outcome[0]["records"]), (&300.into(), &300.into()));
    (folder, rows)
}

#[test]
fn every_format_gives_the_same_database() {
    let rows = vectors(200, DIM, 2);
    let folder = Folder::new();
    folder.write("rows.fvecs", fvecs(&rows));
    folder.write("rows.fbin", fbin(&rows));
    folder.write("rows.npy", npy(&rows));
    folder.write("rows.jsonl", jsonl("", &rows));
    folder.write("queries.fvecs", fvecs(&vectors(20, DIM, 3)));
    let mut answers = Vec::new();
    for format in ["fvecs", "fbin", "npy", "jsonl"] {
        folder.run(&format!("import rows.{format} --db {format}.vdb --metric euclidean")).success();
        let info = folder.run(&format!("info {format}.vdb --json")).json();
        assert_eq!(info[0]["records"], 200);
        let found =
            folder.run(&format!("search --db {format}.vdb --queries queries.fvecs -k 5 --json")).json();
        answers.push(found.iter().map(|answer| ids(answer).join(" ")).collect::<Vec<_>>());
    }
    assert_eq!(answers[0].len(), 20);
    assert!(answers.iter().all(|found| *found == answers[0]), "{answers:#?}");
}

#[test]
fn info_describes_databases_and_vector_files() {
    let (folder, rows) = with_database("hnsw");
    folder.write("rows.npy", npy(&rows));
    let info = folder.run("info db.vdb rows.npy rows.jsonl --json").json();
    let [database, npy, jsonl] = &info[..] else { panic!("{info:?}") };
    for (key, expected) in [
        ("file", Value::from("db.vdb")),
        ("records", 300.into()),
        ("dimension", DIM.into()),
        ("metric", "euclidean".into()),
        ("index", "HNSW".into()),
        ("file_bytes", std::fs::metadata(folder.path("db.vdb")).unwrap().len().into()),
    ] {
        assert_eq!(database[key], expected, "{key}");
    }
    assert!(database["memory_bytes"].as_u64().unwrap() >= 300 * DIM as u64 * 4);
    assert_eq!(
        (&npy["format"], &npy["records"], &npy["dimension"]),
        (&"Npy".into(), &300.into(), &DIM.into())
    );
    assert_eq!((&jsonl["format"], &jsonl["records"]), (&"Jsonl".into(), &Value::Null));
    let text = folder.run("info db.vdb rows.jsonl").success();
    assert!(text.contains("db.vdb: a database of 300 records, 8 dimensions, euclidean, HNSW"), "{text}");
    assert!(text.contains("rows.jsonl: Jsonl, an unknown number of records, 8 dimensions"), "{text}");
}

#[test]
fn a_search_by_vector_finds_the_nearest() {
    for index in ["flat", "lsh", "hnsw", "ivf"] {
        let (folder, rows) = with_database(index);
        let query = &vectors(1, DIM, 4)[0];
        let arguments =
            ["search", "--db", "db.vdb", "--vector", &commas(query), "-k", "7", "--json", "--exact"];
        let answer = &folder.run_with(arguments).json()[0];
        let expected: Vec<String> = nearest(&rows, query, 7).iter().map(|row| format!("r{row}")).collect();
        assert_eq!(ids(answer), expected, "{index}");
        assert_eq!((&answer["exact"], &answer["distance_computations"]), (&true.into(), &300.into()));
        assert!(answer["seconds"].as_f64().unwrap() >= 0.0);
        let distances: Vec<f64> =
            answer["hits"].as_array().unwrap().iter().map(|hit| hit["distance"].as_f64().unwrap()).collect();
        assert!(distances.is_sorted(), "{distances:?}");
        let hit = &answer["hits"][0];
        assert_eq!(hit["similarity"].as_f64().unwrap(), -hit["distance"].as_f64().unwrap());
    }
}

#[test]
fn a_search_by_id_finds_the_record_itself_first() {
    let (folder, _) = with_database("hnsw");
    let answer = &folder.run("search --db db.vdb --id r42 -k 3 --json").json()[0];
    let hit = &answer["hits"][0];
    assert_eq!((&hit["id"], &hit["distance"]), (&"r42".into(), &0.0.into()));
    assert_eq!(hit["metadata"], serde_json::json!({ "number": "42", "parity": "even" }));
    assert_eq!(ids(answer).len(), 3);
    let text = folder.run("search --db db.vdb --id r42 -k 3").success();
    assert!(text.starts_with("  1. r42  distance 0.000000  number=42  parity=even\n"), "{text}");
    assert!(text.contains(" of 300 records compared"), "{text}");
    assert_eq!(text.lines().count(), 4, "{text}");
}

#[test]
fn filters_are_joined_by_and() {
    let (folder, rows) = with_database("hnsw");
    let query = commas(&rows[0]);
    let search = |filters: &[&str]| {
        let arguments = ["search", "--db", "db.vdb", "-k", "200", "--json", "--vector", &query];
        folder.run_with(arguments.iter().chain(filters)).json().remove(0)
    };
    let odd = search(&["--filter", "parity=odd"]);
    assert_eq!(ids(&odd).len(), 150);
    assert!(odd["hits"].as_array().unwrap().iter().all(|hit| hit["metadata"]["parity"] == "odd"));
    assert_eq!(ids(&search(&["--filter", "parity=odd", "--filter", "number=7"])), ["r7"]);
    assert_eq!(ids(&search(&["--filter", "parity=even", "--filter", "number=7"])), [""; 0]);
    assert_eq!(ids(&search(&["--filter", "nothing=like it"])), [""; 0]);
}

#[test]
fn a_file_of_queries_gives_an_answer_each() {
    let (folder, rows) = with_database("flat");
    folder.write("queries.fbin", fbin(&rows[10..15]));
    let answers = folder.run("search --db db.vdb --queries queries.fbin -k 1 --json").json();
    let found: Vec<&str> = answers.iter().flat_map(ids).collect();
    assert_eq!(found, ["r10", "r11", "r12", "r13", "r14"]);
    let text = folder.run("search --db db.vdb --queries queries.fbin -k 1").success();
    assert_eq!(text.lines().filter(|line| line.starts_with("query ")).count(), 5, "{text}");
}

#[test]
fn settings_reach_the_index() {
    for (index, setting) in [("hnsw", "--ef-search"), ("lsh", "--candidates")] {
        let folder = Folder::new();
        folder.write("rows.fbin", fbin(&vectors(4_000, DIM, 5)));
        folder.write("queries.fbin", fbin(&vectors(5, DIM, 6)));
        folder.run(&format!("import rows.fbin --db db.vdb --index {index}")).success();
        let compared = |options: &str| -> u64 {
            let command = format!("search --db db.vdb --queries queries.fbin -k 5 --json {options}");
            let answers = folder.run(&command).json();
            assert!(answers.iter().all(|answer| answer["exact"] == options.contains("--exact")));
            answers.iter().map(|answer| answer["distance_computations"].as_u64().unwrap()).sum()
        };
        let (little, much) = (compared(&format!("{setting} 20")), compared(&format!("{setting} 100")));
        assert!(little < much && much < 20_000, "{index}: {little} and {much}");
        assert_eq!(compared(&format!("{setting} 20 --exact")), 20_000);
    }
}

#[test]
fn a_second_import_adds_and_replaces() {
    let (folder, rows) = with_database("hnsw");
    // Half of these have ids that are there already.
    let moved: Vec<Vec<f32>> = vectors(150, DIM, 9);
    let text = jsonl("r", &moved) + &jsonl("new", &moved);
    folder.write("more.jsonl", text);
    let outcome = &folder.run("import more.jsonl --db db.vdb --json").json()[0];
    assert_eq!((&outcome["imported"], &outcome["records"]), (&300.into(), &450.into()));
    let find = |id: &str| folder.run(&format!("search --db db.vdb --id {id} -k 2 --exact --json")).json();
    // Replaced and new records have the same vectors now, others are as they were.
    assert_eq!(ids(&find("r3")[0]), ["new3", "r3"]);
    let kept = nearest(&rows[200..], &rows[200], 1)[0];
    assert_eq!((kept, ids(&find("r200")[0])[0]), (0, "r200"));
    // Index and metric are those of the database, whatever is asked for.
    folder.run("import rows.jsonl --db db.vdb --index lsh --metric cosine").success();
    let info = &folder.run("info db.vdb --json").json()[0];
    assert_eq!((&info["records"], &info["index"]), (&450.into(), &"HNSW".into()));
    assert_eq!(info["metric"], "euclidean");
}

#[test]
fn several_files_are_numbered_through() {
    let (folder, rows) = (Folder::new(), vectors(20, DIM, 7));
    folder.write("a.fbin", fbin(&rows[..10]));
    folder.write("b.npy", npy(&rows[10..]));
    let text = folder.run("import a.fbin b.npy --db db.vdb --metric l2").success();
    assert!(text.starts_with("imported 20 records in ") && text.contains("db.vdb holds 20"), "{text}");
    for row in [0, 9, 10, 19] {
        let arguments = ["search", "--db", "db.vdb", "--vector", &commas(&rows[row]), "-k", "1", "--json"];
        assert_eq!(ids(&folder.run_with(arguments).json()[0]), [row.to_string()]);
    }
}

#[test]
fn every_metric_by_every_name() {
    let (folder, rows) = (Folder::new(), vectors(20, DIM, 8));
    folder.write("rows.fbin", fbin(&rows));
    for (name, metric) in [
        ("euclidean", "euclidean"),
        ("l2", "euclidean"),
        ("cosine", "cosine"),
        ("dot", "dot"),
        ("ip", "dot"),
        ("manhattan", "manhattan"),
        ("l1", "manhattan"),
    ] {
        folder.run(&format!("import rows.fbin --db {name}.vdb --metric {name}")).success();
        assert_eq!(folder.run(&format!("info {name}.vdb --json")).json()[0]["metric"], metric, "{name}");
    }
}
