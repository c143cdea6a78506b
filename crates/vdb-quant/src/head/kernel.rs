//! The scan over blocks: integer products of sixteen rows at a time, then their bounds.
//!
//! Only the integer products need intrinsics. The bounds are plain loops over sixteen lanes, inlined into the function
//! that has the instruction set enabled and vectorised there; they use no fused multiply-add, so every path gives the
//! same bits.
//!
//! Integers: a code is at most 15 and a query integer at most 16,383, so sixteen-bit pairs of the AVX2 path stay below
//! 4 · 15 · 128 = 7,680, and the 32-bit sums below 15 · 16,383 · m · 2 < 2³¹ for m ≤ 4,096.

use super::query::{Constants, HeadQuery};
use super::{BLOCK_ROWS, FACTOR_BYTES, LINE_BYTES, LINE_COORDINATES, Near, WORD_BLOCKS, ranges};
use vdb_distance::{Isa, Kernels};

/// What is taken off every bound for products that are too small for `f32`.
const TINY: f32 = 1e-43;
/// Room for the roundings of a sum of three squares.
const KEPT: f32 = 1.0 - 8.0 * f32::EPSILON;

/// One scan over whole blocks.
pub(super) struct Scan<'a> {
    pub(super) query: &'a HeadQuery,
    /// Constants for the high plane of the query and for both.
    pub(super) high: Constants,
    pub(super) full: Constants,
    pub(super) codes: &'a [u8],
    pub(super) factors: &'a [u8],
    /// A bit for every row.
    pub(super) allowed: &'a [u64],
    pub(super) first_row: usize,
    pub(super) limit: f32,
    /// Whether the query's low plane says more of the rows that its high plane leaves.
    pub(super) both_planes: bool,
}

type Run = unsafe fn(&Scan<'_>, &mut Vec<Near>);

impl Scan<'_> {
    /// Adds the rows that may be near to `out`, by the best path for this CPU that `VDB_ISA` allows.
    pub(super) fn run(&self, out: &mut Vec<Near>) {
        let run = for_isa(Kernels::get().isa());
        // SAFETY: `for_isa` gives a path that this CPU can run.
        unsafe { run(self, out) }
    }
}

fn for_isa(isa: Isa) -> Run {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 if x86_64::has_vnni() => x86_64::scan_vnni,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx2 => x86_64::scan_avx2,
        _ => scan_scalar,
    }
}

/// The answers of all paths that this CPU can run.
#[cfg(test)]
pub(super) fn all(scan: &Scan<'_>) -> Vec<(Isa, Vec<Near>)> {
    let answer = |isa| {
        let mut out = Vec::new();
        // SAFETY: only instruction sets that this CPU has are asked for.
        unsafe { for_isa(isa)(scan, &mut out) };
        (isa, out)
    };
    Kernels::available().into_iter().map(answer).collect()
}

/// What takes intrinsics.
trait Products {
    /// Integer products of one block with the high plane of the query.
    ///
    /// # Safety
    /// The CPU has the instruction set of the implementing type.
    unsafe fn high_products(query: &HeadQuery, block: &[u8]) -> [i32; BLOCK_ROWS];

    /// Integer products of one block with the query.
    ///
    /// # Safety
    /// As for [`high_products`](Self::high_products).
    unsafe fn products(query: &HeadQuery, block: &[u8]) -> [i32; BLOCK_ROWS];

    /// A bit for every row whose bound is not above the limit; one that is no number is not.
    ///
    /// # Safety
    /// As for [`high_products`](Self::high_products).
    unsafe fn near(lower: &[f32; BLOCK_ROWS], limit: f32) -> u16;
}

