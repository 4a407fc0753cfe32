//! One change that travels through all collections of a graph.

use std::time::Duration;

use super::populated;
use crate::sample::timed;
use crate::side::Side;
use crate::workload::Node;

/// The uppers, and with them the implied capabilities of all but those that hold back, are far past
/// every time of the bench.
const FAR: u64 = 1 << 40;

/// A graph whose last collection alone keeps all others back.
pub struct Travel<S: Side> {
    side: S,
    last: u64,
    time: u64,
}

impl<S: Side> Travel<S> {
    /// The collections of a graph that all lead to the last one, or to the first.
    ///
    /// # Panics
    ///
    /// When there are no collections.
    pub fn new(nodes: impl Iterator<Item = Node>) -> Self {
        let mut last = 0;
        let mut side: S = populated(nodes.inspect(|node| last = node.id));
        side.hold_back(last, 1);
        let tick = side.prepare_tick(last, FAR);
        side.tick(tick);
        Self {
            side,
            last,
            time: 1,
        }
    }

    /// Lets the last one go a step further, so often.
    ///
    /// # Panics
    ///
    /// When the change did not reach the first collection.
    pub fn sample(&mut self, operations: u64) -> Duration {
        let took = timed(operations, || {
            self.time += 1;
            self.side.hold_back(self.last, self.time);
        });
        assert_eq!(
            self.side.since(0),
            self.time,
            "the change has travelled all the way"
        );
        took
    }
}
