//! Which shard each collection has: the store's metadata say it.

use std::sync::Arc;

use lowwater::{ShardId, StorageError, StorageErrorKind};
use lowwater_shard::metadata::{MetadataError, MetadataTransaction, StoredMetadata};

use crate::catalog::Relation;

use super::patience::patiently;
use super::{Store, StoreError};

/// The shards of the collections, and the one that carries the transactions of the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// In the order of [`Relation::ALL`].
    shards: [ShardId; Relation::ALL.len()],
    txns: ShardId,
}

impl Places {
    /// Where the collections are by `metadata`; `None` if not all of them are anywhere.
    ///
    /// # Errors
    /// When the metadata cannot say.
    pub fn of(metadata: &impl MetadataTransaction<u64>) -> Result<Option<Self>, MetadataError> {
        let mut shards = [ShardId::new(0); Relation::ALL.len()];
        for relation in Relation::ALL {
            let Some(shard) = metadata.shard_of(relation.id())? else {
                return Ok(None);
            };
            shards[relation.index()] = shard;
        }
        let txns = metadata.txns_shard()?;
        Ok(txns.map(|txns| Self { shards, txns }))
    }

    /// The shard of `relation`.
    #[must_use]
    pub fn shard(&self, relation: Relation) -> ShardId {
        self.shards[relation.index()]
    }

    /// The shard that carries the transactions of the tables.
    #[must_use]
    pub fn txns(&self) -> ShardId {
        self.txns
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = ShardId> {
        self.shards.into_iter().chain([self.txns])
    }
}

impl Store {
    /// Where the collections are; `None` if no controller has ever made them.
    ///
    /// # Errors
    /// When the store does not answer for a while, or has something else in it.
    pub fn places(&self) -> Result<Option<Places>, StoreError> {
        let metadata = StoredMetadata::<u64>::new(Arc::clone(self.shards.store()), None);
        let begun = patiently(async || {
            let begun = metadata.begin().await;
            begun.map_err(|trouble| StorageError::new(trouble.kind(), trouble))
        });
        let transaction = self.runtime.block_on(begun)?;
        let places = Places::of(&transaction);
        Ok(places.map_err(|error| StorageError::new(StorageErrorKind::GiveUp, error))?)
    }
}
