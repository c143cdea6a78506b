//! The scan over blocks: integer products of sixteen rows at a time, then their bounds.
//!
//! Only the integer products need intrinsics. The bounds are plain loops over sixteen lanes, inlined into the function
//! that has the instruction set enabled and vectorised there; they use no fused multiply-add, so every path gives the
//! same bits.
//!
//! Integers: a code is at most 15 and a query integer at most 16,383, so sixteen-bit pairs of the AVX2 path stay below
//! 4 · 15 · 128 = 7,680, and the 32-bit sums below 15 · 16,383 · m · 2 < 2³¹ for m ≤ 4,096.

use super::query::{Constants, HeadQuery, Quick};
use super::{BLOCK_ROWS, FACTOR_BYTES, LINE_BYTES, LINE_COORDINATES, Near, WORD_BLOCKS, ranges};
use vdb_distance::{Isa, Kernels};

/// How many bytes ahead of their use codes and lengths are asked for: about three words of sixty-four rows.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 4_096;
#[cfg(target_arch = "x86_64")]
const FACTORS_AHEAD: usize = 1_024;
/// Words that get a first look before the rows that it leaves get another: their codes stay in the first cache.
const RUN_WORDS: usize = 16;
/// What is taken off every bound for products that are too small for `f32`.
const TINY: f32 = 1e-43;
/// Room for the roundings of a sum of three squares.
const KEPT: f32 = 1.0 - 8.0 * f32::EPSILON;

/// One scan over whole blocks.
pub(super) struct Scan<'a> {
    pub(super) query: &'a HeadQuery,
    /// What rows are looked at first by: the high plane of the query, and under a distance a bound without a root.
    pub(super) high: Constants,
    pub(super) quick: Quick,
    /// Constants for the planes that rows are bounded by.
    pub(super) last: Constants,
    pub(super) codes: &'a [u8],
    pub(super) factors: &'a [u8],
    /// A bit for every row.
    pub(super) allowed: &'a [u64],
    pub(super) first_row: usize,
    pub(super) limit: f32,
    /// Whether rows are bounded by both planes of the query, or by the high plane alone.
    pub(super) both_planes: bool,
}

impl<'a> Scan<'a> {
    fn block_bytes(&self) -> usize {
        self.query.lines() * LINE_BYTES
    }

    /// Words that have four blocks.
    #[cfg(target_arch = "x86_64")]
    fn whole_words(&self) -> usize {
        self.codes.len() / (WORD_BLOCKS * self.block_bytes())
    }

    /// The codes and lengths of the blocks of a word.
    #[inline(always)]
    fn word(&self, number: usize) -> (&'a [u8], &'a [[u8; FACTOR_BYTES]]) {
        let (width, factors) = (WORD_BLOCKS * self.block_bytes(), self.factors.as_chunks::<FACTOR_BYTES>().0);
        let codes = &self.codes[number * width..self.codes.len().min((number + 1) * width)];
        (codes, &factors[number * WORD_BLOCKS..factors.len().min((number + 1) * WORD_BLOCKS)])
    }
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

    /// Writes the rows of words of blocks, from `first_word` on, that a first look by the high plane leaves.
    ///
    /// # Safety
    /// As for [`high_products`](Self::high_products).
    #[inline(always)]
    unsafe fn first_look(scan: &Scan<'_>, first_word: usize, near: &mut [u64]) {
        // SAFETY: this function's own contract.
        unsafe { look::<Self>(scan, first_word, near) }
    }
}

/// What [`Products::first_look`] does, by the other functions of the trait.
///
/// # Safety
/// As for [`Products::products`].
#[inline(always)]
unsafe fn look<P: Products + ?Sized>(scan: &Scan<'_>, first_word: usize, near: &mut [u64]) {
    for (number, near) in (first_word..).zip(near) {
        let (blocks, factors) = scan.word(number);
        for (place, (block, factors)) in blocks.chunks_exact(scan.block_bytes()).zip(factors).enumerate() {
            // SAFETY: this function's own contract.
            let products = unsafe { P::high_products(scan.query, block) };
            let sums = products.map(|product| 2 * product - scan.query.high.correction);
            let (lower, limit) = if scan.high.is_dot {
                (lower_bounds(&scan.high, &sums, factors), scan.limit)
            } else {
                (quick_bounds(&scan.quick, &sums, factors), scan.quick.limit)
            };
            // SAFETY: this function's own contract.
            *near |= u64::from(unsafe { P::near(&lower, limit) }) << (place * BLOCK_ROWS);
        }
    }
}

