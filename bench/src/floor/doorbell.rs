//! A round trip to another thread with nothing in it: wake it through `mio`, and be unparked.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle, Thread};

use mio::{Events, Poll, Token, Waker};

const BELL: Token = Token(0);
/// Asks the other thread to end.
const STOP: u64 = u64::MAX;

/// A thread that sleeps in `mio::Poll`, and unparks whoever rings.
pub struct Doorbell {
    waker: Waker,
    rounds: Arc<Rounds>,
    thread: Option<JoinHandle<()>>,
}

struct Rounds {
    asked: AtomicU64,
    answered: AtomicU64,
    /// Who asks. Only the thread that made the doorbell may ring it.
    caller: Thread,
}

impl Doorbell {
    /// Starts the other thread. Only the calling thread may ring.
    ///
    /// # Errors
    ///
    /// When the system has no poll, or no thread, to give.
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), BELL)?;
        let rounds = Arc::new(Rounds {
            asked: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            caller: thread::current(),
        });
        let answering = Arc::clone(&rounds);
        let thread = thread::Builder::new().spawn(move || answering.answer(poll))?;
        Ok(Self {
            waker,
            rounds,
            thread: Some(thread),
        })
    }

    /// Wakes the other thread, and sleeps until it has answered.
    ///
    /// # Panics
    ///
    /// When the waker fails, which it does only where a pipe does.
    pub fn ring(&self) {
        let round = self.rounds.asked.load(Ordering::Relaxed) + 1;
        self.rounds.asked.store(round, Ordering::Release);
        self.waker.wake().expect("the other thread has its poll");
        while self.rounds.answered.load(Ordering::Acquire) != round {
            thread::park();
        }
    }
}

impl Rounds {
    fn answer(&self, mut poll: Poll) {
        let mut events = Events::with_capacity(1);
        loop {
            if poll.poll(&mut events, None).is_err() {
                continue;
            }
            let round = self.asked.load(Ordering::Acquire);
            if round == STOP {
                return;
            }
            self.answered.store(round, Ordering::Release);
            self.caller.unpark();
        }
    }
}

impl Drop for Doorbell {
    fn drop(&mut self) {
        self.rounds.asked.store(STOP, Ordering::Release);
        if self.waker.wake().is_ok()
            && let Some(thread) = self.thread.take()
        {
            thread.join().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ring_is_answered_and_the_thread_ends() {
        let doorbell = Doorbell::new().unwrap();
        for _ in 0..100 {
            doorbell.ring();
        }
        assert_eq!(doorbell.rounds.answered.load(Ordering::Relaxed), 100);
        let rounds = Arc::downgrade(&doorbell.rounds);
        drop(doorbell);
        assert!(
            rounds.upgrade().is_none(),
            "the thread is gone, and what it had"
        );
    }
}
