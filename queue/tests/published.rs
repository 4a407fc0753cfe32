//! Reading views, of one slot and of several, and finding them by id.

mod numbers;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use lowwater_queue::{Directory, Handle, PinError, read_all};
use numbers::{Alive, Numbers, owner};

const TURNS: u64 = if cfg!(miri) { 50 } else { 20_000 };

#[test]
fn a_view_is_the_one_that_was_published_last() {
    let alive = Alive::default();
    let (mut owner, _freed) = owner(&alive);
    let handle = owner.register(alive.number(0), alive.number(1));
    assert_eq!(handle.read(|view| view.number), 1);
    owner.publish(handle.slot(), alive.number(2));
    assert_eq!(handle.clone().read(|view| view.number), 2);
}

#[test]
fn a_view_that_is_being_read_stays_and_goes_when_it_was_read() {
    let alive = Alive::default();
    let (mut owner, _freed) = owner(&alive);
    let handle = owner.register(alive.number(0), alive.number(1));
    let slot = handle.slot();
    let before = alive.count();
    handle.read(|view| {
        for number in 2..10 {
            owner.publish(slot, alive.number(number));
        }
        assert_eq!(view.number, 1);
        assert_eq!(
            alive.count(),
            before + 1,
            "only the one that is being read is kept"
        );
    });
    owner.begin_turn();
    owner.end_turn();
    assert_eq!(alive.count(), before);
}

#[test]
fn a_reader_that_panics_gives_its_view_back() {
    let alive = Alive::default();
    let (mut owner, _freed) = owner(&alive);
    let handle = owner.register(alive.number(0), alive.number(1));
    let before = alive.count();
    let reader = handle.clone();
    thread::spawn(move || reader.read(|_view| panic!("expected")))
        .join()
        .unwrap_err();
    owner.publish(handle.slot(), alive.number(2));
    assert_eq!(alive.count(), before);
}

#[test]
fn several_are_read_together_only_outside_a_turn_and_of_one_owner() {
    let alive = Alive::default();
    let (mut one, _freed) = owner(&alive);
    let (mut other, _other_freed) = owner(&alive);
    let handles = [1, 2].map(|number| one.register(alive.number(0), alive.number(number)));
    let stranger = other.register(alive.number(0), alive.number(3));
    let [first, second] = &handles;
    assert_eq!(
        read_all(&[second, first, second], |view| view.number),
        Some(vec![2, 1, 2])
    );
    assert_eq!(
        read_all::<Numbers, u64>(&[], |view| view.number),
        Some(vec![])
    );
    assert_eq!(read_all(&[first, &stranger], |view| view.number), None);
    one.begin_turn();
    one.publish(first.slot(), alive.number(10));
    assert_eq!(
        read_all(&[first, second], |view| view.number),
        None,
        "in the middle of a turn"
    );
    one.end_turn();
    assert_eq!(
        read_all(&[first, second], |view| view.number),
        Some(vec![10, 2])
    );
    drop(one);
    assert_eq!(
        read_all(&[first, second], |view| view.number),
        Some(vec![10, 2])
    );
}

#[test]
fn readers_of_several_never_see_half_a_turn() {
    let alive = Alive::default();
    let (mut owner, _freed) = owner(&alive);
    let handles: Vec<Handle<Numbers>> = (0..8)
        .map(|_| owner.register(alive.number(0), alive.number(0)))
        .collect();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers = [(); 2].map(|()| {
            scope.spawn(|| {
                let all: Vec<_> = handles.iter().collect();
                let mut latest = 0;
                while !over.load(Ordering::Relaxed) {
                    let Some(numbers) = read_all(&all, |view| view.number) else {
                        continue;
                    };
                    assert!(
                        numbers.iter().all(|number| *number == numbers[0]),
                        "{numbers:?}"
                    );
                    assert!(numbers[0] >= latest, "went back");
                    latest = numbers[0];
                    assert!(handles[3].read(|view| view.number) >= latest, "went back");
                }
            })
        });
        for turn in 1..=TURNS {
            owner.begin_turn();
            for handle in &handles {
                owner.publish(handle.slot(), alive.number(turn));
            }
            owner.end_turn();
        }
        over.store(true, Ordering::Relaxed);
        // The scope would wait too, but in a way that ThreadSanitizer does not see.
        for reader in readers {
            reader.join().unwrap();
        }
    });
    owner.begin_turn();
    owner.end_turn();
    assert_eq!(
        alive.count(),
        1 + 2 * handles.len(),
        "a table; a capability and a view each"
    );
}

#[test]
#[should_panic(expected = "a turn within a turn")]
fn a_turn_cannot_begin_within_a_turn() {
    let (mut owner, _freed) = owner(&Alive::default());
    owner.begin_turn();
    owner.begin_turn();
}

#[test]
fn a_slot_is_found_by_its_id_until_it_is_removed() {
    let alive = Alive::default();
    let (mut owner, _freed) = owner(&alive);
    let directory = Directory::new();
    assert!(directory.is_empty());
    for id in 0..100 {
        directory.insert(id, owner.register(alive.number(id), alive.number(id)));
    }
    assert_eq!(directory.len(), 100);
    assert_eq!(
        directory.acquire(&7).unwrap().unwrap().capability().number,
        7
    );
    assert_eq!(
        directory.with(&8, |handle| handle.read(|view| view.number)),
        Some(8)
    );
    let handle = directory.get(&7).unwrap();
    assert!(directory.remove(&7) && !directory.remove(&7));
    assert!(directory.acquire(&7).is_none() && directory.get(&7).is_none());
    assert_eq!(
        handle.acquire().unwrap().capability().number,
        7,
        "the handle still works"
    );
    let slot = directory.get(&9).unwrap().slot();
    owner.close(slot);
    assert_eq!(
        directory.acquire(&9).unwrap().unwrap_err(),
        PinError::Closed
    );
    directory.insert(9, handle);
    assert_eq!(
        directory.acquire(&9).unwrap().unwrap().capability().number,
        7
    );
    directory.clear();
    assert!(directory.is_empty() && directory.acquire(&1).is_none());
    drop((directory, owner, _freed));
    assert_eq!(alive.count(), 0);
}
