//! IVF against brute force: recall, guarantees, updates, filters, storage.

use super::*;
use crate::testing::{METRICS, Rng, brute_force, filled, recall};
use crate::{BitSet, Hit};

const DIM: usize = 27;

fn params() -> IvfParams {
    IvfParams { seed: 5, ..IvfParams::default() }
}

fn built(metric: Metric, count: usize, params: IvfParams) -> (Vectors, Ivf) {
    let mut rng = Rng(11);
    let (vectors, offsets) = filled(metric, (0..count).map(|_| rng.clustered(DIM, 40)));
    let mut ivf = Ivf::new(params);
    ivf.insert(&vectors, &offsets);
    (vectors, ivf)
}

fn mean_recall(vectors: &Vectors, ivf: &Ivf, probes: Option<usize>, allowed: Option<&BitSet>) -> f64 {
    let mut rng = Rng(12);
    let sum: f64 = (0..40)
        .map(|_| {
            let query = rng.clustered(DIM, 40);
            let request = Request { allowed, ..Request::new(&query, 10) };
            let truth = brute_force(vectors, &request);
            let answer = ivf.search(vectors, &request, probes);
            assert_eq!(answer.hits.len(), truth.len());
            assert!(!answer.exact || answer.hits == truth, "an exact answer is the true one");
            assert!(answer.hits.windows(2).all(|pair| pair[0].distance <= pair[1].distance));
            recall(&answer.hits, &truth)
        })
        .sum();
    sum / 40.0
}

/// Every live row is in as many lists as it is to be, where `homes` says, and nothing else is in any.
fn check_lists(vectors: &Vectors, ivf: &Ivf) {
    let Some(trained) = &ivf.trained else { return };
    assert_eq!(trained.lists.count(), trained.coarse.count());
    assert_eq!(trained.rows, vectors.live().count());
    let mut places = vec![0; vectors.len()];
    for list in 0..trained.lists.count() {
        for row in trained.lists.get(list).rows() {
            assert!(
                trained.homes[row as usize * trained.copies..][..trained.copies].contains(&(list as u32))
            );
            places[row as usize] += 1;
        }
    }
    for (row, &places) in places.iter().enumerate() {
        let expected = if vectors.live().contains(row as u32) { trained.copies } else { 0 };
        assert_eq!(places, expected, "row {row}");
    }
}

#[test]
fn finds_most_neighbours_under_every_metric_at_every_length_of_code() {
    for metric in METRICS {
        for (bits, spill) in [(1, false), (2, false), (4, true), (4, false), (8, false)] {
            let (vectors, ivf) = built(metric, 4_000, IvfParams { bits, spill, ..params() });
            check_lists(&vectors, &ivf);
            let few = mean_recall(&vectors, &ivf, Some(4), None);
            let more = mean_recall(&vectors, &ivf, None, None);
            assert!(few > 0.3 && more > 0.85, "{metric}, {bits} bits, spill {spill}: {few}, {more}");
        }
    }
}

#[test]
fn probing_every_list_is_exact_and_few_rows_need_no_lists() {
    let (vectors, ivf) = built(Metric::Cosine, 3_000, params());
    let query = Rng(1).vector(DIM);
    let request = Request::new(&query, 20);
    let answer = ivf.search(&vectors, &request, Some(ivf.lists()));
    assert_eq!((answer.exact, answer.hits), (true, brute_force(&vectors, &request)));
    assert!(!ivf.search(&vectors, &request, Some(3)).exact);

    let (vectors, ivf) = built(Metric::Cosine, 500, params());
    assert_eq!((ivf.lists(), ivf.default_probes(), ivf.bytes()), (0, None, 0));
    let answer = ivf.search(&vectors, &request, Some(1));
    assert_eq!((answer.exact, answer.hits), (true, brute_force(&vectors, &request)));
}

#[test]
fn gives_k_hits_whatever_the_filter_and_wherever_the_query() {
    for metric in METRICS {
        let (vectors, ivf) = built(metric, 6_000, params());
        for every in [2, 10, 100, 3_000] {
            let allowed = BitSet::from_fn(6_000, |row| row % every == 1);
            let found = mean_recall(&vectors, &ivf, None, Some(&allowed));
            assert!(found > 0.8, "{metric}, one in {every}: {found}");
        }
        // Far out, from the one list that the probes reach, and more hits than it holds.
        let query = vec![-30.0; DIM];
        for k in [1, 10, 700, 5_999, 7_000] {
            let answer = ivf.search(&vectors, &Request::new(&query, k), Some(1));
            assert_eq!(answer.hits.len(), k.min(6_000), "{metric}");
        }
        let nothing = BitSet::new(6_000);
        let request = Request { allowed: Some(&nothing), ..Request::new(&query, 3) };
        assert_eq!(ivf.search(&vectors, &request, None).hits, Vec::new());
    }
}

