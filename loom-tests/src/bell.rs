//! What wakes the receiver of a model.

use loom::sync::atomic::{AtomicUsize, Ordering};
use lowwater_queue::Wake;

/// Rings, and remembers it.
///
/// No model waits for it. A sleeper that looks at the bell once, and stays asleep if it has not
/// rung, loses nothing: loom also runs the executions in which it looks later. A wake-up is lost
/// if, when all is over, somebody is asleep, the bell has not rung, and a message waits.
#[derive(Debug, Default)]
pub struct Bell {
    rings: AtomicUsize,
}

impl Bell {
    /// A bell that has not rung.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether it has rung since this was last asked.
    pub fn has_rung(&self) -> bool {
        self.rings.swap(0, Ordering::Acquire) > 0
    }
}

impl Wake for Bell {
    fn wake(&self) {
        self.rings.fetch_add(1, Ordering::Release);
    }
}
