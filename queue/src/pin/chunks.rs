//! A table that grows and never moves.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr;

use crate::sync::{
    AtomicPtr, AtomicU32, CHUNKS_PER_DOUBLING_LOG, ENTRIES_MAX_LOG, FIRST_ENTRIES_LOG, Ordering,
};

/// Counted from here, the position of an index's highest bit says which doubling it lies in.
const FIRST_ENTRIES: u64 = 1 << FIRST_ENTRIES_LOG;
const CHUNKS_MAX: usize =
    ((ENTRIES_MAX_LOG - FIRST_ENTRIES_LOG) << CHUNKS_PER_DOUBLING_LOG) as usize;
const ENTRIES_MAX: u32 = ((1_u64 << ENTRIES_MAX_LOG) - FIRST_ENTRIES) as u32;

/// Entries by index, in chunks that double in size every few chunks.
///
/// Entries are written when they are pushed, so that the idle part of the last chunk costs address
/// space and no memory.
pub(crate) struct Chunks<T> {
    chunks: [AtomicPtr<T>; CHUNKS_MAX],
    len: AtomicU32,
}

// SAFETY: the pointers own their entries, as a vector would; entries are shared by reference.
unsafe impl<T: Send> Send for Chunks<T> {}
// SAFETY: as above; `push`, which moves entries in by a shared reference, needs `T: Send` too.
unsafe impl<T: Send + Sync> Sync for Chunks<T> {}

/// Where an index lies.
struct Location {
    chunk: usize,
    offset: usize,
    chunk_len: usize,
}

impl Location {
    #[inline]
    fn of(index: u32) -> Self {
        let position = u64::from(index) + FIRST_ENTRIES;
        let highest_bit = position.ilog2();
        let chunk_len_log = highest_bit - CHUNKS_PER_DOUBLING_LOG;
        let chunk_len = 1_u64 << chunk_len_log;
        let within_doubling = (position >> chunk_len_log) & ((1 << CHUNKS_PER_DOUBLING_LOG) - 1);
        let doubling = u64::from(highest_bit - FIRST_ENTRIES_LOG);
        Self {
            chunk: ((doubling << CHUNKS_PER_DOUBLING_LOG) + within_doubling) as usize,
            offset: (position & (chunk_len - 1)) as usize,
            chunk_len: chunk_len as usize,
        }
    }
}

impl<T> Chunks<T> {
    pub(crate) fn new() -> Self {
        Self {
            chunks: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
            len: AtomicU32::new(0),
        }
    }

    /// How many were pushed: exact for the one who pushes.
    pub(crate) fn len(&self) -> u32 {
        self.len.load(Ordering::Relaxed)
    }

    /// The entry at `index`.
    ///
    /// # Safety
    ///
    /// It was pushed, and the push happened before this.
    #[inline]
    pub(crate) unsafe fn entry(&self, index: u32) -> &T {
        let location = Location::of(index);
        // Relaxed: an index comes from its push by a word's release and acquire (or never left the
        // owner's thread), and the chunk's pointer with it.
        let chunk = self.chunks[location.chunk].load(Ordering::Relaxed);
        // SAFETY: the push has written the chunk's pointer and the entry, for ever.
        unsafe { &*chunk.add(location.offset) }
    }

    /// Adds an entry and says its index.
    ///
    /// # Safety
    ///
    /// Only one thread pushes at a time.
    pub(crate) unsafe fn push(&self, entry: T) -> u32 {
        let index = self.len();
        assert!(index < ENTRIES_MAX, "the table is full: {index} entries");
        let location = Location::of(index);
        let mut chunk = self.chunks[location.chunk].load(Ordering::Relaxed);
        if chunk.is_null() {
            chunk = allocate(location.chunk_len);
            self.chunks[location.chunk].store(chunk, Ordering::Relaxed);
        }
        // SAFETY: the offset lies within the chunk, and nobody knows the index yet.
        unsafe { chunk.add(location.offset).write(entry) };
        self.len.store(index + 1, Ordering::Relaxed);
        index
    }
}

impl<T> Drop for Chunks<T> {
    fn drop(&mut self) {
        let len = self.len() as usize;
        let mut first = 0;
        while first < len {
            let chunk_len = Location::of(first as u32).chunk_len;
            let chunk = self.chunks[Location::of(first as u32).chunk].load(Ordering::Relaxed);
            let used = ptr::slice_from_raw_parts_mut(chunk, chunk_len.min(len - first));
            // SAFETY: these are the entries that were pushed into it, and we drop them once.
            unsafe { used.drop_in_place() };
            // SAFETY: it was allocated with this layout.
            unsafe { dealloc(chunk.cast(), layout::<T>(chunk_len)) };
            first += chunk_len;
        }
    }
}

fn layout<T>(len: usize) -> Layout {
    const { assert!(size_of::<T>() > 0) };
    Layout::array::<T>(len).expect("a chunk is smaller than the address space")
}

fn allocate<T>(len: usize) -> *mut T {
    let layout = layout::<T>(len);
    // SAFETY: the layout's size is not zero.
    let chunk = unsafe { alloc(layout) };
    if chunk.is_null() {
        handle_alloc_error(layout);
    }
    chunk.cast()
}

#[cfg(test)]
mod tests {
    use super::{CHUNKS_MAX, Chunks, ENTRIES_MAX, Location};

    #[test]
    fn every_index_has_a_place_of_its_own_next_to_the_one_before() {
        let mut before = Location::of(0);
        assert_eq!((before.chunk, before.offset), (0, 0));
        for index in 1..100_000 {
            let location = Location::of(index);
            assert!(location.offset < location.chunk_len);
            if location.chunk == before.chunk {
                assert_eq!(location.offset, before.offset + 1);
            } else {
                assert_eq!((location.chunk, location.offset), (before.chunk + 1, 0));
                assert_eq!(before.offset + 1, before.chunk_len);
            }
            before = location;
        }
    }

    #[test]
    fn the_last_index_lies_in_the_last_chunk() {
        let last = Location::of(ENTRIES_MAX - 1);
        assert_eq!(
            (last.chunk, last.offset),
            (CHUNKS_MAX - 1, last.chunk_len - 1)
        );
    }

    #[test]
    fn entries_stay_where_they_are_and_are_dropped_once() {
        let counted = std::sync::Arc::new(());
        let chunks = Chunks::new();
        for index in 0..500 {
            // SAFETY: nobody else pushes.
            let pushed = unsafe { chunks.push((index, std::sync::Arc::clone(&counted))) };
            assert_eq!(pushed, index);
        }
        for index in 0..500 {
            // SAFETY: it was pushed.
            assert_eq!(unsafe { chunks.entry(index) }.0, index);
        }
        drop(chunks);
        assert_eq!(std::sync::Arc::strong_count(&counted), 1);
    }
}
