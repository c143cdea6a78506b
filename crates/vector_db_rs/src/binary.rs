//! The database file: records and the built index as checksummed sections (`docs/format.md`, "Database file").
//!
//! Offsets are kept, so that the index needs no rebuilding. Everything read is checked before it is believed: section
//! lengths against the number of rows, values for being finite, links for being in range.

use crate::config::check_dimension;
use crate::index::{Core, Index, IndexParams, check_target_recall};
use crate::store::{Metadata, RecordStore, Row, not_finite};
use crate::{Error, IndexType};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use vdb_distance::Metric;
use vdb_index::{
    BitSet, CodeKind, Coded, CodedParams, CodedParts, Flat, FlatParts, Hnsw, HnswParams, HnswParts, Ivf,
    IvfParams, IvfParts, Lsh, LshFamily, LshParams, LshParts, Vectors,
};
use vdb_storage::codec::{CodecError, Encode, Reader};
use vdb_storage::container::{ContainerReader, ContainerWriter, FileKind};
use vdb_storage::{StorageError, write_atomically};

/// The kind of container that a database file is.
const KIND: FileKind = FileKind::new(*b"DB  ");

/// Stands for "no entry point" in a file.
const NO_ENTRY: u32 = u32::MAX;

const METRICS: [Metric; 4] = [Metric::Euclidean, Metric::Cosine, Metric::DotProduct, Metric::Manhattan];
const LSH_FAMILIES: [LshFamily; 3] =
    [LshFamily::Hyperplane, LshFamily::FastHyperplane, LshFamily::CrossPolytope];
const INDEX_TYPES: [IndexType; 4] = [IndexType::Flat, IndexType::LSH, IndexType::HNSW, IndexType::IVF];

/// The place of a value in a table of codes; every value of the type is in it.
fn code_of<T: PartialEq>(table: &[T], value: T) -> u8 {
    table.iter().position(|known| *known == value).expect("the table holds every value") as u8
}

pub(crate) fn save(core: &Core, path: &Path) -> Result<(), Error> {
    write_atomically(path, |out| write(core, out).map_err(StorageError::io(path)))?;
    Ok(())
}

fn write(core: &Core, out: &mut dyn io::Write) -> io::Result<()> {
    let mut file = ContainerWriter::new(out, KIND)?;
    let Core { store, index, .. } = core;
    file.write_section("config", |out| write_config(core, out))?;
    file.write_section("live", |out| out.put_u64_slice(store.vectors.live().words()))?;
    file.write_section("free", |out| out.put_u32_slice(store.free()))?;
    file.write_section("ids", |out| store.live().try_for_each(|offset| out.put_str(store.id(offset))))?;
    file.write_section("metadata", |out| {
        store.live().try_for_each(|offset| write_metadata(store.metadata(offset), out))
    })?;
    file.write_section("vectors", |out| {
        (0..store.vectors.len() as u32).try_for_each(|offset| out.put_f32_slice(&store.vectors.row(offset)))
    })?;
    match index {
        Index::Flat(flat) => {
            let FlatParts { center, directions, fine, trained } = flat.to_parts();
            file.write_section("flat.basis", |out| {
                out.put_u64(trained)?;
                out.put_u8(u8::from(fine))?;
                out.put_u32(center.len() as u32)?;
                out.put_f32_slice(&center)?;
                out.put_f32_slice(&directions)
            })?;
        }
        Index::Coded(coded) => write_codes(coded.to_parts(), &mut file)?,
        Index::Lsh(lsh) => {
            let LshParts { center, max_norm, trained, candidates } = lsh.to_parts();
            file.write_section("lsh.fit", |out| {
                out.put_f32(max_norm)?;
                out.put_u64(trained)?;
                out.put_u64(candidates)?;
                out.put_f32_slice(&center)
            })?;
        }
        Index::Hnsw(hnsw) => {
            let HnswParts { levels, base, upper, entry, dead, recalls, changed, basis, trained, .. } =
                hnsw.to_parts();
            file.write_section("hnsw.entry", |out| out.put_u32(entry.unwrap_or(NO_ENTRY)))?;
            file.write_section("hnsw.dead", |out| out.put_u32_slice(&dead))?;
            file.add_section("hnsw.levels", &levels)?;
            file.write_section("hnsw.base", |out| out.put_u32_slice(&base))?;
            file.write_section("hnsw.upper", |out| out.put_u32_slice(&upper))?;
            file.write_section("hnsw.recall", |out| {
                out.put_u64(core.params.target_recall.to_bits())?;
                out.put_u64(changed)?;
                out.put_u32_slice(&recalls)
            })?;
            file.write_section("hnsw.basis", |out| {
                out.put_u64(trained)?;
                out.put_f32_slice(&basis)
            })?;
        }
        Index::Ivf(ivf) => {
            let IvfParts { params, trained, probes, mean, centroids, lens, lists } = ivf.to_parts();
            file.write_section("ivf.fit", |out| {
                out.put_u64(params.lists.unwrap_or(0) as u64)?;
                out.put_u8(params.bits)?;
                out.put_u8(u8::from(params.spill))?;
                out.put_u64(params.seed)?;
                out.put_u64(core.params.probes.unwrap_or(0) as u64)?;
                out.put_u64(trained)?;
                out.put_u32(probes)?;
                out.put_f32_slice(&mean)
            })?;
            file.write_section("ivf.centroids", |out| out.put_f32_slice(&centroids))?;
            file.write_section("ivf.lens", |out| out.put_u32_slice(&lens))?;
            file.add_section("ivf.lists", &lists)?;
        }
    }
    file.finish()?;
    Ok(())
}

