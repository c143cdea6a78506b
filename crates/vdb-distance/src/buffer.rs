//! A growable buffer of plain numbers that starts on a cache line, so that rows padded to a multiple of a line
//! never straddle one more line than they need. From 2 MiB on it starts on a huge page and asks the kernel for
//! huge pages: a search that jumps around in such a buffer spends much of its time on address translation
//! otherwise. The alignment is a function of the capacity alone, so the layout to free is known.
//!
//! A buffer can also read numbers in place that somebody else owns, a mapped file for example, until it is written to: then
//! it copies them into memory of its own.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

/// Bytes that a buffer reads in place, and keeps alive: a mapped file, say.
pub type Owner = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Size and alignment of a huge page; also the smallest allocation that gets any.
const HUGE_PAGE: usize = 2 << 20;
/// Alignment of smaller allocations: a cache line.
const LINE: usize = 64;

mod sealed {
    /// Types for which every bit pattern, and any copy of one, is a value.
    pub trait Sealed: Copy + Send + Sync + 'static {}
    impl Sealed for f32 {}
    impl Sealed for u64 {}
    impl Sealed for u32 {}
    impl Sealed for u16 {}
    impl Sealed for u8 {}
}

/// A number that an [`AlignedVec`] can hold: `f32`, `u64`, `u32`, `u16` or `u8`.
pub trait Element: sealed::Sealed {}

impl<T: sealed::Sealed> Element for T {}

/// A vector of numbers aligned to 64 bytes, or to 2 MiB once it is that large. It reads as a slice.
pub struct AlignedVec<T: Element> {
    /// From `alloc` with `layout(capacity)` while that is not 0; otherwise into the owner's bytes, or dangling without one.
    start: NonNull<T>,
    /// The first `len` elements are initialised.
    len: usize,
    capacity: usize,
    /// Whose bytes these are; only with a capacity of 0.
    owner: Option<Owner>,
}

// SAFETY: the buffer holds plain numbers, which are `Send` and `Sync`; they are its own, or an owner's that is both.
unsafe impl<T: Element> Send for AlignedVec<T> {}
// SAFETY: as above; a shared reference gives shared access to the numbers only.
unsafe impl<T: Element> Sync for AlignedVec<T> {}

impl<T: Element> AlignedVec<T> {
    /// An empty buffer; allocates nothing.
    pub const fn new() -> AlignedVec<T> {
        AlignedVec { start: NonNull::dangling(), len: 0, capacity: 0, owner: None }
    }

    /// The numbers that `owner`'s bytes are, little-endian, read in place: nothing is copied until the buffer is written to.
    /// `None` when they do not begin on a cache line, or are no whole number of elements.
    pub fn shared(owner: Owner) -> Option<AlignedVec<T>> {
        let bytes: &[u8] = (*owner).as_ref();
        if bytes.is_empty() {
            return Some(AlignedVec::new());
        }
        let fits = bytes.as_ptr().addr().is_multiple_of(LINE) && bytes.len().is_multiple_of(size_of::<T>());
        if !fits || cfg!(target_endian = "big") && size_of::<T>() > 1 {
            return None;
        }
        // The slice is borrowed from the owner, which is not moved out of its allocation and never borrowed mutably while
        // this buffer keeps it: it stays valid as a borrow would that lasts as long.
        let (start, len) = (NonNull::from(bytes).cast(), bytes.len() / size_of::<T>());
        Some(AlignedVec { start, len, capacity: 0, owner: Some(owner) })
    }

    /// The numbers that `owner`'s bytes are, little-endian: read in place where [`shared`](Self::shared) can, else copied.
    /// `None` when they are no whole number of elements.
    pub fn opened(owner: Owner) -> Option<AlignedVec<T>> {
        if let Some(shared) = Self::shared(Arc::clone(&owner)) {
            return Some(shared);
        }
        let bytes: &[u8] = (*owner).as_ref();
        if !bytes.len().is_multiple_of(size_of::<T>()) {
            return None;
        }
        let swapped: Vec<u8>;
        let bytes = if cfg!(target_endian = "big") {
            swapped =
                bytes.chunks_exact(size_of::<T>()).flat_map(|number| number.iter().rev().copied()).collect();
            &swapped
        } else {
            bytes
        };
        let mut copy = AlignedVec::with_capacity(bytes.len() / size_of::<T>());
        // SAFETY: there is room for that many bytes in new memory, which overlaps nothing.
        unsafe { copy.start.cast().copy_from_nonoverlapping(NonNull::from(bytes).cast::<u8>(), bytes.len()) };
        // Every pattern of bits is a number.
        copy.len = bytes.len() / size_of::<T>();
        Some(copy)
    }

