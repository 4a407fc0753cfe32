//! What keeps the table for those that only count themselves.

use super::Shape;
use super::table::Table;
use crate::sync::{Arc, UnsafeCell};

/// A reference to the table that many own together: all of them are counted elsewhere, and the last
/// one to leave takes it out. As it lies in the table itself, the table is there for them until
/// then.
pub(super) struct Keeper<S: Shape>(UnsafeCell<Option<Arc<Table<S>>>>);

// SAFETY: written by the owner before anybody is counted, or before it settles the count; read by
// those that are counted; taken by the last of them, who has acquired the leaving of all others.
unsafe impl<S: Shape> Sync for Keeper<S> {}

impl<S: Shape> Keeper<S> {
    pub(super) fn empty() -> Self {
        Self(UnsafeCell::new(None))
    }

    /// # Safety
    ///
    /// Nobody can take it or read it before our caller has let others know.
    pub(super) unsafe fn keep(&self, table: Arc<Table<S>>) {
        // SAFETY: our caller is alone with it.
        self.0.with_mut(|kept| unsafe { *kept = Some(table) });
    }

    /// # Safety
    ///
    /// The caller is counted among the owners, for as long as it keeps the reference.
    pub(super) unsafe fn table(&self) -> &Arc<Table<S>> {
        // SAFETY: nobody takes it as long as our caller is counted.
        let kept = self.0.with(|kept| unsafe { &*kept });
        kept.as_ref()
            .expect("it is there until the last one leaves")
    }

    /// # Safety
    ///
    /// The caller was the last to leave.
    pub(super) unsafe fn take(&self) -> Arc<Table<S>> {
        // SAFETY: there is one last one, and nobody else is left to look.
        let kept = self.0.with_mut(|kept| unsafe { (*kept).take() });
        kept.expect("it is there until the last one leaves")
    }
}
