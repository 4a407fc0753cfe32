//! No wake-up is lost.
#![cfg(loom)]

use loom::thread;
use lowwater_loom_tests::{Bell, Outcomes, check};
use lowwater_queue::{Receiver, Sender, Sleep, channel};

const SLEPT: &str = "it slept and was woken";
const PENDING: &str = "it saw the message and did not sleep";
const BEFORE: &str = "all came before it was asleep for good";

/// Takes messages until it is asleep, and nobody wakes it.
fn receive_until_asleep(
    receiver: &mut Receiver<u32, Bell>,
    sender: &Sender<u32, Bell>,
    outcomes: &Outcomes,
) -> u32 {
    let mut received = 0;
    loop {
        while receiver.pop().is_some() {
            received += 1;
        }
        match receiver.prepare_to_sleep() {
            Sleep::Pending => outcomes.note(PENDING),
            Sleep::Sleep if sender.wake().has_rung() => {
                receiver.woke_up();
                outcomes.note(SLEPT);
            }
            Sleep::Sleep => return received,
        }
    }
}

fn senders_and_a_sleeper(senders: u32, preemptions_max: usize) {
    check(
        preemptions_max,
        &[SLEPT, PENDING, BEFORE],
        move |outcomes| {
            let (sender, mut receiver) = channel::<u32, Bell>(Bell::new());
            let threads: Vec<_> = (0..senders)
                .map(|number| {
                    let sender = sender.clone();
                    thread::spawn(move || sender.send(number).expect("it is open"))
                })
                .collect();
            let mut received = receive_until_asleep(&mut receiver, &sender, outcomes);
            if received == senders {
                outcomes.note(BEFORE);
            }
            for thread in threads {
                thread.join().expect("it did not panic");
            }
            // It is asleep. Whatever came since must have rung.
            if sender.wake().has_rung() {
                receiver.woke_up();
                outcomes.note(SLEPT);
                received += receive_until_asleep(&mut receiver, &sender, outcomes);
            }
            assert_eq!(received, senders, "a message waits, and nobody rang");
            assert_eq!(receiver.received(), u64::from(senders));
        },
    );
}

#[test]
fn a_message_sent_while_the_consumer_falls_asleep_is_received() {
    senders_and_a_sleeper(1, 5);
}

#[test]
fn messages_of_two_senders_wake_a_consumer_that_falls_asleep() {
    senders_and_a_sleeper(2, 4);
}

#[test]
fn a_second_message_wakes_a_consumer_that_was_woken_by_the_first() {
    check(5, &[SLEPT, PENDING], |outcomes| {
        let (sender, mut receiver) = channel::<u32, Bell>(Bell::new());
        let other = sender.clone();
        let thread = thread::spawn(move || {
            other.send(1).expect("it is open");
            other.send(2).expect("it is open");
        });
        let mut received = receive_until_asleep(&mut receiver, &sender, outcomes);
        thread.join().unwrap();
        if sender.wake().has_rung() {
            receiver.woke_up();
            received += receive_until_asleep(&mut receiver, &sender, outcomes);
        }
        assert_eq!(received, 2, "a message waits, and nobody rang");
    });
}

#[test]
fn one_of_two_that_see_it_asleep_rings() {
    check(5, &["both were quick enough", "one was late"], |outcomes| {
        let (sender, mut receiver) = channel::<u32, Bell>(Bell::new());
        assert_eq!(receiver.prepare_to_sleep(), Sleep::Sleep);
        let threads = [1, 2].map(|number| {
            let sender = sender.clone();
            thread::spawn(move || sender.send(number).expect("it is open"))
        });
        let rung = sender.wake().has_rung();
        for thread in threads {
            thread.join().unwrap();
        }
        let rung_later = sender.wake().has_rung();
        assert!(rung ^ rung_later, "it rings once for one sleep");
        outcomes.note(if rung {
            "both were quick enough"
        } else {
            "one was late"
        });
        assert_eq!(
            [receiver.pop(), receiver.pop()]
                .into_iter()
                .flatten()
                .count(),
            2
        );
    });
}
