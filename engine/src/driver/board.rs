//! What other threads see, as the state wants it shown.

use std::sync::Arc;

use lowwater_queue::{CellId, Owner, Slot};

use crate::collection::Collection;
use crate::effect::Readers;
use crate::frontier::{Frontiers, Since, Time};
use crate::id::{CollectionId, Key};
use crate::input::Cell;
use crate::link::{Capability, Freed, Handle, Link, Shared, View};

/// The owner's end of pins and published views.
pub(super) struct Board<I: CollectionId, T: Time> {
    owner: Owner<Shared<I, T>>,
    link: Arc<Link<I, T>>,
    /// By slot, so that no slot is given out again while its collection is alive.
    handles: Vec<Option<Handle<I, T>>>,
    /// Slots of collections that were removed in this turn. If they were created in it too, whoever
    /// created them is still to get their handles.
    removed: Vec<u32>,
    /// Something is shown since the turn began.
    turning: bool,
}

impl<I: CollectionId, T: Time> Board<I, T> {
    pub(super) fn new(owner: Owner<Shared<I, T>>, link: Arc<Link<I, T>>) -> Self {
        Board {
            owner,
            link,
            handles: Vec::new(),
            removed: Vec::new(),
            turning: false,
        }
    }

    /// A cell has lost its last pin.
    pub(super) fn reclaim(&mut self, freed: Freed<I, T>) -> Cell {
        Cell(self.owner.reclaim(freed).index())
    }

    /// Several views that are read together are from now on those of this turn.
    pub(super) fn end_turn(&mut self) {
        if std::mem::take(&mut self.turning) {
            self.owner.end_turn();
        }
    }

    /// The handle of a collection that was opened, until the turn in which it is removed is
    /// answered.
    pub(super) fn collection(&self, id: I, key: Key) -> Collection<I, T> {
        let handle = self.handles[key.slot as usize].as_ref();
        let handle = handle.expect("a collection has its handle until its turn is answered");
        Collection::new(id, handle.clone(), &self.link)
    }

    /// All answers of the turn are given.
    pub(super) fn answered(&mut self) {
        for slot in self.removed.drain(..) {
            self.handles[slot as usize] = None;
        }
    }

    /// Takes no new pins from now on, and lets nothing be found.
    pub(super) fn close_all(&mut self) {
        for handle in self.handles.iter().flatten() {
            // Cells that still have pins keep what they need; nobody is left to count them.
            let _retired = self.owner.close(handle.slot());
        }
        self.link.directory.clear();
    }

    fn begin_turn(&mut self) {
        if !std::mem::replace(&mut self.turning, true) {
            self.owner.begin_turn();
        }
    }
}

impl<I: CollectionId, T: Time> Readers<I, T> for Board<I, T> {
    fn open(&mut self, id: I, generation: u64, frontiers: Frontiers<T>) -> u32 {
        self.begin_turn();
        let since = frontiers.implied.clone();
        let handle = self.owner.register_with(|slot| {
            let key = Key {
                slot: slot.index(),
                generation,
            };
            (Capability { id, key, since }, View { key, frontiers })
        });
        let slot = handle.slot().index();
        if self.handles.len() <= slot as usize {
            self.handles.resize_with(slot as usize + 1, || None);
        }
        self.link.directory.insert(id, handle.clone());
        self.handles[slot as usize] = Some(handle);
        slot
    }

    #[inline]
    fn retire(&mut self, id: I, key: Key, implied: &Since<T>) -> Option<Cell> {
        // From here on pins are taken at the new frontier: whoever then reads several views together
        // must not get those of the turn before.
        self.begin_turn();
        let capability = Capability {
            id,
            key,
            since: implied.clone(),
        };
        let retired = self.owner.retire(Slot::from_index(key.slot), capability);
        retired.map(|cell| Cell(cell.index()))
    }

    fn close(&mut self, key: Key) -> Option<Cell> {
        self.begin_turn();
        let retired = self.owner.close(Slot::from_index(key.slot));
        retired.map(|cell| Cell(cell.index()))
    }

    fn pins(&self, cell: Cell) -> u64 {
        self.owner.pins(CellId::from_index(cell.0))
    }

    fn current_pins(&self, key: Key) -> u64 {
        self.owner.current_pins(Slot::from_index(key.slot))
    }

    #[inline]
    fn publish(&mut self, key: Key, frontiers: Frontiers<T>) {
        self.begin_turn();
        self.owner
            .publish(Slot::from_index(key.slot), View { key, frontiers });
    }

    fn remove(&mut self, id: I, key: Key) {
        self.link.directory.remove(&id);
        self.removed.push(key.slot);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use lowwater_queue::{Directory, Sequence, channel, read_all};

    use crate::driver::bell::Bell;
    use crate::driver::metrics::Gauges;
    use crate::frontier::Upper;
    use crate::link::Line;

    use super::*;

    fn at(since: u64) -> Frontiers<u64> {
        Frontiers {
            upper: Upper::at(20),
            implied: Since::at(since),
            since: Since::at(since),
            durable_since: Since::at(since),
            version: 0,
        }
    }

    /// A hold was told with the frontiers of the turn before, in which its time could not be had.
    #[test]
    fn from_when_on_pins_are_taken_at_the_new_frontier_nobody_reads_the_turn_before() {
        let began = Instant::now();
        let (sender, _receiver) = channel(Bell::new(began));
        let line = Arc::new(Line::<u64, u64>::new(sender, Gauges::new(began)));
        let owner = Owner::new(Arc::clone(&line));
        let link = Arc::new(Link {
            table: Arc::clone(owner.table()),
            directory: Directory::new(),
            tickets: Sequence::new(),
        });
        let mut board = Board::new(owner, link);
        let slot = board.open(7, 0, at(5));
        let key = Key {
            slot,
            generation: 0,
        };
        board.end_turn();
        let handle = board.handles[slot as usize].clone().unwrap();
        let read = || read_all(&[&handle], |view| view.frontiers.implied.clone());
        assert_eq!(read(), Some(vec![Since::at(5)]));

        assert!(board.retire(7, key, &Since::at(9)).is_none());
        assert_eq!(read(), None);
        board.publish(key, at(9));
        board.end_turn();
        assert_eq!(read(), Some(vec![Since::at(9)]));

        assert!(board.close(key).is_none());
        assert_eq!(read(), None);
        board.end_turn();
        assert!(read().is_some());
    }
}
