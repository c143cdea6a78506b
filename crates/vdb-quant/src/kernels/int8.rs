//! Sums of products of unsigned codes and signed query values, in integers: what every scalar code is scored with.
//!
//! A code is a run of bytes: one 8-bit value each, or two 4-bit values, the *low* and the *high plane*. A query is
//! one or two parts of signed bytes ([`QueryCodes`]); each part gives one `i32` per row. All kernels return exactly
//! the same integers, those of [`QueryCodes::reference`], because nothing on the way can saturate or overflow:
//!
//! * a product is at most 255 · 128 in size, and a code has at most [`MAX_CODE_BYTES`] = 65,536 values per plane:
//!   65,536 · 255 · 128 = 2,139,095,040 < 2³¹ = 2,147,483,648. For two planes of 4-bit values it is
//!   2 · 65,536 · 15 · 128 = 251,658,240. Partial sums are sums of a subset of the terms, so the same bound holds
//!   for them;
//! * intermediate widths are argued beside each instruction that has one.
//!
//! The layout follows `vdb_distance`: one generic loop goes over sixty-four bytes at a time, each instruction set
//! implements the lanes, and an [`Int8Kernels`] value is the proof that the CPU runs them.

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod generic;
mod scalar;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use std::sync::OnceLock;

use vdb_distance::AlignedVec;

use generic::Block;

/// The most bytes that a code may have: with more, a sum of products could leave `i32`.
pub const MAX_CODE_BYTES: usize = 1 << 16;

/// Bytes that a kernel takes at a time; queries are padded with zeros to a multiple of it.
pub(crate) const CHUNK: usize = 64;

/// An instruction set that integer kernels exist for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Int8Isa {
    /// x86-64 with AVX-512F and AVX-512 VNNI.
    Avx512Vnni,
    /// x86-64 with AVX2.
    Avx2,
    /// AArch64 with Advanced SIMD.
    Neon,
    /// Portable code; every CPU runs it.
    Scalar,
}

impl Int8Isa {
    /// Every instruction set, the preferred ones first.
    pub const ALL: [Int8Isa; 4] = [Int8Isa::Avx512Vnni, Int8Isa::Avx2, Int8Isa::Neon, Int8Isa::Scalar];

    /// A short name, for tests and benchmarks.
    pub fn name(self) -> &'static str {
        match self {
            Int8Isa::Avx512Vnni => "avx512vnni",
            Int8Isa::Avx2 => "avx2",
            Int8Isa::Neon => "neon",
            Int8Isa::Scalar => "scalar",
        }
    }
}

