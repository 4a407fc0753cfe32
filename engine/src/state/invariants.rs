//! What must be true after every turn.

use std::collections::{BTreeMap, BTreeSet};

use timely::PartialOrder;
use timely::progress::Antichain;

use crate::frontier::{Since, Time};
use crate::id::{CollectionId, Key, ShardId};

use super::collection::Wish;
use super::create::Opening;
use super::last_wishes::Stage;
use super::{Named, State};

impl<I: CollectionId, T: Time> State<I, T> {
    /// Recomputes everything that is kept up to date step by step, and compares. `held` are the
    /// holds that are counted one by one (those that were moved, or taken by asking), as whoever
    /// gave them out knows them.
    ///
    /// To be called between turns: after [`State::settle`]. It walks everything.
    ///
    /// # Panics
    ///
    /// If an invariant of the design does not hold.
    pub fn check_invariants(&self, held: impl IntoIterator<Item = (Key, Since<T>)>) {
        assert!(
            self.agenda.first().is_none(),
            "a collection was not visited"
        );
        let mut expected = self.expected_capabilities(held);
        let mut dependents = BTreeMap::<u32, u32>::new();
        let mut alive = 0;
        for (slot, collection) in self.collections.iter().enumerate() {
            let Some(collection) = collection else {
                continue;
            };
            let id = collection.id;
            alive += 1;
            // 1: the since is exactly the frontier of what is counted; nothing leaks.
            let counted: BTreeMap<_, _> = collection
                .capabilities
                .iter()
                .map(|(time, count)| (time.clone(), count))
                .collect();
            let expected = expected.remove(&(slot as u32)).unwrap_or_default();
            assert_eq!(counted, expected, "the capabilities of {id}");
            let mut frontier = Antichain::new();
            for time in expected.keys() {
                frontier.insert_ref(time);
            }
            assert_eq!(collection.since.frontier(), &frontier, "the since of {id}");
            // 3: while a hold lives, the since is not past it, unless it was revoked: so what is not
            // at or after the floor is not counted, and the since is at or after the floor.
            if let Some(floor) = &collection.floor {
                assert!(
                    !floor.is_new && PartialOrder::less_equal(&floor.since, &collection.since),
                    "{id} is at {}, before {} where its lease has lapsed",
                    collection.since,
                    floor.since,
                );
            }
            let mut distinct = collection.dependencies.clone();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(
                distinct.len(),
                collection.dependencies.len(),
                "{id} depends on something twice"
            );
            // 2: no dependency is compacted past what a dependent needs.
            for &dependency in &collection.dependencies {
                let needed = self.at(dependency);
                assert!(
                    PartialOrder::less_equal(&needed.since, &collection.since),
                    "{} is compacted to {}, past {id} at {}",
                    needed.id,
                    needed.since,
                    collection.since,
                );
                assert!(
                    needed.links.rank < collection.links.rank,
                    "{id} would be visited after its dependency {}",
                    needed.id,
                );
                *dependents.entry(dependency).or_default() += 1;
            }
            assert!(
                collection.dependencies.is_empty() || !collection.upper.is_sealed(),
                "{id} is sealed and keeps its dependencies",
            );
            // 6: a collection leaves exactly when its since is empty.
            assert!(!collection.since.is_gone(), "{id} is gone and still there");
            assert_eq!(
                collection.is_dropped(),
                collection.implied.is_gone(),
                "{id} dropped"
            );
            assert!(matches!(self.by_id.get(&id), Some(Named::Slot(at)) if *at == slot as u32));
            if let Some(shard) = collection.shard {
                let named = &self.by_shard[&shard];
                assert!(named.contains(&id), "{id} does not have {shard}");
                assert!(
                    collection.shared || named.len() == 1 || self.is_opened(shard),
                    "{id} does not know that it shares {shard}"
                );
            }
            assert!(
                !collection.due && !collection.changed,
                "{id} was left half done"
            );
            assert_eq!(
                collection.watched,
                self.waiters.are_at(slot as u32),
                "{id} is watched"
            );
            if collection.shard.is_none() {
                assert_eq!(
                    collection.durable_since, collection.since,
                    "{id} has no shard"
                );
            } else if collection.wish == Wish::Granted && !collection.shared {
                assert!(
                    PartialOrder::less_equal(&collection.since, &collection.durable_since),
                    "nobody asks for the since {} of {id} to become durable",
                    collection.since,
                );
            }
        }
        assert!(
            expected.is_empty(),
            "capabilities of what is not there: {expected:?}"
        );
        assert_eq!(alive, self.alive, "collections alive");
        self.check_names();
        self.check_wishes();
        self.check_kept();
        for (slot, collection) in self.collections.iter().enumerate() {
            if let Some(collection) = collection {
                let counted = dependents.get(&(slot as u32)).copied().unwrap_or_default();
                assert_eq!(
                    collection.dependents, counted,
                    "the dependents of {}",
                    collection.id
                );
            }
        }
    }

