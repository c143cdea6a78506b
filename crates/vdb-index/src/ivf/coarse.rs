//! The centroids: which list a row belongs to, and which lists lie nearest to a query.
//!
//! Centroids are coded like rows, relative to the mean of the data, with the same codec and therefore the same query
//! tables: ranking them costs a scan of blocks, a look at the remaining bits of those that the bounds leave, and exact
//! distances for hardly more than are wanted.

use vdb_distance::{Kernels, Matrix, Metric, Sum};
use vdb_quant::{
    BLOCK_VECTORS, BlockEstimates, KMeans, ListTerm, RabitqBlockQuery, RabitqBlocks, RabitqCentre,
};

/// Lanes of a block over which the least estimates are taken when a threshold is chosen.
const GROUPS: usize = 4;
/// With more than one in this many of the lists wanted, all are compared exactly.
const EXACT_SHARE: usize = 4;

/// How much wider than for rows the bounds of centroids are: a list that is missed is missed with all its rows.
/// (photo-sift-1m, 24 probes of 2,998 lists: recall 0.8909 at 0.6, 0.8951 at 1, 0.8956 at 1.3 and at 1.6.)
const WIDTH: f32 = 1.3;

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
    /// The remaining bits of their codes.
    rest: Vec<u8>,
}

impl Coarse {
    pub(super) fn new(dim: usize, centroids: Vec<f32>, codec: Option<&RabitqBlocks>) -> Self {
        let count = centroids.len() / dim;
        let mut coarse =
            Self { dim, centroids: Vec::new(), squares: Vec::new(), blocks: Vec::new(), rest: Vec::new() };
        coarse.centroids.reserve_exact(centroids.len());
        coarse.squares.reserve_exact(count);
        centroids.chunks_exact(dim).for_each(|centroid| coarse.push(centroid, codec));
        coarse
    }

    /// The codes of the centroids, as [`open`](Self::open) reads them.
    pub(super) fn codes(&self) -> Vec<u8> {
        [&self.blocks[..], &self.rest[..]].concat()
    }

    /// The same centroids with their codes; a sentence where those have another length.
    pub(super) fn open(
        dim: usize,
        centroids: Vec<f32>,
        codes: &[u8],
        codec: Option<&RabitqBlocks>,
    ) -> Result<Self, String> {
        let squares: Vec<f32> =
            centroids.chunks_exact(dim).map(|centroid| vdb_distance::dot(centroid, centroid)).collect();
        let count = squares.len();
        let blocks = codec.map_or(0, |codec| count.div_ceil(BLOCK_VECTORS) * codec.block_bytes());
        let rest = codec.map_or(0, |codec| count * codec.rest_bytes());
        if codes.len() != blocks + rest {
            return Err(format!(
                "{} bytes of codes of {count} centroids, expected {}",
                codes.len(),
                blocks + rest
            ));
        }
        let (blocks, rest) = codes.split_at(blocks);
        Ok(Self { dim, centroids, squares, blocks: blocks.to_vec(), rest: rest.to_vec() })
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
        let codes = self.blocks.capacity() + self.rest.capacity();
        (self.centroids.capacity() + self.squares.capacity()) * 4 + codes
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
            let bytes = codec.rest_bytes();
            self.rest.copy_within(last * bytes.., list * bytes);
            self.rest.truncate(last * bytes);
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
        let rest_bytes = codec.rest_bytes();
        self.rest.resize(self.squares.len() * rest_bytes, 0);
        let rest = &mut self.rest[list * rest_bytes..][..rest_bytes];
        let centroid = &self.centroids[list * self.dim..][..self.dim];
        codec.encode(&mean, centroid, &mut self.blocks[block * bytes..][..bytes], lane, rest);
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
        let cosine = codec.metric() == Metric::Cosine;
        // Codes estimate −⟨q, c⟩ under Cosine; ‖q − c‖² is that twice, and ‖c‖², and what all lists have in common.
        let factor = if cosine { 2.0 } else { 1.0 };
        let square = |list: usize| if cosine { self.squares[list] } else { 0.0 };
        let mut out = vec![
            BlockEstimates { near: u32::MAX, ..BlockEstimates::default() };
            self.blocks.len() / codec.block_bytes()
        ];
        query.scan(term, f32::INFINITY, &self.blocks, &mut out);
        if cosine {
            for (out, squares) in out.iter_mut().zip(self.squares.chunks(BLOCK_VECTORS)) {
                for ((distance, bound), square) in out.distance.iter_mut().zip(&mut out.bound).zip(squares) {
                    (*distance, *bound) = (2.0 * *distance + square, 2.0 * *bound + square);
                }
            }
        }
        // As many lists as there are groups below the threshold are below it, at least.
        let mut least: Vec<f32> = Vec::with_capacity(out.len() * GROUPS);
        for block in &out {
            let mut groups = [f32::INFINITY; GROUPS];
            for some in block.distance.as_chunks::<GROUPS>().0 {
                for (least, &distance) in groups.iter_mut().zip(some) {
                    *least = if distance < *least { distance } else { *least };
                }
            }
            least.extend(groups);
        }
        if wanted >= least.len() {
            least = out.iter().flat_map(|block| block.distance).collect();
        }
        let limit = *least.select_nth_unstable_by(wanted - 1, f32::total_cmp).1;
        let (mut lists, mut products) = (Vec::with_capacity(8 * wanted), Vec::with_capacity(8 * wanted));
        for (block, out) in out.iter().enumerate() {
            let lanes = out
                .distance
                .iter()
                .zip(&out.bound)
                .map(|(distance, bound)| distance - WIDTH * (distance - bound));
            let mut near = lanes
                .enumerate()
                .fold(0_u32, |near, (lane, bound)| near | u32::from(is_near(bound, limit)) << lane);
            while near != 0 {
                let lane = near.trailing_zeros() as usize;
                near &= near - 1;
                lists.push((block * BLOCK_VECTORS + lane) as u32);
                products.push(out.product[lane]);
            }
        }
        // Places of the last block that hold no list have an infinite distance, but any is below an infinite limit.
        let count = lists.partition_point(|&list| (list as usize) < self.count());
        lists.truncate(count);
        products.truncate(count);
        if self.rest.is_empty() || count <= wanted {
            return lists;
        }
        let mut refined = vec![(0.0, 0.0); count];
        query.refine_rows(term, &self.rest, (&lists, &products), &mut refined);
        for (&list, (distance, error)) in lists.iter().zip(&mut refined) {
            (*distance, *error) = (factor * *distance + square(list as usize), factor * *error);
        }
        let mut distances: Vec<f32> = refined.iter().map(|one| one.0).collect();
        let limit = *distances.select_nth_unstable_by(wanted - 1, f32::total_cmp).1;
        let near = refined.iter().map(|(distance, error)| is_near(distance - WIDTH * error, limit));
        let mut near = near.into_iter();
        lists.retain(|_| near.next().unwrap_or(true));
        lists
    }
}

/// Whether a list with this lower bound may be wanted; a bound that is not a number excludes nothing.
#[inline]
#[allow(clippy::neg_cmp_op_on_partial_ord, reason = "not a number is near")]
fn is_near(bound: f32, limit: f32) -> bool {
    !(bound > limit)
}
