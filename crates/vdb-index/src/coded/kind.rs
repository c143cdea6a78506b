//! Which quantizer makes the codes, and what each needs: rows to train on, a metric it knows, how many candidates.

use std::fmt;
use std::str::FromStr;
use vdb_distance::Metric;
use vdb_quant::MAX_DIM;

/// The quantizer of a [`Coded`](super::Coded) index. Bytes are of a vector of d values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CodeKind {
    /// Eight-bit integers of rotated values, one scale a vector: d + 8 bytes.
    Sq8,
    /// Four-bit integers of rotated values, one scale a vector: d / 2 + 8 bytes.
    Sq4,
    /// Product quantization, 256 centroids a piece (Jégou and others, 2011): d / 4 bytes unless `subspaces` is set.
    Pq8,
    /// Product quantization, 16 centroids a piece, scanned in blocks of 32 (FastScan): d / 4 bytes unless `subspaces`
    /// is set.
    Pq4,
    /// [`Pq4`](Self::Pq4) behind a learned rotation (Ge and others, 2013). Training takes time cubic in d.
    Opq,
    /// RaBitQ with 1 to 8 bits a dimension (Gao and Long, 2024): about d · bits / 8 + 12 bytes for one bit, 24 for more.
    Rabitq(u8),
    /// The signs of rotated values, compared by counting: d / 8 bytes. An order, no distance: needs much oversampling.
    Binary,
    /// Half precision: 2 d bytes.
    F16,
    /// The upper half of `f32`: 2 d bytes.
    Bf16,
    /// Bytes, for values that are whole numbers from 0 to 255, exact for those: d bytes.
    U8,
}

impl CodeKind {
    /// Every kind, as named on a command line.
    pub const ALL: [CodeKind; 17] = [
        CodeKind::Sq8,
        CodeKind::Sq4,
        CodeKind::Pq8,
        CodeKind::Pq4,
        CodeKind::Opq,
        CodeKind::Rabitq(1),
        CodeKind::Rabitq(2),
        CodeKind::Rabitq(3),
        CodeKind::Rabitq(4),
        CodeKind::Rabitq(5),
        CodeKind::Rabitq(6),
        CodeKind::Rabitq(7),
        CodeKind::Rabitq(8),
        CodeKind::Binary,
        CodeKind::F16,
        CodeKind::Bf16,
        CodeKind::U8,
    ];

    /// The kind by its number in files, and its bits where it has a choice of them, else 0.
    pub fn to_numbers(self) -> (u64, u64) {
        match self {
            CodeKind::Sq8 => (0, 0),
            CodeKind::Sq4 => (1, 0),
            CodeKind::Pq8 => (2, 0),
            CodeKind::Pq4 => (3, 0),
            CodeKind::Opq => (4, 0),
            CodeKind::Rabitq(bits) => (5, u64::from(bits)),
            CodeKind::Binary => (6, 0),
            CodeKind::F16 => (7, 0),
            CodeKind::Bf16 => (8, 0),
            CodeKind::U8 => (9, 0),
        }
    }

    /// The kind of its [numbers](Self::to_numbers).
    pub fn from_numbers(kind: u64, bits: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|own| own.to_numbers() == (kind, bits))
    }

    /// Candidates per hit that are reranked unless a search says otherwise: the more, the coarser the code.
    pub fn oversampling(self) -> usize {
        match self {
            CodeKind::Sq8 | CodeKind::F16 | CodeKind::Bf16 | CodeKind::U8 | CodeKind::Rabitq(6..) => 2,
            CodeKind::Sq4 | CodeKind::Rabitq(3..) => 4,
            CodeKind::Pq8 | CodeKind::Pq4 | CodeKind::Opq | CodeKind::Rabitq(2) => 8,
            CodeKind::Rabitq(_) => 16,
            CodeKind::Binary => 32,
        }
    }

    /// Whether codes keep values in their places, so that sums of absolute differences can be told from them.
    fn keeps_axes(self) -> bool {
        matches!(self, CodeKind::Pq8 | CodeKind::Pq4 | CodeKind::F16 | CodeKind::Bf16 | CodeKind::U8)
    }

    /// Whether the codes are of the values as they are, and not of differences to a centre.
    pub(super) fn is_element(self) -> bool {
        matches!(self, CodeKind::F16 | CodeKind::Bf16 | CodeKind::U8)
    }

    fn has_subspaces(self) -> bool {
        matches!(self, CodeKind::Pq8 | CodeKind::Pq4 | CodeKind::Opq)
    }
}

