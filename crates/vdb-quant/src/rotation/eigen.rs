//! Eigenvalues and eigenvectors of a symmetric matrix in double precision: Householder reflections to tridiagonal
//! form, then implicit QL with Wilkinson shifts (Bowdler, Martin, Reinsch and Wilkinson's `tred2` and `tql2`, in
//! Handbook for Automatic Computation II, 1971), arranged for rows instead of columns.
//!
//! Two departures, both for memory. A step's rank-two update and the next step's product read the matrix in one pass.
//! And QL does not touch the eigenvectors: it writes its plane rotations down, which are then applied to strips of
//! eight coordinates that stay in the cache. Rows and strips are independent, so they run on all threads, and the
//! result does not depend on how many there are. Whatever the input, the vectors are orthonormal to rounding, because
//! they are a product of reflections and rotations.

use rayon::prelude::*;

use super::dense::{add_scaled, dot};

/// Coordinates of all eigenvectors that one task works on.
const STRIP: usize = 8;
/// Plane rotations written down before they are applied.
const BATCH: usize = 1 << 18;
/// Sweeps for one eigenvalue before it is taken as it is; two are usual.
const MAX_SWEEPS: usize = 64;
/// What counts as zero beside entries of at most 1.
const NEGLIGIBLE: f64 = 1e-140;

/// Eigenvalues in descending order, and the eigenvector of each as a row.
pub(super) struct Eigen {
    pub(super) values: Vec<f64>,
    pub(super) vectors: Vec<f64>,
}

/// The decomposition of a symmetric `n` × `n` matrix of finite numbers.
pub(super) fn symmetric(mut matrix: Vec<f64>, n: usize) -> Eigen {
    assert_eq!(matrix.len(), n * n, "a square matrix");
    let greatest = matrix.iter().fold(0.0_f64, |greatest, value| greatest.max(value.abs()));
    if greatest > 0.0 {
        matrix.iter_mut().for_each(|value| *value /= greatest);
    }
    let mut form = tridiagonalise(matrix, n);
    let mut strips = reflect_identity(&form.reflections, n);
    form.diagonalise(|rotations| {
        strips.par_iter_mut().for_each(|strip| rotate(strip, rotations));
    });

    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| form.diagonal[b].total_cmp(&form.diagonal[a]).then(a.cmp(&b)));
    let mut vectors = vec![0.0; n * n];
    vectors.par_chunks_mut(n).zip(&order).for_each(|(vector, &i)| {
        for (values, strip) in vector.chunks_mut(STRIP).zip(&strips) {
            values.copy_from_slice(&strip[i][..values.len()]);
        }
        // Of the two directions, the one whose greatest coordinate is positive.
        let largest = vector.iter().copied().fold(0.0_f64, |a, b| if b.abs() > a.abs() { b } else { a });
        if largest < 0.0 {
            vector.iter_mut().for_each(|value| *value = -*value);
        }
    });
    Eigen { values: order.iter().map(|&i| form.diagonal[i] * greatest).collect(), vectors }
}

/// I − factor · v vᵀ, on the coordinates from `first` on.
struct Reflection {
    first: usize,
    vector: Vec<f64>,
    factor: f64,
}

struct Tridiagonal {
    diagonal: Vec<f64>,
    /// `beside[i]` couples coordinates `i` and `i + 1`; the last is 0.
    beside: Vec<f64>,
    reflections: Vec<Reflection>,
}

fn tridiagonalise(mut matrix: Vec<f64>, n: usize) -> Tridiagonal {
    let mut diagonal = vec![0.0; n];
    let mut beside = vec![0.0; n];
    let mut reflections = Vec::with_capacity(n);
    // The last step's update of the rows from `k` on, still to be done: A −= v wᵀ + w vᵀ.
    let mut pending: Option<(Vec<f64>, Vec<f64>)> = None;
    for k in 0..n {
        let (head, rest) = matrix.split_at_mut((k + 1) * n);
        let row = &mut head[k * n + k..];
        if let Some((v, w)) = &pending {
            add_scaled(row, -v[0], w);
            add_scaled(row, -w[0], v);
        }
        diagonal[k] = row[0];
        let Some(&first) = row.get(1) else { break };

        let mut v = row[1..].to_vec();
        let tail = dot(&v[1..], &v[1..]);
        let norm = (first * first + tail).sqrt();
        let reflect = tail.sqrt() > NEGLIGIBLE;
        beside[k] = if reflect { -norm.copysign(first) } else { first };
        if reflect {
            v[0] -= beside[k];
        } else {
            v.fill(0.0);
        }
        let factor = if reflect { 2.0 / dot(&v, &v) } else { 0.0 };

        // One pass over the rows below: the pending update, then the product with v.
        let mut product = vec![0.0; n - k - 1];
        let least = (1 << 15) / (n - k) + 1;
        rest.par_chunks_mut(n).zip(product.par_iter_mut()).enumerate().with_min_len(least).for_each(
            |(i, (row, product))| {
                let row = &mut row[k + 1..];
                if let Some((v, w)) = &pending {
                    let (v, w) = (&v[1..], &w[1..]);
                    let (vi, wi) = (v[i], w[i]);
                    for ((value, &v), &w) in row.iter_mut().zip(v).zip(w) {
                        *value -= vi * w + wi * v;
                    }
                }
                *product = factor * dot(row, &v);
            },
        );
        pending = reflect.then(|| {
            let along = factor / 2.0 * dot(&v, &product);
            add_scaled(&mut product, -along, &v);
            (v.clone(), product)
        });
        if reflect {
            reflections.push(Reflection { first: k + 1, vector: v, factor });
        }
    }
    Tridiagonal { diagonal, beside, reflections }
}

