//! Posting lists in one buffer: every list is one contiguous range of bytes.
//!
//! ```text
//! list of capacity B blocks:  32·B × u32 offsets of rows, B blocks of codes, 32·B rows of remaining bits
//! ```
//!
//! The first `len` places hold rows, the others nothing. A list that outgrows its range moves to the end of the
//! buffer with a quarter more room; the buffer is packed again when a quarter of it is holes. Numbers are little-endian, so the
//! bytes can go to a file and come back as they are.

use std::borrow::Cow;
use vdb_distance::{AlignedVec, Owner};
use vdb_quant::{BLOCK_VECTORS, RabitqBlocks, RabitqCentre};

/// Bytes of a place's offset.
const ID_BYTES: usize = 4;
/// A list that moves gets one block more for each so many.
const SPARE_SHARE: usize = 4;

/// What a place takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    block_bytes: usize,
    rest_bytes: usize,
}

impl Layout {
    /// For the blocks of a codec; without one, lists hold offsets only.
    pub(super) fn new(codec: Option<&RabitqBlocks>) -> Self {
        Self {
            block_bytes: codec.map_or(0, RabitqBlocks::block_bytes),
            rest_bytes: codec.map_or(0, RabitqBlocks::rest_bytes),
        }
    }

    /// Bytes of a list with room for so many blocks.
    pub(super) fn list_bytes(self, blocks: usize) -> usize {
        blocks * (BLOCK_VECTORS * (ID_BYTES + self.rest_bytes) + self.block_bytes)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Extent {
    start: usize,
    /// Blocks that there is room for.
    blocks: usize,
    /// Rows.
    len: usize,
}

/// All lists.
#[derive(Debug, Clone)]
pub(super) struct Lists {
    layout: Layout,
    bytes: AlignedVec<u8>,
    extents: Vec<Extent>,
    /// Bytes of the buffer that belong to no list.
    holes: usize,
}

/// One list, to be searched.
#[derive(Clone, Copy)]
pub(super) struct List<'a> {
    layout: Layout,
    len: usize,
    ids: &'a [[u8; ID_BYTES]],
    /// Its whole blocks.
    pub(super) blocks: &'a [u8],
    /// A row of remaining bits per place.
    pub(super) rest: &'a [u8],
}

impl List<'_> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The row at a place.
    #[inline]
    pub(super) fn row(&self, place: usize) -> u32 {
        u32::from_le_bytes(self.ids[place])
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = u32> + '_ {
        self.ids[..self.len].iter().map(|&id| u32::from_le_bytes(id))
    }

    /// The lanes of a block that hold rows.
    #[inline]
    pub(super) fn lanes(&self, block: usize) -> u32 {
        match self.len - block * BLOCK_VECTORS {
            rows if rows < BLOCK_VECTORS => (1 << rows) - 1,
            _ => u32::MAX,
        }
    }

    pub(super) fn block_bytes(&self) -> usize {
        self.layout.block_bytes
    }

    /// Asks memory for so many bytes of codes.
    #[inline]
    pub(super) fn prefetch_codes(&self, start: usize, bytes: usize) {
        vdb_distance::prefetch(self.blocks, start, bytes / 64);
    }

    /// Asks memory for the remaining bits of a place.
    #[inline]
    pub(super) fn prefetch_rest(&self, place: usize) {
        let bytes = self.layout.rest_bytes;
        let start = place * bytes;
        // The buffer and every list in it start on a line.
        let lines = (start + bytes).div_ceil(64) - start / 64;
        vdb_distance::prefetch(self.rest, start, lines.min(4));
    }
}

impl Lists {
    /// Lists of these lengths, with room for nothing else; `fill` writes each one's rows, on all threads.
    pub(super) fn build(
        layout: Layout,
        lens: &[usize],
        fill: impl Fn(usize, &mut ListMut<'_>) + Send + Sync,
    ) -> Self {
        use rayon::prelude::*;
        let mut lists = Self { layout, bytes: AlignedVec::new(), extents: Vec::new(), holes: 0 };
        for &len in lens {
            let blocks = len.div_ceil(BLOCK_VECTORS);
            let start = lists.extents.last().map_or(0, |last| last.start + layout.list_bytes(last.blocks));
            lists.extents.push(Extent { start, blocks, len });
        }
        let total = lists.extents.last().map_or(0, |last| last.start + layout.list_bytes(last.blocks));
        lists.bytes.reserve_exact(total);
        lists.bytes.resize(total, 0);
        let mut left = &mut lists.bytes[..];
        let mut parts = Vec::with_capacity(lens.len());
        for &extent in &lists.extents {
            let (own, others) = left.split_at_mut(layout.list_bytes(extent.blocks));
            parts.push(ListMut::new(layout, extent, own));
            left = others;
        }
        parts.into_par_iter().enumerate().for_each(|(list, mut part)| fill(list, &mut part));
        lists
    }

    pub(super) fn count(&self) -> usize {
        self.extents.len()
    }

    /// Rows of a list.
    pub(super) fn len(&self, list: usize) -> usize {
        self.extents[list].len
    }

    /// Heap bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.bytes() + self.extents.capacity() * size_of::<Extent>()
    }

