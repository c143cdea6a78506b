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
    /// None: with n values, the greatest g, cutting off a share ε of it adds at least (εg)² to the squared error and
    /// takes about 2ε of n (g/127)²/12 away, which pays for the one greatest value only beyond n = 97,000 ε.
    const CLIPS: &'static [f32] = &[1.0];

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
