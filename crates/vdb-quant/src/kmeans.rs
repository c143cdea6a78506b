//! k-means: Lloyd's iterations from k-means++ seeds (Arthur & Vassilvitskii, 2007), on a bounded sample.
//!
//! Distances are `‖c‖² − 2⟨x, c⟩` with points and centroids both shifted by the sample's mean, which keeps the
//! subtraction from cancelling when the data lie far from the origin. Invariant: a result is a function of the
//! rows, the configuration and the seed alone. No sum depends on how work is cut for threads: a point's products
//! are added in one order ([`crate::kernels::tile`]), a centroid's members are added by one thread in row order,
//! ties go to the lower centroid number.

mod init;

use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::kernels::tile::{GROUP, Group, Nearest, PackedRows, Tile};
use crate::parameters::{Kind, ParametersError, Reader, Writer};
use crate::rotation::MAX_DIM;

/// Points that one task assigns.
const TASK: usize = 256;
/// From this many centroids on, seeds are sampled: k-means++ would cost more than the iterations.
const MAX_PLUS_PLUS: usize = 2048;

/// How centroids are first placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum KMeansInit {
    /// [`PlusPlus`](Self::PlusPlus) up to 2,048 centroids, [`Sample`](Self::Sample) above.
    #[default]
    Auto,
    /// k-means++ over at most 32 points per centroid: far points are likelier to be picked.
    PlusPlus,
    /// Points picked evenly.
    Sample,
}

/// Settings of a training run.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct KMeansConfig {
    /// Centroids wanted, k.
    pub clusters: usize,
    /// Lloyd iterations; more than 25 rarely help. 20 unless set.
    pub iterations: usize,
    /// Points of the training sample per centroid; fewer than 39 overfit. 256 unless set.
    pub points_per_centroid: usize,
    /// First placement.
    pub init: KMeansInit,
    /// What all random choices derive from.
    pub seed: u64,
}

impl KMeansConfig {
    /// The defaults for this many centroids.
    #[must_use]
    pub fn new(clusters: usize) -> KMeansConfig {
        KMeansConfig {
            clusters,
            iterations: 20,
            points_per_centroid: 256,
            init: KMeansInit::Auto,
            seed: 0x6b6d_6561_6e73,
        }
    }

    /// The same with this seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> KMeansConfig {
        self.seed = seed;
        self
    }

    /// The same with this many iterations.
    #[must_use]
    pub fn iterations(mut self, iterations: usize) -> KMeansConfig {
        self.iterations = iterations;
        self
    }
}

/// Why centroids could not be trained.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KMeansError {
    /// No centroids were asked for.
    #[error("k-means needs at least one cluster")]
    NoClusters,
    /// A dimension of zero, or rows that are not whole vectors.
    #[error("{values} values are not whole vectors of {dim} values")]
    Shape {
        /// Values given.
        values: usize,
        /// Values per vector.
        dim: usize,
    },
    /// Fewer points than centroids.
    #[error("{points} points cannot give {clusters} clusters")]
    TooFewPoints {
        /// Points given.
        points: usize,
        /// Clusters asked for.
        clusters: usize,
    },
    /// A value that is NaN or infinite.
    #[error("vector {row} holds a value that is not finite")]
    NotFinite {
        /// The vector's number.
        row: usize,
    },
}

/// Where a training run stands.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct KMeansProgress {
    /// Iterations done; in a run of two levels, clusters of the first level done.
    pub done: usize,
    /// Out of how many.
    pub total: usize,
    /// Mean squared distance of a point of the sample to its centroid, before this iteration's update.
    pub mean_squared_error: f64,
}

/// Trained centroids.
#[derive(Debug, Clone, PartialEq)]
pub struct KMeans {
    dim: usize,
    /// Row-major, as trained.
    centroids: Vec<f32>,
    search: CentroidSearch,
}

impl KMeans {
    /// Trains on `rows`, vectors of `dim` values one after another.
    ///
    /// # Errors
    /// When there are fewer vectors than clusters, or a value of the sample is not finite.
    ///
    /// # Complexity
    /// `iterations · min(n, points_per_centroid · k) · k` distances.
    pub fn train(rows: &[f32], dim: usize, config: &KMeansConfig) -> Result<KMeans, KMeansError> {
        Self::train_with(rows, dim, config, &mut |_| {})
    }

