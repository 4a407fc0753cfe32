//! The cells that the owner may write into.

use super::CellId;
use super::cell::Cell;
use super::chunks::Chunks;

/// What a table has cells in.
pub(super) trait Entry {
    type Content;

    fn empty() -> Self;

    fn cell(&self) -> &Cell<Self::Content>;
}

impl<C> Entry for Cell<C> {
    type Content = C;

    fn empty() -> Self {
        Self::empty()
    }

    #[inline]
    fn cell(&self) -> &Self {
        self
    }
}

/// Cells that no word shows and nobody is counted on: empty, their counts reset. The last one that
/// came is the first to go, for it is still in the processor's cache.
pub(super) struct Stock {
    free: Vec<CellId>,
}

impl Stock {
    pub(super) fn new() -> Self {
        Self { free: Vec::new() }
    }

    /// Fills a free cell, or a new one.
    ///
    /// # Safety
    ///
    /// The caller is the owner, and the stock is the one of these cells.
    #[inline]
    pub(super) unsafe fn fill<E: Entry>(
        &mut self,
        cells: &Chunks<E>,
        content: E::Content,
    ) -> CellId {
        let id = match self.free.pop() {
            Some(id) => id,
            // SAFETY: only the owner pushes.
            None => CellId(unsafe { cells.push(E::empty()) }),
        };
        // SAFETY: the cell was pushed, and is free or new.
        unsafe { cells.entry(id.0).cell().fill(content) };
        id
    }

    /// Takes back a cell that was not retired with somebody on it.
    ///
    /// # Safety
    ///
    /// As for [`fill`](Self::fill); and no word shows the cell, and nobody is counted on it.
    #[inline]
    pub(super) unsafe fn free<E: Entry>(&mut self, cells: &Chunks<E>, id: CellId) {
        // SAFETY: the cell was pushed, and nobody can reach it.
        unsafe { cells.entry(id.0).cell().clear() };
        self.free.push(id);
    }

    /// Takes back a cell that was retired, and that all have left.
    ///
    /// # Safety
    ///
    /// As for [`free`](Self::free).
    pub(super) unsafe fn reuse<E: Entry>(&mut self, cells: &Chunks<E>, id: CellId) {
        // SAFETY: the cell was pushed.
        unsafe { cells.entry(id.0) }.cell().remaining.reset();
        // SAFETY: as our caller promises.
        unsafe { self.free(cells, id) };
    }
}
