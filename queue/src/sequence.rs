//! Numbers that nobody else has.

use crate::sync::{AtomicU64, Ordering};

/// Gives out numbers, from 0, to any thread: none of them twice.
#[derive(Debug)]
pub struct Sequence(AtomicU64);

impl Sequence {
    /// A sequence of which nothing was given out yet.
    pub fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// The next number.
    pub fn take(&self) -> u64 {
        // Relaxed: only the number itself must differ from all others.
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

impl Default for Sequence {
    fn default() -> Self {
        Self::new()
    }
}
