//! The contents of a shard as of a frontier.

mod contents;
mod plan;

use std::sync::Arc;

use lowwater::{ShardId, Since, StorageError, StorageErrorKind, Upper};
use timely::progress::Antichain;

use crate::hub::Shard;
use crate::parts::{PartError, PartStats};
use crate::record::{Content, DataRecord};
use crate::schema::Schema;
use crate::shards::{Inner, Shards};
use crate::time::ShardTime;
use crate::updates::{Updates, UpdatesError};

pub(crate) use contents::{Source, read_all};
use plan::{Patience, Plan};
pub(crate) use plan::{latest_schema, overtaken, sources_of};

/// How often a snapshot begins anew because compaction was faster.
pub(crate) const TRIES: usize = 16;

/// Why there is no snapshot.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SnapshotError<T: ShardTime> {
    /// There is nothing as of the empty frontier.
    #[error("there is no snapshot as of the empty frontier")]
    EmptyFrontier,
    /// What is before `since` can no longer be read. Ask again at or after it; a shard that has gone
    /// has the empty since.
    #[error("the shard can be read from {since:?} on, and is written up to {upper:?}")]
    TooEarly {
        /// From when on the shard can be read.
        since: Since<T>,
        /// How far it is written.
        upper: Upper<T>,
    },
    /// The shard is not written so far; only who does not wait is told so.
    #[error("the shard is written up to {upper:?} only, and can be read from {since:?} on")]
    NotYet {
        /// From when on the shard can be read.
        since: Since<T>,
        /// How far it is written.
        upper: Upper<T>,
    },
    /// Storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What a snapshot would read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotStats {
    /// How many updates are in what would be read: the snapshot has at most as many.
    pub updates: u64,
    /// How large that is as it is stored.
    pub bytes: u64,
    /// How many parts it is in; the rest is in the record.
    pub parts: u64,
}

impl<T: ShardTime> Shards<T> {
    /// The contents of a shard as of a frontier: the updates at times `≤` one of its elements, those
    /// times advanced to it, equal rows added up.
    ///
    /// Waits until the shard is written past the frontier. Keeps nothing readable by itself: hold
    /// the shard's since, by the engine or as a [reader](Shards::reader), or be refused when others
    /// let it go. The future borrows nothing; to drop it does no harm.
    ///
    /// # Errors
    ///
    /// See [`SnapshotError`]; never [`NotYet`](SnapshotError::NotYet).
    pub fn snapshot(
        &self,
        shard: ShardId,
        as_of: &Antichain<T>,
    ) -> impl Future<Output = Result<Updates<T>, SnapshotError<T>>> + Send + 'static + use<T> {
        self.contents(shard, as_of, Patience::Wait)
    }

    /// The same, but refused if the shard is not yet written so far.
    ///
    /// # Errors
    ///
    /// See [`SnapshotError`].
    pub fn try_snapshot(
        &self,
        shard: ShardId,
        as_of: &Antichain<T>,
    ) -> impl Future<Output = Result<Updates<T>, SnapshotError<T>>> + Send + 'static + use<T> {
        self.contents(shard, as_of, Patience::Refuse)
    }

    fn contents(
        &self,
        shard: ShardId,
        as_of: &Antichain<T>,
        patience: Patience,
    ) -> impl Future<Output = Result<Updates<T>, SnapshotError<T>>> + Send + 'static + use<T> {
        let (inner, as_of) = (Arc::clone(&self.inner), as_of.clone());
        async move {
            let shard = inner.hub.shard(shard);
            inner.contents(&shard, &as_of, patience).await
        }
    }

    /// How much a [`snapshot`](Shards::snapshot) would read; waits and refuses as that does, and
    /// reads no data.
    ///
    /// # Errors
    ///
    /// See [`SnapshotError`].
    pub fn snapshot_stats(
        &self,
        shard: ShardId,
        as_of: &Antichain<T>,
    ) -> impl Future<Output = Result<SnapshotStats, SnapshotError<T>>> + Send + 'static + use<T>
    {
        self.stats_as_of(shard, as_of, Patience::Wait)
    }

    /// The same of a shard to which nothing more comes up to the frontier, however far it is written.
    pub(crate) fn settled_stats(
        &self,
        shard: ShardId,
        as_of: &Antichain<T>,
    ) -> impl Future<Output = Result<SnapshotStats, SnapshotError<T>>> + Send + 'static + use<T>
    {
        self.stats_as_of(shard, as_of, Patience::Settled)
    }

    fn stats_as_of(
        &self,
        shard: ShardId,
        as_of: &Antichain<T>,
        patience: Patience,
    ) -> impl Future<Output = Result<SnapshotStats, SnapshotError<T>>> + Send + 'static + use<T>
    {
        let (inner, as_of) = (Arc::clone(&self.inner), as_of.clone());
        async move {
            let shard = inner.hub.shard(shard);
            let plan = inner.plan(&shard, &as_of, patience).await?;
            let mut stats = SnapshotStats::default();
            for source in &plan.sources {
                let (bytes, parts) = match &source.content {
                    Content::Inline(inline) => (inline.bytes.len() as u64, 0),
                    Content::Stored(stored) => (stored.bytes, 1),
                };
                stats.updates += source.content.updates();
                stats.bytes += bytes;
                stats.parts += parts;
            }
            Ok(stats)
        }
    }

    /// What the metadata of the parts say that a [`snapshot`](Shards::snapshot) would read; waits
    /// and refuses as that does, and reads no rows.
    ///
    /// # Errors
    ///
    /// See [`SnapshotError`].
    pub fn parts_stats(
        &self,
        shard: ShardId,
        as_of: &Antichain<T>,
    ) -> impl Future<Output = Result<Vec<PartStats>, SnapshotError<T>>> + Send + 'static + use<T>
    {
        self.parts_as_of(shard, as_of, Patience::Wait)
    }

    /// The same of a shard to which nothing more comes up to the frontier, however far it is written.
    pub(crate) fn settled_parts_stats(
        &self,
        shard: ShardId,
        as_of: &Antichain<T>,
    ) -> impl Future<Output = Result<Vec<PartStats>, SnapshotError<T>>> + Send + 'static + use<T>
    {
        self.parts_as_of(shard, as_of, Patience::Settled)
    }

    fn parts_as_of(
        &self,
        shard: ShardId,
        as_of: &Antichain<T>,
        patience: Patience,
    ) -> impl Future<Output = Result<Vec<PartStats>, SnapshotError<T>>> + Send + 'static + use<T>
    {
        let (inner, as_of) = (Arc::clone(&self.inner), as_of.clone());
        async move {
            let shard = inner.hub.shard(shard);
            for _ in 0..TRIES {
                let plan = inner.plan(&shard, &as_of, patience).await?;
                if let Some(stats) = inner.stats_of(&shard, &plan).await? {
                    return Ok(stats);
                }
            }
            Err(overtaken().into())
        }
    }
}

