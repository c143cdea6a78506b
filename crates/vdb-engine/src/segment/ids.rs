//! The ids of a segment's rows, and the table that finds the row of an id.
//!
//! Both are read where the file is mapped: opening looks at lengths only, an id takes one look at its key, and finding a row
//! takes two or three looks on average. `docs/format.md`, "Ids of a segment", has the byte tables. Offsets and lengths that a
//! damaged file may hold are checked when they are used.

use crate::{Error, PointId};
use std::cmp::Ordering;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use uuid::Uuid;
use vdb_storage::codec::{Encode, Reader, u32_at, u64_at};
use vdb_storage::{ContainerWriter, Region, StorageError};
use xxhash_rust::xxh3::xxh3_64_with_seed;

const CONFIG: &str = "ids.config";
const KEYS: &str = "ids.keys";
const TAGS: &str = "ids.tags";
const TEXT: &str = "ids.text";
const SLOTS: &str = "ids.slots";

const NUMBER: u8 = 0;
const UUID: u8 = 1;
const TEXT_TAG: u8 = 2;

/// A slot without a row.
const EMPTY: u32 = u32::MAX;

/// The most rows of a segment.
const MAX_ROWS: usize = (1 << 31) - 1;

/// Slots for this many rows: three in four are taken, so that a search that fails looks at some eight slots on average.
fn slots_for(rows: usize) -> usize {
    rows + rows / 3 + 1
}

/// The hash of an id, the same on every machine and in every version.
fn hash(id: &PointId, seed: u64) -> u64 {
    let short = |tag: u8, bytes: &[u8]| {
        let mut tagged = [tag; 17];
        tagged[1..=bytes.len()].copy_from_slice(bytes);
        xxh3_64_with_seed(&tagged[..=bytes.len()], seed)
    };
    match id {
        PointId::Number(number) => short(NUMBER, &number.to_le_bytes()),
        PointId::Uuid(uuid) => short(UUID, uuid.as_bytes()),
        // Text can be anything; its seed is another one instead.
        PointId::Text(text) => xxh3_64_with_seed(text.as_bytes(), !seed),
    }
}

/// The slot where the search for a hash begins.
fn first_slot(hash: u64, slots: usize) -> usize {
    ((u128::from(hash) * slots as u128) >> 64) as usize
}

/// Writes the sections of the ids of all rows, in the order of the rows. `seed` differs from segment to segment, so that
/// nobody can choose ids that fall into one slot.
///
/// # Errors
/// [`Error::TooManyPoints`] beyond 2³¹ − 1 rows; what the writer returns.
pub fn write_ids<W: Write>(
    ids: &[PointId],
    seed: u64,
    file: &mut ContainerWriter<W>,
    path: &Path,
) -> Result<(), Error> {
    if ids.len() > MAX_ROWS {
        return Err(Error::TooManyPoints { found: ids.len(), most: MAX_ROWS });
    }
    let is_mixed = ids.iter().any(|id| !matches!(id, PointId::Number(_)));
    write_sections(ids, seed, is_mixed, file).map_err(|error| StorageError::io(path)(error).into())
}

fn write_sections<W: Write>(
    ids: &[PointId],
    seed: u64,
    is_mixed: bool,
    file: &mut ContainerWriter<W>,
) -> io::Result<()> {
    file.write_section(CONFIG, |out| {
        out.put_u64(seed)?;
        out.put_u32(ids.len() as u32)?;
        out.put_u32(u32::from(is_mixed))
    })?;
    file.write_section(KEYS, |out| {
        let mut text = 0u64;
        ids.iter().try_for_each(|id| match id {
            PointId::Number(number) if !is_mixed => out.put_u64(*number),
            PointId::Number(number) => out.put_u64_slice(&[*number, 0]),
            PointId::Uuid(uuid) => {
                let (high, low) = uuid.as_u64_pair();
                out.put_u64_slice(&[high, low])
            }
            PointId::Text(id) => {
                let start = text;
                text += id.len() as u64;
                out.put_u64_slice(&[start, id.len() as u64])
            }
        })
    })?;
    if is_mixed {
        file.write_section(TAGS, |out| ids.iter().try_for_each(|id| out.put_u8(tag(id))))?;
        file.write_section(TEXT, |out| {
            ids.iter().try_for_each(|id| match id {
                PointId::Text(text) => out.write_all(text.as_bytes()),
                _ => Ok(()),
            })
        })?;
    }
    let mut slots = vec![EMPTY; slots_for(ids.len())];
    for (row, id) in (0u32..).zip(ids) {
        let mut slot = first_slot(hash(id, seed), slots.len());
        while slots[slot] != EMPTY {
            slot = if slot + 1 == slots.len() { 0 } else { slot + 1 };
        }
        slots[slot] = row;
    }
    file.write_section(SLOTS, |out| out.put_u32_slice(&slots))
}

fn tag(id: &PointId) -> u8 {
    match id {
        PointId::Number(_) => NUMBER,
        PointId::Uuid(_) => UUID,
        PointId::Text(_) => TEXT_TAG,
    }
}

/// The ids of a segment's rows, in place.
#[derive(Debug, Clone)]
pub struct IdTable {
    path: PathBuf,
    seed: u64,
    rows: usize,
    is_mixed: bool,
    keys: Region,
    tags: Region,
    text: Region,
    slots: Region,
}

