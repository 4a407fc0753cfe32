//! What a transaction wants to change of the metadata: each change is checked as it is made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lowwater::ShardId;

use crate::id::SeqNo;

use super::{MetadataChange, MetadataRecord, StoredName};

/// What a transaction wants to change of the metadata. It sees its own changes; to drop it aborts.
#[derive(Clone, Debug)]
pub struct MetadataDraft {
    base: MetadataRecord,
    /// Who owns what now, of those that have changed.
    owned: BTreeMap<StoredName, Option<ShardId>>,
    /// The shards of those in `owned` that own one.
    owners: BTreeSet<(ShardId, StoredName)>,
    /// Whether these shards wait now, of those for which that has changed.
    unfinalized: BTreeMap<ShardId, bool>,
    txns_shard: Option<ShardId>,
}

/// Why a change of the metadata was refused: the transaction is as it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataRefusal {
    /// A collection owns one shard at most.
    #[error("the collection owns the shard {0} already")]
    OwnsAnother(ShardId),
    /// A shard that waits to be finalized may be half gone: nobody can own it, unless it is struck
    /// from what waits.
    #[error("the shard {0} waits to be finalized")]
    Unfinalized(ShardId),
    /// A shard that somebody owns is not finalized.
    #[error("the shard {0} is owned by a collection")]
    StillOwned(ShardId),
    /// The shard of the transactions is not finalized, nor is there ever another one.
    #[error("the shard of the transactions is {0}")]
    TxnsShard(ShardId),
}

impl MetadataDraft {
    pub(super) fn new(base: MetadataRecord) -> Self {
        MetadataDraft {
            txns_shard: base.txns_shard,
            base,
            owned: BTreeMap::new(),
            owners: BTreeSet::new(),
            unfinalized: BTreeMap::new(),
        }
    }

    /// What it owns.
    pub fn shard_of(&self, name: &[u8]) -> Option<ShardId> {
        match self.owned.get(name) {
            Some(owned) => *owned,
            None => self.base.owned.get(name).copied(),
        }
    }

    /// Who owns it.
    pub fn owners(&self, shard: ShardId) -> impl Iterator<Item = &StoredName> {
        let unchanged = self.base.owners(shard);
        let unchanged = unchanged.filter(|name| !self.owned.contains_key(*name));
        let changed = self.owners.range((shard, StoredName::from([]))..);
        let changed = changed.take_while(move |(owned, _)| *owned == shard);
        unchanged.chain(changed.map(|(_, name)| name))
    }

    /// Who owns what.
    pub fn owned(&self) -> impl Iterator<Item = (&StoredName, ShardId)> {
        let unchanged = self.base.owned.iter();
        let unchanged = unchanged.filter(|(name, _)| !self.owned.contains_key(*name));
        let unchanged = unchanged.map(|(name, shard)| (name, *shard));
        unchanged.chain(self.owners.iter().map(|(shard, name)| (name, *shard)))
    }

    /// Says that a collection owns a shard; once more is no change.
    ///
    /// # Errors
    ///
    /// If it owns another one, or the shard waits to be finalized.
    pub fn own(&mut self, name: StoredName, shard: ShardId) -> Result<(), MetadataRefusal> {
        match self.shard_of(&name) {
            Some(owned) if owned == shard => return Ok(()),
            Some(owned) => return Err(MetadataRefusal::OwnsAnother(owned)),
            None if self.is_unfinalized(shard) => return Err(MetadataRefusal::Unfinalized(shard)),
            None => {}
        }
        self.owners.insert((shard, Arc::clone(&name)));
        self.owned.insert(name, Some(shard));
        Ok(())
    }

    /// Says that a collection owns nothing any more; what it owned.
    pub fn disown(&mut self, name: &[u8]) -> Option<ShardId> {
        let shard = self.shard_of(name)?;
        let name = StoredName::from(name);
        self.owners.remove(&(shard, Arc::clone(&name)));
        self.owned.insert(name, None);
        Some(shard)
    }

    /// The shards that wait to be finalized.
    pub fn unfinalized(&self) -> BTreeSet<ShardId> {
        let mut unfinalized = BTreeSet::clone(&self.base.unfinalized);
        for (shard, waits) in &self.unfinalized {
            if *waits {
                unfinalized.insert(*shard);
            } else {
                unfinalized.remove(shard);
            }
        }
        unfinalized
    }

