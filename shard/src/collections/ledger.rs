//! What is known of collections beside the engine: what they are, and whose their shards are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lowwater::{CollectionId, DropError, Key, ShardId};
use parking_lot::Mutex;

use super::description::{CollectionDescription, Kind};
use super::plan::Plan;

/// What is known of collections beside the engine.
#[derive(Debug)]
pub(super) struct Ledger<I> {
    /// Who owns which shard, by metadata that are known to be committed.
    owned: BTreeMap<I, ShardId>,
    owners: BTreeMap<ShardId, BTreeSet<I>>,
    txns_shard: Option<ShardId>,
    /// Collections that were created and not dropped.
    live: BTreeMap<I, Live<I>>,
    /// The exports of each ingestion that is live.
    exports: BTreeMap<I, BTreeSet<I>>,
    /// Incarnations of collections that the engine may still have, dropped ones that are held too.
    incarnations: BTreeMap<ShardId, Vec<(I, Key)>>,
    /// Shards of collections that are just being created, and of how many each.
    creating: BTreeMap<ShardId, usize>,
    /// Tables that nobody owns or holds any more: to be forgotten.
    leaving: Arc<Mutex<BTreeSet<ShardId>>>,
    /// Shards that are given up by transactions of which nobody knows yet whether they commit.
    pub(super) pending: usize,
}

/// A collection that was created and not dropped.
#[derive(Clone, Debug)]
pub(super) struct Live<I> {
    pub(super) description: Arc<CollectionDescription<I>>,
    pub(super) shard: ShardId,
    pub(super) key: Key,
    /// The engine is just asked to drop it.
    pub(super) dropping: bool,
}

impl<I: PartialEq> Live<I> {
    /// To create this is to do nothing.
    pub(super) fn is_same(&self, description: &CollectionDescription<I>) -> bool {
        !self.dropping && *self.description == *description
    }
}

impl<I: CollectionId> Ledger<I> {
    pub(super) fn new() -> Self {
        Ledger {
            owned: BTreeMap::new(),
            owners: BTreeMap::new(),
            txns_shard: None,
            live: BTreeMap::new(),
            exports: BTreeMap::new(),
            incarnations: BTreeMap::new(),
            creating: BTreeMap::new(),
            leaving: Arc::default(),
            pending: 0,
        }
    }

    /// These own these, besides what is known.
    pub(super) fn own(&mut self, owned: impl IntoIterator<Item = (I, ShardId)>) {
        for (id, shard) in owned {
            self.disown(id);
            self.leaving.lock().remove(&shard);
            self.owned.insert(id, shard);
            self.owners.entry(shard).or_default().insert(id);
        }
    }

    /// These own these, and nobody owns anything else.
    pub(super) fn observe(&mut self, owned: Vec<(I, ShardId)>, txns_shard: Option<ShardId>) {
        self.owned.clear();
        self.owners.clear();
        self.own(owned);
        self.txns_shard = txns_shard;
    }

    fn disown(&mut self, id: I) {
        let Some(shard) = self.owned.remove(&id) else {
            return;
        };
        if let Some(owners) = self.owners.get_mut(&shard) {
            owners.remove(&id);
            if owners.is_empty() {
                self.owners.remove(&shard);
            }
        }
    }

    /// What was planned is committed.
    pub(super) fn committed(&mut self, plan: &Plan<I>) {
        plan.disowned.iter().for_each(|(id, _)| self.disown(*id));
        self.own(plan.allotted.iter().copied());
        self.own(plan.strangers.iter().copied());
        self.txns_shard = plan.txns_shard.or(self.txns_shard);
    }

    pub(super) fn shard_of(&self, id: I) -> Option<ShardId> {
        self.owned.get(&id).copied()
    }

    /// Who owns it, for people; empty if nobody does.
    pub(super) fn names_of_owners(&self, shard: ShardId) -> String {
        let owners = self.owners.get(&shard).into_iter().flatten();
        let mut names = names(owners.copied());
        if self.txns_shard == Some(shard) {
            names.push_str("the transactions of tables");
        }
        names
    }

    pub(super) fn txns_shard(&self) -> Option<ShardId> {
        self.txns_shard
    }

    pub(super) fn live(&self, id: I) -> Option<&Live<I>> {
        self.live.get(&id)
    }

    pub(super) fn all_live(&self) -> impl Iterator<Item = (I, &Live<I>)> {
        self.live.iter().map(|(id, live)| (*id, live))
    }

    pub(super) fn exports(&self, ingestion: I) -> impl Iterator<Item = I> {
        self.exports.get(&ingestion).into_iter().flatten().copied()
    }

    pub(super) fn begin_to_create(&mut self, shard: ShardId) {
        self.leaving.lock().remove(&shard);
        *self.creating.entry(shard).or_default() += 1;
    }

    pub(super) fn end_to_create(&mut self, shard: ShardId) {
        if let Some(count) = self.creating.get_mut(&shard) {
            *count -= 1;
            if *count == 0 {
                self.creating.remove(&shard);
            }
        }
    }

    pub(super) fn created(&mut self, id: I, live: Live<I>) {
        self.remove(id);
        let incarnations = self.incarnations.entry(live.shard).or_default();
        incarnations.push((id, live.key));
        if let Kind::IngestionExport { ingestion } = &live.description.kind {
            self.exports.entry(*ingestion).or_default().insert(id);
        }
        self.live.insert(id, live);
    }

    /// The engine is about to be asked to drop these, all or none of them: which incarnations they
    /// are.
    pub(super) fn begin_to_drop(&mut self, ids: &[I]) -> Result<Vec<(I, Key)>, DropError<I>> {
        let mut keys = Vec::with_capacity(ids.len());
        for id in ids {
            match self.live.get(id) {
                Some(live) if live.dropping => return Err(DropError::Dropped(*id)),
                Some(live) => keys.push((*id, live.key)),
                None => return Err(DropError::UnknownCollection(*id)),
            }
        }
        for id in ids {
            self.live.entry(*id).and_modify(|live| live.dropping = true);
        }
        Ok(keys)
    }

