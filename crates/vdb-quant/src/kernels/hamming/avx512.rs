//! AVX-512 VPOPCNTDQ: the bits of eight words a step; what is left at the end is loaded under a mask of words.

use std::arch::x86_64::{
    _mm_unpacklo_epi16, _mm256_cvtepu16_epi32, _mm256_loadu_si256, _mm256_storeu_si256, _mm512_add_epi64,
    _mm512_broadcast_i64x4, _mm512_castsi512_si128, _mm512_extracti32x4_epi32, _mm512_loadu_epi64,
    _mm512_maskz_loadu_epi64, _mm512_permutex_epi64, _mm512_popcnt_epi64, _mm512_reduce_add_epi64,
    _mm512_setzero_si512, _mm512_slli_epi64, _mm512_xor_si512,
};

use super::WORD;

/// Bytes of a code of 256 bits, of which a register holds two.
const SKETCH: usize = 32;
/// Rows of such codes that are counted together.
const EIGHT: usize = 8;

super::gather!(target_feature(enable = "avx512f,avx512vpopcntdq"));

/// # Safety
/// The CPU has AVX-512F and VPOPCNTDQ; the query is a multiple of 8 bytes, at least 8.
#[inline]
#[target_feature(enable = "avx512f,avx512vpopcntdq")]
pub(super) unsafe fn rows(query: &[u8], mut rows: &[u8], mut out: &mut [u32]) {
    if query.len() == SKETCH && out.len() >= EIGHT {
        let eights = out.len() / EIGHT * EIGHT;
        // SAFETY: this function's own contract; the query and the rows have 32 bytes.
        unsafe { eights_of_sketches(query, &rows[..eights * SKETCH], &mut out[..eights]) };
        (rows, out) = (&rows[eights * SKETCH..], &mut out[eights..]);
    }
    let whole = query.len() / 64 * 64;
    let mask = (1_u8 << ((query.len() - whole) / WORD)) - 1;
    for (row, out) in rows.chunks_exact(query.len()).zip(out) {
        let mut bits = _mm512_setzero_si512();
        for at in (0..whole).step_by(64) {
            // SAFETY: `at + 64 <= query.len() == row.len()`.
            let different = unsafe {
                _mm512_xor_si512(
                    _mm512_loadu_epi64(query.as_ptr().add(at).cast()),
                    _mm512_loadu_epi64(row.as_ptr().add(at).cast()),
                )
            };
            bits = _mm512_add_epi64(bits, _mm512_popcnt_epi64(different));
        }
        if mask != 0 {
            // SAFETY: the mask has a bit for each word after `whole`; words that it leaves out are not read.
            let different = unsafe {
                _mm512_xor_si512(
                    _mm512_maskz_loadu_epi64(mask, query.as_ptr().add(whole).cast()),
                    _mm512_maskz_loadu_epi64(mask, row.as_ptr().add(whole).cast()),
                )
            };
            bits = _mm512_add_epi64(bits, _mm512_popcnt_epi64(different));
        }
        *out = _mm512_reduce_add_epi64(bits) as u32;
    }
}

/// Eight rows a step. The bits of each word, at most 64, go into 16-bit fields: those of rows 0, 2, 4 and 6 into the lower
/// half of a register, of 1, 3, 5 and 7 into the upper one; then the four words of each half are added.
///
/// # Safety
/// The CPU has AVX-512F and VPOPCNTDQ; the query has 32 bytes, the rows are as many of 32 bytes as there are results, and
/// those a multiple of eight.
#[target_feature(enable = "avx512f,avx512vpopcntdq")]
unsafe fn eights_of_sketches(query: &[u8], rows: &[u8], out: &mut [u32]) {
    // SAFETY: the query has 32 bytes.
    let query = _mm512_broadcast_i64x4(unsafe { _mm256_loadu_si256(query.as_ptr().cast()) });
    for (rows, out) in rows.chunks_exact(EIGHT * SKETCH).zip(out.chunks_exact_mut(EIGHT)) {
        let bits = |pair: usize| {
            // SAFETY: `pair` is below 4, and there are four pairs of 64 bytes.
            let codes = unsafe { _mm512_loadu_epi64(rows.as_ptr().add(pair * 2 * SKETCH).cast()) };
            _mm512_popcnt_epi64(_mm512_xor_si512(query, codes))
        };
        let first = _mm512_add_epi64(bits(0), _mm512_slli_epi64::<16>(bits(1)));
        let last = _mm512_add_epi64(_mm512_slli_epi64::<32>(bits(2)), _mm512_slli_epi64::<48>(bits(3)));
        // A sum is at most 256, so no field runs over into the next.
        let words = _mm512_add_epi64(first, last);
        let twos = _mm512_add_epi64(words, _mm512_permutex_epi64::<0b01_00_11_10>(words));
        let sums = _mm512_add_epi64(twos, _mm512_permutex_epi64::<0b10_11_00_01>(twos));
        let (even, odd) = (_mm512_castsi512_si128(sums), _mm512_extracti32x4_epi32::<2>(sums));
        let counts = _mm256_cvtepu16_epi32(_mm_unpacklo_epi16(even, odd));
        // SAFETY: `out` is a chunk of eight.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), counts) };
    }
}
