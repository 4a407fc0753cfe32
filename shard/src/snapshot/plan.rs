//! What a snapshot has to read.

use std::sync::Arc;

use lowwater::{StorageError, StorageErrorKind};
use timely::PartialOrder;
use timely::progress::Antichain;

use crate::hub::{Reading, Shard};
use crate::record::{Batch, DataRecord, SinceRecord};
use crate::schema::Schema;
use crate::shards::Inner;
use crate::time::ShardTime;

use super::{SnapshotError, Source, TRIES};

/// Whether to wait until the shard is written so far.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    Wait,
    Refuse,
    /// It need not be: whoever asks knows that nothing more comes up to there.
    Settled,
}

/// What a snapshot reads, and that it reads it.
pub(super) struct Plan {
    pub(super) sources: Vec<Source>,
    /// The latest schema.
    pub(super) schema: Schema,
    _reading: Reading,
}

impl<T: ShardTime> Inner<T> {
    /// Waits until the shard is written past `as_of`, and says what to read.
    pub(super) async fn plan(
        &self,
        shard: &Arc<Shard<T>>,
        as_of: &Antichain<T>,
        patience: Patience,
    ) -> Result<Plan, SnapshotError<T>> {
        if as_of.is_empty() {
            return Err(SnapshotError::EmptyFrontier);
        }
        // What this process knows to be written, is; how little it knows it has to find out.
        if !shard.upper().is_past(as_of) {
            self.hub.refresh_one::<DataRecord<T>>(shard).await?;
        }
        for _ in 0..TRIES {
            self.hub.refresh_one::<SinceRecord<T>>(shard).await?;
            let since = shard.sinces.lock().await.record().since().clone();
            let upper = shard.upper();
            if !PartialOrder::less_equal(since.frontier(), as_of) {
                return Err(SnapshotError::TooEarly { since, upper });
            }
            let must_be_past = patience != Patience::Settled;
            if must_be_past && !upper.is_past(as_of) {
                if patience == Patience::Refuse {
                    return Err(SnapshotError::NotYet { since, upper });
                }
                // The since may go while we wait, so it is looked at once more.
                shard.written_past(as_of).await?;
                continue;
            }
            let data = shard.data.lock().await;
            if !PartialOrder::less_equal(&upper, data.record().upper()) {
                // Somebody has found the log damaged; what is wrong with it shows when it is read.
                drop(data);
                self.hub.refresh_one::<DataRecord<T>>(shard).await?;
                continue;
            }
            let sources = sources(data.record(), as_of);
            // `None`: the since has moved on, and compaction or finalization has followed, since we
            // looked at it.
            if let Some(sources) = sources {
                let schema = latest_schema(data.record());
                return Ok(Plan {
                    sources,
                    schema,
                    _reading: shard.read_version(&data),
                });
            }
        }
        Err(overtaken().into())
    }
}

/// What there is to read as of a frontier; `None` if some of it was compacted too far, or given up.
fn sources<T: ShardTime>(record: &DataRecord<T>, as_of: &Antichain<T>) -> Option<Vec<Source>> {
    if record.is_emptying() {
        return None;
    }
    let mut sources = Vec::new();
    for batch in record
        .batches()
        .iter()
        .filter(|batch| begins_by(batch, as_of))
    {
        if batch.contents.is_empty() {
            continue;
        }
        if !PartialOrder::less_equal(batch.since.frontier(), as_of) {
            return None;
        }
        sources.extend(sources_of(record, batch));
    }
    Some(sources)
}

/// True unless all times of the batch are beyond the frontier.
fn begins_by<T: ShardTime>(batch: &Batch<T>, as_of: &Antichain<T>) -> bool {
    as_of
        .iter()
        .any(|time| batch.lower.frontier().less_equal(time))
}

/// What a batch consists of.
pub(crate) fn sources_of<T: ShardTime>(record: &DataRecord<T>, batch: &Batch<T>) -> Vec<Source> {
    let sources = batch.contents.iter().filter_map(|content| {
        let schema = record.schema(content.schema())?.clone();
        let content = content.clone();
        Some(Source { content, schema })
    });
    sources.collect()
}

/// The latest schema; one without columns before the first is registered.
pub(crate) fn latest_schema<T: ShardTime>(record: &DataRecord<T>) -> Schema {
    let none = || Schema::new(Vec::new()).expect("no two of no columns have one name");
    record.schemas().last().cloned().unwrap_or_else(none)
}

#[derive(Debug, thiserror::Error)]
#[error("the shard is compacted faster than it can be read")]
struct Overtaken;

pub(crate) fn overtaken() -> StorageError {
    StorageError::new(StorageErrorKind::Retry, Overtaken)
}
