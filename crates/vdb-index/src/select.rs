//! The candidates of a scan of codes: as many rows as wanted with the smallest estimates, by (estimate, offset).
//!
//! Rows are offered 64 at a time and held against one threshold first; few pass once the threshold is low. What passes
//! is kept as one integer that orders like (estimate, offset), and the worse half is dropped in linear time whenever
//! twice as many as wanted are held. An estimate that is no number says nothing about its row: it comes first, so that
//! the row is compared.

/// Rows offered at a time.
pub(crate) const LANES: usize = 64;
/// Rows of those that are passed over together.
const GROUP: usize = 8;

/// The best rows so far.
pub(crate) struct Nearest {
    wanted: usize,
    keys: Vec<u64>,
    /// No estimate above this is among the wanted; infinite at first.
    bound: f32,
    worst: u64,
}

impl Nearest {
    /// `wanted` is at least 1.
    pub(crate) fn new(wanted: usize) -> Self {
        Self { wanted, keys: Vec::new(), bound: f32::INFINITY, worst: u64::MAX }
    }

    /// No estimate above this can be among the wanted.
    pub(crate) fn bound(&self) -> f32 {
        self.bound
    }

    /// Takes the lanes of `mask` into account, rows `first`, `first + 1` and so on.
    #[inline]
    pub(crate) fn offer(&mut self, first: u32, mask: u64, estimates: &[f32; LANES]) {
        // Counted without branches, so that the compiler compares many at once.
        let above: u32 = estimates.iter().map(|&estimate| u32::from(estimate > self.bound)).sum();
        if above as usize == LANES {
            return;
        }
        // Where many are wanted, most words have a row that passes, and few of their groups.
        for (group, estimates) in estimates.as_chunks::<GROUP>().0.iter().enumerate() {
            let above: u32 = estimates.iter().map(|&estimate| u32::from(estimate > self.bound)).sum();
            if above as usize == GROUP {
                continue;
            }
            let lanes = mask >> (group * GROUP) & ((1 << GROUP) - 1);
            for lane in crate::bitset::ones(lanes, 0) {
                let offset = first + (group * GROUP) as u32 + lane;
                let key = key(estimates[lane as usize], offset);
                if key < self.worst {
                    self.push(key);
                }
            }
        }
    }

    fn push(&mut self, key: u64) {
        self.keys.push(key);
        let first_full = self.worst == u64::MAX && self.keys.len() == self.wanted;
        if first_full || self.keys.len() >= self.wanted + self.wanted.max(LANES) {
            self.shrink();
        }
    }

    fn shrink(&mut self) {
        if self.keys.len() >= self.wanted {
            self.worst = *self.keys.select_nth_unstable(self.wanted - 1).1;
            self.keys.truncate(self.wanted);
            self.bound = estimate(self.worst);
        }
    }

    /// The best of both.
    pub(crate) fn merge(mut self, other: Nearest) -> Nearest {
        self.keys.extend(other.keys);
        self.shrink();
        self
    }

    /// The offsets of the wanted rows, ascending.
    pub(crate) fn into_offsets(mut self) -> Vec<u32> {
        self.shrink();
        let mut offsets: Vec<u32> = self.keys.iter().map(|&key| key as u32).collect();
        offsets.sort_unstable();
        offsets
    }
}

/// Orders like (estimate, offset), NaN first.
fn key(estimate: f32, offset: u32) -> u64 {
    let bits = if estimate.is_nan() { f32::NEG_INFINITY } else { estimate }.to_bits();
    let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    u64::from(ordered) << 32 | u64::from(offset)
}

/// The estimate of a key.
fn estimate(key: u64) -> f32 {
    let ordered = (key >> 32) as u32;
    f32::from_bits(if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rng;

    #[test]
    fn equals_a_full_sort_however_the_rows_are_split() {
        let mut rng = Rng(9);
        for wanted in [1, 2, 10, 64, 100, 700, 2_000] {
            // Few distinct estimates, both signs, infinities and NaN.
            let estimates: Vec<[f32; LANES]> = (0..20)
                .map(|_| {
                    std::array::from_fn(|_| match rng.below(60) {
                        0 => f32::NAN,
                        1 => f32::INFINITY,
                        2 => f32::NEG_INFINITY,
                        value => (value as f32 - 30.0) / 4.0,
                    })
                })
                .collect();
            let masks: Vec<u64> = (0..20).map(|_| rng.next() | rng.next()).collect();
            let mut halves = [Nearest::new(wanted), Nearest::new(wanted)];
            for (word, (estimates, &mask)) in estimates.iter().zip(&masks).enumerate() {
                halves[word % 3 / 2].offer(word as u32 * 64, mask, estimates);
            }
            let mut all: Vec<(f32, u32)> = (0..20 * 64u32)
                .filter(|&row| masks[row as usize / 64] >> (row % 64) & 1 == 1)
                .map(|row| (estimates[row as usize / 64][row as usize % 64], row))
                .map(|(estimate, row)| (if estimate.is_nan() { f32::NEG_INFINITY } else { estimate }, row))
                .collect();
            all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            all.truncate(wanted);
            let mut expected: Vec<u32> = all.iter().map(|&(_, row)| row).collect();
            expected.sort_unstable();
            let [one, other] = halves;
            assert_eq!(one.merge(other).into_offsets(), expected, "{wanted} wanted");
        }
    }
}
