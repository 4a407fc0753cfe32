//! Creating many collections in one batch.

use std::time::{Duration, Instant};

use crate::side::Side;
use crate::workload;

/// Creates so many collections in one batch, so often, each time on a new side; until all of them
/// can be used.
///
/// # Panics
///
/// When the last of them cannot be read.
pub fn sample<S: Side>(len: u64, operations: u64) -> Duration {
    let mut took = Duration::ZERO;
    for _ in 0..operations {
        let mut side = S::new();
        let nodes = workload::forest(len).collect();
        let start = Instant::now();
        side.create_with_shards(nodes);
        took += start.elapsed();
        assert_eq!(side.since(len - 1), 0, "it can be read");
    }
    took
}
