//! Which collection owns which shard, and which shards wait to be finalized.

mod draft;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use lowwater::ShardId;

use crate::id::{LogKind, SeqNo};

use super::{Decision, Misfit, Record, fits};

pub use draft::{MetadataDraft, MetadataRefusal};

/// A collection's id as it is stored.
pub type StoredName = Arc<[u8]>;

/// Which collection owns which shard, and which shards wait to be finalized.
///
/// A collection owns one shard at most; several may own one, as versions of a table's schema do. What
/// anybody owns is never among what waits to be finalized, nor is the shard of the transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataRecord {
    /// The version that has changed it last; `None` before the first. Who has decided on another
    /// one has decided on something else.
    version: Option<SeqNo>,
    // Shared, so that whoever looks at one version for a while need not copy it.
    owned: Arc<BTreeMap<StoredName, ShardId>>,
    /// The same, by shard.
    owners: Arc<BTreeSet<(ShardId, StoredName)>>,
    unfinalized: Arc<BTreeSet<ShardId>>,
    txns_shard: Option<ShardId>,
}

/// A change of a [`MetadataRecord`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataChange {
    /// These collections own nothing any more.
    Disowned(Vec<StoredName>),
    /// These shards wait no longer: they were finalized, or are owned after all.
    Struck(Vec<ShardId>),
    /// These collections own these shards.
    Owned(Vec<(StoredName, ShardId)>),
    /// These shards wait to be finalized.
    Listed(Vec<ShardId>),
    /// The shard of the transactions is this one, for ever.
    TxnsShard(ShardId),
}

/// Somebody else has changed the metadata since the transaction began: nothing was written. Begin
/// again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the metadata has changed since the transaction began")]
pub struct MetadataConflict {
    /// The version that the transaction has seen.
    pub seen: Option<SeqNo>,
    /// The version that is there.
    pub found: Option<SeqNo>,
}

impl MetadataRecord {
    /// Puts together what a full version says, and checks that it can be.
    pub(crate) fn from_parts(
        version: Option<SeqNo>,
        owned: BTreeMap<StoredName, ShardId>,
        unfinalized: BTreeSet<ShardId>,
        txns_shard: Option<ShardId>,
    ) -> Result<Self, Misfit> {
        let owners = owned.iter().map(|(name, shard)| (*shard, Arc::clone(name)));
        let record = MetadataRecord {
            version,
            owners: Arc::new(owners.collect()),
            owned: Arc::new(owned),
            unfinalized: Arc::new(unfinalized),
            txns_shard,
        };
        let mut waiting = record.unfinalized.iter();
        fits(
            waiting.all(|shard| record.is_free(*shard)),
            "a shard that is needed waits to be finalized",
        )?;
        Ok(record)
    }

    /// The version that has changed it last; `None` before the first.
    pub fn version(&self) -> Option<SeqNo> {
        self.version
    }

    /// Who owns what.
    pub fn owned(&self) -> &BTreeMap<StoredName, ShardId> {
        &self.owned
    }

    /// Who owns this shard.
    pub fn owners(&self, shard: ShardId) -> impl Iterator<Item = &StoredName> {
        let from = Bound::Included((shard, StoredName::from([])));
        let all = self.owners.range((from, Bound::Unbounded));
        let all = all.take_while(move |(owned, _)| *owned == shard);
        all.map(|(_, name)| name)
    }

    /// The shards that wait to be finalized.
    pub fn unfinalized(&self) -> &BTreeSet<ShardId> {
        &self.unfinalized
    }

    /// The shard of the transactions, once there is one.
    pub fn txns_shard(&self) -> Option<ShardId> {
        self.txns_shard
    }

    /// Nobody needs the shard.
    fn is_free(&self, shard: ShardId) -> bool {
        self.owners(shard).next().is_none() && self.txns_shard != Some(shard)
    }

    /// Begins a transaction: it sees the metadata as they are here, and what it changes itself.
    pub fn draft(&self) -> MetadataDraft {
        MetadataDraft::new(self.clone())
    }

    /// Carries out what a transaction has changed, as a whole.
    ///
    /// # Errors
    ///
    /// If the metadata are not those any more that it has seen; one that changes nothing commits
    /// all the same.
    pub fn commit(
        &self,
        seen: Option<SeqNo>,
        changes: &[MetadataChange],
    ) -> Result<Decision<MetadataChange, ()>, MetadataConflict> {
        if seen != self.version && !changes.is_empty() {
            let found = self.version;
            return Err(MetadataConflict { seen, found });
        }
        Ok(Decision {
            changes: changes.to_vec(),
            outcome: (),
        })
    }

    fn disown(&mut self, name: &StoredName) -> Result<(), Misfit> {
        let shard = Arc::make_mut(&mut self.owned).remove(name);
        let shard = shard.ok_or(Misfit("a collection is disowned that owns nothing"))?;
        Arc::make_mut(&mut self.owners).remove(&(shard, Arc::clone(name)));
        Ok(())
    }

    fn own(&mut self, name: &StoredName, shard: ShardId) -> Result<(), Misfit> {
        fits(
            !self.unfinalized.contains(&shard),
            "a shard that waits to be finalized is owned",
        )?;
        let before = Arc::make_mut(&mut self.owned).insert(Arc::clone(name), shard);
        fits(before.is_none(), "a collection owns two shards")?;
        Arc::make_mut(&mut self.owners).insert((shard, Arc::clone(name)));
        Ok(())
    }

    fn list(&mut self, shard: ShardId) -> Result<(), Misfit> {
        fits(
            self.is_free(shard),
            "a shard that is needed waits to be finalized",
        )?;
        let is_new = Arc::make_mut(&mut self.unfinalized).insert(shard);
        fits(is_new, "a shard waits twice to be finalized")
    }

    fn strike(&mut self, shard: ShardId) -> Result<(), Misfit> {
        let waited = Arc::make_mut(&mut self.unfinalized).remove(&shard);
        fits(waited, "a shard is struck that does not wait")
    }

    fn set_txns_shard(&mut self, shard: ShardId) -> Result<(), Misfit> {
        fits(
            self.txns_shard.is_none(),
            "the shard of the transactions changes",
        )?;
        fits(
            !self.unfinalized.contains(&shard),
            "a shard that waits to be finalized is for the transactions",
        )?;
        self.txns_shard = Some(shard);
        Ok(())
    }
}

impl Record for MetadataRecord {
    type Change = MetadataChange;

    const KIND: LogKind = LogKind::Metadata;

    fn initial() -> Self {
        MetadataRecord {
            version: None,
            owned: Arc::default(),
            owners: Arc::default(),
            unfinalized: Arc::default(),
            txns_shard: None,
        }
    }

    fn apply(&mut self, change: &MetadataChange, seqno: SeqNo) -> Result<(), Misfit> {
        self.version = Some(seqno);
        match change {
            MetadataChange::Disowned(names) => names.iter().try_for_each(|name| self.disown(name)),
            MetadataChange::Struck(shards) => {
                shards.iter().try_for_each(|shard| self.strike(*shard))
            }
            MetadataChange::Owned(owned) => {
                let mut owned = owned.iter();
                owned.try_for_each(|(name, shard)| self.own(name, *shard))
            }
            MetadataChange::Listed(shards) => shards.iter().try_for_each(|shard| self.list(*shard)),
            MetadataChange::TxnsShard(shard) => self.set_txns_shard(*shard),
        }
    }
}
