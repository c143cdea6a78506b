//! Writers of the vector files that the tests hand to the program, and the vectors in them.

use half::f16;
use serde_json::json;

/// `rows` vectors around a few centres, values −100 to 100 in whole numbers: every format holds them exactly or, as
/// f16, nearly so.
pub(crate) fn vectors(rows: usize, dim: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut state = seed;
    let mut random = |bound: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((state >> 33) % bound) as i64
    };
    let centers: Vec<Vec<i64>> = (0..8).map(|_| (0..dim).map(|_| random(141) - 70).collect()).collect();
    let mut row = || -> Vec<f32> {
        let center = &centers[random(8) as usize];
        center.iter().map(|value| (value + random(61) - 30) as f32).collect()
    };
    (0..rows).map(|_| row()).collect()
}

/// The same vectors moved into 0 to 255, for u8 files.
pub(crate) fn unsigned(rows: &[Vec<f32>]) -> Vec<Vec<f32>> {
    rows.iter().map(|row| row.iter().map(|value| value + 100.0).collect()).collect()
}

fn matrix(rows: &[Vec<f32>], encode: impl Fn(f32) -> Vec<u8>) -> Vec<u8> {
    let header = [rows.len() as u32, rows[0].len() as u32].map(u32::to_le_bytes).concat();
    [header, rows.iter().flatten().flat_map(|&value| encode(value)).collect()].concat()
}

pub(crate) fn fbin(rows: &[Vec<f32>]) -> Vec<u8> {
    matrix(rows, |value| value.to_le_bytes().to_vec())
}

pub(crate) fn u8bin(rows: &[Vec<f32>]) -> Vec<u8> {
    matrix(rows, |value| vec![value as u8])
}

pub(crate) fn f16bin(rows: &[Vec<f32>]) -> Vec<u8> {
    matrix(rows, |value| f16::from_f32(value).to_le_bytes().to_vec())
}

pub(crate) fn fvecs(rows: &[Vec<f32>]) -> Vec<u8> {
    let encode = |row: &Vec<f32>| -> Vec<u8> {
        let dim = (row.len() as i32).to_le_bytes();
        dim.into_iter().chain(row.iter().flat_map(|value| value.to_le_bytes())).collect()
    };
    rows.iter().flat_map(encode).collect()
}

/// A NumPy array, format version 1.0.
pub(crate) fn npy(rows: &[Vec<f32>]) -> Vec<u8> {
    let (count, dim) = (rows.len(), rows[0].len());
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({count}, {dim}), }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.into_bytes());
    bytes.extend(rows.iter().flatten().flat_map(|value| value.to_le_bytes()));
    bytes
}

/// Records with the ids PREFIX0, PREFIX1, … and the fields `parity` and `number`.
pub(crate) fn jsonl(prefix: &str, rows: &[Vec<f32>]) -> String {
    let line = |(number, vector): (usize, &Vec<f32>)| {
        let parity = if number % 2 == 0 { "even" } else { "odd" };
        let metadata = json!({ "parity": parity, "number": number });
        format!("{}\n", json!({ "id": format!("{prefix}{number}"), "vector": vector, "metadata": metadata }))
    };
    rows.iter().enumerate().map(line).collect()
}

/// Ground truth: ids of all queries, then distances.
pub(crate) fn ibin(neighbours: &[Vec<(i32, f32)>]) -> Vec<u8> {
    let header = [neighbours.len() as u32, neighbours[0].len() as u32].map(u32::to_le_bytes).concat();
    let ids = neighbours.iter().flatten().flat_map(|(id, _)| id.to_le_bytes());
    let distances = neighbours.iter().flatten().flat_map(|(_, distance)| distance.to_le_bytes());
    header.into_iter().chain(ids).chain(distances).collect()
}

/// The payload of a data set's rows: a number each.
pub(crate) fn bench_payload(rows: usize) -> String {
    (0..rows).map(|row| format!("{}\n", json!({ "bucket": row, "text": "left out" }))).collect()
}
