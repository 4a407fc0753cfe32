//! A batch of collections to be created: checked as a whole, and put in order.

use crate::command::{CreateError, Description, Refusal, StopReason};
use crate::frontier::{Since, Time, Upper};
use crate::id::{CollectionId, ShardId};

use super::{Lookup, Named, State};

/// A batch that has been checked.
#[derive(Debug)]
pub(super) struct Batch<I, T> {
    pub(super) descriptions: Vec<Description<I, T>>,
    /// Where in `descriptions` each id stands.
    pub(super) places: Lookup<I, usize>,
    /// Places, dependencies before dependents.
    pub(super) order: Vec<usize>,
}

/// Who was refused, and why.
pub(super) type Refusals<I, T> = Vec<(I, Refusal<I, T>)>;

impl<I: CollectionId, T: Time> State<I, T> {
    /// Checks a batch as a whole, and does nothing with it.
    pub(super) fn check_only(
        &self,
        descriptions: Vec<Description<I, T>>,
    ) -> Result<(), CreateError<I, T>> {
        if let Some(by) = self.fenced_by {
            return Err(CreateError::Stopped(StopReason::Fenced { by }));
        }
        let checked = self.check(descriptions);
        checked.map(drop).map_err(CreateError::Refused)
    }

    /// Checks a batch as a whole, and puts it in order.
    pub(super) fn check(
        &self,
        mut descriptions: Vec<Description<I, T>>,
    ) -> Result<Batch<I, T>, Refusals<I, T>> {
        let mut refusals = Vec::new();
        let mut places = Lookup::with_capacity_and_hasher(descriptions.len(), <_>::default());
        for (place, new) in descriptions.iter_mut().enumerate() {
            if new.dependencies.len() > 1 {
                new.dependencies.sort_unstable();
                new.dependencies.dedup();
            }
            if places.insert(new.id, place).is_some() {
                refusals.push((new.id, Refusal::Repeated));
            } else if let Err(refusal) = self.check_one(new) {
                refusals.push((new.id, refusal));
            }
        }
        for new in &descriptions {
            for &dependency in &new.dependencies {
                if places.contains_key(&dependency) {
                    continue;
                }
                if let Err(refusal) = self.check_dependency(dependency) {
                    refusals.push((new.id, refusal));
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

    /// Checks a dependency outside of the batch.
    fn check_dependency(&self, id: I) -> Result<(), Refusal<I, T>> {
        match self.by_id.get(&id) {
            None => Err(Refusal::UnknownDependency(id)),
            Some(Named::Opening(_)) => Err(Refusal::UnfinishedDependency(id)),
            Some(Named::Slot(slot)) if self.at(*slot).is_dropped() => {
                Err(Refusal::DroppedDependency(id))
            }
            Some(Named::Slot(_)) => Ok(()),
        }
    }

    /// Who is just being created on this shard.
    fn opening_on(&self, shard: ShardId) -> Option<I> {
        let ids = self.by_shard.get(&shard)?;
        let is_opening = |id: &&I| matches!(self.by_id.get(id), Some(Named::Opening(_)));
        ids.iter().find(is_opening).copied()
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
            if self.durability.last.has(shard) {
                return Err(Refusal::ShardGone(shard));
            }
            if let Some(owner) = self.opening_on(shard) {
                return Err(Refusal::ShardInUse { shard, owner });
            }
        }
        Ok(())
    }
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