fn write_codes<W: io::Write>(parts: CodedParts, file: &mut ContainerWriter<W>) -> io::Result<()> {
    let CodedParts { params, trained, scale, centre, quantizer, codes, rest } = parts;
    file.write_section("codes.config", |out| {
        out.put_str(&params.kind.to_string())?;
        out.put_u64_slice(&[params.subspaces as u64, params.seed, trained])?;
        out.put_f32(scale)?;
        out.put_f32_slice(&centre)
    })?;
    file.add_section("codes.quantizer", &quantizer)?;
    file.add_section("codes.rows", &codes)?;
    file.add_section("codes.rest", &rest)
}

fn write_config(core: &Core, out: &mut impl io::Write) -> io::Result<()> {
    let Core { dimension, params, store, index, .. } = core;
    out.put_u32(*dimension as u32)?;
    out.put_u8(code_of(&METRICS, store.vectors.metric()))?;
    out.put_u8(code_of(&INDEX_TYPES, index.index_type()))?;
    let IndexParams { hnsw, ef_search, lsh, .. } = params;
    out.put_u64_slice(&[
        store.vectors.len() as u64,
        hnsw.m.unwrap_or(0) as u64,
        hnsw.ef_construction as u64,
        hnsw.exact_scan_factor as u64,
        hnsw.seed,
        ef_search.unwrap_or(0) as u64,
        lsh.num_tables.unwrap_or(0) as u64,
        lsh.num_functions.unwrap_or(0) as u64,
        lsh.seed,
        u64::from(code_of(&LSH_FAMILIES, lsh.family)),
    ])
}

fn write_metadata(metadata: Option<&HashMap<String, String>>, out: &mut impl io::Write) -> io::Result<()> {
    let mut fields: Vec<(&String, &String)> = metadata.into_iter().flatten().collect();
    fields.sort_unstable();
    out.put_u32(fields.len() as u32)?;
    fields.into_iter().try_for_each(|(key, value)| {
        out.put_str(key)?;
        out.put_str(value)
    })
}

