//! Rotations: isometries that spread a vector's energy evenly over its coordinates, or gather it in the first ones.
//!
//! One scale per vector is enough for a scalar code only when no coordinate stands out, which a random rotation sees
//! to ([`FhtKac`], [`Dense`]); and a code of fewer coordinates than the vector has is good only when those hold most
//! of the variance, which principal components see to ([`Pca`]). The invariant of every rotation here is that it
//! keeps inner products, and so norms and distances, up to [`Rotation::slack`], a bound that is proven and not
//! estimated: bounds on true distances rest on it.
//!
//! A rotation goes to a file as little-endian bytes ([`Rotation::to_bytes`]) with a version; old versions stay
//! readable, and bytes that are no rotation are an error.

mod dense;
mod eigen;
mod fht;
mod pca;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

pub use dense::Dense;
pub use fht::FhtKac;
pub use pca::{Pca, PcaConfig};

/// The most values a vector may have: the integer kernels' bound.
pub const MAX_DIM: usize = crate::MAX_CODE_BYTES;

const MAGIC: [u8; 4] = *b"VROT";
/// The version written, and the only one there is.
const VERSION: u8 = 1;
/// Magic, version, kind, two reserved bytes, input and output dimension.
const HEADER: usize = 16;

/// Why bytes are not a rotation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RotationError {
    /// The bytes do not begin with a rotation's mark.
    #[error("not a rotation: the bytes begin with {0:02x?}")]
    Magic(Vec<u8>),
    /// The version is one that this program does not know.
    #[error("rotation of version {0}; this program reads version {VERSION}")]
    Version(u8),
    /// The kind is one that this program does not know.
    #[error("rotation of unknown kind {0}")]
    Kind(u8),
    /// The dimensions cannot be those of this kind of rotation.
    #[error("a rotation from {dim} to {output_dim} dimensions of kind {kind}")]
    Dimensions {
        /// The kind's number.
        kind: u8,
        /// Values of an input vector.
        dim: u32,
        /// Values of an output vector.
        output_dim: u32,
    },
    /// There are more or fewer bytes than the header asks for.
    #[error("a rotation of {expected} bytes, found {found}")]
    Length {
        /// Bytes that the header asks for.
        expected: u64,
        /// Bytes that there are.
        found: u64,
    },
    /// A number is not finite, a reserved byte not zero, or a field out of range.
    #[error("a rotation's {0} is out of range")]
    Value(&'static str),
}

/// How far a rotation in `f32` arithmetic is from an exact isometry.
///
/// Let `R` be the linear map that the stored numbers define, `c` the centre, and `y` the output of
/// [`Rotation::apply`] for `x`. Then for all finite `u`, `v`, `x` for which `y` is finite
///
/// * `|⟨Ru, Rv⟩ − ⟨u, v⟩| ≤ defect · ‖u‖ · ‖v‖`,
/// * `‖y − R(x − c)‖ ≤ relative · ‖x − c‖ + absolute`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RotationSlack {
    /// Departure of the stored map from an isometry.
    pub defect: f64,
    /// Rounding, relative to the length of the vector.
    pub relative: f64,
    /// Underflow, in absolute terms.
    pub absolute: f64,
}

/// An isometry from vectors of [`dim`](Self::dim) to vectors of [`output_dim`](Self::output_dim) values.
#[derive(Debug, Clone, PartialEq)]
pub enum Rotation {
    /// Vectors of this many values stay as they are.
    Identity(usize),
    /// Random signs, fast Hadamard transforms and Givens rotations.
    Fht(FhtKac),
    /// A random orthogonal matrix.
    Dense(Dense),
    /// Principal components.
    Pca(Pca),
}

impl Rotation {
    /// No rotation.
    ///
    /// # Panics
    /// When `dim` is 0 or over [`MAX_DIM`].
    pub fn identity(dim: usize) -> Rotation {
        assert_dim(dim);
        Rotation::Identity(dim)
    }

    /// The fast random rotation, with the output padded to a multiple of 64 values.
    ///
    /// # Panics
    /// When `dim` is 0 or over [`MAX_DIM`].
    pub fn fht(dim: usize, seed: u64) -> Rotation {
        Rotation::Fht(FhtKac::new(dim, dim.next_multiple_of(64), seed))
    }

