//! Walks that leave out of the beam what they never expand, against walks that leave out nothing.

use super::*;
use crate::hnsw::search::{Candidate, Scratch};
use crate::hnsw::space::Scorer;
use crate::hnsw::{Hnsw, HnswParams, Reach};
use crate::testing::{METRICS, Rng, filled};

/// The same rule with a beam that takes in everything.
struct Unlimited<'a>(Within<'a>);

impl StopRule for Unlimited<'_> {
    fn is_over(&mut self, beam: &mut Beam, place: usize) -> bool {
        beam.met() > FAR && self.0.is_far_enough(beam, place)
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
        let found = scratch.search_layer_until(&hnsw.graph, scorer, 0, &[nearest], most, &mut stop).to_vec();
        (found, scratch.computed, scratch.hops)
    })
}

/// Compares both walks; gives how many entries the first leaves out and how many the second has.
fn compare<'a>(
    hnsw: &Hnsw,
    scorer: &impl Scorer,
    most: usize,
    within: impl Fn() -> Within<'a>,
) -> (usize, usize) {
    let k = within().k;
    let (own, whole) = (walk(hnsw, scorer, most, within()), walk(hnsw, scorer, most, Unlimited(within())));
    assert_eq!((own.1, own.2), (whole.1, whole.2), "distances and hops, k {k}");
    assert_eq!(own.0, whole.0[..own.0.len()], "k {k}");
    let least = k + k / KEPT_SHARE + KEPT;
    assert!(own.0.len() >= least.min(whole.0.len()), "{} entries, k {k}", own.0.len());
    (whole.0.len() - own.0.len(), whole.0.len())
}

#[test]
fn what_is_left_out_of_the_beam_changes_no_walk() {
    for metric in METRICS {
        let mut rng = Rng(51);
        let (vectors, offsets) = filled(metric, (0..6_000).map(|_| rng.clustered(24, 20)));
        let mut hnsw = Hnsw::new(HnswParams { m: 8, ef_construction: 80, exact_scan_factor: 0, seed: 7 });
        hnsw.insert(&vectors, &offsets);
        let mut matching = BitSet::default();
        for row in (0..6_000).filter(|row| row % 10 != 3) {
            matching.insert(row);
        }
        let (mut left_out, mut entries) = (0, 0);
        for (k, target) in [1, 2, 10, 70, 100, 150].into_iter().flat_map(|k| [(k, 0.7), (k, 0.95), (k, 0.99)])
        {
            for round in 0..30 {
                let query = rng.clustered(24, 20);
                let within = |squared| {
                    let stop = hnsw.effort(Reach::Recall(target), k).1.expect("there is a table");
                    // Growth counts in a third of them, whatever calibration found.
                    let rule = Rule { weight: [stop.rule.weight, 0.0, 0.4][round % 3], ..stop.rule };
                    Within { squared, rule, matching: (round % 2 == 0).then_some(&matching), ..stop }
                };
                let most = hnsw.effort(Reach::Recall(target), k).0.most;
                let coded = hnsw.space.with_coded_query(&query, |scorer| {
                    compare(&hnsw, scorer, most, || within(Squared::CODED))
                });
                let (fewer, all) = coded.unwrap_or_else(|| {
                    let plain = Squared::plain(&vectors, &hnsw.space, &query);
                    compare(&hnsw, &vectors.query(&query), most, || within(plain))
                });
                left_out += fewer;
                entries += all;
            }
        }
        assert!(left_out * 4 > entries, "{metric}: {left_out} of {entries} entries left out");
    }
}
