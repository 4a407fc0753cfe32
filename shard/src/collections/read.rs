//! Reading what is in collections.

use std::sync::Arc;

use lowwater::{
    Collection, CollectionId, ShardId, Since, StopReason, StorageError, Upper, WaitError,
};
use timely::progress::Antichain;

use crate::parts::PartStats;
use crate::shards::Shards;
use crate::snapshot::{SnapshotError, SnapshotStats};
use crate::time::ShardTime;
use crate::updates::Updates;

use super::description::Kind;
use super::ledger::Live;
use super::table_set::TableSet;
use super::{Collections, Inner};

/// Why a collection is not read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadCollectionError<I, T> {
    /// There is no such collection.
    #[error("the collection {0} does not exist")]
    UnknownCollection(I),
    /// It was dropped, and is kept only for those that hold it.
    #[error("the collection {0} was dropped")]
    Dropped(I),
    /// There is nothing as of the empty frontier.
    #[error("the collection {0} has no contents as of the empty frontier")]
    EmptyFrontier(I),
    /// What is before `since` can no longer be read. Ask again at or after it; what has gone has the
    /// empty since.
    #[error(
        "the collection {collection} can be read from {since:?} on, and is written up to {upper:?}"
    )]
    TooEarly {
        /// Which collection.
        collection: I,
        /// From when on it can be read.
        since: Since<T>,
        /// How far it is written.
        upper: Upper<T>,
    },
    /// Storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The controller has stopped, or was taken over, before the collection was written so far.
    #[error(transparent)]
    Stopped(StopReason),
}

impl<I: CollectionId, T: ShardTime> Collections<I, T> {
    /// The contents of a collection as of a frontier: the updates at times `≤` one of its elements,
    /// those times advanced to it, equal rows added up.
    ///
    /// Which collection it is, is decided by the call; the future waits until that is written past
    /// the frontier, borrows nothing, and may be dropped at any time. It keeps nothing readable: a
    /// hold does, also if the collection is dropped meanwhile. Without one others may be faster.
    ///
    /// # Errors
    ///
    /// See [`ReadCollectionError`].
    pub fn snapshot(
        &self,
        id: I,
        as_of: &Antichain<T>,
    ) -> impl Future<Output = Result<Updates<T>, ReadCollectionError<I, T>>> + Send + 'static + use<I, T>
    {
        let (found, as_of) = (self.find(id), as_of.clone());
        async move {
            let Found { handle, contents } = found?;
            let reading = contents.snapshot(&as_of);
            until_over(handle, &as_of, reading).await
        }
    }

    /// How much a [`snapshot`](Collections::snapshot) would read; waits and refuses as that does,
    /// and reads no data.
    ///
    /// # Errors
    ///
    /// See [`ReadCollectionError`].
    pub fn snapshot_stats(
        &self,
        id: I,
        as_of: &Antichain<T>,
    ) -> impl Future<Output = Result<SnapshotStats, ReadCollectionError<I, T>>>
    + Send
    + 'static
    + use<I, T> {
        let (found, as_of) = (self.find(id), as_of.clone());
        async move {
            let Found { handle, contents } = found?;
            let reading = contents.snapshot_stats(&as_of);
            until_over(handle, &as_of, reading).await
        }
    }

    /// What the metadata of the parts say that a [`snapshot`](Collections::snapshot) would read;
    /// waits and refuses as that does, and reads no rows.
    ///
    /// # Errors
    ///
    /// See [`ReadCollectionError`].
    pub fn parts_stats(
        &self,
        id: I,
        as_of: &Antichain<T>,
    ) -> impl Future<Output = Result<Vec<PartStats>, ReadCollectionError<I, T>>>
    + Send
    + 'static
    + use<I, T> {
        let (found, as_of) = (self.find(id), as_of.clone());
        async move {
            let Found { handle, contents } = found?;
            let reading = contents.parts_stats(&as_of);
            until_over(handle, &as_of, reading).await
        }
    }

    /// The collection that has this id now, and where to read it.
    fn find(&self, id: I) -> Result<Found<I, T>, ReadCollectionError<I, T>> {
        let inner = &self.inner;
        if let Some(reason) = inner.client.stopped() {
            return Err(ReadCollectionError::Stopped(reason));
        }
        let live = inner.ledger.lock().live(id).cloned();
        let handle = inner.client.collection(id);
        match (live, handle) {
            (Some(live), Some(handle)) if !live.dropping && live.key == handle.key() => {
                let contents = inner.contents(id, &live);
                Ok(Found { handle, contents })
            }
            (_, Some(_)) => Err(ReadCollectionError::Dropped(id)),
            (_, None) => Err(ReadCollectionError::UnknownCollection(id)),
        }
    }
}

