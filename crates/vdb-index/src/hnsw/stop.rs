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
use super::table::{Effort, Table};
use crate::BitSet;

/// The places of the two distances whose growth counts.
const NEAR: usize = 9;
pub(super) const FAR: usize = 99;
/// Hits that are known from elsewhere halve those to be found at most so often.
const MOST_HALVINGS: usize = 4;
/// How much less often walks miss the nearest of their hits than all.
const MISSED_POWER: f64 = 0.12;
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
struct Rule {
    against: Against,
    weight: f32,
    threshold: f32,
}

impl Rule {
    /// That for `target` of the k nearest.
    fn of(recalls: &Table, k: usize, target: f64) -> Self {
        let (Effort { weight, threshold, .. }, against) = recalls.effort(k, target);
        Rule { against, weight, threshold }
    }
}

/// Ends a walk at a threshold.
#[derive(Clone, Copy)]
pub(super) struct Within<'a> {
    squared: Squared,
    k: usize,
    /// The nodes that may be hits, unless all may. The place of the k-th of them among all nodes is the number of hits that the
    /// rule is for, whatever share of the nodes matches around the query: who finds so many of all nodes finds k of these.
    matching: Option<&'a BitSet>,
    /// As many hits as are wanted are known from elsewhere, the farthest of them at this squared distance, so that only
    /// nearer ones are looked for. A walk misses the nearest of its hits less often than the others; so with few of them to
    /// be found, a walk for a lower recall finds the same share of those.
    known: Option<f32>,
    recalls: &'a Table,
    target: f64,
    rule: Rule,
    /// The place of the k-th hit, and how often the hits to be found may be halved, that the rule is for.
    rule_for: (usize, usize),
}

impl<'a> Within<'a> {
    /// For k hits; all nodes may be hits.
    pub(super) fn new(
        recalls: &'a Table,
        (k, target): (usize, f64),
        known: Option<f32>,
        squared: Squared,
    ) -> Self {
        let rule = Rule::of(recalls, k, target);
        Within { squared, k, matching: None, known, recalls, target, rule, rule_for: (k, 0) }
    }

    /// The same where these nodes may be hits.
    pub(super) fn among(self, matching: &'a BitSet) -> Self {
        Within { matching: Some(matching), ..self }
    }

    /// Places in the beam of entries that may be hits, counted from 1.
    fn places_of_hits<'b>(&'b self, beam: &'b Beam) -> impl Iterator<Item = usize> + 'b {
        let hits = beam.candidates().zip(1..);
        let may_be = |node: u32| self.matching.is_none_or(|matching| matching.contains(node));
        hits.filter(move |(hit, _)| may_be(hit.node)).map(|(_, place)| place)
    }

    /// The place in the beam of the k-th hit, counted from 1; none while there are fewer.
    #[inline(always)]
    fn place_of_last(&self, beam: &Beam) -> Option<usize> {
        if self.matching.is_none() {
            return (self.k <= beam.len()).then_some(self.k);
        }
        self.places_of_hits(beam).nth(self.k - 1)
    }

    /// How often the hits to be found may be halved until they are those that are nearer than what is known from elsewhere.
    fn halvings(&self, beam: &Beam) -> usize {
        let Some(known) = self.known else { return 0 };
        let places = self.places_of_hits(beam).take(self.k);
        let nearer = places.take_while(|place| self.squared.of(beam, place - 1) <= known).count();
        // One more may come.
        (1..=MOST_HALVINGS).take_while(|halvings| nearer < self.k >> halvings).count()
    }

    /// Takes the rule for what the beam holds; false when it does not hold as much as the rule looks at.
    #[inline(always)]
    fn look(&mut self, beam: &Beam) -> bool {
        let Some(last) = self.place_of_last(beam) else { return false };
        let rule_for = (last, self.halvings(beam));
        if rule_for != self.rule_for {
            // Of graphs over an eighth to a half of wordnet-minilm-384 and photo-sift-1m, walks miss (m / k)^p as many of the
            // nearest m as of all k, p from 0.3 where they miss a tenth to 0.6 where they miss a hundredth.
            let missed = 1.0 - self.target;
            let power = -MISSED_POWER * missed.ln();
            let missed = missed * 2_f64.powf(power * rule_for.1 as f64);
            self.rule = Rule::of(self.recalls, last, 1.0 - missed.min(1.0));
            self.rule_for = rule_for;
        }
        last.max(self.rule.against.high) <= beam.len()
    }

    /// Leaves out of the beam what is never expanded: the hits only come nearer. (Where the rule may still change, that holds but for
    /// nodes between two limits, which are hardly ever any.)
    #[inline(always)]
    fn limit(&self, beam: &mut Beam) {
        let Rule { against, weight, threshold } = self.rule;
        let last = self.rule_for.0.max(against.high);
        // Another rule may come.
        let looks_at_growth = weight > 0.0 || self.matching.is_some() || self.known.is_some();
        let looked_at = if looks_at_growth { FAR + 1 } else { last };
        let least = looked_at.max(last + last / KEPT_SHARE + KEPT);
        if beam.len() >= least {
            let limit = threshold * self.squared.of(beam, last - 1);
            beam.limit_to(self.squared.invert(limit), least);
        }
    }

    /// Whether the reach of the walk exceeds the threshold.
    #[inline(always)]
    fn is_far_enough(&self, beam: &Beam, place: usize) -> bool {
        let Rule { against: Against { low, high, share }, weight, threshold } = self.rule;
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
        if beam.met() <= FAR || !self.look(beam) {
            return false;
        }
        self.limit(beam);
        place >= beam.len() || self.is_far_enough(beam, place)
    }
}

#[cfg(test)]
mod tests;
