//! How the engine is doing, for those who do not want to ask it.

use std::time::{Duration, Instant};

use lowwater_queue::Figure;

use crate::state::Downgrades;

/// How many classes of lengths turns are counted in.
pub const TURN_CLASSES: usize = 25;

/// How the engine is doing, as any thread reads it at any time: also while the owner is in the
/// middle of a turn, and after the engine has stopped.
///
/// The figures are those of the end of the last turn, each by itself. What is counted, is counted
/// since the engine started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Turns that had something to do.
    pub turns: u64,
    /// Entries taken from the queue.
    pub inputs: u64,
    /// How long all these turns took together.
    pub turning: Duration,
    /// How many turns took how long: place `n` counts those of less than 2ⁿ µs that took at least
    /// half of that, the first one all shorter ones, and the last one all longer ones.
    pub turn_lengths: [u64; TURN_CLASSES],
    /// How long ago the last turn began, whether it had something to do or not.
    pub last_turn: Duration,
    /// How many entries are in the queue now.
    pub queue_depth: usize,
    /// How long the oldest entry had waited at most when the last turn began.
    pub queue_age: Duration,
    /// The greatest `queue_age` so far.
    pub queue_age_max: Duration,
    /// Collections alive, dropped ones that are still held included.
    pub collections: u64,
    /// Requests that wait for a collection to come far enough.
    pub waiting: u64,
    /// Events there were.
    pub events: u64,
    /// How the wishes for durable sinces have fared.
    pub downgrades: Downgrades,
}

/// What [`Metrics`] are read from. Only the owner sets it.
#[derive(Debug)]
pub(crate) struct Gauges {
    started: Instant,
    turns: Figure,
    inputs: Figure,
    turning_ns: Figure,
    turn_lengths: [Figure; TURN_CLASSES],
    last_turn_ns: Figure,
    queue_age_ns: Figure,
    queue_age_max_ns: Figure,
    collections: Figure,
    waiting: Figure,
    events: Figure,
    downgrades: DowngradeGauges,
}

#[derive(Debug, Default)]
struct DowngradeGauges {
    wished: Figure,
    written: Figure,
    coalesced: Figure,
    failed: Figure,
    retried: Figure,
    waiting: Figure,
    in_flight: Figure,
    behind: Figure,
}

impl Gauges {
    pub(crate) fn new(started: Instant) -> Self {
        Gauges {
            started,
            turns: Figure::new(),
            inputs: Figure::new(),
            turning_ns: Figure::new(),
            turn_lengths: std::array::from_fn(|_| Figure::new()),
            last_turn_ns: Figure::new(),
            queue_age_ns: Figure::new(),
            queue_age_max_ns: Figure::new(),
            collections: Figure::new(),
            waiting: Figure::new(),
            events: Figure::new(),
            downgrades: DowngradeGauges::default(),
        }
    }

    /// A turn begins, and the oldest entry has waited so long.
    pub(super) fn turn_begun(&self, at: Instant, queue_age: Duration) {
        let since_start = nanoseconds(at.saturating_duration_since(self.started));
        self.last_turn_ns.set(since_start);
        let age = nanoseconds(queue_age);
        self.queue_age_ns.set(age);
        if age > self.queue_age_max_ns.read() {
            self.queue_age_max_ns.set(age);
        }
    }

    /// A turn that had something to do is over.
    pub(super) fn turned(&self, inputs: u64, took: Duration) {
        add(&self.turns, 1);
        add(&self.inputs, inputs);
        add(&self.turning_ns, nanoseconds(took));
        add(&self.turn_lengths[class(took)], 1);
    }

    /// What is there when a turn is over.
    pub(super) fn found(&self, collections: usize, waiting: usize, downgrades: Downgrades) {
        self.collections.set(collections as u64);
        self.waiting.set(waiting as u64);
        self.downgrades.set(downgrades);
    }

    pub(super) fn noted_event(&self) {
        add(&self.events, 1);
    }

    pub(crate) fn read(&self, queue_depth: usize) -> Metrics {
        let duration = |figure: &Figure| Duration::from_nanos(figure.read());
        let began = duration(&self.last_turn_ns);
        Metrics {
            turns: self.turns.read(),
            inputs: self.inputs.read(),
            turning: duration(&self.turning_ns),
            turn_lengths: std::array::from_fn(|class| self.turn_lengths[class].read()),
            last_turn: self.started.elapsed().saturating_sub(began),
            queue_depth,
            queue_age: duration(&self.queue_age_ns),
            queue_age_max: duration(&self.queue_age_max_ns),
            collections: self.collections.read(),
            waiting: self.waiting.read(),
            events: self.events.read(),
            downgrades: self.downgrades.read(),
        }
    }
}

impl DowngradeGauges {
    fn set(&self, downgrades: Downgrades) {
        let Downgrades {
            wished,
            written,
            coalesced,
            failed,
            retried,
            waiting,
            in_flight,
            behind,
        } = downgrades;
        self.wished.set(wished);
        self.written.set(written);
        self.coalesced.set(coalesced);
        self.failed.set(failed);
        self.retried.set(retried);
        self.waiting.set(waiting);
        self.in_flight.set(in_flight);
        self.behind.set(behind);
    }

    fn read(&self) -> Downgrades {
        Downgrades {
            wished: self.wished.read(),
            written: self.written.read(),
            coalesced: self.coalesced.read(),
            failed: self.failed.read(),
            retried: self.retried.read(),
            waiting: self.waiting.read(),
            in_flight: self.in_flight.read(),
            behind: self.behind.read(),
        }
    }
}

/// Nobody else sets it in between.
fn add(figure: &Figure, more: u64) {
    figure.set(figure.read().saturating_add(more));
}

fn class(took: Duration) -> usize {
    let bits = u128::BITS - took.as_micros().leading_zeros();
    (bits as usize).min(TURN_CLASSES - 1)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_counted_by_its_length() {
        let micros = |us| class(Duration::from_micros(us));
        assert_eq!(
            [0, 1, 2, 3, 4, 1_023, 1_024].map(micros),
            [0, 1, 2, 2, 3, 10, 11]
        );
        assert_eq!(class(Duration::from_nanos(999)), 0);
        assert_eq!(class(Duration::MAX), TURN_CLASSES - 1);
    }
}
