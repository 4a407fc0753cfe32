//! Appends to many shards in one transaction: parts first, records last.

mod staged;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use lowwater::{StorageError, StorageErrorKind, Upper};

use crate::hub::{ById, Shard};
use crate::record::{
    self, BatchError, Content, DataRecord, NewBatch, SchemaRefusal, Stored, UpperMismatch,
};
use crate::schema::Schema;
use crate::shards::{Inner, Shards};
use crate::time::ShardTime;
use crate::transact::CommandError;
use crate::updates::{Updates, UpdatesError};
use crate::writer::Writer;

use staged::Staged;
pub(crate) use staged::{inline_within, store, with_schema};

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
    ///
    /// # Panics
    ///
    /// Never.
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
        assert_eq!(outcomes.len(), count, "each append has an outcome");
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
            let staged = self.stage_all(pending, outcomes).await;
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
            assert_eq!(id, pending.shard.id, "each shard has its own outcome");
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
}

#[derive(Debug, thiserror::Error)]
#[error("the parts took too long to write, again and again")]
struct TooSlow;

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
