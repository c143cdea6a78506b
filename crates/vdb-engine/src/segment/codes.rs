//! Indexes of a field that are no graphs: codes that are scanned, posting lists, hash tables.
//!
//! They are built when a segment is written and never changed. A flag in the field's configuration says that there is one; its
//! sections are absent where the rows gave none (too few to train on), and the rows are searched exactly then.

use super::{OpenError, Opened};
use crate::schema::FieldIndex;
use crate::view::Effort;
use vdb_distance::Owner;
use vdb_index::{Answer, Coded, FlatScan, Ivf, Lsh, Request, Sections, Vectors};

/// Flags of a field's configuration, by kind.
const FLAGS: [u32; 3] = [4, 8, 16];

/// All flags that there are.
pub(super) const ALL_FLAGS: u32 = FLAGS[0] | FLAGS[1] | FLAGS[2];

/// An index that is no graph.
#[allow(clippy::large_enum_variant, reason = "a field of a segment has one")]
#[derive(Debug, Clone)]
pub(crate) enum CodeIndex {
    Coded(Coded),
    Ivf(Ivf),
    Lsh(Lsh),
}

/// The flag of the kind of index that a field is to have, unless that is none or a graph.
fn flag_of(index: FieldIndex) -> Option<u32> {
    match index {
        FieldIndex::Flat | FieldIndex::Hnsw(_) => None,
        FieldIndex::Coded(_) => Some(FLAGS[0]),
        FieldIndex::Ivf(_) => Some(FLAGS[1]),
        FieldIndex::Lsh(_) => Some(FLAGS[2]),
    }
}

impl CodeIndex {
    /// Over all rows; `None` for a field that is to have none.
    pub(super) fn build(index: FieldIndex, vectors: &Vectors) -> Option<Self> {
        let checked = "a field's parameters are checked before it is one";
        match index {
            FieldIndex::Flat | FieldIndex::Hnsw(_) => None,
            FieldIndex::Coded(params) => Some(Self::Coded(Coded::build(params, vectors).expect(checked))),
            FieldIndex::Ivf(params) => Some(Self::Ivf(Ivf::build(params, vectors).expect(checked))),
            FieldIndex::Lsh(params) => Some(Self::Lsh(Lsh::build(params, vectors).expect(checked))),
        }
    }

    pub(super) fn flag(&self) -> u32 {
        match self {
            Self::Coded(_) => FLAGS[0],
            Self::Ivf(_) => FLAGS[1],
            Self::Lsh(_) => FLAGS[2],
        }
    }

    pub(super) fn stored(&self) -> Sections<'_> {
        match self {
            Self::Coded(coded) => coded.stored(),
            Self::Ivf(ivf) => ivf.stored(),
            Self::Lsh(lsh) => lsh.stored(),
        }
    }

    /// What the flags say there is, of its sections.
    pub(super) fn open(
        index: FieldIndex,
        flags: u32,
        vectors: &Vectors,
        section: impl Fn(&str) -> Opened<Option<Owner>>,
    ) -> Opened<Option<Self>> {
        let found = flags & ALL_FLAGS;
        if found == 0 {
            return Ok(None);
        }
        if flag_of(index) != Some(found) {
            return Err(OpenError::Index(format!(
                "flags {flags} say that it has another index than its field"
            )));
        }
        // The first section tells whether there are others.
        let is_there = |name: &str| Ok::<_, OpenError>(section(name)?.is_some());
        let needed = |name: &str| {
            section(name)?.ok_or_else(|| OpenError::Index(format!("there is no section {name:?}")))
        };
        let opened = match index {
            FieldIndex::Flat | FieldIndex::Hnsw(_) => return Ok(None),
            FieldIndex::Coded(params) => Self::Coded(match is_there("code.config")? {
                true => Coded::open(params, vectors, needed)?,
                false => Coded::new(params, vectors.metric(), vectors.dim())?,
            }),
            FieldIndex::Ivf(params) => Self::Ivf(match is_there("ivf.config")? {
                true => Ivf::open(params, vectors, needed)?,
                false => Ivf::new(params),
            }),
            FieldIndex::Lsh(params) => Self::Lsh(match is_there("lsh.config")? {
                true => Lsh::open(params, vectors, needed)?,
                false => Lsh::new(params),
            }),
        };
        Ok(Some(opened))
    }

    /// What a section that is not right is called by.
    pub(super) fn first_section(index: FieldIndex) -> &'static str {
        match index {
            FieldIndex::Flat | FieldIndex::Hnsw(_) => "config",
            FieldIndex::Coded(_) => "code.config",
            FieldIndex::Ivf(_) => "ivf.config",
            FieldIndex::Lsh(_) => "lsh.config",
        }
    }

    /// The section that cannot be right by itself, and why.
    pub(super) fn verify(&self, vectors: &Vectors) -> Result<(), (&'static str, String)> {
        match self {
            // Any bytes are codes.
            Self::Coded(_) => Ok(()),
            Self::Ivf(ivf) => ivf.verify(vectors).map_err(|reason| ("ivf.lists", reason)),
            Self::Lsh(lsh) => lsh.verify(vectors).map_err(|reason| ("lsh.tables", reason)),
        }
    }

    pub(super) fn pin(&mut self) {
        match self {
            Self::Coded(coded) => coded.pin(),
            Self::Ivf(ivf) => ivf.pin(),
            Self::Lsh(lsh) => lsh.pin(),
        }
    }

    pub(crate) fn pinned_bytes(&self) -> usize {
        match self {
            Self::Coded(coded) => coded.pinned_bytes(),
            Self::Ivf(ivf) => ivf.pinned_bytes(),
            Self::Lsh(lsh) => lsh.pinned_bytes(),
        }
    }

    pub(super) fn is_shared(&self) -> bool {
        match self {
            Self::Coded(coded) => coded.is_shared(),
            Self::Ivf(ivf) => ivf.is_shared(),
            Self::Lsh(lsh) => lsh.is_shared(),
        }
    }

    /// The nearest matching rows, as far as the effort says in terms of this kind; else as far as the index goes by itself.
    pub(crate) fn search(&self, vectors: &Vectors, request: &Request<'_>, effort: Effort) -> Answer {
        match (self, effort) {
            (_, Effort::Exact) => FlatScan.search(vectors, request),
            (_, Effort::TargetRecall(target)) if target >= 1.0 => FlatScan.search(vectors, request),
            (Self::Coded(coded), Effort::Oversampling(factor)) => {
                coded.search(vectors, request, Some(factor))
            }
            (Self::Coded(coded), _) => coded.search(vectors, request, None),
            (Self::Ivf(ivf), Effort::Probes(probes)) => ivf.search(vectors, request, Some(probes)),
            (Self::Ivf(ivf), _) => ivf.search(vectors, request, None),
            (Self::Lsh(lsh), Effort::Candidates(candidates)) => {
                lsh.search(vectors, request, Some(candidates))
            }
            (Self::Lsh(lsh), _) => lsh.search(vectors, request, None),
        }
    }
}
