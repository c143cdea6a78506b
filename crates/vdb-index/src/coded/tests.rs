//! Search by codes against brute force: recall, filters, changes, threads, stored parts, data without a shape.

use super::*;
use crate::BitSet;
use crate::testing::{METRICS, Rng, brute_force, filled, recall};
use vdb_distance::Metric;

const DIM: usize = 24;
const ROWS: usize = 1_500;

/// Every kind that can be trained on [`ROWS`] rows, and which metrics it takes.
fn kinds(metric: Metric) -> impl Iterator<Item = CodeKind> {
    let kinds = CodeKind::ALL.into_iter().filter(|&kind| kind != CodeKind::Pq8 && kind != CodeKind::U8);
    kinds.filter(move |&kind| CodedParams::new(kind).check(metric, DIM).is_ok())
}

fn coded(kind: CodeKind, vectors: &Vectors, offsets: &[u32]) -> Coded {
    let mut coded = Coded::new(CodedParams::new(kind), vectors.metric(), vectors.dim()).unwrap();
    coded.insert(vectors, offsets);
    coded
}

/// Checks what holds for every answer, whatever the codes: matching rows, their true distances, in order.
fn check(coded: &Coded, vectors: &Vectors, request: &Request<'_>, oversampling: Option<usize>) -> f64 {
    let answer = coded.search(vectors, request, oversampling);
    let all = brute_force(vectors, &Request { k: usize::MAX, ..*request });
    let truth = &all[..request.k.min(all.len())];
    assert_eq!(answer.hits.len(), truth.len());
    assert!(answer.hits.iter().all(|hit| all.contains(hit)), "a hit that is no matching row at its distance");
    let place = |hit: &Hit| all.iter().position(|other| other == hit);
    assert!(answer.hits.iter().map(place).is_sorted(), "{:?}", answer.hits);
    if answer.exact {
        assert_eq!(answer.hits, truth);
    }
    recall(&answer.hits, truth)
}

fn mean_recall(coded: &Coded, vectors: &Vectors, allowed: Option<&BitSet>, seed: u64) -> f64 {
    let mut rng = Rng(seed);
    let queries: Vec<Vec<f32>> = (0..12).map(|_| rng.clustered(vectors.dim(), 9)).collect();
    let request = |query| Request { allowed, tie_break: &|a, b| b.cmp(&a), ..Request::new(query, 10) };
    queries.iter().map(|query| check(coded, vectors, &request(query), None)).sum::<f64>() / 12.0
}

#[test]
fn every_kind_finds_most_under_every_metric_and_filter() {
    let mut rng = Rng(70);
    let rows: Vec<Vec<f32>> = (0..ROWS).map(|_| rng.clustered(DIM, 9)).collect();
    let dense = BitSet::from_fn(ROWS, |i| i % 4 != 1);
    let sparse = BitSet::from_fn(ROWS, |i| i % 64 < 20 && i % 320 < 128);
    for metric in METRICS {
        let (vectors, offsets) = filled(metric, rows.clone());
        for kind in kinds(metric) {
            let coded = coded(kind, &vectors, &offsets);
            assert!(coded.row_bytes().is_some(), "{kind}");
            for allowed in [None, Some(&dense), Some(&sparse)] {
                let recall = mean_recall(&coded, &vectors, allowed, 71);
                // Signs of so few dimensions say little; products are not ordered by them at all.
                let floor = match (kind, metric) {
                    (CodeKind::Binary, Metric::DotProduct) => 0.0,
                    (CodeKind::Binary, _) => 0.8,
                    _ => 0.93,
                };
                assert!(recall >= floor, "{kind} {metric}: {recall}");
            }
        }
    }
}

#[test]
fn many_rows_train_codes_of_eight_bits_and_whole_numbers_are_coded_exactly() {
    let mut rng = Rng(72);
    let rows: Vec<Vec<f32>> = (0..11_000)
        .map(|_| rng.clustered(8, 30).iter().map(|v| (v * 60.0 + 90.0).round()).collect())
        .collect();
    for metric in METRICS {
        let (vectors, offsets) = filled(metric, rows.clone());
        let pq8 = coded(CodeKind::Pq8, &vectors, &offsets);
        assert_eq!(pq8.row_bytes(), Some(2));
        // Codes of normalised rows are of values below one, whole numbers no more.
        let bytes = (metric != Metric::Cosine).then(|| coded(CodeKind::U8, &vectors, &offsets));
        for i in 0..10 {
            let query = vectors.row(i * 977).to_vec();
            let request = Request::new(&query, 10);
            // Two bytes say little about eight values.
            let recall = check(&pq8, &vectors, &request, Some(40));
            assert!(recall >= 0.7, "{metric}: {recall}");
            if let Some(bytes) = &bytes {
                assert_eq!(check(bytes, &vectors, &request, Some(1)), 1.0, "{metric}");
                assert!(!bytes.search(&vectors, &request, Some(1)).exact);
            }
        }
    }
}

