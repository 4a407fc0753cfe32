//! What a pin is taken by.

use std::fmt;
use std::ptr::NonNull;

use super::cell::Left;
use super::table::{Place, Table};
use super::word::COUNT_MAX;
use super::{Pin, PinError, Shape, Slot};
use crate::sync::Arc;

/// A way to one slot. While one lives, the slot is not used for another registration.
pub struct Handle<S: Shape> {
    place: NonNull<Place<S>>,
    table: NonNull<Table<S>>,
}

// SAFETY: the pointers are references that the registration keeps alive, to what is `Sync`; the
// last handle may drop the table, which is `Send`, on whatever thread it is.
unsafe impl<S: Shape> Send for Handle<S> {}
// SAFETY: as above.
unsafe impl<S: Shape> Sync for Handle<S> {}

impl<S: Shape> Handle<S> {
    /// # Safety
    ///
    /// The caller is the owner, and the place lies in the table and has no handle.
    pub(super) unsafe fn first(table: &Arc<Table<S>>, place: &Place<S>) -> Self {
        // SAFETY: as our caller promises.
        unsafe { place.registration.begin(Arc::clone(table)) };
        Self {
            place: NonNull::from(place),
            table: NonNull::from(&**table),
        }
    }

    /// Which slot.
    pub fn slot(&self) -> Slot {
        self.place().slot
    }

    /// What its owner, its handles and its pins share.
    pub fn table(&self) -> &Arc<Table<S>> {
        // SAFETY: this handle is counted.
        unsafe { self.place().registration.keeper.table() }
    }

    /// Takes a pin on the current cell: never waits, takes no lock.
    ///
    /// # Errors
    ///
    /// [`PinError::Closed`], for good; [`PinError::TooManyPins`] if the cell has 2³¹ already.
    #[inline]
    pub fn acquire(&self) -> Result<Pin<S>, PinError> {
        let word = &self.place().pins;
        // This look keeps the adds on a closed word from adding up: who has seen it closed does
        // not add again, so that there is at most one such add per thread.
        if word.shown().is_closed() {
            return Err(PinError::Closed);
        }
        let shown = word.enter();
        if shown.is_closed() {
            return Err(PinError::Closed);
        }
        // SAFETY: the word has counted us on its cell.
        let pin = unsafe { Pin::new(self.place, self.table, shown.cell()) };
        if shown.count() >= COUNT_MAX {
            // Dropped as any other: the word may have been turned over by now.
            return Err(PinError::TooManyPins);
        }
        Ok(pin)
    }

    /// Whether no pin can be taken any more.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.place().pins.shown().is_closed()
    }

    #[inline]
    pub(crate) fn place(&self) -> &Place<S> {
        // SAFETY: the registration keeps the table, and the table its slots.
        unsafe { self.place.as_ref() }
    }

    #[inline]
    pub(crate) fn shared(&self) -> &Table<S> {
        // SAFETY: the registration keeps the table.
        unsafe { self.table.as_ref() }
    }
}

impl<S: Shape> Clone for Handle<S> {
    fn clone(&self) -> Self {
        self.place().registration.join();
        let Self { place, table } = *self;
        Self { place, table }
    }
}

impl<S: Shape> Drop for Handle<S> {
    fn drop(&mut self) {
        let slot = self.slot();
        match self.place().registration.leave() {
            // The table may be gone already: not one more look.
            Left::OthersStay => {}
            Left::Last => {
                // SAFETY: we were the last.
                let table = unsafe { self.place().registration.keeper.take() };
                // The owner uses the slot again once it is closed.
                table.vacant.push(slot);
            }
        }
    }
}

impl<S: Shape> fmt::Debug for Handle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("slot", &self.slot())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use crate::{Freed, Handle, Owner, PinError, Shape};

    enum Bare {}

    impl Shape for Bare {
        type Capability = ();
        type View = ();
        type Context = std::sync::mpsc::Sender<Freed<Self>>;

        fn freed(freed: Freed<Self>) {
            let sender = freed.table().context().clone();
            sender.send(freed).unwrap();
        }
    }

    const LIMIT: u32 = super::COUNT_MAX;

    fn count(handle: &Handle<Bare>) -> u32 {
        handle.place().pins.shown().count()
    }

    #[test]
    fn the_pin_past_the_limit_is_refused_and_counts_nothing() {
        let mut owner = Owner::<Bare>::new(std::sync::mpsc::channel().0);
        let handle = owner.register((), ());
        handle.place().pins.set_count(LIMIT - 1);
        let last = handle.acquire().unwrap();
        assert_eq!(handle.acquire().unwrap_err(), PinError::TooManyPins);
        assert_eq!(last.try_clone().unwrap_err(), PinError::TooManyPins);
        assert_eq!(count(&handle), LIMIT);
        drop(last);
        let _room_again = handle.acquire().unwrap();
        assert_eq!(count(&handle), LIMIT);
        handle.place().pins.set_count(1);
    }

    #[test]
    fn the_clone_past_the_limit_of_a_retired_cell_is_refused_and_counts_nothing() {
        let (sender, freed) = std::sync::mpsc::channel();
        let mut owner = Owner::<Bare>::new(sender);
        let handle = owner.register((), ());
        let pin = handle.acquire().unwrap();
        handle.place().pins.set_count(LIMIT - 1);
        let cell = owner.retire(handle.slot(), ()).unwrap();
        let last = pin.try_clone().unwrap();
        assert_eq!(owner.pins(cell), u64::from(LIMIT));
        assert_eq!(pin.try_clone().unwrap_err(), PinError::TooManyPins);
        assert_eq!(owner.pins(cell), u64::from(LIMIT));
        // SAFETY: the cell is pinned.
        unsafe { owner.table().pin_cell(cell) }
            .carried
            .remaining
            .set_count(2);
        drop((pin, last));
        assert_eq!(owner.reclaim(freed.recv().unwrap()), cell);
    }
}
