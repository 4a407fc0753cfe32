//! Finalizing one shard: whether it may be, and how.

use std::sync::Arc;

use lowwater::{Client, CollectionId, ShardId, StorageError, StorageErrorKind, Upper};
use parking_lot::Mutex;

use crate::consensus::{Fence, Fenced};
use crate::id::ReaderId;
use crate::log::{Log, LogError};
use crate::record::{Blocked, DataRecord, NewBatch, SinceRecord};
use crate::shards::Shards;
use crate::time::ShardTime;
use crate::transact::{CommandError, StoreTrouble, Transactor};

use super::finalizer::{Finalize, Finalizing, Unfinalized};
use super::late::LateTables;
use super::ledger::{Ledger, names};

/// What it takes to finalize a shard.
pub(super) struct Finalizes<I: CollectionId, T: ShardTime> {
    pub(super) client: Client<I, T>,
    pub(super) transactor: Transactor,
    pub(super) reader: ReaderId,
    pub(super) fence: Fence,
    pub(super) ledger: Arc<Mutex<Ledger<I>>>,
    pub(super) shards: Shards<T>,
    pub(super) tables: Arc<LateTables<T>>,
}

impl<I: CollectionId, T: ShardTime> Finalize for Finalizes<I, T> {
    fn finalize(&self, shard: ShardId) -> Finalizing {
        // Whatever a list says, and each time anew.
        if let Err(reason) = self.check(shard) {
            return Box::pin(std::future::ready(Err(reason)));
        }
        let (transactor, reader, fence) = (self.transactor.clone(), self.reader, self.fence);
        let no_table = self.check_table(shard);
        Box::pin(async move {
            no_table.await?;
            bury::<T>(&transactor, shard, reader, fence).await
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

/// Makes a tombstone of a shard, from wherever an earlier try was left.
async fn bury<T: ShardTime>(
    transactor: &Transactor,
    shard: ShardId,
    reader: ReaderId,
    fence: Fence,
) -> Result<(), Unfinalized> {
    let mut sinces = Log::<SinceRecord<T>>::new(shard);
    let mut data = Log::<DataRecord<T>>::new(shard);
    let release = |record: &SinceRecord<T>| record.release_abandoned(reader, fence.epoch);
    let released = transactor.carry_out(&mut sinces, release).await;
    released.map_err(unfinalized)?;
    if sinces.record().is_buried() {
        return Ok(());
    }
    seal(transactor, &mut data).await?;
    loop {
        let since = sinces.record().since().clone();
        let empty = |record: &DataRecord<T>| record.empty(64, &since);
        let step = transactor.carry_out(&mut data, empty).await;
        if step.map_err(unfinalized)?.batches_left == 0 {
            break;
        }
    }
    let bury = |record: &DataRecord<T>| record.bury();
    let buried = transactor.carry_out(&mut data, bury).await;
    buried.map_err(unfinalized)?;
    let bury = |record: &SinceRecord<T>| record.bury();
    let buried = transactor.carry_out(&mut sinces, bury).await;
    buried.map(drop).map_err(unfinalized)
}

/// Ends what can be written, from wherever others have come to.
async fn seal<T: ShardTime>(
    transactor: &Transactor,
    data: &mut Log<DataRecord<T>>,
) -> Result<(), Unfinalized> {
    let seal = |record: &DataRecord<T>| {
        let batch = NewBatch::empty(record.upper().clone(), Upper::sealed());
        let batch = batch.map_err(|_| Blocked::<T>::NotSealed)?;
        let sealed = record.compare_and_append(batch);
        sealed.map_err(|_| Blocked::<T>::NotSealed)
    };
    let sealed = transactor.carry_out(data, seal).await;
    sealed.map(drop).map_err(unfinalized)
}

fn unfinalized<T: ShardTime>(error: CommandError<Blocked<T>>) -> Unfinalized {
    match error {
        CommandError::Refused(Blocked::Readers(readers)) => Unfinalized::Readers(readers),
        CommandError::Refused(Blocked::Fenced { by }) => Unfinalized::Fenced { by },
        CommandError::Refused(blocked) => trouble(StorageErrorKind::Retry, blocked),
        CommandError::Fenced(Fenced { by: Some(fence) }) => Unfinalized::Fenced { by: fence.epoch },
        CommandError::Fenced(nobody) => trouble(StorageErrorKind::GiveUp, nobody),
        CommandError::Log(error) => unreadable(error),
        CommandError::Store(StoreTrouble(error)) => StorageError::from(error).into(),
    }
}

fn unreadable(error: LogError) -> Unfinalized {
    trouble(StorageErrorKind::GiveUp, error)
}

fn trouble(
    kind: StorageErrorKind,
    error: impl std::error::Error + Send + Sync + 'static,
) -> Unfinalized {
    StorageError::new(kind, error).into()
}
