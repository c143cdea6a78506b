//! Where vectors are placed before they are coded, and the directions that are kept of them.

use super::query::Round;
use super::{FIRST_CODES, LINE, TraversalQuery};
use crate::kernels::compiled;
use crate::kernels::int8::FACTOR_BYTES;
use crate::{Int8Kernels, leading_directions, spread};
use vdb_distance::{AlignedVec, Kernels, Matrix, Metric, Sum, dot, norm, norm_is_ordinary};

/// Cache lines of a row that are tried first.
const FEW_LINES: usize = 4;
/// The share of the variance that a head holds, unless all coordinates are kept.
const ENERGY: f64 = 0.956;
/// Two parts of 8 bits: 127 · 257 is the greatest integer of a query that is projected.
const TOP: f32 = 32_639.0;
/// Chunks of the rows of the projection.
const CHUNK: usize = 64;

/// A centre and m leading directions of placed vectors.
///
/// Placing normalises under Cosine, and appends √(M² − ‖x‖²) under DotProduct, where M is the largest length seen in
/// training and queries get 0 (Bachrach et al., RecSys 2014, §3): then the nearest vector is that of the largest product.
/// Rows are projected in `f32`; queries by the directions rounded to 8 bits, four times less to read, which is as exact
/// as what is kept of them.
#[derive(Debug, Clone)]
pub struct TraversalBasis {
    metric: Metric,
    dim: usize,
    /// M under DotProduct.
    longest: f32,
    center: Vec<f32>,
    /// m rows of as many values as the centre has.
    directions: AlignedVec<f32>,
    m: usize,
    projection: Projection,
}

/// Directions as 8-bit levels, u standing for (u − 128) · step, a step a row.
#[derive(Debug, Clone)]
struct Projection {
    levels: AlignedVec<u8>,
    stride: usize,
    steps: Vec<f32>,
}

impl TraversalBasis {
    /// Trains on a sample of vectors of `dim` values, one after the other.
    ///
    /// # Panics
    /// When `dim` is 0, the sample is not whole vectors, or the metric is Manhattan, which no rotation keeps.
    pub fn train(metric: Metric, dim: usize, sample: &[f32], seed: u64) -> TraversalBasis {
        assert!(metric != Metric::Manhattan, "no rotation keeps Manhattan distances");
        assert!(dim > 0 && sample.len().is_multiple_of(dim), "{} values of dimension {dim}", sample.len());
        let lengths = sample.chunks_exact(dim).map(norm);
        let longest = lengths.filter(|&length| norm_is_ordinary(length)).fold(0.0, f32::max);
        let wide = dim + usize::from(metric == Metric::DotProduct);
        let mut basis = TraversalBasis {
            metric,
            dim,
            longest,
            center: vec![0.0; wide],
            directions: AlignedVec::new(),
            m: 0,
            projection: Projection { levels: AlignedVec::new(), stride: 0, steps: Vec::new() },
        };
        let mut placed = Vec::with_capacity(sample.len() / dim * wide);
        let mut rows = 0;
        let mut moved = Vec::new();
        for vector in sample.chunks_exact(dim) {
            if basis.place(vector, false, &mut moved) {
                placed.extend_from_slice(&moved);
                rows += 1;
            }
        }
        basis.center = mean(&placed, wide, rows);
        for row in placed.chunks_exact_mut(wide) {
            row.iter_mut().zip(&basis.center).for_each(|(value, center)| *value -= center);
        }
        // Time grows with the directions looked for, and few are enough more often than not.
        let mut most = FEW_LINES * LINE - FACTOR_BYTES;
        loop {
            let directions = leading_directions(&placed, wide, wide.min(most), seed);
            let m = head_of(&placed, &directions, wide);
            if let Some(m) = m.or((most >= wide).then_some(wide)) {
                let (first, others) = directions[..m * wide].split_at(m.min(FIRST_CODES) * wide);
                let turned = [spread(first, wide, seed), spread(others, wide, seed)].concat();
                basis.turn(&turned);
                return basis;
            }
            most = 2 * (most + FACTOR_BYTES) - FACTOR_BYTES;
        }
    }