    /// The engine has answered: it was dropped, if anything was; holds and dependents may still keep
    /// it.
    pub(super) fn end_to_drop(&mut self, id: I, key: Key, is_dropped: bool) {
        match self.live.get_mut(&id) {
            Some(live) if live.key != key => {}
            Some(_) if is_dropped => self.remove(id),
            Some(live) => live.dropping = false,
            None => {}
        }
    }

    /// Forgets those that the engine has lost, for nothing is left of their shards.
    pub(super) fn forget_lost(&mut self, has: impl Fn(I, Key) -> bool) {
        let live = self.live.iter();
        let lost = live.filter(|(id, live)| !live.dropping && !has(**id, live.key));
        let lost: Vec<I> = lost.map(|(id, _)| *id).collect();
        lost.into_iter().for_each(|id| self.remove(id));
    }

    fn remove(&mut self, id: I) {
        let Some(live) = self.live.remove(&id) else {
            return;
        };
        if let Kind::IngestionExport { ingestion } = &live.description.kind
            && let Some(exports) = self.exports.get_mut(ingestion)
        {
            exports.remove(&id);
            if exports.is_empty() {
                self.exports.remove(ingestion);
            }
        }
    }

    pub(super) fn describe(&mut self, id: I, description: Arc<CollectionDescription<I>>) {
        if let Some(live) = self.live.get_mut(&id) {
            live.description = description;
        }
    }

    /// The collections that the engine still has on a shard, as `alive` says; the others are
    /// forgotten.
    pub(super) fn held(&mut self, shard: ShardId, alive: impl Fn(I, Key) -> bool) -> Vec<I> {
        let Some(incarnations) = self.incarnations.get_mut(&shard) else {
            return Vec::new();
        };
        incarnations.retain(|(id, key)| alive(*id, *key));
        let held = incarnations.iter().map(|(id, _)| *id).collect();
        if incarnations.is_empty() {
            self.incarnations.remove(&shard);
        }
        held
    }

    /// The tables that are to be forgotten, for whoever forgets them.
    pub(super) fn leaving(&self) -> Arc<Mutex<BTreeSet<ShardId>>> {
        Arc::clone(&self.leaving)
    }

    /// A table is to be forgotten, if still nobody owns it.
    pub(super) fn leave(&mut self, shard: ShardId) {
        if !self.owners.contains_key(&shard) && !self.is_being_created(shard) {
            self.leaving.lock().insert(shard);
        }
    }

    /// The shards of these collections that no other one owns or uses.
    pub(super) fn left_by(&self, ids: &[I]) -> Vec<ShardId> {
        let others = |shard: ShardId| {
            let owners = self.owners.get(&shard).into_iter().flatten().copied();
            let live = self.incarnations.get(&shard).into_iter().flatten();
            let is_live =
                |(id, key): &&(I, Key)| self.live.get(id).is_some_and(|live| live.key == *key);
            let mut others = owners.chain(live.filter(is_live).map(|(id, _)| *id));
            others.any(|id| !ids.contains(&id)) || self.is_being_created(shard)
        };
        let shards = ids.iter().filter_map(|id| Some(self.live.get(id)?.shard));
        let shards: BTreeSet<ShardId> = shards.collect();
        shards.into_iter().filter(|shard| !others(*shard)).collect()
    }

    pub(super) fn incarnations(&self) -> Incarnations<I> {
        let open: BTreeSet<ShardId> = self.live.values().map(|live| live.shard).collect();
        let dropped = self.incarnations.iter();
        let dropped = dropped.filter(|(shard, _)| !open.contains(shard));
        Incarnations {
            dropped: dropped.map(|(shard, all)| (*shard, all.clone())).collect(),
            creating: self.creating.keys().copied().collect(),
            open,
        }
    }

    pub(super) fn is_being_created(&self, shard: ShardId) -> bool {
        self.creating.contains_key(&shard)
    }
}

/// Who has, or had, which shard, for a census.
#[derive(Debug)]
pub(super) struct Incarnations<I> {
    open: BTreeSet<ShardId>,
    creating: BTreeSet<ShardId>,
    /// Of shards that no live collection has.
    dropped: Vec<(ShardId, Vec<(I, Key)>)>,
}

/// Shards by what becomes of them; each is counted once.
#[derive(Debug)]
pub(super) struct ShardCensus {
    /// Of live collections.
    pub(super) open: usize,
    /// Of collections that are just being created.
    pub(super) creating: usize,
    /// Of collections that were dropped, and are kept by holds and dependents.
    pub(super) held: Vec<ShardId>,
}

impl ShardCensus {
    /// Counts, with the ledger let go: the engine is looked into for what was dropped.
    pub(super) fn of<I: CollectionId>(
        incarnations: Incarnations<I>,
        has: impl Fn(I, Key) -> bool,
    ) -> Self {
        let Incarnations {
            open,
            creating,
            dropped,
        } = incarnations;
        let held = dropped.into_iter();
        let held = held.filter(|(_, all)| all.iter().any(|(id, key)| has(*id, *key)));
        ShardCensus {
            creating: creating.difference(&open).count(),
            open: open.len(),
            held: held.map(|(shard, _)| shard).collect(),
        }
    }
}

/// Ids as people read them.
pub(super) fn names<I: CollectionId>(ids: impl IntoIterator<Item = I>) -> String {
    let ids: Vec<String> = ids.into_iter().map(|id| id.to_string()).collect();
    ids.join(", ")
}
