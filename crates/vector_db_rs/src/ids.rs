//! The ids of records by offset, sixty-four of them in one piece of text.
//!
//! An id of six letters takes eleven bytes so, and no allocation of its own. Replacing one moves the text of its block,
//! a few hundred bytes.

/// Ids of a block.
const BLOCK: usize = 64;

/// Ids by offset; one that is taken out is empty.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ids {
    blocks: Vec<Block>,
    len: usize,
}

/// The text of up to [`BLOCK`] ids, one after the other, and where each of them ends.
#[derive(Debug, Clone)]
struct Block {
    text: String,
    ends: [u32; BLOCK],
}

impl Block {
    fn start(&self, place: usize) -> usize {
        place.checked_sub(1).map_or(0, |before| self.ends[before] as usize)
    }

    fn end(&self, place: usize) -> usize {
        self.ends[place] as usize
    }
}

impl Ids {
    /// # Panics
    /// When there is no such offset.
    pub(crate) fn get(&self, offset: u32) -> &str {
        let (block, place) = (&self.blocks[offset as usize / BLOCK], offset as usize % BLOCK);
        &block.text[block.start(place)..block.end(place)]
    }

    /// Adds an id at the next offset.
    pub(crate) fn push(&mut self, id: &str) {
        let place = self.len % BLOCK;
        if place == 0 {
            self.blocks.push(Block { text: String::new(), ends: [0; BLOCK] });
        }
        let block = &mut self.blocks[self.len / BLOCK];
        block.text.push_str(id);
        block.ends[place..].fill(end_of(&block.text));
        if place + 1 == BLOCK {
            block.text.shrink_to_fit();
        }
        self.len += 1;
    }

    /// Replaces an id.
    ///
    /// # Panics
    /// When there is no such offset.
    pub(crate) fn set(&mut self, offset: u32, id: &str) {
        let (block, place) = (&mut self.blocks[offset as usize / BLOCK], offset as usize % BLOCK);
        let range = block.start(place)..block.end(place);
        let before = range.len() as u32;
        block.text.replace_range(range, id);
        let after = end_of(id);
        end_of(&block.text);
        block.ends[place..].iter_mut().for_each(|end| *end = *end - before + after);
    }
}

/// # Panics
/// When the text has four gigabytes or more: as much as sixty-four ids may have together.
fn end_of(text: &str) -> u32 {
    u32::try_from(text.len()).expect("sixty-four ids have less than four gigabytes together")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_a_vector_of_strings() {
        let mut ids = Ids::default();
        let mut expected: Vec<String> = Vec::new();
        let id = |i: usize| match i % 5 {
            0 => String::new(),
            1 => format!("{i}"),
            2 => "é".repeat(i % 40),
            _ => format!("record-{i}"),
        };
        for i in 0..300 {
            ids.push(&id(i));
            expected.push(id(i));
            let other = i * 7 % expected.len();
            ids.set(other as u32, &id(i + 3));
            expected[other] = id(i + 3);
            for (offset, expected) in expected.iter().enumerate() {
                assert_eq!(ids.get(offset as u32), expected);
            }
        }
    }
}
