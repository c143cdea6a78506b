//! The one loop that every integer kernel is, over sixty-four bytes of whatever the instruction set offers.
//!
//! ```text
//! for each chunk of 64 code bytes: for each part: for each plane:
//!     acc[part][slot] += plane of the codes · 64 query bytes        slots taken in turn, four of them
//! sum of part = lanes of acc[part][0..4], folded, plus OFFSET · (sum of the query's values)
//! ```
//!
//! The query is padded with zeros, so a row's last chunk may hold bytes that follow the code: they are multiplied by
//! zero. What matters is only that they can be read, which is so for every row except perhaps the last ones of a
//! buffer; those copy their last chunk to the stack. There are no masks and no tails.

use vdb_distance::{prefetch, prefetch_early};

use super::{CHUNK, QueryCodes, Scoring};

/// How many rows ahead of the one at hand a gather asks for.
const ROWS_AHEAD: usize = 8;
/// The same where one line of each is read.
const LINES_AHEAD: usize = 32;
/// Lines of a row to ask for; the hardware's own prefetcher follows a longer row once it has begun.
const MAX_LINES: usize = 14;
const LINE: usize = 64;

/// Sixty-four codes and sixteen or fewer `i32` sums.
///
/// # Safety
/// All methods: the CPU has the instruction set of the implementing type. `load` reads 64 bytes at its pointer and
/// the products read 64 bytes at `query`; they must be readable. Alignment does not matter.
pub(super) trait Lanes {
    /// What `bytes` subtracts from each 8-bit code before it multiplies; the loop adds it back.
    const OFFSET: i32;
    type Codes: Copy;
    type Sums: Copy;

    unsafe fn zero() -> Self::Sums;
    unsafe fn load(from: *const u8) -> Self::Codes;
    /// The low nibbles and the high nibbles.
    unsafe fn nibbles(codes: Self::Codes) -> [Self::Codes; 2];
    /// Adds the products of 8-bit codes, less [`OFFSET`](Self::OFFSET) each, with query bytes.
    unsafe fn bytes(sums: Self::Sums, codes: Self::Codes, query: *const i8) -> Self::Sums;
    /// The same for codes of at most 15, with no offset.
    unsafe fn small(sums: Self::Sums, codes: Self::Codes, query: *const i8) -> Self::Sums;
    /// The sum of all lanes of four registers.
    unsafe fn total(sums: [Self::Sums; 4]) -> i32;
    /// The sum of all lanes of each of four registers.
    unsafe fn totals(sums: [Self::Sums; 4]) -> [i32; 4];
}

/// A query and the rows it is compared with.
#[derive(Clone, Copy)]
pub(super) struct Block<'a> {
    query: &'a QueryCodes,
    codes: &'a [u8],
    stride: usize,
    /// Whole chunks that a code spans, the last one perhaps in part.
    chunks: usize,
    lines: usize,
}

impl<'a> Block<'a> {
    pub(super) fn new(query: &'a QueryCodes, codes: &'a [u8], stride: usize) -> Block<'a> {
        assert!(query.code_bytes <= stride, "codes of {} bytes in rows of {stride}", query.code_bytes);
        let lines = stride.div_ceil(LINE).min(MAX_LINES);
        Block { query, codes, stride, chunks: query.code_bytes.div_ceil(CHUNK), lines }
    }

    /// The same, of whose rows no more than the first `chunks` are read.
    pub(super) fn limited(self, chunks: usize) -> Block<'a> {
        Block { chunks: self.chunks.min(chunks), lines: self.lines.min(chunks), ..self }
    }

    /// Checks that the code of row `row`, and so that of every row before it, lies inside the buffer.
    pub(super) fn assert_inside(&self, row: usize) {
        let end = row.checked_mul(self.stride).and_then(|start| start.checked_add(self.query.code_bytes));
        assert!(
            end.is_some_and(|end| end <= self.codes.len()),
            "row {row} lies outside {} bytes in rows of {}",
            self.codes.len(),
            self.stride
        );
    }

    #[inline(always)]
    fn prefetch(&self, row: usize) {
        prefetch(self.codes, row.wrapping_mul(self.stride), self.lines);
    }

    #[inline(always)]
    fn prefetch_early(&self, row: usize) {
        prefetch_early(self.codes, row.wrapping_mul(self.stride), self.lines);
    }
}

