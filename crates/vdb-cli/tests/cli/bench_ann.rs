//! `vdb bench ann` on small data sets whose ground truth is computed here, from the definition.

use crate::Folder;
use crate::files::{f16bin, fbin, ibin, u8bin, unsigned, vectors};
use serde_json::Value;

const ROWS: usize = 2_000;
const DIM: usize = 16;
const TRUTH: usize = 20;

/// A distance as ground truth files state it: smaller is closer.
pub(crate) type Distance = fn(&[f32], &[f32]) -> f64;
/// A writer of one file format.
type Encode = fn(&[Vec<f32>]) -> Vec<u8>;

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

pub(crate) fn l2(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    1.0 - dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn negated_dot(a: &[f32], b: &[f32]) -> f64 {
    -dot(a, b)
}

fn truth(base: &[Vec<f32>], queries: &[Vec<f32>], distance: Distance) -> Vec<u8> {
    let nearest = |query: &Vec<f32>| {
        let mut rows: Vec<(i32, f32)> =
            (0..).zip(base).map(|(row, vector)| (row, distance(query, vector) as f32)).collect();
        rows.sort_by(|a, b| a.1.total_cmp(&b.1));
        rows.truncate(TRUTH);
        rows
    };
    ibin(&queries.iter().map(nearest).collect::<Vec<_>>())
}

/// A data set `sets/small` with the queries `query` and `holdout`.
pub(crate) fn data_set(metric: &str, distance: Distance) -> Folder {
    let (extension, encode): (&str, Encode) = match metric {
        "l2" => ("u8bin", u8bin),
        "cosine" => ("f16bin", f16bin),
        _ => ("fbin", fbin),
    };
    let drawn = unsigned(&vectors(ROWS + 60, DIM, 11));
    let (base, queries) = drawn.split_at(ROWS);
    let folder = Folder::new();
    let write = |name: &str, content: Vec<u8>| folder.write(&format!("sets/small/{name}"), content);
    write(&format!("base.{extension}"), encode(base));
    for (name, truth_name, queries) in
        [("query", "gt.ibin", &queries[..40]), ("holdout", "holdout.gt.ibin", &queries[40..])]
    {
        write(&format!("{name}.{extension}"), encode(queries));
        write(truth_name, truth(base, queries, distance));
    }
    write("stats.json", format!("{{\"metric\": {metric:?}, \"rows\": {ROWS}}}").into_bytes());
    folder
}

fn bench(folder: &Folder, arguments: &str) -> Vec<Value> {
    folder.run(&format!("bench ann --data sets --set small --seconds 0 --json {arguments}")).json()
}

pub(crate) fn number(row: &Value, key: &str) -> f64 {
    row[key].as_f64().unwrap_or_else(|| panic!("no number {key} in {row}"))
}

fn check_row(row: &Value, label: &str) {
    assert_eq!((&row["set"], &row["label"]), (&"small".into(), &label.into()));
    for key in ["param", "recall", "qps", "p50_us", "p99_us", "build_s", "rss_mb"] {
        number(row, key);
    }
    assert!((0.0..=1.0).contains(&number(row, "recall")), "{row}");
    assert!(number(row, "qps") > 0.0 && number(row, "p50_us") > 0.0, "{row}");
    assert!(number(row, "p50_us") <= number(row, "p99_us"), "{row}");
}

#[test]
fn flat_has_full_recall_under_every_metric_and_format() {
    for (metric, distance) in [("l2", l2 as Distance), ("cosine", cosine), ("ip", negated_dot)] {
        let folder = data_set(metric, distance);
        for queries in ["query", "holdout"] {
            for k in [1, 10, TRUTH] {
                let rows = bench(&folder, &format!("--index flat --queries {queries} --k {k}"));
                assert_eq!(rows.len(), 1);
                check_row(&rows[0], "vdb flat");
                assert_eq!(number(&rows[0], "recall"), 1.0, "{metric}, {queries}, k {k}");
                assert_eq!((number(&rows[0], "k"), number(&rows[0], "distances")), (k as f64, ROWS as f64));
            }
        }
    }
}

#[test]
fn approximate_indexes_gain_recall_with_their_setting() {
    let folder = data_set("l2", l2);
    for (index, label, params) in [
        ("hnsw", "vdb hnsw M8 efc50", "10,40"),
        ("lsh", "vdb lsh cross-polytope 6x12", "20,60,1000"),
        ("ivf", "vdb ivf 50x3", "2,20,50"),
    ] {
        let parameters = "--m 8 --ef-construction 50 --num-tables 6 --num-functions 12 --lists 50 --bits 3";
        let rows = bench(&folder, &format!("--index {index} --params {params} {parameters}"));
        rows.iter().for_each(|row| check_row(row, label));
        let listed: Vec<String> = rows.iter().map(|row| row["param"].to_string()).collect();
        assert!(params.starts_with(&listed.join(",")), "{rows:?}");
        let recalls: Vec<f64> = rows.iter().map(|row| number(row, "recall")).collect();
        assert!(recalls.is_sorted() && recalls[recalls.len() - 1] > 0.9, "{recalls:?}");
    }
    let hops = ["compact", "fast"].map(|profile| {
        let rows = bench(&folder, &format!("--index hnsw --profile {profile} --params 20"));
        check_row(&rows[0], &format!("vdb hnsw {profile} efc200"));
        number(&rows[0], "hops")
    });
    assert!(hops[1] < hops[0], "more links, fewer steps: {hops:?}");
}

#[test]
fn the_first_rows_alone_have_true_neighbours_of_their_own() {
    for (metric, distance) in [("l2", l2 as Distance), ("cosine", cosine), ("ip", negated_dot)] {
        let folder = data_set(metric, distance);
        let rows = bench(&folder, "--index flat --rows 50 --k 7");
        assert_eq!((number(&rows[0], "recall"), number(&rows[0], "distances")), (1.0, 50.0), "{metric}");
        let rows = bench(&folder, "--index lsh --rows 50 --k 7 --params 8");
        assert!(number(&rows[0], "recall") < 1.0, "eight of fifty compared find all: {rows:?}");
    }
    let folder = data_set("l2", l2);
    for metric in ["manhattan", "cosine", "dot"] {
        let rows = bench(&folder, &format!("--index flat --metric {metric}"));
        assert_eq!(number(&rows[0], "recall"), 1.0, "{metric}");
        let rows = bench(&folder, &format!("--index hnsw --m 8 --metric {metric} --target-recall 0.95"));
        assert!(number(&rows[0], "recall") > 0.9, "{metric}: {rows:?}");
    }
    let run =
        |arguments: &str| folder.run(&format!("bench ann --data sets --set small --index flat {arguments}"));
    run("--rows 0").failure(&["--rows is 0"]);
    run("--rows 100000").failure(&["--rows is 100000", &ROWS.to_string()]);
    run("--rows 5 --k 6").failure(&["--k is 6", "5 rows"]);
}

#[test]
fn target_recalls_are_met_and_shown() {
    let folder = data_set("l2", l2);
    let rows = bench(&folder, "--index hnsw --m 8 --ef-construction 50 --target-recall 0.8,0.99,1");
    assert_eq!(rows.len(), 3);
    for (row, target) in rows.iter().zip([0.8, 0.99, 1.0]) {
        check_row(row, "vdb hnsw M8 efc50");
        assert_eq!(number(row, "target_recall"), target);
        // Forty queries for ten hits each.
        assert!(number(row, "recall") > target - 0.06, "{row}");
    }
    let most = |row: &Value| number(row, "distances") < ROWS as f64;
    assert!(most(&rows[0]) && number(&rows[0], "distances") < number(&rows[1], "distances"), "{rows:?}");
    assert_eq!((number(&rows[2], "recall"), number(&rows[2], "distances")), (1.0, ROWS as f64));
    let fixed = bench(&folder, "--index hnsw --params 16");
    assert!(fixed[0].get("target_recall").is_none(), "{}", fixed[0]);
    folder
        .run("bench ann --data sets --set small --index flat --target-recall 0.9")
        .failure(&["--target-recall goes with --index hnsw"]);
}

#[test]
fn threads_do_not_change_the_answers() {
    let folder = data_set("cosine", cosine);
    let recall = |threads: usize| {
        let rows = bench(&folder, &format!("--index hnsw --params 16 --threads {threads}"));
        assert_eq!(number(&rows[0], "threads"), threads as f64);
        (number(&rows[0], "recall"), number(&rows[0], "distances"))
    };
    assert_eq!(recall(1), recall(3));
    // More threads than queries.
    assert_eq!(recall(1), recall(50));
}

#[test]
fn batches_do_not_change_the_answers() {
    let folder = data_set("l2", l2);
    for index in ["flat", "hnsw --params 16"] {
        let recall = |batch: usize| {
            let rows = bench(&folder, &format!("--index {index} --batch {batch}"));
            (number(&rows[0], "recall"), number(&rows[0], "distances"))
        };
        assert_eq!(recall(1), recall(7), "{index}");
        assert_eq!(recall(1), recall(1_000), "{index}, more than there are queries");
    }
}

#[test]
fn the_settings_end_where_nothing_is_left_to_gain() {
    let folder = data_set("cosine", cosine);
    for index in ["hnsw", "lsh", "ivf"] {
        let rows = bench(&folder, &format!("--index {index}"));
        let (last, before) = rows.split_last().unwrap();
        assert!(before.iter().all(|row| number(row, "recall") <= 0.9985), "{rows:?}");
        assert!(number(last, "recall") > 0.9985, "{rows:?}");
    }
}

#[test]
fn without_json_a_table_is_printed() {
    let folder = data_set("ip", negated_dot);
    let text = folder.run("bench ann --data sets --set small --seconds 0 --index flat").success();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("small · 2000 records · built in "), "{text}");
    assert!(lines[1].starts_with("vdb flat ") && lines[1].contains("recall 1.0000"), "{text}");
}

