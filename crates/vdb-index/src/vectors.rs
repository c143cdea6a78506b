//! The rows that indexes search: one aligned matrix, a norm per row where the metric needs it, and which rows are live.
//!
//! Rows keep the caller's values bit for bit, in the shortest element type that holds all of them so: pictures and
//! descriptors of bytes take a quarter of the memory of `f32`, embeddings that were stored in half precision a half. The
//! first row that does not fit moves all rows to a wider type. A cosine similarity computed here from the kept norms is the very number
//! that [`Metric::calculate`] gives, so every index reports the same distance for the same pair.

use crate::BitSet;
use std::borrow::Cow;
use vdb_distance::{
    AlignedVec, Distance, ElementType, Kernels, Matrix, Metric, Owner, Sum, cosine_from_parts, norm,
    norm_is_ordinary, square_is_ordinary,
};

/// Element types from the shortest on; each row is kept in the first that holds all rows.
const ELEMENTS: [ElementType; 4] = [ElementType::U8, ElementType::F16, ElementType::Bf16, ElementType::F32];

/// A matrix whose rows are padded to whole cache lines where that costs little.
#[derive(Debug, Clone)]
enum Rows {
    F32(AlignedVec<f32>),
    Short(ElementType, AlignedVec<u8>),
}

impl Rows {
    fn new(element: ElementType, capacity: usize) -> Rows {
        match element {
            ElementType::F32 => Rows::F32(AlignedVec::with_capacity(capacity)),
            _ => Rows::Short(element, AlignedVec::with_capacity(capacity * element.bytes())),
        }
    }

    fn element(&self) -> ElementType {
        match self {
            Rows::F32(_) => ElementType::F32,
            Rows::Short(element, _) => *element,
        }
    }

    /// Values that there is room for.
    fn capacity(&self) -> usize {
        match self {
            Rows::F32(values) => values.capacity(),
            Rows::Short(element, bytes) => bytes.capacity() / element.bytes(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Rows::F32(values) => values.bytes(),
            Rows::Short(_, bytes) => bytes.bytes(),
        }
    }

    /// Makes room for `additional` values without growing by doubling.
    fn reserve(&mut self, additional: usize) {
        match self {
            Rows::F32(values) => values.reserve_exact(additional),
            Rows::Short(element, bytes) => bytes.reserve_exact(additional * element.bytes()),
        }
    }

    /// Appends zeros.
    fn extend(&mut self, values: usize) {
        match self {
            Rows::F32(own) => own.resize(own.len() + values, 0.0),
            Rows::Short(element, own) => own.resize(own.len() + values * element.bytes(), 0),
        }
    }

    /// Overwrites the values from `start` on.
    fn set(&mut self, start: usize, values: &[f32]) {
        match self {
            Rows::F32(own) => own[start..start + values.len()].copy_from_slice(values),
            Rows::Short(element, own) => {
                let size = element.bytes();
                element.encode(values, &mut own[start * size..(start + values.len()) * size]);
            }
        }
    }

    fn get(&self, start: usize, len: usize) -> Cow<'_, [f32]> {
        match self {
            Rows::F32(own) => Cow::Borrowed(&own[start..start + len]),
            Rows::Short(element, own) => {
                let (size, mut values) = (element.bytes(), vec![0.0; len]);
                element.decode(&own[start * size..(start + len) * size], &mut values);
                Cow::Owned(values)
            }
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Rows::F32(values) => values.as_bytes(),
            Rows::Short(_, bytes) => bytes,
        }
    }

    /// Appends `len` values of rows of the same element type from `start` on.
    fn append(&mut self, other: &Rows, start: usize, len: usize) {
        match (self, other) {
            (Rows::F32(own), Rows::F32(other)) => own.extend_from_slice(&other[start..start + len]),
            (Rows::Short(element, own), Rows::Short(_, other)) => {
                let size = element.bytes();
                own.extend_from_slice(&other[start * size..(start + len) * size]);
            }
            _ => unreachable!("rows of one element type"),
        }
    }

    #[inline]
    fn matrix(&self, stride: usize) -> Matrix<'_> {
        match self {
            Rows::F32(values) => Matrix::f32(values, stride),
            Rows::Short(element, bytes) => Matrix::new(*element, bytes, stride),
        }
    }
}