    fn is_unfinalized(&self, shard: ShardId) -> bool {
        let changed = self.unfinalized.get(&shard).copied();
        changed.unwrap_or_else(|| self.base.unfinalized.contains(&shard))
    }

    /// Lets a shard wait to be finalized; once more is no change.
    ///
    /// # Errors
    ///
    /// If somebody owns it, or it is that of the transactions.
    pub fn list(&mut self, shard: ShardId) -> Result<(), MetadataRefusal> {
        if self.owners(shard).next().is_some() {
            return Err(MetadataRefusal::StillOwned(shard));
        }
        if self.txns_shard == Some(shard) {
            return Err(MetadataRefusal::TxnsShard(shard));
        }
        self.unfinalized.insert(shard, true);
        Ok(())
    }

    /// Strikes a shard from those that wait; one that does not wait is no change.
    pub fn strike(&mut self, shard: ShardId) {
        self.unfinalized.insert(shard, false);
    }

    /// The shard of the transactions.
    pub fn txns_shard(&self) -> Option<ShardId> {
        self.txns_shard
    }

    /// Says which shard is that of the transactions; once more is no change.
    ///
    /// # Errors
    ///
    /// If another one is, or it waits to be finalized.
    pub fn set_txns_shard(&mut self, shard: ShardId) -> Result<(), MetadataRefusal> {
        match self.txns_shard {
            Some(set) if set != shard => return Err(MetadataRefusal::TxnsShard(set)),
            None if self.is_unfinalized(shard) => return Err(MetadataRefusal::Unfinalized(shard)),
            Some(_) | None => self.txns_shard = Some(shard),
        }
        Ok(())
    }

