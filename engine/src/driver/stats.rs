//! How the engine is doing.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Turns longer than this are counted as this long.
const TURN_MAX: Duration = Duration::from_secs(60);

/// How the engine is doing.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Turns that had something to do.
    pub turns: u64,
    /// Entries taken from the queue.
    pub inputs: u64,
    /// How long turns took, in nanoseconds, up to a minute.
    pub turn_ns: Histogram<u64>,
    /// How many entries waited when the last turn began.
    pub queue_depth: usize,
    /// How long the oldest of them had waited at most. Right to within a turn.
    pub queue_age: Duration,
    /// The greatest `queue_age` so far.
    pub queue_age_max: Duration,
    /// Collections alive, dropped ones that are still held included.
    pub collections: usize,
    /// Requests that wait for a collection to come far enough.
    pub waiting: usize,
}

impl Stats {
    pub(super) fn new() -> Self {
        let longest = TURN_MAX.as_nanos() as u64;
        Stats {
            turns: 0,
            inputs: 0,
            turn_ns: Histogram::new_with_bounds(1, longest, 2).expect("the bounds are in order"),
            queue_depth: 0,
            queue_age: Duration::ZERO,
            queue_age_max: Duration::ZERO,
            collections: 0,
            waiting: 0,
        }
    }

    pub(super) fn queue_found(&mut self, depth: usize, age: Duration) {
        self.queue_depth = depth;
        self.queue_age = age;
        self.queue_age_max = self.queue_age_max.max(age);
    }

    pub(super) fn turned(&mut self, inputs: u64, took: Duration) {
        self.turns += 1;
        self.inputs += inputs;
        self.turn_ns
            .saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1));
    }
}
