//! How an engine comes to its end.

use std::time::Duration;

use crate::command::{StopError, StopReason};
use crate::frontier::Time;
use crate::id::CollectionId;
use crate::input::Input;
use crate::message::Answer;

use super::Engine;

/// Somebody wants the engine to stop.
pub(super) struct Stopping {
    pub(super) deadline: Duration,
    replies: Vec<Answer<(), StopError>>,
}

impl<I: CollectionId, T: Time> Engine<I, T> {
    pub(super) fn stop(&mut self, reply: Answer<(), StopError>) {
        match &mut self.stopping {
            Some(stopping) => stopping.replies.push(reply),
            None => {
                tracing::debug!("stopping");
                // From now on clients send nothing more; what they have sent is still obeyed.
                self.line.stop(StopReason::Stopped);
                let now = self.started.elapsed();
                let deadline = now.saturating_add(self.config.stop_within);
                self.stopping = Some(Stopping {
                    deadline,
                    replies: vec![reply],
                });
                // What is wished from now on does not wait either.
                self.apply(Input::DowngradeInterval(Duration::ZERO));
                self.apply(Input::Flush);
            }
        }
    }

    pub(super) fn is_over(&self, now: Duration) -> bool {
        self.stopping.as_ref().is_some_and(|stopping| {
            now >= stopping.deadline || (self.receiver.depth() == 0 && self.state.is_durable())
        })
    }

    /// The end that was asked for: nothing is accepted any more, and what was is obeyed.
    pub(super) fn finish(&mut self) {
        self.receiver.close();
        let before = self.receiver.received();
        while let Some(message) = self.receiver.pop() {
            self.receive(message);
        }
        self.settle();
        self.measure(self.receiver.received() - before, Duration::ZERO);
        self.end();
    }

    /// Nobody is left waiting, and nothing is taken up any more.
    pub(super) fn end(&mut self) {
        self.has_stopped = true;
        self.receiver.close();
        self.board.close_all();
        // Whoever waits hears of it when what leads to him is dropped.
        while self.receiver.pop().is_some() {}
        self.replies.abandon();
        self.journal.abandon();
        let outcome = match (self.line.fenced_by(), self.state.downgrades().behind) {
            (Some(by), _) => Err(StopError::Stopped(StopReason::Fenced { by })),
            (None, 0) => Ok(()),
            (None, shards) => Err(StopError::Unwritten { shards }),
        };
        let stopping = self.stopping.take().into_iter();
        for reply in stopping.flat_map(|stopping| stopping.replies) {
            let _ = reply.send(outcome);
        }
    }
}
