//! The file of a segment: points that never change, used where the file is mapped.
//!
//! A segment has *rows*. Each has an id, a version, perhaps a time to expire, a payload, and for each vector field a vector
//! or none. A field's graph is over the same rows. Opening looks at lengths only; what a damaged file may hold is checked
//! when it is used, and [`Segment::verify`] checks all of it.

mod codes;
mod damages;
mod ids;
mod payloads;

pub(crate) use codes::CodeIndex;
pub(crate) use damages::damages_of;
pub use ids::{IdTable, write_ids};
pub(crate) use payloads::{Payloads, parse, to_json};

use crate::budget::{Budget, Reserved};
use crate::manifest::{metric_number, metric_of};
use crate::schema::{Field, FieldIndex, Schema};
use crate::{Error, PointId};
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vdb_distance::ElementType;
use vdb_index::{BitSet, GraphError, Hnsw, StoredRows, Vectors};
use vdb_storage::codec::{Encode, Reader, u64_at};
use vdb_storage::{Blobs, ContainerReader, ContainerWriter, FileKind, Region, StorageError};

const KIND: FileKind = FileKind::new(*b"SEGM");
const VERSIONS: &str = "versions";
const EXPIRES: &str = "expires";

/// Sections of at most so many bytes are checked when a segment is opened.
const SHORT_BYTES: usize = 1 << 10;

/// A vector field of a segment.
#[derive(Debug)]
pub(crate) struct SegmentField {
    pub(crate) number: u32,
    pub(crate) vectors: Vectors,
    pub(crate) hnsw: Option<Hnsw>,
    /// An index that is no graph.
    pub(crate) codes: Option<CodeIndex>,
}

/// Points in a file.
#[derive(Debug)]
pub(crate) struct Segment {
    /// In the name of its blob.
    pub(crate) number: u64,
    pub(crate) path: PathBuf,
    pub(crate) ids: IdTable,
    pub(crate) payloads: Payloads,
    pub(crate) fields: Vec<SegmentField>,
    pub(crate) file_bytes: u64,
    /// No row expires before this time, in milliseconds since 1970.
    pub(crate) next_expiry: AtomicU64,
    versions: Region,
    /// Empty when no row expires.
    expires: Region,
    file: Region,
    container: Arc<ContainerReader<Cursor<Region>>>,
    /// What is in memory beside the file.
    pinned: Option<Reserved>,
}

/// The name of a segment's blob.
pub(crate) fn blob_name(number: u64) -> String {
    format!("seg-{number:08}")
}

/// The section of a field.
fn section_name(field: u32, name: &str) -> String {
    format!("{field}:{name}")
}

/// What is to be written as a segment.
pub(crate) struct Content<'a> {
    pub(crate) ids: &'a [PointId],
    pub(crate) versions: &'a [u64],
    /// Of each row, or of none.
    pub(crate) expires: &'a [u64],
    pub(crate) payload_lengths: &'a [u32],
    pub(crate) payload: &'a dyn Fn(usize) -> Result<&'a [u8], Error>,
    pub(crate) fields: &'a [(u32, Vectors, Option<Hnsw>)],
    /// What is to have another index than a graph, and from how many rows on.
    pub(crate) schema: &'a Schema,
    pub(crate) least_rows: usize,
}

/// Writes a segment, durably.
pub(crate) fn write(blobs: &dyn Blobs, number: u64, content: &Content<'_>) -> Result<(), Error> {
    let name = blob_name(number);
    let path = blobs.path(&name);
    let io = |error| Error::from(StorageError::io(&path)(error));
    let codes_of = |(number, vectors, _): &(u32, Vectors, Option<Hnsw>)| {
        let field = content.schema.by_number(*number)?;
        let is_due = vectors.live().count() >= content.least_rows.max(1);
        is_due.then(|| CodeIndex::build(field.config.index, vectors))?
    };
    let codes: Vec<Option<CodeIndex>> = content.fields.iter().map(codes_of).collect();
    let mut blob = blobs.create(&name)?;
    {
        let mut file = ContainerWriter::new(&mut blob, KIND).map_err(io)?;
        write_ids(content.ids, number, &mut file, &path)?;
        file.write_section(VERSIONS, |out| out.put_u64_slice(content.versions)).map_err(io)?;
        if content.expires.iter().any(|at| *at > 0) {
            file.write_section(EXPIRES, |out| out.put_u64_slice(content.expires)).map_err(io)?;
        }
        payloads::write(content.payload_lengths, content.payload, &mut file, &path)?;
        for ((field, vectors, hnsw), codes) in content.fields.iter().zip(&codes) {
            write_field(*field, vectors, hnsw.as_ref(), codes.as_ref(), &mut file).map_err(io)?;
        }
        file.finish().map_err(io)?;
    }
    Ok(blob.finish()?)
}