/// The entry points for one kind of query.
///
/// # Safety
/// Calling them takes a CPU with the table's instruction set, and what the function of the same name in
/// [`generic`] asks for.
struct Family {
    rows: unsafe fn(&Block<'_>, usize, &mut [i32]),
    gather: unsafe fn(&Block<'_>, &[u32], &mut [i32]),
}

/// All entry points of one instruction set: `families[planes - 1][parts - 1]`.
struct Table {
    isa: Int8Isa,
    families: [[Family; 2]; 2],
    /// See `generic::score`, whose safety contract it has.
    score: unsafe fn(&Block<'_>, Scoring, &[u32], &mut [f32]),
}

/// Bytes of the factors that a scored row begins with: scale s and squared length n, `f32` each.
pub(crate) const FACTOR_BYTES: usize = 8;

/// What turns an integer product p = Σ q·(c − offset) into a distance: base + n − weight · s · p, rounded after each
/// operation, so that every instruction set gives the same number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scoring {
    /// The squared length of the query.
    pub(crate) base: f32,
    /// Twice the query's step.
    pub(crate) weight: f32,
    /// Subtracted from every code byte.
    pub(crate) offset: i32,
    /// Chunks of a row that are read, at most all of them.
    pub(crate) chunks: usize,
    /// Of the query's values in those.
    pub(crate) sum: i32,
    /// Whether the caller has asked for the rows, so that the kernel need not.
    pub(crate) fetched: bool,
}

/// Integer kernels that this CPU can run.
#[derive(Clone, Copy)]
pub struct Int8Kernels {
    /// Only ever a table whose instruction set was detected.
    table: &'static Table,
}

impl Int8Kernels {
    /// The best kernels for this CPU. The environment variable `VDB_ISA` limits the choice: `scalar` to portable
    /// code, `avx2` to AVX2; other values change nothing.
    pub fn get() -> Int8Kernels {
        static CHOSEN: OnceLock<Int8Kernels> = OnceLock::new();
        *CHOSEN.get_or_init(|| {
            let wish = match std::env::var("VDB_ISA").unwrap_or_default().to_ascii_lowercase().as_str() {
                "scalar" => Int8Kernels::for_isa(Int8Isa::Scalar),
                "avx2" => Int8Kernels::for_isa(Int8Isa::Avx2),
                _ => None,
            };
            let best = || Int8Isa::ALL.into_iter().find_map(Int8Kernels::for_isa);
            wish.or_else(best).unwrap_or(Int8Kernels { table: &scalar::TABLE })
        })
    }

    /// The kernels of one instruction set; `None` when this CPU cannot run them.
    pub fn for_isa(isa: Int8Isa) -> Option<Int8Kernels> {
        let table = match isa {
            Int8Isa::Scalar => Some(&scalar::TABLE),
            #[cfg(target_arch = "x86_64")]
            Int8Isa::Avx2 | Int8Isa::Avx512Vnni => x86_64::detect(isa),
            #[cfg(target_arch = "aarch64")]
            Int8Isa::Neon => aarch64::detect(isa),
            #[allow(unreachable_patterns, reason = "which patterns are left depends on the architecture")]
            _ => None,
        };
        table.map(|table| Int8Kernels { table })
    }

    /// The instruction set of these kernels.
    pub fn isa(&self) -> Int8Isa {
        self.table.isa
    }

    /// Sums of products with the rows `first..` of `codes`, rows of `stride` bytes that begin with a code each.
    /// Row `i` writes [`parts`](QueryCodes::parts) sums at `out[i * parts..]`.
    ///
    /// # Panics
    /// When `out` is not whole rows, or a code is longer than `stride` or not inside `codes`.
    pub fn rows(&self, query: &QueryCodes, codes: &[u8], stride: usize, first: usize, out: &mut [i32]) {
        let count = query.rows_in(out);
        let block = Block::new(query, codes, stride);
        if let Some(more) = count.checked_sub(1) {
            // A sum that overflows saturates to a row that no block has, unless codes are empty and nothing is
            // read.
            block.assert_inside(first.saturating_add(more));
        }
        // SAFETY: tables are reached through an `Int8Kernels` only, so the CPU runs them; `out` is `count` whole
        // rows of as many parts as the family has, and the last of those rows lies inside the block, hence all do.
        unsafe { (self.family(query).rows)(&block, first, out) }
    }

    /// The same for the rows with these numbers, prefetched eight ahead.
    ///
    /// # Panics
    /// When `out` is not `ids.len() * parts` long, or a code is longer than `stride` or not inside `codes`.
    pub fn gather(&self, query: &QueryCodes, codes: &[u8], stride: usize, ids: &[u32], out: &mut [i32]) {
        assert_eq!(query.rows_in(out), ids.len(), "as many sums as ids are written");
        let block = Block::new(query, codes, stride);
        if let Some(&last) = ids.iter().max() {
            block.assert_inside(last as usize);
        }
        // SAFETY: tables are reached through an `Int8Kernels` only, so the CPU runs them; the lengths agree, and
        // the last row of those asked for lies inside the block, hence all of them do.
        unsafe { (self.family(query).gather)(&block, ids, out) }
    }

    /// Distances of the rows with these numbers, prefetched ahead. Rows are whole chunks of 64 bytes and begin with their
    /// factors ([`FACTOR_BYTES`]); the query is zero there.
    ///
    /// # Panics
    /// When the query is not of one part for 8-bit codes, `out` is not as long as `ids`, rows are not whole chunks or
    /// shorter than the query, or a row is not inside `codes`.
    pub(crate) fn score(
        &self,
        query: &QueryCodes,
        scoring: Scoring,
        codes: &[u8],
        stride: usize,
        ids: &[u32],
        out: &mut [f32],
    ) {
        assert!(query.planes == 1 && query.parts == 1, "one part for 8-bit codes");
        assert_eq!(ids.len(), out.len(), "as many distances as ids are written");
        assert!(
            stride.is_multiple_of(CHUNK) && stride >= FACTOR_BYTES,
            "codes of {} bytes in rows of {stride}",
            query.code_bytes
        );
        let block = Block::new(query, codes, stride).limited(scoring.chunks);
        let rows = codes.len() / stride;
        let last = ids.iter().fold(0, |last, &id| last.max(id));
        assert!(ids.is_empty() || (last as usize) < rows, "row {last} of {rows}");
        // SAFETY: tables are reached through an `Int8Kernels` only, so the CPU runs them; the assertions are the rest
        // of the contract.
        unsafe { (self.table.score)(&block, scoring, ids, out) }
    }

    fn family(&self, query: &QueryCodes) -> &'static Family {
        &self.table.families[query.planes - 1][query.parts - 1]
    }
}

impl std::fmt::Debug for Int8Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Int8Kernels").field("isa", &self.isa()).finish_non_exhaustive()
    }
}

/// A query's signed bytes in the order in which the kernels read them.
///
/// For every 64 bytes of code, for every part, for every plane: 64 query bytes, zeros past the end of the code.
/// Zeros make it harmless to multiply whatever follows a code in memory.
#[derive(Debug, Clone)]
pub struct QueryCodes {
    values: AlignedVec<u8>,
    code_bytes: usize,
    planes: usize,
    parts: usize,
    /// Sum of each part's values over all planes.
    sums: [i32; 2],
}

impl QueryCodes {
    /// A query for 8-bit codes: one or two parts, each with one value per code byte.
    ///
    /// # Panics
    /// When there are no parts or more than two, or their lengths differ or exceed [`MAX_CODE_BYTES`].
    pub fn bytes(parts: &[&[i8]]) -> QueryCodes {
        let planes: Vec<[&[i8]; 1]> = parts.iter().map(|part| [*part]).collect();
        QueryCodes::arrange(&planes)
    }