/// Values from the start of one row to the start of the next: rows that fill whole cache lines cost one line less a row;
/// padding pays up to an eighth of the memory.
fn stride(dim: usize, element: ElementType) -> usize {
    const LINE: usize = 64;
    let padded = dim.next_multiple_of(LINE / element.bytes());
    if (padded - dim) * 8 <= dim { padded } else { dim }
}

/// The rows of a matrix as a file keeps them.
#[derive(Debug, Clone, Copy)]
pub struct StoredRows<'a> {
    /// The type of the values.
    pub element: ElementType,
    /// How many rows there are, live or not.
    pub rows: usize,
    /// Whole rows with their padding, little-endian.
    pub values: &'a [u8],
    /// A norm per row under Cosine, else none.
    pub norms: &'a [f32],
}

/// A matrix of vectors addressed by offset.
#[derive(Debug, Clone)]
pub struct Vectors {
    metric: Metric,
    dim: usize,
    stride: usize,
    rows: Rows,
    /// One per row under Cosine, else empty.
    norms: AlignedVec<f32>,
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
        Self {
            metric,
            dim,
            stride: stride(dim, ELEMENTS[0]),
            rows: Rows::new(ELEMENTS[0], 0),
            norms: AlignedVec::new(),
            live: BitSet::default(),
            len: 0,
            kernels: *Kernels::get(),
        }
    }

    /// Reads stored rows in place, copying them only where they are not aligned or are written to. `live` ranges over all rows.
    ///
    /// # Errors
    /// When `values` or `norms` are not as long as that many rows need.
    pub fn open(
        metric: Metric,
        dim: usize,
        element: ElementType,
        live: BitSet,
        values: Owner,
        norms: Owner,
    ) -> Result<Self, String> {
        let len = live.len();
        if dim == 0 || len > crate::MAX_ROWS {
            return Err(format!("{len} rows of dimension {dim}"));
        }
        let stride = stride(dim, element);
        check_len(
            "values",
            &values,
            stride.checked_mul(element.bytes()).and_then(|row| row.checked_mul(len)),
        )?;
        check_len("norms", &norms, Some(if metric == Metric::Cosine { len * 4 } else { 0 }))?;
        let torn = || "part of a number".to_owned();
        let rows = match element {
            ElementType::F32 => Rows::F32(AlignedVec::opened(values).ok_or_else(torn)?),
            _ => Rows::Short(element, AlignedVec::opened(values).ok_or_else(torn)?),
        };
        let norms = AlignedVec::opened(norms).ok_or_else(torn)?;
        Ok(Self { metric, dim, stride, rows, norms, live, len, kernels: *Kernels::get() })
    }

    /// What [`open`](Self::open) reads.
    ///
    /// # Panics
    /// On machines that keep numbers in another order than files do.
    pub fn stored(&self) -> StoredRows<'_> {
        #[allow(clippy::assertions_on_constants, reason = "it is another one on other machines")]
        {
            assert!(cfg!(target_endian = "little"), "stored rows are little-endian");
        }
        StoredRows {
            element: self.element(),
            rows: self.len,
            values: self.rows.as_bytes(),
            norms: &self.norms,
        }
    }

    /// Whether rows are read in place.
    pub fn is_shared(&self) -> bool {
        match &self.rows {
            Rows::F32(values) => values.is_shared(),
            Rows::Short(_, bytes) => bytes.is_shared(),
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
        self.rows.reserve(additional * self.stride);
        if self.metric == Metric::Cosine {
            self.norms.reserve_exact(additional);
        }
    }

    /// How the values of rows are kept: the shortest type that holds every row so far bit for bit.
    pub fn element(&self) -> ElementType {
        self.rows.element()
    }

    /// Bytes that a comparison with a row reads.
    pub(crate) fn row_bytes(&self) -> usize {
        self.dim * self.element().bytes()
    }

    /// Appends a live row and gives its offset.
    ///
    /// # Complexity
    /// The first row that the element type of the others does not hold bit for bit moves them all to a wider one: at
    /// most three times in the life of a matrix.
    ///
    /// # Panics
    /// When the vector has another dimension.
    pub fn push(&mut self, vector: &[f32]) -> u32 {
        assert_eq!(vector.len(), self.dim, "dimension of a pushed vector");
        let offset = self.len as u32;
        self.len += 1;
        self.rows.extend(self.stride);
        if self.metric == Metric::Cosine {
            self.norms.extend_from_slice(&[0.0]);
        }
        self.set(offset, vector);
        offset
    }

    /// Appends a row of zeros that is not live, for a point without this vector; gives its offset.
    pub fn push_missing(&mut self) -> u32 {
        let offset = self.len as u32;
        self.len += 1;
        self.rows.extend(self.stride);
        if self.metric == Metric::Cosine {
            self.norms.extend_from_slice(&[0.0]);
        }
        self.live.grow(self.len);
        offset
    }

    /// Appends these rows of another matrix; live ones are live here. An empty matrix takes the element type of the other.
    ///
    /// # Panics
    /// When the other has another metric or dimension, or there is no such row.
    pub fn append(&mut self, other: &Vectors, rows: &[u32]) {
        assert_eq!(
            (self.metric, self.dim),
            (other.metric, other.dim),
            "metric and dimension of appended rows"
        );
        if self.len == 0 && self.element() != other.element() {
            let capacity = self.rows.capacity() / self.stride * other.stride;
            (self.rows, self.stride) = (Rows::new(other.element(), capacity), other.stride);
        }
        let same = self.element() == other.element();
        for &row in rows {
            assert!((row as usize) < other.len, "there is no row {row}");
            let is_live = other.live.contains(row);
            if same {
                self.rows.append(&other.rows, row as usize * other.stride, other.stride);
                if self.metric == Metric::Cosine {
                    self.norms.extend_from_slice(&[other.norms[row as usize]]);
                }
                self.live.grow(self.len + 1);
                if is_live {
                    self.live.insert(self.len as u32);
                }
                self.len += 1;
            } else {
                let offset = self.push(&other.row(row));
                if !is_live {
                    self.remove(offset);
                }
            }
        }
    }

    /// Overwrites a row, which becomes live.
    ///
    /// # Complexity
    /// As for [`push`](Self::push).
    ///
    /// # Panics
    /// When the vector has another dimension or there is no such row.
    pub fn set(&mut self, offset: u32, vector: &[f32]) {
        assert_eq!(vector.len(), self.dim, "dimension of a replaced vector");
        if !self.element().is_exact(vector) {
            self.widen(vector);
        }
        self.rows.set(offset as usize * self.stride, vector);
        if self.metric == Metric::Cosine {
            self.norms[offset as usize] = norm(vector);
        }
        self.live.insert(offset);
    }

    /// Moves all rows to the first element type that holds them and `vector`.
    #[cold]
    fn widen(&mut self, vector: &[f32]) {
        let all = 0..self.len as u32;
        let fits = |element: &&ElementType| {
            element.is_exact(vector) && all.clone().all(|offset| element.is_exact(&self.row(offset)))
        };
        let element = ELEMENTS.iter().find(fits).copied().unwrap_or(ElementType::F32);
        let stride = stride(self.dim, element);
        let mut rows = Rows::new(element, self.rows.capacity() / self.stride * stride);
        rows.extend(self.len * stride);
        for offset in all {
            rows.set(offset as usize * stride, &self.row(offset));
        }
        (self.rows, self.stride) = (rows, stride);
    }

    /// Takes a row out of the results; its values stay until it is overwritten, since a graph may still lead through it.
    pub fn remove(&mut self, offset: u32) -> bool {
        self.live.remove(offset)
    }

    /// The values of a row, bit for bit as given; a copy unless rows are kept as `f32`.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row(&self, offset: u32) -> Cow<'_, [f32]> {
        self.rows.get(offset as usize * self.stride, self.dim)
    }

    fn matrix(&self) -> Matrix<'_> {
        self.rows.matrix(self.stride)
    }

    /// The norm kept beside a row; 0 under metrics that keep none.
    pub(crate) fn norm(&self, offset: u32) -> f32 {
        self.norms.get(offset as usize).copied().unwrap_or(0.0)
    }

    /// Heap bytes held.
    pub fn bytes(&self) -> usize {
        self.rows.bytes() + self.norms.bytes() + self.live.words().len() * 8
    }

    /// Prepares distances from `query`.
    pub(crate) fn query<'a>(&'a self, query: &'a [f32]) -> Query<'a> {
        assert_eq!(query.len(), self.dim, "dimension of a query");
        let norm = if self.metric == Metric::Cosine { norm(query) } else { 0.0 };
        Query { vectors: self, query: Cow::Borrowed(query), norm, lift: None }
    }

    /// Prepares distances from a row to others, as graph edges need them: see [`Lift`].
    pub(crate) fn query_row<'a>(&'a self, offset: u32, lift: Option<&'a Lift>) -> Query<'a> {
        let norm = self.norm(offset);
        let lift = lift.map(|lift| (lift.values[offset as usize], lift));
        Query { vectors: self, query: self.row(offset), norm, lift }
    }
}

