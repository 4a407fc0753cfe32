//! Things whose end can be told.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many witnesses are gone. Invisible to loom.
#[derive(Clone, Debug, Default)]
pub struct Dropped(Arc<AtomicUsize>);

impl Dropped {
    /// None is gone.
    pub fn none() -> Self {
        Self::default()
    }

    /// How many are gone.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// Another to wait for.
    pub fn witness(&self) -> Witness {
        Witness(self.clone())
    }
}

/// Tells when it is dropped.
#[derive(Debug)]
pub struct Witness(Dropped);

impl Drop for Witness {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::SeqCst);
    }
}
