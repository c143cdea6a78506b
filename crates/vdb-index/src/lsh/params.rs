//! What tables are made with, and what follows from the number of rows where nothing was said.

/// The hash functions of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LshFamily {
    /// One bit per hyperplane with a Gaussian normal (Charikar, STOC 2002): the chance of equal bits is 1 − θ/π.
    Hyperplane,
    /// The same bits from fast pseudo-random rotations. Hyperplanes of one rotation are orthogonal, which lowers the
    /// variance of the number of equal bits (Ji et al., NIPS 2012).
    FastHyperplane,
    /// Which vertex of a rotated cross-polytope is nearest (Andoni, Indyk, Laarhoven, Razenshteyn, Schmidt, NIPS
    /// 2015): the largest of some coordinates and its sign.
    #[default]
    CrossPolytope,
}

/// Parameters of the tables, fixed when they are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LshParams {
    /// The hash functions. Default cross-polytope.
    pub family: LshFamily,
    /// Hash tables (paper: L), 1 to 1,024. More: better recall at equal candidates, more memory. `None`: 16.
    pub num_tables: Option<usize>,
    /// Bits of a table's codes at most (paper: k or M), 1 to 64. n rows use log2(n / 2) of them, 20 at most: longer
    /// codes would leave most buckets empty and make every probe a miss. `None`: as many as suit the rows.
    pub num_functions: Option<usize>,
    /// Decides the hash functions. Default 0.
    pub seed: u64,
}

/// The most hash tables.
const MAX_TABLES: usize = 1_024;
/// The most bits that may be asked for.
const MAX_FUNCTIONS: usize = 64;
/// Tables when nothing was said.
const DEFAULT_TABLES: usize = 16;
/// Rows that share a bucket if they spread evenly. Rows of real data crowd: most lie in fuller buckets. Eight, the usual
/// rule, leaves buckets too coarse (wordnet-minilm-384, 400 candidates: recall 0.804 at 8, 0.867 at 2, 0.891 at 1, where
/// queries take 1.5 times as long as at 8).
const ROWS_PER_BUCKET: usize = 2;
/// The longest codes: a table's array has an entry per code.
const MAX_BITS: usize = 20;

impl LshParams {
    /// Says in a sentence which parameter is out of its range.
    ///
    /// # Errors
    /// When `num_tables` is outside 1 to 1,024, or `num_functions` outside 1 to 64.
    pub fn check(&self) -> Result<(), String> {
        let check = |name, value: Option<usize>, most| match value {
            Some(value) if !(1..=most).contains(&value) => {
                Err(format!("{name} is {value}, expected 1 to {most}"))
            }
            _ => Ok(()),
        };
        check("num_tables", self.num_tables, MAX_TABLES)?;
        check("num_functions", self.num_functions, MAX_FUNCTIONS)
    }

    /// Tables that there are.
    pub(super) fn tables(&self) -> usize {
        self.num_tables.unwrap_or(DEFAULT_TABLES)
    }

    /// Bits per table for `rows` rows.
    pub(super) fn bits(&self, rows: usize) -> usize {
        let suitable = (rows / ROWS_PER_BUCKET).max(2).ilog2() as usize;
        suitable.min(MAX_BITS).min(self.num_functions.unwrap_or(MAX_BITS))
    }
}
