//! The centroids: which list a row belongs to, and which lists lie nearest to a query.
//!
//! Centroids are coded like rows, relative to the mean of the data, with the same codec and therefore the same query
//! tables: ranking them costs a scan of blocks, and exact distances for those that the bounds leave.

use crate::bitset::ones;
use vdb_distance::{Kernels, Matrix, Metric, Sum};
use vdb_quant::{
    BLOCK_VECTORS, BlockEstimates, KMeans, ListTerm, RabitqBlockQuery, RabitqBlocks, RabitqCentre,
};

/// Estimates whose least is looked at together when a threshold is chosen.
const GROUP: usize = 8;
/// With more than one in this many of the lists wanted, all are compared exactly.
const EXACT_SHARE: usize = 4;

/// How much wider than for rows the bounds of centroids are: a list that is missed is missed with all its rows.
const WIDTH: f32 = 1.6;

/// A list and what a query has in common with it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ranked {
    /// Comparable distance of the centroid: lists are probed in this order.
    distance: f32,
    pub(super) list: u32,
    pub(super) term: ListTerm,
}

/// The centroids of all lists.
#[derive(Debug, Clone)]
pub(super) struct Coarse {
    dim: usize,
    /// Row-major.
    centroids: Vec<f32>,
    /// ‖c‖² of each.
    squares: Vec<f32>,
    /// Their codes, in whole blocks; none without a codec.
    blocks: Vec<u8>,
}

impl Coarse {
    pub(super) fn new(dim: usize, centroids: Vec<f32>, codec: Option<&RabitqBlocks>) -> Self {
        let count = centroids.len() / dim;
        let mut coarse = Self { dim, centroids: Vec::new(), squares: Vec::new(), blocks: Vec::new() };
        coarse.centroids.reserve_exact(centroids.len());
        coarse.squares.reserve_exact(count);
        centroids.chunks_exact(dim).for_each(|centroid| coarse.push(centroid, codec));
        coarse
    }

    pub(super) fn count(&self) -> usize {
        self.squares.len()
    }

    pub(super) fn centroids(&self) -> &[f32] {
        &self.centroids
    }

    pub(super) fn centroid(&self, list: usize) -> &[f32] {
        &self.centroids[list * self.dim..][..self.dim]
    }

    pub(super) fn bytes(&self) -> usize {
        (self.centroids.capacity() + self.squares.capacity()) * 4 + self.blocks.capacity()
    }

    /// The codec's centre of a list.
    pub(super) fn centre(&self, list: usize, codec: Option<&RabitqBlocks>) -> Option<RabitqCentre> {
        codec.map(|codec| codec.centre(self.centroid(list)))
    }

    pub(super) fn push(&mut self, centroid: &[f32], codec: Option<&RabitqBlocks>) {
        self.centroids.extend_from_slice(centroid);
        self.squares.push(vdb_distance::dot(centroid, centroid));
        self.encode(self.count() - 1, codec);
    }

    pub(super) fn set(&mut self, list: usize, centroid: &[f32], codec: Option<&RabitqBlocks>) {
        self.centroids[list * self.dim..][..self.dim].copy_from_slice(centroid);
        self.squares[list] = vdb_distance::dot(centroid, centroid);
        self.encode(list, codec);
    }

    /// Takes a centroid out; the last one gets its number.
    pub(super) fn swap_remove(&mut self, list: usize, codec: Option<&RabitqBlocks>) {
        let last = self.count() - 1;
        self.centroids.copy_within(last * self.dim.., list * self.dim);
        self.centroids.truncate(last * self.dim);
        self.squares.swap_remove(list);
        if let Some(codec) = codec {
            codec.move_code(&mut self.blocks, last, list);
            self.blocks.truncate(last.div_ceil(BLOCK_VECTORS) * codec.block_bytes());
        }
    }

    fn encode(&mut self, list: usize, codec: Option<&RabitqBlocks>) {
        let Some(codec) = codec else { return };
        let (block, lane, bytes) = (list / BLOCK_VECTORS, list % BLOCK_VECTORS, codec.block_bytes());
        if self.blocks.len() == block * bytes {
            self.blocks.resize((block + 1) * bytes, 0);
            codec.clear(&mut self.blocks[block * bytes..]);
        }
        let mean = codec.centre(codec.quantizer().centre());
        let mut rest = vec![0; codec.rest_bytes()];
        let centroid = &self.centroids[list * self.dim..][..self.dim];
        codec.encode(&mean, centroid, &mut self.blocks[block * bytes..][..bytes], lane, &mut rest);
    }

    /// The nearest list of each of many vectors, on all threads.
    pub(super) fn assign_all(&self, vectors: &[f32]) -> Vec<u32> {
        match KMeans::from_centroids(self.dim, self.centroids.clone()) {
            Ok(means) => means.assign_all(vectors),
            // Centroids are means of finite rows; one that left the range of f32 draws no rows.
            Err(_) => vectors.chunks_exact(self.dim).map(|vector| self.nearest(vector)).collect(),
        }
    }

