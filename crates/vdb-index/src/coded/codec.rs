//! The quantizers behind one face: train, code placed rows, prepare a query.
//!
//! Codes come in *units*: a row each, or a block of 32 rows that are scanned together. RaBitQ codes of more than one
//! bit have a second part beside the blocks, a row each, that is read for the best rows only. Every quantizer is
//! centred at zero: rows are placed before they get here.

use super::placement::Placement;
use super::{CodeKind, CodedParams};
use rayon::prelude::*;
use vdb_distance::Metric;
use vdb_quant::{
    BLOCK_VECTORS, Bf16Codec, Binary, CodeQuery, F16Codec, FhtKac, ListTerm, Opq, OpqConfig, ProductBits,
    ProductBlockQuery, ProductConfig, ProductQuantizer, Quantizer, Rabitq, RabitqBlockQuery, RabitqBlocks,
    RabitqCentre, RabitqConfig, Rotation, Sq4, Sq8, U8Codec,
};

#[derive(Debug, Clone)]
pub(super) enum Codec {
    Sq8(Sq8),
    Sq4(Sq4),
    Pq8(ProductQuantizer),
    Pq4(ProductQuantizer),
    Opq(Opq),
    Rabitq(RabitqBlocks, RabitqCentre),
    Binary(Binary),
    F16(F16Codec),
    Bf16(Bf16Codec),
    U8(U8Codec),
}

