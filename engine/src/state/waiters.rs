//! Who waits for which collection.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use crate::command::Until;
use crate::frontier::{Frontiers, Time, is_past};
use crate::id::Ticket;

/// Requests that are answered when a collection has come far enough.
#[derive(Debug)]
pub(crate) struct Waiters<T> {
    by_slot: BTreeMap<u32, Waiting<T>>,
    by_ticket: BTreeMap<Ticket, u32>,
}

type Waiting<T> = SmallVec<[(Ticket, Until<T>); 1]>;

impl<T: Time> Until<T> {
    /// True iff it is so.
    pub(crate) fn holds(&self, frontiers: &Frontiers<T>) -> bool {
        match self {
            Until::UpperPast(bound) => frontiers.upper.is_past(bound),
            Until::SincePast(bound) => is_past(frontiers.since.frontier(), bound),
            Until::ChangedAfter(version) => frontiers.version > *version,
        }
    }

    /// True iff it will never be so.
    pub(crate) fn is_never(&self) -> bool {
        match self {
            Until::UpperPast(bound) | Until::SincePast(bound) => bound.is_empty(),
            Until::ChangedAfter(_) => false,
        }
    }
}

impl<T: Time> Waiters<T> {
    pub(crate) fn new() -> Self {
        Waiters {
            by_slot: BTreeMap::new(),
            by_ticket: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, slot: u32, ticket: Ticket, until: Until<T>) {
        self.by_slot.entry(slot).or_default().push((ticket, until));
        self.by_ticket.insert(ticket, slot);
    }

    /// Takes out those for whom it has come true. Says whether others are left.
    pub(crate) fn take_due(
        &mut self,
        slot: u32,
        frontiers: &Frontiers<T>,
        mut due: impl FnMut(Ticket),
    ) -> bool {
        let Some(waiting) = self.by_slot.get_mut(&slot) else {
            return false;
        };
        let by_ticket = &mut self.by_ticket;
        waiting.retain(|(ticket, until)| {
            let holds = until.holds(frontiers);
            if holds {
                by_ticket.remove(ticket);
                due(*ticket);
            }
            !holds
        });
        self.drop_if_empty(slot)
    }

    /// Takes out all who wait for a collection.
    pub(crate) fn take_all(&mut self, slot: u32, mut gone: impl FnMut(Ticket)) {
        for (ticket, _) in self.by_slot.remove(&slot).into_iter().flatten() {
            self.by_ticket.remove(&ticket);
            gone(ticket);
        }
    }

    /// Forgets a request whose caller no longer waits. Gives the slot, if nobody else waits there.
    pub(crate) fn cancel(&mut self, ticket: Ticket) -> Option<u32> {
        let slot = self.by_ticket.remove(&ticket)?;
        if let Some(waiting) = self.by_slot.get_mut(&slot) {
            waiting.retain(|(other, _)| *other != ticket);
        }
        (!self.drop_if_empty(slot)).then_some(slot)
    }

    /// True iff somebody waits for this collection.
    pub(crate) fn are_at(&self, slot: u32) -> bool {
        self.by_slot.contains_key(&slot)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_ticket.len()
    }

    fn drop_if_empty(&mut self, slot: u32) -> bool {
        let left = self
            .by_slot
            .get(&slot)
            .is_some_and(|waiting| !waiting.is_empty());
        if !left {
            self.by_slot.remove(&slot);
        }
        left
    }
}
