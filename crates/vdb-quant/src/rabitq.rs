//! RaBitQ: codes of 1 to 8 bits a dimension with unbiased estimates and error bounds (Gao & Long, "RaBitQ", 2024;
//! Gao et al., "Practical and asymptotically optimal quantization", 2024).
//!
//! A vector x is taken relative to a centre c and rotated, r = P(x − c), D values. Its code is u ∈ {0..2^B−1}^D; the
//! code stands for the direction of v = u − (2^B−1)/2, and the estimate of any product with r is
//!
//! ```text
//! ⟨r, w⟩ ≈ f·⟨v, w⟩     f = ‖r‖² / ⟨v, r⟩
//! ```
//!
//! which is right for w = r by the choice of f and, because P is random, right on average for all w: v = (⟨v,r⟩/‖r‖²)
//! r + a part orthogonal to r whose direction is even. With a = ⟨v,r⟩ / (‖v‖‖r‖), the error is at most
//! `ε₀ · ‖r‖‖w‖ · √((1−a²)/a²) / √(D−1)` but for a share of the vectors that shrinks as e^(−ε₀²/2) or faster.
//! With q' = P(q − μ), c' = P(c − μ) and μ one centre for all lists, w = q' − c':
//!
//! ```text
//! ‖q−x‖²  = [‖r‖² + 2f⟨v,c'⟩] + ‖q−c‖²  + [−2f]·⟨v,q'⟩        error: 2·[F]·‖q−c‖
//! −⟨q,x⟩  = [f⟨v,c'⟩ − ⟨c,r⟩] + −⟨q,c⟩  + [−f]·⟨v,q'⟩         error:   [F]·‖q−c‖
//! ```
//!
//! The brackets are stored (`add`, `rescale`, `error`), the middle term belongs to a query and a list, and ⟨v,q'⟩ =
//! ⟨u,q'⟩ − (2^B−1)/2·Σq' needs no c: one prepared query serves all lists.
//!
//! Invariants: the most significant plane of a code is the sign of r and therefore the code of one bit. A row code
//! ([`Quantizer`]) is relative to μ and serves every metric; a block ([`RabitqBlocks`]) is relative to a list's c
//! and serves the metric it was made for.

mod block;
mod levels;
mod query;

use std::sync::Arc;

pub use block::{BlockEstimates, ListTerm, RabitqBlockQuery, RabitqBlocks, RabitqCentre, RabitqListQuery};
pub use levels::ScaleSearch;
pub use query::RabitqQuery;
pub(crate) use query::normalised;
use vdb_distance::Metric;

use crate::kernels::planes::GROUP;
use crate::parameters::{Kind, ParametersError, Reader, Writer};
use crate::quantizer::Quantizer;
use crate::rotation::{MAX_DIM, Rotation};

/// Bytes before a row's planes: four `f32`.
const HEADER: usize = 16;

/// Settings of [`Rabitq`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct RabitqConfig {
    /// Bits per dimension, B, 1 to 8. Each one more halves the error. 1 unless set.
    pub bits: u8,
    /// Bits per dimension that blocks scan, S, 1 or 2 and no more than B; the rest refines. 1 unless set.
    pub scan_bits: u8,
    /// Width of the error bounds in standard deviations, ε₀, about: wider ones are wrong more rarely and prune
    /// less. 1.9 unless set, wrong for a few in a hundred in either direction; 4 is wrong for less than one in a
    /// thousand.
    pub epsilon: f32,
    /// How a code's scale is found.
    pub scale: ScaleSearch,
    /// Look-up tables of 16 bits, not 8, in block queries: twice the look-ups, and rounding 256 times smaller.
    pub wide_tables: bool,
    /// What the rotation derives from.
    pub seed: u64,
}

impl Default for RabitqConfig {
    fn default() -> Self {
        RabitqConfig {
            bits: 1,
            scan_bits: 1,
            epsilon: 1.9,
            scale: ScaleSearch::Fast,
            wide_tables: false,
            seed: 0x5261_4269_7451,
        }
    }
}

impl RabitqConfig {
    /// The defaults with this many bits per dimension.
    #[must_use]
    pub fn new(bits: u8) -> RabitqConfig {
        RabitqConfig { bits, ..RabitqConfig::default() }
    }
}

/// Why a quantizer could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RabitqError {
    /// Bits outside 1 to 8.
    #[error("{bits} bits per dimension, expected 1 to 8")]
    Bits {
        /// Bits asked for.
        bits: u8,
    },
    /// Scanned bits other than one or two of the code's.
    #[error("{scan_bits} of {bits} bits per dimension scanned, expected one or two of them")]
    ScanBits {
        /// Bits to be scanned.
        scan_bits: u8,
        /// Bits per dimension.
        bits: u8,
    },
    /// A dimension of zero or beyond [`MAX_DIM`].
    #[error("a dimension of {dim}, expected 1 to {MAX_DIM}")]
    Dim {
        /// Values per vector.
        dim: usize,
    },
    /// A rotation of another dimension, into a dimension that is no multiple of 64, or with a centre.
    #[error("a rotation from {input} to {output} values does not fit vectors of {dim}")]
    Rotation {
        /// Values it takes.
        input: usize,
        /// Values it gives.
        output: usize,
        /// Values per vector.
        dim: usize,
    },
    /// An ε₀ that is not a positive number.
    #[error("the width of the error bounds is not a positive number")]
    Epsilon,
}

