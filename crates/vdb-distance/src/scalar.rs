//! Portable kernels: the shared loop over a plain array, which the compiler vectorises for its baseline.
//! Products are rounded before they are added, because a fused multiply-add is a library call on CPUs without
//! the instruction.

use crate::generic::{LANES, Lanes, table};
use crate::number::f16_value;

table!(Isa::Scalar, Array, 2 x 2,);

#[derive(Clone, Copy)]
struct Array([f32; LANES]);

impl Array {
    #[inline(always)]
    fn zip(self, other: Array, f: impl Fn(f32, f32) -> f32) -> Array {
        Array(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

/// # Safety
/// Sixteen pairs of bytes are readable.
#[inline(always)]
unsafe fn pairs(from: *const u8) -> [u16; LANES] {
    // SAFETY: this function's own contract; bytes have no alignment.
    unsafe { from.cast::<[[u8; 2]; LANES]>().read() }.map(u16::from_le_bytes)
}

impl Lanes for Array {
    #[inline(always)]
    unsafe fn zero() -> Self {
        Array([0.0; LANES])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: sixteen floats are readable, by the trait's contract, and an array of floats is aligned
        // like a float.
        Array(unsafe { from.cast::<[f32; LANES]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn load_partial(from: *const f32, count: usize) -> Self {
        let mut lanes = [0.0; LANES];
        // SAFETY: `count` floats are readable, by the trait's contract, and fewer than the array holds.
        unsafe { std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), count) };
        Array(lanes)
    }

    #[inline(always)]
    unsafe fn f16(from: *const u8) -> Self {
        // SAFETY: sixteen pairs of bytes are readable, by the trait's contract.
        Array(unsafe { pairs(from) }.map(f16_value))
    }

    #[inline(always)]
    unsafe fn bf16(from: *const u8) -> Self {
        // SAFETY: sixteen pairs of bytes are readable, by the trait's contract.
        Array(unsafe { pairs(from) }.map(|bits| f32::from_bits(u32::from(bits) << 16)))
    }

    #[inline(always)]
    unsafe fn u8(from: *const u8) -> Self {
        // SAFETY: sixteen bytes are readable, by the trait's contract; bytes have no alignment.
        Array(unsafe { from.cast::<[u8; LANES]>().read() }.map(f32::from))
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |x, y| x + y)
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |x, y| x - y)
    }

    #[inline(always)]
    unsafe fn abs(self) -> Self {
        Array(self.0.map(f32::abs))
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        self.zip(factor, |x, y| x * y).zip(addend, |product, y| product + y)
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let mut lanes = self.0;
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                lanes[i] += lanes[i + half];
            }
        }
        lanes[0]
    }
}
