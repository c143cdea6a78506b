//! Plain loops compiled for several instruction sets.
//!
//! Loops without intrinsics, over lanes whose number does not depend on the instruction set, are written once and
//! inlined into an entry point for each instruction set; the compiler picks wider registers there. Invariant: it may
//! choose other instructions but not another arithmetic (it neither fuses a product with a sum nor reorders sums), so
//! all entry points give the same bits.

use vdb_distance::{Isa, Kernels};

/// A loop over its own data.
pub(crate) trait Work {
    type Output;

    /// Has to be `#[inline(always)]`, and what it calls too: what is not inlined is compiled for the least CPU.
    fn run(self) -> Self::Output;
}

/// Runs `work` as compiled for the widest instruction set that this CPU has and `VDB_ISA` allows.
#[inline]
pub(crate) fn widest<W: Work>(work: W) -> W::Output {
    run_for(Kernels::get().isa(), work)
}

/// Runs `work` as compiled for `isa`, for the least CPU where this one lacks it.
#[inline]
pub(crate) fn run_for<W: Work>(isa: Isa, work: W) -> W::Output {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected;
        if isa == Isa::Avx512
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
        {
            // SAFETY: the CPU has the instructions, and nothing else is asked for.
            return unsafe { avx512(work) };
        }
        if matches!(isa, Isa::Avx512 | Isa::Avx2) && is_x86_feature_detected!("avx2") {
            // SAFETY: the CPU has the instructions, and nothing else is asked for.
            return unsafe { avx2(work) };
        }
    }
    // NEON is part of every AArch64 target, so the plain build has it.
    let _ = isa;
    work.run()
}

/// # Safety
/// The CPU has AVX-512F, BW, DQ and VL.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn avx512<W: Work>(work: W) -> W::Output {
    work.run()
}

/// # Safety
/// The CPU has AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn avx2<W: Work>(work: W) -> W::Output {
    work.run()
}
