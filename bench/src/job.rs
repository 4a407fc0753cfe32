//! What is timed, with the same code for both sides.
//!
//! A job is set up once and gives samples: so many operations, and how long they took. What checks
//! that the work was really done, and what cleans up, is not in the time.

pub mod holds;
pub mod ticking;
pub mod ticks;
pub mod held_times;
pub mod travel;
pub mod creation;
pub mod durable;
pub mod rows;
pub mod small_appends;
pub mod round_trip;
pub mod resident;
pub mod messages;

use crate::side::Side;
use crate::workload::Node;

/// How many collections are created in one batch where creation is not what is measured.
const BATCH: usize = 10_000;

/// A side with these collections.
pub fn populated<S: Side>(nodes: impl Iterator<Item = Node>) -> S {
    let mut side = S::new();
    let mut nodes = nodes.peekable();
    while nodes.peek().is_some() {
        side.create(nodes.by_ref().take(BATCH).collect());
    }
    side
}
