//! Updates that are encoded, and stored if they are large: what is left is to write the record.

use std::borrow::Cow;
use std::sync::Arc;

use lowwater::{StorageError, StorageErrorKind, Upper};
use tokio::task::{JoinError, JoinSet};

use crate::hub::{ById, Shard, Stopped};
use crate::id::{SchemaId, SeqNo};
use crate::inline;
use crate::parts::Parts;
use crate::record::{
    Content, DataChange, DataRecord, Decision, Inline, NewBatch, Record, Stored, UpperMismatch,
};
use crate::schema::Schema;
use crate::shards::Inner;
use crate::snapshot::away;
use crate::time::ShardTime;
use crate::updates::{Updates, UpdatesError};

use super::{AppendError, ByPlace, Outcome, Pending, Refusal};

/// One whose updates are encoded, and stored if they are large.
pub(super) struct Staged<T: ShardTime> {
    pub(super) pending: Pending<T>,
    pub(super) contents: Vec<Content>,
}

impl<T: ShardTime> Inner<T> {
    /// Encodes and stores the updates, those of each shard by themselves and not too many at once.
    /// Where that fails, that is the outcome.
    pub(super) async fn stage_all(
        self: &Arc<Self>,
        pending: Vec<Pending<T>>,
        outcomes: &mut ByPlace<Outcome<T>>,
    ) -> ById<Staged<T>> {
        let mut written = Vec::with_capacity(pending.len());
        let mut large = Vec::new();
        for pending in pending {
            match self.inline(&pending.updates, &pending.schema) {
                Some(contents) => written.push((pending, contents.map_err(AppendError::from))),
                None => large.push(pending),
            }
        }
        let mut large = large.into_iter();
        let mut writing = JoinSet::new();
        // Kept here as well: a task that is cancelled does not give back what it was given.
        let mut places = Vec::new();
        loop {
            let free = self.settings.writes_max.max(1) - writing.len();
            for mut pending in large.by_ref().take(free) {
                let (at, inner) = (pending.at, Arc::clone(self));
                let write = async move {
                    let contents = inner.store_sorted(&mut pending).await;
                    (pending, contents)
                };
                let task = writing.spawn_on(write, &self.runtime).id();
                places.push((task, at));
            }
            match writing.join_next().await {
                None => break,
                Some(Ok(done)) => written.push(done),
                Some(Err(lost)) => {
                    let place = places.iter().find(|(task, _)| *task == lost.id());
                    let (_, at) = place.expect("it is one of those that were begun");
                    outcomes.insert(*at, Err(never_written(lost).into()));
                }
            }
        }
        let mut staged = ById::new();
        for (pending, contents) in written {
            match contents {
                Ok(contents) => {
                    staged.insert(pending.shard.id, Staged { pending, contents });
                }
                Err(error) => drop(outcomes.insert(pending.at, Err(error))),
            }
        }
        staged
    }

    /// The updates as they go into a record; `None` if they are too many for that.
    pub(crate) fn inline(
        &self,
        updates: &Updates<T>,
        schema: &Schema,
    ) -> Option<Result<Vec<Content>, UpdatesError>> {
        inline_within(updates, schema, self.settings.inline_bytes_max)
    }

    /// Stores updates as a part, consolidated: it is read more often than written, and what is sorted
    /// need not be sorted again, takes less space, and is written faster.
    async fn store_sorted(&self, pending: &mut Pending<T>) -> Result<Vec<Content>, AppendError<T>> {
        let none = Arc::new(Updates::empty(&pending.schema));
        let updates = std::mem::replace(&mut pending.updates, none);
        let consolidated = away(move || Arc::unwrap_or_clone(updates).consolidate());
        pending.updates = Arc::new(consolidated.await?);
        // They may have become few.
        if let Some(inline) = self.inline(&pending.updates, &pending.schema) {
            return Ok(inline?);
        }
        let (shard, schema) = (&pending.shard, &pending.schema);
        let updates = Arc::clone(&pending.updates);
        Ok(self.store(shard, schema, updates).await?)
    }

