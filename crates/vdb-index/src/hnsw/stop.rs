//! When a walk for a target recall is over: once the nearest unexpanded node lies clearly beyond the k-th hit.
//!
//! The rule of adaptive beam search (Al-Jazzazi et al., 2505.15636) ends a walk when d > (1 + γ) d_k for the distance d
//! of the next node. It spends more on queries whose neighbours are hardly nearer than the rest. Here squared distances are
//! compared, and how fast they grow counts, too: the walk is over when its *reach*
//!
//! d² / d_k² + weight · (d_100 / d_10 − 1)
//!
//! exceeds a threshold. The second term makes walks longer where the hundredth neighbour is about as far as the tenth, as
//! it is for queries from outside the data. Where as many hits are known from elsewhere, of other segments, only those that are
//! nearer are looked for, by the rule for a lower recall. Calibration finds weight and threshold. Nothing else that a walk knows helped:
//! boosted trees that predict the recall from 17 features (ages of the hits, how far the walk has come, absolute
//! distances) ended walks no better than with these two and the number of hops.

use super::search::{Beam, StopRule};
use crate::BitSet;

/// The places of the two distances whose growth counts.
const NEAR: usize = 9;
pub(super) const FAR: usize = 99;
/// Shares of the hits that are told apart.
pub(super) const SHARES: usize = 4;
/// Entries that are kept for rerank beyond the hits, however far they are: one for so many hits, and some.
const KEPT_SHARE: usize = 4;
const KEPT: usize = 16;
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

/// When a walk for some hits is over.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rule {
    pub(super) against: Against,
    pub(super) weight: f32,
    pub(super) threshold: f32,
}

/// As many hits as are wanted are known from elsewhere, so that only nearer ones are looked for. A walk misses the nearest of its
/// hits less often than the others; so with few of them to be found, a walk for a lower recall finds the same share of those.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Known {
    /// The squared distance of the farthest of them.
    pub(super) squared: f32,
    /// For k hits of which at most a half, a quarter and so on are looked for.
    pub(super) rules: [Rule; SHARES],
}

/// Ends a walk at a threshold.
pub(super) struct Within<'a> {
    pub(super) squared: Squared,
    pub(super) k: usize,
    /// The nodes that may be hits, unless all may.
    pub(super) matching: Option<&'a BitSet>,
    pub(super) rule: Rule,
    pub(super) known: Option<Known>,
}

impl Within<'_> {
    /// Places in the beam of entries that may be hits, counted from 1.
    fn places_of_hits<'b>(&'b self, beam: &'b Beam) -> impl Iterator<Item = usize> + 'b {
        let hits = beam.candidates().zip(1..);
        let may_be = |node: u32| self.matching.is_none_or(|matching| matching.contains(node));
        hits.filter(move |(hit, _)| may_be(hit.node)).map(|(_, place)| place)
    }

    /// The place in the beam of the k-th hit, counted from 1; none while there are fewer.
    #[inline(always)]
    fn place_of_hit(&self, beam: &Beam, k: usize) -> Option<usize> {
        if self.matching.is_none() {
            (k <= beam.len()).then_some(k)
        } else {
            self.places_of_hits(beam).nth(k - 1)
        }
    }

    /// Whether it matters how far the [`FAR`]th entry is.
    #[inline(always)]
    fn looks_at_growth(&self) -> bool {
        let known = self.known.iter().flat_map(|known| &known.rules);
        self.rule.weight > 0.0 || known.into_iter().any(|rule| rule.weight > 0.0)
    }

    /// The rule for as many hits as are nearer than what is known from elsewhere.
    #[inline(always)]
    fn rule(&self, beam: &Beam) -> Rule {
        let Some(known) = &self.known else { return self.rule };
        let places = self.places_of_hits(beam).take(self.k);
        let nearer = places.take_while(|place| self.squared.of(beam, place - 1) <= known.squared).count();
        // One more may come.
        let fits = known.rules.iter().zip(1..).take_while(|(_, halved)| nearer < self.k >> halved);
        fits.last().map_or(self.rule, |(rule, _)| *rule)
    }

    /// Leaves out of the beam what is never expanded: the hits only come nearer.
    #[inline(always)]
    fn limit(&self, beam: &mut Beam) {
        let Some(last) = self.place_of_hit(beam, self.rule.against.high) else { return };
        let looked_at = if self.looks_at_growth() { FAR + 1 } else { last };
        let least = looked_at.max(last + last / KEPT_SHARE + KEPT);
        if beam.len() >= least {
            let limit = self.rule.threshold * self.squared.of(beam, last - 1);
            beam.limit_to(self.squared.invert(limit), least);
        }
    }

    /// Whether the reach of the walk exceeds the threshold.
    #[inline(always)]
    fn is_far_enough(&self, beam: &Beam, place: usize) -> bool {
        let Rule { against: Against { low, high, share }, weight, threshold } = self.rule(beam);
        let (Some(low), Some(high)) = (self.place_of_hit(beam, low), self.place_of_hit(beam, high)) else {
            return false;
        };
        let mut ratio = self.squared.ratio(beam, place, low);
        if share > 0.0 {
            ratio += share * (self.squared.ratio(beam, place, high) - ratio);
        }
        let growth = if weight > 0.0 { self.squared.growth(beam) } else { 0.0 };
        ratio + weight * growth > threshold
    }
}

impl StopRule for Within<'_> {
    #[inline(always)]
    fn is_over(&mut self, beam: &mut Beam, place: usize) -> bool {
        if beam.met() <= FAR {
            return false;
        }
        self.limit(beam);
        place >= beam.len() || self.is_far_enough(beam, place)
    }
}

#[cfg(test)]
mod tests;
