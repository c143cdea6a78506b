//! Records of the log: what a batch did, worked out. A record holds whole points, so that reading the log again gives the
//! same collection whatever the points looked like when the batch came. `docs/format.md`, "Records of a collection's log",
//! has the byte tables.

use crate::PointId;
use uuid::Uuid;
use vdb_distance::ElementType;
use vdb_storage::codec::{CodecError, Encode, Reader};

const VERSION: u8 = 1;
const PUT: u8 = 1;
const DELETE: u8 = 2;

/// What a point of a head takes beside its values and its payload, about, in bytes.
const POINT_BYTES: u64 = 200;

const NUMBER: u8 = 0;
const UUID: u8 = 1;
const TEXT: u8 = 2;

/// The types that a vector is written in, from the shortest on: the first that holds it bit for bit.
const ELEMENTS: [ElementType; 3] = [ElementType::U8, ElementType::F16, ElementType::F32];

/// A whole point, as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Put {
    pub(crate) id: PointId,
    /// By number of the field, ascending.
    pub(crate) vectors: Vec<(u32, Vec<f32>)>,
    /// A JSON object; nothing for the empty one.
    pub(crate) payload: Box<[u8]>,
    /// Milliseconds since 1970; 0 for never.
    pub(crate) expires: u64,
}

/// What becomes of a point.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Effect {
    Put(Put),
    Delete(PointId),
}

impl Effect {
    /// Heap bytes that a head takes for it, about.
    pub(crate) fn head_bytes(&self) -> u64 {
        match self {
            Self::Put(put) => {
                let values: usize = put.vectors.iter().map(|vector| vector.1.len()).sum();
                (values * size_of::<f32>() + put.payload.len()) as u64 + POINT_BYTES
            }
            Self::Delete(_) => 0,
        }
    }

    pub(crate) fn id(&self) -> &PointId {
        match self {
            Self::Put(put) => &put.id,
            Self::Delete(id) => id,
        }
    }
}

/// The bytes of a record.
pub(crate) fn encode(effects: &[Effect]) -> Vec<u8> {
    // What a head takes for them is more than what they are written in, but for long ids.
    let mut out = Vec::with_capacity(effects.iter().map(Effect::head_bytes).sum::<u64>() as usize);
    write(effects, &mut out).expect("memory takes all bytes");
    out
}

fn write(effects: &[Effect], out: &mut Vec<u8>) -> std::io::Result<()> {
    out.put_u8(VERSION)?;
    out.put_u32(effects.len() as u32)?;
    for effect in effects {
        match effect {
            Effect::Delete(id) => {
                out.put_u8(DELETE)?;
                put_id(out, id)?;
            }
            Effect::Put(Put { id, vectors, payload, expires }) => {
                out.put_u8(PUT)?;
                put_id(out, id)?;
                out.put_u64(*expires)?;
                out.put_u32(payload.len() as u32)?;
                out.extend_from_slice(payload);
                out.put_u32(vectors.len() as u32)?;
                for (field, values) in vectors {
                    let element = ELEMENTS.into_iter().find(|element| element.is_exact(values));
                    let element = element.unwrap_or(ElementType::F32);
                    out.put_u32(*field)?;
                    out.put_u32(values.len() as u32)?;
                    out.put_u8(element.bytes() as u8)?;
                    let start = out.len();
                    out.resize(start + values.len() * element.bytes(), 0);
                    element.encode(values, &mut out[start..]);
                }
            }
        }
    }
    Ok(())
}

fn put_id(out: &mut Vec<u8>, id: &PointId) -> std::io::Result<()> {
    match id {
        PointId::Number(number) => {
            out.put_u8(NUMBER)?;
            out.put_u64(*number)
        }
        PointId::Uuid(uuid) => {
            out.put_u8(UUID)?;
            out.extend_from_slice(uuid.as_bytes());
            Ok(())
        }
        PointId::Text(text) => {
            out.put_u8(TEXT)?;
            out.put_str(text)
        }
    }
}

/// The effects of a record.
///
/// # Errors
/// What is wrong, for a record that none of this program's versions wrote.
pub(crate) fn decode(record: &[u8]) -> Result<Vec<Effect>, String> {
    let mut reader = Reader::new(record);
    let words = |error: CodecError| error.to_string();
    let version = reader.u8().map_err(words)?;
    if version != VERSION {
        return Err(format!("a record of version {version}, this program reads version {VERSION}"));
    }
    let count = reader.u32().map_err(words)?;
    let mut effects = Vec::new();
    for _ in 0..count {
        effects.push(read_effect(&mut reader)?);
    }
    reader.finish().map_err(words)?;
    Ok(effects)
}

