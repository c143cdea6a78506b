//! The first stages of a Hadamard transform, in registers: values have their signs flipped, are scaled, and go through the
//! stages inside chunks of as many values as registers hold, in one pass over memory.
//!
//! A stage of width h replaces x at place i by x + y where i has no bit h, by y − x where it has, with y at place i ^ h.
//! Stages narrower than a register swap lanes of one; wider ones add registers. Invariant: stages come in the order of
//! their widths, and every sum is rounded by itself, so that the bits are those of plain loops: −1·x + y fused is y − x.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;

/// Stages between whole registers: `step` makes sum and difference of two.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn between<T: Copy, const R: usize>(registers: &mut [T; R], step: impl Fn(T, T) -> (T, T)) {
    let mut half = 1;
    while half < R {
        for i in 0..R {
            if i & half == 0 {
                (registers[i], registers[i + half]) = step(registers[i], registers[i + half]);
            }
        }
        half *= 2;
    }
}
