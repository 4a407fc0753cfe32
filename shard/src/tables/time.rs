//! Times at which tables can be written.

use lowwater::{Since, Upper};
use timely::order::TotalOrder;

use crate::time::ShardTime;

/// A time at which tables can be written: totally ordered, and discrete.
///
/// A transaction closes its time for all tables, so there must be a next one; with incomparable
/// times, two transactions could each be behind the other for some table.
pub trait TableTime: ShardTime + TotalOrder {
    /// The least time after this one; `None` for the last.
    fn successor(&self) -> Option<Self>;

    /// The greatest time before this one; `None` for the first.
    fn predecessor(&self) -> Option<Self>;
}

impl TableTime for u64 {
    fn successor(&self) -> Option<Self> {
        self.checked_add(1)
    }

    fn predecessor(&self) -> Option<Self> {
        self.checked_sub(1)
    }
}

impl TableTime for u32 {
    fn successor(&self) -> Option<Self> {
        self.checked_add(1)
    }

    fn predecessor(&self) -> Option<Self> {
        self.checked_sub(1)
    }
}

/// The upper of what is complete at `time`, and at no later one.
pub(crate) fn upper_after<T: TableTime>(time: &T) -> Upper<T> {
    time.successor().map_or_else(Upper::sealed, Upper::at)
}

/// The last time at which what is written up to `upper` is complete; `None` if there is none, or
/// if it is complete for ever.
pub(crate) fn last_before<T: TableTime>(upper: &Upper<T>) -> Option<T> {
    upper.frontier().as_option()?.predecessor()
}

/// The later of two uppers.
pub(crate) fn later<T: TableTime>(one: Upper<T>, other: Upper<T>) -> Upper<T> {
    if timely::PartialOrder::less_equal(&one, &other) {
        other
    } else {
        one
    }
}

/// The time that a since of one time is.
pub(crate) fn since_at<T: TableTime>(time: Option<T>) -> Since<T> {
    time.map_or_else(Since::minimum, Since::at)
}
