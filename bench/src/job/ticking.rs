//! The latency of a hold while another thread moves everything.

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::holds::Shuffle;
use super::populated;
use crate::floor::Words;
use crate::sample::{nanosecond_histogram, timed};
use crate::side::{Handle, Side, Ticking};
use crate::workload;

/// How often everything moves.
pub const EVERY: Duration = Duration::from_millis(1);

/// How many bare words there are.
const BARE_WORDS: u64 = 16;

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
        let mut bare = nanosecond_histogram();
        // Few, or they would push what the holds need out of the cache.
        let words = Words::new(BARE_WORDS);
        let start = Instant::now();
        while start.elapsed() < watch {
            // Looking at the watch would be a third clock in each latency, so a hundred at a time.
            for _ in 0..100 {
                let handle = &self.handles[self.order.any()];
                record(&mut holds, || drop(black_box(handle.acquire())));
            }
            for _ in 0..100 {
                let word = self.order.any() as u64 % BARE_WORDS;
                record(&mut bare, || words.acquire_and_drop(word));
            }
        }
        let due = (start.elapsed().as_nanos() / EVERY.as_nanos()) as u64;
        let ticks = self.ticking.stop();
        assert!(!ticks.is_empty(), "the collections moved");
        Watched {
            holds,
            bare,
            ticks,
            due,
        }
    }
}

fn record(histogram: &mut Histogram<u64>, operation: impl FnOnce()) {
    let before = Instant::now();
    operation();
    histogram.saturating_record(before.elapsed().as_nanos() as u64);
}

/// What one reader saw while all collections ticked.
pub struct Watched {
    /// Nanoseconds from before a hold is taken until after it is dropped; reading the clock twice is
    /// in it.
    pub holds: Histogram<u64>,
    /// The same of bare words that nobody else knows, in turns with the holds: what the machine and
    /// the clock do to anybody. There are as many.
    pub bare: Histogram<u64>,
    /// Nanoseconds of each tick.
    pub ticks: Histogram<u64>,
    /// How many ticks were due.
    pub due: u64,
}

impl Watched {
    /// How many holds took at least half as long as a tick: what waits for the owner shows here,
    /// once per tick or more often.
    pub fn stalls(&self) -> u64 {
        self.longer_than_half_a_tick(&self.holds)
    }

    /// How many of the bare words took as long: the machine itself stops a thread now and then.
    pub fn bare_stalls(&self) -> u64 {
        self.longer_than_half_a_tick(&self.bare)
    }

    /// Whether no hold waits for the owner: beyond twice what bare words show, there are fewer
    /// stalls than one for ten ticks.
    pub fn is_free_of_stalls(&self) -> bool {
        let from_waiting = self.stalls().saturating_sub(2 * self.bare_stalls());
        from_waiting * 10 < self.ticks.len()
    }

    fn longer_than_half_a_tick(&self, histogram: &Histogram<u64>) -> u64 {
        let half = self.ticks.value_at_quantile(0.5) / 2;
        histogram.count_between(half.max(1), u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(slow: u64, bare_slow: u64) -> Watched {
        let [mut holds, mut bare, mut ticks] = std::array::from_fn(|_| nanosecond_histogram());
        holds.record_n(50, 1_000_000).unwrap();
        holds.record_n(600_000, slow).unwrap();
        bare.record_n(600_000, bare_slow).unwrap();
        ticks.record_n(1_000_000, 100).unwrap();
        Watched {
            holds,
            bare,
            ticks,
            due: 100,
        }
    }

    #[test]
    fn a_hold_that_waits_for_every_tick_is_a_stall_and_a_rare_pause_is_not() {
        assert!(watched(9, 0).is_free_of_stalls());
        assert!(!watched(100, 0).is_free_of_stalls());
        assert_eq!(watched(100, 0).stalls(), 100);
    }

    #[test]
    fn pauses_that_bare_words_have_as_well_are_the_machines() {
        assert!(watched(30, 20).is_free_of_stalls());
        assert!(!watched(100, 20).is_free_of_stalls());
    }
}
