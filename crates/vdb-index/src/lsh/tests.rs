//! LSH against brute force: every family, recall, guarantees, updates, storage.

use super::buckets::Buckets;
use super::*;
use crate::testing::{METRICS, Rng, brute_force, filled, recall};
use std::collections::{BTreeMap, BTreeSet};
use vdb_distance::Metric;

const FAMILIES: [LshFamily; 3] = [LshFamily::Hyperplane, LshFamily::FastHyperplane, LshFamily::CrossPolytope];

fn params(family: LshFamily) -> LshParams {
    LshParams { family, num_tables: Some(8), num_functions: None, seed: 4 }
}

fn built(metric: Metric, family: LshFamily, count: usize) -> (Vectors, Lsh) {
    let mut rng = Rng(11);
    let (vectors, offsets) = filled(metric, (0..count).map(|_| rng.clustered(24, 60)));
    let mut lsh = Lsh::new(params(family));
    lsh.insert(&vectors, &offsets);
    (vectors, lsh)
}

fn mean_recall(vectors: &Vectors, lsh: &Lsh, candidates: Option<usize>) -> f64 {
    let mut rng = Rng(12);
    let one = |_| {
        let query = rng.clustered(24, 60);
        let request = Request::new(&query, 10);
        let answer = lsh.search(vectors, &request, candidates);
        assert_eq!(answer.hits.len(), 10);
        assert!(candidates.is_none_or(|wanted| answer.distance_computations == wanted));
        recall(&answer.hits, &brute_force(vectors, &request))
    };
    (0..50).map(one).sum::<f64>() / 50.0
}

#[test]
fn finds_most_neighbours_under_every_metric() {
    for family in FAMILIES {
        for metric in METRICS {
            let (vectors, lsh) = built(metric, family, 12_000);
            let fraction = mean_recall(&vectors, &lsh, Some(120));
            // The lift squeezes the angles between inner-product rows, and sketches know nothing of Manhattan distances.
            let floor = match metric {
                Metric::DotProduct => 0.5,
                Metric::Manhattan => 0.7,
                _ => 0.8,
            };
            assert!(fraction > floor, "{family:?} {metric}: {fraction}");
            // So few that buckets are probed; the others scan all sketches.
            let few = mean_recall(&vectors, &lsh, Some(36));
            assert!(few > 0.5 && few < fraction, "{family:?} {metric}: {few}");
            let more = mean_recall(&vectors, &lsh, Some(1_200));
            assert!(more > fraction && more > floor + 0.15, "{family:?} {metric}: {more}");
        }
    }
}

#[test]
fn the_default_finds_nine_in_ten() {
    for family in FAMILIES {
        for metric in METRICS {
            let (vectors, lsh) = built(metric, family, 12_000);
            let share = mean_recall(&vectors, &lsh, None);
            assert!(share > 0.9, "{family:?} {metric}: {share}");
        }
    }
}

#[test]
fn few_rows_are_all_compared_however_they_came() {
    let mut rng = Rng(21);
    let mut vectors = Vectors::new(Metric::Euclidean, 24);
    let mut lsh = Lsh::new(LshParams::default());
    for step in 0..700 {
        let offset = vectors.push(&rng.clustered(24, 60));
        lsh.insert(&vectors, &[offset]);
        if step % 5 == 3 {
            vectors.remove(offset);
            lsh.remove(&vectors, offset);
        }
        let query = rng.clustered(24, 60);
        let request = Request::new(&query, 5);
        let answer = lsh.search(&vectors, &request, None);
        assert!(answer.exact);
        assert_eq!(answer.hits, brute_force(&vectors, &request));
    }
}

#[test]
fn all_candidates_give_the_true_answer() {
    for family in FAMILIES {
        for metric in METRICS {
            let (vectors, lsh) = built(metric, family, 1_500);
            let query = Rng(13).clustered(24, 60);
            for k in [1, 10, 1_500, 2_000] {
                let request = Request { tie_break: &|a, b| b.cmp(&a), ..Request::new(&query, k) };
                let answer = lsh.search(&vectors, &request, Some(1_500));
                assert!(answer.exact);
                assert_eq!(answer.hits, brute_force(&vectors, &request));
                // All but one row are compared: nothing can be said for sure, but hardly anything is missed.
                let answer = lsh.search(&vectors, &request, Some(1_499));
                assert_eq!(answer.exact, k >= 1_500);
                assert_eq!(answer.hits.len(), k.min(1_500));
                assert!(recall(&answer.hits, &brute_force(&vectors, &request)) > 0.99);
            }
        }
    }
}

#[test]
fn there_are_k_hits_whenever_k_rows_match() {
    for family in FAMILIES {
        let (vectors, lsh) = built(Metric::Euclidean, family, 3_000);
        // The query is far from everything, and the allowed rows lie anywhere.
        let query = vec![-30.0; 24];
        let allowed = BitSet::from_fn(3_000, |i| i % 97 == 0);
        for k in [0, 1, 20, 31, 100] {
            for candidates in [None, Some(0), Some(25)] {
                let request = Request { allowed: Some(&allowed), ..Request::new(&query, k) };
                let answer = lsh.search(&vectors, &request, candidates);
                assert_eq!(answer.hits.len(), k.min(31));
                assert!(answer.hits.iter().all(|hit| allowed.contains(hit.offset)));
            }
        }
    }
}

