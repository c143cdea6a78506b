//! The commands on collections of a database directory: what goes in comes out, survives a kill, and is told about.

use crate::bench_ann::{data_set, l2, number};
use crate::files::{bench_payload, fbin, fvecs, jsonl, npy, vectors};
use crate::{Folder, vdb};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

const DIM: usize = 8;

/// A folder with a database `db` of 300 points r0, r1, … in the collection `c`, by the squared distance.
fn with_collection() -> (Folder, Vec<Vec<f32>>) {
    let (folder, rows) = (Folder::new(), vectors(300, DIM, 1));
    folder.write("rows.jsonl", jsonl("r", &rows));
    folder.run("import rows.jsonl --db db --collection c --metric l2").success();
    (folder, rows)
}

fn commas(vector: &[f32]) -> String {
    vector.iter().map(f32::to_string).collect::<Vec<_>>().join(",")
}

/// The lines of a file by the text of their id, without the vector that has no name.
fn by_id(text: &str) -> BTreeMap<String, Value> {
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .map(|mut line| {
            line.as_object_mut().unwrap().remove("vector");
            (line["id"].to_string(), line)
        })
        .collect()
}

/// The bits of the vectors without a name, by the text of their id.
fn bits(text: &str) -> BTreeMap<String, Vec<u32>> {
    #[derive(serde::Deserialize)]
    struct Line {
        id: Value,
        #[serde(default)]
        vector: Vec<f32>,
    }
    let lines = text.lines().map(|line| serde_json::from_str::<Line>(line).unwrap());
    lines
        .map(|line| (line.id.to_string(), line.vector.iter().map(|value| value.to_bits()).collect()))
        .collect()
}

fn info(folder: &Folder, db: &str) -> Vec<Value> {
    folder.run(&format!("info --db {db} --json")).json()
}

/// All files below a folder whose name begins so.
fn files_of(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_of(&path, prefix));
        } else if path.file_name().unwrap().to_string_lossy().starts_with(prefix) {
            found.push(path);
        }
    }
    found
}

#[test]
fn points_come_out_as_they_went_in() {
    let folder = Folder::new();
    let mut lines = vec![
        json!({"id": 7, "vector": [1.0, 2.0], "payload": {"a": [1, {"b": null}], "c": 1.5, "text": "7"}}),
        json!({"id": "7", "vector": [0.1, -0.0], "payload": {"n": 12345678901234567890u64}}),
        json!({"id": u64::MAX - 1, "vector": [3.0, 4.0], "expires_at": 4_102_444_800_000u64}),
        json!({"id": "67e55044-10b1-426f-9247-bb680e5fe0c8", "vector": [0.0, 1.0]}),
        json!({"id": {"uuid": "67e55044-10b1-426f-9247-bb680e5fe0c8"}, "vector": [2.0, 1.0]}),
        json!({"id": "named", "vector": [2.0, 1.0], "vectors": {"title": [1.0, 2.0, 3.0]}}),
        json!({"id": "only named", "vectors": {"title": [3.0, 2.0, 1.0]}}),
        json!({"id": "none", "vectors": {}, "payload": {"lonely": true}}),
    ];
    // Any finite number, the smallest and the largest ones included.
    let mut state = 9u64;
    for id in 100..1_100 {
        let mut value = || loop {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let value = f32::from_bits((state >> 32) as u32);
            if value.is_finite() {
                return value;
            }
        };
        lines.push(json!({"id": id, "vector": [value(), value()]}));
    }
    for (id, value) in [(1, f32::MAX), (2, f32::MIN_POSITIVE), (3, f32::from_bits(1)), (4, -f32::MAX)] {
        lines.push(json!({"id": id, "vector": [value, 0.5]}));
    }
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    folder.write("in.jsonl", &text);
    folder.run("import in.jsonl --db db --collection c --metric l2 --batch 100").success();
    folder.run("export --db db --collection c out.jsonl").success();
    let exported = fs::read_to_string(folder.path("out.jsonl")).unwrap();
    assert_eq!(by_id(&exported), by_id(&text));
    assert_eq!(bits(&exported), bits(&text));
    folder.run("import out.jsonl --db again --collection c --metric l2").success();
    folder.run("export --db again --collection c again.jsonl").success();
    let again = fs::read_to_string(folder.path("again.jsonl")).unwrap();
    assert_eq!((by_id(&again), bits(&again)), (by_id(&text), bits(&text)));
    folder.run("export --db db --collection c title.npy --vector title").failure(&[
        "title.npy",
        "jsonl",
        "\"title\"",
    ]);
    folder
        .run("export --db db --collection c title.npy --vector nope")
        .failure(&["no vector \"nope\"", "title"]);
}

