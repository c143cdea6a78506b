//! What is kept of each row for judging it without its vector: a sketch, the signs of its first projections, and
//! eight-bit codes of its placed vector with bounds on the distance. Both are addressed by offset.
//!
//! Manhattan distances have no such bounds: rows that the sketches leave are compared exactly.

use super::hasher::SKETCH_BITS;
use vdb_distance::{AlignedVec, Metric, Owner};
use vdb_quant::{Binary, BinaryQuery, BoundedQuery, BoundedSq8, CodeQuery, MAX_DIM, Quantizer, Rotation};

#[derive(Debug, Clone)]
pub(super) struct Codes {
    metric: Metric,
    sketcher: Binary,
    sketches: AlignedVec<u8>,
    quantizer: Option<BoundedSq8>,
    rows: AlignedVec<u8>,
}

/// A row's sketch and its eight-bit code.
#[derive(Debug)]
pub(super) struct RowCodes {
    sketch: Vec<u8>,
    code: Vec<u8>,
}

impl Codes {
    /// Codes of no rows yet, for vectors of `dim` values.
    pub(super) fn new(metric: Metric, dim: usize) -> Self {
        let coded = metric != Metric::Manhattan && dim <= MAX_DIM;
        Self {
            metric,
            sketcher: Binary::new(SKETCH_BITS),
            sketches: AlignedVec::new(),
            quantizer: coded.then(|| BoundedSq8::new(Rotation::identity(dim), dim)),
            rows: AlignedVec::new(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.sketches.bytes() + self.rows.bytes()
    }

    /// Codes of `len` rows, read in place; a sentence where they have another length.
    pub(super) fn open(metric: Metric, dim: usize, len: usize, bytes: [Owner; 2]) -> Result<Self, String> {
        let mut codes = Self::new(metric, dim);
        let found = bytes.each_ref().map(|bytes| (**bytes).as_ref().len());
        let expected = [len * codes.sketcher.code_bytes(), len * codes.code_bytes()];
        if found != expected {
            return Err(format!(
                "{found:?} bytes of sketches and codes of {len} rows, expected {expected:?}"
            ));
        }
        let [sketches, rows] =
            bytes.map(|bytes| AlignedVec::opened(bytes).expect("bytes are a whole number of bytes"));
        (codes.sketches, codes.rows) = (sketches, rows);
        Ok(codes)
    }

    /// What [`open`](Self::open) reads.
    pub(super) fn stored(&self) -> [&[u8]; 2] {
        [&self.sketches, &self.rows]
    }

    /// Copies what is read in place.
    pub(super) fn pin(&mut self) {
        self.sketches = AlignedVec::from(&self.sketches[..]);
        self.rows = AlignedVec::from(&self.rows[..]);
    }

    pub(super) fn is_shared(&self) -> bool {
        self.sketches.is_shared()
    }

    fn code_bytes(&self) -> usize {
        self.quantizer.as_ref().map_or(0, Quantizer::code_bytes)
    }

    /// The codes of a row from its placed vector, without the lift, and its projections.
    pub(super) fn encode(&self, placed: &[f32], projections: &[f32]) -> RowCodes {
        let mut sketch = vec![0; self.sketcher.code_bytes()];
        self.sketcher.encode(&projections[..SKETCH_BITS], &mut sketch);
        let mut code = vec![0; self.code_bytes()];
        if let Some(quantizer) = &self.quantizer {
            quantizer.encode(placed, &mut code);
        }
        RowCodes { sketch, code }
    }

    /// Makes room for rows below `len`.
    pub(super) fn grow(&mut self, len: usize) {
        let (sketch, code) = (self.sketcher.code_bytes(), self.code_bytes());
        if self.sketches.len() < len * sketch {
            self.sketches.resize(len * sketch, 0);
            self.rows.resize(len * code, 0);
        }
    }

    /// Keeps a row's codes; there is room for them.
    pub(super) fn set(&mut self, offset: u32, codes: &RowCodes) {
        let at = |bytes: usize| offset as usize * bytes..(offset as usize + 1) * bytes;
        let (sketch, code) = (at(codes.sketch.len()), at(codes.code.len()));
        self.sketches[sketch].copy_from_slice(&codes.sketch);
        self.rows[code].copy_from_slice(&codes.code);
    }

    /// Prepares the sketch of a query's projections.
    pub(super) fn sketch(&self, projections: &[f32]) -> BinaryQuery {
        self.sketcher.query(self.metric, &projections[..SKETCH_BITS])
    }

    /// Writes in how many bits the sketches of rows differ from the query's.
    pub(super) fn differing_bits(&self, query: &BinaryQuery, rows: &[u32], out: &mut [f32]) {
        query.gather(&self.sketches, rows, out);
    }

    /// The same of rows `first`, `first + 1` and so on, as many as there are and as `out` holds.
    pub(super) fn differing_bits_from(&self, query: &BinaryQuery, first: usize, out: &mut [f32]) {
        let bytes = self.sketcher.code_bytes();
        let rows = out.len().min((self.sketches.len() / bytes).saturating_sub(first));
        query.distances(&self.sketches[first * bytes..][..rows * bytes], &mut out[..rows]);
    }

    /// Prepares bounds for a placed query, without the lift; `None` where there are no codes.
    pub(super) fn query(&self, placed: &[f32]) -> Option<BoundedQuery> {
        // With unit vectors and a common centre, distances order like cosines.
        let metric = match self.metric {
            Metric::DotProduct => Metric::DotProduct,
            _ => Metric::Euclidean,
        };
        self.quantizer.as_ref().map(|quantizer| quantizer.query(metric, placed))
    }

    /// Writes bounds on the distances of rows.
    pub(super) fn bounds(&self, query: &BoundedQuery, rows: &[u32], lower: &mut [f32], upper: &mut [f32]) {
        query.gather_bounds(&self.rows, rows, lower, upper);
    }
}
