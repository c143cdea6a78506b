//! The choice of kernels. A [`Table`] holds the entry points of one instruction set; a [`Kernels`] is a table
//! that this CPU was found able to run, and can be made in no other way. Its safe methods check lengths and
//! row numbers, then call through the table: those checks and that existence are all the kernels rely on.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use crate::generic::Block;
use crate::matrix::Matrix;
use crate::number::ElementType;
use crate::scalar;

/// An instruction set that kernels exist for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Isa {
    /// Portable code; every CPU runs it.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512F.
    Avx512,
    /// AArch64 with Advanced SIMD.
    Neon,
}

impl Isa {
    /// Every instruction set, the preferred ones first.
    pub const ALL: [Isa; 4] = [Isa::Avx512, Isa::Avx2, Isa::Neon, Isa::Scalar];

    /// The name that `VDB_ISA` takes.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Neon => "neon",
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Isa {
    type Err = ParseIsaError;

    fn from_str(text: &str) -> Result<Isa, ParseIsaError> {
        let isa = Isa::ALL.into_iter().find(|isa| isa.name().eq_ignore_ascii_case(text));
        isa.ok_or_else(|| ParseIsaError { text: text.to_owned() })
    }
}

/// A name that is no instruction set's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseIsaError {
    text: String,
}

impl fmt::Display for ParseIsaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown instruction set {:?}: expected scalar, avx2, avx512 or neon", self.text)
    }
}

impl std::error::Error for ParseIsaError {}

/// The entry points of one operation.
///
/// # Safety
/// Calling any of them takes a CPU with the table's instruction set, and the lengths and rows that the function
/// of the same name in [`crate::generic`] asks for.
pub(crate) struct Family {
    pub(crate) pair: unsafe fn(&[f32], &[f32]) -> f32,
    pub(crate) f32: OfType,
    pub(crate) f16: OfType,
    pub(crate) bf16: OfType,
    pub(crate) u8: OfType,
}

/// The entry points of one operation for rows of one element type.
///
/// # Safety
/// As for [`Family`].
pub(crate) struct OfType {
    pub(crate) gather: unsafe fn(&Block<'_>, &[u32], &mut [f32]),
    pub(crate) rows: unsafe fn(&Block<'_>, usize, &mut [f32]),
    pub(crate) tile: unsafe fn(&[&[f32]], &Block<'_>, usize, &mut [f32]),
}

impl Family {
    fn of(&self, element: ElementType) -> &OfType {
        match element {
            ElementType::F32 => &self.f32,
            ElementType::F16 => &self.f16,
            ElementType::Bf16 => &self.bf16,
            ElementType::U8 => &self.u8,
        }
    }
}

/// All entry points of one instruction set.
pub(crate) struct Table {
    pub(crate) isa: Isa,
    pub(crate) dot: Family,
    pub(crate) l2_squared: Family,
    pub(crate) l1: Family,
}

/// Kernels that this CPU can run.
#[derive(Clone, Copy)]
pub struct Kernels {
    /// Only ever a table whose instruction set was detected.
    table: &'static Table,
}

impl Kernels {
    /// The best kernels for this CPU, or those that the environment variable `VDB_ISA` names.
    pub fn get() -> &'static Kernels {
        static CHOSEN: OnceLock<Kernels> = OnceLock::new();
        CHOSEN.get_or_init(|| {
            let wish = std::env::var("VDB_ISA").ok().and_then(|name| name.parse().ok());
            wish.and_then(Kernels::for_isa).unwrap_or_else(Kernels::best)
        })
    }

    /// The kernels of one instruction set; `None` when this CPU cannot run them.
    pub fn for_isa(isa: Isa) -> Option<Kernels> {
        let table = match isa {
            Isa::Scalar => Some(&scalar::TABLE),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512 => crate::x86_64::detect(isa),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => crate::aarch64::detect(isa),
            #[allow(unreachable_patterns, reason = "which patterns are left depends on the architecture")]
            _ => None,
        };
        table.map(|table| Kernels { table })
    }

    /// The instruction sets that this CPU can run, the preferred ones first.
    pub fn available() -> Vec<Isa> {
        Isa::ALL.into_iter().filter(|&isa| Kernels::for_isa(isa).is_some()).collect()
    }

    /// The instruction set of these kernels.
    pub fn isa(&self) -> Isa {
        self.table.isa
    }

    fn best() -> Kernels {
        Isa::ALL.into_iter().find_map(Kernels::for_isa).unwrap_or(Kernels { table: &scalar::TABLE })
    }
}

/// Between two vectors. The functions panic if the lengths differ.
impl Kernels {
    /// Sum of products.
    #[inline]
    pub fn dot(&self, a: &[f32], b: &[f32]) -> f32 {
        pair(&self.table.dot, a, b)
    }

    /// Sum of squared differences.
    #[inline]
    pub fn l2_squared(&self, a: &[f32], b: &[f32]) -> f32 {
        pair(&self.table.l2_squared, a, b)
    }

    /// Sum of absolute differences.
    #[inline]
    pub fn l1(&self, a: &[f32], b: &[f32]) -> f32 {
        pair(&self.table.l1, a, b)
    }
}

/// What is summed over the components of two vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sum {
    /// Products.
    Dot,
    /// Squared differences.
    L2Squared,
    /// Absolute differences.
    L1,
}

/// Between queries and the rows of a [`Matrix`], of whichever element type: the values are, bit for bit, those for the
/// same rows in `f32`.
impl Kernels {
    /// Between a query and rows picked by number: `out[i]` is the value for row `ids[i]`. Rows are prefetched a few ahead.
    ///
    /// # Panics
    /// If `ids` and `out` differ in length, if the query is longer than a row, or if a row lies outside the matrix.
    pub fn gather(&self, sum: Sum, query: &[f32], rows: Matrix<'_>, ids: &[u32], out: &mut [f32]) {
        assert_eq!(ids.len(), out.len(), "as many values as ids are written");
        if let Some(&last) = ids.iter().max() {
            rows.assert_row_inside(query, last as usize);
        }
        // SAFETY: families are reached through a `Kernels` only, so the CPU runs them; the lengths are equal, and
        // the last row of those asked for lies inside the block, hence all of them do.
        unsafe { (self.family(sum).of(rows.element()).gather)(&rows.block(query), ids, out) }
    }

