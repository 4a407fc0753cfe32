//! The queue of messages to the owner thread, and the protocol by which it sleeps and is woken.

use std::error::Error;
use std::fmt;

use crate::sync::{Arc, AtomicU32, CachePadded, Ordering, Queue, fence};

/// The receiver sleeps, or is about to: whoever clears this wakes it.
const ASLEEP: u32 = 1 << 0;
/// No message is accepted any more.
const CLOSED: u32 = 1 << 1;
/// The receiver is no more: what still comes in has nobody else to take it out.
const GONE: u32 = 1 << 2;

/// What ends the sleep of a receiver, such as a `mio::Waker` or an unparked thread.
///
/// A wake-up must not be lost: if it comes just before the receiver falls asleep, that sleep must
/// end at once. One that comes when the receiver is awake must do no harm.
pub trait Wake: Send + Sync + 'static {
    /// Ends the present sleep of the receiver, or else the next one.
    fn wake(&self);
}

/// Makes a queue without bound for messages from many threads to one.
///
/// Messages of one sender arrive in the order of their sending, and so do messages of which one
/// was sent because of another. Nothing here takes a lock, but [`Receiver::pop`] may spin for a
/// producer that was preempted in the middle of [`Sender::send`].
pub fn channel<M, W: Wake>(wake: W) -> (Sender<M, W>, Receiver<M, W>) {
    let channel = Arc::new(Channel {
        messages: Queue::new(),
        state: CachePadded::new(AtomicU32::new(0)),
        wake,
    });
    (
        Sender {
            channel: Arc::clone(&channel),
        },
        Receiver {
            channel,
            received: 0,
        },
    )
}

struct Channel<M, W> {
    messages: Queue<M>,
    /// `ASLEEP`, `CLOSED`, `GONE`. Messages are ordered by the queue itself and the state by its
    /// fences, so that each access to it is relaxed.
    state: CachePadded<AtomicU32>,
    wake: W,
}

impl<M, W> Channel<M, W> {
    fn is(&self, bit: u32) -> bool {
        self.state.load(Ordering::Relaxed) & bit != 0
    }

    fn drain(&self) {
        while self.messages.pop().is_some() {}
    }
}

/// The end of a queue that sends. Clones send to the same queue.
pub struct Sender<M, W> {
    channel: Arc<Channel<M, W>>,
}

impl<M, W: Wake> Sender<M, W> {
    /// Puts a message into the queue, and wakes the receiver if it sleeps.
    ///
    /// A message that is accepted while the queue is being closed may be dropped instead of
    /// received, here or with the receiver; it never stays behind in the queue.
    ///
    /// # Errors
    ///
    /// The queue is closed; the error gives the message back.
    pub fn send(&self, message: M) -> Result<(), Closed<M>> {
        let channel = &*self.channel;
        if channel.is(CLOSED) {
            return Err(Closed(message));
        }
        channel.messages.push(message);
        // Pairs with the fence in [`Receiver::prepare_to_sleep`]: either we see `ASLEEP`, or the
        // receiver sees the message and does not sleep. And with the fence in [`Receiver`]'s drop:
        // either we see `GONE`, or the receiver sees the message and takes it out.
        fence(Ordering::SeqCst);
        let state = channel.state.load(Ordering::Relaxed);
        if state & (ASLEEP | GONE) != 0 {
            self.attend_to(state);
        }
        Ok(())
    }

    /// Whether messages are refused.
    pub fn is_closed(&self) -> bool {
        self.channel.is(CLOSED)
    }

    /// How many messages wait in the queue: exact at some instant during the call.
    pub fn depth(&self) -> usize {
        self.channel.messages.len()
    }

    /// What this queue wakes its receiver with.
    pub fn wake(&self) -> &W {
        &self.channel.wake
    }

    #[cold]
    fn attend_to(&self, state: u32) {
        if state & ASLEEP != 0 {
            let before = self.channel.state.fetch_and(!ASLEEP, Ordering::Relaxed);
            // Of all that saw it asleep only one is the one to wake it.
            if before & ASLEEP != 0 {
                self.channel.wake.wake();
            }
        }
        if state & GONE != 0 {
            // Whatever is here came too late for the receiver, ours or that of others like us.
            self.channel.drain();
        }
    }
}

impl<M, W> Clone for Sender<M, W> {
    fn clone(&self) -> Self {
        Self {
            channel: Arc::clone(&self.channel),
        }
    }
}

impl<M, W> fmt::Debug for Sender<M, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

/// What a receiver that has nothing to do may do.
#[must_use]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sleep {
    /// Sleep until woken: the next message wakes.
    Sleep,
    /// A message is there, or on its way: look again.
    Pending,
}

/// The end of a queue that receives. Dropping it closes the queue and drops what is left in it.
pub struct Receiver<M, W> {
    channel: Arc<Channel<M, W>>,
    received: u64,
}

impl<M, W: Wake> Receiver<M, W> {
    /// Takes the oldest message.
    pub fn pop(&mut self) -> Option<M> {
        let message = self.channel.messages.pop()?;
        self.received += 1;
        Some(message)
    }

    /// How many messages wait in the queue: exact at some instant during the call.
    pub fn depth(&self) -> usize {
        self.channel.messages.len()
    }

    /// How many messages were taken so far.
    ///
    /// With [`depth`](Self::depth) it says how many were ever sent, so that a receiver that notes
    /// that sum now and then knows the age of the oldest message without a clock in `send`.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Announces sleep. After [`Sleep::Sleep`] the next message wakes.
    ///
    /// Call [`woke_up`](Self::woke_up) when the sleep is over, whatever ended it.
    pub fn prepare_to_sleep(&mut self) -> Sleep {
        self.channel.state.fetch_or(ASLEEP, Ordering::Relaxed);
        // Pairs with the fence in [`Sender::send`]: either we see the message, or its sender sees
        // `ASLEEP`. Without it both could miss the other, and the message would wait.
        fence(Ordering::SeqCst);
        if self.channel.messages.is_empty() {
            return Sleep::Sleep;
        }
        self.woke_up();
        Sleep::Pending
    }

    /// Says that the sleep is over, so that senders need not wake.
    pub fn woke_up(&mut self) {
        self.channel.state.fetch_and(!ASLEEP, Ordering::Relaxed);
    }

    /// Refuses messages from now on. [`pop`](Self::pop) still gives what was accepted before.
    pub fn close(&mut self) {
        // No fence: whoever does not see it in time has its message taken out with the rest.
        self.channel.state.fetch_or(CLOSED, Ordering::Relaxed);
    }

    /// A sender to this queue.
    pub fn sender(&self) -> Sender<M, W> {
        Sender {
            channel: Arc::clone(&self.channel),
        }
    }
}

impl<M, W> Drop for Receiver<M, W> {
    fn drop(&mut self) {
        self.channel
            .state
            .fetch_or(CLOSED | GONE, Ordering::Relaxed);
        // Pairs with the fence in [`Sender::send`]: either we see the message and drop it here, or
        // its sender sees `GONE` and does.
        fence(Ordering::SeqCst);
        self.channel.drain();
    }
}

impl<M, W> fmt::Debug for Receiver<M, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

/// The queue is closed; here is the message that it did not take.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Closed<M>(pub M);

impl<M> fmt::Debug for Closed<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closed").finish_non_exhaustive()
    }
}

impl<M> fmt::Display for Closed<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the queue is closed")
    }
}

impl<M> Error for Closed<M> {}