    /// [`train`](Self::train) that reports every iteration.
    ///
    /// # Errors
    /// As [`train`](Self::train).
    pub fn train_with(
        rows: &[f32],
        dim: usize,
        config: &KMeansConfig,
        progress: &mut dyn FnMut(KMeansProgress),
    ) -> Result<KMeans, KMeansError> {
        let sample = Sample::draw(rows, dim, config)?;
        let centroids = sample.lloyd(config, progress);
        Ok(KMeans::from_centroids_unchecked(dim, sample.restored(centroids)))
    }

    /// Trains about √k coarse clusters and then the centroids inside each, in proportion to its share of the
    /// points: for many centroids, `k` times √k distances an iteration become possible where `k`² are not. The
    /// centroids are a little worse than those of [`train`](Self::train).
    ///
    /// # Errors
    /// As [`train`](Self::train).
    pub fn train_two_level(
        rows: &[f32],
        dim: usize,
        config: &KMeansConfig,
        progress: &mut dyn FnMut(KMeansProgress),
    ) -> Result<KMeans, KMeansError> {
        let sample = Sample::draw(rows, dim, config)?;
        let k = config.clusters;
        let coarse_k = (k as f64).sqrt().ceil() as usize;
        let coarse = KMeansConfig { clusters: coarse_k, ..config.clone() };
        let coarse = Sample::draw(&sample.rows, dim, &coarse)?.train(&coarse);
        let labels = coarse.assign_all(&sample.rows);
        let members = Members::new(&labels, coarse_k);
        let quotas = quotas(&members, k);

        let mut centroids = Vec::with_capacity(k * dim);
        for (cluster, &clusters) in quotas.iter().enumerate() {
            if clusters > 0 {
                let own: Vec<f32> = members
                    .of(cluster)
                    .iter()
                    .flat_map(|&row| &sample.rows[row as usize * dim..][..dim])
                    .copied()
                    .collect();
                // Every level-two run has its own stream, whatever order they are run in.
                let seed = config.seed ^ (cluster as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let config = KMeansConfig { clusters, seed, ..config.clone() };
                centroids.extend_from_slice(&Sample::draw(&own, dim, &config)?.train(&config).centroids);
            }
            progress(KMeansProgress { done: cluster + 1, total: coarse_k, mean_squared_error: f64::NAN });
        }
        Ok(KMeans::from_centroids_unchecked(dim, sample.restored(centroids)))
    }

    /// Takes centroids from elsewhere, row-major.
    ///
    /// # Errors
    /// When they are no whole vectors, there is none, or a value is not finite.
    pub fn from_centroids(dim: usize, centroids: Vec<f32>) -> Result<KMeans, KMeansError> {
        let rows = count_rows(&centroids, dim)?;
        if rows == 0 {
            return Err(KMeansError::NoClusters);
        }
        check_finite(&centroids, dim)?;
        Ok(KMeans::from_centroids_unchecked(dim, centroids))
    }

    /// The centroids, for [`from_bytes`](Self::from_bytes).
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(Kind::KMeans);
        writer.len(self.dim);
        writer.len(self.clusters());
        writer.f32s(&self.centroids);
        writer.finish()
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// When the bytes are no centroids.
    pub fn from_bytes(bytes: &[u8]) -> Result<KMeans, ParametersError> {
        let mut reader = Reader::new(bytes, Kind::KMeans)?;
        let dim = reader.len("dimension", 1, MAX_DIM)?;
        let clusters = reader.len("number of clusters", 1, u32::MAX as usize)?;
        let centroids = reader.f32s("centroid", clusters.saturating_mul(dim))?;
        reader.finish()?;
        Ok(KMeans::from_centroids_unchecked(dim, centroids))
    }

    fn from_centroids_unchecked(dim: usize, centroids: Vec<f32>) -> KMeans {
        let search = CentroidSearch::new(&centroids, dim);
        KMeans { dim, centroids, search }
    }

    /// Values per vector.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Number of centroids, k.
    pub fn clusters(&self) -> usize {
        self.search.rows.rows()
    }

    /// All centroids, row-major.
    pub fn centroids(&self) -> &[f32] {
        &self.centroids
    }

    /// One centroid.
    ///
    /// # Panics
    /// When there is no such centroid.
    pub fn centroid(&self, cluster: usize) -> &[f32] {
        &self.centroids[cluster * self.dim..][..self.dim]
    }

    /// The nearest centroid and its squared distance.
    ///
    /// # Panics
    /// When `vector` does not have [`dim`](Self::dim) values.
    pub fn assign(&self, vector: &[f32]) -> (u32, f32) {
        assert_eq!(vector.len(), self.dim, "the vector and the centroids differ in dimension");
        let label = self.search.nearest_one(vector);
        (label, vdb_distance::l2_squared(vector, self.centroid(label as usize)))
    }

    /// The nearest `n` centroids and their squared distances, nearest first; all of them if there are fewer.
    ///
    /// # Panics
    /// When `vector` does not have [`dim`](Self::dim) values.
    pub fn assign_top(&self, vector: &[f32], n: usize) -> Vec<(u32, f32)> {
        assert_eq!(vector.len(), self.dim, "the vector and the centroids differ in dimension");
        let mut all = self.search.scores(vector);
        let n = n.min(all.len());
        let order = |a: &(u32, f32), b: &(u32, f32)| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0));
        if n > 0 && n < all.len() {
            all.select_nth_unstable_by(n - 1, order);
        }
        all.truncate(n);
        for (cluster, distance) in &mut all {
            *distance = vdb_distance::l2_squared(vector, self.centroid(*cluster as usize));
        }
        all.sort_unstable_by(order);
        all
    }

    /// The nearest centroid of every row, on all threads of the current pool.
    ///
    /// # Panics
    /// When `rows` are no whole vectors.
    pub fn assign_all(&self, rows: &[f32]) -> Vec<u32> {
        assert_eq!(rows.len() % self.dim, 0, "rows are whole vectors");
        let mut labels = vec![0; rows.len() / self.dim];
        self.search.nearest_all(rows, &mut labels);
        labels
    }
}

