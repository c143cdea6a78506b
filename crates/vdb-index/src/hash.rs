//! A stateless 64-bit mixing function: pseudo-random numbers that depend on a seed and an offset only.
//!
//! Levels and insertion order derive from it, so a graph is the same whatever the number of threads.

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014) applied to the next state after `x`.
pub(crate) fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number in (0, 1] that depends on `seed` and `offset` alone.
pub(crate) fn unit_interval(seed: u64, offset: u32) -> f64 {
    let bits = mix(mix(seed) ^ u64::from(offset)) >> 11;
    (bits + 1) as f64 / (1u64 << 53) as f64
}
