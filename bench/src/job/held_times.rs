//! One hold moved, among many at distinct times.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::side::{HoldOf, Side};
use crate::workload;

/// The upper, and with it the implied capability, is far past every hold: the holds alone decide.
const FAR: u64 = 1 << 40;

/// One collection, and many that hold it, in the order of their times.
pub struct HeldTimes<S: Side> {
    side: S,
    holds: VecDeque<(u64, HoldOf<S>)>,
    next: u64,
    random: fastrand::Rng,
}

impl<S: Side> HeldTimes<S> {
    /// So many holds.
    pub fn new(len: u64) -> Self {
        let mut side: S = super::populated(workload::chain(1));
        let holds = (1..=len)
            .map(|time| (time, side.acquire_at(0, time)))
            .collect();
        let tick = side.prepare_tick(1, FAR);
        side.tick(tick);
        Self {
            side,
            holds,
            next: len + 1,
            random: fastrand::Rng::with_seed(0),
        }
    }

    /// Moves the earliest to after the latest, so often: since moves each time.
    ///
    /// # Panics
    ///
    /// When since is not where the earliest of the others is.
    pub fn earliest(&mut self, operations: u64) -> Duration {
        let mut took = Duration::ZERO;
        for _ in 0..operations {
            let (_, mut hold) = self.holds.pop_front().expect("there are holds");
            took += self.move_to_the_end(&mut hold);
            self.holds.push_back((self.next - 1, hold));
        }
        self.check();
        took
    }

    /// Moves any of them to after the latest, so often: since nearly always stays.
    ///
    /// # Panics
    ///
    /// When since is not where the earliest of the others is.
    pub fn any(&mut self, operations: u64) -> Duration {
        let mut took = Duration::ZERO;
        for _ in 0..operations {
            let at = self.random.usize(0..self.holds.len());
            // Its place is taken by the earliest, so that this costs nothing and leaves an order
            // that only `check` has to look through.
            let (_, mut hold) = self.holds.swap_remove_front(at).expect("it is within");
            took += self.move_to_the_end(&mut hold);
            self.holds.push_back((self.next - 1, hold));
        }
        self.check();
        self.holds
            .make_contiguous()
            .sort_unstable_by_key(|(time, _)| *time);
        took
    }

    fn move_to_the_end(&mut self, hold: &mut HoldOf<S>) -> Duration {
        let start = Instant::now();
        self.side.downgrade(hold, self.next);
        let took = start.elapsed();
        self.next += 1;
        took
    }

    fn check(&self) {
        let earliest = self.holds.iter().map(|(time, _)| *time).min();
        assert_eq!(Some(self.side.since(0)), earliest);
    }
}