fn write_field<W: std::io::Write>(
    field: u32,
    vectors: &Vectors,
    hnsw: Option<&Hnsw>,
    codes: Option<&CodeIndex>,
    file: &mut ContainerWriter<W>,
) -> std::io::Result<()> {
    let StoredRows { element, rows, values, norms } = vectors.stored();
    let is_full = vectors.live().count() == rows;
    file.write_section(&section_name(field, "config"), |out| {
        out.put_u32(vectors.dim() as u32)?;
        out.put_u32(metric_number(vectors.metric()))?;
        out.put_u32(element.to_u32())?;
        let flags = u32::from(!is_full) | u32::from(hnsw.is_some()) << 1;
        out.put_u32(flags | codes.map_or(0, CodeIndex::flag))
    })?;
    if !is_full {
        file.write_section(&section_name(field, "live"), |out| out.put_u64_slice(vectors.live().words()))?;
    }
    file.add_section(&section_name(field, "rows"), values)?;
    if !norms.is_empty() {
        file.write_section(&section_name(field, "norms"), |out| out.put_f32_slice(norms))?;
    }
    let codes = codes.map(CodeIndex::stored).unwrap_or_default();
    for (name, bytes) in hnsw.map(Hnsw::stored).unwrap_or_default().into_iter().chain(codes) {
        file.add_section(&section_name(field, name), &bytes)?;
    }
    Ok(())
}

/// What stops an index from being opened.
enum OpenError {
    Storage(StorageError),
    Index(String),
}

type Opened<T> = Result<T, OpenError>;

impl From<String> for OpenError {
    fn from(reason: String) -> Self {
        Self::Index(reason)
    }
}

impl From<GraphError> for OpenError {
    fn from(error: GraphError) -> Self {
        Self::Index(error.to_string())
    }
}

impl Segment {
    /// Opens the segment of a number, with those of its fields that the schema has.
    ///
    /// # Errors
    /// [`Error::Storage`], [`Error::Damaged`].
    ///
    /// # Complexity
    /// Independent of the number of rows, but for a bit a row.
    pub(crate) fn open(blobs: &dyn Blobs, number: u64, schema: &Schema) -> Result<Self, Error> {
        let name = blob_name(number);
        let path = blobs.path(&name);
        Self::from_region(path, number, blobs.open(&name)?.map()?, schema)
    }

    /// The same file with nothing of it pinned.
    pub(crate) fn unpinned(&self, schema: &Schema) -> Result<Self, Error> {
        Self::from_region(self.path.clone(), self.number, self.file.clone(), schema)
    }

    fn from_region(path: PathBuf, number: u64, region: Region, schema: &Schema) -> Result<Self, Error> {
        let file_bytes = region.len() as u64;
        let container = ContainerReader::from_region(&path, region.clone(), KIND)?;
        // What is short is checked at once: lengths and settings, which tell how to read the rest.
        let section = |name: &str| match container.section_in_place(name)? {
            region if region.len() > SHORT_BYTES => Ok(region),
            _ => container.verified_in_place(name),
        };
        let ids = IdTable::open(&path, section)?;
        let rows = ids.len();
        let versions = section(VERSIONS)?;
        let expires = match section(EXPIRES) {
            Err(StorageError::MissingSection { .. }) => Region::from(&[][..]),
            expires => expires?,
        };
        for (name, region) in [(VERSIONS, &versions), (EXPIRES, &expires)] {
            if region.len() != rows * 8 && !(name == EXPIRES && region.is_empty()) {
                let reason = format!("{} bytes for {rows} rows, {} expected", region.len(), rows * 8);
                return Err(Error::damaged(&path, name, reason));
            }
        }
        let payloads = Payloads::open(&path, rows, section)?;
        let fields = schema.fields.iter().filter_map(|field| {
            let config = section_name(field.number, "config");
            match container.verified_in_place(&config) {
                Err(StorageError::MissingSection { .. }) => None,
                Err(error) => Some(Err(error.into())),
                Ok(config) => Some(open_field(&path, rows, field, &config, section)),
            }
        });
        let fields = fields.collect::<Result<_, Error>>()?;
        let next_expiry = AtomicU64::new(if expires.is_empty() { u64::MAX } else { 0 });
        let container = Arc::new(container);
        Ok(Self {
            number,
            path,
            ids,
            payloads,
            fields,
            file_bytes,
            next_expiry,
            versions,
            expires,
            file: region,
            container,
            pinned: None,
        })
    }

