//! What a collection holds: its vector fields. A field has a number that is never used again, so that a record of the log
//! or a section of a segment never means a later field of the same name.

use crate::Error;
use std::collections::BTreeMap;
use vdb_distance::{ElementType, Metric};
use vdb_index::{CodedParams, HnswParams, IvfParams, LshParams};

/// The most values of a vector.
pub const MAX_DIM: usize = 65_536;
/// The most vector fields of a collection.
pub const MAX_FIELDS: usize = 256;

/// The index of a vector field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FieldIndex {
    /// None: every search is exact.
    Flat,
    /// A graph in every segment that is large enough for one.
    Hnsw(HnswParams),
    /// Short codes of every vector, which are scanned; the best rows are compared exactly (quantized Flat).
    Coded(CodedParams),
    /// Posting lists around centroids, with short codes; the nearest lists are scanned.
    Ivf(IvfParams),
    /// Hash tables, whose likeliest buckets are probed.
    Lsh(LshParams),
}

impl FieldIndex {
    /// About how many bytes a row takes while the index is built, its vector not included.
    pub(crate) fn build_bytes_a_row(&self, dim: usize) -> usize {
        /// Training samples of lists are a few rows a list.
        const SAMPLE_SHARE: usize = 4;
        let values = dim * size_of::<f32>();
        match self {
            Self::Flat | Self::Hnsw(_) => 0,
            Self::Coded(params) => params.row_bytes(dim),
            Self::Ivf(IvfParams { bits, spill, .. }) => {
                let list = dim.next_multiple_of(64) / 8 * usize::from(*bits) + 32;
                list * (1 + usize::from(*spill)) + values / SAMPLE_SHARE + 8
            }
            // Starts and rows of tables, once as they are and once as they are written; a sketch and an eight-bit code.
            Self::Lsh(params) => params.num_tables.unwrap_or(16) * 16 + 32 + dim + 32,
        }
    }
}

impl Default for FieldIndex {
    fn default() -> Self {
        Self::Hnsw(HnswParams::default())
    }
}

/// What a vector field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct VectorConfig {
    /// Values of a vector, 1 to 65,536.
    pub dim: usize,
    /// How vectors are compared.
    pub metric: Metric,
    /// What values are rounded to when a vector comes in: `F32`, the default, keeps them bit for bit. What can be kept in
    /// fewer bytes bit for bit is, whatever this says.
    pub element: ElementType,
    /// Its index.
    pub index: FieldIndex,
}

impl VectorConfig {
    /// A field of `f32` values with a graph.
    pub fn new(dim: usize, metric: Metric) -> Self {
        Self { dim, metric, element: ElementType::F32, index: FieldIndex::default() }
    }

    /// The same with another index.
    #[must_use]
    pub fn with_index(self, index: FieldIndex) -> Self {
        Self { index, ..self }
    }

    /// The same with values rounded to another type.
    #[must_use]
    pub fn with_element(self, element: ElementType) -> Self {
        Self { element, ..self }
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        if !(1..=MAX_DIM).contains(&self.dim) {
            return Err(format!("a vector has 1 to {MAX_DIM} values, not {}", self.dim));
        }
        match self.index {
            FieldIndex::Flat => Ok(()),
            FieldIndex::Hnsw(params) => params.check(),
            FieldIndex::Coded(params) => params.check(self.metric, self.dim),
            FieldIndex::Ivf(params) => params.check(),
            FieldIndex::Lsh(params) => params.check(),
        }
    }
}

/// What a collection is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionConfig {
    /// Its vector fields by name.
    pub vectors: BTreeMap<String, VectorConfig>,
}

impl CollectionConfig {
    /// One vector field, without a name.
    pub fn new(dim: usize, metric: Metric) -> Self {
        Self::from(VectorConfig::new(dim, metric))
    }

    /// Checks every field, as making a collection of this name does.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`].
    pub fn check(&self, collection: &str) -> Result<(), Error> {
        self.schema(collection).map(|_| ())
    }

    /// The schema that a collection of this name begins with.
    pub(crate) fn schema(&self, collection: &str) -> Result<Schema, Error> {
        let mut schema = Schema::default();
        for (field, config) in &self.vectors {
            schema.add(collection, field, *config)?;
        }
        Ok(schema)
    }
}

impl From<VectorConfig> for CollectionConfig {
    fn from(config: VectorConfig) -> Self {
        Self { vectors: BTreeMap::from([(String::new(), config)]) }
    }
}

/// A vector field of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) number: u32,
    pub(crate) name: String,
    pub(crate) config: VectorConfig,
}

/// The fields that there are, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Schema {
    pub(crate) fields: Vec<Field>,
    /// The number of the next field.
    pub(crate) next: u32,
}

impl Schema {
    /// Adds a field.
    pub(crate) fn add(&mut self, collection: &str, name: &str, config: VectorConfig) -> Result<(), Error> {
        let refuse = |reason: String| Error::InvalidConfig {
            collection: collection.to_owned(),
            field: name.to_owned(),
            reason,
        };
        config.check().map_err(refuse)?;
        if name.len() > MAX_NAME_BYTES {
            return Err(refuse(format!("a name has at most {MAX_NAME_BYTES} bytes, not {}", name.len())));
        }
        if self.fields.len() == MAX_FIELDS {
            return Err(refuse(format!("a collection has at most {MAX_FIELDS} vector fields")));
        }
        match self.fields.binary_search_by(|field| field.name.as_str().cmp(name)) {
            Ok(_) => Err(refuse("there is one of this name already".to_owned())),
            Err(place) => {
                self.fields.insert(place, Field { number: self.next, name: name.to_owned(), config });
                self.next += 1;
                Ok(())
            }
        }
    }

    /// The field of a name.
    pub(crate) fn field(&self, collection: &str, name: &str) -> Result<&Field, Error> {
        let found = self.fields.binary_search_by(|field| field.name.as_str().cmp(name));
        found.map(|place| &self.fields[place]).map_err(|_| Error::NoSuchField {
            collection: collection.to_owned(),
            field: name.to_owned(),
            known: self.fields.iter().map(|field| format!("{:?}", field.name)).collect::<Vec<_>>().join(", "),
        })
    }

    /// Whether some field is to have a graph.
    pub(crate) fn has_graphs(&self) -> bool {
        self.fields.iter().any(|field| matches!(field.config.index, FieldIndex::Hnsw(_)))
    }

    /// The dimensions of the fields with a graph together.
    pub(crate) fn linked_dimensions(&self) -> usize {
        let linked = self.fields.iter().filter(|field| matches!(field.config.index, FieldIndex::Hnsw(_)));
        linked.map(|field| field.config.dim).sum()
    }

    /// The field of a number, unless it was dropped.
    pub(crate) fn by_number(&self, number: u32) -> Option<&Field> {
        self.fields.iter().find(|field| field.number == number)
    }
}

/// The longest name of a field or a collection, in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 255;
