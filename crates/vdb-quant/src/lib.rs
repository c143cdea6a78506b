//! Quantizers: short codes for vectors, and distances between a query and many codes.
//!
//! A [`Quantizer`] encodes vectors into rows of bytes that can be written to a file and mapped back; a query is
//! prepared once ([`Quantizer::query`]) and then estimates its distance to any number of codes.

mod head;
mod quantizer;

pub use head::{BLOCK_ROWS, HeadBasis, HeadCodes, HeadQuery, HeadRow, leading_directions, spread};
pub use quantizer::{CodeQuery, Quantizer};
