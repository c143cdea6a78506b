//! Tight clusters far from each other, replaced row by row and cluster by cluster, against fresh graphs of the same rows.

use super::super::{Hnsw, HnswParams};
use crate::testing::{Rng, brute_force, filled, recall};
use crate::{Request, Vectors};
use vdb_distance::Metric;

const PARAMS: HnswParams = HnswParams { m: Some(8), ef_construction: 80, exact_scan_factor: 0, seed: 7 };
const DIM: usize = 24;
const ROWS: usize = 4_000;
const QUERIES: usize = 500;

/// Gaussian clusters around centres that are uniform in a cube.
#[derive(Debug, Clone, Copy)]
struct Clusters {
    count: usize,
    /// The standard deviation; the cube's edges are 2 long.
    spread: f32,
    /// Every generation has centres of its own.
    generation: usize,
}

impl Clusters {
    fn row(&self, rng: &mut Rng, cluster: usize) -> Vec<f32> {
        let mut center = Rng(1_000 * (self.generation * self.count + cluster) as u64);
        // Twelve uniform numbers make a Gaussian one, of deviation 2.
        let gaussian = |rng: &mut Rng| (0..12).map(|_| rng.signed()).sum::<f32>() / 2.0;
        (0..DIM).map(|_| center.signed() + self.spread * gaussian(rng)).collect()
    }
}

fn shuffle<T>(rng: &mut Rng, values: &mut [T]) {
    for last in (1..values.len()).rev() {
        values.swap(last, rng.below(last + 1));
    }
}

/// A graph whose rows are of these clusters.
struct Clustered {
    clusters: Clusters,
    vectors: Vectors,
    hnsw: Hnsw,
    /// Of the row at each offset.
    cluster: Vec<usize>,
    free: Vec<u32>,
    rng: Rng,
}

impl Clustered {
    fn new(clusters: Clusters) -> Self {
        let (vectors, hnsw) = (Vectors::new(Metric::Euclidean, DIM), Hnsw::new(PARAMS));
        let mut new = Self { clusters, vectors, hnsw, cluster: Vec::new(), free: Vec::new(), rng: Rng(31) };
        new.insert(&(0..ROWS).map(|row| row % clusters.count).collect::<Vec<_>>());
        new
    }

    /// Inserts a row of each of these clusters.
    fn insert(&mut self, clusters: &[usize]) {
        let mut offsets = Vec::new();
        for &cluster in clusters {
            let row = self.clusters.row(&mut self.rng, cluster);
            let offset = match self.free.pop() {
                Some(offset) => {
                    self.vectors.set(offset, &row);
                    offset
                }
                None => self.vectors.push(&row),
            };
            self.cluster.resize(self.cluster.len().max(offset as usize + 1), 0);
            self.cluster[offset as usize] = cluster;
            offsets.push(offset);
        }
        self.hnsw.insert(&self.vectors, &offsets);
    }

    /// Replaces rows by such of the clusters of the same or of other rows, in this order.
    fn replace(&mut self, leaving: &[u32], coming: &[usize], batch: usize) {
        for (leaving, coming) in leaving.chunks(batch).zip(coming.chunks(batch)) {
            for &row in leaving {
                self.vectors.remove(row);
                self.free.extend(self.hnsw.remove(&self.vectors, row));
            }
            self.insert(coming);
        }
    }

    fn replace_at_random(&mut self, batch: usize) {
        let mut leaving: Vec<u32> = self.vectors.live().iter().collect();
        let mut coming: Vec<usize> = leaving.iter().map(|&row| self.cluster[row as usize]).collect();
        shuffle(&mut self.rng, &mut leaving);
        shuffle(&mut self.rng, &mut coming);
        self.replace(&leaving, &coming, batch);
    }

    /// Every cluster by one elsewhere.
    fn replace_by_cluster(&mut self) {
        self.clusters.generation += 1;
        let mut leaving: Vec<u32> = self.vectors.live().iter().collect();
        leaving.sort_by_key(|&row| (self.cluster[row as usize], row));
        let coming: Vec<usize> = leaving.iter().map(|&row| self.cluster[row as usize]).collect();
        self.replace(&leaving, &coming, ROWS / self.clusters.count);
    }

