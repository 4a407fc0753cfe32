//! Merging what is written, and deleting what nobody refers to any more.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use lowwater::StorageError;
use lowwater_shard::record::{Content, DataRecord};
use lowwater_shard::{CommandError, PartName};

use crate::catalog::Relation;
use crate::minute::Minute;

use super::{Inner, Shard, Shards, part_trouble, trouble};

/// So many batches that are only in the record are merged among themselves.
const TAIL_MAX: usize = 64;

/// What has grown behind the oldest batch is merged into it when it is this part of it.
const GROWTH: u64 = 2;

impl Shards {
    /// Merges, in the background, if enough has come together.
    pub(super) fn merge_if_due(&self, relation: Relation) {
        let inner = Arc::clone(&self.inner);
        if inner.is_due(inner.shard(relation)) {
            inner.runtime.clone().spawn(async move {
                let shard = inner.shard(relation);
                // Somebody else is at it: he, or the next append, will see what is left.
                if let Ok(_merging) = shard.merging.try_lock() {
                    // What fails here is tried again with the next append.
                    drop(inner.merge(shard).await);
                }
            });
        }
    }

    /// Merges all of a shard, and deletes what nobody refers to.
    pub(in crate::store) async fn tidy(&self, relation: Relation) -> Result<(), StorageError> {
        let shard = self.inner.shard(relation);
        let _merging = shard.merging.lock().await;
        self.inner.merge(shard).await?;
        self.inner.sweep(shard).await
    }
}

impl Inner {
    fn is_due(&self, shard: &Shard) -> bool {
        let Ok(data) = shard.data.try_lock() else {
            return false;
        };
        let [oldest, tail @ ..] = data.record().batches() else {
            return false;
        };
        let updates = |contents: &[Content]| contents.iter().map(Content::updates).sum::<u64>();
        let grown: u64 = tail.iter().map(|batch| updates(&batch.contents)).sum();
        tail.len() >= TAIL_MAX || (tail.len() >= 8 && grown > GROWTH * updates(&oldest.contents))
    }

    /// Puts one batch in the place of all, its times advanced to since; then deletes the parts that
    /// it has replaced.
    async fn merge(&self, shard: &Shard) -> Result<(), StorageError> {
        let since = self.sinces(shard).await?.since().clone();
        let data = self.refreshed(shard).await?;
        let (begun, record) = (data.seen(), data.record().clone());
        drop(data);
        let ([first, .., last] | [first @ last]) = record.batches() else {
            return Ok(());
        };
        if first.id == last.id && first.since == since {
            return self.delete_garbage(shard).await;
        }
        let contents = record.batches().iter().flat_map(|batch| &batch.contents);
        let Ok(mut updates) = self.read(shard, contents).await? else {
            // Another process has merged them.
            return Ok(());
        };
        updates.advance(&since);
        let merged = self.contents(shard, begun, &updates.consolidate()).await?;

        let mut data = shard.data.lock().await;
        let command = |record: &DataRecord<Minute>| {
            record.compact(first.id, last.id, since.clone(), merged.clone())
        };
        let compacted = self.transactor.carry_out(&mut *data, command).await;
        drop(data);
        match compacted {
            // Where another process was faster, what was written for nothing is swept some time.
            Ok(_) | Err(CommandError::Refused(_)) => self.delete_garbage(shard).await,
            Err(error) => Err(trouble(error)),
        }
    }

    /// Deletes parts that were replaced. Who is just reading them finds the record changed.
    async fn delete_garbage(&self, shard: &Shard) -> Result<(), StorageError> {
        let oldest_read = self.sinces(shard).await?.oldest_read();
        let garbage = self.refreshed(shard).await?.record().deletable(oldest_read);
        if garbage.is_empty() {
            return Ok(());
        }
        let deleted = self.parts.delete(shard.id, &garbage).await;
        deleted.map_err(part_trouble)?;
        let parts: Vec<_> = garbage.iter().map(|name| name.part).collect();
        let mut data = shard.data.lock().await;
        let swept = |record: &DataRecord<Minute>| Ok::<_, Infallible>(record.swept(&parts));
        self.transactor
            .carry_out(&mut *data, swept)
            .await
            .map_err(trouble)
    }

    /// Deletes the parts that whoever was killed has left behind: first what was begun before now
    /// is refused, then what is stored and not referred to is nobody's.
    async fn sweep(&self, shard: &Shard) -> Result<(), StorageError> {
        let mut data = self.refreshed(shard).await?;
        let Some(seen) = data.seen() else {
            return Ok(());
        };
        let raise = |record: &DataRecord<Minute>| Ok::<_, Infallible>(record.raise_floor(seen));
        let raised = self.transactor.carry_out(&mut *data, raise).await;
        raised.map_err(trouble)?;
        let needed: BTreeSet<_> = data.record().parts().collect();
        drop(data);
        let listed = self.parts.list(shard.id).await.map_err(part_trouble)?;
        let is_nobodys = |name: &&PartName| name.begun < seen && !needed.contains(*name);
        let names = listed.iter().map(|part| &part.name);
        let nobodys: Vec<_> = names.filter(is_nobodys).copied().collect();
        let deleted = self.parts.delete(shard.id, &nobodys).await;
        deleted.map_err(part_trouble)
    }
}