    #[inline]
    pub(super) fn get(&self, list: usize) -> List<'_> {
        let Extent { start, blocks, len } = self.extents[list];
        let bytes = &self.bytes[start..][..self.layout.list_bytes(blocks)];
        let (ids, rest) = bytes.split_at(blocks * BLOCK_VECTORS * ID_BYTES);
        let (blocks, rest) = rest.split_at(blocks * self.layout.block_bytes);
        let used = len.div_ceil(BLOCK_VECTORS) * self.layout.block_bytes;
        List { layout: self.layout, len, ids: ids.as_chunks().0, blocks: &blocks[..used], rest }
    }

    fn get_mut(&mut self, list: usize) -> ListMut<'_> {
        let extent = self.extents[list];
        let bytes = &mut self.bytes[extent.start..][..self.layout.list_bytes(extent.blocks)];
        ListMut::new(self.layout, extent, bytes)
    }

    /// A list without rows at the end.
    pub(super) fn push_list(&mut self) {
        self.extents.push(Extent { start: self.bytes.len(), blocks: 0, len: 0 });
    }

    /// Takes a list out; the last one gets its number.
    pub(super) fn swap_remove_list(&mut self, list: usize) {
        let removed = self.extents.swap_remove(list);
        self.holes += self.layout.list_bytes(removed.blocks);
        self.pack_if_sparse();
    }

    /// Appends a row to a list.
    pub(super) fn push(
        &mut self,
        list: usize,
        row: u32,
        codec: Option<(&RabitqBlocks, &RabitqCentre)>,
        vector: &[f32],
    ) {
        let Extent { blocks, len, .. } = self.extents[list];
        if len == blocks * BLOCK_VECTORS {
            self.move_to_end(list, blocks + 1 + blocks / SPARE_SHARE);
        }
        self.extents[list].len += 1;
        self.get_mut(list).set(len, row, codec, vector);
        self.pack_if_sparse();
    }

    /// Takes a row out of a list, the list's last one filling its place; false when it is not there.
    pub(super) fn remove(&mut self, list: usize, row: u32, codec: Option<&RabitqBlocks>) -> bool {
        let id = row.to_le_bytes();
        let Extent { len, .. } = self.extents[list];
        let part = self.get_mut(list);
        let Some(place) = part.ids[..len].iter().position(|other| *other == id) else { return false };
        part.ids[place] = part.ids[len - 1];
        if let Some(codec) = codec {
            codec.move_code(part.blocks, len - 1, place);
            let rest_bytes = part.layout.rest_bytes;
            part.rest.copy_within((len - 1) * rest_bytes..len * rest_bytes, place * rest_bytes);
        }
        self.extents[list].len -= 1;
        true
    }

    fn move_to_end(&mut self, list: usize, blocks: usize) {
        let old = self.extents[list];
        let start = self.bytes.len();
        self.bytes.resize(start + self.layout.list_bytes(blocks), 0);
        self.extents[list] = Extent { start, blocks, ..old };
        let (before, new) = self.bytes.split_at_mut(start);
        copy(self.layout, &before[old.start..], old.blocks, new, blocks);
        self.holes += self.layout.list_bytes(old.blocks);
    }

    fn pack_if_sparse(&mut self) {
        if self.holes * 4 <= self.bytes.len() {
            return;
        }
        let mut packed = AlignedVec::with_capacity(self.bytes.len() - self.holes);
        for extent in &mut self.extents {
            let bytes = &self.bytes[extent.start..][..self.layout.list_bytes(extent.blocks)];
            extent.start = packed.len();
            packed.extend_from_slice(bytes);
        }
        self.bytes = packed;
        self.holes = 0;
    }

    /// The lists' lengths, and their bytes one after another without spare room.
    pub(super) fn to_bytes(&self) -> (Vec<u32>, Vec<u8>) {
        let lens: Vec<u32> = self.extents.iter().map(|extent| extent.len as u32).collect();
        let blocks = |len: u32| (len as usize).div_ceil(BLOCK_VECTORS);
        let mut bytes = vec![0; lens.iter().map(|&len| self.layout.list_bytes(blocks(len))).sum()];
        let mut left = &mut bytes[..];
        for (extent, &len) in self.extents.iter().zip(&lens) {
            let (own, others) = left.split_at_mut(self.layout.list_bytes(blocks(len)));
            copy(self.layout, &self.bytes[extent.start..], extent.blocks, own, blocks(len));
            left = others;
        }
        (lens, bytes)
    }

    /// Lists of [`to_bytes`](Self::to_bytes), or a sentence about what does not fit.
    pub(super) fn from_bytes(layout: Layout, lens: &[u32], bytes: Vec<u8>) -> Result<Self, String> {
        let extents = extents(layout, lens, bytes.len())?;
        Ok(Self { layout, bytes: AlignedVec::from(&bytes[..]), extents, holes: 0 })
    }

    /// What [`to_bytes`](Self::to_bytes) gives, without a copy where there is no spare room.
    pub(super) fn stored(&self) -> (Vec<u32>, Cow<'_, [u8]>) {
        let lens: Vec<u32> = self.extents.iter().map(|extent| extent.len as u32).collect();
        match extents(self.layout, &lens, self.bytes.len()) {
            Ok(packed) if packed == self.extents => (lens, Cow::Borrowed(&self.bytes)),
            _ => (lens, Cow::Owned(self.to_bytes().1)),
        }
    }

    /// Lists of [`stored`](Self::stored), read in place.
    pub(super) fn open(layout: Layout, lens: &[u32], bytes: Owner) -> Result<Self, String> {
        let extents = extents(layout, lens, (*bytes).as_ref().len())?;
        let bytes = AlignedVec::opened(bytes).expect("bytes are a whole number of bytes");
        Ok(Self { layout, bytes, extents, holes: 0 })
    }

    /// Copies what is read in place.
    pub(super) fn pin(&mut self) {
        if self.is_shared() {
            self.bytes = AlignedVec::from(&self.bytes[..]);
        }
    }

    /// Bytes of the lists.
    pub(super) fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_shared(&self) -> bool {
        self.bytes.is_shared()
    }
}

