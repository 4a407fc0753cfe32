//! What must be true, said plainly: lists, and every since recomputed from scratch.

use std::collections::{BTreeMap, BTreeSet};

use differential_dataflow::lattice::Lattice;
use lowwater::Ticket;
use timely::PartialOrder;
use timely::progress::Antichain;

use super::policy::Policy;
use super::text::TestTime;

#[derive(Debug)]
pub(crate) struct Truth<T> {
    /// By generation.
    pub(crate) alive: BTreeMap<u64, Known<T>>,
    pub(crate) openings: BTreeMap<Ticket, Opening<T>>,
    /// Shards whose collections are gone.
    pub(crate) given_up: BTreeSet<u64>,
    /// Those of them where storage has said so: it is storage that refuses them from then on.
    pub(crate) tombstones: BTreeSet<u64>,
    /// Shards that are kept for others: where, from when on somebody has had them.
    pub(crate) kept: BTreeMap<u64, Option<Antichain<T>>>,
    /// Those of them whose collections are gone.
    pub(crate) left: BTreeSet<u64>,
    /// Generations that relied on a lease which has lapsed.
    pub(crate) lost: BTreeSet<u64>,
}

#[derive(Clone, Debug)]
pub(crate) struct Known<T> {
    pub(crate) id: char,
    /// Generations; also those that a sealed collection needs no more.
    pub(crate) dependencies: Vec<u64>,
    /// None: dropped.
    pub(crate) policy: Option<Policy<T>>,
    pub(crate) implied: Antichain<T>,
    pub(crate) upper: Antichain<T>,
    pub(crate) since: Antichain<T>,
    pub(crate) durable: Antichain<T>,
    pub(crate) shard: Option<u64>,
}

/// A batch whose shards are being opened.
#[derive(Debug)]
pub(crate) struct Opening<T> {
    pub(crate) news: Vec<New<T>>,
    held: Vec<(u64, Antichain<T>)>,
}

/// A collection to be created.
#[derive(Clone, Debug)]
pub(crate) struct New<T> {
    pub(crate) id: char,
    pub(crate) on: Vec<char>,
    pub(crate) policy: Policy<T>,
    pub(crate) from: Option<Antichain<T>>,
    pub(crate) shard: Option<u64>,
}

/// Since and upper of the shards that could be opened.
pub(crate) type Opened<T> = BTreeMap<u64, (Antichain<T>, Antichain<T>)>;

impl<T: TestTime> Truth<T> {
    pub(crate) fn new() -> Self {
        Truth {
            alive: BTreeMap::new(),
            openings: BTreeMap::new(),
            given_up: BTreeSet::new(),
            tombstones: BTreeSet::new(),
            kept: BTreeMap::new(),
            left: BTreeSet::new(),
            lost: BTreeSet::new(),
        }
    }

    pub(crate) fn by_id(&self, id: char) -> Option<(u64, &Known<T>)> {
        let mut found = self.alive.iter().filter(|(_, known)| known.id == id);
        found.next().map(|(generation, known)| (*generation, known))
    }

    /// True iff a batch can be created, as far as one knows before its shards are open.
    pub(crate) fn accepts(&self, news: &[New<T>]) -> bool {
        let ids: BTreeSet<_> = news.iter().map(|new| new.id).collect();
        if ids.len() < news.len() {
            return false;
        }
        let opening: Vec<_> = self.openings.values().flat_map(|o| &o.news).collect();
        let minimum = Antichain::from_elem(T::minimum());
        let fine = |new: &New<T>| {
            let shard_is_taken = |shard| {
                self.given_up
                    .difference(&self.tombstones)
                    .any(|other| *other == shard)
                    || opening.iter().any(|other| other.shard == Some(shard))
            };
            self.by_id(new.id).is_none()
                && opening.iter().all(|other| other.id != new.id)
                && new.policy.is_valid()
                && new.policy.wants(&minimum, &minimum).is_some()
                && !new.shard.is_some_and(shard_is_taken)
                && new.on.iter().all(|on| {
                    ids.contains(on) || self.by_id(*on).is_some_and(|(_, d)| d.policy.is_some())
                })
        };
        news.iter().all(fine) && !has_cycle(news)
    }

    /// Where each collection of an accepted batch starts; none if one of them cannot.
    pub(crate) fn starts(
        &self,
        news: &[New<T>],
        opened: &Opened<T>,
    ) -> Option<BTreeMap<char, Known<T>>> {
        let mut starts = BTreeMap::<char, Known<T>>::new();
        while starts.len() < news.len() {
            for new in news.iter().cloned() {
                let implied = |on: &char| match news.iter().any(|other| other.id == *on) {
                    true => starts.get(on).map(|start| start.implied.clone()),
                    false => self.by_id(*on).map(|(_, known)| known.implied.clone()),
                };
                let Some(implied) = new.on.iter().map(implied).collect::<Option<Vec<_>>>() else {
                    continue;
                };
                // Some twice: the batch is small, and its start is always the same.
                let planned = new.shard.and_then(|shard| self.planned(shard));
                let start = start(new, opened, planned, &implied)?;
                starts.insert(start.id, start);
            }
        }
        Some(starts)
    }

