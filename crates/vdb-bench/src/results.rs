//! What was measured, as it is written to the JSON file, and the figures that follow from it.

use crate::machine::Machine;
use crate::protocol::Row;
use anyhow::ensure;
use serde::{Deserialize, Serialize};

/// How a round of a contender ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All settings were measured.
    Measured,
    /// It is not installed; why that is known.
    Absent(String),
    /// It was ended at the limit on its time, of so many seconds; the settings measured by then count.
    Stopped(f64),
    /// It failed; its last words.
    Failed(String),
}

/// What one process said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Which round of its contender it is, from 1; 0 until it is added to an entry, and in files from before it was kept.
    #[serde(default)]
    pub number: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// Version of the library, where it got as far as that.
    pub version: Option<String>,
    /// One for each search setting; of a failed or stopped round, those before the end.
    pub rows: Vec<Row>,
}

impl Round {
    /// A round that said nothing.
    pub fn without_rows(outcome: Outcome) -> Self {
        Self { number: 0, outcome, version: None, rows: Vec::new() }
    }
}

/// All rounds of one contender.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name among the contenders.
    pub name: String,
    /// Its name in tables and pictures.
    pub label: String,
    /// In the order of measurement.
    pub rounds: Vec<Round>,
}

/// What was asked of everyone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Data set.
    pub set: String,
    /// Stem of the files with the queries.
    pub queries: String,
    /// Neighbours to find.
    pub k: usize,
    /// Threads that search.
    pub threads: u32,
    /// Threads that build.
    pub build_threads: u32,
}

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// What was asked.
    pub task: Task,
    /// Where.
    pub machine: Machine,
    /// Commit of this repository; `+` behind it when files were changed.
    pub commit: String,
    /// Who was asked.
    pub entries: Vec<Entry>,
}

impl Results {
    /// Whether rounds of `other` may stand beside these.
    ///
    /// # Errors
    ///
    /// The task, the machine or the commit is another.
    pub fn same_run(&self, other: &Self) -> anyhow::Result<()> {
        ensure!(self.task == other.task, "results of different tasks: {:?} and {:?}", self.task, other.task);
        ensure!(self.machine == other.machine, "results of different machines");
        ensure!(
            self.commit == other.commit,
            "results of different commits: {} and {}",
            self.commit,
            other.commit
        );
        Ok(())
    }

    /// Adds the rounds of another run of the same task.
    ///
    /// # Errors
    ///
    /// As [`Self::same_run`].
    pub fn join(&mut self, other: Self) -> anyhow::Result<()> {
        self.same_run(&other)?;
        for entry in other.entries {
            let own = self.entry_mut(&entry.name, &entry.label);
            entry.rounds.into_iter().for_each(|round| own.push(round));
        }
        Ok(())
    }

    /// The rounds of the contender of that name, which has none yet if it is new.
    pub fn entry_mut(&mut self, name: &str, label: &str) -> &mut Entry {
        let place = self.entries.iter().position(|own| own.name == name).unwrap_or_else(|| {
            let (name, label) = (name.to_owned(), label.to_owned());
            self.entries.push(Entry { name, label, rounds: Vec::new() });
            self.entries.len() - 1
        });
        &mut self.entries[place]
    }

    /// The rounds of the contender of that name.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }
}

impl Entry {
    /// The worst outcome of its rounds: one failure is a failure.
    pub fn outcome(&self) -> Outcome {
        let badness = |outcome: &Outcome| match outcome {
            Outcome::Measured => 0,
            Outcome::Stopped(_) => 1,
            Outcome::Absent(_) => 2,
            Outcome::Failed(_) => 3,
        };
        // The first of the worst, so from the end: the last of equals is what `max_by_key` takes.
        let worst =
            self.rounds.iter().rev().map(|round| &round.outcome).max_by_key(|outcome| badness(outcome));
        worst.cloned().unwrap_or_else(|| Outcome::Failed("it was not run".to_owned()))
    }

