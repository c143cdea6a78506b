//! Progress bars with rate and time left, on standard error and only when a person is looking.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over a known number of records.
pub(crate) fn records(what: &'static str, total: u64) -> ProgressBar {
    bar(what, total, "{msg} {wide_bar} {human_pos}/{human_len} records · {per_sec} · {eta} left")
}

/// A bar over the bytes of a file.
pub(crate) fn bytes(what: &'static str, total: u64) -> ProgressBar {
    bar(what, total, "{msg} {wide_bar} {bytes}/{total_bytes} · {bytes_per_sec} · {eta} left")
}

fn bar(what: &'static str, total: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("the template is one of two above");
    ProgressBar::new(total).with_style(style).with_message(what)
}
