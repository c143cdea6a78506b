//! The state of a collection that its log goes on from: its fields, its segments, which of their rows are gone.
//!
//! `docs/format.md`, "Manifest of a collection", has the byte table.

use crate::Error;
use crate::schema::{Field, FieldIndex, MAX_FIELDS, Schema, VectorConfig};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use vdb_distance::{ElementType, Metric};
use vdb_index::{BitSet, CodeKind, CodedParams, HnswParams, IvfParams, LshFamily, LshParams};
use vdb_storage::codec::{CodecError, Encode, Reader, u64_at};
use vdb_storage::{Blobs, ContainerReader, ContainerWriter, FileKind, Region, SeqNo, StorageError};

const KIND: FileKind = FileKind::new(*b"COLL");
const DEAD_KIND: FileKind = FileKind::new(*b"DEAD");
const STATE: &str = "state";
const LIVE: &str = "live";

/// No blob and no record has a greater number, so that numbers can be added to.
const LAST_NUMBER: u64 = 1 << 62;

/// Metrics by their number in files.
const METRICS: [Metric; 4] = [Metric::Euclidean, Metric::Cosine, Metric::DotProduct, Metric::Manhattan];

/// The number of a metric in files.
pub(crate) fn metric_number(metric: Metric) -> u32 {
    METRICS.iter().position(|own| *own == metric).expect("every metric is listed") as u32
}

/// The metric of a number.
pub(crate) fn metric_of(number: u32) -> Option<Metric> {
    METRICS.get(number as usize).copied()
}

/// A segment of a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentEntry {
    pub(crate) number: u64,
    pub(crate) rows: u64,
    /// Rows whose point is there still.
    pub(crate) live: u64,
    /// The number of the blob that tells which; 0 while all are.
    pub(crate) tombstones: u64,
}

/// What a manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// The number of the next blob.
    pub(crate) next_blob: u64,
    /// The first record of the log that is not in it.
    pub(crate) log_from: SeqNo,
    pub(crate) schema: Schema,
    pub(crate) segments: Vec<SegmentEntry>,
}

impl Manifest {
    /// Of an empty collection.
    pub(crate) fn new(schema: Schema) -> Self {
        Self { next_blob: 1, log_from: SeqNo::FIRST, schema, segments: Vec::new() }
    }

    /// The names of all blobs that it needs.
    pub(crate) fn blobs(&self) -> BTreeSet<String> {
        let segments = self.segments.iter().map(|entry| crate::segment::blob_name(entry.number));
        let tombstones = self.segments.iter().filter(|entry| entry.tombstones > 0);
        segments.chain(tombstones.map(|entry| tombstones_name(entry.tombstones))).collect()
    }

    /// As bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut file = ContainerWriter::new(Vec::new(), KIND).expect("memory takes all bytes");
        file.write_section(STATE, |out| self.write(out)).expect("memory takes all bytes");
        file.finish().expect("memory takes all bytes")
    }

    fn write(&self, out: &mut impl Encode) -> io::Result<()> {
        out.put_u64(self.next_blob)?;
        out.put_u64(self.log_from.0)?;
        out.put_u32(self.schema.next)?;
        out.put_u32(self.schema.fields.len() as u32)?;
        for Field { number, name, config } in &self.schema.fields {
            out.put_u32(*number)?;
            out.put_str(name)?;
            out.put_u32(config.dim as u32)?;
            out.put_u32(metric_number(config.metric))?;
            out.put_u32(config.element.to_u32())?;
            let (kind, numbers) = index_numbers(config.index);
            out.put_u32(kind)?;
            out.put_u64_slice(&numbers)?;
        }
        out.put_u32(self.segments.len() as u32)?;
        for SegmentEntry { number, rows, live, tombstones } in &self.segments {
            out.put_u64_slice(&[*number, *rows, *live, *tombstones])?;
        }
        Ok(())
    }

    /// The manifest of some bytes; `name` stands for the path in errors.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Damaged`].
    pub(crate) fn decode(name: &Path, region: Region) -> Result<Self, Error> {
        let file = ContainerReader::from_region(name, region, KIND)?;
        let state = file.verified_in_place(STATE)?;
        let mut reader = Reader::new(&state);
        let manifest = Self::read(&mut reader).map_err(StorageError::decode(name, STATE))?;
        reader.finish().map_err(StorageError::decode(name, STATE))?;
        manifest.map_err(|reason| Error::damaged(name, STATE, reason))
    }

    fn read(reader: &mut Reader<'_>) -> Result<Result<Self, String>, CodecError> {
        let (next_blob, log_from) = (reader.u64()?, SeqNo(reader.u64()?));
        let next = reader.u32()?;
        let numbers = 1..=LAST_NUMBER;
        if !numbers.contains(&next_blob) || !numbers.contains(&log_from.0) || next == u32::MAX {
            return Ok(Err(format!(
                "next numbers {next_blob} of a blob, {log_from} of a record, {next} of a field"
            )));
        }
        let count = reader.u32()?;
        if count as usize > MAX_FIELDS {
            return Ok(Err(format!("{count} vector fields, at most {MAX_FIELDS} are possible")));
        }
        let mut schema = Schema { fields: Vec::new(), next };
        for _ in 0..count {
            match read_field(reader)? {
                Ok(field) if field.number < next && schema.by_number(field.number).is_none() => {
                    schema.fields.push(field);
                }
                Ok(field) => {
                    return Ok(Err(format!("a field of number {} twice, or of {next}", field.number)));
                }
                Err(reason) => return Ok(Err(reason)),
            }
        }
        if !schema.fields.is_sorted_by(|a, b| a.name < b.name) {
            return Ok(Err("fields that are not in the order of their names".to_owned()));
        }
        let count = reader.u32()?;
        let mut segments = Vec::new();
        for _ in 0..count {
            let (number, rows, live, tombstones) =
                (reader.u64()?, reader.u64()?, reader.u64()?, reader.u64()?);
            let is_twice = segments.iter().any(|entry: &SegmentEntry| entry.number == number);
            if live > rows || number >= next_blob || tombstones >= next_blob || is_twice {
                return Ok(Err(format!("segment {number}, {live} of {rows} rows, tombstones {tombstones}")));
            }
            segments.push(SegmentEntry { number, rows, live, tombstones });
        }
        Ok(Ok(Self { next_blob, log_from, schema, segments }))
    }
}

