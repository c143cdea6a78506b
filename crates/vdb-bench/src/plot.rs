//! Recall against queries per second as an SVG picture.
//!
//! Speed is on a logarithmic axis; recall on the logarithm of what is missing, so that 0.9, 0.99 and 0.999 lie equally far
//! apart. A curve is the frontier of a contender's settings. A library has one colour, its variants have dashes, ours are
//! thick. The colours of paper and ink follow the reader's light or dark mode; those of the curves suit both.

use crate::protocol::Row;
use crate::results::{Entry, Results, frontier};
use std::fmt::Write;

const WIDTH: f64 = 1_080.0;
const HEIGHT: f64 = 560.0;
/// Edges of the plotted field.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 730.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 500.0;
/// Recalls at the left and the right edge; a recall above the right one is drawn there.
const RECALLS: (f64, f64) = (0.7, 0.999);
const TICKS: [f64; 8] = [0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999];
/// Line distance of the legend.
const LINE: f64 = 20.0;

/// Ours first, then the libraries in the order of their first appearance.
const COLOURS: [&str; 11] = [
    "#e4572e", "#3b82c4", "#2f9e6e", "#b07cc6", "#c79a1b", "#1fa5b0", "#d1658f", "#7f8c4a", "#8f7a66",
    "#6f78d8", "#8a8f98",
];
const DASHES: [&str; 7] = ["", "7 4", "2 3", "10 3 2 3", "14 4", "4 2", "10 3 2 3 2 3"];

