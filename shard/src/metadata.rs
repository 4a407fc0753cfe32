//! Which collection owns which shard: what a transaction of the embedder's may ask and change.
//!
//! An embedder has a catalogue of its own, and changes it in transactions. Who owns which shard has
//! to change with it, or not at all: so that is done inside the embedder's transaction, through the
//! trait [`MetadataTransaction`]. There are two implementations for embedders that have no catalogue,
//! or want ours beside it: [`MemoryMetadata`], and [`StoredMetadata`], in the store of the records.

mod id;
mod memory;
mod stored;
mod transaction;

use std::collections::BTreeSet;
use std::sync::Arc;

use lowwater::ShardId;

use crate::record::MetadataRefusal;

pub use id::StoredId;
pub use memory::MemoryMetadata;
pub use stored::{CommitError, MetadataTrouble, StoredMetadata};
pub use transaction::Transaction;

/// What a transaction over the embedder's catalogue may ask and change of the metadata.
///
/// It sees its own changes. Nothing of it is seen by others before it commits, and nothing at all if
/// it does not.
pub trait MetadataTransaction<I> {
    /// The shard that a collection owns.
    ///
    /// # Errors
    ///
    /// If the catalogue cannot say.
    fn shard_of(&self, collection: I) -> Result<Option<ShardId>, MetadataError>;

    /// The collections that own a shard.
    ///
    /// # Errors
    ///
    /// If the catalogue cannot say.
    fn owners(&self, shard: ShardId) -> Result<Vec<I>, MetadataError>;

    /// All collections that own a shard, with it. Asked once, when a controller starts.
    ///
    /// # Errors
    ///
    /// If the catalogue cannot say.
    fn owned(&self) -> Result<Vec<(I, ShardId)>, MetadataError>;

    /// Says that a collection owns a shard.
    ///
    /// # Errors
    ///
    /// If it owns another one, or nobody can own this one, or the catalogue does not let us.
    fn own(&mut self, collection: I, shard: ShardId) -> Result<(), MetadataError>;

    /// Says that a collection owns nothing any more. What it owned.
    ///
    /// # Errors
    ///
    /// If the catalogue does not let us.
    fn disown(&mut self, collection: I) -> Result<Option<ShardId>, MetadataError>;

    /// The shards that wait to be finalized.
    ///
    /// # Errors
    ///
    /// If the catalogue cannot say.
    fn unfinalized(&self) -> Result<BTreeSet<ShardId>, MetadataError>;

    /// Lets a shard wait to be finalized.
    ///
    /// # Errors
    ///
    /// If somebody owns it, or it is that of the transactions, or the catalogue does not let us.
    fn add_unfinalized(&mut self, shard: ShardId) -> Result<(), MetadataError>;

    /// Strikes a shard from those that wait to be finalized, if it is there.
    ///
    /// # Errors
    ///
    /// If the catalogue does not let us.
    fn remove_unfinalized(&mut self, shard: ShardId) -> Result<(), MetadataError>;

    /// The shard that carries the transactions of tables.
    ///
    /// # Errors
    ///
    /// If the catalogue cannot say.
    fn txns_shard(&self) -> Result<Option<ShardId>, MetadataError>;

    /// Says, once and for all, which shard carries the transactions of tables.
    ///
    /// # Errors
    ///
    /// If another one does, or the catalogue does not let us.
    fn set_txns_shard(&mut self, shard: ShardId) -> Result<(), MetadataError>;
}

/// Why a transaction could not ask or change something.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MetadataError {
    /// It must not be.
    #[error(transparent)]
    Refused(#[from] MetadataRefusal),
    /// What is stored as a collection's id is none of this type.
    #[error("an id of {0} bytes is no id of a collection")]
    ForeignId(usize),
    /// The embedder's catalogue has failed.
    #[error("the catalogue has failed: {0}")]
    Catalogue(Arc<dyn std::error::Error + Send + Sync>),
}

impl MetadataError {
    /// Trouble with the embedder's catalogue.
    pub fn catalogue(trouble: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        MetadataError::Catalogue(Arc::from(trouble.into()))
    }
}

#[cfg(test)]
mod tests;