#[test]
fn every_size_of_vector_and_table_works() {
    let mut rng = Rng(17);
    for family in FAMILIES {
        for dim in [1, 2, 3, 63, 64, 65, 130] {
            for (tables, functions) in [(1, 1), (1, 7), (3, 64), (40, 3)] {
                let (vectors, offsets) = filled(Metric::DotProduct, (0..700).map(|_| rng.vector(dim)));
                let mut lsh = Lsh::new(LshParams {
                    family,
                    num_tables: Some(tables),
                    num_functions: Some(functions),
                    seed: 1,
                });
                lsh.insert(&vectors, &offsets);
                let query = rng.vector(dim);
                assert_eq!(lsh.search(&vectors, &Request::new(&query, 5), Some(20)).hits.len(), 5);
            }
        }
    }
}

#[test]
fn equal_rows_and_zeros_are_no_trouble() {
    for family in FAMILIES {
        for metric in METRICS {
            let rows = (0..3_000).map(|i| if i % 2 == 0 { vec![0.5; 24] } else { vec![0.0; 24] });
            let (vectors, offsets) = filled(metric, rows);
            let mut lsh = Lsh::new(params(family));
            lsh.insert(&vectors, &offsets);
            for query in [[0.5; 24], [0.0; 24], [-1.0; 24], [1e30; 24]] {
                let request = Request::new(&query, 7);
                assert_eq!(lsh.search(&vectors, &request, Some(10)).hits.len(), 7);
            }
        }
    }
}

#[test]
fn codes_grow_with_the_rows() {
    let params = LshParams::default();
    let bits = [0, 1, 100, 10_000, 1_000_000, 100_000_000].map(|rows| params.bits(rows));
    assert_eq!(bits, [1, 1, 5, 12, 18, 20]);
    let specified = LshParams { num_tables: Some(10), num_functions: Some(6), ..params };
    assert_eq!([specified.bits(100), specified.bits(1_000_000)], [5, 6]);
    assert_eq!(specified.tables(), 10);
}

#[test]
fn parameters_out_of_range_are_told() {
    let check =
        |num_tables, num_functions| LshParams { num_tables, num_functions, ..LshParams::default() }.check();
    assert_eq!(check(None, None), Ok(()));
    assert_eq!(check(Some(0), None).unwrap_err(), "num_tables is 0, expected 1 to 1024");
    assert_eq!(check(None, Some(65)).unwrap_err(), "num_functions is 65, expected 1 to 64");
}

/// Every row in the table, by code.
fn contents(table: &Buckets, bits: usize) -> BTreeMap<u32, BTreeSet<u32>> {
    let rows = |code| (code, table.bucket(code).collect::<BTreeSet<u32>>());
    (0..1 << bits).map(rows).filter(|(_, rows)| !rows.is_empty()).collect()
}

#[test]
fn buckets_follow_a_map_of_sets() {
    let mut rng = Rng(18);
    let mut model: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    let mut codes = BTreeMap::new();
    let first: Vec<u32> = (0..500).collect();
    let mut table = Buckets::build(5, &first, |place| place as u32 * 7 % 32);
    for row in first {
        model.entry(row * 7 % 32).or_default().insert(row);
        codes.insert(row, row * 7 % 32);
    }
    for step in 0..20_000 {
        let row = rng.below(4_000) as u32;
        if let Some(code) = codes.remove(&row) {
            model.get_mut(&code).unwrap().remove(&row);
            assert!(!table.remove((code + 1) % 32, row), "it is in another bucket");
            assert!(table.remove(code, row));
            assert!(!table.remove(code, row));
        } else {
            let code = rng.below(32) as u32;
            codes.insert(row, code);
            model.entry(code).or_default().insert(row);
            table.insert(code, row);
        }
        if step % 1_000 == 0 {
            model.retain(|_, rows| !rows.is_empty());
            assert_eq!(contents(&table, 5), model);
        }
    }
    let (&row, _) = codes.first_key_value().unwrap();
    table.remove_anywhere(row);
    assert!(contents(&table, 5).values().all(|rows| !rows.contains(&row)));
}

/// Random inserts, deletes and overwrites; every answer is right about which rows exist, and every row is found.
#[test]
fn changes_keep_tables_and_rows_in_step() {
    for (family, metric) in FAMILIES.into_iter().zip(METRICS) {
        let mut rng = Rng(19);
        let mut vectors = Vectors::new(metric, 24);
        let mut lsh = Lsh::new(params(family));
        let mut free = Vec::new();
        for step in 0..6_000 {
            if rng.below(3) == 0 && vectors.live().count() > 0 {
                let offset = rng.below(vectors.len()) as u32;
                if vectors.remove(offset) {
                    lsh.remove(&vectors, offset);
                    free.push(offset);
                }
            } else {
                let row = rng.clustered(24, 60);
                let offset = match free.pop() {
                    Some(offset) => {
                        vectors.set(offset, &row);
                        offset
                    }
                    None => vectors.push(&row),
                };
                lsh.insert(&vectors, &[offset]);
            }
            if step % 500 == 499 {
                check_all_tables(&vectors, &lsh);
            }
        }
        for offset in vectors.live().iter().step_by(37) {
            let row = vectors.row(offset);
            let request = Request::new(&row, 1);
            let answer = lsh.search(&vectors, &request, Some(20));
            let truth = brute_force(&vectors, &request);
            if metric != Metric::DotProduct {
                assert_eq!(answer.hits[0].distance, truth[0].distance, "{family:?} {metric}");
            }
        }
    }
}

