//! Giving up a shard for good.

use std::sync::Arc;

use lowwater::{ShardId, Since, StorageError, Upper};

use crate::consensus::{Fence, Fenced};
use crate::hub::{ById, Kept, Shard};
use crate::id::{Epoch, PartId, PartName, ReaderId};
use crate::record::{Blocked, DataRecord, Decision, Garbage, NewBatch, Record, SinceRecord};
use crate::shards::{Inner, Shards};
use crate::time::ShardTime;
use crate::transact::{CommandError, Transactor};

/// How many batches one step gives up.
const BATCHES_AT_ONCE: usize = 256;

/// How many parts are deleted before that is noted.
const PARTS_AT_ONCE: usize = 256;

/// Why a shard is not gone yet. Ask again: what was done is done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FinalizeError<T: ShardTime> {
    /// Somebody still needs it, or drives it.
    #[error(transparent)]
    Blocked(#[from] Blocked<T>),
    /// Another controller is in charge of the store.
    #[error(transparent)]
    Fenced(Fenced),
    /// Storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl<T: ShardTime> Shards<T> {
    /// Makes a shard a tombstone, and gives back the space that it takes up.
    ///
    /// Moves the critical since `reader` to `[]`, whichever of its incarnations of a lower epoch has
    /// left it behind; is blocked by all other readers, and names them; closes the upper. In steps
    /// that can each be repeated: whatever happens in between, ask again. All later commands on the
    /// shard are harmless.
    ///
    /// Nobody is asked whose shard it is: that no collection owns it, the caller knows, as
    /// [`Collections`](crate::collections::Collections) do. A controller gives its `fence`; without one
    /// nothing keeps an older controller from finalizing, and only a critical since of epoch 0 is
    /// moved.
    ///
    /// Who was storing a part meanwhile, and dies before he is told that the shard has gone, leaves it
    /// behind, and nobody looks for it: the shard is used no more. To ask again, or to
    /// [sweep](Shards::sweep) the shard, deletes it.
    ///
    /// # Errors
    ///
    /// See [`FinalizeError`]. Readers that have lapsed are expired when this was asked again and
    /// again for as long as their lease.
    ///
    /// # Durability
    ///
    /// When this returns, the tombstone has survived a crash, and the parts are deleted.
    pub async fn finalize(
        &self,
        shard: ShardId,
        reader: ReaderId,
        fence: Option<Fence>,
    ) -> Result<(), FinalizeError<T>> {
        let shard = self.inner.hub.shard(shard);
        let used = ById::from([(shard.id, Arc::clone(&shard))]);
        let transactor = Transactor::new(Arc::clone(self.store()), fence);
        let counters = &self.inner.counters;
        let expired = self.inner.expire_lapsed(&transactor, used, counters).await;
        expired.map_err(|error| unfinished(error, |never| match never {}))?;
        let finalizer = Finalizer {
            transactor,
            inner: &self.inner,
            shard,
        };
        let epoch = fence.map_or(Epoch::new(0), |fence| fence.epoch);
        finalizer.finalize(reader, epoch).await
    }
}

struct Finalizer<'a, T: ShardTime> {
    transactor: Transactor,
    inner: &'a Inner<T>,
    shard: Arc<Shard<T>>,
}

impl<T: ShardTime> Finalizer<'_, T> {
    async fn finalize(&self, reader: ReaderId, epoch: Epoch) -> Result<(), FinalizeError<T>> {
        self.write(|record: &SinceRecord<T>| {
            if record.is_buried() {
                return Ok(unchanged());
            }
            record.release_abandoned(reader, epoch)
        })
        .await?;
        let since = self.shard.sinces.lock().await.record().since().clone();
        if !since.is_gone() {
            return Err(Blocked::Readable(since).into());
        }
        self.write(seal).await?;
        self.empty(&since).await?;
        self.write(DataRecord::bury).await?;
        // Nothing of it will ever be referred to again.
        let parts = &self.inner.parts;
        parts
            .clear(self.shard.id)
            .await
            .map_err(StorageError::from)?;
        self.write(SinceRecord::bury).await?;
        let gone = self.shard.id;
        self.inner.counters.keep(|shard| shard != gone);
        self.inner.sightings.forget(gone);
        Ok(())
    }

    /// Gives up batches, and deletes their parts. A part is deleted after it was durably noted that
    /// nobody refers to it any more, of a shard whose since is `[]`, for good: so it does no harm that
    /// no fence is in the way where another controller takes over in between.
    async fn empty(&self, since: &Since<T>) -> Result<(), FinalizeError<T>> {
        loop {
            let step = |record: &DataRecord<T>| record.empty(BATCHES_AT_ONCE, since);
            let left = self.write(step).await?.batches_left;
            self.delete_garbage().await?;
            if left == 0 {
                return Ok(());
            }
        }
    }

    async fn delete_garbage(&self) -> Result<(), FinalizeError<T>> {
        loop {
            let data = self.shard.data.lock().await;
            let garbage = data.record().garbage().iter().take(PARTS_AT_ONCE);
            let names: Vec<PartName> = garbage.map(Garbage::name).collect();
            drop(data);
            if names.is_empty() {
                return Ok(());
            }
            let deleted = self.inner.parts.delete(self.shard.id, &names).await;
            deleted.map_err(StorageError::from)?;
            let parts: Vec<PartId> = names.iter().map(|name| name.part).collect();
            self.write(|record: &DataRecord<T>| Ok(record.swept(&parts)))
                .await?;
        }
    }

    async fn write<R: Kept<T>, O>(
        &self,
        command: impl FnMut(&R) -> Result<Decision<R::Change, O>, Blocked<T>>,
    ) -> Result<O, FinalizeError<T>> {
        let hub = &self.inner.hub;
        let done = hub.write(&self.transactor, &self.shard, command).await;
        done.map_err(|error| unfinished(error, FinalizeError::from))
    }
}

fn unfinished<T: ShardTime, E>(
    error: CommandError<E>,
    refused: impl FnOnce(E) -> FinalizeError<T>,
) -> FinalizeError<T> {
    match error {
        CommandError::Refused(refusal) => refused(refusal),
        CommandError::Fenced(fenced) => FinalizeError::Fenced(fenced),
        CommandError::Log(error) => StorageError::from(error).into(),
        CommandError::Store(trouble) => StorageError::from(trouble.0).into(),
    }
}

/// Closes the upper, wherever it is.
fn seal<T: ShardTime>(
    record: &DataRecord<T>,
) -> Result<Decision<<DataRecord<T> as Record>::Change, ()>, Blocked<T>> {
    if record.upper().is_sealed() {
        return Ok(unchanged());
    }
    let batch = NewBatch::empty(record.upper().clone(), Upper::sealed());
    let batch = batch.expect("everything ends at the latest at the end");
    let sealed = record.compare_and_append(batch);
    Ok(Decision {
        changes: sealed.expect("it begins where the shard ends").changes,
        outcome: (),
    })
}

fn unchanged<C>() -> Decision<C, ()> {
    Decision {
        changes: Vec::new(),
        outcome: (),
    }
}
