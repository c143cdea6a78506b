//! What a point is called: a number, a UUID, or any text, mixed in one collection.

use std::fmt;
use uuid::Uuid;

/// The id of a point. Numbers come before UUIDs, and these before text; ties of distances are broken in this order.
///
/// Text is text, also when it looks like a number or a UUID: `"7"` and `7` are two points.
///
/// ```
/// use vdb_engine::PointId;
/// assert!(PointId::from(7) < PointId::from("7"));
/// assert_eq!(PointId::from("shoe").to_string(), "shoe");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PointId {
    /// An unsigned number.
    Number(u64),
    /// A UUID of any version.
    Uuid(Uuid),
    /// Any text, the empty one included.
    Text(Box<str>),
}

impl From<u64> for PointId {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<Uuid> for PointId {
    fn from(uuid: Uuid) -> Self {
        Self::Uuid(uuid)
    }
}

impl From<&str> for PointId {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for PointId {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl fmt::Display for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Uuid(uuid) => uuid.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}
