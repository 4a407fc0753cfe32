//! The end of a turn: each collection that something happened to is visited once, after all that
//! depend on it.

use std::mem;

use timely::PartialOrder;
use timely::progress::ChangeBatch;

use crate::command::WaitError;
use crate::effect::{Answer, Effect, Event, Readers};
use crate::frontier::{Since, Time};
use crate::id::CollectionId;

use super::collection::Wish;
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
            let collection = self.collections[slot as usize].as_mut();
            let collection = collection.expect("what is on the agenda is alive");
            self.agenda.remove_first(&mut collection.links);
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
        let collection = self.at_mut(slot);
        if mem::take(&mut collection.due) {
            self.follow_policy(slot, readers, effects);
        }
        let collection = self.at_mut(slot);
        let since = collection.capabilities.frontier();
        let sealed = collection.upper.is_sealed();
        if since != collection.since {
            self.move_since(slot, since);
        }
        if sealed {
            self.let_go_of_dependencies(slot);
        }
        self.show(slot, readers, effects);
        if self.at(slot).since.is_gone() {
            self.remove(slot, readers, effects);
        }
    }

    /// Moves the implied capability to where the policy asks for, if that is later.
    fn follow_policy(
        &mut self,
        slot: u32,
        readers: &mut impl Readers<I, T>,
        effects: &mut Vec<Effect<I, T>>,
    ) {
        let collection = self.at_mut(slot);
        let wanted = match &collection.policy {
            None => Ok(Since::gone()),
            Some(policy) => policy.try_since_for(&collection.upper, &collection.implied),
        };
        let Ok(wanted) = wanted else {
            return effects.push(Effect::Event(Event::PolicyPanicked {
                collection: collection.id,
            }));
        };
        if !PartialOrder::less_than(&collection.implied, &wanted) {
            return;
        }
        let (id, key) = (collection.id, collection.key);
        // Before the since may pass it: who took a pin until now holds the old frontier.
        let pinned = if wanted.is_gone() {
            // Given up, by whatever policy: it can no longer be asked for anything.
            collection.policy = None;
            readers.close(key)
        } else {
            readers.retire(id, key, &wanted)
        };
        let old = mem::replace(&mut collection.implied, wanted);
        collection.changed = true;
        match pinned {
            // The cell counts from now on, as the implied capability did.
            Some(cell) => {
                collection.capabilities.add(&collection.implied);
                self.retired.insert(cell, (key, old));
            }
            None => collection.capabilities.replace(&old, &collection.implied),
        }
    }

    fn move_since(&mut self, slot: u32, since: Since<T>) {
        let collection = self.at_mut(slot);
        assert!(
            PartialOrder::less_equal(&collection.since, &since),
            "the since of {} would go back from {} to {since}",
            collection.id,
            collection.since,
        );
        collection.changed = true;
        let old = mem::replace(&mut collection.since, since.clone());
        self.wish(slot);
        let dependencies = mem::take(&mut self.at_mut(slot).dependencies);
        for &dependency in &dependencies {
            self.at_mut(dependency).capabilities.replace(&old, &since);
            self.push(dependency);
        }
        self.at_mut(slot).dependencies = dependencies;
    }

    /// The since has moved: it is to become durable.
    fn wish(&mut self, slot: u32) {
        let now = self.now;
        let collection = self.collections[slot as usize]
            .as_mut()
            .expect("it is being visited");
        if collection.shard.is_none() {
            collection.durable_since = collection.since.clone();
        } else if collection.since.is_gone() {
            // Asked for when the collection is removed, at once.
        } else {
            collection.wish = match collection.wish {
                Wish::Granted => {
                    self.durability.queue(collection.key, now);
                    Wish::Queued
                }
                Wish::Queued => Wish::Queued,
                Wish::Asked | Wish::AskedAndQueued => Wish::AskedAndQueued,
            };
        }
    }

    /// A sealed collection, or one that is gone, needs its inputs no more.
    fn let_go_of_dependencies(&mut self, slot: u32) {
        let collection = self.at_mut(slot);
        let since = collection.since.clone();
        // What is created on top of it later need not wait for what it once depended on.
        collection.links.rank = 0;
        for dependency in mem::take(&mut collection.dependencies) {
            let dependency_slot = dependency;
            let dependency = self.at_mut(dependency);
            dependency.capabilities.remove(&since);
            dependency.dependents -= 1;
            self.push(dependency_slot);
        }
    }

    /// Publishes what has changed, and answers those who waited for it.
    fn show(
        &mut self,
        slot: u32,
        readers: &mut impl Readers<I, T>,
        effects: &mut Vec<Effect<I, T>>,
    ) {
        let collection = self.collections[slot as usize]
            .as_mut()
            .expect("it is being visited");
        if mem::take(&mut collection.changed) {
            collection.version += 1;
            readers.publish(collection.key, collection.frontiers());
        }
        if collection.watched {
            let frontiers = collection.frontiers();
            collection.watched = self.waiters.take_due(slot, &frontiers, |ticket| {
                effects.push(answer(ticket, Answer::Waited(Ok(frontiers.clone()))));
            });
        }
    }

    /// Takes a collection out whose since is empty: nobody holds it, and nothing depends on it.
    fn remove(
        &mut self,
        slot: u32,
        readers: &mut impl Readers<I, T>,
        effects: &mut Vec<Effect<I, T>>,
    ) {
        self.let_go_of_dependencies(slot);
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
            self.by_shard.remove(&shard);
            let asked = matches!(gone.wish, Wish::Asked | Wish::AskedAndQueued);
            self.durability.queue_last(shard, gone.key, asked, self.now);
        }
    }
}
