//! When a walk for a target recall is over: once the nearest unexpanded node lies clearly beyond the k-th hit.
//!
//! The rule of adaptive beam search (Al-Jazzazi et al., 2505.15636) ends a walk when d > (1 + γ) d_k for the distance d
//! of the next node. It spends more on queries whose neighbours are hardly nearer than the rest. Here squared distances are
//! compared, and how fast they grow counts, too: the walk is over when its *reach*
//!
//! d² / d_k² + [`CONTRAST`] · (d_100 / d_10 − 1)
//!
//! exceeds a threshold. The second term makes walks longer where the hundredth neighbour is about as far as the tenth, as
//! it is for queries from outside the data. Its weight was chosen on sums and differences of rows of three data sets: with
//! it a threshold found on rows gives those queries about the recall that rows have, at no more distances for rows.

use super::search::{Beam, StopRule};
use crate::BitSet;

/// What the growth of distances from the tenth to the hundredth neighbour counts for.
const CONTRAST: f32 = 0.25;
/// The places of these two.
const NEAR: usize = 9;
pub(super) const FAR: usize = 99;
/// Growth beyond this is not told apart: copies of the query are at no distance.
const MOST_CONTRAST: f32 = 1.0;

/// Turns a scorer's distances into squared ones, scale · distance + shift.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Squared {
    pub(super) scale: f32,
    pub(super) shift: f32,
}

impl Squared {
    #[inline(always)]
    fn of(self, beam: &Beam, place: usize) -> f32 {
        (self.scale * beam.distance(place) + self.shift).max(0.0)
    }

    fn invert(self, squared: f32) -> f32 {
        (squared - self.shift) / self.scale
    }

    /// What a walk has reached when the entry at `place` is next and `k` hits are wanted; there are at least [`FAR`] + 1
    /// entries, and k.
    #[inline(always)]
    pub(super) fn reach(self, beam: &Beam, place: usize, k: usize) -> f32 {
        let (next, last) = (self.of(beam, place), self.of(beam, k - 1));
        let growth = (self.of(beam, FAR) / self.of(beam, NEAR)).sqrt() - 1.0;
        // Also where both are 0.
        let growth = if growth <= MOST_CONTRAST { growth } else { MOST_CONTRAST };
        let ratio = if next > 0.0 { next / last } else { 0.0 };
        ratio + CONTRAST * growth
    }
}

/// Ends a walk at a threshold.
pub(super) struct Within<'a> {
    pub(super) squared: Squared,
    /// The hit that others are held against.
    pub(super) k: usize,
    /// The nodes that may be hits, unless all may.
    pub(super) matching: Option<&'a BitSet>,
    pub(super) threshold: f32,
}

impl Within<'_> {
    /// The place in the beam of the k-th hit, counted from 1.
    #[inline(always)]
    fn place_of_hit(&self, beam: &Beam) -> Option<usize> {
        let Some(matching) = self.matching else { return Some(self.k) };
        let places = beam.nodes(beam.len()).zip(1..).filter(|&(node, _)| matching.contains(node));
        places.map(|(_, place)| place).nth(self.k - 1)
    }
}

impl StopRule for Within<'_> {
    #[inline(always)]
    fn is_over(&mut self, beam: &mut Beam, place: usize) -> bool {
        let Some(k) = self.place_of_hit(beam) else { return false };
        let least = k.max(FAR + 1);
        if beam.len() < least {
            return false;
        }
        // Nothing beyond this is ever expanded: the k-th hit only comes nearer.
        let limit = self.threshold * self.squared.of(beam, k - 1);
        beam.limit_to(self.squared.invert(limit), least);
        self.squared.reach(beam, place, k) > self.threshold
    }
}
