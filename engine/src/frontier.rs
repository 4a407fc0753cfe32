//! [`Since`] and [`Upper`]: frontiers that cannot be swapped by mistake.
//!
//! Both wrap an [`Antichain`]. Comparisons go through [`PartialOrder`], everywhere: for partially
//! ordered times `!(a < b)` is not `b <= a`.

use std::fmt;

use differential_dataflow::lattice::Lattice;
use timely::PartialOrder;
use timely::progress::{Antichain, Timestamp};

/// What a time must be: totally ordered (`u64`) or partially (`Product<u64, u64>`).
///
/// Implemented for every type that has these bounds; there is nothing to implement by hand.
pub trait Time: Timestamp + Lattice + Send + Sync {}

impl<T: Timestamp + Lattice + Send + Sync> Time for T {}

/// From when on a collection can be read: every time `t` with `since ≤ t`.
///
/// The empty frontier is the greatest: nothing can be read any more, the collection is *gone*.
#[derive(Debug)]
pub struct Since<T>(Antichain<T>);

/// How far a collection is written: times not beyond the upper are complete.
///
/// The empty frontier is the greatest: nothing more will come, the collection is *sealed*.
#[derive(Debug)]
pub struct Upper<T>(Antichain<T>);

impl<T: Time> Since<T> {
    /// The since `{time}`.
    pub fn at(time: T) -> Self {
        Since(Antichain::from_elem(time))
    }

    /// The least since: everything can be read.
    pub fn minimum() -> Self {
        Since::at(T::minimum())
    }

    /// The empty frontier: nothing can be read.
    pub fn gone() -> Self {
        Since(Antichain::new())
    }

    /// True iff nothing can be read any more.
    pub fn is_gone(&self) -> bool {
        self.0.is_empty()
    }

    /// True iff the collection can be read as of `time`.
    pub fn can_read(&self, time: &T) -> bool {
        self.0.less_equal(time)
    }

    /// The greatest since that is not later than either.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        Since(self.0.meet(&other.0))
    }

    /// The least since that is not earlier than either.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        Since(self.0.join(&other.0))
    }
}

impl<T: Time> Upper<T> {
    /// The upper `{time}`.
    pub fn at(time: T) -> Self {
        Upper(Antichain::from_elem(time))
    }

    /// The least upper: nothing has been written.
    pub fn minimum() -> Self {
        Upper::at(T::minimum())
    }

    /// The empty frontier: written to the end.
    pub fn sealed() -> Self {
        Upper(Antichain::new())
    }

    /// True iff nothing more will be written.
    pub fn is_sealed(&self) -> bool {
        self.0.is_empty()
    }

    /// True iff nothing has been written: the upper is `{minimum}`.
    pub fn is_minimum(&self) -> bool {
        self.0.elements() == [T::minimum()]
    }

    /// True iff the collection is complete as of `time`: the upper is not `≤ time`.
    pub fn is_complete_at(&self, time: &T) -> bool {
        !self.0.less_equal(time)
    }

    /// True iff this upper is past `frontier`: no element of it is `≤` an element of `frontier`.
    ///
    /// Everything at the frontier's own times is then complete. Nothing is past the empty frontier
    /// but the sealed upper.
    pub fn is_past(&self, frontier: &Antichain<T>) -> bool {
        is_past(&self.0, frontier)
    }
}

/// No element of `frontier` is `≤` an element of `bound`; only the empty one is past the empty one.
pub(crate) fn is_past<T: Time>(frontier: &Antichain<T>, bound: &Antichain<T>) -> bool {
    frontier.is_empty() || !bound.is_empty() && bound.iter().all(|time| !frontier.less_equal(time))
}

/// What is known of one collection at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frontiers<T> {
    /// How far it is written.
    pub upper: Upper<T>,
    /// What the collection itself keeps readable, by its policy; new holds start here.
    pub implied: Since<T>,
    /// The *planned* since: the frontier of the implied capability and of all that others hold.
    pub since: Since<T>,
    /// The since that is durable in the collection's shard, never beyond the planned one unless
    /// somebody else moved the shard. Only this one permits to delete anything. Without a shard it
    /// is the planned one.
    pub durable_since: Since<T>,
    /// Grows with every change of the frontiers above.
    pub version: u64,
}

