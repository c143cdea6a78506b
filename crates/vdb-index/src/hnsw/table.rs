//! How far walks go for a target recall: what calibration found out, by number of hits and target.

use super::stop::{Against, FAR};

/// Numbers of hits that are looked at.
pub(super) const KS: [usize; 5] = [1, 3, 10, 30, 100];
/// Recalls that are looked for, ascending.
pub(super) const TARGETS: [f64; 14] =
    [0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999];
/// The beam of a walk that is looked at.
pub(super) const WIDEST: usize = 1_024;
/// A threshold that no walk but one into nothing reaches.
pub(super) const NO_THRESHOLD: f32 = 4.0;
/// How much farther than any of the rows a query may walk.
const MARGIN: usize = 4;
/// The least width of a beam while there is no table.
const GUESS: f64 = 64.0;
/// Version of the stored form.
const VERSION: u32 = 2;

/// How to search for a recall.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Effort {
    /// What the growth of distances counts for.
    pub(super) weight: f32,
    pub(super) threshold: f32,
    /// The typical width of a beam that walks as far.
    pub(super) ef: usize,
    /// The width that no walk passes.
    pub(super) most: usize,
}

impl Effort {
    /// A beam of one width for all queries.
    pub(super) fn beam(ef: usize) -> Effort {
        Effort { weight: 0.0, threshold: f32::INFINITY, ef, most: ef }
    }

    /// What is likely to do for so few rows that there is no table.
    pub(super) fn guess(k: usize, target: f64) -> Effort {
        let times = (0.1 / (1.0 - target)).clamp(2.0, 16.0);
        Effort::beam((k as f64 * times).ceil().max(GUESS) as usize)
    }

    /// The effort at a share `t` of the way from one to another.
    pub(super) fn between(self, other: Effort, t: f64) -> Effort {
        let mix = |a: f64, b: f64| a + t * (b - a);
        let ef = mix((self.ef.max(1) as f64).ln(), (other.ef.max(1) as f64).ln()).exp();
        Effort {
            weight: mix(f64::from(self.weight), f64::from(other.weight)) as f32,
            threshold: mix(f64::from(self.threshold), f64::from(other.threshold)) as f32,
            ef: ef.ceil() as usize,
            most: self.most.max(other.most),
        }
    }
}

/// The efforts for each of [`KS`] and [`TARGETS`].
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Table(pub(super) Vec<[Effort; TARGETS.len()]>);

impl Table {
    /// How to find `target` of the `k` nearest, and which hits the next node is held against on the way.
    ///
    /// Between two of [`KS`] both rules are mixed. (The k-th distance with mixed weights and thresholds would be another
    /// rule: ratio and growth depend on each other.)
    pub(super) fn effort(&self, k: usize, target: f64) -> (Effort, Against) {
        let above = KS.iter().position(|&known| k <= known);
        let (effort, against) = match above {
            Some(above) if k == KS[above] || above == 0 => {
                (self.known(above, target), Against { low: k, high: k, share: 0.0 })
            }
            Some(above) => {
                let (low, high) = (KS[above - 1], KS[above]);
                let ln = |k: usize| (k as f64).ln();
                let t = (ln(k) - ln(low)) / (ln(high) - ln(low));
                let effort = self.known(above - 1, target).between(self.known(above, target), t);
                (effort, Against { low, high, share: t as f32 })
            }
            None => {
                let last = KS.len() - 1;
                let known = self.known(last, target);
                let grown = |width: usize| (width as f64 * k as f64 / KS[last] as f64).ceil() as usize;
                let effort = Effort { ef: grown(known.ef), most: grown(known.most), ..known };
                (effort, Against { low: k, high: k, share: 0.0 })
            }
        };
        (Effort { most: (MARGIN * effort.most).max(k).max(FAR + 1), ..effort }, against)
    }

    fn known(&self, number: usize, target: f64) -> Effort {
        let efforts = &self.0[number];
        match TARGETS.iter().position(|&known| target <= known) {
            Some(0) => efforts[0],
            Some(above) => {
                let missed = |recall: f64| (1.0 - recall).ln();
                let (low, high) = (missed(TARGETS[above - 1]), missed(TARGETS[above]));
                efforts[above - 1].between(efforts[above], (missed(target) - low) / (high - low))
            }
            None => {
                Effort { threshold: NO_THRESHOLD, ef: WIDEST, most: WIDEST, ..efforts[TARGETS.len() - 1] }
            }
        }
    }

    /// As numbers, for storing it.
    pub(super) fn to_numbers(&self) -> Vec<u32> {
        let efforts = self.0.iter().flatten();
        let numbers = efforts.flat_map(|effort| {
            [effort.weight.to_bits(), effort.threshold.to_bits(), effort.ef as u32, effort.most as u32]
        });
        [VERSION].into_iter().chain(numbers).collect()
    }

    /// The table of stored numbers; `None` when there are none, or they are of another version.
    ///
    /// # Errors
    /// What is wrong with the numbers.
    pub(super) fn from_numbers(numbers: &[u32]) -> Result<Option<Self>, String> {
        if numbers.first() != Some(&VERSION) {
            return Ok(None);
        }
        let expected = 1 + KS.len() * TARGETS.len() * 4;
        if numbers.len() != expected {
            return Err(format!("{} numbers of recalls, expected {expected}", numbers.len()));
        }
        let efforts: Vec<Effort> = numbers[1..]
            .chunks_exact(4)
            .map(|numbers| Effort {
                weight: f32::from_bits(numbers[0]),
                threshold: f32::from_bits(numbers[1]),
                ef: numbers[2] as usize,
                most: numbers[3] as usize,
            })
            .collect();
        if efforts.iter().any(|effort| effort.ef > effort.most || effort.most > WIDEST) {
            return Err("widths that are too large".to_owned());
        }
        let within = |value: f32, most: f32| (0.0..=most).contains(&value);
        if !efforts.iter().all(|effort| within(effort.weight, 1.0) && within(effort.threshold, NO_THRESHOLD))
        {
            return Err("thresholds that no walk has".to_owned());
        }
        let rows = efforts.chunks_exact(TARGETS.len());
        Ok(Some(Self(rows.map(|row| std::array::from_fn(|place| row[place])).collect())))
    }
}
