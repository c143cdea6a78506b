//! Filtered searches against brute force: filters of every share, with and against the query, and filters that leave
//! islands.

use super::super::{Hnsw, HnswParams};
use crate::testing::{METRICS, Rng, brute_force, filled, recall};
use crate::{BitSet, Request, Vectors};
use vdb_distance::Metric;

const ROWS: usize = 4_000;
const DIM: usize = 24;
const CLUSTERS: usize = 20;
/// Walks wherever it can.
const WALKING: HnswParams = HnswParams { m: Some(8), ef_construction: 80, exact_scan_factor: 0, seed: 3 };
const QUERIES: usize = 40;

/// A point of a cluster.
fn point(rng: &mut Rng, cluster: usize) -> Vec<f32> {
    let mut center = Rng(cluster as u64 * 1_000 + 5);
    (0..DIM).map(|_| 0.5 + center.signed() + 0.4 * rng.signed()).collect()
}

/// Rows whose cluster is their offset modulo [`CLUSTERS`].
fn built(metric: Metric) -> (Vectors, Hnsw) {
    let mut rng = Rng(41);
    let (vectors, offsets) = filled(metric, (0..ROWS).map(|row| point(&mut rng, row % CLUSTERS)));
    let mut hnsw = Hnsw::new(WALKING);
    hnsw.insert(&vectors, &offsets);
    (vectors, hnsw)
}

/// A share of all rows that depends on nothing.
fn share(of: f64) -> BitSet {
    BitSet::from_fn(ROWS, |row| (crate::hash::mix(u64::from(row) + 77) % 10_000) as f64 <= of * 10_000.0)
}

fn clusters(allowed: &[usize]) -> BitSet {
    BitSet::from_fn(ROWS, |row| allowed.contains(&(row as usize % CLUSTERS)))
}

/// Mean recall of queries near a cluster, after checking what holds for every answer.
fn checked(vectors: &Vectors, hnsw: &Hnsw, cluster: impl Fn(usize) -> usize, allowed: &BitSet) -> f64 {
    let mut rng = Rng(42);
    let found = (0..QUERIES).map(|number| {
        let query = point(&mut rng, cluster(number));
        let request = Request { allowed: Some(allowed), ..Request::new(&query, 10) };
        let answer = hnsw.search(vectors, &request, 48);
        let all = brute_force(vectors, &Request { k: ROWS, ..request });
        let truth = &all[..all.len().min(10)];
        assert_eq!(answer.hits.len(), truth.len());
        assert!(
            answer.hits.iter().all(|hit| all.contains(hit)),
            "a hit that does not match, or at a wrong distance"
        );
        assert!(answer.hits.is_sorted_by_key(|hit| (hit.distance, hit.offset)));
        assert!(!answer.exact || answer.hits == truth, "an answer called exact that is not");
        recall(&answer.hits, truth)
    });
    found.sum::<f64>() / QUERIES as f64
}

/// The cluster whose centre is the farthest from that of `cluster`.
fn farthest(vectors: &Vectors, cluster: usize) -> usize {
    let row = |cluster: usize| vectors.row(cluster as u32);
    let distance = |other: &usize| vectors.metric().calculate(&row(cluster), &row(*other));
    let nearer = |a: &usize, b: &usize| distance(a).total_cmp(&distance(b));
    let similar = matches!(vectors.metric(), Metric::Cosine | Metric::DotProduct);
    if similar { (0..CLUSTERS).min_by(nearer) } else { (0..CLUSTERS).max_by(nearer) }.unwrap()
}

#[test]
fn filters_of_every_share_find_their_neighbours_under_every_metric() {
    for metric in METRICS {
        let (vectors, mut hnsw) = built(metric);
        let any = |number| number % CLUSTERS;
        for factor in [0, 1] {
            hnsw.params.exact_scan_factor = factor;
            for (of, floor) in [(0.9, 0.95), (0.5, 0.95), (0.2, 0.93), (0.05, 0.93), (0.005, 0.95)] {
                let found = checked(&vectors, &hnsw, any, &share(of));
                assert!(found > floor, "{metric}, {of} of the rows, factor {factor}: recall {found}");
            }
        }
    }
}