fn check_len(what: &str, bytes: &Owner, expected: Option<usize>) -> Result<(), String> {
    let len = (**bytes).as_ref().len();
    if Some(len) == expected { Ok(()) } else { Err(format!("{len} bytes of {what}, expected {expected:?}")) }
}

/// An extra coordinate per row that turns the search for the largest inner product into one for the nearest point.
///
/// A row x becomes (x, √(M² − ‖x‖²)) and a query (q, 0): then ‖q − x‖² = ‖q‖² + M² − 2⟨q, x⟩, so the nearest row is the
/// one with the largest product (Bachrach et al., RecSys 2014, §3). Graph edges are chosen in the lifted space, because
/// the inner product itself is no metric; rows longer than M get the coordinate 0.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lift {
    values: AlignedVec<f32>,
    max_norm: f32,
}

impl Lift {
    /// M.
    pub(crate) fn max_norm(&self) -> f32 {
        self.max_norm
    }

    /// Of a stored M and stored coordinates.
    pub(crate) fn open(max_norm: f32, values: AlignedVec<f32>) -> Self {
        Self { values, max_norm }
    }

    /// Every row's coordinate.
    pub(crate) fn values(&self) -> &AlignedVec<f32> {
        &self.values
    }

    /// The coordinates of these rows, in this order; 0 where there is no such row.
    pub(crate) fn picked(&self, rows: &[u32]) -> Self {
        let values: Vec<f32> =
            rows.iter().map(|&row| self.values.get(row as usize).copied().unwrap_or(0.0)).collect();
        Self { values: AlignedVec::from(&values[..]), max_norm: self.max_norm }
    }

