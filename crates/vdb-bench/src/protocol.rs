//! What a contender's process prints: a JSON object a line, described at the head of `benchmarks/peers.py`.

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// One search setting of a built index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The setting, such as ef_search.
    pub param: usize,
    /// Share of the true k nearest that were found.
    pub recall: f64,
    /// Queries per second.
    pub qps: f64,
    /// Seconds that the build took.
    pub build_s: f64,
    /// Resident memory that came with the build, in MB (2²⁰ bytes).
    pub rss_mb: f64,
    /// Median time of a search call, in microseconds, where calls are of one query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_us: Option<f64>,
    /// 99th percentile of that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<f64>,
    /// Distances computed per query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distances: Option<f64>,
    /// Graph nodes expanded per query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hops: Option<f64>,
}

/// A line of a contender's output.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// The library is not installed; the reason.
    Absent {
        /// In a few words.
        absent: String,
    },
    /// The library's version.
    Version {
        /// As its package states it.
        version: String,
    },
    /// A measurement.
    Row(Row),
}

impl Line {
    /// Reads one line.
    ///
    /// # Errors
    ///
    /// Not one of the objects, or numbers that no measurement gives.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let line = serde_json::from_str(text).ok().with_context(|| format!("not a measurement: {text}"))?;
        if let Self::Row(row) = &line {
            let sound = (0.0..=1.0).contains(&row.recall) && row.qps > 0.0;
            anyhow::ensure!(sound, "no measurement has these numbers: {text}");
        }
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_line_is_read() {
        let absent = Line::parse(r#"{"absent": "No module named 'scann'"}"#).unwrap();
        assert_eq!(absent, Line::Absent { absent: "No module named 'scann'".to_owned() });
        assert_eq!(
            Line::parse(r#"{"version": "0.8.0"}"#).unwrap(),
            Line::Version { version: "0.8.0".to_owned() }
        );
        // As `vdb bench ann --json` prints it, with fields that are not asked for.
        let text = r#"{"set":"s","label":"vdb hnsw","param":16,"recall":0.959,"qps":34656.0,"p50_us":11.1,
            "p99_us":22.4,"build_s":1.8,"rss_mb":9.4,"k":10,"threads":1,"distances":350.3}"#;
        let Line::Row(row) = Line::parse(text).unwrap() else { panic!("not a row") };
        assert_eq!((row.param, row.recall, row.qps), (16, 0.959, 34656.0));
        assert_eq!((row.p50_us, row.distances, row.hops), (Some(11.1), Some(350.3), None));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "building…",
            "{}",
            r#"{"param":1,"recall":0.5}"#,
            r#"{"param":1,"recall":1.5,"qps":1.0,"build_s":1.0,"rss_mb":1.0}"#,
            r#"{"param":1,"recall":0.5,"qps":0.0,"build_s":1.0,"rss_mb":1.0}"#,
        ] {
            assert!(Line::parse(text).is_err(), "{text}");
        }
    }
}
