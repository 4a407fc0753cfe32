//! The command queue beside the channels that others use.

use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel as crossbeam_channel;
use lowwater_queue::Wake;
use tokio::sync::mpsc;

use crate::sample::timed;

/// How many messages are sent before they are received, where one thread does both.
const DEPTH: u64 = 100;

/// As large as a command: a few words.
type Message = [u64; 4];

/// A channel under test: unbounded, many senders, one receiver.
pub trait Channel {
    /// The sending end.
    type Sender: Clone + Send;
    /// The receiving end.
    type Receiver: Send;

    /// Both ends.
    fn new() -> (Self::Sender, Self::Receiver);
    /// Sends one message.
    fn send(sender: &Self::Sender, message: Message);
    /// Receives one, if there is one.
    fn receive(receiver: &mut Self::Receiver) -> Option<Message>;
}

/// `lowwater-queue`, whose consumer does not sleep here: nobody is woken.
pub struct Queue;

/// `tokio::sync::mpsc`.
pub struct Tokio;

/// `crossbeam-channel`.
pub struct Crossbeam;

/// Nobody sleeps.
pub struct Awake;

impl Wake for Awake {
    fn wake(&self) {}
}

const OPEN: &str = "both ends are there";

impl Channel for Queue {
    type Sender = lowwater_queue::Sender<Message, Awake>;
    type Receiver = lowwater_queue::Receiver<Message, Awake>;

    fn new() -> (Self::Sender, Self::Receiver) {
        lowwater_queue::channel(Awake)
    }

    #[inline]
    fn send(sender: &Self::Sender, message: Message) {
        assert!(sender.send(message).is_ok(), "{OPEN}");
    }

    #[inline]
    fn receive(receiver: &mut Self::Receiver) -> Option<Message> {
        receiver.pop()
    }
}

impl Channel for Tokio {
    type Sender = mpsc::UnboundedSender<Message>;
    type Receiver = mpsc::UnboundedReceiver<Message>;

    fn new() -> (Self::Sender, Self::Receiver) {
        mpsc::unbounded_channel()
    }

    #[inline]
    fn send(sender: &Self::Sender, message: Message) {
        sender.send(message).expect(OPEN);
    }

    #[inline]
    fn receive(receiver: &mut Self::Receiver) -> Option<Message> {
        receiver.try_recv().ok()
    }
}

impl Channel for Crossbeam {
    type Sender = crossbeam_channel::Sender<Message>;
    type Receiver = crossbeam_channel::Receiver<Message>;

    fn new() -> (Self::Sender, Self::Receiver) {
        crossbeam_channel::unbounded()
    }

    #[inline]
    fn send(sender: &Self::Sender, message: Message) {
        sender.send(message).expect(OPEN);
    }

    #[inline]
    fn receive(receiver: &mut Self::Receiver) -> Option<Message> {
        receiver.try_recv().ok()
    }
}

/// One thread sends and receives so many messages, some at a time.
///
/// # Panics
///
/// When a message does not come, or not in its turn.
pub fn one_thread<C: Channel>(operations: u64) -> Duration {
    let (sender, mut receiver) = C::new();
    let rounds = operations.div_ceil(DEPTH);
    let took = timed(rounds, || {
        for at in 0..DEPTH {
            C::send(&sender, [at; 4]);
        }
        for at in 0..DEPTH {
            assert_eq!(C::receive(&mut receiver), Some([at; 4]), "in order");
        }
    });
    // As if there had been exactly as many as were asked for.
    took.mul_f64(operations as f64 / (rounds * DEPTH) as f64)
}

/// Two threads send so many messages in all, while a third receives them.
pub fn two_producers<C: Channel>(operations: u64) -> Duration {
    let (sender, mut receiver) = C::new();
    let start = Instant::now();
    thread::scope(|scope| {
        for share in [operations / 2, operations - operations / 2] {
            let sender = sender.clone();
            scope.spawn(move || (0..share).for_each(|at| C::send(&sender, [at; 4])));
        }
        let mut missing = operations;
        while missing > 0 {
            match C::receive(&mut receiver) {
                Some(_) => missing -= 1,
                None => thread::yield_now(),
            }
        }
    });
    start.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_channel_delivers_every_message() {
        one_thread::<Queue>(250);
        one_thread::<Tokio>(250);
        one_thread::<Crossbeam>(250);
        // These end only when everything has come.
        two_producers::<Queue>(1001);
        two_producers::<Tokio>(1001);
        two_producers::<Crossbeam>(1001);
    }
}
