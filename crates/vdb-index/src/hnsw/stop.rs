//! When a walk for a target recall is over: once the nearest unexpanded node lies clearly beyond the k-th hit.
//!
//! The rule of adaptive beam search (Al-Jazzazi et al., 2505.15636) ends a walk when d > (1 + γ) d_k for the distance d
//! of the next node. It spends more on queries whose neighbours are hardly nearer than the rest. Here squared distances are
//! compared, and how fast they grow counts, too: the walk is over when its *reach*
//!
//! d² / d_k² + weight · (d_100 / d_10 − 1)
//!
//! exceeds a threshold. The second term makes walks longer where the hundredth neighbour is about as far as the tenth, as
//! it is for queries from outside the data. Calibration finds weight and threshold. Nothing else that a walk knows helped:
//! boosted trees that predict the recall from 17 features (ages of the hits, how far the walk has come, absolute
//! distances) ended walks no better than with these two and the number of hops.

use super::search::{Beam, StopRule};
use crate::BitSet;

/// The places of the two distances whose growth counts.
const NEAR: usize = 9;
pub(super) const FAR: usize = 99;
/// Growth beyond this is not told apart: copies of the query are at no distance.
const MOST_GROWTH: f32 = 1.0;

/// Turns a scorer's distances into squared ones, scale · distance + shift.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Squared {
    pub(super) scale: f32,
    pub(super) shift: f32,
}

impl Squared {
    #[inline(always)]
    pub(super) fn of(self, beam: &Beam, place: usize) -> f32 {
        (self.scale * beam.distance(place) + self.shift).max(0.0)
    }

    fn invert(self, squared: f32) -> f32 {
        (squared - self.shift) / self.scale
    }

    /// How far beyond the k-th hit the entry at `place` lies; there are at least k entries.
    #[inline(always)]
    pub(super) fn ratio(self, beam: &Beam, place: usize, k: usize) -> f32 {
        let (next, last) = (self.of(beam, place), self.of(beam, k - 1));
        if next > 0.0 { next / last } else { 0.0 }
    }

    /// How much farther the hundredth entry is than the tenth; there are more than [`FAR`].
    #[inline(always)]
    pub(super) fn growth(self, beam: &Beam) -> f32 {
        let growth = (self.of(beam, FAR) / self.of(beam, NEAR)).sqrt() - 1.0;
        // Also where both are 0.
        if growth <= MOST_GROWTH { growth } else { MOST_GROWTH }
    }
}

/// The hits that the next node is held against: one, or a mixture of two where calibration knows of a lower and a higher k.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Against {
    pub(super) low: usize,
    pub(super) high: usize,
    /// The share of the higher one.
    pub(super) share: f32,
}

/// Ends a walk at a threshold.
pub(super) struct Within<'a> {
    pub(super) squared: Squared,
    pub(super) k: usize,
    /// The nodes that may be hits, unless all may.
    pub(super) matching: Option<&'a BitSet>,
    pub(super) against: Against,
    pub(super) weight: f32,
    pub(super) threshold: f32,
}

impl Within<'_> {
    /// The place in the beam of the k-th hit, counted from 1.
    #[inline(always)]
    fn place_of_hit(&self, beam: &Beam, k: usize) -> Option<usize> {
        let Some(matching) = self.matching else { return Some(k) };
        let places = beam.candidates().zip(1..).filter(|(hit, _)| matching.contains(hit.node));
        places.map(|(_, place)| place).nth(k - 1)
    }
}

impl StopRule for Within<'_> {
    #[inline(always)]
    fn is_over(&mut self, beam: &mut Beam, place: usize) -> bool {
        let Against { low, high, share } = self.against;
        let [Some(k), Some(low), Some(high)] = [self.k, low, high].map(|k| self.place_of_hit(beam, k)) else {
            return false;
        };
        let least = k.max(high).max(FAR + 1);
        if beam.len() < least {
            return false;
        }
        // Nothing beyond this is ever expanded: the hits only come nearer.
        let limit = self.threshold * self.squared.of(beam, high - 1);
        beam.limit_to(self.squared.invert(limit), least);
        let mut ratio = self.squared.ratio(beam, place, low);
        if share > 0.0 {
            ratio += share * (self.squared.ratio(beam, place, high) - ratio);
        }
        ratio + self.weight * self.squared.growth(beam) > self.threshold
    }
}
