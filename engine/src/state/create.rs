//! Creating collections: a batch is checked whole, its shards are opened, then all of it is
//! installed, or nothing.

use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;
use timely::PartialOrder;

use crate::command::{CreateError, Description, Refusal};
use crate::effect::{Answer, Effect, Readers};
use crate::frontier::{Frontiers, Since, Time, Upper};
use crate::id::{CollectionId, Key, ShardId, Ticket};
use crate::storage::{OpenOutcome, OpenedShard};

use super::capabilities::Capabilities;
use super::collection::{Collection, Wish};
use super::graph::Links;
use super::{Lookup, Named, State, answer};

/// A batch whose shards are being opened.
#[derive(Debug)]
pub(super) struct Opening<I, T> {
    ticket: Ticket,
    batch: Batch<I, T>,
    /// What the dependencies outside of the batch were held at when the opening began.
    pub(super) held: Vec<(Key, Since<T>)>,
    /// How far shards were written in the meantime.
    pub(super) uppers: BTreeMap<ShardId, Upper<T>>,
}

/// A batch that has been checked.
#[derive(Debug)]
struct Batch<I, T> {
    descriptions: Vec<Description<I, T>>,
    /// Where in `descriptions` each id stands.
    places: Lookup<I, usize>,
    /// Places, dependencies before dependents.
    order: Vec<usize>,
}

impl<I, T: Time> Opening<I, T> {
    pub(super) fn descriptions(&self) -> &[Description<I, T>] {
        &self.batch.descriptions
    }

    /// A shard was written while it was being opened: the report may be the only one.
    pub(super) fn written(&mut self, shard: ShardId, reported: &Upper<T>) {
        let upper = self.uppers.entry(shard).or_insert_with(Upper::minimum);
        if PartialOrder::less_equal(upper, reported) {
            upper.clone_from(reported);
        }
    }
}

type Refusals<I, T> = Vec<(I, Refusal<I, T>)>;

/// Where a collection starts, and with what.
struct Start<T> {
    since: Since<T>,
    opened: OpenedShard<T>,
}

impl<I: CollectionId, T: Time> State<I, T> {
    pub(super) fn create(
        &mut self,
        ticket: Ticket,
        descriptions: Vec<Description<I, T>>,
        readers: &mut impl Readers<I, T>,
        effects: &mut Vec<Effect<I, T>>,
    ) {
        let batch = match self.check(descriptions) {
            Ok(batch) => batch,
            Err(refusals) => return effects.push(refused(ticket, refusals)),
        };
        let shards: Vec<_> = batch
            .descriptions
            .iter()
            .filter_map(|new| new.shard)
            .collect();
        if shards.is_empty() {
            return self.install(ticket, batch, Vec::new(), readers, effects);
        }
        let held = self.hold_dependencies(&batch);
        let number = self.batches;
        self.batches += 1;
        for new in &batch.descriptions {
            self.by_id.insert(new.id, Named::Opening(number));
            if let Some(shard) = new.shard {
                self.by_shard.insert(shard, new.id);
            }
        }
        self.opening.insert(
            number,
            Opening {
                ticket,
                batch,
                held,
                uppers: BTreeMap::new(),
            },
        );
        effects.push(Effect::OpenShards(number, shards));
    }

    pub(super) fn shards_opened(
        &mut self,
        number: u64,
        mut outcomes: Vec<OpenOutcome<T>>,
        readers: &mut impl Readers<I, T>,
        effects: &mut Vec<Effect<I, T>>,
    ) {
        let Some(opening) = self.opening.remove(&number) else {
            return;
        };
        let Opening {
            ticket,
            batch,
            held,
            uppers,
        } = opening;
        for (shard, outcome) in &mut outcomes {
            if let (Ok(opened), Some(upper)) = (outcome, uppers.get(shard))
                && PartialOrder::less_equal(&opened.upper, upper)
            {
                opened.upper.clone_from(upper);
            }
        }
        for new in &batch.descriptions {
            self.by_id.remove(&new.id);
            if let Some(shard) = new.shard {
                self.by_shard.remove(&shard);
            }
        }
        // Looked at again: it may have been dropped while the shards were being opened.
        match self.check(batch.descriptions) {
            Ok(batch) => self.install(ticket, batch, outcomes, readers, effects),
            Err(refusals) => effects.push(refused(ticket, refusals)),
        }
        for (key, since) in held {
            let dependency = self.alive_mut(key).expect("the batch held it");
            dependency.capabilities.remove(&since);
            self.push(key.slot);
        }
    }