/// The quantizer: μ, a rotation and the settings. Clones share the rotation.
#[derive(Debug, Clone, PartialEq)]
pub struct Rabitq {
    config: RabitqConfig,
    /// μ.
    centre: Vec<f32>,
    rotation: Arc<Rotation>,
}

impl Rabitq {
    /// A quantizer around `centre`, best the mean of the vectors, with the fast random rotation into the next
    /// multiple of 64 dimensions.
    ///
    /// # Errors
    /// When a setting or the dimension is out of range.
    pub fn new(centre: Vec<f32>, config: RabitqConfig) -> Result<Rabitq, RabitqError> {
        let dim = centre.len();
        if dim == 0 || dim > MAX_DIM / GROUP * GROUP {
            return Err(RabitqError::Dim { dim });
        }
        Rabitq::with_rotation(centre, Arc::new(Rotation::fht(dim, config.seed)), config)
    }

    /// The same with another rotation, from the vectors' dimension into a multiple of 64, without a centre of its
    /// own. The estimates are unbiased and the bounds hold over random rotations only.
    ///
    /// # Errors
    /// As [`new`](Self::new), and when the rotation does not fit.
    pub fn with_rotation(
        centre: Vec<f32>,
        rotation: Arc<Rotation>,
        config: RabitqConfig,
    ) -> Result<Rabitq, RabitqError> {
        let (dim, input, output) = (centre.len(), rotation.dim(), rotation.output_dim());
        if input != dim || !output.is_multiple_of(GROUP) || rotation.centre().is_some() {
            return Err(RabitqError::Rotation { input, output, dim });
        }
        if !(1..=8).contains(&config.bits) {
            return Err(RabitqError::Bits { bits: config.bits });
        }
        if !(1..=config.bits.min(2)).contains(&config.scan_bits) {
            return Err(RabitqError::ScanBits { scan_bits: config.scan_bits, bits: config.bits });
        }
        if !(config.epsilon.is_finite() && config.epsilon > 0.0) {
            return Err(RabitqError::Epsilon);
        }
        Ok(Rabitq { config, centre, rotation })
    }

    /// The settings.
    pub fn config(&self) -> &RabitqConfig {
        &self.config
    }

    /// μ, what row codes are relative to.
    pub fn centre(&self) -> &[f32] {
        &self.centre
    }

    /// Dimensions of a code, D.
    pub fn code_dim(&self) -> usize {
        self.rotation.output_dim()
    }

    /// The settings, μ and the rotation, for [`from_bytes`](Self::from_bytes).
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(Kind::Rabitq);
        writer.u8(self.config.bits);
        writer.u8(self.config.scan_bits);
        writer.u8(u8::from(self.config.wide_tables));
        writer.u8(self.config.scale as u8);
        writer.f32s(&[self.config.epsilon]);
        writer.u64(self.config.seed);
        writer.len(self.centre.len());
        writer.f32s(&self.centre);
        writer.nested(&self.rotation.to_bytes());
        writer.finish()
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// When the bytes are not such parameters.
    pub fn from_bytes(bytes: &[u8]) -> Result<Rabitq, ParametersError> {
        let invalid = |field| ParametersError::Invalid { field };
        let mut reader = Reader::new(bytes, Kind::Rabitq)?;
        let bits = reader.u8()?;
        let scan_bits = reader.u8()?;
        let wide_tables = match reader.u8()? {
            byte @ (0 | 1) => byte == 1,
            _ => return Err(invalid("table width")),
        };
        let scale = ScaleSearch::from_byte(reader.u8()?).ok_or(invalid("scale search"))?;
        let epsilon = reader.f32s("error width", 1)?[0];
        let seed = reader.u64()?;
        let dim = reader.len("dimension", 1, MAX_DIM)?;
        let centre = reader.f32s("centre", dim)?;
        let rotation = Rotation::from_bytes(reader.nested()?).map_err(|_| invalid("rotation"))?;
        reader.finish()?;
        let config = RabitqConfig { bits, scan_bits, epsilon, scale, wide_tables, seed };
        Rabitq::with_rotation(centre, Arc::new(rotation), config).map_err(|_| invalid("setting"))
    }

