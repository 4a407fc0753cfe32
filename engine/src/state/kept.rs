//! Shards that are kept for others, who are not here: what is planned for them stays where it is, and
//! they are not given up.
//!
//! Who owns a shard is decided elsewhere, and known before all its owners are created: after a
//! restart, or between a change of a catalogue and what comes of it. Until a shard is let go again,
//! those who are here move their own sinces as ever, and read what they hold; it is the shard that
//! stays.

use crate::frontier::{Since, Time};
use crate::id::{CollectionId, Key, ShardId};

use super::State;
use super::collection::Wish;

/// A shard that is kept for others.
#[derive(Debug)]
pub(super) struct Kept<T> {
    /// What is planned for it meanwhile; none before anybody has had it.
    pub(super) since: Option<Since<T>>,
    /// The last collection that had it, if that has gone in the meantime, and how far its wish had
    /// come: it is given up in its name, or the next one takes the wish over.
    pub(super) left: Option<(Key, Wish)>,
}

impl<I: CollectionId, T: Time> State<I, T> {
    /// From now on these are kept; those that are kept already stay so. What is being given up cannot
    /// be kept any more.
    pub(super) fn keep_shards(&mut self, shards: Vec<ShardId>) {
        for shard in shards {
            if self.kept.contains_key(&shard) || self.durability.last.has(shard) {
                continue;
            }
            let planned = self.shared.get(&shard).cloned();
            if let Some(planned) = planned.or_else(|| self.planned(shard)) {
                self.shared.insert(shard, planned);
            }
            // Where a lease has lapsed in this turn, the plan gets there when the turn is over.
            let since = self.readable(shard);
            let sharers: Vec<u32> = self.sharers(shard).collect();
            for slot in sharers {
                self.at_mut(slot).shared = true;
            }
            let left = None;
            self.kept.insert(shard, Kept { since, left });
        }
    }

    /// These are kept no more: those who have them decide, and what nobody has is given up, if
    /// somebody had it.
    pub(super) fn free_shards(&mut self, shards: Vec<ShardId>) {
        for shard in shards {
            let Some(kept) = self.kept.remove(&shard) else {
                continue;
            };
            if self.is_joined(shard) {
                self.replan(shard);
            } else if let Some((key, wish)) = kept.left {
                self.durability.queue_last(shard, key, wish, self.now);
            }
        }
    }

    pub(super) fn is_kept(&self, shard: ShardId) -> bool {
        self.kept.contains_key(&shard)
    }

    /// Where a shard stays that is kept; none if it is not, or nobody has had it.
    pub(super) fn kept_at(&self, shard: ShardId) -> Option<&Since<T>> {
        self.kept.get(&shard)?.since.as_ref()
    }

    /// A collection was installed, and is the only one on its shard. If that is kept, it stays where it
    /// was, or else where it was found.
    pub(super) fn join_kept(&mut self, shard: ShardId, slot: u32) {
        let found = self.at(slot).durable_since.clone();
        let Some(kept) = self.kept.get_mut(&shard) else {
            return;
        };
        let since = kept.since.get_or_insert(found).clone();
        let left = kept.left.take();
        self.shared.insert(shard, since);
        let collection = self.at_mut(slot);
        collection.shared = true;
        if let Some((_, wish)) = left {
            collection.wish = wish;
            let key = collection.key;
            if wish == Wish::Queued {
                self.durability.queue(key, self.now);
            }
        }
    }

    /// The last collection of a shard is gone, whose wish had come so far. False if the shard is not
    /// kept.
    pub(super) fn leave_kept(&mut self, shard: ShardId, key: Key, wish: Wish) -> bool {
        let Some(kept) = self.kept.get_mut(&shard) else {
            return false;
        };
        kept.left = Some((key, wish));
        true
    }

    /// Storage has answered for a shard of which the last collection is gone. False if it is not kept.
    pub(super) fn answered_kept(&mut self, shard: ShardId, granted: bool) -> bool {
        let kept = self.kept.get_mut(&shard);
        let Some((_, wish)) = kept.and_then(|kept| kept.left.as_mut()) else {
            return false;
        };
        *wish = self.durability.answered_kept(*wish, granted);
        true
    }

    /// How far the wishes have come of those that are gone, and whose shards are kept.
    pub(super) fn kept_wishes(&self) -> impl Iterator<Item = Wish> {
        let left = self.kept.values().filter_map(|kept| kept.left);
        left.map(|(_, wish)| wish)
    }

    /// Asserts that what is kept stays where it is for those who have it.
    pub(super) fn check_kept(&self) {
        for (&shard, kept) in &self.kept {
            assert!(
                !self.is_joined(shard) || (kept.since.is_some() && kept.left.is_none()),
                "{shard} is kept, and nobody knows where"
            );
            for slot in self.sharers(shard) {
                let id = self.at(slot).id;
                assert!(
                    self.at(slot).shared,
                    "{id} does not know that {shard} is kept"
                );
            }
            assert!(
                !self.is_joined(shard) || self.shared.get(&shard) == kept.since.as_ref(),
                "{shard} is kept, and its plan has moved"
            );
        }
    }
}
