//! Inner products of points with many rows and the nearest of those, for k-means and codebooks.
//!
//! Rows are packed in groups of [`GROUP`]: a group stores component 0 of its rows side by side, then component 1,
//! and so on, so that one loaded component of a point meets [`GROUP`] rows at once and short vectors (a subspace of
//! eight components) cost no horizontal sums. Invariant: every product is added in the order of the components,
//! multiplied and added with two roundings, so all instruction sets and all tile shapes give the same bits; the
//! only difference between the entry points is the set of instructions that the compiler may use for one loop.

#[cfg(target_arch = "x86_64")]
mod avx512;

use vdb_distance::{Isa, Kernels};

use super::compiled::{self, Work};

/// Rows that are stored side by side.
pub(crate) const GROUP: usize = 32;

/// Points against one group, compiled for an instruction set; made only for one that this CPU has.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    isa: Isa,
}

impl Tile {
    /// The widest that this CPU has and `VDB_ISA` allows.
    pub(crate) fn get() -> Tile {
        Tile::for_isa(Kernels::get().isa())
    }

    /// For an instruction set, portable code where it is missing.
    pub(crate) fn for_isa(isa: Isa) -> Tile {
        Tile { isa }
    }

    /// Writes `out[r]`, the product of a point with row `r` of a group of `dim * GROUP` floats.
    pub(crate) fn dots(self, point: &[f32], rows: &[f32], out: &mut [f32; GROUP]) {
        assert_eq!(rows.len(), point.len() * GROUP, "one group of rows");
        compiled::run_for(self.isa, Dots { point, rows, out });
    }

    /// Lowers `best[p]` to the least `norms[r] − 2 ⟨point p, row r⟩` of a group, and writes that row's number, counted
    /// from `first`, to `labels[p]`, where one is less. `norms` tells how many rows the group has. Points are a group
    /// of `dim * GROUP` floats too: a lane each, so that the least is found without going over lanes.
    pub(crate) fn nearest(self, group: &Group<'_>, points: &[f32], nearest: &mut Nearest) {
        assert_eq!(group.rows.len(), points.len(), "a group of points and one of rows");
        assert!(group.rows.len().is_multiple_of(GROUP) && group.norms.len() <= GROUP, "whole groups");
        #[cfg(target_arch = "x86_64")]
        if self.isa == Isa::Avx512 && std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: the CPU has the instructions, and the lengths were checked above.
            return unsafe { avx512::nearest(group, points, nearest) };
        }
        compiled::run_for(self.isa, FindNearest { group, points, nearest });
    }
}

/// Rows that points are compared with.
pub(crate) struct Group<'a> {
    pub(crate) first: usize,
    pub(crate) rows: &'a [f32],
    /// A row's squared norm; of the rows that there are.
    pub(crate) norms: &'a [f32],
}

/// The least scores of [`GROUP`] points so far.
pub(crate) struct Nearest {
    pub(crate) best: [f32; GROUP],
    pub(crate) labels: [u32; GROUP],
}

impl Nearest {
    /// A value that any finite score is below, so that a point far out of range of the arithmetic still gets a row
    /// that exists: number 0.
    pub(crate) const NONE: Nearest = Nearest { best: [f32::INFINITY; GROUP], labels: [0; GROUP] };
}

/// Rows in groups, zeros where the last group is not full.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PackedRows {
    dim: usize,
    rows: usize,
    values: Vec<f32>,
}

impl PackedRows {
    pub(crate) fn new(rows: &[f32], dim: usize) -> PackedRows {
        let count = rows.len().checked_div(dim).unwrap_or(0);
        let mut values = vec![0.0; count.div_ceil(GROUP) * GROUP * dim];
        for (i, row) in rows.chunks_exact(dim.max(1)).enumerate() {
            let group = &mut values[i / GROUP * GROUP * dim..][..GROUP * dim];
            for (lanes, &value) in group.chunks_exact_mut(GROUP).zip(row) {
                lanes[i % GROUP] = value;
            }
        }
        PackedRows { dim, rows: count, values }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The groups in order, each with the number of its first row.
    pub(crate) fn groups(&self) -> impl Iterator<Item = (usize, &[f32])> {
        self.values.chunks_exact((GROUP * self.dim).max(1)).enumerate().map(|(i, group)| (i * GROUP, group))
    }
}

struct Dots<'a> {
    point: &'a [f32],
    rows: &'a [f32],
    out: &'a mut [f32; GROUP],
}

impl Work for Dots<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let mut sums = [0.0_f32; GROUP];
        for (&x, lanes) in self.point.iter().zip(self.rows.as_chunks::<GROUP>().0) {
            for l in 0..GROUP {
                sums[l] += x * lanes[l];
            }
        }
        *self.out = sums;
    }
}

