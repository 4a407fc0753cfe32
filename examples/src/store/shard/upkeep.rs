//! Merging what is written, and deleting what nobody refers to any more.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;

use lowwater::StorageError;
use lowwater_shard::record::{Batch, Content, DataRecord};
use lowwater_shard::{CommandError, PartName};

use crate::catalog::Relation;
use crate::minute::Minute;

use super::{Inner, Shard, Shards, part_trouble, trouble};

/// So many batches may come together before some are merged.
const BATCHES_MAX: usize = 64;

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
                    drop(inner.merge(shard, worth_merging).await);
                }
            });
        }
    }

    /// Merges all of a shard, and deletes what nobody refers to.
    pub(in crate::store) async fn tidy(&self, relation: Relation) -> Result<(), StorageError> {
        let shard = self.inner.shard(relation);
        let _merging = shard.merging.lock().await;
        self.inner.merge(shard, |all| all).await?;
        self.inner.sweep(shard).await
    }
}

impl Inner {
    fn is_due(&self, shard: &Shard) -> bool {
        let data = shard.data.try_lock();
        data.is_ok_and(|data| data.record().batches().len() >= BATCHES_MAX)
    }

    /// Puts one batch in the place of those that `choose` leaves, its times advanced to since; then
    /// deletes the parts that it has replaced.
    async fn merge(
        &self,
        shard: &Shard,
        choose: fn(&[Batch<Minute>]) -> &[Batch<Minute>],
    ) -> Result<(), StorageError> {
        let since = self.sinces(shard).await?.since().clone();
        let data = self.refreshed(shard).await?;
        let (begun, record) = (data.seen(), data.record().clone());
        drop(data);
        let chosen = choose(record.batches());
        let (Some(first), Some(last)) = (chosen.first(), chosen.last()) else {
            return Ok(());
        };
        if first.id == last.id && first.since == since {
            return self.delete_garbage(shard).await;
        }
        let contents = chosen.iter().flat_map(|batch| &batch.contents);
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

/// The latest batches, as far back as each is at most twice what has come after it: so an update is
/// merged but a few times, however long the history is that somebody holds.
fn worth_merging(batches: &[Batch<Minute>]) -> &[Batch<Minute>] {
    let (mut first, mut later) = (batches.len(), 0);
    for (at, batch) in batches.iter().enumerate().rev() {
        let updates = batch.contents.iter().map(Content::updates).sum::<u64>();
        // What is tiny is no reason to stop: there may be many of them.
        if updates > 2 * later && batches.len() - at > BATCHES_MAX / 2 {
            break;
        }
        (first, later) = (at, later + updates);
    }
    &batches[first..]
}

#[cfg(test)]
mod tests {
    use lowwater::{Since, Upper};
    use lowwater_shard::BatchId;
    use lowwater_shard::record::Inline;

    use super::super::SCHEMA;
    use super::*;

    fn batch(number: u64, updates: u64) -> Batch<Minute> {
        let inline = Inline {
            schema: SCHEMA,
            updates,
            bytes: Vec::new().into(),
        };
        Batch {
            id: BatchId::new(number),
            lower: Upper::at(number),
            upper: Upper::at(number + 1),
            since: Since::minimum(),
            contents: vec![Content::Inline(inline)],
        }
    }

    #[test]
    fn a_long_history_that_is_held_is_not_merged_again_and_again() {
        let (mut batches, mut merged, mut written) = (Vec::new(), 0, 0);
        for number in 0..10_000 {
            batches.push(batch(number, 50));
            written += 50;
            if batches.len() >= BATCHES_MAX {
                let chosen = worth_merging(&batches).len();
                let rest = batches.split_off(batches.len() - chosen);
                let updates = rest.iter().flat_map(|batch| &batch.contents);
                let updates = updates.map(Content::updates).sum();
                merged += updates;
                batches.push(batch(number, updates));
            }
        }
        assert!(batches.len() <= BATCHES_MAX);
        assert!(merged < 12 * written, "{merged} for {written}");
    }
}