    /// Recomputes every row's coordinate with M = the largest norm of a live row.
    pub(crate) fn train(&mut self, vectors: &Vectors) {
        let norms: Vec<f32> = (0..vectors.len() as u32).map(|i| norm(&vectors.row(i))).collect();
        self.max_norm = vectors.live.iter().map(|i| norms[i as usize]).fold(0.0, f32::max);
        let values: Vec<f32> = norms.into_iter().map(|norm| self.coordinate(norm)).collect();
        self.values = AlignedVec::from(&values[..]);
    }

    /// Gives rows that have no coordinate yet, for they have no vector, some.
    pub(crate) fn grow(&mut self, vectors: &Vectors) {
        if self.values.len() < vectors.len() {
            self.values.resize(vectors.len(), 0.0);
        }
    }

    /// Sets the coordinate of a new or overwritten row.
    pub(crate) fn set(&mut self, vectors: &Vectors, offset: u32) {
        self.grow(vectors);
        self.values[offset as usize] = self.coordinate(norm(&vectors.row(offset)));
    }

    fn coordinate(&self, norm: f32) -> f32 {
        // As a product: norms whose squares overflow f32 stay finite.
        (self.max_norm - norm).max(0.0).sqrt() * (self.max_norm + norm).sqrt()
    }
}