    /// The nearest list of one vector.
    pub(super) fn nearest(&self, vector: &[f32]) -> u32 {
        let mut squares = vec![0.0; self.count()];
        Kernels::get().l2_squared_rows(vector, &self.centroids, self.dim, 0, &mut squares);
        let nearest = squares.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1));
        nearest.map_or(0, |(list, _)| list as u32)
    }

    /// The second list of a vector whose nearest is `first`: the one with the least ‖r'‖² + ⟨r, r'⟩² / ‖r‖² for the
    /// residuals r and r', so that queries that see the row badly from one centroid see it well from the other (SOAR;
    /// Sun et al., NeurIPS 2023, with λ = 1).
    pub(super) fn spill(&self, vector: &[f32], first: u32) -> u32 {
        let mut products = vec![0.0; self.count()];
        let centroid = self.centroid(first as usize);
        let residual: Vec<f32> = vector.iter().zip(centroid).map(|(x, c)| x - c).collect();
        Kernels::get().dot_rows(&residual, &self.centroids, self.dim, 0, &mut products);
        let mut squares = vec![0.0; self.count()];
        Kernels::get().l2_squared_rows(vector, &self.centroids, self.dim, 0, &mut squares);
        let own = vdb_distance::dot(&residual, &residual).max(f32::MIN_POSITIVE);
        let along = vdb_distance::dot(&residual, vector);
        let loss = |list: usize| squares[list] + (along - products[list]).powi(2) / own;
        let others = (0..self.count()).filter(|&list| list != first as usize);
        others.min_by(|&a, &b| loss(a).total_cmp(&loss(b))).map_or(first, |list| list as u32)
    }

    /// The `wanted` nearest lists of a query, nearest first: by the distance to the centroid, as rows were assigned,
    /// under DotProduct by the product. `vector` is of length one under Cosine; `query` is its prepared form.
    pub(super) fn rank(
        &self,
        metric: Metric,
        vector: &[f32],
        query: Option<(&RabitqBlocks, &RabitqBlockQuery<'_>)>,
        wanted: usize,
    ) -> Vec<Ranked> {
        let wanted = wanted.min(self.count());
        let candidates = match query {
            Some((codec, query)) if wanted * EXACT_SHARE < self.count() => {
                self.candidates(codec, query, wanted)
            }
            _ => (0..self.count() as u32).collect(),
        };
        let mut squares = vec![0.0; candidates.len()];
        let centroids = Matrix::f32(&self.centroids, self.dim);
        Kernels::get().gather(Sum::L2Squared, vector, centroids, &candidates, &mut squares);
        let own = vdb_distance::dot(vector, vector);
        let mut ranked: Vec<Ranked> = candidates
            .into_iter()
            .zip(squares)
            .map(|(list, square)| {
                let product = 0.5 * (own + self.squares[list as usize] - square);
                let euclidean = matches!(metric, Metric::Euclidean | Metric::Manhattan);
                let add = if euclidean { square } else { -product };
                let distance = if metric == Metric::DotProduct { add } else { square };
                Ranked { distance, list, term: ListTerm { add, radius: square.sqrt() } }
            })
            .collect();
        let order = |a: &Ranked, b: &Ranked| a.distance.total_cmp(&b.distance).then(a.list.cmp(&b.list));
        if wanted < ranked.len() {
            ranked.select_nth_unstable_by(wanted, order);
            ranked.truncate(wanted);
        }
        ranked.sort_unstable_by(order);
        ranked
    }

    /// Lists among which the `wanted` nearest are, as far as the bounds hold.
    fn candidates(&self, codec: &RabitqBlocks, query: &RabitqBlockQuery<'_>, wanted: usize) -> Vec<u32> {
        let term = query.list_term(codec.quantizer().centre());
        let blocks = self.blocks.len() / codec.block_bytes();
        let mut out = vec![BlockEstimates { near: u32::MAX, ..BlockEstimates::default() }; blocks];
        query.scan(term, f32::INFINITY, &self.blocks, &mut out);
        if codec.metric() == Metric::Cosine {
            // Codes estimate −⟨q, c⟩; ‖q − c‖² is that twice, and ‖c‖², and what all lists have in common.
            for (out, squares) in out.iter_mut().zip(self.squares.chunks(BLOCK_VECTORS)) {
                for ((distance, bound), square) in out.distance.iter_mut().zip(&mut out.bound).zip(squares) {
                    (*distance, *bound) = (2.0 * *distance + square, 2.0 * *bound + square);
                }
            }
        }
        let mut least: Vec<f32> = out
            .iter()
            .flat_map(|block| block.distance.as_chunks::<GROUP>().0)
            .map(|group| group.iter().fold(f32::INFINITY, |a, &b| a.min(b)))
            .collect();
        // As many lists as there are groups below the threshold are below it, at least.
        let limit = if wanted < least.len() {
            *least.select_nth_unstable_by(wanted - 1, f32::total_cmp).1
        } else {
            let mut all: Vec<f32> = out.iter().flat_map(|block| block.distance).collect();
            *all.select_nth_unstable_by(wanted - 1, f32::total_cmp).1
        };
        let mut candidates = Vec::with_capacity(4 * wanted);
        for (block, out) in out.iter().enumerate() {
            // A bound that is not a number excludes nothing.
            let bounds = out.distance.iter().zip(&out.bound);
            let lanes = bounds.map(|(distance, bound)| distance - WIDTH * (distance - bound)).enumerate();
            let near = lanes.fold(0_u32, |near, (lane, bound)| {
                near | u32::from(bound <= limit || bound.is_nan()) << lane
            });
            candidates.extend(ones(u64::from(near), (block * BLOCK_VECTORS) as u32));
        }
        candidates.retain(|&list| (list as usize) < self.count());
        candidates
    }
}