    /// Holds what the batch depends on, at the implied capabilities: it cannot go, nor be compacted
    /// past where the batch could still start.
    fn hold_dependencies(&mut self, batch: &Batch<I, T>) -> Vec<(Key, Since<T>)> {
        let dependencies: BTreeSet<I> = batch
            .descriptions
            .iter()
            .flat_map(|new| new.dependencies.iter().copied())
            .collect();
        let mut held = Vec::new();
        for id in dependencies {
            if let Some(Named::Slot(slot)) = self.by_id.get(&id).copied() {
                let collection = self.at_mut(slot);
                let implied = collection.implied.clone();
                collection.capabilities.add(&implied);
                held.push((collection.key, implied));
            }
        }
        held
    }

    /// Checks a batch as a whole, and puts it in order.
    fn check(
        &self,
        mut descriptions: Vec<Description<I, T>>,
    ) -> Result<Batch<I, T>, Refusals<I, T>> {
        let mut refusals = Vec::new();
        let mut places = Lookup::with_capacity_and_hasher(descriptions.len(), <_>::default());
        let mut shards = Lookup::<ShardId, I>::default();
        for (place, new) in descriptions.iter_mut().enumerate() {
            if new.dependencies.len() > 1 {
                new.dependencies.sort_unstable();
                new.dependencies.dedup();
            }
            if places.insert(new.id, place).is_some() {
                refusals.push((new.id, Refusal::Repeated));
            } else if let Err(refusal) = self.check_one(new) {
                refusals.push((new.id, refusal));
            } else if let Some(shard) = new.shard
                && let Some(owner) = shards.insert(shard, new.id)
            {
                refusals.push((new.id, Refusal::ShardInUse { shard, owner }));
            }
        }
        for new in &descriptions {
            for &dependency in &new.dependencies {
                if places.contains_key(&dependency) {
                    continue;
                }
                match self.by_id(dependency) {
                    Some(found) if !found.is_dropped() => {}
                    Some(_) => {
                        refusals.push((new.id, Refusal::DroppedDependency(dependency)));
                    }
                    None => refusals.push((new.id, Refusal::UnknownDependency(dependency))),
                }
            }
        }
        let order = in_order(&descriptions, &places);
        if order.len() < descriptions.len() && !has_repeated(&refusals) {
            let cyclic = in_cycles(&descriptions, &places, &order);
            let cyclic = descriptions
                .iter()
                .zip(cyclic)
                .filter(|(_, cyclic)| *cyclic);
            refusals.extend(cyclic.map(|(new, _)| (new.id, Refusal::Cycle)));
        }
        if refusals.is_empty() {
            Ok(Batch {
                descriptions,
                places,
                order,
            })
        } else {
            Err(refusals)
        }
    }

    /// Checks what does not depend on the rest of the batch.
    fn check_one(&self, new: &Description<I, T>) -> Result<(), Refusal<I, T>> {
        match self.by_id.get(&new.id) {
            None => {}
            Some(Named::Opening(_)) => return Err(Refusal::BeingCreated),
            Some(Named::Slot(slot)) if self.at(*slot).is_dropped() => {
                return Err(Refusal::StillDropping);
            }
            Some(Named::Slot(_)) => return Err(Refusal::AlreadyExists),
        }
        new.policy.check()?;
        new.policy
            .try_since_for(&Upper::minimum(), &Since::minimum())?;
        if let Some(shard) = new.shard {
            if self.durability.last.contains_key(&shard) {
                return Err(Refusal::ShardGone(shard));
            }
            if let Some(&owner) = self.by_shard.get(&shard) {
                return Err(Refusal::ShardInUse { shard, owner });
            }
        }
        Ok(())
    }

    /// Puts a checked batch, whose shards are open, into the state: all of it, or nothing.
    fn install(
        &mut self,
        ticket: Ticket,
        batch: Batch<I, T>,
        outcomes: Vec<OpenOutcome<T>>,
        readers: &mut impl Readers<I, T>,
        effects: &mut Vec<Effect<I, T>>,
    ) {
        let starts = match self.starts(&batch, outcomes) {
            Ok(starts) => starts,
            Err(refusals) => return effects.push(refused(ticket, refusals)),
        };
        let Batch {
            descriptions,
            order,
            ..
        } = batch;
        self.by_id.reserve(descriptions.len());
        self.collections.reserve(descriptions.len());
        let mut keys = vec![None; descriptions.len()];
        let mut waiting: Vec<_> = descriptions.into_iter().zip(starts).map(Some).collect();
        for place in order {
            let (new, start) = waiting[place]
                .take()
                .expect("the order names each place once");
            keys[place] = Some((new.id, self.install_one(new, start, readers)));
        }
        let keys = keys
            .into_iter()
            .map(|key| key.expect("all were installed"))
            .collect();
        effects.push(answer(ticket, Answer::Created(Ok(keys))));
    }