    /// A query for 4-bit codes: one or two parts, each with the values for the low and for the high nibbles of the
    /// code bytes.
    ///
    /// # Panics
    /// As [`bytes`](Self::bytes).
    pub fn nibbles(parts: &[[&[i8]; 2]]) -> QueryCodes {
        QueryCodes::arrange(parts)
    }

    /// Becomes a query of one part for 8-bit codes that follow `skipped` other bytes, in the memory it has.
    ///
    /// # Panics
    /// As [`bytes`](Self::bytes).
    pub(crate) fn replace_bytes(&mut self, skipped: usize, values: &[i8]) {
        self.reset(skipped + values.len(), 1);
        let mut sum = 0;
        for (slot, &value) in self.values[skipped..].iter_mut().zip(values) {
            *slot = value.cast_unsigned();
            sum += i32::from(value);
        }
        self.sums = [sum, 0];
    }

    /// Becomes a query of two parts for 8-bit codes, the first 256 times the second, of values of at most 127 · 257 in
    /// size.
    ///
    /// # Panics
    /// As [`bytes`](Self::bytes).
    pub(crate) fn replace_words(&mut self, values: &[i16]) {
        self.reset(values.len(), 2);
        let mut sums = [0; 2];
        for (slots, values) in self.values.chunks_exact_mut(2 * CHUNK).zip(values.chunks(CHUNK)) {
            let (upper, lower) = slots.split_at_mut(CHUNK);
            for ((upper, lower), &value) in upper.iter_mut().zip(lower).zip(values) {
                // The lower part is −128 to 127, the upper at most 127 in size.
                let low = value as i8;
                let high = ((value - i16::from(low)) >> 8) as i8;
                (*upper, *lower) = (high.cast_unsigned(), low.cast_unsigned());
                sums[0] += i32::from(high);
                sums[1] += i32::from(low);
            }
        }
        self.sums = sums;
    }

    /// Zeros for so many parts of codes of so many bytes.
    fn reset(&mut self, code_bytes: usize, parts: usize) {
        assert!(code_bytes <= MAX_CODE_BYTES, "codes of {code_bytes} bytes");
        self.values.resize(0, 0);
        self.values.resize(code_bytes.next_multiple_of(CHUNK) * parts, 0);
        (self.code_bytes, self.planes, self.parts, self.sums) = (code_bytes, 1, parts, [0; 2]);
    }

    fn arrange<const PLANES: usize>(parts: &[[&[i8]; PLANES]]) -> QueryCodes {
        assert!((1..=2).contains(&parts.len()), "a query has one part or two");
        let code_bytes = parts[0][0].len();
        assert!(code_bytes <= MAX_CODE_BYTES, "codes of {code_bytes} bytes");
        let mut values = AlignedVec::new();
        values.resize(code_bytes.next_multiple_of(CHUNK) * PLANES * parts.len(), 0_u8);
        let mut sums = [0; 2];
        for (p, part) in parts.iter().enumerate() {
            for (plane, plane_values) in part.iter().enumerate() {
                assert_eq!(plane_values.len(), code_bytes, "the planes of a query differ in length");
                for (i, &value) in plane_values.iter().enumerate() {
                    let slot = (i / CHUNK * parts.len() + p) * PLANES + plane;
                    values[slot * CHUNK + i % CHUNK] = value as u8;
                    sums[p] += i32::from(value);
                }
            }
        }
        QueryCodes { values, code_bytes, planes: PLANES, parts: parts.len(), sums }
    }

    /// Bytes of the codes that this query is for.
    pub fn code_bytes(&self) -> usize {
        self.code_bytes
    }

    /// Sums per row: one or two.
    pub fn parts(&self) -> usize {
        self.parts
    }

    /// The sum of a part's values, what a constant offset of all codes is multiplied by.
    ///
    /// # Panics
    /// When there is no such part.
    pub fn sum(&self, part: usize) -> i32 {
        assert!(part < self.parts, "no part {part}");
        self.sums[part]
    }

    /// The naive loop that every kernel equals: the sum of products of one code with one part.
    ///
    /// # Panics
    /// When `code` has another length than the query is for, or there is no such part.
    pub fn reference(&self, code: &[u8], part: usize) -> i32 {
        assert_eq!(code.len(), self.code_bytes, "a code of the query's length");
        assert!(part < self.parts, "no part {part}");
        let mut total = 0;
        for (i, &byte) in code.iter().enumerate() {
            let values = if self.planes == 1 { [byte, 0] } else { [byte & 15, byte >> 4] };
            for (plane, &value) in values.iter().enumerate().take(self.planes) {
                let slot = (i / CHUNK * self.parts + part) * self.planes + plane;
                total += i32::from(value) * i32::from(self.values[slot * CHUNK + i % CHUNK] as i8);
            }
        }
        total
    }

    fn rows_in(&self, out: &[i32]) -> usize {
        assert_eq!(out.len() % self.parts, 0, "whole rows of {} sums are written", self.parts);
        out.len() / self.parts
    }
}
