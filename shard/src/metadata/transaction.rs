//! A transaction over metadata of ours.

use std::collections::BTreeSet;
use std::marker::PhantomData;

use lowwater::ShardId;

use crate::record::{MetadataDraft, StoredName};

use super::{MetadataError, MetadataTransaction, StoredId};

/// A transaction over the metadata `M`. To drop it aborts it, without a trace.
#[must_use = "a transaction that is dropped is aborted"]
#[derive(Debug)]
pub struct Transaction<I, M> {
    pub(super) draft: MetadataDraft,
    pub(super) metadata: M,
    ids: PhantomData<fn() -> I>,
}

impl<I: StoredId, M> Transaction<I, M> {
    pub(super) fn new(draft: MetadataDraft, metadata: M) -> Self {
        Transaction {
            draft,
            metadata,
            ids: PhantomData,
        }
    }
}

fn name<I: StoredId>(collection: &I) -> StoredName {
    StoredName::from(collection.to_bytes())
}

fn collection<I: StoredId>(name: &StoredName) -> Result<I, MetadataError> {
    I::from_bytes(name).ok_or(MetadataError::ForeignId(name.len()))
}

impl<I: StoredId, M> MetadataTransaction<I> for Transaction<I, M> {
    fn shard_of(&self, collection: I) -> Result<Option<ShardId>, MetadataError> {
        Ok(self.draft.shard_of(&name(&collection)))
    }

    fn owners(&self, shard: ShardId) -> Result<Vec<I>, MetadataError> {
        self.draft.owners(shard).map(collection).collect()
    }

    fn owned(&self) -> Result<Vec<(I, ShardId)>, MetadataError> {
        let owned = self.draft.owned();
        owned
            .map(|(name, shard)| Ok((collection(name)?, shard)))
            .collect()
    }

    fn own(&mut self, collection: I, shard: ShardId) -> Result<(), MetadataError> {
        Ok(self.draft.own(name(&collection), shard)?)
    }

    fn disown(&mut self, collection: I) -> Result<Option<ShardId>, MetadataError> {
        Ok(self.draft.disown(&name(&collection)))
    }

    fn unfinalized(&self) -> Result<BTreeSet<ShardId>, MetadataError> {
        Ok(self.draft.unfinalized())
    }

    fn add_unfinalized(&mut self, shard: ShardId) -> Result<(), MetadataError> {
        Ok(self.draft.list(shard)?)
    }

    fn remove_unfinalized(&mut self, shard: ShardId) -> Result<(), MetadataError> {
        self.draft.strike(shard);
        Ok(())
    }

    fn txns_shard(&self) -> Result<Option<ShardId>, MetadataError> {
        Ok(self.draft.txns_shard())
    }

    fn set_txns_shard(&mut self, shard: ShardId) -> Result<(), MetadataError> {
        Ok(self.draft.set_txns_shard(shard)?)
    }
}