macro_rules! frontier_newtype {
    ($name:ident) => {
        impl<T> $name<T> {
            /// Wraps a frontier.
            pub fn new(frontier: Antichain<T>) -> Self {
                $name(frontier)
            }

            /// The frontier itself.
            pub fn frontier(&self) -> &Antichain<T> {
                &self.0
            }

            /// Unwraps the frontier.
            pub fn into_frontier(self) -> Antichain<T> {
                self.0
            }
        }

        // Nearly all frontiers have one time. What antichains do with several is right for one, but
        // takes ten times as long, on the path where a million of them are moved at once.

        impl<T: Clone> Clone for $name<T> {
            #[inline]
            fn clone(&self) -> Self {
                match self.0.elements() {
                    [time] => $name(Antichain::from_elem(time.clone())),
                    _ => $name(self.0.clone()),
                }
            }
        }

        impl<T: PartialEq> PartialEq for $name<T> {
            #[inline]
            fn eq(&self, other: &Self) -> bool {
                match (self.0.elements(), other.0.elements()) {
                    ([left], [right]) => left == right,
                    _ => self.0 == other.0,
                }
            }
        }

        impl<T: Eq> Eq for $name<T> {}

        impl<T: PartialOrder> PartialOrder for $name<T> {
            #[inline]
            fn less_equal(&self, other: &Self) -> bool {
                match (self.0.elements(), other.0.elements()) {
                    ([left], [right]) => left.less_equal(right),
                    _ => PartialOrder::less_equal(&self.0, &other.0),
                }
            }
        }

        impl<T> From<Antichain<T>> for $name<T> {
            fn from(frontier: Antichain<T>) -> Self {
                $name(frontier)
            }
        }

        /// Written as a set: `{5}`, `{(1, 7), (3, 2)}`, and `{}` for the empty frontier.
        impl<T: fmt::Debug> fmt::Display for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_set().entries(self.0.iter()).finish()
            }
        }
    };
}

frontier_newtype!(Since);
frontier_newtype!(Upper);

#[cfg(test)]
mod tests {
    use timely::order::Product;

    use super::*;

    fn frontier(times: &[(u64, u64)]) -> Antichain<Product<u64, u64>> {
        times
            .iter()
            .map(|&(outer, inner)| Product::new(outer, inner))
            .collect()
    }

    #[test]
    fn an_upper_is_past_a_frontier_only_when_all_its_times_are_complete() {
        let upper = Upper::new(frontier(&[(0, 5), (3, 0)]));
        assert!(upper.is_past(&frontier(&[(0, 4)])));
        assert!(upper.is_past(&frontier(&[(2, 4)])));
        assert!(!upper.is_past(&frontier(&[(0, 5)])));
        // Incomparable is not enough: `(3, 0)` is still open, though the upper is not `≤` this
        // frontier as a whole.
        let bound = frontier(&[(0, 4), (3, 1)]);
        assert!(!PartialOrder::less_equal(upper.frontier(), &bound));
        assert!(!upper.is_past(&bound));
    }

    #[test]
    fn only_the_sealed_upper_is_past_every_frontier() {
        assert!(Upper::<u64>::sealed().is_past(&Antichain::from_elem(u64::MAX)));
        assert!(!Upper::at(7_u64).is_past(&Antichain::from_elem(7)));
        assert!(Upper::at(8_u64).is_past(&Antichain::from_elem(7)));
        assert!(Upper::<u64>::sealed().is_past(&Antichain::new()));
        assert!(!Upper::at(u64::MAX).is_past(&Antichain::new()));
    }

    #[test]
    fn frontiers_are_written_as_sets() {
        assert_eq!(Since::at(5_u64).to_string(), "{5}");
        assert_eq!(Upper::<u64>::sealed().to_string(), "{}");
    }
}