/// Families of hash functions by their number in files.
const FAMILIES: [LshFamily; 3] = [LshFamily::Hyperplane, LshFamily::FastHyperplane, LshFamily::CrossPolytope];

/// The number of a kind of index, and its parameters.
fn index_numbers(index: FieldIndex) -> (u32, [u64; 4]) {
    let given = |number: Option<usize>| number.unwrap_or(0) as u64;
    match index {
        FieldIndex::Flat => (0, [0; 4]),
        FieldIndex::Hnsw(HnswParams { m, ef_construction, exact_scan_factor, seed }) => {
            (1, [given(m), ef_construction as u64, exact_scan_factor as u64, seed])
        }
        FieldIndex::Coded(CodedParams { kind, subspaces, seed }) => {
            let (kind, bits) = kind.to_numbers();
            (2, [kind, bits, subspaces as u64, seed])
        }
        FieldIndex::Ivf(IvfParams { lists, bits, spill, seed }) => {
            (3, [given(lists), u64::from(bits), u64::from(spill), seed])
        }
        FieldIndex::Lsh(LshParams { family, num_tables, num_functions, seed }) => {
            let family = FAMILIES.iter().position(|own| *own == family).expect("every family is listed");
            (4, [family as u64, given(num_tables), given(num_functions), seed])
        }
    }
}

/// The index of a number and its parameters, whose ranges are still to be checked.
fn index_of(kind: u32, numbers: [u64; 4]) -> Result<FieldIndex, String> {
    let [a, b, c, seed] = numbers;
    let unknown = || format!("index {kind} with {a}, {b}, {c}");
    let given = |number: u64| (number > 0).then_some(number as usize);
    Ok(match kind {
        0 => FieldIndex::Flat,
        1 => FieldIndex::Hnsw(HnswParams {
            m: given(a),
            ef_construction: b as usize,
            exact_scan_factor: c as usize,
            seed,
        }),
        2 => {
            let kind = CodeKind::from_numbers(a, b).ok_or_else(unknown)?;
            FieldIndex::Coded(CodedParams { kind, subspaces: c as usize, seed })
        }
        3 => {
            let (Ok(bits), true) = (u8::try_from(b), c <= 1) else { return Err(unknown()) };
            FieldIndex::Ivf(IvfParams { lists: given(a), bits, spill: c == 1, seed })
        }
        4 => {
            let family = usize::try_from(a).ok().and_then(|a| FAMILIES.get(a)).ok_or_else(unknown)?;
            FieldIndex::Lsh(LshParams {
                family: *family,
                num_tables: given(b),
                num_functions: given(c),
                seed,
            })
        }
        _ => return Err(unknown()),
    })
}

fn read_field(reader: &mut Reader<'_>) -> Result<Result<Field, String>, CodecError> {
    let (number, name) = (reader.u32()?, reader.str()?.to_owned());
    let (dim, metric, element, kind) = (reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?);
    let numbers = [reader.u64()?, reader.u64()?, reader.u64()?, reader.u64()?];
    let (Some(metric), Some(element)) = (metric_of(metric), ElementType::from_u32(element)) else {
        return Ok(Err(format!("metric {metric} and type {element} of the vector {name:?}")));
    };
    let index = match index_of(kind, numbers) {
        Ok(index) => index,
        Err(reason) => return Ok(Err(format!("{reason} of the vector {name:?}"))),
    };
    let config = VectorConfig { dim: dim as usize, metric, element, index };
    Ok(config.check().map(|()| Field { number, name, config }))
}

/// The name of the blob that tells which rows of a segment are there still.
pub(crate) fn tombstones_name(number: u64) -> String {
    format!("dead-{number:08}")
}

