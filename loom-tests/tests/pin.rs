//! A pin keeps what it was taken on, and a cell is used again exactly when its last pin is gone.
#![cfg(loom)]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use lowwater_loom_tests::{Bell, Dropped, Numbers, check, owner};
use lowwater_queue::{Freed, Owner, Pin, Receiver, Slot};

/// Takes back what was freed; says how many cells.
fn reclaim_all(owner: &mut Owner<Numbers>, freed: &mut Receiver<Freed<Numbers>, Bell>) -> usize {
    std::iter::from_fn(|| freed.pop())
        .map(|cell| owner.reclaim(cell))
        .count()
}

/// Writes into every cell that is free, and into one that is new.
fn use_cells_again(owner: &mut Owner<Numbers>, slot: Slot) {
    for number in 100..103 {
        assert_eq!(owner.retire(slot, number), None, "nobody is on it");
    }
}

#[test]
fn a_hold_blocks_the_since_that_the_owner_wants_to_move() {
    check(
        5,
        &["it held", "it came too late", "it came and went"],
        |outcomes| {
            let (mut owner, mut freed) = owner(&Dropped::none());
            let handle = owner.register(0, 0);
            let since = Arc::new(AtomicU64::new(0));
            let (reader, seen) = (handle.clone(), Arc::clone(&since));
            let thread = thread::spawn(move || {
                let pin = reader.acquire().expect("it is open");
                let held = *pin.capability();
                assert!(seen.load(Ordering::Relaxed) <= held, "since passed a hold");
                held
            });
            let retired = owner.retire(handle.slot(), 10);
            if retired.is_none() {
                since.store(10, Ordering::Relaxed);
            }
            let held = thread.join().unwrap();
            outcomes.note(match (retired, held) {
                (Some(_), 0) => "it held",
                (None, 10) => "it came too late",
                (None, 0) => "it came and went",
                other => panic!("{other:?}"),
            });
            assert_eq!(
                reclaim_all(&mut owner, &mut freed),
                usize::from(retired.is_some())
            );
        },
    );
}

#[test]
fn a_clone_and_a_release_while_the_cell_is_retired_free_it_once() {
    check(5, &["free at once", "freed by a message"], |outcomes| {
        let tables = Dropped::none();
        let (mut owner, mut freed) = owner(&tables);
        let handle = owner.register(7, 0);
        let pin = handle.acquire().expect("it is open");
        let thread = thread::spawn(move || {
            let clone = pin.try_clone().expect("there is room");
            drop(pin);
            assert_eq!(*clone.capability(), 7);
        });
        let retired = owner.retire(handle.slot(), 8);
        outcomes.note(if retired.is_some() {
            "freed by a message"
        } else {
            "free at once"
        });
        thread.join().unwrap();
        assert_eq!(
            reclaim_all(&mut owner, &mut freed),
            usize::from(retired.is_some())
        );
        use_cells_again(&mut owner, handle.slot());
        drop((owner, handle, freed));
        assert_eq!(tables.count(), 1, "something still keeps the table");
    });
}

#[test]
fn a_clone_made_by_one_thread_and_dropped_while_another_keeps_the_pin_frees_nothing() {
    check(5, &["kept", "left before"], |outcomes| {
        let (mut owner, mut freed) = owner(&Dropped::none());
        let handle = owner.register(7, 0);
        let pin = Arc::new(handle.acquire().expect("it is open"));
        let threads = [Arc::clone(&pin), Arc::clone(&pin)]
            .map(|pin| thread::spawn(move || drop(pin.try_clone().expect("there is room"))));
        let retired = owner.retire(handle.slot(), 8);
        assert!(retired.is_some(), "the pin is there");
        assert_eq!(
            reclaim_all(&mut owner, &mut freed),
            0,
            "the pin is still there"
        );
        let alone = Arc::strong_count(&pin) == 1;
        outcomes.note(if alone { "left before" } else { "kept" });
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(*pin.capability(), 7);
        assert_eq!(
            reclaim_all(&mut owner, &mut freed),
            0,
            "the pin is still there"
        );
        drop(pin);
        assert_eq!(reclaim_all(&mut owner, &mut freed), 1);
    });
}

