//! The owner's side: registering, retiring, closing, publishing.

use std::collections::BTreeSet;
use std::fmt;

use super::cell::{Cell, Left};
use super::handle::Registration;
use super::table::{PinCell, Table, Words};
use super::word::Shown;
use super::{CellId, Freed, Handle, Shape, Slot};
use crate::sync::{Arc, Ordering};

/// The one who writes cells and turns words over. Everything here takes it by `&mut`: there is one
/// writer.
///
/// Dropping it closes every word, so that no pin can be taken afterwards; those that were taken
/// stay what they are.
pub struct Owner<S: Shape> {
    table: Arc<Table<S>>,
    /// Pin cells that nobody is on: empty, their counts reset.
    free_pins: Vec<CellId>,
    /// View cells that nobody reads: empty, their counts reset.
    free_views: Vec<CellId>,
    /// View cells that were replaced while somebody read them.
    replaced_views: Vec<CellId>,
    /// Slots whose handles went before they were closed.
    abandoned: BTreeSet<Slot>,
    /// As in the table; ours to count.
    turn: u64,
}

impl<S: Shape> Owner<S> {
    /// An owner of nothing yet.
    pub fn new(context: S::Context) -> Self {
        Self {
            table: Arc::new(Table::new(context)),
            free_pins: Vec::new(),
            free_views: Vec::new(),
            replaced_views: Vec::new(),
            abandoned: BTreeSet::new(),
            turn: 0,
        }
    }

    /// What is shared with handles and pins.
    pub fn table(&self) -> &Arc<Table<S>> {
        &self.table
    }

    /// Opens a slot on which pins can be taken that carry `capability`.
    ///
    /// # Panics
    ///
    /// There are four billion slots already.
    pub fn register(&mut self, capability: S::Capability, view: S::View) -> Handle<S> {
        self.register_with(|_| (capability, view))
    }

    /// As [`register`](Self::register), where what is carried and shown names the slot.
    ///
    /// # Panics
    ///
    /// There are four billion slots already.
    pub fn register_with(
        &mut self,
        fill: impl FnOnce(Slot) -> (S::Capability, S::View),
    ) -> Handle<S> {
        let slot = self.vacant_slot();
        let (capability, view) = fill(slot);
        self.publish(slot, view);
        let cell = self.filled_pin_cell(capability);
        let _closed = self.words(slot).pins.turn_over(cell);
        let registration = Registration::new(Arc::clone(&self.table), slot);
        Handle::new(registration, self.words(slot))
    }

    /// Puts a cell that carries `next` in the place of the current one. Says which cell that was
    /// if it still has pins: it stays as it is until [`reclaim`](Self::reclaim).
    ///
    /// # Panics
    ///
    /// The slot is closed, or none of ours.
    #[inline]
    pub fn retire(&mut self, slot: Slot, next: S::Capability) -> Option<CellId> {
        assert!(
            !self.words(slot).pins.shown().is_closed(),
            "retired a closed {slot:?}"
        );
        let cell = self.filled_pin_cell(next);
        let before = self.words(slot).pins.turn_over(cell);
        self.pins_left(before)
    }

    /// Closes a slot: no pin is taken on it any more. Says which cell was current if it still has
    /// pins. Closing again does nothing.
    ///
    /// The slot is used for another [`register`](Self::register) once its handles are gone: forget
    /// its name when you close it.
    ///
    /// # Panics
    ///
    /// The slot is none of ours.
    pub fn close(&mut self, slot: Slot) -> Option<CellId> {
        if self.words(slot).pins.shown().is_closed() {
            return None;
        }
        let before = self.words(slot).pins.close();
        if self.abandoned.remove(&slot) {
            self.table.vacant.push(slot);
        }
        self.pins_left(before)
    }

    /// How many pins a retired cell still has, at some instant: for explanations.
    ///
    /// # Panics
    ///
    /// The cell is none of ours.
    pub fn pins(&self, cell: CellId) -> u64 {
        self.pin_cell(cell).carried.remaining.count().unsigned_abs()
    }

    /// Takes a cell back whose last pin is gone.
    ///
    /// # Panics
    ///
    /// The cell belongs to another owner.
    pub fn reclaim(&mut self, freed: Freed<S>) -> CellId {
        assert!(
            Arc::ptr_eq(freed.table(), &self.table),
            "reclaimed a cell of another owner"
        );
        let cell = freed.cell();
        self.pin_cell(cell).carried.remaining.reset();
        self.free_pin_cell(cell);
        cell
    }

    /// Shows readers another view. In a turn it belongs to what the turn shows as a whole;
    /// otherwise it is a turn of its own.
    ///
    /// # Panics
    ///
    /// The slot is none of ours.
    #[inline]
    pub fn publish(&mut self, slot: Slot, view: S::View) {
        if self.turn % 2 == 1 {
            return self.replace_view(slot, view);
        }
        self.begin_turn();
        self.replace_view(slot, view);
        self.end_turn();
    }

    /// Begins a turn: until it ends, nobody reads several views together.
    ///
    /// # Panics
    ///
    /// A turn has begun already.
    pub fn begin_turn(&mut self) {
        assert!(self.turn.is_multiple_of(2), "a turn within a turn");
        self.turn += 1;
        // Relaxed: who sees a view of this turn has acquired it from the word that was turned over
        // after this, and so sees that the turn has begun.
        self.table.turn.store(self.turn, Ordering::Relaxed);
    }