#[test]
fn estimates_are_near_the_distances_and_codes_as_long_as_stated() {
    let mut rng = Rng(82);
    for dim in [7, 24, 130] {
        let rows: Vec<Vec<f32>> = (0..1_100).map(|_| rng.clustered(dim, 9)).collect();
        for metric in [Metric::Euclidean, Metric::Cosine] {
            // Out of the ordinary, so that rows are scaled.
            let scaled = |row: &Vec<f32>| row.iter().map(|value| value * 1e-6).collect::<Vec<f32>>();
            let (vectors, offsets) = filled(metric, rows.iter().map(scaled));
            for kind in kinds(metric) {
                let mut coded = coded(kind, &vectors, &offsets);
                assert_eq!(coded.row_bytes(), Some(coded.params().row_bytes(dim)), "{kind} {dim}");
                let query = scaled(&rng.clustered(dim, 9));
                let mut estimates = vec![f32::NAN; 3];
                assert!(coded.estimates(&query, &mut estimates));
                assert_eq!(estimates.len(), rows.len());
                let error = |(row, estimate): (usize, &f32)| {
                    let value = f64::from(metric.calculate(&query, &vectors.row(row as u32)));
                    let truth = if metric == Metric::Cosine { 2.0 - 2.0 * value } else { value * value };
                    (f64::from(*estimate) - truth).abs() / truth.max(1e-20)
                };
                let mean = estimates.iter().enumerate().map(error).sum::<f64>() / rows.len() as f64;
                assert!(kind == CodeKind::Binary || mean < 0.35, "{kind} {metric} {dim}: {mean}");
                let parts = coded.to_parts();
                coded.recode(&vectors);
                assert!(coded.to_parts() == parts, "{kind}");
            }
        }
    }
}

#[test]
fn more_candidates_find_more_and_all_are_exact() {
    let mut rng = Rng(73);
    let (vectors, offsets) = filled(Metric::Euclidean, (0..ROWS).map(|_| rng.vector(DIM)));
    let coded = coded(CodeKind::Rabitq(1), &vectors, &offsets);
    let queries: Vec<Vec<f32>> = (0..20).map(|_| rng.vector(DIM)).collect();
    let mean = |oversampling| {
        let recalls =
            queries.iter().map(|query| check(&coded, &vectors, &Request::new(query, 10), Some(oversampling)));
        recalls.sum::<f64>() / 20.0
    };
    let recalls: Vec<f64> = [1, 2, 4, 8, 16].map(mean).to_vec();
    assert!(recalls.is_sorted() && recalls[0] < 0.7 && recalls[4] > 0.9, "{recalls:?}");
    let request = Request::new(&queries[0], 10);
    let answer = coded.search(&vectors, &request, Some(4));
    assert_eq!((answer.exact, answer.distance_computations), (false, 40));
    for oversampling in [38, ROWS, usize::MAX] {
        let answer = coded.search(&vectors, &request, Some(oversampling));
        assert_eq!((answer.exact, answer.distance_computations), (true, ROWS));
    }
    assert_eq!(coded.search(&vectors, &Request::new(&queries[0], 0), None).hits, []);
}

#[test]
fn few_rows_undirected_queries_and_empty_filters_are_answered_exactly() {
    let mut rng = Rng(74);
    let (vectors, offsets) = filled(Metric::Cosine, (0..1_000).map(|_| rng.vector(DIM)));
    let small = coded(CodeKind::Sq8, &vectors, &offsets);
    assert_eq!((small.row_bytes(), small.bytes()), (None, 0));
    let query = rng.vector(DIM);
    assert!(small.search(&vectors, &Request::new(&query, 10), None).exact);
    let restored = Coded::from_parts(&vectors, small.to_parts()).unwrap();
    assert_eq!(restored.to_parts(), small.to_parts());

    let (vectors, offsets) = filled(Metric::Cosine, (0..ROWS).map(|_| rng.vector(DIM)));
    let coded = coded(CodeKind::Sq8, &vectors, &offsets);
    assert!(coded.search(&vectors, &Request::new(&[0.0; DIM], 10), None).exact);
    let none = BitSet::new(ROWS);
    check(&coded, &vectors, &Request { allowed: Some(&none), ..Request::new(&query, 10) }, None);
}