    /// No row is unreachable, and recall is at most 0.005 below that of fresh graphs.
    fn check(mut self, what: &str) {
        let stats = self.hnsw.stats();
        assert_eq!((stats.live, stats.unreachable), (ROWS, 0), "{what}");
        let clusters = self.clusters;
        let mut query = |_| {
            let cluster = self.rng.below(clusters.count);
            clusters.row(&mut self.rng, cluster)
        };
        let queries: Vec<Vec<f32>> = (0..QUERIES).map(&mut query).collect();
        // Graphs of such rows differ from seed to seed.
        let fresh = [1, 2, 3].map(|seed| {
            let rows = self.vectors.live().iter().map(|row| self.vectors.row(row).to_vec());
            let (vectors, offsets) = filled(Metric::Euclidean, rows);
            let mut hnsw = Hnsw::new(HnswParams { seed, ..PARAMS });
            hnsw.insert(&vectors, &offsets);
            (vectors, hnsw)
        });
        for ef in [32, 64] {
            let recall = |(vectors, hnsw): (&Vectors, &Hnsw)| mean_recall(vectors, hnsw, &queries, ef);
            let found = recall((&self.vectors, &self.hnsw));
            let in_fresh: Vec<f64> = fresh.iter().map(|(vectors, hnsw)| recall((vectors, hnsw))).collect();
            let mean = in_fresh.iter().sum::<f64>() / in_fresh.len() as f64;
            assert!(found > mean - 0.005, "{what}, {clusters:?}, ef {ef}: {found}, fresh {in_fresh:?}");
        }
    }
}

fn mean_recall(vectors: &Vectors, hnsw: &Hnsw, queries: &[Vec<f32>], ef: usize) -> f64 {
    let recalls = queries.iter().map(|query| {
        let request = Request::new(query, 10);
        recall(&hnsw.search(vectors, &request, ef).hits, &brute_force(vectors, &request))
    });
    recalls.sum::<f64>() / queries.len() as f64
}

const DATA: [Clusters; 3] = [
    Clusters { count: 20, spread: 0.1, generation: 0 },
    Clusters { count: 20, spread: 0.02, generation: 0 },
    Clusters { count: 100, spread: 0.1, generation: 0 },
];

#[test]
fn clusters_replaced_one_by_one_are_found_as_in_a_fresh_graph() {
    for clusters in DATA {
        let mut graph = Clustered::new(clusters);
        (0..5).for_each(|_| graph.replace_by_cluster());
        graph.check("cluster by cluster");
    }
}

#[test]
fn rows_replaced_at_random_are_found_as_in_a_fresh_graph() {
    for (clusters, batch) in [(DATA[0], 1), (DATA[0], 100), (DATA[1], 100)] {
        let mut graph = Clustered::new(clusters);
        (0..5).for_each(|_| graph.replace_at_random(batch));
        graph.check(&format!("at random in batches of {batch}"));
    }
}

/// A cluster is inserted after the other, none deleted. (Of tighter ones the last are coded by a basis of the first.)
#[test]
fn clusters_that_come_one_by_one_are_found() {
    for clusters in [DATA[0], DATA[2]] {
        let mut graph = Clustered::new(Clusters { count: 1, ..clusters });
        let all: Vec<u32> = graph.vectors.live().iter().collect();
        all.iter().for_each(|&row| {
            graph.vectors.remove(row);
            graph.free.extend(graph.hnsw.remove(&graph.vectors, row));
        });
        graph.clusters = clusters;
        for cluster in 0..clusters.count {
            graph.insert(&vec![cluster; ROWS / clusters.count]);
        }
        graph.check("coming cluster by cluster");
    }
}

#[test]
fn relinked_rows_do_not_depend_on_threads() {
    let parts = [1, 3].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut graph = Clustered::new(DATA[0]);
            graph.replace_by_cluster();
            graph.hnsw.to_parts()
        })
    });
    assert!(parts[0] == parts[1]);
}
