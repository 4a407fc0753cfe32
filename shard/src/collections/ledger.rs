//! What is known of collections beside the engine: what they are, and whose their shards are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lowwater::{CollectionId, DropError, Key, ShardId};
use parking_lot::Mutex;

use super::description::{CollectionDescription, Kind};
use super::plan::Plan;

/// How many shards are remembered at least before it is looked which collections are gone.
const INCARNATIONS_MIN: usize = 64;

/// What is known of collections beside the engine.
#[derive(Debug)]
pub(super) struct Ledger<I> {
    /// Who owns which shard, by metadata that are known to be committed.
    owned: BTreeMap<I, ShardId>,
    owners: BTreeMap<ShardId, BTreeSet<I>>,
    txns_shard: Option<ShardId>,
    /// Starts of which nobody knows yet whether they commit.
    initializing: usize,
    /// Whose ownership became known since the first of them has read all of it.
    settled: BTreeSet<I>,
    /// Shards that the engine keeps for owners that are not here.
    kept: BTreeSet<ShardId>,
    /// Shards of which others own something now, or are here, than when this was last settled.
    changed: BTreeSet<ShardId>,
    /// Who was dropped while this only read: whoever is in charge keeps what they own.
    renounced: BTreeSet<I>,
    is_in_charge: bool,
    /// Collections that were created and not dropped.
    live: BTreeMap<I, Live<I>>,
    /// The exports of each ingestion that is live.
    exports: BTreeMap<I, BTreeSet<I>>,
    /// Incarnations of collections that the engine may still have, dropped ones that are held too.
    incarnations: BTreeMap<ShardId, Vec<(I, Key)>>,
    /// How many shards these may be before it is looked which are gone.
    incarnations_max: usize,
    /// Shards of collections that are just being created, and of how many each.
    creating: BTreeMap<ShardId, usize>,
    /// Tables that nobody owns or holds any more: to be forgotten.
    leaving: Arc<Mutex<BTreeSet<ShardId>>>,
    /// Shards that are given up by transactions of which nobody knows yet whether they commit.
    pub(super) pending: usize,
}