/// # Safety
/// The CPU has the instruction set of `V`; the query has `PLANES` planes and `PARTS` parts; `out` is whole rows of
/// `PARTS` sums, and the rows `first..first + out.len() / PARTS` lie inside the block.
#[inline(always)]
pub(super) unsafe fn rows<V: Lanes, const PLANES: usize, const PARTS: usize>(
    block: &Block<'_>,
    first: usize,
    out: &mut [i32],
) {
    for (i, out) in out.chunks_exact_mut(PARTS).enumerate() {
        // SAFETY: this function's own contract.
        unsafe { row::<V, PLANES, PARTS>(block, first.wrapping_add(i), out) };
    }
}

/// # Safety
/// The CPU has the instruction set of `V`; the query has `PLANES` planes and `PARTS` parts; `out` is `ids.len()`
/// rows of `PARTS` sums, and every id's row lies inside the block.
#[inline(always)]
pub(super) unsafe fn gather<V: Lanes, const PLANES: usize, const PARTS: usize>(
    block: &Block<'_>,
    ids: &[u32],
    out: &mut [i32],
) {
    for &id in ids.iter().take(ROWS_AHEAD) {
        block.prefetch(id as usize);
    }
    for (i, (&id, out)) in ids.iter().zip(out.chunks_exact_mut(PARTS)).enumerate() {
        if let Some(&ahead) = ids.get(i + ROWS_AHEAD) {
            block.prefetch(ahead as usize);
        }
        // SAFETY: this function's own contract.
        unsafe { row::<V, PLANES, PARTS>(block, id as usize, out) };
    }
}

/// Rows whose sums are taken side by side: the products of one do not wait for one another, and four are folded at once.
const ABREAST: usize = 4;

/// Distances of the rows with these numbers, of which each begins with its factors: see [`super::Scoring`].
///
/// # Safety
/// The CPU has the instruction set of `V`; the query has one plane and one part; `out` is as long as `ids`; rows are
/// whole chunks, and every id's row lies inside the block.
#[inline(always)]
pub(super) unsafe fn score<V: Lanes>(block: &Block<'_>, scoring: Scoring, ids: &[u32], out: &mut [f32]) {
    let asked = if scoring.fetched { 0 } else { ids.len() };
    let is_early = block.lines == 1;
    let ahead = if is_early { LINES_AHEAD } else { ROWS_AHEAD };
    for &id in ids[..asked].iter().take(ahead) {
        if is_early {
            block.prefetch_early(id as usize);
        } else {
            block.prefetch(id as usize);
        }
    }
    let correction = V::OFFSET.wrapping_sub(scoring.offset).wrapping_mul(scoring.sum);
    let query = block.query.values.as_ptr().cast::<i8>();
    let mut first = 0;
    while first < ids.len() {
        let count = ABREAST.min(ids.len() - first);
        for &ahead in ids[..asked].iter().skip(first + ahead).take(ABREAST) {
            if is_early {
                block.prefetch_early(ahead as usize);
            } else {
                block.prefetch(ahead as usize);
            }
        }
        // SAFETY: every id's row lies inside the block, and missing ones are replaced by the first of the group.
        let rows: [*const u8; ABREAST] = std::array::from_fn(|i| unsafe {
            let id = *ids.get_unchecked(first + if i < count { i } else { 0 });
            block.codes.as_ptr().add((id as usize).wrapping_mul(block.stride))
        });
        // SAFETY: rows are whole chunks and the query has 64 bytes for each; the CPU is this function's own contract.
        let totals = unsafe {
            let mut sums = [V::zero(); ABREAST];
            for chunk in 0..block.chunks {
                let query = query.add(chunk * CHUNK);
                for i in 0..ABREAST {
                    sums[i] = V::bytes(sums[i], V::load(rows[i].add(chunk * CHUNK)), query);
                }
            }
            V::totals(sums)
        };
        let mut distances = [0.0; ABREAST];
        for i in 0..ABREAST {
            let product = totals[i].wrapping_add(correction) as f32;
            // SAFETY: a row begins with its two factors.
            let [scale, square] = unsafe { rows[i].cast::<[[u8; 4]; 2]>().read() }.map(f32::from_le_bytes);
            distances[i] = scoring.base + square - scoring.weight * scale * product;
        }
        if count == ABREAST {
            // SAFETY: `out` is as long as `ids`, of which there are as many left.
            unsafe { out.as_mut_ptr().add(first).cast::<[f32; ABREAST]>().write_unaligned(distances) };
        } else {
            out[first..first + count].copy_from_slice(&distances[..count]);
        }
        first += count;
    }
}

