//! Tests of the readers: each format as written by hand here, each error with its place, and arbitrary bytes.
//!
//! The encoders below are the tests' own and share nothing with the readers. Errors are one-line cases of
//! `check_error(format, bytes, parts of the message)`.

use super::*;
use proptest::prelude::*;
use std::fs;
use tempfile::TempDir;

/// A file of these bytes, in a folder that goes with the value.
fn file(name: &str, bytes: &[u8]) -> (TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn read(name: &str, bytes: &[u8]) -> Result<Vec<Record>, FormatError> {
    let (_folder, path) = file(name, bytes);
    RecordReader::open(&path, None)?.collect()
}

fn check_vectors(name: &str, bytes: &[u8], expected: &[&[f32]]) {
    let (_folder, path) = file(name, bytes);
    let mut reader = RecordReader::open(&path, None).unwrap();
    assert_eq!(reader.dim(), Some(expected[0].len()));
    assert_eq!(reader.len_hint(), Some(expected.len() as u64));
    assert_eq!(reader.bytes_total(), bytes.len() as u64);
    let records: Vec<Record> = reader.by_ref().collect::<Result<_, _>>().unwrap();
    assert_eq!(reader.bytes_read(), bytes.len() as u64);
    let vectors: Vec<&[f32]> = records.iter().map(|record| record.vector.as_slice()).collect();
    assert_eq!(vectors, expected);
    assert!(records.iter().all(|record| record.id.is_none() && record.metadata.is_empty()));

    let matrix = read_matrix(&path).unwrap();
    assert_eq!((matrix.rows, matrix.dim), (expected.len(), expected[0].len()));
    assert_eq!(matrix.data, expected.concat());
    assert_eq!(matrix.row(matrix.rows - 1), *expected.last().unwrap());
}

fn check_parts(name: &str, message: &str, parts: &[&str]) {
    for part in parts.iter().chain(&[name]) {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

fn check_error(name: &str, bytes: &[u8], parts: &[&str]) {
    check_parts(name, &read(name, bytes).unwrap_err().to_string(), parts);
}

/// Little-endian bytes of numbers of one type.
macro_rules! le {
    ($($value:expr),* $(,)?) => { [$($value.to_le_bytes().to_vec()),*].concat() };
}

fn npy(version: u8, dictionary: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY".to_vec();
    bytes.extend([version, 0]);
    match version {
        1 => bytes.extend((dictionary.len() as u16).to_le_bytes()),
        _ => bytes.extend((dictionary.len() as u32).to_le_bytes()),
    }
    bytes.extend(dictionary.as_bytes());
    bytes.extend(data);
    bytes
}

fn npy_header(descr: &str, order: &str, shape: &str) -> String {
    format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}          \n")
}

fn check_npy_error(dictionary: &str, parts: &[&str]) {
    check_error("a.npy", &npy(1, dictionary, &[0; 8]), parts);
}

#[test]
fn formats_by_extension() {
    let check = |name: &str, format| assert_eq!(Format::from_path(Path::new(name)).unwrap(), format);
    check("a.fvecs", Format::Fvecs);
    check("a.bvecs", Format::Bvecs);
    check("base.1M.fbin", Format::Fbin);
    check("a.u8bin", Format::U8bin);
    check("a.i8bin", Format::I8bin);
    check("a.f16bin", Format::F16bin);
    check("dir.json/a.NPY", Format::Npy);
    check("a.jsonl", Format::Jsonl);
    check("a.ndjson", Format::Jsonl);
    check("a.Json", Format::Json);
    let check = |name: &str, parts: &[&str]| {
        check_parts(name, &Format::from_path(Path::new(name)).unwrap_err().to_string(), parts);
    };
    check("a.csv", &["unknown extension \"csv\"", "json, jsonl, ndjson, fvecs", "npy"]);
    check("noext", &["no extension", "known extensions: json"]);
}

#[test]
fn an_explicit_format_overrides_the_extension() {
    let (_folder, path) = file("a.dat", &le![1i32, 2.0f32]);
    let mut reader = RecordReader::open(&path, Some(Format::Fvecs)).unwrap();
    assert_eq!(reader.format(), Format::Fvecs);
    assert_eq!(reader.next().unwrap().unwrap().vector, [2.0]);
    assert!(reader.next().is_none());
}

#[test]
fn what_is_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("absent.fbin");
    let error = RecordReader::open(&path, None).unwrap_err();
    assert!(matches!(&error, FormatError::Io { .. }) && error.to_string().contains("absent.fbin"), "{error}");
    let error = RecordReader::open(folder.path(), Some(Format::Npy)).unwrap_err();
    assert!(matches!(&error, FormatError::NotAFile { .. }), "{error}");
}

#[test]
fn vecs() {
    check_vectors("a.fvecs", &le![2i32, 1.0f32, -2.5f32, 2i32, 0.0f32, 3.0f32], &[&[1.0, -2.5], &[0.0, 3.0]]);
    check_vectors("a.bvecs", &[3, 0, 0, 0, 0, 128, 255], &[&[0.0, 128.0, 255.0]]);
}

#[test]
fn vecs_errors() {
    let good = le![2i32, 1.0f32, 2.0f32];
    let with = |tail: Vec<u8>| [good.clone(), tail].concat();
    check_error("a.fvecs", b"", &["empty", "(0 bytes)"]);
    check_error("a.fvecs", &[2, 0], &["record 0 (counting from 0) at byte 0", "4 bytes expected, 2 left"]);
    check_error("a.fvecs", &good[..11], &["record 0", "at byte 4", "8 bytes expected, 7 left"]);
    check_error("a.fvecs", &with(vec![2]), &["record 1", "at byte 12", "4 bytes expected, 1 left"]);
    check_error("a.fvecs", &with(le![2i32, 1.0f32]), &["record 1", "at byte 16", "8 bytes expected, 4 left"]);
    check_error(
        "a.fvecs",
        &with(le![3i32, 1.0f32]),
        &["record 1", "at byte 12", "dimension 3", "record 0 has dimension 2"],
    );
    check_error("a.fvecs", &le![0i32], &["record 0", "at byte 0", "dimension 0", "1 to 65536"]);
    check_error("a.fvecs", &le![-1i32, 1.0f32], &["dimension -1"]);
    check_error("a.fvecs", &le![i32::MAX, 1.0f32], &["dimension 2147483647"]);
    check_error("a.bvecs", &le![65_537i32, 1.0f32], &["dimension 65537"]);
    check_error("a.bvecs", &le![65_536i32, 1.0f32], &["at byte 4", "65536 bytes expected, 4 left"]);
    check_error(
        "a.fvecs",
        &with(le![2i32, 1.0f32, f32::NAN]),
        &["record 1", "at byte 20", "component 1 (counting from 0) is NaN"],
    );
    check_error(
        "a.fvecs",
        &le![1i32, f32::NEG_INFINITY],
        &["record 0", "at byte 4", "component 0", "is -inf"],
    );
}

#[test]
fn records_before_an_error_are_given_and_the_error_ends_the_file() {
    let (_folder, path) = file("a.fvecs", &le![1i32, 1.0f32, 2i32, 1.0f32, 1.0f32, 1i32, 1.0f32]);
    let mut reader = RecordReader::open(&path, None).unwrap();
    assert!(reader.next().unwrap().is_ok());
    assert!(reader.next().unwrap().is_err());
    assert!(reader.next().is_none());
}

#[test]
fn bins() {
    check_vectors("a.fbin", &le![2u32, 2u32, 1.0f32, 2.0f32, 3.0f32, -4.0f32], &[&[1.0, 2.0], &[3.0, -4.0]]);
    check_vectors("a.u8bin", &[1, 0, 0, 0, 3, 0, 0, 0, 0, 128, 255], &[&[0.0, 128.0, 255.0]]);
    check_vectors("a.i8bin", &[1, 0, 0, 0, 3, 0, 0, 0, 0, 128, 255], &[&[0.0, -128.0, -1.0]]);
    // One, the smallest number above zero, and the largest one, in half precision.
    check_vectors(
        "a.f16bin",
        &le![1u32, 3u32, 0x3c00u16, 0x0001u16, 0xfbffu16],
        &[&[1.0, 2.0f32.powi(-24), -65504.0]],
    );
}

#[test]
fn bin_errors() {
    check_error("a.fbin", b"", &["empty"]);
    check_error("a.fbin", &[1, 0, 0], &["the header at byte 0", "4 bytes expected, 3 left"]);
    check_error("a.fbin", &[1, 0, 0, 0, 1], &["the header at byte 4", "4 bytes expected, 1 left"]);
    check_error("a.fbin", &le![0u32, 4u32], &["empty", "no records", "(8 bytes)"]);
    check_error("a.fbin", &le![1u32, 0u32], &["the header at byte 4", "dimension 0"]);
    check_error("a.fbin", &le![1u32, u32::MAX], &["dimension 4294967295"]);
    check_error(
        "a.fbin",
        &le![2u32, 1u32, 1.0f32],
        &["byte 8", "2 rows of 1", "16 bytes expected", "it has 12"],
    );
    check_error("a.fbin", &le![1u32, 1u32, 1.0f32, 1.0f32], &["a file of 12 bytes expected", "it has 16"]);
    check_error("a.u8bin", &le![u32::MAX, 65_536u32, 1.0f32], &["4294967295 rows", "281474976645128 bytes"]);
    check_error(
        "a.fbin",
        &le![2u32, 1u32, 1.0f32, f32::INFINITY],
        &["record 1", "at byte 12", "component 0", "is inf"],
    );
    check_error(
        "a.f16bin",
        &le![1u32, 2u32, 0u16, 0x7e00u16],
        &["record 0", "at byte 10", "component 1", "is NaN"],
    );
}

#[test]
fn npy_types_and_versions() {
    let header = |descr: &str| npy_header(descr, "False", "(2, 1)");
    let expected: &[&[f32]] = &[&[1.0], &[-2.0]];
    for version in 1..=3 {
        check_vectors("a.npy", &npy(version, &header("<f4"), &le![1.0f32, -2.0f32]), expected);
    }
    check_vectors("a.npy", &npy(1, &header("<f8"), &le![1.0f64, -2.0f64]), expected);
    check_vectors("a.npy", &npy(1, &header("<f2"), &le![0x3c00u16, 0xc000u16]), expected);
    check_vectors("a.npy", &npy(1, &header("|i1"), &[1, 254]), expected);
    check_vectors("a.npy", &npy(1, &header("|u1"), &[1, 254]), &[&[1.0], &[254.0]]);
    // Other spellings of the same dictionary.
    let spelled = "{\"shape\":(1L,2),\"descr\":\"<f4\",\"fortran_order\":False}";
    check_vectors("a.npy", &npy(1, spelled, &le![1.0f32, 2.0f32]), &[&[1.0, 2.0]]);
}

#[test]
fn npy_errors() {
    let ok = npy_header("<f4", "False", "(2, 1)");
    check_error("a.npy", b"\x93NUM", &["the header at byte 0", "6 bytes expected, 4 left"]);
    check_error("a.npy", b"PK\x03\x04 zip file", &["at byte 0", "NumPy file", "found \"PK\\x03\\x04 z\""]);
    check_error("a.npy", &npy(4, &ok, &[]), &["at byte 6", "version 1, 2 or 3", "found 4.0"]);
    check_error("a.npy", &npy(1, &ok, &[])[..40], &["the header at byte 10", "bytes expected, 30 left"]);
    check_error(
        "a.npy",
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff{",
        &["at byte 8", "found one of 4294967295 bytes"],
    );
    check_error("a.npy", &npy(1, &ok, &[0; 7]), &["2 rows of 1", "expected, it has"]);
    check_npy_error(
        &npy_header("<f4", "True", "(2, 1)"),
        &["at byte 10", "Fortran order", "ascontiguousarray"],
    );
    check_npy_error(
        &npy_header("<f4", "False", "(2,)"),
        &["shape (2,)", "reshape(1, -1) makes it one vector"],
    );
    check_npy_error(&npy_header("<f4", "False", "(2, 1, 1)"), &["3 dimensions"]);
    check_npy_error(&npy_header("<f4", "False", "()"), &["0 dimensions"]);
    check_npy_error(&npy_header("<f4", "False", "(0, 3)"), &["empty"]);
    check_npy_error(&npy_header("<f4", "False", "(3, 0)"), &["the header at byte 10", "dimension 0"]);
    check_npy_error(
        &npy_header("<f4", "False", "(18446744073709551615, 65536)"),
        &["18446744073709551615 rows"],
    );
    check_npy_error(&npy_header("<f4", "False", "(18446744073709551616, 1)"), &["a length below 2^64"]);
    check_npy_error(
        &npy_header("<f4", "False", "(1, 18446744073709551615)"),
        &["dimension 9223372036854775807"],
    );
    check_npy_error(&npy_header(">f4", "False", "(2, 1)"), &["type '>f4'", "|u1"]);
    check_npy_error(&npy_header("<i8", "False", "(2, 1)"), &["type '<i8'"]);
    check_npy_error(
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2, 1)}",
        &["type '[(", "astype"],
    );
    check_npy_error("[]", &["at byte 10", "a dictionary", "found \"[]\""]);
    check_npy_error("{'descr': '<f4", &["at byte 20", "a type in quotes"]);
    check_npy_error("{'descr': [", &["a type in quotes", "found \"[\""]);
    check_npy_error("{'descr': '<f4'", &[", or } after a value", "the end of the header"]);
    check_npy_error("{'other': 1}", &["at byte 11", "one of the keys"]);
    check_npy_error("{} x", &["nothing but spaces", "found \"x\""]);
    check_npy_error("{}", &["the key 'descr'"]);
    check_npy_error("{'shape': (-1, 2)}", &["at byte 21", "found \"-1, 2)}\""]);
    check_npy_error("{'fortran_order': 0}", &["True or False"]);
    let large = npy(1, &npy_header("<f8", "False", "(1, 2)"), &le![1.0f64, 1e300f64]);
    check_error("a.npy", &large, &["record 0", "component 1", "is inf"]);
}

