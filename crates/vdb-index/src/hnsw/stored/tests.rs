//! Graphs and rows that are read where they lie: the same answers as of those that were stored, and no panic when the bytes
//! are wrong.

use super::*;
use crate::testing::{METRICS, Rng, filled};
use crate::{BitSet, FlatScan, Request, StoredRows};
use std::collections::BTreeMap;
use vdb_distance::Metric;

/// Codes come with 512 rows.
const SIZES: [usize; 4] = [0, 1, 40, 700];
const PARAMS: HnswParams = HnswParams { m: 6, ef_construction: 40, exact_scan_factor: 0, seed: 3 };

/// Bytes on a cache line, as a mapped section's are.
fn aligned(bytes: &[u8]) -> Owner {
    struct Held(AlignedVec<u8>);
    impl AsRef<[u8]> for Held {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    Arc::new(Held(AlignedVec::from(bytes)))
}

type Sections = BTreeMap<&'static str, Vec<u8>>;

fn stored(vectors: &Vectors, hnsw: &Hnsw) -> Sections {
    let StoredRows { values, norms, .. } = vectors.stored();
    let mut sections: Sections = hnsw.stored().into_iter().map(|(name, bytes)| (name, bytes.into_owned())).collect();
    sections.insert("values", values.to_vec());
    sections.insert("norms", norms.as_bytes().to_vec());
    sections
}

fn open(vectors: &Vectors, sections: &Sections) -> Result<(Vectors, Hnsw), GraphError> {
    let (live, element) = (vectors.live().clone(), vectors.stored().element);
    let section = |name: &str| aligned(&sections[name]);
    let (metric, dim) = (vectors.metric(), vectors.dim());
    let vectors = Vectors::open(metric, dim, element, live, section("values"), section("norms")).map_err(GraphError)?;
    let hnsw = Hnsw::open(&vectors, |name| Ok::<_, GraphError>(section(name)))?;
    Ok((vectors, hnsw))
}

fn built(metric: Metric, rows: usize, is_short: bool) -> (Vectors, Hnsw) {
    let mut rng = Rng(rows as u64);
    let row = |rng: &mut Rng| -> Vec<f32> {
        let row = rng.clustered(9, 5);
        if is_short { row.iter().map(|value| (value * 40.0).abs().min(255.0).round()).collect() } else { row }
    };
    let (mut vectors, offsets) = filled(metric, (0..rows).map(|_| row(&mut rng)));
    if vectors.is_empty() {
        return (Vectors::new(metric, 9), Hnsw::new(PARAMS));
    }
    if rows > 100 {
        vectors.push_missing();
    }
    let mut hnsw = Hnsw::new(PARAMS);
    hnsw.insert(&vectors, &offsets);
    for row in (0..rows as u32).step_by(30) {
        vectors.remove(row);
        hnsw.remove(&vectors, row);
    }
    (vectors, hnsw)
}

fn search_all(vectors: &Vectors, hnsw: &Hnsw, seed: u64) -> Vec<crate::Answer> {
    let mut rng = Rng(seed);
    let third = BitSet::from_fn(vectors.len(), |row| row % 3 == 0);
    let mut answers = Vec::new();
    for allowed in [None, Some(&third)] {
        for _ in 0..8 {
            let query = rng.clustered(9, 5);
            let request = Request { allowed, ..Request::new(&query, 5) };
            answers.push(hnsw.search(vectors, &request, 20));
            answers.push(hnsw.search_for_recall(vectors, &request, 0.9));
            answers.push(FlatScan.search(vectors, &request));
        }
    }
    answers
}

#[test]
fn opened_graphs_answer_and_grow_as_those_that_were_stored() {
    for metric in METRICS {
        for (rows, is_short) in SIZES.into_iter().flat_map(|rows| [(rows, false), (rows, true)]) {
            let what = format!("{metric}, {rows} rows, short {is_short}");
            let (mut vectors, mut hnsw) = built(metric, rows, is_short);
            let sections = stored(&vectors, &hnsw);
            let (mut opened_vectors, mut opened) = open(&vectors, &sections).expect(&what);
            assert_eq!(stored(&opened_vectors, &opened), sections, "{what}");
            assert!(opened.verify(&opened_vectors).is_ok(), "{what}");
            assert_eq!(search_all(&opened_vectors, &opened, 1), search_all(&vectors, &hnsw, 1), "{what}");
            opened.pin();
            assert_eq!(search_all(&opened_vectors, &opened, 1), search_all(&vectors, &hnsw, 1), "{what}, pinned");
            if rows > 100 {
                let codes = opened.bytes();
                assert!(opened_vectors.bytes() < 1_000, "{what}: rows were copied");
                assert!(codes > 10_000 && open(&vectors, &sections).unwrap().1.bytes() < 10_000, "{what}");
            }
            // Written to, they part from the bytes.
            let mut rng = Rng(9);
            for (vectors, hnsw) in [(&mut vectors, &mut hnsw), (&mut opened_vectors, &mut opened)] {
                let mut rng = Rng(rng.below(1) as u64 + 5);
                let new: Vec<u32> = (0..20).map(|_| vectors.push(&rng.clustered(9, 5))).collect();
                hnsw.insert(vectors, &new);
                assert_eq!(hnsw.stats().unreachable, 0, "{what}");
            }
            for (name, bytes) in stored(&vectors, &hnsw) {
                // How rows are coded is a matter of when codes were trained, and links of the codes.
                if ["values", "norms", "hnsw.levels"].contains(&name) {
                    assert_eq!(stored(&opened_vectors, &opened)[name], bytes, "{what}: {name}");
                }
            }
        }
    }
}

/// Whatever a file says, opening is an error or a search ends.
#[test]
fn damaged_arrays_never_panic() {
    let seeds = if cfg!(debug_assertions) { 600 } else { 6_000 };
    let built: Vec<(Vectors, Hnsw)> = METRICS.iter().map(|metric| built(*metric, 700, false)).collect();
    let sections: Vec<Sections> = built.iter().map(|(vectors, hnsw)| stored(vectors, hnsw)).collect();
    let (mut refused, mut searched) = (0, 0);
    for seed in 0..seeds {
        let mut rng = Rng(seed * 77 + 1);
        let one = rng.below(built.len());
        let mut damaged = sections[one].clone();
        let names: Vec<&'static str> = damaged.keys().copied().collect();
        for _ in 0..1 + rng.below(3) {
            let bytes = damaged.get_mut(names[rng.below(names.len())]).unwrap();
            match rng.below(8) {
                0 => bytes.truncate(rng.below(bytes.len() + 1)),
                1 => bytes.extend([7; 64]),
                _ if !bytes.is_empty() => {
                    for _ in 0..1 + rng.below(40) {
                        let place = rng.below(bytes.len());
                        bytes[place] = if rng.below(2) == 0 { 0xff } else { rng.next() as u8 };
                    }
                }
                _ => {}
            }
        }
        let (vectors, _) = &built[one];
        match open(vectors, &damaged) {
            Err(_) => refused += 1,
            Ok((vectors, hnsw)) => {
                let answers = search_all(&vectors, &hnsw, seed);
                assert!(answers.iter().all(|answer| answer.hits.len() <= 5));
                let _ = hnsw.verify(&vectors);
                searched += 1;
            }
        }
    }
    assert!(refused > seeds / 10 && searched > seeds / 3, "{refused} refused, {searched} searched");
}
