//! `vdb search`: the nearest records of a database file, for a vector, a record or a file of queries.

use crate::args::SearchArgs;
use crate::formats::RecordReader;
use anyhow::{Context, anyhow};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;
use std::time::Instant;
use vector_db_rs::{SearchHit, SearchOptions, VectorDB};

#[derive(Serialize)]
struct Answer<'a> {
    exact: bool,
    distance_computations: usize,
    /// The beam width that a walk of a graph took.
    ef_search: Option<usize>,
    seconds: f64,
    hits: Vec<Hit<'a>>,
}

#[derive(Serialize)]
struct Hit<'a> {
    id: &'a str,
    similarity: f32,
    distance: f32,
    metadata: BTreeMap<&'a str, &'a str>,
}

impl<'a> From<&'a SearchHit<'_>> for Hit<'a> {
    fn from(hit: &'a SearchHit<'_>) -> Self {
        let fields = hit.metadata().into_iter().flatten();
        Hit {
            id: hit.id(),
            similarity: hit.similarity,
            distance: hit.distance,
            metadata: fields.map(|(key, value)| (key.as_str(), value.as_str())).collect(),
        }
    }
}

pub(crate) fn run(args: &SearchArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let db = VectorDB::load_binary(&args.db)?;
    let mut options = SearchOptions::new().exact(args.exact);
    if let Some(ef_search) = args.ef_search {
        options = options.ef_search(ef_search);
    }
    if let Some(target_recall) = args.target_recall {
        options = options.target_recall(target_recall);
    }
    if let Some(candidates) = args.candidates {
        options = options.candidates(candidates);
    }
    if let Some(oversampling) = args.oversampling {
        options = options.oversampling(oversampling);
    }
    if let Some(probes) = args.probes {
        options = options.probes(probes);
    }
    for (key, value) in &args.filter {
        options = options.filter(key, value);
    }
    if let Some(vector) = &args.vector {
        return answer(&db, vector, args, &options, out);
    }
    if let Some(id) = &args.id {
        let record =
            db.get(id).ok_or_else(|| anyhow!("{}: no record has the id {id:?}", args.db.display()))?;
        return answer(&db, &record.vector, args, &options, out);
    }
    let path = args.queries.as_ref().expect("one of the three is required");
    for (number, query) in RecordReader::open(path, None)?.enumerate() {
        if !args.json {
            writeln!(out, "query {number}")?;
        }
        answer(&db, &query?.vector, args, &options, out)
            .with_context(|| format!("{}: query {number}", path.display()))?;
    }
    Ok(())
}

fn answer(
    db: &VectorDB,
    query: &[f32],
    args: &SearchArgs,
    options: &SearchOptions,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let start = Instant::now();
    let found = db.search_hits(query, args.k, options)?;
    let answer = Answer {
        exact: found.exact,
        distance_computations: found.distance_computations,
        ef_search: found.ef_search,
        seconds: start.elapsed().as_secs_f64(),
        hits: found.hits.iter().map(Hit::from).collect(),
    };
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&answer)?)?;
        return Ok(());
    }
    for (place, hit) in answer.hits.iter().enumerate() {
        let fields: Vec<String> = hit.metadata.iter().map(|(key, value)| format!("{key}={value}")).collect();
        writeln!(out, "{:>3}. {}  distance {:.6}  {}", place + 1, hit.id, hit.distance, fields.join("  "))?;
    }
    let kind = match (answer.exact, answer.ef_search) {
        (true, _) => "exact".to_owned(),
        (false, None) => "approximate".to_owned(),
        (false, Some(ef_search)) => format!("approximate (ef_search {ef_search})"),
    };
    let (count, seconds) = (answer.distance_computations, answer.seconds);
    writeln!(out, "     {kind}, {count} of {} records compared, {:.0} us", db.size(), seconds * 1e6)?;
    Ok(())
}