#[test]
fn equal_rows_zeros_and_extreme_values_are_found() {
    for metric in METRICS {
        for values in
            [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1e30, -1e30, 1.0], [1e-30, 0.0, 2e-30]]
        {
            let rows = (0..2_500).map(|row| vec![values[row % 3]; 3]);
            let (vectors, offsets) = filled(metric, rows);
            let mut ivf = Ivf::new(IvfParams { lists: Some(4_000), ..params() });
            ivf.insert(&vectors, &offsets);
            for query in [[0.0; 3], [1.0; 3], [values[0]; 3], [1.0, -2.0, 0.5]] {
                let request = Request::new(&query, 7);
                let answer = ivf.search(&vectors, &request, Some(2));
                assert_eq!(answer.hits.len(), 7, "{metric} {values:?}");
            }
            for &offset in &offsets {
                ivf.remove(&vectors, offset);
            }
            assert_eq!(ivf.lists(), 0);
        }
    }
}

#[test]
fn follows_inserts_deletes_and_overwrites() {
    for (metric, spill) in [(Metric::Euclidean, false), (Metric::Cosine, true), (Metric::Manhattan, false)] {
        let (mut vectors, mut ivf) = built(metric, 2_400, IvfParams { spill, bits: 3, ..params() });
        let mut rng = Rng(77);
        for step in 0..3_000 {
            let offset = rng.below(vectors.len()) as u32;
            match rng.below(4) {
                0 if vectors.live().contains(offset) => {
                    vectors.remove(offset);
                    ivf.remove(&vectors, offset);
                }
                1 => {
                    // An overwrite, or a new row in a free place.
                    if vectors.remove(offset) {
                        ivf.remove(&vectors, offset);
                    }
                    vectors.set(offset, &rng.clustered(DIM, 40));
                    ivf.insert(&vectors, &[offset]);
                }
                2 => {
                    // All in one place: their list grows until it is split.
                    let row: Vec<f32> = rng.vector(DIM).iter().map(|value| 6.0 + value).collect();
                    let offset = vectors.push(&row);
                    ivf.insert(&vectors, &[offset]);
                    let hit = ivf.search(&vectors, &Request::new(&row, 1), Some(4)).hits;
                    assert_eq!(hit[0].offset, offset, "a new row is found at once");
                }
                _ => {}
            }
            if step % 500 == 499 {
                check_lists(&vectors, &ivf);
            }
        }
        let found = mean_recall(&vectors, &ivf, Some(ivf.lists() / 3), None);
        assert!(found > 0.9, "{metric}: {found}");
    }
}

#[test]
fn lists_that_outgrow_their_share_are_split_and_emptied_ones_dissolved() {
    let (mut vectors, mut ivf) = built(Metric::Euclidean, 3_000, params());
    let lists = ivf.lists();
    let mut rng = Rng(3);
    let fresh: Vec<u32> = (0..2_000)
        .map(|_| vectors.push(&rng.vector(DIM).iter().map(|value| 9.0 + 0.3 * value).collect::<Vec<_>>()))
        .collect();
    ivf.insert(&vectors, &fresh);
    check_lists(&vectors, &ivf);
    let more = ivf.lists();
    assert!(more > lists, "{lists} lists became {more}");
    for &offset in &fresh {
        let hits: Vec<Hit> = ivf.search(&vectors, &Request::new(&vectors.row(offset), 1), Some(4)).hits;
        assert_eq!(hits[0].offset, offset, "a row of a split list is found");
    }
    for &offset in &fresh {
        vectors.remove(offset);
        ivf.remove(&vectors, offset);
    }
    check_lists(&vectors, &ivf);
    assert!(ivf.lists() < more, "{more} lists became {}", ivf.lists());
    assert!(mean_recall(&vectors, &ivf, None, None) > 0.85);
}

