//! Appends to many shards in one transaction.

use lowwater::{StorageError, Upper};
use lowwater_shard::record::{
    AppendError, Content, DataChange, DataRecord, Decision, NewBatch, Record,
};
use lowwater_shard::{CommandError, SeqNo, Task, Updates};

use crate::catalog::Relation;
use crate::minute::Minute;

use super::{Inner, Shard, Shards, give_up};

/// Updates for a shard that is written up to `lower`.
#[derive(Clone, Debug)]
pub(in crate::store) struct Append {
    /// Whose shard.
    pub(in crate::store) relation: Relation,
    /// How far it must be written.
    pub(in crate::store) lower: Upper<Minute>,
    /// How far it will be written.
    pub(in crate::store) upper: Upper<Minute>,
    /// Updates at times from `lower` on and before `upper`.
    pub(in crate::store) updates: Updates<Minute>,
}

/// Why nothing was appended, or why that is not known.
#[derive(Clone, Debug)]
pub(in crate::store) enum AppendFailure {
    /// The shard is written up to elsewhere.
    UpperMismatch(Upper<Minute>),
    /// The store has failed, or the shard is none of ours.
    Storage(StorageError),
}

impl Shards {
    /// How far a shard is written.
    pub(in crate::store) async fn upper(
        &self,
        relation: Relation,
    ) -> Result<Upper<Minute>, StorageError> {
        let data = self.inner.refreshed(self.inner.shard(relation)).await?;
        Ok(data.record().upper().clone())
    }

    /// Appends to several shards, each another one, in one transaction, each with an outcome of its
    /// own. What has gone through has survived a crash.
    pub(in crate::store) async fn append_all(
        &self,
        mut appends: Vec<Append>,
    ) -> Vec<Result<(), AppendFailure>> {
        // Logs are locked in one order, whoever locks several.
        appends.sort_by_key(|append| append.relation);
        let mut staged = Vec::with_capacity(appends.len());
        for append in appends {
            staged.push(match self.inner.stage(&append).await {
                Ok(contents) => (append, contents),
                Err(error) => return vec![Err(AppendFailure::Storage(error))],
            });
        }
        let outcomes = self.inner.append_staged(&staged).await;
        for (append, _) in &staged {
            self.merge_if_due(append.relation);
        }
        outcomes
    }
}

impl Inner {
    async fn stage(&self, append: &Append) -> Result<Vec<Content>, StorageError> {
        let shard = self.shard(append.relation);
        let begun = shard.data.lock().await.seen();
        self.contents(shard, begun, &append.updates).await
    }

    async fn append_staged(
        &self,
        staged: &[(Append, Vec<Content>)],
    ) -> Vec<Result<(), AppendFailure>> {
        let mut logs = Vec::with_capacity(staged.len());
        for (append, _) in staged {
            logs.push(self.shard(append.relation).data.lock().await);
        }
        let tasks = logs.iter_mut().zip(staged);
        let tasks = tasks.map(|(log, (append, contents))| {
            let shard = self.shard(append.relation);
            let command = |record: &DataRecord<Minute>| decide(shard, record, append, contents);
            Task {
                log: &mut **log,
                command,
            }
        });
        let done = self.transactor.carry_out_all(tasks.collect()).await;
        done.into_iter().map(|done| done.map_err(failure)).collect()
    }
}

/// Registers the schema with the first append, and appends.
fn decide(
    shard: &Shard,
    record: &DataRecord<Minute>,
    append: &Append,
    contents: &[Content],
) -> Result<Decision<DataChange<Minute>, ()>, AppendFailure> {
    let Append {
        lower,
        upper,
        updates,
        ..
    } = append;
    if record.upper() != lower {
        return Err(AppendFailure::UpperMismatch(record.upper().clone()));
    }
    let refused = |error| AppendFailure::Storage(error);
    let registered = record.register_schema(&shard.schema);
    let mut changes = registered.map_err(|error| refused(give_up(error)))?.changes;
    let mut record = record.clone();
    for change in &changes {
        let applied = record.apply(change, SeqNo::FIRST);
        applied.map_err(|error| refused(give_up(error)))?;
    }
    let times = updates.times();
    let batch = NewBatch::new(lower.clone(), upper.clone(), times, contents.to_vec());
    let batch = batch.map_err(|error| refused(give_up(error)))?;
    let appended = record
        .compare_and_append(batch)
        .map_err(|error| match error {
            AppendError::UpperMismatch(mismatch) => AppendFailure::UpperMismatch(mismatch.actual),
            AppendError::UnknownSchema(_) | AppendError::PartExpired(_) => refused(give_up(error)),
        })?;
    changes.extend(appended.changes);
    Ok(Decision {
        changes,
        outcome: (),
    })
}

fn failure(error: CommandError<AppendFailure>) -> AppendFailure {
    match error {
        CommandError::Refused(failure) => failure,
        CommandError::Store(store) => AppendFailure::Storage(store.0.into()),
        CommandError::Fenced(fenced) => AppendFailure::Storage(give_up(fenced)),
        CommandError::Log(error) => AppendFailure::Storage(give_up(error)),
    }
}
