//! The message that moves a hold owns its pin.
#![cfg(loom)]

use loom::sync::atomic::Ordering;
use loom::thread;
use lowwater_loom_tests::{Dropped, Engine, Message, check};
use lowwater_queue::Closed;

#[test]
fn a_hold_that_is_moved_is_counted_at_every_instant() {
    let expected = ["pinned at 0", "pinned at 9"];
    check(5, &expected, |outcomes| {
        let (mut engine, handle) = Engine::start(&Dropped::none());
        let (sender, since) = (engine.sender(), engine.since());
        let thread = thread::spawn(move || {
            let pin = handle.acquire().expect("it is open");
            let from = *pin.capability();
            let to = from.max(5);
            sender
                .send(Message::Downgrade {
                    pin,
                    to,
                    answer: None,
                })
                .expect("it is open");
            assert!(
                since.load(Ordering::Acquire) <= to,
                "since passed a hold that was moved"
            );
            sender.send(Message::Release(to)).expect("it is open");
            from
        });
        engine.advance(9);
        engine.turn();
        let from = thread.join().unwrap();
        outcomes.note(if from == 0 {
            "pinned at 0"
        } else {
            "pinned at 9"
        });
        engine.turn();
        assert_eq!(engine.retired(), 0, "a cell did not come back");
        assert_eq!(engine.held(), 0, "something is still counted");
        assert_eq!(engine.since().load(Ordering::Acquire), 9);
        engine.stop();
    });
}

#[test]
fn a_move_that_meets_the_stop_is_done_or_refused_or_answered_by_its_end() {
    check(5, &["refused", "accepted", "no pin"], |outcomes| {
        let (tables, answers) = (Dropped::none(), Dropped::none());
        let (engine, handle) = Engine::start(&tables);
        let sender = engine.sender();
        let answer = Some(answers.witness());
        let thread = thread::spawn(move || {
            let Ok(pin) = handle.acquire() else {
                return "no pin";
            };
            match sender.send(Message::Downgrade { pin, to: 5, answer }) {
                Ok(()) => "accepted",
                Err(Closed(Message::Downgrade { pin, .. })) => {
                    assert_eq!(*pin.capability(), 0, "the pin came back, and holds");
                    "refused"
                }
                Err(Closed(other)) => panic!("another message came back: {other:?}"),
            }
        });
        engine.stop();
        outcomes.note(thread.join().unwrap());
        assert_eq!(answers.count(), 1, "the caller is still waiting");
        assert_eq!(tables.count(), 1, "something still keeps the table");
    });
}
