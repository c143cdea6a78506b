//! Stored parts of every index over fixed rows: refused, or an index that searches and changes.
//!
//! Input: a byte that says which index, then its parts as fields.

use crate::fields::{Reader, Writer};
use std::sync::OnceLock;
use vdb_distance::Metric;
use vdb_index::{
    Answer, BitSet, CodeKind, Coded, CodedParams, CodedParts, Flat, FlatParts, Hnsw, HnswParams, HnswParts,
    Ivf, IvfParams, IvfParts, Lsh, LshFamily, LshParams, LshParts, Request, Vectors,
};

const DIM: usize = 8;
/// As few as are coded.
const ROWS: usize = 1_024;
/// As many as link a graph on two layers.
const NODES: usize = 60;

/// As few as have posting lists.
const LISTED: usize = 2_048;

/// Many rows and few rows.
fn rows() -> &'static [Vectors; 2] {
    static ROWS_ONCE: OnceLock<[Vectors; 2]> = OnceLock::new();
    ROWS_ONCE.get_or_init(|| [ROWS, NODES].map(filled))
}

/// Enough rows for posting lists.
fn lists() -> &'static Vectors {
    static LISTS_ONCE: OnceLock<Vectors> = OnceLock::new();
    LISTS_ONCE.get_or_init(|| filled(LISTED))
}

fn filled(rows: usize) -> Vectors {
    let mut vectors = Vectors::new(Metric::Euclidean, DIM);
    for row in 0..rows {
        let value = |i: usize| (((row * DIM + i) * 7_919) % 1_009) as f32 / 500.0 - 1.0;
        vectors.push(&(0..DIM).map(value).collect::<Vec<f32>>());
    }
    vectors
}

pub(crate) fn run(data: &[u8]) {
    let mut reader = Reader(data);
    let which = reader.u8();
    let [many, few] = rows();
    match which % 5 {
        0 => flat(many, &mut reader),
        1 => lsh(few, &mut reader),
        2 => hnsw(few, &mut reader),
        3 => coded(many, &mut reader),
        _ => ivf(lists(), &mut reader),
    }
}