struct FindNearest<'a> {
    group: &'a Group<'a>,
    points: &'a [f32],
    nearest: &'a mut Nearest,
}

impl Work for FindNearest<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        tiles::<4, 16>(self.group, self.points, self.nearest);
    }
}

/// Tiles of `R` rows and `L` points whose sums stay in registers.
#[inline(always)]
fn tiles<const R: usize, const L: usize>(group: &Group<'_>, points: &[f32], nearest: &mut Nearest) {
    for from in (0..group.norms.len()).step_by(R) {
        for start in (0..GROUP).step_by(L) {
            tile::<R, L>(group, from, points, start, nearest);
        }
    }
}

#[inline(always)]
fn tile<const R: usize, const L: usize>(
    group: &Group<'_>,
    from: usize,
    points: &[f32],
    start: usize,
    nearest: &mut Nearest,
) {
    let mut sums = [[0.0_f32; L]; R];
    for (rows, points) in group.rows.as_chunks::<GROUP>().0.iter().zip(points.as_chunks::<GROUP>().0) {
        let rows: &[f32; R] = rows[from..from + R].first_chunk().expect("R rows");
        let points: &[f32; L] = points[start..start + L].first_chunk().expect("L lanes");
        for r in 0..R {
            for l in 0..L {
                sums[r][l] += rows[r] * points[l];
            }
        }
    }
    let best: &mut [f32; L] = nearest.best[start..start + L].first_chunk_mut().expect("L lanes");
    let labels: &mut [u32; L] = nearest.labels[start..start + L].first_chunk_mut().expect("L lanes");
    for (r, &norm) in group.norms[from..].iter().enumerate().take(R) {
        let number = (group.first + from + r) as u32;
        for l in 0..L {
            let score = norm - 2.0 * sums[r][l];
            let less = score < best[l];
            best[l] = if less { score } else { best[l] };
            labels[l] = if less { number } else { labels[l] };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(i: usize) -> f32 {
        ((i * 2654435761) % 1000) as f32 / 500.0 - 1.0
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits_as_the_plain_loop() {
        for dim in [0, 1, 2, 7, 8, 31, 96, 100] {
            let point: Vec<f32> = (0..dim).map(value).collect();
            let rows: Vec<f32> = (0..37 * dim).map(|i| value(i + 77)).collect();
            let packed = PackedRows::new(&rows, dim);
            for isa in Kernels::available() {
                for (first, group) in packed.groups() {
                    let mut out = [9.0; GROUP];
                    Tile::for_isa(isa).dots(&point, group, &mut out);
                    for r in first..(first + GROUP).min(37) {
                        let sum = (0..dim).fold(0.0, |sum, j| sum + point[j] * rows[r * dim + j]);
                        assert_eq!(out[r - first], sum, "{isa} dim {dim}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_instruction_set_finds_the_nearest_of_the_plain_loop() {
        for dim in [1, 2, 3, 8, 31, 100] {
            for count in [1, 3, 8, 16, 31, 32, 37, 64] {
                // Every seventh row is another's copy: the first wins.
                let rows: Vec<f32> = (0..count * dim).map(|i| value(i % (7 * dim) + 77)).collect();
                let points: Vec<f32> = (0..GROUP * dim).map(value).collect();
                let norms: Vec<f32> = (0..count).map(|r| value(r % 7) + 2.0).collect();
                let mut expected = Nearest::NONE;
                for p in 0..GROUP {
                    for (r, norm) in norms.iter().enumerate() {
                        let (point, row) = (&points[p * dim..], &rows[r * dim..]);
                        let score = norm - 2.0 * (0..dim).fold(0.0, |sum, j| sum + row[j] * point[j]);
                        if score < expected.best[p] {
                            (expected.best[p], expected.labels[p]) = (score, r as u32);
                        }
                    }
                }
                let (packed, points) = (PackedRows::new(&rows, dim), PackedRows::new(&points, dim));
                for isa in Kernels::available() {
                    let mut nearest = Nearest::NONE;
                    for (first, rows) in packed.groups() {
                        let norms = &norms[first..(first + GROUP).min(count)];
                        let group = Group { first, rows, norms };
                        let points = points.groups().next().expect("one group").1;
                        Tile::for_isa(isa).nearest(&group, points, &mut nearest);
                    }
                    assert_eq!(nearest.labels, expected.labels, "{isa} {dim} {count}");
                    assert_eq!(nearest.best, expected.best, "{isa} {dim} {count}");
                }
            }
        }
    }
}