    /// The elements as bytes, in the machine's order.
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: the first `len` elements are initialised, and numbers have no padding.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.len * size_of::<T>()) }
    }

    /// Whether its numbers are somebody else's, read in place.
    pub fn is_shared(&self) -> bool {
        self.owner.is_some()
    }

    /// An empty buffer with room for exactly `capacity` elements.
    ///
    /// # Panics
    /// If that many elements exceed `isize::MAX` bytes.
    pub fn with_capacity(capacity: usize) -> AlignedVec<T> {
        let mut buffer = AlignedVec::new();
        buffer.reserve_exact(capacity);
        buffer
    }

    /// Elements held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Elements that fit without another allocation; 0 while they are somebody else's.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Heap bytes allocated.
    pub fn bytes(&self) -> usize {
        self.capacity * size_of::<T>()
    }

    /// The elements, as dereferencing gives them.
    pub fn as_slice(&self) -> &[T] {
        self
    }

    /// Makes room for `additional` more elements and not one beyond.
    ///
    /// # Panics
    /// If the elements would exceed `isize::MAX` bytes.
    pub fn reserve_exact(&mut self, additional: usize) {
        let needed = self.len.checked_add(additional).expect("capacity overflow");
        if needed > self.capacity {
            self.reallocate(needed);
        }
    }

    /// Grows with copies of `value`, or truncates, to `len` elements.
    ///
    /// # Panics
    /// If the elements would exceed `isize::MAX` bytes.
    pub fn resize(&mut self, len: usize, value: T) {
        if let Some(additional) = len.checked_sub(self.len) {
            self.reserve_amortised(additional);
            for i in self.len..len {
                // SAFETY: `i < len <= capacity`.
                unsafe { self.start.add(i).write(value) };
            }
        }
        self.len = len;
    }

    /// Appends copies of all `values`.
    ///
    /// # Panics
    /// If the elements would exceed `isize::MAX` bytes.
    pub fn extend_from_slice(&mut self, values: &[T]) {
        self.reserve_amortised(values.len());
        // SAFETY: there is room for `values.len()` elements after the first `len`, and `values` cannot overlap
        // a buffer that is borrowed mutably.
        unsafe {
            self.start.add(self.len).copy_from_nonoverlapping(NonNull::from(values).cast(), values.len());
        }
        self.len += values.len();
    }

    /// Drops the elements from `len` on; does nothing if there are none. The allocation stays.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Drops all elements. The allocation stays.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Gives back room that no element takes.
    pub fn shrink_to_fit(&mut self) {
        if self.capacity > self.len {
            self.reallocate(self.len);
        }
    }

    /// Doubles the capacity, or more if `additional` elements need more.
    fn reserve_amortised(&mut self, additional: usize) {
        let needed = self.len.checked_add(additional).expect("capacity overflow");
        if needed > self.capacity {
            let least = LINE / size_of::<T>();
            self.reallocate(needed.max(self.capacity.saturating_mul(2)).max(least));
        }
    }

    /// Moves the elements to an allocation of `capacity >= len` elements.
    fn reallocate(&mut self, capacity: usize) {
        debug_assert!(capacity >= self.len);
        let start = allocate(capacity);
        // SAFETY: both allocations hold at least `len` elements, and a new one overlaps nothing.
        unsafe { start.copy_from_nonoverlapping(self.start, self.len) };
        self.free();
        self.start = start;
        self.capacity = capacity;
        self.owner = None;
    }

    /// Frees the allocation, leaving `start` and `capacity` for the caller to replace.
    fn free(&mut self) {
        if self.capacity > 0 {
            // SAFETY: `start` came from `alloc` with the layout of this capacity, and is not used again.
            unsafe { dealloc(self.start.cast().as_ptr(), layout::<T>(self.capacity)) };
        }
    }
}

/// Alignment follows from the size, so that freeing needs nothing but the capacity.
fn layout<T>(capacity: usize) -> Layout {
    let bytes = capacity.checked_mul(size_of::<T>()).expect("capacity overflow");
    let align = if bytes >= HUGE_PAGE { HUGE_PAGE } else { LINE };
    Layout::from_size_align(bytes, align).expect("capacity overflow")
}

fn allocate<T: Element>(capacity: usize) -> NonNull<T> {
    let layout = layout::<T>(capacity);
    if layout.size() == 0 {
        return NonNull::dangling();
    }
    // SAFETY: the size is not 0.
    let start = unsafe { alloc(layout) };
    let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
    if layout.size() >= HUGE_PAGE {
        advise_huge_pages(start, layout.size());
    }
    start.cast()
}

/// A hint: where it fails the memory is as good, only slower.
#[cfg(target_os = "linux")]
fn advise_huge_pages(start: NonNull<u8>, bytes: usize) {
    // Whole pages only, so that the advice never reaches a neighbour's.
    let bytes = bytes & !4095;
    // SAFETY: the range was just allocated by us, and this advice changes no contents.
    let _ = unsafe { rustix::mm::madvise(start.as_ptr().cast(), bytes, rustix::mm::Advice::LinuxHugepage) };
}

#[cfg(not(target_os = "linux"))]
fn advise_huge_pages(_start: NonNull<u8>, _bytes: usize) {}

impl<T: Element> Drop for AlignedVec<T> {
    fn drop(&mut self) {
        self.free();
    }
}

impl<T: Element> Deref for AlignedVec<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: the first `len` elements are initialised, or are the bytes of an owner that lives as long, of which every
        // pattern is a number; a dangling start is aligned and goes with length 0.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T: Element> DerefMut for AlignedVec<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        if self.owner.is_some() {
            self.reallocate(self.len);
        }
        // SAFETY: as for `deref`; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T: Element> Clone for AlignedVec<T> {
    /// The copy has no spare room, and reads in place what this one does.
    fn clone(&self) -> AlignedVec<T> {
        match &self.owner {
            None => AlignedVec::from(self.as_slice()),
            Some(owner) => {
                let owner = Some(Arc::clone(owner));
                AlignedVec { start: self.start, len: self.len, capacity: 0, owner }
            }
        }
    }
}

impl<T: Element> From<&[T]> for AlignedVec<T> {
    fn from(values: &[T]) -> AlignedVec<T> {
        let mut buffer = AlignedVec::with_capacity(values.len());
        buffer.extend_from_slice(values);
        buffer
    }
}

impl<T: Element> Default for AlignedVec<T> {
    fn default() -> AlignedVec<T> {
        AlignedVec::new()
    }
}

impl<T: Element + fmt::Debug> fmt::Debug for AlignedVec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: Element + PartialEq> PartialEq for AlignedVec<T> {
    fn eq(&self, other: &AlignedVec<T>) -> bool {
        self.as_slice() == other.as_slice()
    }
}

#[cfg(test)]
mod tests;
