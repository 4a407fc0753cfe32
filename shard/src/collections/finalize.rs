//! Finalizing one shard: whether it may be, and how.

use std::sync::Arc;

use lowwater::{Client, CollectionId, ShardId, StorageError, StorageErrorKind};
use parking_lot::Mutex;

use crate::consensus::{Fence, Fenced};
use crate::finalize::FinalizeError;
use crate::id::ReaderId;
use crate::record::Blocked;
use crate::shards::Shards;
use crate::time::ShardTime;

use super::finalizer::{Finalize, Finalizing, Unfinalized};
use super::late::LateTables;
use super::ledger::{Ledger, names};

/// What it takes to finalize a shard.
pub(super) struct Finalizes<I: CollectionId, T: ShardTime> {
    pub(super) client: Client<I, T>,
    pub(super) shards: Shards<T>,
    pub(super) reader: ReaderId,
    pub(super) fence: Fence,
    pub(super) ledger: Arc<Mutex<Ledger<I>>>,
    pub(super) tables: Arc<LateTables<T>>,
}

impl<I: CollectionId, T: ShardTime> Finalize for Finalizes<I, T> {
    fn finalize(&self, shard: ShardId) -> Finalizing {
        // Whatever a list says, and each time anew.
        if let Err(reason) = self.check(shard) {
            return Box::pin(std::future::ready(Err(reason)));
        }
        let (shards, reader, fence) = (self.shards.clone(), self.reader, self.fence);
        let no_table = self.check_table(shard);
        Box::pin(async move {
            no_table.await?;
            let finalized = shards.finalize(shard, reader, Some(fence)).await;
            finalized.map_err(unfinalized)
        })
    }
}

impl<I: CollectionId, T: ShardTime> Finalizes<I, T> {
    /// Whether nobody in this process needs the shard.
    fn check(&self, shard: ShardId) -> Result<(), Unfinalized> {
        let mut ledger = self.ledger.lock();
        let owners = ledger.names_of_owners(shard);
        if !owners.is_empty() {
            return Err(Unfinalized::Owned(owners));
        }
        if ledger.is_being_created(shard) {
            return Err(Unfinalized::Held(String::from("one that is being created")));
        }
        let held = ledger.held(shard, |id, key| {
            let collection = self.client.collection(id);
            collection.is_some_and(|collection| collection.key() == key)
        });
        if held.is_empty() {
            Ok(())
        } else {
            Err(Unfinalized::Held(names(held)))
        }
    }
}

impl<I: CollectionId, T: ShardTime> Finalizes<I, T> {
    /// Whether no transactions need the shard. A table that nobody in this process needs is
    /// forgotten with the next time that is closed.
    fn check_table(
        &self,
        shard: ShardId,
    ) -> impl Future<Output = Result<(), Unfinalized>> + Send + 'static + use<I, T> {
        let (shards, tables) = (self.shards.clone(), Arc::clone(&self.tables));
        let ledger = Arc::clone(&self.ledger);
        async move {
            let needed = match (tables.set(), { ledger.lock().txns_shard() }) {
                (Some(set), _) => set.needs(shard).await?,
                // Where there are transactions, and nobody has looked at them: it may.
                (None, Some(txns)) => !shards.upper(txns).await?.is_minimum(),
                (None, None) => false,
            };
            if !needed {
                return Ok(());
            }
            ledger.lock().leave(shard);
            Err(Unfinalized::Table)
        }
    }
}

fn unfinalized<T: ShardTime>(error: FinalizeError<T>) -> Unfinalized {
    match error {
        FinalizeError::Blocked(Blocked::Readers(readers)) => Unfinalized::Readers(readers),
        FinalizeError::Blocked(Blocked::Fenced { by }) => Unfinalized::Fenced { by },
        // Others do the same at the same time.
        FinalizeError::Blocked(
            blocked @ (Blocked::Readable(_) | Blocked::NotSealed | Blocked::NotEmpty),
        ) => StorageError::new(StorageErrorKind::Retry, blocked).into(),
        FinalizeError::Fenced(Fenced { by: Some(fence) }) => {
            Unfinalized::Fenced { by: fence.epoch }
        }
        FinalizeError::Fenced(nobody @ Fenced { by: None }) => {
            StorageError::new(StorageErrorKind::GiveUp, nobody).into()
        }
        FinalizeError::Storage(error) => error.into(),
    }
}
