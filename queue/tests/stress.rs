//! Pins under real threads, with a bound on how long.

mod numbers;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use lowwater_queue::{Directory, Handle, Pin, PinError};
use numbers::{Alive, Numbers, owner, reclaim_all};

const RETIRES: u64 = if cfg!(miri) { 100 } else { 100_000 };
const OWNERS: u64 = if cfg!(miri) { 20 } else { 10_000 };

/// Takes, clones, passes on and drops pins until the slot is closed; what a pin carries must not
/// change, nor may `since` pass it.
fn take_and_drop(
    handle: &Handle<Numbers>,
    since: &AtomicU64,
    elsewhere: &mpsc::Sender<Pin<Numbers>>,
) {
    let mut kept = Vec::new();
    for round in 0_u64.. {
        let pin = match handle.acquire() {
            Ok(pin) => pin,
            Err(PinError::Closed) => return,
            Err(PinError::TooManyPins) => panic!("there are few"),
        };
        let number = pin.capability().number;
        let clone = pin.try_clone().expect("there is room");
        if round % 3 == 0 {
            drop(pin);
        } else {
            kept.push((number, pin));
        }
        assert!(since.load(Ordering::SeqCst) <= number, "since passed a pin");
        assert_eq!(clone.capability().number, number);
        if round % 5 == 0 {
            elsewhere.send(clone).expect("somebody takes them");
        }
        if kept.len() > 7 {
            for (number, pin) in kept.drain(..) {
                assert_eq!(
                    pin.capability().number,
                    number,
                    "what a pin carries has changed"
                );
            }
        }
    }
}

#[test]
fn pins_hold_while_their_cells_are_retired_and_all_cells_come_back() {
    let alive = Alive::default();
    let (mut owner, mut freed) = owner(&alive);
    let handle = owner.register(alive.number(0), alive.number(0));
    let since = AtomicU64::new(0);
    let (elsewhere, pins) = mpsc::channel::<Pin<Numbers>>();
    let mut retired = std::collections::BTreeMap::new();
    thread::scope(|scope| {
        for _ in 0..3 {
            let (handle, since, elsewhere) = (handle.clone(), &since, elsewhere.clone());
            scope.spawn(move || take_and_drop(&handle, since, &elsewhere));
        }
        drop(elsewhere);
        scope.spawn(move || pins.into_iter().for_each(drop));
        for number in 1..=RETIRES {
            if let Some(cell) = owner.retire(handle.slot(), alive.number(number)) {
                assert!(
                    retired.insert(cell, number - 1).is_none(),
                    "retired while it was"
                );
            }
            while let Some(cell) = freed.pop() {
                let cell = owner.reclaim(cell);
                assert!(retired.remove(&cell).is_some(), "freed twice");
            }
            since.store(
                retired.values().min().copied().unwrap_or(number),
                Ordering::SeqCst,
            );
        }
        if let Some(cell) = owner.close(handle.slot()) {
            retired.insert(cell, RETIRES);
        }
    });
    assert_eq!(
        reclaim_all(&mut owner, &mut freed),
        retired.len(),
        "a cell did not come back"
    );
    assert_eq!(alive.count(), 2, "only the table and the view are left");
    drop((owner, handle, freed));
    assert_eq!(alive.count(), 0);
}

#[test]
fn ten_thousand_owners_come_and_go_before_their_pins_and_nothing_grows() {
    let alive = Alive::default();
    let (outliving, pins) = mpsc::sync_channel::<Pin<Numbers>>(64);
    thread::scope(|scope| {
        scope.spawn(move || {
            for pin in pins {
                let number = pin.capability().number;
                let clone = pin.try_clone().unwrap();
                drop(pin);
                assert_eq!(
                    clone.capability().number,
                    number,
                    "what a pin carries has changed"
                );
            }
        });
        for number in 0..OWNERS {
            let (mut owner, mut freed) = owner(&alive);
            let handle = owner.register(alive.number(number), alive.number(0));
            let other = owner.register(alive.number(number), alive.number(0));
            outliving.send(handle.acquire().unwrap()).unwrap();
            owner.retire(handle.slot(), alive.number(number));
            outliving.send(handle.acquire().unwrap()).unwrap();
            outliving.send(other.acquire().unwrap()).unwrap();
            reclaim_all(&mut owner, &mut freed);
            // At most the pins that wait, one that is being dropped, and this: six alive each.
            assert!(
                alive.count() <= (64 + 2) * 6,
                "tables pile up: {}",
                alive.count()
            );
            if number % 2 == 0 {
                drop(freed);
                drop(owner);
            } else {
                drop(owner);
                drop(freed);
            }
        }
        drop(outliving);
    });
    assert_eq!(alive.count(), 0, "a table is left");
}

#[test]
fn ids_are_found_while_collections_come_and_go() {
    let alive = Alive::default();
    let (mut owner, mut freed) = owner(&alive);
    let directory = Directory::<u64, Numbers>::new();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for round in 0_u64.. {
                    let id = round % 16;
                    if let Some(Ok(pin)) = directory.acquire(&id) {
                        assert_eq!(pin.capability().number % 16, id, "pinned another's");
                    }
                    let seen = directory.with(&id, |handle| handle.read(|view| view.number));
                    assert!(
                        seen.is_none_or(|number| number % 16 == id),
                        "read another's"
                    );
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }
        for number in 0..RETIRES / 4 {
            let id = number % 16;
            if let Some(handle) = directory.get(&id) {
                directory.remove(&id);
                owner.close(handle.slot());
            }
            directory.insert(
                id,
                owner.register(alive.number(number), alive.number(number)),
            );
            reclaim_all(&mut owner, &mut freed);
        }
        over.store(true, Ordering::Relaxed);
    });
    drop((owner, directory, freed));
    assert_eq!(alive.count(), 0);
}
