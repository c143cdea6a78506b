//! Data sets with ground truth, in the layout of the big-ann benchmarks: base vectors, queries, true neighbours.

use crate::formats::{GroundTruth, Matrix, read_ground_truth, read_matrix};
use crate::payload_filter::{self, Definition};
use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use vector_db_rs::Metric;

#[derive(Deserialize)]
struct Stats {
    metric: String,
}

/// The folder of one data set.
pub(crate) struct DataSet {
    folder: PathBuf,
    pub(crate) metric: Metric,
}

impl DataSet {
    pub(crate) fn open(data: &Path, set: &str) -> anyhow::Result<Self> {
        let folder = data.join(set);
        let stats = folder.join("stats.json");
        let text = fs::read_to_string(&stats).with_context(|| format!("{}", stats.display()))?;
        let Stats { metric } = serde_json::from_str(&text).with_context(|| format!("{}", stats.display()))?;
        let metric = metric.parse().with_context(|| format!("{}", stats.display()))?;
        Ok(Self { folder, metric })
    }

    /// The vectors of STEM.fbin, STEM.u8bin or another format that is there.
    pub(crate) fn vectors(&self, stem: &str) -> anyhow::Result<Matrix> {
        Ok(read_matrix(&self.path(stem)?)?)
    }

    /// The file that [`vectors`](Self::vectors) reads.
    pub(crate) fn path(&self, stem: &str) -> anyhow::Result<PathBuf> {
        let known = ["fbin", "u8bin", "i8bin", "f16bin", "fvecs", "bvecs", "npy"];
        let path = known.iter().map(|extension| self.folder.join(format!("{stem}.{extension}")));
        let Some(path) = path.into_iter().find(|path| path.exists()) else {
            bail!("{}: no {stem}.* in any of the formats {}", self.folder.display(), known.join(", "));
        };
        Ok(path)
    }

    /// The records that describe the base rows, line by line.
    pub(crate) fn payload(&self) -> PathBuf {
        self.folder.join("payload.jsonl")
    }

    /// The filters of the set by name.
    pub(crate) fn filters(&self) -> anyhow::Result<BTreeMap<String, Definition>> {
        payload_filter::definitions(&self.folder)
    }

    /// The base rows that the filter called `name` allows, of `rows` rows.
    pub(crate) fn filter(&self, name: &str, rows: usize) -> anyhow::Result<Vec<bool>> {
        payload_filter::rows_allowed(&self.folder, name, rows)
    }

    /// The true neighbours of the queries called `queries` among the rows of a filter, at least `k` a query.
    pub(crate) fn truth(
        &self,
        queries: &str,
        filter: Option<&str>,
        count: usize,
        k: usize,
    ) -> anyhow::Result<GroundTruth> {
        let of_queries = if queries == "query" { String::new() } else { format!("{queries}.") };
        let of_filter = filter.map_or(String::new(), |name| format!(".filter.{name}"));
        let path = self.folder.join(format!("{of_queries}gt{of_filter}.ibin"));
        let truth = read_ground_truth(&path)?;
        let (n, known) = (truth.n, truth.k);
        ensure!(n == count, "{}: it is for {n} queries, there are {count}", path.display());
        ensure!(known >= k, "{}: it names {known} neighbours a query, k is {k}", path.display());
        Ok(truth)
    }
}
