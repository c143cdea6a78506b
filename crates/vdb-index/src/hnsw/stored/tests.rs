//! Graphs read in place against those they were stored from, and damaged sections.

use super::*;
use crate::Request;
use crate::hash::mix;
use std::collections::HashMap;
use std::sync::Arc;
use vdb_distance::{AlignedVec, Metric};

struct Bytes(AlignedVec<u8>);

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

type Sections = HashMap<&'static str, Vec<u8>>;

fn vector(seed: u64) -> Vec<f32> {
    (0..12).map(|i| (mix(seed * 12 + i) % 1_000) as f32 / 300.0 - 1.5).collect()
}

fn built(metric: Metric, rows: u64) -> (Vectors, Hnsw) {
    let mut vectors = Vectors::new(metric, 12);
    let offsets: Vec<u32> = (0..rows).map(|seed| vectors.push(&vector(seed))).collect();
    let mut hnsw = Hnsw::new(HnswParams { m: Some(6), ef_construction: 40, exact_scan_factor: 0, seed: 3 });
    hnsw.insert(&vectors, &offsets);
    if rows > 100 {
        for row in 5..14 {
            vectors.remove(row);
            hnsw.remove(&vectors, row);
        }
    }
    vectors.push_missing();
    (vectors, hnsw)
}

fn sections(hnsw: &Hnsw) -> Sections {
    hnsw.stored().into_iter().map(|(name, bytes)| (name, bytes.into_owned())).collect()
}

fn opened(vectors: &Vectors, sections: &Sections) -> Result<Hnsw, GraphError> {
    Hnsw::open(vectors, |name| Ok(Arc::new(Bytes(AlignedVec::from(&sections[name][..]))) as Owner))
}

fn answers(vectors: &Vectors, hnsw: &Hnsw) -> Vec<crate::Answer> {
    let some = BitSet::from_fn(vectors.len(), |row| row % 3 == 0);
    let many = BitSet::from_fn(vectors.len(), |row| row % 9 != 0);
    let mut answers = Vec::new();
    for seed in 9_000..9_004 {
        let query = vector(seed);
        for allowed in [None, Some(&some), Some(&many)] {
            let request = Request { allowed, ..Request::new(&query, 5) };
            answers.push(hnsw.search(vectors, &request, 20));
            answers.push(hnsw.search_for_recall(vectors, &request, 0.9));
        }
    }
    answers
}

#[test]
fn a_graph_read_in_place_answers_as_the_one_stored() {
    for metric in [Metric::Euclidean, Metric::Cosine, Metric::DotProduct, Metric::Manhattan] {
        for rows in [0, 1, 120, 600] {
            let (vectors, hnsw) = built(metric, rows);
            let stored = sections(&hnsw);
            let mut read = opened(&vectors, &stored).unwrap();
            assert_eq!(read.is_shared(), rows > 0, "{metric} {rows}");
            assert_eq!(read.to_parts(), hnsw.to_parts());
            assert_eq!(sections(&read), stored);
            assert_eq!(answers(&vectors, &read), answers(&vectors, &hnsw));
            read.verify(&vectors).unwrap();
            read.pin();
            assert!(!read.is_shared() || rows == 0);
            assert_eq!(answers(&vectors, &read), answers(&vectors, &hnsw));
        }
    }
}

#[test]
fn the_number_of_links_and_who_chose_it_are_kept() {
    let (vectors, hnsw) = built(Metric::Euclidean, 120);
    let stored = sections(&hnsw);
    let config = &stored["hnsw.config"];
    let with = |config: Vec<u8>| {
        let mut sections = stored.clone();
        sections.insert("hnsw.config", config);
        opened(&vectors, &sections)
    };
    let first_version = [&[1, 0, 0, 0, 0, 0, 0, 0], &config[8..config.len() - 8]].concat();
    assert_eq!(with(first_version).unwrap().to_parts(), hnsw.to_parts());
    let chosen = [&config[..config.len() - 8], &[1, 0, 0, 0, 0, 0, 0, 0]].concat();
    assert!(with(chosen).unwrap_err().to_string().contains("m 6, chosen: 1"));
    let newer = [&[3, 0, 0, 0, 0, 0, 0, 0], &config[8..]].concat();
    assert!(with(newer).unwrap_err().to_string().contains("version 3"));

    let mut auto = Hnsw::new(HnswParams::default());
    auto.insert(&vectors, &vectors.live().iter().collect::<Vec<u32>>());
    for m in [16, 32] {
        auto.graph = auto.graph.widened(m);
        let read = opened(&vectors, &sections(&auto)).unwrap();
        assert_eq!((read.m(), read.params().m), (m, None));
        assert_eq!(read.to_parts(), auto.to_parts());
    }
}

#[test]
fn a_graph_read_in_place_takes_new_rows() {
    let (mut vectors, hnsw) = built(Metric::Euclidean, 600);
    let stored = sections(&hnsw);
    let mut read = opened(&vectors, &stored).unwrap();
    let kept = read.clone();
    let new: Vec<u32> = (700..720).map(|seed| vectors.push(&vector(seed))).collect();
    read.insert(&vectors, &new);
    read.verify(&vectors).unwrap();
    assert_eq!(read.stats().unreachable, 0);
    assert_eq!(sections(&kept), stored);
    let own = vector(705);
    assert_eq!(read.search(&vectors, &Request::new(&own, 1), 40).hits[0].offset, new[5]);
}

#[test]
fn a_search_of_damaged_sections_never_panics() {
    for metric in [Metric::Euclidean, Metric::DotProduct] {
        for rows in [120, 600] {
            let (vectors, hnsw) = built(metric, rows);
            let stored = sections(&hnsw);
            let mut names: Vec<&str> =
                stored.keys().copied().filter(|name| !stored[name].is_empty()).collect();
            names.sort_unstable();
            let (mut searched, mut found) = (0, 0);
            for seed in 0..1_000 {
                let mut damaged = stored.clone();
                let name = names[seed as usize % names.len()];
                let bytes = damaged.get_mut(name).expect("one of them");
                for place in 0..1 + mix(seed) % 200 {
                    let at = mix(seed << 20 | place) as usize % bytes.len();
                    bytes[at] = mix(seed << 21 | place) as u8;
                }
                let Ok(read) = opened(&vectors, &damaged) else { continue };
                searched += 1;
                answers(&vectors, &read);
                found += usize::from(read.verify(&vectors).is_err());
            }
            assert!(searched > 300 && found > 50, "{searched} searched, {found} found");
        }
    }
}
