//! `vdb search --collection`: the nearest points of a collection, for a vector, a point or a file of queries.

use super::{find, id_json, open_to_read, vector_name};
use crate::args::SearchArgs;
use crate::formats::PointReader;
use anyhow::{Context, bail};
use serde::Serialize;
use serde_json::Value;
use std::io::Write;
use std::time::Instant;
use vdb_engine::{Collection, Effort, FieldIndex, Payload, PointId, Search, SearchHit, StoredPoint};

#[derive(Serialize)]
struct Answer {
    exact: bool,
    distance_computations: usize,
    /// Nodes of graphs that were expanded.
    hops: usize,
    seconds: f64,
    hits: Vec<Hit>,
}

#[derive(Serialize)]
struct Hit {
    id: Value,
    similarity: f32,
    distance: f32,
    payload: Payload,
}

impl From<SearchHit> for Hit {
    fn from(hit: SearchHit) -> Self {
        let SearchHit { id, value, similarity, payload, .. } = hit;
        Self { id: id_json(&id), similarity, distance: value, payload: payload.unwrap_or_default() }
    }
}

pub(crate) fn search(args: &SearchArgs, name: &str, out: &mut dyn Write) -> anyhow::Result<()> {
    let database = open_to_read(&args.db)?;
    let collection = find(&database, &args.db, name)?;
    let field = vector_name(&collection, args.vector_name.as_deref(), "--vector-name")?;
    if let Some(vector) = &args.vector {
        return answer(&collection, &field, vector, args, out);
    }
    if let Some(id) = &args.id {
        let StoredPoint { point, .. } = point(&collection, id)?;
        let Some(vector) = point.vectors.get(&field) else {
            bail!("collection {name:?}, point {id}: it has no vector {field:?}");
        };
        return answer(&collection, &field, vector, args, out);
    }
    let path = args.queries.as_ref().expect("one of the three is required");
    for (number, query) in PointReader::open(path)?.enumerate() {
        let place = || format!("{}: query {number}", path.display());
        let mut vectors = query?.vectors;
        // Rows of a matrix have no name; what has names is to have this one.
        let vector = vectors.remove(&field).or_else(|| vectors.remove(""));
        let vector = vector.with_context(|| format!("no vector {field:?}")).with_context(place)?;
        if !args.json {
            writeln!(out, "query {number}")?;
        }
        answer(&collection, &field, &vector, args, out).with_context(place)?;
    }
    Ok(())
}

/// The point that a text names: a number before a text before a UUID.
fn point(collection: &Collection, id: &str) -> anyhow::Result<StoredPoint> {
    let number = id.parse::<u64>().ok().map(PointId::from);
    let uuid = id.parse::<uuid::Uuid>().ok().map(PointId::from);
    for id in [number, Some(PointId::from(id)), uuid].into_iter().flatten() {
        if let Some(point) = collection.get(&id)? {
            return Ok(point);
        }
    }
    bail!("collection {:?}: no point has the id {id:?}", collection.name())
}

/// What goes with the field's index of what was asked for; the others pay no heed to it.
fn effort(args: &SearchArgs, index: FieldIndex) -> Effort {
    let asked = match index {
        _ if args.exact => Some(Effort::Exact),
        FieldIndex::Coded(_) => args.oversampling.map(Effort::Oversampling),
        FieldIndex::Ivf(_) => args.probes.map(Effort::Probes),
        FieldIndex::Lsh(_) => args.candidates.map(Effort::Candidates),
        _ => args.ef_search.map(Effort::EfSearch).or(args.target_recall.map(Effort::TargetRecall)),
    };
    asked.unwrap_or_default()
}

/// A text as it is, anything else as compact JSON.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn answer(
    collection: &Collection,
    field: &str,
    query: &[f32],
    args: &SearchArgs,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let passes = |_: &PointId, payload: &Payload| {
        args.filter.iter().all(|(key, value)| payload.get(key).is_some_and(|own| text(own) == *value))
    };
    let view = collection.view();
    let index = view.vectors().find(|(name, _)| *name == field).map_or(FieldIndex::Flat, |own| own.1.index);
    let mut search = Search::new(query, args.k).field(field).effort(effort(args, index)).with_payload();
    if !args.filter.is_empty() {
        search = search.filter(&passes);
    }
    let start = Instant::now();
    let found = collection.search(&search)?;
    let answer = Answer {
        exact: found.exact,
        distance_computations: found.distance_computations,
        hops: found.hops,
        seconds: start.elapsed().as_secs_f64(),
        hits: found.hits.into_iter().map(Hit::from).collect(),
    };
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&answer)?)?;
        return Ok(());
    }
    for (place, hit) in answer.hits.iter().enumerate() {
        let fields: Vec<String> =
            hit.payload.iter().map(|(key, value)| format!("{key}={}", text(value))).collect();
        writeln!(
            out,
            "{:>3}. {}  distance {:.6}  {}",
            place + 1,
            text(&hit.id),
            hit.distance,
            fields.join("  ")
        )?;
    }
    let kind = if answer.exact { "exact" } else { "approximate" };
    let (count, points, seconds) = (answer.distance_computations, collection.len(), answer.seconds);
    writeln!(out, "     {kind}, {count} of {points} points compared, {:.0} us", seconds * 1e6)?;
    Ok(())
}
