//! The memory that an owner shares with its readers, and that outlives both.

use std::fmt;

use super::cell::Cell;
use super::chunks::Chunks;
use super::word::Word;
use super::{CellId, Shape, Slot};
use crate::sync::{Arc, AtomicU64, CachePadded, Queue, UnsafeCell};

/// What an owner, its handles and its pins share: slots, cells, and the owner's context.
///
/// It lives until the owner, every handle, and every pin are gone.
pub struct Table<S: Shape> {
    pub(super) slots: Chunks<Words>,
    pub(super) pins: Chunks<PinCell<S>>,
    pub(crate) views: Chunks<Cell<S::View>>,
    /// Slots whose handles are all gone.
    pub(super) vacant: Queue<Slot>,
    /// Odd while the owner is in the middle of a turn.
    pub(crate) turn: CachePadded<AtomicU64>,
    pub(super) context: S::Context,
}

/// What a slot publishes. On a cache line of its own: whoever pins one collection should not slow
/// down those that pin its neighbour.
#[repr(align(64))]
pub(crate) struct Words {
    pub(crate) pins: Word,
    pub(crate) view: Word,
}

/// The cell of a capability.
pub(super) struct PinCell<S: Shape> {
    pub(super) carried: Cell<S::Capability>,
    /// A retired cell that still has pins keeps its own table alive by this; whoever frees it
    /// takes it out.
    keeper: UnsafeCell<Option<Arc<Table<S>>>>,
}

// SAFETY: the keeper is written by the owner before it settles the cell, and taken by the one who
// was last to leave, who is the only one to touch it then; `Remaining` orders the two.
unsafe impl<S: Shape> Sync for PinCell<S> {}

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

impl Words {
    pub(super) fn closed() -> Self {
        Self {
            pins: Word::closed(),
            view: Word::closed(),
        }
    }
}

impl<S: Shape> PinCell<S> {
    pub(super) fn empty() -> Self {
        Self {
            carried: Cell::empty(),
            keeper: UnsafeCell::new(None),
        }
    }

    /// # Safety
    ///
    /// The caller is the owner, and has not settled the cell yet.
    pub(super) unsafe fn keep(&self, table: Arc<Table<S>>) {
        // SAFETY: nobody looks at the keeper before the cell is settled.
        self.keeper
            .with_mut(|keeper| unsafe { *keeper = Some(table) });
    }

    /// # Safety
    ///
    /// The caller was the last to leave the cell.
    pub(super) unsafe fn take_keeper(&self) -> Arc<Table<S>> {
        // SAFETY: there is one last one, and the owner wrote before it settled.
        let keeper = self.keeper.with_mut(|keeper| unsafe { (*keeper).take() });
        keeper.expect("a settled cell keeps its table until the last one leaves")
    }
}
