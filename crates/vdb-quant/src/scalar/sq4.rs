//! Four bits: a nibble u stands for the odd integer 2u − 15, so no level is wasted and zero lies between two.
//!
//! Coordinates go in groups of 64, the last group perhaps shorter. In a group of g, byte i holds coordinate i in its
//! low nibble and coordinate ⌈g/2⌉ + i in its high nibble: a full group is 32 bytes whose low nibbles are coordinates
//! 0–31 and whose high ones are 32–63. A mask and a shift then yield runs of consecutive coordinates, which the query
//! is laid out to meet. The last high nibble of an odd group is 0, and the query is 0 there.

use crate::QueryCodes;

use super::{Sq, Width, sealed};

/// Coordinates whose nibbles share bytes.
const GROUP: usize = 64;

/// Codes of 4-bit integers, two a byte.
#[derive(Debug, Clone, Copy)]
pub struct Four;

/// A scalar quantizer of 4 bits per coordinate.
pub type Sq4 = Sq<Four>;

impl sealed::Sealed for Four {}

impl Width for Four {
    const PER_BYTE: usize = 2;
    const MULTIPLIER: i32 = 2;
    const OFFSET: i32 = 15;
    const GREATEST: i32 = 15;
    const CLIPS: &'static [f32] = &[0.95, 0.86, 0.77, 0.69, 0.62, 0.55, 0.48, 0.41];

    fn pack(levels: &[u8], code: &mut [u8]) {
        let (groups, levels) = levels.as_chunks::<GROUP>();
        let (group_bytes, code) = code.split_at_mut(groups.len() * (GROUP / 2));
        for (group, bytes) in groups.iter().zip(group_bytes.as_chunks_mut::<{ GROUP / 2 }>().0) {
            for i in 0..GROUP / 2 {
                bytes[i] = group[i] | group[GROUP / 2 + i] << 4;
            }
        }
        for (group, bytes) in levels.chunks(GROUP).zip(code.chunks_mut(GROUP / 2)) {
            let (low, high) = group.split_at(group.len().div_ceil(2));
            for (i, byte) in bytes.iter_mut().enumerate() {
                *byte = low[i] | high.get(i).copied().unwrap_or(0) << 4;
            }
        }
    }

    fn unpack(code: &[u8], levels: &mut [u8]) {
        for (group, bytes) in levels.chunks_mut(GROUP).zip(code.chunks(GROUP / 2)) {
            let (low, high) = group.split_at_mut(group.len().div_ceil(2));
            low.iter_mut().zip(bytes).for_each(|(level, byte)| *level = byte & 15);
            high.iter_mut().zip(bytes).for_each(|(level, byte)| *level = byte >> 4);
        }
    }

    fn query(parts: &[&[i8]]) -> QueryCodes {
        let planes: Vec<[Vec<i8>; 2]> = parts.iter().map(|part| planes(part)).collect();
        let planes: Vec<[&[i8]; 2]> = planes.iter().map(|[low, high]| [&low[..], &high[..]]).collect();
        QueryCodes::nibbles(&planes)
    }
}

/// The values that meet the low nibbles and those that meet the high ones.
fn planes(values: &[i8]) -> [Vec<i8>; 2] {
    let (mut low_plane, mut high_plane) = (Vec::new(), Vec::new());
    for group in values.chunks(GROUP) {
        let (low, high) = group.split_at(group.len().div_ceil(2));
        low_plane.extend_from_slice(low);
        high_plane.extend_from_slice(high);
        high_plane.resize(low_plane.len(), 0);
    }
    [low_plane, high_plane]
}