impl IdTable {
    /// Takes the sections, which `section` gives by name.
    ///
    /// # Errors
    /// Those of `section`; [`Error::Damaged`] when lengths do not fit together.
    ///
    /// # Complexity
    /// Independent of the number of rows.
    pub fn open(path: &Path, section: impl Fn(&str) -> Result<Region, StorageError>) -> Result<Self, Error> {
        let config = section(CONFIG)?;
        let mut reader = Reader::new(&config);
        let decoded = reader.u64().and_then(|seed| Ok((seed, reader.u32()?, reader.u32()?)));
        let (seed, rows, mixed) = decoded
            .and_then(|fields| reader.finish().map(|()| fields))
            .map_err(StorageError::decode(path, CONFIG))?;
        let (rows, is_mixed) = (rows as usize, mixed != 0);
        if rows > MAX_ROWS || mixed > 1 {
            return Err(Error::damaged(path, CONFIG, format!("{rows} rows of ids of kind {mixed}")));
        }
        let nothing = || Region::from(&[][..]);
        let (tags, text) = if is_mixed { (section(TAGS)?, section(TEXT)?) } else { (nothing(), nothing()) };
        let table = Self {
            path: path.to_owned(),
            seed,
            rows,
            is_mixed,
            keys: section(KEYS)?,
            tags,
            text,
            slots: section(SLOTS)?,
        };
        let lengths = [
            (KEYS, table.keys.len(), rows * if is_mixed { 16 } else { 8 }),
            (TAGS, table.tags.len(), if is_mixed { rows } else { 0 }),
            (SLOTS, table.slots.len(), slots_for(rows) * 4),
        ];
        match lengths.into_iter().find(|(_, found, expected)| found != expected) {
            None => Ok(table),
            Some((name, found, expected)) => {
                let reason = format!("{found} bytes for {rows} rows, {expected} expected");
                Err(Error::damaged(path, name, reason))
            }
        }
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The id of a row.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    ///
    /// # Panics
    /// When there is no such row.
    pub fn id(&self, row: u32) -> Result<PointId, Error> {
        let row = row as usize;
        assert!(row < self.rows, "row {row} of {}", self.rows);
        if !self.is_mixed {
            return Ok(PointId::Number(u64_at(&self.keys, 8 * row)));
        }
        let (first, second) = (u64_at(&self.keys, 16 * row), u64_at(&self.keys, 16 * row + 8));
        match self.tags[row] {
            NUMBER => Ok(PointId::Number(first)),
            UUID => Ok(PointId::Uuid(Uuid::from_u64_pair(first, second))),
            TEXT_TAG => Ok(PointId::from(self.text(row, first, second)?)),
            other => Err(Error::damaged(&self.path, TAGS, format!("row {row} has the tag {other}"))),
        }
    }

    fn text(&self, row: usize, start: u64, length: u64) -> Result<&str, Error> {
        let end = start.checked_add(length).filter(|&end| end <= self.text.len() as u64);
        let bytes = end.map(|end| &self.text[start as usize..end as usize]);
        bytes.and_then(|bytes| std::str::from_utf8(bytes).ok()).ok_or_else(|| {
            let reason = format!("the id of row {row}, {length} bytes from {start} on, is no text of {TEXT}");
            Error::damaged(&self.path, KEYS, reason)
        })
    }

    /// The row of an id.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    ///
    /// # Complexity
    /// Two or three looks at slots and keys on average, eight when there is no such row.
    pub fn find(&self, id: &PointId) -> Result<Option<u32>, Error> {
        let slots = self.slots.len() / 4;
        let mut slot = first_slot(hash(id, self.seed), slots);
        for _ in 0..slots {
            let row = u32_at(&self.slots, 4 * slot);
            if row == EMPTY {
                return Ok(None);
            }
            if row as usize >= self.rows {
                let reason = format!("slot {slot} leads to row {row} of {}", self.rows);
                return Err(Error::damaged(&self.path, SLOTS, reason));
            }
            if self.is_id(row as usize, id)? {
                return Ok(Some(row));
            }
            slot = if slot + 1 == slots { 0 } else { slot + 1 };
        }
        Err(Error::damaged(&self.path, SLOTS, "no slot is empty"))
    }

    /// The order of two rows by their ids; by their numbers where a damaged file holds none.
    pub(crate) fn compare(&self, a: u32, b: u32) -> Ordering {
        if !self.is_mixed {
            return u64_at(&self.keys, 8 * a as usize).cmp(&u64_at(&self.keys, 8 * b as usize));
        }
        match (self.id(a), self.id(b)) {
            (Ok(one), Ok(two)) => one.cmp(&two),
            _ => a.cmp(&b),
        }
    }

    /// Whether a row has this id, without a copy of it.
    fn is_id(&self, row: usize, id: &PointId) -> Result<bool, Error> {
        if !self.is_mixed {
            return Ok(matches!(id, PointId::Number(number) if *number == u64_at(&self.keys, 8 * row)));
        }
        if self.tags[row] != tag(id) {
            return Ok(false);
        }
        let (first, second) = (u64_at(&self.keys, 16 * row), u64_at(&self.keys, 16 * row + 8));
        Ok(match id {
            PointId::Number(number) => *number == first,
            PointId::Uuid(uuid) => uuid.as_u64_pair() == (first, second),
            PointId::Text(text) => self.text(row, first, second)? == &**text,
        })
    }

    /// Checks all that [`open`](Self::open) left for later: every id can be read, and leads back to its row.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn verify(&self) -> Result<(), Error> {
        for row in 0..self.rows as u32 {
            let id = self.id(row)?;
            match self.find(&id)? {
                Some(found) if found == row => {}
                Some(other) => {
                    let reason = format!("rows {other} and {row} both have the id {id}");
                    return Err(Error::damaged(&self.path, KEYS, reason));
                }
                None => {
                    let reason = format!("no slot leads to row {row}, the id {id}");
                    return Err(Error::damaged(&self.path, SLOTS, reason));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
