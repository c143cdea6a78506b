//! Cache hints. A prefetch reads nothing that the program can see and never faults, whatever its address, so
//! the functions here are safe and need no bounds beyond saving useless work.

/// Bytes that one hint covers.
pub(crate) const LINE: usize = 64;

/// Asks for `lines` cache lines, starting with the one that holds `slice[index]`.
///
/// A hint only: nothing happens for an index out of range, for lines past the end of the slice, or on
/// architectures without one.
#[inline]
pub fn prefetch<T>(slice: &[T], index: usize, lines: usize) {
    let Some(rest) = slice.get(index..) else { return };
    // Bytes that start in the middle of a line may end one line further.
    let lines_there = if rest.is_empty() { 0 } else { size_of_val(rest) / LINE + 1 };
    prefetch_lines(rest.as_ptr().cast(), lines.min(lines_there));
}

/// Asks for `lines` cache lines, starting with the one that holds `slice[index]`, in the second-level cache: for what is
/// read some hundred nanoseconds later. More of its lines can be on their way from memory at a time than of the first
/// level's (Zen 4: pairs of lines of random rows arrived every 6 to 7 ns, into the first level every 14 to 15).
///
/// A hint only, like [`prefetch`], and without its check of bounds.
#[inline(always)]
pub fn prefetch_early<T>(slice: &[T], index: usize, lines: usize) {
    let start: *const u8 = slice.as_ptr().wrapping_add(index).cast();
    for line in 0..lines {
        prefetch_line_early(start.wrapping_add(line * LINE));
    }
}

#[inline(always)]
pub(crate) fn prefetch_lines(start: *const u8, lines: usize) {
    for line in 0..lines {
        prefetch_line(start.wrapping_add(line * LINE));
    }
}

#[inline(always)]
fn prefetch_line(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of x86-64, and a prefetch accepts any address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: `prfm` accepts any address and changes no register, flag or memory.
    unsafe {
        std::arch::asm!(
            "prfm pldl1keep, [{address}]",
            address = in(reg) address,
            options(nostack, preserves_flags, readonly),
        );
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}

#[inline(always)]
fn prefetch_line_early(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE is part of x86-64, and a prefetch accepts any address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(address.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: `prfm` accepts any address and changes no register, flag or memory.
    unsafe {
        std::arch::asm!(
            "prfm pldl2keep, [{address}]",
            address = in(reg) address,
            options(nostack, preserves_flags, readonly),
        );
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}
