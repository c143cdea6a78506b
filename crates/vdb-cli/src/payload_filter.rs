//! Filters of a data set: `filters.json` names conditions on the records of `payload.jsonl`, which describes the base
//! rows line by line.
//!
//! A condition is an object of comparisons by field, all of which must hold: `eq`, `lt`, `lte`, `gt`, `gte` on the value
//! itself, `contains` on the members of a list. Comparisons by order hold for numbers only.

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;

/// A filter.
#[derive(Debug, Deserialize)]
pub(crate) struct Definition {
    all_of: BTreeMap<String, BTreeMap<String, Value>>,
    /// Base rows that it allows.
    pub(crate) matches: Option<usize>,
}

/// All filters of a data set by name.
pub(crate) fn definitions(folder: &Path) -> anyhow::Result<BTreeMap<String, Definition>> {
    let path = folder.join("filters.json");
    let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{}", path.display()))
}

/// The rows of a data set's base that one of its filters allows, by row.
pub(crate) fn rows_allowed(folder: &Path, name: &str, rows: usize) -> anyhow::Result<Vec<bool>> {
    let mut definitions = definitions(folder)?;
    let Some(definition) = definitions.remove(name) else {
        let known: Vec<&str> = definitions.keys().map(String::as_str).collect();
        let path = folder.join("filters.json");
        bail!("{}: no filter {name}, there are {}", path.display(), known.join(", "));
    };
    let path = folder.join("payload.jsonl");
    let lines = BufReader::new(File::open(&path).with_context(|| format!("{}", path.display()))?).lines();
    let mut allowed = Vec::with_capacity(rows);
    for (line, text) in lines.enumerate() {
        let place = || format!("{}, line {}", path.display(), line + 1);
        let record: Map<String, Value> =
            serde_json::from_str(&text.with_context(place)?).with_context(place)?;
        allowed.push(definition.holds(&record).with_context(|| format!("filter {name}"))?);
    }
    ensure!(allowed.len() == rows, "{}: {} records for {rows} rows", path.display(), allowed.len());
    Ok(allowed)
}

impl Definition {
    /// Whether it allows a record.
    ///
    /// # Errors
    /// A comparison that there is not.
    pub(crate) fn holds(&self, record: &Map<String, Value>) -> anyhow::Result<bool> {
        for (field, comparisons) in &self.all_of {
            let value = record.get(field).unwrap_or(&Value::Null);
            for (operator, operand) in comparisons {
                if !compare(value, operator, operand)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

fn compare(value: &Value, operator: &str, operand: &Value) -> anyhow::Result<bool> {
    let numbers = value.as_f64().zip(operand.as_f64());
    Ok(match operator {
        "eq" => value == operand,
        "contains" => value.as_array().is_some_and(|members| members.contains(operand)),
        "lt" => numbers.is_some_and(|(value, operand)| value < operand),
        "lte" => numbers.is_some_and(|(value, operand)| value <= operand),
        "gt" => numbers.is_some_and(|(value, operand)| value > operand),
        "gte" => numbers.is_some_and(|(value, operand)| value >= operand),
        _ => bail!("no comparison is called {operator}"),
    })
}
