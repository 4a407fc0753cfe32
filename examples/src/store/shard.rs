//! A shard as the controller uses it: records under compare-and-set, parts beside them.
//!
//! Many appends are one transaction. Small ones stay in the record; what grows is merged, advanced
//! to the shard's since, and becomes a part.

mod append;
mod snapshot;
mod upkeep;

use std::collections::BTreeMap;
use std::sync::Arc;

use lowwater::{ShardId, StorageError, StorageErrorKind};
use lowwater_shard::parts::PartError;
use lowwater_shard::record::{Content, DataRecord, Inline, SinceRecord};
use lowwater_shard::{
    CommandError, Log, Parts, Schema, SchemaId, SeqNo, Transactor, Updates, inline,
};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, MutexGuard};

use crate::catalog::Relation;
use crate::columns;
use crate::minute::Minute;

pub(super) use append::{Append, AppendFailure};
pub(super) use snapshot::Snapshot;

/// Updates that are not larger when encoded stay in the record; larger ones become a part.
const INLINE_BYTES_MAX: usize = 64 << 10;

/// The version of the schema: rows of a collection have never changed.
const SCHEMA: SchemaId = SchemaId::new(0);

type DataLog = Log<DataRecord<Minute>>;

/// The shards of all collections.
#[derive(Clone, Debug)]
pub(super) struct Shards {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    transactor: Transactor,
    parts: Parts,
    shards: BTreeMap<Relation, Shard>,
    /// Where shards are looked after in the background.
    runtime: Handle,
}

/// What this process knows of a shard.
#[derive(Debug)]
struct Shard {
    id: ShardId,
    schema: Schema,
    data: Mutex<DataLog>,
    /// Held by whoever merges batches: one at a time.
    merging: Mutex<()>,
}

impl Shards {
    /// Shards in a store that `transactor` writes to as no controller, with their parts there.
    pub(super) fn new(transactor: Transactor, parts: Parts, runtime: Handle) -> Self {
        let shards = Relation::ALL.map(|relation| {
            let shard = Shard {
                id: relation.shard(),
                schema: columns::schema(relation),
                data: Mutex::new(Log::new(relation.shard())),
                merging: Mutex::default(),
            };
            (relation, shard)
        });
        let inner = Inner {
            transactor,
            parts,
            shards: shards.into(),
            runtime,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Where the parts are.
    pub(super) fn parts(&self) -> &Parts {
        &self.inner.parts
    }
}

impl Inner {
    fn shard(&self, relation: Relation) -> &Shard {
        self.shards
            .get(&relation)
            .expect("every collection has one")
    }

    /// The data of a shard as they are now.
    async fn refreshed<'a>(
        &self,
        shard: &'a Shard,
    ) -> Result<MutexGuard<'a, DataLog>, StorageError> {
        let mut data = shard.data.lock().await;
        self.refresh(&mut *data).await?;
        Ok(data)
    }

    /// Who can read a shard from when on, as it is now.
    async fn sinces(&self, shard: &Shard) -> Result<SinceRecord<Minute>, StorageError> {
        let mut log = Log::<SinceRecord<Minute>>::new(shard.id);
        self.refresh(&mut log).await?;
        Ok(log.record().clone())
    }

    async fn refresh<R: lowwater_shard::format::Format>(
        &self,
        log: &mut Log<R>,
    ) -> Result<(), StorageError> {
        let read = self.transactor.refresh(&mut [log]).await?;
        read.into_iter().try_for_each(|read| read.map_err(give_up))
    }

    /// Updates as a record refers to them. `begun` is the latest version of the shard's data that
    /// was seen.
    async fn contents(
        &self,
        shard: &Shard,
        begun: Option<SeqNo>,
        updates: &Updates<Minute>,
    ) -> Result<Vec<Content>, StorageError> {
        if updates.is_empty() {
            return Ok(Vec::new());
        }
        let encoded = inline::encode_within(updates, &shard.schema, INLINE_BYTES_MAX);
        let content = match encoded.map_err(give_up)? {
            Some(bytes) => Content::Inline(Inline {
                schema: SCHEMA,
                updates: updates.len() as u64,
                bytes,
            }),
            None => {
                let begun = begun.unwrap_or(SeqNo::NONE);
                let written = self
                    .parts
                    .write(shard.id, begun, SCHEMA, &shard.schema, updates);
                Content::Stored(written.await.map_err(part_trouble)?)
            }
        };
        Ok(vec![content])
    }
}

fn give_up(error: impl std::error::Error + Send + Sync + 'static) -> StorageError {
    StorageError::new(StorageErrorKind::GiveUp, error)
}

fn part_trouble(error: PartError) -> StorageError {
    StorageError::new(error.kind(), error)
}

fn trouble<E>(error: CommandError<E>) -> StorageError
where
    E: std::error::Error + Send + Sync + 'static,
{
    match error {
        CommandError::Store(trouble) => trouble.0.into(),
        CommandError::Refused(_) | CommandError::Fenced(_) | CommandError::Log(_) => give_up(error),
    }
}
