//! The end of a turn: each collection that something happened to is visited once, after all that
//! depend on it.

use std::collections::BTreeMap;
use std::mem;
use std::time::Duration;

use timely::PartialOrder;
use timely::progress::ChangeBatch;

use crate::command::WaitError;
use crate::effect::{Answer, Effect, Event, Readers};
use crate::frontier::{Since, Time};
use crate::id::{CollectionId, Key};
use crate::input::Cell;

use super::collection::{Collection, Wish};
use super::durability::Durability;
use super::waiters::Waiters;
use super::{State, answer};

impl<I: CollectionId, T: Time> State<I, T> {
    /// Counts what the merged hold changes of the turn come to.
    pub(super) fn count_held(&mut self) {
        let mut held = mem::replace(&mut self.held, ChangeBatch::new());
        for ((slot, time), difference) in held.drain() {
            self.at_mut(slot).capabilities.count(&time, difference);
            self.push(slot);
        }
        self.held = held;
    }

    pub(super) fn propagate(
        &mut self,
        readers: &mut impl Readers<I, T>,
        effects: &mut Vec<Effect<I, T>>,
    ) {
        while let Some(slot) = self.agenda.first() {
            self.visit(slot, readers, effects);
        }
    }

    /// Brings one collection up to date, and tells its dependencies. All its dependents are done.
    fn visit(
        &mut self,
        slot: u32,
        readers: &mut impl Readers<I, T>,
        effects: &mut Vec<Effect<I, T>>,
    ) {
        let collection = at_mut(&mut self.collections, slot);
        self.agenda.remove_first(&mut collection.links);
        if mem::take(&mut collection.due) {
            follow_policy(collection, &mut self.retired, readers, effects);
        }
        if let Some(floor) = &mut collection.floor
            && mem::take(&mut floor.is_new)
        {
            // Dependents have moved past it: what is left there are holds, and these are revoked.
            collection
                .capabilities
                .retain(|time| floor.since.can_read(time));
        }
        let since = collection.capabilities.frontier();
        let moved = since != collection.since;
        // Written to its end, or gone: it needs its inputs no more.
        let leaves = collection.upper.is_sealed() || since.is_gone();
        let old = if moved {
            move_since(collection, &since)
        } else {
            since.clone()
        };
        let shared = collection.shard.filter(|_| collection.shared);
        if moved && shared.is_none() {
            wish(collection, &mut self.durability, self.now);
        }
        if collection.changed || collection.watched {
            show(collection, &mut self.waiters, readers, effects);
        }
        if (moved || leaves) && !collection.dependencies.is_empty() {
            self.tell_dependencies(slot, leaves, &old, &since);
        }
        if since.is_gone() {
            self.remove(slot, readers, effects);
        } else if moved && let Some(shard) = shared {
            self.replan(shard);
        }
    }

    /// The dependencies keep what this collection's since needs, or nothing any more.
    fn tell_dependencies(&mut self, slot: u32, leaves: bool, old: &Since<T>, since: &Since<T>) {
        let collection = at_mut(&mut self.collections, slot);
        let dependencies = mem::take(&mut collection.dependencies);
        if leaves {
            // What is created on top of it later need not wait for what it once depended on.
            collection.links.rank = 0;
        }
        for &slot in &dependencies {
            let dependency = at_mut(&mut self.collections, slot);
            if leaves {
                dependency.capabilities.remove(old);
                dependency.dependents -= 1;
            } else {
                dependency.capabilities.replace(old, since);
            }
            self.agenda.push(slot, &mut dependency.links);
        }
        if !leaves {
            at_mut(&mut self.collections, slot).dependencies = dependencies;
        }
    }

    /// Takes a collection out whose since is empty: nobody holds it, and nothing depends on it.
    fn remove(
        &mut self,
        slot: u32,
        readers: &mut impl Readers<I, T>,
        effects: &mut Vec<Effect<I, T>>,
    ) {
        let gone = self.collections[slot as usize]
            .take()
            .expect("it is being visited");
        assert_eq!(
            gone.dependents, 0,
            "{} is gone while something depends on it",
            gone.id
        );
        self.waiters.take_all(slot, |ticket| {
            effects.push(answer(ticket, Answer::Waited(Err(WaitError::Gone))));
        });
        self.by_id.remove(&gone.id);
        self.alive -= 1;
        readers.remove(gone.id, gone.key);
        if let Some(shard) = gone.shard {
            self.leave(shard, &gone);
        }
    }
}

