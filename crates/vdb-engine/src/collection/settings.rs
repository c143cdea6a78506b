//! What is to be chosen: of a write, what it survives; of a collection, when it seals and merges.

/// What a write survives once it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// The end of the process and a power failure.
    #[default]
    Sync,
    /// The end of the process; a power failure, too, a tenth of a second later.
    Interval,
    /// The end of the process.
    None,
}

/// When a collection seals and merges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// A head of so many points is sealed. More: fewer files; slower searches in between, and more to read again after a
    /// crash. Default 16,384.
    pub seal_points: usize,
    /// A head of so many bytes is sealed. Default 32 MiB.
    pub seal_bytes: u64,
    /// Segments of fewer points have no graph, nor another index, for they are searched exactly as fast. Default 4,096.
    pub least_graph_rows: usize,
    /// Writers wait while so many points have no graph, so that searches stay fast, and are slowed down from half of it on.
    /// At least what two heads and a segment without a graph hold in effect; while nobody searches, two to eight times as many,
    /// the more the fewer dimensions they have. Default 65,536.
    pub most_unindexed: usize,
    /// Segments that a search goes through at most, about. Default 8.
    pub most_segments: usize,
    /// Manifests of before that are kept, to be opened as they were. Default 0.
    pub kept_manifests: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seal_points: 16_384,
            seal_bytes: 32 << 20,
            least_graph_rows: 4_096,
            most_unindexed: 65_536,
            most_segments: 8,
            kept_manifests: 0,
        }
    }
}