/// # Safety
/// As for [`rows`], for one row and `PARTS` sums.
#[inline(always)]
unsafe fn row<V: Lanes, const PLANES: usize, const PARTS: usize>(
    block: &Block<'_>,
    row: usize,
    out: &mut [i32],
) {
    let query = block.query;
    if block.chunks == 0 {
        out.fill(0);
        return;
    }
    let start = row.wrapping_mul(block.stride);
    // SAFETY: the code lies inside the buffer, by this function's own contract, so its first byte does.
    let codes = unsafe { block.codes.as_ptr().add(start) };
    let readable = block.codes.len() - start;
    let mut sums = if readable >= block.chunks * CHUNK {
        // SAFETY: the whole chunks are readable, and the query holds as many; the rest is the contract.
        unsafe { accumulate::<V, PLANES, PARTS>(codes, codes, block) }
    } else {
        let last = (block.chunks - 1) * CHUNK;
        let mut padded = [0_u8; CHUNK];
        // SAFETY: the code lies inside the buffer and is between one and 64 bytes longer than `last`, so these
        // bytes are readable and fit; the chunk from the array replaces the last one, the others are readable.
        unsafe {
            std::ptr::copy_nonoverlapping(codes.add(last), padded.as_mut_ptr(), query.code_bytes - last);
            accumulate::<V, PLANES, PARTS>(codes, padded.as_ptr().wrapping_sub(last), block)
        }
    };
    if PLANES == 1 {
        for (sum, &values) in sums.iter_mut().zip(&query.sums) {
            // Wrapping: the offset part alone may leave `i32`, the result does not.
            *sum = sum.wrapping_add(V::OFFSET.wrapping_mul(values));
        }
    }
    out.copy_from_slice(&sums);
}

/// # Safety
/// The CPU has the instruction set of `V`; all chunks of the code but the last are readable at `codes`, the last one
/// at its place behind `last`; the query has `PLANES` planes and `PARTS` parts.
#[inline(always)]
unsafe fn accumulate<V: Lanes, const PLANES: usize, const PARTS: usize>(
    codes: *const u8,
    last: *const u8,
    block: &Block<'_>,
) -> [i32; PARTS] {
    // The chunks that fill the four sums once.
    let round = 4 / PLANES;
    let query = block.query.values.as_ptr().cast::<i8>();
    let whole = block.chunks - 1;
    // SAFETY: chunks below `whole` are read at `codes` and the last one at `last`, as the contract allows; the query
    // has `PARTS * PLANES * 64` bytes for each chunk. The CPU is this function's own contract.
    unsafe {
        let mut sums = [[V::zero(); 4]; PARTS];
        let mut chunk = 0;
        while whole - chunk >= round {
            for j in 0..round {
                step::<V, PLANES, PARTS>(&mut sums, j, codes.add((chunk + j) * CHUNK), query, chunk + j);
            }
            chunk += round;
        }
        for j in 0..round {
            if chunk + j < whole {
                step::<V, PLANES, PARTS>(&mut sums, j, codes.add((chunk + j) * CHUNK), query, chunk + j);
            }
        }
        step::<V, PLANES, PARTS>(&mut sums, round - 1, last.wrapping_add(whole * CHUNK), query, whole);
        // A loop, not `map`: a closure would be compiled without the instruction set.
        let mut totals = [0; PARTS];
        for (total, sums) in totals.iter_mut().zip(sums) {
            *total = V::total(sums);
        }
        totals
    }
}

