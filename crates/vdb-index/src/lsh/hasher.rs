//! From a placed vector to its code in every table.
//!
//! A vector is projected onto as many random directions as all tables need; the tables take consecutive shares of the
//! projections. A code has two *cells* of about half its bits each, and a cell takes one of 2^bits values: under
//! hyperplanes bit i says whether projection i is not negative, under cross-polytopes the value is the place of the
//! largest projection in size, and its sign. FALCONN hashes by one polytope of as many dimensions as the vector and a
//! small one for the bits that are left; two equal ones need a fraction of the projections and find as many
//! neighbours among equally many candidates (wordnet-minilm-384, 10 tables of 13 bits, 5,882 of 117,648 rows looked
//! at: 0.75 against 0.78; fashion-mnist-784: 0.77 against 0.75).
//!
//! A value's *cost* says how far the projections are from falling on it, as a squared distance: under hyperplanes the
//! sum of the squared projections whose bits differ, under cross-polytopes half the squared distance of that
//! coordinate to the largest (the noise of two coordinates is between them). Costs are 0 for the vector's own value.

use super::params::{LshFamily, LshParams};
use crate::hash::mix;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use vdb_distance::Kernels;
use vdb_quant::{FhtKac, Rotation};

/// Signs of so many projections make a row's sketch.
pub(super) const SKETCH_BITS: usize = 256;

/// The random directions.
#[derive(Debug, Clone)]
enum Directions {
    /// Gaussian normals, one after the other.
    Gaussian(Vec<f32>),
    /// Rotations, whose outputs follow each other.
    Rotations(Vec<Rotation>),
}

/// How many bits each cell of a code has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cells {
    pub(super) low: usize,
    pub(super) high: usize,
}

impl Cells {
    pub(super) fn new(bits: usize) -> Self {
        Self { low: bits.div_ceil(2), high: bits / 2 }
    }

    pub(super) fn bits(self) -> usize {
        self.low + self.high
    }
}

/// The hash functions of all tables.
#[derive(Debug, Clone)]
pub(super) struct Hasher {
    family: LshFamily,
    pub(super) cells: Cells,
    pub(super) tables: usize,
    width: usize,
    directions: Directions,
    /// Values that a projection writes: those of all tables, a sketch's at least, and whole rotations.
    projections: usize,
}

impl Hasher {
    /// The functions for placed vectors of `width` values and about `rows` rows.
    pub(super) fn new(params: &LshParams, rows: usize, width: usize) -> Self {
        let cells = Cells::new(params.bits(rows));
        let tables = params.tables();
        let needed = (tables * table_projections(params.family, cells)).max(SKETCH_BITS);
        let (directions, projections) = match params.family {
            LshFamily::Hyperplane => {
                let mut rng = ChaCha8Rng::seed_from_u64(params.seed);
                let normals = (0..needed * width).map(|_| StandardNormal.sample(&mut rng)).collect();
                (Directions::Gaussian(normals), needed)
            }
            LshFamily::FastHyperplane | LshFamily::CrossPolytope => {
                let output = width.next_multiple_of(64);
                let rotation = |index: usize| {
                    let seed = mix(params.seed ^ mix(index as u64));
                    Rotation::Fht(FhtKac::new(width, output, seed))
                };
                let rotations: Vec<Rotation> = (0..needed.div_ceil(output)).map(rotation).collect();
                let projections = rotations.len() * output;
                (Directions::Rotations(rotations), projections)
            }
        };
        Self { family: params.family, cells, tables, width, directions, projections }
    }

    /// Heap bytes held.
    pub(super) fn bytes(&self) -> usize {
        match &self.directions {
            Directions::Gaussian(normals) => normals.capacity() * 4,
            // A rotation keeps a sign word per value and round.
            Directions::Rotations(rotations) => {
                rotations.iter().map(|rotation| rotation.output_dim() * 16 + size_of::<Rotation>()).sum()
            }
        }
    }

    /// Values that [`project`](Self::project) writes.
    pub(super) fn projections(&self) -> usize {
        self.projections
    }

