//! `vdb demo`: what the database does, shown on real sentence embeddings in a few seconds.

use crate::args::DemoArgs;
use crate::sample::{Entry, Sample};
use anyhow::bail;
use std::collections::HashMap;
use std::io::Write;
use std::time::{Duration, Instant};
use vector_db_rs::{
    DistanceMetric, IndexType, SearchOptions, VectorDB, VectorDBConfig, VectorRecord, generate_random_vectors,
};

/// Queries whose answers read well.
const SHOWN_QUERIES: [usize; 3] = [16, 183, 174];
/// Results per shown query.
const SHOWN_RESULTS: usize = 3;
const K: usize = 10;
/// Entries that `vdb demo WORD` shows neighbours of, and how many each.
const SHOWN_ENTRIES: usize = 3;
const SHOWN_NEIGHBOURS: usize = 5;

pub(crate) fn run(args: &DemoArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let sample = Sample::load();
    if !args.words.is_empty() {
        return show_neighbours(&sample, &args.words, out);
    }
    search_by_meaning(&sample, out)?;
    specified_example(out)?;
    writeln!(
        out,
        "\nWhat to try next:\n  \
         vdb demo winter                 what lies near the entries for a word\n  \
         vdb import FILE --db my.vdb     your own vectors: fvecs, fbin, npy, jsonl, ...\n  \
         vdb search --db my.vdb --id ID  the records nearest to one of them\n  \
         vdb --help                      everything else\n\
         (from the source tree: cargo run --release -- demo winter)"
    )?;
    Ok(())
}

fn record(entry: &Entry) -> VectorRecord {
    let fields = [("text", &entry.text), ("pos", &entry.pos), ("lexfile", &entry.lexfile)];
    VectorRecord {
        id: entry.id.clone(),
        vector: entry.vector.clone(),
        metadata: fields.map(|(key, value)| (key.to_owned(), value.clone())).into(),
    }
}

fn database(sample: &Sample, index_type: IndexType) -> anyhow::Result<VectorDB> {
    let mut db = VectorDB::new(VectorDBConfig {
        dimension: Sample::DIMENSION,
        distance_metric: DistanceMetric::Cosine,
        index_type,
    });
    db.batch_insert(sample.entries.iter().map(record).collect())?;
    Ok(db)
}

fn search_by_meaning(sample: &Sample, out: &mut dyn Write) -> anyhow::Result<()> {
    writeln!(
        out,
        "{} dictionary entries (WordNet), embedded by a sentence model ({} dimensions, cosine).",
        sample.entries.len(),
        Sample::DIMENSION
    )?;
    for index_type in [IndexType::Flat, IndexType::LSH, IndexType::HNSW] {
        let start = Instant::now();
        let db = database(sample, index_type)?;
        let built = start.elapsed();
        writeln!(out, "\n=== {index_type:?} ===")?;
        for query in SHOWN_QUERIES.map(|place| &sample.queries[place]) {
            writeln!(out, "\"{}\"", query.text)?;
            for (i, found) in db.search(&query.vector, SHOWN_RESULTS)?.iter().enumerate() {
                writeln!(out, "  {}. {:.3}  {}", i + 1, found.similarity, found.record.metadata["text"])?;
            }
        }
        let (recall, mean) = measure(&db, sample)?;
        writeln!(
            out,
            "{index_type:?}: built in {built:.1?}; recall@{K} {recall:.3} over {} sentences, {mean:.1?} per query",
            sample.queries.len()
        )?;
    }
    Ok(())
}

/// Recall against the true neighbours and the mean time of a search.
fn measure(db: &VectorDB, sample: &Sample) -> anyhow::Result<(f64, Duration)> {
    let options = SearchOptions::new();
    let (mut right, mut took) = (0, Duration::ZERO);
    for query in &sample.queries {
        let start = Instant::now();
        let answer = db.search_hits(&query.vector, K, &options)?;
        took += start.elapsed();
        let nearest: Vec<&str> =
            query.nearest[..K].iter().map(|&place| &*sample.entries[place as usize].id).collect();
        right += answer.hits.iter().filter(|hit| nearest.contains(&hit.id())).count();
    }
    let queries = sample.queries.len();
    Ok((right as f64 / (queries * K) as f64, took / queries as u32))
}