/// What the engine is to keep, and what it need not keep any more.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    pub(super) keep: Vec<ShardId>,
    pub(super) free: Vec<ShardId>,
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
            initializing: 0,
            settled: BTreeSet::new(),
            kept: BTreeSet::new(),
            changed: BTreeSet::new(),
            renounced: BTreeSet::new(),
            is_in_charge: false,
            live: BTreeMap::new(),
            exports: BTreeMap::new(),
            incarnations: BTreeMap::new(),
            incarnations_max: INCARNATIONS_MIN,
            creating: BTreeMap::new(),
            leaving: Arc::default(),
            pending: 0,
        }
    }

    /// These own these, besides what is known.
    fn own(&mut self, owned: impl IntoIterator<Item = (I, ShardId)>) {
        for (id, shard) in owned {
            self.disown(id);
            self.leaving.lock().remove(&shard);
            self.changed.insert(shard);
            self.owned.insert(id, shard);
            self.owners.entry(shard).or_default().insert(id);
        }
    }

    /// These own these, and nobody owns anything else.
    pub(super) fn observe(&mut self, owned: Vec<(I, ShardId)>, txns_shard: Option<ShardId>) {
        let before = std::mem::take(&mut self.owned);
        self.owners.clear();
        self.changed.extend(before.values());
        self.own(owned);
        if self.initializing > 0 {
            self.settled.extend(before.keys().chain(self.owned.keys()));
        }
        self.txns_shard = txns_shard;
    }

    /// All that was owned when a controller started is read, and may become known later.
    pub(super) fn begin_to_initialize(&mut self) {
        self.initializing += 1;
    }

    /// It is known, or never will be.
    pub(super) fn end_to_initialize(&mut self) {
        self.initializing -= 1;
        if self.initializing == 0 {
            self.settled.clear();
        }
    }

    /// These own these since a controller has started, and nobody owns anything else: what was observed
    /// before does not count any more. What has become known since all was read stays.
    pub(super) fn initialized(&mut self, owned: Vec<(I, ShardId)>, txns_shard: Option<ShardId>) {
        let settled = std::mem::take(&mut self.settled);
        let stale = self.owned.keys().filter(|id| !settled.contains(id));
        let stale: Vec<I> = stale.copied().collect();
        stale.into_iter().for_each(|id| self.disown(id));
        self.own(owned.into_iter().filter(|(id, _)| !settled.contains(id)));
        self.settled = settled;
        self.txns_shard = txns_shard.or(self.txns_shard);
    }

    fn disown(&mut self, id: I) {
        let Some(shard) = self.owned.remove(&id) else {
            return;
        };
        self.changed.insert(shard);
        if let Some(owners) = self.owners.get_mut(&shard) {
            owners.remove(&id);
            if owners.is_empty() {
                self.owners.remove(&shard);
            }
        }
    }

    /// What was planned is committed.
    pub(super) fn committed(&mut self, plan: &Plan<I>) {
        plan.ownerless.iter().for_each(|id| self.disown(*id));
        self.own(plan.owners.iter().copied());
        if self.initializing > 0 {
            let owners = plan.owners.iter().map(|(id, _)| id);
            self.settled.extend(plan.ownerless.iter().chain(owners));
        }
        self.txns_shard = plan.txns_shard.or(self.txns_shard);
    }

    /// From now on this is in charge, and keeps what those own who were dropped before their catalogue
    /// has said so.
    pub(super) fn take_charge(&mut self) {
        self.is_in_charge = true;
        self.renounced.clear();
        self.changed.extend(self.incarnations.keys());
    }

    /// Those who own a shard by committed metadata and are not here: not created yet, or dropped
    /// before their catalogue has said so.
    fn absent(&self, shard: ShardId) -> impl Iterator<Item = I> {
        let is_here = move |id: &I| {
            let live = self.live.get(id);
            live.is_some_and(|live| !live.dropping && live.shard == shard)
        };
        let owners = self.owners.get(&shard).into_iter().flatten().copied();
        owners.filter(move |id| !is_here(id) && !self.renounced.contains(id))
    }

    /// What the engine is to keep from now on for owners that are not here, of what it has or is about
    /// to have; `coming` are just being created.
    pub(super) fn settle(&mut self, coming: &BTreeSet<I>) -> Keeping {
        let mut keeping = Keeping::default();
        for shard in std::mem::take(&mut self.changed) {
            let is_kept = self.kept.contains(&shard);
            let is_used = self.incarnations.contains_key(&shard) || self.is_being_created(shard);
            let (mut absent, mut others) = (false, false);
            for id in self.absent(shard) {
                absent = true;
                others |= !coming.contains(&id);
            }
            // Those who are coming find what is kept for them; it is let go when they are here.
            if others && !is_kept && is_used {
                self.kept.insert(shard);
                keeping.keep.push(shard);
            } else if !absent && is_kept {
                self.kept.remove(&shard);
                keeping.free.push(shard);
            }
        }
        keeping
    }

    /// How many shards the engine keeps for owners that are not here.
    pub(super) fn kept_shards(&self) -> usize {
        self.kept.len()
    }

    /// The shards that the engine keeps, and for whom.
    pub(super) fn awaited(&self) -> BTreeMap<ShardId, Vec<I>> {
        let kept = self.kept.iter();
        kept.map(|shard| (*shard, self.absent(*shard).collect()))
            .collect()
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
        self.changed.insert(shard);
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
        self.renounced.remove(&id);
        self.changed.insert(live.shard);
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
            let Some(live) = self.live.get_mut(id) else {
                continue;
            };
            live.dropping = true;
            self.changed.insert(live.shard);
            if !self.is_in_charge {
                self.renounced.insert(*id);
            }
        }
        Ok(keys)
    }

    /// The engine has answered: it was dropped, if anything was; holds and dependents may still keep
    /// it.
    pub(super) fn end_to_drop(&mut self, id: I, key: Key, is_dropped: bool) {
        match self.live.get_mut(&id) {
            Some(live) if live.key != key => {}
            Some(_) if is_dropped => self.remove(id),
            Some(live) => {
                live.dropping = false;
                self.changed.insert(live.shard);
                self.renounced.remove(&id);
            }
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
        self.changed.insert(live.shard);
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

    /// Forgets incarnations that the engine has no more, as `alive` says, now and then: for nobody
    /// finalizes their shards where this only reads.
    pub(super) fn sweep(&mut self, alive: impl Fn(I, Key) -> bool) {
        if self.incarnations.len() < self.incarnations_max {
            return;
        }
        self.incarnations.retain(|_, incarnations| {
            incarnations.retain(|(id, key)| alive(*id, *key));
            !incarnations.is_empty()
        });
        self.incarnations_max = INCARNATIONS_MIN.max(2 * self.incarnations.len());
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