    /// The numbers that make it, for a file: M, the centre, the directions.
    pub fn to_values(&self) -> Vec<f32> {
        let mut values = vec![self.longest];
        values.extend_from_slice(&self.center);
        values.extend_from_slice(&self.directions);
        values
    }

    /// The basis that [`to_values`](Self::to_values) gave for vectors of `dim` values.
    ///
    /// # Errors
    /// When the numbers are not as many as a basis has, or one of them is none that a basis has. What is stored of
    /// directions is believed, their orthogonality included: files carry checksums.
    ///
    /// # Panics
    /// As [`train`](Self::train).
    pub fn from_values(metric: Metric, dim: usize, values: &[f32]) -> Result<TraversalBasis, String> {
        assert!(metric != Metric::Manhattan && dim > 0, "no basis of dimension {dim} under {metric}");
        let wide = dim + usize::from(metric == Metric::DotProduct);
        let m = values.len().saturating_sub(1 + wide) / wide;
        if m == 0 || m > wide || values.len() != 1 + wide + m * wide {
            return Err(format!("{} numbers are no basis of {dim} dimensions", values.len()));
        }
        let (longest, rest) = (values[0], &values[1..]);
        let (center, directions) = rest.split_at(wide);
        let is_length = longest == 0.0 || (longest > 0.0 && norm_is_ordinary(longest));
        let plain = |value: &f32| value.abs() <= f32::MAX.sqrt();
        if !is_length || !center.iter().all(plain) || !directions.iter().all(|value| value.abs() <= 1.001) {
            return Err("a number of the basis is out of range".to_owned());
        }
        let mut basis = TraversalBasis {
            metric,
            dim,
            longest,
            center: center.to_vec(),
            directions: AlignedVec::new(),
            m: 0,
            projection: Projection { levels: AlignedVec::new(), stride: 0, steps: Vec::new() },
        };
        basis.turn(directions);
        Ok(basis)
    }

    fn turn(&mut self, directions: &[f32]) {
        let wide = self.center.len();
        self.m = directions.len() / wide;
        self.directions = AlignedVec::from(directions);
        let stride = wide.next_multiple_of(CHUNK);
        let mut levels = AlignedVec::new();
        levels.resize(self.m * stride, 128_u8);
        let mut steps = Vec::with_capacity(self.m);
        for (row, direction) in levels.chunks_exact_mut(stride).zip(directions.chunks_exact(wide)) {
            let greatest = direction.iter().fold(0.0_f32, |greatest, value| greatest.max(value.abs()));
            let step = if greatest > 0.0 { greatest / 127.0 } else { 1.0 };
            for (level, value) in row.iter_mut().zip(direction) {
                *level = ((value / step).round() + 128.0) as u8;
            }
            steps.push(step);
        }
        self.projection = Projection { levels, stride, steps };
    }

    /// The metric.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Values of a vector.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Coordinates kept of a vector.
    pub fn m(&self) -> usize {
        self.m
    }

    /// Heap bytes held.
    pub fn bytes(&self) -> usize {
        self.directions.bytes() + self.projection.levels.bytes() + (self.center.len() + self.m) * 4
    }

    /// Placed, not centred. False when lengths leave the range of `f32`.
    fn place(&self, vector: &[f32], is_query: bool, moved: &mut Vec<f32>) -> bool {
        assert_eq!(vector.len(), self.dim, "dimension of a vector");
        moved.clear();
        moved.extend_from_slice(vector);
        let length = norm(vector);
        if length != 0.0 && !norm_is_ordinary(length) {
            return false;
        }
        match self.metric {
            Metric::Cosine if length > 0.0 => {
                let scale = 1.0 / length;
                moved.iter_mut().for_each(|value| *value *= scale);
            }
            Metric::DotProduct if is_query => moved.push(0.0),
            Metric::DotProduct => {
                // As a product: lengths whose squares overflow stay finite.
                moved.push((self.longest - length).max(0.0).sqrt() * (self.longest + length).sqrt());
            }
            _ => {}
        }
        true
    }

