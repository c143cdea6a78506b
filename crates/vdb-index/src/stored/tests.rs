//! Codes, lists and tables read in place against those they were stored from, and damaged sections.

use crate::hash::mix;
use crate::testing::{METRICS, Rng};
use crate::{
    Answer, BitSet, CodeKind, Coded, CodedParams, Ivf, IvfParams, Lsh, LshFamily, LshParams, Request,
    Sections, Vectors,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use vdb_distance::{AlignedVec, Metric, Owner};

const DIM: usize = 12;

struct Bytes(AlignedVec<u8>);

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

type Stored = BTreeMap<&'static str, Vec<u8>>;

fn copied(sections: Sections<'_>) -> Stored {
    sections.into_iter().map(|(name, bytes)| (name, bytes.into_owned())).collect()
}

fn section(stored: &Stored, name: &str) -> Result<Owner, String> {
    let bytes = stored.get(name).ok_or_else(|| format!("no section {name}"))?;
    Ok(Arc::new(Bytes(AlignedVec::from(&bytes[..]))))
}

/// What the three have in common.
#[derive(Clone)]
#[allow(clippy::large_enum_variant, reason = "there is one at a time")]
enum Any {
    Coded(Coded),
    Ivf(Ivf),
    Lsh(Lsh),
}

impl Any {
    fn stored(&self) -> Stored {
        match self {
            Any::Coded(index) => copied(index.stored()),
            Any::Ivf(index) => copied(index.stored()),
            Any::Lsh(index) => copied(index.stored()),
        }
    }

    fn opened(&self, vectors: &Vectors, stored: &Stored) -> Result<Any, String> {
        let section = |name: &str| section(stored, name);
        Ok(match self {
            Any::Coded(index) => Any::Coded(Coded::open(*index.params(), vectors, section)?),
            Any::Ivf(index) => Any::Ivf(Ivf::open(*index.params(), vectors, section)?),
            Any::Lsh(index) => Any::Lsh(Lsh::open(*index.params(), vectors, section)?),
        })
    }

    fn search(&self, vectors: &Vectors, request: &Request<'_>) -> Answer {
        match self {
            Any::Coded(index) => index.search(vectors, request, Some(2)),
            Any::Ivf(index) => index.search(vectors, request, Some(4)),
            Any::Lsh(index) => index.search(vectors, request, Some(90)),
        }
    }

    fn insert(&mut self, vectors: &Vectors, offsets: &[u32]) {
        match self {
            Any::Coded(index) => index.insert(vectors, offsets),
            Any::Ivf(index) => index.insert(vectors, offsets),
            Any::Lsh(index) => index.insert(vectors, offsets),
        }
    }

    /// Whether it is known to be damaged.
    fn verify(&self, vectors: &Vectors) -> Result<(), String> {
        match self {
            Any::Coded(_) => Ok(()),
            Any::Ivf(index) => index.verify(vectors),
            Any::Lsh(index) => index.verify(vectors),
        }
    }

    fn is_shared(&self) -> bool {
        match self {
            Any::Coded(index) => index.is_shared(),
            Any::Ivf(index) => index.is_shared(),
            Any::Lsh(index) => index.is_shared(),
        }
    }

    fn pin(&mut self) {
        match self {
            Any::Coded(index) => index.pin(),
            Any::Ivf(index) => index.pin(),
            Any::Lsh(index) => index.pin(),
        }
    }
}

/// Rows, some of which are missing.
fn rows(metric: Metric, count: usize) -> Vectors {
    let mut rng = Rng(90);
    let mut vectors = Vectors::new(metric, DIM);
    for _ in 0..count {
        vectors.push(&rng.clustered(DIM, 20));
    }
    vectors.push_missing();
    vectors.push(&rng.clustered(DIM, 20));
    vectors
}

fn built(vectors: &Vectors) -> Vec<(String, Any)> {
    let mut all = Vec::new();
    for kind in CodeKind::ALL {
        let params = CodedParams { seed: 3, ..CodedParams::new(kind) };
        if let Ok(index) = Coded::build(params, vectors) {
            all.push((kind.to_string(), Any::Coded(index)));
        }
    }
    for (bits, spill) in [(1, false), (4, false), (3, true)] {
        let params = IvfParams { bits, spill, lists: Some(30), seed: 4 };
        all.push((format!("ivf {bits} {spill}"), Any::Ivf(Ivf::build(params, vectors).unwrap())));
    }
    for family in [LshFamily::Hyperplane, LshFamily::FastHyperplane, LshFamily::CrossPolytope] {
        let params = LshParams { family, num_tables: Some(5), num_functions: Some(7), seed: 5 };
        all.push((format!("{family:?}"), Any::Lsh(Lsh::build(params, vectors).unwrap())));
    }
    all
}

fn answers(vectors: &Vectors, index: &Any) -> Vec<Answer> {
    let most = BitSet::from_fn(vectors.len(), |row| row % 5 != 0);
    let mut rng = Rng(91);
    let mut answers = Vec::new();
    for _ in 0..4 {
        let query = rng.clustered(DIM, 20);
        for allowed in [None, Some(&most)] {
            answers.push(index.search(vectors, &Request { allowed, ..Request::new(&query, 10) }));
        }
    }
    answers
}

#[test]
fn an_index_read_in_place_answers_as_the_one_stored() {
    for metric in METRICS {
        let vectors = rows(metric, 1_500);
        let (mut shared, mut exact) = (0, 0);
        for (name, index) in built(&vectors) {
            let (stored, expected) = (index.stored(), answers(&vectors, &index));
            let mut read = index.opened(&vectors, &stored).unwrap();
            shared += usize::from(read.is_shared());
            exact += expected.iter().filter(|answer| answer.exact).count();
            assert_eq!(answers(&vectors, &read), expected, "{name} {metric}");
            assert!(expected.iter().all(|answer| answer.hits.len() == 10), "{name} {metric}");
            assert_eq!(read.stored(), stored, "{name} {metric}");
            read.verify(&vectors).unwrap();
            read.pin();
            assert!(!read.is_shared());
            assert_eq!(answers(&vectors, &read), expected, "{name} {metric}");
        }
        assert!(shared >= 10 && exact == 0, "{metric}: {shared} read in place, {exact} exact answers");
    }
}

#[test]
fn few_rows_are_indexed_where_that_is_asked_for() {
    for metric in METRICS {
        for count in [0, 1, 30] {
            let vectors = rows(metric, count);
            for (name, index) in built(&vectors) {
                let stored = index.stored();
                let query = Rng(7).clustered(DIM, 20);
                let request = Request::new(&query, 40);
                let expected = index.search(&vectors, &request);
                assert_eq!(expected.hits.len(), count + 1, "{name} {metric} {count}");
                if !stored.is_empty() {
                    let read = index.opened(&vectors, &stored).unwrap();
                    assert_eq!(read.search(&vectors, &request), expected, "{name} {metric} {count}");
                    read.verify(&vectors).unwrap();
                }
            }
        }
    }
}

#[test]
fn an_index_read_in_place_takes_new_rows() {
    let mut vectors = rows(Metric::Euclidean, 1_500);
    let all = built(&vectors);
    let new: Vec<u32> = (0..20).map(|i| vectors.push(&[3.0 + i as f32; DIM])).collect();
    let before = rows(Metric::Euclidean, 1_500);
    for (name, index) in all {
        let stored = index.stored();
        if stored.is_empty() {
            continue;
        }
        let mut read = index.opened(&before, &stored).unwrap();
        let kept = read.clone();
        read.insert(&vectors, &new);
        read.verify(&vectors).unwrap();
        // As many candidates as there are new rows, which codes trained without them cannot tell apart.
        let found = read.search(&vectors, &Request::new(&[8.0; DIM], 20));
        assert_eq!(found.hits[0].offset, new[5], "{name}");
        assert_eq!(kept.stored(), stored, "{name}");
        if let Any::Ivf(ivf) = &mut read {
            let mut left = vectors.clone();
            for &row in &new {
                ivf.remove(&left, row);
                left.remove(row);
            }
            ivf.verify(&left).unwrap();
        }
    }
}

#[test]
fn a_search_of_damaged_sections_never_panics() {
    for metric in [Metric::Cosine, Metric::DotProduct, Metric::Manhattan] {
        let vectors = rows(metric, 1_100);
        let (mut searched, mut found, mut refused) = (0, 0, 0);
        for (name, index) in built(&vectors) {
            let stored = index.stored();
            let names: Vec<&str> = stored.keys().copied().filter(|name| !stored[name].is_empty()).collect();
            for seed in 0..40 * names.len() as u64 {
                let mut damaged = stored.clone();
                let section = names[seed as usize % names.len()];
                let bytes = damaged.get_mut(section).expect("one of them");
                if seed % 23 == 22 {
                    bytes.pop();
                }
                for place in 0..1 + mix(seed) % 60 {
                    let at = mix(seed << 20 | place) as usize % bytes.len();
                    bytes[at] = mix(seed << 21 | place) as u8;
                }
                let Ok(read) = index.opened(&vectors, &damaged) else {
                    refused += 1;
                    continue;
                };
                searched += 1;
                for answer in answers(&vectors, &read) {
                    let are_live = answer.hits.iter().all(|hit| vectors.live().contains(hit.offset));
                    assert!(are_live, "{name}, {section}, seed {seed}");
                }
                found += usize::from(read.verify(&vectors).is_err());
            }
        }
        println!("{metric}: {searched} searched, {refused} refused, {found} found by verification");
        assert!(searched > 200 && refused > 50 && found > 50, "{metric}: {searched}, {refused}, {found}");
    }
}

#[test]
fn settings_of_another_index_are_refused() {
    let vectors = rows(Metric::Euclidean, 1_100);
    let sections = |stored: Stored| move |name: &str| section(&stored, name);
    let stored = copied(Coded::build(CodedParams::new(CodeKind::Sq8), &vectors).unwrap().stored());
    let other = Coded::open(CodedParams::new(CodeKind::Sq4), &vectors, sections(stored.clone()));
    assert!(other.unwrap_err().contains("bytes of codes"));
    let mut fewer = vectors.clone();
    fewer.push(&[0.0; DIM]);
    let other = Coded::open(CodedParams::new(CodeKind::Sq8), &fewer, sections(stored));
    assert_eq!(other.unwrap_err(), "codes of 1102 rows, expected 1103");
    let ivf = IvfParams::default();
    let stored = copied(Ivf::build(ivf, &vectors).unwrap().stored());
    let other = Ivf::open(IvfParams { bits: 2, ..ivf }, &vectors, sections(stored.clone()));
    assert!(other.unwrap_err().contains("its lists have"));
    assert!(Ivf::open(ivf, &fewer, sections(stored)).unwrap_err().contains("rows, expected"));
    let lsh = LshParams::default();
    let stored = copied(Lsh::build(lsh, &vectors).unwrap().stored());
    let other = Lsh::open(LshParams { num_tables: Some(3), ..lsh }, &vectors, sections(stored.clone()));
    assert!(other.unwrap_err().contains("bytes of 3 tables"));
    assert!(Lsh::open(lsh, &fewer, sections(stored)).is_err());
}
