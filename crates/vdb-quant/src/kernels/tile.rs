//! Inner products of a few points with many rows, for k-means and codebooks.
//!
//! Rows are packed in groups of [`GROUP`]: a group stores component 0 of its rows side by side, then component 1,
//! and so on, so that one loaded component of a point meets [`GROUP`] rows at once and short vectors (a subspace of
//! eight components) cost no horizontal sums. Invariant: every product is added in the order of the components,
//! multiplied and added with two roundings, so all instruction sets and all tile shapes give the same bits; the
//! only difference between the entry points is the set of instructions that the compiler may use for one loop.

use std::sync::OnceLock;

use vdb_distance::{Isa, Kernels};

/// Rows that are stored side by side.
pub(crate) const GROUP: usize = 32;

/// Points against one group; see [`group`].
type Group = unsafe fn(&[f32], usize, &[f32], &mut [[f32; GROUP]]);

/// The entry points of one instruction set; made only for one that this CPU has.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    group: Group,
}

impl Tile {
    /// The widest that this CPU has and `VDB_ISA` allows.
    pub(crate) fn get() -> Tile {
        static CHOSEN: OnceLock<Tile> = OnceLock::new();
        *CHOSEN.get_or_init(|| Tile::for_isa(Kernels::get().isa()))
    }

    /// The entry points for an instruction set, the portable ones where it is missing.
    pub(crate) fn for_isa(isa: Isa) -> Tile {
        #[cfg(target_arch = "x86_64")]
        match isa {
            Isa::Avx512 if std::arch::is_x86_feature_detected!("avx512f") => return Tile { group: avx512 },
            Isa::Avx512 | Isa::Avx2 if std::arch::is_x86_feature_detected!("avx2") => {
                return Tile { group: avx2 };
            }
            _ => {}
        }
        let _ = isa;
        Tile { group: portable }
    }

    /// Writes `out[p][r]`, the product of point `p` with row `r` of a group of `dim * GROUP` floats.
    pub(crate) fn dots(self, points: &[f32], dim: usize, rows: &[f32], out: &mut [[f32; GROUP]]) {
        assert_eq!(points.len(), out.len() * dim, "one line of products per point");
        assert_eq!(rows.len(), dim * GROUP, "one group of rows");
        // SAFETY: a `Tile` is made only for a CPU that has the entry point's instructions; the body is safe code.
        unsafe { (self.group)(points, dim, rows, out) }
    }
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

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512(points: &[f32], dim: usize, rows: &[f32], out: &mut [[f32; GROUP]]) {
    group::<6, 32>(points, dim, rows, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(points: &[f32], dim: usize, rows: &[f32], out: &mut [[f32; GROUP]]) {
    group::<4, 16>(points, dim, rows, out);
}

fn portable(points: &[f32], dim: usize, rows: &[f32], out: &mut [[f32; GROUP]]) {
    group::<4, 8>(points, dim, rows, out);
}

/// Tiles of `P` points by `L` rows whose sums stay in registers.
#[inline(always)]
fn group<const P: usize, const L: usize>(points: &[f32], dim: usize, rows: &[f32], out: &mut [[f32; GROUP]]) {
    if dim == 0 {
        out.fill([0.0; GROUP]);
        return;
    }
    let whole = out.len() / P * P;
    let (head, tail) = out.split_at_mut(whole);
    for (points, out) in points.chunks_exact(P * dim).zip(head.chunks_exact_mut(P)) {
        tile::<P, L>(points, dim, rows, out);
    }
    for (point, out) in points[whole * dim..].chunks_exact(dim).zip(tail.chunks_exact_mut(1)) {
        tile::<1, GROUP>(point, dim, rows, out);
    }
}

#[inline(always)]
fn tile<const P: usize, const L: usize>(points: &[f32], dim: usize, rows: &[f32], out: &mut [[f32; GROUP]]) {
    let points: [&[f32]; P] = std::array::from_fn(|p| &points[p * dim..][..dim]);
    for start in (0..GROUP).step_by(L) {
        let mut sums = [[0.0_f32; L]; P];
        for (j, lanes) in rows.chunks_exact(GROUP).enumerate().take(dim) {
            let lanes: &[f32; L] = lanes[start..start + L].first_chunk().expect("L lanes");
            for p in 0..P {
                let x = points[p][j];
                for l in 0..L {
                    sums[p][l] += x * lanes[l];
                }
            }
        }
        for p in 0..P {
            out[p][start..start + L].copy_from_slice(&sums[p]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instruction_set_gives_the_same_bits_as_the_plain_loop() {
        for dim in [0, 1, 2, 7, 8, 31, 96, 100] {
            for points in [1, 3, 4, 5, 6, 13] {
                let value = |i: usize| ((i * 2654435761) % 1000) as f32 / 500.0 - 1.0;
                let xs: Vec<f32> = (0..points * dim).map(value).collect();
                let rows: Vec<f32> = (0..37 * dim).map(|i| value(i + 77)).collect();
                let packed = PackedRows::new(&rows, dim);
                for isa in Kernels::available() {
                    for (first, group) in packed.groups() {
                        let mut out = vec![[9.0; GROUP]; points];
                        Tile::for_isa(isa).dots(&xs, dim, group, &mut out);
                        for p in 0..points {
                            for r in first..(first + GROUP).min(37) {
                                let mut sum = 0.0;
                                for j in 0..dim {
                                    sum += xs[p * dim + j] * rows[r * dim + j];
                                }
                                assert_eq!(out[p][r - first], sum, "{isa} dim {dim}");
                            }
                        }
                    }
                }
            }
        }
    }
}
