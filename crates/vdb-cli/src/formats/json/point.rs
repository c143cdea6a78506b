//! Points as JSON records tell them: ids keep their kind, payloads are any JSON, vectors may have names.

use super::{JsonReader, Location, shortened, string_text};
use crate::formats::error::{FormatError, Place};
use crate::formats::{MAX_DIM, PointRecord};
use serde::Deserialize;
use serde_json::value::RawValue;
use vdb_engine::{NamedVectors, Payload, PointId};

/// A point as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPoint<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    vector: Option<Vec<f32>>,
    vectors: Option<NamedVectors>,
    #[serde(alias = "metadata")]
    payload: Option<Payload>,
    expires_at: Option<u64>,
}

impl JsonReader {
    /// The next point; `None` at the end of the file.
    pub(in crate::formats) fn next_point(&mut self) -> Result<Option<PointRecord>, FormatError> {
        let Some(start) = self.cut()? else { return Ok(None) };
        let point = self.parse_point(start)?;
        self.next_record += 1;
        Ok(Some(point))
    }

    /// Makes a point of `text`, which begins with a brace at `start`.
    fn parse_point(&self, start: Location) -> Result<PointRecord, FormatError> {
        let raw: RawPoint<'_> =
            serde_json::from_slice(&self.text).map_err(|error| self.located(start, &error))?;
        let vectors = match (raw.vector, raw.vectors) {
            (None, None) => {
                return Err(self.json_error(start, "a point without `vector` and `vectors`".to_owned()));
            }
            (vector, vectors) => {
                let mut all = vectors.unwrap_or_default();
                if let Some(vector) = vector
                    && all.insert(String::new(), vector).is_some()
                {
                    let message = "`vector` and the one without a name in `vectors` are the same".to_owned();
                    return Err(self.json_error(start, message));
                }
                all
            }
        };
        vectors.values().try_for_each(|vector| self.check(start, vector))?;
        let id = raw.id.map(|id| point_id(id.get())).transpose();
        let id = id.map_err(|message| self.json_error(start, message))?;
        let (payload, expires_at) = (raw.payload.unwrap_or_default(), raw.expires_at);
        Ok(PointRecord { id, vectors, payload, expires_at })
    }

    fn check(&self, start: Location, vector: &[f32]) -> Result<(), FormatError> {
        let path = self.source.path();
        let (place, offset) = (Place::Record(self.next_record), start.offset);
        if !(1..=MAX_DIM).contains(&vector.len()) {
            return Err(FormatError::BadDimension { path, place, offset, found: vector.len() as i64 });
        }
        match vector.iter().position(|value| !value.is_finite()) {
            None => Ok(()),
            Some(component) => {
                Err(FormatError::NonFinite { path, place, offset, component, value: vector[component] })
            }
        }
    }
}

/// An id: a text, a whole number, or `{"uuid": "…"}`.
fn point_id(json: &str) -> Result<PointId, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Tagged<'a> {
        #[serde(borrow)]
        uuid: std::borrow::Cow<'a, str>,
    }
    match json.as_bytes() {
        [b'"', ..] => string_text(json).map(PointId::from),
        [b'{', ..] => {
            let tagged: Tagged<'_> = serde_json::from_str(json)
                .map_err(|error| format!("{error} of the id {}", shortened(json)))?;
            let uuid = tagged.uuid.parse::<uuid::Uuid>();
            uuid.map(PointId::from).map_err(|error| format!("{error} of the id {}", shortened(json)))
        }
        _ => json.parse::<u64>().map(PointId::from).map_err(|_| {
            let json = shortened(json);
            format!("an id is a text, a whole number from 0 to 2^64 - 1, or {{\"uuid\": …}}, found {json}")
        }),
    }
}