#[inline]
fn at_mut<I, T>(collections: &mut [Option<Collection<I, T>>], slot: u32) -> &mut Collection<I, T> {
    collections[slot as usize]
        .as_mut()
        .expect("what a turn comes to is alive")
}

/// Moves the implied capability to where the policy asks for, if that is later.
fn follow_policy<I: CollectionId, T: Time>(
    collection: &mut Collection<I, T>,
    retired: &mut BTreeMap<Cell, (Key, Since<T>)>,
    readers: &mut impl Readers<I, T>,
    effects: &mut Vec<Effect<I, T>>,
) {
    let wanted = match &collection.policy {
        None => Ok(Since::gone()),
        Some(policy) => policy.try_since_for(&collection.upper, &collection.implied),
    };
    let Ok(wanted) = wanted else {
        return effects.push(Effect::Event(Event::PolicyPanicked {
            collection: collection.id,
        }));
    };
    if PartialOrder::less_than(&collection.implied, &wanted) {
        move_implied(collection, wanted, retired, readers);
    }
}

/// Moves the implied capability to `wanted`, which is later.
pub(super) fn move_implied<I: CollectionId, T: Time>(
    collection: &mut Collection<I, T>,
    wanted: Since<T>,
    retired: &mut BTreeMap<Cell, (Key, Since<T>)>,
    readers: &mut impl Readers<I, T>,
) {
    let key = collection.key;
    // Before the since may pass it: who took a pin until now holds the old frontier.
    let pinned = if wanted.is_gone() {
        // Given up, by whatever policy: it can no longer be asked for anything.
        collection.policy = None;
        readers.close(key)
    } else {
        readers.retire(collection.id, key, &wanted)
    };
    let old = mem::replace(&mut collection.implied, wanted);
    collection.changed = true;
    match pinned {
        // The cell counts from now on, as the implied capability did.
        Some(cell) => {
            collection.capabilities.add(&collection.implied);
            retired.insert(cell, (key, old));
        }
        None => collection.capabilities.replace(&old, &collection.implied),
    }
}

/// Moves the planned since. Gives the old one.
fn move_since<I: CollectionId, T: Time>(
    collection: &mut Collection<I, T>,
    since: &Since<T>,
) -> Since<T> {
    assert!(
        PartialOrder::less_equal(&collection.since, since),
        "the since of {} would go back from {} to {since}",
        collection.id,
        collection.since,
    );
    collection.changed = true;
    mem::replace(&mut collection.since, since.clone())
}

/// The since has moved: it is to become durable.
fn wish<I, T: Time>(collection: &mut Collection<I, T>, durability: &mut Durability, now: Duration) {
    if collection.shard.is_none() {
        collection.durable_since = collection.since.clone();
    } else if collection.since.is_gone() {
        // Asked for when the collection is removed, at once.
    } else if collection.wish != Wish::Granted
        // Otherwise somebody else has moved the shard there already.
        || !PartialOrder::less_equal(&collection.since, &collection.durable_since)
    {
        collection.wish = durability.wish(collection.wish, collection.key, now);
    }
}

/// Publishes what has changed, and answers those who waited for it.
fn show<I: CollectionId, T: Time>(
    collection: &mut Collection<I, T>,
    waiters: &mut Waiters<T>,
    readers: &mut impl Readers<I, T>,
    effects: &mut Vec<Effect<I, T>>,
) {
    if mem::take(&mut collection.changed) {
        collection.version += 1;
        readers.publish(collection.key, collection.frontiers());
    }
    if collection.watched {
        let frontiers = collection.frontiers();
        collection.watched = waiters.take_due(collection.key.slot, &frontiers, |ticket| {
            effects.push(answer(ticket, Answer::Waited(Ok(frontiers.clone()))));
        });
    }
}