/// A rotation of rows `at` and `at + 1`.
#[derive(Clone, Copy)]
struct Plane {
    at: usize,
    cos: f64,
    sin: f64,
}

impl Tridiagonal {
    /// Implicit QL: brings `beside` to zero and hands out the plane rotations in order.
    fn diagonalise(&mut self, mut apply: impl FnMut(&[Plane])) {
        let (d, e) = (&mut self.diagonal, &mut self.beside);
        let n = d.len();
        let mut planes = Vec::with_capacity(BATCH + n);
        for l in 0..n {
            for _ in 0..MAX_SWEEPS {
                let decoupled = |&m: &usize| {
                    e[m].abs() <= f64::EPSILON * (d[m].abs() + d[m + 1].abs()) || e[m].abs() <= NEGLIGIBLE
                };
                let m = (l..n - 1).find(decoupled).unwrap_or(n - 1);
                if m == l {
                    break;
                }
                let mut g = (d[l + 1] - d[l]) / (2.0 * e[l]);
                g = d[m] - d[l] + e[l] / (g + g.hypot(1.0).copysign(g));
                let (mut sin, mut cos, mut p) = (1.0, 1.0, 0.0);
                let mut broke = false;
                for at in (l..m).rev() {
                    let (f, b) = (sin * e[at], cos * e[at]);
                    let r = f.hypot(g);
                    e[at + 1] = r;
                    if r == 0.0 {
                        d[at + 1] -= p;
                        e[m] = 0.0;
                        broke = true;
                        break;
                    }
                    (sin, cos) = (f / r, g / r);
                    g = d[at + 1] - p;
                    let r = (d[at] - g) * sin + 2.0 * cos * b;
                    p = sin * r;
                    d[at + 1] = g + p;
                    g = cos * r - b;
                    planes.push(Plane { at, cos, sin });
                }
                if !broke {
                    d[l] -= p;
                    e[l] = g;
                    e[m] = 0.0;
                }
                if planes.len() >= BATCH {
                    apply(&planes);
                    planes.clear();
                }
            }
        }
        apply(&planes);
    }
}

type Strip = Vec<[f64; STRIP]>;

/// The transposed product of the reflections, cut into strips of columns: row `i` of a strip is eight values of the
/// vector that will become eigenvector `i`.
fn reflect_identity(reflections: &[Reflection], n: usize) -> Vec<Strip> {
    let strips = (0..n.div_ceil(STRIP)).into_par_iter().map(|strip| {
        let mut rows = vec![[0.0; STRIP]; n];
        for j in 0..STRIP.min(n - strip * STRIP) {
            rows[strip * STRIP + j][j] = 1.0;
        }
        for reflection in reflections {
            let rows = &mut rows[reflection.first..];
            let mut along = [0.0; STRIP];
            for (row, &v) in rows.iter().zip(&reflection.vector) {
                for j in 0..STRIP {
                    along[j] += v * row[j];
                }
            }
            let along = along.map(|sum| sum * reflection.factor);
            for (row, &v) in rows.iter_mut().zip(&reflection.vector) {
                for j in 0..STRIP {
                    row[j] -= v * along[j];
                }
            }
        }
        rows
    });
    strips.collect()
}

fn rotate(strip: &mut Strip, planes: &[Plane]) {
    for &Plane { at, cos, sin } in planes {
        let (a, b) = (strip[at], strip[at + 1]);
        for j in 0..STRIP {
            strip[at + 1][j] = sin * a[j] + cos * b[j];
            strip[at][j] = cos * a[j] - sin * b[j];
        }
    }
}
