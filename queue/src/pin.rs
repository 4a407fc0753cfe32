//! Pins: how somebody keeps what a cell carries, without asking its owner.

use std::error::Error;
use std::fmt;
use std::ptr::NonNull;

mod cell;
mod chunks;
mod handle;
mod keeper;
mod owner;
mod registration;
mod stock;
mod table;
mod word;

use self::cell::Left;
pub use self::handle::Handle;
pub use self::owner::Owner;
pub(crate) use self::table::Place;
pub use self::table::Table;
pub(crate) use self::word::Counted;
use crate::sync::Arc;

/// The types that an owner shares with its readers.
pub trait Shape: Sized + Send + Sync + 'static {
    /// What a cell carries, and a pin on it keeps.
    type Capability: Send + Sync + 'static;
    /// What is published per slot.
    type View: Send + Sync + 'static;
    /// What everybody gets at through the table, such as a way to tell the owner.
    type Context: Send + Sync + 'static;

    /// Takes note that the last pin of a retired cell was given back.
    ///
    /// Called on the thread of whoever gave it back, also after the owner is gone. It must not
    /// block, and must not panic. Whatever becomes of `freed`, memory is safe; the cell is used
    /// again after [`Owner::reclaim`].
    fn freed(freed: Freed<Self>);
}

/// The name of a slot.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Slot(u32);

impl Slot {
    /// The slot's number, for recordings.
    pub fn index(self) -> u32 {
        self.0
    }

    /// The slot of that number.
    pub fn from_index(index: u32) -> Self {
        Self(index)
    }
}

/// The name of a cell.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CellId(u32);

impl CellId {
    /// What a word shows that shows no cell.
    const NONE: Self = Self(u32::MAX);

    /// The cell's number, for recordings.
    pub fn index(self) -> u32 {
        self.0
    }

    /// The cell of that number.
    pub fn from_index(index: u32) -> Self {
        Self(index)
    }
}

/// Why there is no pin.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum PinError {
    /// The slot is closed, for good.
    Closed,
    /// The cell has as many pins as can be counted.
    TooManyPins,
}

impl fmt::Display for PinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "no pin can be taken any more",
            Self::TooManyPins => "too many pins",
        })
    }
}

impl Error for PinError {}

/// Keeps one cell, and what it carries. Dropping it gives it back: never fails, never waits.
#[must_use = "dropping a pin gives it back"]
pub struct Pin<S: Shape> {
    place: NonNull<Place<S>>,
    table: NonNull<Table<S>>,
    /// The cell's number, in a whole word: a half would be copied together with the padding behind
    /// it, and the processor cannot forward a half that was just stored to a load of the whole. That
    /// took a quarter of the time of a hold.
    cell: u64,
}

// SAFETY: the pointers are references, kept alive by the pin, to what is `Sync`; dropping calls
// `Shape::freed` with what is `Send`, on whatever thread it is.
unsafe impl<S: Shape> Send for Pin<S> {}
// SAFETY: as above.
unsafe impl<S: Shape> Sync for Pin<S> {}

impl<S: Shape> Pin<S> {
    /// # Safety
    ///
    /// The caller was counted on `cell`, and gives the count away to the pin.
    ///
    /// From then on the pin keeps both pointers valid. While its cell is current, the owner is
    /// there, for it closes all words before it goes, and keeps the table. When it is not, the
    /// cell keeps the table until the last pin is given back.
    #[inline]
    unsafe fn new(place: NonNull<Place<S>>, table: NonNull<Table<S>>, cell: CellId) -> Self {
        let cell = u64::from(cell.0);
        Self { place, table, cell }
    }

    /// What the pin keeps.
    #[inline]
    pub fn capability(&self) -> &S::Capability {
        // SAFETY: the pin is counted on the cell, which was pushed before the word showed it.
        unsafe { self.table().pin_cell(self.cell()).carried.content() }
    }

    /// Another pin on the same cell, also when its slot has moved on or is closed.
    ///
    /// # Errors
    ///
    /// [`PinError::TooManyPins`] if the cell has 2³¹ already.
    pub fn try_clone(&self) -> Result<Self, PinError> {
        let room = match self.place().pins.join(self.cell()) {
            Counted::ByWord => true,
            Counted::NoRoom => false,
            // SAFETY: the pin is counted on the cell, which was pushed before the word showed it.
            Counted::ByCell => unsafe { self.table().pin_cell(self.cell()) }
                .carried
                .remaining
                .join(),
        };
        if !room {
            return Err(PinError::TooManyPins);
        }
        // SAFETY: the word, or the cell, has just counted it.
        Ok(unsafe { Self::new(self.place, self.table, self.cell()) })
    }

    /// Whether the slot still showed this pin's cell a moment ago.
    pub fn is_current(&self) -> bool {
        self.place().pins.shown().cell() == self.cell()
    }

    /// What the owner, its handles and its pins share.
    pub fn table(&self) -> &Table<S> {
        // SAFETY: the pin keeps it.
        unsafe { self.table.as_ref() }
    }

    #[inline]
    fn cell(&self) -> CellId {
        CellId(self.cell as u32)
    }

    #[inline]
    pub(crate) fn place(&self) -> &Place<S> {
        // SAFETY: the pin keeps the table, and the table its slots.
        unsafe { self.place.as_ref() }
    }

    #[inline(never)]
    fn leave_retired(&self) {
        // SAFETY: the pin is counted on the cell, which was pushed before the word showed it.
        let retired = unsafe { self.table().pin_cell(self.cell()) };
        match retired.carried.remaining.leave() {
            // The table may be gone already: not one more look.
            Left::OthersStay => {}
            Left::Last => {
                // SAFETY: we were the last.
                let table = unsafe { retired.keeper.take() };
                S::freed(Freed::new(self.cell(), table));
            }
        }
    }
}

impl<S: Shape> Drop for Pin<S> {
    #[inline]
    fn drop(&mut self) {
        match self.place().pins.leave(self.cell()) {
            Counted::ByCell => self.leave_retired(),
            Counted::ByWord | Counted::NoRoom => {}
        }
    }
}

impl<S: Shape> fmt::Debug for Pin<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pin")
            .field("cell", &self.cell())
            .finish_non_exhaustive()
    }
}

/// A retired cell whose last pin was given back. There is one for each, whoever gave it back.
pub struct Freed<S: Shape> {
    cell: CellId,
    table: Arc<Table<S>>,
}

impl<S: Shape> Freed<S> {
    fn new(cell: CellId, table: Arc<Table<S>>) -> Self {
        Self { cell, table }
    }

    /// Which cell.
    pub fn cell(&self) -> CellId {
        self.cell
    }

    /// What the owner, its handles and its pins share.
    pub fn table(&self) -> &Arc<Table<S>> {
        &self.table
    }
}

impl<S: Shape> fmt::Debug for Freed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Freed")
            .field("cell", &self.cell)
            .finish_non_exhaustive()
    }
}
