//! The memory that an owner shares with its readers, and that outlives both.

use std::fmt;

use super::cell::Cell;
use super::chunks::Chunks;
use super::keeper::Keeper;
use super::registration::Registration;
use super::stock::Entry;
use super::word::Word;
use super::{CellId, Shape, Slot};
use crate::sync::{AtomicU64, CachePadded, Queue};

/// What an owner, its handles and its pins share: slots, cells, and the owner's context.
///
/// It lives until the owner, every handle, and every pin are gone.
pub struct Table<S: Shape> {
    pub(super) slots: Chunks<Place<S>>,
    pub(super) pins: Chunks<PinCell<S>>,
    pub(crate) views: Chunks<Cell<S::View>>,
    /// Slots whose handles are all gone.
    pub(super) vacant: Queue<Slot>,
    /// Odd while the owner is in the middle of a turn.
    pub(crate) turn: CachePadded<AtomicU64>,
    pub(super) context: S::Context,
}

/// A slot. On a cache line of its own: whoever pins one collection should not slow down those that
/// pin its neighbour.
#[repr(align(64))]
pub(crate) struct Place<S: Shape> {
    pub(crate) pins: Word,
    pub(crate) view: Word,
    pub(super) registration: Registration<S>,
    pub(super) slot: Slot,
}

/// The cell of a capability.
pub(super) struct PinCell<S: Shape> {
    pub(super) carried: Cell<S::Capability>,
    /// A retired cell that still has pins keeps its own table.
    pub(super) keeper: Keeper<S>,
}

impl<S: Shape> Table<S> {
    pub(super) fn new(context: S::Context) -> Self {
        Self {
            slots: Chunks::new(),
            pins: Chunks::new(),
            views: Chunks::new(),
            vacant: Queue::new(),
            turn: CachePadded::new(AtomicU64::new(0)),
            context,
        }
    }

    /// What the owner was made with.
    pub fn context(&self) -> &S::Context {
        &self.context
    }

    /// For the owner, who has pushed the slots.
    #[inline]
    pub(super) fn place(&self, slot: Slot) -> &Place<S> {
        assert!(slot.0 < self.slots.len(), "no such {slot:?}");
        // SAFETY: it was pushed.
        unsafe { self.slots.entry(slot.0) }
    }

    /// # Safety
    ///
    /// The cell's push happened before this.
    #[inline]
    pub(super) unsafe fn pin_cell(&self, cell: CellId) -> &PinCell<S> {
        // SAFETY: as our caller promises.
        unsafe { self.pins.entry(cell.0) }
    }

    /// # Safety
    ///
    /// The cell's push happened before this.
    #[inline]
    pub(crate) unsafe fn view_cell(&self, cell: CellId) -> &Cell<S::View> {
        // SAFETY: as our caller promises.
        unsafe { self.views.entry(cell.0) }
    }
}

impl<S: Shape> fmt::Debug for Table<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").finish_non_exhaustive()
    }
}

impl<S: Shape> Place<S> {
    pub(super) fn closed(slot: Slot) -> Self {
        Self {
            pins: Word::closed(),
            view: Word::closed(),
            registration: Registration::none(),
            slot,
        }
    }
}

impl<S: Shape> Entry for PinCell<S> {
    type Content = S::Capability;

    fn empty() -> Self {
        Self {
            carried: Cell::empty(),
            keeper: Keeper::empty(),
        }
    }

    #[inline]
    fn cell(&self) -> &Cell<S::Capability> {
        &self.carried
    }
}
