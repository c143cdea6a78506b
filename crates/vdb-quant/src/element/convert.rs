//! One number at a time: `f32` to and from each format, to nearest with ties to even, saturating at the greatest
//! finite value. NaN stays NaN, and is 0 as a byte.

use crate::kernels::element::Format;

/// A format for the values of vectors: [`F16`], [`Bf16`] or [`U8`].
pub trait Number: sealed::Sealed + Copy + Send + Sync + std::fmt::Debug + 'static {
    /// Bytes of a number.
    const BYTES: usize;
    #[doc(hidden)]
    const FORMAT: Format;

    /// Writes the nearest number there is.
    ///
    /// # Panics
    /// When `bytes` is not [`BYTES`](Self::BYTES) long.
    fn encode(value: f32, bytes: &mut [u8]);

    /// Reads a number, exactly.
    ///
    /// # Panics
    /// When `bytes` is not [`BYTES`](Self::BYTES) long.
    fn decode(bytes: &[u8]) -> f32;
}

mod sealed {
    /// Formats that kernels exist for.
    pub trait Sealed {}
}

/// Half precision: 1 sign bit, 5 bits of exponent, 10 of fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct F16;

/// The upper sixteen bits of `f32`: 8 bits of exponent, 7 of fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bf16;

/// Unsigned bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct U8;

impl sealed::Sealed for F16 {}
impl sealed::Sealed for Bf16 {}
impl sealed::Sealed for U8 {}

impl Number for F16 {
    const BYTES: usize = 2;
    const FORMAT: Format = Format::F16;

    fn encode(value: f32, bytes: &mut [u8]) {
        bytes.copy_from_slice(&f16_bits(value).to_le_bytes());
    }

    fn decode(bytes: &[u8]) -> f32 {
        f16_value(u16::from_le_bytes([bytes[0], bytes[1]]))
    }
}

impl Number for Bf16 {
    const BYTES: usize = 2;
    const FORMAT: Format = Format::Bf16;

    fn encode(value: f32, bytes: &mut [u8]) {
        bytes.copy_from_slice(&bf16_bits(value).to_le_bytes());
    }

    fn decode(bytes: &[u8]) -> f32 {
        f32::from_bits(u32::from(u16::from_le_bytes([bytes[0], bytes[1]])) << 16)
    }
}

impl Number for U8 {
    const BYTES: usize = 1;
    const FORMAT: Format = Format::U8;

    fn encode(value: f32, bytes: &mut [u8]) {
        // The cast saturates, and takes NaN to 0.
        bytes.copy_from_slice(&[value.round_ties_even() as u8]);
    }

    fn decode(bytes: &[u8]) -> f32 {
        f32::from(bytes[0])
    }
}

fn f16_bits(value: f32) -> u16 {
    const GREATEST: u16 = 0x7bff;
    let sign = (value.to_bits() >> 16) as u16 & 0x8000;
    let magnitude = value.abs();
    if magnitude.is_nan() {
        return sign | 0x7e00;
    }
    if magnitude >= 65_504.0 {
        return sign | GREATEST;
    }
    // Below the least normal number, 2⁻¹⁴, numbers are multiples of 2⁻²⁴: adding 1.5 · 2⁻¹ rounds to those, as its
    // last bit is worth that, and the sum's last bits are the count. Above, rounding is that of the bits themselves,
    // and a carry into the exponent is right.
    if magnitude < 6.103_515_6e-5 {
        return sign | ((magnitude + 0.75).to_bits() - 0.75_f32.to_bits()) as u16;
    }
    let bits = magnitude.to_bits();
    let rounded = bits + 0xfff + (bits >> 13 & 1);
    sign | ((rounded >> 13) - ((127 - 15) << 10)) as u16
}

/// Without branches, so that loops over it are vectorised.
#[inline(always)]
pub(crate) fn f16_value(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let magnitude = u32::from(bits & 0x7fff) << 13;
    // The exponents' biases differ by 112, and a subnormal number is one in `f32` too.
    let value = (f32::from_bits(magnitude) * 2_f32.powi(112)).to_bits();
    // Infinity and NaN have all bits of the exponent set.
    let special = if bits & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(sign | value | special)
}

fn bf16_bits(value: f32) -> u16 {
    const GREATEST: u32 = 0x7f7f;
    let bits = value.to_bits();
    let sign = (bits >> 16) as u16 & 0x8000;
    if value.is_nan() {
        return sign | 0x7fc0;
    }
    let magnitude = bits & 0x7fff_ffff;
    let rounded = (magnitude + 0x7fff + (magnitude >> 16 & 1)) >> 16;
    sign | rounded.min(GREATEST) as u16
}
