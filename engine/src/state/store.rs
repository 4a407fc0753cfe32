//! What is asked of storage, and what comes back.

use timely::PartialOrder;

use crate::effect::{Effect, Event, Readers};
use crate::frontier::{Since, Time, Upper};
use crate::id::{CollectionId, ShardId};
use crate::storage::{DowngradeOutcome, SinceWish, StorageReport};

use super::collection::Wish;
use super::{Named, State};

impl<I: CollectionId, T: Time> State<I, T> {
    pub(super) fn storage_reported(
        &mut self,
        report: StorageReport<T>,
        readers: &mut impl Readers<I, T>,
        effects: &mut Vec<Effect<I, T>>,
    ) {
        match report {
            StorageReport::Opened { batch, outcomes } => {
                self.shards_opened(batch, outcomes, readers, effects);
            }
            StorageReport::Downgraded(outcomes) => self.downgraded(outcomes, effects),
            StorageReport::UppersAdvanced(uppers) => self.shards_written(&uppers, effects),
        }
    }

    /// Asks for what is due, all of it in one write.
    pub(super) fn ask_storage(&mut self, effects: &mut Vec<Effect<I, T>>) {
        let due = self.durability.take_due(self.now).into_iter();
        let wishes = due.filter_map(|key| {
            let collection = self.alive_mut(key)?;
            collection.wish = Wish::Asked;
            let since = collection.since.clone();
            collection
                .shard
                .map(|shard| SinceWish { key, shard, since })
        });
        let wishes: Vec<_> = wishes.collect();
        self.ask(wishes, effects);
        if self.durability.last_due(self.now) {
            let last = self
                .durability
                .last
                .iter_mut()
                .filter(|(_, last)| !last.asked);
            let wishes = last.map(|(&shard, last)| {
                last.asked = true;
                SinceWish {
                    key: last.key,
                    shard,
                    since: Since::gone(),
                }
            });
            let wishes: Vec<_> = wishes.collect();
            self.ask(wishes, effects);
        }
    }

    fn ask(&mut self, wishes: Vec<SinceWish<T>>, effects: &mut Vec<Effect<I, T>>) {
        if !wishes.is_empty() {
            self.durability.requests += 1;
            effects.push(Effect::DowngradeSinces(wishes));
        }
    }

    fn downgraded(&mut self, outcomes: Vec<DowngradeOutcome<T>>, effects: &mut Vec<Effect<I, T>>) {
        let failed = outcomes
            .iter()
            .any(|(wish, outcome)| !is_granted(wish, outcome.as_ref().ok()));
        self.durability.answered(failed);
        for (wish, outcome) in outcomes {
            let granted = is_granted(&wish, outcome.as_ref().ok());
            if self.alive(wish.key).is_some() {
                let actual = outcome.as_ref().ok();
                self.answered_alive(&wish, granted, actual);
            } else {
                self.answered_gone(&wish, granted);
            }
            let collection = self.alive(wish.key).map(|collection| collection.id);
            let SinceWish {
                shard,
                since: asked,
                ..
            } = wish;
            match outcome {
                Ok(actual) if actual != asked => {
                    let moved = Event::ShardMoved {
                        collection,
                        shard,
                        asked,
                        actual,
                    };
                    effects.push(Effect::Event(moved));
                }
                Ok(_) => {}
                Err(error) => {
                    let failed = Event::SinceNotWritten {
                        collection,
                        shard,
                        error,
                    };
                    effects.push(Effect::Event(failed));
                }
            }
        }
    }

    /// A write for a collection that is still there is over.
    fn answered_alive(&mut self, wish: &SinceWish<T>, granted: bool, actual: Option<&Since<T>>) {
        let now = self.now;
        let slot = wish.key.slot;
        let collection = self.collections[slot as usize]
            .as_mut()
            .expect("it is alive");
        let again = matches!(collection.wish, Wish::AskedAndQueued) || !granted;
        collection.wish = if again { Wish::Queued } else { Wish::Granted };
        if !granted {
            self.durability.retry(wish.key, now);
        } else if again {
            self.durability.queue(wish.key, now);
        }
        if let Some(actual) = actual {
            let durable_since = collection.durable_since.join(actual);
            if durable_since != collection.durable_since {
                collection.durable_since = durable_since;
                collection.changed = true;
                self.push(slot);
            }
        }
    }

    /// A write for a collection that is gone is over: only the empty since is enough.
    fn answered_gone(&mut self, wish: &SinceWish<T>, granted: bool) {
        if granted && wish.since.is_gone() {
            self.durability.last.remove(&wish.shard);
        } else if granted {
            self.durability.last_again(wish.shard, self.now);
        } else {
            self.durability
                .last_again(wish.shard, self.durability.retry_at(self.now));
        }
    }

    fn shards_written(&mut self, uppers: &[(ShardId, Upper<T>)], effects: &mut Vec<Effect<I, T>>) {
        for (shard, reported) in uppers {
            let named = self
                .by_shard
                .get(shard)
                .and_then(|id| self.by_id.get(id))
                .copied();
            let slot = match named {
                Some(Named::Slot(slot)) => slot,
                Some(Named::Opening(batch)) => {
                    let opening = self.opening.get_mut(&batch).expect("it reserves its ids");
                    opening.written(*shard, reported);
                    continue;
                }
                // Late, of a shard that nobody has any more.
                None => continue,
            };
            let collection = self.at(slot);
            let upper = &collection.upper;
            if PartialOrder::less_equal(upper, reported) {
                self.upper_advanced(slot, reported);
            } else if !PartialOrder::less_equal(reported, upper) {
                effects.push(Effect::Event(Event::UpperIncomparable {
                    collection: collection.id,
                    reported: reported.clone(),
                    upper: upper.clone(),
                }));
            }
        }
    }
}

/// The shard is where it was asked to be, or further.
fn is_granted<T: Time>(wish: &SinceWish<T>, actual: Option<&Since<T>>) -> bool {
    actual.is_some_and(|actual| PartialOrder::less_equal(&wish.since, actual))
}