    /// The same with what walks of its graphs and scans of its codes read most in memory of its own, where the budget has room for it and it is not
    /// there already.
    pub(crate) fn pinned(&self, budget: &Arc<Budget>) -> Option<Self> {
        let graphs = self.fields.iter().filter_map(|field| field.hnsw.as_ref());
        let graphs: usize = graphs.filter(|hnsw| hnsw.is_shared()).map(Hnsw::pinned_bytes).sum();
        let codes = self.fields.iter().filter_map(|field| field.codes.as_ref());
        let codes: usize = codes.filter(|codes| codes.is_shared()).map(CodeIndex::pinned_bytes).sum();
        let bytes = graphs + codes;
        let reserved = if bytes > 0 { budget.reserve(bytes as u64)? } else { return None };
        let pinned = |field: &SegmentField| {
            let hnsw = field.hnsw.clone().map(|mut hnsw| {
                hnsw.pin();
                hnsw
            });
            let codes = field.codes.clone().map(|mut codes| {
                codes.pin();
                codes
            });
            SegmentField { number: field.number, vectors: field.vectors.clone(), hnsw, codes }
        };
        let fields = self.fields.iter().map(pinned).collect();
        // Copied, they are not read here any more.
        self.file.evict();
        Some(Self {
            number: self.number,
            path: self.path.clone(),
            ids: self.ids.clone(),
            payloads: self.payloads.clone(),
            fields,
            file_bytes: self.file_bytes,
            next_expiry: AtomicU64::new(self.next_expiry.load(Ordering::Relaxed)),
            versions: self.versions.clone(),
            expires: self.expires.clone(),
            file: self.file.clone(),
            container: Arc::clone(&self.container),
            pinned: Some(reserved),
        })
    }

    /// Whether something of it is in memory beside the file.
    pub(crate) fn is_pinned(&self) -> bool {
        self.pinned.is_some()
    }

    /// Gives pages back that were read once from begin to end.
    pub(crate) fn evict(&self) {
        self.file.evict();
    }

    /// Rows, dead ones included.
    pub(crate) fn rows(&self) -> usize {
        self.ids.len()
    }

    /// The row of an id. What is damaged is told by its checksum, where that does not hold.
    pub(crate) fn find(&self, id: &PointId) -> Result<Option<u32>, Error> {
        self.ids.find(id).map_err(|error| self.container.verify_in_place().err().map_or(error, Error::from))
    }

    pub(crate) fn field(&self, number: u32) -> Option<&SegmentField> {
        self.fields.iter().find(|field| field.number == number)
    }

    pub(crate) fn version(&self, row: u32) -> u64 {
        u64_at(&self.versions, 8 * row as usize)
    }

    /// When a row expires, in milliseconds since 1970; 0 for never.
    pub(crate) fn expires(&self, row: u32) -> u64 {
        if self.expires.is_empty() { 0 } else { u64_at(&self.expires, 8 * row as usize) }
    }

    /// Whether a graph, or another index, is due that is not there.
    pub(crate) fn lacks_graph(&self, schema: &Schema, least_rows: usize) -> bool {
        self.fields.iter().any(|field| {
            let config = schema.by_number(field.number).map(|field| field.config.index);
            let is_there = match config {
                None | Some(FieldIndex::Flat) => true,
                Some(FieldIndex::Hnsw(_)) => field.hnsw.is_some(),
                Some(_) => field.codes.is_some(),
            };
            !is_there && field.vectors.live().count() >= least_rows
        })
    }