/// # Safety
/// The CPU has the instruction set of `V`; 64 bytes are readable at `codes`, and the query has chunk `chunk`.
#[inline(always)]
unsafe fn step<V: Lanes, const PLANES: usize, const PARTS: usize>(
    sums: &mut [[V::Sums; 4]; PARTS],
    slot: usize,
    codes: *const u8,
    query: *const i8,
    chunk: usize,
) {
    // SAFETY: this function's own contract.
    unsafe {
        let codes = V::load(codes);
        let query = query.add(chunk * PARTS * PLANES * CHUNK);
        for (part, sums) in sums.iter_mut().enumerate() {
            if PLANES == 1 {
                sums[slot] = V::bytes(sums[slot], codes, query.add(part * CHUNK));
            } else {
                let [low, high] = V::nibbles(codes);
                let query = query.add(part * 2 * CHUNK);
                sums[2 * slot] = V::small(sums[2 * slot], low, query);
                sums[2 * slot + 1] = V::small(sums[2 * slot + 1], high, query.add(CHUNK));
            }
        }
    }
}

/// The eight entry points of one instruction set: functions that carry its target feature around the loops above.
macro_rules! table {
    ($isa:expr, $lanes:ty, $($feature:meta)?) => {
        pub(in crate::kernels::int8) static TABLE: crate::kernels::int8::Table = crate::kernels::int8::Table {
            isa: $isa,
            families: [[family::<1, 1>(), family::<1, 2>()], [family::<2, 1>(), family::<2, 2>()]],
            score,
        };

        /// # Safety
        /// As for `generic::score`, on a CPU with this module's instruction set.
        $(#[$feature])?
        unsafe fn score(
            block: &crate::kernels::int8::generic::Block<'_>,
            scoring: crate::kernels::int8::Scoring,
            ids: &[u32],
            out: &mut [f32],
        ) {
            // SAFETY: this function's own contract.
            unsafe { crate::kernels::int8::generic::score::<$lanes>(block, scoring, ids, out) }
        }

        const fn family<const PLANES: usize, const PARTS: usize>() -> crate::kernels::int8::Family {
            crate::kernels::int8::Family { rows: rows::<PLANES, PARTS>, gather: gather::<PLANES, PARTS> }
        }

        /// # Safety
        /// As for `generic::rows`, on a CPU with this module's instruction set.
        $(#[$feature])?
        unsafe fn rows<const PLANES: usize, const PARTS: usize>(
            block: &crate::kernels::int8::generic::Block<'_>,
            first: usize,
            out: &mut [i32],
        ) {
            // SAFETY: this function's own contract.
            unsafe { crate::kernels::int8::generic::rows::<$lanes, PLANES, PARTS>(block, first, out) }
        }

        /// # Safety
        /// As for `generic::gather`, on a CPU with this module's instruction set.
        $(#[$feature])?
        unsafe fn gather<const PLANES: usize, const PARTS: usize>(
            block: &crate::kernels::int8::generic::Block<'_>,
            ids: &[u32],
            out: &mut [i32],
        ) {
            // SAFETY: this function's own contract.
            unsafe { crate::kernels::int8::generic::gather::<$lanes, PLANES, PARTS>(block, ids, out) }
        }
    };
}

pub(super) use table;
