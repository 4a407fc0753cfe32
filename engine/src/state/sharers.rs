//! Collections that have one shard: versions of a table's schema, for example.
//!
//! What is asked of the shard is the meet of what all of them plan. One of them, the first that was
//! installed, carries the wish; when it goes, the next one takes it over, and when the last one
//! goes, the shard is given up. A collection that has its shard for itself is its own carrier, and
//! nothing of this costs it anything.
//!
//! A shard that is [kept](super::kept) for others is as one that several have.

use timely::PartialOrder;

use crate::frontier::{Since, Time, Upper};
use crate::id::{CollectionId, Key, ShardId};
use crate::storage::SinceWish;

use super::collection::{Collection, Wish};
use super::{Named, State};

impl<I: CollectionId, T: Time> State<I, T> {
    /// Where the living collections are that have this shard, the one that carries the wish first.
    pub(super) fn sharers(&self, shard: ShardId) -> impl Iterator<Item = u32> {
        let ids = self.by_shard.get(&shard).into_iter().flatten();
        ids.filter_map(|id| match self.by_id.get(id) {
            Some(Named::Slot(slot)) => Some(*slot),
            Some(Named::Opening(_)) | None => None,
        })
    }

    /// What the living collections plan that have this shard, and where it is kept for others; none
    /// if there is neither.
    pub(super) fn planned(&self, shard: ShardId) -> Option<Since<T>> {
        self.meet(shard, |sharer| sharer.since.clone())
    }

    /// From when on all of them can be read, leases that have lapsed in this turn included.
    pub(super) fn readable(&self, shard: ShardId) -> Option<Since<T>> {
        self.meet(shard, Collection::readable)
    }

    fn meet(
        &self,
        shard: ShardId,
        since: impl Fn(&Collection<I, T>) -> Since<T>,
    ) -> Option<Since<T>> {
        let sinces = self.sharers(shard).map(|slot| since(self.at(slot)));
        let all = sinces.chain(self.kept_at(shard).cloned());
        all.reduce(|meet, since| meet.meet(&since))
    }

    /// Whose wish it is by now: the collection that asked, or the one that took it over.
    pub(super) fn carrier(&self, wish: &SinceWish<T>) -> Option<Key> {
        if self.alive(wish.key).is_some() {
            return Some(wish.key);
        }
        let slot = self.sharers(wish.shard).next()?;
        Some(self.at(slot).key)
    }

    /// A collection that was installed has this shard. If it is not the first, no wish is its own.
    pub(super) fn join(&mut self, shard: ShardId, slot: u32) {
        let id = self.at(slot).id;
        let sharers = self.by_shard.entry(shard).or_default();
        sharers.push(id);
        if sharers.len() == 1 {
            return self.join_kept(shard, slot);
        }
        let slots: Vec<u32> = self.sharers(shard).collect();
        let mut durable_since = Since::minimum();
        for slot in slots {
            let sharer = self.at_mut(slot);
            sharer.shared = true;
            durable_since = durable_since.join(&sharer.durable_since);
        }
        let planned = self.planned(shard).expect("it is there");
        self.shared.insert(shard, planned);
        self.durable(slot, &durable_since);
    }

    /// True iff somebody alive has this shard.
    pub(super) fn is_joined(&self, shard: ShardId) -> bool {
        self.sharers(shard).next().is_some()
    }

    /// A collection that had this shard is gone. The others keep it; the last gives it up, unless it
    /// is kept for others.
    pub(super) fn leave(&mut self, shard: ShardId, gone: &Collection<I, T>) {
        let sharers = self.by_shard.get_mut(&shard).expect("it had the shard");
        let carried = sharers.first() == Some(&gone.id);
        sharers.retain(|id| *id != gone.id);
        if sharers.is_empty() {
            self.by_shard.remove(&shard);
        }
        if !self.is_joined(shard) {
            // Who is just being created on it, after a lease has lapsed, will find it gone.
            self.shared.remove(&shard);
            if self.leave_kept(shard, gone.key, gone.wish) {
                return;
            }
            let durability = &mut self.durability;
            return durability.queue_last(shard, gone.key, gone.wish, self.now);
        }
        if carried {
            let next = self.sharers(shard).next();
            let next = next.expect("somebody alive has the shard");
            let (key, wish) = (self.at(next).key, gone.wish);
            self.at_mut(next).wish = wish;
            if wish == Wish::Queued {
                self.durability.queue(key, self.now);
            }
        }
        self.replan(shard);
    }

    /// What one of several plans has changed: if it matters, it is to become durable.
    pub(super) fn replan(&mut self, shard: ShardId) {
        let planned = self.planned(shard).expect("several have the shard");
        let before = self.shared.get_mut(&shard).expect("several have the shard");
        if *before == planned {
            return;
        }
        assert!(
            PartialOrder::less_equal(before, &planned),
            "what is planned for {shard} would go back from {before} to {planned}"
        );
        before.clone_from(&planned);
        let slot = self.sharers(shard).next().expect("several have the shard");
        let carrier = self.at(slot);
        let (key, wish) = (carrier.key, carrier.wish);
        if wish != Wish::Granted || !PartialOrder::less_equal(&planned, &carrier.durable_since) {
            let wish = self.durability.wish(wish, key, self.now);
            self.at_mut(slot).wish = wish;
        }
    }

    /// The shard's durable since is at least here: all who have it are told.
    pub(super) fn durable(&mut self, slot: u32, actual: &Since<T>) {
        let collection = self.at(slot);
        let shard = collection.shard.filter(|_| collection.shared);
        let slots = match shard {
            Some(shard) => self.sharers(shard).collect(),
            None => vec![slot],
        };
        for slot in slots {
            let collection = self.at_mut(slot);
            let durable_since = collection.durable_since.join(actual);
            if durable_since != collection.durable_since {
                collection.durable_since = durable_since;
                collection.changed = true;
                self.push(slot);
            }
        }
    }

    /// A batch in which somebody is just being created on this shard has to know how far it is
    /// written.
    pub(super) fn written_while_opening(&mut self, shard: ShardId, reported: &Upper<T>) {
        if let Some(batch) = self.opening_batch(shard) {
            let opening = self.opening.get_mut(&batch).expect("it reserves its ids");
            opening.written(shard, reported);
        }
    }
    /// The batch in which somebody is just being created on this shard.
    pub(super) fn opening_batch(&self, shard: ShardId) -> Option<u64> {
        let ids = self.by_shard.get(&shard).into_iter().flatten();
        let mut batches = ids.filter_map(|id| match self.by_id.get(id) {
            Some(Named::Opening(batch)) => Some(*batch),
            Some(Named::Slot(_)) | None => None,
        });
        // There is one at most.
        batches.next()
    }
}