#[test]
fn trains_again_when_the_rows_have_doubled_twice() {
    let (mut vectors, mut ivf) = built(Metric::DotProduct, 2_100, params());
    let mut rng = Rng(4);
    for _ in 0..7 {
        let fresh: Vec<u32> = (0..1_000).map(|_| vectors.push(&rng.clustered(DIM, 40))).collect();
        ivf.insert(&vectors, &fresh);
        check_lists(&vectors, &ivf);
    }
    let trained = ivf.trained.as_ref().unwrap();
    assert_eq!(trained.trained_rows, 9_100);
    assert!(mean_recall(&vectors, &ivf, None, None) > 0.85);
}

#[test]
fn the_index_is_the_same_for_any_number_of_threads() {
    let built_with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| built(Metric::Euclidean, 5_000, IvfParams { spill: true, ..params() }).1.to_parts())
    };
    assert_eq!(built_with(1), built_with(3));
}

#[test]
fn parts_come_back_and_go_on() {
    for metric in METRICS {
        for spill in [false, true] {
            let (mut vectors, mut ivf) = built(metric, 2_500, IvfParams { spill, ..params() });
            for offset in (0..2_500).step_by(3) {
                vectors.remove(offset);
                ivf.remove(&vectors, offset);
            }
            let mut again = Ivf::from_parts(&vectors, ivf.to_parts()).unwrap();
            assert_eq!(again.to_parts(), ivf.to_parts());
            let row = vec![0.7; DIM];
            let offset = vectors.push(&row);
            ivf.insert(&vectors, &[offset]);
            again.insert(&vectors, &[offset]);
            check_lists(&vectors, &again);
            let request = Request::new(&row, 5);
            assert_eq!(again.search(&vectors, &request, Some(3)), ivf.search(&vectors, &request, Some(3)));
        }
    }
    let empty = Ivf::new(params());
    let vectors = Vectors::new(Metric::Cosine, DIM);
    assert_eq!(Ivf::from_parts(&vectors, empty.to_parts()).unwrap().to_parts(), empty.to_parts());
}

#[test]
fn damaged_parts_are_refused() {
    let (vectors, ivf) = built(Metric::Euclidean, 2_500, params());
    let check = |change: &dyn Fn(&mut IvfParts), message: &str| {
        let mut parts = ivf.to_parts();
        change(&mut parts);
        let error = Ivf::from_parts(&vectors, parts).map(|_| ()).unwrap_err();
        assert!(error.contains(message), "{error:?} does not say {message:?}");
    };
    check(&|parts| parts.params.bits = 9, "bits is 9, expected 1 to 8");
    check(&|parts| parts.params.lists = Some(0), "lists is 0");
    check(&|parts| parts.params.bits = 3, "bytes, expected");
    check(&|parts| parts.params.spill = true, "rows, expected 5000");
    check(&|parts| parts.probes = 0, "0 probes");
    check(&|parts| parts.trained = 0, "trained on 0 rows");
    check(&|parts| parts.mean.truncate(3), "its mean has 3 values");
    check(&|parts| parts.mean[1] = f32::NAN, "is NaN");
    check(&|parts| parts.centroids[7] = f32::INFINITY, "is inf");
    check(&|parts| parts.centroids.truncate(5), "values of centroids");
    check(&|parts| parts.lens.clear(), "0 lists");
    check(&|parts| parts.lens[0] = u32::MAX, "bytes, expected");
    check(&|parts| parts.lists.truncate(7), "bytes, expected");
    check(&|parts| parts.lists[..4].copy_from_slice(&9_999_u32.to_le_bytes()), "which is not live");
    check(&|parts| parts.lists.copy_within(4..8, 0), "more than 1 lists");
    // Codes are any bits: they may mislead a search, never break it.
    let mut parts = ivf.to_parts();
    let mut rng = Rng(8);
    let blocks = |len: u32| (len as usize).div_ceil(32);
    let mut start = 0;
    for &len in &parts.lens {
        let layout = lists::Layout::new(ivf.trained.as_ref().unwrap().codec.as_ref());
        let end = start + layout.list_bytes(blocks(len));
        parts.lists[start + blocks(len) * 128..end].iter_mut().for_each(|byte| *byte = rng.next() as u8);
        start = end;
    }
    let mad = Ivf::from_parts(&vectors, parts).unwrap();
    for probes in [1, 10, 50] {
        let query = rng.clustered(DIM, 40);
        assert_eq!(mad.search(&vectors, &Request::new(&query, 10), Some(probes)).hits.len(), 10);
    }
}

#[test]
#[should_panic(expected = "bits is 0, expected 1 to 8")]
fn parameters_out_of_range_are_refused() {
    let _ = Ivf::new(IvfParams { bits: 0, ..params() });
}