fn check_all_tables(vectors: &Vectors, lsh: &Lsh) {
    let fitted = lsh.fitted.as_ref().unwrap();
    assert_eq!(fitted.rows.count(), vectors.live().count());
    let live: BTreeSet<u32> = vectors.live().iter().collect();
    for table in &fitted.tables {
        let contents = contents(table, fitted.hasher.cells.bits());
        assert_eq!(contents.values().map(BTreeSet::len).sum::<usize>(), live.len());
        assert_eq!(contents.into_values().flatten().collect::<BTreeSet<u32>>(), live);
    }
}

#[test]
fn parts_give_the_same_tables_back() {
    for family in FAMILIES {
        for metric in METRICS {
            let (mut vectors, mut lsh) = built(metric, family, 2_500);
            vectors.remove(5);
            lsh.remove(&vectors, 5);
            let parts = lsh.to_parts();
            let copy = Lsh::from_parts(&vectors, params(family), parts.clone()).unwrap();
            assert_eq!(copy.to_parts(), parts);
            let mut rng = Rng(15);
            for candidates in [None, Some(60)] {
                let query = rng.clustered(24, 60);
                let request = Request::new(&query, 10);
                let answer = lsh.search(&vectors, &request, candidates);
                assert_eq!(copy.search(&vectors, &request, candidates), answer);
            }
        }
    }
}

#[test]
fn the_shortest_vectors_leave_a_centre_that_can_be_stored() {
    let rows = (0..100).map(|i| vec![0.0, if i % 2 == 0 { -8e-40 } else { 1e-45 }, (i % 3) as f32 * 1e-45]);
    for family in FAMILIES {
        let (vectors, offsets) = filled(Metric::Cosine, rows.clone());
        let mut lsh = Lsh::new(params(family));
        lsh.insert(&vectors, &offsets);
        assert!(Lsh::from_parts(&vectors, params(family), lsh.to_parts()).is_ok(), "{family:?}");
    }
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let (vectors, lsh) = built(Metric::DotProduct, LshFamily::CrossPolytope, 800);
    let refused = |change: &dyn Fn(&mut LshParts)| {
        let mut parts = lsh.to_parts();
        change(&mut parts);
        Lsh::from_parts(&vectors, params(LshFamily::CrossPolytope), parts).unwrap_err()
    };
    assert_eq!(refused(&|parts| parts.center.truncate(3)), "its centre has 3 values, expected 24");
    assert_eq!(refused(&|parts| parts.center.clear()), "its centre has 0 values, expected 24");
    assert_eq!(refused(&|parts| parts.center[7] = f32::NAN), "value 7 of the centre is NaN");
    assert!(refused(&|parts| parts.max_norm = f32::INFINITY).contains("norm inf"));
    assert!(refused(&|parts| parts.max_norm = -1.0).contains("norm -1"));
    assert_eq!(refused(&|parts| parts.trained = 0), "it was fitted to 0 rows, expected 1 to 800");
    assert!(refused(&|parts| parts.trained = u64::MAX).contains("expected 1 to 800"));
    let wrong = LshParams { num_tables: Some(9_999), ..LshParams::default() };
    assert!(Lsh::from_parts(&vectors, wrong, lsh.to_parts()).unwrap_err().contains("num_tables"));
    let none = Vectors::new(Metric::Cosine, 3);
    let empty = Lsh::from_parts(&none, LshParams::default(), LshParts::default()).unwrap();
    assert_eq!(empty.search(&none, &Request::new(&[1.0; 3], 4), None).hits, []);
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let mut rng = Rng(20);
    let rows: Vec<Vec<f32>> = (0..5_000).map(|_| rng.clustered(24, 60)).collect();
    let queries: Vec<Vec<f32>> = (0..20).map(|_| rng.clustered(24, 60)).collect();
    for family in FAMILIES {
        let answers = |threads: usize| -> Vec<Answer> {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let (vectors, offsets) = filled(Metric::Cosine, rows.iter().cloned());
                let mut lsh = Lsh::new(params(family));
                lsh.insert(&vectors, &offsets[..3_000]);
                lsh.insert(&vectors, &offsets[3_000..]);
                let search = |query: &Vec<f32>| lsh.search(&vectors, &Request::new(query, 10), None);
                queries.iter().map(search).collect()
            })
        };
        let one = answers(1);
        assert_eq!(answers(2), one);
        assert_eq!(answers(5), one);
    }
}