const STYLE: &str = "
  svg { background: #ffffff; font: 13px system-ui, sans-serif; }
  text { fill: #24292f; } .faint { fill: #57606a; }
  .grid { stroke: #d0d7de; stroke-width: 1; } .frame { stroke: #8c959f; fill: none; }
  .curve { fill: none; stroke-width: 1.6; } .ours { stroke-width: 3.2; }
  @media (prefers-color-scheme: dark) {
    svg { background: #0d1117; }
    text { fill: #e6edf3; } .faint { fill: #9198a1; }
    .grid { stroke: #2b323b; } .frame { stroke: #656c76; }
  }
";

/// How a curve looks.
struct Look {
    colour: &'static str,
    dash: &'static str,
    ours: bool,
}

impl Look {
    fn attributes(&self) -> String {
        let class = if self.ours { "curve ours" } else { "curve" };
        let dash =
            if self.dash.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{}\"", self.dash) };
        format!("class=\"{class}\" stroke=\"{}\"{dash}", self.colour)
    }
}

/// The range of speeds on the axis: whole powers of ten.
struct Speeds {
    low: i32,
    high: i32,
}

impl Speeds {
    fn of(curves: &[(&Entry, Vec<Row>)]) -> Self {
        let visible = curves.iter().flat_map(|(_, rows)| rows).filter(|row| row.recall >= RECALLS.0);
        let logs: Vec<f64> = visible.map(|row| row.qps.log10()).collect();
        let low = logs.iter().copied().fold(f64::INFINITY, f64::min);
        let high = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if logs.is_empty() {
            return Self { low: 2, high: 5 };
        }
        let low = low.floor() as i32;
        Self { low, high: (high.ceil() as i32).max(low + 1) }
    }

    fn y(&self, qps: f64) -> f64 {
        let share = (qps.log10() - f64::from(self.low)) / f64::from(self.high - self.low);
        BOTTOM - share * (BOTTOM - TOP)
    }
}

fn x(recall: f64) -> f64 {
    let missing = |recall: f64| -(1.0 - recall.min(RECALLS.1)).log10();
    let share = (missing(recall) - missing(RECALLS.0)) / (missing(RECALLS.1) - missing(RECALLS.0));
    LEFT + share * (RIGHT - LEFT)
}

/// Part of a contender's name that names the library.
fn family(name: &str) -> &str {
    name.split('-').next().unwrap_or(name)
}

/// A look for each contender that was asked, so that colours do not depend on who answered.
fn looks(entries: &[Entry]) -> Vec<Look> {
    let mut families: Vec<(&str, usize)> = vec![("vdb", 0)];
    let look = |entry: &Entry, families: &mut Vec<(&str, usize)>, place: usize| {
        let variant = families[place].1;
        families[place].1 += 1;
        Look {
            colour: COLOURS[place % COLOURS.len()],
            dash: DASHES[variant % DASHES.len()],
            ours: family(&entry.name) == "vdb",
        }
    };
    let mut looks = Vec::new();
    for entry in entries {
        let own = family(&entry.name);
        let place = families.iter().position(|(family, _)| *family == own).unwrap_or_else(|| {
            families.push((own, 0));
            families.len() - 1
        });
        looks.push(look(entry, &mut families, place));
    }
    looks
}

/// The picture. Who was not measured is named below the legend.
pub fn svg(results: &Results) -> String {
    let looks = looks(&results.entries);
    let curves: Vec<(&Entry, Vec<Row>)> = results
        .entries
        .iter()
        .map(|entry| (entry, frontier(&entry.settings()).into_iter().cloned().collect()))
        .collect();
    let speeds = Speeds::of(&curves);
    let task = &results.task;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
         height=\"{HEIGHT}\" role=\"img\">\n<title>Recall and queries per second on {set}</title>\n\
         <style>{STYLE}</style>\n<clipPath id=\"field\"><rect x=\"{LEFT}\" y=\"{top}\" width=\"{width}\" \
         height=\"{height}\"/></clipPath>\n",
        set = escaped(&task.set),
        top = TOP - 4.0,
        width = RIGHT - LEFT + 5.0,
        height = BOTTOM - TOP + 8.0,
    );
    let threads =
        if task.threads == 1 { "one thread".to_owned() } else { format!("{} threads", task.threads) };
    let title = format!("{}: queries per second at recall@{}, {threads}", task.set, task.k);
    text(&mut out, LEFT, 28.0, "font-size=\"16\" font-weight=\"600\"", &title);
    axes(&mut out, &speeds);
    // Ours last, on top of the others.
    for ours in [false, true] {
        for ((_, rows), look) in curves.iter().zip(&looks).filter(|(_, look)| look.ours == ours) {
            curve(&mut out, rows, look, &speeds);
        }
    }
    legend(&mut out, &curves, &looks);
    let machine = format!("{} · commit {}", results.machine.cpu, results.commit);
    text(&mut out, LEFT, HEIGHT - 8.0, "class=\"faint\" font-size=\"11\"", &machine);
    out.push_str("</svg>\n");
    out
}

// Writing to a String does not fail: results of `write!` are left alone from here on.

fn text(out: &mut String, x: f64, y: f64, attributes: &str, words: &str) {
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" {attributes}>{}</text>", escaped(words));
}

fn line(out: &mut String, from: (f64, f64), to: (f64, f64), attributes: &str) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = writeln!(out, "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {attributes}/>");
}

fn axes(out: &mut String, speeds: &Speeds) {
    for recall in TICKS {
        let x = x(recall);
        line(out, (x, TOP), (x, BOTTOM), "class=\"grid\"");
        let words = if recall >= RECALLS.1 { format!("≥ {recall}") } else { recall.to_string() };
        text(out, x, BOTTOM + 18.0, "text-anchor=\"middle\" class=\"faint\"", &words);
    }
    for power in speeds.low..=speeds.high {
        for step in [1, 2, 5] {
            let qps = f64::from(step) * 10.0_f64.powi(power);
            if power == speeds.high && step > 1 {
                break;
            }
            let y = speeds.y(qps);
            line(out, (LEFT, y), (RIGHT, y), "class=\"grid\"");
            text(out, LEFT - 8.0, y + 4.0, "text-anchor=\"end\" class=\"faint\"", &short(qps));
        }
    }
    let (width, height) = (RIGHT - LEFT, BOTTOM - TOP);
    let _ = writeln!(
        out,
        "<rect x=\"{LEFT}\" y=\"{TOP}\" width=\"{width}\" height=\"{height}\" class=\"frame\"/>"
    );
    text(out, (LEFT + RIGHT) / 2.0, BOTTOM + 38.0, "text-anchor=\"middle\"", "recall");
    let turned = format!("text-anchor=\"middle\" transform=\"rotate(-90 16 {:.1})\"", (TOP + BOTTOM) / 2.0);
    text(out, 16.0, (TOP + BOTTOM) / 2.0, &turned, "queries per second");
}

/// 500, 20k, 1M.
fn short(qps: f64) -> String {
    match qps {
        _ if qps >= 1e6 => format!("{}M", qps / 1e6),
        _ if qps >= 1e3 => format!("{}k", qps / 1e3),
        _ => format!("{qps}"),
    }
}

/// A line through the settings and a dot on each; of settings far apart, the dots are all that was measured.
fn curve(out: &mut String, rows: &[Row], look: &Look, speeds: &Speeds) {
    // What lies left of the field may lie below the axis, too: the clip hides it.
    let points: Vec<(f64, f64)> = rows.iter().map(|row| (x(row.recall), speeds.y(row.qps))).collect();
    let listed: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    if points.len() > 1 {
        let _ = writeln!(
            out,
            "<polyline clip-path=\"url(#field)\" points=\"{}\" {}/>",
            listed.join(" "),
            look.attributes()
        );
    }
    let radius = if look.ours { 3.6 } else { 2.4 };
    for (x, y) in points.iter().filter(|(x, _)| *x >= LEFT) {
        let _ =
            writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{}\"/>", look.colour);
    }
}

