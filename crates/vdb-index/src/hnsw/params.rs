//! What a graph is built with.

use super::graph;

/// Rows from which [`Profile::Auto`] is [`Profile::Fast`]. On photo-sift-1m both profiles answer as many queries at a recall of
/// 0.95 for 10,000 to 300,000 rows; for a million the fast one answers 1.13 times as many, and 1.25 times at 0.99.
const FAST_FROM: usize = 1 << 18;
/// Links of new nodes under [`Profile::Compact`] and [`Profile::Fast`].
const COMPACT_M: usize = 16;
const FAST_M: usize = 32;

/// What a graph spends memory on: two settings of [`HnswParams::m`], and the choice between them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Profile {
    /// [`Compact`](Self::Compact) below 262,144 rows, [`Fast`](Self::Fast) from there on. A graph that grows past that number
    /// gets wider rows, and keeps them.
    #[default]
    Auto,
    /// m = 16: least memory and the shortest build.
    Compact,
    /// m = 32: 128 bytes a row more, and a build that takes a third longer. Walks take fewer steps, each to more neighbours that
    /// are waited for together. That pays where rows are many or much recall is wanted; where walks are short (below some
    /// 15 steps) it costs up to a tenth.
    Fast,
}

impl Profile {
    /// All of them.
    pub const ALL: [Profile; 3] = [Profile::Auto, Profile::Compact, Profile::Fast];

    /// What [`HnswParams::m`] is under it.
    pub fn m(self) -> Option<usize> {
        match self {
            Profile::Auto => None,
            Profile::Compact => Some(COMPACT_M),
            Profile::Fast => Some(FAST_M),
        }
    }

    /// The profile of these links, if it is one of them.
    pub fn of(m: Option<usize>) -> Option<Profile> {
        Self::ALL.into_iter().find(|profile| profile.m() == m)
    }

    /// `auto`, `compact` or `fast`.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Auto => "auto",
            Profile::Compact => "compact",
            Profile::Fast => "fast",
        }
    }
}

/// Parameters of the graph, fixed when it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HnswParams {
    /// Links that a new node makes on each layer (paper: M); the base layer holds up to 2 m a node. 2 to 128.
    /// More links: better recall per step, more memory (8 m bytes a vector) and build time. Default `None`: 16 or 32, by the
    /// number of rows, as under [`Profile::Auto`].
    pub m: Option<usize>,
    /// Beam width while building (paper: efConstruction). Larger: a better graph, a longer build. Default 200.
    pub ef_construction: usize,
    /// The exact scan is chosen when it computes at most this many distances per entry of the beam that the graph
    /// would need. 0 walks the graph whenever it can. Default 16, about where both take the same time.
    pub exact_scan_factor: usize,
    /// Decides levels and the order of insertion. Default 0.
    pub seed: u64,
}

impl HnswParams {
    /// The links that a new node makes on each layer of a graph that has so many rows, or has had them.
    pub fn m_for(&self, rows: usize) -> usize {
        self.m.unwrap_or(if rows < FAST_FROM { COMPACT_M } else { FAST_M })
    }

    /// Bytes of a row of the base layer.
    pub fn base_row_bytes(&self, rows: usize) -> usize {
        graph::base_stride(self.m_for(rows)) * size_of::<u32>()
    }

    /// Whether a graph may have come to so many links.
    pub(super) fn makes(&self, m: usize) -> bool {
        [0, FAST_FROM].into_iter().any(|rows| self.m_for(rows) == m)
    }

    /// What is wrong with `m` or `ef_construction`.
    ///
    /// # Errors
    /// The parameter that is out of its range, and the range.
    pub fn check(&self) -> Result<(), String> {
        match (self.m, self.ef_construction) {
            (Some(m), _) if !(2..=128).contains(&m) => Err(format!("m is {m}, expected 2 to 128")),
            (_, ef) if !(1..=65_536).contains(&ef) => {
                Err(format!("ef_construction is {ef}, expected 1 to 65536"))
            }
            _ => Ok(()),
        }
    }
}

impl Default for HnswParams {
    fn default() -> Self {
        Self { m: None, ef_construction: 200, exact_scan_factor: 16, seed: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_number_of_links_it_depends_on_the_rows() {
        let auto = HnswParams::default();
        assert_eq!([0, 262_143, 262_144].map(|rows| auto.m_for(rows)), [16, 16, 32]);
        let fast = HnswParams { m: Profile::Fast.m(), ..auto };
        assert_eq!([0, 262_144].map(|rows| fast.m_for(rows)), [32, 32]);
        assert_eq!(HnswParams { m: Some(5), ..auto }.m_for(1 << 20), 5);
        for profile in Profile::ALL {
            assert_eq!(Profile::of(profile.m()), Some(profile));
        }
        assert_eq!(Profile::of(Some(24)), None);
    }
}
