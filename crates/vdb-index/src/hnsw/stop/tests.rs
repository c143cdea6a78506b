//! Walks that leave out of the beam what they never expand, against walks that leave out nothing.

use super::*;
use crate::hnsw::search::{Candidate, Scratch};
use crate::hnsw::space::Scorer;
use crate::hnsw::{Hnsw, HnswParams};
use crate::testing::{METRICS, Rng, filled};

/// The same rule with a beam that takes in everything.
struct Unlimited<'a>(Within<'a>);

impl StopRule for Unlimited<'_> {
    fn is_over(&mut self, beam: &mut Beam, place: usize) -> bool {
        beam.met() > FAR && self.0.look(beam) && self.0.is_far_enough(beam, place)
    }
}

/// What a walk leaves: its beam, and the distances and hops that it took.
fn walk(
    hnsw: &Hnsw,
    scorer: &impl Scorer,
    most: usize,
    mut stop: impl StopRule,
) -> (Vec<Candidate>, usize, usize) {
    Scratch::with(|scratch| {
        scratch.start();
        let nearest = scratch.descend(&hnsw.graph, scorer, hnsw.graph.entry.unwrap(), 0);
        scratch.search_layer_until(&hnsw.graph, scorer, 0, &[nearest], most, &mut stop);
        (scratch.beam.candidates().collect(), scratch.computed, scratch.hops)
    })
}

/// What both walks have done.
#[derive(Default)]
struct Sums {
    left_out: usize,
    entries: usize,
    /// Distances of walks that count the hits among some nodes, whose rule changes on the way: of both.
    counting: [usize; 2],
}

/// Compares both walks.
fn compare<'a>(
    hnsw: &Hnsw,
    scorer: &impl Scorer,
    most: usize,
    within: impl Fn() -> Within<'a>,
    matching: &'a BitSet,
    sums: &mut Sums,
) {
    let k = within().k;
    let (own, whole) = (walk(hnsw, scorer, most, within()), walk(hnsw, scorer, most, Unlimited(within())));
    assert_eq!((own.1, own.2), (whole.1, whole.2), "distances and hops, k {k}");
    assert_eq!(own.0, whole.0[..own.0.len()], "k {k}");
    let least = k + k / KEPT_SHARE + KEPT;
    assert!(own.0.len() >= least.min(whole.0.len()), "{} entries, k {k}", own.0.len());
    sums.left_out += whole.0.len() - own.0.len();
    sums.entries += whole.0.len();
    let counting = || within().among(matching);
    sums.counting[0] += walk(hnsw, scorer, most, counting()).1;
    sums.counting[1] += walk(hnsw, scorer, most, Unlimited(counting())).1;
}

#[test]
fn what_is_left_out_of_the_beam_changes_no_walk() {
    for metric in METRICS {
        let mut rng = Rng(51);
        let (vectors, offsets) = filled(metric, (0..6_000).map(|_| rng.clustered(24, 20)));
        let mut hnsw =
            Hnsw::new(HnswParams { m: Some(8), ef_construction: 80, exact_scan_factor: 0, seed: 7 });
        hnsw.insert(&vectors, &offsets);
        let mut matching = BitSet::default();
        for row in (0..6_000).filter(|row| row % 10 > 4) {
            matching.insert(row);
        }
        let mut sums = Sums::default();
        for (k, target) in [1, 2, 10, 70, 100, 150].into_iter().flat_map(|k| [(k, 0.7), (k, 0.95), (k, 0.99)])
        {
            for round in 0..30 {
                let query = rng.clustered(24, 20);
                let recalls = hnsw.recalls.as_ref().expect("there is a table");
                let within = |squared| {
                    let mut stop = Within::new(recalls, (k, target), None, squared);
                    // Growth counts in a third of them, whatever calibration found.
                    stop.rule.weight = [stop.rule.weight, 0.0, 0.4][round % 3];
                    stop
                };
                let most = recalls.effort(k, target).0.most;
                let coded = hnsw.space.with_coded_query(&query, |scorer| {
                    compare(&hnsw, scorer, most, || within(Squared::CODED), &matching, &mut sums);
                });
                if coded.is_none() {
                    let plain = Squared::plain(&vectors, &hnsw.space, &query);
                    let query = vectors.query(&query);
                    compare(&hnsw, &query, most, || within(plain), &matching, &mut sums);
                }
            }
        }
        let Sums { left_out, entries, counting: [own, whole] } = sums;
        assert!(left_out * 4 > entries, "{metric}: {left_out} of {entries} entries left out");
        assert!(
            own.abs_diff(whole) * 100 < whole,
            "{metric}: {own} distances of counting walks, without limit {whole}"
        );
    }
}
