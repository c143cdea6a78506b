//! Looking for everything that is damaged in a segment.

use super::{KIND, Segment, blob_name};
use crate::Error;
use crate::schema::Schema;
use vdb_storage::{Blobs, ContainerReader};

impl Segment {
    /// All sections whose checksums do not hold. Where all do, what is wrong with ids, payloads and links all the same: of
    /// each the first.
    pub(crate) fn damages(&self) -> Vec<Error> {
        let sections = self.container.damages_in_place();
        if !sections.is_empty() {
            return sections.into_iter().map(Error::from).collect();
        }
        let ids = self.ids.verify().err();
        let payloads = (0..self.rows() as u32).find_map(|row| self.payloads.payload(row).err());
        let graphs = self.fields.iter().filter_map(|field| self.verify_graph(field).err());
        let codes = self.fields.iter().filter_map(|field| self.verify_codes(field).err());
        ids.into_iter().chain(payloads).chain(graphs).chain(codes).collect()
    }

    /// Checks every checksum, every id and payload, and every link.
    ///
    /// # Errors
    /// The first damage.
    pub(crate) fn verify(&self) -> Result<(), Error> {
        self.damages().into_iter().next().map_or(Ok(()), Err)
    }
}

/// As [`Segment::damages`], of a segment that perhaps cannot be opened.
pub(crate) fn damages_of(blobs: &dyn Blobs, number: u64, schema: &Schema) -> Vec<Error> {
    let name = blob_name(number);
    let region = match blobs.open(&name).and_then(|blob| blob.map()) {
        Ok(region) => region,
        Err(error) => return vec![error.into()],
    };
    // Every section is looked at before one is used: opening ends at the first damage.
    let sections = ContainerReader::from_region(&blobs.path(&name), region, KIND)
        .map_or_else(|error| vec![error], |container| container.damages_in_place());
    if !sections.is_empty() {
        return sections.into_iter().map(Error::from).collect();
    }
    Segment::open(blobs, number, schema).map_or_else(|error| vec![error], |segment| segment.damages())
}
