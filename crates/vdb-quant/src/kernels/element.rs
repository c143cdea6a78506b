//! Distances between a query in `f32` and vectors in half precision, bfloat16 or bytes.
//!
//! Sixteen values at a time become `f32`, and four accumulators of sixteen lanes take them in turn, as in
//! `vdb_distance`. The query is padded with zeros to whole groups of sixteen; a code's last group is copied to the
//! stack and padded likewise when it is not whole, so nothing past a code is read. A sum that is not finite is taken
//! again in double precision. Kernels of one instruction set differ from another's by rounding only: by at most
//! (n/64 + 6) ε Σ|terms|.

mod generic;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use std::sync::OnceLock;

use vdb_distance::{AlignedVec, Isa, Kernels};

/// How values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// IEEE 754 binary16.
    F16,
    /// The upper half of `f32`.
    Bf16,
    /// Unsigned bytes.
    U8,
}

impl Format {
    fn bytes(self) -> usize {
        if self == Format::U8 { 1 } else { 2 }
    }
}

/// What is summed over the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Dot,
    L2Squared,
    L1,
}

/// A query and the kind of code that it is compared with.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    /// Padded with zeros to whole groups.
    values: AlignedVec<f32>,
    dim: usize,
    format: Format,
    op: Op,
}

impl Query {
    pub(crate) fn new(query: &[f32], format: Format, op: Op) -> Query {
        let mut values = AlignedVec::from(query);
        values.resize(query.len().next_multiple_of(generic::LANES), 0.0);
        Query { values, dim: query.len(), format, op }
    }

    pub(crate) fn code_bytes(&self) -> usize {
        self.dim * self.format.bytes()
    }
}

/// The entry points for one format and one operation.
///
/// # Safety
/// Calling them takes a CPU with the table's instruction set, and what the function of the same name in `generic`
/// asks for.
struct Family {
    rows: unsafe fn(&Query, &[u8], &mut [f32]),
    gather: unsafe fn(&Query, &[u8], &[u32], &mut [f32]),
}

/// The entry points of one instruction set, by format and operation.
struct Table {
    isa: Isa,
    families: [[Family; 3]; 3],
}

/// Kernels that this CPU can run.
#[derive(Clone, Copy)]
pub(crate) struct ElementKernels {
    /// Only ever a table whose instruction set was detected.
    table: &'static Table,
}

impl ElementKernels {
    /// Those of the instruction set that [`Kernels::get`] chose, or portable ones where there are none.
    pub(crate) fn get() -> ElementKernels {
        static CHOSEN: OnceLock<ElementKernels> = OnceLock::new();
        *CHOSEN.get_or_init(|| {
            let chosen = ElementKernels::for_isa(Kernels::get().isa());
            chosen.unwrap_or(ElementKernels { table: &scalar::TABLE })
        })
    }

    /// The kernels of one instruction set; `None` when this CPU cannot run them or there are none.
    pub(crate) fn for_isa(isa: Isa) -> Option<ElementKernels> {
        let table = match isa {
            Isa::Scalar => Some(&scalar::TABLE),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512 => x86_64::detect(isa),
            #[allow(unreachable_patterns, reason = "which patterns are left depends on the architecture")]
            _ => None,
        };
        table.map(|table| ElementKernels { table })
    }

    /// The sum over each of `out.len()` consecutive codes.
    pub(crate) fn rows(&self, query: &Query, codes: &[u8], out: &mut [f32]) {
        let needed = out.len().checked_mul(query.code_bytes());
        assert!(needed.is_some_and(|needed| needed <= codes.len()), "{} codes are not there", out.len());
        // SAFETY: tables are reached through an `ElementKernels` only, so the CPU runs them; `out.len()` codes lie
        // inside `codes`.
        unsafe { (self.family(query).rows)(query, codes, out) }
    }

    /// The sum over each of the codes with these row numbers.
    pub(crate) fn gather(&self, query: &Query, codes: &[u8], ids: &[u32], out: &mut [f32]) {
        assert_eq!(ids.len(), out.len(), "as many sums as ids are written");
        if let Some(&last) = ids.iter().max() {
            let end = (last as usize).checked_add(1).and_then(|rows| rows.checked_mul(query.code_bytes()));
            assert!(end.is_some_and(|end| end <= codes.len()), "row {last} is not there");
        }
        // SAFETY: tables are reached through an `ElementKernels` only, so the CPU runs them; the lengths agree, and
        // the last row of those asked for lies inside `codes`, hence all of them do.
        unsafe { (self.family(query).gather)(query, codes, ids, out) }
    }

    fn family(&self, query: &Query) -> &'static Family {
        let op = match query.op {
            Op::Dot => 0,
            Op::L2Squared => 1,
            Op::L1 => 2,
        };
        let format = match query.format {
            Format::F16 => 0,
            Format::Bf16 => 1,
            Format::U8 => 2,
        };
        &self.table.families[format][op]
    }
}

impl std::fmt::Debug for ElementKernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ElementKernels").field("isa", &self.table.isa).finish_non_exhaustive()
    }
}
