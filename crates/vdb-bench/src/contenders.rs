//! Who is measured: ours by the arguments of `vdb bench ann`, peers by their name in `benchmarks/peers.py`.

/// How a contender is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `vdb bench ann --index` with these arguments.
    Ours(&'static str),
    /// `benchmarks/peers.py --peer` with the contender's name; from this package on PyPI.
    Peer(&'static str),
}

/// A library with an index and its parameters.
#[derive(Debug, Clone, Copy)]
pub struct Contender {
    /// What it is called on the command line and in the results.
    pub name: &'static str,
    /// What it is called in tables and pictures.
    pub label: &'static str,
    /// How it is run.
    pub kind: Kind,
}

const fn ours(name: &'static str, label: &'static str, arguments: &'static str) -> Contender {
    Contender { name, label, kind: Kind::Ours(arguments) }
}

const fn peer(name: &'static str, label: &'static str, package: &'static str) -> Contender {
    Contender { name, label, kind: Kind::Peer(package) }
}

/// The peer that the others are compared to.
pub const REFERENCE: &str = "hnswlib";

/// All of them, in the order in which they run. Graphs have M 16 (degree 32 in the lowest layer)
/// and efConstruction 200, but for the fast profile, which has M 32 and which ours have by default from 262,144 rows on.
pub const CONTENDERS: [Contender; 25] = [
    ours("vdb-hnsw", "vector_db_rs HNSW", "hnsw"),
    ours(
        "vdb-target-recall",
        "vector_db_rs HNSW, target recall",
        "hnsw --target-recall 0.8,0.9,0.95,0.97,0.98,0.99,0.995,0.998",
    ),
    ours("vdb-compact", "vector_db_rs HNSW, compact", "hnsw --profile compact"),
    ours("vdb-fast", "vector_db_rs HNSW, fast", "hnsw --profile fast"),
    ours("vdb-ivf", "vector_db_rs IVF", "ivf"),
    ours("vdb-flat", "vector_db_rs Flat", "flat"),
    ours("vdb-flat-batch", "vector_db_rs Flat, batch", "flat --batch 1000"),
    ours("vdb-lsh", "vector_db_rs LSH", "lsh"),
    peer("hnswlib", "hnswlib", "hnswlib"),
    peer("faiss-hnsw", "FAISS HNSW", "faiss-cpu"),
    peer("faiss-ivf-pq", "FAISS IVF, PQ x4fs, RFlat", "faiss-cpu"),
    peer("faiss-ivf-rabitq", "FAISS IVF, RaBitQ, RFlat", "faiss-cpu"),
    peer("faiss-flat", "FAISS Flat", "faiss-cpu"),
    peer("faiss-flat-batch", "FAISS Flat, batch", "faiss-cpu"),
    peer("faiss-lsh-2d", "FAISS LSH 2d bits, RFlat", "faiss-cpu"),
    peer("faiss-lsh-8d", "FAISS LSH 8d bits, RFlat", "faiss-cpu"),
    peer("scann", "ScaNN", "scann"),
    peer("usearch", "USearch", "usearch"),
    peer("vsag-hgraph", "VSAG HGraph SQ8", "pyvsag"),
    peer("svs-vamana", "SVS Vamana", "scalable-vs"),
    peer("svs-lvq", "SVS Vamana LVQ4x8", "scalable-vs"),
    peer("svs-leanvec", "SVS Vamana LeanVec", "scalable-vs"),
    peer("voyager", "Voyager", "voyager"),
    peer("zvec", "zvec HNSW", "zvec"),
    peer("lancedb", "LanceDB IVF_HNSW_SQ", "lancedb"),
];

/// The contender of that name.
pub fn named(name: &str) -> Option<&'static Contender> {
    CONTENDERS.iter().find(|contender| contender.name == name)
}

/// Those whose names begin with one of `beginnings`; all when there are none.
///
/// # Errors
///
/// A beginning that is no contender's.
pub fn chosen(beginnings: &[String]) -> anyhow::Result<Vec<&'static Contender>> {
    let begins = |contender: &Contender, beginning: &String| contender.name.starts_with(beginning.as_str());
    for beginning in beginnings {
        let known = CONTENDERS.iter().any(|contender| begins(contender, beginning));
        anyhow::ensure!(known, "no contender's name begins with {beginning}; --list names them");
    }
    let wanted = |contender: &&Contender| {
        beginnings.is_empty() || beginnings.iter().any(|beginning| begins(contender, beginning))
    };
    Ok(CONTENDERS.iter().filter(wanted).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_python_side_knows_the_same_peers() {
        let text = include_str!("../../../benchmarks/peers.py");
        let table = text.split("\nPEERS = {\n").nth(1).expect("a table PEERS").split("\n}").next();
        let entries = table.expect("its end").lines().map(|line| {
            let mut quoted = line.split('"').skip(1).step_by(2);
            (quoted.next().expect("a name"), quoted.next().expect("a package"))
        });
        let there: BTreeSet<(&str, &str)> = entries.collect();
        let here = CONTENDERS.iter().filter_map(|contender| match contender.kind {
            Kind::Ours(_) => None,
            Kind::Peer(package) => Some((contender.name, package)),
        });
        assert_eq!(here.collect::<BTreeSet<_>>(), there);
        assert!(matches!(named(REFERENCE), Some(Contender { kind: Kind::Peer(_), .. })));
    }

    #[test]
    fn names_are_chosen_by_their_beginnings() {
        let check = |beginnings: &[&str], names: &[&str]| {
            let beginnings: Vec<String> = beginnings.iter().map(ToString::to_string).collect();
            let chosen = chosen(&beginnings).unwrap();
            assert_eq!(chosen.iter().map(|contender| contender.name).collect::<Vec<_>>(), names);
        };
        check(&["svs-l", "vdb-hnsw"], &["vdb-hnsw", "svs-lvq", "svs-leanvec"]);
        assert_eq!(chosen(&[]).unwrap().len(), CONTENDERS.len());
        let error = chosen(&["scann".to_owned(), "glass".to_owned()]).unwrap_err();
        assert!(error.to_string().contains("glass"), "{error}");
    }
}