pub(crate) fn load(path: &Path) -> Result<Core, Error> {
    let mut file = Sections { path, file: ContainerReader::open(path, KIND)? };
    let Config { dimension, metric, index_type, rows, mut params } = file.config()?;
    let mut vectors = file.vectors(metric, dimension, rows)?;
    let live = file.words("live", rows.div_ceil(64))?;
    if rows % 64 != 0 && live.last().is_some_and(|word| word >> (rows % 64) != 0) {
        return Err(file.damaged("live", format!("it marks rows past the {rows} there are")));
    }
    let is_live = |offset: usize| live[offset / 64] >> (offset % 64) & 1 == 1;
    for offset in (0..rows).filter(|&offset| !is_live(offset)) {
        vectors.remove(offset as u32);
    }
    let free: Vec<u32> = file.numbers_to_end("free")?;
    if let Some(offset) = free.iter().find(|&&offset| offset as usize >= rows || is_live(offset as usize)) {
        return Err(file.damaged("free", format!("it lists row {offset}, which is in use or absent")));
    }
    let distinct = BitSet::from_members(rows, &free).count();
    if distinct != free.len() {
        return Err(file.damaged("free", format!("{} rows, of which {distinct} are different", free.len())));
    }
    let records = file.records(&vectors)?;
    let index = match index_type {
        IndexType::Flat if file.file.contains("codes.config") => {
            let coded = file.coded(&vectors)?;
            params.coded = Some(*coded.params());
            Index::Coded(coded)
        }
        IndexType::Flat => Index::Flat(file.flat(&vectors)?),
        IndexType::LSH => Index::Lsh(file.lsh(params.lsh, &vectors)?),
        IndexType::HNSW => Index::Hnsw(file.hnsw(&mut params, &vectors)?),
        IndexType::IVF => Index::Ivf(file.ivf(&mut params, &vectors)?),
    };
    let store =
        RecordStore::from_rows(vectors, records, free).map_err(|reason| file.damaged("ids", reason))?;
    Ok(Core::from_parts(dimension, params, store, index))
}

struct Config {
    dimension: usize,
    metric: Metric,
    index_type: IndexType,
    rows: usize,
    params: IndexParams,
}

/// A database file being read.
struct Sections<'a> {
    path: &'a Path,
    file: ContainerReader<File>,
}

