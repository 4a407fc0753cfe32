//! All of a shard from a since on, for whoever goes on where he was.

use std::sync::Arc;

use lowwater::{ShardId, Since};
use timely::PartialOrder;

use crate::hub::{Reading, Shard};
use crate::parts::PartError;
use crate::record::{DataRecord, SinceRecord};
use crate::schema::Schema;
use crate::shards::{Inner, Shards};
use crate::snapshot::{
    SnapshotError, Source, TRIES, latest_schema, overtaken, read_all, settle, sources_of,
};
use crate::time::ShardTime;
use crate::updates::Updates;

/// What a history reads, and that it reads it.
struct Plan {
    sources: Vec<Source>,
    schema: Schema,
    _reading: Reading,
}

impl<T: ShardTime> Shards<T> {
    /// All updates of a shard, as far as it is written at this moment, times advanced to `since`,
    /// equal rows added up: its contents there and what came after. Waits for nothing.
    ///
    /// Keeps nothing readable by itself: hold the shard's since, by the engine or as a
    /// [reader](Shards::reader).
    ///
    /// # Errors
    ///
    /// [`SnapshotError::TooEarly`] if the shard can be read only from later on; else if storage
    /// fails.
    pub async fn history(
        &self,
        shard: ShardId,
        since: &Since<T>,
    ) -> Result<Updates<T>, SnapshotError<T>> {
        let shard = self.inner.hub.shard(shard);
        for _ in 0..TRIES {
            let Some(plan) = self.inner.plan_history(&shard, since).await? else {
                continue;
            };
            match read_all(&self.inner, shard.id, &plan.sources).await {
                Ok(all) => return Ok(settle(all, &plan.schema, since.clone()).await?),
                Err(PartError::Missing(name)) => self.inner.check_overtaken(&shard, name).await?,
                Err(error) => return Err(lowwater::StorageError::from(error).into()),
            }
        }
        Err(overtaken().into())
    }
}

impl<T: ShardTime> Inner<T> {
    /// `None` if the since has moved on, and compaction or finalization has followed, after it was
    /// looked at; or if the log was found damaged meanwhile, which shows when it is read.
    async fn plan_history(
        &self,
        shard: &Arc<Shard<T>>,
        since: &Since<T>,
    ) -> Result<Option<Plan>, SnapshotError<T>> {
        self.hub.refresh_one::<SinceRecord<T>>(shard).await?;
        self.hub.refresh_one::<DataRecord<T>>(shard).await?;
        let readable = shard.sinces.lock().await.record().since().clone();
        if !PartialOrder::less_equal(&readable, since) {
            return Err(SnapshotError::TooEarly {
                since: readable,
                upper: shard.upper(),
            });
        }
        let data = shard.data.lock().await;
        let record = data.record();
        let is_whole = PartialOrder::less_equal(&shard.upper(), record.upper());
        if record.is_emptying() || !is_whole {
            return Ok(None);
        }
        let batches = record.batches().iter();
        let batches: Vec<_> = batches.filter(|of| !of.contents.is_empty()).collect();
        if !batches
            .iter()
            .all(|of| PartialOrder::less_equal(&of.since, since))
        {
            return Ok(None);
        }
        let sources = batches.into_iter().flat_map(|of| sources_of(record, of));
        Ok(Some(Plan {
            sources: sources.collect(),
            schema: latest_schema(record),
            _reading: shard.read_version(&data),
        }))
    }
}
