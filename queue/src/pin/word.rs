//! The word that a slot publishes: which cell is current, and how many are on it.

use super::CellId;
use crate::sync::{AtomicU64, Ordering};

const INDEX_SHIFT: u32 = 32;

/// How many may be on one cell through its word. Far below what would carry into the index: the
/// adds of those that are about to be refused need room too.
pub(crate) const COUNT_MAX: u32 = 1 << 31;

/// `cell index << 32 | count`.
pub(crate) struct Word(AtomicU64);

/// What a word showed at one instant.
#[derive(Clone, Copy)]
pub(crate) struct Shown(u64);

/// Where somebody who left, or who wants to come in, was found.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Counted {
    /// On the current cell: the word has counted it, and there is nothing more to do.
    ByWord,
    /// On a cell that the word does not show any more: the cell must count it.
    ByCell,
    /// On the current cell, which has no room for more.
    NoRoom,
}

impl Shown {
    const CLOSED: Self = Self::fresh(CellId::NONE);

    const fn fresh(cell: CellId) -> Self {
        Self((cell.0 as u64) << INDEX_SHIFT)
    }

    pub(crate) fn cell(self) -> CellId {
        CellId((self.0 >> INDEX_SHIFT) as u32)
    }

    pub(crate) fn count(self) -> u32 {
        self.0 as u32
    }

    pub(crate) fn is_closed(self) -> bool {
        self.cell() == CellId::NONE
    }
}

impl Word {
    pub(crate) fn closed() -> Self {
        Self(AtomicU64::new(Shown::CLOSED.0))
    }

    /// What it shows. Only the owner changes the cell, so that for the owner this is the present.
    #[inline]
    pub(crate) fn shown(&self) -> Shown {
        Shown(self.0.load(Ordering::Relaxed))
    }

    /// Counts one more on whatever cell is current; says what was there before.
    #[inline]
    pub(crate) fn enter(&self) -> Shown {
        // Acquire pairs with the release in [`turn_over`](Self::turn_over): who sees the cell's
        // index sees what the owner wrote into the cell before. Whoever entered or left in between
        // did so by an atomic update, which hands the release on.
        Shown(self.0.fetch_add(1, Ordering::Acquire))
    }

    /// Counts one less, if it is on `cell` that the one is.
    #[inline]
    pub(crate) fn leave(&self, cell: CellId) -> Counted {
        let mut shown = self.shown();
        while shown.cell() == cell {
            debug_assert!(shown.count() > 0, "left a cell that nobody was on");
            // Release pairs with the acquire in [`turn_over`](Self::turn_over): the owner that
            // finds nobody on the cell, and writes into it, does so after our last look at it.
            match self.0.compare_exchange_weak(
                shown.0,
                shown.0 - 1,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Counted::ByWord,
                Err(actual) => shown = Shown(actual),
            }
        }
        Counted::ByCell
    }

    /// Counts one more on `cell`, for somebody who is on it already.
    #[inline]
    pub(crate) fn join(&self, cell: CellId) -> Counted {
        let mut shown = self.shown();
        while shown.cell() == cell {
            if shown.count() >= COUNT_MAX {
                return Counted::NoRoom;
            }
            // Relaxed: the one who is on it has seen the cell's content already, and stays until
            // after this.
            match self.0.compare_exchange_weak(
                shown.0,
                shown.0 + 1,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Counted::ByWord,
                Err(actual) => shown = Shown(actual),
            }
        }
        Counted::ByCell
    }

    /// Shows `cell` instead of the one before, with nobody on it; for the owner alone. Says exactly
    /// how many were on the one before: they are the cell's to count from now on.
    #[inline]
    pub(crate) fn turn_over(&self, cell: CellId) -> Shown {
        // Release pairs with the acquire in [`enter`](Self::enter), acquire with the release in
        // [`leave`](Self::leave).
        Shown(self.0.swap(Shown::fresh(cell).0, Ordering::AcqRel))
    }

    /// Shows no cell, for as long as the slot is in use: nobody can be on it through this word.
    pub(crate) fn close(&self) -> Shown {
        self.turn_over(CellId::NONE)
    }

    #[cfg(test)]
    pub(crate) fn set_count(&self, count: u32) {
        let cell = self.shown().cell();
        self.0
            .store(Shown::fresh(cell).0 + u64::from(count), Ordering::SeqCst);
    }
}