impl Sections<'_> {
    fn damaged(&self, section: &'static str, reason: String) -> Error {
        Error::Damaged { path: self.path.to_owned(), section, reason }
    }

    /// Decodes a whole section.
    fn decode<T>(
        &mut self,
        section: &'static str,
        decode: impl FnOnce(&mut Reader<'_>) -> Result<T, CodecError>,
    ) -> Result<T, Error> {
        let bytes = self.file.section(section)?;
        let mut reader = Reader::new(&bytes);
        let decoded = decode(&mut reader).and_then(|value| reader.finish().map(|()| value));
        Ok(decoded.map_err(StorageError::decode(self.path, section))?)
    }

    /// A section of exactly `count` words.
    fn words(&mut self, section: &'static str, count: usize) -> Result<Vec<u64>, Error> {
        self.decode(section, |reader| reader.u64_vec(count))
    }

    fn numbers_to_end(&mut self, section: &'static str) -> Result<Vec<u32>, Error> {
        self.decode(section, |reader| reader.u32_vec(reader.remaining() / 4))
    }

    fn config(&mut self) -> Result<Config, Error> {
        let (dimension, metric, index_type, numbers) = self.decode("config", |reader| {
            Ok((reader.u32()?, reader.u8()?, reader.u8()?, reader.u64_vec(10)?))
        })?;
        let dimension = dimension as usize;
        check_dimension(dimension).map_err(|error| self.damaged("config", error.to_string()))?;
        let unknown = |what: &str, code: u8| self.damaged("config", format!("unknown {what} {code}"));
        let metric = *METRICS.get(usize::from(metric)).ok_or_else(|| unknown("metric", metric))?;
        let index_type =
            *INDEX_TYPES.get(usize::from(index_type)).ok_or_else(|| unknown("index type", index_type))?;
        let numbers: Vec<usize> = numbers.into_iter().map(|number| number as usize).collect();
        let [
            rows,
            m,
            ef_construction,
            exact_scan_factor,
            hnsw_seed,
            ef_search,
            tables,
            functions,
            lsh_seed,
            family,
        ] = numbers[..]
        else {
            unreachable!("ten numbers were read");
        };
        let family = *LSH_FAMILIES
            .get(family)
            .ok_or_else(|| self.damaged("config", format!("unknown hash family {family}")))?;
        let given = |number: usize| (number != 0).then_some(number);
        let hnsw = HnswParams { m: given(m), ef_construction, exact_scan_factor, seed: hnsw_seed as u64 };
        let (num_tables, num_functions) = (given(tables), given(functions));
        let ef_search = given(ef_search);
        let lsh = LshParams { family, num_tables, num_functions, seed: lsh_seed as u64 };
        Ok(Config {
            dimension,
            metric,
            index_type,
            rows,
            params: IndexParams { hnsw, ef_search, lsh, ..IndexParams::default() },
        })
    }

    fn vectors(&mut self, metric: Metric, dimension: usize, rows: usize) -> Result<Vectors, Error> {
        let length = self.file.sections().find(|(name, _)| *name == "vectors").map(|(_, length)| length);
        let row_bytes = dimension * 4;
        if let Some(length) = length
            && (rows.checked_mul(row_bytes) != Some(length as usize) || rows > vdb_index::MAX_ROWS)
        {
            let reason = format!("{length} bytes are not {rows} rows of {dimension} values");
            return Err(self.damaged("vectors", reason));
        }
        let mut section = BufReader::with_capacity(1 << 20, self.file.section_reader("vectors")?);
        let mut vectors = Vectors::new(metric, dimension);
        vectors.reserve(rows);
        let mut bytes = vec![0; row_bytes];
        let mut row = vec![0.0; dimension];
        let mut invalid = None;
        for offset in 0..rows {
            section.read_exact(&mut bytes).map_err(StorageError::io(self.path))?;
            Reader::new(&bytes)
                .f32_slice_into(&mut row)
                .map_err(StorageError::decode(self.path, "vectors"))?;
            if let Some((index, value)) = not_finite(&row) {
                invalid.get_or_insert((offset, index, value));
                row.fill(0.0);
            }
            vectors.push(&row);
        }
        drop(section);
        match invalid {
            None => Ok(vectors),
            Some((offset, index, value)) => {
                Err(self.damaged("vectors", format!("value {index} of row {offset} is {value}")))
            }
        }
    }

    /// Id and metadata of every live row.
    fn records(&mut self, vectors: &Vectors) -> Result<Vec<Row>, Error> {
        let live = vectors.live();
        let mut records: Vec<Row> = vec![None; vectors.len()];
        self.decode("ids", |reader| {
            live.iter().try_for_each(|offset| {
                records[offset as usize] = Some((reader.str()?.into(), None));
                Ok(())
            })
        })?;
        self.decode("metadata", |reader| {
            for record in records.iter_mut().flatten() {
                record.1 = read_metadata(reader)?;
            }
            Ok(())
        })?;
        Ok(records)
    }

    fn flat(&mut self, vectors: &Vectors) -> Result<Flat, Error> {
        let parts = self.decode("flat.basis", |reader| {
            let trained = reader.u64()?;
            let fine = reader.u8()? != 0;
            let dimension = reader.u32()? as usize;
            let center = reader.f32_vec(dimension)?;
            Ok(FlatParts { trained, fine, center, directions: reader.f32_vec(reader.remaining() / 4)? })
        })?;
        Flat::from_parts(vectors, parts).map_err(|reason| self.damaged("flat.basis", reason))
    }

    fn coded(&mut self, vectors: &Vectors) -> Result<Coded, Error> {
        let (kind, numbers, scale, centre) = self.decode("codes.config", |reader| {
            let kind = reader.str()?.to_owned();
            Ok((kind, reader.u64_vec(3)?, reader.f32()?, reader.f32_vec(reader.remaining() / 4)?))
        })?;
        let kind: CodeKind = kind.parse().map_err(|reason| self.damaged("codes.config", reason))?;
        let params = CodedParams { kind, subspaces: numbers[0] as usize, seed: numbers[1] };
        let parts = CodedParts {
            params,
            trained: numbers[2],
            scale,
            centre,
            quantizer: self.file.section("codes.quantizer")?,
            codes: self.file.section("codes.rows")?,
            rest: self.file.section("codes.rest")?,
        };
        Coded::from_parts(vectors, parts).map_err(|reason| self.damaged("codes.rows", reason))
    }

    fn lsh(&mut self, params: LshParams, vectors: &Vectors) -> Result<Lsh, Error> {
        let parts = self.decode("lsh.fit", |reader| {
            let (max_norm, trained, candidates) = (reader.f32()?, reader.u64()?, reader.u64()?);
            let center = reader.f32_vec(reader.remaining() / 4)?;
            Ok(LshParts { center, max_norm, trained, candidates })
        })?;
        Lsh::from_parts(vectors, params, parts).map_err(|reason| self.damaged("lsh.fit", reason))
    }

    /// The graph; the target recall, which `config` does not have, goes to `params`.
    fn hnsw(&mut self, params: &mut IndexParams, vectors: &Vectors) -> Result<Hnsw, Error> {
        let entry = self.decode("hnsw.entry", |reader| reader.u32())?;
        // Files of older versions do not have it.
        let (mut recalls, mut changed) = (Vec::new(), 0);
        if self.file.contains("hnsw.recall") {
            let (target, known_changed, numbers) = self.decode("hnsw.recall", |reader| {
                Ok((f64::from_bits(reader.u64()?), reader.u64()?, reader.u32_vec(reader.remaining() / 4)?))
            })?;
            check_target_recall(target).map_err(|reason| self.damaged("hnsw.recall", reason))?;
            params.target_recall = target;
            (recalls, changed) = (numbers, known_changed);
        }
        let (mut trained, mut basis) = (0, Vec::new());
        if self.file.contains("hnsw.basis") {
            (trained, basis) = self.decode("hnsw.basis", |reader| {
                Ok((reader.u64()?, reader.f32_vec(reader.remaining() / 4)?))
            })?;
        }
        let (levels, base) = (self.file.section("hnsw.levels")?, self.numbers_to_end("hnsw.base")?);
        // Where it was chosen, it shows in the length of rows.
        let m = base.len().checked_div(2 * levels.len()).unwrap_or(params.hnsw.m_for(0));
        let parts = HnswParts {
            params: params.hnsw,
            m,
            levels,
            base,
            upper: self.numbers_to_end("hnsw.upper")?,
            entry: (entry != NO_ENTRY).then_some(entry),
            dead: self.numbers_to_end("hnsw.dead")?,
            recalls,
            changed,
            basis,
            trained,
        };
        Hnsw::from_parts(vectors, parts).map_err(|error| self.damaged("hnsw.base", error.to_string()))
    }
}