/// A query prepared for a codec's units.
pub(super) enum Prepared<'a> {
    Rows(Box<dyn CodeQuery + Sync + 'a>),
    Blocks(ProductBlockQuery),
    Rabitq { query: RabitqBlockQuery<'a>, term: ListTerm, refines: bool },
}

/// Evaluates an expression for the codecs whose units are rows, another for the others.
macro_rules! rows_or {
    ($codec:expr, $rows:ident => $of_rows:expr, $($other:pat => $of_other:expr),+ $(,)?) => {
        match $codec {
            Codec::Sq8($rows) => $of_rows,
            Codec::Sq4($rows) => $of_rows,
            Codec::Pq8($rows) => $of_rows,
            Codec::Binary($rows) => $of_rows,
            Codec::F16($rows) => $of_rows,
            Codec::Bf16($rows) => $of_rows,
            Codec::U8($rows) => $of_rows,
            $($other => $of_other),+
        }
    };
}

impl Codec {
    /// Trains on placed rows; `None` where they cannot be trained on, which finite rows can.
    pub(super) fn train(
        params: &CodedParams,
        placement: &Placement,
        dim: usize,
        sample: &[f32],
    ) -> Option<Self> {
        let product = |bits| {
            let mut config = ProductConfig::new(params.subspaces(dim), bits);
            config.seed = config.seed.wrapping_add(params.seed);
            config
        };
        // Not padded: a whole number of cache lines is not worth bytes that tell nothing.
        let rotation = || Rotation::Fht(FhtKac::new(dim, dim, params.seed));
        Some(match params.kind {
            CodeKind::Sq8 => Codec::Sq8(Sq8::new(rotation())),
            CodeKind::Sq4 => Codec::Sq4(Sq4::new(rotation())),
            CodeKind::Pq8 => {
                Codec::Pq8(ProductQuantizer::train(sample, dim, &product(ProductBits::Eight)).ok()?)
            }
            CodeKind::Pq4 => {
                Codec::Pq4(ProductQuantizer::train(sample, dim, &product(ProductBits::Four)).ok()?)
            }
            CodeKind::Opq => {
                Codec::Opq(Opq::train(sample, dim, &OpqConfig::new(product(ProductBits::Four))).ok()?)
            }
            CodeKind::Rabitq(bits) => {
                let mut config = RabitqConfig::new(bits);
                config.seed = config.seed.wrapping_add(params.seed);
                Codec::rabitq(Rabitq::new(vec![0.0; dim], config).ok()?, placement)
            }
            CodeKind::Binary => {
                Codec::Binary(Binary::rotated(vec![0.0; dim], Rotation::fht(dim, params.seed)))
            }
            CodeKind::F16 => Codec::F16(F16Codec::new(dim)),
            CodeKind::Bf16 => Codec::Bf16(Bf16Codec::new(dim)),
            CodeKind::U8 => Codec::U8(U8Codec::new(dim)),
        })
    }

    fn rabitq(quantizer: Rabitq, placement: &Placement) -> Self {
        let centre = vec![0.0; quantizer.dim()];
        let blocks = RabitqBlocks::new(quantizer, placement.code_metric());
        let centre = blocks.centre(&centre);
        Codec::Rabitq(blocks, centre)
    }

    /// The quantizer's parameters.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Codec::Sq8(sq) => sq.rotation().to_bytes(),
            Codec::Sq4(sq) => sq.rotation().to_bytes(),
            Codec::Pq8(product) | Codec::Pq4(product) => product.to_bytes(),
            Codec::Opq(opq) => opq.to_bytes(),
            Codec::Rabitq(blocks, _) => blocks.quantizer().to_bytes(),
            Codec::Binary(binary) => binary.to_bytes(),
            Codec::F16(_) | Codec::Bf16(_) | Codec::U8(_) => Vec::new(),
        }
    }

    /// What [`to_bytes`](Self::to_bytes) wrote, if it is the quantizer of these settings.
    pub(super) fn from_bytes(
        params: &CodedParams,
        placement: &Placement,
        dim: usize,
        bytes: &[u8],
    ) -> Result<Self, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let rotation = || -> Result<Rotation, String> {
            let rotation = Rotation::from_bytes(bytes).map_err(|error| text(&error))?;
            match rotation.centre() {
                None => Ok(rotation),
                Some(_) => Err("a rotation with a centre of its own".to_owned()),
            }
        };
        let product = |bits| -> Result<ProductQuantizer, String> {
            let product = ProductQuantizer::from_bytes(bytes).map_err(|error| text(&error))?;
            check_product(&product, bits, params, dim)?;
            Ok(product)
        };
        let codec = match params.kind {
            CodeKind::Sq8 => Codec::Sq8(Sq8::new(rotation()?)),
            CodeKind::Sq4 => Codec::Sq4(Sq4::new(rotation()?)),
            CodeKind::Pq8 => Codec::Pq8(product(ProductBits::Eight)?),
            CodeKind::Pq4 => Codec::Pq4(product(ProductBits::Four)?),
            CodeKind::Opq => {
                let opq = Opq::from_bytes(bytes).map_err(|error| text(&error))?;
                check_product(opq.product(), ProductBits::Four, params, dim)?;
                Codec::Opq(opq)
            }
            CodeKind::Rabitq(bits) => {
                let rabitq = Rabitq::from_bytes(bytes).map_err(|error| text(&error))?;
                if rabitq.config().bits != bits {
                    return Err(format!("rabitq of {} bits, expected {bits}", rabitq.config().bits));
                }
                if rabitq.dim() != dim {
                    return Err(format!("a quantizer of {} dimensions, expected {dim}", rabitq.dim()));
                }
                Codec::rabitq(rabitq, placement)
            }
            CodeKind::Binary => Codec::Binary(Binary::from_bytes(bytes).map_err(|error| text(&error))?),
            CodeKind::F16 => Codec::F16(F16Codec::new(dim)),
            CodeKind::Bf16 => Codec::Bf16(Bf16Codec::new(dim)),
            CodeKind::U8 => Codec::U8(U8Codec::new(dim)),
        };
        match codec.dim() {
            found if found == dim => Ok(codec),
            found => Err(format!("a quantizer of {found} dimensions, expected {dim}")),
        }
    }

    pub(super) fn dim(&self) -> usize {
        rows_or!(self, rows => rows.dim(),
            Codec::Pq4(product) => product.dim(),
            Codec::Opq(opq) => opq.dim(),
            Codec::Rabitq(blocks, _) => blocks.quantizer().dim())
    }

    /// Rows of a unit: 1 or [`BLOCK_VECTORS`].
    pub(super) fn unit_rows(&self) -> usize {
        rows_or!(self, _rows => 1, Codec::Pq4(_) | Codec::Opq(_) | Codec::Rabitq(..) => BLOCK_VECTORS)
    }

    pub(super) fn unit_bytes(&self) -> usize {
        rows_or!(self, rows => rows.code_bytes(),
            Codec::Pq4(product) => product.block_bytes(),
            Codec::Opq(opq) => opq.product().block_bytes(),
            Codec::Rabitq(blocks, _) => blocks.block_bytes())
    }

    /// Bytes of a row's second part.
    pub(super) fn rest_bytes(&self) -> usize {
        match self {
            Codec::Rabitq(blocks, _) => blocks.rest_bytes(),
            _ => 0,
        }
    }

    /// Heap bytes of the parameters, about.
    pub(super) fn bytes(&self) -> usize {
        let dim = self.dim();
        match self {
            // Centroids, and once more as they are searched.
            Codec::Pq8(product) | Codec::Pq4(product) => 2 * 4 * dim * product.bits().centroids(),
            Codec::Opq(opq) => 4 * dim * (dim + 2 * opq.product().bits().centroids()),
            _ => 8 * dim,
        }
    }

    /// Codes placed rows into units, the last of which may be partly filled, on all threads of the current pool.
    pub(super) fn encode_all(&self, placed: &[f32], units: &mut [u8], rest: &mut [u8]) {
        let pack = |product: &ProductQuantizer, codes: &[u8], units: &mut [u8]| {
            let blocks = units.par_chunks_exact_mut(product.block_bytes());
            let codes = codes.par_chunks(BLOCK_VECTORS * product.code_bytes());
            blocks.zip(codes).with_min_len(8).for_each(|(block, codes)| product.pack_block(codes, block));
        };
        rows_or!(self, rows => rows.encode_all(placed, units),
        Codec::Pq4(product) => pack(product, &coded(product, placed), units),
        Codec::Opq(opq) => pack(opq.product(), &coded(opq, placed), units),
        Codec::Rabitq(blocks, centre) => {
            let rows = BLOCK_VECTORS * blocks.quantizer().dim();
            let units = units.par_chunks_exact_mut(blocks.block_bytes()).zip(placed.par_chunks(rows));
            match blocks.rest_bytes() {
                0 => units.for_each(|(unit, placed)| blocks.encode_block(centre, placed, unit, &mut [])),
                bytes => units.zip(rest.par_chunks_mut(BLOCK_VECTORS * bytes)).for_each(
                    |((unit, placed), rest)| blocks.encode_block(centre, placed, unit, rest),
                ),
            }
        })
    }

    /// Codes one placed row into a lane of its unit, whatever was there.
    pub(super) fn encode_one(&self, placed: &[f32], unit: &mut [u8], lane: usize, rest: &mut [u8]) {
        rows_or!(self, rows => rows.encode(placed, unit),
            Codec::Pq4(product) => product.set_lane(&coded(product, placed), unit, lane),
            Codec::Opq(opq) => opq.product().set_lane(&coded(opq, placed), unit, lane),
            Codec::Rabitq(blocks, centre) => blocks.encode(centre, placed, unit, lane, rest))
    }

    /// Prepares a placed query.
    pub(super) fn query(&self, metric: Metric, placed: &[f32]) -> Prepared<'_> {
        rows_or!(self, rows => Prepared::Rows(Box::new(rows.query(metric, placed))),
        Codec::Pq4(product) => Prepared::Blocks(product.block_query(metric, placed, false)),
        Codec::Opq(opq) => Prepared::Blocks(opq.block_query(metric, placed, false)),
        Codec::Rabitq(blocks, _) => {
            let query = blocks.query(placed);
            let term = query.list_term(&vec![0.0; placed.len()]);
            Prepared::Rabitq { query, term, refines: blocks.rest_bytes() > 0 }
        })
    }
}

fn coded(quantizer: &impl Quantizer, placed: &[f32]) -> Vec<u8> {
    let mut codes = vec![0; placed.len() / quantizer.dim() * quantizer.code_bytes()];
    quantizer.encode_all(placed, &mut codes);
    codes
}

fn check_product(
    product: &ProductQuantizer,
    bits: ProductBits,
    params: &CodedParams,
    dim: usize,
) -> Result<(), String> {
    let (found, expected) = ((product.bits(), product.subspaces()), (bits, params.subspaces(dim)));
    if found == expected {
        return Ok(());
    }
    Err(format!("a product quantizer of {found:?} (bits, pieces), expected {expected:?}"))
}