impl fmt::Display for CodeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CodeKind::Sq8 => f.write_str("sq8"),
            CodeKind::Sq4 => f.write_str("sq4"),
            CodeKind::Pq8 => f.write_str("pq8"),
            CodeKind::Pq4 => f.write_str("pq4"),
            CodeKind::Opq => f.write_str("opq"),
            CodeKind::Rabitq(bits) => write!(f, "rabitq{bits}"),
            CodeKind::Binary => f.write_str("binary"),
            CodeKind::F16 => f.write_str("f16"),
            CodeKind::Bf16 => f.write_str("bf16"),
            CodeKind::U8 => f.write_str("u8"),
        }
    }
}

impl FromStr for CodeKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = CodeKind::ALL.into_iter().find(|kind| kind.to_string() == text);
        found.ok_or_else(|| {
            let names: Vec<String> = CodeKind::ALL.iter().map(ToString::to_string).collect();
            format!("no quantizer is called {text:?}, expected one of {}", names.join(", "))
        })
    }
}

/// Settings of a [`Coded`](super::Coded) index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodedParams {
    /// The quantizer.
    pub kind: CodeKind,
    /// Pieces that product quantizers cut a vector into (m), 1 to the dimension: more are more exact and larger. 0, the
    /// default, means two values a piece of four bits and four a piece of eight.
    pub subspaces: usize,
    /// What rotations and training derive from.
    pub seed: u64,
}

impl CodedParams {
    /// The defaults for a quantizer.
    pub fn new(kind: CodeKind) -> Self {
        Self { kind, subspaces: 0, seed: 0 }
    }

    /// Says in a sentence what does not fit vectors of `dim` values under `metric`.
    ///
    /// # Errors
    /// That sentence.
    pub fn check(&self, metric: Metric, dim: usize) -> Result<(), String> {
        let Self { kind, subspaces, .. } = *self;
        if let CodeKind::Rabitq(bits) = kind
            && !(1..=8).contains(&bits)
        {
            return Err(format!("rabitq with {bits} bits a dimension, expected 1 to 8"));
        }
        if metric == Metric::Manhattan && !kind.keeps_axes() {
            return Err(format!(
                "the quantizer {kind} rotates vectors, which does not keep Manhattan distances; expected pq4, pq8, \
                 f16, bf16 or u8"
            ));
        }
        if dim == 0 || dim > MAX_DIM / 64 * 64 {
            return Err(format!(
                "the quantizer {kind} takes 1 to {} dimensions, not {dim}",
                MAX_DIM / 64 * 64
            ));
        }
        if subspaces != 0 && !kind.has_subspaces() {
            return Err(format!("subspaces is {subspaces}, but {kind} is no product quantizer"));
        }
        if subspaces > dim {
            return Err(format!("subspaces is {subspaces}, expected at most the dimension, {dim}"));
        }
        Ok(())
    }

    /// Bytes of the code of a row of `dim` values, as [`Coded::row_bytes`](super::Coded::row_bytes) counts them.
    pub fn row_bytes(&self, dim: usize) -> usize {
        let padded = dim.next_multiple_of(64);
        match self.kind {
            CodeKind::Sq8 => (dim + 8).next_multiple_of(8),
            CodeKind::Sq4 => (dim.div_ceil(2) + 8).next_multiple_of(8),
            CodeKind::Pq8 => self.subspaces(dim),
            // Half a byte a piece, in groups of four pieces.
            CodeKind::Pq4 | CodeKind::Opq => self.subspaces(dim).next_multiple_of(4) / 2,
            CodeKind::Rabitq(1) => padded / 8 + 8,
            CodeKind::Rabitq(bits) => padded / 8 * usize::from(bits) + 20,
            CodeKind::Binary => padded / 8,
            CodeKind::F16 | CodeKind::Bf16 => 2 * dim,
            CodeKind::U8 => dim,
        }
    }

    /// Pieces of a product quantizer.
    pub(super) fn subspaces(&self, dim: usize) -> usize {
        match (self.subspaces, self.kind) {
            (0, CodeKind::Pq8) => dim.div_ceil(4),
            (0, _) => dim.div_ceil(2),
            (subspaces, _) => subspaces,
        }
    }

    /// Rows below which all are compared: fewer could not fill a codebook, and a scan of them takes microseconds.
    pub(super) fn fewest_rows(&self) -> usize {
        // Fewer than 39 points a centroid overfit.
        if self.kind == CodeKind::Pq8 { 39 * 256 } else { 1_024 }
    }

    /// Rows that training reads at most.
    pub(super) fn training_rows(&self) -> usize {
        match self.kind {
            CodeKind::Pq8 => 256 * 256,
            _ => 16_384,
        }
    }
}