    /// Ends a turn: what it published is now to be read together, and whoever does so sees all that
    /// was done before this.
    ///
    /// # Panics
    ///
    /// No turn has begun.
    pub fn end_turn(&mut self) {
        assert!(self.turn % 2 == 1, "a turn ended before it began");
        self.turn += 1;
        // Release pairs with the first load in [`read_all`](crate::read_all): who sees the turn's
        // end sees every view of it.
        self.table.turn.store(self.turn, Ordering::Release);
        self.collect_views();
    }

    fn replace_view(&mut self, slot: Slot, view: S::View) {
        let cell = self.filled_view_cell(view);
        let before = self.words(slot).view.turn_over(cell);
        if before.is_closed() {
            // The slot's first view.
        } else if before.count() == 0 {
            self.free_view_cell(before.cell());
        } else {
            self.view_left(before);
        }
    }

    #[cold]
    fn view_left(&mut self, before: Shown) {
        match self
            .view_cell(before.cell())
            .remaining
            .settle(before.count())
        {
            Left::Last => self.reuse_view_cell(before.cell()),
            Left::OthersStay => self.replaced_views.push(before.cell()),
        }
    }

    /// Looks for views whose readers have gone. The readers do not tell: there are few such views,
    /// at most one per thread that is being preempted in the middle of a reading.
    fn collect_views(&mut self) {
        let mut position = 0;
        while let Some(&cell) = self.replaced_views.get(position) {
            if self.view_cell(cell).remaining.is_free() {
                self.replaced_views.swap_remove(position);
                self.reuse_view_cell(cell);
            } else {
                position += 1;
            }
        }
    }

    #[inline]
    fn pins_left(&mut self, before: Shown) -> Option<CellId> {
        let cell = before.cell();
        if before.count() == 0 {
            self.free_pin_cell(cell);
            return None;
        }
        self.settle_pins(before)
    }

    fn settle_pins(&mut self, before: Shown) -> Option<CellId> {
        let cell = before.cell();
        let retired = self.pin_cell(cell);
        // SAFETY: we have not settled it yet.
        unsafe { retired.keep(Arc::clone(&self.table)) };
        match retired.carried.remaining.settle(before.count()) {
            Left::OthersStay => Some(cell),
            Left::Last => {
                // SAFETY: all had left before, so that the last one is us.
                let keeper = unsafe { retired.take_keeper() };
                self.reclaim(Freed::new(cell, keeper));
                None
            }
        }
    }

    fn vacant_slot(&mut self) -> Slot {
        while let Some(slot) = self.table.vacant.pop() {
            if self.words(slot).pins.shown().is_closed() {
                return slot;
            }
            // Its handles are gone, and it was not closed: it waits for that.
            self.abandoned.insert(slot);
        }
        // SAFETY: only the owner pushes, and it is borrowed mutably.
        Slot(unsafe { self.table.slots.push(Words::closed()) })
    }

    #[inline]
    fn words(&self, slot: Slot) -> &Words {
        assert!(slot.0 < self.table.slots.len(), "no such {slot:?}");
        // SAFETY: it was pushed, by us.
        unsafe { self.table.slots.entry(slot.0) }
    }

    #[inline]
    fn pin_cell(&self, cell: CellId) -> &PinCell<S> {
        assert!(cell.0 < self.table.pins.len(), "no such {cell:?}");
        // SAFETY: it was pushed, by us.
        unsafe { self.table.pin_cell(cell) }
    }

    #[inline]
    fn view_cell(&self, cell: CellId) -> &Cell<S::View> {
        assert!(cell.0 < self.table.views.len(), "no such view {cell:?}");
        // SAFETY: it was pushed, by us.
        unsafe { self.table.view_cell(cell) }
    }

    #[inline]
    fn filled_pin_cell(&mut self, capability: S::Capability) -> CellId {
        let cell = self.free_pins.pop().unwrap_or_else(|| {
            // SAFETY: only the owner pushes, and it is borrowed mutably.
            CellId(unsafe { self.table.pins.push(PinCell::empty()) })
        });
        // SAFETY: the cell is free, or new.
        unsafe { self.pin_cell(cell).carried.fill(capability) };
        cell
    }

    #[inline]
    fn filled_view_cell(&mut self, view: S::View) -> CellId {
        let cell = self.free_views.pop().unwrap_or_else(|| {
            // SAFETY: only the owner pushes, and it is borrowed mutably.
            CellId(unsafe { self.table.views.push(Cell::empty()) })
        });
        // SAFETY: the cell is free, or new.
        unsafe { self.view_cell(cell).fill(view) };
        cell
    }

    #[inline]
    fn free_pin_cell(&mut self, cell: CellId) {
        // SAFETY: no word shows it, and nobody is counted on it.
        unsafe { self.pin_cell(cell).carried.clear() };
        self.free_pins.push(cell);
    }

    #[inline]
    fn free_view_cell(&mut self, cell: CellId) {
        // SAFETY: no word shows it, and nobody is counted on it.
        unsafe { self.view_cell(cell).clear() };
        self.free_views.push(cell);
    }

    fn reuse_view_cell(&mut self, cell: CellId) {
        self.view_cell(cell).remaining.reset();
        self.free_view_cell(cell);
    }
}

impl<S: Shape> Drop for Owner<S> {
    fn drop(&mut self) {
        for slot in 0..self.table.slots.len() {
            // The cells that still have pins keep the table; nobody is left to be told which.
            let _retired = self.close(Slot(slot));
        }
    }
}

impl<S: Shape> fmt::Debug for Owner<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owner").finish_non_exhaustive()
    }
}
