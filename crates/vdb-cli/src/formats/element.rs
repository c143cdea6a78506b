//! The number types of the binary formats and their conversion to f32.
//!
//! u8, i8 and f16 convert exactly; f64 is rounded, to infinity when it is too large, which the readers refuse.

use half::f16;

/// A number type in a file, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    F64,
    F32,
    F16,
    U8,
    I8,
}

impl Element {
    /// The bytes that one number takes.
    pub(super) fn size(self) -> usize {
        match self {
            Element::F64 => 8,
            Element::F32 => 4,
            Element::F16 => 2,
            Element::U8 | Element::I8 => 1,
        }
    }

    /// Appends the numbers in `bytes`, whose length is a multiple of [`size`](Self::size).
    pub(super) fn decode(self, bytes: &[u8], out: &mut Vec<f32>) {
        match self {
            Element::F64 => out.extend(words(bytes).map(|word| f64::from_le_bytes(word) as f32)),
            Element::F32 => out.extend(words(bytes).map(f32::from_le_bytes)),
            Element::F16 => out.extend(words(bytes).map(|word| f16::from_le_bytes(word).to_f32())),
            Element::U8 => out.extend(bytes.iter().map(|&byte| f32::from(byte))),
            Element::I8 => out.extend(words(bytes).map(|word| f32::from(i8::from_le_bytes(word)))),
        }
    }
}

fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks::<N>().0.iter().copied()
}
