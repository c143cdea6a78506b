//! Quantizers: short codes for vectors, and distances between a query and many codes.
//!
//! A [`Quantizer`] encodes vectors into rows of bytes that can be written to a file and mapped back; a query is
//! prepared once ([`Quantizer::query`]) and then estimates its distance to any number of codes.

mod binary;
mod element;
mod fastscan;
mod head;
mod kernels;
mod kmeans;
mod orthogonal;
mod parameters;
mod place;
mod product;
mod quantizer;
mod rabitq;
mod rotation;
mod scalar;
mod traversal;

pub use binary::{Binary, BinaryQuery};
pub use element::{Bf16Codec, ElementCodec, ElementQuery, F16Codec, U8Codec};
pub use fastscan::{BLOCK_VECTORS, BlockQuery};
pub use head::{
    BLOCK_ROWS, FineHeadCodes, FineHeadQuery, HeadBasis, HeadCodes, HeadQuery, HeadRanges, HeadRow, Near,
    leading_directions, spread,
};
pub use kernels::int8::{Int8Isa, Int8Kernels, MAX_CODE_BYTES, QueryCodes};
pub use kmeans::{KMeans, KMeansConfig, KMeansError, KMeansInit, KMeansProgress};
pub use parameters::ParametersError;
pub use place::{length, place};
pub use product::{
    Opq, OpqConfig, OpqQuery, ProductBits, ProductBlockQuery, ProductConfig, ProductError, ProductProgress,
    ProductQuantizer, ProductQuery,
};
pub use quantizer::{CodeQuery, Quantizer};
pub use rabitq::{
    BlockEstimates, ListTerm, Rabitq, RabitqBlockQuery, RabitqBlocks, RabitqCentre, RabitqConfig,
    RabitqError, RabitqListQuery, RabitqQuery, ScaleSearch,
};
pub use rotation::{Dense, FhtKac, MAX_DIM, Pca, PcaConfig, Rotation, RotationError, RotationSlack};
pub use scalar::{
    BoundedQuery, BoundedSq, BoundedSq4, BoundedSq8, Eight, Four, QueryPrecision, Sq, Sq4, Sq8, SqQuery,
    Width,
};
pub use traversal::{TraversalBasis, TraversalCodes, TraversalQuery};