/// The example of the specification, the same lines of output.
fn specified_example(out: &mut dyn Write) -> anyhow::Result<()> {
    writeln!(out, "\n=== The specification's example: 10,000 random 128-d vectors ===")?;
    let query = vec![0.1; 128];
    let config =
        |index_type| VectorDBConfig { dimension: 128, distance_metric: DistanceMetric::Cosine, index_type };

    let mut db = VectorDB::new(config(IndexType::Flat));
    writeln!(out, "Generating test vectors...")?;
    let test_vectors = generate_random_vectors(10_000, 128);
    writeln!(out, "Inserting {} vectors...", test_vectors.len())?;
    let start = Instant::now();
    db.batch_insert(test_vectors)?;
    writeln!(out, "Insertion took: {:?}", start.elapsed())?;
    writeln!(out, "Searching for similar vectors...")?;
    let start = Instant::now();
    let results = db.search(&query, 10)?;
    writeln!(out, "Search took: {:?}", start.elapsed())?;
    writeln!(out, "\nTop 10 similar vectors:")?;
    for (i, result) in results.iter().enumerate() {
        writeln!(
            out,
            "{}. ID: {}, Similarity: {:.4}, Distance: {:.4}",
            i + 1,
            result.record.id,
            result.similarity,
            result.distance
        )?;
    }

    writeln!(out, "\n--- Testing LSH Index ---")?;
    let mut lsh_db = VectorDB::new(config(IndexType::LSH));
    let test_vectors = generate_random_vectors(10_000, 128);
    writeln!(out, "Inserting vectors into LSH index...")?;
    let start = Instant::now();
    lsh_db.batch_insert(test_vectors)?;
    writeln!(out, "LSH insertion took: {:?}", start.elapsed())?;
    writeln!(out, "Searching with LSH index...")?;
    let start = Instant::now();
    let lsh_results = lsh_db.search(&query, 10)?;
    writeln!(out, "LSH search took: {:?}", start.elapsed())?;
    writeln!(out, "\nLSH Top 10 similar vectors:")?;
    for (i, result) in lsh_results.iter().enumerate() {
        writeln!(out, "{}. ID: {}, Similarity: {:.4}", i + 1, result.record.id, result.similarity)?;
    }
    Ok(())
}

fn show_neighbours(sample: &Sample, words: &[String], out: &mut dyn Write) -> anyhow::Result<()> {
    let phrase = words.join(" ").to_lowercase();
    if phrase.trim().is_empty() {
        bail!("demo takes words to look for; without any it shows everything");
    }
    let mut matching: Vec<&Entry> =
        sample.entries.iter().filter(|entry| contains_phrase(&entry.text, &phrase)).collect();
    if matching.is_empty() {
        let sample_words = "winter, music, river, whisper, teacher, church, fear, sun";
        bail!("no entry of the sample contains {phrase:?}; it knows for example {sample_words}");
    }
    // An entry for the word itself comes before one that only mentions it, nouns first.
    matching.sort_by_key(|entry| {
        let lemmas = entry.lemmas.to_lowercase();
        let mut lemmas = lemmas.split(", ");
        let named = if lemmas.next() == Some(&phrase) {
            0
        } else if lemmas.any(|l| l == phrase) {
            1
        } else {
            2
        };
        (named, entry.pos != "noun")
    });
    let db = database(sample, IndexType::HNSW)?;
    let texts: HashMap<&str, &str> = sample.entries.iter().map(|entry| (&*entry.id, &*entry.text)).collect();
    writeln!(out, "{} of {} entries contain {phrase:?}", matching.len(), sample.entries.len())?;
    for entry in matching.into_iter().take(SHOWN_ENTRIES) {
        writeln!(out, "\n{} ({})", entry.text, entry.lexfile)?;
        let hits = db.search_hits(&entry.vector, SHOWN_NEIGHBOURS + 1, &SearchOptions::new())?.hits;
        for hit in hits.iter().filter(|hit| hit.id() != entry.id).take(SHOWN_NEIGHBOURS) {
            writeln!(out, "  {:.3}  {}", hit.similarity, texts[hit.id()])?;
        }
    }
    Ok(())
}

/// Whether `phrase`, in lower case, stands in `text` as whole words.
fn contains_phrase(text: &str, phrase: &str) -> bool {
    let words = |text: &str| -> Vec<String> {
        text.to_lowercase().split(|c: char| !c.is_alphanumeric()).map(str::to_owned).collect()
    };
    let phrase = words(phrase);
    words(text).windows(phrase.len()).any(|window| window == phrase)
}
