//! The rows that indexes search: one aligned matrix, a norm per row where the metric needs it, and which rows are live.
//!
//! Rows keep the caller's values bit for bit. A cosine similarity computed here from the kept norms is the very number
//! that [`Metric::calculate`] gives, so every index reports the same distance for the same pair.

use crate::BitSet;
use vdb_distance::{
    AlignedVec, Distance, Kernels, Metric, cosine_from_parts, norm, norm_is_ordinary, square_is_ordinary,
};

/// A matrix of vectors addressed by offset.
#[derive(Debug, Clone)]
pub struct Vectors {
    metric: Metric,
    dim: usize,
    stride: usize,
    rows: AlignedVec<f32>,
    /// One per row under Cosine, else empty.
    norms: Vec<f32>,
    live: BitSet,
    len: usize,
    kernels: Kernels,
}

impl Vectors {
    /// An empty matrix of vectors of `dim` values.
    ///
    /// # Panics
    /// When `dim` is 0.
    pub fn new(metric: Metric, dim: usize) -> Self {
        assert!(dim > 0, "a vector has at least one dimension");
        // Rows that fill whole cache lines cost one line less a row; padding pays up to an eighth of the memory.
        let padded = dim.next_multiple_of(16);
        let stride = if (padded - dim) * 8 <= dim { padded } else { dim };
        Self {
            metric,
            dim,
            stride,
            rows: AlignedVec::new(),
            norms: Vec::new(),
            live: BitSet::default(),
            len: 0,
            kernels: *Kernels::get(),
        }
    }

    /// The metric that distances are measured by.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Values per vector.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Rows, live or not: every offset is below this.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no rows at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The rows that may be hits.
    pub fn live(&self) -> &BitSet {
        &self.live
    }

    /// Makes room for `additional` rows without growing by doubling.
    pub fn reserve(&mut self, additional: usize) {
        self.rows.reserve_exact(additional * self.stride);
        if self.metric == Metric::Cosine {
            self.norms.reserve_exact(additional);
        }
    }

    /// Appends a live row and gives its offset.
    ///
    /// # Panics
    /// When the vector has another dimension.
    pub fn push(&mut self, vector: &[f32]) -> u32 {
        assert_eq!(vector.len(), self.dim, "dimension of a pushed vector");
        let offset = self.len as u32;
        self.rows.extend_from_slice(vector);
        self.len += 1;
        self.rows.resize(self.len * self.stride, 0.0);
        if self.metric == Metric::Cosine {
            self.norms.push(norm(vector));
        }
        self.live.insert(offset);
        offset
    }

    /// Overwrites a row, which becomes live.
    ///
    /// # Panics
    /// When the vector has another dimension or there is no such row.
    pub fn set(&mut self, offset: u32, vector: &[f32]) {
        assert_eq!(vector.len(), self.dim, "dimension of a replaced vector");
        let start = offset as usize * self.stride;
        self.rows[start..start + self.dim].copy_from_slice(vector);
        if self.metric == Metric::Cosine {
            self.norms[offset as usize] = norm(vector);
        }
        self.live.insert(offset);
    }

    /// Takes a row out of the results; its values stay until it is overwritten, since a graph may still lead through it.
    pub fn remove(&mut self, offset: u32) -> bool {
        self.live.remove(offset)
    }

    /// The values of a row, bit for bit as given.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row(&self, offset: u32) -> &[f32] {
        let start = offset as usize * self.stride;
        &self.rows[start..start + self.dim]
    }

    /// The norm kept beside a row; 0 under metrics that keep none.
    pub(crate) fn norm(&self, offset: u32) -> f32 {
        self.norms.get(offset as usize).copied().unwrap_or(0.0)
    }

    /// Heap bytes held.
    pub fn bytes(&self) -> usize {
        self.rows.bytes() + self.norms.capacity() * 4 + self.live.words().len() * 8
    }

    /// Prepares distances from `query`.
    pub(crate) fn query<'a>(&'a self, query: &'a [f32]) -> Query<'a> {
        assert_eq!(query.len(), self.dim, "dimension of a query");
        let norm = if self.metric == Metric::Cosine { norm(query) } else { 0.0 };
        Query { vectors: self, query, norm, lift: None }
    }

    /// Prepares distances from a row to others, as graph edges need them: see [`Lift`].
    pub(crate) fn query_row<'a>(&'a self, offset: u32, lift: Option<&'a Lift>) -> Query<'a> {
        let norm = self.norm(offset);
        let lift = lift.map(|lift| (lift.values[offset as usize], lift));
        Query { vectors: self, query: self.row(offset), norm, lift }
    }
}