/// Where walks go from matching row to matching row, they find as many as a walk of the same beam does without a filter.
#[test]
fn walks_among_matching_rows_find_as_many_as_those_among_all() {
    let mut rng = Rng(43);
    let (vectors, offsets) = filled(Metric::Euclidean, (0..20_000).map(|_| rng.vector(12)));
    let mut hnsw = Hnsw::new(WALKING);
    hnsw.insert(&vectors, &offsets);
    let mean = |of: f64| {
        let allowed = BitSet::from_fn(vectors.len(), |row| {
            (crate::hash::mix(u64::from(row) + 77) % 10_000) as f64 <= of * 10_000.0
        });
        let mut rng = Rng(44);
        let recalls = (0..400).map(|_| {
            let query = rng.vector(12);
            let request = Request { allowed: Some(&allowed), ..Request::new(&query, 10) };
            let answer = hnsw.search(&vectors, &request, 32);
            assert!(!answer.exact && answer.hops > 0);
            recall(&answer.hits, &brute_force(&vectors, &request))
        });
        recalls.sum::<f64>() / 400.0
    };
    let all = mean(1.0);
    for of in [0.3, 0.1] {
        let found = mean(of);
        assert!(found > all - 0.01, "{of} of the rows: {found}, of all rows {all}");
    }
}

#[test]
fn filters_with_and_against_the_query_find_their_neighbours() {
    for metric in METRICS {
        let (vectors, hnsw) = built(metric);
        for cluster in [0, 7, 13] {
            let far = farthest(&vectors, cluster);
            for allowed in [clusters(&[cluster]), clusters(&[far]), clusters(&[far, (far + 1) % CLUSTERS])] {
                let found = checked(&vectors, &hnsw, |_| cluster, &allowed);
                assert!(found > 0.93, "{metric}, queries near {cluster}, farthest {far}: recall {found}");
            }
        }
    }
}

#[test]
fn islands_are_all_found() {
    for metric in METRICS {
        let (vectors, hnsw) = built(metric);
        // Three rows of every other cluster, so that the ten nearest lie on several islands.
        let allowed = BitSet::from_fn(ROWS, |row| {
            let (cluster, number) = (row as usize % CLUSTERS, row as usize / CLUSTERS);
            cluster.is_multiple_of(2) && [3, 90, 151].contains(&number)
        });
        let found = checked(&vectors, &hnsw, |number| number % CLUSTERS, &allowed);
        assert!(found > 0.95, "{metric}: {found}");
    }
}

#[test]
fn all_and_none_allowed() {
    let (vectors, hnsw) = built(Metric::Euclidean);
    let any = |number| number % CLUSTERS;
    assert!(checked(&vectors, &hnsw, any, &BitSet::from_fn(ROWS, |_| true)) > 0.97);
    assert_eq!(checked(&vectors, &hnsw, any, &BitSet::new(ROWS)), 1.0);
    assert_eq!(checked(&vectors, &hnsw, any, &BitSet::from_members(ROWS, &[77])), 1.0);
}

#[test]
fn deleted_rows_are_no_hits_and_cost_no_recall() {
    let (mut vectors, mut hnsw) = built(Metric::Cosine);
    for row in (0..ROWS as u32).step_by(12) {
        vectors.remove(row);
        assert!(hnsw.remove(&vectors, row).is_empty());
    }
    let any = |number| number % CLUSTERS;
    assert!(checked(&vectors, &hnsw, any, &BitSet::from_fn(ROWS, |_| true)) > 0.97);
    assert!(checked(&vectors, &hnsw, any, &share(0.1)) > 0.93);
}

#[test]
fn walks_compare_a_part_of_the_matching_rows_and_only_those() {
    let (vectors, hnsw) = built(Metric::Euclidean);
    let allowed = share(0.2);
    let query = point(&mut Rng(43), 5);
    let request = Request { allowed: Some(&allowed), ..Request::new(&query, 10) };
    let answer = hnsw.search(&vectors, &request, 12);
    assert!(answer.hops > 0 && !answer.exact, "{answer:?}");
    assert!(answer.distance_computations < allowed.count() * 3 / 4, "{answer:?}");
}

