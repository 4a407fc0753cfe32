//! A new upper for every collection, and all that follows: every since moves.

use std::time::{Duration, Instant};

use super::populated;
use crate::side::Side;
use crate::workload::{self, LAG};

/// Collections that tick, turned by hand: the command is sent, obeyed and answered on the thread
/// that measures. The uppers that are reported were put together before the clock starts.
pub struct Ticks<S: Side> {
    side: S,
    len: u64,
    upper: u64,
}

impl<S: Side> Ticks<S> {
    /// So many collections, one dependency for nine in ten.
    pub fn new(len: u64) -> Self {
        let mut ticks = Self {
            side: populated(workload::forest(len)),
            len,
            upper: 0,
        };
        // The first ones do less: since stays at the minimum until the upper is past the lag.
        ticks.sample(LAG + 2);
        ticks
    }

    /// Ticks so often.
    ///
    /// # Panics
    ///
    /// When a since did not move as far as it must.
    pub fn sample(&mut self, operations: u64) -> Duration {
        let mut took = Duration::ZERO;
        for _ in 0..operations {
            self.upper += 1;
            let tick = self.side.prepare_tick(self.len, self.upper);
            let start = Instant::now();
            self.side.tick(tick);
            took += start.elapsed();
        }
        for id in [0, self.len / 2, self.len - 1] {
            assert_eq!(self.side.since(id), self.upper - LAG, "collection {id}");
        }
        took
    }
}
