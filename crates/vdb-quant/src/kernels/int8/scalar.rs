//! Portable integer kernels: the shared loop over plain arrays, which the compiler vectorises for its baseline.

use super::generic::{Lanes, table};
use super::{CHUNK, Int8Isa};

table!(Int8Isa::Scalar, Array,);

/// Sixty-four codes and one sum: integer sums may be taken in any order, so the compiler makes its own lanes.
struct Array;

impl Lanes for Array {
    const OFFSET: i32 = 0;
    type Codes = [u8; CHUNK];
    type Sums = i32;

    #[inline(always)]
    unsafe fn zero() -> i32 {
        0
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> [u8; CHUNK] {
        // SAFETY: 64 bytes are readable, by the trait's contract; bytes have no alignment.
        unsafe { from.cast::<[u8; CHUNK]>().read() }
    }

    #[inline(always)]
    unsafe fn nibbles(codes: [u8; CHUNK]) -> [[u8; CHUNK]; 2] {
        [codes.map(|code| code & 15), codes.map(|code| code >> 4)]
    }

    #[inline(always)]
    unsafe fn bytes(sums: i32, codes: [u8; CHUNK], query: *const i8) -> i32 {
        // SAFETY: 64 bytes are readable, by the trait's contract; bytes have no alignment.
        let query = unsafe { query.cast::<[i8; CHUNK]>().read() };
        let mut sum = 0_i32;
        for (&code, &value) in codes.iter().zip(&query) {
            // Inside 16 bits each, which lets the compiler use its product of pairs.
            sum = sum.wrapping_add(i32::from(i16::from(code)) * i32::from(i16::from(value)));
        }
        sums.wrapping_add(sum)
    }

    #[inline(always)]
    unsafe fn small(sums: i32, codes: [u8; CHUNK], query: *const i8) -> i32 {
        // SAFETY: this function's own contract.
        unsafe { Self::bytes(sums, codes, query) }
    }

    #[inline(always)]
    unsafe fn total(sums: [i32; 4]) -> i32 {
        sums[0] + sums[1] + sums[2] + sums[3]
    }

    #[inline(always)]
    unsafe fn totals(sums: [i32; 4]) -> [i32; 4] {
        sums
    }
}