/// Searches with and without a filter, adds a row, overwrites one, searches again.
fn exercise(vectors: &Vectors, mut search: impl FnMut(&Vectors, &Request<'_>, Option<&[u32]>) -> Answer) {
    let mut vectors = vectors.clone();
    let allowed = BitSet::from_fn(vectors.len(), |row| row % 3 == 0);
    let query = vectors.row(7).to_vec();
    let mut new = Vec::new();
    for changes in [false, true, false] {
        if changes {
            new = vec![vectors.push(&[0.5; DIM]), 5];
            vectors.set(5, &[0.25; DIM]);
        }
        let changed = changes.then_some(&new[..]);
        for allowed in [None, Some(&allowed)] {
            let request = Request { allowed, ..Request::new(&query, 10) };
            let changed = changed.filter(|_| allowed.is_none());
            let answer = search(&vectors, &request, changed);
            assert!(answer.hits.len() <= 10);
            assert!(answer.hits.iter().all(|hit| vectors.live().contains(hit.offset)));
        }
    }
}

fn flat(vectors: &Vectors, reader: &mut Reader<'_>) {
    let parts = FlatParts {
        trained: reader.u64(),
        fine: reader.u8() % 2 == 1,
        center: reader.f32s(),
        directions: reader.f32s(),
    };
    if let Ok(mut flat) = Flat::from_parts(vectors, parts) {
        exercise(vectors, |vectors, request, changed| {
            changed.into_iter().for_each(|changed| flat.insert(vectors, changed));
            flat.search(vectors, request)
        });
    }
}

fn lsh(vectors: &Vectors, reader: &mut Reader<'_>) {
    let families = [LshFamily::Hyperplane, LshFamily::FastHyperplane, LshFamily::CrossPolytope];
    let given = |number: u64| (number != 0).then_some(number as usize);
    let params = LshParams {
        family: families[usize::from(reader.u8()) % families.len()],
        num_tables: given(reader.u64()),
        num_functions: given(reader.u64()),
        seed: reader.u64(),
    };
    let (trained, candidates, max_norm) = (reader.u64(), reader.u64(), reader.f32());
    let parts = LshParts { center: reader.f32s(), max_norm, trained, candidates };
    if let Ok(mut lsh) = Lsh::from_parts(vectors, params, parts) {
        exercise(vectors, |vectors, request, changed| {
            if let Some(changed) = changed {
                // Of the two, the one that was overwritten is in the tables.
                lsh.remove(vectors, changed[1]);
                lsh.insert(vectors, changed);
            }
            lsh.search(vectors, request, Some(30))
        });
    }
}

fn hnsw_parts(reader: &mut Reader<'_>) -> HnswParts {
    let m = reader.u64() as usize;
    let params = HnswParams {
        m: Some(reader.u64() as usize).filter(|&m| m > 0),
        // A beam of any width is right and takes as long as it is wide.
        ef_construction: reader.u64() as usize % 200,
        exact_scan_factor: reader.u64() as usize,
        seed: reader.u64(),
    };
    let entry = reader.u64() as u32;
    HnswParts {
        params,
        m,
        entry: (entry != u32::MAX).then_some(entry),
        levels: reader.bytes().to_vec(),
        base: reader.u32s(),
        upper: reader.u32s(),
        dead: reader.u32s(),
        recalls: reader.u32s(),
        changed: reader.u64(),
        basis: reader.f32s(),
        trained: reader.u64(),
    }
}

fn hnsw(vectors: &Vectors, reader: &mut Reader<'_>) {
    if let Ok(mut hnsw) = Hnsw::from_parts(vectors, hnsw_parts(reader)) {
        exercise(vectors, |vectors, request, changed| {
            changed.into_iter().for_each(|changed| hnsw.insert(vectors, &changed[..1]));
            match changed {
                None => hnsw.search(vectors, request, 20),
                Some(_) => hnsw.search_for_recall(vectors, request, 0.9),
            }
        });
    }
}

fn coded(vectors: &Vectors, reader: &mut Reader<'_>) {
    let kind = CodeKind::ALL[usize::from(reader.u8()) % CodeKind::ALL.len()];
    let params = CodedParams { kind, subspaces: reader.u64() as usize, seed: reader.u64() };
    let (trained, scale) = (reader.u64(), reader.f32());
    let parts = CodedParts {
        params,
        trained,
        scale,
        centre: reader.f32s(),
        quantizer: reader.bytes().to_vec(),
        codes: reader.bytes().to_vec(),
        rest: reader.bytes().to_vec(),
    };
    if let Ok(mut coded) = Coded::from_parts(vectors, parts) {
        exercise(vectors, |vectors, request, changed| {
            changed.into_iter().for_each(|changed| coded.insert(vectors, changed));
            coded.search(vectors, request, Some(3))
        });
    }
}

fn ivf(vectors: &Vectors, reader: &mut Reader<'_>) {
    let params = IvfParams {
        lists: Some(reader.u64() as usize).filter(|&lists| lists != 0),
        bits: reader.u8(),
        spill: reader.u8() % 2 == 1,
        seed: reader.u64(),
    };
    let (trained, probes) = (reader.u64(), reader.u64() as u32);
    let parts = IvfParts {
        params,
        trained,
        probes,
        mean: reader.f32s(),
        centroids: reader.f32s(),
        lens: reader.u32s(),
        lists: reader.bytes().to_vec(),
    };
    if let Ok(mut ivf) = Ivf::from_parts(vectors, parts) {
        // Removal wants the values that were inserted.
        ivf.remove(vectors, 5);
        exercise(vectors, |vectors, request, changed| {
            changed.into_iter().for_each(|changed| ivf.insert(vectors, changed));
            ivf.search(vectors, request, Some(3))
        });
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let [many, few] = rows();
    let all = |vectors: &Vectors| (0..vectors.len() as u32).collect::<Vec<u32>>();
    let with = |which: u8, fields: Writer| [vec![which], fields.0].concat();
    let mut identity = vec![0.0; DIM * DIM];
    identity.iter_mut().step_by(DIM + 1).for_each(|value| *value = 1.0);
    let flat = |fine: u8| {
        let mut fields = Writer::default().u64(ROWS as u64);
        fields.0.push(fine);
        fields.f32s(&[0.1; DIM]).f32s(&identity)
    };
    let lsh = |family: u8, params: LshParams| {
        let mut lsh = Lsh::new(params);
        lsh.insert(few, &all(few));
        let LshParts { center, max_norm, trained, candidates } = lsh.to_parts();
        let mut fields = Writer(vec![family]).u64(3).u64(4).u64(1).u64(trained).u64(candidates);
        fields.0.extend(max_norm.to_le_bytes());
        with(1, fields.f32s(&center))
    };
    let given = LshParams { num_tables: Some(3), num_functions: Some(4), seed: 1, ..LshParams::default() };
    let hashed = [
        lsh(0, LshParams { family: LshFamily::Hyperplane, ..given }),
        lsh(1, LshParams { family: LshFamily::FastHyperplane, ..given }),
        lsh(2, LshParams { family: LshFamily::CrossPolytope, ..given }),
    ];
    let hnsw = |links: Option<usize>| {
        let mut hnsw = Hnsw::new(HnswParams { m: links, ef_construction: 20, exact_scan_factor: 0, seed: 2 });
        hnsw.insert(few, &all(few));
        let HnswParts { m, levels, base, upper, entry, dead, recalls, changed, basis, trained, .. } =
            hnsw.to_parts();
        let fields = Writer::default().u64(m as u64).u64(links.unwrap_or(0) as u64).u64(20).u64(0).u64(2);
        let fields = fields.u64(u64::from(entry.unwrap_or(u32::MAX))).bytes(&levels).u32s(&base);
        let fields = fields.u32s(&upper).u32s(&dead).u32s(&recalls).u64(changed);
        let fields = fields.f32s(&basis).u64(trained);
        Hnsw::from_parts(few, hnsw_parts(&mut Reader(&fields.0))).expect("a seed is a graph");
        with(2, fields)
    };
    let params = IvfParams { lists: Some(6), bits: 3, ..IvfParams::default() };
    let mut ivf = Ivf::new(params);
    ivf.insert(self::lists(), &all(self::lists()));
    let IvfParts { trained, probes, mean, centroids, lens, lists, .. } = ivf.to_parts();
    let mut ivf = Writer::default().u64(6);
    ivf.0.extend([3, 0]);
    let ivf = ivf.u64(0).u64(trained).u64(u64::from(probes));
    let ivf = ivf.f32s(&mean).f32s(&centroids).u32s(&lens).bytes(&lists);
    let coded = CodeKind::ALL.into_iter().enumerate().map(|(place, kind)| {
        let mut coded =
            Coded::new(CodedParams::new(kind), Metric::Euclidean, DIM).expect("eight dimensions fit all");
        coded.insert(many, &all(many));
        let CodedParts { params, trained, scale, centre, quantizer, codes, rest } = coded.to_parts();
        let mut fields = Writer(vec![place as u8]).u64(params.subspaces as u64).u64(params.seed).u64(trained);
        fields.0.extend(scale.to_le_bytes());
        with(3, fields.f32s(&centre).bytes(&quantizer).bytes(&codes).bytes(&rest))
    });
    coded
        .chain(hashed)
        .chain([with(0, flat(0)), with(0, flat(1)), hnsw(Some(4)), hnsw(None), with(4, ivf)])
        .collect()
}