    /// Adds a round as the next one.
    pub fn push(&mut self, round: Round) {
        let number = self.rounds.len() as u32 + 1;
        self.rounds.push(Round { number, ..round });
    }

    /// Whether another round would tell something: one who was absent or too slow is the same in the next.
    pub fn worth_a_round(&self) -> bool {
        let hopeless = |round: &Round| matches!(round.outcome, Outcome::Absent(_) | Outcome::Stopped(_));
        !self.rounds.iter().any(hopeless)
    }

    /// Whether its figures stand: every round was measured, or at least until it was stopped.
    fn has_figures(&self) -> bool {
        matches!(self.outcome(), Outcome::Measured | Outcome::Stopped(_))
    }

    /// The version of the last round that told it.
    pub fn version(&self) -> Option<&str> {
        self.rounds.iter().rev().find_map(|round| round.version.as_deref())
    }

    /// Median over the rounds of the queries per second at a recall; none unless every round reached it.
    pub fn qps_at(&self, recall: f64) -> Option<f64> {
        self.over_rounds(|round| qps_at(&round.rows, recall))
    }

    /// Median over the rounds of what `value` says of each; none unless it says something of all.
    fn over_rounds(&self, value: impl Fn(&Round) -> Option<f64>) -> Option<f64> {
        if !self.has_figures() {
            return None;
        }
        median(self.rounds.iter().map(value).collect::<Option<Vec<f64>>>()?)
    }

    /// Median of the seconds that builds took.
    pub fn build_s(&self) -> Option<f64> {
        self.over_rounds(|round| round.rows.first().map(|row| row.build_s))
    }

    /// Median of the memory that came with builds, in MB.
    pub fn rss_mb(&self) -> Option<f64> {
        self.over_rounds(|round| round.rows.first().map(|row| row.rss_mb))
    }

    /// Each setting that all rounds measured, with the medians of its figures.
    pub fn settings(&self) -> Vec<Row> {
        let Some(first) = self.rounds.first().filter(|_| self.has_figures()) else {
            return Vec::new();
        };
        let of = |param: usize, value: fn(&Row) -> Option<f64>| {
            let row = |round: &Round| round.rows.iter().find(|row| row.param == param).and_then(value);
            self.over_rounds(row)
        };
        let setting = |row: &Row| {
            let param = row.param;
            Some(Row {
                param,
                recall: of(param, |row| Some(row.recall))?,
                qps: of(param, |row| Some(row.qps))?,
                build_s: of(param, |row| Some(row.build_s))?,
                rss_mb: of(param, |row| Some(row.rss_mb))?,
                p50_us: of(param, |row| row.p50_us),
                p99_us: of(param, |row| row.p99_us),
                distances: of(param, |row| row.distances),
                hops: of(param, |row| row.hops),
            })
        };
        first.rows.iter().filter_map(setting).collect()
    }

    /// The first setting that reaches a recall.
    pub fn setting_at(&self, recall: f64) -> Option<Row> {
        self.settings().into_iter().find(|row| row.recall >= recall)
    }
}

/// The middle of the values, or the mean of the two in the middle; none of none.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let (low, high) = (values.len().checked_sub(1)? / 2, values.len() / 2);
    Some((values[low] + values[high]) / 2.0)
}

/// The settings that no other beats in both recall and speed, by rising recall.
pub fn frontier(rows: &[Row]) -> Vec<&Row> {
    let mut rows: Vec<&Row> = rows.iter().collect();
    rows.sort_by(|a, b| b.recall.total_cmp(&a.recall).then(b.qps.total_cmp(&a.qps)));
    let mut fastest = 0.0;
    rows.retain(|row| {
        row.qps > fastest && {
            fastest = row.qps;
            true
        }
    });
    rows.reverse();
    rows
}