    /// The version that it began with, and what it has changed since, for
    /// [`MetadataRecord::commit`].
    pub fn finish(self) -> (Option<SeqNo>, Vec<MetadataChange>) {
        let before = |name: &StoredName| self.base.owned.get(name).copied();
        let changed = self.owned.iter();
        let changed = changed.filter(|(name, owned)| before(name) != **owned);
        let (mut disowned, mut owned) = (Vec::new(), Vec::new());
        for (name, shard) in changed {
            if before(name).is_some() {
                disowned.push(Arc::clone(name));
            }
            owned.extend(shard.map(|shard| (Arc::clone(name), shard)));
        }
        let moved = |wanted: bool| {
            let changed = self.unfinalized.iter();
            let changed = changed.filter(|(shard, waits)| {
                **waits == wanted && self.base.unfinalized.contains(shard) != wanted
            });
            changed.map(|(shard, _)| *shard).collect::<Vec<_>>()
        };
        let (listed, struck) = (moved(true), moved(false));
        let txns_shard = self.txns_shard.filter(|_| self.base.txns_shard.is_none());
        let mut changes = Vec::new();
        // In this order each fits what comes before, for what waits is owned by nobody.
        changes.extend((!disowned.is_empty()).then_some(MetadataChange::Disowned(disowned)));
        changes.extend((!struck.is_empty()).then_some(MetadataChange::Struck(struck)));
        changes.extend((!owned.is_empty()).then_some(MetadataChange::Owned(owned)));
        changes.extend((!listed.is_empty()).then_some(MetadataChange::Listed(listed)));
        changes.extend(txns_shard.map(MetadataChange::TxnsShard));
        (self.base.version, changes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::Record;

    fn name(number: u8) -> StoredName {
        StoredName::from([number])
    }

    fn shard(number: u8) -> ShardId {
        ShardId::new(number.into())
    }

    fn committed(record: &MetadataRecord, draft: MetadataDraft) -> MetadataRecord {
        let (seen, changes) = draft.finish();
        let decided = record.commit(seen, &changes).unwrap();
        let mut next = record.clone();
        for change in &decided.changes {
            let seqno = seen.map_or(SeqNo::FIRST, SeqNo::next);
            next.apply(change, seqno).unwrap();
        }
        next
    }

    /// A record in which collection 1 owns shard 1, 2 and 3 own shard 2, and shard 9 waits.
    fn some() -> MetadataRecord {
        let mut draft = MetadataRecord::initial().draft();
        draft.own(name(1), shard(1)).unwrap();
        draft.own(name(2), shard(2)).unwrap();
        draft.own(name(3), shard(2)).unwrap();
        draft.list(shard(9)).unwrap();
        draft.set_txns_shard(shard(8)).unwrap();
        committed(&MetadataRecord::initial(), draft)
    }

    #[test]
    fn a_collection_owns_one_shard() {
        let mut draft = some().draft();
        let refused = draft.own(name(1), shard(5));
        assert_eq!(refused, Err(MetadataRefusal::OwnsAnother(shard(1))));
        assert_eq!(draft.own(name(1), shard(1)), Ok(()));
        assert_eq!(draft.finish().1, []);
    }

    #[test]
    fn a_shard_that_somebody_owns_does_not_wait_to_be_finalized() {
        let mut draft = some().draft();
        draft.disown(&name(2));
        let refused = draft.list(shard(2));
        assert_eq!(refused, Err(MetadataRefusal::StillOwned(shard(2))));
        draft.disown(&name(3));
        assert_eq!(draft.list(shard(2)), Ok(()));
        let refused = draft.own(name(4), shard(2));
        assert_eq!(refused, Err(MetadataRefusal::Unfinalized(shard(2))));
    }

    #[test]
    fn the_shard_of_the_transactions_is_set_once_and_not_finalized() {
        let mut draft = some().draft();
        let refused = Err(MetadataRefusal::TxnsShard(shard(8)));
        assert_eq!(draft.set_txns_shard(shard(7)), refused);
        assert_eq!(draft.list(shard(8)), refused);
        assert_eq!(draft.set_txns_shard(shard(8)), Ok(()));
    }

    #[test]
    fn a_transaction_that_saw_another_version_changes_nothing() {
        let record = some();
        let mut first = record.draft();
        let mut second = record.draft();
        first.disown(&name(1));
        second.disown(&name(2));
        let record = committed(&record, first);
        let (seen, changes) = second.finish();
        let refused = record.commit(seen, &changes).unwrap_err();
        assert_eq!(refused.seen, Some(SeqNo::FIRST));
        assert_eq!(refused.found, record.version());
    }

    #[test]
    fn what_is_undone_in_one_transaction_is_no_change() {
        let record = some();
        let mut draft = record.draft();
        draft.disown(&name(1));
        draft.list(shard(1)).unwrap();
        draft.strike(shard(1));
        draft.own(name(1), shard(1)).unwrap();
        assert_eq!(draft.finish().1, []);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Own(u8, u8),
        Disown(u8),
        List(u8),
        Strike(u8),
        Txns(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        let small = 0..6_u8;
        prop_oneof![
            (small.clone(), small.clone()).prop_map(|(name, shard)| Step::Own(name, shard)),
            small.clone().prop_map(Step::Disown),
            small.clone().prop_map(Step::List),
            small.clone().prop_map(Step::Strike),
            small.prop_map(Step::Txns),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// Whatever transactions do, what they saw of their own changes is what is there when they
        /// have committed, and nobody's shard waits to be finalized.
        #[test]
        fn what_a_transaction_sees_is_what_it_commits(
            transactions in prop::collection::vec(prop::collection::vec(step(), 0..8), 1..6),
        ) {
            let mut record = MetadataRecord::initial();
            for steps in transactions {
                let mut draft = record.draft();
                for step in steps {
                    let _ = match step {
                        Step::Own(id, of) => draft.own(name(id), shard(of)),
                        Step::Disown(id) => { draft.disown(&name(id)); Ok(()) }
                        Step::List(of) => draft.list(shard(of)),
                        Step::Strike(of) => { draft.strike(shard(of)); Ok(()) }
                        Step::Txns(of) => draft.set_txns_shard(shard(of)),
                    };
                }
                let seen: BTreeMap<_, _> = draft.owned().map(|(name, of)| (Arc::clone(name), of)).collect();
                let waiting = draft.unfinalized();
                let owners: Vec<BTreeSet<StoredName>> =
                    (0..6).map(|of| draft.owners(shard(of)).cloned().collect()).collect();
                let txns = draft.txns_shard();
                record = committed(&record, draft);
                prop_assert_eq!(record.owned(), &seen);
                prop_assert_eq!(record.unfinalized(), &waiting);
                prop_assert_eq!(record.txns_shard(), txns);
                for (of, owners) in (0..6).zip(owners) {
                    prop_assert_eq!(&record.owners(shard(of)).cloned().collect::<BTreeSet<_>>(), &owners);
                    let waits = waiting.contains(&shard(of));
                    prop_assert!(!waits || owners.is_empty() && txns != Some(shard(of)));
                }
                let again = MetadataRecord::from_parts(
                    record.version(), seen, waiting, txns,
                );
                prop_assert_eq!(again.as_ref(), Ok(&record));
            }
        }
    }
}