    /// Stores updates as a part.
    pub(crate) async fn store(
        &self,
        shard: &Shard<T>,
        schema: &Schema,
        updates: Arc<Updates<T>>,
    ) -> Result<Vec<Content>, StorageError> {
        store(&self.parts, shard, schema, updates).await
    }
}

/// Why a part was not written whose task is gone.
fn never_written(lost: JoinError) -> StorageError {
    let give_up = StorageErrorKind::GiveUp;
    if lost.is_cancelled() {
        StorageError::new(give_up, Stopped)
    } else {
        StorageError::new(give_up, lost)
    }
}

/// The updates as they go into a record; `None` if they are larger than that.
pub(crate) fn inline_within<T: ShardTime>(
    updates: &Updates<T>,
    schema: &Schema,
    bytes_max: usize,
) -> Option<Result<Vec<Content>, UpdatesError>> {
    if updates.is_empty() {
        return Some(Ok(Vec::new()));
    }
    let encoded = inline::encode_within(updates, schema, bytes_max).transpose()?;
    let inline = |bytes| Inline {
        schema: SchemaId::new(0),
        updates: updates.len() as u64,
        bytes,
    };
    Some(encoded.map(|bytes| vec![Content::Inline(inline(bytes))]))
}

/// Stores updates as a part of a shard.
pub(crate) async fn store<T: ShardTime>(
    parts: &Parts,
    shard: &Shard<T>,
    schema: &Schema,
    updates: Arc<Updates<T>>,
) -> Result<Vec<Content>, StorageError> {
    let begun = shard.data.lock().await.seen().unwrap_or(SeqNo::NONE);
    let schema_id = SchemaId::new(0);
    let stored = parts.write_shared(shard.id, begun, schema_id, schema, updates);
    Ok(vec![Content::Stored(stored.await?)])
}

impl<T: ShardTime> Staged<T> {
    /// Registers the schema where that was not done, and appends.
    pub(super) fn decide(
        &self,
        record: &DataRecord<T>,
    ) -> Result<Decision<DataChange<T>, Upper<T>>, Refusal<T>> {
        let Pending { lower, upper, .. } = &self.pending;
        if record.upper() != lower {
            let actual = record.upper().clone();
            return Err(Refusal::Append(UpperMismatch { actual }.into()));
        }
        let registered = record.register_schema(&self.pending.schema);
        let registered = registered.map_err(Refusal::Schema)?;
        let record = with_changes(record, &registered.changes);
        let contents = with_schema(&self.contents, registered.outcome);
        let batch = NewBatch::new(lower.clone(), upper.clone(), [], contents);
        let batch = batch.expect("it was checked when it was asked for");
        let appended = record.compare_and_append(batch).map_err(Refusal::Append)?;
        let mut changes = registered.changes;
        // A schema is not worth a version of its own.
        if appended.changes.is_empty() {
            changes.clear();
        }
        changes.extend(appended.changes);
        Ok(Decision {
            changes,
            outcome: appended.outcome.upper,
        })
    }
}

fn with_changes<'a, T: ShardTime>(
    record: &'a DataRecord<T>,
    changes: &[DataChange<T>],
) -> Cow<'a, DataRecord<T>> {
    if changes.is_empty() {
        return Cow::Borrowed(record);
    }
    let mut next = record.clone();
    for change in changes {
        let applied = next.apply(change, SeqNo::FIRST);
        applied.expect("a command decides only what fits its record");
    }
    Cow::Owned(next)
}

/// The number of a schema is known only when it is registered.
pub(crate) fn with_schema(contents: &[Content], schema: SchemaId) -> Vec<Content> {
    let numbered = contents.iter().map(|content| match content {
        Content::Inline(inline) => Content::Inline(Inline {
            schema,
            ..inline.clone()
        }),
        Content::Stored(stored) => Content::Stored(Stored {
            schema,
            ..stored.clone()
        }),
    });
    numbered.collect()
}
