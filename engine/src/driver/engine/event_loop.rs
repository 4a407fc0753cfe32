//! The owner thread's loop: turning while there is something to do, and sleeping while there is not.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use lowwater_queue::Sleep;
use mio::{Events, Poll, Token, Waker};

use crate::command::StopReason;
use crate::frontier::Time;
use crate::id::CollectionId;

use super::{Engine, Turned};

/// No sleep is longer: what the system takes for a bound has fewer bits than a duration.
const SLEEP_MAX: Duration = Duration::from_secs(3_600);

impl<I: CollectionId, T: Time> Engine<I, T> {
    pub(super) fn poll(&self) -> io::Result<Poll> {
        let poll = Poll::new()?;
        self.line
            .queue
            .wake()
            .install_waker(Waker::new(poll.registry(), Token(0))?);
        Ok(poll)
    }

    pub(super) fn run_with(mut self, mut poll: Poll) -> Result<(), StopReason> {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.turn_until_stopped(&mut poll)));
        if outcome.is_err() {
            tracing::error!("the owner thread has panicked");
            self.line.stop(StopReason::Panicked);
        }
        // Dropped here, panicked or not: callers are answered, words closed.
        outcome.map_err(|_| StopReason::Panicked)?;
        let fenced = self.line.fenced_by();
        fenced.map_or(Ok(()), |by| Err(StopReason::Fenced { by }))
    }

    fn turn_until_stopped(&mut self, poll: &mut Poll) {
        let mut events = Events::with_capacity(4);
        loop {
            match self.turn() {
                Turned::More => {}
                Turned::Stopped => return,
                Turned::Idle(next) => self.sleep(poll, &mut events, next),
            }
        }
    }

    /// Sleeps until something is queued or `next` is over.
    fn sleep(&mut self, poll: &mut Poll, events: &mut Events, next: Option<Duration>) {
        if self.spin() {
            return;
        }
        if self.receiver.prepare_to_sleep() == Sleep::Sleep {
            if let Err(error) = poll.poll(events, next.map(|next| next.min(SLEEP_MAX)))
                && error.kind() != io::ErrorKind::Interrupted
            {
                panic!("the owner thread cannot sleep: {error}");
            }
            self.receiver.woke_up();
        }
    }

    /// Looks for something to do, for as long as is allowed. Says whether there is.
    fn spin(&self) -> bool {
        if self.config.spin.is_zero() {
            return false;
        }
        let until = Instant::now().checked_add(self.config.spin);
        loop {
            // Looking at the clock takes as long as a few looks at the queue.
            for _ in 0..32 {
                if self.receiver.depth() > 0 {
                    return true;
                }
                std::hint::spin_loop();
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return false;
            }
        }
    }
}