impl<T: ShardTime> Inner<T> {
    async fn contents(
        self: &Arc<Self>,
        shard: &Arc<Shard<T>>,
        as_of: &Antichain<T>,
        patience: Patience,
    ) -> Result<Updates<T>, SnapshotError<T>> {
        for _ in 0..TRIES {
            let plan = self.plan(shard, as_of, patience).await?;
            let read = read_all(self, shard.id, &plan.sources).await;
            match read {
                Ok(all) => {
                    return Ok(as_of_frontier(all, &plan.schema, as_of).await?);
                }
                Err(PartError::Missing(name)) => self.check_overtaken(shard, name).await?,
                Err(error) => return Err(StorageError::from(error).into()),
            }
        }
        Err(overtaken().into())
    }

    /// A part was missing: it must have been replaced, or it is lost.
    pub(crate) async fn check_overtaken(
        &self,
        shard: &Arc<Shard<T>>,
        name: crate::id::PartName,
    ) -> Result<(), StorageError> {
        self.hub.refresh_one::<DataRecord<T>>(shard).await?;
        let data = shard.data.lock().await;
        let batches = data.record().batches().iter();
        let mut stored = batches.flat_map(|batch| &batch.contents);
        if stored.any(|content| content.stored().is_some_and(|part| part.name() == name)) {
            return Err(PartError::Missing(name).into());
        }
        Ok(())
    }

    async fn stats_of(
        &self,
        shard: &Arc<Shard<T>>,
        plan: &Plan,
    ) -> Result<Option<Vec<PartStats>>, SnapshotError<T>> {
        let mut all = Vec::new();
        for Source { content, schema } in &plan.sources {
            let Some(stored) = content.stored() else {
                continue;
            };
            match self.parts.stats::<T>(shard.id, stored, schema).await {
                Ok(stats) => all.push(stats),
                Err(PartError::Missing(name)) => {
                    self.check_overtaken(shard, name).await?;
                    return Ok(None);
                }
                Err(error) => return Err(StorageError::from(error).into()),
            }
        }
        Ok(Some(all))
    }
}

/// Those of the updates that are there by then, equal rows added up.
async fn as_of_frontier<T: ShardTime>(
    mut all: Vec<Updates<T>>,
    schema: &Schema,
    as_of: &Antichain<T>,
) -> Result<Updates<T>, StorageError> {
    let (schema, as_of) = (schema.clone(), as_of.clone());
    let settle = move || {
        let is_included = |time: &T| as_of.iter().any(|bound| time.less_equal(bound));
        for updates in &mut all {
            if !updates.times().iter().all(is_included) {
                *updates = updates.filter(is_included);
            }
        }
        settled(all, &schema, &Since::new(as_of))
    };
    away(settle).await?.map_err(too_large)
}

/// All updates as of `since`, equal rows added up.
pub(crate) async fn settle<T: ShardTime>(
    all: Vec<Updates<T>>,
    schema: &Schema,
    since: Since<T>,
) -> Result<Updates<T>, StorageError> {
    let schema = schema.clone();
    let settle = move || settled(all, &schema, &since);
    away(settle).await?.map_err(too_large)
}

fn settled<T: ShardTime>(
    all: Vec<Updates<T>>,
    schema: &Schema,
    since: &Since<T>,
) -> Result<Updates<T>, UpdatesError> {
    let mut updates = Updates::concat(all, schema)?;
    updates.advance(since);
    Ok(updates.consolidate())
}

fn too_large(error: UpdatesError) -> StorageError {
    StorageError::new(StorageErrorKind::GiveUp, error)
}

/// Computes where it is in nobody's way.
pub(crate) async fn away<X: Send + 'static>(
    compute: impl FnOnce() -> X + Send + 'static,
) -> Result<X, StorageError> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => {
            let computed = runtime.spawn_blocking(compute).await;
            computed.map_err(|error| StorageError::new(StorageErrorKind::Retry, error))
        }
        Err(_) => Ok(compute()),
    }
}