    /// Where each collection of the batch starts.
    fn starts(
        &self,
        batch: &Batch<I, T>,
        outcomes: Vec<OpenOutcome<T>>,
    ) -> Result<Vec<Start<T>>, Refusals<I, T>> {
        let mut opened: Lookup<ShardId, _> = outcomes.into_iter().collect();
        let mut starts: Vec<Option<Start<T>>> = Vec::new();
        starts.resize_with(batch.descriptions.len(), || None);
        let mut refusals = Vec::new();
        for &place in &batch.order {
            let new = &batch.descriptions[place];
            let outcome = match new.shard {
                Some(shard) => opened.remove(&shard).unwrap_or_else(|| Err(not_answered())),
                None => Ok(OpenedShard {
                    since: Since::minimum(),
                    upper: Upper::minimum(),
                }),
            };
            let implied = |dependency: &I| match batch.places.get(dependency) {
                // One that was refused is taken to start anywhere: the batch is refused, and the
                // others are looked at for their own sake.
                Some(&place) => starts[place]
                    .as_ref()
                    .map_or_else(Since::minimum, |start| start.since.clone()),
                None => self
                    .by_id(*dependency)
                    .map_or_else(Since::minimum, |found| found.implied.clone()),
            };
            match start(new, outcome.map_err(Refusal::Storage), implied) {
                Ok(start) => starts[place] = Some(start),
                Err(refusal) => refusals.push((new.id, refusal)),
            }
        }
        if refusals.is_empty() {
            Ok(starts.into_iter().flatten().collect())
        } else {
            Err(refusals)
        }
    }

    fn install_one(
        &mut self,
        new: Description<I, T>,
        start: Start<T>,
        readers: &mut impl Readers<I, T>,
    ) -> Key {
        let Start {
            since,
            opened:
                OpenedShard {
                    since: durable_since,
                    upper,
                },
        } = start;
        let mut dependencies = SmallVec::new();
        let mut rank = 0;
        // Sealed: written to its end, it needs its inputs no more.
        if !upper.is_sealed() {
            for dependency in &new.dependencies {
                let slot = self.slot_of(dependency);
                let dependency = self.at_mut(slot);
                dependency.capabilities.add(&since);
                dependency.dependents += 1;
                rank = rank.max(dependency.links.rank + 1);
                dependencies.push(slot);
            }
        }
        let frontiers = Frontiers {
            upper: upper.clone(),
            implied: since.clone(),
            since: since.clone(),
            durable_since: if new.shard.is_some() {
                durable_since
            } else {
                since.clone()
            },
            version: 0,
        };
        let durable_since = frontiers.durable_since.clone();
        let generation = self.created;
        self.created += 1;
        let slot = readers.open(new.id, generation, frontiers);
        let key = Key { slot, generation };
        let mut capabilities = Capabilities::new();
        capabilities.add(&since);
        self.agenda.reserve(rank);
        if self.collections.len() <= slot as usize {
            self.collections.resize_with(slot as usize + 1, || None);
        }
        let mut collection = Collection {
            key,
            capabilities,
            implied: since.clone(),
            since: since.clone(),
            upper,
            durable_since,
            policy: Some(new.policy),
            dependencies,
            dependents: 0,
            links: Links::new(rank),
            wish: Wish::Granted,
            due: true,
            changed: false,
            watched: false,
            shard: new.shard,
            version: 0,
            id: new.id,
        };
        if collection.shard.is_some() && collection.durable_since != since {
            collection.wish = Wish::Queued;
            self.durability.queue(key, self.now);
        }
        if let Some(shard) = new.shard {
            self.by_shard.insert(shard, new.id);
        }
        let place = &mut self.collections[slot as usize];
        assert!(
            place.is_none(),
            "the slot {slot} was given out while it was taken"
        );
        *place = Some(collection);
        self.by_id.insert(new.id, Named::Slot(slot));
        self.alive += 1;
        self.push(slot);
        key
    }

