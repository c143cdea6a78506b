//! Kernels for x86-64 and the detection of what the CPU has.

mod avx2;
mod avx512;

use std::arch::is_x86_feature_detected;

use crate::dispatch::{Isa, Table};

/// The table of an instruction set, if this CPU has it.
pub(crate) fn detect(isa: Isa) -> Option<&'static Table> {
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
