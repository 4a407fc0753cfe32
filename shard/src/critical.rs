//! A controller's own hold on a shard, that never expires.

use std::sync::Arc;

use lowwater::{ShardId, Since, StorageError, StorageErrorKind};

use crate::compaction::NoRefusal;
use crate::consensus::{Fence, Fenced};
use crate::hub::Shard;
use crate::id::{Epoch, ReaderId};
use crate::record::{CriticalError, Downgraded, SinceRecord};
use crate::shards::Shards;
use crate::time::ShardTime;
use crate::transact::{CommandError, Transactor};

/// Keeps a shard readable from a since on, for good. Dropped, it releases nothing.
///
/// Collections of an engine have theirs by its [storage](Shards::storage); this is for whoever has
/// none.
#[derive(Clone, Debug)]
pub struct CriticalSince<T: ShardTime> {
    shards: Shards<T>,
    shard: Arc<Shard<T>>,
    /// Writes as the controller that it was opened as, if it was.
    transactor: Transactor,
    reader: ReaderId,
    epoch: Epoch,
    since: Since<T>,
}

/// Why a critical since was not moved.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DowngradeError<T: ShardTime> {
    /// Another epoch drives it, or nobody has opened it.
    #[error(transparent)]
    Refused(#[from] CriticalError<T>),
    /// Storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl<T: ShardTime> Shards<T> {
    /// Opens a critical since, and registers it with the shard's since where it is absent. One that
    /// is there already stays as it is, its epoch too: see [`CriticalSince::epoch`]. A shard that has
    /// gone opens as `[]`, and registers nobody.
    ///
    /// Only the epoch in the shard's record guards it, not the one of the store: a controller that may
    /// be replaced by another uses [`critical_as`](Shards::critical_as).
    ///
    /// # Errors
    ///
    /// If storage fails.
    pub async fn critical(
        &self,
        id: ShardId,
        reader: ReaderId,
        epoch: Epoch,
    ) -> Result<CriticalSince<T>, StorageError> {
        let transactor = self.inner.hub.transactor().clone();
        self.open_critical(id, reader, epoch, transactor).await
    }

    /// The same, as the controller that has [taken over](crate::consensus::Consensus::take_over) the
    /// store with this fence, and with its epoch: whatever is written through the handle is refused in
    /// the same transaction where another has taken over since.
    ///
    /// # Errors
    ///
    /// If storage fails, or another controller is in charge
    /// ([`Fenced`](StorageErrorKind::Fenced)).
    pub async fn critical_as(
        &self,
        id: ShardId,
        reader: ReaderId,
        fence: Fence,
    ) -> Result<CriticalSince<T>, StorageError> {
        let transactor = Transactor::new(Arc::clone(self.store()), Some(fence));
        self.open_critical(id, reader, fence.epoch, transactor)
            .await
    }

    async fn open_critical(
        &self,
        id: ShardId,
        reader: ReaderId,
        epoch: Epoch,
        transactor: Transactor,
    ) -> Result<CriticalSince<T>, StorageError> {
        let hub = &self.inner.hub;
        let shard = hub.shard(id);
        let open =
            |record: &SinceRecord<T>| Ok::<_, NoRefusal>(record.open_critical(reader, epoch));
        let opened = hub.write(&transactor, &shard, open).await;
        let opened = opened.map_err(|error| match error {
            CommandError::Refused(never) => match never {},
            CommandError::Fenced(by) => fenced(by),
            CommandError::Log(error) => error.into(),
            CommandError::Store(trouble) => trouble.0.into(),
        })?;
        Ok(CriticalSince {
            shards: self.clone(),
            shard,
            transactor,
            reader,
            epoch: opened.epoch,
            since: opened.since,
        })
    }
}

impl<T: ShardTime> CriticalSince<T> {
    /// The shard.
    pub fn shard(&self) -> ShardId {
        self.shard.id
    }

    /// Which epoch drives it, as far as this handle knows. If that is another than the one it was
    /// opened with, downgrade with it as the expected one to take over.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What it keeps readable, as far as this handle knows.
    pub fn since(&self) -> &Since<T> {
        &self.since
    }

    /// Moves the since, if `expected` drives it, and stamps it with `next`. A since that is behind
    /// or incomparable moves nothing, and that is said; the epoch is stamped all the same.
    ///
    /// # Errors
    ///
    /// If another epoch drives it: nothing is changed then.
    ///
    /// # Durability
    ///
    /// The since has survived a crash when this returns.
    pub async fn compare_and_downgrade(
        &mut self,
        expected: Epoch,
        next: Epoch,
        since: &Since<T>,
    ) -> Result<Downgraded<T>, DowngradeError<T>> {
        let hub = &self.shards.inner.hub;
        let reader = self.reader;
        let downgrade =
            |record: &SinceRecord<T>| record.compare_and_downgrade(reader, expected, next, since);
        let moved = hub.write(&self.transactor, &self.shard, downgrade).await;
        let moved = moved.map_err(|error| match error {
            CommandError::Refused(refusal) => refusal.into(),
            CommandError::Fenced(by) => fenced(by).into(),
            CommandError::Log(error) => StorageError::from(error).into(),
            CommandError::Store(trouble) => DowngradeError::Storage(trouble.0.into()),
        })?;
        self.epoch = next;
        self.since = match &moved {
            Downgraded::Moved => since.clone(),
            Downgraded::Kept(kept) => kept.clone(),
        };
        Ok(moved)
    }
}

/// Another controller is in charge of the store, or none ever was.
fn fenced(fenced: Fenced) -> StorageError {
    let kind = fenced
        .by
        .map_or(StorageErrorKind::GiveUp, |by| StorageErrorKind::Fenced {
            by: by.epoch,
        });
    StorageError::new(kind, fenced)
}