    /// A random orthogonal matrix. Making one takes time cubic in `dim`, applying it quadratic.
    ///
    /// # Panics
    /// When `dim` is 0 or over [`MAX_DIM`].
    pub fn dense(dim: usize, seed: u64) -> Rotation {
        Rotation::Dense(Dense::random(dim, seed))
    }

    /// Values of an input vector.
    pub fn dim(&self) -> usize {
        match self {
            Rotation::Identity(dim) => *dim,
            Rotation::Fht(fht) => fht.dim(),
            Rotation::Dense(dense) => dense.dim(),
            Rotation::Pca(pca) => pca.dim(),
        }
    }

    /// Values of an output vector: at least [`dim`](Self::dim).
    pub fn output_dim(&self) -> usize {
        match self {
            Rotation::Fht(fht) => fht.output_dim(),
            _ => self.dim(),
        }
    }

    /// What is subtracted before the linear part, if anything is. Inner products are kept only without a centre;
    /// distances always are.
    pub fn centre(&self) -> Option<&[f32]> {
        match self {
            Rotation::Pca(pca) => pca.centre(),
            _ => None,
        }
    }

    /// How far the result can be from an exact isometry's.
    pub fn slack(&self) -> RotationSlack {
        match self {
            Rotation::Identity(_) => RotationSlack { defect: 0.0, relative: 0.0, absolute: 0.0 },
            Rotation::Fht(fht) => fht.slack(),
            Rotation::Dense(dense) => dense.slack(),
            Rotation::Pca(pca) => pca.slack(),
        }
    }

    /// Writes the rotated `input`.
    ///
    /// # Panics
    /// When `input` does not have [`dim`](Self::dim) values or `output` not [`output_dim`](Self::output_dim).
    pub fn apply(&self, input: &[f32], output: &mut [f32]) {
        self.assert_lengths(input.len(), output.len());
        match self {
            Rotation::Identity(_) => output.copy_from_slice(input),
            Rotation::Fht(fht) => fht.apply(input, output),
            Rotation::Dense(dense) => dense.apply(input, output),
            Rotation::Pca(pca) => pca.apply(input, output),
        }
    }

    /// Writes the vector that rotates to `rotated`; where the output is longer than the input, the vector whose
    /// rotation is nearest to it.
    ///
    /// # Panics
    /// When `rotated` does not have [`output_dim`](Self::output_dim) values or `vector` not [`dim`](Self::dim).
    pub fn apply_inverse(&self, rotated: &[f32], vector: &mut [f32]) {
        self.assert_lengths(vector.len(), rotated.len());
        match self {
            Rotation::Identity(_) => vector.copy_from_slice(rotated),
            Rotation::Fht(fht) => fht.apply_inverse(rotated, vector),
            Rotation::Dense(dense) => dense.apply_inverse(rotated, vector),
            Rotation::Pca(pca) => pca.apply_inverse(rotated, vector),
        }
    }

    /// Rotates consecutive vectors on all threads; each result equals that of [`apply`](Self::apply).
    ///
    /// # Panics
    /// When the slices are not as many whole vectors.
    pub fn apply_rows(&self, input: &[f32], output: &mut [f32]) {
        let (dim, output_dim) = (self.dim(), self.output_dim());
        assert!(input.len().is_multiple_of(dim), "{} values are not whole vectors of {dim}", input.len());
        assert_eq!(input.len() / dim, output.len() / output_dim, "as many vectors are written as are read");
        assert!(output.len().is_multiple_of(output_dim), "whole vectors are written");
        /// Vectors that share a pass over a matrix.
        const BATCH: usize = 64;
        let batches = input.par_chunks(BATCH * dim).zip(output.par_chunks_mut(BATCH * output_dim));
        batches.for_each(|(input, output)| match self {
            Rotation::Dense(dense) => dense.apply_batch(input, output),
            Rotation::Pca(pca) => pca.apply_batch(input, output),
            _ => {
                for (input, output) in input.chunks_exact(dim).zip(output.chunks_exact_mut(output_dim)) {
                    self.apply(input, output);
                }
            }
        });
    }

