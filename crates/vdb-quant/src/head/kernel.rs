//! The scan over blocks: integer products of sixteen rows at a time, then their bounds.
//!
//! Only the integer products need intrinsics. The bounds are plain loops over sixteen lanes, inlined into the function
//! that has the instruction set enabled and vectorised there; they use no fused multiply-add, so every path gives the
//! same bits.
//!
//! Integers: a code is at most 15 and a query integer at most 16,383, so sixteen-bit pairs of the AVX2 path stay below
//! 4 · 15 · 128 = 7,680, and the 32-bit sums below 15 · 16,383 · m · 2 < 2³¹ for m ≤ 4,096.

use super::query::{Constants, HeadQuery};
use super::{BLOCK_ROWS, FACTORS, LINE_BYTES, LINE_COORDINATES};
#[cfg(any(target_arch = "x86_64", test))]
use vdb_distance::Isa;
use vdb_distance::Kernels;

type Scan = unsafe fn(&HeadQuery, &[u8], &[f32], &mut [f32]);

/// Writes the lower bounds of whole blocks.
pub(super) fn lower_bounds(query: &HeadQuery, codes: &[u8], factors: &[f32], out: &mut [f32]) {
    let blocks = out.len() / BLOCK_ROWS;
    assert_eq!(codes.len(), blocks * query.lines() * LINE_BYTES);
    assert_eq!(factors.len(), blocks * FACTORS * BLOCK_ROWS);
    // SAFETY: `chosen` gives a scan that this CPU can run; the lengths were just checked.
    unsafe { chosen()(query, codes, factors, out) }
}

/// The best scan for this CPU, no better than what `VDB_ISA` allows.
fn chosen() -> Scan {
    match Kernels::get().isa() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 if x86_64::has_vnni() => x86_64::scan_vnni,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx2 => x86_64::scan_avx2,
        _ => scan_scalar,
    }
}

