//! The results as a markdown table. Who is absent or failed has no figures, but a row that says so; who was stopped at the
//! limit on its time has those that it came to, and says so, too.

use crate::contenders::REFERENCE;
use crate::results::{Entry, Outcome, Results};
use std::fmt::Write;

/// The recalls that speeds are stated at.
pub const RECALLS: [f64; 3] = [0.90, 0.95, 0.99];

/// The recall whose first setting stands for latency and work.
const TYPICAL: f64 = 0.95;

/// The task, the machine, and a row for each contender.
pub fn markdown(results: &Results) -> String {
    let task = &results.task;
    let mut text = format!(
        "{}, {}: recall@{}, {} search threads, {} build threads, medians of rounds, commit {}\n{}\n\n",
        task.set,
        task.queries,
        task.k,
        task.threads,
        task.build_threads,
        results.commit,
        results.machine.line()
    );
    let speeds: String = RECALLS.iter().map(|recall| format!(" QPS @{recall:.2} |")).collect();
    let columns =
        ["rounds", "× hnswlib", "build s", "MB", "p50 / p99 µs", "distances", "hops", "ns a distance"];
    let heads = columns.join(" | ");
    let rule = "---|".repeat(RECALLS.len() + columns.len() + 1);
    // Writing to a String does not fail.
    let _ = writeln!(text, "| {} |{speeds} {heads} |\n|{rule}", task.set);
    for entry in &results.entries {
        let cells = match entry.outcome() {
            Outcome::Measured => measured(entry, results.entry(REFERENCE)),
            Outcome::Stopped(limit) if entry.settings().is_empty() => format!("stopped after {limit} s"),
            Outcome::Stopped(_) => measured(entry, results.entry(REFERENCE)),
            Outcome::Absent(reason) => format!("absent: {}", cell(&reason)),
            Outcome::Failed(reason) => format!("failed: {}", cell(&reason)),
        };
        let version = entry.version().map_or_else(String::new, |version| format!(" {version}"));
        let stopped = match entry.outcome() {
            Outcome::Stopped(limit) if !entry.settings().is_empty() => format!(", stopped after {limit} s"),
            _ => String::new(),
        };
        let _ = writeln!(text, "| {}{}{stopped} | {cells} |", cell(&entry.label), cell(&version));
    }
    let _ =
        writeln!(text, "\nLatency, distances and hops: of the first setting with recall {TYPICAL} or more.");
    text
}

/// Text that stays inside its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn measured(entry: &Entry, reference: Option<&Entry>) -> String {
    let speeds = RECALLS.map(|recall| entry.qps_at(recall));
    let ratio = |(recall, speed): (f64, Option<f64>)| {
        let other = reference.and_then(|reference| reference.qps_at(recall));
        speed.zip(other).map_or_else(none, |(speed, other)| format!("{:.2}", speed / other))
    };
    let ratios: Vec<String> = RECALLS.into_iter().zip(speeds).map(ratio).collect();
    let typical = entry.setting_at(TYPICAL);
    let of = |value: Option<f64>, digits: usize| value.map_or_else(none, |value| number(value, digits));
    let typical_of = |value: fn(&crate::protocol::Row) -> Option<f64>| typical.as_ref().and_then(value);
    let latency = [typical_of(|row| row.p50_us), typical_of(|row| row.p99_us)].map(|value| of(value, 0));
    let mut cells: Vec<String> = speeds.map(|speed| of(speed, 0)).to_vec();
    cells.push(entry.rounds.len().to_string());
    cells.push(ratios.join(" / "));
    cells.push(of(entry.build_s(), 1));
    cells.push(of(entry.rss_mb(), 0));
    cells.push(latency.join(" / "));
    cells.push(of(typical_of(|row| row.distances), 0));
    cells.push(of(typical_of(|row| row.hops), 0));
    cells.push(of(typical_of(|row| row.distances.map(|distances| 1e9 / (row.qps * distances))), 0));
    cells.join(" | ")
}

fn none() -> String {
    "–".to_owned()
}

/// With commas between thousands.
fn number(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let whole = text.split('.').next().unwrap_or_default().trim_start_matches('-').len();
    let start = text.len() - text.trim_start_matches('-').len();
    let mut grouped = String::new();
    for (place, digit) in text.chars().enumerate() {
        let left = (whole + start).saturating_sub(place);
        if place > start && left > 0 && left % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::results;

    #[test]
    fn thousands_are_grouped() {
        let check = |value: f64, digits: usize, text: &str| assert_eq!(number(value, digits), text);
        check(0.4, 0, "0");
        check(999.0, 0, "999");
        check(1_234.56, 1, "1,234.6");
        check(1_234_567.0, 0, "1,234,567");
        check(-123.0, 0, "-123");
        check(-1_234.0, 0, "-1,234");
    }

    #[test]
    fn everyone_has_a_row_and_only_the_measured_have_figures() {
        let results = results(&[
            ("ours", Outcome::Measured, &[(0.9, 40_000.0), (0.96, 12_000.0)]),
            ("hnswlib", Outcome::Measured, &[(0.9, 20_000.0), (0.99, 5_000.0)]),
            ("gone", Outcome::Absent("No module named 'gone'".into()), &[]),
            ("slow", Outcome::Stopped(90.0), &[(0.95, 70.0)]),
            ("slower", Outcome::Stopped(90.5), &[]),
            ("broken", Outcome::Failed("bad | worse".into()), &[(0.99, 1_000_000.0)]),
        ]);
        let text = markdown(&results);
        let row = |name: &str| {
            let row = text.lines().find(|line| line.starts_with(&format!("| {name} <&> 1.2")));
            row.unwrap_or_else(|| panic!("no row of {name}: {text}")).to_owned()
        };
        assert!(row("ours").contains("| 40,000 | 14,6"), "{text}");
        assert!(row("ours").contains("| – | 1 | 2.00 / "), "0.99 is not reached: {text}");
        assert!(row("hnswlib").contains("| 1 | 1.00 / 1.00 / 1.00 | 2.0 | 30 |"), "{text}");
        assert!(row("slow").starts_with("| slow <&> 1.2, stopped after 90 s | 70 | 70 | – | 1 |"), "{text}");
        assert_eq!(row("slower"), "| slower <&> 1.2 | stopped after 90.5 s |");
        assert_eq!(row("gone"), "| gone <&> 1.2 | absent: No module named 'gone' |");
        assert_eq!(row("broken"), "| broken <&> 1.2 | failed: bad \\| worse |");
    }
}
