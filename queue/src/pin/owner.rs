//! The owner's side: registering, retiring, closing, publishing.

use std::collections::BTreeSet;
use std::fmt;

use super::cell::Left;
use super::stock::Stock;
use super::table::{Place, Table};
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
    free_pins: Stock,
    free_views: Stock,
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
            free_pins: Stock::new(),
            free_views: Stock::new(),
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
        // SAFETY: we are the owner, and this is the stock of these cells.
        let cell = unsafe { self.free_pins.fill(&self.table.pins, capability) };
        let place = self.table.place(slot);
        let _closed = place.pins.turn_over(cell);
        // SAFETY: the slot was vacant.
        unsafe { Handle::first(&self.table, place) }
    }

    /// Puts a cell that carries `next` in the place of the current one. Says which cell that was
    /// if it still has pins: it stays as it is until [`reclaim`](Self::reclaim).
    ///
    /// # Panics
    ///
    /// The slot is closed, or none of ours.
    #[inline]
    pub fn retire(&mut self, slot: Slot, next: S::Capability) -> Option<CellId> {
        let word = &self.table.place(slot).pins;
        assert!(!word.shown().is_closed(), "retired a closed {slot:?}");
        // SAFETY: we are the owner, and this is the stock of these cells.
        let cell = unsafe { self.free_pins.fill(&self.table.pins, next) };
        let before = word.turn_over(cell);
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
        let word = &self.table.place(slot).pins;
        if word.shown().is_closed() {
            return None;
        }
        let before = word.close();
        if self.abandoned.remove(&slot) {
            self.table.vacant.push(slot);
        }
        self.pins_left(before)
    }

    /// How many pins the current cell of a slot has, at some instant; none where it is closed.
    ///
    /// # Panics
    ///
    /// The slot is none of ours.
    pub fn current_pins(&self, slot: Slot) -> u64 {
        let shown = self.table.place(slot).pins.shown();
        if shown.is_closed() {
            return 0;
        }
        u64::from(shown.count())
    }

    /// How many pins a retired cell still has, at some instant: for explanations.
    ///
    /// # Panics
    ///
    /// The cell is none of ours.
    pub fn pins(&self, cell: CellId) -> u64 {
        assert!(cell.0 < self.table.pins.len(), "no such {cell:?}");
        // SAFETY: it was pushed, by us.
        unsafe { self.table.pin_cell(cell) }
            .carried
            .remaining
            .count()
            .unsigned_abs()
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
        // SAFETY: we are the owner; the last one has left the cell.
        unsafe { self.free_pins.reuse(&self.table.pins, cell) };
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

    #[inline]
    fn replace_view(&mut self, slot: Slot, view: S::View) {
        let word = &self.table.place(slot).view;
        // SAFETY: we are the owner, and this is the stock of these cells.
        let cell = unsafe { self.free_views.fill(&self.table.views, view) };
        let before = word.turn_over(cell);
        if before.is_closed() {
            // The slot's first view.
        } else if before.count() == 0 {
            // SAFETY: as above; the word does not show it any more, and nobody was on it.
            unsafe { self.free_views.free(&self.table.views, before.cell()) };
        } else {
            self.view_left(before);
        }
    }

    #[cold]
    fn view_left(&mut self, before: Shown) {
        // SAFETY: the word has shown it.
        let replaced = unsafe { self.table.view_cell(before.cell()) };
        match replaced.remaining.settle(before.count()) {
            // SAFETY: we are the owner; all have left the cell.
            Left::Last => unsafe { self.free_views.reuse(&self.table.views, before.cell()) },
            Left::OthersStay => self.replaced_views.push(before.cell()),
        }
    }

    /// Looks for views whose readers have gone. The readers do not tell: there are few such views,
    /// at most one per thread that is being preempted in the middle of a reading.
    fn collect_views(&mut self) {
        let mut position = 0;
        while let Some(&cell) = self.replaced_views.get(position) {
            // SAFETY: a word has shown it.
            if unsafe { self.table.view_cell(cell) }.remaining.is_free() {
                self.replaced_views.swap_remove(position);
                // SAFETY: we are the owner; all have left the cell.
                unsafe { self.free_views.reuse(&self.table.views, cell) };
            } else {
                position += 1;
            }
        }
    }

    #[inline]
    fn pins_left(&mut self, before: Shown) -> Option<CellId> {
        if before.count() > 0 {
            return self.settle_pins(before);
        }
        // SAFETY: we are the owner; the word does not show it any more, and nobody was on it.
        unsafe { self.free_pins.free(&self.table.pins, before.cell()) };
        None
    }

    fn settle_pins(&mut self, before: Shown) -> Option<CellId> {
        let cell = before.cell();
        // SAFETY: the word has shown it.
        let retired = unsafe { self.table.pin_cell(cell) };
        // SAFETY: we have not settled it yet.
        unsafe { retired.keeper.keep(Arc::clone(&self.table)) };
        match retired.carried.remaining.settle(before.count()) {
            Left::OthersStay => Some(cell),
            Left::Last => {
                // SAFETY: all had left before, so that the last one is us.
                let table = unsafe { retired.keeper.take() };
                self.reclaim(Freed::new(cell, table));
                None
            }
        }
    }

    fn vacant_slot(&mut self) -> Slot {
        while let Some(slot) = self.table.vacant.pop() {
            if self.table.place(slot).pins.shown().is_closed() {
                return slot;
            }
            // Its handles are gone, and it was not closed: it waits for that.
            self.abandoned.insert(slot);
        }
        let slot = Slot(self.table.slots.len());
        // SAFETY: only the owner pushes, and it is borrowed mutably.
        let pushed = unsafe { self.table.slots.push(Place::closed(slot)) };
        assert_eq!(pushed, slot.0, "there is one who pushes");
        slot
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
