//! Collections beside an ordered map, through crashes, failing calls, killed processes and many readers.

#![allow(clippy::unwrap_used)]

mod model;
mod oracle;
mod workload;

/// A number from the environment.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}
