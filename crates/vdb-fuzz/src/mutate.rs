//! Mutations of valid inputs from a seed alone: flips, edits of numbers, truncations, insertions, splices.

/// Draws inputs.
#[derive(Debug, Clone)]
pub struct Mutator {
    state: u64,
}

/// Numbers at which lengths and counts go wrong.
const NUMBERS: [u64; 12] =
    [0, 1, 2, 31, 33, 255, 65_536, 1 << 31, u32::MAX as u64, 1 << 32, i64::MAX as u64, u64::MAX];
/// Values at which arithmetic goes wrong.
const VALUES: [f32; 8] =
    [0.0, -1.0, f32::MAX, f32::MIN, f32::MIN_POSITIVE, 1e-45, f32::NAN, f32::NEG_INFINITY];

impl Mutator {
    /// The inputs of a seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, or 0 where that is 0.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// One of `seeds` with one to four mutations.
    pub fn input(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(4) {
            self.mutate(&mut input, seeds);
        }
        input
    }

    fn mutate(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        // Headers are short and matter most.
        let reach = if self.below(2) == 0 { input.len().min(64) } else { input.len() };
        let at = self.below(reach);
        match self.below(8) {
            0 | 1 => {
                let bit = self.below(8);
                input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << bit);
            }
            2 => {
                let number =
                    NUMBERS[self.below(NUMBERS.len())].wrapping_add(self.below(3) as u64).wrapping_sub(1);
                let width = [1, 4, 8][self.below(3)];
                overwrite(input, at, &number.to_le_bytes()[..width]);
            }
            3 => {
                // A length near the present one.
                let length = (input.len() as u32).wrapping_add(self.below(17) as u32).wrapping_sub(8);
                overwrite(input, at, &length.to_le_bytes());
            }
            4 => overwrite(input, at / 4 * 4, &VALUES[self.below(VALUES.len())].to_le_bytes()),
            5 => input.truncate(at),
            6 => {
                let count = self.below(40);
                let inserted: Vec<u8> = (0..count).map(|_| self.next() as u8).collect();
                input.splice(at..at, inserted);
            }
            _ => {
                let other = &seeds[self.below(seeds.len())];
                let from = self.below(other.len());
                let to = from + self.below(other.len() - from);
                let end = (at + self.below(64)).min(input.len());
                input.splice(at.min(end)..end, other[from..to].iter().copied());
            }
        }
    }
}

fn overwrite(input: &mut [u8], at: usize, bytes: &[u8]) {
    input.iter_mut().skip(at).zip(bytes).for_each(|(old, new)| *old = *new);
}
