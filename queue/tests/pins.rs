//! Pins, retired cells and slots in one thread.

mod numbers;

use lowwater_queue::{CellId, Handle, Pin, PinError, Slot};
use numbers::{Alive, Numbers, owner, reclaim_all};

#[test]
fn a_pin_keeps_what_it_was_taken_on() {
    let alive = Alive::default();
    let (mut owner, mut freed) = owner(&alive);
    let handle = owner.register(alive.number(1), alive.number(0));
    let pin = handle.acquire().unwrap();
    assert!(pin.is_current());
    let cell = owner
        .retire(handle.slot(), alive.number(2))
        .expect("it is pinned");
    assert!(!pin.is_current());
    assert_eq!((pin.capability().number, owner.pins(cell)), (1, 1));
    let clone = pin.try_clone().unwrap();
    assert_eq!((clone.capability().number, owner.pins(cell)), (1, 2));
    assert_eq!(handle.acquire().unwrap().capability().number, 2);
    drop(pin);
    assert_eq!(
        (reclaim_all(&mut owner, &mut freed), owner.pins(cell)),
        (0, 1)
    );
    drop(clone);
    let told = freed.pop().expect("the last one told");
    assert_eq!((told.cell(), owner.reclaim(told)), (cell, cell));
    assert!(freed.pop().is_none());
}

#[test]
fn a_cell_without_pins_is_free_at_once_and_drops_what_it_carried() {
    let alive = Alive::default();
    let (mut owner, mut freed) = owner(&alive);
    let handle = owner.register(alive.number(1), alive.number(0));
    let before = alive.count();
    drop(handle.acquire().unwrap());
    for number in 2..1000 {
        assert_eq!(owner.retire(handle.slot(), alive.number(number)), None);
        owner.publish(handle.slot(), alive.number(number));
    }
    assert_eq!(alive.count(), before);
    assert_eq!(reclaim_all(&mut owner, &mut freed), 0);
}

#[test]
fn a_closed_slot_gives_no_pin_and_leaves_the_old_ones_alone() {
    let alive = Alive::default();
    let (mut owner, mut freed) = owner(&alive);
    let handle = owner.register(alive.number(1), alive.number(5));
    let pin = handle.acquire().unwrap();
    let cell = owner.close(handle.slot()).expect("it is pinned");
    assert_eq!(handle.acquire().unwrap_err(), PinError::Closed);
    assert!(handle.is_closed());
    assert_eq!(
        owner.close(handle.slot()),
        None,
        "closing again does nothing"
    );
    let clone = pin.try_clone().unwrap();
    drop(pin);
    assert_eq!((clone.capability().number, owner.pins(cell)), (1, 1));
    drop(clone);
    assert_eq!(reclaim_all(&mut owner, &mut freed), 1);
    assert_eq!(handle.read(|view| view.number), 5, "the last view stays");
}

#[test]
fn a_slot_is_used_again_when_it_is_closed_and_its_handles_are_gone() {
    let alive = Alive::default();
    let (mut owner, _freed) = owner(&alive);
    let handle = owner.register(alive.number(1), alive.number(0));
    let (slot, pin) = (handle.slot(), handle.acquire().unwrap());
    owner.close(slot);
    let other = owner.register(alive.number(2), alive.number(0));
    assert_ne!(other.slot(), slot, "a handle is still there");
    drop(handle);
    let again = owner.register(alive.number(3), alive.number(0));
    assert_eq!(again.slot(), slot);
    assert!(
        !pin.is_current(),
        "a pin on the slot's last use is none on this one"
    );
    let clone = pin.try_clone().unwrap();
    assert_eq!((pin.capability().number, clone.capability().number), (1, 1));
    assert_eq!(
        owner.retire(slot, alive.number(4)),
        None,
        "the old pins count elsewhere"
    );
}

