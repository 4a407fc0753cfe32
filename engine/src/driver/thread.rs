//! The thread of an engine.

use std::thread::{JoinHandle, Thread};

use crate::command::StopReason;

/// The thread of an engine that was spawned.
#[derive(Debug)]
pub struct EngineThread {
    thread: JoinHandle<Result<(), StopReason>>,
}

impl EngineThread {
    pub(super) fn new(thread: JoinHandle<Result<(), StopReason>>) -> Self {
        EngineThread { thread }
    }

    /// Waits until the engine has stopped.
    ///
    /// # Errors
    ///
    /// It has panicked, or another controller has taken over.
    pub fn join(self) -> Result<(), StopReason> {
        self.thread.join().unwrap_or(Err(StopReason::Panicked))
    }

    /// The owner thread, for its id.
    pub fn thread(&self) -> &Thread {
        self.thread.thread()
    }
}