    fn slot_of(&self, id: &I) -> u32 {
        match self.by_id.get(id) {
            Some(Named::Slot(slot)) => *slot,
            Some(Named::Opening(_)) | None => unreachable!("the batch was checked as a whole"),
        }
    }
}

/// Where a collection starts: at the join of what its shard still has, what is asked for, and what
/// its dependencies keep.
fn start<I: Copy, T: Time>(
    new: &Description<I, T>,
    opened: Result<OpenedShard<T>, Refusal<I, T>>,
    implied: impl Fn(&I) -> Since<T>,
) -> Result<Start<T>, Refusal<I, T>> {
    let opened = opened?;
    if let Some(shard) = new.shard
        && opened.since.is_gone()
    {
        return Err(Refusal::ShardGone(shard));
    }
    let asked = new
        .since
        .clone()
        .unwrap_or_else(|| new.policy.initial_since());
    let own = opened.since.join(&asked);
    if own.is_gone() {
        return Err(Refusal::EmptySince);
    }
    let since = new
        .dependencies
        .iter()
        .fold(own.clone(), |since, dependency| {
            since.join(&implied(dependency))
        });
    let upper = &opened.upper;
    let pushed = since != own;
    let before_upper = PartialOrder::less_than(since.frontier(), upper.frontier());
    if pushed && !before_upper && !upper.is_minimum() && !upper.is_sealed() {
        return Err(Refusal::BehindDependencies {
            since,
            upper: opened.upper,
        });
    }
    Ok(Start { since, opened })
}

/// The places of `descriptions`, dependencies before dependents; what depends on itself is missing.
fn in_order<I: CollectionId, T>(
    descriptions: &[Description<I, T>],
    places: &Lookup<I, usize>,
) -> Vec<usize> {
    let mut missing = vec![0_usize; descriptions.len()];
    // Who waits for whom, as one list: `first[place]` is an index into `edges`.
    let mut first = vec![usize::MAX; descriptions.len()];
    let mut edges = Vec::new();
    for (place, new) in descriptions.iter().enumerate() {
        for dependency in new.dependencies.iter().filter_map(|id| places.get(id)) {
            edges.push((place, first[*dependency]));
            first[*dependency] = edges.len() - 1;
            missing[place] += 1;
        }
    }
    let mut order: Vec<_> = (0..descriptions.len())
        .filter(|&place| missing[place] == 0)
        .collect();
    let mut done = 0;
    while done < order.len() {
        let mut edge = first[order[done]];
        while let Some(&(dependent, next)) = edges.get(edge) {
            missing[dependent] -= 1;
            if missing[dependent] == 0 {
                order.push(dependent);
            }
            edge = next;
        }
        done += 1;
    }
    order
}

/// Which of `descriptions` depend on themselves, or stand between two that do: those that are
/// missing in `order`, without those on which nobody of them depends.
fn in_cycles<I: CollectionId, T>(
    descriptions: &[Description<I, T>],
    places: &Lookup<I, usize>,
    order: &[usize],
) -> Vec<bool> {
    let dependencies = |place: usize| {
        let dependencies: &[I] = &descriptions[place].dependencies;
        dependencies.iter().filter_map(|id| places.get(id).copied())
    };
    let mut cyclic = vec![true; descriptions.len()];
    order.iter().for_each(|&place| cyclic[place] = false);
    let mut dependents = vec![0_usize; descriptions.len()];
    let missing = (0..descriptions.len()).filter(|&place| cyclic[place]);
    for dependency in missing.flat_map(dependencies) {
        dependents[dependency] += 1;
    }
    let nobody = |&place: &usize| cyclic[place] && dependents[place] == 0;
    let mut free: Vec<_> = (0..descriptions.len()).filter(nobody).collect();
    while let Some(place) = free.pop() {
        cyclic[place] = false;
        for dependency in dependencies(place).filter(|&place| cyclic[place]) {
            dependents[dependency] -= 1;
            if dependents[dependency] == 0 {
                free.push(dependency);
            }
        }
    }
    cyclic
}

fn has_repeated<I, T>(refusals: &Refusals<I, T>) -> bool {
    refusals
        .iter()
        .any(|(_, refusal)| matches!(refusal, Refusal::Repeated))
}

fn refused<I, T>(ticket: Ticket, refusals: Refusals<I, T>) -> Effect<I, T> {
    answer(ticket, Answer::Created(Err(CreateError::Refused(refusals))))
}

fn not_answered() -> crate::storage::StorageError {
    crate::storage::StorageError::new(
        crate::storage::StorageErrorKind::Retry,
        "storage said nothing of this shard",
    )
}