impl<I: CollectionId, T: ShardTime> Inner<I, T> {
    fn contents(&self, id: I, live: &Live<I>) -> Contents<T> {
        let shards = self.shards.clone();
        match (&live.description.kind, self.tables.set()) {
            (Kind::Table, Some(set)) if !self.stands_apart(id) => {
                Contents::Table(shards, live.shard, Arc::clone(set))
            }
            (
                Kind::Table
                | Kind::Ingestion { .. }
                | Kind::IngestionExport { .. }
                | Kind::Progress
                | Kind::Introspection
                | Kind::Webhook
                | Kind::Compute,
                _,
            ) => Contents::Shard(shards, live.shard),
        }
    }
}

struct Found<I: CollectionId, T: ShardTime> {
    handle: Collection<I, T>,
    contents: Contents<T>,
}

/// Where the contents of a collection are: the one place where kinds are read differently.
enum Contents<T: ShardTime> {
    /// All of them in a shard.
    Shard(Shards<T>, ShardId),
    /// In a shard, but for what transactions have committed and nobody has applied.
    Table(Shards<T>, ShardId, Arc<dyn TableSet<T>>),
}

impl<T: ShardTime> Contents<T> {
    async fn snapshot(self, as_of: &Antichain<T>) -> Result<Updates<T>, SnapshotError<T>> {
        match self {
            Contents::Shard(shards, shard) => shards.snapshot(shard, as_of).await,
            Contents::Table(_, shard, set) => set.snapshot(shard, time_of(as_of)?).await,
        }
    }

    async fn snapshot_stats(self, as_of: &Antichain<T>) -> Result<SnapshotStats, SnapshotError<T>> {
        match self {
            Contents::Shard(shards, shard) => shards.snapshot_stats(shard, as_of).await,
            Contents::Table(shards, shard, set) => {
                let unapplied = set.settle(shard, time_of(as_of)?).await?;
                let mut stats = shards.settled_stats(shard, as_of).await?;
                stats.updates += unapplied.updates;
                stats.bytes += unapplied.bytes;
                Ok(stats)
            }
        }
    }

    async fn parts_stats(self, as_of: &Antichain<T>) -> Result<Vec<PartStats>, SnapshotError<T>> {
        match self {
            Contents::Shard(shards, shard) => shards.parts_stats(shard, as_of).await,
            Contents::Table(shards, shard, set) => {
                set.settle(shard, time_of(as_of)?).await?;
                shards.settled_parts_stats(shard, as_of).await
            }
        }
    }
}

/// The one time of a frontier where times are ordered.
fn time_of<T: ShardTime>(as_of: &Antichain<T>) -> Result<T, SnapshotError<T>> {
    let time = as_of.iter().next().cloned();
    time.ok_or(SnapshotError::EmptyFrontier)
}

/// Reads; but what is not written so far is not waited for any more once the engine has stopped, or
/// the collection is gone.
async fn until_over<I: CollectionId, T: ShardTime, X>(
    handle: Collection<I, T>,
    as_of: &Antichain<T>,
    reading: impl Future<Output = Result<X, SnapshotError<T>>>,
) -> Result<X, ReadCollectionError<I, T>> {
    let written = handle.wait_for_upper_past(as_of.iter().cloned());
    tokio::select! {
        biased;
        read = reading => read.map_err(|error| refused(handle.id(), error)),
        Err(over @ (WaitError::Stopped(_) | WaitError::Gone)) = written => Err(match over {
            WaitError::Stopped(reason) => ReadCollectionError::Stopped(reason),
            WaitError::Gone | WaitError::Never => ReadCollectionError::TooEarly {
                collection: handle.id(),
                since: Since::gone(),
                upper: handle.upper(),
            },
        }),
    }
}

fn refused<I, T: ShardTime>(collection: I, error: SnapshotError<T>) -> ReadCollectionError<I, T> {
    match error {
        SnapshotError::EmptyFrontier => ReadCollectionError::EmptyFrontier(collection),
        SnapshotError::TooEarly { since, upper } | SnapshotError::NotYet { since, upper } => {
            ReadCollectionError::TooEarly {
                collection,
                since,
                upper,
            }
        }
        SnapshotError::Storage(error) => ReadCollectionError::Storage(error),
    }
}