#[test]
fn a_data_set_that_contradicts_itself_is_refused() {
    let check = |spoil: &dyn Fn(&Folder), arguments: &str, parts: &[&str]| {
        let folder = data_set("l2", l2);
        spoil(&folder);
        folder.run(&format!("bench ann --data sets --set small --index flat {arguments}")).failure(parts);
    };
    let remove = |name: &'static str| {
        move |folder: &Folder| std::fs::remove_file(folder.path(&format!("sets/small/{name}"))).unwrap()
    };
    let sound = |_: &Folder| ();
    check(&remove("stats.json"), "", &["stats.json", "No such file"]);
    check(&remove("base.u8bin"), "", &["no base.* in any of the formats"]);
    check(&remove("gt.ibin"), "", &["gt.ibin", "No such file"]);
    check(&sound, "--queries other", &["no other.*"]);
    data_set("l2", l2)
        .run("bench ann --data sets --set absent --index flat")
        .failure(&["absent", "No such file"]);
    check(&sound, "--k 21", &["gt.ibin", "names 20 neighbours a query, k is 21"]);
    check(&sound, "--k 0", &["--k is 0"]);
    check(&sound, "--threads 0", &["--threads is 0"]);
    check(&sound, "--seconds=-1", &["--seconds is -1"]);
    check(&sound, "--seconds inf", &["--seconds is inf"]);
    let other_queries = |folder: &Folder| {
        let truth = std::fs::read(folder.path("sets/small/holdout.gt.ibin")).unwrap();
        folder.write("sets/small/gt.ibin", truth);
    };
    check(&other_queries, "", &["gt.ibin", "it is for 20 queries, there are 40"]);
    let other_rows = |folder: &Folder| {
        let neighbours: Vec<(i32, f32)> = (0..TRUTH as i32).map(|row| (row + ROWS as i32, 0.0)).collect();
        folder.write("sets/small/gt.ibin", ibin(&vec![neighbours; 40]));
    };
    check(&other_rows, "", &["neighbours name row 2000", "the base has 2000 rows"]);
    let other_dimension = |folder: &Folder| {
        folder.write("sets/small/query.u8bin", u8bin(&unsigned(&vectors(40, DIM + 1, 1))));
    };
    check(&other_dimension, "", &["queries have 17 dimensions, the base has 16"]);
    let other_metric = |folder: &Folder| folder.write("sets/small/stats.json", "{\"metric\": \"far\"}");
    check(&other_metric, "", &["stats.json", "far"]);
}