#[test]
fn every_format_gives_numbered_points_and_comes_back() {
    let (folder, rows) = (Folder::new(), vectors(200, DIM, 2));
    folder.write("rows.fvecs", fvecs(&rows));
    folder.write("rows.fbin", fbin(&rows));
    folder.write("rows.npy", npy(&rows));
    let without_ids: String = rows.iter().map(|row| format!("{}\n", json!({ "vector": row }))).collect();
    folder.write("rows.jsonl", &without_ids);
    let array: Vec<Value> = rows.iter().map(|row| json!({ "vector": row })).collect();
    folder.write("rows.json", Value::from(array).to_string());
    for format in ["fvecs", "fbin", "npy", "jsonl", "json"] {
        folder.run(&format!("import rows.{format} --db db --collection {format} --batch 7")).success();
        folder.run(&format!("export --db db --collection {format} {format}.npy")).success();
        folder.run(&format!("export --db db --collection {format} {format}.fbin")).success();
        assert!(fs::read(folder.path(&format!("{format}.npy"))).unwrap() == npy(&rows), "{format}");
        assert!(fs::read(folder.path(&format!("{format}.fbin"))).unwrap() == fbin(&rows), "{format}");
    }
    let names: Vec<Value> = info(&folder, "db").iter().map(|info| info["collection"].clone()).collect();
    assert_eq!(names, ["fbin", "fvecs", "json", "jsonl", "npy"]);
}

#[test]
fn numbers_go_on_behind_the_greatest() {
    let (folder, rows) = (Folder::new(), vectors(30, DIM, 3));
    folder.write("a.fbin", fbin(&rows[..10]));
    folder.write("b.npy", npy(&rows[10..20]));
    folder.write("far.jsonl", format!("{}\n", json!({ "id": 500, "vector": rows[20] })));
    folder.write("c.fbin", fbin(&rows[21..]));
    folder.run("import a.fbin b.npy --db db --collection c --metric l2").success();
    folder.run("import far.jsonl c.fbin --db db --collection c").success();
    assert_eq!(info(&folder, "db")[0]["points"], 30);
    for (id, row) in [(0, 0), (10, 10), (19, 19), (500, 20), (501, 21), (509, 29)] {
        let arguments = [
            "search",
            "--db",
            "db",
            "--collection",
            "c",
            "--vector",
            &commas(&rows[row]),
            "-k",
            "1",
            "--json",
        ];
        assert_eq!(folder.run_with(arguments).json()[0]["hits"][0]["id"], id);
    }
    folder.write("last.jsonl", format!("{}\n", json!({ "id": u64::MAX, "vector": rows[0] })));
    folder.run("import last.jsonl c.fbin --db db --collection c").failure(&[
        "c.fbin",
        "no number left",
        "1 points",
    ]);
}

