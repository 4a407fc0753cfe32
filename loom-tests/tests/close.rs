//! Nothing stays behind in a closed queue, and nothing that was sent before is lost.
#![cfg(loom)]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;
use lowwater_loom_tests::{Bell, Dropped, Witness, check};
use lowwater_queue::{Closed, Receiver, Sender, channel};

fn drain(receiver: &mut Receiver<Witness, Bell>) -> usize {
    std::iter::from_fn(|| receiver.pop()).count()
}

/// Whether it was accepted.
fn send(sender: &Sender<Witness, Bell>, message: Witness) -> bool {
    match sender.send(message) {
        Ok(()) => true,
        Err(Closed(_back)) => false,
    }
}

#[test]
fn a_message_is_received_or_refused_or_dropped_and_never_left_behind() {
    let expected = ["received", "refused", "accepted but dropped"];
    check(5, &expected, |outcomes| {
        let dropped = Dropped::none();
        let (sender, mut receiver) = channel(Bell::new());
        let (other, message) = (sender.clone(), dropped.witness());
        let thread = thread::spawn(move || send(&other, message));
        receiver.close();
        let received = drain(&mut receiver);
        drop(receiver);
        let accepted = thread.join().unwrap();
        outcomes.note(match (accepted, received) {
            (true, 1) => "received",
            (true, 0) => "accepted but dropped",
            (false, 0) => "refused",
            other => panic!("{other:?}"),
        });
        // The sender is still there, and with it the queue.
        assert!(sender.is_closed());
        assert_eq!(dropped.count(), 1, "the message is still in the queue");
    });
}

#[test]
fn two_that_send_while_the_receiver_goes_leave_nothing_behind() {
    check(
        5,
        &["both accepted", "one refused", "both refused"],
        |outcomes| {
            let dropped = Dropped::none();
            let (sender, receiver) = channel(Bell::new());
            let threads = [(); 2].map(|()| {
                let (other, message) = (sender.clone(), dropped.witness());
                thread::spawn(move || send(&other, message))
            });
            drop(receiver);
            let accepted = threads
                .into_iter()
                .filter_map(|it| it.join().unwrap().then_some(()));
            outcomes.note(match accepted.count() {
                2 => "both accepted",
                1 => "one refused",
                _ => "both refused",
            });
            assert_eq!(dropped.count(), 2, "a message is still in the queue");
            assert_eq!(sender.depth(), 0);
        },
    );
}

#[test]
fn what_was_sent_before_the_close_is_received_though_others_send_meanwhile() {
    check(5, &["refused", "accepted"], |outcomes| {
        let (sender, mut receiver) = channel(Bell::new());
        sender.send(1).expect("it is open");
        let thread = thread::spawn(move || sender.send(2).is_ok());
        receiver.close();
        assert_eq!(receiver.pop(), Some(1), "what was sent before is lost");
        while receiver.pop().is_some() {}
        drop(receiver);
        let accepted = thread.join().unwrap();
        outcomes.note(if accepted { "accepted" } else { "refused" });
    });
}

#[test]
fn a_message_sent_before_the_close_was_asked_for_is_received() {
    check(5, &["asked in time", "asked too late"], |outcomes| {
        let (sender, mut receiver) = channel(Bell::new());
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            sender.send(1).expect("it is open");
            stop.store(true, Ordering::Release);
        });
        if asked.load(Ordering::Acquire) {
            receiver.close();
            assert_eq!(receiver.pop(), Some(1), "what was sent before is lost");
            outcomes.note("asked in time");
        } else {
            outcomes.note("asked too late");
        }
        thread.join().unwrap();
    });
}