/// # Safety
/// As for [`Products::products`].
#[inline(always)]
unsafe fn scan<P: Products>(scan: &Scan<'_>, out: &mut Vec<Near>) {
    let block_bytes = scan.query.lines() * LINE_BYTES;
    let factors = scan.factors.as_chunks::<FACTOR_BYTES>().0.chunks(WORD_BLOCKS);
    for (number, (blocks, factors)) in scan.codes.chunks(WORD_BLOCKS * block_bytes).zip(factors).enumerate() {
        let allowed = scan.allowed[number];
        if allowed == 0 {
            continue;
        }
        // Four blocks together: the bounds of one are a long chain, and four chains side by side overlap.
        let mut sums = [[0i32; BLOCK_ROWS]; WORD_BLOCKS];
        for (place, (block, sums)) in blocks.chunks_exact(block_bytes).zip(&mut sums).enumerate() {
            if lanes_of(allowed, place) != 0 {
                // SAFETY: this function's own contract.
                let products = unsafe { P::high_products(scan.query, block) };
                *sums = products.map(|product| 2 * product - scan.query.high.correction);
            }
        }
        let mut near = 0u64;
        let mut lower = [[0.0; BLOCK_ROWS]; WORD_BLOCKS];
        for (place, (sums, factors)) in sums.iter().zip(factors).enumerate() {
            lower[place] = lower_bounds(&scan.high, sums, factors);
            // SAFETY: this function's own contract.
            near |= u64::from(unsafe { P::near(&lower[place], scan.limit) }) << (place * BLOCK_ROWS);
        }
        near &= allowed;
        if near == 0 {
            continue;
        }
        if !scan.both_planes {
            let first = scan.first_row + number * WORD_BLOCKS * BLOCK_ROWS;
            while near != 0 {
                let row = near.trailing_zeros() as usize;
                near &= near - 1;
                let (place, lane) = (row / BLOCK_ROWS, row % BLOCK_ROWS);
                let estimate = estimate(&scan.high, sums[place][lane], ranges::read(&factors[place], lane));
                out.push(Near { row: (first + row) as u32, lower: lower[place][lane], estimate });
            }
            continue;
        }
        for (place, (block, factors)) in blocks.chunks_exact(block_bytes).zip(factors).enumerate() {
            let lanes = lanes_of(near, place);
            if lanes != 0 {
                // SAFETY: this function's own contract.
                let products = unsafe { P::products(scan.query, block) };
                let first = scan.first_row + (number * WORD_BLOCKS + place) * BLOCK_ROWS;
                push_near(scan, first, lanes, &products, factors, out);
            }
        }
    }
}

/// The bits of one of a word's blocks.
#[inline(always)]
fn lanes_of(word: u64, place: usize) -> u16 {
    (word >> (place * BLOCK_ROWS)) as u16
}

/// Adds those of a block's `lanes` whose bounds by both planes are not above the limit.
#[inline(always)]
fn push_near(
    scan: &Scan<'_>,
    first: usize,
    mut lanes: u16,
    products: &[i32; BLOCK_ROWS],
    factors: &[u8; FACTOR_BYTES],
    out: &mut Vec<Near>,
) {
    let q = &scan.full;
    while lanes != 0 {
        let lane = lanes.trailing_zeros() as usize;
        lanes &= lanes - 1;
        let sum = 2 * products[lane] - scan.query.full.correction;
        let steps = ranges::read(factors, lane);
        let lower =
            if q.is_dot { lower_bound::<true>(q, sum, steps) } else { lower_bound::<false>(q, sum, steps) };
        if lower <= scan.limit || lower.is_nan() {
            out.push(Near { row: (first + lane) as u32, lower, estimate: estimate(q, sum, steps) });
        }
    }
}

/// A row's α, β, ρ and least ‖x_t‖ from the integer ⟨q̂_h, c⟩ and its steps.
#[inline(always)]
fn lengths(q: &Constants, sum: f32, steps: [f32; 4]) -> [f32; 4] {
    let [along, inverse_norm, across, tail] = steps;
    [sum * q.unit * inverse_norm, along * q.along_step, across * q.across_step, tail * q.tail_step]
}

#[inline(always)]
fn lower_bounds(q: &Constants, sums: &[i32; BLOCK_ROWS], factors: &[u8; FACTOR_BYTES]) -> [f32; BLOCK_ROWS] {
    let mut lower = [0.0; BLOCK_ROWS];
    if q.is_dot {
        for lane in 0..BLOCK_ROWS {
            lower[lane] = lower_bound::<true>(q, sums[lane], ranges::read(factors, lane));
        }
    } else {
        for lane in 0..BLOCK_ROWS {
            lower[lane] = lower_bound::<false>(q, sums[lane], ranges::read(factors, lane));
        }
    }
    lower
}

