//! Eight bits: a byte u stands for u − 128, and only −127 to 127 occur. Zero has a code of its own.

use crate::QueryCodes;

use super::{Sq, Width, sealed};

/// Codes of 8-bit integers, one a byte.
#[derive(Debug, Clone, Copy)]
pub struct Eight;

/// A scalar quantizer of 8 bits per coordinate.
pub type Sq8 = Sq<Eight>;

impl sealed::Sealed for Eight {}

impl Width for Eight {
    const PER_BYTE: usize = 1;
    const MULTIPLIER: i32 = 1;
    const OFFSET: i32 = 128;
    const GREATEST: i32 = 127;
    const CLIPS: &'static [f32] = &[1.0, 0.9, 0.8, 0.7];

    fn pack(levels: &[u8], code: &mut [u8]) {
        code.copy_from_slice(levels);
    }

    fn unpack(code: &[u8], levels: &mut [u8]) {
        levels.copy_from_slice(code);
    }

    fn query(parts: &[&[i8]]) -> QueryCodes {
        QueryCodes::bytes(parts)
    }
}