    /// Heads and squared lengths of vectors. One that cannot be placed lies at the centre.
    pub(super) fn place_rows(&self, vectors: &[&[f32]]) -> (Vec<f32>, Vec<f32>) {
        let wide = self.center.len();
        let mut moved = Vec::with_capacity(wide);
        let mut placed = vec![0.0; vectors.len() * wide];
        let mut squares = vec![0.0; vectors.len()];
        for ((vector, row), square) in vectors.iter().zip(placed.chunks_exact_mut(wide)).zip(&mut squares) {
            if self.place(vector, false, &mut moved) {
                for ((out, value), center) in row.iter_mut().zip(&moved).zip(&self.center) {
                    *out = value - center;
                }
                *square = dot(row, row);
            }
        }
        let queries: Vec<&[f32]> = placed.chunks_exact(wide).collect();
        let mut heads = vec![0.0; vectors.len() * self.m];
        Kernels::get().tile(Sum::Dot, &queries, Matrix::f32(&self.directions, wide), 0, &mut heads);
        (heads, squares)
    }

    /// Fills the query's head; the squared length of the placed query, or `None` when it cannot be placed.
    pub(super) fn place_query(&self, vector: &[f32], query: &mut TraversalQuery) -> Option<f32> {
        let TraversalQuery { moved, head, projected, words, integers, .. } = query;
        if !self.place(vector, true, moved) {
            return None;
        }
        moved.iter_mut().zip(&self.center).for_each(|(value, center)| *value -= center);
        let square = dot(moved, moved);
        if square != 0.0 && !norm_is_ordinary(square.sqrt()) {
            return None;
        }
        words.resize(moved.len(), 0);
        let step = compiled::widest(Round { values: moved, top: TOP, integers: words });
        projected.replace_words(words);
        let Projection { levels, stride, steps } = &self.projection;
        integers.resize(2 * self.m, 0);
        Int8Kernels::get().rows(projected, levels, *stride, 0, integers);
        let offset = 128 * (256 * i64::from(projected.sum(0)) + i64::from(projected.sum(1)));
        head.clear();
        head.extend(integers.as_chunks::<2>().0.iter().zip(steps).map(|(&[high, low], row_step)| {
            let product = i64::from(high) * 256 + i64::from(low) - offset;
            product as f32 * (step * row_step)
        }));
        Some(square)
    }
}

fn mean(rows: &[f32], dim: usize, count: usize) -> Vec<f32> {
    let mut sums = vec![0.0_f64; dim];
    for row in rows.chunks_exact(dim) {
        sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    sums.into_iter().map(|sum| (sum / count.max(1) as f64) as f32).collect()
}

/// How many of the directions to keep: the fewest whose rows are whole cache lines and hold [`ENERGY`], if any do.
fn head_of(centred: &[f32], directions: &[f32], dim: usize) -> Option<usize> {
    /// Rows that the energy is measured on.
    const MEASURED: usize = 1_024;
    let all = directions.len() / dim;
    let rows: Vec<&[f32]> = centred.chunks_exact(dim).collect();
    let mut energies = vec![0.0_f64; all];
    let mut total = 0.0_f64;
    let mut head = vec![0.0; all];
    for row in rows.iter().step_by(rows.len().div_ceil(MEASURED).max(1)) {
        Kernels::get().dot_rows(row, directions, dim, 0, &mut head);
        energies.iter_mut().zip(&head).for_each(|(sum, &value)| *sum += f64::from(value) * f64::from(value));
        total += f64::from(dot(row, row));
    }
    let mut held = 0.0;
    for (index, energy) in energies.iter().enumerate() {
        held += energy;
        let m = index + 1;
        if (m + FACTOR_BYTES).is_multiple_of(LINE) && held >= ENERGY * total {
            return Some(m);
        }
    }
    None
}
