//! The use of a slot, from its registration until its last handle goes.

use super::Shape;
use super::cell::Left;
use super::keeper::Keeper;
use super::table::Table;
use crate::sync::{Arc, AtomicU64, Ordering};

/// Counts the handles of a slot. It lies in the slot itself: an `Arc` for each would cost an
/// allocation.
pub(super) struct Registration<S: Shape> {
    /// 64 bits, so that forgotten handles cannot make it overflow.
    handles: AtomicU64,
    pub(super) keeper: Keeper<S>,
}

impl<S: Shape> Registration<S> {
    pub(super) fn none() -> Self {
        Self {
            handles: AtomicU64::new(0),
            keeper: Keeper::empty(),
        }
    }

    /// Begins with one handle.
    ///
    /// # Safety
    ///
    /// The caller is the owner, and the slot has no handle.
    pub(super) unsafe fn begin(&self, table: Arc<Table<S>>) {
        // SAFETY: whoever reads or takes it does so through the handle that our caller makes.
        unsafe { self.keeper.keep(table) };
        // Relaxed: other threads count through what that handle, or a clone of it, came to them by.
        self.handles.store(1, Ordering::Relaxed);
    }

    /// Counts one more, for somebody who has one.
    pub(super) fn join(&self) {
        // Relaxed: the one who has one keeps it until after this.
        self.handles.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn leave(&self) -> Left {
        // Release, that whatever was done by this handle comes before the last one lets the table
        // go; acquire, that the last one has seen all others leave.
        Left::when(self.handles.fetch_sub(1, Ordering::AcqRel) == 1)
    }
}