#[test]
fn inserts_overwrites_and_deletes_code_what_a_bulk_build_codes() {
    let mut rng = Rng(75);
    let rows: Vec<Vec<f32>> = (0..ROWS + 400).map(|_| rng.clustered(DIM, 9)).collect();
    for metric in METRICS {
        for kind in kinds(metric) {
            let (mut vectors, offsets) = filled(metric, rows[..ROWS].to_vec());
            let mut coded = coded(kind, &vectors, &offsets);
            for (i, row) in rows[ROWS..].iter().enumerate() {
                let victim = (i * 3) as u32;
                vectors.remove(victim);
                match i % 7 {
                    0 | 2 | 4 => {
                        vectors.set(victim, row);
                        coded.insert(&vectors, &[victim]);
                    }
                    1 => {
                        // A row that was taken back before the index heard of it.
                        let offset = vectors.push(row);
                        vectors.remove(offset);
                    }
                    _ => {
                        let offset = vectors.push(row);
                        coded.insert(&vectors, &[offset]);
                    }
                }
            }
            // The same quantizer over the rows as they are now.
            let Codes { placement, codec, .. } = coded.codes.clone().unwrap();
            let (units, rest) = (AlignedVec::new(), AlignedVec::new());
            let mut bulk = Codes { placement, codec, len: 0, units, rest };
            bulk.push_up_to(&vectors, coded.codes.as_ref().unwrap().len);
            assert_eq!(coded.to_parts().codes, bulk.units.to_vec(), "{kind} {metric}");
            assert_eq!(coded.to_parts().rest, bulk.rest.to_vec(), "{kind} {metric}");
            let floor = if kind == CodeKind::Binary { 0.0 } else { 0.85 };
            let recall = mean_recall(&coded, &vectors, None, 76);
            assert!(recall >= floor, "{kind} {metric}: {recall}");

            let restored = Coded::from_parts(&vectors, coded.to_parts()).unwrap();
            assert_eq!(restored.to_parts(), coded.to_parts());
            let request = Request::new(&rows[3], 10);
            assert_eq!(
                restored.search(&vectors, &request, None),
                coded.search(&vectors, &request, None),
                "{kind} {metric}"
            );
        }
    }
}

#[test]
fn rows_that_have_doubled_are_trained_on_again() {
    let mut rng = Rng(77);
    let (mut vectors, offsets) = filled(Metric::Euclidean, (0..1_100).map(|_| rng.vector(DIM)));
    let mut coded = coded(CodeKind::Pq4, &vectors, &offsets);
    let parameters = coded.to_parts().quantizer;
    for i in 0..1_100 {
        let offset =
            vectors.push(&rng.clustered(DIM, 3).iter().map(|value| value + 40.0).collect::<Vec<_>>());
        coded.insert(&vectors, &[offset]);
        assert_eq!(coded.to_parts().quantizer == parameters, i < 1_099, "{i}");
    }
    assert_eq!(coded.to_parts().trained, 2_200);
}

#[test]
fn the_answer_does_not_depend_on_threads() {
    let mut rng = Rng(78);
    let rows: Vec<Vec<f32>> = (0..70_000).map(|_| rng.clustered(16, 200)).collect();
    let queries: Vec<Vec<f32>> = (0..5).map(|_| rng.clustered(16, 200)).collect();
    let (vectors, offsets) = filled(Metric::Euclidean, rows);
    for kind in [CodeKind::Sq8, CodeKind::Pq4, CodeKind::Rabitq(1), CodeKind::Rabitq(5)] {
        let answers = [1, 2, 5].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let coded = coded(kind, &vectors, &offsets);
                let answer = |query| coded.search(&vectors, &Request::new(query, 10), None);
                (coded.to_parts(), queries.iter().map(|query| answer(query)).collect::<Vec<_>>())
            })
        });
        assert!(answers[0] == answers[1] && answers[0] == answers[2], "{kind}");
    }
}

#[test]
fn data_without_a_shape_is_searched_rightly() {
    let mut rng = Rng(79);
    let equal = vec![vec![0.25; DIM]; ROWS];
    let zeros = vec![vec![0.0; DIM]; ROWS];
    let few: Vec<Vec<f32>> = (0..ROWS).map(|i| vec![(i % 3) as f32; DIM]).collect();
    let huge: Vec<Vec<f32>> =
        (0..ROWS).map(|_| rng.vector(DIM).iter().map(|value| value * 1e38).collect()).collect();
    let tiny: Vec<Vec<f32>> =
        (0..ROWS).map(|_| rng.vector(DIM).iter().map(|value| value * 1e-38).collect()).collect();
    let mixed: Vec<Vec<f32>> = (0..ROWS)
        .map(|i| rng.vector(DIM).iter().map(|value| value * 10f32.powi(i as i32 % 70 - 35)).collect())
        .collect();
    for rows in [equal, zeros, few, huge, tiny, mixed] {
        for metric in METRICS {
            let (vectors, offsets) = filled(metric, rows.clone());
            for kind in kinds(metric) {
                let coded = coded(kind, &vectors, &offsets);
                for query in [&rows[5], &rows[70], &vec![1.0; DIM], &vec![0.0; DIM]] {
                    check(&coded, &vectors, &Request::new(query, 10), None);
                }
            }
        }
    }
}

