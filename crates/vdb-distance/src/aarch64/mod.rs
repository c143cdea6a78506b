//! Kernels for AArch64 and the detection of what the CPU has.

mod neon;

use std::arch::is_aarch64_feature_detected;

use crate::dispatch::{Isa, Table};

/// The table of an instruction set, if this CPU has it.
pub(crate) fn detect(isa: Isa) -> Option<&'static Table> {
    match isa {
        Isa::Neon if is_aarch64_feature_detected!("neon") => Some(&neon::TABLE),
        _ => None,
    }
}
