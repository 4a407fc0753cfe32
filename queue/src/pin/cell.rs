//! What a word points at: something written once, and how many still look at it.

use super::word::COUNT_MAX;
use crate::sync::{AtomicI64, Ordering, UnsafeCell};

/// What `remaining` starts at, and what settling takes away. Until the owner has added the count
/// that it found in the word, clones and leavers count from here: so that none of them can look
/// like the last.
const BIAS: i64 = 1 << 40;

/// Written by the owner while nobody can see it, read by those that are counted on it.
pub(crate) struct Cell<C> {
    content: UnsafeCell<Option<C>>,
    pub(crate) remaining: Remaining,
}

// SAFETY: `content` is written only by the owner while nobody is counted on the cell, and shared
// with every thread that is; see `Cell::fill` and `Cell::content`, whose callers keep it so.
unsafe impl<C: Send + Sync> Sync for Cell<C> {}

impl<C> Cell<C> {
    pub(crate) fn empty() -> Self {
        Self {
            content: UnsafeCell::new(None),
            remaining: Remaining::new(),
        }
    }

    /// # Safety
    ///
    /// Nobody else can reach the cell: no word shows it, and nobody is counted on it.
    #[inline]
    pub(crate) unsafe fn fill(&self, content: C) {
        // SAFETY: our caller is alone with the cell.
        self.content
            .with_mut(|slot| unsafe { *slot = Some(content) });
    }

    /// Drops the content.
    ///
    /// # Safety
    ///
    /// As for [`fill`](Self::fill).
    #[inline]
    pub(crate) unsafe fn clear(&self) {
        if std::mem::needs_drop::<C>() {
            // SAFETY: our caller is alone with the cell.
            self.content.with_mut(|slot| unsafe { *slot = None });
        }
    }

    /// # Safety
    ///
    /// The caller is counted on the cell, and stays so for as long as it keeps the reference.
    #[inline]
    pub(crate) unsafe fn content(&self) -> &C {
        // SAFETY: the owner writes only when nobody is counted.
        let content = self.content.with(|slot| unsafe { &*slot });
        content
            .as_ref()
            .expect("a cell that somebody is counted on is filled")
    }
}

/// How many are still on a cell that its word does not show any more.
pub(crate) struct Remaining(AtomicI64);

/// Whether somebody was the last to leave.
#[must_use]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Left {
    Last,
    OthersStay,
}

impl Left {
    pub(super) fn when(last: bool) -> Self {
        if last { Self::Last } else { Self::OthersStay }
    }
}

impl Remaining {
    fn new() -> Self {
        Self(AtomicI64::new(BIAS))
    }

    /// Makes a free cell ready for its next use.
    pub(crate) fn reset(&self) {
        // Relaxed: the word that shows the cell next is released after it.
        self.0.store(BIAS, Ordering::Relaxed);
    }

    /// Counts those that the word counted until it was turned over; for the owner, once per use.
    pub(crate) fn settle(&self, count: u32) -> Left {
        let change = i64::from(count) - BIAS;
        // Release pairs with the acquire in [`leave`](Self::leave): the last one finds what the
        // owner has put into the cell for it. Acquire pairs with the release there: if all have
        // left in between, the owner writes into the cell after their last look at it.
        Left::when(self.0.fetch_add(change, Ordering::AcqRel) == -change)
    }

    pub(crate) fn leave(&self) -> Left {
        // Release, that our last look at the cell comes before the owner writes into it; the one
        // who acquires it is the last to leave, who tells the owner, or [`settle`](Self::settle).
        // Acquire pairs with those that left before, and with the owner who settled.
        Left::when(self.0.fetch_sub(1, Ordering::AcqRel) == 1)
    }

    /// Counts one more, for somebody who is on the cell; false, and nothing changed, where there
    /// is no room.
    pub(crate) fn join(&self) -> bool {
        // Relaxed, as in `Word::join`: who is on the cell stays until after this.
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        let room = Self::live(before) < i64::from(COUNT_MAX);
        if !room {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
        room
    }

    /// How many are on a settled cell, at some instant.
    pub(crate) fn count(&self) -> i64 {
        Self::live(self.0.load(Ordering::Relaxed)).max(0)
    }

    /// Whether all have left a settled cell, so that the owner may write into it.
    pub(crate) fn is_free(&self) -> bool {
        // Acquire pairs with the release in [`leave`](Self::leave).
        self.0.load(Ordering::Acquire) == 0
    }

    /// Before the cell is settled, those that the word counted are not among them.
    fn live(remaining: i64) -> i64 {
        if remaining > BIAS / 2 {
            remaining - BIAS
        } else {
            remaining
        }
    }

    #[cfg(test)]
    pub(crate) fn set_count(&self, count: i64) {
        self.0.store(count, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::{BIAS, COUNT_MAX, Left, Remaining};

    #[test]
    fn before_it_is_settled_nobody_looks_like_the_last() {
        let remaining = Remaining::new();
        for _ in 0..10 {
            assert!(remaining.join());
            assert_eq!(remaining.leave(), Left::OthersStay);
            assert_eq!(remaining.leave(), Left::OthersStay);
        }
        assert_eq!(remaining.settle(10), Left::Last);
    }

    #[test]
    fn after_it_is_settled_the_last_one_knows() {
        let remaining = Remaining::new();
        assert_eq!(remaining.settle(2), Left::OthersStay);
        assert_eq!((remaining.count(), remaining.is_free()), (2, false));
        assert_eq!(remaining.leave(), Left::OthersStay);
        assert_eq!(remaining.leave(), Left::Last);
        assert!(remaining.is_free());
    }

    #[test]
    fn the_limit_holds_on_both_sides_of_the_settling() {
        let remaining = Remaining::new();
        remaining.set_count(BIAS + i64::from(COUNT_MAX));
        assert!(!remaining.join());
        remaining.set_count(BIAS - i64::from(COUNT_MAX));
        assert!(
            remaining.join(),
            "all that the word counted have left: none is there yet"
        );
        remaining.set_count(i64::from(COUNT_MAX));
        assert!(!remaining.join());
        remaining.set_count(i64::from(COUNT_MAX) - 1);
        assert!(remaining.join());
    }
}