/// The number of rows in `rows`.
fn count_rows(rows: &[f32], dim: usize) -> Result<usize, KMeansError> {
    if dim == 0 || !rows.len().is_multiple_of(dim) {
        return Err(KMeansError::Shape { values: rows.len(), dim });
    }
    Ok(rows.len() / dim)
}

fn check_finite(rows: &[f32], dim: usize) -> Result<(), KMeansError> {
    match rows.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(KMeansError::NotFinite { row: at / dim }),
        None => Ok(()),
    }
}

/// Centroids per coarse cluster: in proportion to its points, largest remainders first; never more than points,
/// because `k` is not above the number of all points.
fn quotas(members: &Members, k: usize) -> Vec<usize> {
    let (clusters, points) = (members.starts.len() - 1, members.rows.len());
    let share = |cluster: usize| members.of(cluster).len() as u128 * k as u128;
    let mut quotas: Vec<usize> = (0..clusters).map(|c| (share(c) / points as u128) as usize).collect();
    let mut by_remainder: Vec<usize> = (0..clusters).collect();
    by_remainder.sort_by_key(|&c| (std::cmp::Reverse(share(c) % points as u128), c));
    let left = k - quotas.iter().sum::<usize>();
    for &cluster in &by_remainder[..left] {
        quotas[cluster] += 1;
    }
    quotas
}

/// A bounded, centred sample of the training rows.
struct Sample {
    dim: usize,
    mean: Vec<f32>,
    /// Row-major, `mean` subtracted.
    rows: Vec<f32>,
}

impl Sample {
    fn draw(rows: &[f32], dim: usize, config: &KMeansConfig) -> Result<Sample, KMeansError> {
        let points = count_rows(rows, dim)?;
        if config.clusters == 0 {
            return Err(KMeansError::NoClusters);
        }
        if points < config.clusters {
            return Err(KMeansError::TooFewPoints { points, clusters: config.clusters });
        }
        let wanted = config.points_per_centroid.max(1).saturating_mul(config.clusters);
        let mut own = if wanted < points {
            let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
            let mut picked = index::sample(&mut rng, points, wanted).into_vec();
            picked.sort_unstable();
            picked.iter().flat_map(|&row| &rows[row * dim..][..dim]).copied().collect()
        } else {
            rows.to_vec()
        };
        check_finite(&own, dim)?;
        let mean = mean(own.chunks_exact(dim), dim);
        for row in own.chunks_exact_mut(dim) {
            row.iter_mut().zip(&mean).for_each(|(value, mean)| *value -= mean);
        }
        Ok(Sample { dim, mean, rows: own })
    }

    fn points(&self) -> usize {
        self.rows.len() / self.dim
    }

