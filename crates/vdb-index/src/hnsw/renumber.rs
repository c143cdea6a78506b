//! The same graph over the same rows in another order, or without the rows that are gone: levels, links, codes and what was
//! found out about walks are carried over, and no distance is computed.

use super::Hnsw;
use super::graph::NONE;
use super::tree::Tree;
use crate::BitSet;

impl Hnsw {
    /// The graph over rows that were put in another order: row i is now row `new_of_old[i]`, or is left out.
    ///
    /// The new numbers are 0 up to the number of rows that are kept, each once. Rows that are left out must not be in the
    /// graph any more: [`free_deleted`](Self::free_deleted) sees to that. Searches give what they gave, but for the numbers,
    /// and the order of rows that are equally far.
    ///
    /// # Complexity
    /// One copy of links and codes.
    ///
    /// # Panics
    /// When `new_of_old` is shorter than the graph, a number is there twice or too large, or a node is left out.
    #[must_use]
    pub fn renumbered(&self, new_of_old: &[Option<u32>]) -> Hnsw {
        assert!(
            new_of_old.len() >= self.graph.len(),
            "{} new numbers for {} rows of a graph",
            new_of_old.len(),
            self.graph.len()
        );
        let mut old_of_new = vec![NONE; new_of_old.iter().flatten().count()];
        for (old, new) in (0u32..).zip(new_of_old) {
            let Some(new) = *new else {
                assert!(!self.nodes.contains(old), "row {old} is left out, but is a node of the graph");
                continue;
            };
            let rows = old_of_new.len();
            let place = old_of_new.get_mut(new as usize);
            let place = place.unwrap_or_else(|| panic!("row {old} becomes {new} of {rows} rows"));
            assert!(*place == NONE, "rows {place} and {old} both become {new}");
            *place = old;
        }
        let moved = |set: &BitSet| {
            let members: Vec<u32> = set.iter().filter_map(|row| new_of_old[row as usize]).collect();
            BitSet::from_members(old_of_new.len(), &members)
        };
        Hnsw {
            params: self.params,
            graph: self.graph.renumbered(&old_of_new, new_of_old, self.params.seed),
            dead: moved(&self.dead),
            nodes: moved(&self.nodes),
            space: self.space.renumbered(&old_of_new, new_of_old),
            recalls: self.recalls.clone(),
            tree: Tree::default(),
            sample: self.sample.clone(),
            earlier: self.earlier.clone(),
            ..*self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Hnsw, HnswParams};
    use crate::testing::{METRICS, Rng, brute_force, filled, recall};
    use crate::{Request, Vectors};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;
    use vdb_distance::{AlignedVec, Metric};

    const PARAMS: HnswParams = HnswParams { m: Some(8), ef_construction: 80, exact_scan_factor: 0, seed: 7 };

    struct Bytes(AlignedVec<u8>);

    impl AsRef<[u8]> for Bytes {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    fn built(metric: Metric, rows: usize) -> (Vectors, Hnsw) {
        let mut rng = Rng(61);
        let (vectors, offsets) = filled(metric, (0..rows).map(|_| rng.clustered(24, 20)));
        let mut hnsw = Hnsw::new(PARAMS);
        hnsw.insert(&vectors, &offsets);
        (vectors, hnsw)
    }

    /// Rows and their graph, renumbered.
    fn renumbered(vectors: &Vectors, hnsw: &Hnsw, new_of_old: &[Option<u32>]) -> (Vectors, Hnsw) {
        let mut order: Vec<(u32, u32)> =
            (0u32..).zip(new_of_old).filter_map(|(old, new)| Some(((*new)?, old))).collect();
        order.sort_unstable();
        let order: Vec<u32> = order.iter().map(|pair| pair.1).collect();
        let mut moved = Vectors::new(vectors.metric(), vectors.dim());
        moved.append(vectors, &order);
        (moved, hnsw.renumbered(new_of_old))
    }

    fn shuffled(rows: usize, rng: &mut Rng) -> Vec<Option<u32>> {
        let mut order: Vec<Option<u32>> = (0..rows as u32).map(Some).collect();
        (1..rows).rev().for_each(|place| order.swap(place, rng.below(place + 1)));
        order
    }

    /// Mean recall@10 of queries that are no rows.
    fn quality(vectors: &Vectors, hnsw: &Hnsw, ef: usize) -> f64 {
        let mut rng = Rng(62);
        let mut right = 0.0;
        for _ in 0..200 {
            let query = rng.clustered(24, 20);
            let request = Request::new(&query, 10);
            right += recall(&hnsw.search(vectors, &request, ef).hits, &brute_force(vectors, &request));
        }
        right / 200.0
    }

    #[test]
    fn another_order_gives_the_same_answers() {
        for (metric, rows) in METRICS.into_iter().flat_map(|metric| [(metric, 300), (metric, 1_500)]) {
            let (mut vectors, mut hnsw) = built(metric, rows);
            // Some are deleted, some have no vector, and two of those come behind the last node.
            for row in (5..rows as u32).step_by(20) {
                vectors.remove(row);
                hnsw.remove(&vectors, row);
            }
            vectors.push_missing();
            let last = vectors.push(&[0.5; 24]);
            hnsw.insert(&vectors, &[last]);
            vectors.push_missing();
            vectors.push_missing();
            let mut rng = Rng(63);
            let new_of_old = shuffled(vectors.len(), &mut rng);
            let (moved, graph) = renumbered(&vectors, &hnsw, &new_of_old);
            assert_eq!(graph.stats(), hnsw.stats(), "{metric}, {rows} rows");
            assert_eq!(graph.stats().unreachable, 0);
            graph.verify(&moved).unwrap();
            let stored: Vec<_> = graph.stored();
            let opened: Hnsw = Hnsw::open(&moved, |name| {
                let (_, bytes) = stored.iter().find(|section| section.0 == name).unwrap();
                Ok::<_, super::super::GraphError>(
                    Arc::new(Bytes(AlignedVec::from(&bytes[..]))) as vdb_distance::Owner
                )
            })
            .unwrap();
            for _ in 0..40 {
                let query = rng.clustered(24, 20);
                let request = Request::new(&query, 10);
                let before = hnsw.search(&vectors, &request, 20);
                for graph in [&graph, &opened] {
                    let after = graph.search(&moved, &request, 20);
                    let same: Vec<u32> =
                        before.hits.iter().map(|hit| new_of_old[hit.offset as usize].unwrap()).collect();
                    let found: Vec<u32> = after.hits.iter().map(|hit| hit.offset).collect();
                    assert_eq!((found, after.hops), (same, before.hops), "{metric}, {rows} rows");
                    let recalled = graph.search_for_recall(&moved, &request, 0.9).hits.len();
                    assert_eq!(recalled, 10);
                }
            }
        }
    }

    #[test]
    fn without_the_rows_that_are_gone_it_is_as_good_as_a_fresh_graph() {
        for metric in METRICS {
            let (mut vectors, mut hnsw) = built(metric, 3_000);
            let mut rng = Rng(64);
            let mut next = 0..;
            let new_of_old: Vec<Option<u32>> =
                (0..3_000).map(|_| (rng.below(10) >= 3).then(|| next.next().unwrap())).collect();
            let is_gone = |row: &u32| new_of_old[*row as usize].is_none();
            let gone: Vec<u32> = (0..3_000).filter(is_gone).collect();
            gone.iter().for_each(|row| {
                vectors.remove(*row);
            });
            assert_eq!(hnsw.remove_all(&vectors, &gone), gone);
            let (mut left, mut graph) = renumbered(&vectors, &hnsw, &new_of_old);
            let rows = left.len();
            let mut fresh = Hnsw::new(PARAMS);
            fresh.insert(&left, &(0..rows as u32).collect::<Vec<u32>>());
            let stats = graph.stats();
            assert_eq!((stats.live, stats.dead, stats.unreachable), (rows, 0, 0), "{metric}");
            // Links to the largest products are harder to come by again; the engine builds such graphs anew.
            let allowance = if metric == Metric::DotProduct { 0.02 } else { 0.005 };
            for ef in [16, 32, 64] {
                let (found, of_fresh) = (quality(&left, &graph, ef), quality(&left, &fresh, ef));
                assert!(found > of_fresh - allowance, "{metric}, ef {ef}: recall {found}, fresh {of_fresh}");
            }
            // It goes on as any graph does.
            let new: Vec<u32> = (0..500).map(|_| left.push(&rng.clustered(24, 20))).collect();
            graph.insert(&left, &new);
            for gone in 0..100 {
                left.remove(gone);
                graph.remove(&left, gone);
            }
            graph.free_deleted(&left);
            let stats = graph.stats();
            assert_eq!((stats.live, stats.dead, stats.unreachable), (rows + 400, 0, 0), "{metric}");
            assert!(quality(&left, &graph, 64) > 0.97, "{metric}");
        }
    }

    fn check_refused(new_of_old: &[Option<u32>], expected: &str) {
        let (_, hnsw) = built(Metric::Euclidean, 3);
        let refused = catch_unwind(AssertUnwindSafe(|| hnsw.renumbered(new_of_old))).unwrap_err();
        let found = refused.downcast_ref::<String>().unwrap();
        assert!(found.contains(expected), "{found}");
    }

    #[test]
    fn numbers_that_are_no_order_are_refused() {
        check_refused(&[Some(0), Some(1)], "2 new numbers for 3 rows of a graph");
        check_refused(&[Some(0), Some(1), Some(3)], "row 2 becomes 3 of 3 rows");
        check_refused(&[Some(0), Some(1), Some(1)], "rows 1 and 2 both become 1");
        check_refused(&[Some(0), None, Some(1)], "row 1 is left out, but is a node of the graph");
    }
}