/// Where lists of these lengths lie in so many bytes, without spare room; a sentence where they do not fill them.
fn extents(layout: Layout, lens: &[u32], bytes: usize) -> Result<Vec<Extent>, String> {
    let mut extents = Vec::with_capacity(lens.len());
    let mut start = 0usize;
    for &len in lens {
        let blocks = (len as usize).div_ceil(BLOCK_VECTORS);
        extents.push(Extent { start, blocks, len: len as usize });
        start = start.saturating_add(layout.list_bytes(blocks));
    }
    if start != bytes {
        return Err(format!("its lists have {bytes} bytes, expected {start}"));
    }
    Ok(extents)
}

/// Copies a list into a range of another capacity, as much as fits both.
fn copy(layout: Layout, from: &[u8], from_blocks: usize, to: &mut [u8], to_blocks: usize) {
    let (mut from_at, mut to_at) = (0, 0);
    for bytes in [BLOCK_VECTORS * ID_BYTES, layout.block_bytes, BLOCK_VECTORS * layout.rest_bytes] {
        let both = from_blocks.min(to_blocks) * bytes;
        to[to_at..to_at + both].copy_from_slice(&from[from_at..from_at + both]);
        from_at += from_blocks * bytes;
        to_at += to_blocks * bytes;
    }
}

/// One list, to be written.
pub(super) struct ListMut<'a> {
    layout: Layout,
    ids: &'a mut [[u8; ID_BYTES]],
    blocks: &'a mut [u8],
    rest: &'a mut [u8],
}

impl<'a> ListMut<'a> {
    fn new(layout: Layout, extent: Extent, bytes: &'a mut [u8]) -> Self {
        let (ids, rest) = bytes.split_at_mut(extent.blocks * BLOCK_VECTORS * ID_BYTES);
        let (blocks, rest) = rest.split_at_mut(extent.blocks * layout.block_bytes);
        Self { layout, ids: ids.as_chunks_mut().0, blocks, rest }
    }

    /// Writes the row at a place.
    pub(super) fn set(
        &mut self,
        place: usize,
        row: u32,
        codec: Option<(&RabitqBlocks, &RabitqCentre)>,
        vector: &[f32],
    ) {
        self.ids[place] = row.to_le_bytes();
        if let Some((codec, centre)) = codec {
            let (block, lane) = (place / BLOCK_VECTORS, place % BLOCK_VECTORS);
            let Layout { block_bytes, rest_bytes } = self.layout;
            let block = &mut self.blocks[block * block_bytes..][..block_bytes];
            codec.encode(centre, vector, block, lane, &mut self.rest[place * rest_bytes..][..rest_bytes]);
        }
    }
}