#[test]
fn a_cell_is_used_again_only_after_its_last_reader() {
    let expected = [
        "freed by a message and used again",
        "free at once",
        "not free in time",
    ];
    check(5, &expected, |outcomes| {
        let (mut owner, mut freed) = owner(&Dropped::none());
        let handle = owner.register(1, 0);
        let reader = handle.clone();
        let thread = thread::spawn(move || {
            let pin = reader.acquire().expect("it is open");
            let before = *pin.capability();
            let after = *pin.capability();
            assert_eq!(before, after, "what a pin carries has changed");
        });
        let slot = handle.slot();
        let retired = owner.retire(slot, 2);
        let reclaimed = reclaim_all(&mut owner, &mut freed);
        outcomes.note(match (retired, reclaimed) {
            (None, 0) => "free at once",
            (Some(_), 1) => "freed by a message and used again",
            (Some(_), 0) => "not free in time",
            other => panic!("{other:?}"),
        });
        // The first cell is written again, if it is free.
        let again = owner.retire(slot, 3);
        thread.join().unwrap();
        let expected = usize::from(retired.is_some()) + usize::from(again.is_some()) - reclaimed;
        assert_eq!(
            reclaim_all(&mut owner, &mut freed),
            expected,
            "each is freed once"
        );
        use_cells_again(&mut owner, slot);
    });
}

#[test]
fn two_leave_a_retired_cell_and_then_it_is_used_again() {
    check(
        5,
        &["the last one told", "both left in between"],
        |outcomes| {
            let (mut owner, mut freed) = owner(&Dropped::none());
            let handle = owner.register(1, 0);
            let slot = handle.slot();
            let pins = [handle.acquire(), handle.acquire()];
            let threads = pins.map(|pin| {
                let pin = pin.expect("it is open");
                thread::spawn(move || assert_eq!(*pin.capability(), 1))
            });
            let retired = owner.retire(slot, 2);
            // Not joined: that would order what only the pins may order.
            let reclaimed = reclaim_all(&mut owner, &mut freed);
            if retired.is_none() || reclaimed == 1 {
                outcomes.note(if reclaimed == 1 {
                    "the last one told"
                } else {
                    "both left in between"
                });
                // The first cell is written again.
                assert_eq!(owner.retire(slot, 3), None);
            }
            for thread in threads {
                thread.join().unwrap();
            }
        },
    );
}

#[test]
fn all_leave_between_the_turning_over_and_the_settling() {
    check(5, &["free at once", "freed by a message"], |outcomes| {
        let (mut owner, mut freed) = owner(&Dropped::none());
        let handle = owner.register(1, 0);
        let slot = handle.slot();
        let pin = handle.acquire().expect("it is open");
        let thread = thread::spawn(move || assert_eq!(*pin.capability(), 1));
        if owner.retire(slot, 2).is_none() {
            outcomes.note("free at once");
            // The first cell is written again, ordered by nothing but the pin's leaving.
            assert_eq!(owner.retire(slot, 3), None);
        } else {
            outcomes.note("freed by a message");
        }
        thread.join().unwrap();
        reclaim_all(&mut owner, &mut freed);
    });
}

#[test]
fn a_pin_taken_while_the_slot_is_closed_is_a_pin_or_refused() {
    check(
        5,
        &["pinned and kept", "pinned and gone", "refused"],
        |outcomes| {
            let tables = Dropped::none();
            let (mut owner, mut freed) = owner(&tables);
            let handle = owner.register(1, 0);
            let reader = handle.clone();
            let thread = thread::spawn(move || match reader.acquire() {
                Ok(pin) => {
                    assert_eq!(*pin.capability(), 1);
                    let clone = pin.try_clone().expect("clones work after the close");
                    drop(pin);
                    drop(clone);
                    true
                }
                Err(_closed) => false,
            });
            let retired = owner.close(handle.slot());
            assert!(handle.is_closed());
            assert!(handle.acquire().is_err(), "a closed word opened again");
            let pinned = thread.join().unwrap();
            outcomes.note(match (retired, pinned) {
                (Some(_), true) => "pinned and kept",
                (None, true) => "pinned and gone",
                (None, false) => "refused",
                other => panic!("{other:?}"),
            });
            assert_eq!(
                reclaim_all(&mut owner, &mut freed),
                usize::from(retired.is_some())
            );
            assert_eq!(
                owner.close(handle.slot()),
                None,
                "closing again does nothing"
            );
            drop((owner, handle, freed));
            assert_eq!(tables.count(), 1, "something still keeps the table");
        },
    );
}