/// The measured, fastest at recall 0.95 first, with their speed there; then the others.
fn legend(out: &mut String, curves: &[(&Entry, Vec<Row>)], looks: &[Look]) {
    let (left, mut y) = (RIGHT + 24.0, TOP + 6.0);
    text(out, WIDTH - 12.0, y, "text-anchor=\"end\" class=\"faint\"", "QPS at 0.95");
    let mut shown: Vec<_> = curves.iter().zip(looks).filter(|((_, rows), _)| !rows.is_empty()).collect();
    let speed = |entry: &Entry| entry.qps_at(0.95).unwrap_or(0.0);
    shown.sort_by(|((a, _), _), ((b, _), _)| speed(b).total_cmp(&speed(a)));
    for ((entry, _), look) in shown {
        y += LINE;
        line(out, (left, y - 4.0), (left + 30.0, y - 4.0), &look.attributes());
        let weight = if look.ours { "font-weight=\"600\"" } else { "" };
        text(out, left + 38.0, y, weight, &entry.label);
        let speed = entry.qps_at(0.95).map_or_else(|| "–".to_owned(), short_speed);
        text(out, WIDTH - 12.0, y, "text-anchor=\"end\" class=\"faint\"", &speed);
    }
    for (entry, _) in curves.iter().filter(|(_, rows)| rows.is_empty()) {
        y += LINE;
        text(out, left + 38.0, y, "class=\"faint\"", &format!("{}: not measured", entry.label));
    }
}

fn short_speed(qps: f64) -> String {
    if qps >= 1e4 {
        format!("{:.0}k", qps / 1e3)
    } else if qps >= 1e3 {
        format!("{:.1}k", qps / 1e3)
    } else {
        format!("{qps:.0}")
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Outcome;
    use crate::results::tests::results;

    fn drawn() -> String {
        svg(&results(&[
            ("vdb-hnsw", Outcome::Measured, &[(0.9, 40_000.0), (0.96, 12_000.0), (0.93, 9_000.0)]),
            ("faiss-hnsw", Outcome::Measured, &[(0.3, 90_000.0), (0.9, 20_000.0), (1.0, 5_000.0)]),
            ("faiss-flat", Outcome::Measured, &[(1.0, 100.0)]),
            ("gone", Outcome::Absent("No module".into()), &[]),
        ]))
    }

    #[test]
    fn axes_put_equal_ratios_equally_far_apart() {
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} and {b}");
        close(x(RECALLS.0), LEFT);
        close(x(RECALLS.1), RIGHT);
        close(x(1.0), RIGHT);
        close(x(0.99) - x(0.9), x(0.999) - x(0.99));
        let speeds = Speeds { low: 2, high: 5 };
        close(speeds.y(100.0), BOTTOM);
        close(speeds.y(100_000.0), TOP);
        close(speeds.y(1_000.0) - speeds.y(10_000.0), (BOTTOM - TOP) / 3.0);
    }

    #[test]
    fn curves_are_the_frontiers_of_the_measured() {
        let text = drawn();
        let curves: Vec<&str> = text.lines().filter(|line| line.starts_with("<polyline")).collect();
        assert_eq!(curves.len(), 2, "one dot makes no line: {text}");
        // Speeds from 100 to 40,000: the axis goes from 10² to 10⁵. Ours is drawn last.
        let speeds = Speeds { low: 2, high: 5 };
        let points = [(0.9, 40_000.0), (0.96, 12_000.0)];
        let points = points.map(|(recall, qps)| format!("{:.1},{:.1}", x(recall), speeds.y(qps))).join(" ");
        assert!(curves[1].contains(&format!("points=\"{points}\"")), "{} has not {points}", curves[1]);
        assert!(curves[1].contains("curve ours") && curves[1].contains(COLOURS[0]), "{}", curves[1]);
        assert!(!curves[0].contains("ours") && curves[0].contains("clip-path"), "{}", curves[0]);
        // Two dots of ours, two of FAISS HNSW inside the field, one of FAISS Flat.
        assert_eq!(text.matches("<circle").count(), 5, "{text}");
    }

    #[test]
    fn the_legend_names_everyone_and_is_sound_xml() {
        let text = drawn();
        assert!(text.contains("faiss-hnsw &lt;&amp;&gt;</text>"), "{text}");
        assert!(text.contains("gone &lt;&amp;&gt;: not measured"), "{text}");
        assert!(text.contains("prefers-color-scheme: dark"), "{text}");
        let place = |name: &str| text.find(&format!(">{name} &lt;")).expect(name);
        assert!(place("vdb-hnsw") < place("faiss-hnsw") && place("faiss-hnsw") < place("faiss-flat"));
        let dashed = text.lines().filter(|line| line.contains(DASHES[1])).count();
        assert_eq!(dashed, 1, "the second variant of FAISS has a dash, in the legend: {text}");
        for tag in ["svg", "text", "title", "style", "clipPath"] {
            let opened =
                text.matches(&format!("<{tag} ")).count() + text.matches(&format!("<{tag}>")).count();
            assert_eq!(opened, text.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }

    #[test]
    fn nothing_measured_is_still_a_picture() {
        let text = svg(&results(&[("gone", Outcome::Absent("No module".into()), &[])]));
        assert!(text.contains("not measured") && !text.contains("NaN") && !text.contains("inf"), "{text}");
    }
}
