//! The index as plain arrays, for storing it.

use super::coarse::Coarse;
use super::lists::{Layout, Lists};
use super::{Ivf, IvfParams, NOWHERE, Trained};
use crate::Vectors;
use vdb_distance::Metric;

/// The lists as plain arrays; without centroids while there are few rows.
#[derive(Debug, Clone, PartialEq)]
pub struct IvfParts {
    /// The parameters they were built with.
    pub params: IvfParams,
    /// Rows when the centroids were trained.
    pub trained: u64,
    /// Lists that a search probes unless told otherwise.
    pub probes: u32,
    /// What codes of centroids are relative to and queries are rotated around; empty under Manhattan.
    pub mean: Vec<f32>,
    /// One per list, row-major.
    pub centroids: Vec<f32>,
    /// Rows of each list.
    pub lens: Vec<u32>,
    /// The lists one after another: for each the offsets of its rows (u32, padded to 32), its blocks of codes, its rows
    /// of remaining bits (padded to 32).
    pub lists: Vec<u8>,
}

impl Ivf {
    /// The index as plain arrays.
    pub fn to_parts(&self) -> IvfParts {
        let mut parts = IvfParts {
            params: self.params,
            trained: 0,
            probes: 0,
            mean: Vec::new(),
            centroids: Vec::new(),
            lens: Vec::new(),
            lists: Vec::new(),
        };
        if let Some(trained) = &self.trained {
            parts.trained = trained.trained_rows as u64;
            parts.probes = trained.probes as u32;
            parts.mean = trained.codec.as_ref().map_or(Vec::new(), |c| c.quantizer().centre().to_vec());
            parts.centroids = trained.coarse.centroids().to_vec();
            (parts.lens, parts.lists) = trained.lists.to_bytes();
        }
        parts
    }

    /// An index over `vectors` from plain arrays.
    ///
    /// # Errors
    /// A sentence that says what does not fit: parameters out of range, array lengths, numbers that are not finite,
    /// rows that are not live, missing or listed twice.
    pub fn from_parts(vectors: &Vectors, parts: IvfParts) -> Result<Self, String> {
        let IvfParts { params, trained, probes, mean, centroids, lens, lists } = parts;
        params.check()?;
        if lens.is_empty() && centroids.is_empty() && mean.is_empty() && lists.is_empty() {
            return Ok(Self { params, trained: None });
        }
        let (metric, dim) = (vectors.metric(), vectors.dim());
        check_centroids(metric, dim, &mean, &centroids, lens.len())?;
        let live = vectors.live().count();
        if trained == 0 || trained > u64::from(u32::MAX) || probes == 0 {
            return Err(format!("{probes} probes of lists trained on {trained} rows"));
        }
        let codec = params.codec(metric, mean)?;
        let lists = Lists::from_bytes(Layout::new(codec.as_ref()), &lens, lists)?;
        let copies = if params.spill && lens.len() > 1 { 2 } else { 1 };
        let (homes, places) = homes(vectors, &lists, copies)?;
        if places != live * copies {
            return Err(format!("its lists hold {places} rows, expected {}", live * copies));
        }
        let coarse = Coarse::new(dim, centroids, codec.as_ref());
        let probes = probes as usize;
        let trained_rows = trained as usize;
        let trained =
            Trained { metric, codec, coarse, lists, homes, copies, rows: live, trained_rows, probes };
        Ok(Self { params, trained: Some(trained) })
    }
}

/// Checks the mean and the centroids of so many lists.
pub(super) fn check_centroids(
    metric: Metric,
    dim: usize,
    mean: &[f32],
    centroids: &[f32],
    lists: usize,
) -> Result<(), String> {
    if lists == 0 || lists.checked_mul(dim) != Some(centroids.len()) {
        return Err(format!(
            "{lists} lists of {dim} dimensions have {} values of centroids",
            centroids.len()
        ));
    }
    let mean_dim = if metric == Metric::Manhattan { 0 } else { dim };
    if mean.len() != mean_dim {
        return Err(format!("its mean has {} values, expected {mean_dim}", mean.len()));
    }
    match mean.iter().chain(centroids).find(|value| !value.is_finite()) {
        Some(value) => Err(format!("a value of its mean or centroids is {value}")),
        None => Ok(()),
    }
}

/// The lists of each row, and how many places of lists there are. Only live rows are in lists, none in more than rows are to
/// be.
pub(super) fn homes(vectors: &Vectors, lists: &Lists, copies: usize) -> Result<(Vec<u32>, usize), String> {
    let mut homes = vec![NOWHERE; vectors.len() * copies];
    let mut places = 0;
    for list in 0..lists.count() {
        for row in lists.get(list).rows() {
            if !vectors.live().contains(row) {
                return Err(format!("list {list} holds row {row}, which is not live"));
            }
            let own = &mut homes[row as usize * copies..][..copies];
            let free = own.iter_mut().find(|home| **home == NOWHERE);
            *free.ok_or_else(|| format!("row {row} is in more than {copies} lists"))? = list as u32;
            if own.iter().filter(|home| **home == list as u32).count() > 1 {
                return Err(format!("list {list} holds row {row} twice"));
            }
            places += 1;
        }
    }
    Ok((homes, places))
}
