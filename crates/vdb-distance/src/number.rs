//! The element types of stored vectors, one number at a time: `f32` to and from each, to nearest with ties to even,
//! saturating at the greatest finite value. NaN stays NaN, and is 0 as a byte.

/// How the values of a vector are stored, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ElementType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of `f32`.
    Bf16,
    /// Unsigned bytes.
    U8,
}

impl ElementType {
    /// Bytes of a value.
    pub const fn bytes(self) -> usize {
        match self {
            ElementType::F32 => 4,
            ElementType::F16 | ElementType::Bf16 => 2,
            ElementType::U8 => 1,
        }
    }

    /// The number that stands for it in files.
    pub const fn to_u32(self) -> u32 {
        match self {
            ElementType::F32 => 0,
            ElementType::F16 => 1,
            ElementType::Bf16 => 2,
            ElementType::U8 => 3,
        }
    }

    /// The type that a number in a file stands for.
    pub const fn from_u32(number: u32) -> Option<ElementType> {
        Some(match number {
            0 => ElementType::F32,
            1 => ElementType::F16,
            2 => ElementType::Bf16,
            3 => ElementType::U8,
            _ => return None,
        })
    }

    /// Whether every value of a vector returns from it bit for bit.
    pub fn is_exact(self, vector: &[f32]) -> bool {
        /// Looked at without an early end, so that the loop is vectorised.
        const TOGETHER: usize = 64;
        fn all<N: Number>(vector: &[f32]) -> bool {
            let is_exact = |value: &f32| N::rounded(*value).to_bits() == value.to_bits();
            let mut some = vector.chunks(TOGETHER);
            some.all(|values| values.iter().fold(true, |exact, value| exact & is_exact(value)))
        }
        match self {
            ElementType::F32 => true,
            ElementType::F16 => all::<F16>(vector),
            ElementType::Bf16 => all::<Bf16>(vector),
            ElementType::U8 => all::<U8>(vector),
        }
    }

    /// Writes the nearest values there are.
    ///
    /// # Panics
    /// When `bytes` is not as long as that many values.
    pub fn encode(self, vector: &[f32], bytes: &mut [u8]) {
        assert_eq!(bytes.len(), vector.len() * self.bytes(), "bytes of {} values", vector.len());
        fn all<N: Number>(vector: &[f32], bytes: &mut [u8]) {
            for (&value, bytes) in vector.iter().zip(bytes.chunks_exact_mut(N::BYTES)) {
                N::encode(value, bytes);
            }
        }
        match self {
            ElementType::F32 => all::<F32>(vector, bytes),
            ElementType::F16 => all::<F16>(vector, bytes),
            ElementType::Bf16 => all::<Bf16>(vector, bytes),
            ElementType::U8 => all::<U8>(vector, bytes),
        }
    }

    /// Reads values, exactly.
    ///
    /// # Panics
    /// When `bytes` is not as long as `vector` in values.
    pub fn decode(self, bytes: &[u8], vector: &mut [f32]) {
        assert_eq!(bytes.len(), vector.len() * self.bytes(), "bytes of {} values", vector.len());
        fn all<N: Number>(bytes: &[u8], vector: &mut [f32]) {
            for (value, bytes) in vector.iter_mut().zip(bytes.chunks_exact(N::BYTES)) {
                *value = N::decode(bytes);
            }
        }
        match self {
            ElementType::F32 => all::<F32>(bytes, vector),
            ElementType::F16 => all::<F16>(bytes, vector),
            ElementType::Bf16 => all::<Bf16>(bytes, vector),
            ElementType::U8 => all::<U8>(bytes, vector),
        }
    }
}

/// An [`ElementType`] as a type: [`F32`], [`F16`], [`Bf16`] or [`U8`].
pub trait Number: sealed::Sealed + Copy + Send + Sync + std::fmt::Debug + 'static {
    /// Which it is.
    const TYPE: ElementType;
    /// Bytes of a number.
    const BYTES: usize = Self::TYPE.bytes();

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

    /// The nearest number there is.
    #[inline(always)]
    fn rounded(value: f32) -> f32 {
        let mut bytes = [0; 4];
        Self::encode(value, &mut bytes[..Self::BYTES]);
        Self::decode(&bytes[..Self::BYTES])
    }
}

mod sealed {
    /// Formats that kernels exist for.
    pub trait Sealed {}
}

/// Single precision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct F32;

/// Half precision: 1 sign bit, 5 bits of exponent, 10 of fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct F16;

/// The upper sixteen bits of `f32`: 8 bits of exponent, 7 of fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bf16;

/// Unsigned bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct U8;

impl sealed::Sealed for F32 {}
impl sealed::Sealed for F16 {}
impl sealed::Sealed for Bf16 {}
impl sealed::Sealed for U8 {}

impl Number for F32 {
    const TYPE: ElementType = ElementType::F32;

    fn encode(value: f32, bytes: &mut [u8]) {
        bytes.copy_from_slice(&value.to_le_bytes());
    }

    fn decode(bytes: &[u8]) -> f32 {
        f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }
}

impl Number for F16 {
    const TYPE: ElementType = ElementType::F16;

    #[inline(always)]
    fn encode(value: f32, bytes: &mut [u8]) {
        bytes.copy_from_slice(&f16_bits(value).to_le_bytes());
    }

    #[inline(always)]
    fn decode(bytes: &[u8]) -> f32 {
        f16_value(u16::from_le_bytes([bytes[0], bytes[1]]))
    }
}

