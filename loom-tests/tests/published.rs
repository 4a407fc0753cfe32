//! What is published is read whole, and several views as they were together.
#![cfg(loom)]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use lowwater_loom_tests::{Dropped, check, owner};
use lowwater_queue::read_all;

#[test]
fn a_view_is_read_whole_while_it_is_replaced_twice() {
    check(5, &["the first", "the second", "the third"], |outcomes| {
        let (mut owner, _freed) = owner(&Dropped::none());
        let handle = owner.register(0, 1);
        let reader = handle.clone();
        // Reading and writing one cell at once is an error that loom sees.
        let thread = thread::spawn(move || reader.read(|view| *view));
        // Never waits: this is straight-line code, and loom runs it to its end from wherever the
        // reader stopped.
        owner.publish(handle.slot(), 2);
        owner.publish(handle.slot(), 3);
        owner.publish(handle.slot(), 3);
        outcomes.note(match thread.join().unwrap() {
            1 => "the first",
            2 => "the second",
            3 => "the third",
            other => panic!("torn: {other}"),
        });
    });
}

#[test]
fn a_reader_that_stops_in_the_middle_costs_a_cell_and_stalls_nobody() {
    check(5, &["it was in the middle", "it was not"], |outcomes| {
        let (mut owner, _freed) = owner(&Dropped::none());
        let handle = owner.register(0, 1);
        let (reader, writer) = (handle.clone(), handle.clone());
        let thread = thread::spawn(move || {
            // The owner publishes while this one reads, on the reader's own thread: if it had to
            // wait, it would wait for ever.
            reader.read(|view| {
                owner.publish(writer.slot(), *view + 1);
                owner.publish(writer.slot(), *view + 2);
                assert_eq!(*view, 1, "what is being read has changed");
            });
            owner
        });
        let seen = handle.read(|view| *view);
        outcomes.note(if seen == 2 {
            "it was in the middle"
        } else {
            "it was not"
        });
        let mut owner = thread.join().unwrap();
        owner.publish(handle.slot(), 9);
        assert_eq!(handle.read(|view| *view), 9);
    });
}

#[test]
fn two_views_are_read_as_they_were_at_the_end_of_a_turn() {
    check(5, &["before", "after", "ask the owner"], |outcomes| {
        let (mut owner, _freed) = owner(&Dropped::none());
        let handles = [owner.register(0, 1), owner.register(0, 1)];
        let readers = handles.clone();
        let thread = thread::spawn(move || read_all(&[&readers[0], &readers[1]], |view| *view));
        owner.begin_turn();
        owner.publish(handles[0].slot(), 2);
        owner.publish(handles[1].slot(), 2);
        owner.end_turn();
        outcomes.note(match thread.join().unwrap().as_deref() {
            None => "ask the owner",
            Some([1, 1]) => "before",
            Some([2, 2]) => "after",
            Some(torn) => panic!("not of one turn: {torn:?}"),
        });
    });
}

#[test]
fn who_reads_a_turn_together_sees_all_that_was_done_in_it() {
    check(5, &["before", "after", "ask the owner"], |outcomes| {
        let (mut owner, _freed) = owner(&Dropped::none());
        let handle = owner.register(0, 1);
        let reader = handle.clone();
        // What the owner does after it published and before it ends the turn. Nothing but the end
        // of the turn orders it.
        let done = Arc::new(UnsafeCell::new(false));
        let seen = Arc::clone(&done);
        let thread = thread::spawn(move || {
            let read = read_all(&[&reader], |view| *view)?;
            if read == [2] {
                assert!(seen.with(done_is), "the turn was not over");
            }
            Some(read)
        });
        owner.begin_turn();
        owner.publish(handle.slot(), 2);
        done.with_mut(set_done);
        owner.end_turn();
        outcomes.note(match thread.join().unwrap().as_deref() {
            None => "ask the owner",
            Some([1]) => "before",
            Some([2]) => "after",
            Some(torn) => panic!("never published: {torn:?}"),
        });
    });
}

fn done_is(done: *const bool) -> bool {
    // SAFETY: loom checks that nobody writes.
    unsafe { *done }
}

fn set_done(done: *mut bool) {
    // SAFETY: loom checks that nobody else looks.
    unsafe { *done = true }
}

#[test]
fn a_replaced_view_is_used_again_only_after_its_last_reader() {
    check(5, &["replaced while it was read", "not"], |outcomes| {
        let (mut owner, _freed) = owner(&Dropped::none());
        let handle = owner.register(0, 1);
        let readers = [handle.clone(), handle.clone()];
        let threads = readers.map(|reader| {
            thread::spawn(move || {
                reader.read(|view| {
                    let before = *view;
                    (before, *view)
                })
            })
        });
        // Each ends a turn, and looks for cells to use again.
        owner.publish(handle.slot(), 2);
        owner.publish(handle.slot(), 3);
        owner.publish(handle.slot(), 4);
        let mut first = 0;
        for thread in threads {
            let (before, after) = thread.join().unwrap();
            assert_eq!(before, after, "what is being read has changed");
            first += u32::from(before == 1);
        }
        outcomes.note(if first > 0 {
            "replaced while it was read"
        } else {
            "not"
        });
    });
}
