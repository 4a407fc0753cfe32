//! What tables need of shards.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use lowwater::{ShardId, Since, StorageError, Upper};
use timely::progress::Antichain;

use crate::consensus::{Fence, Fenced};
use crate::id::ReaderId;
use crate::record::SchemaRefusal;
use crate::schema::Schema;
use crate::updates::Updates;

/// An answer that comes some time. To drop it gives up the answer, not the request.
pub(crate) type Later<'a, X> = Pin<Box<dyn Future<Output = X> + Send + 'a>>;

/// What tables need of shards. What writes is the controller's, and carries its fence.
pub(crate) trait TableStore<T>: fmt::Debug + Send + Sync + 'static {
    /// How far shards are written, and the versions of their schemas, read now; for each by itself,
    /// for one that cannot be read shall stop no other.
    fn heads(&self, shards: Vec<ShardId>) -> Later<'_, Result<Heads<T>, StorageError>>;

    /// What is in a shard now: what was written from `from` on, if that can be told from the rest;
    /// otherwise all.
    fn read(&self, shard: ShardId, from: Upper<T>) -> Later<'_, Result<Contents<T>, StorageError>>;

    /// Waits until a shard is written past a frontier.
    fn wait_past(
        &self,
        shard: ShardId,
        frontier: Antichain<T>,
    ) -> Later<'_, Result<(), StorageError>>;

    /// Appends to shards, each another one, with an outcome for each in their order.
    fn append(&self, appends: Vec<TableAppend<T>>) -> Later<'_, Vec<Result<(), WriteFault<T>>>>;

    /// Makes sure that schemas are among those of shards; says which is not, if one is not. Those of
    /// one shard in their order.
    fn add_schemas(
        &self,
        schemas: Vec<(ShardId, Schema)>,
    ) -> Later<'_, Result<(), (ShardId, SchemaFault<T>)>>;

    /// Merges batches of the txns shard where that is worth it, what its readers have let go of left
    /// out, and deletes what was replaced.
    fn compact(&self, txns: ShardId) -> Later<'_, Result<(), WriteFault<T>>>;

    /// From now on this writes as the controller that has taken over the store with `fence`. Prepares
    /// the txns shard for that.
    fn take_charge(
        &self,
        txns: ShardId,
        reader: ReaderId,
        fence: Fence,
    ) -> Later<'_, Result<(), WriteFault<T>>>;

    /// Lets go of what a shard has before this, for this controller.
    fn downgrade(&self, shard: ShardId, since: Since<T>) -> Later<'_, Result<(), WriteFault<T>>>;
}

pub(crate) type Heads<T> = BTreeMap<ShardId, Result<Head<T>, StorageError>>;

/// How far a shard is written, with which schemas, and whether anything is there.
#[derive(Clone, Debug)]
pub(crate) struct Head<T> {
    pub(crate) upper: Upper<T>,
    pub(crate) schemas: Vec<Schema>,
    /// There is nothing in it.
    pub(crate) is_blank: bool,
}

/// What is in a shard, written between two uppers.
#[derive(Clone, Debug)]
pub(crate) struct Contents<T> {
    pub(crate) lower: Upper<T>,
    pub(crate) upper: Upper<T>,
    /// From when on the shard can be read; its times may have been advanced to that.
    pub(crate) since: Since<T>,
    /// As they are stored, each of one of the schemas: as one they may be more than a batch holds.
    pub(crate) updates: Vec<Updates<T>>,
    pub(crate) schemas: Vec<Schema>,
}

/// Updates for a shard that is written up to `lower`.
#[derive(Clone, Debug)]
pub(crate) struct TableAppend<T> {
    pub(crate) shard: ShardId,
    pub(crate) schema: Schema,
    pub(crate) lower: Upper<T>,
    pub(crate) upper: Upper<T>,
    pub(crate) updates: Updates<T>,
}

/// Why nothing was written, or why that is not known.
#[derive(Clone, Debug)]
pub(crate) enum WriteFault<T> {
    /// The shard is written up to elsewhere.
    Elsewhere(Upper<T>),
    Fenced(Fenced),
    Storage(StorageError),
}

/// Why a schema was not added.
#[derive(Clone, Debug)]
pub(crate) enum SchemaFault<T> {
    Refused(SchemaRefusal),
    Write(WriteFault<T>),
}