/// # Safety
/// As for [`Products::products`].
#[inline(always)]
unsafe fn scan<P: Products>(scan: &Scan<'_>, out: &mut Vec<Near>) {
    let block_bytes = scan.block_bytes();
    let words = scan.codes.len().div_ceil(WORD_BLOCKS * block_bytes);
    let mut left = Left::new(block_bytes);
    for first_word in (0..words).step_by(RUN_WORDS) {
        let mut near = [0u64; RUN_WORDS];
        let near = &mut near[..RUN_WORDS.min(words - first_word)];
        // SAFETY: this function's own contract.
        unsafe { P::first_look(scan, first_word, near) };
        for (number, &near) in (first_word..).zip(&*near) {
            let mut near = near & scan.allowed[number];
            let (blocks, factors) = scan.word(number);
            let first = scan.first_row + number * WORD_BLOCKS * BLOCK_ROWS;
            while near != 0 {
                let row = near.trailing_zeros() as usize;
                near &= near - 1;
                let (place, lane) = (row / BLOCK_ROWS, row % BLOCK_ROWS);
                left.add((first + row) as u32, &blocks[place * block_bytes..], &factors[place], lane);
                if left.count == BLOCK_ROWS {
                    // SAFETY: this function's own contract.
                    unsafe { push_near::<P>(scan, &mut left, out) };
                }
            }
        }
    }
    // SAFETY: this function's own contract.
    unsafe { push_near::<P>(scan, &mut left, out) };
}

/// Rows that the first look has left, gathered into a block of their own: few rows of a block are, and a block takes as
/// long for one of them as for all.
struct Left {
    rows: [u32; BLOCK_ROWS],
    codes: Vec<u8>,
    factors: [u8; FACTOR_BYTES],
    count: usize,
}

impl Left {
    fn new(block_bytes: usize) -> Self {
        Self { rows: [0; BLOCK_ROWS], codes: vec![0; block_bytes], factors: [0; FACTOR_BYTES], count: 0 }
    }

    /// Adds the row in a lane of a block.
    #[inline(always)]
    fn add(&mut self, row: u32, block: &[u8], factors: &[u8; FACTOR_BYTES], lane: usize) {
        self.rows[self.count] = row;
        let lines = self.codes.as_chunks_mut::<LINE_BYTES>().0.iter_mut();
        for (to, from) in lines.zip(block.as_chunks::<LINE_BYTES>().0) {
            to.as_chunks_mut::<4>().0[self.count] = from.as_chunks::<4>().0[lane];
        }
        ranges::copy(factors, lane, &mut self.factors, self.count);
        self.count += 1;
    }
}

/// Adds those of the rows left whose bounds are not above the limit, and leaves none.
///
/// # Safety
/// As for [`Products::products`].
#[inline(always)]
unsafe fn push_near<P: Products>(scan: &Scan<'_>, left: &mut Left, out: &mut Vec<Near>) {
    let count = std::mem::take(&mut left.count);
    if count == 0 {
        return;
    }
    // SAFETY: this function's own contract.
    let (products, correction) = unsafe {
        if scan.both_planes {
            (P::products(scan.query, &left.codes), scan.query.full.correction)
        } else {
            (P::high_products(scan.query, &left.codes), scan.query.high.correction)
        }
    };
    let sums = products.map(|product| 2 * product - correction);
    let lower = lower_bounds(&scan.last, &sums, &left.factors);
    let estimates = estimates(&scan.last, &sums, &left.factors);
    // SAFETY: this function's own contract.
    let mut near = unsafe { P::near(&lower, scan.limit) } & (u16::MAX >> (BLOCK_ROWS - count));
    out.reserve(BLOCK_ROWS);
    while near != 0 {
        let lane = near.trailing_zeros() as usize;
        near &= near - 1;
        out.push(Near { row: left.rows[lane], lower: lower[lane], estimate: estimates[lane] });
    }
}

