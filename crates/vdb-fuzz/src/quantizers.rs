//! Parameters of every quantizer, then arbitrary bytes as codes: decoded, and compared with queries.
//!
//! Input: a byte that says which quantizer, the parameters as a field, the bytes that codes are filled with.

use crate::fields::{Reader, Writer};
use vdb_distance::Metric;
use vdb_quant::{
    BLOCK_VECTORS, Binary, BlockEstimates, BlockQuery, CodeQuery, Dense, FhtKac, KMeans, KMeansConfig, Opq,
    OpqConfig, Pca, PcaConfig, ProductBits, ProductConfig, ProductQuantizer, Quantizer, Rabitq, RabitqBlocks,
    RabitqConfig, Rotation, Sq4, Sq8,
};

const DIM: usize = 10;
/// Values of a code's vector beyond which using it takes longer than it tells.
const LARGEST_DIM: usize = 2_048;
const METRICS: [Metric; 4] = [Metric::Euclidean, Metric::Cosine, Metric::DotProduct, Metric::Manhattan];

pub(crate) fn run(data: &[u8]) {
    let mut reader = Reader(data);
    let (which, parameters) = (reader.u8(), reader.bytes());
    let bytes = reader.0;
    match which % 8 {
        0 => drop(Rotation::from_bytes(parameters).map(|rotation| rotate(&rotation, bytes))),
        1 => drop(KMeans::from_bytes(parameters).map(|kmeans| {
            let vector = values(bytes, kmeans.dim());
            let (nearest, _) = kmeans.assign(&vector);
            assert!((nearest as usize) < kmeans.clusters());
            assert!(kmeans.assign_top(&vector, 3).len() <= 3);
            assert_eq!(KMeans::from_bytes(&kmeans.to_bytes()).expect("what was written"), kmeans);
        })),
        2 => drop(ProductQuantizer::from_bytes(parameters).map(|product| {
            compare(&product, bytes, &METRICS);
            if product.bits() == ProductBits::Four {
                let block = filled(bytes, product.block_bytes());
                let query = product.block_query(Metric::Euclidean, &values(bytes, product.dim()), true);
                query.scan_block(&block, &mut [0.0; BLOCK_VECTORS]);
            }
            let again = ProductQuantizer::from_bytes(&product.to_bytes());
            assert_eq!(again.expect("what was written"), product);
        })),
        3 => drop(Opq::from_bytes(parameters).map(|opq| compare(&opq, bytes, &METRICS))),
        4 => drop(Rabitq::from_bytes(parameters).map(|rabitq| {
            compare(&rabitq, bytes, &METRICS);
            blocks(rabitq, bytes);
        })),
        5 => drop(Binary::from_bytes(parameters).map(|binary| compare(&binary, bytes, &METRICS))),
        number => drop(Rotation::from_bytes(parameters).map(|rotation| {
            let metrics = if rotation.centre().is_none() { &METRICS[..3] } else { &METRICS[..1] };
            match number {
                6 => compare(&Sq8::new(rotation), bytes, metrics),
                _ => compare(&Sq4::new(rotation), bytes, metrics),
            }
        })),
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let rows: Vec<f32> = (0..400 * DIM).map(|i| ((i * 7_919) % 1_000) as f32 / 500.0 - 1.0).collect();
    let small = &rows[..60 * DIM];
    let product = |pieces, bits| {
        let mut config = ProductConfig::new(pieces, bits);
        config.iterations = 2;
        ProductQuantizer::train(&rows, DIM, &config).expect("finite rows").to_bytes()
    };
    let mut opq = OpqConfig::new(ProductConfig::new(4, ProductBits::Four));
    opq.rounds = 1;
    let kmeans = KMeans::train(small, DIM, &KMeansConfig::new(5)).expect("finite rows");
    let rabitq =
        |bits| Rabitq::new(vec![0.1; DIM], RabitqConfig::new(bits)).expect("one to eight bits").to_bytes();
    let rotations = [
        Rotation::identity(DIM),
        Rotation::fht(DIM, 1),
        Rotation::Fht(FhtKac::new(DIM, DIM, 2)),
        Rotation::Dense(Dense::random(DIM, 3)),
        Rotation::Pca(Pca::train(small, DIM, &PcaConfig::default())),
        Rotation::Pca(Pca::train(small, DIM, &PcaConfig::uncentred()).mix_head(4, 5)),
    ];
    let rotations = rotations.map(|rotation| rotation.to_bytes());
    let others = [
        (1, kmeans.to_bytes()),
        (2, product(3, ProductBits::Four)),
        (2, product(5, ProductBits::Eight)),
        (3, Opq::train(small, DIM, &opq).expect("finite rows").to_bytes()),
        (4, rabitq(1)),
        (4, rabitq(4)),
        (4, rabitq(8)),
        (5, Binary::rotated(vec![0.0; DIM], Rotation::fht(DIM, 1)).to_bytes()),
        (5, Binary::new(DIM).to_bytes()),
    ];
    let turned = rotations.iter().flat_map(|bytes| [0, 6, 7].map(|which| (which, bytes.clone())));
    let all = turned.chain(others);
    all.map(|(which, parameters)| {
        let codes: Vec<u8> = (0..120u32).map(|i| (i * 37) as u8).collect();
        let mut input = vec![which];
        input.extend(Writer::default().bytes(&parameters).0);
        input.extend(codes);
        input
    })
    .collect()
}

/// `count` bytes, those given over and over.
fn filled(bytes: &[u8], count: usize) -> Vec<u8> {
    if bytes.is_empty() { vec![0; count] } else { bytes.iter().copied().cycle().take(count).collect() }
}

/// Finite values from bytes.
fn values(bytes: &[u8], count: usize) -> Vec<f32> {
    filled(bytes, count).into_iter().map(|byte| f32::from(byte) / 64.0 - 2.0).collect()
}

fn rotate(rotation: &Rotation, bytes: &[u8]) {
    let mut rotated = vec![0.0; rotation.output_dim()];
    let mut vector = values(bytes, rotation.dim());
    rotation.apply(&vector, &mut rotated);
    rotation.apply_inverse(&rotated, &mut vector);
    assert_eq!(&Rotation::from_bytes(&rotation.to_bytes()).expect("what was written"), rotation);
}

fn compare<Q: Quantizer>(quantizer: &Q, bytes: &[u8], metrics: &[Metric]) {
    if quantizer.dim() > LARGEST_DIM {
        return;
    }
    let codes = filled(bytes, 3 * quantizer.code_bytes());
    let mut vector = vec![0.0; quantizer.dim()];
    quantizer.decode(&codes[..quantizer.code_bytes()], &mut vector);
    let query = values(bytes, quantizer.dim());
    for &metric in metrics {
        let query = quantizer.query(metric, &query);
        let (mut all, mut some) = ([0.0; 3], [0.0; 2]);
        query.distances(&codes, &mut all);
        query.gather(&codes, &[2, 0], &mut some);
        assert_eq!(some.map(f32::to_bits), [all[2].to_bits(), all[0].to_bits()], "gathered as scanned");
    }
    let mut code = vec![0; quantizer.code_bytes()];
    quantizer.encode(&query, &mut code);
}

fn blocks(rabitq: Rabitq, bytes: &[u8]) {
    if rabitq.dim() > LARGEST_DIM {
        return;
    }
    let dim = rabitq.dim();
    let blocks = RabitqBlocks::new(rabitq, Metric::Euclidean);
    let (block, rest) = (filled(bytes, blocks.block_bytes()), filled(bytes, blocks.rest_bytes()));
    let query = blocks.query(&values(bytes, dim));
    let term = query.list_term(&vec![0.5; dim]);
    let mut estimates = BlockEstimates { near: u32::MAX, ..BlockEstimates::default() };
    query.scan(term, f32::INFINITY, &block, std::slice::from_mut(&mut estimates));
    if !rest.is_empty() {
        query.refine(term, estimates.product[0], &rest);
    }
}