/// Queries per second at a recall: on the frontier, between two settings by the logarithm of the speed; below the
/// lowest setting that setting's; none above the highest.
pub fn qps_at(rows: &[Row], recall: f64) -> Option<f64> {
    let frontier = frontier(rows);
    let above = frontier.iter().position(|row| row.recall >= recall)?;
    let high = frontier[above];
    let Some(low) = above.checked_sub(1).map(|below| frontier[below]) else {
        return Some(high.qps);
    };
    let share = (recall - low.recall) / (high.recall - low.recall);
    Some(((1.0 - share) * low.qps.ln() + share * high.qps.ln()).exp())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn row(param: usize, recall: f64, qps: f64) -> Row {
        let (build_s, rss_mb) = (2.0, 30.0);
        let none = None;
        Row { param, recall, qps, build_s, rss_mb, p50_us: none, p99_us: none, distances: none, hops: none }
    }

    fn measured(rows: &[(f64, f64)]) -> Round {
        let rows = rows.iter().enumerate().map(|(param, &(recall, qps))| row(param, recall, qps)).collect();
        Round { rows, ..Round::without_rows(Outcome::Measured) }
    }

    fn entry(rounds: Vec<Round>) -> Entry {
        Entry { name: "a".into(), label: "A".into(), rounds }
    }

    /// A contender's key, what came of it, and the recall and speed of its settings.
    type Given<'a> = (&'a str, Outcome, &'a [(f64, f64)]);

    pub(crate) fn results(entries: &[Given<'_>]) -> Results {
        let entries = entries.iter().map(|&(name, ref outcome, rows)| Entry {
            name: name.into(),
            label: format!("{name} <&>"),
            rounds: vec![Round { outcome: outcome.clone(), version: Some("1.2".into()), ..measured(rows) }],
        });
        let task = Task { set: "small".into(), queries: "query".into(), k: 10, threads: 1, build_threads: 2 };
        Results { task, machine: Machine::default(), commit: "abc".into(), entries: entries.collect() }
    }

    #[test]
    fn medians_are_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(vec![7.0]), Some(7.0));
        assert_eq!(median(vec![]), None);
    }

    #[test]
    fn speed_at_a_recall_lies_between_settings_by_the_logarithm() {
        let check = |rows: &[(f64, f64)], recall: f64, expected: Option<f64>| {
            let found = qps_at(&measured(rows).rows, recall);
            let near = match (found, expected) {
                (Some(found), Some(expected)) => (found / expected - 1.0).abs() < 1e-9,
                (found, expected) => found == expected,
            };
            assert!(near, "{rows:?} at {recall}: {found:?}, not {expected:?}");
        };
        let curve = [(0.8, 10_000.0), (0.9, 1_000.0), (1.0, 100.0)];
        check(&curve, 0.85, Some(10_000.0_f64.sqrt() * 1_000.0_f64.sqrt()));
        check(&curve, 0.9, Some(1_000.0));
        check(&curve, 0.5, Some(10_000.0));
        check(&curve[..2], 0.95, None);
        check(&[], 0.5, None);
        // A setting that another beats in both does not count: the order and noise do not matter.
        check(&[(1.0, 100.0), (0.85, 50.0), (0.8, 10_000.0), (0.9, 1_000.0)], 0.9, Some(1_000.0));
        check(&[(1.0, 100.0), (0.85, 50.0)], 0.85, Some(100.0));
        check(&[(0.9, 100.0), (0.9, 300.0)], 0.9, Some(300.0));
    }

    #[test]
    fn figures_are_medians_over_the_rounds() {
        let rounds = [10.0, 30.0, 20.0].map(|qps| measured(&[(0.9, qps * 2.0), (0.96, qps)]));
        let entry = entry(rounds.to_vec());
        assert_eq!(entry.qps_at(0.96).map(f64::round), Some(20.0));
        assert_eq!(entry.qps_at(0.99), None);
        assert_eq!((entry.build_s(), entry.rss_mb()), (Some(2.0), Some(30.0)));
        let speeds: Vec<f64> = entry.settings().iter().map(|row| row.qps).collect();
        assert_eq!(speeds, [40.0, 20.0]);
        assert_eq!(entry.setting_at(0.95).map(|row| row.param), Some(1));
        assert_eq!(entry.setting_at(0.97), None);
    }

    #[test]
    fn a_recall_that_one_round_missed_has_no_figure() {
        let entry = entry(vec![measured(&[(0.95, 10.0)]), measured(&[(0.94, 10.0)])]);
        assert_eq!((entry.qps_at(0.94), entry.qps_at(0.95)), (Some(10.0), None));
    }

    #[test]
    fn one_bad_round_is_no_success() {
        let failed = Outcome::Failed("broke".to_owned());
        let bad = Round { outcome: failed.clone(), ..measured(&[(0.9, 10.0)]) };
        let check = |rounds: Vec<Round>, outcome: Outcome| {
            let entry = entry(rounds);
            assert_eq!(entry.outcome(), outcome);
            assert_eq!((entry.qps_at(0.9), entry.build_s(), entry.settings()), (None, None, vec![]));
        };
        check(vec![measured(&[(0.9, 10.0)]), bad.clone()], failed.clone());
        let absent = Outcome::Absent("not there".to_owned());
        check(vec![Round::without_rows(absent.clone())], absent.clone());
        check(vec![Round::without_rows(absent), bad], failed);
        check(vec![], Outcome::Failed("it was not run".to_owned()));
    }

    #[test]
    fn what_was_measured_before_the_limit_counts() {
        let stopped = Round { outcome: Outcome::Stopped(60.0), ..measured(&[(0.9, 10.0), (0.96, 4.0)]) };
        let check = |rounds: Vec<Round>, outcome: Outcome, speeds: [Option<f64>; 3]| {
            let entry = entry(rounds);
            assert_eq!(entry.outcome(), outcome);
            assert_eq!([0.9, 0.96, 0.97].map(|recall| entry.qps_at(recall).map(f64::round)), speeds);
            assert_eq!(entry.worth_a_round(), outcome == Outcome::Measured);
        };
        let full = measured(&[(0.9, 20.0), (0.96, 6.0), (0.99, 1.0)]);
        check(vec![stopped.clone()], Outcome::Stopped(60.0), [Some(10.0), Some(4.0), None]);
        check(vec![full.clone(), stopped], Outcome::Stopped(60.0), [Some(15.0), Some(5.0), None]);
        check(vec![Round::without_rows(Outcome::Stopped(60.0))], Outcome::Stopped(60.0), [None; 3]);
        let full = [full.clone(), full];
        check(full.to_vec(), Outcome::Measured, [Some(20.0), Some(6.0), Some(3.0)]);
    }

    #[test]
    fn runs_of_one_task_are_joined() {
        let mut one = results(&[("a", Outcome::Measured, &[(0.9, 10.0)])]);
        let two =
            results(&[("a", Outcome::Measured, &[(0.9, 30.0)]), ("b", Outcome::Measured, &[(0.9, 5.0)])]);
        one.join(two.clone()).unwrap();
        assert_eq!(one.entries.len(), 2);
        assert_eq!(one.entry("a").unwrap().qps_at(0.9), Some(20.0));
        let numbers = |name: &str| one.entry(name).unwrap().rounds.iter().map(|round| round.number).collect();
        assert_eq!((numbers("a"), numbers("b")), (vec![0, 2], vec![1]), "the first was never added");
        for spoil in [
            |other: &mut Results| other.task.k = 100,
            |other: &mut Results| other.commit = "def".into(),
            |other: &mut Results| other.machine.cpu = "another".into(),
        ] {
            let mut other = two.clone();
            spoil(&mut other);
            assert!(one.join(other).is_err());
        }
    }

    #[test]
    fn results_come_back_from_json_as_they_were() {
        let results = results(&[
            ("a", Outcome::Measured, &[(0.9, 10.0)]),
            ("b", Outcome::Absent("gone".into()), &[]),
            ("c", Outcome::Failed("broke".into()), &[(0.5, 1.0)]),
            ("d", Outcome::Stopped(0.5), &[(0.5, 1.0)]),
        ]);
        let text = serde_json::to_string(&results).unwrap();
        assert_eq!(serde_json::from_str::<Results>(&text).unwrap(), results);
    }
}
