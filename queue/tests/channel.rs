//! The queue in one thread, and its promise to wake with many.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, Thread};

use lowwater_queue::{Closed, Receiver, Sleep, Wake, channel};

#[derive(Default)]
struct Rings(AtomicUsize);

impl Wake for Rings {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Rings {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn drain<M, W: Wake>(receiver: &mut Receiver<M, W>) -> Vec<M> {
    std::iter::from_fn(|| receiver.pop()).collect()
}

#[test]
fn messages_arrive_in_the_order_of_their_sending() {
    let (sender, mut receiver) = channel(Rings::default());
    for number in 0..1000 {
        sender.clone().send(number).unwrap();
    }
    assert_eq!(
        (sender.depth(), receiver.depth(), receiver.received()),
        (1000, 1000, 0)
    );
    assert_eq!(drain(&mut receiver), (0..1000).collect::<Vec<_>>());
    assert_eq!(
        (sender.depth(), receiver.depth(), receiver.received()),
        (0, 0, 1000)
    );
}

#[test]
fn nobody_is_woken_who_is_awake_and_a_sleeper_is_woken_once() {
    let (sender, mut receiver) = channel(Rings::default());
    sender.send(1).unwrap();
    assert_eq!(sender.wake().count(), 0);
    assert_eq!(receiver.prepare_to_sleep(), Sleep::Pending);
    sender.send(2).unwrap();
    assert_eq!(sender.wake().count(), 0, "it stayed awake");
    drain(&mut receiver);
    assert_eq!(receiver.prepare_to_sleep(), Sleep::Sleep);
    sender.send(3).unwrap();
    sender.send(4).unwrap();
    assert_eq!(sender.wake().count(), 1);
    receiver.woke_up();
    sender.send(5).unwrap();
    assert_eq!(sender.wake().count(), 1);
    assert_eq!(drain(&mut receiver), [3, 4, 5]);
}

#[test]
fn who_wakes_by_itself_is_not_woken_any_more() {
    let (sender, mut receiver) = channel(Rings::default());
    assert_eq!(receiver.prepare_to_sleep(), Sleep::Sleep);
    receiver.woke_up();
    sender.send(()).unwrap();
    assert_eq!(sender.wake().count(), 0);
}

#[test]
fn a_closed_queue_gives_messages_back_and_what_it_had_accepted_is_received() {
    let (sender, mut receiver) = channel(Rings::default());
    sender.send("accepted").unwrap();
    receiver.close();
    assert!(sender.is_closed());
    let Err(Closed(message)) = sender.send("refused") else {
        panic!("it is closed")
    };
    assert_eq!(message, "refused");
    assert_eq!(drain(&mut receiver), ["accepted"]);
    assert!(receiver.sender().is_closed());
}

#[test]
fn what_is_left_goes_with_the_receiver_though_senders_stay() {
    let message = Arc::new(());
    let (sender, receiver) = channel(Rings::default());
    sender.send(Arc::clone(&message)).unwrap();
    drop(receiver);
    assert_eq!(Arc::strong_count(&message), 1);
    assert!(sender.send(Arc::clone(&message)).is_err());
    assert_eq!(Arc::strong_count(&message), 1);
}

/// A sleep that a wake-up ends: parking keeps one that comes too early.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(&self) {
        self.0.unpark();
    }
}

const SENDERS: u64 = 4;
const MESSAGES: u64 = if cfg!(miri) { 50 } else { 50_000 };

#[test]
fn a_sleeper_receives_all_messages_of_many_senders_in_order() {
    let (sender, mut receiver) = channel(Unpark(thread::current()));
    let mut next = [0; SENDERS as usize];
    thread::scope(|scope| {
        for number in 0..SENDERS {
            let sender = sender.clone();
            scope.spawn(move || {
                for message in 0..MESSAGES {
                    sender.send((number, message)).unwrap();
                    // Let it fall asleep now and then.
                    if message % 16 == number {
                        thread::yield_now();
                    }
                }
            });
        }
        while receiver.received() < SENDERS * MESSAGES {
            while let Some((number, message)) = receiver.pop() {
                let expected = &mut next[number as usize];
                assert_eq!(message, *expected);
                *expected += 1;
            }
            if receiver.received() < SENDERS * MESSAGES
                && receiver.prepare_to_sleep() == Sleep::Sleep
            {
                // A lost wake-up stays here for ever.
                thread::park();
                receiver.woke_up();
            }
        }
    });
    assert_eq!(next, [MESSAGES; SENDERS as usize]);
}

#[test]
fn many_receivers_that_go_while_others_send_leave_no_message_behind() {
    let message = Arc::new(());
    for _ in 0..MESSAGES / 50 {
        let (sender, mut receiver) = channel(Rings::default());
        let start = std::sync::Barrier::new(3);
        thread::scope(|scope| {
            for _ in 0..2 {
                let (sender, start, message) = (sender.clone(), &start, &message);
                scope.spawn(move || {
                    start.wait();
                    for _ in 0..4 {
                        let _ = sender.send(Arc::clone(message));
                    }
                });
            }
            start.wait();
            receiver.close();
            while receiver.pop().is_some() {}
            drop(receiver);
        });
        assert_eq!(Arc::strong_count(&message), 1, "a message stayed behind");
        assert_eq!(sender.depth(), 0);
    }
}