/// All scans that this CPU can run, for tests.
#[cfg(test)]
pub(super) fn available() -> Vec<(&'static str, Scan)> {
    let mut scans: Vec<(&'static str, Scan)> = vec![("scalar", scan_scalar)];
    #[cfg(target_arch = "x86_64")]
    {
        if Kernels::for_isa(Isa::Avx2).is_some() {
            scans.push(("avx2", x86_64::scan_avx2));
        }
        if Kernels::for_isa(Isa::Avx512).is_some() && x86_64::has_vnni() {
            scans.push(("avx512vnni", x86_64::scan_vnni));
        }
    }
    scans
}

/// Integer products of one block with the query.
trait Products {
    /// # Safety
    /// The CPU has the instruction set of the implementing type, and `block` holds `query.lines()` lines.
    unsafe fn products(query: &HeadQuery, block: &[u8]) -> [i32; BLOCK_ROWS];
}

/// # Safety
/// As for [`Products::products`]; lengths as [`lower_bounds`] checks them.
#[inline(always)]
unsafe fn scan<P: Products>(query: &HeadQuery, codes: &[u8], factors: &[f32], out: &mut [f32]) {
    let blocks = codes.chunks_exact(query.lines() * LINE_BYTES);
    let factors = factors.as_chunks::<BLOCK_ROWS>().0.as_chunks::<FACTORS>().0;
    for ((block, factors), out) in blocks.zip(factors).zip(out.as_chunks_mut::<BLOCK_ROWS>().0) {
        // SAFETY: this function's own contract; a chunk holds the query's number of lines.
        let products = unsafe { P::products(query, block) };
        bounds(&query.constants, query.correction, &products, factors, out);
    }
}

#[inline(always)]
fn bounds(
    q: &Constants,
    correction: i32,
    products: &[i32; BLOCK_ROWS],
    factors: &[[f32; BLOCK_ROWS]; FACTORS],
    out: &mut [f32; BLOCK_ROWS],
) {
    let [inverse_code_norm, z, residual, tail, square] = factors;
    for lane in 0..BLOCK_ROWS {
        // ⟨q̂_h, z⟩ / ‖z‖
        let along = (2 * products[lane] - correction) as f32 * q.unit * inverse_code_norm[lane];
        let certain = (along.abs() - q.delta).max(0.0);
        let across = (q.head_square - certain * certain).max(0.0).sqrt();
        let up = (along + q.delta) * z[lane] + across * residual[lane] + q.tail * tail[lane];
        let slack = q.slack_square * square[lane] + q.slack_norm * square[lane].sqrt() + q.slack_constant;
        out[lane] = q.offset + q.square_weight * square[lane] - q.product_weight * up - slack;
    }
}

struct Scalar;

impl Products for Scalar {
    #[inline(always)]
    unsafe fn products(query: &HeadQuery, block: &[u8]) -> [i32; BLOCK_ROWS] {
        let mut sums = [0i32; BLOCK_ROWS];
        for (line, planes) in block.as_chunks::<LINE_BYTES>().0.iter().zip(&query.planes) {
            let integer =
                |place: usize| 128 * i32::from(planes[place]) + i32::from(planes[LINE_COORDINATES + place]);
            for (sum, row) in sums.iter_mut().zip(line.as_chunks::<4>().0) {
                for (byte, &codes) in row.iter().enumerate() {
                    *sum += i32::from(codes & 15) * integer(byte) + i32::from(codes >> 4) * integer(byte + 4);
                }
            }
        }
        sums
    }
}

/// # Safety
/// None beyond the lengths: any CPU runs it.
unsafe fn scan_scalar(query: &HeadQuery, codes: &[u8], factors: &[f32], out: &mut [f32]) {
    // SAFETY: the scalar products need no instruction set.
    unsafe { scan::<Scalar>(query, codes, factors, out) }
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    //! AVX2 and AVX-512 VNNI products.

    use super::*;
    use std::arch::x86_64::*;
    use std::sync::OnceLock;

    pub(super) fn has_vnni() -> bool {
        static HAS: OnceLock<bool> = OnceLock::new();
        *HAS.get_or_init(|| is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vnni"))
    }

    /// # Safety
    /// On a CPU with AVX2.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn scan_avx2(query: &HeadQuery, codes: &[u8], factors: &[f32], out: &mut [f32]) {
        // SAFETY: this function's own contract.
        unsafe { scan::<Avx2>(query, codes, factors, out) }
    }

    /// # Safety
    /// On a CPU with AVX-512F, BW and VNNI.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(super) unsafe fn scan_vnni(query: &HeadQuery, codes: &[u8], factors: &[f32], out: &mut [f32]) {
        // SAFETY: this function's own contract.
        unsafe { scan::<Vnni>(query, codes, factors, out) }
    }

    /// The four quarters of a line's planes, as the integers that are broadcast: high plane for low and high nibbles,
    /// then low plane likewise.
    #[inline(always)]
    fn quarters(planes: &[i8; 2 * LINE_COORDINATES]) -> [i32; 4] {
        let quarter = |index: usize| {
            let bytes: [i8; 4] = [0, 1, 2, 3].map(|byte| planes[4 * index + byte]);
            i32::from_le_bytes(bytes.map(|byte| byte as u8))
        };
        [quarter(0), quarter(1), quarter(2), quarter(3)]
    }

    struct Vnni;

    impl Products for Vnni {
        #[inline(always)]
        unsafe fn products(query: &HeadQuery, block: &[u8]) -> [i32; BLOCK_ROWS] {
            // SAFETY: the trait's contract gives AVX-512F, BW and VNNI; every load reads one whole line of the block,
            // and the store fills the array.
            unsafe {
                let mask = _mm512_set1_epi8(15);
                let mut sums = [_mm512_setzero_si512(); 4];
                for (line, planes) in block.as_chunks::<LINE_BYTES>().0.iter().zip(&query.planes) {
                    let codes = _mm512_loadu_si512(line.as_ptr().cast());
                    let low = _mm512_and_si512(codes, mask);
                    let high = _mm512_and_si512(_mm512_srli_epi16::<4>(codes), mask);
                    let [a, b, c, d] = quarters(planes);
                    sums[0] = _mm512_dpbusd_epi32(sums[0], low, _mm512_set1_epi32(a));
                    sums[1] = _mm512_dpbusd_epi32(sums[1], high, _mm512_set1_epi32(b));
                    sums[2] = _mm512_dpbusd_epi32(sums[2], low, _mm512_set1_epi32(c));
                    sums[3] = _mm512_dpbusd_epi32(sums[3], high, _mm512_set1_epi32(d));
                }
                let high = _mm512_slli_epi32::<7>(_mm512_add_epi32(sums[0], sums[1]));
                let sum = _mm512_add_epi32(high, _mm512_add_epi32(sums[2], sums[3]));
                let mut products = [0i32; BLOCK_ROWS];
                _mm512_storeu_si512(products.as_mut_ptr().cast(), sum);
                products
            }
        }
    }

    struct Avx2;

    impl Products for Avx2 {
        #[inline(always)]
        unsafe fn products(query: &HeadQuery, block: &[u8]) -> [i32; BLOCK_ROWS] {
            let mut products = [0i32; BLOCK_ROWS];
            // SAFETY: the trait's contract gives AVX2; loads read half a line at offset 0 or 32, stores fill half of
            // the array.
            unsafe {
                let mask = _mm256_set1_epi8(15);
                let ones = _mm256_set1_epi16(1);
                for half in 0..2 {
                    let mut sums = [_mm256_setzero_si256(); 2];
                    for (line, planes) in block.as_chunks::<LINE_BYTES>().0.iter().zip(&query.planes) {
                        let codes = _mm256_loadu_si256(line.as_ptr().add(half * 32).cast());
                        let low = _mm256_and_si256(codes, mask);
                        let high = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), mask);
                        let [a, b, c, d] = quarters(planes).map(|quarter| _mm256_set1_epi32(quarter));
                        let upper =
                            _mm256_add_epi16(_mm256_maddubs_epi16(low, a), _mm256_maddubs_epi16(high, b));
                        let lower =
                            _mm256_add_epi16(_mm256_maddubs_epi16(low, c), _mm256_maddubs_epi16(high, d));
                        sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(upper, ones));
                        sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(lower, ones));
                    }
                    let sum = _mm256_add_epi32(_mm256_slli_epi32::<7>(sums[0]), sums[1]);
                    _mm256_storeu_si256(products.as_mut_ptr().add(half * 8).cast(), sum);
                }
            }
            products
        }
    }
}