    /// The rotation as bytes, for a file: 16 bytes of header, then what the kind needs.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::from(MAGIC);
        bytes.extend([VERSION, self.kind(), 0, 0]);
        bytes.extend((self.dim() as u32).to_le_bytes());
        bytes.extend((self.output_dim() as u32).to_le_bytes());
        match self {
            Rotation::Identity(_) => {}
            Rotation::Fht(fht) => bytes.extend(fht.seed().to_le_bytes()),
            Rotation::Dense(dense) => dense.write(&mut bytes),
            Rotation::Pca(pca) => pca.write(&mut bytes),
        }
        bytes
    }

    /// The rotation that [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// When the bytes are not exactly one rotation of a known version. What is stored of a matrix is believed, its
    /// orthogonality and its defect included: files carry checksums.
    pub fn from_bytes(bytes: &[u8]) -> Result<Rotation, RotationError> {
        let Some((header, body)) = bytes.split_at_checked(HEADER) else {
            return Err(RotationError::Length { expected: HEADER as u64, found: bytes.len() as u64 });
        };
        let mut header = Reader(header);
        let magic = header.array::<4>();
        if magic != MAGIC {
            return Err(RotationError::Magic(magic.to_vec()));
        }
        let [version, kind, reserved @ ..] = header.array::<4>();
        let (dim, output_dim) = (u32::from_le_bytes(header.array()), u32::from_le_bytes(header.array()));
        if version != VERSION {
            return Err(RotationError::Version(version));
        }
        if reserved != [0, 0] {
            return Err(RotationError::Value("reserved field"));
        }
        let (n, out) = (dim as usize, output_dim as usize);
        let padded = kind == FHT && out >= n && out - n < 64;
        if n == 0 || n > MAX_DIM || out > MAX_DIM || (out != n && !padded) {
            return Err(RotationError::Dimensions { kind, dim, output_dim });
        }
        let expected = match kind {
            IDENTITY => 0,
            FHT => 8,
            DENSE => Dense::bytes(dim),
            PCA => Pca::bytes(dim),
            _ => return Err(RotationError::Kind(kind)),
        };
        if body.len() as u64 != expected {
            let (expected, found) = (expected + HEADER as u64, bytes.len() as u64);
            return Err(RotationError::Length { expected, found });
        }
        let mut body = Reader(body);
        Ok(match kind {
            IDENTITY => Rotation::Identity(n),
            FHT => Rotation::Fht(FhtKac::new(n, out, u64::from_le_bytes(body.array()))),
            DENSE => Rotation::Dense(Dense::read(n, &mut body)?),
            _ => Rotation::Pca(Pca::read(n, &mut body)?),
        })
    }

    fn kind(&self) -> u8 {
        match self {
            Rotation::Identity(_) => IDENTITY,
            Rotation::Fht(_) => FHT,
            Rotation::Dense(_) => DENSE,
            Rotation::Pca(_) => PCA,
        }
    }

    fn assert_lengths(&self, input: usize, output: usize) {
        assert_eq!(input, self.dim(), "vectors of {} values", self.dim());
        assert_eq!(output, self.output_dim(), "rotated vectors of {} values", self.output_dim());
    }
}

impl From<Pca> for Rotation {
    fn from(pca: Pca) -> Rotation {
        Rotation::Pca(pca)
    }
}

const IDENTITY: u8 = 0;
const FHT: u8 = 1;
const DENSE: u8 = 2;
const PCA: u8 = 3;

/// Takes numbers off the front of bytes whose length was checked.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self.0.split_first_chunk().expect("the length was checked against the header");
        self.0 = rest;
        *head
    }

    fn f64(&mut self, what: &'static str) -> Result<f64, RotationError> {
        let value = f64::from_le_bytes(self.array());
        if value.is_finite() { Ok(value) } else { Err(RotationError::Value(what)) }
    }

    fn f32(&mut self, what: &'static str) -> Result<f32, RotationError> {
        let value = f32::from_le_bytes(self.array());
        if value.is_finite() { Ok(value) } else { Err(RotationError::Value(what)) }
    }
}

fn assert_dim(dim: usize) {
    assert!((1..=MAX_DIM).contains(&dim), "vectors of {dim} values; 1 to {MAX_DIM} are possible");
}

/// The next number of a fixed stream: what versioned random signs and samples are drawn from (SplitMix64).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
