//! Merging batches, so that a shard takes up what it must, and deleting what was replaced.

mod plan;

use std::ops::Range;
use std::sync::Arc;

use lowwater::{ShardId, Since, StorageError, StorageErrorKind};

use crate::append::with_schema;
use crate::hub::{Reading, Shard};
use crate::id::{BatchId, PartId, SchemaId};
use crate::parts::PartError;
use crate::record::{CompactError, Compacted, DataRecord, SinceRecord, deletable};
use crate::schema::Schema;
use crate::shards::{Inner, Shards};
use crate::snapshot::{Source, latest_schema, read_all, settle, sources_of};
use crate::time::ShardTime;
use crate::transact::CommandError;

/// How often it is tried again when another process was faster.
const TRIES: usize = 8;

/// How far to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// As long as it is worth while.
    Worthwhile,
    /// Until there is nothing left to gain.
    Utmost,
}

/// What a merge came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Merged {
    Replaced,
    /// Others were faster, or it took too long.
    InVain,
}

/// What is merged.
struct Merge<T> {
    first: BatchId,
    last: BatchId,
    since: Since<T>,
    sources: Vec<Source>,
    schema: Schema,
    schema_id: SchemaId,
    _reading: Reading,
}

impl<T: ShardTime> Shards<T> {
    /// Merges all batches of a shard into one, their times advanced to the shard's since and equal
    /// rows added up, and deletes the parts that nobody can read any more; says how many batches
    /// there are then. May be called at any time, by any number of processes.
    ///
    /// # Errors
    ///
    /// If storage fails: nothing is lost then, and what was written in vain is swept some time.
    pub async fn compact(&self, shard: ShardId) -> Result<usize, StorageError> {
        let shard = self.inner.hub.shard(shard);
        self.inner.hub.refresh_one::<DataRecord<T>>(&shard).await?;
        self.inner.compact(&shard, Effort::Utmost).await?;
        let batches = shard.data.lock().await.record().batches().len();
        Ok(batches)
    }
}

impl<T: ShardTime> Inner<T> {
    /// Whether it may be worth while to look at the shard; `None` while somebody reads or writes it,
    /// who may be stuck.
    pub(crate) fn may_be_compacted(&self, shard: &Shard<T>) -> Option<bool> {
        let data = shard.data.try_lock().ok()?;
        let plan = plan::may_be(data.record(), self.settings.inline_bytes_max as u64);
        Some(plan || !data.record().garbage().is_empty())
    }

    /// Compacts a shard, by what this process knows of its data, and deletes what was replaced, also
    /// where nothing could be merged.
    pub(crate) async fn compact(
        self: &Arc<Self>,
        shard: &Arc<Shard<T>>,
        effort: Effort,
    ) -> Result<(), StorageError> {
        let merged = self.merge_all(shard, effort).await;
        let collected = self.collect_garbage(shard).await;
        merged.and(collected)
    }

    async fn merge_all(
        self: &Arc<Self>,
        shard: &Arc<Shard<T>>,
        effort: Effort,
    ) -> Result<(), StorageError> {
        self.hub.refresh_one::<SinceRecord<T>>(shard).await?;
        for _ in 0..TRIES {
            let Some(merge) = self.choose(shard, effort).await else {
                break;
            };
            if self.merge(shard, merge).await? == Merged::InVain {
                // They may have merged as of a later since, and what is merged as of ours is refused.
                self.hub.refresh_one::<SinceRecord<T>>(shard).await?;
            }
        }
        Ok(())
    }

    async fn choose(&self, shard: &Shard<T>, effort: Effort) -> Option<Merge<T>> {
        let since = shard.sinces.lock().await.record().since().clone();
        let data = shard.data.lock().await;
        let record = data.record();
        let bytes_min = self.settings.inline_bytes_max as u64;
        let Range { start, end } = match effort {
            Effort::Worthwhile => plan::plan(record, &since, bytes_min),
            Effort::Utmost => plan::all(record, &since),
        }?;
        let batches = &record.batches()[start..end];
        let schema_id = record.schemas().len().saturating_sub(1);
        Some(Merge {
            first: batches.first()?.id,
            last: batches.last()?.id,
            sources: batches
                .iter()
                .flat_map(|batch| sources_of(record, batch))
                .collect(),
            schema: latest_schema(record),
            schema_id: SchemaId::new(u32::try_from(schema_id).ok()?),
            since,
            _reading: shard.read_version(&data),
        })
    }