    fn row(&self, row: usize) -> &[f32] {
        &self.rows[row * self.dim..][..self.dim]
    }

    fn train(&self, config: &KMeansConfig) -> KMeans {
        let centroids = self.lloyd(config, &mut |_| {});
        KMeans::from_centroids_unchecked(self.dim, self.restored(centroids))
    }

    /// Centroids with the mean added back.
    fn restored(&self, mut centroids: Vec<f32>) -> Vec<f32> {
        for centroid in centroids.chunks_exact_mut(self.dim) {
            centroid.iter_mut().zip(&self.mean).for_each(|(value, mean)| *value += mean);
        }
        centroids
    }

    fn lloyd(&self, config: &KMeansConfig, progress: &mut dyn FnMut(KMeansProgress)) -> Vec<f32> {
        // A stream of its own: the first one has drawn the sample.
        let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
        rng.set_stream(1);
        let k = config.clusters;
        let mut centroids = init::seeds(&self.rows, self.dim, k, config.init, &mut rng);
        let mut labels = vec![0; self.points()];
        for iteration in 0..config.iterations {
            let search = CentroidSearch::uncentred(&centroids, self.dim);
            let error = search.nearest_all(&self.rows, &mut labels);
            let members = Members::new(&labels, k);
            centroids.par_chunks_exact_mut(self.dim).enumerate().for_each(|(cluster, centroid)| {
                let own = members.of(cluster);
                if !own.is_empty() {
                    let rows = own.iter().map(|&row| self.row(row as usize));
                    centroid.copy_from_slice(&mean(rows, self.dim));
                }
            });
            self.split_into_empty(&mut centroids, &members, &mut rng);
            let mean_squared_error = error / self.points() as f64;
            progress(KMeansProgress { done: iteration + 1, total: config.iterations, mean_squared_error });
        }
        centroids
    }

    /// Moves each centroid without members onto a random member of the cluster that is largest, counting a
    /// cluster as halved once it has been taken from.
    fn split_into_empty(&self, centroids: &mut [f32], members: &Members, rng: &mut ChaCha8Rng) {
        let clusters = members.starts.len() - 1;
        let empty: Vec<usize> = (0..clusters).filter(|&c| members.of(c).is_empty()).collect();
        if empty.is_empty() {
            return;
        }
        let mut largest: std::collections::BinaryHeap<(usize, std::cmp::Reverse<usize>)> =
            (0..clusters).map(|c| (members.of(c).len(), std::cmp::Reverse(c))).collect();
        for cluster in empty {
            let Some((size, std::cmp::Reverse(from))) = largest.pop() else { return };
            if size < 2 {
                return;
            }
            let own = members.of(from);
            let picked = own[index::sample(rng, own.len(), 1).index(0)] as usize;
            centroids[cluster * self.dim..][..self.dim].copy_from_slice(self.row(picked));
            largest.push((size - size / 2, std::cmp::Reverse(from)));
        }
    }
}

/// Mean of rows, summed in double precision in their order.
fn mean<'a>(rows: impl Iterator<Item = &'a [f32]>, dim: usize) -> Vec<f32> {
    let (mut sums, mut count) = (vec![0.0_f64; dim], 0_u64);
    for row in rows {
        sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
        count += 1;
    }
    sums.iter().map(|sum| (sum / count.max(1) as f64) as f32).collect()
}

/// The rows of every cluster, in row order.
struct Members {
    starts: Vec<usize>,
    rows: Vec<u32>,
}

impl Members {
    fn new(labels: &[u32], clusters: usize) -> Members {
        let mut starts = vec![0; clusters + 1];
        for &label in labels {
            starts[label as usize + 1] += 1;
        }
        for cluster in 0..clusters {
            starts[cluster + 1] += starts[cluster];
        }
        let mut next = starts.clone();
        let mut rows = vec![0; labels.len()];
        for (row, &label) in labels.iter().enumerate() {
            rows[next[label as usize]] = row as u32;
            next[label as usize] += 1;
        }
        Members { starts, rows }
    }

    fn of(&self, cluster: usize) -> &[u32] {
        &self.rows[self.starts[cluster]..self.starts[cluster + 1]]
    }
}

/// Centroids laid out for finding the nearest one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CentroidSearch {
    dim: usize,
    /// Subtracted from points and rows before they are compared.
    shift: Vec<f32>,
    rows: PackedRows,
    /// `‖c‖²` of the shifted centroids.
    norms: Vec<f32>,
}

