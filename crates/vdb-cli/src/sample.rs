//! The bundled sample: 4,500 entries of WordNet and 200 example sentences, embedded by a sentence model.
//!
//! It is part of the program, so that the demonstration and the recall tests need no file. `data/wordnet-sample` holds
//! it with its licence and says how it was made.

use half::f16;
use serde::Deserialize;

/// Entries, queries, and which entries are truly nearest to each query.
#[derive(Debug)]
pub struct Sample {
    /// The entries that are searched.
    pub entries: Vec<Entry>,
    /// Sentences to search with.
    pub queries: Vec<Query>,
}

/// An entry of the dictionary.
#[derive(Debug, Deserialize)]
pub struct Entry {
    /// Its identifier: part of speech and number.
    pub id: String,
    /// Its words and what they mean.
    pub text: String,
    /// Part of speech: noun, verb, adj, adj_satellite or adv.
    pub pos: String,
    /// Topic, such as noun.animal.
    pub lexfile: String,
    /// Its words alone, separated by commas.
    pub lemmas: String,
    /// The embedding of its text, 384 values.
    #[serde(skip)]
    pub vector: Vec<f32>,
}

/// A sentence to search with.
#[derive(Debug, Deserialize)]
pub struct Query {
    /// The sentence.
    pub text: String,
    /// Its embedding, 384 values.
    #[serde(skip)]
    pub vector: Vec<f32>,
    /// The places in [`Sample::entries`] of the 100 nearest entries, nearest first.
    #[serde(skip)]
    pub nearest: Vec<u32>,
}

macro_rules! bundled {
    ($file:literal) => {
        include_bytes!(concat!("../data/wordnet-sample/", $file))
    };
}

impl Sample {
    /// Values per vector.
    pub const DIMENSION: usize = 384;

    /// Decodes the bundled files.
    pub fn load() -> Sample {
        let mut entries: Vec<Entry> = lines(bundled!("base.jsonl"));
        for (entry, vector) in entries.iter_mut().zip(vectors(bundled!("base.f16bin"))) {
            entry.vector = vector;
        }
        let mut queries: Vec<Query> = lines(bundled!("query.jsonl"));
        let truth = bundled!("gt.ibin");
        let k = word(truth, 1) as usize;
        for (index, (query, vector)) in queries.iter_mut().zip(vectors(bundled!("query.f16bin"))).enumerate()
        {
            query.vector = vector;
            query.nearest = (0..k).map(|place| word(truth, 2 + index * k + place)).collect();
        }
        Sample { entries, queries }
    }
}

fn lines<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Vec<T> {
    serde_json::Deserializer::from_slice(bytes)
        .into_iter()
        .map(|line| line.expect("the bundled sample is valid, a test reads all of it"))
        .collect()
}

fn word(bytes: &[u8], index: usize) -> u32 {
    u32::from_le_bytes(bytes[index * 4..index * 4 + 4].try_into().expect("four bytes"))
}

fn vectors(bytes: &[u8]) -> impl Iterator<Item = Vec<f32>> + '_ {
    let dimension = word(bytes, 1) as usize;
    bytes[8..].chunks_exact(dimension * 2).map(|row| {
        row.chunks_exact(2).map(|value| f16::from_le_bytes([value[0], value[1]]).to_f32()).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_sample_is_whole() {
        let sample = Sample::load();
        assert_eq!((sample.entries.len(), sample.queries.len()), (4_500, 200));
        let dimensions = sample.entries.iter().map(|entry| entry.vector.len());
        assert!(
            dimensions.chain(sample.queries.iter().map(|query| query.vector.len())).all(|len| len == 384)
        );
        let norms = sample.entries.iter().map(|entry| entry.vector.iter().map(|x| x * x).sum::<f32>());
        assert!(norms.into_iter().all(|norm| (norm - 1.0).abs() < 0.01));
        assert!(sample.queries.iter().all(|query| query.nearest.iter().all(|&place| place < 4_500)));
    }
}
