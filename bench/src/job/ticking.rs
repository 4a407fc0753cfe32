//! The latency of a hold while another thread moves everything.

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::holds::Shuffle;
use super::populated;
use crate::sample::{nanosecond_histogram, timed};
use crate::side::{Handle, Side, Ticking};
use crate::workload;

/// How often everything moves.
pub const EVERY: Duration = Duration::from_millis(1);

/// A reader of collections that tick on another thread.
pub struct ReadersWhileTicking<S: Side> {
    handles: Vec<S::Handle>,
    order: Shuffle,
    ticking: S::Ticking,
}

impl<S: Side> ReadersWhileTicking<S> {
    /// A reader of so many collections.
    pub fn new(len: u64) -> Self {
        let side: S = populated(workload::forest(len));
        let handles = (0..len).map(|id| side.handle(id)).collect();
        Self {
            handles,
            order: Shuffle::new(len),
            ticking: side.spawn_ticking(len, EVERY),
        }
    }

    /// Acquires and drops on any collection, so often.
    pub fn sample(&mut self, operations: u64) -> Duration {
        timed(operations, || {
            drop(black_box(self.handles[self.order.any()].acquire()))
        })
    }

    /// Drops holds on any collection, so many, after the collections have moved.
    pub fn release(&mut self, operations: u64) -> Duration {
        let mut took = Duration::ZERO;
        let mut left = operations as usize;
        while left > 0 {
            let some = left.min(1000);
            let holds: Vec<_> = (0..some)
                .map(|_| self.handles[self.order.any()].acquire())
                .collect();
            // Two ticks, so that what is held lies behind. Were it shorter, it would be no error.
            thread::sleep(2 * EVERY);
            let start = Instant::now();
            drop(holds);
            took += start.elapsed();
            left -= some;
        }
        took
    }

    /// Watches the latency of each hold for so long.
    ///
    /// # Panics
    ///
    /// When the collections did not move.
    pub fn watch(mut self, watch: Duration) -> Watched {
        let mut holds = nanosecond_histogram();
        let start = Instant::now();
        while start.elapsed() < watch {
            // Looking at the watch would be a third clock in each latency, so a hundred at a time.
            for _ in 0..100 {
                let handle = &self.handles[self.order.any()];
                let before = Instant::now();
                drop(black_box(handle.acquire()));
                holds.saturating_record(before.elapsed().as_nanos() as u64);
            }
        }
        let due = (start.elapsed().as_nanos() / EVERY.as_nanos()) as u64;
        let ticks = self.ticking.stop();
        assert!(!ticks.is_empty(), "the collections moved");
        Watched { holds, ticks, due }
    }
}

/// What one reader saw while all collections ticked.
pub struct Watched {
    /// Nanoseconds from before a hold is taken until after it is dropped; reading the clock twice is
    /// in it.
    pub holds: Histogram<u64>,
    /// Nanoseconds of each tick.
    pub ticks: Histogram<u64>,
    /// How many ticks were due.
    pub due: u64,
}

impl Watched {
    /// How many holds took at least half as long as a tick: what waits for the owner shows here,
    /// once per tick or more often.
    pub fn stalls(&self) -> u64 {
        let half = self.ticks.value_at_quantile(0.5) / 2;
        self.holds.count_between(half.max(1), u64::MAX)
    }

    /// Whether no hold waits for the owner: fewer stalls than one for ten ticks, for the machine
    /// itself stops a thread now and then.
    pub fn is_free_of_stalls(&self) -> bool {
        self.stalls() * 10 < self.ticks.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(slow: u64) -> Watched {
        let mut holds = nanosecond_histogram();
        let mut ticks = nanosecond_histogram();
        holds.record_n(50, 1_000_000).unwrap();
        holds.record_n(600_000, slow).unwrap();
        ticks.record_n(1_000_000, 100).unwrap();
        Watched {
            holds,
            ticks,
            due: 100,
        }
    }

    #[test]
    fn a_hold_that_waits_for_every_tick_is_a_stall_and_a_rare_pause_is_not() {
        assert!(watched(9).is_free_of_stalls());
        assert!(!watched(100).is_free_of_stalls());
        assert_eq!(watched(100).stalls(), 100);
    }
}
