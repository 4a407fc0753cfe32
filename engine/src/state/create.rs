//! Creating collections: a batch is checked whole, its shards are opened, then all of it is
//! installed, or nothing.

use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;
use timely::PartialOrder;

use crate::command::{CreateError, Description, Refusal, StopReason};
use crate::effect::{Answer, Effect, Readers};
use crate::frontier::{Frontiers, Since, Time, Upper};
use crate::id::{CollectionId, Epoch, Key, ShardId, Ticket};
use crate::storage::{OpenOutcome, OpenedShard};

use super::batch::{Batch, Refusals};
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
    /// From when on shards can be read whose leases have lapsed in the meantime.
    lapsed: BTreeMap<ShardId, Since<T>>,
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

    /// The lease of a shard has lapsed while it was being opened.
    pub(super) fn lapsed(&mut self, shard: ShardId, since: &Since<T>) {
        let lapsed = self.lapsed.entry(shard).or_insert_with(Since::minimum);
        *lapsed = lapsed.join(since);
    }
}

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
        if let Some(by) = self.fenced_by {
            return effects.push(fenced(ticket, by));
        }
        let batch = match self.check(descriptions) {
            Ok(batch) => batch,
            Err(refusals) => return effects.push(refused(ticket, refusals)),
        };
        let shards = shards(&batch);
        if shards.is_empty() {
            return self.install(ticket, batch, Vec::new(), readers, effects);
        }
        let held = self.hold_dependencies(&batch);
        let number = self.batches;
        self.batches += 1;
        for new in &batch.descriptions {
            self.by_id.insert(new.id, Named::Opening(number));
            if let Some(shard) = new.shard {
                self.by_shard.entry(shard).or_default().push(new.id);
            }
        }
        self.opening.insert(
            number,
            Opening {
                ticket,
                batch,
                held,
                uppers: BTreeMap::new(),
                lapsed: BTreeMap::new(),
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
            lapsed,
        } = opening;
        let mut in_vain = Vec::new();
        for (shard, outcome) in &mut outcomes {
            let Ok(opened) = outcome else { continue };
            in_vain.push(*shard);
            if let Some(upper) = uppers.get(shard)
                && PartialOrder::less_equal(&opened.upper, upper)
            {
                opened.upper.clone_from(upper);
            }
            if let Some(since) = lapsed.get(shard) {
                opened.since = opened.since.join(since);
            }
        }
        for new in &batch.descriptions {
            self.by_id.remove(&new.id);
            if let Some(shard) = new.shard
                && let Some(sharers) = self.by_shard.get_mut(&shard)
            {
                sharers.retain(|id| *id != new.id);
                if sharers.is_empty() {
                    self.by_shard.remove(&shard);
                }
            }
        }
        // Looked at again: it may have been dropped while the shards were being opened.
        match (self.fenced_by, self.check(batch.descriptions)) {
            (Some(by), _) => effects.push(fenced(ticket, by)),
            (None, Ok(batch)) => self.install(ticket, batch, outcomes, readers, effects),
            (None, Err(refusals)) => effects.push(refused(ticket, refusals)),
        }
        // Others may have them, or are just opening them.
        in_vain.retain(|shard| !self.by_shard.contains_key(shard));
        if self.fenced_by.is_none() && !in_vain.is_empty() {
            effects.push(Effect::LetGo(in_vain));
        }
        for (key, since) in held {
            if since.is_gone() {
                // A lease has lapsed, and nothing was left.
                continue;
            }
            let dependency = self.alive_mut(key).expect("the batch held it");
            dependency.capabilities.remove(&since);
            self.push(key.slot);
        }
    }

    /// Holds what the batch depends on, at the implied capabilities: it cannot go, nor be compacted
    /// past where the batch could still start. Who has a shard that the batch wants to share cannot
    /// go either, or he would give it up.
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
        for shard in shards(batch) {
            let sharers: Vec<u32> = self.sharers(shard).collect();
            for slot in sharers {
                let collection = self.at_mut(slot);
                let since = collection.readable();
                collection.capabilities.add(&since);
                held.push((collection.key, since));
            }
        }
        held
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
        let opened: Lookup<ShardId, _> = outcomes.into_iter().collect();
        let mut starts: Vec<Option<Start<T>>> = Vec::new();
        starts.resize_with(batch.descriptions.len(), || None);
        let mut refusals = Vec::new();
        for &place in &batch.order {
            let new = &batch.descriptions[place];
            let outcome = match new.shard {
                Some(shard) => match opened.get(&shard) {
                    Some(outcome) => outcome.clone(),
                    None => Err(not_answered()),
                },
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
            // Storage may have been asked for all that others plan.
            let planned = new.shard.and_then(|shard| self.readable(shard));
            match start(new, outcome.map_err(Refusal::Storage), planned, implied) {
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
        let is_first = new.shard.is_some_and(|shard| !self.is_joined(shard));
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
            holds: 0,
            dependents: 0,
            links: Links::new(rank),
            wish: Wish::Granted,
            due: true,
            changed: false,
            watched: false,
            shard: new.shard,
            shared: false,
            floor: None,
            version: 0,
            id: new.id,
        };
        let stays = new.shard.is_some_and(|shard| self.is_kept(shard));
        if is_first && !stays && collection.durable_since != since {
            collection.wish = self.durability.wish(Wish::Granted, key, self.now);
        }
        let place = &mut self.collections[slot as usize];
        assert!(
            place.is_none(),
            "the slot {slot} was given out while it was taken"
        );
        *place = Some(collection);
        self.by_id.insert(new.id, Named::Slot(slot));
        if let Some(shard) = new.shard {
            self.join(shard, slot);
        }
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

/// The shards of a batch, each once.
fn shards<I, T>(batch: &Batch<I, T>) -> Vec<ShardId> {
    let mut seen = Lookup::<ShardId, ()>::default();
    let named = batch.descriptions.iter().filter_map(|new| new.shard);
    named
        .filter(|shard| seen.insert(*shard, ()).is_none())
        .collect()
}

/// Where a collection starts: at the join of what its shard still has, what others plan that have
/// the shard, what is asked for, and what its dependencies keep.
fn start<I: Copy, T: Time>(
    new: &Description<I, T>,
    opened: Result<OpenedShard<T>, Refusal<I, T>>,
    planned: Option<Since<T>>,
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
    let mut own = opened.since.join(&asked);
    if let Some(planned) = planned {
        own = own.join(&planned);
    }
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

/// Nothing was created, for nobody but the other controller may open a shard.
fn fenced<I, T>(ticket: Ticket, by: Epoch) -> Effect<I, T> {
    let stopped = CreateError::Stopped(StopReason::Fenced { by });
    answer(ticket, Answer::Created(Err(stopped)))
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
