//! Kernels over short number formats for x86-64 and the detection of what the CPU has.

mod avx2;
mod avx512;

use std::arch::is_x86_feature_detected;

use vdb_distance::Isa;

use super::Table;

/// The table of an instruction set, if this CPU has it.
pub(super) fn detect(isa: Isa) -> Option<&'static Table> {
    match isa {
        Isa::Avx2
            if is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c") =>
        {
            Some(&avx2::TABLE)
        }
        Isa::Avx512 if is_x86_feature_detected!("avx512f") => Some(&avx512::TABLE),
        _ => None,
    }
}
