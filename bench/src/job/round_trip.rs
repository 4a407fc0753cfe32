//! A command, and the wait for its answer, to a thread that sleeps.

use std::time::Duration;

use super::populated;
use crate::sample::timed;
use crate::side::{Served, Side};
use crate::workload;

/// A side on a thread of its own, and who asks it.
pub struct RoundTrip<S: Side> {
    served: S::Served,
    upper: u64,
}

impl<S: Side> RoundTrip<S> {
    /// A side with so many collections.
    pub fn new(len: u64) -> Self {
        Self {
            served: populated::<S>(workload::forest(len)).spawn(),
            upper: 0,
        }
    }

    /// Reports the upper of one collection and waits, so often.
    pub fn sample(&mut self, operations: u64) -> Duration {
        timed(operations, || {
            self.upper += 1;
            self.served.round_trip(0, self.upper);
        })
    }
}
