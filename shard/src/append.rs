//! Appends to many shards in one transaction: parts first, records last.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use lowwater::{StorageError, StorageErrorKind, Upper};
use tokio::task::JoinSet;

use crate::hub::{ById, Shard};
use crate::id::{SchemaId, SeqNo};
use crate::inline;
use crate::record::{
    self, BatchError, Content, DataChange, DataRecord, Decision, Inline, NewBatch, Record,
    SchemaRefusal, Stored, UpperMismatch,
};
use crate::schema::Schema;
use crate::shards::{Inner, Shards};
use crate::snapshot::away;
use crate::time::ShardTime;
use crate::transact::CommandError;
use crate::updates::{Updates, UpdatesError};
use crate::writer::Writer;

/// How often a part is written again that took too long.
const EXPIRED_TRIES: usize = 4;

/// Updates for a shard that is written up to `lower`.
#[derive(Debug)]
pub struct Append<'a, T: ShardTime> {
    /// Who writes.
    pub writer: &'a Writer<T>,
    /// How far the shard must be written.
    pub lower: Upper<T>,
    /// How far it will be written.
    pub upper: Upper<T>,
    /// Updates at times beyond `lower` and not beyond `upper`.
    pub updates: Updates<T>,
}

/// Why nothing was appended, or why that is not known.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError<T: ShardTime> {
    /// The shard is written up to elsewhere.
    #[error(transparent)]
    UpperMismatch(#[from] UpperMismatch<T>),
    /// The updates are no batch.
    #[error(transparent)]
    Batch(#[from] BatchError<T>),
    /// The updates are not of the writer's schema.
    #[error(transparent)]
    Updates(#[from] UpdatesError),
    /// The shard's schema has become another one.
    #[error(transparent)]
    Schema(#[from] SchemaRefusal),
    /// Storage failed. The updates may have been written all the same: [append](Writer::append)
    /// them once more.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Why a record refuses updates.
#[derive(Debug)]
enum Refusal<T> {
    Append(record::AppendError<T>),
    Schema(SchemaRefusal),
}

impl<T> Refusal<T> {
    /// A part took too long: it has to be written again.
    fn is_expiry(&self) -> bool {
        matches!(self, Refusal::Append(record::AppendError::PartExpired(_)))
    }
}

/// An append that is being carried out; the place of its outcome among all.
struct Pending<T: ShardTime> {
    at: usize,
    shard: Arc<Shard<T>>,
    schema: Schema,
    lower: Upper<T>,
    upper: Upper<T>,
    updates: Arc<Updates<T>>,
}

/// One whose updates are encoded, and stored if they are large.
struct Staged<T: ShardTime> {
    pending: Pending<T>,
    contents: Vec<Content>,
}

type Outcome<T> = Result<Upper<T>, AppendError<T>>;

impl<T: ShardTime> Shards<T> {
    /// Appends to many shards in one transaction, each with an outcome of its own: it goes through
    /// if its shard is written up to its lower exactly.
    ///
    /// Small updates go into the record, so that a tick of many shards costs one transaction and no
    /// file; large ones are stored as parts before. Of several appends to one shard each waits for
    /// the one before.
    ///
    /// # Durability
    ///
    /// What has gone through has survived a crash when this returns.
    pub async fn append_all(&self, appends: Vec<Append<'_, T>>) -> Vec<Outcome<T>> {
        let count = appends.len();
        let mut outcomes: ByPlace<Outcome<T>> = ByPlace::new();
        let mut left: Vec<Pending<T>> = Vec::with_capacity(count);
        for (at, append) in appends.into_iter().enumerate() {
            match Pending::check(at, append) {
                Ok(pending) => left.push(pending),
                Err(error) => drop(outcomes.insert(at, Err(error))),
            }
        }
        while !left.is_empty() {
            let mut now = ById::new();
            let mut later = Vec::new();
            for pending in left {
                match now.entry(pending.shard.id) {
                    Entry::Vacant(first) => drop(first.insert(pending)),
                    Entry::Occupied(_) => later.push(pending),
                }
            }
            self.inner.append_round(now, &mut outcomes).await;
            left = later;
        }
        outcomes.into_values().collect()
    }
}

/// Outcomes by the place of what they are of.
type ByPlace<X> = BTreeMap<usize, X>;

impl<T: ShardTime> Pending<T> {
    fn check(at: usize, append: Append<'_, T>) -> Result<Self, AppendError<T>> {
        let Append {
            writer,
            lower,
            upper,
            updates,
        } = append;
        let _in_bounds = NewBatch::new(lower.clone(), upper.clone(), updates.times(), Vec::new())?;
        updates.check(writer.schema())?;
        Ok(Pending {
            at,
            shard: Arc::clone(&writer.shard),
            schema: writer.schema().clone(),
            lower,
            upper,
            updates: Arc::new(updates),
        })
    }
}

impl<T: ShardTime> Inner<T> {
    /// Appends to shards, each another one.
    async fn append_round(
        self: &Arc<Self>,
        pending: ById<Pending<T>>,
        outcomes: &mut ByPlace<Outcome<T>>,
    ) {
        let mut pending: Vec<Pending<T>> = pending.into_values().collect();
        for _ in 0..EXPIRED_TRIES {
            let mut staged = ById::new();
            for (pending, contents) in self.stage_all(pending).await {
                match contents {
                    Ok(contents) => {
                        staged.insert(pending.shard.id, Staged { pending, contents });
                    }
                    Err(error) => drop(outcomes.insert(pending.at, Err(error))),
                }
            }
            pending = self.commit(staged, outcomes).await;
            if pending.is_empty() {
                return;
            }
        }
        for pending in pending {
            let error = StorageError::new(StorageErrorKind::Retry, TooSlow);
            outcomes.insert(pending.at, Err(error.into()));
        }
    }

    /// Writes the records; gives back those whose parts have expired.
    async fn commit(
        self: &Arc<Self>,
        staged: ById<Staged<T>>,
        outcomes: &mut ByPlace<Outcome<T>>,
    ) -> Vec<Pending<T>> {
        let commands = staged.iter().map(|(id, staged)| {
            let command = |record: &DataRecord<T>| staged.decide(record);
            (*id, (Arc::clone(&staged.pending.shard), command))
        });
        let commands = commands.collect();
        let done = self.hub.write_as(self.hub.transactor(), commands).await;
        let mut expired = Vec::new();
        for ((id, done), Staged { pending, contents }) in done.into_iter().zip(staged.into_values())
        {
            debug_assert_eq!(id, pending.shard.id);
            if matches!(done, Err(CommandError::Refused(_))) {
                self.discard(&pending.shard, contents);
            }
            if matches!(&done, Err(CommandError::Refused(refusal)) if refusal.is_expiry()) {
                expired.push(pending);
                continue;
            }
            let outcome = done.map_err(AppendError::from);
            outcomes.insert(pending.at, outcome);
        }
        expired
    }

    /// Deletes parts that no record will refer to, for it has refused them. Where that fails, they
    /// are swept some time.
    pub(crate) fn discard(self: &Arc<Self>, shard: &Shard<T>, contents: Vec<Content>) {
        let stored = contents.iter().filter_map(Content::stored);
        let names: Vec<_> = stored.map(Stored::name).collect();
        if !names.is_empty() {
            let (inner, id) = (Arc::clone(self), shard.id);
            self.runtime.spawn(async move {
                if let Err(error) = inner.parts.delete(id, &names).await {
                    tracing::debug!(%error, "parts that were refused are left to be swept");
                }
            });
        }
    }

    async fn stage_all(
        self: &Arc<Self>,
        pending: Vec<Pending<T>>,
    ) -> Vec<(Pending<T>, Result<Vec<Content>, AppendError<T>>)> {
        let mut staged = Vec::with_capacity(pending.len());
        let mut writing = JoinSet::new();
        for pending in pending {
            let (updates, schema) = (&pending.updates, &pending.schema);
            match self.inline(updates, schema) {
                Some(contents) => staged.push((pending, contents.map_err(AppendError::from))),
                None => {
                    let inner = Arc::clone(self);
                    let write = async move {
                        let mut pending = pending;
                        let contents = inner.store_sorted(&mut pending).await;
                        (pending, contents)
                    };
                    writing.spawn_on(write, &self.runtime);
                }
            }
        }
        while let Some(written) = writing.join_next().await {
            // Only a runtime that has gone cancels it, and then nobody waits here.
            if let Ok(written) = written {
                staged.push(written);
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
        if updates.is_empty() {
            return Some(Ok(Vec::new()));
        }
        let bytes_max = self.settings.inline_bytes_max;
        let encoded = inline::encode_within(updates, schema, bytes_max).transpose()?;
        let inline = |bytes| Inline {
            schema: SchemaId::new(0),
            updates: updates.len() as u64,
            bytes,
        };
        Some(encoded.map(|bytes| vec![Content::Inline(inline(bytes))]))
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
        Ok(self
            .store(shard, schema, Arc::clone(&pending.updates))
            .await?)
    }

    /// Stores updates as a part.
    pub(crate) async fn store(
        &self,
        shard: &Shard<T>,
        schema: &Schema,
        updates: Arc<Updates<T>>,
    ) -> Result<Vec<Content>, StorageError> {
        let begun = shard.data.lock().await.seen().unwrap_or(SeqNo::NONE);
        let schema_id = SchemaId::new(0);
        let stored = self
            .parts
            .write_shared(shard.id, begun, schema_id, schema, updates);
        Ok(vec![Content::Stored(stored.await?)])
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the parts took too long to write, again and again")]
struct TooSlow;

impl<T: ShardTime> Staged<T> {
    /// Registers the schema where that was not done, and appends.
    fn decide(
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

impl<T: ShardTime> From<CommandError<Refusal<T>>> for AppendError<T> {
    fn from(error: CommandError<Refusal<T>>) -> Self {
        match error {
            CommandError::Refused(Refusal::Schema(refusal)) => refusal.into(),
            CommandError::Refused(Refusal::Append(refusal)) => match refusal {
                record::AppendError::UpperMismatch(mismatch) => mismatch.into(),
                record::AppendError::UnknownSchema(unknown) => give_up(unknown).into(),
                record::AppendError::PartExpired(expired) => {
                    StorageError::new(StorageErrorKind::Retry, expired).into()
                }
            },
            CommandError::Fenced(fenced) => give_up(fenced).into(),
            CommandError::Log(error) => StorageError::from(error).into(),
            CommandError::Store(trouble) => StorageError::from(trouble.0).into(),
        }
    }
}

fn give_up(error: impl std::error::Error + Send + Sync + 'static) -> StorageError {
    StorageError::new(StorageErrorKind::GiveUp, error)
}