    /// Reads, merges, writes, and only then replaces; whoever dies in between leaves a part that
    /// nobody refers to.
    async fn merge(
        self: &Arc<Self>,
        shard: &Arc<Shard<T>>,
        merge: Merge<T>,
    ) -> Result<Merged, StorageError> {
        let read = match read_all(self, shard.id, &merge.sources).await {
            Ok(read) => read,
            // Another process has merged these: look again.
            Err(PartError::Missing(name)) => {
                self.check_overtaken(shard, name).await?;
                return Ok(Merged::InVain);
            }
            Err(error) => return Err(error.into()),
        };
        let merged = Arc::new(settle(read, &merge.schema, merge.since.clone()).await?);
        let contents = match self.inline(&merged, &merge.schema) {
            Some(contents) => {
                contents.map_err(|error| StorageError::new(StorageErrorKind::GiveUp, error))?
            }
            None => {
                let merged = Arc::clone(&merged);
                self.store(shard, &merge.schema, merged).await?
            }
        };
        let contents = with_schema(&contents, merge.schema_id);
        let replace = |record: &DataRecord<T>| {
            let Merge {
                first, last, since, ..
            } = &merge;
            record.compact(*first, *last, since.clone(), contents.clone())
        };
        let replaced = self.hub.write(self.hub.transactor(), shard, replace).await;
        match replaced {
            Ok(Compacted { batch }) => {
                let shard = shard.id;
                tracing::trace!(%shard, %batch, updates = merged.len(), "batches were merged");
                Ok(Merged::Replaced)
            }
            Err(CommandError::Refused(refusal)) => {
                self.discard(shard, contents);
                match refusal {
                    CompactError::Gone | CompactError::Behind(_) | CompactError::PartExpired(_) => {
                        Ok(Merged::InVain)
                    }
                    CompactError::UnknownSchema(unknown) => {
                        Err(StorageError::new(StorageErrorKind::GiveUp, unknown))
                    }
                }
            }
            Err(CommandError::Fenced(fenced)) => {
                Err(StorageError::new(StorageErrorKind::GiveUp, fenced))
            }
            Err(CommandError::Log(error)) => Err(error.into()),
            Err(CommandError::Store(trouble)) => Err(trouble.0.into()),
        }
    }

    /// Deletes the parts that were replaced and that nobody can read any more: first what is stored,
    /// then the note of it, so that a crash in between leaves the note, and it is done again.
    pub(crate) async fn collect_garbage(&self, shard: &Arc<Shard<T>>) -> Result<(), StorageError> {
        let garbage = shard.data.lock().await.record().garbage().to_vec();
        if garbage.is_empty() {
            return Ok(());
        }
        // Who reads is asked for behind that, and nothing deleted that was replaced since: whoever
        // comes later finds a version that refers to none of these.
        self.hub.refresh_one::<SinceRecord<T>>(shard).await?;
        let others = self.oldest_read_by_others(shard).await;
        let ours = shard.oldest_reading();
        let oldest = others.into_iter().chain(ours).min();
        let names = deletable(&garbage, oldest);
        if names.is_empty() {
            return Ok(());
        }
        self.parts.delete(shard.id, &names).await?;
        let parts: Vec<PartId> = names.iter().map(|name| name.part).collect();
        let swept = |record: &DataRecord<T>| Ok::<_, NoRefusal>(record.swept(&parts));
        let swept = self.hub.write(self.hub.transactor(), shard, swept).await;
        swept.map_err(trouble)
    }
}

/// A command that is never refused.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(crate) enum NoRefusal {}

/// What is wrong with a command that is never refused.
pub(crate) fn trouble(error: CommandError<NoRefusal>) -> StorageError {
    match error {
        CommandError::Refused(never) => match never {},
        CommandError::Fenced(fenced) => StorageError::new(StorageErrorKind::GiveUp, fenced),
        CommandError::Log(error) => error.into(),
        CommandError::Store(trouble) => trouble.0.into(),
    }
}
