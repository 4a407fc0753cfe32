//! What the protocols are made of: the real thing, or, under `--cfg loom`, its model.
//!
//! This is the only place of the workspace that asks for `cfg(loom)`.

#[cfg(loom)]
mod model;

#[cfg(loom)]
pub(crate) use self::model::Queue;
#[cfg(not(loom))]
pub(crate) use crossbeam::queue::SegQueue as Queue;
pub(crate) use crossbeam::utils::CachePadded;

#[cfg(loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    hint::spin_loop,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence},
    },
};
#[cfg(not(loom))]
pub(crate) use std::{
    hint::spin_loop,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence},
    },
};

/// How many entries the first chunks of a table have together, as a power of two.
#[cfg(not(loom))]
pub(crate) const FIRST_ENTRIES_LOG: u32 = 6;
#[cfg(loom)]
pub(crate) const FIRST_ENTRIES_LOG: u32 = 1;

/// In how many chunks of one size a table is doubled, as a power of two: the more, the less of the
/// last one lies idle.
#[cfg(not(loom))]
pub(crate) const CHUNKS_PER_DOUBLING_LOG: u32 = 2;
#[cfg(loom)]
pub(crate) const CHUNKS_PER_DOUBLING_LOG: u32 = 0;

/// How large a table may grow, as a power of two (the first chunk's entries are not to be had).
#[cfg(not(loom))]
pub(crate) const ENTRIES_MAX_LOG: u32 = 32;
#[cfg(loom)]
pub(crate) const ENTRIES_MAX_LOG: u32 = 4;

/// How often [`read_all`](crate::read_all) tries before it gives up.
#[cfg(not(loom))]
pub(crate) const READ_TRIES_MAX: u32 = 32;
#[cfg(loom)]
pub(crate) const READ_TRIES_MAX: u32 = 2;

/// A cell whose every access says whether it reads or writes, as loom wants to know it.
#[cfg(not(loom))]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    #[inline(always)]
    pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    #[inline(always)]
    pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}
