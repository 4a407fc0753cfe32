//! One change that travels through all collections of a graph.

use std::time::Duration;

use super::populated;
use crate::sample::timed;
use crate::side::Side;
use crate::workload::Node;

/// The uppers, and with them the implied capabilities of all but those that hold back, are far past
/// every time of the bench.
const FAR: u64 = 1 << 40;

/// A graph in which some collections keep all others back.
pub struct Travel<S: Side> {
    side: S,
    /// Those that let go, in one command.
    from: Vec<u64>,
    time: u64,
}

impl<S: Side> Travel<S> {
    /// The last collection alone keeps all back that it depends on.
    pub fn to_the_first(nodes: impl Iterator<Item = Node>) -> Self {
        let nodes: Vec<Node> = nodes.collect();
        let last = nodes.iter().map(|node| node.id).max();
        Self::new(nodes, last.into_iter().collect())
    }

    /// All collections that depend on another one keep it back: the change comes to it from all of
    /// them at once.
    pub fn from_all(nodes: impl Iterator<Item = Node>) -> Self {
        let nodes: Vec<Node> = nodes.collect();
        let dependents = nodes.iter().filter(|node| !node.dependencies.is_empty());
        let from = dependents.map(|node| node.id).collect();
        Self::new(nodes, from)
    }

    fn new(nodes: Vec<Node>, from: Vec<u64>) -> Self {
        let len = nodes.len() as u64;
        let mut side: S = populated(nodes.into_iter());
        side.hold_back(&from, 1);
        let tick = side.prepare_tick(len, FAR);
        side.tick(tick);
        Self {
            side,
            from,
            time: 1,
        }
    }

    /// Lets them go a step further, so often.
    ///
    /// # Panics
    ///
    /// When the change did not reach the first collection.
    pub fn sample(&mut self, operations: u64) -> Duration {
        let took = timed(operations, || {
            self.time += 1;
            self.side.hold_back(&self.from, self.time);
        });
        assert_eq!(
            self.side.since(0),
            self.time,
            "the change has travelled all the way"
        );
        took
    }
}