#[test]
fn a_slot_is_used_again_only_after_its_last_handle() {
    check(5, &["the same slot", "another slot"], |outcomes| {
        let (mut owner, mut freed) = owner(&Dropped::none());
        let handle = owner.register(1, 0);
        let slot = handle.slot();
        let thread = thread::spawn(move || {
            let pin = handle.acquire().ok();
            assert!(
                pin.as_ref().is_none_or(|pin| *pin.capability() == 1),
                "pinned another's"
            );
            assert_eq!(handle.read(|view| *view), 0, "read another's");
            drop(handle);
            drop(pin);
        });
        let mut retired = usize::from(owner.close(slot).is_some());
        let other = owner.register(2, 20);
        let reused = other.slot() == slot;
        outcomes.note(if reused {
            "the same slot"
        } else {
            "another slot"
        });
        assert_eq!(*other.acquire().expect("it is open").capability(), 2);
        assert_eq!(other.read(|view| *view), 20);
        thread.join().unwrap();
        retired += usize::from(owner.close(other.slot()).is_some());
        assert_eq!(
            reclaim_all(&mut owner, &mut freed),
            retired,
            "each is freed once"
        );
    });
}

/// A pin taken by one thread and given back by another.
#[test]
fn a_pin_moves_to_another_thread_and_keeps_its_cell() {
    check(5, &["it moved", "it stayed"], |outcomes| {
        let (mut owner, mut freed) = owner(&Dropped::none());
        let handle = owner.register(1, 0);
        let (sender, mut receiver) = lowwater_queue::channel::<Pin<Numbers>, _>(Bell::new());
        let reader = handle.clone();
        let thread = thread::spawn(move || {
            let pin = reader.acquire().expect("it is open");
            let _ = sender.send(pin);
        });
        let pin = receiver.pop();
        let retired = owner.retire(handle.slot(), 2);
        outcomes.note(if pin.is_some() {
            "it moved"
        } else {
            "it stayed"
        });
        assert!(pin.is_none_or(|pin| *pin.capability() == 1));
        thread.join().unwrap();
        drop(receiver);
        assert_eq!(
            reclaim_all(&mut owner, &mut freed),
            usize::from(retired.is_some())
        );
        use_cells_again(&mut owner, handle.slot());
    });
}

#[test]
fn a_pin_survives_on_a_cell_that_was_used_before() {
    check(5, &["freed by a message", "free at once"], |outcomes| {
        let (mut owner, mut freed) = owner(&Dropped::none());
        let handle = owner.register(1, 0);
        let slot = handle.slot();
        let first = handle.acquire().expect("it is open");
        let cell = owner.retire(slot, 2).expect("somebody is on it");
        drop(first);
        assert_eq!(reclaim_all(&mut owner, &mut freed), 1);
        assert_eq!(owner.retire(slot, 3), None, "the first cell is used again");
        let pin = handle.acquire().expect("it is open");
        let thread = thread::spawn(move || {
            let clone = pin.try_clone().expect("there is room");
            drop(pin);
            assert_eq!(*clone.capability(), 3);
        });
        let retired = owner.retire(slot, 4);
        assert!(retired.is_none_or(|retired| retired == cell));
        outcomes.note(if retired.is_some() {
            "freed by a message"
        } else {
            "free at once"
        });
        thread.join().unwrap();
        assert_eq!(
            reclaim_all(&mut owner, &mut freed),
            usize::from(retired.is_some())
        );
        use_cells_again(&mut owner, slot);
    });
}
