//! What is asked of storage, and what comes back.

use smallvec::SmallVec;
use timely::PartialOrder;

use crate::effect::{Effect, Event, Readers};
use crate::frontier::{Since, Time, Upper};
use crate::id::{CollectionId, Epoch, Key, ShardId};
use crate::storage::{DowngradeOutcome, OpenOutcome, SinceWish, StorageReport};

use super::State;
use super::collection::Wish;

impl<I: CollectionId, T: Time> State<I, T> {
    pub(super) fn storage_reported(
        &mut self,
        report: StorageReport<T>,
        readers: &mut impl Readers<I, T>,
        effects: &mut Vec<Effect<I, T>>,
    ) {
        match report {
            StorageReport::Opened { batch, outcomes } => {
                let outcome = |(_, outcome): &OpenOutcome<T>| outcome.as_ref().err()?.fenced_by();
                if let Some(by) = outcomes.iter().find_map(outcome) {
                    self.fenced(by, effects);
                }
                self.shards_opened(batch, outcomes, readers, effects);
            }
            StorageReport::Downgraded(outcomes) => {
                let outcome = |(_, outcome): &DowngradeOutcome<T>| {
                    let error = outcome.as_ref().err()?;
                    error.fenced_by()
                };
                if let Some(by) = outcomes.iter().find_map(outcome) {
                    self.fenced(by, effects);
                }
                self.downgraded(outcomes, effects);
            }
            StorageReport::Fenced(by) => self.fenced(by, effects),
            StorageReport::UppersAdvanced(uppers) => self.shards_written(&uppers, effects),
            StorageReport::Lapsed(sinces) => self.leases_lapsed(&sinces, readers, effects),
        }
    }

    /// Asks for what is due, all of it in one write.
    pub(super) fn ask_storage(&mut self, effects: &mut Vec<Effect<I, T>>) {
        if self.fenced_by.is_some() {
            return;
        }
        let collections = &mut self.collections;
        let shared = &self.shared;
        let wishes = self.durability.ask(self.now, |key| {
            let collection = collections.get_mut(key.slot as usize)?.as_mut();
            let collection = collection.filter(|found| found.key == key)?;
            let shard = collection.shard?;
            collection.wish = Wish::Asked;
            let planned = shared.get(&shard).filter(|_| collection.shared);
            let since = planned.unwrap_or(&collection.since).clone();
            Some(SinceWish { key, shard, since })
        });
        let last = self.durability.ask_last(self.now);
        let asked = [wishes, last].into_iter();
        let asked = asked.filter(|wishes| !wishes.is_empty());
        effects.extend(asked.map(Effect::DowngradeSinces));
    }

    /// Another controller is in charge of the storage: it is asked for nothing any more.
    fn fenced(&mut self, by: Epoch, effects: &mut Vec<Effect<I, T>>) {
        if self.fenced_by.is_none() {
            self.fenced_by = Some(by);
            effects.push(Effect::Fenced(by));
        }
    }

    fn downgraded(&mut self, outcomes: Vec<DowngradeOutcome<T>>, effects: &mut Vec<Effect<I, T>>) {
        let failed = outcomes
            .iter()
            .any(|(wish, outcome)| !is_granted(wish, outcome.as_ref().ok()));
        self.durability.answered(failed);
        for (wish, outcome) in outcomes {
            let granted = is_granted(&wish, outcome.as_ref().ok());
            let carrier = self.carrier(&wish);
            if let Some(key) = carrier {
                let actual = outcome.as_ref().ok();
                self.answered_alive(key, granted, actual);
            } else {
                let shard = wish.shard;
                if !self.answered_kept(shard, granted) {
                    self.durability.answered_gone(shard, granted, self.now);
                }
            }
            let collection = carrier.map(|key| self.at(key.slot).id);
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
                // Said once, for all of them.
                Err(error) if error.fenced_by().is_some() => {}
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
    fn answered_alive(&mut self, key: Key, granted: bool, actual: Option<&Since<T>>) {
        let wish = self.at(key.slot).wish;
        let durability = &mut self.durability;
        let wish = durability.answered_alive(wish, key, granted, self.now);
        self.at_mut(key.slot).wish = wish;
        if let Some(actual) = actual {
            self.durable(key.slot, actual);
        }
    }

    fn shards_written(&mut self, uppers: &[(ShardId, Upper<T>)], effects: &mut Vec<Effect<I, T>>) {
        for (shard, reported) in uppers {
            self.written_while_opening(*shard, reported);
            // None where it comes late, of a shard that nobody has any more.
            let sharers: SmallVec<[u32; 1]> = self.sharers(*shard).collect();
            for slot in sharers {
                self.shard_written(slot, reported, effects);
            }
        }
    }

    fn shard_written(&mut self, slot: u32, reported: &Upper<T>, effects: &mut Vec<Effect<I, T>>) {
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

/// The shard is where it was asked to be, or further.
fn is_granted<T: Time>(wish: &SinceWish<T>, actual: Option<&Since<T>>) -> bool {
    actual.is_some_and(|actual| PartialOrder::less_equal(&wish.since, actual))
}