#[test]
fn a_slot_whose_handles_go_first_is_used_again_when_it_is_closed() {
    let alive = Alive::default();
    let (mut owner, _freed) = owner(&alive);
    let slot = owner.register(alive.number(1), alive.number(0)).slot();
    let other = owner.register(alive.number(2), alive.number(0));
    assert_ne!(other.slot(), slot, "it is still open");
    assert_eq!(owner.retire(slot, alive.number(3)), None);
    assert_eq!(owner.close(slot), None);
    assert_eq!(
        owner.register(alive.number(4), alive.number(0)).slot(),
        slot
    );
}

#[test]
fn slots_and_cells_of_large_tables_are_all_different() {
    let alive = Alive::default();
    let (mut owner, _freed) = owner(&alive);
    let register = |number| owner.register(alive.number(number), alive.number(number));
    let handles: Vec<Handle<Numbers>> = (0..2000).map(register).collect();
    for (number, handle) in (0..).zip(&handles) {
        assert_eq!(handle.slot(), Slot::from_index(number as u32));
        assert_eq!(handle.acquire().unwrap().capability().number, number);
        assert_eq!(handle.read(|view| view.number), number);
    }
    drop((owner, handles));
    drop(_freed);
    assert_eq!(alive.count(), 0);
}

#[test]
fn pins_outlive_owner_and_handles() {
    let alive = Alive::default();
    let (mut owner, freed) = owner(&alive);
    let handle = owner.register(alive.number(1), alive.number(7));
    let current = handle.acquire().unwrap();
    owner
        .retire(handle.slot(), alive.number(2))
        .expect("it is pinned");
    let also_current = handle.acquire().unwrap();
    drop(freed);
    drop(owner);
    assert_eq!(handle.acquire().unwrap_err(), PinError::Closed);
    assert_eq!(handle.read(|view| view.number), 7);
    drop(handle);
    let clone = current.try_clone().unwrap();
    drop(current);
    assert_eq!(
        (clone.capability().number, also_current.capability().number),
        (1, 2)
    );
    drop(clone);
    assert!(alive.count() > 0, "a pin keeps the table");
    drop(also_current);
    assert_eq!(alive.count(), 0, "nothing is left");
}

#[test]
fn a_freed_cell_that_nobody_takes_back_is_no_leak() {
    let alive = Alive::default();
    let (mut owner, freed) = owner(&alive);
    let handle = owner.register(alive.number(1), alive.number(0));
    let pin = handle.acquire().unwrap();
    owner
        .retire(handle.slot(), alive.number(2))
        .expect("it is pinned");
    drop(pin);
    assert_eq!(freed.depth(), 1);
    drop((handle, owner, freed));
    assert_eq!(alive.count(), 0);
}

#[test]
#[should_panic(expected = "retired a closed Slot(0)")]
fn a_closed_slot_cannot_be_retired() {
    let alive = Alive::default();
    let (mut owner, _freed) = owner(&alive);
    let handle = owner.register(alive.number(1), alive.number(0));
    owner.close(handle.slot());
    owner.retire(handle.slot(), alive.number(2));
}

#[test]
#[should_panic(expected = "no such Slot(17)")]
fn a_slot_of_nobody_cannot_be_closed() {
    owner(&Alive::default()).0.close(Slot::from_index(17));
}

#[test]
#[should_panic(expected = "no such CellId(17)")]
fn the_pins_of_a_cell_of_nobody_cannot_be_counted() {
    owner(&Alive::default()).0.pins(CellId::from_index(17));
}

#[test]
#[should_panic(expected = "a cell of another owner")]
fn a_cell_of_another_owner_cannot_be_taken_back() {
    let alive = Alive::default();
    let (mut one, mut freed) = owner(&alive);
    let (mut other, _freed) = owner(&alive);
    let handle = one.register(alive.number(1), alive.number(0));
    let pin = handle.acquire().unwrap();
    one.retire(handle.slot(), alive.number(2));
    drop(pin);
    other.reclaim(freed.pop().expect("the last one told"));
}

#[test]
fn a_pin_is_three_words_and_a_handle_is_two() {
    let word = size_of::<usize>();
    assert_eq!(size_of::<Option<Pin<Numbers>>>(), 3 * word);
    assert_eq!(size_of::<Option<Handle<Numbers>>>(), 2 * word);
}