#[test]
fn a_quantizer_gains_recall_with_oversampling() {
    let folder = data_set("l2", l2);
    let rows = bench(&folder, "--index flat --quantizer rabitq1 --params 1,4,16");
    rows.iter().for_each(|row| check_row(row, "vdb flat rabitq1"));
    let recalls: Vec<f64> = rows.iter().map(|row| number(row, "recall")).collect();
    assert!(recalls.is_sorted() && recalls[0] < 0.9 && recalls[recalls.len() - 1] > 0.9, "{recalls:?}");
    assert_eq!(number(&rows[0], "distances"), 10.0);
    let rows = bench(&folder, "--index flat --quantizer pq4 --subspaces 16 --params 8");
    check_row(&rows[0], "vdb flat pq4 m16");
    let run = |arguments: &str| folder.run(&format!("bench ann --data sets --set small {arguments}"));
    run("--index hnsw --quantizer sq8").failure(&["sq8 goes with the index Flat"]);
    run("--index flat --quantizer pq5").usage_error(&["no quantizer is called", "pq4"]);
}

#[test]
fn filters_of_the_set_are_searched_under() {
    let folder = data_set("l2", l2);
    let drawn = unsigned(&vectors(ROWS + 60, DIM, 11));
    let (base, queries) = drawn.split_at(ROWS);
    let allowed = |row: usize| row % 4 == 1 && row >= 400;
    let far = |(row, vector): (usize, &Vec<f32>)| if allowed(row) { vector.clone() } else { vec![1e6; DIM] };
    let filtered: Vec<Vec<f32>> = base.iter().enumerate().map(far).collect();
    folder.write("sets/small/gt.filter.some.ibin", truth(&filtered, &queries[..40], l2));
    let payload: Vec<String> =
        (0..ROWS).map(|row| format!("{{\"row\": {row}, \"tags\": [\"t{}\"]}}", row % 4)).collect();
    folder.write("sets/small/payload.jsonl", payload.join("\n"));
    let definition = r#"{"some": {"all_of": {"row": {"gte": 400}, "tags": {"contains": "t1"}}}}"#;
    folder.write("sets/small/filters.json", definition);
    for index in ["flat", "hnsw"] {
        let rows = bench(&folder, &format!("--index {index} --filter none,some"));
        let some = rows.iter().find(|row| row["filter"]["name"] == "some").expect("a row with the filter");
        assert!(number(some, "recall") > 0.99, "{some}");
        assert_eq!((&some["filter"]["share"], &some["filter"]["fewest_hits"]), (&0.2.into(), &10.into()));
        assert!(rows.iter().any(|row| row["filter"].is_null()));
    }
    let run = |arguments: &str| folder.run(&format!("bench ann --data sets --set small {arguments}"));
    run("--index flat --filter absent").failure(&["filters.json", "no filter absent, there are some"]);
}

