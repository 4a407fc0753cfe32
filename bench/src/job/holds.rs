//! Taking holds and giving them back, with the owner on a thread of its own, as in real life: what
//! a drop leaves to do, that thread does meanwhile.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use super::populated;
use crate::sample::timed;
use crate::side::{Finder, Handle, Served, Side};
use crate::workload;

/// Readers of a forest.
pub struct Readers<S: Side> {
    handles: Vec<S::Handle>,
    finder: S::Finder,
    order: Shuffle,
    served: S::Served,
}

impl<S: Side> Readers<S> {
    /// Readers of so many collections.
    pub fn new(len: u64) -> Self {
        let side: S = populated(workload::forest(len));
        let handles = (0..len).map(|id| side.handle(id)).collect();
        let finder = side.finder();
        Self {
            handles,
            finder,
            order: Shuffle::new(len),
            served: side.spawn(),
        }
    }

    /// Acquires and drops on any collection, by its handle.
    pub fn by_handle(&mut self, operations: u64) -> Duration {
        let took = timed(operations, || {
            drop(black_box(self.handles[self.order.any()].acquire()));
        });
        self.settled(took)
    }

    /// Acquires and drops on any collection, by its id.
    pub fn by_id(&mut self, operations: u64) -> Duration {
        let took = timed(operations, || {
            drop(black_box(self.finder.acquire(self.order.any() as u64)));
        });
        self.settled(took)
    }

    /// Clones a hold, and drops the clone.
    pub fn cloned(&mut self, operations: u64) -> Duration {
        let hold = self.handles[0].acquire();
        let took = timed(operations, || {
            drop(black_box(S::Handle::clone_hold(&hold)));
        });
        self.settled(took)
    }

    /// Acquires and drops on one collection.
    pub fn one_collection(&mut self, operations: u64) -> Duration {
        let took = timed(operations, || drop(black_box(self.handles[0].acquire())));
        self.settled(took)
    }

    /// Two threads do so many each, on one collection.
    pub fn two_threads_one_collection(&mut self, operations: u64) -> Duration {
        self.two_threads(operations, [0, 0])
    }

    /// Two threads do so many each, on two collections.
    pub fn two_threads_two_collections(&mut self, operations: u64) -> Duration {
        self.two_threads(operations, [1, self.handles.len() / 2 + 1])
    }

    fn two_threads(&self, operations: u64, on: [usize; 2]) -> Duration {
        let [one, other] = on.map(|at| &self.handles[at]);
        let took = two_threads(
            operations,
            || drop(black_box(one.acquire())),
            || drop(black_box(other.acquire())),
        );
        self.settled(took)
    }

    /// Lets the owner do what is left before something else is measured: it would have a core for
    /// that, which the other side needs.
    fn settled(&self, took: Duration) -> Duration {
        self.served.settle();
        took
    }
}

/// Runs both so many times at the same time, and gives the time that one of them took, on average.
///
/// # Panics
///
/// When one of them does.
pub fn two_threads(operations: u64, one: impl Fn() + Send, other: impl Fn() + Send) -> Duration {
    let start = &Barrier::new(2);
    thread::scope(|scope| {
        let other = scope.spawn(move || timed_from(start, operations, other));
        let one = timed_from(start, operations, one);
        let other = other.join().expect("taking holds does not panic");
        (one + other) / 2
    })
}

fn timed_from(start: &Barrier, operations: u64, operation: impl Fn()) -> Duration {
    start.wait();
    timed(operations, operation)
}

/// Indices in no order, found beforehand: a random number costs a good part of a hold.
pub struct Shuffle {
    order: Box<[u32; Self::LEN]>,
    at: usize,
}

impl Shuffle {
    const LEN: usize = 1 << 14;

    /// Indices less than `len`, the same ones every time.
    ///
    /// # Panics
    ///
    /// When `len` is 0 or does not fit an index.
    pub fn new(len: u64) -> Self {
        let len = u32::try_from(len).expect("a bench has fewer than four billion collections");
        let mut random = fastrand::Rng::with_seed(0);
        Self {
            order: Box::new(std::array::from_fn(|_| random.u32(0..len))),
            at: 0,
        }
    }

    /// The next one.
    #[inline]
    pub fn any(&mut self) -> usize {
        self.at = (self.at + 1) % Self::LEN;
        self.order[self.at] as usize
    }
}