#[inline(always)]
fn lower_bound<const DOT: bool>(q: &Constants, sum: i32, steps: [f32; 4]) -> f32 {
    let lower = bound::<DOT>(q, sum as f32, steps);
    if steps[2] < f32::from(ranges::UNBOUNDED) { lower } else { f32::NEG_INFINITY }
}

/// The bound of a row whose lengths are known.
#[inline(always)]
pub(super) fn bound<const DOT: bool>(q: &Constants, sum: f32, steps: [f32; 4]) -> f32 {
    let [alpha, beta, rho, tail] = lengths(q, sum, steps);
    let rest = (q.head_square - alpha * alpha * q.alpha_weight).max(0.0).sqrt();
    if DOT {
        let straight =
            alpha * beta + (q.alpha_error * beta + alpha.abs() * q.beta_error + q.alpha_error * q.beta_error);
        let aside = (rest + q.across_error) * (rho + q.row_error);
        q.offset - straight - aside - q.tail_high * (tail + q.tail_width)
    } else {
        let straight = ((alpha - beta).abs() - q.along_error).max(0.0);
        let aside = (rest - rho - q.across_error).max(0.0);
        let gap = (q.tail_low - tail).max(tail - q.tail_high).max(0.0);
        (straight * straight + aside * aside + gap * gap) * KEPT - TINY
    }
}

/// The distance, if what is across the code and in the tail were as far from the query's as chance has it.
#[inline(always)]
fn estimate(q: &Constants, sum: i32, steps: [f32; 4]) -> f32 {
    let [alpha, beta, rho, tail] = lengths(q, sum as f32, steps);
    if steps[2] >= f32::from(ranges::UNBOUNDED) {
        return f32::NEG_INFINITY;
    }
    if q.is_dot {
        return q.offset - alpha * beta;
    }
    let rest = (q.head_square - alpha * alpha).max(0.0);
    let (along, tail) = (alpha - beta, tail + 0.5 * q.tail_width);
    along * along + rest + rho * rho + q.tail_high * q.tail_high + tail * tail
}

struct Scalar;

impl Products for Scalar {
    #[inline(always)]
    unsafe fn high_products(query: &HeadQuery, block: &[u8]) -> [i32; BLOCK_ROWS] {
        let mut sums = [0i32; BLOCK_ROWS];
        for (line, planes) in block.as_chunks::<LINE_BYTES>().0.iter().zip(&query.planes) {
            for (sum, row) in sums.iter_mut().zip(line.as_chunks::<4>().0) {
                for (byte, &codes) in row.iter().enumerate() {
                    *sum += i32::from(codes & 15) * i32::from(planes[byte])
                        + i32::from(codes >> 4) * i32::from(planes[byte + 4]);
                }
            }
        }
        sums
    }

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

    #[inline(always)]
    unsafe fn near(lower: &[f32; BLOCK_ROWS], limit: f32) -> u16 {
        let lanes = lower.iter().enumerate();
        lanes.fold(0, |mask, (lane, &lower)| mask | u16::from(lower <= limit || lower.is_nan()) << lane)
    }
}

