//! Messages of one sender, and messages that follow from one another, arrive in order.
#![cfg(loom)]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use lowwater_loom_tests::{Bell, check};
use lowwater_queue::{Receiver, channel};

fn received(receiver: &mut Receiver<u32, Bell>) -> Vec<u32> {
    std::iter::from_fn(|| receiver.pop()).collect()
}

#[test]
fn messages_of_one_sender_arrive_in_order() {
    check(5, &["some", "all", "none"], |outcomes| {
        let (sender, mut receiver) = channel(Bell::new());
        let other = sender.clone();
        let one = thread::spawn(move || {
            sender.send(1).expect("it is open");
            sender.send(2).expect("it is open");
        });
        let two = thread::spawn(move || other.send(10).expect("it is open"));
        let mut seen = received(&mut receiver);
        outcomes.note(match seen.len() {
            0 => "none",
            3 => "all",
            _ => "some",
        });
        one.join().unwrap();
        two.join().unwrap();
        seen.extend(received(&mut receiver));
        seen.retain(|number| *number < 10);
        assert_eq!(seen, [1, 2]);
    });
}

#[test]
fn a_message_sent_because_of_another_arrives_after_it() {
    check(5, &["it followed", "it did not follow"], |outcomes| {
        let (sender, mut receiver) = channel(Bell::new());
        let other = sender.clone();
        let sent = Arc::new(AtomicBool::new(false));
        let seen_sent = Arc::clone(&sent);
        let cause = thread::spawn(move || {
            sender.send(1).expect("it is open");
            sent.store(true, Ordering::Release);
        });
        let effect = thread::spawn(move || {
            if seen_sent.load(Ordering::Acquire) {
                other.send(2).expect("it is open");
            }
        });
        let mut seen = received(&mut receiver);
        cause.join().unwrap();
        effect.join().unwrap();
        seen.extend(received(&mut receiver));
        outcomes.note(if seen.len() == 2 {
            "it followed"
        } else {
            "it did not follow"
        });
        assert!(seen == [1, 2] || seen == [1], "{seen:?}");
    });
}