/// An extra coordinate per row that turns the search for the largest inner product into one for the nearest point.
///
/// A row x becomes (x, √(M² − ‖x‖²)) and a query (q, 0): then ‖q − x‖² = ‖q‖² + M² − 2⟨q, x⟩, so the nearest row is the
/// one with the largest product (Bachrach et al., RecSys 2014, §3). Graph edges are chosen in the lifted space, because
/// the inner product itself is no metric; rows longer than M get the coordinate 0.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lift {
    values: Vec<f32>,
    max_norm: f32,
}

impl Lift {
    /// M.
    pub(crate) fn max_norm(&self) -> f32 {
        self.max_norm
    }

    /// Recomputes every row's coordinate with M = the largest norm of a live row.
    pub(crate) fn train(&mut self, vectors: &Vectors) {
        let norms: Vec<f32> = (0..vectors.len() as u32).map(|i| norm(vectors.row(i))).collect();
        self.max_norm = vectors.live.iter().map(|i| norms[i as usize]).fold(0.0, f32::max);
        self.values = norms.into_iter().map(|norm| self.coordinate(norm)).collect();
    }

    /// Sets the coordinate of a new or overwritten row.
    pub(crate) fn set(&mut self, vectors: &Vectors, offset: u32) {
        if self.values.len() < vectors.len() {
            self.values.resize(vectors.len(), 0.0);
        }
        self.values[offset as usize] = self.coordinate(norm(vectors.row(offset)));
    }

    fn coordinate(&self, norm: f32) -> f32 {
        // As a product: norms whose squares overflow f32 stay finite.
        (self.max_norm - norm).max(0.0).sqrt() * (self.max_norm + norm).sqrt()
    }
}

/// A query with everything that its distances need.
pub(crate) struct Query<'a> {
    vectors: &'a Vectors,
    query: &'a [f32],
    norm: f32,
    lift: Option<(f32, &'a Lift)>,
}