#[test]
fn every_durable_batch_is_acknowledged() {
    let (folder, rows) = (Folder::new(), vectors(250, DIM, 4));
    folder.write("rows.fbin", fbin(&rows));
    for durability in ["sync", "interval", "none"] {
        let command = format!(
            "import rows.fbin --db db --collection {durability} --batch 100 --durability {durability} --json"
        );
        let lines = folder.run(&command).json();
        let acknowledged: Vec<u64> =
            lines.iter().map(|line| line["acknowledged"].as_u64().unwrap()).collect();
        assert_eq!(acknowledged, [100, 200, 250, 250]);
        assert_eq!(lines[3]["points"], 250);
    }
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let (folder, rows) = (Folder::new(), vectors(30_000, DIM, 5));
    folder.write("rows.fbin", fbin(&rows));
    for (round, lines) in [1, 7, 40, 150].into_iter().enumerate() {
        let db = format!("db{round}");
        let mut import = vdb()
            .args([
                "import",
                "rows.fbin",
                "--db",
                &db,
                "--collection",
                "c",
                "--batch",
                "50",
                "--json",
                "--metric",
                "l2",
            ])
            .current_dir(folder.0.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let told = BufReader::new(import.stdout.take().unwrap()).lines().take(lines).last().unwrap().unwrap();
        import.kill().unwrap();
        import.wait().unwrap();
        let acknowledged =
            serde_json::from_str::<Value>(&told).unwrap()["acknowledged"].as_u64().unwrap() as usize;
        assert_eq!(acknowledged, 50 * lines);
        let points = info(&folder, &db)[0]["points"].as_u64().unwrap() as usize;
        assert!(
            points >= acknowledged && points.is_multiple_of(50),
            "{points} points, {acknowledged} acknowledged"
        );
        folder.run(&format!("check --db {db}")).success();
        // A record that was begun and not finished is told, and is no damage.
        let log = files_of(&folder.path(&db), "wal-").into_iter().max().unwrap();
        let mut file = fs::OpenOptions::new().append(true).open(log).unwrap();
        file.write_all(b"torn").unwrap();
        let text = folder.run(&format!("check --db {db}")).success();
        assert!(text.contains("nothing acknowledged is lost") && text.contains("wal-"), "{text}");
        // What is there is the beginning of the file, bit for bit; importing goes on from there.
        folder.run(&format!("export --db {db} --collection c left.fbin")).success();
        assert!(fs::read(folder.path("left.fbin")).unwrap() == fbin(&rows[..points]));
        folder.write("rest.fbin", fbin(&rows[points..points + 10]));
        folder.run(&format!("import rest.fbin --db {db} --collection c")).success();
        assert_eq!(info(&folder, &db)[0]["points"], points + 10);
    }
}

#[test]
fn info_tells_what_collections_hold() {
    let (folder, _) = with_collection();
    folder.write("named.jsonl", format!("{}\n", json!({"id": 1, "vectors": {"a": [1, 2], "b": [1, 2, 3]}})));
    folder.run("import named.jsonl --db db --collection named --index flat --metric dot").success();
    let found = info(&folder, "db");
    assert_eq!((&found[0]["collection"], &found[1]["collection"]), (&"c".into(), &"named".into()));
    for (key, expected) in [
        ("points", json!(300)),
        ("segments", json!(1)),
        ("head_points", json!(0)),
        ("dead_rows", json!(0)),
        ("index_state", json!("complete")),
        ("indexed_points", json!(300)),
        (
            "vectors",
            json!([{"name": "", "dimension": DIM, "metric": "euclidean", "index": "hnsw", "profile": "auto", "ef_construction": 200}]),
        ),
    ] {
        assert_eq!(found[0][key], expected, "{key}");
    }
    assert!(found[0]["bytes_on_disk"].as_u64().unwrap() > 300 * DIM as u64, "{}", found[0]);
    assert_eq!(
        found[1]["vectors"][1],
        json!({"name": "b", "dimension": 3, "metric": "dot", "index": "flat"})
    );
    let text = folder.run("info --db db").success();
    assert!(text.contains("db: a database of 2 collections"), "{text}");
    assert!(text.contains("\"c\": 300 points"), "{text}");
    assert!(text.contains("euclidean, hnsw (auto)\n") && text.contains("dot, flat\n"), "{text}");
    for (name, links, profile, m, shown) in [
        ("wide", "--profile fast", Some("fast"), 32, "hnsw (fast)"),
        ("own", "--m 5", None, 5, "hnsw with 5 links"),
    ] {
        folder.run(&format!("import named.jsonl --db {name} --collection {name} {links}")).success();
        let vector = &info(&folder, name)[0]["vectors"][0];
        assert_eq!((vector["profile"].as_str(), &vector["m"]), (profile, &json!(m)), "{vector}");
        assert!(folder.run(&format!("info --db {name}")).success().contains(shown), "{shown}");
    }
}

#[test]
fn every_index_can_be_had() {
    let (folder, _) = with_collection();
    for (arguments, index, quantizer, effort) in [
        ("--index flat --quantizer rabitq2", "flat", Some("rabitq2"), "--oversampling 3"),
        ("--index ivf --lists 20 --spill", "ivf", None, "--probes 3"),
        ("--index lsh --num-tables 4 --lsh-family hyperplane", "lsh", None, "--candidates 30"),
    ] {
        folder
            .run(&format!("import rows.jsonl --db {index} --collection c --metric euclidean {arguments}"))
            .success();
        let vector = &info(&folder, index)[0]["vectors"][0];
        assert_eq!((&vector["index"], vector["quantizer"].as_str()), (&index.into(), quantizer));
        let search = |effort: &str| {
            let command = format!("search --db {index} --collection c --id r1 -k 5 {effort}");
            folder.run(&command).success()
        };
        assert!(search(effort).contains("r1"), "{index}");
        assert!(search("--exact").contains("r1"), "{index}");
        let text = folder.run(&format!("info --db {index}")).success();
        let expected = quantizer.map_or(index.to_owned(), |quantizer| format!("{index} with {quantizer}"));
        assert!(text.contains(&expected), "{text}");
    }
}

#[test]
fn check_finds_what_is_damaged() {
    let (folder, _) = with_collection();
    folder.run("import rows.jsonl --db db --collection other").success();
    let text = folder.run("check --db db").success();
    assert!(text.contains("collection \"c\": sound: checked 1 segments and the log, 300 points"), "{text}");
    let segment = files_of(&folder.path("db"), "blob-seg-").into_iter().min().unwrap();
    let sound = fs::read(&segment).unwrap();
    let mut damaged = sound.clone();
    damaged[sound.len() / 2] ^= 1;
    fs::write(&segment, &damaged).unwrap();
    let found = folder.run("check --db db");
    assert_eq!(
        found.stdout.lines().filter(|line| line.starts_with("damaged: ")).count(),
        1,
        "{}",
        found.stdout
    );
    assert!(found.stdout.contains("collection \"other\": sound"), "{}", found.stdout);
    found.failure(&["db: 1 damages in 2 collections"]);
    // One that cannot be opened is told, and the others can be used.
    fs::write(&segment, &sound[..sound.len() / 2]).unwrap();
    let found = folder.run("check --db db");
    let path = segment.strip_prefix(folder.path("")).unwrap().display().to_string();
    assert!(found.stdout.contains(&format!("damaged: collection \"c\": {path}: ")), "{}", found.stdout);
    assert!(found.stdout.contains("collection \"c\" is out of use"), "{}", found.stdout);
    found.failure(&["db: 1 damages"]);
    let told = info(&folder, "db");
    assert!(told[0]["quarantined"].as_str().unwrap().contains("seg-"), "{}", told[0]);
    assert_eq!(told[1]["points"], 300);
    folder.run("search --db db --collection other --id r1").success();
    folder.run("search --db db --collection c --id r1").failure(&["\"c\" is out of use"]);
}

#[test]
fn compact_leaves_one_segment_without_the_dead() {
    let (folder, rows) = (Folder::new(), vectors(6_000, DIM, 6));
    folder.write("rows.fbin", fbin(&rows));
    folder.write("few.jsonl", jsonl("few", &rows[..100]));
    folder.run("import rows.fbin --db db --collection c --metric l2 --no-wait").success();
    folder.run("import few.jsonl --db db --collection c --no-wait").success();
    // The same ids again.
    folder.run("import few.jsonl --db db --collection c --no-wait").success();
    let before = &info(&folder, "db")[0];
    assert!(before["segments"].as_u64().unwrap() > 1, "{before}");
    assert_eq!((&before["points"], &before["dead_rows"]), (&6_100.into(), &100.into()));
    let text = folder.run("compact --db db").success();
    assert!(text.starts_with("\"c\": 6100 points in "), "{text}");
    let after = &info(&folder, "db")[0];
    assert_eq!((&after["segments"], &after["indexed_segments"]), (&1.into(), &1.into()));
    assert_eq!((&after["points"], &after["dead_rows"]), (&6_100.into(), &0.into()));
    folder.run("check --db db").success();
}

#[test]
fn searches_find_the_nearest_points() {
    let (folder, rows) = with_collection();
    let query = &vectors(1, DIM, 7)[0];
    let mut nearest: Vec<usize> = (0..rows.len()).collect();
    nearest.sort_by(|&a, &b| {
        l2(&rows[a], query).total_cmp(&l2(&rows[b], query)).then(format!("r{a}").cmp(&format!("r{b}")))
    });
    let expected: Vec<Value> = nearest[..7].iter().map(|row| format!("r{row}").into()).collect();
    let ids = |answer: &Value| -> Vec<Value> {
        answer["hits"].as_array().unwrap().iter().map(|hit| hit["id"].clone()).collect()
    };
    let vector = commas(query);
    for effort in [&["--exact"][..], &["--ef-search", "300"], &["--target-recall", "1"]] {
        let arguments =
            ["search", "--db", "db", "--collection", "c", "--vector", &vector, "-k", "7", "--json"];
        let answer = folder.run_with(arguments.iter().chain(effort)).json().remove(0);
        assert_eq!(ids(&answer), expected, "{effort:?}");
        let (first, row) = (&answer["hits"][0], nearest[0]);
        assert!((number(first, "distance") - l2(&rows[row], query).sqrt()).abs() < 1e-3, "{first}");
        assert_eq!(number(first, "similarity"), -number(first, "distance"));
        assert_eq!(first["payload"]["number"], row);
    }
    let by_id = &folder.run("search --db db --collection c --id r42 -k 2 --json").json()[0];
    assert_eq!((&by_id["hits"][0]["id"], &by_id["hits"][0]["distance"]), (&"r42".into(), &0.0.into()));
    let text = folder.run("search --db db --collection c --id r42 -k 2").success();
    assert!(text.starts_with("  1. r42  distance 0.000000  number=42  parity=even\n"), "{text}");
    assert!(text.contains(" of 300 points compared"), "{text}");
    let odd =
        &folder.run("search --db db --collection c --id r42 -k 200 --filter parity=odd --json").json()[0];
    assert_eq!(ids(odd).len(), 150);
    let one = &folder
        .run("search --db db --collection c --id r42 --filter parity=odd --filter number=7 --json")
        .json()[0];
    assert_eq!(ids(one), ["r7"]);
    folder.write("queries.fbin", fbin(&rows[10..15]));
    let found = folder.run("search --db db --collection c --queries queries.fbin -k 1 --json").json();
    assert_eq!(found.iter().flat_map(ids).collect::<Vec<_>>(), ["r10", "r11", "r12", "r13", "r14"]);
    let huge = usize::MAX;
    let all = &folder.run(&format!("search --db db --collection c --id r1 -k {huge} --json")).json()[0];
    assert_eq!(ids(all).len(), 300);
    assert_eq!(ids(&folder.run("search --db db --collection c --id r1 -k 0 --json").json()[0]), [""; 0]);
}

#[test]
fn one_of_several_vectors_is_searched_by_its_name() {
    let folder = Folder::new();
    folder.write(
        "points.jsonl",
        "{\"id\": 1, \"vectors\": {\"a\": [0, 1], \"b\": [1, 2, 3]}}\n{\"id\": 2, \"vectors\": {\"a\": [5, 5]}}\n",
    );
    folder.run("import points.jsonl --db db --collection c --metric l2").success();
    let answer =
        folder.run("search --db db --collection c --vector-name b --vector 1,2,3 --json").json().remove(0);
    assert_eq!((&answer["hits"][0]["id"], answer["hits"].as_array().unwrap().len()), (&1.into(), 1));
    folder.run("search --db db --collection c --vector 1,2,3").failure(&["\"a\", \"b\"", "--vector-name"]);
    folder
        .run("search --db db --collection c --vector-name b --id 2")
        .failure(&["point 2", "no vector \"b\""]);
    folder
        .run("search --db db --collection c --vector-name z --vector 1")
        .failure(&["no vector \"z\"", "\"a\", \"b\""]);
    folder.run("export --db db --collection c out.npy").failure(&["\"a\", \"b\"", "--vector"]);
    folder.run("export --db db --collection c out.npy --vector a").success();
    assert!(fs::read(folder.path("out.npy")).unwrap() == npy(&[vec![0.0, 1.0], vec![5.0, 5.0]]));
}

#[test]
fn mistakes_are_told_with_what_to_do() {
    let (folder, rows) = with_collection();
    folder
        .run("search --db db --collection d --id r1")
        .failure(&["db: there is no collection \"d\"", "\"c\""]);
    folder.run("compact --db db --collection d").failure(&["no collection \"d\""]);
    folder.run("export --db db --collection d out.jsonl").failure(&["no collection \"d\""]);
    folder.run("export --db db --collection c out.txt").failure(&["out.txt", ".jsonl"]);
    folder
        .run("search --db db --collection c --id nobody")
        .failure(&["\"c\"", "no point has the id \"nobody\""]);
    folder.run("search --db db --collection c --vector 1,2").failure(&["\"c\"", "2 values, expected 8"]);
    for command in ["info", "check", "compact"] {
        folder.run(&format!("{command} --db absent")).failure(&["absent", "no database"]);
    }
    folder.run("snapshot --db absent --collection c a.vdbs").failure(&["absent", "no database"]);
    assert!(!folder.path("absent").exists(), "looking for a database makes none");
    folder.run("import absent.fbin --db new --collection c").failure(&["absent.fbin", "No such file"]);
    assert!(!folder.path("new").exists());
    folder.run("import rows.jsonl --db rows.jsonl --collection c").failure(&["rows.jsonl", "--collection"]);
    folder.run("import rows.jsonl --db new --collection c --quantizer sq8").failure(&["--index flat"]);
    let lists = "import rows.jsonl --db new --collection c --index ivf --bits 9";
    folder.run(lists).failure(&["bits is 9, expected 1 to 8"]);
    folder.run("import rows.jsonl --db new --collection c --batch 0").failure(&["--batch is 0"]);
    folder.run("import rows.jsonl --db new --batch 7").usage_error(&["--collection"]);

    // The collection, the point, what was expected and what was found.
    let wide = json!({"id": "wide", "vector": vec![0.5; 9]});
    folder.write("wide.jsonl", format!("{}{wide}\n", jsonl("n", &rows[..120])));
    folder.run("import wide.jsonl --db db --collection c --batch 100").failure(&[
        "100 points were imported",
        "wide.jsonl",
        "collection \"c\", point wide",
        "9 values, expected 8",
    ]);
    assert_eq!(info(&folder, "db")[0]["points"], 400);
    for (text, parts) in [
        ("{\"id\": -3, \"vector\": [1]}", &["bad.jsonl", "record 0", "whole number", "-3"][..]),
        ("{\"id\": 1.5, \"vector\": [1]}", &["whole number", "1.5"]),
        ("{\"id\": {\"uuid\": \"no\"}, \"vector\": [1]}", &["line 1", "uuid"]),
        ("{\"id\": 3}", &["without `vector`"]),
        ("{\"id\": 3, \"vector\": [1e99]}", &["record 0", "out of range"]),
        ("{\"id\": 3, \"vector\": [1], \"vectors\": {\"\": [1]}}", &["the same"]),
        ("{\"id\": 3, \"vector\": [1], \"vektor\": [1]}", &["vektor"]),
    ] {
        folder.write("bad.jsonl", format!("{text}\n"));
        folder.run("import bad.jsonl --db new --collection c").failure(parts);
    }
    assert!(!folder.path("new").exists(), "the first point is read before a database is made");
}

#[test]
fn who_reads_goes_on_beside_a_writer() {
    let (folder, rows) = with_collection();
    let writer = vdb_engine::Database::open(folder.path("db")).unwrap();
    let point = vdb_engine::Point::new(1, rows[0].clone());
    writer.collection("c").unwrap().upsert(vec![point]).unwrap();
    for command in
        ["import rows.jsonl --db db --collection c", "compact --db db", "snapshot --db db --collection c a"]
    {
        folder.run(command).failure(&["another process", "open to write"]);
    }
    let told = &info(&folder, "db")[0];
    assert_eq!((&told["points"], &told["head_points"]), (&301.into(), &1.into()));
    folder.run("check --db db").success();
    let found = &folder.run("search --db db --collection c --id 1 -k 1 --json").json()[0];
    assert_eq!(found["hits"][0]["id"], 1);
    folder.run("export --db db --collection c out.jsonl").success();
    assert_eq!(fs::read_to_string(folder.path("out.jsonl")).unwrap().lines().count(), 301);
}

#[test]
fn a_snapshot_is_restored() {
    let (folder, _) = with_collection();
    let text = folder.run("snapshot --db db --collection c shoes.vdbs").success();
    assert!(text.starts_with("shoes.vdbs: collection \"c\", 300 points"), "{text}");
    folder.run("restore shoes.vdbs --db new").success();
    folder.run("restore shoes.vdbs --db new --collection second").success();
    folder.run("restore shoes.vdbs --db new").failure(&["\"shoes\"", "already"]);
    folder.run("export --db db --collection c a.jsonl").success();
    for name in ["shoes", "second"] {
        folder.run(&format!("export --db new --collection {name} b.jsonl")).success();
        assert!(fs::read(folder.path("a.jsonl")).unwrap() == fs::read(folder.path("b.jsonl")).unwrap());
    }
    let mut damaged = fs::read(folder.path("shoes.vdbs")).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    folder.write("damaged.vdbs", damaged);
    folder.run("restore damaged.vdbs --db new").failure(&["damaged.vdbs"]);
    folder.run("restore absent.vdbs --db newer").failure(&["absent.vdbs", "No such file"]);
    assert!(!folder.path("newer").exists());
    assert_eq!(info(&folder, "new").len(), 2);
}

#[test]
fn the_benchmark_prints_every_phase() {
    let folder = data_set("l2", l2);
    folder.write("sets/small/payload.jsonl", bench_payload(2_000));
    folder.write(
        "sets/small/filters.json",
        r#"{"even": {"all_of": {"bucket": {"lt": 2000}}, "matches": 2000}}"#,
    );
    for queries in ["query", "holdout"] {
        let name = if queries == "query" { "gt".to_owned() } else { format!("{queries}.gt") };
        let truth = fs::read(folder.path(&format!("sets/small/{name}.ibin"))).unwrap();
        folder.write(&format!("sets/small/{name}.filter.even.ibin"), truth);
        let command = format!(
            "bench embedded --data sets --set small --queries {queries} --filters --batch 300 --seconds 0 --json --dir db"
        );
        let rows = folder.run(&command).json();
        let phases: Vec<&str> = rows.iter().map(|row| row["phase"].as_str().unwrap()).collect();
        assert_eq!(phases[..3], ["ingest", "open", "search"]);
        assert!(phases.contains(&"filter"), "{phases:?}");
        assert!(rows.iter().all(|row| row["db"] == "vdb" && row["set"] == "small"));
        assert_eq!((&rows[0]["points"], &rows[0]["batch"]), (&2_000.into(), &300.into()));
        for key in ["ingest_s", "index_s", "peak_mb", "disk_mb", "before_mb"] {
            assert!(number(&rows[0], key) >= 0.0);
        }
        assert!(number(&rows[0], "disk_mb") > 0.03, "{}", rows[0]);
        assert!(number(&rows[1], "open_ms") >= 0.0 && number(&rows[1], "first_query_ms") >= 0.0);
        for row in &rows[2..] {
            for key in ["qps", "p50_us", "p99_us", "peak_mb"] {
                assert!(number(row, key) > 0.0, "{row}");
            }
            assert_eq!(row["short"], 0);
        }
        // 2,000 points have no graph: every answer is exact, so one beam width is enough.
        assert_eq!((&rows[2]["param"], number(&rows[2], "recall")), (&10.into(), 1.0));
        assert_eq!((&rows[3]["param"], &rows[4]["param"]), (&"t0.95".into(), &"t0.99".into()));
    }
    folder.write("full/file", "something");
    folder.run("bench embedded --data sets --set small --dir full").failure(&["full", "something else"]);
    assert!(folder.path("full/file").exists());
    let rows =
        folder.run("bench embedded --data sets --set small --batch 100 --seconds 0.02 --probe --json").json();
    let phases = rows.iter().map(|row| (row["phase"].as_str().unwrap(), row["while"].as_str()));
    let phases: Vec<_> = phases.filter(|(phase, _)| *phase != "search").collect();
    assert_eq!(phases.first(), Some(&("ingest", None)));
    assert_eq!(phases[phases.len() - 2..], [("probe", Some("idle")), ("open", None)]);
    let probe = "bench embedded --data sets --set small --rows 500 --batch 100 --seconds 0.02 --probe --paced 5000 --json";
    let rows = folder.run(probe).json();
    let phases: Vec<_> = rows.iter().map(|row| row["while"].as_str()).collect();
    assert_eq!(
        (rows[0]["points"].as_u64(), &phases[..]),
        (Some(500), &[None, Some("idle"), Some("paced")][..])
    );
    // Ten batches a second for 0.4 seconds, of 500 points each, which go around the 2,000 rows.
    assert_eq!(rows[2]["writes"], 4);
    for row in &rows[1..] {
        assert!(number(row, "searches") > 0.0 && number(row, "p50_us") <= number(row, "max_us"), "{row}");
    }
    let parts = ["held_max_ms", "logged_max_ms", "own_max_ms"].map(|part| number(&rows[2], part));
    assert!(parts.iter().all(|part| *part <= number(&rows[2], "write_max_ms")), "{}", rows[2]);
    let text = folder.run("bench embedded --data sets --set small --seconds 0").success();
    assert!(text.starts_with("ingest ") && text.contains("\nopen ") && text.contains("\nsearch "), "{text}");
}
