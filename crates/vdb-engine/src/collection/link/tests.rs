//! Heads with links: what searches find, before and after sealing, beside plain comparisons of all points.

use super::*;
use crate::view::{Effort, Search, View};
use crate::{CollectionConfig, Database, Options, Point, PointId, Settings};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use vdb_distance::Metric;
use vdb_testkit::SimFiles;

const DIM: usize = 8;
const SEED: u64 = 7;

fn point(id: u64, rng: &mut ChaCha8Rng) -> Point {
    Point::new(id, (0..DIM).map(|_| rng.random_range(-1.0..1.0)).collect::<Vec<f32>>())
}

fn workers() -> Arc<crate::workers::Workers> {
    Arc::new(crate::workers::Workers::new(1).unwrap())
}

/// A collection that believes that somebody does its work in the background; nobody does but who calls for it.
fn collection(settings: Settings) -> (Database, Arc<Collection>) {
    let files = Arc::new(SimFiles::new());
    let database =
        Options::new().files(files).seed(SEED).background(false).settings(settings).open("db").unwrap();
    let made = database.create_collection("c", &CollectionConfig::new(DIM, Metric::Euclidean)).unwrap();
    made.has_background(workers());
    (database, made)
}

/// The share of the true neighbours that searches with a wide beam find; some points may not pass.
fn recall(view: &View, rng: &mut ChaCha8Rng) -> f64 {
    const K: usize = 10;
    let passes = |id: &PointId, _: &crate::Payload| !matches!(id, PointId::Number(id) if id % 3 == 0);
    let (mut found, mut all) = (0, 0);
    for number in 0..50 {
        let query: Vec<f32> = (0..DIM).map(|_| rng.random_range(-1.0..1.0)).collect();
        let mut search = Search::new(&query, K).effort(Effort::EfSearch(100));
        if number % 2 == 0 {
            search = search.filter(&passes);
        }
        let hits = view.search(&search).unwrap().hits;
        let truth = view.search(&search.effort(Effort::Exact)).unwrap();
        assert!(truth.exact && hits.len() == K);
        assert!(hits.windows(2).all(|pair| pair[0].value <= pair[1].value));
        found += hits.iter().filter(|hit| truth.hits.contains(hit)).count();
        all += K;
    }
    found as f64 / all as f64
}

#[test]
fn points_get_links_while_somebody_searches() {
    let (_database, collection) = collection(Settings { least_graph_rows: 256, ..Settings::default() });
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    collection.upsert((0..3_000).map(|id| point(id, &mut rng)).collect()).unwrap();
    assert!(!collection.link_due().unwrap(), "nobody has searched");
    let query = [0.0; DIM];
    collection.search(&Search::new(&query, 1)).unwrap();
    let bare = collection.view();
    assert!(collection.link_due().unwrap() && !collection.link_due().unwrap());
    let view = collection.view();
    assert_eq!((view.heads[0].linked(), view.heads[0].unlinked()), (3_000, 0));
    let wide = Search::new(&query, 10).effort(Effort::EfSearch(20));
    assert_eq!(bare.search(&wide).unwrap().distance_computations, 3_000);
    let answer = view.search(&wide).unwrap();
    assert!(answer.hops > 0 && !answer.exact && answer.distance_computations < 2_000, "{answer:?}");
    assert!(recall(&view, &mut rng) > 0.97);

    // Some are gone, some come again, some are new: none of them is found where it was.
    collection.delete(&(0..300).map(PointId::from).collect::<Vec<_>>()).unwrap();
    collection.upsert((200..500).chain(5_000..5_100).map(|id| point(id, &mut rng)).collect()).unwrap();
    let view = collection.view();
    assert_eq!((view.len(), view.heads[0].linked(), view.heads[0].unlinked()), (3_100 - 200, 3_000, 400));
    let hits = view.search(&Search::new(&query, 2_900).effort(Effort::EfSearch(10))).unwrap().hits;
    assert_eq!(hits.iter().map(|hit| &hit.id).collect::<std::collections::BTreeSet<_>>().len(), 2_900);
    assert!(recall(&view, &mut rng) > 0.97);
    assert!(recall(&bare, &mut rng) == 1.0, "a view of before stays as it was");

    // Sealed, the points have a graph at once, though rows have other numbers.
    assert!(collection.seal().unwrap());
    let sealed = collection.view();
    assert_eq!((sealed.heads.len(), sealed.parts[0].segment.has_graph(), sealed.len()), (0, true, 2_900));
    assert!(recall(&sealed, &mut rng) > 0.97);
    collection.verify().unwrap();
    assert!(!collection.index_due().unwrap(), "there is nothing left to index");
}

#[test]
fn a_head_without_gaps_keeps_its_links_when_it_is_sealed() {
    let (_database, collection) = collection(Settings { least_graph_rows: 256, ..Settings::default() });
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    collection.search(&Search::new(&[0.0; DIM], 1)).unwrap();
    for first in (0..2_000).step_by(400) {
        collection.upsert((first..first + 400).map(|id| point(id, &mut rng)).collect()).unwrap();
        assert!(collection.link_due().unwrap());
    }
    // Too few for a step; sealing takes them in.
    collection.upsert((2_000..2_050).map(|id| point(id, &mut rng)).collect()).unwrap();
    assert!(!collection.link_due().unwrap());
    assert_eq!(collection.view().heads[0].linked(), 2_000);
    assert!(collection.seal().unwrap());
    let view = collection.view();
    let own = view.parts[0].segment.field(0).unwrap();
    assert_eq!(own.hnsw.as_ref().unwrap().live_count(), 2_050);
    assert!(recall(&view, &mut rng) > 0.97);
    collection.verify().unwrap();
    // It is a graph for the moment, which a merge builds as the field says.
    collection.optimize_now().unwrap();
    assert!(recall(&collection.view(), &mut rng) > 0.97);
}

#[test]
fn without_room_in_the_budget_points_stay_as_they_are() {
    let files = Arc::new(SimFiles::new());
    let options = Options::new().files(files).seed(SEED).background(false).memory_budget(700 << 10);
    let database = options.open("db").unwrap();
    let collection = database.create_collection("c", &CollectionConfig::new(DIM, Metric::Euclidean)).unwrap();
    collection.has_background(workers());
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    collection.upsert((0..2_000).map(|id| point(id, &mut rng)).collect()).unwrap();
    collection.search(&Search::new(&[0.0; DIM], 1)).unwrap();
    assert!(!collection.link_due().unwrap());
    assert_eq!(collection.view().heads[0].linked(), 0);
    assert!(recall(&collection.view(), &mut rng) == 1.0);
}
