//! Integer kernels for AArch64 and the detection of what the CPU has.

mod neon;

use std::arch::is_aarch64_feature_detected;

use super::{Int8Isa, Table};

/// The table of an instruction set, if this CPU has it.
pub(super) fn detect(isa: Int8Isa) -> Option<&'static Table> {
    match isa {
        Int8Isa::Neon if is_aarch64_feature_detected!("neon") => Some(&neon::TABLE),
        _ => None,
    }
}
