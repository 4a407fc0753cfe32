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
struct Place {
    chunk: usize,
    offset: usize,
    chunk_len: usize,
}

impl Place {
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
        let place = Place::of(index);
        // Relaxed: an index comes from its push by a word's release and acquire (or never left the
        // owner's thread), and the chunk's pointer with it.
        let chunk = self.chunks[place.chunk].load(Ordering::Relaxed);
        // SAFETY: the push has written the chunk's pointer and the entry, for ever.
        unsafe { &*chunk.add(place.offset) }
    }

    /// Adds an entry and says its index.
    ///
    /// # Safety
    ///
    /// Only one thread pushes at a time.
    pub(crate) unsafe fn push(&self, entry: T) -> u32 {
        let index = self.len();
        assert!(index < ENTRIES_MAX, "the table is full: {index} entries");
        let place = Place::of(index);
        let mut chunk = self.chunks[place.chunk].load(Ordering::Relaxed);
        if chunk.is_null() {
            chunk = allocate(place.chunk_len);
            self.chunks[place.chunk].store(chunk, Ordering::Relaxed);
        }
        // SAFETY: the offset lies within the chunk, and nobody knows the index yet.
        unsafe { chunk.add(place.offset).write(entry) };
        self.len.store(index + 1, Ordering::Relaxed);
        index
    }
}

impl<T> Drop for Chunks<T> {
    fn drop(&mut self) {
        for index in 0..self.len() {
            let place = Place::of(index);
            let chunk = self.chunks[place.chunk].load(Ordering::Relaxed);
            // SAFETY: each index below `len` was pushed, and we drop it once.
            unsafe { chunk.add(place.offset).drop_in_place() };
        }
        for index in 0..self.len() {
            let place = Place::of(index);
            if place.offset == 0 {
                let chunk = self.chunks[place.chunk].load(Ordering::Relaxed);
                // SAFETY: allocated with the same layout, and freed once, with its first entry.
                unsafe { dealloc(chunk.cast(), layout::<T>(place.chunk_len)) };
            }
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