    /// What those plan together who have a shard, and for whom it is kept; none if there is nobody.
    pub(crate) fn planned(&self, shard: u64) -> Option<Antichain<T>> {
        let sharers = self.alive.values();
        let sharers = sharers.filter(|known| known.shard == Some(shard));
        let kept = self.kept.get(&shard).and_then(Option::as_ref);
        let mut sinces = sharers.map(|known| &known.since).chain(kept);
        let first = sinces.next()?.clone();
        Some(sinces.fold(first, |mut planned, since| {
            planned.extend(since.iter().cloned());
            planned
        }))
    }

    /// A shard's since is durable here: all hear of it who have the shard.
    pub(crate) fn durable(&mut self, shard: u64, durable: &Antichain<T>) {
        let sharers = self.alive.values_mut();
        for known in sharers.filter(|known| known.shard == Some(shard)) {
            known.durable = known.durable.join(durable);
        }
    }

    /// The lease of a shard has lapsed: whoever has it can be read from `since` on, and so can all
    /// that depend on him. Says from when on each.
    pub(crate) fn lapsed(
        &mut self,
        shard: u64,
        since: &Antichain<T>,
    ) -> BTreeMap<u64, Antichain<T>> {
        self.durable(shard, since);
        let mut moved = BTreeMap::new();
        let owners = self.alive.iter();
        let owners = owners.filter(|(_, known)| known.shard == Some(shard));
        let mut left: Vec<(u64, Antichain<T>)> = owners
            .map(|(generation, _)| (*generation, since.clone()))
            .collect();
        while let Some((generation, since)) = left.pop() {
            let known = self.alive.get_mut(&generation).expect("it is alive");
            let later = known.since.join(&since);
            if later == known.since {
                continue;
            }
            known.implied = known.implied.join(&later);
            if known.implied.is_empty() {
                known.policy = None;
            }
            known.since.clone_from(&later);
            self.lost.insert(generation);
            moved.insert(generation, later.clone());
            for (of, held) in self.openings.values_mut().flat_map(|o| &mut o.held) {
                if *of == generation {
                    *held = held.join(&later);
                }
            }
            let dependents = self.alive.iter();
            let dependents = dependents.filter(|(_, other)| {
                !other.upper.is_empty() && other.dependencies.contains(&generation)
            });
            left.extend(dependents.map(|(dependent, _)| (*dependent, later.clone())));
        }
        moved
    }

    /// Shards are being opened: dependencies outside of the batch stay where they are.
    pub(crate) fn open(&mut self, ticket: Ticket, news: Vec<New<T>>) {
        let dependencies: BTreeSet<_> = news.iter().flat_map(|new| &new.on).collect();
        let held = dependencies.into_iter().filter_map(|on| self.by_id(*on));
        let held = held.map(|(generation, known)| (generation, known.implied.clone()));
        // Who has a shard cannot give it up while another one is about to have it.
        let shards: BTreeSet<_> = news.iter().filter_map(|new| new.shard).collect();
        let shared = self.alive.iter();
        let shared = shared.filter(|(_, known)| known.shard.is_some_and(|of| shards.contains(&of)));
        let shared = shared.map(|(generation, known)| (*generation, known.since.clone()));
        let held = held.chain(shared).collect();
        self.openings.insert(ticket, Opening { news, held });
    }

    pub(crate) fn install(
        &mut self,
        news: &[New<T>],
        mut starts: BTreeMap<char, Known<T>>,
        generations: &BTreeMap<char, u64>,
    ) {
        for new in news {
            let generation = generations[&new.id];
            let found = |on: &char| match generations.get(on) {
                Some(generation) => *generation,
                None => self.by_id(*on).expect("it was checked").0,
            };
            let mut start = starts.remove(&new.id).expect("each has a start");
            let dependencies: BTreeSet<_> = new.on.iter().map(found).collect();
            start.dependencies = dependencies.into_iter().collect();
            assert!(self.alive.insert(generation, start).is_none());
        }
        for shard in news.iter().filter_map(|new| new.shard) {
            let sharers = self.alive.values();
            let sharers = sharers.filter(|known| known.shard == Some(shard));
            let minimum = Antichain::from_elem(T::minimum());
            let durable = sharers.fold(minimum, |durable, known| durable.join(&known.durable));
            self.durable(shard, &durable);
            self.left.remove(&shard);
            if let Some(kept) = self.kept.get_mut(&shard) {
                kept.get_or_insert(durable);
            }
        }
    }