/// Bounds to hold against the limit of a [`Quick`]: −∞ for rows without bounds.
#[inline(always)]
fn quick_bounds(q: &Quick, sums: &[i32; BLOCK_ROWS], factors: &[u8; FACTOR_BYTES]) -> [f32; BLOCK_ROWS] {
    let mut lower = [0.0; BLOCK_ROWS];
    for lane in 0..BLOCK_ROWS {
        let [along, inverse_norm, across, tail] = ranges::read(factors, lane);
        let alpha = sums[lane] as f32 * q.unit * inverse_norm;
        let straight = alpha - along * q.along_step;
        let rest = q.head_square - alpha * alpha;
        let aside = (1.0 - across * q.across_share) * (rest - across * q.across_turn);
        let gap = tail * q.tail_step - q.tail;
        let bound = straight * straight + aside + gap * gap;
        lower[lane] = if across < f32::from(ranges::UNBOUNDED) { bound } else { f32::NEG_INFINITY };
    }
    lower
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

#[inline(always)]
fn estimates(q: &Constants, sums: &[i32; BLOCK_ROWS], factors: &[u8; FACTOR_BYTES]) -> [f32; BLOCK_ROWS] {
    let mut estimates = [0.0; BLOCK_ROWS];
    for lane in 0..BLOCK_ROWS {
        estimates[lane] = estimate(q, sums[lane], ranges::read(factors, lane));
    }
    estimates
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

        #[inline(always)]
        unsafe fn first_look(scan: &Scan<'_>, first_word: usize, near: &mut [u64]) {
            let (whole, last) =
                near.split_at_mut(near.len().min(scan.whole_words().saturating_sub(first_word)));
            // SAFETY: the trait's contract gives AVX-512F, BW and VNNI.
            unsafe {
                if scan.high.is_dot {
                    look::<Self>(scan, first_word, whole);
                } else {
                    look_quickly(scan, first_word, whole);
                }
                look::<Self>(scan, first_word + whole.len(), last);
            }
        }
    }

    /// As [`look`] for distances, with all sums and constants in registers: the same operations in the same order.
    ///
    /// # Safety
    /// On a CPU with AVX-512F, BW and VNNI.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    #[inline(never)]
    unsafe fn look_quickly(scan: &Scan<'_>, first_word: usize, near: &mut [u64]) {
        let q = &scan.quick;
        let (low_mask, high_mask) = (_mm512_set1_epi8(15), _mm512_set1_epi8(-16));
        let correction = _mm512_set1_epi32(scan.query.high.correction);
        let one = _mm512_set1_ps(1.0);
        let [unit, head_square, along_step, across_share, across_turn, tail_step, tail, limit] = [
            q.unit,
            q.head_square,
            q.along_step,
            q.across_share,
            q.across_turn,
            q.tail_step,
            q.tail,
            q.limit,
        ]
        .map(|value| _mm512_set1_ps(value));
        let unbounded = _mm512_set1_epi32(i32::from(ranges::UNBOUNDED));
        let block_lines = scan.query.lines();
        for (number, near) in (first_word..).zip(near) {
            let (blocks, factors) = scan.word(number);
            assert!(blocks.len() == WORD_BLOCKS * block_lines * LINE_BYTES && factors.len() == WORD_BLOCKS);
            if scan.allowed[number] == 0 {
                continue;
            }
            let mut low_sums = [_mm512_setzero_si512(); WORD_BLOCKS];
            // High nibbles stay where they are, so that these sums are sixteenfold, below 240 · 128 · 2,048 < 2³¹.
            let mut high_sums = [_mm512_setzero_si512(); WORD_BLOCKS];
            let first: *const u8 = blocks.as_ptr();
            for (line, planes) in scan.query.planes.iter().enumerate() {
                let [a, b, ..] = quarters(planes).map(|quarter| _mm512_set1_epi32(quarter));
                for place in 0..WORD_BLOCKS {
                    _mm_prefetch::<_MM_HINT_T0>(
                        first.wrapping_add((WORD_BLOCKS * line + place) * LINE_BYTES + AHEAD).cast(),
                    );
                    // SAFETY: the word has four blocks of as many lines as the query, as was asserted.
                    let codes = unsafe {
                        _mm512_loadu_si512(first.add((place * block_lines + line) * LINE_BYTES).cast())
                    };
                    let low = _mm512_and_si512(codes, low_mask);
                    let high = _mm512_and_si512(codes, high_mask);
                    low_sums[place] = _mm512_dpbusd_epi32(low_sums[place], low, a);
                    high_sums[place] = _mm512_dpbusd_epi32(high_sums[place], high, b);
                }
            }
            *near = 0;
            for (place, factors) in factors.iter().enumerate() {
                let at = factors.as_ptr();
                _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(FACTORS_AHEAD).cast());
                _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(FACTORS_AHEAD + LINE_BYTES).cast());
                // SAFETY: a block's lengths are 96 bytes: two loads of 32 and two of 16.
                let [along, inverse, across, tails] = unsafe {
                    [
                        _mm512_cvtepu16_epi32(_mm256_loadu_si256(at.cast())),
                        _mm512_cvtepu16_epi32(_mm256_loadu_si256(at.add(2 * BLOCK_ROWS).cast())),
                        _mm512_cvtepu8_epi32(_mm_loadu_si128(at.add(4 * BLOCK_ROWS).cast())),
                        _mm512_cvtepu8_epi32(_mm_loadu_si128(at.add(5 * BLOCK_ROWS).cast())),
                    ]
                };
                let bounded = _mm512_cmpneq_epi32_mask(across, unbounded);
                let [along, inverse, across, tails] =
                    [along, inverse, across, tails].map(|steps| _mm512_cvtepi32_ps(steps));
                let product = _mm512_add_epi32(low_sums[place], _mm512_srai_epi32::<4>(high_sums[place]));
                let sum = _mm512_sub_epi32(_mm512_add_epi32(product, product), correction);
                let alpha = _mm512_mul_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum), unit), inverse);
                let straight = _mm512_sub_ps(alpha, _mm512_mul_ps(along, along_step));
                let rest = _mm512_sub_ps(head_square, _mm512_mul_ps(alpha, alpha));
                let share = _mm512_sub_ps(one, _mm512_mul_ps(across, across_share));
                let aside = _mm512_mul_ps(share, _mm512_sub_ps(rest, _mm512_mul_ps(across, across_turn)));
                let gap = _mm512_sub_ps(_mm512_mul_ps(tails, tail_step), tail);
                let bound = _mm512_add_ps(
                    _mm512_add_ps(_mm512_mul_ps(straight, straight), aside),
                    _mm512_mul_ps(gap, gap),
                );
                let above = _mm512_mask_cmp_ps_mask::<_CMP_GT_OQ>(bounded, bound, limit);
                *near |= u64::from(!above) << (place * BLOCK_ROWS);
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