/// # Safety
/// None needed: any CPU runs it.
unsafe fn scan_scalar(one: &Scan<'_>, out: &mut Vec<Near>) {
    // SAFETY: the scalar products need no instruction set.
    unsafe { scan::<Scalar>(one, out) }
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
    pub(super) unsafe fn scan_avx2(one: &Scan<'_>, out: &mut Vec<Near>) {
        // SAFETY: this function's own contract.
        unsafe { scan::<Avx2>(one, out) }
    }

    /// # Safety
    /// On a CPU with AVX-512F, BW and VNNI.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    pub(super) unsafe fn scan_vnni(one: &Scan<'_>, out: &mut Vec<Near>) {
        // SAFETY: this function's own contract.
        unsafe { scan::<Vnni>(one, out) }
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
        unsafe fn high_products(query: &HeadQuery, block: &[u8]) -> [i32; BLOCK_ROWS] {
            // SAFETY: the trait's contract gives AVX-512F, BW and VNNI; every load reads one whole line of the block,
            // and the store fills the array.
            unsafe {
                let mask = _mm512_set1_epi8(15);
                // Two lines at a time: sums of one would wait for each other.
                let mut sums = [_mm512_setzero_si512(); 4];
                let (pairs, last) = block.as_chunks::<LINE_BYTES>().0.as_chunks::<2>();
                let (pair_planes, last_planes) = query.planes.as_chunks::<2>();
                for (lines, planes) in pairs.iter().zip(pair_planes) {
                    for side in 0..2 {
                        let codes = _mm512_loadu_si512(lines[side].as_ptr().cast());
                        let low = _mm512_and_si512(codes, mask);
                        let high = _mm512_and_si512(_mm512_srli_epi16::<4>(codes), mask);
                        let [a, b, ..] = quarters(&planes[side]);
                        sums[2 * side] = _mm512_dpbusd_epi32(sums[2 * side], low, _mm512_set1_epi32(a));
                        sums[2 * side + 1] =
                            _mm512_dpbusd_epi32(sums[2 * side + 1], high, _mm512_set1_epi32(b));
                    }
                }
                for (line, planes) in last.iter().zip(last_planes) {
                    let codes = _mm512_loadu_si512(line.as_ptr().cast());
                    let low = _mm512_and_si512(codes, mask);
                    let high = _mm512_and_si512(_mm512_srli_epi16::<4>(codes), mask);
                    let [a, b, ..] = quarters(planes);
                    sums[0] = _mm512_dpbusd_epi32(sums[0], low, _mm512_set1_epi32(a));
                    sums[1] = _mm512_dpbusd_epi32(sums[1], high, _mm512_set1_epi32(b));
                }
                let sum =
                    _mm512_add_epi32(_mm512_add_epi32(sums[0], sums[1]), _mm512_add_epi32(sums[2], sums[3]));
                let mut products = [0i32; BLOCK_ROWS];
                _mm512_storeu_si512(products.as_mut_ptr().cast(), sum);
                products
            }
        }

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

        #[inline(always)]
        unsafe fn near(lower: &[f32; BLOCK_ROWS], limit: f32) -> u16 {
            // SAFETY: the trait's contract gives AVX-512F; the load reads the whole array.
            unsafe {
                let lower = _mm512_loadu_ps(lower.as_ptr());
                _mm512_cmp_ps_mask::<_CMP_NGT_UQ>(lower, _mm512_set1_ps(limit))
            }
        }
    }

    struct Avx2;

    impl Products for Avx2 {
        #[inline(always)]
        unsafe fn high_products(query: &HeadQuery, block: &[u8]) -> [i32; BLOCK_ROWS] {
            let mut products = [0i32; BLOCK_ROWS];
            // SAFETY: the trait's contract gives AVX2; loads read half a line at offset 0 or 32, stores fill half of
            // the array.
            unsafe {
                let mask = _mm256_set1_epi8(15);
                let ones = _mm256_set1_epi16(1);
                for half in 0..2 {
                    let mut sum = _mm256_setzero_si256();
                    for (line, planes) in block.as_chunks::<LINE_BYTES>().0.iter().zip(&query.planes) {
                        let codes = _mm256_loadu_si256(line.as_ptr().add(half * 32).cast());
                        let low = _mm256_and_si256(codes, mask);
                        let high = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), mask);
                        let [a, b, ..] = quarters(planes).map(|quarter| _mm256_set1_epi32(quarter));
                        let both =
                            _mm256_add_epi16(_mm256_maddubs_epi16(low, a), _mm256_maddubs_epi16(high, b));
                        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(both, ones));
                    }
                    _mm256_storeu_si256(products.as_mut_ptr().add(half * 8).cast(), sum);
                }
            }
            products
        }

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

        #[inline(always)]
        unsafe fn near(lower: &[f32; BLOCK_ROWS], limit: f32) -> u16 {
            // SAFETY: the trait's contract gives AVX2; loads read half of the array at offset 0 or 8.
            unsafe {
                let limit = _mm256_set1_ps(limit);
                let half = |offset| {
                    let lower = _mm256_loadu_ps(lower.as_ptr().add(offset));
                    _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_NGT_UQ>(lower, limit)) as u16
                };
                half(0) | half(8) << 8
            }
        }
    }
}