#[test]
fn every_quantizer_is_measured() {
    let folder = data_set("cosine", cosine);
    let rows = folder
        .run("bench quantizers --data sets --set small --queries 5 --quantizers sq8,pq4:8,rabitq2 --json")
        .json();
    let labels: Vec<&str> = rows.iter().filter_map(|row| row["label"].as_str()).collect();
    assert_eq!(labels, ["sq8", "pq4:8", "rabitq2"]);
    for row in &rows {
        for key in ["encoded_per_s", "encoded_per_s_two_threads", "estimates_per_s", "qps", "bytes"] {
            assert!(number(row, key) > 0.0, "{row}");
        }
        assert!(number(row, "error_mean") <= number(row, "error_p99"), "{row}");
        // Reranking just k candidates changes their order only.
        assert_eq!(row["recall_codes"], row["recall_reranked"][0], "{row}");
    }
    assert!(number(&rows[0], "error_mean") < 0.01 && number(&rows[0], "recall_codes") > 0.9, "{}", rows[0]);
    let run = |arguments: &str| folder.run(&format!("bench quantizers --data sets --set small {arguments}"));
    run("--quantizers pq4:17").failure(&["subspaces is 17"]);
    run("--queries 0").failure(&["--queries is 0"]);
    assert!(run("--quantizers binary --queries 3").success().contains("binary"), "a line of text");
}

