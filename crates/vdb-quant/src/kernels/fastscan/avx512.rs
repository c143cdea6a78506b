//! AVX-512 VBMI and VNNI FastScan: a group of four tables is one register, looked up by nibble and place in the word.

use std::arch::x86_64::{
    __m512i, _CMP_NGE_UQ, _mm512_abs_ps, _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512,
    _mm512_castsi512_ps, _mm512_cmp_ps_mask, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_mul_ps, _mm512_permutexvar_epi8, _mm512_set1_epi8, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_setzero_si512, _mm512_slli_epi32, _mm512_srli_epi16, _mm512_storeu_ps,
    _mm512_storeu_si512, _mm512_sub_ps, _mm512_ternarylogic_epi32,
};

use super::{BLOCK, BLOCK_FACTOR_BYTES, BlockEstimates, GROUP_BYTES, Scale, Tables8};

/// `(a & b) | c` as a truth table.
const AND_OR: i32 = 0xEA;

/// # Safety
/// The CPU has AVX-512F, BW, VBMI and VNNI; `codes` and `tables` are of one length, a multiple of 64.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
pub(super) unsafe fn scan(codes: &[u8], tables: &[u8], sums: &mut [u32; BLOCK]) {
    // SAFETY: this function's own contract; `sums` is 128 writable bytes.
    unsafe {
        let [first, second] = sums_of(codes.as_ptr(), tables);
        _mm512_storeu_si512(sums.as_mut_ptr().cast(), first);
        _mm512_storeu_si512(sums.as_mut_ptr().add(16).cast(), second);
    }
}

/// Sums of vectors 0 to 15 and 16 to 31.
///
/// # Safety
/// As [`scan`], with as many bytes of codes as of tables.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
unsafe fn sums_of(codes: *const u8, tables: &[u8]) -> [__m512i; 2] {
    let low = _mm512_set1_epi8(0x0F);
    // Which of the group's four tables a byte of a word belongs to.
    let table = _mm512_set1_epi32(0x3020_1000);
    let ones = _mm512_set1_epi8(1);
    let mut acc = [_mm512_setzero_si512(); 4];
    let mut step = |at: usize, pair: usize| {
        // SAFETY: the callers keep `at + 64` within both.
        let (codes, tables) = unsafe {
            (_mm512_loadu_si512(codes.add(at).cast()), _mm512_loadu_si512(tables.as_ptr().add(at).cast()))
        };
        let first = _mm512_ternarylogic_epi32::<AND_OR>(codes, low, table);
        let second = _mm512_ternarylogic_epi32::<AND_OR>(_mm512_srli_epi16::<4>(codes), low, table);
        acc[pair] = _mm512_dpbusd_epi32(acc[pair], _mm512_permutexvar_epi8(first, tables), ones);
        acc[pair + 1] = _mm512_dpbusd_epi32(acc[pair + 1], _mm512_permutexvar_epi8(second, tables), ones);
    };
    let groups = tables.len() / GROUP_BYTES;
    for pair in 0..groups / 2 {
        step(pair * 2 * GROUP_BYTES, 0);
        step((pair * 2 + 1) * GROUP_BYTES, 2);
    }
    if groups % 2 == 1 {
        step((groups - 1) * GROUP_BYTES, 0);
    }
    [_mm512_add_epi32(acc[0], acc[2]), _mm512_add_epi32(acc[1], acc[3])]
}

/// # Safety
/// The CPU has AVX-512F, BW, VBMI and VNNI; otherwise as for every estimate.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
pub(super) unsafe fn estimate(blocks: &[u8], tables: Tables8<'_>, scale: &Scale, out: &mut [BlockEstimates]) {
    let block_bytes = BLOCK_FACTOR_BYTES + tables.low.len();
    for (block, out) in blocks.chunks_exact(block_bytes).zip(out) {
        if out.near == 0 {
            continue;
        }
        // SAFETY: a block is its factors and as many bytes of codes as there are of tables.
        unsafe {
            let codes = block.as_ptr().add(BLOCK_FACTOR_BYTES);
            let mut sums = sums_of(codes, tables.low);
            if !tables.high.is_empty() {
                let high = sums_of(codes, tables.high);
                for (sums, high) in sums.iter_mut().zip(high) {
                    *sums = _mm512_add_epi32(*sums, _mm512_slli_epi32::<8>(high));
                }
            }
            finish(block, sums, scale, out);
        }
    }
}

/// The same operations in the same order as [`super::estimate`]'s definition.
///
/// # Safety
/// As [`estimate`], for one block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn finish(block: &[u8], sums: [__m512i; 2], scale: &Scale, out: &mut BlockEstimates) {
    let (offset, step, list) =
        (_mm512_set1_ps(scale.offset), _mm512_set1_ps(scale.step), _mm512_set1_ps(scale.list));
    let (spread, rounding) = (_mm512_set1_ps(scale.spread), _mm512_set1_ps(scale.rounding));
    let (limit, upper) = (_mm512_set1_ps(scale.limit), _mm512_set1_epi32(0xFFFF_0000_u32.cast_signed()));
    let mut near = 0;
    for (half, sums) in sums.into_iter().enumerate() {
        let at = half * 16;
        // SAFETY: a block starts with 64 numbers of four bytes, of which these are 16 and 16; `out` holds 32 of each.
        unsafe {
            let add = _mm512_loadu_ps(block.as_ptr().add(at * 4).cast());
            let pair = _mm512_loadu_si512(block.as_ptr().add((BLOCK + at) * 4).cast());
            let rescale = _mm512_castsi512_ps(_mm512_and_si512(pair, upper));
            let error = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(pair));
            let product = _mm512_add_ps(offset, _mm512_mul_ps(step, _mm512_cvtepi32_ps(sums)));
            let distance = _mm512_add_ps(_mm512_add_ps(add, list), _mm512_mul_ps(rescale, product));
            let width =
                _mm512_add_ps(_mm512_mul_ps(spread, error), _mm512_mul_ps(rounding, _mm512_abs_ps(rescale)));
            let bound = _mm512_sub_ps(distance, width);
            _mm512_storeu_ps(out.product.as_mut_ptr().add(at), product);
            _mm512_storeu_ps(out.distance.as_mut_ptr().add(at), distance);
            _mm512_storeu_ps(out.bound.as_mut_ptr().add(at), bound);
            near |= u32::from(_mm512_cmp_ps_mask::<_CMP_NGE_UQ>(bound, limit)) << at;
        }
    }
    out.near &= near;
}