impl Query<'_> {
    /// Whether every row is at the same distance: a zero vector under Cosine.
    pub(crate) fn is_undirected(&self) -> bool {
        self.vectors.metric == Metric::Cosine && self.norm == 0.0
    }

    /// Comparable distances of the rows in `offsets`: smaller is closer; squared under Euclidean.
    #[inline]
    pub(crate) fn gather(&self, offsets: &[u32], out: &mut [f32]) {
        let Vectors { kernels, rows, stride, metric, .. } = self.vectors;
        if let Some((own, lift)) = self.lift {
            kernels.l2_squared_gather(self.query, rows, *stride, offsets, out);
            for (distance, &offset) in out.iter_mut().zip(offsets) {
                let difference = own - lift.values[offset as usize];
                *distance += difference * difference;
            }
            return;
        }
        match metric {
            Metric::Euclidean => kernels.l2_squared_gather(self.query, rows, *stride, offsets, out),
            Metric::Manhattan => kernels.l1_gather(self.query, rows, *stride, offsets, out),
            Metric::DotProduct => {
                kernels.dot_gather(self.query, rows, *stride, offsets, out);
                out.iter_mut().for_each(|product| *product = -*product);
            }
            Metric::Cosine => {
                kernels.dot_gather(self.query, rows, *stride, offsets, out);
                for (product, &offset) in out.iter_mut().zip(offsets) {
                    *product = -self.cosine(*product, offset);
                }
            }
        }
    }

    /// The same for the contiguous rows from `first` on, as many as `out` holds; exact searches only (no lift).
    #[inline]
    pub(crate) fn scan(&self, first: u32, out: &mut [f32]) {
        let Vectors { kernels, rows, stride, metric, .. } = self.vectors;
        let start = first as usize;
        match metric {
            Metric::Euclidean => kernels.l2_squared_rows(self.query, rows, *stride, start, out),
            Metric::Manhattan => kernels.l1_rows(self.query, rows, *stride, start, out),
            Metric::DotProduct | Metric::Cosine => kernels.dot_rows(self.query, rows, *stride, start, out),
        }
        self.products_to_comparable(first, out);
    }

    /// [`scan`](Self::scan) for several queries of the same vectors: with n rows, `out[q * n..]` is query q's.
    pub(crate) fn scan_tile(queries: &[&Query<'_>], first: u32, out: &mut [f32]) {
        let Some(Vectors { kernels, rows, stride, metric, .. }) = queries.first().map(|one| one.vectors)
        else {
            return;
        };
        let start = first as usize;
        let points: Vec<&[f32]> = queries.iter().map(|one| one.query).collect();
        match metric {
            Metric::Euclidean => kernels.l2_squared_tile(&points, rows, *stride, start, out),
            Metric::Manhattan => kernels.l1_tile(&points, rows, *stride, start, out),
            Metric::DotProduct | Metric::Cosine => kernels.dot_tile(&points, rows, *stride, start, out),
        }
        let count = out.len() / queries.len();
        for (query, out) in queries.iter().zip(out.chunks_exact_mut(count.max(1))) {
            query.products_to_comparable(first, out);
        }
    }

    /// Turns what a kernel gave for the rows from `first` on into comparable distances.
    #[inline]
    fn products_to_comparable(&self, first: u32, out: &mut [f32]) {
        match self.vectors.metric {
            Metric::Euclidean | Metric::Manhattan => {}
            Metric::DotProduct => out.iter_mut().for_each(|product| *product = -*product),
            Metric::Cosine => {
                for (index, product) in out.iter_mut().enumerate() {
                    *product = -self.cosine(*product, first + index as u32);
                }
            }
        }
    }

    #[inline]
    fn cosine(&self, product: f32, offset: u32) -> f32 {
        let row_norm = self.vectors.norms[offset as usize];
        if norm_is_ordinary(self.norm) && norm_is_ordinary(row_norm) {
            return cosine_from_parts(product, self.norm, row_norm);
        }
        Metric::Cosine.calculate(self.query, self.vectors.row(offset))
    }

    /// The distance of row `offset` that a comparable distance stands for.
    #[inline]
    pub(crate) fn finish(&self, offset: u32, comparable: f32) -> Distance {
        let metric = self.vectors.metric;
        if metric != Metric::Euclidean {
            return Distance::from_raw(comparable);
        }
        if square_is_ordinary(comparable) {
            return Distance::from_raw(comparable.sqrt());
        }
        Distance::from_value(metric, metric.calculate(self.query, self.vectors.row(offset)))
    }

    /// A comparable distance above which no row is as near as `distance`, whatever the rounding of its square.
    #[inline]
    pub(crate) fn bound(&self, distance: Distance) -> f32 {
        match self.vectors.metric {
            Metric::Euclidean => {
                let square = distance.get() * distance.get() * (1.0 + 32.0 * f32::EPSILON);
                if square_is_ordinary(square) { square } else { square.max(SMALLEST_ORDINARY_SQUARE) }
            }
            _ => distance.get(),
        }
    }

    /// A comparable distance above which no row is as near as one whose comparable distance is at most this.
    #[inline]
    pub(crate) fn widened(&self, comparable: f32) -> f32 {
        match self.vectors.metric {
            Metric::Euclidean => (comparable * (1.0 + 64.0 * f32::EPSILON)).max(SMALLEST_ORDINARY_SQUARE),
            _ => comparable,
        }
    }
}

/// Squares below this are recomputed in double precision, so they say nothing about the order among themselves.
const SMALLEST_ORDINARY_SQUARE: f32 = 1e-29;
