//! Hash tables as named sections of bytes, which are probed where they lie: `docs/format.md`, "Hash tables of a segment".
//!
//! Opening makes the hash functions again and compares lengths; it looks at no bucket. A search takes the end of the rows for
//! the end of a bucket that leads further, and passes over rows that do not match, those that there are not among them; so
//! a damaged file costs hits, not a panic. [`Lsh::verify`] looks at every bucket.

use super::buckets::Buckets;
use super::codes::Codes;
use super::hasher::Hasher;
use super::placement::Placement;
use super::probe::Reach;
use super::{Fitted, Lsh, LshParams, check_fit};
use crate::Vectors;
use crate::stored::{Sections, VERSION, config, part, read_config};
use std::borrow::Cow;
use vdb_distance::{AlignedVec, Owner};

/// Each array of a table begins at a multiple of this.
const LINE: usize = 64;

impl Lsh {
    /// An index over all rows, however few they are. It has no tables where rows cannot be placed.
    ///
    /// # Errors
    /// A sentence that says which parameter is out of range.
    pub fn build(params: LshParams, vectors: &Vectors) -> Result<Self, String> {
        params.check()?;
        let live: Vec<u32> = vectors.live().iter().collect();
        let mut lsh = Self::new(params);
        lsh.insert(vectors, &live);
        // Rows whose squares leave the range of `f32` cannot be placed.
        let fits = |fitted: &Fitted| {
            let Placement { center, max_norm, .. } = &fitted.placement;
            check_fit(vectors, center, *max_norm, fitted.trained as u64).is_ok()
        };
        lsh.fitted = lsh.fitted.filter(fits);
        Ok(lsh)
    }

    /// The sections that [`open`](Self::open) reads; none without rows.
    ///
    /// # Panics
    /// On machines that keep numbers in another order than files do.
    pub fn stored(&self) -> Sections<'_> {
        #[allow(clippy::assertions_on_constants, reason = "it is another one on other machines")]
        {
            assert!(cfg!(target_endian = "little"), "stored tables are little-endian");
        }
        let Some(fitted) = &self.fitted else { return Vec::new() };
        let Placement { center, max_norm, .. } = &fitted.placement;
        let numbers =
            [VERSION, fitted.trained as u64, fitted.candidates as u64, u64::from(max_norm.to_bits())];
        let mut tables = Vec::new();
        for table in &fitted.tables {
            let table = table.arrays(fitted.rows.count());
            for array in [table.starts(), table.rows()] {
                tables.extend_from_slice(array.as_bytes());
                tables.resize(tables.len().next_multiple_of(LINE), 0);
            }
        }
        let [sketches, codes] = fitted.codes.stored();
        vec![
            ("lsh.config", Cow::Owned(config(&numbers, center))),
            ("lsh.tables", Cow::Owned(tables)),
            ("lsh.sketch", Cow::Borrowed(sketches)),
            ("lsh.codes", Cow::Borrowed(codes)),
        ]
    }

    /// An index over `vectors` of its sections; tables and codes are read in place.
    ///
    /// # Errors
    /// When lengths and numbers do not fit each other, the parameters or the vectors, and what `section` gives.
    pub fn open<E: From<String>>(
        params: LshParams,
        vectors: &Vectors,
        section: impl Fn(&str) -> Result<Owner, E>,
    ) -> Result<Self, E> {
        params.check()?;
        let ([_, trained, candidates, max_norm], center) = read_config((*section("lsh.config")?).as_ref())?;
        let max_norm = u32::try_from(max_norm).map_or(f32::NAN, f32::from_bits);
        check_fit(vectors, &center, max_norm, trained)?;
        let trained = trained as usize;
        let placement = Placement { metric: vectors.metric(), center, max_norm };
        let hasher = Hasher::new(&params, trained, placement.width());
        let reach = Reach::new(&hasher, params.family);
        let rows = vectors.live().clone();
        let tables = open_tables(&section("lsh.tables")?, &hasher, rows.count())?;
        let bytes = [section("lsh.sketch")?, section("lsh.codes")?];
        let codes = Codes::open(vectors.metric(), vectors.dim(), vectors.len(), bytes)?;
        let candidates = candidates.min(vectors.len() as u64) as usize;
        let fitted = Fitted { placement, hasher, reach, tables, codes, rows, trained, candidates };
        Ok(Self { params, fitted: Some(fitted) })
    }

    /// Checks that each table holds each live row once, and no other.
    ///
    /// # Errors
    /// A sentence that says which table is damaged.
    pub fn verify(&self, vectors: &Vectors) -> Result<(), String> {
        let Some(fitted) = &self.fitted else { return Ok(()) };
        for (number, table) in fitted.tables.iter().enumerate() {
            let mut left = vectors.live().clone();
            for code in 0..1 << fitted.hasher.cells.bits() {
                if let Some(row) = table.bucket(code).find(|row| !left.remove(*row)) {
                    return Err(format!("table {number} holds row {row} twice, or it is not live"));
                }
            }
            if left.count() > 0 {
                return Err(format!("table {number} lacks {} rows", left.count()));
            }
        }
        Ok(())
    }

    /// Copies tables and codes into memory of their own, on huge pages.
    pub fn pin(&mut self) {
        if let Some(fitted) = &mut self.fitted {
            fitted.tables.iter_mut().for_each(Buckets::pin);
            fitted.codes.pin();
        }
    }

    /// Bytes that [`pin`](Self::pin) takes.
    pub fn pinned_bytes(&self) -> usize {
        let Some(Fitted { tables, codes, .. }) = &self.fitted else { return 0 };
        let tables: usize = tables.iter().map(|table| 4 * (table.starts().len() + table.rows().len())).sum();
        tables + codes.stored().map(<[u8]>::len).iter().sum::<usize>()
    }

    /// Whether tables and codes are read in place.
    pub fn is_shared(&self) -> bool {
        self.fitted.as_ref().is_some_and(|fitted| fitted.codes.is_shared())
    }

    /// Whether there are tables: no rows have none.
    pub fn has_tables(&self) -> bool {
        self.fitted.is_some()
    }
}

fn open_tables(bytes: &Owner, hasher: &Hasher, rows: usize) -> Result<Vec<Buckets>, String> {
    let starts = 4 * ((1usize << hasher.cells.bits()) + 1);
    let padded = |len: usize| len.next_multiple_of(LINE);
    let table = padded(starts) + padded(4 * rows);
    let (found, expected) = ((**bytes).as_ref().len(), hasher.tables * table);
    if found != expected {
        return Err(format!("{found} bytes of {} tables of {rows} rows, expected {expected}", hasher.tables));
    }
    let array = |start: usize, len: usize| -> Option<AlignedVec<u32>> {
        AlignedVec::opened(part(bytes, start..start + len)?)
    };
    let open = |number: usize| {
        let start = number * table;
        Some(Buckets::open(array(start, starts)?, array(start + padded(starts), 4 * rows)?))
    };
    (0..hasher.tables).map(open).collect::<Option<_>>().ok_or_else(|| "part of a number".to_owned())
}