fn record(id: Option<&str>, vector: &[f32], metadata: &[(&str, &str)]) -> Record {
    let metadata = metadata.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
    Record { id: id.map(str::to_owned), vector: vector.to_vec(), metadata }
}

#[test]
fn json_lines() {
    let text = r#"
        {"id": "a", "vector": [1, -2.5e0], "metadata": {"k": "v"}}

        {"id": 7, "vector": [0.1, 0]}
        {"vector": [1, 2], "payload": {"n": 1.50, "b": true, "none": null, "list": [1, "a b", {"x" : 2}]}}
        {"id": null, "vector": [1, 2], "metadata": null}
        {"id": -12345678901234567890123, "vector": [3, 4], "metadata": {"q\"": "\u00e9 \\ \" }"}}"#;
    let expected = [
        record(Some("a"), &[1.0, -2.5], &[("k", "v")]),
        record(Some("7"), &[0.1, 0.0], &[]),
        record(None, &[1.0, 2.0], &[("n", "1.50"), ("b", "true"), ("list", r#"[1,"a b",{"x":2}]"#)]),
        record(None, &[1.0, 2.0], &[]),
        record(Some("-12345678901234567890123"), &[3.0, 4.0], &[("q\"", "é \\ \" }")]),
    ];
    assert_eq!(read("a.jsonl", text.as_bytes()).unwrap(), expected);
    assert_eq!(read("a.jsonl", text.replace('\n', "\r\n").as_bytes()).unwrap(), expected);
    assert_eq!(read("a.jsonl", format!("\u{feff}{}\n", text.trim()).as_bytes()).unwrap(), expected);
    assert_eq!(read("a.jsonl", b"\n \n").unwrap(), []);
    // The same records as an array.
    let array = format!("[{}]", text.trim().replace("}\n", "},\n").replace("},\n\n", "},\n"));
    assert_eq!(read("a.json", array.as_bytes()).unwrap(), expected);
}

#[test]
fn json_array() {
    let text = r#"[
  {
    "id": "a",
    "vector": [
      1.0,
      2.0
    ],
    "metadata": {
      "title": "brackets ]}, quotes \" and a backslash \\"
    }
  },
  { "id": "b", "vector": [3.0, 4.0], "metadata": {} }
]
"#;
    let expected = [
        record(Some("a"), &[1.0, 2.0], &[("title", "brackets ]}, quotes \" and a backslash \\")]),
        record(Some("b"), &[3.0, 4.0], &[]),
    ];
    assert_eq!(read("a.json", text.as_bytes()).unwrap(), expected);
    assert_eq!(read("a.json", b" [ ] ").unwrap(), []);
    assert_eq!(read("a.json", b"[{\"vector\":[1]},{\"vector\":[2]}]").unwrap().len(), 2);
}

#[test]
fn json_larger_than_the_buffer() {
    let row = |i: usize| {
        format!(
            "{{\"id\": {i},\n \"vector\": [{i}, 1], \"metadata\": {{\"t\": \"{}\"}}}}",
            "]é".repeat(i % 97)
        )
    };
    let text = format!("[{}]", (0..5000).map(row).collect::<Vec<_>>().join(" ,\n"));
    assert!(text.len() > 512 * 1024);
    let (_folder, path) = file("a.json", text.as_bytes());
    let mut reader = RecordReader::open(&path, None).unwrap();
    assert_eq!((reader.len_hint(), reader.dim()), (None, None));
    let records: Vec<Record> = reader.by_ref().collect::<Result<_, _>>().unwrap();
    assert_eq!(records.len(), 5000);
    assert_eq!(records[4999], record(Some("4999"), &[4999.0, 1.0], &[("t", &"]é".repeat(4999 % 97))]));
    assert_eq!((reader.bytes_read(), reader.bytes_total()), (text.len() as u64, text.len() as u64));
    assert_eq!(reader.dim(), Some(2));
    let matrix = read_matrix(&path).unwrap();
    assert_eq!((matrix.rows, matrix.dim, matrix.row(7)), (5000, 2, &[7.0, 1.0][..]));
}

#[test]
fn json_lines_errors() {
    let check = |text: &str, parts: &[&str]| check_error("a.jsonl", text.as_bytes(), parts);
    let good = "{\"vector\": [1, 2]}\n";
    check("", &["empty"]);
    check("x", &["record 0 (counting from 0), line 1, column 1 (byte 0)", "expected {", "found \"x\""]);
    check("\n\n  [1, 2]", &["record 0", "line 3, column 3 (byte 4)", "expected {", "found \"[\""]);
    check(
        &format!("{good}\n {{\"vector\": [1, x]}}"),
        &["record 1", "line 3, column 17 (byte 36)", "expected value"],
    );
    check("{\"vector\": [1]", &["record 0", "line 1", "(byte 13)", "EOF"]);
    check("{\"vector\": [1]} {}", &["line 1, column 17 (byte 16)", "trailing characters"]);
    check("{\"vector\": [1], \"colour\": 3}", &["unknown field `colour`", "`metadata`"]);
    check("{\"vector\": [1], \"vector\": [1]}", &["duplicate field `vector`"]);
    check("{\"vector\": [1], \"payload\": {}, \"metadata\": {}}", &["duplicate field `metadata`"]);
    check("{\"id\": \"a\"}", &["missing field `vector`"]);
    check("{\"vector\": \"1\"}", &["invalid type: string", "(byte 13)"]);
    check("{\"vector\": [null]}", &["invalid type: null"]);
    check("{\"vector\": [1e400]}", &["number out of range"]);
    check("{\"vector\": [1, 1e39]}", &["record 0", "line 1, column 19 (byte 18)", "number out of range"]);
    check("{\"vector\": []}", &["record 0", "dimension 0", "1 to 65536"]);
    check(&format!("{{\"vector\": [{}1]}}", "1,".repeat(65_536)), &["record 0", "dimension 65537"]);
    check(
        &format!("{good}{{\"vector\": [1]}}"),
        &["record 1", "at byte 19", "dimension 1, record 0 has dimension 2"],
    );
    check("{\"id\": true, \"vector\": [1]}", &["an id is a string or a number, found true"]);
    check("{\"id\": {\"a\": 1}, \"vector\": [1]}", &["found {\"a\": 1}"]);
    check("{\"vector\": [1], \"metadata\": [1]}", &["invalid type: sequence"]);
    check("{\"vector\": [1], \"metadata\": {\"k\": \"\\ud800\"}}", &["metadata \"k\"", "\\ud800"]);
    check_error("a.jsonl", b"{\"vector\": [1], \"metadata\": {\"k\": \"\xff\"}}", &["record 0", "line 1"]);
}

#[test]
fn json_array_errors() {
    let check = |text: &str, parts: &[&str]| check_error("a.json", text.as_bytes(), parts);
    check("", &["empty"]);
    check("{\"vector\": [1]}", &["line 1, column 1 (byte 0)", "expected [", "found \"{\"", ".jsonl"]);
    check("  ", &["expected [", "the end of the file"]);
    check("[", &["record 0", "(byte 1)", "expected {", "the end of the file"]);
    check("[1]", &["record 0", "expected {", "found \"1\""]);
    check("[,", &["expected {", "found \",\""]);
    check(
        "[\n {\"vector\": [1]},\n]",
        &["record 1", "line 3, column 1 (byte 20)", "expected {", "found \"]\""],
    );
    check("[{\"vector\": [1]} {", &["record 1", "(byte 17)", "a comma or ]", "found \"{\""]);
    check("[{\"vector\": [1]}", &["record 1", "a comma or ]", "the end of the file"]);
    check("[{\"vector\": [1]}] x", &["the end of the file after the array", "found \"x\""]);
    check("[\n{\"vector\":\n [1", &["record 0", "line 3, column 4 (byte 16)", "the end of the record"]);
    check(
        "[{\"vector\": [1]},\n {\n  \"vector\": [y]}]",
        &["record 1", "line 3, column 14 (byte 34)", "expected value"],
    );
    check("[{\"vector\": [1}]", &["record 0", "line 1"]);
    check("[{\"vector\": [1], \"extra\": 1}]", &["unknown field `extra`"]);
}

#[test]
fn a_record_without_end_is_not_read_into_memory() {
    let (_folder, path) = file("a.jsonl", b"{\"vector\": [");
    let long = fs::File::options().append(true).open(&path).unwrap();
    long.set_len(MAX_RECORD_BYTES as u64 + 100).unwrap();
    for format in [Format::Jsonl, Format::Json] {
        if format == Format::Json {
            fs::write(&path, b"[{\"vector\": [").unwrap();
            fs::File::options().append(true).open(&path).unwrap().set_len(1 << 30).unwrap();
        }
        let error = RecordReader::open(&path, Some(format)).unwrap().next().unwrap().unwrap_err();
        check_parts("a.jsonl", &error.to_string(), &["record 0", "longer than 64 MiB"]);
    }
}

#[test]
fn a_matrix_needs_a_record() {
    let (_folder, path) = file("a.json", b"[]");
    check_parts("a.json", &read_matrix(&path).unwrap_err().to_string(), &["empty"]);
}

fn check_ground_truth(name: &str, bytes: &[u8], expected: &GroundTruth) {
    let (_folder, path) = file(name, bytes);
    assert_eq!(read_ground_truth(&path).unwrap(), *expected);
}

fn check_ground_truth_error(name: &str, bytes: &[u8], parts: &[&str]) {
    let (_folder, path) = file(name, bytes);
    check_parts(name, &read_ground_truth(&path).unwrap_err().to_string(), parts);
}

#[test]
fn ground_truth() {
    let mut expected = GroundTruth { n: 2, k: 2, ids: vec![5, 3, 1, 0], distances: vec![0.5, 1.0, 0.0, 2.0] };
    let ids = le![2u32, 2u32, 5i32, 3i32, 1i32, 0i32];
    check_ground_truth("gt.ibin", &[ids.clone(), le![0.5f32, 1.0f32, 0.0f32, 2.0f32]].concat(), &expected);
    assert_eq!(expected.neighbors(1), [1, 0]);
    expected.distances.clear();
    check_ground_truth("gt.ibin", &ids, &expected);
    check_ground_truth("gt.ivecs", &le![2i32, 5i32, 3i32, 2i32, 1i32, 0i32], &expected);
}

#[test]
fn ground_truth_errors() {
    check_ground_truth_error("gt.ibin", b"", &["empty"]);
    check_ground_truth_error("gt.ibin", &le![0u32, 1u32], &["empty"]);
    check_ground_truth_error("gt.ibin", &le![1u32, 0u32], &["at byte 4", "dimension 0"]);
    check_ground_truth_error("gt.ibin", &le![u32::MAX, 100u32], &["4294967295 rows of 100", "it has 8"]);
    check_ground_truth_error(
        "gt.ibin",
        &le![1u32, 2u32, 1u32],
        &["a file of 24 bytes expected", "it has 12"],
    );
    check_ground_truth_error("gt.ivecs", &le![2i32, 1i32], &["record 0", "8 bytes expected, 4 left"]);
    check_ground_truth_error(
        "gt.ivecs",
        &le![1i32, 1i32, 2i32],
        &["record 1", "at byte 8", "dimension 2, record 0 has"],
    );
}

proptest! {
    #[test]
    fn fbin_round_trip(rows in 1..20usize, dim in 1..40usize, seed in prop::num::f32::NORMAL) {
        let data: Vec<f32> = (0..rows * dim).map(|i| seed / (i + 1) as f32).collect();
        let mut bytes = le![rows as u32, dim as u32];
        bytes.extend(data.iter().flat_map(|value| value.to_le_bytes()));
        let (_folder, path) = file("a.fbin", &bytes);
        prop_assert_eq!(read_matrix(&path).unwrap(), Matrix { rows, dim, data });
    }

    #[test]
    fn arbitrary_bytes_never_panic(start in 0..START.len(), tail in prop::collection::vec(any::<u8>(), 0..80)) {
        never_panics(&[START[start], &tail].concat())?;
    }

    #[test]
    fn arbitrary_json_like_text_never_panics(text in r#"[\[{]{0,2}("vector"|"id"|"metadata"|[\[\]{}:,"\\ \n1e.-]|é|null){0,30}"#) {
        never_panics(text.as_bytes())?;
    }
}

/// Beginnings that lead deeper into the readers than random bytes do.
const START: [&[u8]; 6] = [
    b"",
    b"\x01\0\0\0\x02\0\0\0",
    b"\x93NUMPY\x01\0\x20\0",
    b"\x93NUMPY\x01\0\x0a\0{'shape':(",
    b"[{\"vector\":[1",
    b"{\"vector\":[1],\"metadata\":{",
];

/// Reads the bytes as each format. An iterator that does not end would show as a test that does not.
fn never_panics(bytes: &[u8]) -> Result<(), TestCaseError> {
    let (_folder, path) = file("a.bytes", bytes);
    for (_, format) in EXTENSIONS {
        if let Ok(mut reader) = RecordReader::open(&path, Some(format)) {
            for record in reader.by_ref() {
                let Ok(record) = record else { break };
                prop_assert!(
                    !record.vector.is_empty() && record.vector.iter().all(|value| value.is_finite())
                );
            }
            prop_assert!(reader.bytes_read() <= reader.bytes_total());
        }
    }
    let _ = read_ground_truth(&path);
    Ok(())
}