#[test]
fn one_scale_of_values_is_as_good_as_another() {
    let mut rng = Rng(80);
    let rows: Vec<Vec<f32>> = (0..ROWS).map(|_| rng.clustered(DIM, 9)).collect();
    let queries: Vec<Vec<f32>> = (0..10).map(|_| rng.clustered(DIM, 9)).collect();
    for metric in [Metric::Euclidean, Metric::DotProduct] {
        for kind in kinds(metric) {
            let offsets_at = |scale: f32| -> Vec<Vec<u32>> {
                let scaled = |row: &Vec<f32>| row.iter().map(|value| value * scale).collect::<Vec<f32>>();
                let (vectors, offsets) = filled(metric, rows.iter().map(scaled));
                let coded = coded(kind, &vectors, &offsets);
                let hits = |query| {
                    let query = scaled(query);
                    let answer = coded.search(&vectors, &Request::new(&query, 10), None);
                    answer.hits.iter().map(|hit| hit.offset).collect()
                };
                queries.iter().map(hits).collect()
            };
            // Powers of two change no digit.
            let ordinary = offsets_at(1.0);
            // Larger exponents under DotProduct and the true products leave single precision.
            let far = if metric == Metric::Euclidean { 110 } else { 50 };
            for exponent in [-far, far] {
                let same =
                    offsets_at(2f32.powi(exponent)).iter().zip(&ordinary).filter(|(a, b)| a == b).count();
                assert!(same >= 8, "{kind} {metric} 2^{exponent}: {same} of 10");
            }
        }
    }
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let refused = |params: CodedParams, metric, dim| Coded::new(params, metric, dim).unwrap_err();
    let params = CodedParams::new;
    for kind in [CodeKind::Sq8, CodeKind::Sq4, CodeKind::Opq, CodeKind::Rabitq(3), CodeKind::Binary] {
        let reason = refused(params(kind), Metric::Manhattan, 8);
        assert!(reason.contains(&format!("{kind} rotates vectors")), "{reason}");
    }
    assert!(refused(params(CodeKind::Rabitq(9)), Metric::Cosine, 8).contains("9 bits"));
    assert!(refused(params(CodeKind::Rabitq(0)), Metric::Cosine, 8).contains("expected 1 to 8"));
    assert!(refused(params(CodeKind::Sq8), Metric::Cosine, 0).contains("not 0"));
    let pieces = |kind, subspaces| CodedParams { subspaces, ..params(kind) };
    assert!(refused(pieces(CodeKind::Pq4, 9), Metric::Cosine, 8).contains("at most the dimension, 8"));
    assert!(refused(pieces(CodeKind::Sq8, 4), Metric::Cosine, 8).contains("no product quantizer"));
    assert!(Coded::new(pieces(CodeKind::Pq4, 8), Metric::Cosine, 8).is_ok());
    for kind in CodeKind::ALL {
        assert_eq!(kind.to_string().parse(), Ok(kind));
    }
    assert!("pq5".parse::<CodeKind>().unwrap_err().contains("expected one of sq8, sq4"));
}

#[test]
fn stored_parts_that_contradict_each_other_are_refused() {
    let mut rng = Rng(81);
    let (vectors, offsets) = filled(Metric::Euclidean, (0..ROWS).map(|_| rng.vector(DIM)));
    for kind in kinds(Metric::Euclidean) {
        let parts = coded(kind, &vectors, &offsets).to_parts();
        let refused = |change: &dyn Fn(&mut CodedParts)| {
            let mut bad = parts.clone();
            change(&mut bad);
            Coded::from_parts(&vectors, bad).err().unwrap_or_else(|| panic!("{kind} took it"))
        };
        assert!(refused(&|parts| parts.codes.truncate(3)).contains("bytes of codes"));
        let unit_rows = if parts.codes.len().is_multiple_of(ROWS) { 1 } else { 32 };
        let unit = parts.codes.len() / ROWS.div_ceil(unit_rows);
        assert!(refused(&|parts| parts.codes.truncate(parts.codes.len() - unit)).contains("codes of"));
        assert!(refused(&|parts| parts.rest.push(0)).contains("codes of"));
        assert!(refused(&|parts| parts.centre.push(0.0)).contains("a centre of"));
        assert!(refused(&|parts| parts.scale = f32::NAN).contains("a scale of"));
        assert!(refused(&|parts| parts.scale = 0.0).contains("a scale of"));
        if !parts.quantizer.is_empty() {
            refused(&|parts| parts.quantizer.truncate(9));
            refused(&|parts| parts.quantizer[0] ^= 0x40);
        }
        let other = if kind == CodeKind::Sq8 { CodeKind::Rabitq(8) } else { CodeKind::Sq8 };
        refused(&|parts| parts.params.kind = other);
    }
}
