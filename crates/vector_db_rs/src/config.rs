//! The specification's configuration: dimension, metric, index type; and how it maps to the engine's terms.

use crate::Error;
use serde::{Deserialize, Serialize};
use vdb_distance::Metric;

/// How two vectors are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DistanceMetric {
    /// Straight-line distance √Σ(aᵢ − bᵢ)²; smaller is closer.
    Euclidean,
    /// The cosine of the angle, −1 to 1; larger is closer. A zero vector has the similarity 0 to every vector.
    Cosine,
    /// The inner product Σ aᵢ bᵢ; larger is closer.
    DotProduct,
}

impl DistanceMetric {
    /// The metric's value for two vectors of the same length.
    ///
    /// This is the number that a [`SearchResult`](crate::SearchResult) reports as `distance`, bit for bit. It is a
    /// number for all finite vectors: where squares leave the range of `f32` it is computed in double precision.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn calculate(&self, a: &[f32], b: &[f32]) -> f32 {
        Metric::from(*self).calculate(a, b)
    }

    /// Whether larger values of [`calculate`](Self::calculate) are closer.
    pub fn is_similarity(&self) -> bool {
        Metric::from(*self).is_similarity()
    }
}

impl From<DistanceMetric> for Metric {
    fn from(metric: DistanceMetric) -> Metric {
        match metric {
            DistanceMetric::Euclidean => Metric::Euclidean,
            DistanceMetric::Cosine => Metric::Cosine,
            DistanceMetric::DotProduct => Metric::DotProduct,
        }
    }
}

/// Which index answers searches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum IndexType {
    /// Exact: every vector is compared, on all threads.
    Flat,
    /// Approximate: locality-sensitive hashing with multi-probe. It is here because it is specified and instructive;
    /// HNSW is faster at equal recall.
    LSH,
    /// Approximate: a hierarchical navigable small-world graph. The one to use from some ten thousand vectors on.
    HNSW,
    /// Approximate: posting lists around centroids, with short codes. Less memory than a graph and a shorter build;
    /// changes cost little.
    IVF,
}

/// Configuration of a database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VectorDBConfig {
    /// Values per vector, 1 to 65,536.
    pub dimension: usize,
    /// How vectors are compared.
    pub distance_metric: DistanceMetric,
    /// Which index answers searches.
    pub index_type: IndexType,
}

/// The largest dimension.
pub const MAX_DIMENSION: usize = 65_536;

/// Says in a sentence what is wrong with a dimension.
pub(crate) fn check_dimension(dimension: usize) -> Result<(), Error> {
    if (1..=MAX_DIMENSION).contains(&dimension) {
        return Ok(());
    }
    Err(Error::InvalidConfig(format!("dimension is {dimension}, expected 1 to {MAX_DIMENSION}")))
}