    /// Writes the projections of a placed vector.
    pub(super) fn project(&self, placed: &[f32], out: &mut [f32]) {
        match &self.directions {
            Directions::Gaussian(normals) => Kernels::get().dot_rows(placed, normals, self.width, 0, out),
            Directions::Rotations(rotations) => {
                let outputs = out.chunks_exact_mut(rotations[0].output_dim());
                for (rotation, output) in rotations.iter().zip(outputs) {
                    rotation.apply(placed, output);
                }
            }
        }
    }

    /// The tables' shares of projections: those of the low and of the high cell.
    pub(super) fn shares<'a>(&self, projections: &'a [f32]) -> impl Iterator<Item = (&'a [f32], &'a [f32])> {
        let low = cell_projections(self.family, self.cells.low);
        let shares = projections.chunks_exact(table_projections(self.family, self.cells));
        shares.take(self.tables).map(move |share| share.split_at(low))
    }

    /// Writes the code in every table.
    pub(super) fn codes(&self, projections: &[f32], codes: &mut [u32]) {
        let value = match self.family {
            LshFamily::CrossPolytope => vertex,
            _ => signs,
        };
        for (code, (low, high)) in codes.iter_mut().zip(self.shares(projections)) {
            *code = value(low) | value(high) << self.cells.low;
        }
    }

    /// The cost of every value of a cell with these projections, after what `costs` held is gone.
    pub(super) fn costs(&self, projections: &[f32], costs: &mut Vec<f32>) {
        match self.family {
            LshFamily::CrossPolytope => vertex_costs(projections, costs),
            _ => sign_costs(projections, costs),
        }
    }
}

fn table_projections(family: LshFamily, cells: Cells) -> usize {
    cell_projections(family, cells.low) + cell_projections(family, cells.high)
}

/// Projections that a cell of so many bits takes.
pub(super) fn cell_projections(family: LshFamily, bits: usize) -> usize {
    match family {
        LshFamily::CrossPolytope => (1 << bits) / 2,
        _ => bits,
    }
}

/// Bit i is set when projection i is not negative.
fn signs(projections: &[f32]) -> u32 {
    let bits = projections.iter().enumerate();
    bits.fold(0, |code, (bit, &projection)| code | u32::from(projection >= 0.0) << bit)
}

/// The place of the largest projection in size; negative ones come after all positive ones.
fn vertex(projections: &[f32]) -> u32 {
    let largest = largest(projections);
    let place = projections.iter().position(|projection| projection.abs() == largest).unwrap_or(0);
    let negative = projections.get(place).is_some_and(|projection| *projection < 0.0);
    (place + usize::from(negative) * projections.len()) as u32
}

/// The largest size; 0 of none.
fn largest(projections: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [0.0f32; LANES];
    let mut chunks = projections.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (lane, projection) in lanes.iter_mut().zip(chunk) {
            let size = projection.abs();
            *lane = if size > *lane { size } else { *lane };
        }
    }
    lanes.iter().chain(chunks.remainder()).fold(0.0, |largest, projection| largest.max(projection.abs()))
}

fn sign_costs(projections: &[f32], costs: &mut Vec<f32>) {
    costs.clear();
    costs.push(0.0);
    for &margin in projections {
        let (clear, set) = if margin >= 0.0 { (margin * margin, 0.0) } else { (0.0, margin * margin) };
        let half = costs.len();
        costs.extend_from_within(..);
        let (without, with) = costs.split_at_mut(half);
        without.iter_mut().for_each(|cost| *cost += clear);
        with.iter_mut().for_each(|cost| *cost += set);
    }
}

fn vertex_costs(projections: &[f32], costs: &mut Vec<f32>) {
    let largest = largest(projections);
    costs.clear();
    let cost = |difference: f32| difference * difference * 0.5;
    costs.extend(projections.iter().map(|projection| cost(largest - projection)));
    costs.extend(projections.iter().map(|projection| cost(largest + projection)));
    if projections.is_empty() {
        costs.push(0.0);
    }
}