    /// Between a query and consecutive rows: `out[i]` is the value for row `first + i`.
    ///
    /// # Panics
    /// If the query is longer than a row, or if a row lies outside the matrix.
    pub fn rows(&self, sum: Sum, query: &[f32], rows: Matrix<'_>, first: usize, out: &mut [f32]) {
        if let Some(more) = out.len().checked_sub(1) {
            // A sum that overflows saturates to a row that no block has, unless rows are empty and nothing is read.
            rows.assert_row_inside(query, first.saturating_add(more));
        }
        // SAFETY: families are reached through a `Kernels` only, so the CPU runs them; the last row of those asked
        // for lies inside the block, hence all of them do.
        unsafe { (self.family(sum).of(rows.element()).rows)(&rows.block(query), first, out) }
    }

    /// Between several queries and the same consecutive rows: with n rows, `out[q * n + i]` is the value for query `q`
    /// and row `first + i`, bit for bit that of one query at a time; n is `out.len() / queries.len()`.
    ///
    /// # Panics
    /// If queries differ in length, `out` is not whole lines, or as [`rows`](Self::rows) does.
    pub fn tile(&self, sum: Sum, queries: &[&[f32]], rows: Matrix<'_>, first: usize, out: &mut [f32]) {
        let Some(&query) = queries.first() else {
            return assert!(out.is_empty(), "{} values of no query", out.len());
        };
        assert!(queries.iter().all(|other| other.len() == query.len()), "queries have different lengths");
        assert!(out.len().is_multiple_of(queries.len()), "{} values of {} queries", out.len(), queries.len());
        if let Some(more) = (out.len() / queries.len()).checked_sub(1) {
            rows.assert_row_inside(query, first.saturating_add(more));
        }
        // SAFETY: families are reached through a `Kernels` only, so the CPU runs them; the queries are of one length,
        // and the last row of those asked for lies inside the block, hence all of them do.
        unsafe { (self.family(sum).of(rows.element()).tile)(queries, &rows.block(query), first, out) }
    }

    /// [`rows`](Self::rows) of `stride` floats each: products.
    pub fn dot_rows(&self, query: &[f32], rows: &[f32], stride: usize, first: usize, out: &mut [f32]) {
        self.rows(Sum::Dot, query, Matrix::f32(rows, stride), first, out);
    }

    /// [`rows`](Self::rows) of `stride` floats each: squared differences.
    pub fn l2_squared_rows(&self, query: &[f32], rows: &[f32], stride: usize, first: usize, out: &mut [f32]) {
        self.rows(Sum::L2Squared, query, Matrix::f32(rows, stride), first, out);
    }

    /// [`rows`](Self::rows) of `stride` floats each: absolute differences.
    pub fn l1_rows(&self, query: &[f32], rows: &[f32], stride: usize, first: usize, out: &mut [f32]) {
        self.rows(Sum::L1, query, Matrix::f32(rows, stride), first, out);
    }

    fn family(&self, sum: Sum) -> &'static Family {
        match sum {
            Sum::Dot => &self.table.dot,
            Sum::L2Squared => &self.table.l2_squared,
            Sum::L1 => &self.table.l1,
        }
    }
}

impl fmt::Debug for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernels").field("isa", &self.isa()).finish_non_exhaustive()
    }
}

/// [`Kernels::dot`] with the kernels of [`Kernels::get`].
///
/// # Panics
/// If the lengths differ.
#[inline]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    Kernels::get().dot(a, b)
}

/// [`Kernels::l2_squared`] with the kernels of [`Kernels::get`].
///
/// # Panics
/// If the lengths differ.
#[inline]
pub fn l2_squared(a: &[f32], b: &[f32]) -> f32 {
    Kernels::get().l2_squared(a, b)
}

/// [`Kernels::l1`] with the kernels of [`Kernels::get`].
///
/// # Panics
/// If the lengths differ.
#[inline]
pub fn l1(a: &[f32], b: &[f32]) -> f32 {
    Kernels::get().l1(a, b)
}

#[inline]
fn pair(family: &'static Family, a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "vectors have different lengths");
    // SAFETY: families are reached through a `Kernels` only, so the CPU runs them; the lengths are equal.
    unsafe { (family.pair)(a, b) }
}