    /// Whether any field has a graph.
    pub(crate) fn has_graph(&self) -> bool {
        self.fields.iter().any(|field| field.hnsw.is_some())
    }

    /// Whether any field has an index.
    pub(crate) fn has_index(&self) -> bool {
        self.fields.iter().any(|field| field.hnsw.is_some() || field.codes.is_some())
    }

    /// What lists and tables of a field hold that they should not.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub(crate) fn verify_codes(&self, field: &SegmentField) -> Result<(), Error> {
        let verified = field.codes.as_ref().map_or(Ok(()), |codes| codes.verify(&field.vectors));
        verified.map_err(|(section, reason)| {
            Error::damaged(&self.path, &section_name(field.number, section), reason)
        })
    }

    /// Checks every link of a field's graph, if it has one.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub(crate) fn verify_graph(&self, field: &SegmentField) -> Result<(), Error> {
        let SegmentField { number, vectors, hnsw, .. } = field;
        let verified = hnsw.as_ref().map_or(Ok(()), |hnsw| hnsw.verify(vectors));
        verified.map_err(|error| {
            Error::damaged(&self.path, &section_name(*number, "hnsw.base"), error.to_string())
        })
    }
}

fn open_field(
    path: &Path,
    rows: usize,
    field: &Field,
    config: &[u8],
    section: impl Fn(&str) -> Result<Region, StorageError>,
) -> Result<SegmentField, Error> {
    let number = field.number;
    let config_name = section_name(number, "config");
    let mut reader = Reader::new(config);
    let mut word = || reader.u32().map_err(StorageError::decode(path, &config_name));
    let (dim, metric, element, flags) = (word()?, word()?, word()?, word()?);
    let (expected, found) =
        ((field.config.dim, Some(field.config.metric)), (dim as usize, metric_of(metric)));
    if expected != found {
        let reason = format!("dimension and metric are {found:?}, the collection's are {expected:?}");
        return Err(Error::damaged(path, &config_name, reason));
    }
    let element = ElementType::from_u32(element)
        .ok_or_else(|| Error::damaged(path, &config_name, format!("{element} is no type of values")))?;
    let own = |name: &str| section(&section_name(number, name));
    let live = if flags & 1 == 0 {
        BitSet::all(rows)
    } else {
        let bytes = own("live")?;
        let words = (0..bytes.len() / 8).map(|word| u64_at(&bytes, 8 * word)).collect();
        BitSet::from_words(rows, words).ok_or_else(|| {
            let reason = format!("{} bytes are no set of {rows} rows", bytes.len());
            Error::damaged(path, &section_name(number, "live"), reason)
        })?
    };
    let norms = match own("norms") {
        Err(StorageError::MissingSection { .. }) => Region::from(&[][..]),
        norms => norms?,
    };
    let (values, norms) = (Arc::new(own("rows")?), Arc::new(norms));
    let vectors = Vectors::open(field.config.metric, field.config.dim, element, live, values, norms)
        .map_err(|reason| Error::damaged(path, &section_name(number, "rows"), reason))?;
    if flags & !(3 | codes::ALL_FLAGS) != 0 {
        return Err(Error::damaged(path, &config_name, format!("flags {flags}, of which some are unknown")));
    }
    let part = |name: &str| match own(name) {
        Ok(region) => Ok(Some(Arc::new(region) as vdb_distance::Owner)),
        Err(StorageError::MissingSection { .. }) => Ok(None),
        Err(error) => Err(OpenError::Storage(error)),
    };
    let damaged = |section: &str, error| match error {
        OpenError::Storage(error) => error.into(),
        OpenError::Index(reason) => Error::damaged(path, &section_name(number, section), reason),
    };
    let hnsw = (flags & 2 > 0).then(|| {
        Hnsw::open(&vectors, |name| match own(name) {
            Ok(region) => Ok(Arc::new(region) as vdb_distance::Owner),
            Err(error) => Err(OpenError::Storage(error)),
        })
    });
    let hnsw = hnsw.transpose().map_err(|error| damaged("hnsw.config", error))?;
    let index = field.config.index;
    let codes = CodeIndex::open(index, flags, &vectors, part)
        .map_err(|error| damaged(CodeIndex::first_section(index), error))?;
    Ok(SegmentField { number, vectors, hnsw, codes })
}