#[test]
fn scans_have_a_first_look_and_go_on_where_it_tells_little() {
    // A third of the rows match: too many to compare exactly, too few to walk.
    let params = HnswParams { exact_scan_factor: 4, ..WALKING };
    let (rows, dim, k, ef) = (3_600, 130, 10, 20);
    let allowed = BitSet::from_fn(rows, |row| row.is_multiple_of(3));
    // With variance in few components, and as much in any.
    for (falls, most) in [(true, 1.5), (false, 2.1)] {
        let mut rng = Rng(45);
        let scale = |at: usize| if falls { (-(at as f32) / 45.0).exp() } else { 1.0 };
        let mut drawn = || -> Vec<f32> { (0..dim).map(|at| rng.signed() * scale(at)).collect() };
        let (vectors, offsets) = filled(Metric::Euclidean, (0..rows).map(|_| drawn()));
        let mut hnsw = Hnsw::new(params);
        hnsw.insert(&vectors, &offsets);
        let (mut found, mut computed) = (0.0, 0);
        for _ in 0..QUERIES {
            let query = drawn();
            let request = Request { allowed: Some(&allowed), ..Request::new(&query, k) };
            let answer = hnsw.search(&vectors, &request, ef);
            assert!(answer.hops == 0 && !answer.exact && answer.hits.len() == k, "{answer:?}");
            assert!(answer.hits.iter().all(|hit| allowed.contains(hit.offset)));
            found += recall(&answer.hits, &brute_force(&vectors, &request)) / QUERIES as f64;
            computed += answer.distance_computations / QUERIES;
        }
        let share = computed as f64 / allowed.count() as f64;
        assert!(found > 0.95, "falls {falls}: recall {found}, {share} distances a row");
        assert!(share > 1.0 && share < most, "falls {falls}: recall {found}, {share} distances a row");
    }
}

#[test]
fn deleted_rows_do_not_change_the_way_of_searching() {
    let (mut vectors, mut hnsw) = built(Metric::Euclidean);
    // With many matching rows: walks among few give up where comparing them all costs less.
    let filters = [1.0, 0.82, 0.415, 0.3].map(share);
    // Beams, and mean distances of walks, for a beam and for a recall.
    let measured = |vectors: &Vectors, hnsw: &Hnsw| {
        filters.each_ref().map(|allowed| {
            let mut rng = Rng(44);
            let mut sums = [0.0; 3];
            for number in 0..QUERIES {
                let query = point(&mut rng, number % CLUSTERS);
                let request = Request { allowed: Some(allowed), ..Request::new(&query, 10) };
                let by_beam = hnsw.search(vectors, &request, 40);
                let by_recall = hnsw.search_for_recall(vectors, &request, 0.95);
                sums[0] += by_beam.ef_search.unwrap() as f64;
                sums[1] += by_beam.distance_computations as f64;
                sums[2] += by_recall.distance_computations as f64;
            }
            sums.map(|sum| sum / QUERIES as f64)
        })
    };
    let before = measured(&vectors, &hnsw);
    let delete = |vectors: &mut Vectors, hnsw: &mut Hnsw, row: u32| {
        vectors.remove(row);
        assert!(hnsw.remove(vectors, row).is_empty());
    };
    delete(&mut vectors, &mut hnsw, 7);
    for (before, one) in before.iter().zip(measured(&vectors, &hnsw)) {
        assert_eq!(before[0], one[0]);
        let near = |place: usize| (one[place] / before[place] - 1.0).abs() < 0.04;
        assert!(near(1) && near(2), "{before:?}, with one row deleted {one:?}");
    }
    (1..ROWS as u32).step_by(12).for_each(|row| delete(&mut vectors, &mut hnsw, row));
    for (before, many) in before.iter().zip(measured(&vectors, &hnsw)) {
        let near = |place: usize| (many[place] / before[place] - 1.0).abs() < 0.15;
        assert!(near(1) && near(2), "{before:?}, with one row in twelve deleted {many:?}");
    }
}
