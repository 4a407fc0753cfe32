//! Reading what the owner publishes, of one slot or of several together.

use crate::pin::{CellId, Counted, Handle, Pin, Place, Shape, Table};
use crate::sync::{Arc, Ordering, READ_TRIES_MAX, spin_loop};

impl<S: Shape> Handle<S> {
    /// Reads the view that was published last, also after the slot was closed or the owner went.
    ///
    /// Never waits and never makes the owner wait, but keeps a view's memory from being used again
    /// while it runs: `read` should be short.
    #[inline]
    pub fn read<R>(&self, read: impl FnOnce(&S::View) -> R) -> R {
        read(Reading::at(self.place(), self.shared()).view())
    }
}

impl<S: Shape> Pin<S> {
    /// Reads the view that the pin's slot shows, as [`Handle::read`] does. Where the slot was closed
    /// and registered again since, that is somebody else's.
    pub fn read<R>(&self, read: impl FnOnce(&S::View) -> R) -> R {
        read(Reading::at(self.place(), self.table()).view())
    }
}

/// Reads the views of several slots as they were together at the end of some turn.
///
/// Whoever reads what a turn published sees all that the owner did in that turn. `None` after a
/// bounded number of tries if turns kept coming in between, or if the handles are not all of one
/// owner: ask the owner then.
pub fn read_all<S: Shape, R>(
    handles: &[&Handle<S>],
    mut read: impl FnMut(&S::View) -> R,
) -> Option<Vec<R>> {
    let Some(first) = handles.first() else {
        return Some(Vec::new());
    };
    if !handles
        .iter()
        .all(|handle| Arc::ptr_eq(handle.table(), first.table()))
    {
        return None;
    }
    let turn = &first.shared().turn;
    let mut results = Vec::with_capacity(handles.len());
    for _ in 0..READ_TRIES_MAX {
        // Acquire pairs with the release in [`Owner::end_turn`](crate::Owner::end_turn): we read
        // no view that is older than this turn's.
        let before = turn.load(Ordering::Acquire);
        if before.is_multiple_of(2) {
            results.clear();
            results.extend(handles.iter().map(|handle| handle.read(&mut read)));
            // Relaxed: had we read a view of a later turn, we would have acquired it with the
            // beginning of that turn, and this could not miss it.
            if turn.load(Ordering::Relaxed) == before {
                return Some(results);
            }
        }
        spin_loop();
    }
    None
}

/// One reader of one view, counted on its cell.
struct Reading<'a, S: Shape> {
    place: &'a Place<S>,
    table: &'a Table<S>,
    cell: CellId,
}

impl<'a, S: Shape> Reading<'a, S> {
    #[inline]
    fn at(place: &'a Place<S>, table: &'a Table<S>) -> Self {
        // Nobody keeps or clones a reading, so that there are never more than calls of `read`, and
        // the count needs no limit. The word shows a view from the slot's first registration on, and
        // nobody has a handle or a pin before that.
        Self {
            place,
            table,
            cell: place.view.enter().cell(),
        }
    }

    #[inline]
    fn view(&self) -> &S::View {
        // SAFETY: we are counted on the cell; it was pushed before the word showed it.
        unsafe { self.table.view_cell(self.cell).content() }
    }
}

impl<S: Shape> Drop for Reading<'_, S> {
    #[inline]
    fn drop(&mut self) {
        if self.place.view.leave(self.cell) == Counted::ByCell {
            // SAFETY: it was pushed before the word showed it.
            let replaced = unsafe { self.table.view_cell(self.cell) };
            // The owner looks for itself whether we were the last.
            let _ = replaced.remaining.leave();
        }
    }
}
