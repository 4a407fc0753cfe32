//! Holds outlive the engine.
#![cfg(loom)]

use loom::thread;
use lowwater_loom_tests::{Dropped, Engine, check, owner};
use lowwater_queue::PinError;

#[test]
fn a_hold_given_back_while_the_engine_stops_leaves_nothing() {
    check(5, &["pinned", "refused"], |outcomes| {
        let tables = Dropped::none();
        let (engine, handle) = Engine::start(&tables);
        let thread = thread::spawn(move || match handle.acquire() {
            Ok(pin) => {
                drop(handle);
                assert_eq!(*pin.capability(), 0);
                "pinned"
            }
            Err(PinError::Closed) => "refused",
            Err(PinError::TooManyPins) => panic!("there is one at most"),
        });
        engine.stop();
        outcomes.note(thread.join().unwrap());
        assert_eq!(tables.count(), 1, "something still keeps the table");
    });
}

#[test]
fn two_holds_of_an_engine_that_goes_keep_the_table_and_let_it_go_once() {
    check(
        5,
        &["the holds were last", "the owner was last"],
        |outcomes| {
            let tables = Dropped::none();
            let (mut owner, freed) = owner(&tables);
            let handle = owner.register(1, 0);
            let other = owner.register(2, 0);
            let pins = [handle.acquire(), handle.acquire()];
            drop(handle);
            let threads = pins.map(|pin| {
                let pin = pin.expect("it is open");
                thread::spawn(move || assert_eq!(*pin.capability(), 1))
            });
            drop(other);
            drop(freed);
            drop(owner);
            // Looked at before the threads are joined.
            let gone = tables.count() == 1;
            outcomes.note(if gone {
                "the owner was last"
            } else {
                "the holds were last"
            });
            for thread in threads {
                thread.join().unwrap();
            }
            assert_eq!(tables.count(), 1, "something still keeps the table");
        },
    );
}

#[test]
fn a_hold_that_is_cloned_after_the_engine_is_gone_still_holds() {
    check(5, &["cloned before", "cloned after"], |outcomes| {
        let tables = Dropped::none();
        let (mut owner, freed) = owner(&tables);
        let handle = owner.register(1, 0);
        let pin = handle.acquire().expect("it is open");
        let thread = thread::spawn(move || {
            let when = if handle.is_closed() {
                "cloned after"
            } else {
                "cloned before"
            };
            drop(handle);
            let clone = pin.try_clone().expect("there is room");
            drop(pin);
            assert_eq!(*clone.capability(), 1);
            when
        });
        drop(freed);
        drop(owner);
        outcomes.note(thread.join().unwrap());
        assert_eq!(tables.count(), 1, "something still keeps the table");
    });
}

#[test]
fn the_last_of_three_handles_lets_the_table_go_after_the_others_used_it() {
    check(5, &["this one was last", "another was last"], |outcomes| {
        let tables = Dropped::none();
        let (mut owner, freed) = owner(&tables);
        let handle = owner.register(1, 5);
        let handles = [handle.clone(), handle.clone()];
        drop(freed);
        drop(owner);
        let threads = handles.map(|handle| {
            thread::spawn(move || {
                assert!(handle.table().context().is_quiet());
                assert_eq!(handle.read(|view| *view), 5);
            })
        });
        let before = tables.count();
        drop(handle);
        let gone = before == 0 && tables.count() == 1;
        outcomes.note(if gone {
            "this one was last"
        } else {
            "another was last"
        });
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(tables.count(), 1, "something still keeps the table");
    });
}
