//! Leases that lapse.
//!
//! In read-only mode holds rest on leases. Where one has lapsed, its shard may be compacted past
//! what is held, and nothing brings that back: what is held before the since that the shard has now
//! is *revoked*. The collection's since moves up to there, and that of its dependents with it, so
//! that whoever compares a hold with the since that is published knows whether it was revoked:
//! `since ≤ hold.since()` holds for all that were not. What was revoked is counted no more, and its
//! late messages are taken in silence.

use std::collections::BTreeMap;

use smallvec::SmallVec;
use timely::PartialOrder;
use timely::progress::Antichain;

use crate::effect::{Effect, Event, Readers};
use crate::frontier::{Since, Time};
use crate::id::{CollectionId, ShardId};

use super::State;
use super::propagate::move_implied;

/// From when on a collection can be read whose lease has lapsed. Only grows, and stays for as long
/// as the collection: holds that were revoked may be given back at any time.
#[derive(Debug)]
pub(crate) struct Floor<T> {
    /// Times of holds that are not at or after it are not counted. Never after the collection's
    /// since when a turn is over, and never before it when it is set: nothing that is held and not
    /// revoked is before it.
    pub(crate) since: Since<T>,
    /// What was revoked is still counted; that ends when the collection is visited.
    pub(crate) is_new: bool,
}

/// Floors to be, by slot.
type Floors<T> = BTreeMap<u32, Since<T>>;

impl<I: CollectionId, T: Time> State<I, T> {
    pub(super) fn leases_lapsed(
        &mut self,
        lapsed: &[(ShardId, Since<T>)],
        readers: &mut impl Readers<I, T>,
        effects: &mut Vec<Effect<I, T>>,
    ) {
        let mut floors = Floors::new();
        for (shard, since) in lapsed {
            self.lapsed_while_opening(*shard, since);
            let sharers: SmallVec<[u32; 1]> = self.sharers(*shard).collect();
            for &slot in &sharers {
                self.raise(&mut floors, slot, since);
            }
            // A lease is taken anew where the shard is.
            if let Some(&slot) = sharers.first() {
                self.durable(slot, since);
            }
        }
        self.raise_dependents(&mut floors);
        for (&slot, since) in &floors {
            self.set_floor(slot, since, readers, effects);
        }
        self.revoke_pins(&floors);
        self.move_openings(&floors);
    }

    /// A collection can be read from `since` on, if that is news: then something may be held before.
    fn raise(&self, floors: &mut Floors<T>, slot: u32, since: &Since<T>) {
        let readable = self.at(slot).readable();
        if !PartialOrder::less_equal(since, &readable) {
            let floor = floors.entry(slot).or_insert(readable);
            *floor = floor.join(since);
        }
    }

    /// No collection is left before what it depends on. Walks all of them, for nobody knows his
    /// dependents, and leases do not lapse every day.
    fn raise_dependents(&self, floors: &mut Floors<T>) {
        if floors.keys().all(|slot| self.at(*slot).dependents == 0) {
            return;
        }
        let all = self.collections.iter().flatten();
        // Who was written to its end just now lets them go.
        let dependents = all.filter(|found| !found.upper.is_sealed());
        let mut dependents: Vec<_> = dependents.collect();
        // Dependencies first.
        dependents.sort_by_key(|found| (found.links.rank, found.key.slot));
        for dependent in dependents {
            for dependency in &dependent.dependencies {
                if let Some(since) = floors.get(dependency).cloned() {
                    self.raise(floors, dependent.key.slot, &since);
                }
            }
        }
    }

    fn set_floor(
        &mut self,
        slot: u32,
        since: &Since<T>,
        readers: &mut impl Readers<I, T>,
        effects: &mut Vec<Effect<I, T>>,
    ) {
        let collection = self.collections[slot as usize]
            .as_mut()
            .expect("it has the shard, or depends on who has");
        let implied = collection.implied.join(since);
        if implied != collection.implied {
            move_implied(collection, implied, &mut self.retired, readers);
        }
        let since = since.clone();
        self.lost = true;
        effects.push(Effect::Event(Event::LeaseLapsed {
            collection: collection.id,
            since: since.clone(),
        }));
        let is_new = true;
        collection.floor = Some(Box::new(Floor { since, is_new }));
        self.push(slot);
    }

    /// Cells that were retired count for no more than what is left of them.
    fn revoke_pins(&mut self, floors: &Floors<T>) {
        let collections = &self.collections;
        for (key, since) in self.retired.values_mut() {
            let collection = collections[key.slot as usize].as_ref();
            let Some(collection) = collection.filter(|found| found.key == *key) else {
                continue;
            };
            if floors.contains_key(&key.slot) {
                let left = since.frontier().iter();
                let left = left.filter(|time| collection.counts(time)).cloned();
                *since = Since::new(left.collect::<Antichain<T>>());
            }
        }
    }

    /// What is held for batches whose shards are being opened is held at what is left.
    fn move_openings(&mut self, floors: &Floors<T>) {
        for opening in self.opening.values_mut() {
            for (key, since) in &mut opening.held {
                let collection = self.collections[key.slot as usize].as_mut();
                let collection = collection.filter(|found| found.key == *key);
                if let (Some(collection), Some(floor)) = (collection, floors.get(&key.slot)) {
                    let left = since.join(floor);
                    collection.capabilities.replace(since, &left);
                    *since = left;
                }
            }
        }
    }

    /// A hold of a collection with a floor moves, or was cloned. It may have been revoked while the
    /// message was under way: then where it wants to be may be gone by now.
    pub(super) fn acquired_above_floor(&mut self, slot: u32, acquired: &Since<T>) {
        let collection = self.at_mut(slot);
        let readable = collection.readable();
        if let Some(floor) = &mut collection.floor
            && !PartialOrder::less_equal(&readable, acquired)
        {
            floor.since = readable;
        }
    }

    fn lapsed_while_opening(&mut self, shard: ShardId, since: &Since<T>) {
        if let Some(batch) = self.opening_batch(shard) {
            let opening = self.opening.get_mut(&batch).expect("it reserves its ids");
            opening.lapsed(shard, since);
        }
    }
}