/// A query with everything that its distances need.
pub(crate) struct Query<'a> {
    vectors: &'a Vectors,
    query: Cow<'a, [f32]>,
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
        let (vectors, metric) = (self.vectors, self.vectors.metric);
        let sum = if self.lift.is_some() { Sum::L2Squared } else { sum(metric) };
        vectors.kernels.gather(sum, &self.query, vectors.matrix(), offsets, out);
        if let Some((own, lift)) = self.lift {
            for (distance, &offset) in out.iter_mut().zip(offsets) {
                let difference = own - lift.values[offset as usize];
                *distance += difference * difference;
            }
            return;
        }
        match metric {
            Metric::Euclidean | Metric::Manhattan => {}
            Metric::DotProduct => out.iter_mut().for_each(|product| *product = -*product),
            Metric::Cosine => {
                for (product, &offset) in out.iter_mut().zip(offsets) {
                    *product = -self.cosine(*product, offset);
                }
            }
        }
    }

    /// The same for the contiguous rows from `first` on, as many as `out` holds; exact searches only (no lift).
    #[inline]
    pub(crate) fn scan(&self, first: u32, out: &mut [f32]) {
        let Vectors { kernels, metric, .. } = self.vectors;
        kernels.rows(sum(*metric), &self.query, self.vectors.matrix(), first as usize, out);
        self.products_to_comparable(first, out);
    }

    /// [`scan`](Self::scan) for several queries of the same vectors: with n rows, `out[q * n..]` is query q's.
    pub(crate) fn scan_tile(queries: &[&Query<'_>], first: u32, out: &mut [f32]) {
        let Some(vectors) = queries.first().map(|one| one.vectors) else {
            return;
        };
        let points: Vec<&[f32]> = queries.iter().map(|one| &*one.query).collect();
        vectors.kernels.tile(sum(vectors.metric), &points, vectors.matrix(), first as usize, out);
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
        Metric::Cosine.calculate(&self.query, &self.vectors.row(offset))
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
        Distance::from_value(metric, metric.calculate(&self.query, &self.vectors.row(offset)))
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
}

/// Squares below this are recomputed in double precision, so they say nothing about the order among themselves.
const SMALLEST_ORDINARY_SQUARE: f32 = 1e-29;

/// What a metric sums over the components.
fn sum(metric: Metric) -> Sum {
    match metric {
        Metric::Euclidean => Sum::L2Squared,
        Metric::Manhattan => Sum::L1,
        Metric::DotProduct | Metric::Cosine => Sum::Dot,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of every kind of row, from bytes to floats that no shorter type holds.
    fn row(kind: usize, seed: usize, dim: usize) -> Vec<f32> {
        let value = |i: usize| ((seed * 31 + i * 17) % 256) as f32;
        (0..dim)
            .map(|i| match kind {
                0 => value(i),
                1 => value(i) / 64.0 - 2.0,
                2 => value(i) * 2_f32.powi(60),
                _ => value(i) / 3.0 - 0.1,
            })
            .collect()
    }

    #[test]
    fn rows_return_bit_for_bit_in_the_shortest_type_that_holds_them() {
        for dim in [1, 7, 64, 100, 130] {
            for kinds in [vec![0], vec![0, 1], vec![0, 2], vec![0, 1, 2], vec![0, 3], vec![1, 0], vec![3, 0]]
            {
                let mut vectors = Vectors::new(Metric::Euclidean, dim);
                vectors.reserve(4);
                let mut given = Vec::new();
                for (step, &kind) in kinds.iter().enumerate() {
                    for seed in 0..5 {
                        given.push(row(kind, seed + step * 5, dim));
                        vectors.push(&given[given.len() - 1]);
                    }
                    given[1] = row(kind, 99, dim);
                    vectors.set(1, &given[1]);
                }
                for (offset, given) in given.iter().enumerate() {
                    let bits =
                        |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&vectors.row(offset as u32)), bits(given), "row {offset} of {kinds:?}");
                }
                let holds = |element: &ElementType| given.iter().all(|row| element.is_exact(row));
                assert_eq!(Some(vectors.element()), ELEMENTS.into_iter().find(|element| holds(element)));
            }
        }
    }

    #[test]
    fn distances_do_not_depend_on_the_element_type() {
        for metric in [Metric::Euclidean, Metric::Manhattan, Metric::DotProduct, Metric::Cosine] {
            for kind in 0..3 {
                let dim = 100;
                let mut short = Vectors::new(metric, dim);
                let mut wide = Vectors::new(metric, dim);
                // A row that only `f32` holds makes all of them floats.
                wide.push(&row(3, 0, dim));
                short.push(&row(kind, 0, dim));
                for seed in 1..70 {
                    short.push(&row(kind, seed, dim));
                    wide.push(&row(kind, seed, dim));
                }
                assert_ne!(short.element(), wide.element());
                let query = row(3, 5, dim);
                let others: Vec<u32> = (1..70).rev().collect();
                let distances = |vectors: &Vectors| {
                    let (mut gathered, mut scanned, mut tiled) = ([0.0; 69], [0.0; 69], [0.0; 138]);
                    let (query, near) = (vectors.query(&query), vectors.query_row(7, None));
                    query.gather(&others, &mut gathered);
                    query.scan(1, &mut scanned);
                    Query::scan_tile(&[&query, &near], 1, &mut tiled);
                    [&gathered[..], &scanned, &tiled]
                        .concat()
                        .into_iter()
                        .map(f32::to_bits)
                        .collect::<Vec<_>>()
                };
                assert_eq!(distances(&short), distances(&wide), "{metric}, kind {kind}");
            }
        }
    }

    /// A matrix of some rows, the last of which is not live.
    fn filled(metric: Metric, kind: usize, rows: usize) -> Vectors {
        let mut vectors = Vectors::new(metric, 20);
        (0..rows).for_each(|seed| _ = vectors.push(&row(kind, seed, 20)));
        vectors.push_missing();
        vectors
    }

    /// Read from memory that begins on a cache line.
    fn opened(vectors: &Vectors) -> Vectors {
        let stored = vectors.stored();
        let norms: Vec<u8> = stored.norms.iter().flat_map(|norm| norm.to_le_bytes()).collect();
        let (values, norms) = (owner(stored.values), owner(&norms));
        let live = vectors.live().clone();
        Vectors::open(vectors.metric(), vectors.dim(), stored.element, live, values, norms).unwrap()
    }

    fn owner(bytes: &[u8]) -> Owner {
        struct Bytes(AlignedVec<u8>);
        impl AsRef<[u8]> for Bytes {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        std::sync::Arc::new(Bytes(AlignedVec::from(bytes)))
    }

    fn assert_same(one: &Vectors, other: &Vectors) {
        assert_eq!((one.len(), one.live(), one.element()), (other.len(), other.live(), other.element()));
        for offset in 0..one.len() as u32 {
            assert_eq!(one.row(offset), other.row(offset));
            assert_eq!(one.norm(offset), other.norm(offset));
        }
    }

    #[test]
    fn stored_rows_are_read_in_place_until_written_to() {
        for metric in [Metric::Euclidean, Metric::DotProduct, Metric::Cosine] {
            for (kind, rows) in [(0, 0), (0, 1), (1, 40), (2, 40), (3, 40)] {
                let mut vectors = filled(metric, kind, rows);
                let mut read = opened(&vectors);
                assert!(read.is_shared() && read.norms.is_shared() == (metric == Metric::Cosine));
                assert_same(&read, &vectors);
                let kept = read.clone();
                for changed in [&mut read, &mut vectors] {
                    changed.set(0, &row(kind, 99, 20));
                    changed.push(&row(3, 7, 20));
                    changed.remove(0);
                }
                assert!(!read.is_shared() && kept.is_shared());
                assert_same(&read, &vectors);
                assert_ne!(kept.len(), read.len());
            }
        }
        let (live, bytes) = (BitSet::all(2), owner(&[0; 100]));
        let none = owner(&[]);
        assert!(Vectors::open(Metric::Euclidean, 20, ElementType::F32, live, bytes, none).is_err());
    }

    #[test]
    fn appended_rows_are_those_of_the_other_matrix() {
        for metric in [Metric::Euclidean, Metric::Cosine] {
            for (own, others) in [(0, 0), (0, 3), (3, 0), (1, 2)] {
                let other = filled(metric, others, 40);
                let mut vectors = filled(metric, own, 3);
                let mut expected = vectors.clone();
                let rows: Vec<u32> = (0..=40).rev().collect();
                vectors.append(&other, &rows);
                for &one in &rows {
                    let offset = expected.push(&other.row(one));
                    if !other.live().contains(one) {
                        expected.remove(offset);
                    }
                }
                assert_same(&vectors, &expected);
                let mut empty = Vectors::new(metric, 20);
                empty.append(&other, &[3, 40]);
                assert_eq!((empty.row(0), empty.element()), (other.row(3), other.element()));
                assert!(empty.live().iter().eq([0]) && empty.len() == 2);
            }
        }
    }
}