impl Sections<'_> {
    /// The lists; their parameters, which `config` does not have, go to `params`.
    fn ivf(&mut self, params: &mut IndexParams, vectors: &Vectors) -> Result<Ivf, Error> {
        let (ivf, probes, mut parts) = self.decode("ivf.fit", |reader| {
            let lists = Some(reader.u64()? as usize).filter(|&lists| lists > 0);
            let (bits, spill) = (reader.u8()?, reader.u8()? != 0);
            let ivf = IvfParams { lists, bits, spill, seed: reader.u64()? };
            let probes = Some(reader.u64()? as usize).filter(|&probes| probes > 0);
            let (trained, own_probes) = (reader.u64()?, reader.u32()?);
            let mean = reader.f32_vec(reader.remaining() / 4)?;
            let (centroids, lens, lists) = (Vec::new(), Vec::new(), Vec::new());
            let parts = IvfParts { params: ivf, trained, probes: own_probes, mean, centroids, lens, lists };
            Ok((ivf, probes, parts))
        })?;
        parts.centroids = self.decode("ivf.centroids", |reader| reader.f32_vec(reader.remaining() / 4))?;
        parts.lens = self.numbers_to_end("ivf.lens")?;
        parts.lists = self.file.section("ivf.lists")?;
        (params.ivf, params.probes) = (ivf, probes);
        Ivf::from_parts(vectors, parts).map_err(|reason| self.damaged("ivf.lists", reason))
    }
}

fn read_metadata(reader: &mut Reader<'_>) -> Result<Metadata, CodecError> {
    let count = reader.u32()?;
    let mut fields = HashMap::new();
    for _ in 0..count {
        let key = reader.str()?.to_owned();
        fields.insert(key, reader.str()?.to_owned());
    }
    Ok((!fields.is_empty()).then(|| Box::new(fields)))
}
