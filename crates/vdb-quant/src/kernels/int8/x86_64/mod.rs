//! Integer kernels for x86-64 and the detection of what the CPU has.

mod avx2;
mod avx512vnni;

use std::arch::is_x86_feature_detected;

use super::{Int8Isa, Table};

/// The table of an instruction set, if this CPU has it.
pub(super) fn detect(isa: Int8Isa) -> Option<&'static Table> {
    match isa {
        Int8Isa::Avx2 if is_x86_feature_detected!("avx2") => Some(&avx2::TABLE),
        Int8Isa::Avx512Vnni
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni") =>
        {
            Some(&avx512vnni::TABLE)
        }
        _ => None,
    }
}