    /// No name outlives what it stands for.
    fn check_names(&self) {
        let new = || self.opening.values().flat_map(Opening::descriptions);
        let shards = self.collections.iter().flatten().map(|found| found.shard);
        let shards = shards.chain(new().map(|new| new.shard));
        assert_eq!(self.by_id.len(), self.alive + new().count(), "names");
        let shards: BTreeSet<_> = shards.flatten().collect();
        assert_eq!(self.by_shard.len(), shards.len(), "shards");
        let shared = shards.iter().filter(|shard| self.check_shared(**shard));
        assert_eq!(
            self.shared.len(),
            shared.count(),
            "shards that several have"
        );
    }

    /// Somebody is being created on it.
    fn is_opened(&self, shard: ShardId) -> bool {
        let mut new = self.opening.values().flat_map(Opening::descriptions);
        new.any(|new| new.shard == Some(shard))
    }

    /// What is planned for a shard is the meet of what those plan who have it, and one of them
    /// carries the wish. True iff several have or had it.
    fn check_shared(&self, shard: ShardId) -> bool {
        let mut sharers = self.sharers(shard).map(|slot| self.at(slot));
        let Some(carrier) = sharers.next() else {
            assert!(
                !self.shared.contains_key(&shard),
                "{shard} is shared by nobody"
            );
            return false;
        };
        let Some(planned) = self.shared.get(&shard) else {
            assert!(sharers.next().is_none(), "{shard} is shared");
            return false;
        };
        assert_eq!(
            Some(planned),
            self.planned(shard).as_ref(),
            "the plan for {shard}"
        );
        assert!(
            carrier.wish != Wish::Granted
                || PartialOrder::less_equal(planned, &carrier.durable_since),
            "nobody asks for the since {planned} of {shard} to become durable"
        );
        for other in sharers {
            assert_eq!(other.wish, Wish::Granted, "{} carries no wish", other.id);
            assert_eq!(other.durable_since, carrier.durable_since, "{shard}");
        }
        true
    }

    /// Every wish is in one place, and will be asked for.
    fn check_wishes(&self) {
        let mut queued: Vec<Key> = self.durability.waiting().collect();
        queued.retain(|key| self.alive(*key).is_some());
        queued.sort();
        let wishing = |wish| {
            let all = self.collections.iter().flatten();
            all.filter(move |collection| collection.wish == wish)
        };
        let mut expected: Vec<_> = wishing(Wish::Queued).map(|found| found.key).collect();
        expected.sort();
        assert_eq!(queued, expected, "the queue of wishes");
        let under_way = wishing(Wish::Asked).count() + wishing(Wish::AskedAndQueued).count();
        assert!(
            under_way == 0 || self.durability.requests > 0,
            "{under_way} wishes wait for an answer to nothing",
        );
        self.durability.check();
        self.check_downgrades();
    }

    /// What is counted of wishes is what there is.
    fn check_downgrades(&self) {
        let (mut waiting, mut in_flight, mut behind) = (0, 0, 0);
        let mut count = |waits: bool, flies: bool| {
            waiting += u64::from(waits);
            in_flight += u64::from(flies);
            behind += u64::from(waits || flies);
        };
        for collection in self.collections.iter().flatten() {
            let wish = collection.wish;
            count(
                matches!(wish, Wish::Queued | Wish::AskedAndQueued),
                matches!(wish, Wish::Asked | Wish::AskedAndQueued),
            );
        }
        for wish in self.kept_wishes() {
            count(
                matches!(wish, Wish::Queued | Wish::AskedAndQueued),
                matches!(wish, Wish::Asked | Wish::AskedAndQueued),
            );
        }
        for stage in self.durability.last.stages() {
            count(stage != Stage::Asked, stage != Stage::Waiting);
        }
        let counted = self.durability.downgrades();
        assert_eq!(
            (counted.waiting, counted.in_flight, counted.behind),
            (waiting, in_flight, behind),
            "wishes that wait, that storage was asked for, and their shards"
        );
    }

    /// All that should be counted, by slot.
    fn expected_capabilities(
        &self,
        held: impl IntoIterator<Item = (Key, Since<T>)>,
    ) -> BTreeMap<u32, BTreeMap<T, u64>> {
        let mut expected = BTreeMap::<u32, BTreeMap<T, u64>>::new();
        let mut expect = |slot: u32, since: &Since<T>| {
            for time in since.frontier().iter() {
                *expected
                    .entry(slot)
                    .or_default()
                    .entry(time.clone())
                    .or_default() += 1;
            }
        };
        for collection in self.collections.iter().flatten() {
            expect(collection.key.slot, &collection.implied);
            for &dependency in &collection.dependencies {
                expect(dependency, &collection.since);
            }
        }
        for (key, since) in self.retired.values() {
            expect(key.slot, since);
        }
        for (key, since) in self.opening.values().flat_map(|opening| &opening.held) {
            expect(key.slot, since);
        }
        for (key, since) in held {
            // What was revoked is not counted, and may be of what is gone.
            let collection = self.alive(key);
            assert!(
                collection.is_some() || self.lost || since.is_gone(),
                "{key:?} is held and not there"
            );
            if let Some(collection) = collection {
                let times = since.into_frontier().into_iter();
                let counted = times.filter(|time| collection.counts(time));
                expect(key.slot, &Since::new(counted.collect()));
            }
        }
        expected
    }
}
