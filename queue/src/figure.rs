//! Numbers about the owner that anybody may look at.

use crate::sync::{AtomicU64, Ordering};

/// A number that one thread sets and any thread reads, at the cost of a plain store and a plain load.
///
/// It says nothing about anything else: of several that are set one after the other, a reader may
/// see the later one and not yet the earlier one.
#[derive(Debug)]
pub struct Figure(AtomicU64);

impl Figure {
    /// Nothing so far.
    pub fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// What it was set to last.
    pub fn read(&self) -> u64 {
        // Relaxed: see the type.
        self.0.load(Ordering::Relaxed)
    }

    /// It is this from now on.
    pub fn set(&self, number: u64) {
        // Relaxed: see the type.
        self.0.store(number, Ordering::Relaxed);
    }
}

impl Default for Figure {
    fn default() -> Self {
        Self::new()
    }
}