fn read_effect(reader: &mut Reader<'_>) -> Result<Effect, String> {
    let words = |error: CodecError| error.to_string();
    let kind = reader.u8().map_err(words)?;
    let id = read_id(reader)?;
    match kind {
        DELETE => Ok(Effect::Delete(id)),
        PUT => {
            let expires = reader.u64().map_err(words)?;
            let payload = reader.u32().map_err(words)?;
            let payload = reader.take(payload as usize).map_err(words)?.into();
            let count = reader.u32().map_err(words)?;
            let mut vectors = Vec::new();
            for _ in 0..count {
                let field = reader.u32().map_err(words)?;
                let len = reader.u32().map_err(words)? as usize;
                let bytes = usize::from(reader.u8().map_err(words)?);
                let element = ELEMENTS.into_iter().find(|element| element.bytes() == bytes);
                let element = element.ok_or_else(|| format!("values of {bytes} bytes"))?;
                let length = len.checked_mul(bytes).ok_or("a vector that is too long")?;
                let encoded = reader.take(length).map_err(words)?;
                let mut values = vec![0.0; len];
                element.decode(encoded, &mut values);
                if values.iter().any(|value| !value.is_finite()) {
                    return Err(format!("a value of field {field} that is no finite number"));
                }
                vectors.push((field, values));
            }
            Ok(Effect::Put(Put { id, vectors, payload, expires }))
        }
        other => Err(format!("an effect of kind {other}")),
    }
}

fn read_id(reader: &mut Reader<'_>) -> Result<PointId, String> {
    let words = |error: CodecError| error.to_string();
    match reader.u8().map_err(words)? {
        NUMBER => Ok(PointId::Number(reader.u64().map_err(words)?)),
        UUID => {
            let bytes = reader.take(16).map_err(words)?;
            Ok(PointId::Uuid(Uuid::from_slice(bytes).map_err(|error| error.to_string())?))
        }
        TEXT => Ok(PointId::from(reader.str().map_err(words)?)),
        other => Err(format!("an id of kind {other}")),
    }
}

/// For the fuzz targets: decodes, and says whether the bytes come out again as they went in.
#[doc(hidden)]
pub fn record_survives_a_round_trip(record: &[u8]) -> Option<bool> {
    decode(record).ok().map(|effects| decode(&encode(&effects)).as_ref() == Ok(&effects))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples() -> Vec<Effect> {
        let put = |id: PointId, vectors: Vec<(u32, Vec<f32>)>, payload: &[u8]| {
            Effect::Put(Put { id, vectors, payload: payload.into(), expires: 7 })
        };
        vec![
            put(PointId::Number(3), vec![(0, vec![1.0, 255.0]), (4, vec![0.1, -0.0])], b"{\"a\":1}"),
            put(PointId::Uuid(Uuid::from_u128(77)), vec![(1, vec![0.5, -2.25, 1e-5])], b""),
            put(PointId::from("shoe"), vec![], b"{}"),
            Effect::Delete(PointId::from("")),
            Effect::Delete(PointId::Number(u64::MAX)),
        ]
    }

    #[test]
    fn effects_come_out_as_they_went_in() {
        let effects = examples();
        assert_eq!(decode(&encode(&effects)).as_ref(), Ok(&effects));
        assert_eq!(decode(&encode(&[])), Ok(vec![]));
    }

    #[test]
    fn short_values_take_few_bytes() {
        let length = |value: f32| {
            let put = Put {
                id: PointId::Number(1),
                vectors: vec![(0, vec![value; 100])],
                payload: [].into(),
                expires: 0,
            };
            encode(&[Effect::Put(put)]).len()
        };
        assert_eq!(length(0.5) - length(3.0), 100);
        assert_eq!(length(0.1) - length(3.0), 300);
    }

    #[test]
    fn what_is_no_record_is_an_error() {
        let record = encode(&examples());
        for end in 0..record.len() {
            assert!(decode(&record[..end]).is_err(), "the first {end} bytes");
        }
        let mut longer = record.clone();
        longer.push(0);
        assert!(decode(&longer).is_err());
        for place in [0, 5, 6] {
            let mut other = record.clone();
            other[place] = 9;
            assert!(decode(&other).is_err(), "byte {place}");
        }
    }
}
