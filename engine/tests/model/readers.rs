//! What other threads see, and the pins that they take there.

use std::collections::BTreeMap;

use lowwater::{Cell, Frontiers, Key, Readers, Since};
use timely::PartialOrder;
use timely::progress::Antichain;

use super::text::TestTime;

/// Slots and cells are given out again as soon as that is allowed, the last one first, so that
/// whatever is taken for something else is taken for something that exists.
#[derive(Debug)]
pub(crate) struct Board<T> {
    free_slots: Vec<u32>,
    slots: u32,
    /// By generation; removed ones too.
    pub(crate) shown: BTreeMap<u64, Shown<T>>,
    cells: Vec<PinCell<T>>,
    free_cells: Vec<u32>,
    /// Retired cells whose last pin was given back: the message is under way.
    pub(crate) freed: Vec<u32>,
}

/// One incarnation of a collection, as readers see it.
#[derive(Debug)]
pub(crate) struct Shown<T> {
    pub(crate) id: char,
    pub(crate) slot: u32,
    pub(crate) frontiers: Frontiers<T>,
    /// Where pins are taken; none: closed.
    pub(crate) cell: Option<u32>,
    pub(crate) removed: bool,
    /// In this turn.
    published: bool,
}

#[derive(Debug)]
struct PinCell<T> {
    generation: u64,
    since: Antichain<T>,
    pins: u64,
    retired: bool,
}

impl<T: TestTime> Board<T> {
    pub(crate) fn new() -> Self {
        Board {
            free_slots: Vec::new(),
            slots: 0,
            shown: BTreeMap::new(),
            cells: Vec::new(),
            free_cells: Vec::new(),
            freed: Vec::new(),
        }
    }

    /// Takes a pin, as any thread may at any time. None: closed.
    pub(crate) fn pin(&mut self, key: Key) -> Option<(u32, Antichain<T>)> {
        let cell = self.shown[&key.generation()].cell?;
        self.cells[cell as usize].pins += 1;
        Some((cell, self.cells[cell as usize].since.clone()))
    }

    pub(crate) fn clone_pin(&mut self, cell: u32) {
        assert!(self.cells[cell as usize].pins > 0, "cloned what is no pin");
        self.cells[cell as usize].pins += 1;
    }

    /// Gives a pin back; the last one of a retired cell tells the owner.
    pub(crate) fn unpin(&mut self, cell: u32) {
        let left = &mut self.cells[cell as usize];
        left.pins = left.pins.checked_sub(1).expect("a pin is given back once");
        if left.retired && left.pins == 0 {
            self.freed.push(cell);
        }
    }

    /// The owner takes note that a retired cell is free.
    pub(crate) fn reclaim(&mut self, cell: u32) {
        self.cells[cell as usize].retired = false;
        self.free_cells.push(cell);
    }

    /// The cells that a collection must stay readable for, though pins are taken elsewhere.
    pub(crate) fn retired(&self) -> impl Iterator<Item = (u64, &Antichain<T>)> {
        let retired = self.cells.iter().filter(|cell| cell.retired);
        retired.map(|cell| (cell.generation, &cell.since))
    }

    /// All pins that were taken and not given back.
    pub(crate) fn pins_of(&self, generation: u64) -> u64 {
        let current = self.shown[&generation].cell;
        let cells = self.cells.iter().enumerate();
        let live = cells.filter(|(at, cell)| {
            cell.generation == generation && (cell.retired || current == Some(*at as u32))
        });
        live.map(|(_, cell)| cell.pins).sum()
    }

    /// Where pins are taken; none: closed.
    pub(crate) fn current(&self, generation: u64) -> Option<&Antichain<T>> {
        let cell = self.shown[&generation].cell?;
        Some(&self.cells[cell as usize].since)
    }

    pub(crate) fn end_turn(&mut self) {
        for shown in self.shown.values_mut() {
            shown.published = false;
        }
    }

    fn fill(&mut self, generation: u64, since: &Since<T>) -> u32 {
        let filled = PinCell {
            generation,
            since: since.frontier().clone(),
            pins: 0,
            retired: false,
        };
        match self.free_cells.pop() {
            Some(cell) => {
                self.cells[cell as usize] = filled;
                cell
            }
            None => {
                self.cells.push(filled);
                self.cells.len() as u32 - 1
            }
        }
    }

    fn leave(&mut self, cell: u32) -> Option<Cell> {
        let left = &mut self.cells[cell as usize];
        if left.pins == 0 {
            self.free_cells.push(cell);
            return None;
        }
        left.retired = true;
        Some(Cell(cell))
    }

    fn shown_mut(&mut self, key: Key) -> &mut Shown<T> {
        let shown = self
            .shown
            .get_mut(&key.generation())
            .expect("it was opened");
        assert!(!shown.removed, "{} was removed", shown.id);
        shown
    }
}

impl<T: TestTime> Readers<char, T> for Board<T> {
    fn open(&mut self, id: char, generation: u64, frontiers: Frontiers<T>) -> u32 {
        let slot = self.free_slots.pop().unwrap_or_else(|| {
            self.slots += 1;
            self.slots - 1
        });
        let cell = Some(self.fill(generation, &frontiers.implied));
        let opened = Shown {
            id,
            slot,
            frontiers,
            cell,
            removed: false,
            published: false,
        };
        let before = self.shown.insert(generation, opened);
        assert!(before.is_none(), "the generation {generation} came twice");
        slot
    }

    fn retire(&mut self, id: char, key: Key, implied: &Since<T>) -> Option<Cell> {
        let next = self.fill(key.generation(), implied);
        let shown = self.shown_mut(key);
        assert_eq!(shown.id, id);
        let before = shown.cell.replace(next).expect("closed for ever");
        assert!(
            PartialOrder::less_than(&self.cells[before as usize].since, implied.frontier()),
            "pins on {id} would go back to {implied}"
        );
        self.leave(before)
    }

    fn close(&mut self, key: Key) -> Option<Cell> {
        let before = self.shown_mut(key).cell.take().expect("closed once");
        self.leave(before)
    }

    fn pins(&self, cell: Cell) -> u64 {
        self.cells[cell.0 as usize].pins
    }

    fn current_pins(&self, key: Key) -> u64 {
        let cell = self.shown[&key.generation()].cell;
        cell.map_or(0, |cell| self.cells[cell as usize].pins)
    }

    fn publish(&mut self, key: Key, frontiers: Frontiers<T>) {
        let shown = self.shown_mut(key);
        let id = shown.id;
        let before = std::mem::replace(&mut shown.frontiers, frontiers);
        let now = &shown.frontiers;
        assert!(!shown.published, "{id} was shown twice in a turn");
        shown.published = true;
        assert_eq!(now.version, before.version + 1, "the version of {id}");
        assert!(
            PartialOrder::less_equal(&before.upper, &now.upper)
                && PartialOrder::less_equal(&before.implied, &now.implied)
                && PartialOrder::less_equal(&before.since, &now.since)
                && PartialOrder::less_equal(&before.durable_since, &now.durable_since),
            "{id} went back from {before:?} to {now:?}"
        );
        let unversioned = Frontiers {
            version: now.version,
            ..before
        };
        assert_ne!(*now, unversioned, "{id} was shown though it is as before");
    }

    fn remove(&mut self, id: char, key: Key) {
        let shown = self.shown_mut(key);
        assert_eq!(shown.id, id);
        assert!(shown.cell.is_none(), "{id} was removed while it was open");
        shown.removed = true;
        let slot = shown.slot;
        self.free_slots.push(slot);
    }
}