#[test]
fn a_churned_graph_is_measured_beside_a_fresh_one() {
    let folder = data_set("cosine", cosine);
    let run = |arguments: &str| folder.run(&format!("bench churn --data sets --set small {arguments}"));
    let rows = run("--queries 20 --rounds 2 --batch 7 --ef-search 32,64 --json").json();
    assert_eq!(rows.len(), 6);
    for row in &rows {
        assert_eq!(number(row, "unreachable"), 0.0, "{row}");
        assert!(number(&row["churned"], "recall") > 0.9 && number(&row["fresh"], "recall") > 0.9, "{row}");
        assert!(number(&row["churned"], "qps") > 0.0 && number(&row["churned"], "distances") > 0.0, "{row}");
        assert_eq!(number(row, "updates_per_s") > 0.0, number(row, "round") > 0.0, "{row}");
    }
    let rows =
        run("--query-file query --queries 20 --rounds 1 --batch 7 --live --target-recall 0.9,0.99 --json")
            .json();
    assert_eq!(
        rows.iter().map(|row| number(row, "target_recall")).collect::<Vec<f64>>(),
        [0.9, 0.99, 0.9, 0.99]
    );
    assert!(rows.iter().all(|row| number(&row["churned"], "recall") > 0.9), "{rows:?}");
    run("--batch 0").failure(&["--batch is 0"]);
    assert!(run("--queries 20 --rounds 1").success().contains("unreachable"), "lines of text");
}

#[test]
fn an_index_is_searched_while_it_is_written() {
    let folder = data_set("cosine", cosine);
    let run = |arguments: &str| folder.run(&format!("bench concurrent --data sets --set small {arguments}"));
    // Few recent rows, so that some are merged in the short time.
    let rows = run("--queries 20 --readers 2 --seconds 0.3 --least-recent 20 --json").json();
    let phases: Vec<&str> = rows.iter().filter_map(|row| row["phase"].as_str()).collect();
    assert_eq!(phases, ["at rest", "at rest", "written", "after", "merged"]);
    for row in &rows {
        assert!(number(row, "qps") > 0.0 && number(row, "p50_us") <= number(row, "p99_us"), "{row}");
        let is_written = row["phase"] == "written";
        assert_eq!((row["recall"].is_null(), row["writes"].is_null()), (is_written, !is_written));
        if !is_written {
            assert!(number(row, "recall") > 0.9, "{row}");
        }
    }
    let writes = &rows[2]["writes"];
    assert!(number(writes, "per_s") > 0.0 && number(writes, "merges") > 0.0, "{writes}");
    assert_eq!((number(&rows[4], "recent"), number(&rows[4], "hidden")), (0.0, 0.0));
    run("--readers 0").failure(&["--readers is 0"]);
    for refused in ["0", "-1", "nan", "inf", "1e-300"] {
        run(&format!("--writes-per-s={refused}")).failure(&["--writes-per-s is", "expected 0.001 or more"]);
    }
    let slow = run("--queries 20 --seconds 0.1 --writes-per-s 0.001 --json").json();
    let written = slow.iter().find(|row| row["phase"] == "written").unwrap();
    assert!(number(&written["writes"], "per_s") > 0.0, "one write, and no wait for the next");
    assert!(run("--queries 20 --seconds 0 --ef-search 50").success().contains("merges"), "lines of text");
}