    /// P(x − from).
    fn rotated(&self, vector: &[f32], from: &[f32]) -> Vec<f32> {
        assert_eq!(vector.len(), self.centre.len(), "the vector and the quantizer differ in dimension");
        let residual: Vec<f32> = vector.iter().zip(from).map(|(value, from)| value - from).collect();
        let mut rotated = vec![0.0; self.code_dim()];
        self.rotation.apply(&residual, &mut rotated);
        rotated
    }

    /// The root of (1 − a²) / a² over √(D − 1): what ‖r‖‖w‖ is multiplied by for one standard deviation.
    fn spread(&self, cosine: f64) -> f64 {
        let excess = (1.0 - cosine * cosine).max(0.0) / (cosine * cosine);
        excess.sqrt() / ((self.code_dim() - 1) as f64).sqrt()
    }
}

/// A number for the code of one residual; see the module page.
#[derive(Debug, Clone, Copy, Default)]
struct Factors {
    /// ‖r‖².
    square: f64,
    /// f.
    rescale: f64,
    /// ‖r‖ times the spread, without ε₀.
    error: f64,
}

impl Factors {
    /// From ‖r‖², ⟨v,r⟩ and ‖v‖². All zero for a residual of zeros.
    fn new(quantizer: &Rabitq, square: f64, product: f64, level_square: f64) -> Factors {
        if !(square > 0.0 && product > 0.0) {
            return Factors::default();
        }
        let cosine = (product / (square * level_square).sqrt()).min(1.0);
        Factors { square, rescale: square / product, error: square.sqrt() * quantizer.spread(cosine) }
    }
}

/// Writes the `bits` least significant bits of all `levels`, a multiple of 64, as planes, the most significant first.
fn write_planes(levels: &[u8], bits: usize, planes: &mut [u8]) {
    // Multiplied by this, the lowest bits of eight bytes meet in the highest byte, the first byte's lowest, and no two
    // products meet in one bit.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    const LOWEST: u64 = 0x0101_0101_0101_0101;
    for (p, plane) in planes.chunks_exact_mut(levels.len() / 8).enumerate() {
        let shift = bits - 1 - p;
        for (byte, eight) in plane.iter_mut().zip(levels.as_chunks::<8>().0) {
            *byte = ((u64::from_le_bytes(*eight) >> shift & LOWEST).wrapping_mul(GATHER) >> 56) as u8;
        }
    }
}

/// The level of dimension `i` in planes of `plane` bytes each.
fn read_level(planes: &[u8], plane: usize, i: usize) -> u8 {
    planes.chunks_exact(plane).fold(0, |level, plane| level << 1 | (plane[i / 8] >> (i % 8)) & 1)
}

fn read_f32(bytes: &[u8], index: usize) -> f32 {
    let at = index * 4;
    f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn write_f32(bytes: &mut [u8], index: usize, value: f32) {
    bytes[index * 4..][..4].copy_from_slice(&value.to_le_bytes());
}

/// A row: ‖r‖², ⟨μ,r⟩, f and the error's factor as `f32`, then B planes of D/8 bytes.
impl Quantizer for Rabitq {
    type Query<'a> = RabitqQuery<'a>;

    fn dim(&self) -> usize {
        self.centre.len()
    }

    fn code_bytes(&self) -> usize {
        HEADER + self.code_dim() / 8 * usize::from(self.config.bits)
    }

    fn encode(&self, vector: &[f32], code: &mut [u8]) {
        assert_eq!(code.len(), self.code_bytes(), "the code has another length");
        let residual = self.rotated(vector, &self.centre);
        let fit = levels::fit(&residual, self.config.bits, self.config.scale);
        let factors = Factors::new(self, fit.square, fit.product, fit.level_square);
        let along: f64 = vector
            .iter()
            .zip(&self.centre)
            .map(|(&x, &centre)| f64::from(x - centre) * f64::from(centre))
            .sum();
        write_f32(code, 0, factors.square as f32);
        write_f32(code, 1, along as f32);
        write_f32(code, 2, factors.rescale as f32);
        write_f32(code, 3, factors.error as f32);
        write_planes(&fit.levels, usize::from(self.config.bits), &mut code[HEADER..]);
    }

    fn decode(&self, code: &[u8], vector: &mut [f32]) {
        assert_eq!(code.len(), self.code_bytes(), "the code has another length");
        let (rescale, planes) = (read_f32(code, 2), &code[HEADER..]);
        let middle = levels::middle(self.config.bits) as f32;
        let rotated: Vec<f32> = (0..self.code_dim())
            .map(|i| (f32::from(read_level(planes, self.code_dim() / 8, i)) - middle) * rescale)
            .collect();
        self.rotation.apply_inverse(&rotated, vector);
        vector.iter_mut().zip(&self.centre).for_each(|(value, centre)| *value += centre);
    }

    fn query<'a>(&'a self, metric: Metric, query: &[f32]) -> RabitqQuery<'a> {
        RabitqQuery::new(self, metric, query)
    }
}

#[cfg(test)]
mod tests;
