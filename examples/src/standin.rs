//! TEMPORARY: the API of `lowwater-shard` that is being built, on records alone: no parts.
#![allow(missing_docs, clippy::all, unreachable_pub)]
use crate::minute::Minute;
use lowwater::{ShardId, Since, StorageError, StorageErrorKind, Upper};
use lowwater_shard::consensus::{Consensus, Fence};
use lowwater_shard::record::{
    self, Content, DataRecord, Inline, NewBatch, SinceRecord, UpperMismatch,
};
use lowwater_shard::{
    CommandError, Log, ReaderId, Schema, SchemaId, ShardStorage, Task, Transactor, Updates,
    UpdatesError, inline,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use timely::PartialOrder;
use timely::progress::Antichain;
use tokio::sync::Mutex as AsyncMutex;

#[derive(Clone, Debug)]
pub struct Parts;
pub struct Listed {
    pub bytes: u64,
}
impl Parts {
    pub fn memory() -> Self {
        Parts
    }
    pub fn folder(_: &std::path::Path) -> Result<Self, StorageError> {
        Ok(Parts)
    }
    pub fn at(_: &str) -> Result<Self, StorageError> {
        Ok(Parts)
    }
    pub fn written(&self) -> u64 {
        0
    }
    pub async fn list(&self, _: ShardId) -> Result<Vec<Listed>, StorageError> {
        Ok(vec![])
    }
}
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub upkeep: Upkeep,
    pub lease: Duration,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Upkeep {
    InBackground {
        tasks_max: usize,
    },
    #[default]
    ByHand,
}
type Shared = Arc<AsyncMutex<Log<DataRecord<Minute>>>>;
#[derive(Clone, Debug)]
pub struct Shards<T> {
    runtime: tokio::runtime::Handle,
    t: Transactor,
    parts: Parts,
    logs: Arc<Mutex<BTreeMap<ShardId, Shared>>>,
    upkeep: Upkeep,
    _t: std::marker::PhantomData<T>,
}
#[derive(Clone, Debug)]
pub struct Writer<T> {
    id: ShardId,
    schema: Schema,
    upper: Upper<Minute>,
    shards: Shards<T>,
}
#[derive(Debug, thiserror::Error)]
pub enum WriterError {
    #[error(transparent)]
    Storage(StorageError),
    #[error("schema")]
    Schema,
}
#[derive(Debug)]
pub struct Append<'a, T> {
    pub writer: &'a Writer<T>,
    pub lower: Upper<T>,
    pub upper: Upper<T>,
    pub updates: Updates<T>,
}
#[derive(Debug, thiserror::Error)]
pub enum AppendError<T: std::fmt::Debug> {
    #[error("x")]
    UpperMismatch(UpperMismatch<T>),
    #[error(transparent)]
    Storage(StorageError),
    #[error("z")]
    Updates(UpdatesError),
}
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError<T: std::fmt::Debug> {
    #[error("x")]
    TooEarly { since: Since<T>, upper: Upper<T> },
    #[error("y")]
    NotYet { since: Since<T>, upper: Upper<T> },
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("q")]
    Empty,
}
pub struct Inspection {
    pub since: Since<Minute>,
    pub upper: Upper<Minute>,
}
const SCHEMA: SchemaId = SchemaId::new(0);
fn trouble<E: std::error::Error + Send + Sync + 'static>(e: CommandError<E>) -> StorageError {
    match e {
        CommandError::Store(t) => t.0.into(),
        other => StorageError::new(StorageErrorKind::GiveUp, other),
    }
}
impl Shards<Minute> {
    pub fn new(
        runtime: &tokio::runtime::Handle,
        store: Arc<dyn Consensus>,
        parts: Parts,
        s: Settings,
    ) -> Self {
        Self {
            runtime: runtime.clone(),
            t: Transactor::new(store, None),
            parts,
            logs: Arc::default(),
            upkeep: s.upkeep,
            _t: std::marker::PhantomData,
        }
    }
    fn log(&self, id: ShardId) -> Shared {
        Arc::clone(
            self.logs
                .lock()
                .unwrap()
                .entry(id)
                .or_insert_with(|| Arc::new(AsyncMutex::new(Log::new(id)))),
        )
    }
    pub fn storage(&self, reader: ReaderId, fence: Fence) -> ShardStorage<Minute> {
        ShardStorage::spawn(&self.runtime, self.t.store().clone(), reader, fence)
    }
    pub fn parts(&self) -> &Parts {
        &self.parts
    }
    pub async fn writer(
        &self,
        id: ShardId,
        schema: &Schema,
    ) -> Result<Writer<Minute>, WriterError> {
        let log = self.log(id);
        let mut log = log.lock().await;
        self.t
            .carry_out(&mut *log, |r: &DataRecord<Minute>| {
                r.register_schema(schema)
            })
            .await
            .map_err(|e| WriterError::Storage(trouble(e)))?;
        Ok(Writer {
            id,
            schema: schema.clone(),
            upper: log.record().upper().clone(),
            shards: self.clone(),
        })
    }
    pub async fn append_all(
        &self,
        appends: Vec<Append<'_, Minute>>,
    ) -> Vec<Result<Upper<Minute>, AppendError<Minute>>> {
        let mut by_id: BTreeMap<ShardId, (usize, Append<'_, Minute>, Shared)> = BTreeMap::new();
        let n = appends.len();
        for (i, a) in appends.into_iter().enumerate() {
            let log = self.log(a.writer.id);
            by_id.insert(a.writer.id, (i, a, log));
        }
        let mut guards = Vec::new();
        for (_, _, log) in by_id.values() {
            guards.push(log.lock().await);
        }
        let tasks = guards
            .iter_mut()
            .zip(by_id.values())
            .map(|(log, (_, a, _))| {
                let contents = if a.updates.is_empty() {
                    vec![]
                } else {
                    vec![Content::Inline(Inline {
                        schema: SCHEMA,
                        updates: a.updates.len() as u64,
                        bytes: inline::encode(&a.updates, &a.writer.schema).unwrap(),
                    })]
                };
                let batch = NewBatch::new(
                    a.lower.clone(),
                    a.upper.clone(),
                    a.updates.times(),
                    contents,
                )
                .unwrap();
                Task {
                    log: &mut **log,
                    command: move |r: &DataRecord<Minute>| r.compare_and_append(batch.clone()),
                }
            })
            .collect();
        let done = self.t.carry_out_all(tasks).await;
        let mut out: Vec<Option<_>> = (0..n).map(|_| None).collect();
        for (((id, (i, ..)), guard), done) in by_id.iter().zip(&guards).zip(done) {
            if guard.record().batches().len() > 64 && self.upkeep != Upkeep::ByHand {
                let (s, id) = (self.clone(), *id);
                self.runtime.spawn(async move {
                    let _ = s.compact(id).await;
                });
            }
            out[*i] = Some(match done {
                Ok(a) => Ok(a.upper),
                Err(CommandError::Refused(record::AppendError::UpperMismatch(m))) => {
                    Err(AppendError::UpperMismatch(m))
                }
                Err(e) => Err(AppendError::Storage(trouble(e))),
            });
        }
        out.into_iter().flatten().collect()
    }
    async fn since(&self, id: ShardId) -> Result<Since<Minute>, StorageError> {
        let mut log = Log::<SinceRecord<Minute>>::new(id);
        self.t
            .refresh(&mut [&mut log])
            .await?
            .remove(0)
            .map_err(|e| StorageError::new(StorageErrorKind::GiveUp, e))?;
        Ok(log.record().since().clone())
    }
    async fn record(&self, id: ShardId) -> Result<DataRecord<Minute>, StorageError> {
        let log = self.log(id);
        let mut log = log.lock().await;
        self.t
            .refresh(&mut [&mut *log])
            .await?
            .remove(0)
            .map_err(|e| StorageError::new(StorageErrorKind::GiveUp, e))?;
        Ok(log.record().clone())
    }
    fn all(record: &DataRecord<Minute>) -> Result<Option<Updates<Minute>>, StorageError> {
        let Some(schema) = record.schema(SCHEMA) else {
            return Ok(None);
        };
        let mut all = vec![];
        for batch in record.batches() {
            for c in &batch.contents {
                if let Content::Inline(i) = c {
                    all.push(
                        inline::decode::<Minute>(&i.bytes, schema)
                            .map_err(|e| StorageError::new(StorageErrorKind::GiveUp, e))?,
                    );
                }
            }
        }
        Ok(Some(Updates::concat(all, schema).unwrap()))
    }
    pub async fn try_snapshot(
        &self,
        id: ShardId,
        as_of: &Antichain<Minute>,
    ) -> Result<Updates<Minute>, SnapshotError<Minute>> {
        let record = self.record(id).await?;
        let (since, upper) = (self.since(id).await?, record.upper().clone());
        if !PartialOrder::less_equal(since.frontier(), as_of) {
            return Err(SnapshotError::TooEarly { since, upper });
        }
        if !upper.is_past(as_of) {
            return Err(SnapshotError::NotYet { since, upper });
        }
        let mut all = Self::all(&record)?.unwrap().filter(|t| *t <= as_of[0]);
        all.advance(&Since::new(as_of.clone()));
        Ok(all.consolidate())
    }
    pub async fn history(
        &self,
        id: ShardId,
        as_of: &Antichain<Minute>,
    ) -> Result<Updates<Minute>, StorageError> {
        let mut all = Self::all(&self.record(id).await?)?.unwrap();
        all.advance(&Since::new(as_of.clone()));
        Ok(all.consolidate())
    }
    pub async fn inspect(&self, id: ShardId) -> Result<Inspection, StorageError> {
        Ok(Inspection {
            since: self.since(id).await?,
            upper: self.record(id).await?.upper().clone(),
        })
    }
    pub async fn compact(&self, id: ShardId) -> Result<(), StorageError> {
        let since = self.since(id).await?;
        let log = self.log(id);
        let mut log = log.lock().await;
        let record = log.record().clone();
        let [first, .., last] = record.batches() else {
            return Ok(());
        };
        let Some(mut all) = Self::all(&record)? else {
            return Ok(());
        };
        all.advance(&since);
        let all = all.consolidate();
        let contents = if all.is_empty() {
            vec![]
        } else {
            vec![Content::Inline(Inline {
                schema: SCHEMA,
                updates: all.len() as u64,
                bytes: inline::encode(&all, record.schema(SCHEMA).unwrap()).unwrap(),
            })]
        };
        self.t
            .carry_out(&mut *log, |r: &DataRecord<Minute>| {
                r.compact(first.id, last.id, since.clone(), contents.clone())
            })
            .await
            .map_err(trouble)?;
        Ok(())
    }
    pub async fn sweep(&self, _: ShardId) -> Result<(), StorageError> {
        Ok(())
    }
}
impl Writer<Minute> {
    pub fn upper(&self) -> Upper<Minute> {
        self.upper.clone()
    }
    pub async fn fetch_upper(&self) -> Result<Upper<Minute>, StorageError> {
        Ok(self.shards.record(self.id).await?.upper().clone())
    }
}