/// Writes which rows of a segment are there still, durably.
pub(crate) fn write_tombstones(blobs: &dyn Blobs, number: u64, live: &BitSet) -> Result<(), Error> {
    let name = tombstones_name(number);
    let path = &*blobs.path(&name);
    let mut blob = blobs.create(&name)?;
    {
        let mut file = ContainerWriter::new(&mut blob, DEAD_KIND).map_err(StorageError::io(path))?;
        file.write_section(LIVE, |out| out.put_u64_slice(live.words())).map_err(StorageError::io(path))?;
        file.finish().map_err(StorageError::io(path))?;
    }
    Ok(blob.finish()?)
}

/// Which rows of a segment are there still.
pub(crate) fn read_tombstones(blobs: &dyn Blobs, entry: &SegmentEntry) -> Result<BitSet, Error> {
    let rows = entry.rows as usize;
    if entry.tombstones == 0 {
        return Ok(BitSet::all(rows));
    }
    let name = tombstones_name(entry.tombstones);
    let path = &*blobs.path(&name);
    let file = ContainerReader::from_region(path, blobs.open(&name)?.map()?, DEAD_KIND)?;
    let bytes = file.verified_in_place(LIVE)?;
    let words = (0..bytes.len() / 8).map(|word| u64_at(&bytes, 8 * word)).collect();
    match BitSet::from_words(rows, words) {
        Some(live) if live.count() as u64 == entry.live => Ok(live),
        _ => {
            let reason = format!("{} bytes are no set of {} of {rows} rows", bytes.len(), entry.live);
            Err(Error::damaged(path, LIVE, reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Manifest {
        let mut schema = Schema::default();
        let plain = VectorConfig::new(3, Metric::Cosine);
        schema.add("c", "b", plain).unwrap();
        schema.add("c", "", plain.with_index(FieldIndex::Flat).with_element(ElementType::F16)).unwrap();
        let indexes = [
            FieldIndex::Coded(CodedParams { kind: CodeKind::Pq4, subspaces: 3, seed: 7 }),
            FieldIndex::Coded(CodedParams::new(CodeKind::Rabitq(5))),
            FieldIndex::Ivf(IvfParams { lists: Some(9), bits: 3, spill: true, seed: 8 }),
            FieldIndex::Lsh(LshParams {
                num_tables: Some(2),
                num_functions: None,
                seed: 9,
                ..LshParams::default()
            }),
        ];
        for (place, index) in indexes.into_iter().enumerate() {
            schema.add("c", &format!("index {place}"), plain.with_index(index)).unwrap();
        }
        let mut manifest = Manifest::new(schema);
        manifest.log_from = SeqNo(77);
        manifest.next_blob = 3;
        manifest.segments.push(SegmentEntry { number: 1, rows: 100, live: 90, tombstones: 2 });
        manifest
    }

    #[test]
    fn a_manifest_comes_out_as_it_went_in() {
        let manifest = example();
        let bytes = manifest.encode();
        let read = Manifest::decode(Path::new("m"), Region::from(&bytes[..])).unwrap();
        assert_eq!(read, manifest);
        assert_eq!(read.blobs(), BTreeSet::from(["dead-00000002".to_owned(), "seg-00000001".to_owned()]));
    }

    #[test]
    fn an_unknown_index_is_refused() {
        for (kind, numbers) in [
            (5, [0, 0, 0, 0]),
            (2, [10, 0, 0, 0]),
            (2, [0, 1, 0, 0]),
            (2, [5, 9, 0, 0]),
            (3, [0, 256, 0, 0]),
            (3, [0, 4, 2, 0]),
            (4, [3, 0, 0, 0]),
            (4, [u64::MAX, 0, 0, 0]),
        ] {
            let reason = index_of(kind, numbers).unwrap_err();
            assert!(reason.starts_with(&format!("index {kind} with ")), "{reason}");
        }
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let bytes = example().encode();
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 16;
            let read = Manifest::decode(Path::new("m"), Region::from(&changed[..]));
            assert!(read.is_err(), "byte {place} of {}", bytes.len());
        }
    }

    #[test]
    fn tombstones_say_which_rows_are_left() {
        let store = vdb_storage::Memory::new();
        let blobs = vdb_storage::Backend::blobs(&store);
        let live = BitSet::from_fn(130, |row| row % 3 == 0);
        write_tombstones(blobs, 5, &live).unwrap();
        let entry = SegmentEntry { number: 1, rows: 130, live: live.count() as u64, tombstones: 5 };
        assert_eq!(read_tombstones(blobs, &entry).unwrap(), live);
        assert_eq!(
            read_tombstones(blobs, &SegmentEntry { tombstones: 0, ..entry }).unwrap(),
            BitSet::all(130)
        );
        for other in [SegmentEntry { rows: 64, ..entry }, SegmentEntry { live: 3, ..entry }] {
            assert!(matches!(read_tombstones(blobs, &other), Err(Error::Damaged { .. })), "{other:?}");
        }
    }
}