    /// The end of a turn: policies are followed, and everything that anybody keeps is counted up.
    pub(crate) fn settle(&mut self, kept: &[(u64, Antichain<T>)]) {
        for known in self.alive.values_mut() {
            let wanted = match &known.policy {
                Some(policy) => policy.wants(&known.upper, &known.implied),
                None => Some(Antichain::new()),
            };
            if let Some(wanted) = wanted
                && PartialOrder::less_than(&known.implied, &wanted)
            {
                known.implied = wanted;
            }
            if known.implied.is_empty() {
                known.policy = None;
            }
        }
        let generations: Vec<_> = self.alive.keys().copied().collect();
        for generation in generations {
            let since = self.since(generation, kept);
            let known = self.alive.get_mut(&generation).expect("it is alive");
            assert!(
                PartialOrder::less_equal(&known.since, &since),
                "{} goes back",
                known.id
            );
            if known.shard.is_none() {
                known.durable.clone_from(&since);
            }
            known.since = since;
        }
        let gone = self.alive.values().filter(|known| known.since.is_empty());
        let gone: Vec<u64> = gone.filter_map(|known| known.shard).collect();
        self.alive.retain(|_, known| !known.since.is_empty());
        let is_left = |shard: &u64| !self.is_had(*shard);
        let left: Vec<u64> = gone.into_iter().filter(is_left).collect();
        for shard in left {
            let kept = self.kept.contains_key(&shard);
            let list = if kept {
                &mut self.left
            } else {
                &mut self.given_up
            };
            list.insert(shard);
        }
    }

    fn is_had(&self, shard: u64) -> bool {
        self.alive.values().any(|known| known.shard == Some(shard))
    }

    pub(crate) fn keep(&mut self, shard: u64) {
        let is_leaving = self.given_up.contains(&shard) && !self.tombstones.contains(&shard);
        if !is_leaving && !self.kept.contains_key(&shard) {
            let planned = self.planned(shard);
            self.kept.insert(shard, planned);
        }
    }

    pub(crate) fn free(&mut self, shard: u64) {
        self.kept.remove(&shard);
        if self.left.remove(&shard) {
            self.given_up.insert(shard);
        }
    }

    /// The frontier of all that keeps a collection readable.
    fn since(&self, generation: u64, kept: &[(u64, Antichain<T>)]) -> Antichain<T> {
        let mut since = self.alive[&generation].implied.clone();
        let opening = self.openings.values().flat_map(|opening| &opening.held);
        let known = &self.alive[&generation];
        for (of, frontier) in kept.iter().chain(opening) {
            if *of == generation {
                // Nobody gets back to what was lost.
                let left = |time: &&T| known.since.less_equal(time);
                assert!(
                    self.lost.contains(&generation) || frontier.iter().all(|time| left(&time)),
                    "{} is held before its since",
                    known.id
                );
                since.extend(frontier.iter().filter(left).cloned());
            }
        }
        for (dependent, known) in &self.alive {
            if !known.upper.is_empty() && known.dependencies.contains(&generation) {
                since.extend(self.since(*dependent, kept));
            }
        }
        since
    }
}

fn start<T: TestTime>(
    new: New<T>,
    opened: &Opened<T>,
    planned: Option<Antichain<T>>,
    implied: &[Antichain<T>],
) -> Option<Known<T>> {
    let minimum = Antichain::from_elem(T::minimum());
    let (shard_since, upper) = match new.shard {
        Some(shard) => opened.get(&shard)?.clone(),
        None => (minimum.clone(), minimum.clone()),
    };
    let asked = new.from.unwrap_or_else(|| new.policy.initial_since());
    // A tombstone is never opened.
    if shard_since.is_empty() {
        return None;
    }
    let own = shard_since
        .join(&asked)
        .join(&planned.unwrap_or(minimum.clone()));
    let since = implied.iter().fold(own.clone(), |since, d| since.join(d));
    let fits = since == own
        || PartialOrder::less_than(&since, &upper)
        || upper == minimum
        || upper.is_empty();
    (fits && !own.is_empty()).then(|| Known {
        id: new.id,
        dependencies: Vec::new(),
        policy: Some(new.policy),
        durable: if new.shard.is_some() {
            shard_since
        } else {
            since.clone()
        },
        implied: since.clone(),
        upper,
        since,
        shard: new.shard,
    })
}

fn has_cycle<T>(news: &[New<T>]) -> bool {
    let mut left: BTreeMap<char, &[char]> = news.iter().map(|new| (new.id, &new.on[..])).collect();
    loop {
        let free = left
            .iter()
            .find(|(_, on)| !on.iter().any(|on| left.contains_key(on)));
        match free.map(|(id, _)| *id) {
            Some(id) => left.remove(&id),
            None => return !left.is_empty(),
        };
    }
}