impl Number for Bf16 {
    const TYPE: ElementType = ElementType::Bf16;

    #[inline(always)]
    fn encode(value: f32, bytes: &mut [u8]) {
        bytes.copy_from_slice(&bf16_bits(value).to_le_bytes());
    }

    #[inline(always)]
    fn decode(bytes: &[u8]) -> f32 {
        f32::from_bits(u32::from(u16::from_le_bytes([bytes[0], bytes[1]])) << 16)
    }
}

impl Number for U8 {
    const TYPE: ElementType = ElementType::U8;

    #[inline(always)]
    #[expect(clippy::manual_clamp, reason = "NaN is to become 0")]
    fn encode(value: f32, bytes: &mut [u8]) {
        // NaN becomes 0. From 2²³ to 2²⁴ the last bit of a number is worth 1: the sum is rounded as it should be.
        let bits = (value.max(0.0).min(255.0) + 8_388_608.0).to_bits();
        bytes.copy_from_slice(&[bits as u8]);
    }

    #[inline(always)]
    fn decode(bytes: &[u8]) -> f32 {
        f32::from(bytes[0])
    }
}

/// Without branches, as all conversions here, so that loops over it are vectorised.
#[inline(always)]
fn f16_bits(value: f32) -> u16 {
    const GREATEST: u32 = 0x7bff;
    let bits = value.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    // The bits of numbers are in the order of the numbers. Below the least normal number, 2⁻¹⁴, numbers are multiples of 2⁻²⁴:
    // adding 1.5 · 2⁻¹ rounds to those, as its last bit is worth that, and the sum's last bits are the count. Above, rounding is
    // that of the bits themselves, and a carry into the exponent is right.
    let small = (f32::from_bits(magnitude) + 0.75).to_bits().wrapping_sub(0.75_f32.to_bits());
    let rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
    let normal = (rounded >> 13).wrapping_sub((127 - 15) << 10);
    let code = if magnitude < 6.103_515_6e-5_f32.to_bits() { small } else { normal };
    let code = if magnitude >= 65_504_f32.to_bits() { GREATEST } else { code };
    let code = if magnitude > f32::INFINITY.to_bits() { 0x7e00 } else { code };
    (bits >> 16 & 0x8000 | code) as u16
}

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

#[inline(always)]
fn bf16_bits(value: f32) -> u16 {
    const GREATEST: u32 = 0x7f7f;
    let bits = value.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    let rounded = (magnitude + 0x7fff + (magnitude >> 16 & 1)) >> 16;
    let code = if magnitude > f32::INFINITY.to_bits() { 0x7fc0 } else { rounded.min(GREATEST) };
    (bits >> 16 & 0x8000 | code) as u16
}

#[cfg(test)]
mod tests {
    //! Conversions over all bit patterns.

    use super::*;

    fn code<N: Number>(value: f32) -> u32 {
        let mut bytes = [0; 4];
        N::encode(value, &mut bytes[..N::BYTES]);
        u32::from_le_bytes(bytes)
    }

    /// The number nearest to each midpoint between two neighbours, and just beside it.
    fn check_rounding<N: Number>(below: u32, above: u32) {
        let value = |bits: u32| f64::from(N::decode(&bits.to_le_bytes()[..N::BYTES]));
        let middle = ((value(below) + value(above)) / 2.0) as f32;
        let even = if below.is_multiple_of(2) { below } else { above };
        assert_eq!(code::<N>(middle), even, "{middle}");
        assert_eq!(code::<N>(middle.next_down()), below, "{middle} less a little");
        assert_eq!(code::<N>(middle.next_up()), above, "{middle} and a little");
    }

    #[test]
    fn every_short_number_returns_and_midpoints_go_to_even() {
        for bits in 0..=u16::MAX {
            let f16 = f16_value(bits);
            if f16.is_finite() {
                assert_eq!(code::<F16>(f16), u32::from(bits), "{f16}");
            } else {
                assert_eq!(f16.is_nan(), bits & 0x3ff != 0);
            }
            let bf16 = Bf16::decode(&bits.to_le_bytes());
            if bf16.is_finite() {
                assert_eq!(code::<Bf16>(bf16), u32::from(bits), "{bf16}");
            }
        }
        (0..0x7bff).for_each(|bits| check_rounding::<F16>(bits, bits + 1));
        (0..0x7f7f).for_each(|bits| check_rounding::<Bf16>(bits, bits + 1));
        (0..255).for_each(|bits| check_rounding::<U8>(bits, bits + 1));
    }

    #[test]
    fn numbers_out_of_range_saturate() {
        for huge in [65_505.0, 1e30, f32::INFINITY] {
            assert_eq!(F16::decode(&(code::<F16>(huge) as u16).to_le_bytes()), 65_504.0);
            assert_eq!(F16::decode(&(code::<F16>(-huge) as u16).to_le_bytes()), -65_504.0);
        }
        assert_eq!(code::<Bf16>(f32::MAX), 0x7f7f);
        assert_eq!(code::<Bf16>(f32::NEG_INFINITY), 0xff7f);
        assert!(F16::decode(&(code::<F16>(f32::NAN) as u16).to_le_bytes()).is_nan());
        assert!(Bf16::decode(&(code::<Bf16>(f32::NAN) as u16).to_le_bytes()).is_nan());
        assert_eq!([-3.0, 300.0, f32::NAN].map(code::<U8>), [0, 255, 0]);
    }
}