impl CentroidSearch {
    /// With centroids and points shifted by the centroids' mean.
    pub(crate) fn new(centroids: &[f32], dim: usize) -> CentroidSearch {
        Self::shifted(centroids, dim, mean(centroids.chunks_exact(dim), dim))
    }

    fn uncentred(centroids: &[f32], dim: usize) -> CentroidSearch {
        Self::shifted(centroids, dim, vec![0.0; dim])
    }

    fn shifted(centroids: &[f32], dim: usize, shift: Vec<f32>) -> CentroidSearch {
        let mut own = centroids.to_vec();
        for centroid in own.chunks_exact_mut(dim) {
            centroid.iter_mut().zip(&shift).for_each(|(value, shift)| *value -= shift);
        }
        let square = |centroid: &[f32]| centroid.iter().map(|&value| value * value).sum();
        let norms = own.chunks_exact(dim).map(square).collect();
        CentroidSearch { dim, rows: PackedRows::new(&own, dim), shift, norms }
    }

    /// Writes the nearest centroid of each point; adds to `error`, if given, each point's squared distance.
    pub(crate) fn nearest(&self, points: &[f32], labels: &mut [u32], mut error: Option<&mut f64>) {
        let tile = Tile::get();
        let mut packed = vec![0.0; GROUP * self.dim];
        for (points, labels) in points.chunks(GROUP * self.dim).zip(labels.chunks_mut(GROUP)) {
            self.shift(points, &mut packed);
            let mut nearest = Nearest::NONE;
            for (first, rows) in self.rows.groups() {
                let norms = &self.norms[first..(first + GROUP).min(self.norms.len())];
                tile.nearest(&Group { first, rows, norms }, &packed, &mut nearest);
            }
            labels.copy_from_slice(&nearest.labels[..labels.len()]);
            if let Some(error) = error.as_deref_mut() {
                let mut squares = [0.0_f32; GROUP];
                for lanes in packed.as_chunks::<GROUP>().0 {
                    squares.iter_mut().zip(lanes).for_each(|(square, &value)| *square += value * value);
                }
                let errors = squares.iter().zip(nearest.best).take(labels.len());
                *error += errors.map(|(square, best)| f64::from(square + best).max(0.0)).sum::<f64>();
            }
        }
    }

    /// The centroid that [`nearest`](Self::nearest) finds for one point.
    pub(crate) fn nearest_one(&self, point: &[f32]) -> u32 {
        let none = (0, f32::INFINITY);
        self.scores(point).into_iter().fold(none, |best, next| if next.1 < best.1 { next } else { best }).0
    }

    /// [`nearest`](Self::nearest) on all threads; the sum of squared distances, in an order of its own.
    fn nearest_all(&self, points: &[f32], labels: &mut [u32]) -> f64 {
        let errors: Vec<f64> = points
            .par_chunks(TASK * self.dim)
            .zip(labels.par_chunks_mut(TASK))
            .map(|(points, labels)| {
                let mut error = 0.0;
                self.nearest(points, labels, Some(&mut error));
                error
            })
            .collect();
        errors.iter().sum()
    }

    /// Every centroid with its squared distance less the point's own square.
    fn scores(&self, point: &[f32]) -> Vec<(u32, f32)> {
        let shifted: Vec<f32> = point.iter().zip(&self.shift).map(|(value, shift)| value - shift).collect();
        let mut scores = Vec::with_capacity(self.norms.len());
        let mut dots = [0.0; GROUP];
        for (first, group) in self.rows.groups() {
            Tile::get().dots(&shifted, group, &mut dots);
            let norms = self.norms[first..].iter().zip(dots);
            scores.extend(norms.enumerate().map(|(r, (norm, dot))| ((first + r) as u32, norm - 2.0 * dot)));
        }
        scores
    }

    /// Packs up to [`GROUP`] points, shifted, a lane each; lanes without a point keep what they had.
    fn shift(&self, points: &[f32], packed: &mut [f32]) {
        for (p, point) in points.chunks_exact(self.dim).enumerate() {
            let lanes = packed.as_chunks_mut::<GROUP>().0;
            for ((lanes, &value), &shift) in lanes.iter_mut().zip(point).zip(&self.shift) {
                lanes[p] = value - shift;
            }
        }
    }
}

#[cfg(test)]
mod tests;
