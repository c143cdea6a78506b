//! What is wrong with collections.

use super::{Database, Slot};
use crate::Error;
use crate::collection::damages_of;

impl Database {
    /// Whether a collection can be used, or why it cannot.
    pub fn trouble(&self, name: &str) -> Option<String> {
        match self.state().slots.get(name) {
            Some(Slot::Quarantined(reason)) => Some(reason.clone()),
            _ => None,
        }
    }

    /// Everything that is damaged in a collection, as [`Collection::damages`](crate::Collection::damages) says it; of one that
    /// cannot be opened, too, all of whose files are looked through.
    ///
    /// # Errors
    /// [`Error::NoSuchCollection`].
    pub fn damages(&self, name: &str) -> Result<Vec<Error>, Error> {
        let quarantined = match self.collection(name) {
            Ok(collection) => return Ok(collection.damages()),
            Err(error @ Error::Quarantined { .. }) => error,
            Err(error) => return Err(error),
        };
        let damages = damages_of(name, &self.collection_store(self.folder_of(name)?));
        Ok(if damages.is_empty() { vec![quarantined] } else { damages })
    }
}
