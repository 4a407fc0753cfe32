//! Holds as clients have them, and the messages that they send.

use lowwater::{HoldChange, Input, Key, Since, Ticket, Until};
use timely::PartialOrder;
use timely::progress::Antichain;

use super::text::TestTime;
use super::world::World;

#[derive(Clone, Debug)]
pub(crate) struct Hold<T> {
    pub(crate) id: char,
    pub(crate) key: Key,
    pub(crate) since: Antichain<T>,
    /// The cell of a pin; none: counted by the owner.
    cell: Option<u32>,
    /// A lease has lapsed on which it, or what it was, relied.
    pub(crate) may_be_lost: bool,
}

/// What a hold sends, and owns until it is received: first it is counted, then let go.
#[derive(Debug)]
pub(crate) struct Message<T> {
    key: Key,
    acquired: Option<Antichain<T>>,
    released: Option<Antichain<T>>,
    unpinned: Option<u32>,
}

#[derive(Debug)]
pub(crate) struct Wait<T> {
    pub(super) ticket: Ticket,
    pub(super) key: Key,
    pub(super) until: Until<T>,
    pub(super) answer: Option<String>,
}

impl<T> Message<T> {
    pub(super) fn key(&self) -> Key {
        self.key
    }
}

impl<T: TestTime> World<T> {
    /// Takes a hold at the implied capability. False if the collection is closed.
    pub(super) fn pin(&mut self, name: &str, id: char) -> bool {
        let key = self.keys[&id];
        let Some((cell, since)) = self.board.pin(key) else {
            return false;
        };
        self.hold(
            name,
            Hold {
                id,
                key,
                since,
                cell: Some(cell),
                may_be_lost: false,
            },
        );
        true
    }

    /// Takes note of a hold that the owner has counted.
    pub(super) fn counted(&mut self, name: &str, id: char, key: Key, since: Antichain<T>) {
        self.ledger.push((key, since.clone()));
        self.hold(
            name,
            Hold {
                id,
                key,
                since,
                cell: None,
                may_be_lost: false,
            },
        );
    }

    pub(super) fn clone_hold(&mut self, name: &str, of: &str) {
        let hold = self.holds[of].clone();
        match hold.cell {
            Some(cell) => self.board.clone_pin(cell),
            None => self.send(hold.key, Some(hold.since.clone()), None),
        }
        self.hold(name, hold);
    }

    pub(super) fn move_hold(&mut self, name: &str, to: Antichain<T>) {
        let hold = self.holds.get_mut(name).expect("there is such a hold");
        assert!(
            PartialOrder::less_equal(&hold.since, &to),
            "clients refuse to move {name} back"
        );
        let before = hold.clone();
        hold.since.clone_from(&to);
        hold.cell = None;
        self.send(before.key, Some(to), Some(before));
    }

    /// The second hold becomes part of the first.
    pub(super) fn merge_holds(&mut self, name: &str, other: &str) {
        let other = self.holds.remove(other).expect("there is such a hold");
        let hold = self.holds.get_mut(name).expect("there is such a hold");
        assert_eq!(hold.key, other.key, "clients refuse to merge these");
        let before = hold.clone();
        hold.since.extend(other.since.iter().cloned());
        hold.may_be_lost |= other.may_be_lost;
        hold.cell = None;
        let meet = hold.since.clone();
        self.send(before.key, Some(meet), Some(before));
        self.send(other.key, None, Some(other));
    }

    pub(super) fn release(&mut self, name: &str) {
        let hold = self.holds.remove(name).expect("there is such a hold");
        match hold.cell {
            Some(cell) => self.board.unpin(cell),
            None => self.send(hold.key, None, Some(hold)),
        }
    }

    fn hold(&mut self, name: &str, hold: Hold<T>) {
        let before = self.holds.insert(name.to_owned(), hold);
        assert!(before.is_none(), "{name} is a hold already");
    }

    fn send(&mut self, key: Key, acquired: Option<Antichain<T>>, from: Option<Hold<T>>) {
        let (released, unpinned) = match from {
            None => (None, None),
            Some(Hold {
                cell: None, since, ..
            }) => (Some(since), None),
            Some(Hold { cell, .. }) => (None, cell),
        };
        self.inbox.push_back(Message {
            key,
            acquired,
            released,
            unpinned,
        });
    }

    /// The owner receives the oldest message.
    pub(super) fn deliver(&mut self) {
        let message = self.inbox.pop_front().expect("there is a message");
        let Message {
            key,
            acquired,
            released,
            unpinned,
        } = message;
        if let Some(acquired) = &acquired {
            self.ledger.push((key, acquired.clone()));
        }
        if let Some(released) = &released {
            let counted = (key, released.clone());
            let at = self.ledger.iter().position(|other| *other == counted);
            self.ledger
                .swap_remove(at.expect("what is released was counted"));
        }
        if acquired.is_some() || released.is_some() {
            self.apply(Input::Held(HoldChange {
                key,
                acquired: acquired.map(Since::new),
                released: released.map(Since::new),
            }));
        }
        if let Some(cell) = unpinned {
            self.board.unpin(cell);
        }
    }
}
