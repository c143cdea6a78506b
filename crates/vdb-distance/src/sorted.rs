//! Insertion into sorted keys: what the beam of a graph search does most after computing distances.
//!
//! A key v comes into ascending keys a by new[i] = max(a[i − 1], min(a[i], v)), for all i at once: there is no search for its
//! place, which branches or waits for one comparison after the other, and no call that moves memory. Every path leaves
//! the same keys. AVX2 has no path of its own: with four keys a register, and none but signed comparisons, it took half as long
//! again for 64 keys as a search for the place does.

use crate::dispatch::{Isa, Kernels};

/// Keys of a register of the widest instruction set.
const LANES: usize = 8;
/// With more keys than that, a search for the place and a move of memory take no longer than a pass over all keys.
#[cfg(target_arch = "x86_64")]
const MOST_IN_A_PASS: usize = 512;

impl Kernels {
    /// Slots for [`insert_sorted`](Self::insert_sorted) come in so many.
    pub const SORTED_SLOTS: usize = LANES;

    /// Inserts `keys` into the first `len` slots, which ascend, and gives how many there are then: at most `most`, the
    /// largest of them dropped.
    ///
    /// Slots past those have to ascend, too, and hold no smaller keys; so they do afterwards.
    ///
    /// # Complexity
    /// O(`len`) a key, an eighth as many steps with AVX-512.
    ///
    /// # Panics
    /// If `len` is more than `most`, slots are no multiple of [`SORTED_SLOTS`](Self::SORTED_SLOTS), or there is no room for all keys.
    #[inline]
    pub fn insert_sorted(&self, slots: &mut [u64], len: usize, most: usize, keys: &[u64]) -> usize {
        assert!(len <= most, "{len} keys, at most {most}");
        assert!(slots.len().is_multiple_of(LANES), "{} slots", slots.len());
        let total = len.saturating_add(keys.len());
        assert!(total <= slots.len(), "{total} keys for {} slots", slots.len());
        match self.isa() {
            // SAFETY: there are such kernels only where the CPU has AVX-512F; slots are whole registers and more than
            // there ever are keys before one comes in.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 if len <= MOST_IN_A_PASS => unsafe { avx512(slots, len, most, keys) },
            _ => portable(slots, len, most, keys),
        }
        most.min(total)
    }
}

fn portable(slots: &mut [u64], mut len: usize, most: usize, keys: &[u64]) {
    for &key in keys {
        if len == most && len > 0 && key >= slots[len - 1] {
            continue;
        }
        let place = slots[..len].partition_point(|&other| other < key);
        slots.copy_within(place..len, place + 1);
        slots[place] = key;
        len = most.min(len + 1);
    }
}

/// # Safety
/// The CPU has AVX-512F. Slots are a multiple of [`LANES`], and more than min(`most`, `len` + i) for the i-th of `keys`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512(slots: &mut [u64], mut len: usize, most: usize, keys: &[u64]) {
    use std::arch::x86_64::{
        _mm512_alignr_epi64, _mm512_loadu_si512, _mm512_max_epu64, _mm512_min_epu64, _mm512_set1_epi64,
        _mm512_setzero_si512, _mm512_storeu_si512,
    };
    let slots = slots.as_mut_ptr();
    for &key in keys {
        let key = _mm512_set1_epi64(key.cast_signed());
        // The largest key of the last register may fall out: it is past all that count.
        let mut register = len / LANES;
        // SAFETY: the register of slot `len` lies inside, as this function's contract says, and so do those before.
        unsafe {
            let mut own = _mm512_loadu_si512(slots.add(register * LANES).cast());
            loop {
                let before = match register {
                    0 => _mm512_setzero_si512(),
                    _ => _mm512_loadu_si512(slots.add((register - 1) * LANES).cast()),
                };
                let moved = _mm512_alignr_epi64::<7>(own, before);
                let new = _mm512_max_epu64(moved, _mm512_min_epu64(own, key));
                _mm512_storeu_si512(slots.add(register * LANES).cast(), new);
                if register == 0 {
                    break;
                }
                (own, register) = (before, register - 1);
            }
        }
        len = most.min(len + 1);
    }
}
